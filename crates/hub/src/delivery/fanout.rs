//! Fan-out: every record between the worker's mark and the head goes to the live connections that are subscribed.
//!
//! The budget may end in the midst of a record with many subscribers. Then the walk keeps its place and the mark waits.
//! Lists are walked from their end, so that a place that becomes free is filled with a subscriber that was walked
//! already; a connection's `fanned_out` tells whether the record has reached it. A connection that subscribes or
//! becomes live during a walk has the record already, or isn't meant to get it, and is marked so.

use std::rc::Rc;
use std::sync::Arc;

use everywire_base::access::room_of;
use everywire_base::cursor::Offset;
use everywire_base::id::Slot;
use everywire_base::parcel::{Delivery, Parcel, Taken};
use everywire_base::record::Record;
use everywire_base::terms::{DeliveryOptions, Terms};
use smallvec::SmallVec;

use super::connection::Connection;
use super::lag::{Lag, State};
use super::outgoing::{Matched, Outgoing};
use super::table::Held;
use super::trie::{ListId, NONE};
use super::window::Sent;
use super::{Deliveries, Pause, Turn};
use crate::floor::chunked::Chunked;
use crate::floor::{Event, Floor};

/// Filters that are looked at for the price of one delivery.
pub(super) const FINDS_PER_DELIVERY: usize = 16;

/// A record on its way to its subscribers.
pub(super) struct Walk {
    pub(crate) partition: usize,
    pub(crate) offset: Offset,
    /// The number of the fan-out: the connections that it has reached carry it.
    pub(super) number: u64,
    parcel: Rc<Parcel>,
    /// The lists that it goes to, ascending, and those of them that are still to come.
    all: SmallVec<[ListId; 4]>,
    lists: SmallVec<[ListId; 4]>,
    /// The connection that gets the record by each shared list; none if it is another worker's.
    chosen: SmallVec<[(ListId, u32); 1]>,
    /// The number of subscribers of the last list that are still to come.
    place: usize,
    /// Whether it is of a room, which says who may have it.
    is_of_a_room: bool,
}

impl Walk {
    /// Forgets a list that is gone; its name may be used again.
    pub(super) fn forget(&mut self, list: ListId) {
        self.lists.iter_mut().filter(|l| **l == list).for_each(|l| *l = NONE);
    }

    /// Makes the parcel of a message that expires anew, for another turn: less of its time is left by then.
    fn renew(&mut self) {
        if self.parcel.message().expires.is_some() {
            let again = Parcel::new(Arc::clone(self.parcel.record()), self.parcel.cursor().epoch);
            self.parcel = again.map_or_else(|| Rc::clone(&self.parcel), Rc::new);
        }
    }

    /// The connection that was chosen, if the list is shared; none if it is another worker's.
    fn chosen(&self, list: ListId) -> Option<u32> {
        self.chosen.iter().find(|(shared, _)| *shared == list).map(|(_, chosen)| *chosen)
    }

    /// Whether a connection gets the record by this list.
    fn is_for(&self, list: ListId, index: u32) -> bool {
        self.chosen(list).is_none_or(|chosen| chosen == index)
    }

