//! A disk that keeps some descriptors in reserve, so that the log goes on when all others of the process are used up.
//!
//! A descriptor of the reserve is closed when none is left to open a file with, and taken again when there are some.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, LockError, Space};

/// Enough for the next segment, its spare, the list of segments, cleaning, and some readers.
const RESERVE: usize = 8;

/// A disk with a reserve of descriptors.
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    /// The file whose descriptors are held: it is never removed.
    name: &'static str,
    held: Mutex<Vec<Arc<dyn DiskFile>>>,
}

impl Reserve {
    /// Keeps a reserve of descriptors of this file as soon as there is one of that name.
    pub(crate) fn new(disk: Arc<dyn Disk>, name: &'static str) -> Arc<Self> {
        Arc::new(Self { disk, name, held: Mutex::default() })
    }

    fn held(&self) -> MutexGuard<'_, Vec<Arc<dyn DiskFile>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether others have used up the descriptors, so that some of the reserve are in use.
    pub(crate) fn is_low(&self) -> bool {
        self.held().len() < RESERVE
    }

    /// Opens a file, with a descriptor of the reserve if there is no other.
    fn open_one(&self, open: impl Fn() -> io::Result<Arc<dyn DiskFile>>) -> io::Result<Arc<dyn DiskFile>> {
        let mut held = self.held();
        let mut opened = open();
        // Other parts of the process may take the freed descriptor first: then another one is freed.
        while opened.as_ref().is_err_and(are_used_up) && held.pop().is_some() {
            opened = open();
        }
        while opened.is_ok()
            && held.len() < RESERVE
            && let Ok(file) = self.disk.open(self.name)
        {
            held.push(file);
        }
        opened
    }
}

/// Whether the error is that no descriptors are left, of the process or of the system.
fn are_used_up(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error();
    code == Some(Errno::MFILE.raw_os_error()) || code == Some(Errno::NFILE.raw_os_error())
}

impl Disk for Reserve {
    fn place(&self) -> String {
        self.disk.place()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_one(|| self.disk.open(name))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.open_one(|| self.disk.create(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }

    fn lock(&self) -> Result<Box<dyn Send + Sync>, LockError> {
        self.disk.lock()
    }
}
