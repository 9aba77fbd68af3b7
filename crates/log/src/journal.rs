//! What the appender needs of the place where records are kept: segment files, or memory.

use std::sync::Arc;

use everywire_base::ask::PublishError;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::{Durability, Record};

pub(crate) trait Journal: Send {
    /// The appender got a thread of its own: the journal may have helpers too.
    fn start(&mut self);

    /// Reserves the numbers up to this one, so that none of them is ever given again. Nothing has a number behind a write
    /// that failed until what that left is cut off: the next life may find it, below what readers have then.
    fn number(&mut self, up_to: Offset, now: UnixMillis) -> Result<(), PublishError>;

    /// Whether so many records behind this offset, of about so many bytes, may be written now.
    fn admit(&mut self, behind: Offset, count: usize, bytes: usize, now: UnixMillis) -> Result<(), PublishError>;

    /// What it can promise where this is wanted: a log without a disk can't promise a synced one.
    fn promise(&self, wanted: Durability) -> Durability;

    /// Keeps the records, except those that only pass. When it returns, the promise of each holds; when it fails,
    /// nobody knows which of them will be found after a restart.
    fn write(&mut self, records: &[Arc<Record>], now: UnixMillis) -> Result<(), PublishError>;

    /// Nothing waits: time for repairs and what was put off. Says whether there will soon be more of that.
    fn idle(&mut self, now: UnixMillis) -> bool;

    /// The log ends here, in good order.
    fn close(&mut self, last: Offset, time: UnixMillis);
}
