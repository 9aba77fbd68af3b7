//! How connections of this worker come into groups and leave them; what it is all for stands in `group`.

use std::sync::Arc;

use everywire_base::ask::{Draft, Interest, Page, Read, ReadKind, Subscribe, Subscribed};
use everywire_base::clock::{Now, UnixMillis};
use everywire_base::cursor::{Cursor, Offset, Partition, Start};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::record::{Durability, Message, Record};
use everywire_base::rules::{Refusal, overlaps};
use everywire_base::system::{self, GroupChange, GroupRange, GroupState};
use everywire_base::terms::Terms;
use everywire_base::topic::{Filter, Topic};

use crate::group::{Here, Joining, Member, Range, Reading, draw};
use crate::insist::SAYER;
use crate::session::RETRY;
use crate::table::Held;
use crate::trie::ListId;
use crate::{Hub, Said};

/// Of more ranges than this all between them is left.
const RANGES: usize = 4096;

impl Hub {
    /// Asks to join a group; answered when that stands in the log. Whoever is a member stays one, on the new terms.
    pub(crate) fn join(&mut self, slot: Slot, ask: AskId, subscribe: &Subscribe, now: Now) {
        let (Some(filter), Some(group)) = (subscribe.filters.first(), subscribe.group.as_deref()) else { return };
        let is_member = self.table.find_in(filter, Some(group)).is_some_and(|list| self.holds(slot.index, list));
        let refusal = self.setup.rules.may_subscribe(self.caller(slot.index).as_deref(), filter).err();
        let too_many = || self.may_hold(slot.index, filter, self.groups.joining(slot).count()).err();
        let refusal = refusal.or_else(|| if is_member { None } else { too_many() });
        let topic = system::group_topic(group, filter.as_str());
        match (topic, refusal) {
            (Some(topic), None) if !is_member => self.ask_to_join(slot, topic, Some(ask), subscribe.clone(), None),
            (Some(_), None) => self.renew(slot, Some(ask), subscribe, now),
            (topic, refusal) => {
                let too_long = || Refusal::TooMany("bytes of a group's name with its filter".into());
                let refusal = refusal.filter(|_| topic.is_some()).unwrap_or_else(too_long);
                let cursor = self.cursor(&self.current(slot.index));
                self.say(
                    slot,
                    ask,
                    Said::Subscribed(Subscribed { cursor, refused: vec![(filter.clone(), refusal)], gap: false }),
                );
            }
        }
    }

    fn holds(&self, index: u32, list: ListId) -> bool {
        self.held(index).iter().any(|held| held.list == list)
    }

    /// A member's new terms.
    fn renew(&mut self, slot: Slot, ask: Option<AskId>, subscribe: &Subscribe, now: Now) {
        let subscribed = self.subscribe_connection(slot, &Subscribe { start: Start::Latest, ..subscribe.clone() });
        if let Some(ask) = ask {
            self.note_filters(slot, ask, &subscribe.filters, subscribed, now);
        }
    }

    /// A session's own filter that it shares goes on. What its members left, the group knows, unless the node died.
    pub(crate) fn rejoin(&mut self, slot: Slot, subscribe: Subscribe, since: &Cursor, now: Now) {
        let group = subscribe.group.as_deref().unwrap_or_default();
        let topic = subscribe.filters.first().and_then(|filter| system::group_topic(group, filter.as_str()));
        let has_crashed = self.session(slot.index).is_some_and(|session| session.crashed);
        let until_ms = self.session(slot.index).map_or(0, |session| now.wall.after(session.expiry).0);
        let past = |from: Offset| GroupState { ranges: Vec::new(), from: from.0, until_ms };
        let past = since.position(Partition(0)).filter(|_| has_crashed).map(past);
        if let Some(topic) = topic {
            self.ask_to_join(slot, topic, None, subscribe, past);
        }
    }

