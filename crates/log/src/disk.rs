//! The log's view of a disk, so that the simulation can tear, lose and corrupt written bytes.
//!
//! One flat directory of files. A write is durable after [`DiskFile::sync`]; a file's name after [`Disk::sync_dir`].

mod real;
mod reserve;
mod sim;

use std::io;
use std::sync::Arc;

pub use real::RealDisk;
pub(crate) use reserve::Reserve;
pub use sim::{Fault, SimDisk};

/// A directory of files.
pub trait Disk: Send + Sync {
    /// The place of the directory, for messages.
    fn place(&self) -> String;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes an empty file; one that exists is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, and replaces the file of that name, in one step.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; readers that have it open keep it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// The room on the disk.
    fn space(&self) -> io::Result<Space>;

    /// Locks the directory for this process until the lock is dropped.
    fn lock(&self) -> Result<Box<dyn Send + Sync>, LockError>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its length, in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills the buffer from `at` on, as far as the file reaches; returns the number of bytes.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all bytes at `at`.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the written bytes durable.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&self, length: u64) -> io::Result<()>;
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// The bytes that we may use.
    pub free: u64,
    /// The size of the disk.
    pub total: u64,
}

/// The reason why a directory can't be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("process {0} has it")]
    Held(String),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads up to this many bytes; fewer where the file ends.
pub(crate) fn read_up_to(file: &dyn DiskFile, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = file.read_at(at, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills a new file with zeros: writing over them later needs no change of the file's own data, and so syncs faster.
/// Syncs after this many bytes, so that other syncs don't wait for all of them.
pub(crate) fn fill_with_zeros(file: &dyn DiskFile, length: u64, sync_every: u64) -> io::Result<()> {
    const PIECE: u64 = 64 << 10;
    static ZEROS: [u8; PIECE as usize] = [0; PIECE as usize];
    let (mut at, mut unsynced) = (0, 0);
    while at < length {
        let piece = PIECE.min(length - at);
        file.write_at(at, &ZEROS[..piece as usize])?;
        at += piece;
        unsynced += piece;
        if unsynced >= sync_every {
            file.sync()?;
            unsynced = 0;
        }
    }
    file.sync()
}
