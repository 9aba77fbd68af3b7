//! The costs of connections and requests that carry a label, for those who compare ways of reading.
//!
//! A label is 128 random bits as text, so that nobody guesses one. Labels are bounded in number, and those that were
//! not used for a while make room. Each address has a share of them: beyond it, the label that this address has not
//! used for the longest time makes room.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::Monotonic;
use crate::network::neighbourhood;

/// The most labels at the same time.
const LABELS: usize = 1024;
/// The number of them that one address may have.
const LABELS_EACH: usize = 64;
/// The time after which an unused label makes room, in milliseconds.
const IDLE_MS: u64 = 10 * 60 * 1000;

/// The costs of one label, counted by all workers.
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
pub struct Lab(Mutex<Labels>);

/// The owner of each label, and its costs.
type Labels = HashMap<Box<str>, (IpAddr, Arc<Tally>)>;

impl Lab {
    /// Whether a text can be a label: 128 bits as hexadecimal digits or base64url.
    pub fn is_label(text: &str) -> bool {
        let is_hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let is_base64 = text.len() == 22 && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        is_hex || is_base64
    }

    /// The tally of a label that is used now; `None` while there are too many.
    pub fn enter(&self, label: &str, from: IpAddr, now: Monotonic) -> Option<Arc<Tally>> {
        let mut labels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if labels.len() >= LABELS && !labels.contains_key(label) {
            labels.retain(|_, (_, tally)| tally.used_ms.load(Ordering::Relaxed) + IDLE_MS > now.0);
        }
        if !labels.contains_key(label) {
            if labels.len() >= LABELS || !Self::is_label(label) {
                return None;
            }
            let from = neighbourhood(from);
            make_room(&mut labels, from);
            labels.insert(label.into(), (from, Arc::default()));
        }
        let (_, tally) = labels.get(label)?;
        tally.used_ms.store(now.0, Ordering::Relaxed);
        Some(Arc::clone(tally))
    }

    /// The tally of a label that was used before.
    pub fn look(&self, label: &str) -> Option<Arc<Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(label).map(|(_, tally)| Arc::clone(tally))
    }
}

/// Removes the least recently used label of an address that has its share.
fn make_room(labels: &mut Labels, from: IpAddr) {
    let own = || labels.iter().filter(|(_, (address, _))| *address == from);
    if own().count() >= LABELS_EACH {
        let oldest = own().min_by_key(|(_, (_, tally))| tally.used_ms.load(Ordering::Relaxed));
        let oldest = oldest.map(|(label, _)| label.clone());
        oldest.and_then(|label| labels.remove(&label));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_bounded_and_idle_ones_make_room() {
        let (lab, label) = (Lab::default(), |n: usize| format!("{n:032x}"));
        let address = |n: usize| IpAddr::from([10, 0, (n / LABELS_EACH) as u8, 1]);
        for n in 0..LABELS {
            assert!(lab.enter(&label(n), address(n), Monotonic(n as u64)).is_some());
        }
        assert!(lab.enter(&label(LABELS), address(LABELS), Monotonic(2000)).is_none(), "all are in use");
        assert!(lab.enter(&label(5), address(0), Monotonic(IDLE_MS)).is_some(), "known ones go on");
        assert!(lab.enter(&label(LABELS), address(LABELS), Monotonic(IDLE_MS + 500)).is_some());
        assert!(lab.look(&label(5)).is_some() && lab.look(&label(3)).is_none());
        assert!(lab.enter("short", address(0), Monotonic(0)).is_none());
    }

    #[test]
    fn one_address_uses_up_nobody_else_s_labels() {
        let (lab, label) = (Lab::default(), |n: usize| format!("{n:032x}"));
        let stranger = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
        let other = IpAddr::from([10, 0, 0, 1]);
        assert!(lab.enter(&label(0), other, Monotonic(0)).is_some());
        for n in 1..=3 * LABELS {
            assert!(lab.enter(&label(n), stranger(n as u16), Monotonic(n as u64)).is_some(), "{n}");
        }
        assert!(lab.look(&label(0)).is_some(), "another's stays");
        let own = (1..=3 * LABELS).filter(|n| lab.look(&label(*n)).is_some());
        assert_eq!(own.collect::<Vec<_>>(), (3 * LABELS - LABELS_EACH + 1..=3 * LABELS).collect::<Vec<_>>());
    }
}
