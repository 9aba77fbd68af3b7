//! Subscribing and leaving.
//!
//! A connection has one read position for each partition, however many filters: a filter that begins earlier moves it
//! back, and the older filters skip what they were sent, by their own `since` (RULES 4).

use std::collections::VecDeque;

use everywire_base::ask::{Subscribe, Subscribed};
use everywire_base::cursor::{Offset, Start};
use everywire_base::id::{AskId, Slot};
use everywire_base::rules::{Caller, Refusal};
use everywire_base::terms::Greet;
use everywire_base::topic::Filter;
use smallvec::SmallVec;

use crate::Hub;
use crate::connection::{Connection, FILTER_BYTES};
use crate::lag::{Greeting, Lag, Positions, Since, State};
use crate::start::Opening;
use crate::table::{Held, Subscriber};
use crate::trie::ListId;

/// A filter that was granted.
struct Granted {
    filter: Filter,
    /// Which of the connection's filters it is.
    nth: usize,
    /// Whether the connection held it before.
    held: bool,
}

type Grants = SmallVec<[Granted; 1]>;

impl Hub {
    pub(crate) fn subscribe_connection(&mut self, slot: Slot, subscribe: &Subscribe) -> Subscribed {
        self.adopt(slot);
        let index = slot.index;
        let fresh = self.held(index).is_empty();
        if let (true, Some(walk)) = (fresh, &self.walk) {
            // It begins after the record under way.
            self.connections.reach(index).stamp = walk.stamp;
        }
        let (target, current) = (self.target(), self.current(index));
        let opening = self.open(&subscribe.start, &target);
        let who = subscribe.identity.clone().or_else(|| self.caller(index));
        let (granted, refused) = self.grant(index, subscribe, who.as_deref());
        if granted.is_empty() {
            return Subscribed { cursor: self.cursor(&current), refused, gap: false };
        }
        let greeting = if subscribe.start == Start::Latest && subscribe.group.is_none() {
            self.greeting(&granted, &opening.positions, subscribe)
        } else {
            None
        };
        let is_live = self.connections.get(index).is_some_and(|c| c.lag.is_none());
        let at_once =
            is_live && greeting.is_none() && current == target && self.has_nothing(&granted, &opening, &target);
        if at_once {
            return Subscribed { cursor: self.cursor(&target), refused, gap: false };
        }
        let (cursor, gap) = (self.cursor(&opening.positions), opening.owed.is_some());
        let mut lag = self.lag_from(index, fresh, &current, &granted, &opening);
        for (partition, until) in lag.kept_until.iter_mut().enumerate() {
            if opening.earliest[partition] {
                *until = target[partition];
            }
        }
        lag.greetings.extend(greeting);
        self.let_lag(index, lag);
        Subscribed { cursor, refused, gap }
    }

    /// Takes over the place from an earlier connection, should that not have been closed.
    pub(crate) fn adopt(&mut self, slot: Slot) {
        if self.connections.reach(slot.index).generation != slot.generation {
            self.leave_all(slot.index);
            *self.connections.reach(slot.index) = Connection { generation: slot.generation, ..Connection::default() };
        }
    }

    /// Sorts out what is allowed, and enters it into the table.
    fn grant(&mut self, index: u32, subscribe: &Subscribe, who: Caller<'_>) -> (Grants, Vec<(Filter, Refusal)>) {
        let (mut granted, mut refused) = (Grants::new(), Vec::new());
        let (group, terms) = (subscribe.group.as_deref(), subscribe.terms.pack());
        for filter in subscribe.filters.iter().cloned() {
            if let Err(refusal) = self.setup.rules.may_subscribe(who, &filter) {
                refused.push((filter, refusal));
                continue;
            }
            let held = self.held(index);
            let list = self.table.find_in(&filter, group);
            if let Some(nth) = list.and_then(|list| held.iter().position(|h| h.list == list)) {
                self.connections.reach(index).holding.as_mut_slice()[nth].terms = terms;
                granted.push(Granted { filter, nth, held: true });
                continue;
            }
            let nth = held.len();
            if let Err(refusal) = self.may_hold(index, &filter, 0) {
                refused.push((filter, refusal));
                continue;
            }
            let entered = self.table.join(&filter, group, Subscriber { connection: index, nth: nth as u32 }, terms);
            let table = &self.table;
            self.connections.reach(index).holding.push(entered, |held| table.filter(held.list).as_str().len());
            self.counters.subscriptions += 1;
            granted.push(Granted { filter, nth, held: false });
        }
        (granted, refused)
    }

