//! Joining: connections of this worker come into groups.

use std::sync::Arc;

use everywire_base::ask::{Answer, Draft, Interest, Page, Read, ReadKind, Subscribe, Subscribed};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition, Start};
use everywire_base::id::{AskId, Part, Slot};
use everywire_base::record::{Durability, System};
use everywire_base::rules::Refusal;
use everywire_base::system::{self, GroupChange, GroupState};
use everywire_base::topic::{Filter, Topic};

use super::group::{Here, MemberId, Range};
use super::{Groups, Joining, PastRead, cursor_at, heard};
use crate::floor::{Event, Floor, RETRY};
use crate::ground::Ground;

impl Groups {
    /// Asks to join a group. The answer comes when the join stands in the log. A member stays one, on the new terms.
    pub(crate) fn join(&mut self, ground: &mut Ground<'_>, slot: Slot, ask: AskId, subscribe: &Subscribe) {
        let (Some(filter), Some(group)) = (subscribe.filters.first(), subscribe.group.as_deref()) else { return };
        let is_member = ground.deliveries.holds(slot.index, filter, Some(group));
        let refusal = ground.floor.grants(ground.floor.caller(slot.index).map(|who| &**who), filter).err();
        let waits = ground.deliveries.pending(slot).count();
        let too_many = || ground.deliveries.may_hold(slot.index, filter, waits, ground.floor).err();
        let refusal = refusal.or_else(|| if is_member { None } else { too_many() });
        let topic = system::group_topic(group, filter.as_str());
        match (topic, refusal) {
            (Some(topic), None) if !is_member => {
                self.ask_to_join(ground, slot, topic, (Some(ask), None), subscribe.clone());
            }
            (Some(_), None) => renew(ground, slot, Some(ask), subscribe),
            (topic, refusal) => {
                let too_long = || Refusal::TooMany("bytes of a group's name with its filter".into());
                let refusal = refusal.filter(|_| topic.is_some()).unwrap_or_else(too_long);
                let cursor = ground.floor.cursor(&ground.deliveries.current(slot.index));
                let refused = Subscribed { cursor, refused: vec![(filter.clone(), refusal)], gap: false };
                ground.floor.say(slot, ask, Answer::Subscribed(refused));
            }
        }
    }

    /// Takes up again a filter of a session that a group shares. The group knows what its members left, unless the node
    /// died.
    pub(crate) fn rejoin(
        &mut self,
        ground: &mut Ground<'_>,
        slot: Slot,
        subscribe: Subscribe,
        past: Option<GroupState>,
    ) {
        let group = subscribe.group.as_deref().unwrap_or_default();
        let topic = subscribe.filters.first().and_then(|filter| system::group_topic(group, filter.as_str()));
        if let Some(topic) = topic {
            self.ask_to_join(ground, slot, topic, (None, past), subscribe);
        }
    }

    fn ask_to_join(
        &mut self,
        ground: &mut Ground<'_>,
        slot: Slot,
        topic: Topic,
        (ask, past): (Option<AskId>, Option<GroupState>),
        subscribe: Subscribe,
    ) {
        ground.deliveries.expect(slot, topic.clone(), subscribe);
        let is_known = self.all.contains_key(&topic);
        let mut joining = Joining { slot, topic, ask, past, reading: PastRead::Over };
        if !is_known && may_wait(ground.floor, &joining.topic) {
            joining.reading = read_group(ground, &joining.topic, false);
        } else {
            self.say_join(ground, &joining);
        }
        self.joining.push_back(joining);
    }

    fn say_join(&mut self, ground: &mut Ground<'_>, joining: &Joining) {
        let change =
            GroupChange::Join { member: ground.floor.name(joining.slot), past: joining.past.clone(), again: false };
        self.append_passing_with_retry(ground, system::record(joining.topic.clone(), &change, false));
    }

    /// Says again which members are on this worker: another node has come, which doesn't know them.
    pub(super) fn announce(&mut self, ground: &mut Ground<'_>) {
        let all: Vec<(Slot, Topic)> =
            self.of.iter().flat_map(|(slot, topics)| topics.iter().map(|topic| (*slot, topic.clone()))).collect();
        for (slot, topic) in all {
            let until = self.all.get(&topic).map(|group| group.until).unwrap_or_default();
            let past = (until > ground.now.wall).then(|| GroupState::nothing_waits(until.0));
            let change = GroupChange::Join { member: ground.floor.name(slot), past, again: true };
            self.append_passing_with_retry(ground, system::record(topic, &change, false));
        }
    }

    /// Asks the store again where it could not be read.
    pub(super) fn read_again(&mut self, ground: &mut Ground<'_>) {
        for place in 0..self.joining.len() {
            let joining = &self.joining[place];
            let PastRead::Waits { until, again } = joining.reading else { continue };
            if until <= ground.now.monotonic {
                let topic = joining.topic.clone();
                self.joining[place].reading = read_group(ground, &topic, again);
            }
        }
    }

