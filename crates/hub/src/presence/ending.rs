//! Rooms that don't last: they end a minute after the last occupant has left, or after the start. Every worker ends
//! them; the first record holds, and an entrance in the meantime makes it stale.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Draft, Guard};
use everywire_base::cursor::Offset;
use everywire_base::record::{Durability, System};
use everywire_base::system::{self, IN};
use everywire_base::topic::hash_name;
use everywire_rooms::presence::State;

use super::Presence;
use crate::ground::Ground;

/// The time for which an empty room stays.
const EMPTY: Duration = Duration::from_mins(1);

/// The guard that a room's entrances have in common.
fn entrances(level: &str, as_of: Offset) -> Guard {
    Guard { topic: hash_name(&format!("{IN}{level}")), as_of, claims: false }
}

/// The guard that notes an entrance into a room that doesn't last. It never makes the entrance itself stale.
pub(super) fn claim(ground: &Ground<'_>, level: &str) -> Box<[Guard]> {
    let lasts = ground.floor.setup.rooms.room(level).is_none_or(|room| room.head.lasting);
    let claim = Guard { claims: true, ..entrances(level, Offset(u64::MAX)) };
    if lasts { Box::default() } else { Box::new([claim]) }
}

impl Presence {
    /// A user has left a room, or is about to: if it is empty and doesn't last, it ends later.
    pub(super) fn may_end(&mut self, ground: &Ground<'_>, level: &str) {
        let lasts = ground.floor.setup.rooms.room(level).is_none_or(|room| room.head.lasting);
        if !lasts && is_empty(ground, level) {
            self.ending.push_back((ground.now.monotonic + EMPTY, level.into()));
        }
    }

    /// Ends rooms whose time is over.
    pub(super) fn end_rooms(&mut self, ground: &mut Ground<'_>) {
        if !self.has_looked {
            self.has_looked = true;
            let all = ground.floor.setup.rooms.list(None, usize::MAX, |_, room| !room.head.lasting);
            let at = ground.now.monotonic + EMPTY;
            self.ending.extend(all.into_iter().map(|(level, _): (Arc<str>, _)| (at, level)));
        }
        while let Some((_, level)) = self.ending.pop_front_if(|(at, _)| *at <= ground.now.monotonic) {
            // The offset is read before the occupants: an entrance in between makes the draft stale.
            let as_of = ground.floor.setup.rooms.as_of();
            let lasts = ground.floor.setup.rooms.room(&level).is_none_or(|room| room.head.lasting);
            let Some(topic) = system::room_topic(&level).filter(|_| !lasts && is_empty(ground, &level)) else {
                continue;
            };
            let guards = Box::new([Guard::of(&topic, as_of), entrances(&level, as_of)]);
            let draft = Draft { guards, ..Draft::new(System::removal(topic), Durability::Fsync) };
            ground.floor.append_draft(draft);
        }
    }
}

/// Whether a room has no occupants, as far as its records say.
fn is_empty(ground: &Ground<'_>, level: &str) -> bool {
    let now = ground.now.wall;
    let occupants = ground.floor.setup.rooms.occupants(level);
    occupants.is_none_or(|all| all.after(None).all(|(_, one)| one.party.state(now) == State::Left))
}