    /// Whether a connection may hold another filter, beside so many that it waits for.
    pub(crate) fn may_hold(&self, index: u32, filter: &Filter, waits: usize) -> Result<(), Refusal> {
        let text = |held: Held| self.table.filter(held.list).as_str().len();
        let held = self.connections.get(index).map_or(0, |connection| connection.holding.weight(text));
        let (weight, most) =
            (held + filter.as_str().len() + FILTER_BYTES * (waits + 1), self.setup.limits.filter_bytes);
        if weight <= most {
            return Ok(());
        }
        let bound = format!(
            "a connection's filters take at most {most} bytes, each {FILTER_BYTES} and its text (limits.filter_bytes)"
        );
        Err(Refusal::TooMany(bound.into()))
    }

    /// Which retained messages may have to be sent first.
    fn greeting(&self, granted: &Grants, start: &Positions, subscribe: &Subscribe) -> Option<Greeting> {
        let is_meant = |g: &Granted| match subscribe.greet {
            Greet::Always => true,
            Greet::IfNew => !g.held,
            Greet::Never => false,
        };
        let may_have = |g: &&Granted| is_meant(g) && self.may_be_retained(&g.filter);
        let filters: Vec<Filter> = granted.iter().filter(may_have).map(|g| g.filter.clone()).collect();
        let (start, terms, waiting) = (start.clone(), subscribe.terms, VecDeque::new());
        (!filters.is_empty()).then(|| Greeting { filters, terms, start, partition: 0, after: None, waiting })
    }

    /// Whether nothing lies between where the filters begin and the mark, so that no read is needed.
    fn has_nothing(&self, granted: &Grants, opening: &Opening, target: &Positions) -> bool {
        if opening.owed.is_some() {
            return false;
        }
        (0..target.len()).all(|p| {
            let start = opening.positions[p];
            let filters = granted.iter().map(|g| &g.filter);
            let crosses = opening.resumed && self.hole_above(p, (start, Offset::BEGINNING), filters).is_some();
            !crosses && (start == target[p] || (start < target[p] && self.is_quiet(p, start, granted)))
        })
    }

    fn is_quiet(&self, partition: usize, after: Offset, granted: &Grants) -> bool {
        granted.iter().all(|g| match &g.filter {
            Filter::Exact(topic) => self.setup.tails[partition].is_quiet_since(topic, after),
            Filter::Wild(_) => false,
        })
    }

    /// The lag state with the new filters, and the read position moved back to where they begin.
    fn lag_from(
        &mut self,
        index: u32,
        fresh: bool,
        current: &Positions,
        granted: &Grants,
        opening: &Opening,
    ) -> Box<Lag> {
        let earlier = self.connections.reach(index).lag.take();
        self.counters.lagging -= u64::from(earlier.is_some());
        let from = if fresh { &opening.positions } else { current };
        let mut lag = earlier.unwrap_or_else(|| {
            let told = if opening.resumed { from.clone() } else { self.safe.clone() };
            Box::new(Lag::new(from.clone(), told))
        });
        // It was read for the filters that were there.
        lag.rest = None;
        let filters = self.held(index).len();
        lag.sinces.resize_with(filters, || Since { offsets: self.beginning(), earliest: false });
        for (nth, since) in lag.sinces.iter_mut().enumerate() {
            let anew = granted.iter().find(|g| g.nth == nth && !(g.held && opening.is_latest()));
            for (p, offset) in since.offsets.iter_mut().enumerate() {
                *offset = if anew.is_some() { opening.positions[p] } else { (*offset).max(current[p]) };
            }
            since.earliest = if anew.is_some() { opening.earliest.contains(&true) } else { since.earliest };
        }
        if lag.positions.iter().zip(&opening.positions).any(|(at, start)| start < at) {
            self.go_back(index, &mut lag);
        }
        for (p, start) in opening.positions.iter().enumerate() {
            lag.positions[p] = lag.positions[p].min(*start);
            lag.opening[p] |= opening.earliest[p];
            // What the new filters lose above their start is news, however far the others were told.
            let known = if opening.resumed { *start } else { self.safe[p].max(*start) };
            lag.told[p] = lag.told[p].min(known);
        }
        lag.owed = opening.owed.or(lag.owed);
        lag
    }

