//! The counters and the log lines of a bridge.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use everywire_base::bridge::{Bridge, Way};

use crate::failure::Failure;

/// The first wait after a failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// The time between two log lines about a failure that goes on.
const AGAIN: Duration = Duration::from_mins(1);

/// The reason why a record is not carried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// Its key makes no topic.
    Key,
    /// It is a tombstone, but its bridge retains nothing.
    Tombstone,
    /// It is longer than the other side takes.
    TooLarge,
    /// It can't be published for another reason.
    Unfit,
    /// It was gone before it could be read.
    Lost,
}

/// The reasons for which a record is not carried, for people.
pub const REFUSALS: [&str; 5] = ["key", "tombstone", "too_large", "unfit", "lost"];

/// The counters of a bridge.
pub struct Progress {
    name: Box<str>,
    what: Box<str>,
    carried: AtomicU64,
    again: AtomicU64,
    refused: [AtomicU64; REFUSALS.len()],
    failures: AtomicU64,
    lag: AtomicU64,
    connected: AtomicU64,
    partitions: AtomicU64,
    said: Mutex<Said>,
}

/// The last log lines.
#[derive(Default)]
struct Said {
    failure: String,
    at: Option<Instant>,
    /// Failures in a row.
    count: u32,
    /// The time of the last log line about a refusal, and the number of refusals since.
    refusal: Option<Instant>,
    refusals: u64,
}

impl Progress {
    pub(crate) fn new(bridge: &Bridge) -> Self {
        let what = match &bridge.way {
            Way::In(rule) => format!("from Kafka's {} to {}", rule.from.as_str(), rule.topic.as_str()),
            Way::Out(rule) => format!("from {} to Kafka's {}", rule.filter.as_str(), rule.to.as_str()),
        };
        Self {
            name: bridge.name.clone(),
            what: what.into(),
            carried: AtomicU64::new(0),
            again: AtomicU64::new(0),
            refused: <[AtomicU64; REFUSALS.len()]>::default(),
            failures: AtomicU64::new(0),
            lag: AtomicU64::new(0),
            connected: AtomicU64::new(0),
            partitions: AtomicU64::new(0),
            said: Mutex::default(),
        }
    }

    /// The bridge's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Messages that were carried.
    pub fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// Records that had been taken over before.
    pub fn again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    /// Records that are not carried, by [`REFUSALS`].
    pub fn refused(&self) -> [u64; REFUSALS.len()] {
        std::array::from_fn(|reason| self.refused[reason].load(Ordering::Relaxed))
    }

    /// The number of times that it could not go on.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Records that are not carried yet, about.
    pub fn lag(&self) -> u64 {
        self.lag.load(Ordering::Relaxed)
    }

    /// Whether Kafka is reached: 1 or 0.
    pub fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    /// The number of partitions that this node reads.
    pub fn partitions(&self) -> u64 {
        self.partitions.load(Ordering::Relaxed)
    }

    pub(crate) fn set_partitions(&self, partitions: u64) {
        self.partitions.store(partitions, Ordering::Relaxed);
    }

    pub(crate) fn add_carried(&self, count: u64) {
        self.carried.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn add_again(&self) {
        self.again.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_lag(&self, lag: u64) {
        self.lag.store(lag, Ordering::Relaxed);
    }

    /// Notes that Kafka is reached, and has what the bridge needs.
    pub(crate) fn connects(&self) {
        self.connected.store(1, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.at.take().is_some() || said.failure.is_empty() {
            tracing::info!(bridge = &*self.name, "carries {}", self.what);
        }
        "-".clone_into(&mut said.failure);
    }

    /// Notes that a record was carried: the next failure is the first in a row.
    pub(crate) fn goes_on(&self) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).count = 0;
    }

    /// Logs and counts why it doesn't go on for now; returns the time to wait.
    pub(crate) fn failed(&self, failure: &Failure) -> Duration {
        self.connected.store(0, Ordering::Relaxed);
        self.set_partitions(0);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = (FIRST_WAIT * 2_u32.saturating_pow(said.count.min(16))).min(LONGEST_WAIT);
        said.count = said.count.saturating_add(1);
        let text = failure.to_string();
        if text != said.failure || said.at.is_none_or(|at| at.elapsed() >= AGAIN) {
            tracing::warn!(bridge = &*self.name, "does not go on for now {}: {text}", self.what);
            (said.failure, said.at) = (text, Some(Instant::now()));
        }
        spread(wait)
    }

    /// Counts a record that is not carried, and logs it at most once a minute.
    pub(crate) fn refuse(&self, why: Refused, text: &dyn std::fmt::Display) {
        self.refused[why as usize].fetch_add(1, Ordering::Relaxed);
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.refusals += 1;
        if said.refusal.is_none_or(|at| at.elapsed() >= AGAIN) {
            let count = std::mem::take(&mut said.refusals);
            tracing::warn!(bridge = &*self.name, count, "does not carry everything {}: {text}", self.what);
            said.refusal = Some(Instant::now());
        }
    }
}

/// A random time between half of the wait and all of it, so that not all bridges come at once.
fn spread(wait: Duration) -> Duration {
    // The randomness is the standard library's hasher, which the system seeds.
    let part = RandomState::new().hash_one(0_u8) % 512;
    wait / 2 + wait / 1024 * part as u32
}
