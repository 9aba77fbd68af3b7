//! Shared subscriptions (MQTT-5.0 §4.8.2): each message that a group's filter takes goes to one member.
//!
//! Who is a member stands in the log: records that pass on the topic `$share/GROUP/FILTER` say who joins and who leaves.
//! All workers read them in the same order, so that every hub knows by itself who gets which message: it is drawn by the
//! message's offset among those who were members there. Nobody asks anybody, and nobody waits.
//!
//! * A member that joins gets messages from above its record.
//! * A member that leaves says what of it is left: what it was drawn for and hasn't read, and what it hasn't acknowledged
//!   at `QoS` 1. One of the others goes back and reads that too. `QoS` 2 stays with its session (MQTT-4.8.2-4, -5).
//! * Where nobody is left, but a session that may come back, messages wait for who comes first.
//! * What waits is also a retained record, for another life of the node. Of what was under way when it died only sessions
//!   know: each goes on from where it stood, if nobody has before. So nothing of theirs is lost, and some may come again.

use std::collections::{BTreeMap, VecDeque};

use everywire_base::ask::Subscribe;
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::Offset;
use everywire_base::id::{AskId, Slot};
use everywire_base::system::GroupState;
use everywire_base::topic::Topic;

use crate::insist::Insisted;

/// Changes of a group that are remembered for readers who are behind them.
const CHANGES: usize = 256;
/// Up to so many groups none is looked for that is over.
const FEW: usize = 64;

/// A member: its worker, and its place there.
pub(crate) type Member = (u16, Slot);

/// All groups that somebody of this life of the node is a member of, or was and may come back to.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) all: BTreeMap<Topic, Group>,
    /// The groups that connections of this worker are members of.
    pub(crate) of: BTreeMap<Slot, Vec<Topic>>,
    /// Connections of this worker that have asked to join.
    pub(crate) joining: VecDeque<Joining>,
    pub(crate) insisted: Insisted,
    /// With so many groups those are looked for that are over.
    full_at: usize,
}

#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) slot: Slot,
    pub(crate) topic: Topic,
    /// What is answered, and to which ask; a session's own filters are not answered.
    pub(crate) ask: Option<AskId>,
    pub(crate) subscribe: Subscribe,
    /// What a former life of the node has left, as far as its session knows it, or the store.
    pub(crate) past: Option<GroupState>,
    /// The read of the store that tells.
    pub(crate) reading: Reading,
}

/// How far somebody who is about to join has asked the store for what waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// The answer is on its way. It counts if the store has come as far as this.
    Asked {
        ask: AskId,
        applied: Offset,
        /// Whether it is the second look: what is found now counts.
        again: bool,
    },
    /// It asks again then.
    Waits { until: Monotonic, again: bool },
    /// There is nothing to ask, or all is known.
    Over,
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The members from above each offset on.
    changes: VecDeque<(Offset, Vec<Member>)>,
    /// Who was drawn up to here isn't known any more.
    forgotten: Offset,
    /// Members of this worker.
    pub(crate) here: Vec<Here>,
    /// What waits for somebody to come: ranges, and all above the offset.
    pub(crate) waiting: Option<(Vec<Range>, Offset)>,
    /// Until then somebody may come back.
    pub(crate) until: UnixMillis,
    /// Nobody of this life of the node has been given what lies below.
    begun: Option<Offset>,
}

/// A member of this worker.
#[derive(Debug)]
pub(crate) struct Here {
    pub(crate) slot: Slot,
    /// What it reads besides what it is drawn for.
    pub(crate) ranges: Vec<Range>,
    /// What it has read of them, as far as it may not be acknowledged.
    read: Vec<Range>,
    /// What it was drawn for up to here it has read already, or it wasn't there.
    pub(crate) had: Offset,
    joined: Offset,
}

impl Here {
    pub(crate) fn new(slot: Slot, ranges: Vec<Range>, joined: Offset) -> Self {
        Self { slot, ranges, read: Vec::new(), had: joined, joined }
    }

