//! Leaving: connections of this worker leave groups, and other members get the messages that they leave.

use std::collections::BTreeSet;
use std::time::Duration;

use everywire_base::ask::{Answer, Draft, Subscribe, Subscribed};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Start};
use everywire_base::id::Slot;
use everywire_base::record::{Durability, System};
use everywire_base::roster::Life;
use everywire_base::rules::overlaps;
use everywire_base::system::{self, GroupChange, GroupRange, GroupState};
use everywire_base::terms::Terms;
use everywire_base::topic::{Filter, Topic};

use super::group::{MemberId, Range, choose};
use super::{Groups, cursor_at, said};
use crate::delivery::Held;
use crate::floor::{Event, Floor};
use crate::ground::Ground;

/// The most ranges that a member leaves; instead of more it leaves one, which holds them all.
const RANGES: usize = 4096;

impl Groups {
    /// Takes out a member that has left; until `until` somebody may come back in its place.
    pub(super) fn left(
        &mut self,
        ground: &mut Ground<'_>,
        topic: &Topic,
        member: MemberId,
        (at, time): (Offset, UnixMillis),
        (ranges, until): (Vec<Range>, UnixMillis),
    ) {
        if until.0 == 0 && !self.all.contains_key(topic) {
            return;
        }
        let group = self.reach(topic, (at, time));
        group.until = group.until.max(until);
        if group.members().contains(&member) {
            group.change(at, |members| members.retain(|other| *other != member));
        } else if !ground.floor.is_own(member.0) {
            group.forget(at);
        }
        self.hand_on(ground, topic, Some(member), (at, time), ranges);
    }

    /// Takes out the members of nodes whose lives are over; others read the messages that they may have left undone, and
    /// those of which they may not have heard.
    pub(super) fn gone(&mut self, ground: &mut Ground<'_>, lives: &[Life], (at, time): (Offset, UnixMillis)) {
        let its = |member: MemberId| lives.iter().find(|life| Floor::is_of(member.0, life));
        let named = lives.iter().flat_map(|life| &*life.owes).filter_map(|debt| Topic::parse(&debt.group).ok());
        let topics: BTreeSet<Topic> = self.all.keys().cloned().chain(named).collect();
        for topic in topics {
            let group = self.reach(&topic, (at, time));
            let left: Vec<(MemberId, Offset)> =
                group.members().iter().filter_map(|member| Some((*member, its(*member)?.floor))).collect();
            let mut ranges = group.inheritance(|heir| its(heir).is_some());
            ranges.extend(owed(lives, &topic, |life| left.iter().any(|(of, _)| Floor::is_of(of.0, life))));
            ranges.extend(left.iter().map(|(of, floor)| Range { after: *floor, up_to: at, of: Some(*of) }));
            if ranges.is_empty() {
                continue;
            }
            group.change(at, |members| members.retain(|member| its(*member).is_none()));
            // Sessions of its members may come back elsewhere.
            group.until = group.until.max(time.after(system::lease(0)));
            self.hand_on(ground, &topic, None, (at, time), ranges);
        }
    }

    /// Gives the messages that a member has left to another one, or keeps them for the next that comes. The worker that
    /// had it writes a record of those that wait.
    fn hand_on(
        &mut self,
        ground: &mut Ground<'_>,
        topic: &Topic,
        member: Option<MemberId>,
        (at, time): (Offset, UnixMillis),
        ranges: Vec<Range>,
    ) {
        let Some(group) = self.all.get_mut(topic) else { return };
        if let Some(heir) = choose(group.members(), at) {
            if heir.0 == ground.floor.seat {
                self.inherit(ground, topic, heir, ranges);
            } else {
                group.bequeath(ground.floor, heir, at, ranges);
            }
        } else if group.is_over(time) {
            self.all.remove(topic);
        } else {
            group.keep(ranges, at);
            if member.is_some_and(|member| member.0 == ground.floor.seat) {
                self.keep_waiting(ground, topic, at);
            }
        }
    }

    /// Writes a record of the waiting messages, for another life of the node.
    fn keep_waiting(&mut self, ground: &mut Ground<'_>, topic: &Topic, at: Offset) {
        let Some(group) = self.all.get(topic) else { return };
        let Some((ranges, from)) = &group.waiting else { return };
        let ranges = ranges.iter().map(|range| said(ground.floor, *range)).collect();
        let state = GroupState { ranges, from: from.0, until_ms: group.until.0 };
        let waiting = system::record(topic.clone(), &state, true);
        let waiting = System { generation: at.0, expires: Some(group.until), ..waiting };
        self.append_with_retry(ground, Draft::new(waiting, Durability::Fsync));
    }

