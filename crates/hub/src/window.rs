//! What a session has sent and hasn't had acknowledged, in sending order, bounded (RULES 11).
//!
//! Two kinds of acknowledgement, one window: by a cursor, which covers all that was sent before it, or one by one, by
//! tags. Exactly once needs durable moments (RULES 12): a delivery's tag before it is sent, and that it was received
//! before it is released. Those stages are here; when they are durable, `session` knows.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use everywire_base::cursor::Offset;
use everywire_base::system::SentState;

/// How deliveries are acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Up to a cursor.
    UpTo,
    /// One by one, by their tags; `durable` if the session outlives its connection.
    Tagged { durable: bool },
}

/// How far a delivery is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// At least once: sent.
    Sent,
    /// Exactly once: its tag isn't durable.
    Wanted,
    /// The record that makes the tag durable is under way.
    Saving,
    /// It may be sent.
    Saved,
    /// Exactly once: sent.
    SentOnce,
    /// The peer has it; that isn't durable.
    Received,
    /// The record that makes that durable is under way.
    Noting,
    /// It is released.
    Released,
    /// Acknowledged before reading came to it again.
    Done,
}

/// A delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) offset: Offset,
    pub(crate) partition: u16,
    /// 0 where deliveries are acknowledged up to a cursor.
    pub(crate) tag: u16,
    pub(crate) stage: Stage,
    /// Sent as a retained message, outside the order.
    pub(crate) retained: bool,
}

impl Sent {
    /// One that is acknowledged up to its cursor.
    pub(crate) fn up_to(partition: usize, offset: Offset) -> Self {
        Self { offset, partition: partition as u16, tag: 0, stage: Stage::Sent, retained: false }
    }

    /// As a session's record says it; what isn't durable yet counts as what it will be when the record is.
    fn state(&self) -> SentState {
        let stage = match self.stage {
            Stage::Sent => 0,
            Stage::Wanted | Stage::Saving | Stage::Saved | Stage::SentOnce => 1,
            Stage::Received | Stage::Noting | Stage::Released => 2,
            Stage::Done => 3,
        };
        let Self { offset, partition, tag, retained, .. } = *self;
        SentState { partition, offset: offset.0, tag, stage, retained }
    }

    fn of(written: &SentState) -> Self {
        let stage = match written.stage {
            0 => Stage::Sent,
            1 => Stage::SentOnce,
            2 => Stage::Released,
            _ => Stage::Done,
        };
        let SentState { partition, offset, tag, retained, .. } = *written;
        Self { offset: Offset(offset), partition, tag, stage, retained }
    }

    /// Whether it was handed over, so that it isn't when reading comes to it.
    pub(crate) fn is_out(&self) -> bool {
        !matches!(self.stage, Stage::Wanted | Stage::Saving | Stage::Saved)
    }

    /// What a delivery again is handed over as.
    pub(crate) fn qos(&self) -> u8 {
        if self.stage == Stage::Sent { 1 } else { 2 }
    }
}

/// The deliveries of a session that are not acknowledged.
#[derive(Debug)]
pub(crate) struct Window {
    sent: VecDeque<Sent>,
    kind: Kind,
    bound: u32,
    /// The hash of its session, which its messages carry.
    origin: u64,
    last_tag: u16,
    /// Whether tags have come round, so that one may still be in use.
    has_wrapped: bool,
    /// Whether a subscription waits to be confirmed, before which nothing is sent.
    held: bool,
    /// Deliveries up to here may stand in the window before reading comes to them.
    known_to: Offset,
}

impl Window {
    pub(crate) fn new(kind: Kind, bound: usize, origin: u64) -> Self {
        Self {
            sent: VecDeque::new(),
            kind,
            bound: u32::try_from(bound).unwrap_or(u32::MAX),
            origin,
            last_tag: 0,
            has_wrapped: false,
            held: false,
            known_to: Offset::BEGINNING,
        }
    }

    pub(crate) fn is_tagged(&self) -> bool {
        matches!(self.kind, Kind::Tagged { .. })
    }

    /// Whether exactly once must be durable.
    pub(crate) fn is_durable(&self) -> bool {
        self.kind == Kind::Tagged { durable: true }
    }

    /// It goes on with what a former owner has left in the log.
    pub(crate) fn outlives(&mut self) {
        if self.is_tagged() {
            self.kind = Kind::Tagged { durable: true };
        }
    }

    pub(crate) fn origin(&self) -> u64 {
        self.origin
    }

    /// Whether the client has as much outstanding as it may. What is to be sent takes no place before it is sent.
    pub(crate) fn is_full(&self) -> bool {
        self.sent.len() >= self.bound as usize && self.outstanding() >= self.bound as usize
    }

    /// How many deliveries the client has, and has not acknowledged for good.
    pub(crate) fn outstanding(&self) -> usize {
        // What is done only waits for reading to pass it.
        self.sent.iter().filter(|sent| sent.is_out() && sent.stage != Stage::Done).count()
    }

