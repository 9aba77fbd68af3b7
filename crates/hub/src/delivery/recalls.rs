//! The messages that were recalled lately: what is still read from the tail, or came in a page that the store read
//! before, is skipped. The store itself leaves out older ones.

use std::collections::{HashSet, VecDeque};

use everywire_base::cursor::Offset;
use everywire_base::id::MessageId;
use everywire_base::recall::recalled_by;
use everywire_base::record::{Record, System};

use super::Deliveries;
use crate::floor::Floor;

/// The number of recalls that are known after the tail has let go of them: a page may have been under way since then.
const KEPT: usize = 1024;

/// The recalled messages, and the places of the records that say so.
#[derive(Default)]
pub(super) struct Recalls {
    ids: HashSet<MessageId>,
    in_order: VecDeque<(Offset, MessageId)>,
}

impl Recalls {
    pub(super) fn contains(&self, record: &Record) -> bool {
        !self.ids.is_empty() && self.ids.contains(&record.id())
    }

    fn note(&mut self, at: Offset, id: MessageId, tail_start: Offset) {
        if self.ids.insert(id) {
            self.in_order.push_back((at, id));
        }
        while self.in_order.len() > KEPT
            && let Some((_, id)) = self.in_order.pop_front_if(|(at, _)| *at <= tail_start)
        {
            self.ids.remove(&id);
        }
    }
}

impl Deliveries {
    /// Takes up a record of the server's own: a recalled message is delivered no more.
    pub(crate) fn record(&mut self, floor: &Floor, record: &Record, system: &System) {
        if let Some(id) = recalled_by(system) {
            let tail = &floor.setup.tails[usize::from(record.partition.0)];
            self.recalls.note(record.offset, id, tail.start());
        }
    }
}

#[cfg(test)]
mod tests {
    use everywire_base::clock::UnixMillis;
    use everywire_base::cursor::Partition;

    use super::*;

    fn id(offset: u64) -> MessageId {
        MessageId::new(UnixMillis(0), Partition(0), Offset(offset))
    }

    #[test]
    fn those_that_the_tail_has_let_go_of_are_forgotten_beyond_a_number() {
        let mut recalls = Recalls::default();
        let most = KEPT as u64;
        (1..=most + 10).for_each(|n| recalls.note(Offset(n), id(n), Offset::BEGINNING));
        assert_eq!(recalls.ids.len(), KEPT + 10, "the tail still has them");
        recalls.note(Offset(most + 10), id(1), Offset(5));
        assert_eq!(recalls.ids.len(), KEPT + 5);
        assert!(!recalls.ids.contains(&id(5)) && recalls.ids.contains(&id(6)));
    }
}
