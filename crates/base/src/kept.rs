//! The bytes that the server keeps, of retained messages and of sessions, by the user or the address that causes them.
//!
//! The store counts, since it knows which message another one replaces; publishes and logins are judged by the counts.
//! The counts are made anew from the store at each start, so that they hold over restarts. A count has the records that
//! the store has applied: those in the log above them, at most `limits.append_queue_bytes` and `limits.tail_bytes` of
//! all clients, come on top.
//!
//! A count is the least of several cells, each chosen by another part of a hash, so that it takes a fixed room, is read
//! without a lock from any thread, and is never too low. It is too high only for a payer that shares its cell with
//! others in every row.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use crate::identity::encode;
use crate::network::neighbourhood;
use crate::topic::Topic;

/// Rows of cells.
const ROWS: usize = 4;
/// Cells of a row.
const CELLS: usize = 1 << 13;

/// The one who answers for kept bytes: a user, or all anonymous clients of an address. It is the same on every node and
/// after a restart, and nobody can choose a name that counts as another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Payer(pub u64);

impl Payer {
    /// The payer of the server's own records, and of records that nobody is known to have caused.
    pub const NOBODY: Self = Self(0);

    /// A user.
    pub fn user(name: &str) -> Self {
        Self::encoded(&encode(name))
    }

    /// A user, by the name as it stands in topics.
    pub(crate) fn encoded(name: &str) -> Self {
        Self::hash(b'u', name.as_bytes())
    }

    /// The anonymous clients of an address.
    pub fn address(address: IpAddr) -> Self {
        match neighbourhood(address) {
            IpAddr::V4(address) => Self::hash(b'4', &address.octets()),
            IpAddr::V6(address) => Self::hash(b'6', &address.octets()),
        }
    }

    fn hash(kind: u8, name: &[u8]) -> Self {
        let hash: [u8; 32] = Sha256::new().chain_update([kind]).chain_update(name).finalize().into();
        let first = hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        // The number of a user or an address is never that of nobody.
        Self(first.max(1))
    }
}

/// The kinds of kept records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// Retained messages.
    Retained,
    /// Sessions, with all that the server keeps beside them: wills, and when devices were seen last.
    Session,
}

impl What {
    /// The kind of the record on a topic.
    pub fn on(topic: &Topic) -> Self {
        if topic.is_internal() { What::Session } else { What::Retained }
    }
}

/// The bytes that are kept.
#[derive(Debug, Default)]
pub struct Kept {
    retained: Counts,
    sessions: Counts,
}

impl Kept {
    fn counts(&self, what: What) -> &Counts {
        match what {
            What::Retained => &self.retained,
            What::Session => &self.sessions,
        }
    }

    /// Adds bytes that are now kept.
    pub fn add(&self, what: What, payer: Payer, bytes: u64) {
        self.counts(what).add(payer, bytes);
    }

    /// Removes bytes that are no longer kept.
    pub fn remove(&self, what: What, payer: Payer, bytes: u64) {
        self.counts(what).remove(payer, bytes);
    }

    /// The bytes of one payer. Those of [`Payer::NOBODY`] are not counted.
    pub fn of(&self, what: What, payer: Payer) -> u64 {
        self.counts(what).of(payer)
    }

    /// The bytes of all.
    pub fn total(&self, what: What) -> u64 {
        self.counts(what).total()
    }

    /// Takes over the counts of another one; with `or_more` a count never falls, so that it may be too high but never
    /// too low.
    pub fn follow(&self, other: &Self, or_more: bool) {
        self.retained.follow(&other.retained, or_more);
        self.sessions.follow(&other.sessions, or_more);
    }
}

/// A count for each of any number of payers.
#[derive(Debug)]
pub struct Counts {
    rows: Box<[AtomicU64]>,
    total: AtomicU64,
}

impl Default for Counts {
    fn default() -> Self {
        Self { rows: (0..ROWS * CELLS).map(|_| AtomicU64::new(0)).collect(), total: AtomicU64::new(0) }
    }
}

impl Counts {
    /// Adds to a count. That of [`Payer::NOBODY`] goes into the total alone.
    pub fn add(&self, payer: Payer, amount: u64) {
        self.change(payer, |cell| cell.fetch_add(amount, Ordering::AcqRel));
    }

    /// Takes away an amount that was added.
    pub fn remove(&self, payer: Payer, amount: u64) {
        self.change(payer, |cell| cell.fetch_sub(amount, Ordering::AcqRel));
    }

    /// The sum of all counts.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    fn cells(&self, payer: Payer) -> impl Iterator<Item = &AtomicU64> {
        (0..ROWS).map(move |row| &self.rows[row * CELLS + (payer.0 >> (row * 16)) as usize % CELLS])
    }

    fn change(&self, payer: Payer, change: impl Fn(&AtomicU64) -> u64) {
        change(&self.total);
        if payer != Payer::NOBODY {
            for cell in self.cells(payer) {
                change(cell);
            }
        }
    }

    /// The count of one payer: never too low.
    pub fn of(&self, payer: Payer) -> u64 {
        if payer == Payer::NOBODY {
            return 0;
        }
        self.cells(payer).map(|cell| cell.load(Ordering::Acquire)).min().unwrap_or_default()
    }

    fn follow(&self, other: &Self, or_more: bool) {
        let set = |cell: &AtomicU64, count: u64| {
            if or_more { cell.fetch_max(count, Ordering::AcqRel) } else { cell.swap(count, Ordering::AcqRel) }
        };
        for (cell, other) in self.rows.iter().zip(&other.rows).chain([(&self.total, &other.total)]) {
            set(cell, other.load(Ordering::Acquire));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_count() {
        let kept = Kept::default();
        let payers: Vec<_> = (0..200).map(|n| Payer::user(&format!("user {n}"))).collect();
        for (n, payer) in payers.iter().enumerate() {
            kept.add(What::Retained, *payer, n as u64);
        }
        for (n, payer) in payers.iter().enumerate() {
            assert_eq!((kept.of(What::Retained, *payer), kept.of(What::Session, *payer)), (n as u64, 0));
            kept.remove(What::Retained, *payer, n as u64);
        }
        assert!(payers.iter().all(|payer| kept.of(What::Retained, *payer) == 0));
        assert_eq!(kept.total(What::Retained), 0);
    }

    #[test]
    fn what_is_nobody_s_counts_into_the_total_alone() {
        let kept = Kept::default();
        kept.add(What::Session, Payer::NOBODY, 7);
        assert_eq!((kept.of(What::Session, Payer::NOBODY), kept.total(What::Session)), (0, 7));
    }

    #[test]
    fn a_network_of_version_six_is_one_payer_and_a_user_is_no_address() {
        let address = |text: &str| Payer::address(text.parse().unwrap());
        assert_eq!(address("2001:db8::1"), address("2001:db8::2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:10.0.0.1"), address("10.0.0.1"));
        assert_ne!(address("10.0.0.1"), address("10.0.0.2"));
        assert_ne!(address("10.0.0.1"), Payer::user("10.0.0.1"));
        assert_eq!(Payer::user("a/b"), Payer::encoded("a%2Fb"));
    }

    #[test]
    fn counts_that_follow_are_too_high_rather_than_too_low() {
        let (kept, other, ann) = (Kept::default(), Kept::default(), Payer::user("ann"));
        kept.add(What::Session, ann, 9);
        other.add(What::Session, ann, 5);
        kept.follow(&other, true);
        assert_eq!(kept.of(What::Session, ann), 9);
        kept.follow(&other, false);
        assert_eq!((kept.of(What::Session, ann), kept.total(What::Session)), (5, 5));
    }
}
