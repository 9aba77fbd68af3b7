//! Messages that a session publishes exactly once (RULES 12): under a number, which stands for the message until it is
//! released.
//!
//! The message's record carries session and number, and the store keeps a mark of both; the session's record carries
//! all numbers that were not released when it was written. So the next owner of the session knows them, also after a
//! crash. Only the mark tells whether the log has taken a message that was still on its way then.

use everywire_base::ask::{Answer, Draft, NotPublished, PublishError, Published};
use everywire_base::cursor::Offset;
use everywire_base::id::{AskId, Slot};
use everywire_base::record::Once;
use everywire_base::system;

use super::Sessions;
use super::session::{Open, Session, Wants};
use crate::ground::Ground;

/// A message that was published exactly once and isn't released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Received {
    pub(super) number: u16,
    /// The ask that publishes it, and the offset above which it will lie, while it is on its way to the log.
    pub(super) publishing: Option<(AskId, Offset)>,
}

impl Received {
    /// A message that is in the log.
    pub(super) fn settled(number: u16) -> Self {
        Self { number, publishing: None }
    }

    fn is_of(&self, ask: AskId) -> bool {
        self.publishing.is_some_and(|(publishing, _)| publishing == ask)
    }
}

impl Sessions {
    /// Notes a message that its session wants to be published once; `None` if that was done already.
    pub(crate) fn publish_once(
        &mut self,
        ground: &mut Ground<'_>,
        (slot, ask): (Slot, AskId),
        number: u16,
        draft: Draft,
    ) -> Option<Draft> {
        let above = ground.floor.setup.tails[0].head();
        let Some(open) = self.session_mut(slot.index).and_then(Session::held_mut) else { return Some(draft) };
        if open.received().iter().any(|known| known.number == number) {
            return None;
        }
        open.ends().received.push(Received { number, publishing: Some((ask, above)) });
        let mut draft = draft;
        open.want(Wants::Record);
        if let (Some(kept), Some(message)) = (open.kept(), draft.entry.message_mut()) {
            let until = ground.now.wall.after(system::lease(kept.expiry.as_secs()));
            // The log refuses it above a later claim: the claimant of the session doesn't know of it.
            let (session, generation) = (open.topic.clone(), kept.generation);
            message.once = Some(Box::new(Once { session, tag: number, generation, until }));
        }
        Some(draft)
    }

    /// Notes the log's answer to the message that this ask was to publish, once or not. One whose outcome is unknown
    /// counts as on its way: it may come into the log yet, and its mark tells the next owner.
    pub(crate) fn published(&mut self, slot: Slot, ask: AskId, result: &Result<Published, NotPublished>) {
        let open = self.session_mut(slot.index).and_then(Session::held_mut);
        let Some(ends) = open.and_then(Open::ends_if_any) else { return };
        let Some(at) = ends.received.iter().position(|received| received.is_of(ask)) else { return };
        match result {
            Ok(_) => ends.received[at].publishing = None,
            Err(NotPublished::Log(PublishError::OutcomeUnknown)) => {}
            Err(_) => drop(ends.received.remove(at)),
        }
    }

    /// Releases a number. The answer comes when that is durable.
    pub(crate) fn release(&mut self, ground: &mut Ground<'_>, slot: Slot, ask: AskId, number: u16) {
        let open = self.session_mut(slot.index).and_then(Session::held_mut);
        if let Some(open) = open.filter(|open| open.received().iter().any(|known| known.number == number)) {
            open.ends().received.retain(|known| known.number != number);
            open.tie_up();
            self.say_durably(ground, slot, ask, Answer::Released(true));
        } else {
            ground.floor.say(slot, ask, Answer::Released(false));
        }
    }
}
