//! Subscribing.
//!
//! A connection has one read position for each partition, however many filters: a filter that begins earlier moves it
//! back, and the older filters skip the records that they were sent, by their own `since` (RULES 4).

use std::collections::VecDeque;

use everywire_base::ask::{Subscribe, Subscribed};
use everywire_base::cursor::{Offset, Start};
use everywire_base::id::Slot;
use everywire_base::rules::{Caller, Refusal};
use everywire_base::terms::RetainHandling;
use everywire_base::topic::Filter;
use smallvec::SmallVec;

use super::Deliveries;
use super::connection::FILTER_BYTES;
use super::lag::{Greeting, Lag, Positions, Since, State};
use super::leave::unask;
use super::start::StartPoint;
use super::start::hole_above;
use super::table::{Held, Subscriber};
use crate::floor::{Floor, Setup};

/// A filter that was granted.
struct Granted {
    filter: Filter,
    /// Its number among the connection's filters.
    nth: usize,
    /// Whether the connection held it before.
    held: bool,
}

type Grants = SmallVec<[Granted; 1]>;

impl Deliveries {
    /// Subscribes a connection, in addition to its other subscriptions.
    pub(crate) fn subscribe(&mut self, slot: Slot, subscribe: &Subscribe, floor: &mut Floor) -> Subscribed {
        let index = slot.index;
        let fresh = self.held(index).is_empty();
        if let (true, Some(walk)) = (fresh, &self.walk) {
            // It begins after the record under way.
            self.connections.reach(index).fanned_out = walk.number;
        }
        let (target, current) = (self.target(), self.current(index));
        let opening = self.open(&subscribe.start, &target, &floor.setup);
        let who = subscribe.identity.clone().or_else(|| floor.caller(index).cloned());
        let (granted, refused) = self.grant(index, subscribe, who.as_deref(), floor);
        if !granted.is_empty() && subscribe.identity.is_some() {
            floor.set_reader(index, subscribe.identity.clone());
        }
        if granted.is_empty() {
            return Subscribed { cursor: floor.cursor(&current), refused, gap: false };
        }
        let greeting = if subscribe.start == Start::Latest && subscribe.group.is_none() {
            greeting(&granted, &opening.positions, subscribe, floor)
        } else {
            None
        };
        let is_live = self.connections.get(index).is_some_and(|c| c.lag.is_none());
        let at_once = is_live
            && greeting.is_none()
            && current == target
            && has_nothing(&granted, &opening, &target, &floor.setup);
        if at_once {
            return Subscribed { cursor: floor.cursor(&target), refused, gap: false };
        }
        let (cursor, gap) = (floor.cursor(&opening.positions), opening.first_gap.is_some());
        let mut lag = self.lag_from(index, fresh, &current, (&granted, &opening), floor);
        for (partition, until) in lag.kept_until.iter_mut().enumerate() {
            if opening.earliest[partition] {
                *until = target[partition];
            }
        }
        lag.greetings.extend(greeting);
        self.let_lag(index, lag, floor);
        Subscribed { cursor, refused, gap }
    }

