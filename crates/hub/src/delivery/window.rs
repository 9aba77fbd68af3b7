//! The deliveries of a session that aren't acknowledged, in sending order, bounded (RULES 11).
//!
//! One window serves two kinds of acknowledgement: by a cursor, which covers all deliveries before it, or one by one,
//! by tags. Exactly once needs two durable steps (RULES 12): the tag before the delivery is sent, and the receipt
//! before it is released. The stages are here; sessions know when they are durable.

use std::num::NonZeroU16;

use everywire_base::cursor::Offset;
use everywire_base::system::SentState;
use smallvec::SmallVec;

/// The kind of acknowledgement of deliveries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Up to a cursor.
    UpTo,
    /// One by one, by their tags; `durable` if the session outlives its connection.
    Tagged { durable: bool },
}

/// The stage of a delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// At least once: sent.
    Sent,
    /// Exactly once: its tag isn't durable yet.
    Wanted,
    /// The record that makes the tag durable is under way.
    Saving,
    /// It may be sent.
    Saved,
    /// Exactly once: sent.
    SentOnce,
    /// The peer has it; that isn't durable yet.
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
    /// The number by which it is acknowledged; 0 where that is done up to a cursor.
    pub(crate) tag: u16,
    pub(crate) stage: Stage,
    /// Sent as a retained message, outside the order.
    pub(crate) retained: bool,
}

impl Sent {
    /// A delivery that is acknowledged up to its cursor.
    pub(crate) fn up_to(partition: usize, offset: Offset) -> Self {
        Self { offset, partition: partition as u16, tag: 0, stage: Stage::Sent, retained: false }
    }

    /// The delivery for a session's record; a stage that isn't durable yet counts as the one that it becomes with the
    /// record.
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

    /// Whether it was handed over, so that it isn't again when reading comes to it.
    pub(super) fn is_out(&self) -> bool {
        !matches!(self.stage, Stage::Wanted | Stage::Saving | Stage::Saved)
    }

    /// The `QoS` at which it is sent again.
    pub(super) fn qos(&self) -> u8 {
        if self.stage == Stage::Sent { 1 } else { 2 }
    }
}

/// The deliveries of a session that are not acknowledged. An empty window owns no memory.
#[derive(Debug)]
pub(crate) struct Window {
    /// The deliveries; none while nothing is under way.
    sent: Option<Box<UnderWay>>,
    /// The hash of its session, which its messages carry.
    origin: u64,
    bound: u32,
    last_tag: u16,
    kind: Kind,
    /// Whether a subscription waits to be confirmed, before which nothing is sent.
    held: bool,
}

/// The number of deliveries that take no memory besides: a client that acknowledges each message at once empties its
/// window each time.
const FEW: usize = 4;

/// The deliveries that are under way.
#[derive(Debug, Default)]
struct UnderWay {
    sent: SmallVec<[Sent; FEW]>,
    /// Deliveries up to here may stand in the window before reading comes to them.
    known_to: Offset,
    /// Whether tags have come round since, so that one may still be in use.
    has_wrapped: bool,
}

impl Window {
    pub(crate) fn new(kind: Kind, bound: usize, origin: u64) -> Self {
        Self { sent: None, origin, bound: u32::try_from(bound).unwrap_or(u32::MAX), last_tag: 0, kind, held: false }
    }

    fn sent(&self) -> &[Sent] {
        self.sent.as_ref().map_or(&[], |under_way| &under_way.sent)
    }

    fn known_to(&self) -> Offset {
        self.sent.as_ref().map_or(Offset::BEGINNING, |under_way| under_way.known_to)
    }

    /// Keeps the deliveries that are meant, and frees an empty list.
    fn retain(&mut self, keeps: impl Fn(&Sent) -> bool) {
        if let Some(under_way) = &mut self.sent {
            under_way.sent.retain(|sent| keeps(sent));
            if under_way.sent.is_empty() {
                self.sent = None;
            }
        }
    }

    fn find_mut(&mut self, tag: u16) -> Option<&mut Sent> {
        self.sent.as_mut()?.sent.iter_mut().find(|sent| sent.tag == tag)
    }

    pub(crate) fn is_tagged(&self) -> bool {
        matches!(self.kind, Kind::Tagged { .. })
    }

    /// Whether the steps of exactly once must be durable.
    pub(crate) fn is_durable(&self) -> bool {
        self.kind == Kind::Tagged { durable: true }
    }

    /// Makes the window durable: it goes on with the deliveries that a former owner has left in the log.
    pub(crate) fn outlives(&mut self) {
        if self.is_tagged() {
            self.kind = Kind::Tagged { durable: true };
        }
    }

