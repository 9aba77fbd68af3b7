//! What the log needs of a disk, so that the simulation can tear, lose and corrupt what was written.
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
    /// Where it is, for messages.
    fn place(&self) -> String;

    /// The names of all files.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file that exists.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes an empty file; one that exists is emptied.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, replacing what has it, at once.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; readers that have it open keep it.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes names durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// How much room there is.
    fn space(&self) -> io::Result<Space>;

    /// Takes the directory for this process until the lock is dropped.
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

    /// Fills the buffer from there, as far as the file reaches, and says how far that was.
    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all of it there.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;

    /// Cuts the file.
    fn truncate(&self, length: u64) -> io::Result<()>;
}

/// Room on a disk, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// What is free for us.
    pub free: u64,
    /// The size of the disk.
    pub total: u64,
}

/// Why a directory can't be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody has it.
    #[error("process {0} has it")]
    Held(String),
    /// The disk failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads up to so many bytes; fewer where the file ends.
pub(crate) fn read_up_to(file: &dyn DiskFile, at: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let read = file.read_at(at, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Fills a new file with zeros: writing over them later needs no change of the file's own data, and so syncs faster.
/// Syncs after so many bytes, so that others who sync don't wait for all of them.
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
