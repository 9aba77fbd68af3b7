//! Typing signals: only where somebody would see them, and not too often.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everywire_base::clock::UnixMillis;
use everywire_base::identity::{Identity, encode};
use everywire_base::record::{Record, System};
use everywire_base::rules::{Refusal, Rules};
use everywire_base::signal::SignalKind;
use everywire_base::system::{self, Passing, SIGNALS};
use everywire_base::topic::{Topic, hash_name};

use crate::Rooms;
use crate::conversation::Conversation;
use crate::presence::State;

/// The least time between two typing signals of a user.
pub const EVERY: Duration = Duration::from_secs(3);

/// The number of places that remember who typed lately. Users with the same place overwrite each other.
const PLACES: usize = 4096;
/// The number of low bits of a place that are the time. The others are of the user's hash.
const TIME_BITS: u32 = 42;

/// The times at which users typed last. All threads read and write without a lock: at worst a signal is sent too often.
pub(crate) struct Typed(Box<[AtomicU64]>);

impl Default for Typed {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::default()).collect())
    }
}

impl Typed {
    /// Whether a typing signal of a user is due. Then it counts as sent. A clock that was set back holds nobody up.
    fn note(&self, user: &str, now: UnixMillis) -> bool {
        let hash = hash_name(user);
        let place = &self.0[hash as usize % PLACES];
        let (mask, mine) = ((1 << TIME_BITS) - 1, hash >> TIME_BITS << TIME_BITS);
        let before = place.load(Ordering::Relaxed);
        let passed = (now.0 & mask).abs_diff(before & mask);
        if before & !mask == mine && passed < EVERY.as_millis() as u64 {
            return false;
        }
        place.store(mine | (now.0 & mask), Ordering::Relaxed);
        true
    }

    /// Takes in a record: the user may have typed at another node that shares the log.
    pub(crate) fn take(&self, record: &Record) {
        let signal = record.system().filter(|system| system.topic.as_str().starts_with(SIGNALS));
        if let Some(passing) = signal.and_then(system::read::<Passing>).filter(|said| said.kind == SignalKind::Typing) {
            self.note(&passing.user, record.time);
        }
    }
}

/// The record of a typing signal. `None` if nobody would see it, or one was made a moment ago.
pub fn typing(
    rooms: &Rooms,
    rules: &Rules,
    who: &Identity,
    which: &Conversation,
    now: UnixMillis,
) -> Result<Option<System>, Refusal> {
    let user = who.user.as_deref().ok_or_else(|| Refusal::Forbidden("users type".into()))?;
    let text = which.text();
    let topic = |text: &str| Topic::parse(text).map_err(|error| Refusal::Forbidden(error.to_string().into()));
    rules.may_publish(Some(who), &topic(&text)?)?;
    let is_seen = match which {
        Conversation::Room(level) => rooms.room(level).is_some() && !rooms.is_crowded(level),
        // A user of whom nothing is known may be there all the same.
        Conversation::With(other) => {
            &**other != user && (!rooms.knows(other) || rooms.presence_of(other, now).0 != State::Left)
        }
    };
    if !is_seen || !rooms.typed().note(user, now) {
        return Ok(None);
    }
    Ok(passing(&text, SignalKind::Typing, user, 0))
}

/// The record of the signal that everything up to an offset has come to one of a user's devices.
pub fn received(user: &str, from: &str, offset: u64) -> Option<System> {
    passing(&format!("user/{}", encode(from)), SignalKind::Received, user, offset)
}

fn passing(conversation: &str, kind: SignalKind, user: &str, offset: u64) -> Option<System> {
    let passing = Passing { kind, user: user.into(), offset };
    Some(system::record(system::signal_topic(conversation)?, &passing, false))
}

#[cfg(test)]
mod tests {
    use everywire_base::cursor::{Offset, Partition};
    use everywire_base::record::Durability;

    use super::*;

    #[test]
    fn a_user_is_typing_once_in_three_seconds() {
        let (typed, start) = (Typed::default(), 1_795_378_321_345);
        let at = |ms: u64| UnixMillis(start + ms);
        assert!(typed.note("ann", at(0)) && typed.note("bob", at(1)));
        assert!(!typed.note("ann", at(2999)) && typed.note("ann", at(3000)) && !typed.note("ann", at(3001)));
        assert!(typed.note("ann", UnixMillis(start - 60_000)), "the clock was set back");
    }

    #[test]
    fn whoever_types_at_one_node_has_typed_at_all() {
        let (here, there, start) = (Rooms::default(), Rooms::default(), UnixMillis(1_795_378_321_345));
        let to_bob = Conversation::With("bob".into());
        let types = |rooms: &Rooms, ms: u64| {
            let who = Identity::user("ann");
            typing(rooms, &Rules::default(), &who, &to_bob, UnixMillis(start.0 + ms)).expect("ann may")
        };
        let signal = types(&here, 0).expect("nobody has heard of it");
        let (partition, offset, time, durability) =
            (Partition(0), Offset(1), UnixMillis(start.0 + 5), Durability::None);
        let record = Record { partition, offset, time, durability, content: signal.into() };
        here.take(&record);
        there.take(&record);
        assert!([&here, &there].iter().all(|rooms| types(rooms, 2900).is_none()));
        assert!(types(&here, 3000).is_some(), "its own record doesn't hold a steady typist up");
        assert!(types(&there, 3005).is_some());
    }
}