    pub(crate) fn origin(&self) -> u64 {
        self.origin
    }

    /// Whether the client has as many deliveries outstanding as it may. A delivery takes no place before it is sent.
    pub(super) fn is_full(&self) -> bool {
        self.sent().len() >= self.bound as usize && self.outstanding() >= self.bound as usize
    }

    /// The number of deliveries that the client has, and has not acknowledged for good.
    pub(crate) fn outstanding(&self) -> usize {
        // A delivery that is done only waits until reading passes it.
        self.sent().iter().filter(|sent| sent.is_out() && sent.stage != Stage::Done).count()
    }

    /// The number of further deliveries that the client may have.
    pub(crate) fn room(&self) -> usize {
        (self.bound as usize).saturating_sub(self.outstanding())
    }

    /// Whether a tag may be made durable ahead of its turn.
    pub(super) fn may_reserve(&self) -> bool {
        self.sent().len() < self.bound as usize
    }

    /// Whether it is full, apart from this many deliveries that are still to be sent again.
    pub(super) fn is_full_but_for(&self, waiting: usize) -> bool {
        let is_over = self.sent().len() > self.bound as usize;
        let under_way = || self.sent().iter().filter(|sent| sent.stage != Stage::Done).count();
        is_over && under_way().saturating_sub(waiting) >= self.bound as usize
    }

