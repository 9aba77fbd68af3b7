//! How connections of this worker come into groups and leave them; what it is all for stands in `group`.

use std::collections::VecDeque;

use everywire_base::ask::{Subscribe, Subscribed};
use everywire_base::clock::Now;
use everywire_base::cursor::{Cursor, Offset, Partition, Start};
use everywire_base::id::{AskId, Slot};
use everywire_base::record::{Durability, Message, Record};
use everywire_base::rules::Refusal;
use everywire_base::system::{self, GroupChange, GroupRange};
use everywire_base::terms::Terms;
use everywire_base::topic::{Filter, Topic};

use crate::group::{Here, Joining, Member, Range, draw};
use crate::table::ListId;
use crate::{Hub, Said};

impl Hub {
    /// Asks to join a group; answered when that stands in the log. Whoever is a member stays one, on the new terms.
    pub(crate) fn join(&mut self, slot: Slot, ask: AskId, subscribe: &Subscribe, now: Now) {
        let (Some(filter), Some(group)) = (subscribe.filters.first(), subscribe.group.as_deref()) else { return };
        let is_member = self.table.find_in(filter, Some(group)).is_some_and(|list| self.holds(slot.index, list));
        let refusal = self.setup.rules.may_subscribe(self.caller(slot.index).as_deref(), filter).err();
        let too_many = self.held(slot.index).len() >= self.setup.limits.filters_per_subscription;
        let refusal =
            refusal.or_else(|| too_many.then(|| Refusal::TooMany("filters (filters_per_subscription)".into())));
        let topic = system::group_topic(group, filter.as_str());
        match (topic, refusal) {
            (Some(topic), None) if !is_member => self.ask_to_join(slot, topic, Some(ask), subscribe.clone(), None),
            (Some(_), None) => {
                let subscribed = self.subscribe_connection(slot, subscribe);
                self.note_filters(slot, ask, &subscribe.filters, subscribed, now);
            }
            (topic, refusal) => {
                let too_long = || Refusal::TooMany("bytes of a group's name with its filter".into());
                let refusal = refusal.filter(|_| topic.is_some()).unwrap_or_else(too_long);
                self.refuse_to_join(slot, ask, filter.clone(), refusal);
            }
        }
    }

    fn holds(&self, index: u32, list: ListId) -> bool {
        self.held(index).iter().any(|held| held.list == list)
    }

    fn refuse_to_join(&mut self, slot: Slot, ask: AskId, filter: Filter, refusal: Refusal) {
        let cursor = self.cursor(&self.current(slot.index));
        self.say(slot, ask, Said::Subscribed(Subscribed { cursor, refused: vec![(filter, refusal)] }));
    }

    /// A session's own filter that it shares goes on.
    pub(crate) fn rejoin(&mut self, slot: Slot, subscribe: Subscribe, since: &Cursor) {
        let group = subscribe.group.as_deref().unwrap_or_default();
        let topic = subscribe.filters.first().and_then(|filter| system::group_topic(group, filter.as_str()));
        if let Some(topic) = topic {
            self.ask_to_join(slot, topic, None, subscribe, since.position(Partition(0)));
        }
    }

    fn ask_to_join(
        &mut self,
        slot: Slot,
        topic: Topic,
        ask: Option<AskId>,
        subscribe: Subscribe,
        since: Option<Offset>,
    ) {
        let crashed = self.session(slot.index).is_some_and(|session| session.crashed);
        let change = GroupChange::Join { member: self.name(slot), since: since.map(|at| at.0), crashed };
        self.append_for(slot, system::message(topic.clone(), &change, false), Durability::None);
        self.groups.joining.push_back(Joining { slot, topic, ask, subscribe });
    }

