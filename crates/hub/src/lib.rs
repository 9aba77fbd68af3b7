//! What every wire means the same by: subscriptions, the delivery rule, fan-out, catch-up.
//!
//! One hub per worker, which never sees wires, sockets, threads or clocks: it hands [`Delivery`]s to a [`Deliver`].
//! Its invariants (DESIGN 4 to 8 and 15, RULES 1 to 8):
//!
//! * Messages come from the log alone, in its order.
//! * A connection is live or lagging as a whole. A live one has everything up to the worker's mark (and the record
//!   under way, if that has reached it) and stores no position; a lagging one owns its read position.
//! * Only live connections are pushed to. A lagging one reads by itself until it stands at the mark; then it is live.
//! * A connection gets one copy of a message, however many of its filters match, and no message at or below the
//!   `since` of all filters that match.
//! * A gap is said before anything that lies after it.
//!
//! | module | what it does |
//! | --- | --- |
//! | `subscribe`, `start` | enters filters into the table, judges cursors, moves read positions back |
//! | `fanout` | from the mark to the head |
//! | `catchup`, `replay`, `page` | lagging connections, from the tail and from the store |
//! | `table`, `trie`, `chunked`, `connection` | small tables |

mod catchup;
mod chunked;
mod connection;
mod fanout;
mod page;
mod parcels;
mod replay;
mod start;
mod subscribe;
mod table;
mod trie;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use everywire_base::ask::{Page, Read, Subscribe, Subscribed};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::cursor::{Lineage, Offset, Position};
use everywire_base::id::Slot;
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_base::rules::Rules;
use everywire_base::topic::Topic;
use everywire_log::hint::RetainedHint;
use everywire_log::tail::Tail;
use smallvec::SmallVec;

use crate::chunked::Chunked;
use crate::connection::{Connection, Positions, State};
use crate::fanout::Walk;
use crate::parcels::Parcels;
use crate::table::{Held, Table};

/// What a hub works on.
#[derive(Clone)]
pub struct Setup {
    /// One tail for each partition, at the index of its number.
    pub tails: Vec<Arc<Tail>>,
    /// The epochs and holes of each partition.
    pub lineages: Vec<Arc<Lineage>>,
    /// Which topics may have a retained message.
    pub retained: Arc<RetainedHint>,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// The topic rules.
    pub rules: Arc<Rules>,
    /// The number of the worker that owns the hub.
    pub worker: u16,
}

/// How a hub calls its driver.
pub trait Deliver {
    /// Hands a delivery to a connection's wire.
    fn deliver(&mut self, slot: Slot, delivery: &Delivery<'_>) -> Taken;
    /// The connection is live now, or this turn's deliveries to it are over: the driver will call the wire's `settle`.
    fn settled(&mut self, slot: Slot);
    /// Ends the connection; the driver closes it at the hub in turn.
    fn end(&mut self, slot: Slot, reason: Reason);
}

/// What a hub counted, and how much of it there is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Messages handed over, retained ones among them.
    pub deliveries: u64,
    /// Retained messages handed over.
    pub retained: u64,
    /// Gaps said.
    pub gaps: u64,
    /// Messages left out because they had expired.
    pub expired: u64,
    /// How often a connection began to lag because its outbox was full.
    pub fulls: u64,
    /// Pages asked of the store.
    pub reads: u64,
    /// Pages that could not be read.
    pub failed_reads: u64,
    /// Connections ended because they were too slow.
    pub slow_consumers: u64,
    /// Connections that lag, now.
    pub lagging: u64,
    /// Filters of all connections, now.
    pub subscriptions: u64,
    /// Different filters, now.
    pub filters: u64,
}

/// One worker's hub.
pub struct Hub {
    setup: Setup,
    table: Table,
    connections: Chunked<Connection>,
    /// Live connections have everything up to here.
    marks: Positions,
    /// The ends of the last holes: who was live after the crash has lost nothing in them.
    safe: Positions,
    /// The record under way, if the budget ended in its midst.
    walk: Option<Walk>,
    /// The last fan-out.
    stamp: u64,
    first_partition: usize,
    /// Lagging connections that can go on.
    ready: VecDeque<Slot>,
    /// Those that wait for room among the reads.
    parked: VecDeque<Slot>,
    /// Those that wait to ask again.
    retries: BTreeSet<(Monotonic, Slot)>,
    reads: VecDeque<Read>,
    last_ask: u32,
    parcels: Parcels,
    /// What was delivered between turns, and counts against the next.
    debt: usize,
    /// Connections that lost a filter by new rules.
    revoked: Vec<Slot>,
    counters: Counters,
}

impl Hub {
    /// A hub whose mark is the head.
    pub fn new(setup: Setup) -> Self {
        let marks: Positions = setup.tails.iter().map(|tail| tail.head()).collect();
        let mut hub = Self {
            safe: marks.iter().map(|_| Offset::BEGINNING).collect(),
            setup,
            table: Table::default(),
            connections: Chunked::default(),
            marks,
            walk: None,
            stamp: 0,
            first_partition: 0,
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            retries: BTreeSet::new(),
            reads: VecDeque::new(),
            last_ask: 0,
            parcels: Parcels::default(),
            debt: 0,
            revoked: Vec::new(),
            counters: Counters::default(),
        };
        hub.safe = hub.past_holes(&hub.safe);
        hub
    }

