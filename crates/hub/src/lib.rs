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
//! | `lag`, `catchup`, `replay`, `page`, `greet` | lagging connections, from the tail and from the store |
//! | `member`, `own`, `inspect` | the registry: who is connected, the server's own records, what operators ask |
//! | `group`, `share`, `insist` | shared subscriptions |
//! | `session`, `ownership` | what outlives a connection, and who has it |
//! | `acknowledge`, `window`, `manner` | what is under way and received, how a message is handed over |
//! | `once`, `wills` | exactly once, last words |
//! | `table`, `trie`, `chunked`, `connection` | small tables |

mod acknowledge;
mod catchup;
mod chunked;
mod connection;
mod fanout;
mod greet;
mod group;
mod insist;
mod inspect;
mod lag;
mod look_back;
mod manner;
mod member;
mod once;
mod own;
mod ownership;
mod page;
mod parcels;
mod replay;
mod session;
mod share;
mod start;
mod subscribe;
mod table;
mod trie;
mod wills;
mod window;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use everywire_base::ask::{
    Ack, AckError, Append, Goodbye, Login, NoPast, Page, Past, PublishError, Published, Read, Subscribe, Subscribed,
    Unsubscribe, Welcome,
};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::cursor::{Lineage, Offset, Position};
use everywire_base::id::{AskId, Nameplate, Slot, Ticket};
use everywire_base::limits::Limits;
use everywire_base::notice::Notice;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_base::rules::{Refusal, Rules};
use everywire_base::topic::{Filter, Topic};
use everywire_log::hint::RetainedHint;
use everywire_log::tail::Tail;
use hashbrown::HashTable;
use smallvec::SmallVec;

use crate::chunked::Chunked;
use crate::connection::Connection;
use crate::fanout::Walk;
use crate::group::Groups;
use crate::inspect::Recent;
use crate::lag::{Positions, State};
use crate::look_back::Looks;
use crate::parcels::Parcels;
use crate::table::{Held, Table};
use crate::wills::Wills;

pub use crate::inspect::{Description, Traced};

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
    /// What the node's connections are named after.
    pub plate: Nameplate,
    /// Draws a number that nobody can guess: the names of sessions are made of them.
    pub draw: Draw,
}

/// Draws a random number.
pub type Draw = Arc<dyn Fn() -> u128 + Send + Sync>;

/// The place of those of the hub's own appends: its outcomes come to [`Hub::appended`].
pub const OWN: u32 = u32::MAX;

/// What a hub answers to a wire's ask.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// To a login.
    Welcomed(Result<Welcome, Refusal>),
    /// To a subscription.
    Subscribed(Subscribed),
    /// To the end of one subscription: whether it was there.
    Unsubscribed(bool),
    /// To a release: whether the number was known.
    Released(bool),
    /// An exactly-once delivery was received, and that is durable.
    Received(u16),
    /// To a look back.
    Past(Result<Past, NoPast>),
}

