//! Shared subscriptions (MQTT-5.0 §4.8.2): each message that a group's filter takes goes to one member.
//!
//! Who is a member stands in the log: records that pass on the topic `$share/GROUP/FILTER` say who joins and who leaves.
//! All workers read them in the same order, so that every hub knows by itself who gets which message: it is drawn by the
//! message's offset among those who were members there. Nobody asks anybody, and nobody waits.
//!
//! * Whoever joins gets messages from above his record.
//! * Whoever leaves says what of his is left: what he was drawn for and hasn't read, and what he hasn't acknowledged at
//!   `QoS` 1. One of the others goes back and reads that too. `QoS` 2 stays with his session (MQTT-4.8.2-4, -5).
//! * Where nobody is left, but a session that may come back, messages wait for who comes first.
//! * Of a former life of the node nothing is known but what sessions say: whoever comes first goes on from where his
//!   stood, so that nothing is lost, and what others did since may come again.

use std::collections::{BTreeMap, VecDeque};

use everywire_base::ask::Subscribe;
use everywire_base::cursor::Offset;
use everywire_base::id::{AskId, Slot};
use everywire_base::topic::Topic;

/// Changes of a group that are remembered for readers who are behind them.
const CHANGES: usize = 256;

/// A member: its worker, and its place there.
pub(crate) type Member = (u16, Slot);

/// All groups that somebody of this life of the node is a member of, or was and may come back to.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) all: BTreeMap<Topic, Group>,
    /// Connections of this worker that have asked to join.
    pub(crate) joining: VecDeque<Joining>,
}

#[derive(Debug)]
pub(crate) struct Joining {
    pub(crate) slot: Slot,
    pub(crate) topic: Topic,
    /// What is answered, and to which ask; a session's own filters are not answered.
    pub(crate) ask: Option<AskId>,
    pub(crate) subscribe: Subscribe,
}

#[derive(Debug, Default)]
pub(crate) struct Group {
    /// The members from above each offset on.
    pub(crate) changes: VecDeque<(Offset, Vec<Member>)>,
    /// Members of this worker.
    pub(crate) here: Vec<Here>,
    /// What waits for somebody to come: ranges, and all above the offset.
    pub(crate) waiting: Option<(Vec<Range>, Offset)>,
    /// Until then somebody may come back, in milliseconds since 1970.
    pub(crate) until: u64,
    /// Where the first of this life began who went on from where his session stood.
    pub(crate) from: Option<Offset>,
}

/// A member of this worker.
#[derive(Debug)]
pub(crate) struct Here {
    pub(crate) slot: Slot,
    /// What it reads besides what it is drawn for.
    pub(crate) ranges: Vec<Range>,
    /// What it was drawn for up to here it has read before it went back.
    pub(crate) had: Offset,
}

/// Messages above `after` and up to `up_to`, all or those of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Range {
    pub(crate) after: Offset,
    pub(crate) up_to: Offset,
    pub(crate) of: Option<Member>,
}

impl Range {
    pub(crate) fn holds(&self, offset: Offset, drawn: Option<Member>) -> bool {
        self.after < offset && offset <= self.up_to && (self.of.is_none() || self.of == drawn)
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

    /// Who is drawn for a message.
    fn drawn(&self, offset: Offset) -> Option<Member> {
        let at = self.changes.partition_point(|(from, _)| *from < offset);
        let (_, members) = self.changes.get(at.saturating_sub(1))?;
        draw(members, offset)
    }

    pub(crate) fn change(&mut self, from: Offset, change: impl FnOnce(&mut Vec<Member>)) {
        let mut members = self.members().to_vec();
        change(&mut members);
        if self.changes.len() >= CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back((from, members));
    }

    pub(crate) fn here(&mut self, slot: Slot) -> Option<&mut Here> {
        self.here.iter_mut().find(|here| here.slot == slot)
    }
}

impl Groups {
    /// Whether a member of this worker gets the message of this offset.
    pub(crate) fn takes(&self, topic: &Topic, member: Member, offset: Offset) -> bool {
        let Some(group) = self.all.get(topic) else { return false };
        let Some(here) = group.here.iter().find(|here| here.slot == member.1) else { return false };
        let drawn = group.drawn(offset);
        here.ranges.iter().any(|range| range.holds(offset, drawn)) || (drawn == Some(member) && offset > here.had)
    }

    /// The connection of this worker that is drawn for a message; `None` if it is another's.
    pub(crate) fn drawn(&self, topic: &Topic, worker: u16, offset: Offset) -> Option<u32> {
        let group = self.all.get(topic)?;
        let (of, slot) = group.drawn(offset)?;
        let is_here = of == worker && group.here.iter().any(|here| here.slot == slot);
        is_here.then_some(slot.index)
    }

    /// Filters that a connection is about to share.
    pub(crate) fn joining(&self, slot: Slot) -> impl Iterator<Item = &Subscribe> {
        self.joining.iter().filter(move |joining| joining.slot == slot).map(|joining| &joining.subscribe)
    }
}
