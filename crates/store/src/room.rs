//! The bound of the disk: beyond it the oldest messages of all topics are removed, whatever their rules would keep.
//!
//! The log gives the offset up to which records must go. It is a floor for every topic, as its age is: readers who had
//! not read up to there get a gap. Retained messages stay.

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;

use crate::applier::Applier;
use crate::metrics::StoreMetrics;

/// The time between two log lines about removed messages.
const SAY_MILLIS: u64 = 60_000;

/// The bound of the disk, and the log lines about it.
pub(crate) struct Room {
    /// Bytes of log and tables.
    limit: u64,
    is_warned: bool,
    said_at: Option<UnixMillis>,
}

impl Default for Room {
    fn default() -> Self {
        Self { limit: u64::MAX, is_warned: false, said_at: None }
    }
}

impl Applier {
    /// Sets the most bytes that log and tables together may have, about.
    pub fn set_disk_limit(&mut self, bytes: u64) {
        self.room.limit = bytes;
        StoreMetrics::set(&self.shared.metrics.disk_limit, bytes);
    }

    /// Moves the floor up if the bound is exceeded; returns whether it is.
    pub(crate) fn keep_room(&mut self, now: UnixMillis) -> bool {
        let Room { limit, .. } = self.room;
        let used = self.shared.archive.bytes().saturating_add(self.shared.tables.bytes());
        if used <= limit / 10 * 9 {
            self.room.is_warned &= used > limit / 10 * 8;
            return false;
        }
        if !std::mem::replace(&mut self.room.is_warned, true) {
            tracing::warn!(
                used,
                limit,
                "the disk bound is near (limits.disk_bytes): then the oldest messages are let go"
            );
        }
        if used <= limit {
            return false;
        }
        // The floor frees a little more, so that not every message takes an old one with it.
        let floor = self.shared.archive.relieve(used - limit / 20 * 19, Offset(self.synced()));
        if self.shared.raise_floor(floor.0) {
            StoreMetrics::add(&self.shared.metrics.disk_limit_reached, 1);
            let is_due = self.room.said_at.is_none_or(|at| now.0.abs_diff(at.0) >= SAY_MILLIS);
            if is_due {
                self.room.said_at = Some(now);
                tracing::warn!(
                    used,
                    limit,
                    up_to = floor.0,
                    "the oldest messages of all topics are let go (limits.disk_bytes)"
                );
            }
        }
        true
    }
}
