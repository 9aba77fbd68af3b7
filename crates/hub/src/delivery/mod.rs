//! Delivery: the subscriptions, and the way of the log's messages to their connections.
//!
//! It owns the subscription table, the marks, every connection's read position while it lags, and the deliveries that
//! aren't acknowledged. It knows nothing of sessions, groups or users: it asks [`Shares`] which member gets a shared
//! message, and leaves events for other owners with the floor. It never writes to the log.
//!
//! Its invariants (DESIGN 4 to 8, RULES 1 to 8):
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
//! | `subscribe`, `leave`, `start`, `ahead` | enters filters into the table, judges cursors, moves read positions back |
//! | `fanout` | from the mark to the head |
//! | `lag`, `catchup`, `replay`, `recalls`, `page`, `greet` | lagging connections, from the tail and from the store |
//! | `window`, `outgoing` | the messages under way to a client that acknowledges, and the handing over of one |
//! | `look_back`, `trace` | a topic read backwards, and the fate of a message |
//! | `pending` | subscriptions that connections are about to hold |
//! | `table`, `trie`, `connection`, `parcels` | small tables |

mod ahead;
mod catchup;
mod connection;
mod fanout;
mod greet;
mod lag;
mod leave;
mod look_back;
mod outgoing;
mod page;
mod parcels;
mod pending;
mod recalls;
mod replay;
mod start;
mod subscribe;
mod table;
#[cfg(test)]
mod tests;
mod trace;
mod trie;
mod window;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use everywire_base::clock::{Monotonic, Now};
use everywire_base::cursor::{Offset, Position};
use everywire_base::id::Slot;
use everywire_base::record::Record;
use everywire_base::rules::Refusal;
use everywire_base::topic::{Filter, Topic};
use smallvec::SmallVec;

use self::ahead::Ahead;
use self::connection::Connection;
use self::fanout::Walk;
use self::lag::Lag;
use self::look_back::Looks;
use self::parcels::Parcels;
use self::pending::Pending;
use self::recalls::Recalls;
use self::table::Table;
use self::trace::Recent;
use crate::floor::chunked::Chunked;
use crate::floor::due::Due;
use crate::floor::{Counters, Deliver, Floor};

pub(crate) use self::lag::{Positions, State};
pub(crate) use self::table::Held;
pub use self::trace::Traced;
pub(crate) use self::window::{Kind, Sent, Stage, Window};

/// The choice of the members that get the messages of shared lists. Topics are those of the groups' records.
pub(crate) trait Shares {
    /// The connection of this worker that a message was chosen for; `None` if it is another's.
    fn chosen(&self, topic: &Topic, seat: u64, offset: Offset) -> Option<u32>;
    /// Whether a connection that lags gets the message.
    fn takes(&self, topic: &Topic, member: (u64, Slot), offset: Offset) -> bool;
}

/// The reason for which fan-out stops. It goes on when it is called again.
pub(crate) enum Pause {
    /// A record of the server's own comes next.
    System(Arc<Record>),
    /// The tail has let go of records that weren't read; it has kept these, which are the server's own.
    Missed(Vec<Arc<Record>>),
}

/// The means of one step of delivery.
pub(crate) struct Turn<'a> {
    pub(crate) floor: &'a mut Floor,
    pub(crate) shares: &'a dyn Shares,
    pub(crate) now: Now,
    pub(crate) to: &'a mut dyn Deliver,
}

/// Subscriptions, marks, lagging connections.
pub(crate) struct Deliveries {
    table: Table,
    connections: Chunked<Connection>,
    /// Live connections have everything up to here.
    marks: Positions,
    /// The ends of the last holes: a connection that was live after the crash has lost nothing in them.
    hole_ends: Positions,
    /// The record under way, if the budget ended in its midst.
    walk: Option<Walk>,
    /// The number of fan-outs so far, which is that of the last.
    fanouts: u64,
    first_partition: usize,
    /// The last record of the server's own that fan-out has stopped at.
    stopped_at: (usize, Offset),
    /// Lagging connections that can go on.
    ready: VecDeque<Slot>,
    /// Lagging connections that wait for room among the reads.
    parked: VecDeque<Slot>,
    /// Lagging connections that wait to ask again.
    retries: Due<Slot>,
    parcels: Parcels,
    recalls: Recalls,
    /// The deliveries between turns; they count against the budget of the next.
    debt: usize,
    looks: Looks,
    pending: Vec<Pending>,
    /// Subscriptions with more of the log than this node has yet.
    ahead: Vec<Ahead>,
    /// The times at which the last records were fanned out.
    recent: VecDeque<Recent>,
}