    /// Whether nothing is sent now, since a subscription waits to be confirmed.
    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    /// Notes whether a subscription waits to be confirmed. A client that acknowledges one by one may get its messages
    /// before that (MQTT-5.0 §3.8.4).
    pub(crate) fn hold(&mut self, is_unconfirmed: bool) {
        self.held = is_unconfirmed && !self.is_tagged();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.sent().len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Sent> {
        self.sent().iter()
    }

    pub(crate) fn holds(&self, partition: usize, offset: Offset) -> bool {
        self.sent().iter().any(|sent| sent.offset == offset && usize::from(sent.partition) == partition)
    }

    /// A tag that no delivery has.
    pub(super) fn next_tag(&mut self) -> NonZeroU16 {
        loop {
            self.last_tag = self.last_tag.wrapping_add(1);
            let last = self.last_tag;
            let is_used = self.sent.as_mut().is_some_and(|under_way| {
                under_way.has_wrapped |= last == 0;
                under_way.has_wrapped && under_way.sent.iter().any(|sent| sent.tag == last)
            });
            if let Some(tag) = NonZeroU16::new(last).filter(|_| !is_used) {
                return tag;
            }
        }
    }

    /// Notes a delivery.
    pub(crate) fn push(&mut self, sent: Sent) {
        self.sent.get_or_insert_default().sent.push(sent);
    }

    /// The deliveries at least once that a group gives to others. They leave the window, and so do those still to be
    /// sent, unless `keeps` is set: another filter of the session takes them too.
    pub(crate) fn take_back(&mut self, is_shared: impl Fn(Offset) -> bool, keeps: bool) -> Vec<Offset> {
        let goes = |sent: &Sent| sent.stage == Stage::Sent && !sent.retained && is_shared(sent.offset);
        let stays = |sent: &Sent| sent.is_out() || sent.retained || !is_shared(sent.offset);
        let taken = self.sent().iter().filter(|sent| goes(sent)).map(|sent| sent.offset).collect();
        self.retain(|sent| keeps || !goes(sent) && stays(sent));
        taken
    }

    /// The number of a group's deliveries that end with the session, if it ends.
    pub(crate) fn ending(&self, is_shared: impl Fn(Offset) -> bool) -> usize {
        let ends = |stage| matches!(stage, Stage::SentOnce | Stage::Received | Stage::Noting);
        self.sent().iter().filter(|sent| ends(sent.stage) && !sent.retained && is_shared(sent.offset)).count()
    }

    /// Notes a delivery whose tag must be durable first.
    pub(super) fn reserve(&mut self, partition: usize, offset: Offset, retained: bool) {
        let (tag, partition) = (self.next_tag().get(), partition as u16);
        self.push(Sent { offset, partition, tag, stage: Stage::Wanted, retained });
        if let Some(under_way) = &mut self.sent {
            under_way.known_to = under_way.known_to.max(offset);
        }
    }

    /// Drops the deliveries still to be sent: they may not come about, or not in this order. They get a tag again when
    /// reading comes to them.
    pub(super) fn make_room(&mut self) {
        self.retain(Sent::is_out);
    }

    /// Drops the deliveries that were to be sent before a record that reading has come to: they never came about.
    pub(super) fn come_to(&mut self, partition: usize, offset: Offset) {
        let is_passed = |sent: &Sent| usize::from(sent.partition) == partition && sent.offset < offset;
        self.retain(|sent| sent.is_out() || sent.retained || !is_passed(sent));
    }

    /// Gives back the tag of a delivery that goes out without one.
    pub(super) fn give_back(&mut self, tag: u16) {
        self.retain(|sent| sent.tag != tag);
    }

    /// The delivery of a record that reading has come to, if it stands here already; if it was sent as a retained
    /// message, only one that is still to be sent.
    pub(crate) fn known(&self, partition: usize, offset: Offset, retained: bool) -> Option<Sent> {
        if offset > self.known_to() {
            return None;
        }
        let is_it = |s: &&Sent| s.offset == offset && usize::from(s.partition) == partition && s.retained == retained;
        self.sent().iter().filter(|sent| !(retained && sent.is_out())).find(is_it).copied()
    }

    /// Drops a delivery that was done before reading passed it.
    pub(super) fn passed(&mut self, sent: Sent) {
        if sent.stage == Stage::Done {
            self.retain(|other| *other != sent);
        }
    }

    /// Moves a delivery on; false if no delivery has this tag.
    pub(crate) fn set(&mut self, tag: u16, stage: Stage) -> bool {
        self.find_mut(tag).map(|sent| sent.stage = stage).is_some()
    }

    /// The stage of a delivery.
    pub(crate) fn stage(&self, tag: u16) -> Option<Stage> {
        self.sent().iter().find(|sent| sent.tag == tag).map(|sent| sent.stage)
    }

    /// Marks a delivery as acknowledged for good. If reading is still to come to it, it stays until then.
    pub(crate) fn done(&mut self, tag: u16, reached: impl Fn(u16, Offset) -> bool) {
        let Some(sent) = self.find_mut(tag) else { return };
        sent.stage = Stage::Done;
        let known_to = self.known_to();
        let comes = |sent: &Sent| !sent.retained && sent.offset <= known_to && !reached(sent.partition, sent.offset);
        self.retain(|sent| sent.stage != Stage::Done || comes(sent));
    }

    /// Drops the first `n` deliveries, which are acknowledged.
    pub(crate) fn drain(&mut self, n: usize) {
        if let Some(under_way) = &mut self.sent {
            under_way.sent.drain(..n);
        }
        self.retain(|_| true);
    }

    /// Whether something waits to be durable.
    pub(crate) fn is_urgent(&self) -> bool {
        self.is_durable() && self.sent().iter().any(|sent| matches!(sent.stage, Stage::Wanted | Stage::Received))
    }

    /// Notes that a record of the session is being written, with all deliveries that stand here.
    pub(crate) fn writing(&mut self) {
        self.move_on(|stage| match stage {
            Stage::Wanted => Stage::Saving,
            Stage::Received => Stage::Noting,
            other => other,
        });
    }

    /// Notes that the record is durable, or was refused.
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
            self.sent.iter_mut().flat_map(|it| &mut it.sent).for_each(|sent| sent.stage = next(sent.stage));
        }
    }

    /// All deliveries, for the session's record.
    pub(crate) fn state(&self) -> Vec<SentState> {
        if self.is_tagged() { self.sent().iter().map(Sent::state).collect() } else { Vec::new() }
    }

    /// Takes over the deliveries of a former owner.
    pub(crate) fn restore(&mut self, states: &[SentState]) {
        // Tags of long ago may be among them.
        let known_to = states.iter().map(|state| Offset(state.offset)).max().unwrap_or_default();
        let under_way = UnderWay { sent: states.iter().map(Sent::of).collect(), known_to, has_wrapped: true };
        self.sent = Some(Box::new(under_way)).filter(|under_way| !under_way.sent.is_empty());
        self.last_tag = states.last().map_or(0, |last| last.tag);
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
        assert!(size_of::<Window>() <= 24, "{}", size_of::<Window>());
        assert!(size_of::<UnderWay>() <= 96, "{}", size_of::<UnderWay>());
    }

    #[test]
    fn a_few_deliveries_are_one_piece_of_memory() {
        let mut window = Window::new(Kind::Tagged { durable: false }, 10, 0);
        let is_one_piece = |window: &Window| window.sent.as_ref().is_some_and(|under_way| !under_way.sent.spilled());
        for tag in 1..=FEW as u16 {
            window.push(sent(tag.into(), tag, Stage::Sent));
            assert!(is_one_piece(&window), "{tag}");
        }
        (1..=FEW as u16).for_each(|tag| window.done(tag, |_, _| true));
        assert!(window.sent.is_none(), "and none when all are acknowledged");
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
        assert!(window.sent.is_none(), "an empty window owns nothing");
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
