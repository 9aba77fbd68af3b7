//! What a session publishes exactly once (RULES 12): under a number, which stands for the message until it is released.
//!
//! The message's record carries session and number, and the store keeps a mark of both; the session's record carries all
//! numbers that were not released when it was written. So whoever takes the session up knows them, also after a crash.

use everywire_base::ask::Draft;
use everywire_base::clock::Now;
use everywire_base::id::{AskId, Slot};
use everywire_base::record::Once;
use everywire_base::system;

use crate::{Hub, Said};

impl Hub {
    /// A message that its session wants to be published once; `None` if that was done already.
    pub fn publish_once(&mut self, slot: Slot, ask: AskId, number: u16, draft: Draft, now: Now) -> Option<Draft> {
        let Some(session) = self.session_mut(slot.index).filter(|s| s.is_open()) else { return Some(draft) };
        if session.received().iter().any(|(known, _)| *known == number) {
            return None;
        }
        session.open_ends().received.push((number, ask));
        let mut draft = draft;
        if session.is_durable() {
            session.dirty = true;
            let until = now.wall.after(system::lease(session.expiry.as_secs()));
            draft.message.once = Some(Box::new(Once { session: session.topic.clone(), tag: number, until }));
        }
        Some(draft)
    }

    /// The log has refused what this ask was to publish once.
    pub fn not_published(&mut self, slot: Slot, ask: AskId) {
        if self.is_here(slot)
            && let Some(session) = self.session_mut(slot.index)
        {
            session.open_ends().received.retain(|(_, publishing)| *publishing != ask);
        }
    }

    /// A number is released. Answered when that is durable.
    pub fn release(&mut self, slot: Slot, ask: AskId, number: u16, now: Now) {
        let found = self.session(slot.index).and_then(|s| s.received().iter().position(|(known, _)| *known == number));
        match (found, self.session_mut(slot.index)) {
            (Some(at), Some(session)) => {
                session.open_ends().received.remove(at);
                self.say_durably(slot, ask, Said::Released(true), now);
            }
            _ => self.say(slot, ask, Said::Released(false)),
        }
    }
}
