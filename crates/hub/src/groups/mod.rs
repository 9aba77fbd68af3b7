//! Shared subscriptions (MQTT-5.0 §4.8.2): each message that a group's filter takes goes to one member.
//!
//! The members stand in the log: records that pass on the topic `$share/GROUP/FILTER` say who joins and who leaves. All
//! workers read them in the same order, so that every hub knows by itself which member gets a message: the message's
//! offset chooses among those who were members there. No worker asks another, and none waits.
//!
//! * A member that joins gets messages from above its record.
//! * A member that leaves says which messages it leaves: those that it was chosen for and hasn't read, and those that
//!   it hasn't acknowledged at `QoS` 1. One of the others goes back and reads them too. `QoS` 2 stays with its session
//!   (MQTT-4.8.2-4, -5).
//! * The members of a node that is gone leave with it: messages that they may have left undone go to others.
//! * If no member is left, but a session may come back, messages wait for the first that comes.
//! * The waiting messages are also a retained record, for another life of the node. Only sessions know the messages
//!   that were under way when it died: each goes on from its own position, if nobody has before. So nothing of theirs
//!   is lost, and some messages may come again.
//!
//! Groups never deliver, and know no session: they leave events for sessions with the floor, and a subscription that a
//! connection is about to hold with delivery.
//!
//! | module | what it does |
//! | --- | --- |
//! | `join`, `leave` | connections of this worker join groups and leave them |
//! | `group` | the chosen member, and the ranges that a member reads besides |
//! | `owed` | what members of this worker haven't done, for a beat of the node |
//! | `retry` | records that the log must take |

mod group;
mod join;
mod leave;
mod owed;
mod retry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use everywire_base::ask::Subscribe;
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::id::{AskId, Slot};
use everywire_base::record::{Record, System};
use everywire_base::roster::Change;
use everywire_base::system::{self, GroupChange, GroupRange, GroupState};
use everywire_base::topic::Topic;

use self::group::{Group, Here, MemberId, Range};
use self::owed::Account;
use self::retry::OfGroups;
use crate::delivery::Shares;
use crate::floor::Floor;
use crate::floor::retries::Retries;
use crate::ground::{Follower, Ground};

/// The number of groups up to which no search is made for those that are over.
const FEW: usize = 64;

/// All groups that somebody of this life of the node is a member of, or was and may come back to.
#[derive(Default)]
pub(crate) struct Groups {
    all: BTreeMap<Topic, Group>,
    /// The groups that connections of this worker are members of.
    of: BTreeMap<Slot, Vec<Topic>>,
    /// Connections of this worker that have asked to join.
    joining: VecDeque<Joining>,
    retries: Retries<OfGroups, ()>,
    account: Account,
    /// The number of groups at which those that are over are searched for.
    full_at: usize,
}

/// A connection of this worker that has asked to join; delivery keeps the subscription that it is to hold.
#[derive(Debug)]
struct Joining {
    slot: Slot,
    topic: Topic,
    /// The ask that is answered; a session's own filters are not answered.
    ask: Option<AskId>,
    /// The state that a former life of the node has left, as far as its session or the store knows it.
    past: Option<GroupState>,
    /// The read of the store that tells.
    reading: PastRead,
}

/// The progress of a join that asks the store for waiting messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum PastRead {
    /// The answer is on its way. It counts if the store has come as far as this.
    Asked {
        ask: AskId,
        applied: Offset,
        /// Whether it is the second look, whose result counts.
        again: bool,
    },
    /// It asks again at this time.
    Waits { until: Monotonic, again: bool },
    /// There is nothing to ask, or all is known.
    Over,
}

impl Shares for Groups {
    fn chosen(&self, topic: &Topic, seat: u64, offset: Offset) -> Option<u32> {
        let group = self.all.get(topic)?;
        let (of, slot) = group.chosen(offset).somebody()?;
        let is_here = of == seat && group.here.iter().any(|here| here.slot == slot);
        is_here.then_some(slot.index)
    }

    fn takes(&self, topic: &Topic, member: MemberId, offset: Offset) -> bool {
        let Some(group) = self.all.get(topic) else { return false };
        let Some(here) = group.here.iter().find(|here| here.slot == member.1) else { return false };
        let chosen = group.chosen(offset);
        here.ranges.iter().any(|range| range.holds(offset, &chosen)) || (chosen.may_be(member) && offset > here.had)
    }
}

