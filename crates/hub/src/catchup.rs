//! Catch-up: lagging connections read from where they stand to the worker's mark, and are live then.
//!
//! What the tail has is read there; the rest comes by pages from the store, one read per connection at a time. All
//! take turns by small shares under one budget. Before any message come a gap that is owed and retained messages.

use std::sync::Arc;

use everywire_base::ask::{Interest, Read, ReadKind};
use everywire_base::clock::Now;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::notice::{Notice, Refused};
use everywire_base::topic::Filter;

use crate::connection::Connection;
use crate::lag::{KEPT, Lag, Positions, State};
use crate::replay::Replay;
use crate::{Deliver, Hub};

/// Messages that a connection may take before the next one has its turn.
const SHARE: usize = 64;
/// Records that are looked at for the price of one delivery.
const LOOKS_PER_DELIVERY: usize = 8;
/// Farther behind than this, an index is faster than looking at every record.
const NEAR: u64 = 4096;

/// How it goes on with a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// It has work left, and others are waiting.
    Later,
    /// It waits for what its state says.
    Waits,
    /// It has all that there is.
    Live,
}

impl Hub {
    /// Gives each lagging connection that can go on its share, round and round, as far as the budget allows.
    pub(crate) fn catch_up(&mut self, budget: &mut usize, now: Now, to: &mut dyn Deliver) {
        self.wake(now);
        // Those that only wait for the mark come up once, those with work until the budget ends.
        let mut idle = 0;
        while *budget > 0 && idle < self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(slot.index).filter(|c| c.generation == slot.generation)
            else {
                continue;
            };
            connection.queued = false;
            let before = *budget;
            let next = self.go_on(slot, budget, now, to);
            if *budget < before {
                idle = 0;
                continue;
            }
            *budget -= 1;
            idle += usize::from(next == Next::Later);
        }
    }

    /// Lets those go on whose time has come, or for whom there is room among the reads.
    fn wake(&mut self, now: Now) {
        while let Some((at, slot)) = self.retries.first().copied().filter(|(at, _)| *at <= now.monotonic) {
            self.retries.pop_first();
            self.resume(slot, State::Retrying(at));
        }
        let mut places = self.setup.limits.read_queue.saturating_sub(self.reads.len());
        while places > 0 {
            let Some(slot) = self.parked.pop_front() else { return };
            // One that is gone takes no place.
            places -= usize::from(self.resume(slot, State::Parked));
        }
    }

    /// Lets a connection go on that waited for just this.
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
    pub(crate) fn go_on(&mut self, slot: Slot, budget: &mut usize, now: Now, to: &mut dyn Deliver) -> Next {
        let Some(mut lag) = self.connections.get_mut(slot.index).and_then(|c| c.lag.take()) else { return Next::Live };
        let mut share = SHARE.min(*budget);
        let before = (share, lag.delivered);
        let next = if lag.state == State::Ready { self.step(slot, &mut lag, &mut share, now, to) } else { Next::Waits };
        *budget -= before.0 - share;
        self.put_back(slot, lag, next, before.1, to);
        self.write_tags(slot, now);
        next
    }

    /// Puts the lag state back, or ends it.
    pub(crate) fn put_back(&mut self, slot: Slot, mut lag: Box<Lag>, next: Next, delivered: u64, to: &mut dyn Deliver) {
        let has_delivered = lag.delivered > delivered;
        self.tell_of_loss(slot, &mut lag);
        let Some(connection) = self.connections.get_mut(slot.index) else { return };
        if next == Next::Live {
            if let Some(walk) = &self.walk {
                // It has read the record under way by itself.
                connection.stamp = walk.stamp;
            }
            if let (_, Some(window)) = connection.parts() {
                // Reading has passed everything that had a tag ahead of its turn.
                window.make_room();
            }
            self.counters.lagging -= 1;
        } else {
            connection.lag = Some(lag);
            if next == Next::Later {
                self.enqueue(slot.index);
            }
        }
        if has_delivered || next == Next::Live {
            to.settled(slot);
        }
    }

    /// Tells operators that a session has lost something: not every wire has a word for it.
    fn tell_of_loss(&mut self, slot: Slot, lag: &mut Lag) {
        let Some(topic) = lag.lost.take() else { return };
        let Some(session) = self.session(slot.index) else { return };
        let why = format!("of {topic}: they were not kept until it came for them; raise `history` of the topic's rule");
        self.notices.push((Some(slot), Notice::new(Refused::Lost, why).of(&session.id)));
    }

    fn step(&mut self, slot: Slot, lag: &mut Lag, share: &mut usize, now: Now, to: &mut dyn Deliver) -> Next {
        if self.session(slot.index).is_some_and(|session| session.window.is_held()) {
            lag.state = State::Unconfirmed;
            return Next::Waits;
        }
        loop {
            if !lag.again.is_empty() || !lag.found.is_empty() {
                if !self.repeat(slot, lag, share, to) {
                    return Next::Waits;
                }
                continue;
            }
            if !lag.greetings.is_empty() {
                if !self.greet(slot, lag, share, now, to) {
                    return Next::Waits;
                }
                continue;
            }
            if !self.offer_rest(slot, lag, share, now, to) {
                return if lag.state == State::Ready { Next::Later } else { Next::Waits };
            }
            let target = self.target();
            if !self.say_holes(slot, lag, &target, now, to) {
                return Next::Waits;
            }
            let behind = |p: &usize| target[*p].0.saturating_sub(lag.positions[*p].0);
            let farthest = (0..target.len()).max_by_key(behind).unwrap_or_default();
            if behind(&farthest) == 0 {
                return self.arrive(slot, lag, &target, now, to);
            }
            if *share == 0 {
                return Next::Later;
            }
            if !self.read_on(slot, lag, farthest, target[farthest], share, now, to) {
                return if lag.state == State::Ready { Next::Later } else { Next::Waits };
            }
        }
    }

    /// It has come up to the mark everywhere, unless it is ahead of it.
    fn arrive(&mut self, slot: Slot, lag: &mut Lag, target: &Positions, now: Now, to: &mut dyn Deliver) -> Next {
        if lag.owed.is_some() && !self.replay(slot, 0, now, to).say_owed(lag, None) {
            return Next::Waits;
        }
        let begun = |p: usize| lag.sinces.iter().all(|since| since.offsets[p] <= target[p]);
        let is_live = (0..target.len()).all(|p| lag.positions[p] == target[p] && begun(p));
        if is_live { Next::Live } else { Next::Later }
    }

    /// Reads on in one partition, from the tail if that will do, else from the store. `false` if it must wait.
    #[expect(
        clippy::too_many_arguments,
        reason = "the connection, its share and the turn are passed apart to be borrowed apart"
    )]
    fn read_on(
        &mut self,
        slot: Slot,
        lag: &mut Lag,
        partition: usize,
        target: Offset,
        share: &mut usize,
        now: Now,
        to: &mut dyn Deliver,
    ) -> bool {
        let hole = self.next_hole(slot, lag, partition);
        let up_to = hole.map_or(target, |(first, _)| target.min(Offset(first.0.saturating_sub(1))));
        if self.reads_tail(slot, lag, partition, up_to) {
            if lag.owed.is_some() && !self.replay(slot, partition, now, to).say_owed(lag, None) {
                return false;
            }
            let tail = Arc::clone(&self.setup.tails[partition]);
            let mut replay = self.replay(slot, partition, now, to);
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
        let kind = self.history(slot, lag.positions[partition], up_to);
        self.ask(slot, lag, partition, kind);
        false
    }

    /// A page as large as there is room for: more would be read in vain.
    fn history(&self, slot: Slot, after: Offset, up_to: Offset) -> ReadKind {
        let limits = &self.setup.limits;
        let max_bytes = limits.page_bytes.min(limits.outbox_bytes);
        let window = self.connections.get(slot.index).filter(|c| c.windowed).and(self.session(slot.index));
        let room = window.map_or(usize::MAX, |session| session.window.room().saturating_add(KEPT.0));
        ReadKind::History { after, up_to, max_records: limits.page_messages_max.min(room), max_bytes }
    }

    /// Offers what of the last page there was no room for; `false` if there is none now.
    fn offer_rest(&mut self, slot: Slot, lag: &mut Lag, share: &mut usize, now: Now, to: &mut dyn Deliver) -> bool {
        let Some(mut rest) = lag.rest.take() else { return true };
        let mut replay = self.replay(slot, rest.partition, now, to);
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
    fn reads_tail(&self, slot: Slot, lag: &Lag, partition: usize, up_to: Offset) -> bool {
        let position = lag.positions[partition];
        if position < lag.kept_until[partition] || position < self.setup.tails[partition].start() {
            return false;
        }
        let is_near = up_to.0 - position.0 <= NEAR || lag.is_close[partition];
        is_near || !self.filters(slot.index).all(|filter| self.is_kept(filter))
    }

    /// Whether the store keeps what the filter takes, with an index for it.
    fn is_kept(&self, filter: &Filter) -> bool {
        match filter {
            Filter::Exact(topic) => self.setup.rules.of(topic).keeps_history(),
            Filter::Wild(_) => false,
        }
    }

    /// Asks the store, or waits for room among the reads.
    pub(crate) fn ask(&mut self, slot: Slot, lag: &mut Lag, partition: usize, kind: ReadKind) {
        if self.reads.len() >= self.setup.limits.read_queue {
            lag.state = State::Parked;
            self.parked.push_back(slot);
            return;
        }
        let greeting = lag.greetings.front().filter(|_| matches!(kind, ReadKind::Retained { .. }));
        // A greeting tells what was retained when the subscription began, so the store must have come that far.
        // So does the earliest kept: what isn't kept must be known as such.
        let kept = Some(lag.kept_until[partition]).filter(|until| lag.positions[partition] < *until);
        let begun = greeting.map(|greeting| greeting.start[partition]);
        // What was sent must be known to the store, else it would count as gone.
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
        self.last_ask = self.last_ask.wrapping_add(1);
        let ask = AskId(self.last_ask);
        lag.state = match &kind {
            ReadKind::History { up_to, .. } => State::Reading(ask, *up_to),
            ReadKind::Retained { .. } => State::Greeting(ask),
            // Nobody who lags reads backwards.
            ReadKind::Records(_) | ReadKind::Backwards { .. } => State::Again(ask),
        };
        let ticket = Ticket { worker: self.setup.worker, slot, ask };
        self.reads.push_back(Read { ticket, partition: Partition(partition as u16), interests, applied, kind });
        self.counters.reads += 1;
    }

    /// The next hole in which a crash may have lost something for this connection.
    fn next_hole(&self, slot: Slot, lag: &Lag, partition: usize) -> Option<(Offset, Offset)> {
        let above = (lag.positions[partition], lag.told[partition]);
        self.hole_above(partition, above, self.filters(slot.index))
    }

    /// Says the gaps of holes that it has come up to; `false` if nothing may follow now.
    fn say_holes(&mut self, slot: Slot, lag: &mut Lag, target: &Positions, now: Now, to: &mut dyn Deliver) -> bool {
        for (partition, target) in target.iter().enumerate() {
            while let Some((first, last)) = self.next_hole(slot, lag, partition) {
                let position = lag.positions[partition];
                if position < *target && position.next() < first {
                    break;
                }
                let topic = self.filters(slot.index).next().map_or_else(Box::default, |f| f.as_str().into());
                let goes_on = last.min(*target).max(position);
                if !self.replay(slot, partition, now, to).say_hole(lag, topic, (goes_on, last)) {
                    return false;
                }
            }
        }
        true
    }

    /// The filters of a connection, in their order.
    pub(crate) fn filters(&self, index: u32) -> impl Iterator<Item = &Filter> {
        self.held(index).iter().map(|held| self.table.filter(held.list))
    }

    /// What hands records to a lagging connection.
    pub(crate) fn replay<'a>(
        &'a mut self,
        slot: Slot,
        partition: usize,
        now: Now,
        to: &'a mut dyn Deliver,
    ) -> Replay<'a> {
        let parts = self.connections.get_mut(slot.index).map(Connection::parts);
        let (held, window) = parts.unwrap_or_default();
        Replay {
            slot,
            partition,
            epoch: self.setup.lineages[partition].epoch,
            held,
            window,
            table: &self.table,
            groups: &self.groups,
            worker: self.setup.worker,
            rules: &self.setup.rules,
            parcels: &mut self.parcels,
            counters: &mut self.counters,
            now,
            to,
        }
    }
}
