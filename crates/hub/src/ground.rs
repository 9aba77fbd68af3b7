//! The ground of the owners over delivery, and the way in which they hear of the server's own records.

#[cfg(test)]
pub(crate) mod bench;

use everywire_base::ask::{Answer, Subscribe, Subscribed};
use everywire_base::clock::Now;
use everywire_base::id::{AskId, Slot};
use everywire_base::record::{Record, System};
use everywire_base::roster::Change;
use everywire_base::rules::Refusal;
use everywire_base::topic::Filter;

use crate::delivery::Deliveries;
use crate::floor::Floor;

/// The floor and delivery, lent to an owner for the time of a call.
pub(crate) struct Ground<'a> {
    pub(crate) floor: &'a mut Floor,
    pub(crate) deliveries: &'a mut Deliveries,
    pub(crate) now: Now,
}

impl Ground<'_> {
    /// Subscribes a connection, in addition to its other subscriptions.
    pub(crate) fn subscribe(&mut self, slot: Slot, subscribe: &Subscribe) -> Subscribed {
        self.deliveries.subscribe(slot, subscribe, self.floor)
    }

    /// Refuses all filters of a subscription.
    pub(crate) fn refuse(&mut self, slot: Slot, ask: AskId, subscribe: &Subscribe, why: &Refusal) {
        let refused = subscribe.filters.iter().map(|filter| (filter.clone(), why.clone())).collect();
        let cursor = self.floor.cursor(&self.deliveries.current(slot.index));
        self.floor.say(slot, ask, Answer::Subscribed(Subscribed { cursor, refused, gap: false }));
    }

    /// Ends one subscription of a connection, and says whether there was one.
    pub(crate) fn leave_filter(&mut self, slot: Slot, filter: &Filter, group: Option<&str>) -> bool {
        self.deliveries.leave_filter(slot.index, filter, group, self.floor)
    }
}

/// An owner that is told of every record of the server's own (topics that begin with `$`), in the order of the log,
/// before it is fanned out. Every worker's hub is told of the same records; nothing may depend on which worker wrote
/// one.
pub(crate) trait Follower {
    /// Takes up that nodes have come or gone, as a record says. It is told of that before it is told of the record.
    fn nodes(&mut self, ground: &mut Ground<'_>, change: &Change, record: &Record);

    /// Takes a record up. A record that isn't for it, or that it can't read, changes nothing.
    fn record(&mut self, ground: &mut Ground<'_>, record: &Record, system: &System);
}
