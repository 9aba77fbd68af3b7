//! Sources: the places in other logs from which drafts are read.

/// A place in somebody else's log. The log remembers its progress in each such log, together with the records that it
/// took over: a record at or below that was accepted before, and one that doesn't follow it is refused
/// ([`crate::ask::PublishError::OutOfOrder`]). So each record is taken over once, however often it is read, and by any
/// node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    /// The id of that log: a hash of its names that is the same everywhere.
    pub id: u64,
    /// The position of the record that was taken over before this one; 0 if this is the first.
    pub after: u64,
    /// The position of the record itself, above that: positions have holes.
    pub position: u64,
}
