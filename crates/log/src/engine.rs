//! The trait of engines: an engine orders messages, keeps them, and reports when its promise holds.

use std::sync::Arc;

use everywire_base::ask::{Append, Outcome};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Lineage, Offset, Partition};
use everywire_base::id::Mailbox;
use everywire_base::record::{Durability, Record};
use everywire_base::roster::Roster;

use crate::tail::Tail;

/// The engine that orders and keeps the log. It is shared by all workers; nothing here blocks except [`Engine::close`].
pub trait Engine: Send + Sync {
    /// The engine's name for people: `embedded`, `memory`, …
    fn name(&self) -> &'static str;

    /// Takes as many appends from the front as fit into the bounded queue, leaving the rest in place. Each that was
    /// taken is answered once through [`Bell::outcomes`]; those of one worker that were published, in their order.
    fn submit(&self, appends: &mut Vec<Append>);

    /// One tail for each partition, at the index of its number.
    fn tails(&self) -> &[Arc<Tail>];

    /// The epochs and holes of a partition's log. If several nodes share it, another epoch may begin; a record on the
    /// log's own topic marks the place.
    fn lineage(&self, partition: Partition) -> Arc<Lineage>;

    /// The kept records of a partition.
    fn archive(&self, partition: Partition) -> Arc<dyn Archive>;

    /// The promise of an acknowledgement for a topic whose rule asks for `wanted`.
    fn promise(&self, wanted: Durability) -> Durability;

    /// The link of this node to the engine that orders the log; it is always up if this engine orders the log itself.
    fn link(&self) -> Link {
        Link::Up
    }

    /// The lives of the nodes that share the log; `None` if there is only one node.
    fn roster(&self) -> Option<Arc<Roster>> {
        None
    }

    /// The last offset that is known to have been given, here or elsewhere: at or above the tail's head.
    fn head(&self) -> Offset {
        self.tails()[0].head()
    }

    /// Takes no more appends, finishes those that wait, and leaves the log clean. Blocks until that is done.
    fn close(&self);
}

/// The state of a node's link to the engine that orders its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Appends are taken.
    Up,
    /// The engine is away: appends are refused until it is back.
    Cut,
    /// Other nodes have declared this life of the node dead, or a new life of its name has come: it must begin anew.
    Fenced,
    /// The log has lost records that this node has: it must begin anew.
    Forked,
}

/// The part of an engine that moves its log on: on a thread of its own, or stepped.
pub trait Run: Send {
    /// Runs until the engine is closed.
    fn run(self: Box<Self>);

    /// Does a piece of work, without waiting for any. Returns whether there was one.
    fn turn(&mut self) -> bool;

    /// Finishes the waiting appends and closes the log in good order, for tests that step it.
    fn close(self: Box<Self>);
}

/// The calls of an engine to its node, from the engine's thread; they must not block.
pub trait Bell: Send + Sync {
    /// The head mark of a tail has moved: workers and the store should look.
    fn head_moved(&self);

    /// Answers for one thread.
    fn outcomes(&self, mailbox: Mailbox, outcomes: Vec<Outcome>);

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

    /// Frees space: drops sealed parts of the log whose records are all at or below `applied`, or rewrites them without
    /// unwanted records. `is_wanted` decides for each record. Returns the number of bytes that were freed. The store's
    /// thread calls it now and then; each call does a bounded piece of work.
    fn clean(&self, applied: Offset, is_wanted: &mut dyn FnMut(&Record) -> bool) -> Result<u64, ArchiveError>;

    /// Returns the offset, at most `applied`, up to which the oldest records must go to free this many bytes. Cleaning
    /// takes those first.
    fn relieve(&self, bytes: u64, applied: Offset) -> Offset;

    /// Whether it misses no record of the log but what it says to lack: the archive was made just now, from the very
    /// beginning of a log elsewhere, or from a snapshot.
    fn is_whole(&self) -> bool;

    /// The last part of the log that it lacks but for a few records, above the first offset up to the second one: the
    /// engine elsewhere had let go of it.
    fn lacks(&self) -> Option<(Offset, Offset)>;

    /// Bytes on the disk (or in memory).
    fn bytes(&self) -> u64;
}

/// The reason why kept records can't be read.
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
        /// The last offset of the damage: above it the log can be read again.
        up_to: Offset,
        /// The description of the damage.
        what: String,
    },
}