    /// Enters the filters that are granted into the table, and gives the refused ones.
    fn grant(
        &mut self,
        index: u32,
        subscribe: &Subscribe,
        who: Caller<'_>,
        floor: &mut Floor,
    ) -> (Grants, Vec<(Filter, Refusal)>) {
        let (mut granted, mut refused) = (Grants::new(), Vec::new());
        let (group, terms) = (subscribe.group.as_deref(), subscribe.terms.pack());
        for filter in subscribe.filters.iter().cloned() {
            if let Err(refusal) = floor.grants(who, &filter) {
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
            if let Err(refusal) = self.may_hold(index, &filter, 0, floor) {
                refused.push((filter, refusal));
                continue;
            }
            let entered = self.table.join(&filter, group, Subscriber { connection: index, nth: nth as u32 }, terms);
            let table = &self.table;
            self.connections.reach(index).holding.push(entered, |held| table.filter(held.list).as_str().len());
            floor.counters.subscriptions += 1;
            granted.push(Granted { filter, nth, held: false });
        }
        (granted, refused)
    }

    /// Whether a connection may hold another filter, besides the number that it waits for.
    pub(crate) fn may_hold(&self, index: u32, filter: &Filter, waits: usize, floor: &Floor) -> Result<(), Refusal> {
        let text = |held: Held| self.table.filter(held.list).as_str().len();
        let held = self.connections.get(index).map_or(0, |connection| connection.holding.weight(text));
        let (weight, most) =
            (held + filter.as_str().len() + FILTER_BYTES * (waits + 1), floor.setup.limits.filter_bytes);
        if weight <= most {
            return Ok(());
        }
        let bound = format!(
            "a connection's filters take at most {most} bytes, each {FILTER_BYTES} and its text (limits.filter_bytes)"
        );
        Err(Refusal::TooMany(bound.into()))
    }

    /// The lag state with the new filters, and the read position moved back to where they begin.
    fn lag_from(
        &mut self,
        index: u32,
        fresh: bool,
        current: &Positions,
        (granted, opening): (&Grants, &StartPoint),
        floor: &mut Floor,
    ) -> Box<Lag> {
        let earlier = self.connections.reach(index).lag.take();
        floor.counters.lagging -= u64::from(earlier.is_some());
        let from = if fresh { &opening.positions } else { current };
        let mut lag = earlier.unwrap_or_else(|| {
            let told = if opening.resumed { from.clone() } else { self.hole_ends.clone() };
            Box::new(Lag::new(from.clone(), told))
        });
        // The rest was read for the filters of before.
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
            // A loss of the new filters above their start is news, however far the others were told.
            let known = if opening.resumed { *start } else { self.hole_ends[p].max(*start) };
            lag.known_losses[p] = lag.known_losses[p].min(known);
        }
        lag.first_gap = opening.first_gap.or(lag.first_gap);
        lag
    }

    /// Gives back the tags that were reserved for later messages: they would keep the earlier ones from going out.
    pub(super) fn go_back(&mut self, index: u32, lag: &mut Lag) {
        let (_, window) = self.connections.reach(index).parts();
        if let Some(window) = window.filter(|window| window.is_tagged()) {
            window.make_room();
            if matches!(lag.state, State::Saving | State::Window) {
                lag.state = State::Ready;
            }
        }
    }

    /// Puts a connection's lag state in place, and lets it go on from the new positions.
    fn let_lag(&mut self, index: u32, mut lag: Box<Lag>, floor: &mut Floor) {
        if let Some(asked) = lag.asked() {
            // The page that was asked for is not the one that is wanted now; it will be ignored.
            unask(index, asked, floor);
            lag.state = State::Ready;
        }
        let ready = lag.state == State::Ready;
        self.connections.reach(index).lag = Some(lag);
        floor.counters.lagging += 1;
        if ready {
            self.enqueue(index);
        }
    }
}

/// The greeting of retained messages that may have to be sent first, if there may be any.
fn greeting(granted: &Grants, start: &Positions, subscribe: &Subscribe, floor: &Floor) -> Option<Greeting> {
    let is_meant = |g: &Granted| match subscribe.retained {
        RetainHandling::Always => true,
        RetainHandling::IfNew => !g.held,
        RetainHandling::Never => false,
    };
    let may_have = |g: &&Granted| is_meant(g) && floor.may_be_retained(&g.filter);
    let filters: Vec<Filter> = granted.iter().filter(may_have).map(|g| g.filter.clone()).collect();
    let (start, terms, waiting) = (start.clone(), subscribe.terms, VecDeque::new());
    (!filters.is_empty()).then(|| Greeting { filters, terms, start, partition: 0, after: None, waiting })
}

fn is_quiet(setup: &Setup, partition: usize, after: Offset, granted: &Grants) -> bool {
    granted.iter().all(|g| match &g.filter {
        Filter::Exact(topic) => setup.tails[partition].is_quiet_since(topic, after),
        Filter::Wild(_) => false,
    })
}

/// Whether nothing lies between where the filters begin and the mark, so that no read is needed.
fn has_nothing(granted: &Grants, opening: &StartPoint, target: &Positions, setup: &Setup) -> bool {
    if opening.first_gap.is_some() {
        return false;
    }
    (0..target.len()).all(|p| {
        let start = opening.positions[p];
        let filters = granted.iter().map(|g| &g.filter);
        let crosses = opening.resumed && hole_above(p, (start, Offset::BEGINNING), filters, setup).is_some();
        !crosses && (start == target[p] || (start < target[p] && is_quiet(setup, p, start, granted)))
    })
}
