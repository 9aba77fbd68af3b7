//! The log's metrics: plain atomics that a node turns into its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everywire_base::ask::PublishError;

/// Upper bounds of [`LogMetrics::append_seconds`], in seconds; a value above the last falls into one more bucket.
pub const APPEND_SECONDS: [f64; 14] =
    [0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1, 0.25, 1.0, 5.0];

/// Upper bounds of [`LogMetrics::batch_records`].
pub const BATCH_RECORDS: [f64; 14] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0];

/// A histogram with fixed bounds.
pub struct Histogram {
    bounds: &'static [f64],
    counts: Box<[AtomicU64]>,
    /// The sum in millionths, so that it fits an integer.
    sum_millionths: AtomicU64,
}

/// The values of a [`Histogram`] at one moment.
#[derive(Clone, PartialEq, Debug)]
pub struct HistogramValues {
    /// The upper bounds.
    pub bounds: &'static [f64],
    /// The number of values in each bucket (not cumulated); one more than the bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_millionths: AtomicU64::new(0) }
    }

    #[expect(clippy::cast_sign_loss, reason = "what is observed is never negative")]
    fn observe(&self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_millionths.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    /// The values now.
    pub fn values(&self) -> HistogramValues {
        HistogramValues {
            bounds: self.bounds,
            counts: self.counts.iter().map(|c| c.load(Ordering::Relaxed)).collect(),
            sum: self.sum_millionths.load(Ordering::Relaxed) as f64 / 1e6,
        }
    }
}

/// A count that only goes up.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The metrics of a log.
pub struct LogMetrics {
    /// The times of commits, from the moment at which their records were taken from the queue.
    pub append_seconds: Histogram,
    /// The numbers of records in a commit.
    pub batch_records: Histogram,
    /// Records that were committed.
    pub records: Counter,
    /// Bytes that were written for records.
    pub bytes_written: Counter,
    /// The number of syncs of records.
    pub syncs: Counter,
    /// Commits that failed, so that their outcome is unknown.
    pub failed_commits: Counter,
    /// Appends that were refused because the disk is about to be full.
    pub refused_disk_full: Counter,
    /// Appends that were refused because the engine elsewhere has no room.
    pub refused_engine_full: Counter,
    /// The memory that the engine elsewhere uses, in bytes.
    pub engine_memory: Gauge,
    /// The most memory that it may use, in bytes; 0 is no bound, or unknown.
    pub engine_memory_limit: Gauge,
    /// The memory that the log takes there, in bytes; 0 if unknown.
    pub engine_log: Gauge,
    /// Snapshots that this node has taken.
    pub snapshots: Counter,
    /// The size of the last of them, in bytes.
    pub snapshot_bytes: Gauge,
    /// The age of the newest snapshot, in seconds, if this node takes them.
    pub snapshot_age: Gauge,
    /// The number of times that this node had the engine trim the log.
    pub trims: Counter,
    /// Records that were read at the start, before the node served.
    pub replayed: Gauge,
    /// Appends that were answered from a remembered idempotency key.
    pub duplicates: Counter,
    /// Idempotency keys that are remembered.
    pub keys: Gauge,
    /// Sources whose progress is remembered.
    pub sources: Gauge,
    /// Producers of ordered keys that are remembered.
    pub producers: Gauge,
    /// Appends with a key that were refused since the share of their publisher is used up, or all shares.
    pub refused_keys: [Counter; 2],
    /// Records that were refused because their session had been claimed by another connection.
    pub fenced: Counter,
    /// Records that were refused because records by which they were judged had changed.
    pub stale: Counter,
    /// Changes of rooms, memberships and blocks that are remembered.
    pub guards: Gauge,
    /// Claims of sessions that are remembered.
    pub claims: Gauge,
    /// Records that don't count in a log with many writers: doubled, late, or of a node that is gone.
    pub void: Counter,
    /// The number of times that the appender found the tail full and waited for the store.
    pub waits_for_store: Counter,
    /// The number of times that cleaning left a segment as it is, since it can't be read or its copy can't be written.
    pub clean_failures: Counter,
    /// Bytes of old segments that cleaning freed.
    pub bytes_freed: Counter,
}

impl Default for LogMetrics {
    fn default() -> Self {
        Self {
            append_seconds: Histogram::new(&APPEND_SECONDS),
            batch_records: Histogram::new(&BATCH_RECORDS),
            records: Counter::default(),
            bytes_written: Counter::default(),
            syncs: Counter::default(),
            failed_commits: Counter::default(),
            refused_disk_full: Counter::default(),
            refused_engine_full: Counter::default(),
            engine_memory: Gauge::default(),
            engine_memory_limit: Gauge::default(),
            engine_log: Gauge::default(),
            snapshots: Counter::default(),
            snapshot_bytes: Gauge::default(),
            snapshot_age: Gauge::default(),
            trims: Counter::default(),
            replayed: Gauge::default(),
            duplicates: Counter::default(),
            keys: Gauge::default(),
            sources: Gauge::default(),
            producers: Gauge::default(),
            refused_keys: <[Counter; 2]>::default(),
            fenced: Counter::default(),
            stale: Counter::default(),
            guards: Gauge::default(),
            claims: Gauge::default(),
            void: Counter::default(),
            waits_for_store: Counter::default(),
            clean_failures: Counter::default(),
            bytes_freed: Counter::default(),
        }
    }
}

impl LogMetrics {
    /// Counts an append that was refused.
    pub(crate) fn refused(&self, error: PublishError) {
        match error {
            PublishError::DiskFull => self.refused_disk_full.add(1),
            PublishError::EngineFull => self.refused_engine_full.add(1),
            PublishError::KeysUsedUp => self.refused_keys[0].add(1),
            PublishError::KeysFull => self.refused_keys[1].add(1),
            PublishError::Fenced => self.fenced.add(1),
            PublishError::Stale => self.stale.add(1),
            _ => {}
        }
    }

    pub(crate) fn committed(&self, records: usize, took: Duration) {
        self.append_seconds.observe(took.as_secs_f64());
        self.batch_records.observe(records as f64);
        self.records.add(records as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_into_the_bucket_whose_bound_they_reach() {
        let metrics = LogMetrics::default();
        metrics.committed(8, Duration::from_micros(150));
        metrics.committed(9000, Duration::from_secs(9));
        let batches = metrics.batch_records.values();
        assert_eq!((batches.counts[3], batches.counts[14], batches.sum), (1, 1, 9008.0));
        let seconds = metrics.append_seconds.values();
        assert_eq!((seconds.counts[1], seconds.counts[14], metrics.records.get()), (1, 1, 9008));
    }
}
