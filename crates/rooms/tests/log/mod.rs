//! A log in memory, for tests of rooms.

use std::collections::BTreeMap;
use std::sync::Arc;

use everywire_base::ask::{Draft, Guard};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::record::{Durability, Record};
use everywire_base::system::is_guarded;
use everywire_base::topic::Topic;
use everywire_rooms::Rooms;

/// A log that refuses drafts with older guards, and rooms that are fed by it.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) records: Vec<Arc<Record>>,
    last: BTreeMap<u64, Offset>,
}

impl Log {
    pub(crate) fn append(&mut self, draft: &Draft) -> bool {
        let is_stale = |guard: &Guard| self.last.get(&guard.topic).is_some_and(|last| *last > guard.as_of);
        if draft.guards.iter().any(is_stale) {
            return false;
        }
        let first = Offset(self.records.len() as u64 + 1);
        for guard in draft.guards.iter().filter(|guard| guard.claims) {
            self.last.insert(guard.topic, first);
        }
        for entry in draft.entries() {
            let offset = Offset(self.records.len() as u64 + 1);
            if is_guarded(entry.topic()) {
                self.last.insert(entry.topic().stable_hash(), offset);
            }
            let (partition, time, durability) = (Partition(0), UnixMillis(offset.0), Durability::Fsync);
            self.records.push(Arc::new(Record { partition, offset, time, durability, content: entry.clone().into() }));
        }
        true
    }

    pub(crate) fn feed(&self, rooms: &Rooms) {
        self.records.iter().skip(rooms.as_of().0 as usize).for_each(|record| rooms.take(record));
    }

    /// The records that a store would have retained of it: one of an older generation replaces nothing.
    pub(crate) fn retained(&self) -> Vec<Arc<Record>> {
        let mut retained = BTreeMap::<Topic, Arc<Record>>::new();
        for record in &self.records {
            let entry = record.entry().unwrap();
            let generation = |record: &Record| record.system().map_or(0, |system| system.generation);
            if retained.get(entry.topic()).is_some_and(|known| generation(known) > generation(record)) {
                continue;
            }
            match (entry.is_retained(), entry.body().is_empty()) {
                (true, true) => drop(retained.remove(entry.topic())),
                (true, false) => drop(retained.insert(entry.topic().clone(), Arc::clone(record))),
                (false, _) => {}
            }
        }
        retained.into_values().collect()
    }
}