    /// The log has refused something of a connection: it joins nothing.
    pub(crate) fn give_up_joining(&mut self, slot: Slot) {
        let all = std::mem::take(&mut self.groups.joining);
        let (refused, others): (VecDeque<_>, _) = all.into_iter().partition(|joining| joining.slot == slot);
        self.groups.joining = others;
        for Joining { ask, subscribe, .. } in refused {
            if let (Some(ask), Some(filter)) = (ask, subscribe.filters.first()) {
                self.refuse_to_join(slot, ask, filter.clone(), Refusal::TooMany("records: the log is busy".into()));
            }
        }
    }

    /// A record on a group's topic has come out of the log.
    pub(crate) fn group_record(&mut self, record: &Record, message: &Message, now: Now) {
        let (topic, at) = (&message.topic, record.offset);
        match system::read::<GroupChange>(message) {
            Some(GroupChange::Join { member, since, crashed }) => {
                let Some(member) = self.setup.plate.find(&member) else { return };
                self.joined_group(topic, member, at, since.map(Offset).map(|since| (since, crashed)), now);
            }
            Some(GroupChange::Leave { member, ranges, until_ms }) => {
                let Some(member) = self.setup.plate.find(&member) else { return };
                let find = |name: &str| self.setup.plate.find(name);
                let range = |range: GroupRange| Range {
                    after: Offset(range.after),
                    up_to: range.up_to.map_or(at, Offset),
                    of: range.of.and_then(|name| find(&name)),
                };
                let ranges = ranges.into_iter().map(range).collect();
                self.left_group(topic, member, at, ranges, until_ms, now);
            }
            None => {}
        }
    }

    fn joined_group(&mut self, topic: &Topic, member: Member, at: Offset, since: Option<(Offset, bool)>, now: Now) {
        let group = self.groups.all.entry(topic.clone()).or_default();
        let waiting = group.waiting.take().filter(|_| group.until > now.wall.0);
        let mut ranges = Vec::new();
        let all = |after: Offset, up_to: Offset| Range { after, up_to, of: None };
        match (waiting, since) {
            (Some((left, from)), _) => {
                ranges = left;
                ranges.push(all(from, at));
            }
            (None, Some((since, _))) if group.members().is_empty() => {
                group.from.get_or_insert(since);
                ranges.push(all(since, at));
            }
            // His node died: what he was to get before the first of this life went on, nobody else reads.
            (None, Some((since, true))) => {
                ranges.extend(group.from.filter(|from| since < *from).map(|from| all(since, from)));
            }
            _ => {}
        }
        group.change(at, |members| {
            members.push(member);
            members.sort_unstable();
        });
        let (worker, slot) = member;
        if worker != self.setup.worker {
            return;
        }
        group.here.push(Here { slot, ranges: ranges.clone(), had: Offset::BEGINNING });
        let joining = &mut self.groups.joining;
        let place = joining.iter().position(|joining| joining.slot == slot && joining.topic == *topic);
        let Some(Joining { ask, mut subscribe, .. }) = place.and_then(|place| joining.remove(place)) else {
            // It has gone meanwhile.
            return self.leave_group(topic, slot, 0, Vec::new());
        };
        let begin = ranges.iter().map(|range| range.after).min().unwrap_or(at).min(at);
        subscribe.start = Start::After(self.at(begin));
        let subscribed = self.subscribe_connection(slot, &subscribe);
        if let Some(ask) = ask {
            self.note_filters(slot, ask, &subscribe.filters, subscribed, now);
        }
    }

    fn at(&self, offset: Offset) -> Cursor {
        Cursor::single(self.setup.lineages[0].epoch, offset)
    }

    fn left_group(&mut self, topic: &Topic, member: Member, at: Offset, ranges: Vec<Range>, until: u64, now: Now) {
        let Some(group) = self.groups.all.get_mut(topic) else { return };
        group.change(at, |members| members.retain(|other| *other != member));
        group.until = group.until.max(until);
        if let Some(heir) = draw(group.members(), at) {
            if heir.0 == self.setup.worker {
                self.inherit(topic, heir.1, ranges);
            }
        } else if group.until > now.wall.0 {
            group.waiting = Some((ranges, at));
        } else {
            self.groups.all.remove(topic);
        }
    }