    /// Makes a member of this worker also read the ranges that another has left.
    fn inherit(&mut self, ground: &mut Ground<'_>, topic: &Topic, successor: MemberId, ranges: Vec<Range>) {
        let slot = successor.1;
        let Some(begin) = ranges.iter().map(|range| range.after).min() else { return };
        let current = ground.deliveries.current(slot.index)[0];
        let window = ground.deliveries.window(slot.index);
        let first = window.and_then(|window| window.iter().map(|sent| sent.offset).min()).unwrap_or(current);
        let Some(here) = self.all.get_mut(topic).and_then(|group| group.here(slot)) else {
            // It has said that it leaves, before it heard of this.
            return self.redistribute(ground, topic, successor, &ranges, None);
        };
        here.take_up(ranges, current, first);
        let mut all = ground.deliveries.held(slot.index).iter().copied().enumerate();
        let held = all.find(|(_, held)| ground.deliveries.share(held) == Some(topic));
        let Some((nth, held)) = held else { return };
        // It may lag for another filter's sake, below the offset at which it joined.
        if begin >= ground.deliveries.since(slot.index, nth, 0).max(current) {
            return;
        }
        let group = ground.deliveries.group(&held).map(Into::into);
        let (filter, terms) = (ground.deliveries.filter(&held).clone(), Terms::unpack(held.terms));
        let start = Start::After(cursor_at(ground.floor, begin));
        ground.subscribe(slot, &Subscribe { start, terms, group, ..Subscribe::to([filter]) });
        // If the node dies now, its session says where to go on.
        ground.floor.out.events.push_back(Event::WentBack(slot));
    }

    /// Makes a connection leave all its groups. Its session lives on for `lives`, and still knows what it holds of
    /// them.
    pub(crate) fn leave_all(&mut self, ground: &mut Ground<'_>, slot: Slot, lives: Duration) {
        if !lives.is_zero() && ground.floor.is_draining {
            // The next life of the node goes on from what the session says.
            self.note_left(ground, slot);
            return;
        }
        for topic in self.of.get(&slot).cloned().unwrap_or_default() {
            let returned = self.take_back(ground, slot, &topic, lives);
            self.leave_group(ground, &topic, slot, lives.as_millis() as u64, returned);
        }
    }

    /// Drops all joins of a connection that is gone.
    pub(crate) fn forget(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        self.take_joining(ground, slot, None);
    }

    /// Ends all shared subscriptions of a connection; it still acknowledges the messages that it was sent.
    pub(crate) fn unsubscribe_all(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        self.let_be(ground, slot, None);
        for topic in self.of.get(&slot).cloned().unwrap_or_default() {
            self.leave_group(ground, &topic, slot, 0, Vec::new());
        }
    }

    /// Ends one shared subscription of a connection; says whether it only was about to have it.
    pub(crate) fn unsubscribe(&mut self, ground: &mut Ground<'_>, slot: Slot, filter: &Filter, group: &str) -> bool {
        let Some(topic) = system::group_topic(group, filter.as_str()) else { return false };
        let was_joining = self.let_be(ground, slot, Some(&topic));
        self.leave_group(ground, &topic, slot, 0, Vec::new());
        was_joining
    }

    /// Takes out a member that may not be one any more.
    pub(crate) fn lose(
        &mut self,
        ground: &mut Ground<'_>,
        slot: Slot,
        (filter, group): (&Filter, &str),
        lives: Duration,
    ) {
        if let Some(topic) = system::group_topic(group, filter.as_str()) {
            let returned = self.take_back(ground, slot, &topic, lives);
            self.leave_group(ground, &topic, slot, 0, returned);
        }
    }

    /// Drops joins that a connection doesn't want any more; their subscriptions are answered first.
    fn let_be(&mut self, ground: &mut Ground<'_>, slot: Slot, topic: Option<&Topic>) -> bool {
        let given_up = self.take_joining(ground, slot, topic);
        let cursor = ground.floor.cursor(&ground.deliveries.current(slot.index));
        for ask in given_up.iter().filter_map(|joining| joining.ask) {
            let subscribed = Subscribed { cursor: cursor.clone(), refused: Vec::new(), gap: false };
            ground.floor.say(slot, ask, Answer::Subscribed(subscribed));
        }
        !given_up.is_empty()
    }

