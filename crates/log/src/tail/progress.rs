//! The progress of a node in a log elsewhere: how far it has read, and how often it was at the log's end.

use std::sync::atomic::{AtomicU64, Ordering};

use everywire_base::cursor::Offset;

/// The progress of the thread that reads, for those that are shown what it has read.
pub struct Progress {
    read_to: AtomicU64,
    rounds: AtomicU64,
}

impl Progress {
    pub(super) fn new(last: Offset) -> Self {
        Self { read_to: AtomicU64::new(last.0), rounds: AtomicU64::new(0) }
    }

    /// The offset up to which the log was read: the head, or behind it records that don't count.
    pub fn read_to(&self) -> Offset {
        Offset(self.read_to.load(Ordering::Acquire))
    }

    /// The number of times that the engine was asked for the log's head, and all up to there was shown.
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// Notes that the log was read up to here, and that all of it that counts is shown. It is a round if the engine has
    /// told that this is the log's head.
    pub fn reads_to(&self, at: Offset, is_head: bool) {
        self.read_to.store(at.0, Ordering::Release);
        self.rounds.fetch_add(is_head.into(), Ordering::AcqRel);
    }
}
