//! Catch-up: lagging connections read from their position up to the worker's mark; then they are live.
//!
//! Records that the tail still has are read there; the rest comes by pages from the store, one read per connection at a
//! time. All take turns by small shares under one budget. The gap of the cursor and retained messages come before any
//! other message.

use std::sync::Arc;

use everywire_base::ask::{Interest, Read, ReadKind};
use everywire_base::clock::Now;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::Slot;
use everywire_base::topic::Filter;

use super::connection::Connection;
use super::lag::{KEPT, Lag, Positions, State};
use super::replay::Replay;
use super::start::hole_above;
use super::window::Window;
use super::{Deliveries, Turn};
use crate::floor::{Event, Floor};

/// Messages that a connection may take before the next one has its turn.
const SHARE: usize = 64;
/// Records that are looked at for the price of one delivery.
const LOOKS_PER_DELIVERY: usize = 8;
/// The distance in records beyond which an index is faster than a look at every record.
const NEAR: u64 = 4096;

/// The result of a step with one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// It has work left, and others are waiting.
    Later,
    /// It waits for the event that its state names.
    Waits,
    /// It has every record, and is live.
    Live,
}

impl Deliveries {
    /// Gives each lagging connection that can go on its share, round and round, as far as the budget allows.
    pub(crate) fn catch_up(&mut self, budget: &mut usize, turn: &mut Turn<'_>) {
        self.wake(turn.floor, turn.now);
        // A connection that only waits for the mark comes up once, one with work until the budget ends.
        let mut idle = 0;
        while *budget > 0 && idle < self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(slot.index).filter(|c| c.generation == slot.generation)
            else {
                continue;
            };
            connection.queued = false;
            let before = *budget;
            let next = self.advance(slot, budget, turn);
            if *budget < before {
                idle = 0;
                continue;
            }
            *budget -= 1;
            idle += usize::from(next == Next::Later);
        }
    }

    /// Lets connections go on whose retry is due, and those for which there is room among the reads.
    fn wake(&mut self, floor: &Floor, now: Now) {
        while let Some((at, slot)) = self.retries.next(now.monotonic) {
            self.resume(slot, State::Retrying(at));
        }
        let mut places = floor.setup.limits.read_queue.saturating_sub(floor.out.reads.len());
        while places > 0 {
            let Some(slot) = self.parked.pop_front() else { return };
            // A connection that is gone takes no place.
            places -= usize::from(self.resume(slot, State::Parked));
        }
    }

    /// Lets a connection go on if it waited for exactly this state.
    pub(crate) fn resume(&mut self, slot: Slot, waited: State) -> bool {
        let Some(connection) = self.connections.get_mut(slot.index).filter(|c| c.generation == slot.generation) else {
            return false;
        };
        let Some(lag) = connection.lag.as_mut().filter(|lag| lag.state == waited) else { return false };
        lag.state = State::Ready;
        self.enqueue(slot.index);
        true
    }

    /// Goes on with one connection for its share.
    pub(super) fn advance(&mut self, slot: Slot, budget: &mut usize, turn: &mut Turn<'_>) -> Next {
        let Some(mut lag) = self.connections.get_mut(slot.index).and_then(|c| c.lag.take()) else { return Next::Live };
        let mut share = SHARE.min(*budget);
        let before = (share, lag.delivered);
        let next = if lag.state == State::Ready { self.step(slot, &mut lag, &mut share, turn) } else { Next::Waits };
        *budget -= before.0 - share;
        self.put_back(slot, lag, next, before.1, turn);
        self.save_tags(slot, turn.floor);
        next
    }

    /// Puts the lag state back, or ends it.
    pub(super) fn put_back(&mut self, slot: Slot, mut lag: Box<Lag>, next: Next, delivered: u64, turn: &mut Turn<'_>) {
        let has_delivered = lag.delivered > delivered;
        tell_of_loss(slot, &mut lag, turn.floor);
        let Some(connection) = self.connections.get_mut(slot.index) else { return };
        if next == Next::Live {
            if let Some(walk) = &self.walk {
                // It has read the record under way by itself.
                connection.fanned_out = walk.number;
            }
            if let (_, Some(window)) = connection.parts() {
                // Reading has passed everything that had a tag ahead of its turn.
                window.make_room();
            }
            turn.floor.counters.lagging -= 1;
        } else {
            connection.lag = Some(lag);
            if next == Next::Later {
                self.enqueue(slot.index);
            }
        }
        if has_delivered || next == Next::Live {
            turn.to.settled(slot);
        }
    }

    /// Asks for tags to be made durable, if deliveries wait for that.
    pub(super) fn save_tags(&self, slot: Slot, floor: &mut Floor) {
        if self.window(slot.index).is_some_and(Window::is_urgent) {
            floor.out.events.push_back(Event::Save(slot));
        }
    }

    fn step(&mut self, slot: Slot, lag: &mut Lag, share: &mut usize, turn: &mut Turn<'_>) -> Next {
        if self.window(slot.index).is_some_and(Window::is_held) {
            lag.state = State::Unconfirmed;
            return Next::Waits;
        }
        loop {
            if !lag.again.is_empty() || !lag.found.is_empty() {
                if !self.repeat(slot, lag, share, turn) {
                    return Next::Waits;
                }
                continue;
            }
            if !lag.greetings.is_empty() {
                if !self.greet(slot, lag, share, turn) {
                    return Next::Waits;
                }
                continue;
            }
            if !self.offer_rest(slot, lag, share, turn) {
                return if lag.state == State::Ready { Next::Later } else { Next::Waits };
            }
            let target = self.target();
            if !self.say_holes(slot, lag, &target, turn) {
                return Next::Waits;
            }
            let behind = |p: &usize| target[*p].0.saturating_sub(lag.positions[*p].0);
            let farthest = (0..target.len()).max_by_key(behind).unwrap_or_default();
            if behind(&farthest) == 0 {
                return self.arrive(slot, lag, &target, turn);
            }
            if *share == 0 {
                return Next::Later;
            }
            if !self.read_on(slot, lag, farthest, target[farthest], share, turn) {
                return if lag.state == State::Ready { Next::Later } else { Next::Waits };
            }
        }
    }

    /// Ends the lag of a connection that has come up to the mark in every partition, unless it is ahead of it.
    fn arrive(&mut self, slot: Slot, lag: &mut Lag, target: &Positions, turn: &mut Turn<'_>) -> Next {
        if lag.first_gap.is_some() && !self.replay(slot, 0, turn).say_first_gap(lag, None) {
            return Next::Waits;
        }
        let begun = |p: usize| lag.sinces.iter().all(|since| since.offsets[p] <= target[p]);
        let is_live = (0..target.len()).all(|p| lag.positions[p] == target[p] && begun(p));
        if is_live { Next::Live } else { Next::Later }
    }

    /// Reads on in one partition, from the tail if that will do, else from the store. `false` if it must wait.
    fn read_on(
        &mut self,
        slot: Slot,
        lag: &mut Lag,
        partition: usize,
        target: Offset,
        share: &mut usize,
        turn: &mut Turn<'_>,
    ) -> bool {
        let hole = self.next_hole(slot, lag, partition, turn.floor);
        let up_to = hole.map_or(target, |(first, _)| target.min(Offset(first.0.saturating_sub(1))));
        if self.reads_tail(slot, lag, partition, up_to, turn.floor) {
            if lag.first_gap.is_some() && !self.replay(slot, partition, turn).say_first_gap(lag, None) {
                return false;
            }
            let tail = Arc::clone(&turn.floor.setup.tails[partition]);
            let mut replay = self.replay(slot, partition, turn);
            let (mut looks, mut is_taken) = (0, true);
            let reached = tail.read(lag.positions[partition], up_to, |record| {
                looks += 1;
                if looks % LOOKS_PER_DELIVERY == 0 {
                    *share = share.saturating_sub(1);
                }
                if !is_taken {
                    return *share > 0 && replay.reserve(lag, record);
                }
                is_taken = replay.offer(lag, record, share);
                *share > 0 && (is_taken || lag.state == State::Saving)
            });
            if reached {
                if is_taken && *share > 0 {
                    lag.positions[partition] = lag.positions[partition].max(up_to);
                }
                return is_taken;
            }
        }
        let kind = self.history(slot, lag.positions[partition], up_to, turn.floor);
        self.ask(slot, lag, partition, kind, turn.floor);
        false
    }

    /// A read of a page as large as there is room for: more would be read in vain.
    fn history(&self, slot: Slot, after: Offset, up_to: Offset, floor: &Floor) -> ReadKind {
        let limits = &floor.setup.limits;
        let max_bytes = limits.page_bytes.min(limits.outbox_bytes);
        let window = self.connections.get(slot.index).filter(|c| c.windowed).and_then(|c| c.window.as_ref());
        let room = window.map_or(usize::MAX, |window| window.room().saturating_add(KEPT.0));
        let max_records = limits.page_messages_max.min(room);
        ReadKind::History { after, up_to, max_records, max_bytes, with_recalled: false }
    }

    /// Offers the records of the last page that found no room; `false` if there is still none.
    fn offer_rest(&mut self, slot: Slot, lag: &mut Lag, share: &mut usize, turn: &mut Turn<'_>) -> bool {
        let Some(mut rest) = lag.rest.take() else { return true };
        let mut replay = self.replay(slot, rest.partition, turn);
        while let Some(record) = rest.records.front() {
            if *share == 0 || !replay.offer(lag, record, share) {
                if lag.state == State::Saving {
                    let _ = rest.records.iter().skip(1).all(|record| replay.reserve(lag, record));
                }
                lag.rest = Some(rest);
                return false;
            }
            rest.records.pop_front();
        }
        lag.positions[rest.partition] = lag.positions[rest.partition].max(rest.up_to);
        true
    }

    /// Whether the tail is the place to read on: it reaches back that far, and the store wouldn't be faster.
    fn reads_tail(&self, slot: Slot, lag: &Lag, partition: usize, up_to: Offset, floor: &Floor) -> bool {
        let position = lag.positions[partition];
        if position < lag.kept_until[partition] || position < floor.setup.tails[partition].start() {
            return false;
        }
        let is_near = up_to.0 - position.0 <= NEAR || lag.is_close[partition];
        is_near || !self.filters(slot.index).all(|filter| is_kept(filter, floor))
    }

    /// Asks the store, or waits for room among the reads.
    pub(super) fn ask(&mut self, slot: Slot, lag: &mut Lag, partition: usize, kind: ReadKind, floor: &mut Floor) {
        if floor.out.reads.len() >= floor.setup.limits.read_queue {
            lag.state = State::Parked;
            self.parked.push_back(slot);
            return;
        }
        let greeting = lag.greetings.front().filter(|_| matches!(kind, ReadKind::Retained { .. }));
        // A greeting holds the messages that were retained when the subscription began, so the store must have come
        // that far. The same holds for the earliest kept: the store must know which messages it doesn't keep.
        let kept = Some(lag.kept_until[partition]).filter(|until| lag.positions[partition] < *until);
        let begun = greeting.map(|greeting| greeting.start[partition]);
        // A delivery that was sent must be known to the store, else it would count as gone.
        let sent = if let ReadKind::Records(offsets) = &kind { offsets.iter().max().copied() } else { None };
        let applied = sent.or(begun).or(kept).unwrap_or(Offset::BEGINNING);
        let interests = if let Some(greeting) = greeting {
            let interest = |f: &Filter| Interest { filter: f.clone(), since: Offset::BEGINNING };
            greeting.filters.iter().map(interest).collect()
        } else {
            let since = |nth| lag.since(nth, partition);
            let interest = |(nth, f): (usize, &Filter)| Interest { filter: f.clone(), since: since(nth) };
            self.filters(slot.index).enumerate().map(interest).collect()
        };
        let ask = floor.next_ask();
        lag.state = match &kind {
            ReadKind::History { up_to, .. } => State::Reading(ask, *up_to),
            ReadKind::Retained { .. } => State::Greeting(ask),
            // A lagging connection never reads backwards.
            ReadKind::Records(_) | ReadKind::Backwards { .. } => State::Again(ask),
        };
        let reply_to = floor.to_connection(slot, ask);
        floor.read(Read { reply_to, partition: Partition(partition as u16), interests, applied, kind });
    }

    /// The next hole in which a crash may have lost something for this connection.
    fn next_hole(&self, slot: Slot, lag: &Lag, partition: usize, floor: &Floor) -> Option<(Offset, Offset)> {
        let above = (lag.positions[partition], lag.known_losses[partition]);
        hole_above(partition, above, self.filters(slot.index), &floor.setup)
    }

    /// Says the gaps of the holes that the connection has come up to; `false` if nothing may follow now.
    fn say_holes(&mut self, slot: Slot, lag: &mut Lag, target: &Positions, turn: &mut Turn<'_>) -> bool {
        for (partition, target) in target.iter().enumerate() {
            while let Some((first, last)) = self.next_hole(slot, lag, partition, turn.floor) {
                let position = lag.positions[partition];
                if position < *target && position.next() < first {
                    break;
                }
                let topic = self.filters(slot.index).next().map_or_else(Box::default, |f| f.as_str().into());
                let goes_on = last.min(*target).max(position);
                if !self.replay(slot, partition, turn).say_hole(lag, topic, (goes_on, last)) {
                    return false;
                }
            }
        }
        true
    }

    /// The replay that hands records to a lagging connection.
    pub(super) fn replay<'a>(&'a mut self, slot: Slot, partition: usize, turn: &'a mut Turn<'_>) -> Replay<'a> {
        let parts = self.connections.get_mut(slot.index).map(Connection::parts);
        let (held, window) = parts.unwrap_or_default();
        Replay {
            slot,
            who: turn.floor.reader(slot.index).cloned(),
            partition,
            epoch: turn.floor.setup.lineages[partition].epoch,
            held,
            window,
            table: &self.table,
            shares: turn.shares,
            seat: turn.floor.seat,
            rules: &turn.floor.setup.rules,
            parcels: &mut self.parcels,
            recalls: &self.recalls,
            counters: &mut turn.floor.counters,
            now: turn.now,
            to: turn.to,
        }
    }
}

/// Whether the store keeps the messages that the filter takes, with an index for them.
fn is_kept(filter: &Filter, floor: &Floor) -> bool {
    match filter {
        Filter::Exact(topic) => floor.setup.rules.of(topic).keeps_history(),
        Filter::Wild(_) => false,
    }
}

/// Tells of a gap that was said: not every wire has a word for it.
fn tell_of_loss(slot: Slot, lag: &mut Lag, floor: &mut Floor) {
    if let Some(topic) = lag.lost.take() {
        floor.out.events.push_back(Event::Lost(slot, topic));
    }
}
