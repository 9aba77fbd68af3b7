//! What every engine does: order messages, keep them, and say when its promise holds.

use std::sync::Arc;

use everywire_base::ask::{Append, Outcome};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Lineage, Offset, Partition};
use everywire_base::record::Record;

use crate::tail::Tail;

/// Who orders and keeps the log. Shared by all workers; nothing here blocks except [`Engine::close`].
pub trait Engine: Send + Sync {
    /// The engine's name for people: `embedded`, `memory`, …
    fn name(&self) -> &'static str;

    /// Takes as many appends from the front as fit into the bounded queue, leaving the rest in place. Each that was
    /// taken is answered once through [`Bell::outcomes`], those of one worker in their order.
    fn submit(&self, appends: &mut Vec<Append>);

    /// One tail for each partition, at the index of its number.
    fn tails(&self) -> &[Arc<Tail>];

    /// The epochs and holes of a partition's log, as found at the start.
    fn lineage(&self, partition: Partition) -> Arc<Lineage>;

    /// The kept records of a partition.
    fn archive(&self, partition: Partition) -> Arc<dyn Archive>;

    /// Takes no more appends, finishes what waits, and leaves the log clean. Blocks until that is done.
    fn close(&self);
}

/// How an engine calls its node. Called from the engine's thread; must not block.
pub trait Bell: Send + Sync {
    /// The head mark of some tail has moved: workers and the store should look.
    fn head_moved(&self);

    /// Answers to appends of one worker.
    fn outcomes(&self, worker: u16, outcomes: Vec<Outcome>);

    /// The wall clock, for the time stamps of records.
    fn now(&self) -> UnixMillis;
}

/// The kept records of one partition: for the store, which knows which of them are wanted. May block on the disk.
pub trait Archive: Send + Sync {
    /// The records at these offsets, ascending; those that are gone are left out.
    fn get(&self, offsets: &[Offset]) -> Result<Vec<Arc<Record>>, ArchiveError>;

    /// The kept records above `after` and up to `up_to` in order, at most about `max_bytes` of them, and the offset up
    /// to which the scan came (everything kept up to there was returned; `up_to` if it is complete).
    fn scan(&self, after: Offset, up_to: Offset, max_bytes: usize) -> Result<(Vec<Arc<Record>>, Offset), ArchiveError>;

    /// The last record that is kept (synced or not), or the beginning.
    fn last(&self) -> Offset;

    /// Frees space: drops, or rewrites without what isn't wanted, sealed parts of the log whose records are all at or
    /// below `applied`. `is_wanted` decides for each record. Says how many bytes were freed. Called now and then by
    /// the store's thread; does a bounded piece of work each time.
    fn clean(&self, applied: Offset, is_wanted: &mut dyn FnMut(&Record) -> bool) -> Result<u64, ArchiveError>;

    /// There shall be so many bytes less: up to which of the records at or below `applied` the oldest must go for that.
    /// Cleaning turns to those first.
    fn relieve(&self, bytes: u64, applied: Offset) -> Offset;

    /// Bytes on the disk (or in memory).
    fn bytes(&self) -> u64;
}

/// Why kept records can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The disk failed.
    #[error("reading the log failed: {0}")]
    Io(#[from] std::io::Error),
    /// A checksum or a stored record is wrong.
    #[error(
        "the log is damaged above offset {offset} and up to {up_to}: {what}; restore the data directory from a backup"
    )]
    Damaged {
        /// The last good offset before the damage.
        offset: Offset,
        /// Above this it can be read again.
        up_to: Offset,
        /// What is wrong.
        what: String,
    },
}