impl Deliveries {
    /// Delivery with its mark at the head.
    pub(crate) fn new(floor: &Floor) -> Self {
        let marks: Positions = floor.setup.tails.iter().map(|tail| tail.head()).collect();
        Self {
            table: Table::default(),
            connections: Chunked::default(),
            hole_ends: start::last_holes(&floor.setup),
            marks,
            walk: None,
            fanouts: 0,
            first_partition: 0,
            stopped_at: (0, Offset::BEGINNING),
            ready: VecDeque::new(),
            parked: VecDeque::new(),
            retries: Due::default(),
            parcels: Parcels::default(),
            recalls: Recalls::default(),
            debt: 0,
            looks: Looks::default(),
            pending: Vec::new(),
            ahead: Vec::new(),
            recent: VecDeque::new(),
        }
    }

    pub(crate) fn is_here(&self, slot: Slot) -> bool {
        self.connections.get(slot.index).is_some_and(|c| c.generation == slot.generation)
    }

    pub(crate) fn slot_at(&self, index: u32) -> Slot {
        Slot { index, generation: self.connections.get(index).map_or(0, |c| c.generation) }
    }

    /// Gives a connection its place.
    pub(crate) fn take_place(&mut self, slot: Slot) {
        *self.connections.reach(slot.index) = Connection { generation: slot.generation, ..Connection::default() };
    }

    /// The marks, one for each partition: all records up to there are fanned out.
    pub(crate) fn marks(&self) -> &[Offset] {
        &self.marks
    }

    /// The position of a connection, and whether it is live.
    pub(crate) fn position(&self, slot: Slot, floor: &Floor) -> Position {
        if !self.is_here(slot) {
            return Position { cursor: floor.cursor(&self.marks), live: true };
        }
        Position { cursor: floor.cursor(&self.current(slot.index)), live: self.lag(slot.index).is_none() }
    }

    /// The positions of a live connection that has the record under way.
    pub(crate) fn target(&self) -> Positions {
        let mut target = self.marks.clone();
        if let Some(walk) = &self.walk {
            target[walk.partition] = walk.offset;
        }
        target
    }

    /// The positions of a connection.
    pub(crate) fn current(&self, index: u32) -> Positions {
        let Some(connection) = self.connections.get(index) else { return self.marks.clone() };
        match (&connection.lag, &self.walk) {
            (Some(lag), _) => lag.positions.clone(),
            (None, Some(walk)) if walk.number == connection.fanned_out => self.target(),
            (None, _) => self.marks.clone(),
        }
    }

    fn lag(&self, index: u32) -> Option<&Lag> {
        self.connections.get(index)?.lag.as_deref()
    }

    pub(crate) fn is_lagging(&self, index: u32) -> bool {
        self.lag(index).is_some()
    }

    /// The offset behind which the `nth` filter of a lagging connection begins; the log's beginning if that isn't above
    /// its read position.
    pub(crate) fn since(&self, index: u32, nth: usize, partition: usize) -> Offset {
        self.lag(index).map_or(Offset::BEGINNING, |lag| lag.since(nth, partition))
    }

    /// The filters that a connection holds, in their order.
    pub(crate) fn held(&self, index: u32) -> &[Held] {
        self.connections.get(index).map_or(&[], |c| c.holding.as_slice())
    }

    pub(crate) fn filters(&self, index: u32) -> impl Iterator<Item = &Filter> {
        self.held(index).iter().map(|held| self.table.filter(held.list))
    }

    /// The filter of a subscription that a connection holds.
    pub(crate) fn filter(&self, held: &Held) -> &Filter {
        self.table.filter(held.list)
    }

    /// The group with which it is shared.
    pub(crate) fn group(&self, held: &Held) -> Option<&str> {
        self.table.group(held.list)
    }

    /// The topic of that group's records.
    pub(crate) fn share(&self, held: &Held) -> Option<&Topic> {
        self.table.share(held.list)
    }

    /// Whether a connection holds a filter that a group shares.
    pub(crate) fn shares_any(&self, index: u32) -> bool {
        self.held(index).iter().any(|held| self.share(held).is_some())
    }

    /// Whether a connection holds a filter, as a member of the group if one is named.
    pub(crate) fn holds(&self, index: u32, filter: &Filter, group: Option<&str>) -> bool {
        let list = self.table.find_in(filter, group);
        list.is_some_and(|list| self.held(index).iter().any(|held| held.list == list))
    }

    /// The number of different filters that are held.
    pub(crate) fn different_filters(&self) -> u64 {
        self.table.len()
    }