    /// What waits in the window for a message that comes later now would keep those before it from going out.
    fn go_back(&mut self, index: u32, lag: &mut Lag) {
        let (_, window) = self.connections.reach(index).parts();
        if let Some(window) = window.filter(|window| window.is_tagged()) {
            window.make_room();
            if matches!(lag.state, State::Saving | State::Window) {
                lag.state = State::Ready;
            }
        }
    }

    /// Puts a connection's lag state in place, and has it go on with the new positions.
    fn let_lag(&mut self, index: u32, mut lag: Box<Lag>) {
        if let Some(asked) = lag.asked() {
            // What was asked for is not what is wanted now; the page will be ignored.
            self.unask(index, asked);
            lag.state = State::Ready;
        }
        let ready = lag.state == State::Ready;
        self.connections.reach(index).lag = Some(lag);
        self.counters.lagging += 1;
        if ready {
            self.enqueue(index);
        }
    }

    /// Ends all subscriptions of a connection.
    pub(crate) fn leave_all(&mut self, index: u32) {
        self.leave_groups(self.slot_at(index));
        let Some(connection) = self.connections.get_mut(index) else { return };
        let holding = std::mem::take(&mut connection.holding);
        let lag = connection.lag.take();
        if let (_, Some(window)) = connection.parts() {
            window.make_room();
        }
        for held in holding.as_slice() {
            self.leave(*held);
        }
        let Some(lag) = lag else { return };
        self.counters.lagging -= 1;
        if let Some(asked) = lag.asked() {
            self.unask(index, asked);
        }
    }

    /// Ends one subscription of a connection, and says whether there was one. What was asked of the store for it is not
    /// offered any more.
    pub(crate) fn leave_filter(&mut self, index: u32, filter: &Filter, group: Option<&str>) -> bool {
        let Some(list) = self.table.find_in(filter, group) else { return false };
        let Some(nth) = self.held(index).iter().position(|held| held.list == list) else { return false };
        if self.held(index).len() == 1 {
            self.leave_all(index);
            return true;
        }
        let connection = self.connections.reach(index);
        let table = &self.table;
        let held = connection.holding.remove(nth, |held| table.filter(held.list).as_str().len());
        let lag = connection.lag.take();
        if let Some(lag) = lag {
            self.leave_lag(index, lag, nth, filter);
        }
        let connection = self.connections.reach(index);
        let moved: SmallVec<[Held; 8]> = connection.holding.as_slice()[nth..].into();
        // Before the list is left, so that every place still is what its connection says.
        moved.iter().zip(nth..).for_each(|(held, nth)| self.table.renumber(*held, nth as u32));
        self.leave(held);
        true
    }

    /// A lagging connection leaves its `nth` filter: nothing that only this takes is on its way any more.
    fn leave_lag(&mut self, index: u32, mut lag: Box<Lag>, nth: usize, filter: &Filter) {
        if nth < lag.sinces.len() {
            lag.sinces.remove(nth);
        }
        if let State::Greeting(asked) = lag.state {
            self.unask(index, asked);
            lag.state = State::Ready;
        }
        lag.greetings.retain_mut(|greeting| greeting.leave(filter));
        self.go_back(index, &mut lag);
        let ready = lag.state == State::Ready;
        self.connections.reach(index).lag = Some(lag);
        if ready {
            self.enqueue(index);
        }
    }

    fn leave(&mut self, held: Held) {
        self.counters.subscriptions -= 1;
        let left = self.table.leave(held);
        if let Some(moved) = left.moved {
            let connection = self.connections.reach(moved.connection);
            connection.holding.as_mut_slice()[moved.nth as usize].place = held.place;
        }
        if left.freed {
            self.forget(held.list);
        }
    }

    fn forget(&mut self, list: ListId) {
        if let Some(walk) = &mut self.walk {
            walk.forget(list);
        }
    }

    /// Takes back a read that hasn't gone to the store yet. Its session may wait for another.
    fn unask(&mut self, index: u32, asked: AskId) {
        self.reads.retain(|read| read.ticket.slot.index != index || read.ticket.ask != asked);
    }
}