/// Where a connection that is gone came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The wire that it spoke.
    pub wire: &'static str,
    /// Its remote address.
    pub address: SocketAddr,
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
    /// Exactly-once deliveries of groups that ended with their session (MQTT-4.8.2-5).
    pub dropped: u64,
    /// Wills of connections that are gone, now.
    pub wills: u64,
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
    /// Connections that are to be ended: kicked, taken over, without a right that they had.
    ending: Vec<(Slot, Reason)>,
    /// Members by the hash of their user.
    users: HashTable<u32>,
    /// Members by the hash of their session's topic.
    sessions: HashTable<u32>,
    /// When sessions are to be looked at.
    watched: BTreeSet<(Monotonic, Slot)>,
    /// Records for the log.
    appends: Vec<Append>,
    /// Answers for wires.
    answers: VecDeque<(Slot, AskId, Said)>,
    /// What operators shall know of.
    notices: Vec<(Option<Slot>, Notice)>,
    /// When the last records were fanned out.
    recent: VecDeque<Recent>,
    wills: Wills,
    groups: Groups,
    looks: Looks,
    /// Connections with deliveries whose tags must be durable first.
    wanting: Vec<Slot>,
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
            ending: Vec::new(),
            users: HashTable::new(),
            sessions: HashTable::new(),
            watched: BTreeSet::new(),
            appends: Vec::new(),
            answers: VecDeque::new(),
            notices: Vec::new(),
            recent: VecDeque::new(),
            wills: Wills::default(),
            groups: Groups::default(),
            looks: Looks::default(),
            wanting: Vec::new(),
            counters: Counters::default(),
        };
        hub.safe = hub.past_holes(&hub.safe);
        hub
    }

    /// What was refused and operators shall know of, with the connection if there is one; for the driver to take.
    pub fn notices(&mut self) -> &mut Vec<(Option<Slot>, Notice)> {
        &mut self.notices
    }

    /// Replaces the rules. Connections that hold a filter which isn't granted any more lose it at once, and are ended in
    /// the next turn.
    pub fn set_rules(&mut self, rules: Arc<Rules>) {
        self.setup.rules = rules;
        let mut losers = BTreeSet::new();
        for (list, filter) in self.table.all() {
            let may = |index: u32| self.grants(self.member(index).and_then(|m| m.identity.as_deref()), filter).is_ok();
            let holders = self.table.subscribers(list).iter().map(|s| s.connection);
            losers.extend(holders.filter(|index| !may(*index)));
        }
        for index in losers {
            // What is still granted its session keeps.
            self.recheck(index);
            self.end(index, Reason::Forbidden);
        }
    }

    /// Enters a connection into the registry, or renews who it is. The answer is among [`Hub::answers`], at once or when
    /// its session is open.
    pub fn login(&mut self, slot: Slot, ask: AskId, login: Login, now: Now) {
        self.enter(slot, ask, login, now);
    }

    /// Subscribes a connection as [`Hub::subscribe`] does. The answer is among [`Hub::answers`]; that of a session comes
    /// when the subscription is durable.
    pub fn subscribe_for(&mut self, slot: Slot, ask: AskId, subscribe: &Subscribe, now: Now) {
        if subscribe.group.is_some() {
            return self.join(slot, ask, subscribe, now);
        }
        let filters = subscribe.filters.clone();
        let subscribed = self.subscribe(slot, subscribe, now);
        self.note_filters(slot, ask, &filters, subscribed, now);
    }

    /// Ends subscriptions of a connection.
    pub fn unsubscribe_from(&mut self, slot: Slot, ask: AskId, which: &Unsubscribe, now: Now) {
        if !self.is_here(slot) {
            return;
        }
        match which {
            Unsubscribe::All => {
                self.unsubscribe_groups(slot);
                self.leave_all(slot.index);
            }
            Unsubscribe::These(filters) => {
                for filter in filters {
                    self.leave_filter(slot.index, filter, None);
                }
            }
            Unsubscribe::One(filter, group) => {
                let was_joining = group.as_ref().is_some_and(|group| self.unsubscribe_group(slot, filter, group));
                let was_there = self.leave_filter(slot.index, filter, group.as_deref()) || was_joining;
                return self.say_durably(slot, ask, Said::Unsubscribed(was_there), now);
            }
        }
        self.note_loss(slot, now);
    }

    /// Something was received. What can't be confirmed yet is among [`Hub::answers`] later.
    pub fn acknowledge(&mut self, slot: Slot, ask: AskId, ack: &Ack, now: Now) -> Result<(), AckError> {
        self.take_ack(slot, ask, ack, now)
    }

    /// The client says goodbye; the connection will be closed.
    pub fn goodbye(&mut self, slot: Slot, goodbye: Goodbye) {
        if !self.is_here(slot) {
            return;
        }
        if !goodbye.will {
            self.void_will(slot);
        }
        let longest = self.setup.limits.session_expiry_max;
        // A session that is to end stays so.
        let session = self.session_mut(slot.index).filter(|session| !session.expiry.is_zero());
        if let (Some(session), Some(expiry)) = (session, goodbye.expiry) {
            session.expiry = expiry.min(longest);
        }
    }

    /// The node goes down: who is ended from now on may come back elsewhere, or after it.
    pub fn drain(&mut self) {
        self.wills.is_draining = true;
    }

    /// What came of an append of the hub's own.
    pub fn appended(&mut self, ticket: Ticket, result: &Result<Published, PublishError>, now: Now) {
        if self.fired(ticket, result, now) || self.insisted(ticket, result, now) {
            return;
        }
        let slot = Slot { index: ticket.slot.generation, generation: ticket.ask.0 };
        // What another connection's claim has made void is over when that claim comes out of the log.
        if result.is_err() && *result != Err(PublishError::Fenced) && self.is_here(slot) {
            self.append_failed(slot, now);
        }
    }

    /// Records for the log; the driver takes them. What is published joins them: what a session's record doesn't know of
    /// must lie above it (RULES 12).
    pub fn appends(&mut self) -> &mut Vec<Append> {
        &mut self.appends
    }

    /// Answers for wires; the driver takes them.
    pub fn answers(&mut self) -> &mut VecDeque<(Slot, AskId, Said)> {
        &mut self.answers
    }

    /// Subscribes a connection, in addition to what it is subscribed to. A reader that has missed nothing is live at
    /// once, and costs no read. Of a filter that it holds already only the start counts.
    pub fn subscribe(&mut self, slot: Slot, subscribe: &Subscribe, _now: Now) -> Subscribed {
        self.subscribe_connection(slot, subscribe)
    }

    /// Ends all subscriptions of a connection.
    pub fn unsubscribe(&mut self, slot: Slot) {
        if self.is_here(slot) {
            self.leave_all(slot.index);
        }
    }

    /// The connection is gone. What it leaves behind, its session and when it was last seen, goes to the log.
    pub fn close(&mut self, slot: Slot, origin: Origin, now: Now) {
        if self.is_here(slot) {
            self.leave_groups(slot);
            self.leave_registry(slot, origin, now);
            self.leave_all(slot.index);
            self.groups.take_joining(slot, None);
        }
    }

    /// The connection's outbox has room again after [`Taken::Full`].
    pub fn room(&mut self, slot: Slot) {
        self.resume(slot, State::Full);
    }

    /// What the hub has come to: all up to here is fanned out, for each partition.
    pub fn marks(&self) -> &[Offset] {
        &self.marks
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
    /// waits; it goes on only when the answers were handed over.
    pub fn turn(&mut self, now: Now, to: &mut dyn Deliver) -> bool {
        self.see_to_sessions(now);
        self.see_to_wills(now);
        self.see_to_groups(now);
        let whole = self.setup.limits.deliveries_per_turn.max(1);
        let mut budget = whole.saturating_sub(std::mem::take(&mut self.debt)).max(1);
        self.fan_out(&mut budget, now, to);
        for slot in std::mem::take(&mut self.wanting) {
            self.write_tags(slot, now);
        }
        for (slot, reason) in std::mem::take(&mut self.ending) {
            to.end(slot, reason);
        }
        if !self.answers.is_empty() {
            return true;
        }
        // Those behind get a share also when there is always something new.
        let mut budget = budget.max(whole.div_ceil(4));
        self.catch_up(&mut budget, now, to);
        if self.counters.lagging == 0 {
            self.parcels.clear();
        }
        let is_behind = || self.marks.iter().zip(&self.setup.tails).any(|(mark, tail)| *mark < tail.head());
        !self.ready.is_empty() || is_behind()
    }

    /// When [`Hub::turn`] is wanted though nothing else happens: a page that failed is asked for again, a session is due.
    pub fn deadline(&self) -> Option<Monotonic> {
        let retry = self.retries.first().map(|(at, _)| *at);
        let session = self.watched.first().map(|(at, _)| *at);
        [retry, session, self.groups.deadline(), self.wills.deadline()].into_iter().flatten().min()
    }

    /// Reads for the store that wait to be sent; the driver takes from the front as many as the pool accepts.
    pub fn reads(&mut self) -> &mut VecDeque<Read> {
        &mut self.reads
    }

    /// Takes the store's answer to a read.
    pub fn page(&mut self, page: &Page, now: Now, to: &mut dyn Deliver) {
        if self.take_past(page) {
            return;
        }
        if !self.take_wills(page, now) && !self.take_group(page, now) && !self.take_session(page, now) {
            self.take_page(page, now, to);
        }
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        Counters { filters: self.table.len(), wills: self.wills.len() as u64, ..self.counters }
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

    /// Whether a topic that the filter takes may have a retained message: the store may have it, or be about to.
    fn may_be_retained(&self, filter: &Filter) -> bool {
        // In this order: what the store applies in between it knows then.
        self.setup.tails.iter().any(|tail| tail.may_retain(filter)) || self.setup.retained.may_match(filter)
    }

    fn say(&mut self, slot: Slot, ask: AskId, said: Said) {
        self.answers.push_back((slot, ask, said));
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