    fn ask_to_join(
        &mut self,
        slot: Slot,
        topic: Topic,
        ask: Option<AskId>,
        subscribe: Subscribe,
        past: Option<GroupState>,
    ) {
        let is_known = self.groups.all.contains_key(&topic);
        let mut joining = Joining { slot, topic, ask, subscribe, past, reading: Reading::Over };
        if !is_known && self.may_wait(&joining.topic) {
            joining.reading = self.read_group(&joining.topic, false);
        } else {
            self.say_join(&joining);
        }
        self.groups.joining.push_back(joining);
    }

    /// Whether a former life of the node may have left something for the group of this topic.
    fn may_wait(&self, topic: &Topic) -> bool {
        self.may_be_retained(&Filter::Exact(topic.clone()))
    }

    fn say_join(&mut self, joining: &Joining) {
        let change = GroupChange::Join { member: self.name(joining.slot), past: joining.past.clone() };
        self.insist_passing(system::message(joining.topic.clone(), &change, false));
    }

    /// Reads what waits since a former life of the node.
    fn read_group(&mut self, topic: &Topic, again: bool) -> Reading {
        self.last_ask = self.last_ask.wrapping_add(1);
        let (ask, applied) = (AskId(self.last_ask), self.marks[0]);
        let ticket = Ticket { worker: self.setup.worker, slot: SAYER, ask };
        let interests = Arc::new([Interest { filter: Filter::Exact(topic.clone()), since: Offset::BEGINNING }]);
        let kind = ReadKind::Retained { after: None, max_records: 1 };
        self.reads.push_back(Read { ticket, partition: Partition(0), interests, applied, kind });
        self.counters.reads += 1;
        Reading::Asked { ask, applied, again }
    }

    /// Asks again for what could not be read.
    pub(crate) fn read_groups_again(&mut self, now: Now) {
        for place in 0..self.groups.joining.len() {
            let joining = &self.groups.joining[place];
            let Reading::Waits { until, again } = joining.reading else { continue };
            if until <= now.monotonic {
                let topic = joining.topic.clone();
                self.groups.joining[place].reading = self.read_group(&topic, again);
            }
        }
    }

    /// Takes the store's answer, if it is about a group. Nothing waits there only if the store could see, and twice if
    /// there may be something.
    pub(crate) fn take_group(&mut self, page: &Page, now: Now) -> bool {
        if page.ticket.slot != SAYER {
            return false;
        }
        let is_it = |joining: &Joining| matches!(joining.reading, Reading::Asked { ask, .. } if ask == page.ticket.ask);
        let Some(place) = self.groups.joining.iter().position(is_it) else { return true };
        let Some(mut joining) = self.groups.joining.remove(place) else { return true };
        let Reading::Asked { applied, again, .. } = joining.reading else { return true };
        let could_see = !page.failed && page.upto >= applied;
        let found = page.records.iter().filter_map(|record| record.message()).find_map(system::read::<GroupState>);
        if !could_see {
            joining.reading = Reading::Waits { until: now.monotonic + RETRY, again };
        } else if found.is_none() && !again && self.may_wait(&joining.topic) {
            joining.reading = self.read_group(&joining.topic, true);
        } else {
            joining.reading = Reading::Over;
            if let Some(state) = found {
                let past = joining.past.get_or_insert_with(|| state.clone());
                past.from = past.from.min(state.from);
                past.until_ms = past.until_ms.max(state.until_ms);
                past.ranges = state.ranges;
            }
            self.say_join(&joining);
        }
        self.groups.joining.insert(place, joining);
        true
    }

    /// A range as it was said, if `at` is where.
    fn heard(&self, range: GroupRange, at: Offset) -> Range {
        Range {
            after: Offset(range.after),
            up_to: range.up_to.map_or(at, Offset),
            // Of members of a former life nothing is known: better all than nothing.
            of: range.of.and_then(|name| self.setup.plate.find(&name)),
        }
    }

