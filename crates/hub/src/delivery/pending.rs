//! Subscriptions that connections are about to hold: shared ones, until the group's record says that they are held.

use everywire_base::ask::Subscribe;
use everywire_base::id::Slot;
use everywire_base::topic::Topic;

use super::Deliveries;

/// A subscription that waits.
#[derive(Debug)]
pub(super) struct Pending {
    slot: Slot,
    /// The topic of the group's records.
    topic: Topic,
    subscribe: Subscribe,
}

impl Deliveries {
    /// Notes a subscription that a connection is about to hold.
    pub(crate) fn expect(&mut self, slot: Slot, topic: Topic, subscribe: Subscribe) {
        self.pending.push(Pending { slot, topic, subscribe });
    }

    /// The subscriptions that a connection is about to hold.
    pub(crate) fn pending(&self, slot: Slot) -> impl Iterator<Item = &Subscribe> {
        self.pending.iter().filter(move |pending| pending.slot == slot).map(|pending| &pending.subscribe)
    }

    /// Takes out the subscription that a connection was to hold of a group.
    pub(crate) fn take_pending(&mut self, slot: Slot, topic: &Topic) -> Option<Subscribe> {
        let place = self.pending.iter().position(|pending| pending.slot == slot && pending.topic == *topic)?;
        Some(self.pending.remove(place).subscribe)
    }

    /// Drops the subscriptions that a connection was to hold: all, or those of one group.
    pub(crate) fn drop_pending(&mut self, slot: Slot, topic: Option<&Topic>) {
        let is_meant = |pending: &Pending| topic.is_none_or(|topic| pending.topic == *topic);
        self.pending.retain(|pending| pending.slot != slot || !is_meant(pending));
    }
}
