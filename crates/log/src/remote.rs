//! The follower's view of an engine elsewhere that orders records: Redis, Kafka, or a simulated one.
//!
//! The remote engine gives each record an offset and a time, and hands all of them to every node in one order. It
//! judges nothing: each reader decides whether a writer may write, and whether a record is a retry or was published
//! before (`judge`). Its implementation holds these invariants, which [`crate::suite::remote`] tests:
//!
//! * **Offsets go up, and are never given twice** within a log, whatever happens to its masters. There may be holes.
//! * **An append names the life that its writer has read** and counts in no other: the engine refuses it when the log
//!   has gone on in another one ([`Refusal::Moved`]), also when that has happened while it was on its way.
//! * **Each life of a master is an epoch**, whether records were lost or not. Its name, and the jump of its offsets,
//!   are made of the run, the parent and the fork, never counted: two masters that go on from the same place open two
//!   epochs whose offsets don't overlap. A master that gets an append for an epoch that it doesn't know opens a new
//!   one, since it doesn't have the log of its writers.
//! * **An epoch begins with its entry**, which a reader gets in its place among the records. Only a log's first epoch
//!   may be given by [`Remote::open`] alone.
//! * An engine whose brokers agree on the records and show no others (Kafka) may have epochs that lose nothing and
//!   don't bind appends: late and doubled frames are void by their writers' sequences anyway.
//! * **The promise of an append holds for all records below it in the same epoch.** An append of nothing gives just
//!   that promise.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Offset};
use everywire_base::limits::Limits;
use everywire_base::record::Durability;

/// The format of records that this version writes, and the highest that it reads.
pub const FORMAT: u32 = 1;

/// The most records of one append.
pub const APPEND_RECORDS: usize = 1024;
/// The number of bytes at which an append takes no further record.
pub const APPEND_BYTES: usize = 1 << 20;

/// A log elsewhere, over one connection. It may block; each is used by one thread. Only [`Remote::open`] makes a
/// connection anew that was cut.
pub trait Remote: Send {
    /// Connects, unless that is done, and returns the log's state. If there is no log, it is made with this genesis;
    /// without a genesis, or if a log was there once and is gone, that is refused ([`Refusal::NoLog`]).
    fn open(&mut self, genesis: Option<&Genesis>) -> Result<LogState, RemoteError>;

    /// Appends all of these records in their order and as one, or none. Returns the promise for them, and for all below
    /// them in this life. Without records it returns the promise alone. At most [`APPEND_RECORDS`] records come at
    /// once, and none is added after [`APPEND_BYTES`] bytes.
    fn append(&mut self, life: &Life, records: &[Bytes]) -> Result<Durability, RemoteError>;

    /// Reads the entries above `after`, in order, at most about `max_bytes` of them but at least one; waits up to
    /// `wait` for the first. If the next entry above `after` was trimmed, the read is refused ([`Refusal::Trimmed`]): a
    /// reader never passes over a hole in silence.
    fn read(&mut self, after: Offset, max_bytes: usize, wait: Duration) -> Result<Batch, RemoteError>;

    /// Removes entries at or below this offset; it may keep more.
    fn trim(&mut self, below: Offset) -> Result<(), RemoteError>;

    /// The memory in which the engine keeps the log, asked now; `None` if it keeps it elsewhere, or doesn't tell.
    fn memory(&mut self) -> Result<Option<Memory>, RemoteError>;

    /// The place where snapshots are kept.
    fn blobs(&mut self) -> &mut dyn Blobs;
}

/// Makes connections to one log: the follower uses one to write, one to read.
pub trait Connect: Send + Sync {
    /// The engine's name for people: `redis`, `kafka`.
    fn name(&self) -> &'static str;

    /// Another [`Remote`], not connected yet.
    fn connect(&self) -> Box<dyn Remote>;

    /// The part of the log that the engine keeps, and whether the nodes trim it.
    fn window(&self) -> Window {
        Window { is_trimmed: false, ..Window::default() }
    }
}

/// The part of the log that an engine keeps for nodes that were away. Records beyond one of the bounds may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The greatest size, in bytes.
    pub bytes: u64,
    /// The greatest age.
    pub age: Duration,
    /// Whether the nodes have the engine trim the records beyond it.
    pub is_trimmed: bool,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes: 1 << 30, age: Duration::from_hours(1), is_trimmed: true }
    }
}

/// The memory of an engine that keeps the log in it, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// The part that is used, of all of it.
    pub used: u64,
    /// The most that it may use; 0 is no bound.
    pub limit: u64,
    /// The part that the log takes, without snapshots; 0 if that isn't told.
    pub log: u64,
}

/// Large values by their names, beside the log. A reader checks each value: nothing fences a writer here.
pub trait Blobs {
    /// Keeps a value under a name that was never used before.
    fn put(&mut self, name: &str, value: Bytes) -> Result<(), RemoteError>;

    /// The value, if it is there.
    fn get(&mut self, name: &str) -> Result<Option<Bytes>, RemoteError>;

    /// All names, in no order.
    fn names(&mut self) -> Result<Vec<Box<str>>, RemoteError>;

    /// Removes a value, if it is there.
    fn remove(&mut self, name: &str) -> Result<(), RemoteError>;
}

/// The numbers that all judges of a log share: the maker of the log draws them once, and the engine keeps them beside
/// it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Genesis {
    /// The number that tells this log from every other one.
    pub log: u64,
    /// The seed of the hashes by which keys are known.
    pub key_seed: [u64; 2],
    /// The time for which keys are known.
    pub key_window: Duration,
    /// The number of keys that are known, in all and of one publisher.
    pub keys: [u64; 2],
    /// The time for which silent producers of ordered keys are known.
    pub producer_window: Duration,
    /// The number of producers that are known, in all and of one publisher.
    pub producers: [u64; 2],
    /// The number of claims of sessions that are known.
    pub claims: u64,
    /// The number of guarded records that are known.
    pub guards: u64,
    /// The number of sources that are known.
    pub sources: u64,
    /// The format of records at the beginning.
    pub format: u32,
}

