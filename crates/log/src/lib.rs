//! The log: the partitioned, ordered sequence of records, its shared recent window, and the engines that keep it.

use everywire_base::cursor::Epoch;

mod appender;
mod archive;
mod backup;
mod clean;
pub mod disk;
pub mod embedded;
pub mod engine;
mod fence;
mod files;
pub mod follower;
mod format;
mod gather;
mod guards;
pub mod hint;
mod idempotency;
mod journal;
mod judge;
#[cfg(test)]
mod later;
pub mod memory;
mod meta;
pub mod metrics;
mod producers;
mod proposal;
mod queue;
mod recovery;
pub mod remote;
mod segment;
mod share;
mod siphash;
mod sources;
mod spare;
pub mod suite;
pub mod tail;
mod writer;

pub use appender::Appender;
pub use backup::{BackupError, Copied, backup};
pub use recovery::OpenError;

/// An epoch made of a random number: never 0, so that it can't be taken for a missing one.
pub(crate) fn epoch_of(seed: u64) -> Epoch {
    let mixed = mix(seed);
    Epoch(((mixed >> 32) as u32 ^ mixed as u32).max(1))
}

/// Spreads a seed over all bits (splitmix64's finalizer).
pub(crate) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
