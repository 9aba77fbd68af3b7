//! The setup of a hub, its calls to its driver, and its counters.

use std::net::SocketAddr;
use std::sync::Arc;

use everywire_base::cursor::Lineage;
use everywire_base::id::{NodeLife, Slot};
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_base::rules::Rules;
use everywire_log::hint::RetainedHint;
use everywire_log::tail::Tail;
use everywire_rooms::Rooms;

/// The setup of a hub.
#[derive(Clone)]
pub struct Setup {
    /// One tail for each partition, at the index of its number.
    pub tails: Vec<Arc<Tail>>,
    /// The epochs and holes of each partition.
    pub lineages: Vec<Arc<Lineage>>,
    /// The hint of the topics that may have a retained message.
    pub retained: Arc<RetainedHint>,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// The topic rules.
    pub rules: Arc<Rules>,
    /// Rooms, and who is there.
    pub rooms: Arc<Rooms>,
    /// The number of the worker that owns the hub.
    pub worker: u16,
    /// The life of the node, after which its connections are named.
    pub life: NodeLife,
    /// Draws a number that nobody can guess: the names of sessions are made of them.
    pub random: Random,
}

/// Draws a random number.
pub type Random = Arc<dyn Fn() -> u128 + Send + Sync>;

/// The origin of a connection that is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The wire that it spoke.
    pub wire: &'static str,
    /// Its remote address.
    pub address: SocketAddr,
}

/// The calls of a hub to its driver.
pub trait Deliver {
    /// Hands a delivery to a connection's wire.
    fn deliver(&mut self, slot: Slot, delivery: &Delivery<'_>) -> Taken;
    /// Tells that the connection is live now, or that this turn's deliveries to it are over: the driver will call the
    /// wire's `settle`.
    fn settled(&mut self, slot: Slot);
    /// Ends the connection; the driver closes it at the hub in turn.
    fn end(&mut self, slot: Slot, reason: Reason);
}

/// The counters of a hub, and its present amounts.
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
    /// The number of times that a connection began to lag because its outbox or its window was full.
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
    /// Signals handed over.
    pub signals: u64,
    /// Signals that were dropped because there were too many in a turn.
    pub signals_dropped: u64,
    /// Changes of presence of which not all were told who may know, because of a bound.
    pub untold: u64,
}