    /// Hands the record to a live connection by its `nth` filter. Says whether it got it, or the state in which it
    /// waits.
    fn push(
        &self,
        connection: &mut Connection,
        (index, nth): (u32, usize),
        deliver: impl FnOnce(&Delivery<'_>) -> Taken,
    ) -> Result<bool, State> {
        let (held, window) = connection.parts();
        let plain = Delivery::Message(&self.parcel, DeliveryOptions::PLAIN);
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

    /// The filters of a connection that take the record.
    fn matching<'a>(&'a self, held: &'a [Held], (index, nth): (u32, usize)) -> impl Iterator<Item = &'a Held> {
        // No other filter can match if there is only one list.
        let only = self.all.len() == 1;
        let is_matched = |held: &Held| self.all.binary_search(&held.list).is_ok();
        let all = held.iter().filter(move |held| !only && is_matched(held) && self.is_for(held.list, index));
        held.get(nth).filter(|_| only).into_iter().chain(all)
    }
}

impl Deliveries {
    /// Goes from the mark to the head, as far as the budget allows. It stops in front of every record of the server's
    /// own, once.
    pub(crate) fn fan_out(&mut self, budget: &mut usize, turn: &mut Turn<'_>) -> Option<Pause> {
        if let Some(walk) = &mut self.walk {
            walk.renew();
        }
        if !self.walk_on(budget, turn) {
            return None;
        }
        let (partitions, first) = (self.marks.len(), self.first_partition);
        for partition in (0..partitions).map(|p| (p + first) % partitions) {
            let tail = Arc::clone(&turn.floor.setup.tails[partition]);
            let (head, mut system) = (tail.head(), None);
            let is_there = tail.read(self.marks[partition], head, |record| {
                if *budget > 0 && self.stops_at(record) {
                    system = Some(Arc::clone(record));
                    return false;
                }
                self.fan_record(record, budget, turn)
            });
            if let Some(record) = system {
                return Some(Pause::System(record));
            }
            if !is_there {
                return Some(Pause::Missed(self.fell_behind(partition, turn.floor)));
            }
            if self.walk.is_some() {
                break;
            }
        }
        self.first_partition = (first + 1) % partitions;
        None
    }

    /// Whether a record is the server's own, and fan-out hasn't stopped at it yet.
    fn stops_at(&mut self, record: &Record) -> bool {
        let at = (usize::from(record.partition.0), record.offset);
        record.system().is_some() && std::mem::replace(&mut self.stopped_at, at) != at
    }

    /// Fans out one record; `false` if the budget is used up, or an answer waits.
    fn fan_record(&mut self, record: &Arc<Record>, budget: &mut usize, turn: &mut Turn<'_>) -> bool {
        if *budget == 0 {
            return false;
        }
        *budget -= 1;
        let partition = usize::from(record.partition.0);
        let mut lists = SmallVec::new();
        if let Some(message) = record.message() {
            self.table.matching(&message.topic, &mut lists);
            // Finding them is work too, however few subscribers each has.
            *budget = budget.saturating_sub(lists.len() / FINDS_PER_DELIVERY);
            if !lists.is_empty() && message.is_expired(turn.now.wall) {
                turn.floor.counters.expired += 1;
                lists.clear();
            }
        }
        let epoch = turn.floor.setup.lineages[partition].epoch;
        let parcel = if lists.is_empty() { None } else { Parcel::new(Arc::clone(record), epoch) };
        let Some(parcel) = parcel else {
            self.marks[partition] = record.offset;
            // Confirmations are sent before messages.
            return turn.floor.out.answers.is_empty();
        };
        self.remember(record, turn);
        self.fanouts += 1;
        let (offset, number) = (record.offset, self.fanouts);
        let (mut all, parcel) = (lists.clone(), Rc::new(parcel));
        all.sort_unstable();
        let choose = |list: &ListId| {
            let topic = self.table.share(*list)?;
            Some((*list, turn.shares.chosen(topic, turn.floor.seat, offset).unwrap_or(NONE)))
        };
        let chosen = all.iter().filter_map(choose).collect();
        let (place, is_of_a_room) = (usize::MAX, room_of(parcel.message().topic.as_str()).is_some());
        self.walk = Some(Walk { partition, offset, number, parcel, all, lists, chosen, place, is_of_a_room });
        self.walk_on(budget, turn)
    }

    /// Goes on with the record under way; `false` if the budget is used up before its end.
    fn walk_on(&mut self, budget: &mut usize, turn: &mut Turn<'_>) -> bool {
        let Some(walk) = &mut self.walk else { return true };
        while let Some(list) = walk.lists.last() {
            let subscribers = self.table.subscribers(*list);
            // Only one subscriber of a shared list gets the record.
            let chosen = walk.chosen(*list).map(|index| place_of(&self.connections, index, *list).unwrap_or_default());
            let (mut place, end) = chosen.unwrap_or_else(|| (walk.place.min(subscribers.len()), 0));
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
                if connection.lag.is_some() || connection.fanned_out == walk.number {
                    continue;
                }
                if walk.is_of_a_room && !turn.floor.may_see(index, &walk.parcel.message().topic) {
                    connection.fanned_out = walk.number;
                    continue;
                }
                let slot = Slot { index, generation: connection.generation };
                let nth = subscribers[place].nth as usize;
                if walk.all.len() > 1 {
                    // Its other filters are looked at, once for the record.
                    *budget = budget.saturating_sub(connection.holding.as_slice().len() / FINDS_PER_DELIVERY);
                }
                let sent = walk.push(connection, (index, nth), |delivery| turn.to.deliver(slot, delivery));
                let Err(state) = sent else {
                    connection.fanned_out = walk.number;
                    turn.floor.counters.deliveries += u64::from(sent == Ok(true));
                    continue;
                };
                let mut lag = Lag::new(self.marks.clone(), self.hole_ends.clone());
                lag.wait_for(state);
                connection.lag = Some(Box::new(lag));
                turn.floor.counters.lagging += 1;
                turn.floor.counters.fulls += u64::from(state.is_up_to_peer());
                if state == State::Saving {
                    turn.floor.out.events.push_back(Event::Save(slot));
                }
            }
            walk.lists.pop();
            walk.place = usize::MAX;
        }
        self.marks[walk.partition] = walk.offset;
        self.walk = None;
        true
    }

    /// Makes all live connections lag, since the tail has let go of records that this worker hasn't walked: they read
    /// them from the store. Gives the server's own records among them, which were kept.
    fn fell_behind(&mut self, partition: usize, floor: &mut Floor) -> Vec<Arc<Record>> {
        let (start, missed) = floor.setup.tails[partition].missed(self.marks[partition]);
        for index in 0..self.connections.len() {
            let Some(connection) = self.connections.get_mut(index) else { continue };
            if connection.lag.is_none() && !connection.holding.as_slice().is_empty() {
                connection.lag = Some(Box::new(Lag::new(self.marks.clone(), self.hole_ends.clone())));
                floor.counters.lagging += 1;
                self.enqueue(index);
            }
        }
        // The mark moves first: a connection that one of these records lets in begins there, and reads the records that
        // it has missed.
        self.marks[partition] = self.marks[partition].max(start);
        missed
    }
}

/// The place of a connection in a list, as the range that ends behind it and begins with it.
fn place_of(connections: &Chunked<Connection>, index: u32, list: ListId) -> Option<(usize, usize)> {
    let held = connections.get(index)?.holding.as_slice().iter().find(|held| held.list == list)?;
    Some((held.place as usize + 1, held.place as usize))
}
