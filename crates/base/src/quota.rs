//! Quotas: the connections, messages and bytes that somebody may use in a time.
//!
//! A rate is counted by the generic cell rate algorithm (ITU-T I.371): one number, the moment at which all that was
//! used is paid for. Time is an input, so that it runs in the simulation. The amount of one second may come at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Monotonic;

/// The bounds of one user, or of one address. 0 is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    /// Connections at the same time.
    pub connections: u32,
    /// Messages published in a second.
    pub publishes_per_second: u32,
    /// Bytes of messages published in a second.
    pub bytes_per_second: u32,
}

impl Quota {
    /// Whether it bounds anything.
    pub fn is_bounded(&self) -> bool {
        *self != Self::default()
    }
}

/// The use of a [`Quota`] by one user or one address. It is counted without a lock, from any thread.
#[derive(Debug, Default)]
pub struct Account {
    quota: Quota,
    connections: AtomicU32,
    publishes: Rate,
    bytes: Rate,
}

/// Accounts are compared by their bounds.
impl PartialEq for Account {
    fn eq(&self, other: &Self) -> bool {
        self.quota == other.quota
    }
}
impl Eq for Account {}

impl Account {
    /// An account without any use.
    pub fn new(quota: Quota) -> Self {
        Self { quota, ..Self::default() }
    }

    /// Counts one more connection, if the quota allows it.
    pub fn connect(&self) -> bool {
        let bound = self.quota.connections;
        let before = self.connections.fetch_add(1, Ordering::AcqRel);
        if bound > 0 && before >= bound {
            self.disconnect();
            return false;
        }
        true
    }

    /// Counts one connection less.
    pub fn disconnect(&self) {
        self.connections.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a message of this many bytes, or returns the time after which it would be allowed.
    pub fn publish(&self, bytes: usize, now: Monotonic) -> Result<(), Duration> {
        let Quota { publishes_per_second, bytes_per_second, .. } = self.quota;
        self.bytes.spend(bytes as u64, bytes_per_second, now)?;
        self.publishes.spend(1, publishes_per_second, now)
    }
}

/// The accounts of users or addresses: one for each, for as long as somebody holds it.
///
/// Invariant: there are at most as many as are kept in any case, or twice as many as were held at the last sweep.
#[derive(Debug)]
pub struct Accounts<K> {
    quota: Quota,
    of: HashMap<K, Arc<Account>>,
    kept: usize,
    /// The number of accounts at which those that nobody holds are let go. It doubles with what is held, so that a new
    /// account pays for few others, however many there are.
    sweep_at: usize,
}

impl<K: Eq + Hash> Accounts<K> {
    /// No accounts yet; each will have these bounds. So many are kept in any case.
    pub fn new(quota: Quota, kept: usize) -> Self {
        Self { quota, of: HashMap::new(), kept, sweep_at: kept }
    }

    /// The account of a user or an address; none without bounds.
    pub fn of(&mut self, key: K) -> Option<Arc<Account>> {
        if !self.quota.is_bounded() {
            return None;
        }
        if self.of.len() >= self.sweep_at && !self.of.contains_key(&key) {
            self.of.retain(|_, account| Arc::strong_count(account) > 1);
            self.of.shrink_to(self.kept);
            self.sweep_at = self.kept.max(2 * self.of.len());
        }
        let account = self.of.entry(key).or_insert_with(|| Arc::new(Account::new(self.quota)));
        Some(Arc::clone(account))
    }
}

/// A rate of cells per second; the amount of one second may come at once.
#[derive(Debug, Default)]
struct Rate {
    /// The theoretical arrival time, in microseconds of the monotonic clock.
    paid_until: AtomicU64,
}

const SECOND_US: u64 = 1_000_000;

impl Rate {
    fn spend(&self, cells: u64, per_second: u32, now: Monotonic) -> Result<(), Duration> {
        if per_second == 0 {
            return Ok(());
        }
        let now = now.0 * 1000;
        let cost = cells * SECOND_US / u64::from(per_second);
        let mut paid = self.paid_until.load(Ordering::Acquire);
        loop {
            let from = paid.max(now);
            // A message that costs more than one second's amount passes when nothing else is owed.
            if from > now && from + cost > now + SECOND_US {
                return Err(Duration::from_micros((from + cost).saturating_sub(now + SECOND_US).max(1)));
            }
            match self.paid_until.compare_exchange_weak(paid, from + cost, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(()),
                Err(other) => paid = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_then_the_rate() {
        let account = Account::new(Quota { publishes_per_second: 10, ..Quota::default() });
        let at = |ms: u64| Monotonic(5000 + ms);
        for _ in 0..10 {
            assert_eq!(account.publish(100, at(0)), Ok(()));
        }
        assert_eq!(account.publish(100, at(0)), Err(Duration::from_millis(100)));
        assert_eq!(account.publish(100, at(100)), Ok(()));
        assert!(account.publish(100, at(100)).is_err());
    }

    #[test]
    fn a_message_longer_than_a_second_s_bytes_passes_alone() {
        let account = Account::new(Quota { bytes_per_second: 1000, ..Quota::default() });
        assert_eq!(account.publish(5000, Monotonic(0)), Ok(()));
        assert_eq!(account.publish(1, Monotonic(1000)), Err(Duration::from_millis(3001)));
        assert_eq!(account.publish(1, Monotonic(5000)), Ok(()));
    }

    fn accounts() -> Accounts<usize> {
        Accounts::new(Quota { connections: 1, ..Quota::default() }, 100)
    }

    #[test]
    fn there_is_one_account_while_somebody_holds_it() {
        let mut accounts = accounts();
        let first = accounts.of(0).unwrap();
        (1..1000).for_each(|key| drop(accounts.of(key)));
        assert!(Arc::ptr_eq(&first, &accounts.of(0).unwrap()));
        assert!(!Arc::ptr_eq(&first, &accounts.of(1).unwrap()));
        assert_eq!(Accounts::new(Quota::default(), 100).of(1), None);
    }

    #[test]
    fn accounts_that_nobody_holds_are_let_go_and_held_ones_seldom_looked_at() {
        let mut accounts = accounts();
        (0..1000).for_each(|key| {
            drop(accounts.of(key));
            assert!(accounts.of.len() <= 100);
        });
        let held: Vec<_> = (1000..2000).map(|key| accounts.of(key)).collect();
        assert_eq!((accounts.of.len() >= 1000, accounts.sweep_at >= 1000), (true, true));
        drop(held);
        (3000..5000).for_each(|key| drop(accounts.of(key)));
        assert_eq!((accounts.of.len() <= 100, accounts.sweep_at), (true, 100));
    }

    #[test]
    fn connections_are_counted() {
        let account = Account::new(Quota { connections: 1, ..Quota::default() });
        assert!(account.connect());
        assert!(!account.connect());
        account.disconnect();
        assert!(account.connect());
        assert_eq!(account.connections.load(Ordering::Acquire), 1);
    }
}