/// The count of numbers in a stored genesis.
const GENESIS_NUMBERS: usize = 13;

impl Genesis {
    /// A genesis with these bounds, made of random numbers.
    pub fn new(seed: [u64; 3], limits: &Limits) -> Self {
        Self {
            log: seed[0],
            key_seed: [seed[1], seed[2]],
            key_window: limits.idempotency_window,
            keys: [limits.idempotency_keys as u64, limits.idempotency_keys_each as u64],
            producer_window: limits.ordered_window,
            producers: [limits.ordered_producers as u64, limits.ordered_producers_each as u64],
            claims: limits.session_claims as u64,
            guards: limits.rooms.guards as u64,
            sources: limits.bridge_sources as u64,
            format: FORMAT,
        }
    }

    /// The stored form, the same on every machine.
    pub fn encode(&self) -> Vec<u8> {
        let millis = |time: Duration| time.as_millis() as u64;
        let numbers: [u64; GENESIS_NUMBERS] = [
            self.log,
            self.key_seed[0],
            self.key_seed[1],
            millis(self.key_window),
            self.keys[0],
            self.keys[1],
            millis(self.producer_window),
            self.producers[0],
            self.producers[1],
            u64::from(self.format),
            self.claims,
            self.guards,
            self.sources,
        ];
        numbers.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    /// Decodes the output of [`Genesis::encode`]; `None` for other bytes. A longer one was written by a later version;
    /// its rest is left out.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = [0; GENESIS_NUMBERS];
        for (number, place) in numbers.iter_mut().zip(bytes.get(..8 * GENESIS_NUMBERS)?.chunks_exact(8)) {
            *number = u64::from_le_bytes(place.try_into().ok()?);
        }
        let [log, first, second, key_ms, keys, keys_each, producer_ms, producers, producers_each, ..] = numbers;
        let [.., format, claims, guards, sources] = numbers;
        Some(Self {
            log,
            key_seed: [first, second],
            key_window: Duration::from_millis(key_ms),
            keys: [keys, keys_each],
            producer_window: Duration::from_millis(producer_ms),
            producers: [producers, producers_each],
            claims,
            guards,
            sources,
            format: u32::try_from(format).ok()?,
        })
    }
}

/// One life of the log: an epoch, and the run of the master that has opened it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Life {
    /// Its name in cursors.
    pub epoch: Epoch,
    /// The engine's own name of the run: opaque.
    pub run: Arc<str>,
}

/// The begin of a life of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EpochEntry {
    /// The life.
    pub life: Life,
    /// The epoch before it, and the last offset that both share; none for a log's first one. Records of the parent
    /// above that are not in this log.
    pub parent: Option<(Epoch, Offset)>,
    /// Its place: its records lie above this, which is at or above the fork.
    pub begin: Offset,
}

/// The state of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogState {
    /// The numbers that it was made with.
    pub genesis: Genesis,
    /// The epochs of which it is made, the present one last. Very old ones may be left out.
    pub epochs: Vec<EpochEntry>,
    /// The offset up to which entries may have been trimmed.
    pub trimmed: Offset,
    /// The last offset that was given.
    pub head: Offset,
}

impl LogState {
    /// The present life.
    pub fn life(&self) -> Option<&Life> {
        self.epochs.last().map(|entry| &entry.life)
    }
}

/// A record as the engine has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raw {
    /// Its place.
    pub offset: Offset,
    /// The time at which the engine took it, by the engine's clock, which may be wrong.
    pub time: UnixMillis,
    /// The bytes that were appended.
    pub stored: Bytes,
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A record that was appended.
    Record(Raw),
    /// The begin of another life.
    Epoch(EpochEntry),
}

/// The result of a read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The entries above the place that was asked for, ascending.
    pub items: Vec<Item>,
    /// The offset up to which all entries of this life are in the items: at least the last item's offset.
    pub seen: Offset,
    /// The last offset that was given, asked after the items had been read.
    pub head: Offset,
    /// The present life, asked at the same moment. If the reader doesn't know it, and it isn't in the items, the reader
    /// opens the log anew.
    pub life: Life,
}

/// The reason why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The engine is there, and refuses: nothing was written.
    #[error("{0}")]
    Refused(Refusal),
    /// The request was sent, and no answer came: it may have been done. The connection is gone.
    #[error("the engine's answer is missing: {0}")]
    Unknown(Box<str>),
    /// There is no connection: nothing was sent.
    #[error("the engine can't be reached: {0}")]
    Cut(Box<str>),
}

/// The reason why an engine refuses a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The log has gone on in another life: the reader must open it anew.
    #[error("the log has gone on in another epoch")]
    Moved,
    /// The next entry was trimmed.
    #[error("what comes next was let go of; everything at or below {0} is gone")]
    Trimmed(Offset),
    /// There is no log where one is expected.
    #[error(
        "the engine has no log there, though there was one: it was flushed, or is another one; restore it, or start with \
         --new-epoch"
    )]
    NoLog,
    /// The engine has no room: the caller tries again when it has.
    #[error("the engine is full: {0}")]
    Full(Box<str>),
    /// The engine takes no writes for now: the caller tries again later.
    #[error("the engine takes nothing for now: {0}")]
    Busy(Box<str>),
    /// The engine can't be used until somebody changes something: the text names that.
    #[error("{0}")]
    Unusable(Box<str>),
}
