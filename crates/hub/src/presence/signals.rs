//! The signals of a turn. Of several alike only the last is told, and signals beyond a share of the turn's deliveries
//! are dropped.

use everywire_base::id::Slot;
use everywire_base::parcel::Delivery;
use everywire_base::signal::{Said, Signal};

use crate::floor::Deliver;
use crate::ground::Ground;

/// The part of a turn's deliveries that may be signals: one in this number.
const SHARE: usize = 4;

/// The signals that wait to be told.
#[derive(Default)]
pub(crate) struct Signals {
    said: Vec<(Said, Vec<Slot>)>,
    /// Changed conversations, each with the connection to tell.
    changed: Vec<(Slot, Box<str>)>,
    /// The number of deliveries that wait.
    deliveries: usize,
}

impl Signals {
    /// Queues a signal to some connections.
    pub(super) fn tell(&mut self, ground: &mut Ground<'_>, said: Said, to: Vec<Slot>) {
        if to.is_empty() {
            return;
        }
        let is_same = |other: &Said| {
            other.conversation == said.conversation && other.kind == said.kind && other.user == said.user
        };
        // The one before goes, so that what came between is told first: who is here, away, and here again is here.
        let before = self.said.iter().position(|(other, _)| is_same(other)).map(|nth| self.said.remove(nth).1);
        let mut slots = before.unwrap_or_default();
        let fresh: Vec<Slot> = to.into_iter().filter(|slot| !slots.contains(slot)).collect();
        if self.has_room(ground, fresh.len()) {
            slots.extend(fresh);
        }
        if !slots.is_empty() {
            self.said.push((said, slots));
        }
    }

    /// Queues the news that one of a connection's conversations has changed.
    pub(super) fn tell_change(&mut self, ground: &mut Ground<'_>, slot: Slot, conversation: &str) {
        let is_known = self.changed.iter().any(|(other, known)| *other == slot && &**known == conversation);
        if !is_known && self.has_room(ground, 1) {
            self.changed.push((slot, conversation.into()));
        }
    }

    fn has_room(&mut self, ground: &mut Ground<'_>, more: usize) -> bool {
        let fits = self.deliveries + more <= ground.floor.setup.limits.deliveries_per_turn.div_ceil(SHARE);
        if fits {
            self.deliveries += more;
        } else {
            ground.floor.counters.signals_dropped += more as u64;
        }
        fits
    }

    /// Delivers everything that waits.
    pub(super) fn deliver(&mut self, ground: &mut Ground<'_>, to: &mut dyn Deliver) {
        self.deliveries = 0;
        for (said, slots) in std::mem::take(&mut self.said) {
            let signal = Signal::new(said);
            for slot in slots.into_iter().filter(|slot| ground.deliveries.is_here(*slot)) {
                // A full wire drops it.
                to.deliver(slot, &Delivery::Signal(&signal));
                ground.floor.counters.signals += 1;
            }
        }
        for (slot, conversation) in std::mem::take(&mut self.changed) {
            if ground.deliveries.is_here(slot) {
                to.deliver(slot, &Delivery::Conversation(&conversation));
            }
        }
    }
}