    /// A member of this worker reads also what another has left.
    fn inherit(&mut self, topic: &Topic, slot: Slot, ranges: Vec<Range>) {
        let Some(begin) = ranges.iter().map(|range| range.after).min() else { return };
        let current = self.current(slot.index)[0];
        let Some(here) = self.groups.all.get_mut(topic).and_then(|group| group.here(slot)) else { return };
        here.ranges.retain(|range| range.up_to > current);
        here.ranges.extend(ranges);
        if begin >= current {
            return;
        }
        here.had = here.had.max(current);
        let held = self.held(slot.index).iter().find(|held| self.table.share(held.list) == Some(topic)).copied();
        let Some(held) = held else { return };
        let group = self.table.group(held.list).map(Into::into);
        let (filter, terms) = (self.table.filter(held.list).clone(), Terms::unpack(held.terms));
        let start = Start::After(self.at(begin));
        self.subscribe_connection(slot, &Subscribe { start, terms, group, ..Subscribe::to([filter]) });
    }

    /// The connection leaves all its groups; what it holds of them its session still knows.
    pub(crate) fn leave_groups(&mut self, slot: Slot, now: Now) {
        self.groups.joining.retain(|joining| joining.slot != slot);
        let shared = |held: &crate::table::Held| self.table.share(held.list).cloned();
        let topics: Vec<Topic> = self.held(slot.index).iter().filter_map(shared).collect();
        if topics.is_empty() {
            return;
        }
        let session = self.session(slot.index).filter(|session| session.is_durable());
        let until = session.map_or(0, |session| now.wall.after(session.expiry).0);
        for topic in topics {
            let returned = self.take_back(slot, &topic);
            self.leave_group(&topic, slot, until, returned);
        }
    }

    /// The connection ends its subscription: what it was sent it still acknowledges.
    pub(crate) fn unsubscribe_group(&mut self, slot: Slot, filter: &Filter, group: &str) {
        if let Some(topic) = system::group_topic(group, filter.as_str()) {
            self.leave_group(&topic, slot, 0, Vec::new());
        }
    }

    /// Takes out of a member's window what others shall get: what it hasn't acknowledged at `QoS` 1, or was to get next.
    fn take_back(&mut self, slot: Slot, topic: &Topic) -> Vec<Offset> {
        let member = (self.setup.worker, slot);
        let groups = std::mem::take(&mut self.groups);
        let is_shared = |offset: Offset| groups.takes(topic, member, offset);
        let taken = self.session_mut(slot.index).map(|session| session.window.take_back(is_shared)).unwrap_or_default();
        self.groups = groups;
        taken
    }

    /// Says that a member leaves, and what of its is left.
    fn leave_group(&mut self, topic: &Topic, slot: Slot, until_ms: u64, returned: Vec<Offset>) {
        let position = self.current(slot.index)[0];
        let member = self.name(slot);
        let Some(group) = self.groups.all.get_mut(topic) else { return };
        let Some(at) = group.here.iter().position(|here| here.slot == slot) else { return };
        let here = group.here.swap_remove(at);
        let plate = &self.setup.plate;
        let name = |(worker, slot): Member| plate.name(worker, slot);
        let one = |offset: Offset| GroupRange { after: offset.0 - 1, up_to: Some(offset.0), of: None };
        let unread = here.ranges.iter().filter(|range| range.up_to > position).map(|range| GroupRange {
            after: range.after.max(position).0,
            up_to: Some(range.up_to.0),
            of: range.of.map(&name),
        });
        let own = GroupRange { after: position.max(here.had).0, up_to: None, of: Some(member.clone()) };
        let ranges = returned.into_iter().map(one).chain(unread).chain([own]).collect();
        let change = GroupChange::Leave { member, ranges, until_ms };
        self.append_passing(system::message(topic.clone(), &change, false));
    }
}