    /// How many more the client may have.
    pub(crate) fn room(&self) -> usize {
        (self.bound as usize).saturating_sub(self.outstanding())
    }

    /// Whether a tag may be made durable ahead of its turn.
    pub(crate) fn may_reserve(&self) -> bool {
        self.sent.len() < self.bound as usize
    }

    /// Whether it is full, apart from so many deliveries that are still to be sent again.
    pub(crate) fn is_full_but_for(&self, waiting: usize) -> bool {
        let is_over = self.sent.len() > self.bound as usize;
        let under_way = || self.sent.iter().filter(|sent| sent.stage != Stage::Done).count();
        is_over && under_way().saturating_sub(waiting) >= self.bound as usize
    }

    /// Whether nothing is sent now, for a subscription's sake.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// A subscription waits to be confirmed, or none does. Who acknowledges one by one may get its messages before
    /// (MQTT-5.0 §3.8.4).
    pub(crate) fn hold(&mut self, is_unconfirmed: bool) {
        self.held = is_unconfirmed && !self.is_tagged();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sent> {
        self.sent.iter()
    }

    pub(crate) fn holds(&self, partition: usize, offset: Offset) -> bool {
        self.sent.iter().any(|sent| sent.offset == offset && usize::from(sent.partition) == partition)
    }

    /// A tag that no delivery has.
    pub(crate) fn next_tag(&mut self) -> NonZeroU16 {
        loop {
            self.last_tag = self.last_tag.wrapping_add(1);
            self.has_wrapped |= self.last_tag == 0;
            let is_used = || self.sent.iter().any(|sent| sent.tag == self.last_tag);
            if let Some(tag) = NonZeroU16::new(self.last_tag)
                && !(self.has_wrapped && is_used())
            {
                return tag;
            }
        }
    }

    /// Notes a delivery.
    pub(crate) fn push(&mut self, sent: Sent) {
        self.sent.push_back(sent);
    }

    /// What a group gives to others, that was sent at least once. It goes, and so does what is to be sent, unless it is
    /// the session's own as well.
    pub(crate) fn take_back(&mut self, is_shared: impl Fn(Offset) -> bool, keeps: bool) -> Vec<Offset> {
        let goes = |sent: &Sent| sent.stage == Stage::Sent && !sent.retained && is_shared(sent.offset);
        let stays = |sent: &Sent| sent.is_out() || sent.retained || !is_shared(sent.offset);
        let taken = self.sent.iter().filter(|sent| goes(sent)).map(|sent| sent.offset).collect();
        self.sent.retain(|sent| keeps || !goes(sent) && stays(sent));
        taken
    }

    /// How many deliveries of a group's end with the session, if it ends.
    pub(crate) fn ending(&self, is_shared: impl Fn(Offset) -> bool) -> usize {
        let ends = |stage| matches!(stage, Stage::SentOnce | Stage::Received | Stage::Noting);
        self.sent.iter().filter(|sent| ends(sent.stage) && !sent.retained && is_shared(sent.offset)).count()
    }

    /// Notes a delivery whose tag must be durable first.
    pub(crate) fn reserve(&mut self, partition: usize, offset: Offset, retained: bool) {
        let (tag, partition) = (self.next_tag().get(), partition as u16);
        self.known_to = self.known_to.max(offset);
        self.push(Sent { offset, partition, tag, stage: Stage::Wanted, retained });
    }

    /// What is to be sent may not come about, or not in this order: it gets a tag again when reading comes to it.
    pub(crate) fn make_room(&mut self) {
        self.sent.retain(Sent::is_out);
        self.shrink();
    }

    /// Reading has come to a record: what was to be sent before it never came about.
    pub(crate) fn come_to(&mut self, partition: usize, offset: Offset) {
        let is_passed = |sent: &Sent| usize::from(sent.partition) == partition && sent.offset < offset;
        self.sent.retain(|sent| sent.is_out() || sent.retained || !is_passed(sent));
    }

    /// A delivery that had a tag goes out without one.
    pub(crate) fn give_back(&mut self, tag: u16) {
        self.sent.retain(|sent| sent.tag != tag);
    }

    /// The delivery of a record that reading has come to, if it stands here already; if it was sent as a retained
    /// message, only one that is still to be sent.
    pub(crate) fn known(&self, partition: usize, offset: Offset, retained: bool) -> Option<Sent> {
        if offset > self.known_to {
            return None;
        }
        let is_it = |s: &&Sent| s.offset == offset && usize::from(s.partition) == partition && s.retained == retained;
        self.sent.iter().filter(|sent| !(retained && sent.is_out())).find(is_it).copied()
    }

    /// Reading has passed a delivery that was done before.
    pub(crate) fn passed(&mut self, sent: Sent) {
        if sent.stage == Stage::Done {
            self.sent.retain(|other| *other != sent);
        }
    }

    /// Moves a delivery on; false if there is none of this tag.
    pub(crate) fn set(&mut self, tag: u16, stage: Stage) -> bool {
        let found = self.sent.iter_mut().find(|sent| sent.tag == tag);
        found.map(|sent| sent.stage = stage).is_some()
    }

    /// The stage of a delivery.
    pub(crate) fn stage(&self, tag: u16) -> Option<Stage> {
        self.sent.iter().find(|sent| sent.tag == tag).map(|sent| sent.stage)
    }

    /// A delivery is acknowledged for good. Where reading comes to it yet, it stays until then.
    pub(crate) fn done(&mut self, tag: u16, reached: impl Fn(u16, Offset) -> bool) {
        let Some(sent) = self.sent.iter_mut().find(|sent| sent.tag == tag) else { return };
        sent.stage = Stage::Done;
        let known_to = self.known_to;
        let comes = |sent: &Sent| !sent.retained && sent.offset <= known_to && !reached(sent.partition, sent.offset);
        self.sent.retain(|sent| sent.stage != Stage::Done || comes(sent));
        self.shrink();
    }

    /// The first `n` deliveries are acknowledged.
    pub(crate) fn drain(&mut self, n: usize) {
        self.sent.drain(..n);
        self.shrink();
    }

    fn shrink(&mut self) {
        if self.sent.is_empty() {
            self.sent.shrink_to(8);
        }
    }

    /// Whether something waits to be durable.
    pub(crate) fn is_urgent(&self) -> bool {
        self.is_durable() && self.sent.iter().any(|sent| matches!(sent.stage, Stage::Wanted | Stage::Received))
    }

    /// A record of the session is being written, with all that stands here.
    pub(crate) fn writing(&mut self) {
        self.move_on(|stage| match stage {
            Stage::Wanted => Stage::Saving,
            Stage::Received => Stage::Noting,
            other => other,
        });
    }

    /// The record is durable, or was refused.
    pub(crate) fn written(&mut self, is_durable: bool) {
        self.move_on(|stage| match stage {
            Stage::Saving => {
                if is_durable {
                    Stage::Saved
                } else {
                    Stage::Wanted
                }
            }
            Stage::Noting => {
                if is_durable {
                    Stage::Released
                } else {
                    Stage::Received
                }
            }
            other => other,
        });
    }

    fn move_on(&mut self, next: impl Fn(Stage) -> Stage) {
        if self.is_durable() {
            self.sent.iter_mut().for_each(|sent| sent.stage = next(sent.stage));
        }
    }

    /// All of it, for the session's record.
    pub(crate) fn state(&self) -> Vec<SentState> {
        if self.is_tagged() { self.sent.iter().map(Sent::state).collect() } else { Vec::new() }
    }

    /// Takes over what a former owner has sent.
    pub(crate) fn restore(&mut self, states: &[SentState]) {
        self.sent = states.iter().map(Sent::of).collect();
        self.last_tag = states.last().map_or(0, |last| last.tag);
        // Tags of long ago may be among them.
        self.has_wrapped = !self.sent.is_empty();
        self.known_to = self.sent.iter().map(|sent| sent.offset).max().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(offset: u64, tag: u16, stage: Stage) -> Sent {
        Sent { offset: Offset(offset), partition: 0, tag, stage, retained: false }
    }

    #[test]
    fn a_delivery_is_small() {
        assert!(size_of::<Sent>() <= 16, "{}", size_of::<Sent>());
    }

    #[test]
    fn tags_come_round_and_none_is_used_twice() {
        let mut window = Window::new(Kind::Tagged { durable: false }, 10, 0);
        window.push(sent(1, 2, Stage::Sent));
        window.last_tag = u16::MAX - 1;
        let tags: Vec<u16> = (0..3).map(|_| window.next_tag().get()).collect();
        assert_eq!(tags, [u16::MAX, 1, 3]);
    }

    #[test]
    fn what_is_acknowledged_before_reading_comes_to_it_stays_until_then() {
        let mut window = Window::new(Kind::Tagged { durable: true }, 10, 0);
        window.restore(&[sent(5, 1, Stage::SentOnce).state()]);
        window.done(1, |_, offset| offset <= Offset(3));
        let known = window.known(0, Offset(5), false).unwrap();
        assert_eq!((known.stage, window.state()[0].stage), (Stage::Done, 3));
        window.passed(known);
        assert_eq!(window.len(), 0);
    }

    #[test]
    fn exactly_once_waits_until_it_is_durable() {
        let mut window = Window::new(Kind::Tagged { durable: true }, 10, 0);
        window.reserve(0, Offset(7), false);
        assert!(window.is_urgent());
        window.writing();
        window.written(false);
        assert!(window.is_urgent(), "the log refused it");
        window.writing();
        window.written(true);
        assert_eq!(window.stage(1), Some(Stage::Saved));
        window.set(1, Stage::Received);
        assert!(window.is_urgent());
    }
}
