//! The metrics of the store.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Plain counters and gauges, for the metrics page.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    /// The offset up to which the log is applied.
    pub applied: AtomicU64,
    /// The number of offsets by which the store is behind the head mark.
    pub lag: AtomicU64,
    /// Topics that have a state.
    pub topics: AtomicU64,
    /// Topics whose floor was moved by retention.
    pub floors_moved: AtomicU64,
    /// Checkpoints written.
    pub checkpoints: AtomicU64,
    /// Bytes of topics' states in memory.
    pub cache_bytes: AtomicU64,
    /// Bytes of the log that cleaning has freed.
    pub cleaned_bytes: AtomicU64,
    /// The most bytes that log and tables may have together.
    pub disk_limit: AtomicU64,
    /// The number of times that the oldest messages of all topics were removed because of that.
    pub disk_limit_reached: AtomicU64,
    /// Records of kinds that this version doesn't know, seen since the start.
    pub unknown_records: AtomicU64,
    /// Retained messages that could not be read since the log is damaged, counted each time that one is left out.
    pub damaged_records: AtomicU64,
    /// Pages read.
    pub pages: AtomicU64,
    /// Pages that could not be read.
    pub pages_failed: AtomicU64,
    /// Microseconds spent in reading pages.
    pub read_micros: AtomicU64,
}

impl StoreMetrics {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn set(gauge: &AtomicU64, value: u64) {
        gauge.store(value, Ordering::Relaxed);
    }

    pub(crate) fn page_read(&self, took: Duration, failed: bool) {
        Self::add(&self.pages, 1);
        Self::add(&self.pages_failed, u64::from(failed));
        Self::add(&self.read_micros, took.as_micros() as u64);
    }
}
