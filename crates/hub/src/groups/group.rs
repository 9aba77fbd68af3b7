//! One group: its members over time, and the messages that members of this worker read besides those that they are
//! chosen for.

use std::collections::VecDeque;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::id::Slot;

use crate::floor::Floor;

/// Changes of a group that are remembered for readers who are behind them.
const CHANGES: usize = 256;

/// Ranges that are remembered of members of other nodes.
const BEQUESTS: usize = 4096;

/// A member: its seat, which is a worker of a life of a node, and its place there. All nodes sort them alike.
pub(super) type MemberId = (u64, Slot);

#[derive(Debug, Default)]
pub(super) struct Group {
    /// The members from above each offset on.
    changes: VecDeque<(Offset, Vec<MemberId>)>,
    /// The chosen members up to here aren't known any more.
    forgotten: Offset,
    /// Members of this worker.
    pub(super) here: Vec<Here>,
    /// The messages that went to members of other nodes, as long as those may not have heard of it.
    bequests: VecDeque<Bequest>,
    /// The messages that wait for a member to come: ranges, and all above the offset.
    pub(super) waiting: Option<(Vec<Range>, Offset)>,
    /// The time until which a member may come back.
    pub(super) until: UnixMillis,
    /// The offset up to which no member of this life of the node has been given anything.
    begun: Option<Offset>,
}

/// Messages that a member of another node is to read besides, said by the record at `at`.
#[derive(Debug)]
struct Bequest {
    heir: MemberId,
    at: Offset,
    ranges: Vec<Range>,
}

/// A member of this worker.
#[derive(Debug)]
pub(super) struct Here {
    pub(super) slot: Slot,
    /// The ranges that it reads besides the messages that it is chosen for.
    pub(super) ranges: Vec<Range>,
    /// The ranges that it has read, as far as they may not be acknowledged.
    pub(super) read: Vec<Range>,
    /// The offset up to which it reads nothing by choice: it has read those messages already, or wasn't there.
    pub(super) had: Offset,
    pub(super) joined: Offset,
}

impl Here {
    pub(super) fn new(slot: Slot, ranges: Vec<Range>, joined: Offset) -> Self {
        Self { slot, ranges, read: Vec::new(), had: joined, joined }
    }

    /// Takes up the ranges that another member has left. This one has read everything up to `current`, which it doesn't
    /// read again, and has nothing unacknowledged below `first`.
    pub(super) fn take_up(&mut self, ranges: Vec<Range>, current: Offset, first: Offset) {
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

/// Messages above `after` and up to `up_to`: all, or those that a member was chosen for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub(super) after: Offset,
    pub(super) up_to: Offset,
    pub(super) of: Option<MemberId>,
}

impl Range {
    pub(super) fn holds(&self, offset: Offset, chosen: &Chosen) -> bool {
        self.after < offset && offset <= self.up_to && self.of.is_none_or(|of| chosen.may_be(of))
    }
}

/// The member that was chosen for a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Chosen {
    Nobody,
    Somebody(MemberId),
    /// It is too long ago: better twice than never.
    Forgotten,
}

impl Chosen {
    pub(super) fn somebody(self) -> Option<MemberId> {
        if let Chosen::Somebody(member) = self { Some(member) } else { None }
    }

    pub(super) fn may_be(&self, member: MemberId) -> bool {
        *self == Chosen::Somebody(member) || *self == Chosen::Forgotten
    }
}

/// Spreads offsets evenly (the finalizer of `SplitMix64`).
fn spread(offset: Offset) -> u64 {
    let mut x = offset.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub(super) fn choose(members: &[MemberId], offset: Offset) -> Option<MemberId> {
    let at = spread(offset).checked_rem(members.len() as u64)?;
    members.get(at as usize).copied()
}

impl Group {
    /// A group that may have had members before, of whom this node knows nothing.
    pub(super) fn known_from(at: Offset) -> Self {
        Self { forgotten: at, ..Self::default() }
    }

    pub(super) fn members(&self) -> &[MemberId] {
        self.changes.back().map_or(&[], |(_, members)| members)
    }

    pub(super) fn chosen(&self, offset: Offset) -> Chosen {
        if offset <= self.forgotten {
            return Chosen::Forgotten;
        }
        let at = self.changes.partition_point(|(from, _)| *from < offset);
        let members = at.checked_sub(1).and_then(|at| self.changes.get(at)).map_or(&[][..], |(_, members)| members);
        choose(members, offset).map_or(Chosen::Nobody, Chosen::Somebody)
    }

    /// A member was there before this node knew of it: nobody can say here which messages up to this offset it was
    /// chosen for.
    pub(super) fn forget(&mut self, up_to: Offset) {
        self.forgotten = self.forgotten.max(up_to);
    }

    pub(super) fn change(&mut self, from: Offset, change: impl FnOnce(&mut Vec<MemberId>)) {
        let mut members = self.members().to_vec();
        change(&mut members);
        self.changes.push_back((from, members));
        if self.changes.len() > CHANGES {
            self.changes.pop_front();
            let known = self.changes.front().map_or(from, |(first, _)| *first);
            self.forget(known);
        }
    }

    /// Welcomes a member, which may know the state that a former life has left. Gives the ranges that it is to read
    /// besides the messages that it will be chosen for.
    pub(super) fn welcome(
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
    pub(super) fn is_over(&self, now: UnixMillis) -> bool {
        self.members().is_empty() && self.until <= now
    }

    /// Keeps the ranges that a member leaves for the first member that comes.
    pub(super) fn keep(&mut self, ranges: Vec<Range>, from: Offset) {
        match &mut self.waiting {
            Some((waiting, _)) => waiting.extend(ranges),
            None => self.waiting = Some((ranges, from)),
        }
    }

    /// Remembers what a member of another node is to read besides, until that node has heard of it.
    pub(super) fn bequeath(&mut self, floor: &Floor, heir: MemberId, at: Offset, ranges: Vec<Range>) {
        if ranges.is_empty() {
            return;
        }
        self.bequests.push_back(Bequest { heir, at, ranges });
        self.bequests.retain(|bequest| floor.heard(bequest.heir.0).is_some_and(|heard| heard < bequest.at));
        let mut count: usize = self.bequests.iter().map(|bequest| bequest.ranges.len()).sum();
        while count > BEQUESTS {
            count -= self.bequests.pop_front().map_or(count, |oldest| oldest.ranges.len());
        }
    }

    /// Takes out the ranges that went to members of a node that is gone.
    pub(super) fn inheritance(&mut self, is_gone: impl Fn(MemberId) -> bool) -> Vec<Range> {
        let all = std::mem::take(&mut self.bequests).into_iter();
        let (gone, others): (Vec<Bequest>, _) = all.partition(|bequest| is_gone(bequest.heir));
        self.bequests = others.into();
        gone.into_iter().flat_map(|bequest| bequest.ranges).collect()
    }

    pub(super) fn here(&mut self, slot: Slot) -> Option<&mut Here> {
        self.here.iter_mut().find(|here| here.slot == slot)
    }
}