    /// A record on a group's topic has come out of the log.
    pub(crate) fn group_record(&mut self, record: &Record, message: &Message, now: Now) {
        let (topic, at) = (&message.topic, record.offset);
        match system::read::<GroupChange>(message).filter(|_| !message.retain) {
            Some(GroupChange::Join { member, past }) => {
                let Some(member) = self.setup.plate.find(&member) else { return };
                self.joined_group(topic, member, (at, record.time), past, now);
            }
            Some(GroupChange::Leave { member, ranges, lives_ms }) => {
                let Some(member) = self.setup.plate.find(&member) else { return };
                let ranges = ranges.into_iter().map(|range| self.heard(range, at)).collect();
                let until = if lives_ms == 0 { 0 } else { record.time.0.saturating_add(lives_ms) };
                self.left_group(topic, member, (at, record.time), (ranges, UnixMillis(until)), now);
            }
            None => {}
        }
    }

    /// All workers judge by the record's own time, so that they judge alike.
    fn joined_group(
        &mut self,
        topic: &Topic,
        member: Member,
        (at, time): (Offset, UnixMillis),
        past: Option<GroupState>,
        now: Now,
    ) {
        let is_own = member.0 == self.setup.worker;
        let until = past.as_ref().map(|past| UnixMillis(past.until_ms)).unwrap_or_default();
        let heard = |past: GroupState| {
            (past.ranges.into_iter().map(|range| self.heard(range, at)).collect(), Offset(past.from))
        };
        let past = past.map(heard);
        let group = self.groups.reach(topic, time);
        if group.members().contains(&member) {
            if is_own && let Some(Joining { ask, subscribe, .. }) = self.groups.take_one(topic, member.1) {
                self.renew(member.1, ask, &subscribe, now);
            }
            return;
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
            return;
        }
        self.come_in(topic, member, at, ranges, now);
        // After its session says what it is to read.
        if is_found_empty && (has_waited || self.may_wait(topic)) {
            self.keep_nothing(topic, at);
        }
    }

    /// A connection of this worker is in, if it is still there and wants to.
    fn come_in(&mut self, topic: &Topic, member: Member, at: Offset, ranges: Vec<Range>, now: Now) {
        let slot = member.1;
        let Some(Joining { ask, mut subscribe, .. }) = self.groups.take_one(topic, slot) else {
            return self.pass_on(topic, member, &ranges, Some(at));
        };
        let begin = ranges.iter().map(|range| range.after).min().unwrap_or(at).min(at);
        self.groups.of.entry(slot).or_default().push(topic.clone());
        self.groups.reach(topic, now.wall).here.push(Here::new(slot, ranges, at));
        subscribe.start = Start::After(self.at(begin));
        let subscribed = self.subscribe_connection(slot, &subscribe);
        if !subscribed.refused.is_empty() {
            self.leave_group(topic, slot, 0, Vec::new());
        }
        if let Some(ask) = ask {
            self.note_filters(slot, ask, &subscribe.filters, subscribed, now);
        } else if begin < at {
            self.note_loss(slot, now);
        }
    }

    fn at(&self, offset: Offset) -> Cursor {
        Cursor::single(self.setup.lineages[0].epoch, offset)
    }

    fn left_group(
        &mut self,
        topic: &Topic,
        member: Member,
        (at, time): (Offset, UnixMillis),
        (ranges, until): (Vec<Range>, UnixMillis),
        now: Now,
    ) {
        let Some(group) = self.groups.all.get_mut(topic) else { return };
        group.until = group.until.max(until);
        if group.members().contains(&member) {
            group.change(at, |members| members.retain(|other| *other != member));
        }
        if let Some(heir) = draw(group.members(), at) {
            if heir.0 == self.setup.worker {
                self.inherit(topic, heir, ranges, now);
            }
        } else if group.is_over(time) {
            self.groups.all.remove(topic);
        } else {
            group.keep(ranges, at);
            if member.0 == self.setup.worker {
                self.keep_waiting(topic, at);
            }
        }
    }