    /// The filters of a connection that it may not have, with the groups that share them.
    pub(crate) fn refused(&self, index: u32, floor: &Floor) -> Vec<(Filter, Option<Box<str>>, Refusal)> {
        let who = floor.caller(index).map(|who| &**who);
        let refused = |held: &Held| {
            let filter = self.filter(held);
            let refusal = floor.grants(who, filter).err()?;
            Some((filter.clone(), self.group(held).map(Into::into), refusal))
        };
        self.held(index).iter().filter_map(refused).collect()
    }

    /// The connections that hold a filter which they may not have.
    pub(crate) fn without_right(&self, floor: &Floor) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        for (list, filter) in self.table.all() {
            let may = |index: u32| floor.grants(floor.caller(index).map(|who| &**who), filter).is_ok();
            let holders = self.table.subscribers(list).iter().map(|s| s.connection);
            all.extend(holders.filter(|index| !may(*index)));
        }
        all
    }

    /// The number of connections that are subscribed to a topic.
    pub(crate) fn subscribers(&self, topic: &Topic) -> u64 {
        let mut lists = SmallVec::new();
        self.table.matching(topic, &mut lists);
        if let [list] = lists[..] {
            return self.table.subscribers(list).len() as u64;
        }
        self.subscribed_to(topic).len() as u64
    }

    /// The connections that are subscribed to a topic, by place.
    pub(crate) fn subscribed_to(&self, topic: &Topic) -> Vec<u32> {
        let mut lists = SmallVec::new();
        self.table.matching(topic, &mut lists);
        let all = lists.iter().flat_map(|list| self.table.subscribers(*list)).map(|s| s.connection);
        let mut all: Vec<u32> = all.collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Gives a connection a window. Nothing is counted in it until [`Deliveries::count`].
    pub(crate) fn set_window(&mut self, index: u32, window: Window) {
        self.connections.reach(index).window = Some(Box::new(window));
    }

    /// Counts deliveries to a connection in its window from now on.
    pub(crate) fn count(&mut self, index: u32) {
        self.connections.reach(index).windowed = true;
    }

    pub(crate) fn end_window(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index) {
            (connection.window, connection.windowed) = (None, false);
        }
    }

    pub(crate) fn window(&self, index: u32) -> Option<&Window> {
        self.connections.get(index)?.window.as_deref()
    }

    pub(crate) fn window_mut(&mut self, index: u32) -> Option<&mut Window> {
        self.connections.get_mut(index)?.window.as_deref_mut()
    }

    /// Whether a connection acknowledges one by one, by tags.
    pub(crate) fn is_tagged(&self, index: u32) -> bool {
        self.window(index).is_some_and(Window::is_tagged)
    }

    /// Sends again, before anything else, the deliveries of a session's former owner that nobody has acknowledged.
    pub(crate) fn send_again(&mut self, index: u32, floor: &mut Floor) {
        let target = self.target();
        let connection = self.connections.reach(index);
        let Some(window) = connection.window.as_ref().filter(|window| window.is_tagged()) else { return };
        let again: VecDeque<_> = window.iter().filter(|sent| sent.stage != Stage::Done).copied().collect();
        if again.is_empty() && connection.lag.is_none() {
            return;
        }
        let mut lag = connection.lag.take().unwrap_or_else(|| {
            floor.counters.lagging += 1;
            Box::new(Lag::new(target.clone(), target.clone()))
        });
        // Messages at most once that came while nobody was there are over.
        (lag.again, lag.quiet_until) = (again, target);
        connection.lag = Some(lag);
        self.enqueue(index);
    }

    /// The number of deliveries that a turn may make.
    pub(crate) fn budget(&mut self, whole: usize) -> usize {
        whole.saturating_sub(std::mem::take(&mut self.debt)).max(1)
    }

    /// Forgets the parcels that only lagging connections need, if there are none.
    pub(crate) fn tidy(&mut self, counters: &Counters) {
        if counters.lagging == 0 {
            self.parcels.clear();
        }
    }

    /// Whether a connection can go on, or there are records that were not fanned out.
    pub(crate) fn has_more(&self, floor: &Floor) -> bool {
        let is_behind = || self.marks.iter().zip(&floor.setup.tails).any(|(mark, tail)| *mark < tail.head());
        !self.ready.is_empty() || is_behind()
    }

    /// The time at which a page that failed is asked for again, or a subscription waits no more.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.ahead.iter().map(Ahead::next_look).chain(self.retries.deadline()).min()
    }

    fn beginning(&self) -> Positions {
        SmallVec::from_elem(Offset::BEGINNING, self.marks.len())
    }

    /// Puts a lagging connection among those that can go on.
    fn enqueue(&mut self, index: u32) {
        let Some(connection) = self.connections.get_mut(index).filter(|c| !c.queued) else { return };
        connection.queued = true;
        self.ready.push_back(Slot { index, generation: connection.generation });
    }
}