    /// Takes the deliveries that others shall get out of a member's window: those unacknowledged at `QoS` 1, and those
    /// that it was to get next. It also keeps them if another of its filters takes them.
    fn take_back(&self, ground: &mut Ground<'_>, slot: Slot, topic: &Topic, lives: Duration) -> Vec<Offset> {
        let member = (ground.floor.seat, slot);
        let held = ground.deliveries.held(slot.index);
        let share = |held: &Held| ground.deliveries.share(held);
        let filter = |held: &Held| ground.deliveries.filter(held).as_str();
        let shared = held.iter().find(|held| share(held) == Some(topic));
        let own = |other: &Held| shared.is_some_and(|shared| overlaps(filter(shared), filter(other)));
        let keeps = held.iter().any(|held| share(held) != Some(topic) && own(held));
        let is_shared = |offset: Offset| self.gave(topic, member, offset);
        let taken = ground.deliveries.window_mut(slot.index).map(|window| {
            let ending = if lives.is_zero() { window.ending(is_shared) } else { 0 };
            (window.take_back(is_shared, keeps), ending as u64)
        });
        let (taken, ending) = taken.unwrap_or_default();
        ground.floor.counters.dropped += ending;
        taken
    }

    /// Says that a member leaves, and which ranges it leaves.
    pub(super) fn leave_group(
        &mut self,
        ground: &mut Ground<'_>,
        topic: &Topic,
        slot: Slot,
        lives_ms: u64,
        returned: Vec<Offset>,
    ) {
        let position = ground.deliveries.current(slot.index)[0];
        let Some(here) = self.take_here(topic, slot) else { return };
        let one = |offset: Offset| GroupRange { after: offset.0 - 1, up_to: Some(offset.0), of: None };
        let unread = here.ranges.into_iter().filter(|range| range.up_to > position);
        let unread = unread.map(|range| said(ground.floor, Range { after: range.after.max(position), ..range }));
        let own = GroupRange { after: position.max(here.had).0, up_to: None, of: Some(ground.floor.name(slot)) };
        let ranges = returned.into_iter().map(one).chain(unread).chain([own]).collect();
        let name = ground.floor.name(slot);
        self.say_leave(ground, topic, name, ranges, lives_ms);
    }

    /// Gives the ranges of a member that is gone to another, and the messages that it was chosen for since `joined`, if
    /// it has never been there.
    pub(super) fn redistribute(
        &mut self,
        ground: &mut Ground<'_>,
        topic: &Topic,
        member: MemberId,
        ranges: &[Range],
        joined: Option<Offset>,
    ) {
        let Some(name) = ground.floor.member_name(member) else { return };
        let own = joined.map(|at| GroupRange { after: at.0, up_to: None, of: Some(name.clone()) });
        let ranges = ranges.iter().map(|range| said(ground.floor, *range)).chain(own).collect();
        self.say_leave(ground, topic, name, ranges, 0);
    }

    fn say_leave(
        &mut self,
        ground: &mut Ground<'_>,
        topic: &Topic,
        member: Box<str>,
        mut ranges: Vec<GroupRange>,
        lives_ms: u64,
    ) {
        if ranges.len() > RANGES {
            let after = ranges.iter().map(|range| range.after).min().unwrap_or_default();
            ranges = vec![GroupRange { after, up_to: None, of: None }];
        }
        // A node that knows less of the group keeps its messages as long as this one.
        let until = self.all.get(topic).map(|group| group.until).unwrap_or_default();
        let lives_ms = lives_ms.max(until.0.saturating_sub(ground.now.wall.0));
        let change = GroupChange::Leave { member, ranges, lives_ms };
        self.append_passing_with_retry(ground, system::record(topic.clone(), &change, false));
    }
}

/// The messages from before their floors that lives which are over have said to owe a group. One that doesn't name it, but
/// has members there, may owe it as much as all others that it doesn't name.
fn owed(lives: &[Life], topic: &Topic, has_members: impl Fn(&Life) -> bool) -> Vec<Range> {
    let all = |life: &Life| {
        let find = |group: &str| life.owes.iter().find(|debt| *debt.group == *group);
        let others = || find("").filter(|_| has_members(life));
        let debt = find(topic.as_str()).or_else(others)?;
        Some(Range { after: Offset(debt.after), up_to: life.floor, of: None })
    };
    lives.iter().filter_map(all).filter(|range| range.after < range.up_to).collect()
}