    /// Writes what waits, for another life of the node.
    fn keep_waiting(&mut self, topic: &Topic, at: Offset) {
        let Some(group) = self.groups.all.get(topic) else { return };
        let Some((ranges, from)) = &group.waiting else { return };
        let ranges = ranges.iter().map(|range| self.said(*range)).collect();
        let state = GroupState { ranges, from: from.0, until_ms: group.until.0 };
        let message = system::message(topic.clone(), &state, true);
        let message = Message { generation: at.0, expires: Some(group.until), ..message };
        self.insist(Draft { message, durability: Durability::Fsync });
    }

    /// What waited is somebody's now.
    fn keep_nothing(&mut self, topic: &Topic, at: Offset) {
        let message = Message { retain: true, generation: at.0, ..Message::new(topic.clone(), "") };
        self.insist(Draft { message, durability: Durability::Fsync });
    }

    /// A member of this worker reads also what another has left.
    fn inherit(&mut self, topic: &Topic, heir: Member, ranges: Vec<Range>, now: Now) {
        let slot = heir.1;
        let Some(begin) = ranges.iter().map(|range| range.after).min() else { return };
        let current = self.current(slot.index)[0];
        let window = self.session(slot.index).map(|session| &session.window);
        let first = window.and_then(|window| window.iter().map(|sent| sent.offset).min()).unwrap_or(current);
        let Some(here) = self.groups.all.get_mut(topic).and_then(|group| group.here(slot)) else {
            // It has said that it leaves, before it heard of this.
            return self.pass_on(topic, heir, &ranges, None);
        };
        here.take_up(ranges, current, first);
        let mut all = self.held(slot.index).iter().copied().enumerate();
        let held = all.find(|(_, held)| self.table.share(held.list) == Some(topic));
        let Some((nth, held)) = held else { return };
        // It may lag for another filter's sake, below where it joined.
        let lag = self.connections.get(slot.index).and_then(|connection| connection.lag.as_ref());
        if begin >= lag.map_or(current, |lag| lag.since(nth, 0).max(current)) {
            return;
        }
        let group = self.table.group(held.list).map(Into::into);
        let (filter, terms) = (self.table.filter(held.list).clone(), Terms::unpack(held.terms));
        let start = Start::After(self.at(begin));
        self.subscribe_connection(slot, &Subscribe { start, terms, group, ..Subscribe::to([filter]) });
        // Should the node die now, its session says where to go on.
        self.note_loss(slot, now);
    }

    /// The connection leaves all its groups, or is about to; what it holds of them its session still knows.
    pub(crate) fn leave_groups(&mut self, slot: Slot) {
        let session = self.session(slot.index).filter(|session| !session.expiry.is_zero());
        if session.is_some() && self.wills.is_draining {
            // The next life of the node goes on from what the session says.
            return;
        }
        let lives_ms = session.map_or(0, |session| session.expiry.as_millis() as u64);
        for topic in self.groups.of.get(&slot).cloned().unwrap_or_default() {
            let returned = self.take_back(slot, &topic);
            self.leave_group(&topic, slot, lives_ms, returned);
        }
    }

    /// The connection ends all that it shares: what it was sent it still acknowledges.
    pub(crate) fn unsubscribe_groups(&mut self, slot: Slot) {
        self.let_be(slot, None);
        for topic in self.groups.of.get(&slot).cloned().unwrap_or_default() {
            self.leave_group(&topic, slot, 0, Vec::new());
        }
    }

    /// The connection ends one subscription; says whether it only was about to have it.
    pub(crate) fn unsubscribe_group(&mut self, slot: Slot, filter: &Filter, group: &str) -> bool {
        let Some(topic) = system::group_topic(group, filter.as_str()) else { return false };
        let was_joining = self.let_be(slot, Some(&topic));
        self.leave_group(&topic, slot, 0, Vec::new());
        was_joining
    }

    /// The connection may not be a member any more.
    pub(crate) fn lose_group(&mut self, slot: Slot, filter: &Filter, group: &str) {
        if let Some(topic) = system::group_topic(group, filter.as_str()) {
            let returned = self.take_back(slot, &topic);
            self.leave_group(&topic, slot, 0, returned);
        }
    }

