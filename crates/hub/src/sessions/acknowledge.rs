//! Acknowledgements of a session's deliveries (RULES 11, 12): up to a cursor, or one by one by their tags.

use everywire_base::ask::{Ack, AckError, Answer};
use everywire_base::cursor::{Cursor, Offset, Partition};
use everywire_base::id::{AskId, Slot};

use super::session::{Session, Wants};
use super::{LAZY, Sessions};
use crate::delivery::{Sent, Stage, State, Window};
use crate::ground::Ground;

impl Sessions {
    /// Takes an acknowledgement.
    pub(crate) fn acknowledge(
        &mut self,
        ground: &mut Ground<'_>,
        slot: Slot,
        ask: AskId,
        ack: &Ack,
    ) -> Result<(), AckError> {
        match ack {
            Ack::UpTo(cursor) => self.acknowledge_cursor(ground, slot, cursor),
            Ack::DoneAtLeastOnce(tag) if is_exactly_once(ground, slot, *tag) == Some(true) => Err(AckError::WrongKind),
            Ack::DoneExactlyOnce(tag) if is_exactly_once(ground, slot, *tag) == Some(false) => Err(AckError::WrongKind),
            Ack::Done(tag) | Ack::DoneAtLeastOnce(tag) | Ack::DoneExactlyOnce(tag) => {
                self.acknowledge_tag(ground, slot, *tag)
            }
            Ack::Received(tag) => self.note_received(ground, slot, ask, *tag),
        }
    }

    /// Marks the delivery of a tag as received for good. A tag that isn't under way is no error.
    fn acknowledge_tag(&mut self, ground: &mut Ground<'_>, slot: Slot, tag: u16) -> Result<(), AckError> {
        let current = ground.deliveries.current(slot.index);
        let window = self.held_window(ground, slot).ok_or(AckError::NoSession)?;
        let reached = |p: u16, offset: Offset| current.get(usize::from(p)).is_some_and(|at| offset <= *at);
        window.done(tag, reached);
        self.note_acknowledged(ground, slot);
        self.write_lazily(ground, slot);
        ground.deliveries.resume(slot, State::Window);
        Ok(())
    }

    /// Marks the delivery of a tag as received; it shall be released when that is durable.
    fn note_received(&mut self, ground: &mut Ground<'_>, slot: Slot, ask: AskId, tag: u16) -> Result<(), AckError> {
        let window = self.held_window(ground, slot).ok_or(AckError::NoSession)?;
        let next = match window.stage(tag) {
            Some(Stage::SentOnce) if window.is_durable() => Stage::Received,
            Some(Stage::SentOnce) => Stage::Released,
            Some(stage @ (Stage::Received | Stage::Noting | Stage::Released)) => stage,
            Some(Stage::Sent) => return Err(AckError::WrongKind),
            _ => return Err(AckError::UnknownTag(tag)),
        };
        window.set(tag, next);
        self.note_acknowledged(ground, slot);
        if next == Stage::Released {
            ground.floor.say(slot, ask, Answer::Received(tag));
        } else {
            self.say_durably(ground, slot, ask, Answer::Received(tag));
        }
        Ok(())
    }

    /// Acknowledges everything up to a cursor (RULES 11): the earliest outstanding delivery of that cursor, and all
    /// that was sent before it.
    fn acknowledge_cursor(&mut self, ground: &mut Ground<'_>, slot: Slot, cursor: &Cursor) -> Result<(), AckError> {
        let valid = ground.floor.setup.lineages[0].valid_up_to(cursor.epoch);
        let current = ground.deliveries.current(slot.index);
        let window = self.held_window(ground, slot).ok_or(AckError::NoSession)?;
        let position = |p: u16| cursor.position(Partition(p));
        let is_known = |(p, at): &(Partition, Offset)| current.get(usize::from(p.0)).is_some_and(|sent| at <= sent);
        let is_outstanding = |sent: &Sent| position(sent.partition) == Some(sent.offset);
        let found = window.iter().position(is_outstanding);
        // Another epoch may have begun since it was sent.
        let is_of_log = valid.is_some_and(|fork| cursor.positions().iter().all(|(_, at)| *at <= fork));
        if !is_of_log || (found.is_none() && !cursor.positions().iter().all(is_known)) {
            return Err(AckError::NeverSent);
        }
        let covers = |sent: &Sent| position(sent.partition).is_some_and(|at| sent.offset <= at);
        let before = window.iter().take_while(|sent| covers(sent)).count();
        window.drain(found.map_or(before, |found| found + 1));
        self.note_acknowledged(ground, slot);
        self.write_lazily(ground, slot);
        ground.deliveries.resume(slot, State::Window);
        Ok(())
    }

    /// The window of a session that is open, or still to be handed over.
    fn held_window<'a>(&self, ground: &'a mut Ground<'_>, slot: Slot) -> Option<&'a mut Window> {
        self.session(slot.index)?.held()?;
        ground.deliveries.window_mut(slot.index)
    }

    fn note_acknowledged(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        if let Some(open) = self.session_mut(slot.index).and_then(Session::held_mut) {
            open.acknowledged = ground.now.wall;
        }
    }

    /// Lets the session be written soon; an acknowledgement needn't be durable at once.
    fn write_lazily(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        let open = self.session_mut(slot.index).and_then(Session::held_mut);
        let Some(kept) = open.and_then(|open| open.kept_mut()) else { return };
        if kept.wants == Wants::Nothing {
            kept.wants = Wants::Record;
            self.watch(slot, ground.now.monotonic + LAZY);
        }
    }
}

/// Whether the delivery of a tag was sent exactly once; `None` if it isn't under way.
fn is_exactly_once(ground: &Ground<'_>, slot: Slot, tag: u16) -> Option<bool> {
    match ground.deliveries.window(slot.index)?.stage(tag)? {
        Stage::Sent => Some(false),
        Stage::Done => None,
        _ => Some(true),
    }
}