    /// Takes the store's answer, if it is about a group. An empty answer counts only if the store could see, and the
    /// second time if there may be something.
    pub(crate) fn page(&mut self, ground: &mut Ground<'_>, page: &Page) -> bool {
        let Some(answered) = page.reply_to.part(Part::Groups) else { return false };
        let is_it = |joining: &Joining| matches!(joining.reading, PastRead::Asked { ask, .. } if ask == answered);
        let Some(place) = self.joining.iter().position(is_it) else { return true };
        let Some(mut joining) = self.joining.remove(place) else { return true };
        let PastRead::Asked { applied, again, .. } = joining.reading else { return true };
        let could_see = !page.failed && page.upto >= applied;
        let found = page.records.iter().filter_map(|record| record.system()).find_map(system::read::<GroupState>);
        if !could_see {
            joining.reading = PastRead::Waits { until: ground.now.monotonic + RETRY, again };
        } else if found.is_none() && !again && may_wait(ground.floor, &joining.topic) {
            joining.reading = read_group(ground, &joining.topic, true);
        } else {
            joining.reading = PastRead::Over;
            if let Some(state) = found {
                let past = joining.past.get_or_insert_with(|| state.clone());
                past.from = past.from.min(state.from);
                past.until_ms = past.until_ms.max(state.until_ms);
                past.ranges = state.ranges;
            }
            self.say_join(ground, &joining);
        }
        self.joining.insert(place, joining);
        true
    }

    /// Enters a member whose join has come out of the log. All workers judge by the record's own time, so that they
    /// judge alike.
    pub(super) fn joined(
        &mut self,
        ground: &mut Ground<'_>,
        topic: &Topic,
        member: MemberId,
        (at, time): (Offset, UnixMillis),
        (past, again): (Option<GroupState>, bool),
    ) {
        let is_own = member.0 == ground.floor.seat;
        let until = past.as_ref().map(|past| UnixMillis(past.until_ms)).unwrap_or_default();
        let heard = |past: GroupState| {
            (past.ranges.into_iter().map(|range| heard(ground.floor, range, at)).collect(), Offset(past.from))
        };
        let past = past.map(heard);
        let group = self.reach(topic, (at, time));
        if group.members().contains(&member) {
            if is_own && let Some((Joining { ask, .. }, subscribe)) = self.take_one(ground, topic, member.1) {
                renew(ground, member.1, ask, &subscribe);
            }
            return;
        }
        if again {
            group.forget(at);
        }
        let is_found_empty = group.members().is_empty();
        let has_waited = group.waiting.is_some();
        let ranges = group.welcome((at, time), past);
        group.until = group.until.max(until);
        group.change(at, |members| {
            members.push(member);
            members.sort_unstable();
        });
        if !is_own {
            group.bequeath(ground.floor, member, at, ranges);
            return;
        }
        self.come_in(ground, topic, member, at, ranges);
        if is_found_empty && (has_waited || may_wait(ground.floor, topic)) {
            // The event follows that of its session, whose record says what it is to read.
            ground.floor.out.events.push_back(Event::Taken(topic.clone(), at));
        }
    }

    /// Lets a connection of this worker into the group, if it is still there and wants to join.
    fn come_in(&mut self, ground: &mut Ground<'_>, topic: &Topic, member: MemberId, at: Offset, ranges: Vec<Range>) {
        let slot = member.1;
        let Some((Joining { ask, .. }, mut subscribe)) = self.take_one(ground, topic, slot) else {
            return self.redistribute(ground, topic, member, &ranges, Some(at));
        };
        let begin = ranges.iter().map(|range| range.after).min().unwrap_or(at).min(at);
        self.of.entry(slot).or_default().push(topic.clone());
        self.reach(topic, (at, ground.now.wall)).here.push(Here::new(slot, ranges, at));
        subscribe.start = Start::After(cursor_at(ground.floor, begin));
        let subscribed = ground.subscribe(slot, &subscribe);
        if !subscribed.refused.is_empty() {
            self.leave_group(ground, topic, slot, 0, Vec::new());
        }
        if let Some(ask) = ask {
            ground.floor.out.events.push_back(Event::Subscribed(slot, ask, subscribe.filters, subscribed));
        } else if begin < at {
            ground.floor.out.events.push_back(Event::WentBack(slot));
        }
    }

    /// Removes the record of waiting messages: they are a member's now, and its session has said so.
    pub(crate) fn taken(&mut self, ground: &mut Ground<'_>, topic: Topic, at: Offset) {
        let nothing = System { generation: at.0, ..System::removal(topic) };
        self.append_with_retry(ground, Draft::new(nothing, Durability::Fsync));
    }
}

/// Gives a member its new terms.
fn renew(ground: &mut Ground<'_>, slot: Slot, ask: Option<AskId>, subscribe: &Subscribe) {
    let subscribed = ground.subscribe(slot, &Subscribe { start: Start::Latest, ..subscribe.clone() });
    if let Some(ask) = ask {
        ground.floor.out.events.push_back(Event::Subscribed(slot, ask, subscribe.filters.clone(), subscribed));
    }
}

/// Whether a former life of the node may have left something for the group of this topic.
fn may_wait(floor: &Floor, topic: &Topic) -> bool {
    floor.may_be_retained(&Filter::Exact(topic.clone()))
}

/// Reads the record of messages that wait since a former life of the node.
fn read_group(ground: &mut Ground<'_>, topic: &Topic, again: bool) -> PastRead {
    let (ask, applied) = (ground.floor.next_ask(), ground.deliveries.marks()[0]);
    let reply_to = ground.floor.to_part(Part::Groups, ask);
    let interests = Arc::new([Interest { filter: Filter::Exact(topic.clone()), since: Offset::BEGINNING }]);
    let kind = ReadKind::Retained { after: None, max_records: 1 };
    ground.floor.read(Read { reply_to, partition: Partition(0), interests, applied, kind });
    PastRead::Asked { ask, applied, again }
}
