//! Fan-out: every record between the worker's mark and the head goes to the live connections that are subscribed.
//!
//! The budget may end in the midst of a record with many subscribers. Then the walk keeps its place and the mark
//! waits. Lists are walked from their end, so that a place that is left is filled from what was walked already; a
//! connection's stamp tells whether the record has reached it. Whoever subscribes or becomes live during a walk has
//! the record already, or isn't meant to get it, and is stamped.

use std::rc::Rc;
use std::sync::Arc;

use everywire_base::clock::Now;
use everywire_base::cursor::Offset;
use everywire_base::id::Slot;
use everywire_base::parcel::{Delivery, Parcel, Taken};
use everywire_base::record::Record;
use everywire_base::terms::{Manner, Terms};
use smallvec::SmallVec;

use crate::chunked::Chunked;
use crate::connection::Connection;
use crate::lag::{Lag, State};
use crate::manner::{Matched, Outgoing};
use crate::table::Held;
use crate::trie::{ListId, NONE};
use crate::window::Sent;
use crate::{Deliver, Hub};

/// Filters that are looked at for the price of one delivery.
pub(crate) const FINDS_PER_DELIVERY: usize = 16;

/// A record on its way to its subscribers.
pub(crate) struct Walk {
    pub(crate) partition: usize,
    pub(crate) offset: Offset,
    /// What stamps those that it has reached.
    pub(crate) stamp: u64,
    parcel: Rc<Parcel>,
    /// The lists that it goes to, ascending, and those of them that are still to come.
    all: SmallVec<[ListId; 4]>,
    lists: SmallVec<[ListId; 4]>,
    /// Of those that are shared, which connection gets it; none if it is another worker's.
    drawn: SmallVec<[(ListId, u32); 1]>,
    /// How many subscribers of the last list are still to come.
    place: usize,
}

impl Walk {
    /// A list is gone; its name may be used again.
    pub(crate) fn forget(&mut self, list: ListId) {
        self.lists.iter_mut().filter(|l| **l == list).for_each(|l| *l = NONE);
    }

    /// It goes on in another turn: what expires lives less long by then.
    fn renew(&mut self) {
        if self.parcel.message().expires.is_some() {
            let again = Parcel::new(Arc::clone(self.parcel.record()), self.parcel.cursor().epoch);
            self.parcel = again.map_or_else(|| Rc::clone(&self.parcel), Rc::new);
        }
    }

    /// The connection that was drawn, if the list is shared; none if it is another worker's.
    fn drawn(&self, list: ListId) -> Option<u32> {
        self.drawn.iter().find(|(shared, _)| *shared == list).map(|(_, drawn)| *drawn)
    }

    /// Whether a connection gets the record by this list.
    fn is_for(&self, list: ListId, index: u32) -> bool {
        self.drawn(list).is_none_or(|drawn| drawn == index)
    }

    /// Hands the record to a live connection by its `nth` filter: whether it got it, or what it waits for.
    fn push(
        &self,
        connection: &mut Connection,
        (index, nth): (u32, usize),
        deliver: impl FnOnce(&Delivery<'_>) -> Taken,
    ) -> Result<bool, State> {
        let (held, window) = connection.parts();
        let plain = Delivery::Message(&self.parcel, Manner::PLAIN);
        let taken = |taken: Taken| if taken == Taken::Full { Err(State::Full) } else { Ok(true) };
        let Some(window) = window else { return taken(deliver(&plain)) };
        if !window.is_tagged() {
            if let Some(state) = State::of(window) {
                return Err(state);
            }
            taken(deliver(&plain))?;
            window.push(Sent::up_to(self.partition, self.offset));
            return Ok(true);
        }
        let terms = self.matching(held, (index, nth)).map(|held| Terms::unpack(held.terms));
        let Some(matched) = Matched::of(terms, self.parcel.message(), window.origin()) else { return Ok(false) };
        let outgoing = Outgoing { parcel: &self.parcel, matched: &matched, partition: self.partition, retained: false };
        outgoing.send(window, deliver)
    }

    /// Those of a connection's filters that take the record.
    fn matching<'a>(&'a self, held: &'a [Held], (index, nth): (u32, usize)) -> impl Iterator<Item = &'a Held> {
        // Of one list there can be no other.
        let only = self.all.len() == 1;
        let is_matched = |held: &Held| self.all.binary_search(&held.list).is_ok();
        let all = held.iter().filter(move |held| !only && is_matched(held) && self.is_for(held.list, index));
        held.get(nth).filter(|_| only).into_iter().chain(all)
    }
}

impl Hub {
    /// Goes from the mark to the head, as far as the budget allows.
    pub(crate) fn fan_out(&mut self, budget: &mut usize, now: Now, to: &mut dyn Deliver) {
        if let Some(walk) = &mut self.walk {
            walk.renew();
        }
        if !self.walk_on(budget, to) {
            return;
        }
        let (partitions, first) = (self.marks.len(), self.first_partition);
        for partition in (0..partitions).map(|p| (p + first) % partitions) {
            let tail = Arc::clone(&self.setup.tails[partition]);
            let head = tail.head();
            if !tail.read(self.marks[partition], head, |record| self.fan_record(record, budget, now, to)) {
                self.fell_behind(partition, now);
            }
            if self.walk.is_some() {
                break;
            }
        }
        self.first_partition = (first + 1) % partitions;
    }