    /// Replaces the rules. Connections that hold a filter which isn't granted any more lose their subscriptions at
    /// once, and are ended in the next turn.
    pub fn set_rules(&mut self, rules: Arc<Rules>) {
        let lists = self.table.all().filter(|(_, filter)| rules.may_subscribe(None, filter).is_err());
        let connections = lists.flat_map(|(list, _)| self.table.subscribers(list)).map(|s| s.connection);
        let connections: BTreeSet<u32> = connections.collect();
        for index in connections {
            self.leave_all(index);
            let generation = self.connections.reach(index).generation;
            self.revoked.push(Slot { index, generation });
        }
        self.setup.rules = rules;
    }

    /// Subscribes a connection, in addition to what it is subscribed to. A reader that has missed nothing is live at
    /// once, and costs no read. Of a filter that it holds already only the start counts.
    pub fn subscribe(&mut self, slot: Slot, subscribe: Subscribe, _now: Now) -> Subscribed {
        self.subscribe_connection(slot, subscribe)
    }

    /// Ends all subscriptions of a connection.
    pub fn unsubscribe(&mut self, slot: Slot) {
        if self.is_here(slot) {
            self.leave_all(slot.index);
        }
    }

    /// The connection is gone.
    pub fn close(&mut self, slot: Slot) {
        self.unsubscribe(slot);
    }

    /// The connection's outbox has room again after [`Taken::Full`].
    pub fn room(&mut self, slot: Slot) {
        self.resume(slot, State::Full);
    }

    /// Where a connection stands.
    pub fn position(&self, slot: Slot) -> Position {
        if !self.is_here(slot) {
            return Position { cursor: self.cursor(&self.marks), live: true };
        }
        let live = self.connections.get(slot.index).is_none_or(|c| c.lag.is_none());
        Position { cursor: self.cursor(&self.current(slot.index)), live }
    }

    /// Fan-out from the mark to the head, then catch-up of lagging connections, both under the budget. True if more
    /// waits.
    pub fn turn(&mut self, now: Now, to: &mut dyn Deliver) -> bool {
        for slot in std::mem::take(&mut self.revoked) {
            if self.is_here(slot) {
                to.end(slot, Reason::Forbidden);
            }
        }
        let whole = self.setup.limits.deliveries_per_turn.max(1);
        let mut budget = whole.saturating_sub(std::mem::take(&mut self.debt)).max(1);
        self.fan_out(&mut budget, now, to);
        // Those behind get a share also when there is always something new.
        let mut budget = budget.max(whole.div_ceil(4));
        self.catch_up(&mut budget, now, to);
        if self.counters.lagging == 0 {
            self.parcels.clear();
        }
        let is_behind = || self.marks.iter().zip(&self.setup.tails).any(|(mark, tail)| *mark < tail.head());
        !self.ready.is_empty() || is_behind()
    }

    /// When [`Hub::turn`] is wanted though nothing else happens: a page that failed is asked for again.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// Reads for the store that wait to be sent; the driver takes from the front as many as the pool accepts.
    pub fn reads(&mut self) -> &mut VecDeque<Read> {
        &mut self.reads
    }

    /// Takes the store's answer to a read.
    pub fn page(&mut self, page: Page, now: Now, to: &mut dyn Deliver) {
        self.take_page(page, now, to);
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        Counters { filters: self.table.len(), ..self.counters }
    }

    /// How many connections on this worker are subscribed to a topic.
    pub fn subscribers(&self, topic: &Topic) -> u64 {
        let mut lists = SmallVec::new();
        self.table.matching(topic, &mut lists);
        if let [list] = lists[..] {
            return self.table.subscribers(list).len() as u64;
        }
        let all = lists.iter().flat_map(|list| self.table.subscribers(*list)).map(|s| s.connection);
        all.collect::<BTreeSet<u32>>().len() as u64
    }

    fn is_here(&self, slot: Slot) -> bool {
        self.connections.get(slot.index).is_some_and(|c| c.generation == slot.generation)
    }

    fn held(&self, index: u32) -> &[Held] {
        self.connections.get(index).map_or(&[], |c| c.holding.as_slice())
    }

    /// Where a live connection stands that has the record under way.
    fn target(&self) -> Positions {
        let mut target = self.marks.clone();
        if let Some(walk) = &self.walk {
            target[walk.partition] = walk.offset;
        }
        target
    }

    /// Where a connection stands.
    fn current(&self, index: u32) -> Positions {
        let Some(connection) = self.connections.get(index) else { return self.marks.clone() };
        match (&connection.lag, &self.walk) {
            (Some(lag), _) => lag.positions.clone(),
            (None, Some(walk)) if walk.stamp == connection.stamp => self.target(),
            (None, _) => self.marks.clone(),
        }
    }

    /// Puts a lagging connection among those that can go on.
    fn enqueue(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index).filter(|c| !c.queued) else { return };
        connection.queued = true;
        self.ready.push_back(Slot { index, generation: connection.generation });
    }
}
