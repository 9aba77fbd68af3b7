//! Guards: a draft is refused if records by which it was judged have changed since (RULES 46).
//!
//! The records that decide on a draft (a room's head, a membership, a block) are in the same log. The judge of a draft
//! knows them up to an offset, which stands in the draft ([`Guard`]); whether such a record was written above that is
//! decided here, by the order of the log alone. A bounded number of the last such records is remembered. A guard below
//! these is stale: its judge must read again.

use std::collections::{HashMap, VecDeque};

use everywire_base::ask::Guard;
use everywire_base::cursor::Offset;
use everywire_base::limits::Limits;
use everywire_base::system;
use everywire_base::topic::Topic;

/// The offsets of the last records of guarded topics, by the hashes of their topics.
pub(crate) struct Guards {
    last: HashMap<u64, Offset>,
    /// In the order of the log.
    by_age: VecDeque<(Offset, u64)>,
    /// The offset up to which no records are remembered.
    floor: Offset,
    /// The offsets that the present batch has replaced.
    replaced: Vec<(u64, Option<Offset>)>,
    max: usize,
}

impl Guards {
    /// A table that knows no records up to `last`.
    pub(crate) fn new(limits: &Limits, last: Offset) -> Self {
        Self::with(limits.rooms.guards, last)
    }

    /// A table that remembers this many.
    pub(crate) fn with(max: usize, floor: Offset) -> Self {
        Self { last: HashMap::new(), by_age: VecDeque::new(), floor, replaced: Vec::new(), max: max.max(1) }
    }

    /// The remembered records in the order of the log, and the offset up to which there are none, for the state of the
    /// next life.
    pub(crate) fn export(&self) -> (Offset, impl Iterator<Item = (Offset, u64)>) {
        (self.floor, self.by_age.iter().copied())
    }

    /// Takes over an exported table.
    pub(crate) fn import(&mut self, floor: Offset, records: impl IntoIterator<Item = (Offset, u64)>) {
        self.floor = floor;
        for (at, topic) in records {
            self.insert(topic, at);
        }
        self.replaced.clear();
    }

    /// Whether no record by which a draft was judged has changed since.
    pub(crate) fn hold(&self, guards: &[Guard]) -> bool {
        let holds = |guard: &Guard| {
            let last = self.last.get(&guard.topic).copied().unwrap_or(self.floor);
            guard.as_of >= last
        };
        guards.iter().all(holds)
    }

    /// Takes the claims of an accepted draft.
    pub(crate) fn claim(&mut self, guards: &[Guard], at: Offset) {
        guards.iter().filter(|guard| guard.claims).for_each(|guard| self.insert(guard.topic, at));
    }

    /// Notes the place of a record.
    pub(crate) fn note(&mut self, topic: &Topic, at: Offset) {
        if system::is_guarded(topic) {
            self.insert(topic.stable_hash(), at);
        }
    }

    fn insert(&mut self, topic: u64, at: Offset) {
        let before = self.last.insert(topic, at);
        self.replaced.push((topic, before));
        self.by_age.push_back((at, topic));
    }

    /// Ends the batch: records of it that aren't in the log have replaced nothing.
    pub(crate) fn settle(&mut self, is_kept: bool) {
        for (topic, before) in self.replaced.drain(..).rev() {
            if is_kept {
                continue;
            }
            self.by_age.pop_back();
            match before {
                Some(before) => self.last.insert(topic, before),
                None => self.last.remove(&topic),
            };
        }
        while self.by_age.len() > self.max {
            let Some((at, topic)) = self.by_age.pop_front() else { break };
            self.floor = at;
            if self.last.get(&topic).is_some_and(|last| *last == at) {
                self.last.remove(&topic);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }
}

#[cfg(test)]
mod tests {
    use everywire_base::limits::RoomBounds;

    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse(name).unwrap()
    }

    fn few(guards: usize) -> Limits {
        Limits { rooms: RoomBounds { guards, ..RoomBounds::default() }, ..Limits::default() }
    }

    fn holds(guards: &Guards, name: &str, as_of: u64) -> bool {
        guards.hold(&[Guard::of(&topic(name), Offset(as_of))])
    }

    #[test]
    fn what_a_failed_batch_has_written_counts_for_nothing() {
        let mut guards = Guards::new(&Limits::default(), Offset(10));
        guards.note(&topic("$room/a"), Offset(11));
        guards.settle(true);
        for (name, at) in [("$room/a", 12), ("$room/b", 13), ("$room/a", 14)] {
            guards.note(&topic(name), Offset(at));
        }
        assert!(!holds(&guards, "$room/b", 12), "within the batch it counts");
        guards.settle(false);
        assert_eq!(guards.len(), 1);
        for (name, as_of, ok) in [("$room/a", 11, true), ("$room/a", 10, false), ("$room/b", 10, true)] {
            assert_eq!(holds(&guards, name, as_of), ok, "{name} as of {as_of}");
        }
    }

    #[test]
    fn below_what_is_remembered_everything_is_stale() {
        let mut guards = Guards::new(&few(2), Offset(10));
        assert!(!holds(&guards, "$room/a", 9), "before the start nothing is known");
        assert!(holds(&guards, "$room/a", 10));
        for (name, at) in [("$room/a", 11), ("$room/b", 12), ("$room/a", 13), ("t", 14)] {
            guards.note(&topic(name), Offset(at));
            guards.settle(true);
        }
        let cases = [("$room/a", 13, true), ("$room/a", 12, false), ("$room/c", 11, true), ("$room/c", 10, false)];
        for (name, as_of, ok) in cases {
            assert_eq!(holds(&guards, name, as_of), ok, "{name} as of {as_of}");
        }
    }
}