    /// One record; `false` if the budget is used up.
    fn fan_record(&mut self, record: &Arc<Record>, budget: &mut usize, now: Now, to: &mut dyn Deliver) -> bool {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        let partition = usize::from(record.partition.0);
        let mut lists = SmallVec::new();
        if let Some(message) = record.message() {
            self.own_record(record, message, now);
            self.table.matching(&message.topic, &mut lists);
            // Finding them is work too, however few subscribers each has.
            *budget = budget.saturating_sub(lists.len() / FINDS_PER_DELIVERY);
            if !lists.is_empty() && message.is_expired(now.wall) {
                self.counters.expired += 1;
                lists.clear();
            }
        }
        let epoch = self.setup.lineages[partition].epoch;
        let parcel = if lists.is_empty() { None } else { Parcel::new(Arc::clone(record), epoch) };
        let Some(parcel) = parcel else {
            self.marks[partition] = record.offset;
            // Confirmations are sent before messages.
            return self.answers.is_empty();
        };
        self.remember(record, now);
        self.stamp += 1;
        let (offset, stamp) = (record.offset, self.stamp);
        let (mut all, parcel) = (lists.clone(), Rc::new(parcel));
        all.sort_unstable();
        let draw = |list: &ListId| {
            let topic = self.table.share(*list)?;
            Some((*list, self.groups.drawn(topic, self.setup.worker, offset).unwrap_or(NONE)))
        };
        let drawn = all.iter().filter_map(draw).collect();
        self.walk = Some(Walk { partition, offset, stamp, parcel, all, lists, drawn, place: usize::MAX });
        self.walk_on(budget, to)
    }

    /// Goes on with the record under way; `false` if the budget is used up before its end.
    fn walk_on(&mut self, budget: &mut usize, to: &mut dyn Deliver) -> bool {
        let Some(walk) = &mut self.walk else { return true };
        while let Some(list) = walk.lists.last() {
            let subscribers = self.table.subscribers(*list);
            // Of a list that is shared only one gets it.
            let drawn = walk.drawn(*list).map(|index| place_of(&self.connections, index, *list).unwrap_or_default());
            let (mut place, end) = drawn.unwrap_or_else(|| (walk.place.min(subscribers.len()), 0));
            while place > end {
                if *budget == 0 {
                    walk.place = place;
                    return false;
                }
                place -= 1;
                let index = subscribers[place].connection;
                *budget -= 1;
                let Some(connection) = self.connections.get_mut(index) else { continue };
                // Only live ones are pushed to: a lagging one reads this record itself.
                if connection.lag.is_some() || connection.stamp == walk.stamp {
                    continue;
                }
                let slot = Slot { index, generation: connection.generation };
                let nth = subscribers[place].nth as usize;
                if walk.all.len() > 1 {
                    // Its other filters are looked at, once for the record.
                    *budget = budget.saturating_sub(connection.holding.as_slice().len() / FINDS_PER_DELIVERY);
                }
                let sent = walk.push(connection, (index, nth), |delivery| to.deliver(slot, delivery));
                let Err(state) = sent else {
                    connection.stamp = walk.stamp;
                    self.counters.deliveries += u64::from(sent == Ok(true));
                    continue;
                };
                let mut lag = Lag::new(self.marks.clone(), self.safe.clone());
                lag.wait_for(state);
                connection.lag = Some(Box::new(lag));
                self.counters.lagging += 1;
                self.counters.fulls += u64::from(state.is_up_to_peer());
                if state == State::Saving {
                    self.wanting.push(slot);
                }
            }
            walk.lists.pop();
            walk.place = usize::MAX;
        }
        self.marks[walk.partition] = walk.offset;
        self.walk = None;
        true
    }

    /// The tail has let go of what this worker hasn't walked: all its live connections read it from the store. What is
    /// the server's own was kept.
    fn fell_behind(&mut self, partition: usize, now: Now) {
        let (start, missed) = self.setup.tails[partition].missed(self.marks[partition]);
        for index in 0..self.connections.len() {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            if connection.lag.is_none() && !connection.holding.as_slice().is_empty() {
                connection.lag = Some(Box::new(Lag::new(self.marks.clone(), self.safe.clone())));
                self.counters.lagging += 1;
                self.enqueue(index);
            }
        }
        // First the mark: whoever is let in by one of these records begins there, and reads what it has missed.
        self.marks[partition] = self.marks[partition].max(start);
        for record in &missed {
            if let Some(message) = record.message() {
                self.own_record(record, message, now);
            }
        }
    }
}

/// The place of a connection in a list, as the range that ends behind it and begins with it.
fn place_of(connections: &Chunked<Connection>, index: u32, list: ListId) -> Option<(usize, usize)> {
    let held = connections.get(index)?.holding.as_slice().iter().find(|held| held.list == list)?;
    Some((held.place as usize + 1, held.place as usize))
}