    /// Takes up what another has left, having read everything up to `current` and nothing unacknowledged below `first`.
    /// What it has read it doesn't read again.
    pub(crate) fn take_up(&mut self, ranges: Vec<Range>, current: Offset, first: Offset) {
        let read = self.ranges.iter().filter(|range| range.after < current);
        self.read.extend(read.map(|range| Range { up_to: range.up_to.min(current), ..*range }));
        self.read.retain(|range| range.up_to >= first);
        self.ranges.retain(|range| range.up_to > current);
        self.ranges.iter_mut().for_each(|range| range.after = range.after.max(current));
        if ranges.iter().any(|range| range.after < current) {
            self.had = self.had.max(current);
        }
        self.ranges.extend(ranges);
    }
}

/// Messages above `after` and up to `up_to`, all or those of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    pub(crate) after: Offset,
    pub(crate) up_to: Offset,
    pub(crate) of: Option<Member>,
}

impl Range {
    fn holds(&self, offset: Offset, drawn: &Drawn) -> bool {
        self.after < offset && offset <= self.up_to && self.of.is_none_or(|of| drawn.may_be(of))
    }
}

/// Who was drawn for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Drawn {
    Nobody,
    Somebody(Member),
    /// It is too long ago: better twice than never.
    Forgotten,
}

impl Drawn {
    fn may_be(&self, member: Member) -> bool {
        *self == Drawn::Somebody(member) || *self == Drawn::Forgotten
    }
}

