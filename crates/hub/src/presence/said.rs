//! Records about connections, kept until the log has taken them: else a user who is gone would be there for ever.

use std::time::Duration;

use everywire_base::ask::{Draft, Guard};
use everywire_base::id::{Part, Slot};
use everywire_base::record::{Durability, System};

use crate::floor::retries::{RetriedPart, Retries};
use crate::ground::Ground;

/// Records on their way to the log.
pub(super) type OnTheWay = Retries<OfConnections, Subject>;

/// The records about connections.
pub(super) struct OfConnections;

/// The connection that a record is about.
pub(super) struct Subject {
    slot: Slot,
    /// Whether the record says that something ends: then it is appended even though the connection is gone.
    is_end: bool,
}

impl RetriedPart for OfConnections {
    const PART: Part = Part::Presence;
    const DELAY: Duration = Duration::from_secs(1);
}

/// Appends a record about a connection.
pub(super) fn say(
    said: &mut OnTheWay,
    ground: &mut Ground<'_>,
    slot: Slot,
    (is_end, guards): (bool, Box<[Guard]>),
    system: System,
) {
    let draft = Draft { guards, ..Draft::new(system, Durability::None) };
    said.append(ground.floor, draft, Subject { slot, is_end });
}

/// Appends refused records again. Those of a connection that has gone are dropped, except its end.
pub(super) fn say_again(said: &mut OnTheWay, ground: &mut Ground<'_>) {
    let Ground { floor, deliveries, now } = ground;
    said.turn(floor, *now, |_, about| !about.is_end && !deliveries.is_here(about.slot));
}
