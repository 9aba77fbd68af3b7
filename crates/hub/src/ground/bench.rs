//! One owner alone on a ground and a log of its own, for its tests.

use everywire_base::clock::Now;
use everywire_base::id::Slot;
use everywire_base::rules::Rules;

use super::{Follower, Ground};
use crate::delivery::Deliveries;
use crate::floor::Floor;
use crate::floor::bench::Log;

/// An owner, and the ground that it stands on.
pub(crate) struct World<O> {
    pub(crate) log: Log,
    pub(crate) floor: Floor,
    pub(crate) deliveries: Deliveries,
    pub(crate) owner: O,
}

impl<O: Follower + Default> World<O> {
    /// A world with these connections.
    pub(crate) fn new(rules: Rules, slots: &[Slot]) -> Self {
        let (log, floor) = Log::new(rules);
        let mut deliveries = Deliveries::new(&floor);
        for slot in slots {
            deliveries.take_place(*slot);
        }
        Self { log, deliveries, floor, owner: O::default() }
    }

    /// Calls the owner.
    pub(crate) fn on<R>(&mut self, call: impl FnOnce(&mut O, &mut Ground<'_>) -> R) -> R {
        let mut ground = Ground { floor: &mut self.floor, deliveries: &mut self.deliveries, now: Now::default() };
        call(&mut self.owner, &mut ground)
    }

    /// Lets the log take the owner's appends, and the owner hear of them.
    pub(crate) fn hear(&mut self) {
        for record in self.log.take(&mut self.floor) {
            self.on(|owner, ground| owner.record(ground, &record, record.system().unwrap()));
        }
    }
}
