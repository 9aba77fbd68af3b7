//! What a session publishes exactly once (RULES 12): under a number, which stands for the message until it is released.
//!
//! The message's record carries session and number, and the store keeps a mark of both; the session's record carries all
//! numbers that were not released when it was written. So whoever takes the session up knows them, also after a crash. Of
//! what was still on its way then, only the mark tells whether the log has taken it.

use everywire_base::ask::Draft;
use everywire_base::clock::Now;
use everywire_base::cursor::Offset;
use everywire_base::id::{AskId, Slot};
use everywire_base::record::Once;
use everywire_base::system;

use crate::{Hub, Said};

/// What was published exactly once and isn't released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Received {
    pub(crate) number: u16,
    /// On its way to the log: the ask that publishes it, and above which offset it will lie.
    pub(crate) publishing: Option<(AskId, Offset)>,
}

impl Received {
    /// It is there.
    pub(crate) fn settled(number: u16) -> Self {
        Self { number, publishing: None }
    }

    fn is_of(&self, ask: AskId) -> bool {
        self.publishing.is_some_and(|(publishing, _)| publishing == ask)
    }
}

impl Hub {
    /// A message that its session wants to be published once; `None` if that was done already.
    pub fn publish_once(&mut self, slot: Slot, ask: AskId, number: u16, draft: Draft, now: Now) -> Option<Draft> {
        let above = self.setup.tails[0].head();
        let Some(session) = self.session_mut(slot.index).filter(|s| s.is_held()) else { return Some(draft) };
        if session.received().iter().any(|known| known.number == number) {
            return None;
        }
        session.open_ends().received.push(Received { number, publishing: Some((ask, above)) });
        let mut draft = draft;
        if session.is_durable() {
            session.dirty = true;
            let until = now.wall.after(system::lease(session.expiry.as_secs()));
            draft.message.once = Some(Box::new(Once { session: session.topic.clone(), tag: number, until }));
            // The log refuses it above a later claim: whoever has claimed the session doesn't know of it.
            draft.message.generation = session.generation;
        }
        Some(draft)
    }

    /// The log has taken, or refused, what this ask was to publish, once or not.
    pub fn published(&mut self, slot: Slot, ask: AskId, is_taken: bool) {
        if !self.is_here(slot) {
            return;
        }
        let Some(ends) = self.session_mut(slot.index).and_then(|session| session.open_ends.as_mut()) else { return };
        let Some(at) = ends.received.iter().position(|received| received.is_of(ask)) else { return };
        if is_taken {
            ends.received[at].publishing = None;
        } else {
            ends.received.remove(at);
        }
    }

    /// A number is released. Answered when that is durable.
    pub fn release(&mut self, slot: Slot, ask: AskId, number: u16, now: Now) {
        let found = self.session(slot.index).and_then(|s| s.received().iter().position(|known| known.number == number));
        match (found, self.session_mut(slot.index)) {
            (Some(at), Some(session)) => {
                session.open_ends().received.remove(at);
                self.say_durably(slot, ask, Said::Released(true), now);
            }
            _ => self.say(slot, ask, Said::Released(false)),
        }
    }
}
