//! Tables: sorted keys and values in which the store keeps its derived state.
//!
//! They are no database of their own right: everything in them can be rebuilt from the log, so that damaged tables are
//! removed. A write is atomic over all tables; a crash may lose the last writes, but only a suffix of them.

mod disk;
mod memory;

pub use disk::FjallTables;
pub use memory::MemoryTables;

/// The kinds of tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// The state of each topic, by its name.
    Topics,
    /// Sealed chunks of the index, by topic number and last offset.
    Index,
    /// Retained messages, by the topic's name.
    Retained,
    /// The checkpoint.
    Meta,
}

/// All tables, in the order of their numbers.
pub const TABLES: [Table; 4] = [Table::Topics, Table::Index, Table::Retained, Table::Meta];

/// One change of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The table.
    pub table: Table,
    /// The key.
    pub key: Box<[u8]>,
    /// The new value; `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// Changes that take effect together.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The changes, in order; no key stands twice.
    pub changes: Vec<Change>,
}

impl Batch {
    /// Sets a value.
    pub fn set(&mut self, table: Table, key: &[u8], value: Vec<u8>) {
        self.changes.push(Change { table, key: key.into(), value: Some(value) });
    }

    /// Removes a value.
    pub fn remove(&mut self, table: Table, key: &[u8]) {
        self.changes.push(Change { table, key: key.into(), value: None });
    }
}

/// Takes one key and value of a scan; `false` ends it.
pub type Take<'a> = dyn FnMut(&[u8], &[u8]) -> bool + 'a;

/// Sorted tables. One thread writes, many read; a read never waits for a sync or a compaction.
pub trait Tables: Send + Sync {
    /// The value of a key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError>;

    /// Hands over the entries at `from` and above, below `to` if that is given, in the order of the keys.
    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, take: &mut Take<'_>) -> Result<(), TablesError>;

    /// Hands over the entries at `from` and above, and below `to`, from the last key to the first.
    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], take: &mut Take<'_>) -> Result<(), TablesError>;

    /// Makes all the changes, or none. After an error the tables may refuse everything until [`Tables::reopen`].
    fn write(&self, batch: Batch) -> Result<(), TablesError>;

    /// Waits until all writes survive a power cut.
    fn sync(&self) -> Result<(), TablesError>;

    /// Opens the tables again after an error of the disk. The last writes may be gone.
    fn reopen(&self) -> Result<(), TablesError>;

    /// Removes everything.
    fn clear(&self) -> Result<(), TablesError>;

    /// Bytes on the disk, or about as many in memory.
    fn bytes(&self) -> u64;
}

/// The reason why the tables can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TablesError {
    /// The disk failed, or is full; the error goes away by itself when its cause does.
    #[error("the store's tables can't be used: {0}; they are tried again by themselves")]
    Failed(String),
    /// The entries make no sense: the tables are removed, and rebuilt from the log.
    #[error("the store's tables are damaged: {0}; they are rebuilt from the log")]
    Damaged(String),
    /// Another process uses the directory.
    #[error("the store's directory {0} is in use by another process")]
    Locked(String),
}

/// The first key above all keys with this prefix; `None` if there is none.
pub(crate) fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
