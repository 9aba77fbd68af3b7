//! Acknowledgements of what a session was sent (RULES 11, 12): up to a cursor, or one by one by their tags.

use everywire_base::ask::{Ack, AckError};
use everywire_base::clock::Now;
use everywire_base::cursor::{Cursor, Offset, Partition};
use everywire_base::id::{AskId, Slot};

use crate::lag::State;
use crate::session::LAZY;
use crate::window::{Sent, Stage};
use crate::{Hub, Said};

impl Hub {
    /// Takes an acknowledgement.
    pub(crate) fn take_ack(&mut self, slot: Slot, ask: AskId, ack: &Ack, now: Now) -> Result<(), AckError> {
        if !self.is_here(slot) {
            return Err(AckError::NoSession);
        }
        match ack {
            Ack::UpTo(cursor) => self.acknowledge_cursor(slot, cursor, now),
            Ack::Done(tag) => self.acknowledge_tag(slot, *tag, now),
            Ack::Received(tag) => self.note_received(slot, ask, *tag, now),
        }
    }

    /// The delivery of a tag was received for good. Of what isn't under way nothing is to be said.
    fn acknowledge_tag(&mut self, slot: Slot, tag: u16, now: Now) -> Result<(), AckError> {
        let current = self.current(slot.index);
        let session = self.session_mut(slot.index).filter(|s| s.is_held()).ok_or(AckError::NoSession)?;
        let reached = |p: u16, offset: Offset| current.get(usize::from(p)).is_some_and(|at| offset <= *at);
        session.window.done(tag, reached);
        session.acknowledged = now.wall;
        self.write_lazily(slot, now);
        self.resume(slot, State::Window);
        Ok(())
    }

    /// The delivery of a tag was received, and shall be released when that is durable.
    fn note_received(&mut self, slot: Slot, ask: AskId, tag: u16, now: Now) -> Result<(), AckError> {
        let session = self.session_mut(slot.index).filter(|s| s.is_held()).ok_or(AckError::NoSession)?;
        let next = match session.window.stage(tag) {
            Some(Stage::SentOnce) if session.window.is_durable() => Stage::Received,
            Some(Stage::SentOnce) => Stage::Released,
            Some(stage @ (Stage::Received | Stage::Noting | Stage::Released)) => stage,
            _ => return Err(AckError::UnknownTag(tag)),
        };
        session.window.set(tag, next);
        session.acknowledged = now.wall;
        if next == Stage::Released {
            self.say(slot, ask, Said::Received(tag));
        } else {
            self.say_durably(slot, ask, Said::Received(tag), now);
        }
        Ok(())
    }

    /// Everything up to a cursor was received (RULES 11): the earliest outstanding delivery of that cursor, and all that
    /// was sent before it.
    fn acknowledge_cursor(&mut self, slot: Slot, cursor: &Cursor, now: Now) -> Result<(), AckError> {
        let epoch = self.setup.lineages[0].epoch;
        let current = self.current(slot.index);
        let session = self.session_mut(slot.index).filter(|s| s.is_held()).ok_or(AckError::NoSession)?;
        let position = |p: u16| cursor.position(Partition(p));
        let is_known = |(p, at): &(Partition, Offset)| current.get(usize::from(p.0)).is_some_and(|sent| at <= sent);
        let is_outstanding = |sent: &Sent| position(sent.partition) == Some(sent.offset);
        let found = session.window.iter().position(is_outstanding);
        if cursor.epoch != epoch || (found.is_none() && !cursor.positions().iter().all(is_known)) {
            return Err(AckError::NeverSent);
        }
        let covers = |sent: &Sent| position(sent.partition).is_some_and(|at| sent.offset <= at);
        let before = session.window.iter().take_while(|sent| covers(sent)).count();
        session.window.drain(found.map_or(before, |found| found + 1));
        session.acknowledged = now.wall;
        self.write_lazily(slot, now);
        self.resume(slot, State::Window);
        Ok(())
    }

    /// Has the session written soon; what is acknowledged needn't be durable at once.
    fn write_lazily(&mut self, slot: Slot, now: Now) {
        let Some(session) = self.session_mut(slot.index).filter(|s| s.is_durable()) else { return };
        if !std::mem::replace(&mut session.dirty, true) {
            self.watch(slot, now.monotonic + LAZY);
        }
    }
}
