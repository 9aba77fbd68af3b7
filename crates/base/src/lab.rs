//! What connections and requests cost that carry a label, for those who compare ways of reading.
//!
//! A label is 128 random bits as text, so that nobody guesses one. Labels are bounded in number, and those that
//! were not used for a while make room.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Monotonic;

/// The most labels at the same time.
const LABELS: usize = 1024;
/// A label that was not used for so long makes room, in milliseconds.
const IDLE_MS: u64 = 10 * 60 * 1000;

/// What one label has cost, counted by all workers.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that carried it.
    pub requests: AtomicU64,
    /// Answers without a message.
    pub empty: AtomicU64,
    /// Messages delivered.
    pub messages: AtomicU64,
    /// Bytes that came, heads included.
    pub bytes_in: AtomicU64,
    /// Bytes that were sent, heads included.
    pub bytes_out: AtomicU64,
    /// Writes to sockets.
    pub writes: AtomicU64,
    used_ms: AtomicU64,
}

/// All labels.
#[derive(Debug, Default)]
pub struct Lab(Mutex<HashMap<Box<str>, Arc<Tally>>>);

impl Lab {
    /// Whether a text can be a label: 128 bits as hexadecimal digits or base64url.
    pub fn is_label(text: &str) -> bool {
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let is_base64 = text.len() == 22 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        is_hex || is_base64
    }

    /// The tally of a label that is used now; none while there are too many.
    pub fn enter(&self, label: &str, now: Monotonic) -> Option<Arc<Tally>> {
        let mut labels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if labels.len() >= LABELS && !labels.contains_key(label) {
            labels.retain(|_, tally| tally.used_ms.load(Ordering::Relaxed) + IDLE_MS > now.0);
        }
        if !labels.contains_key(label) {
            if labels.len() >= LABELS || !Self::is_label(label) {
                return None;
            }
            labels.insert(label.into(), Arc::default());
        }
        let tally = labels.get(label)?;
        tally.used_ms.store(now.0, Ordering::Relaxed);
        Some(Arc::clone(tally))
    }

    /// The tally of a label that was used.
    pub fn look(&self, label: &str) -> Option<Arc<Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(label).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded_and_idle_ones_make_room() {
        let (lab, label) = (Lab::default(), |n: usize| format!("{n:032x}"));
        for n in 0..LABELS {
            assert!(lab.enter(&label(n), Monotonic(n as u64)).is_some());
        }
        assert!(lab.enter(&label(LABELS), Monotonic(2000)).is_none(), "all are in use");
        assert!(lab.enter(&label(5), Monotonic(IDLE_MS)).is_some(), "known ones go on");
        assert!(lab.enter(&label(LABELS), Monotonic(IDLE_MS + 500)).is_some());
        assert!(lab.look(&label(5)).is_some() && lab.look(&label(3)).is_none());
        assert!(lab.enter("short", Monotonic(0)).is_none());
    }
}
