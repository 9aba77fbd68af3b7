//! Rooms that have ended a moment ago, as they were: so that whoever reads the record of the end knows the members.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;

use crate::room::Room;

/// The most rooms that are remembered.
const MOST: usize = 64;
/// The time for which a room is remembered. Readers follow the log closely; one that doesn't tells nobody.
const KEPT: Duration = Duration::from_secs(10);

/// The rooms, in the order in which they ended.
#[derive(Default)]
pub(crate) struct Ended {
    rooms: Mutex<VecDeque<(Offset, UnixMillis, Arc<Room>)>>,
    /// The number of them, so that a thread needn't lock to see that there is none.
    count: AtomicUsize,
}

impl Ended {
    /// Notes a room that the record at this place has ended.
    pub(crate) fn put(&self, room: &Arc<Room>, (at, now): (Offset, UnixMillis)) {
        self.change(|rooms| {
            rooms.push_back((at, now, Arc::clone(room)));
            if rooms.len() > MOST {
                rooms.pop_front();
            }
        });
    }

    /// Forgets the rooms whose time is over.
    pub(crate) fn forget(&self, now: UnixMillis) {
        if self.count.load(Ordering::Relaxed) > 0 {
            self.change(|rooms| while rooms.pop_front_if(|(_, ended, _)| ended.after(KEPT) <= now).is_some() {});
        }
    }

    /// The room that the record at this offset has ended.
    pub(crate) fn at(&self, at: Offset) -> Option<Arc<Room>> {
        let rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        rooms.iter().find(|(ended, ..)| *ended == at).map(|(.., room)| Arc::clone(room))
    }

    fn change(&self, change: impl FnOnce(&mut VecDeque<(Offset, UnixMillis, Arc<Room>)>)) {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut rooms);
        self.count.store(rooms.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Head;

    #[test]
    fn a_room_is_remembered_for_a_moment() {
        let ended = Ended::default();
        let room = Arc::new(Room::new(Head::default(), Offset(1)));
        (0..=MOST as u64).for_each(|n| ended.put(&room, (Offset(n), UnixMillis(n))));
        assert!(ended.at(Offset(0)).is_none() && ended.at(Offset(1)).is_some());
        ended.forget(UnixMillis(5).after(KEPT));
        assert!(ended.at(Offset(5)).is_none() && ended.at(Offset(6)).is_some());
        ended.forget(UnixMillis(1000).after(KEPT));
        assert!(ended.rooms.lock().unwrap().is_empty());
    }
}