    /// The connection doesn't want to join any more; its subscription is answered first.
    fn let_be(&mut self, slot: Slot, topic: Option<&Topic>) -> bool {
        let given_up = self.groups.take_joining(slot, topic);
        let cursor = self.cursor(&self.current(slot.index));
        for ask in given_up.iter().filter_map(|joining| joining.ask) {
            self.say(
                slot,
                ask,
                Said::Subscribed(Subscribed { cursor: cursor.clone(), refused: Vec::new(), gap: false }),
            );
        }
        !given_up.is_empty()
    }

    /// Takes out of a member's window what others shall get: what it hasn't acknowledged at `QoS` 1, or was to get next.
    /// What another filter of its takes too it keeps as well.
    fn take_back(&mut self, slot: Slot, topic: &Topic) -> Vec<Offset> {
        let member = (self.setup.worker, slot);
        let held = self.held(slot.index);
        let share = |held: &Held| self.table.share(held.list);
        let filter = |held: &Held| self.table.filter(held.list).as_str();
        let shared = held.iter().find(|held| share(held) == Some(topic));
        let own = |other: &Held| shared.is_some_and(|shared| overlaps(filter(shared), filter(other)));
        let keeps = held.iter().any(|held| share(held) != Some(topic) && own(held));
        let groups = std::mem::take(&mut self.groups);
        let is_shared = |offset: Offset| groups.gave(topic, member, offset);
        let taken = self.session_mut(slot.index).map(|session| {
            let ending = if session.expiry.is_zero() { session.window.ending(is_shared) } else { 0 };
            (session.window.take_back(is_shared, keeps), ending as u64)
        });
        self.groups = groups;
        let (taken, ending) = taken.unwrap_or_default();
        self.counters.dropped += ending;
        taken
    }

    /// Says that a member leaves, and what of its is left.
    fn leave_group(&mut self, topic: &Topic, slot: Slot, lives_ms: u64, returned: Vec<Offset>) {
        let position = self.current(slot.index)[0];
        let Some(here) = self.groups.take_here(topic, slot) else { return };
        let one = |offset: Offset| GroupRange { after: offset.0 - 1, up_to: Some(offset.0), of: None };
        let unread = here.ranges.into_iter().filter(|range| range.up_to > position);
        let unread = unread.map(|range| self.said(Range { after: range.after.max(position), ..range }));
        let own = GroupRange { after: position.max(here.had).0, up_to: None, of: Some(self.name(slot)) };
        let ranges = returned.into_iter().map(one).chain(unread).chain([own]).collect();
        self.say_leave(topic, self.name(slot), ranges, lives_ms);
    }

    /// What was to be a member's that is gone goes to another; so does what it has been drawn for since it joined, if it
    /// has never been there.
    fn pass_on(&mut self, topic: &Topic, (worker, slot): Member, ranges: &[Range], joined: Option<Offset>) {
        let name = self.setup.plate.name(worker, slot);
        let own = joined.map(|at| GroupRange { after: at.0, up_to: None, of: Some(name.clone()) });
        let ranges = ranges.iter().map(|range| self.said(*range)).chain(own).collect();
        self.say_leave(topic, name, ranges, 0);
    }

    fn say_leave(&mut self, topic: &Topic, member: Box<str>, mut ranges: Vec<GroupRange>, lives_ms: u64) {
        if ranges.len() > RANGES {
            let after = ranges.iter().map(|range| range.after).min().unwrap_or_default();
            ranges = vec![GroupRange { after, up_to: None, of: None }];
        }
        let change = GroupChange::Leave { member, ranges, lives_ms };
        self.insist_passing(system::message(topic.clone(), &change, false));
    }

    fn said(&self, range: Range) -> GroupRange {
        let of = range.of.map(|(worker, slot)| self.setup.plate.name(worker, slot));
        GroupRange { after: range.after.0, up_to: Some(range.up_to.0), of }
    }
}
