//! The appender's view of the place where records are kept: segment files, or memory.

use std::sync::Arc;

use everywire_base::ask::PublishError;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::{Durability, Record};

pub(crate) trait Journal: Send {
    /// Notes that the appender has a thread of its own: the journal may have helpers too.
    fn start(&mut self);

    /// Reserves the numbers up to this one, so that none of them is ever given again. After a failed write no number is
    /// given until its bytes are cut off: the next life may find them, below records that readers have then.
    fn number(&mut self, up_to: Offset, now: UnixMillis) -> Result<(), PublishError>;

    /// Whether this many records behind this offset, of about this many bytes, may be written now.
    fn admit(&mut self, behind: Offset, count: usize, bytes: usize, now: UnixMillis) -> Result<(), PublishError>;

    /// The promise that it can give for `wanted`: a log without a disk can't promise a synced record.
    fn promise(&self, wanted: Durability) -> Durability;

    /// Keeps the records, except those that are never stored. When it returns, the promise of each holds; when it
    /// fails, nobody knows which of them will be found after a restart.
    fn write(&mut self, records: &[Arc<Record>], now: UnixMillis) -> Result<(), PublishError>;

    /// Does repairs and delayed work while no append waits. Returns whether there will soon be more of it.
    fn idle(&mut self, now: UnixMillis) -> bool;

    /// Ends the log here, in good order.
    fn close(&mut self, last: Offset, time: UnixMillis);
}