impl Groups {
    /// The time at which something of the groups is due.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        let until = |joining: &Joining| match joining.reading {
            PastRead::Waits { until, .. } => Some(until),
            _ => None,
        };
        self.joining.iter().filter_map(until).chain(self.retries.deadline()).chain(self.account.due).min()
    }

    /// The group of a topic at a record; a new one takes the place of those that are over.
    fn reach(&mut self, topic: &Topic, (at, time): (Offset, UnixMillis)) -> &mut Group {
        if self.all.len() >= self.full_at && !self.all.contains_key(topic) {
            self.all.retain(|_, group| !group.is_over(time));
            self.full_at = (self.all.len() * 2).max(FEW);
        }
        self.all.entry(topic.clone()).or_insert_with(|| Group::known_from(at))
    }

    /// Whether a message that a member of this worker was sent came by this group.
    fn gave(&self, topic: &Topic, member: MemberId, offset: Offset) -> bool {
        let Some(group) = self.all.get(topic) else { return false };
        let Some(here) = group.here.iter().find(|here| here.slot == member.1) else { return false };
        let chosen = group.chosen(offset);
        let mut ranges = here.ranges.iter().chain(&here.read);
        ranges.any(|range| range.holds(offset, &chosen)) || (chosen.may_be(member) && offset > here.joined)
    }

    /// Takes out the joins of a connection: all, or that to one group.
    fn take_joining(&mut self, ground: &mut Ground<'_>, slot: Slot, topic: Option<&Topic>) -> VecDeque<Joining> {
        if self.joining.is_empty() {
            return VecDeque::new();
        }
        ground.deliveries.drop_pending(slot, topic);
        let is_meant = |joining: &Joining| joining.slot == slot && topic.is_none_or(|topic| joining.topic == *topic);
        let (taken, others) = std::mem::take(&mut self.joining).into_iter().partition(is_meant);
        self.joining = others;
        taken
    }

    /// Takes out the join of a connection to one group, with its subscription.
    fn take_one(&mut self, ground: &mut Ground<'_>, topic: &Topic, slot: Slot) -> Option<(Joining, Subscribe)> {
        let is_it = |joining: &Joining| joining.slot == slot && joining.topic == *topic;
        let place = self.joining.iter().position(is_it)?;
        let joining = self.joining.remove(place)?;
        Some((joining, ground.deliveries.take_pending(slot, topic)?))
    }

    /// Takes a connection out of a group; gives its state there.
    fn take_here(&mut self, topic: &Topic, slot: Slot) -> Option<Here> {
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

impl Follower for Groups {
    fn nodes(&mut self, ground: &mut Ground<'_>, change: &Change, record: &Record) {
        if !change.gone().is_empty() {
            self.gone(ground, change.gone(), (record.offset, record.time));
        }
        if let Change::Came(..) = change {
            self.announce(ground);
        }
    }

    fn record(&mut self, ground: &mut Ground<'_>, record: &Record, system: &System) {
        if system.topic.as_str().starts_with(system::NODES) {
            return self.beats(ground);
        }
        if !system.topic.as_str().starts_with(system::GROUPS) {
            return;
        }
        let (topic, at) = (&system.topic, record.offset);
        match system::read::<GroupChange>(system).filter(|_| !system.retain) {
            Some(GroupChange::Join { member, past, again }) => {
                let Some(member) = ground.floor.member(&member) else { return };
                self.joined(ground, topic, member, (at, record.time), (past, again));
            }
            Some(GroupChange::Leave { member, ranges, lives_ms }) => {
                let Some(member) = ground.floor.member(&member) else { return };
                let ranges = ranges.into_iter().map(|range| heard(ground.floor, range, at)).collect();
                let until = if lives_ms == 0 { 0 } else { record.time.0.saturating_add(lives_ms) };
                self.left(ground, topic, member, (at, record.time), (ranges, UnixMillis(until)));
            }
            None => {}
        }
    }
}

/// A range as a record at `at` says it.
fn heard(floor: &Floor, range: GroupRange, at: Offset) -> Range {
    Range {
        after: Offset(range.after),
        up_to: range.up_to.map_or(at, Offset),
        // Nothing is known of members of a former life: better all messages than none.
        of: range.of.and_then(|name| floor.member(&name)),
    }
}

/// A range for a record.
fn said(floor: &Floor, range: Range) -> GroupRange {
    let of = range.of.and_then(|of| floor.member_name(of));
    GroupRange { after: range.after.0, up_to: Some(range.up_to.0), of }
}

fn cursor_at(floor: &Floor, offset: Offset) -> Cursor {
    Cursor::single(floor.epoch(), offset)
}
