//! A floor on a log of its own, for the owners' tests.

use std::sync::Arc;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Lineage, Offset, Partition};
use everywire_base::id::NodeLife;
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Entry, Message, Record};
use everywire_base::rules::Rules;
use everywire_base::topic::Topic;
use everywire_log::hint::RetainedHint;
use everywire_log::tail::TailWriter;

use crate::floor::{Floor, Setup};

/// A log in memory.
pub(crate) struct Log {
    writer: TailWriter,
    head: u64,
}

impl Log {
    /// An empty log, and the floor of the first worker's hub on it.
    pub(crate) fn new(rules: Rules) -> (Self, Floor) {
        let limits = Arc::new(Limits::default());
        let writer = TailWriter::new(Offset(0), &limits);
        let setup = Setup {
            tails: vec![Arc::clone(writer.tail())],
            lineages: vec![Arc::new(Lineage::default())],
            retained: Arc::new(RetainedHint::default()),
            limits,
            rules: Arc::new(rules),
            rooms: Arc::default(),
            worker: 0,
            life: NodeLife::default(),
            random: Arc::new(|| 4),
        };
        (Self { writer, head: 0 }, Floor::new(setup))
    }

    /// Takes a message.
    pub(crate) fn append(&mut self, entry: impl Into<Entry>) -> Arc<Record> {
        self.head += 1;
        let record = Arc::new(Record {
            partition: Partition(0),
            offset: Offset(self.head),
            time: UnixMillis(0),
            durability: Durability::Fsync,
            content: entry.into().into(),
        });
        self.writer.push(vec![Arc::clone(&record)]);
        self.writer.tail().set_applied(Offset(self.head));
        record
    }

    /// Takes messages of these topics.
    pub(crate) fn publish(&mut self, topics: &[&str]) {
        for topic in topics {
            self.append(Message::new(Topic::parse(topic).expect("a topic"), "x"));
        }
    }

    /// Takes the floor's appends into the log.
    pub(crate) fn take(&mut self, floor: &mut Floor) -> Vec<Arc<Record>> {
        std::mem::take(&mut floor.out.appends).into_iter().map(|append| self.append(append.draft.entry)).collect()
    }
}
