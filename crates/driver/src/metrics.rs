//! The counters of a worker. It writes its own numbers and nobody else's; others read them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use everywire_base::notice::Refused;
use everywire_base::reason::Reason;

/// Upper bounds of the buckets of delivery delays, in milliseconds.
pub const DELAY_BUCKETS_MS: [u64; 12] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 30_000];

/// The most names that wires may use for their protocols.
pub const MAX_WIRES: usize = 16;

/// A number that one worker writes and anybody reads.
#[derive(Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Writes it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to it; only for the one writer.
    pub fn add(&self, more: u64) {
        self.set(self.get().wrapping_add(more));
    }

    /// Takes from it; only for the one writer.
    pub fn sub(&self, less: u64) {
        self.set(self.get().wrapping_sub(less));
    }
}

/// Counts for one wire's name.
#[derive(Default)]
pub struct WireMetrics {
    /// Open connections.
    pub connections: Cell,
    /// Messages published.
    pub published: Cell,
    /// Messages put into outboxes.
    pub delivered: Cell,
}

/// The numbers of one worker.
#[derive(Default)]
pub struct WorkerMetrics {
    names: Mutex<Vec<&'static str>>,
    wires: [WireMetrics; MAX_WIRES],
    /// Deliveries by delay from append to outbox, one bucket for each of [`DELAY_BUCKETS_MS`] and one beyond.
    pub delays: [Cell; DELAY_BUCKETS_MS.len() + 1],
    /// The sum of the delays, in milliseconds.
    pub delay_sum_ms: Cell,
    /// Bytes that wait in outboxes.
    pub outbox_bytes: Cell,
    /// Connections that are not read, since they don't read their outboxes.
    pub unread: Cell,
    /// Records between the worker's mark and the head.
    pub inbox_records: Cell,
    /// Appends that the engine had no room for yet.
    pub waiting_appends: Cell,
    /// The number of connections that all workers may have together.
    pub most_connections: Cell,
    /// Bytes of messages that have not come whole.
    pub unfinished_bytes: Cell,
    /// All open connections.
    pub connections: Cell,
    /// Connections accepted.
    pub accepted: Cell,
    /// Connections refused because the table was full.
    pub refused: Cell,
    /// Connections that catch up.
    pub lagging: Cell,
    /// Gaps said.
    pub gaps: Cell,
    /// Messages left out because they had expired.
    pub expired: Cell,
    /// Exactly-once deliveries of shared groups that ended with their session.
    pub ended: Cell,
    /// Wills of connections that are gone.
    pub wills: Cell,
    /// Signals handed over.
    pub signals: Cell,
    /// Signals that were dropped because there were too many.
    pub signals_dropped: Cell,
    /// Changes of presence of which not all were told who may know.
    pub untold: Cell,
    /// Turns.
    pub turns: Cell,
    /// Bytes read from sockets.
    pub bytes_in: Cell,
    /// Bytes written to sockets.
    pub bytes_out: Cell,
    /// Writes to sockets.
    pub writes: Cell,
    /// The time at which the last turn began, in milliseconds of steady time: a worker that is awake and stays in one
    /// turn is stuck.
    pub turn_began_ms: Cell,
    /// 1 while it sleeps.
    pub sleeping: Cell,
    /// Connections that were handed over by the worker that accepted them.
    pub adopted: Cell,
    /// Endings, at the index of their reason.
    endings: [Cell; Reason::WORDS.len()],
    /// Refusals, at the index of their kind.
    refusals: [Cell; Refused::WORDS.len()],
}

impl WorkerMetrics {
    /// The number under which a wire's name is counted; names beyond [`MAX_WIRES`] share the last. Locks: workers
    /// remember the answer.
    pub(crate) fn label(&self, name: &'static str) -> u8 {
        let mut names = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = names.iter().position(|n| *n == name);
        known.unwrap_or_else(|| {
            if names.len() < MAX_WIRES {
                names.push(name);
            }
            names.len() - 1
        }) as u8
    }

    pub(crate) fn wire(&self, label: u8) -> &WireMetrics {
        &self.wires[usize::from(label)]
    }

    /// The counts by wire's name.
    pub fn by_wire(&self) -> Vec<(&'static str, &WireMetrics)> {
        let names = self.names.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        names.into_iter().zip(&self.wires).collect()
    }

    /// The number of connections that ended, by reason.
    pub fn endings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::WORDS.iter().copied().zip(self.endings.iter().map(Cell::get))
    }

    /// The number of refusals, by kind.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refused::WORDS.iter().copied().zip(self.refusals.iter().map(Cell::get))
    }

    /// The number of refusals of this kind.
    pub fn refused_of(&self, refused: Refused) -> u64 {
        self.refusals[refused.index()].get()
    }

    pub(crate) fn refused(&self, refused: Refused) {
        self.refusals[refused.index()].add(1);
    }

    pub(crate) fn ended(&self, reason: &Reason) {
        self.endings[reason.index()].add(1);
    }

    pub(crate) fn delay(&self, milliseconds: u64) {
        let bucket = DELAY_BUCKETS_MS.iter().position(|b| milliseconds <= *b).unwrap_or(DELAY_BUCKETS_MS.len());
        self.delays[bucket].add(1);
        self.delay_sum_ms.add(milliseconds);
    }
}