/// Spreads offsets evenly (the finalizer of `SplitMix64`).
fn spread(offset: Offset) -> u64 {
    let mut x = offset.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub(crate) fn draw(members: &[Member], offset: Offset) -> Option<Member> {
    let at = spread(offset).checked_rem(members.len() as u64)?;
    members.get(at as usize).copied()
}

impl Group {
    pub(crate) fn members(&self) -> &[Member] {
        self.changes.back().map_or(&[], |(_, members)| members)
    }

    fn drawn(&self, offset: Offset) -> Drawn {
        if offset <= self.forgotten {
            return Drawn::Forgotten;
        }
        let at = self.changes.partition_point(|(from, _)| *from < offset);
        let members = at.checked_sub(1).and_then(|at| self.changes.get(at)).map_or(&[][..], |(_, members)| members);
        draw(members, offset).map_or(Drawn::Nobody, Drawn::Somebody)
    }

    pub(crate) fn change(&mut self, from: Offset, change: impl FnOnce(&mut Vec<Member>)) {
        let mut members = self.members().to_vec();
        change(&mut members);
        self.changes.push_back((from, members));
        if self.changes.len() > CHANGES {
            self.changes.pop_front();
            self.forgotten = self.changes.front().map_or(from, |(first, _)| *first);
        }
    }

    /// Somebody comes, and knows what a former life has left: what it is to read besides what it will be drawn for.
    pub(crate) fn welcome(
        &mut self,
        (at, time): (Offset, UnixMillis),
        past: Option<(Vec<Range>, Offset)>,
    ) -> Vec<Range> {
        let all = |after: Offset, up_to: Offset| Range { after, up_to, of: None };
        let is_first = self.begun.is_none();
        let mut ranges = Vec::new();
        if let Some((left, from)) = self.waiting.take().filter(|_| self.until > time) {
            ranges.extend(left);
            ranges.push(all(from, at));
            self.begun.get_or_insert(from);
        }
        let begun = *self.begun.get_or_insert(at);
        if let Some((left, since)) = past {
            ranges.extend(left.into_iter().filter(|_| is_first));
            ranges.extend((since < begun).then(|| all(since, begun)));
            self.begun = Some(begun.min(since));
        }
        ranges
    }

    /// Whether nobody is there, and nobody may come back.
    pub(crate) fn is_over(&self, now: UnixMillis) -> bool {
        self.members().is_empty() && self.until <= now
    }

    /// Has what a member leaves wait for whoever comes first, if somebody may.
    pub(crate) fn keep(&mut self, ranges: Vec<Range>, from: Offset) {
        match &mut self.waiting {
            Some((waiting, _)) => waiting.extend(ranges),
            None => self.waiting = Some((ranges, from)),
        }
    }

    pub(crate) fn here(&mut self, slot: Slot) -> Option<&mut Here> {
        self.here.iter_mut().find(|here| here.slot == slot)
    }
}

impl Groups {
    /// When something of them is due.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        let until = |joining: &Joining| match joining.reading {
            Reading::Waits { until, .. } => Some(until),
            _ => None,
        };
        self.joining.iter().filter_map(until).chain(self.insisted.deadline()).min()
    }

    /// The group of a topic; a new one takes the place of those that are over.
    pub(crate) fn reach(&mut self, topic: &Topic, now: UnixMillis) -> &mut Group {
        if self.all.len() >= self.full_at && !self.all.contains_key(topic) {
            self.all.retain(|_, group| !group.is_over(now));
            self.full_at = (self.all.len() * 2).max(FEW);
        }
        self.all.entry(topic.clone()).or_default()
    }

    /// Whether a member of this worker gets the message of this offset.
    pub(crate) fn takes(&self, topic: &Topic, member: Member, offset: Offset) -> bool {
        let Some(group) = self.all.get(topic) else { return false };
        let Some(here) = group.here.iter().find(|here| here.slot == member.1) else { return false };
        let drawn = group.drawn(offset);
        here.ranges.iter().any(|range| range.holds(offset, &drawn)) || (drawn.may_be(member) && offset > here.had)
    }

    /// Whether what a member of this worker was sent came by this group.
    pub(crate) fn gave(&self, topic: &Topic, member: Member, offset: Offset) -> bool {
        let Some(group) = self.all.get(topic) else { return false };
        let Some(here) = group.here.iter().find(|here| here.slot == member.1) else { return false };
        let drawn = group.drawn(offset);
        let mut ranges = here.ranges.iter().chain(&here.read);
        ranges.any(|range| range.holds(offset, &drawn)) || (drawn.may_be(member) && offset > here.joined)
    }

    /// The connection of this worker that is drawn for a message; `None` if it is another's.
    pub(crate) fn drawn(&self, topic: &Topic, worker: u16, offset: Offset) -> Option<u32> {
        let group = self.all.get(topic)?;
        let Drawn::Somebody((of, slot)) = group.drawn(offset) else { return None };
        let is_here = of == worker && group.here.iter().any(|here| here.slot == slot);
        is_here.then_some(slot.index)
    }

    /// Filters that a connection is about to share.
    pub(crate) fn joining(&self, slot: Slot) -> impl Iterator<Item = &Subscribe> {
        self.joining.iter().filter(move |joining| joining.slot == slot).map(|joining| &joining.subscribe)
    }

    /// Takes out who is about to join, all of a connection or one group of it.
    pub(crate) fn take_joining(&mut self, slot: Slot, topic: Option<&Topic>) -> VecDeque<Joining> {
        if self.joining.is_empty() {
            return VecDeque::new();
        }
        let is_meant = |joining: &Joining| joining.slot == slot && topic.is_none_or(|topic| joining.topic == *topic);
        let (taken, others) = std::mem::take(&mut self.joining).into_iter().partition(is_meant);
        self.joining = others;
        taken
    }

    /// Takes out one that is about to join a group.
    pub(crate) fn take_one(&mut self, topic: &Topic, slot: Slot) -> Option<Joining> {
        let is_it = |joining: &Joining| joining.slot == slot && joining.topic == *topic;
        let place = self.joining.iter().position(is_it)?;
        self.joining.remove(place)
    }

    /// Whether what a connection is to read of a group only its session says.
    pub(crate) fn owes(&self, slot: Slot, has_crashed: bool, is_draining: bool) -> bool {
        has_crashed && self.joining(slot).next().is_some() || is_draining && self.of.contains_key(&slot)
    }

    /// Takes a connection out of a group: what it was there.
    pub(crate) fn take_here(&mut self, topic: &Topic, slot: Slot) -> Option<Here> {
        if let Some(topics) = self.of.get_mut(&slot) {
            topics.retain(|other| other != topic);
            if topics.is_empty() {
                self.of.remove(&slot);
            }
        }
        let group = self.all.get_mut(topic)?;
        let at = group.here.iter().position(|here| here.slot == slot)?;
        Some(group.here.swap_remove(at))
    }
}
