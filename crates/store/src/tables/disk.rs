//! Tables on the disk, kept by fjall.
//!
//! They are small: a topic's whole state is one value, written once a checkpoint. So fjall gets little memory, and two
//! threads so that a flush doesn't wait for a compaction. The filters that say which keys a file lacks stay in memory, a
//! megabyte for a million keys: each is one block of its file, and a cache that lacks it reads and checks all of it for
//! one key. A directory that can't be read is removed: the log has it all.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use fjall::config::{BlockSizePolicy, CompressionPolicy, PinningPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::digest::{seal, unseal};

use super::{Batch, Change, TABLES, Table, Tables, TablesError, Take};

/// The format of the tables; it changes with every change of their entries.
const FORMAT: &[u8] = b"everywire-store 5\n";
const FORMAT_FILE: &str = "FORMAT";
/// The file of the number of synced writes. A database that has fewer was set back, without noticing it.
const SYNCED_FILE: &str = "SYNCED";
/// The key of the number of writes in the database.
const WRITES: &[u8] = b"writes";
const DATABASE: &str = "tables";

const CACHE_BYTES: u64 = 16 << 20;
const JOURNAL_BYTES: u64 = 64 << 20;
const FILES: usize = 128;

/// The name, the memory before a flush, the block size, and whether blocks are compressed: not where single keys are
/// read all the time.
const SHAPES: [(&str, u64, u32, CompressionType); TABLES.len()] = [
    ("topics", 16 << 20, 4 << 10, CompressionType::None),
    ("index", 8 << 20, 8 << 10, CompressionType::Lz4),
    ("retained", 4 << 20, 4 << 10, CompressionType::Lz4),
    ("meta", 1 << 20, 4 << 10, CompressionType::None),
];

/// Tables in a directory.
pub struct FjallTables {
    directory: PathBuf,
    /// The number of batches that were written since the directory was made.
    writes: AtomicU64,
    /// `None` after a failure, until it is opened again. Only opening again locks for writing.
    open: RwLock<Option<Open>>,
}

#[derive(Clone)]
struct Open {
    database: Database,
    keyspaces: [Keyspace; TABLES.len()],
}

impl FjallTables {
    /// Opens the directory, or makes it. Damaged tables, and those of another format, are removed, with a log line: the
    /// tables are empty then.
    pub fn open(directory: &Path) -> Result<Self, TablesError> {
        let (open, writes) = open_or_empty(directory)?;
        let (directory, writes) = (directory.to_owned(), AtomicU64::new(writes));
        Ok(Self { directory, writes, open: RwLock::new(Some(open)) })
    }

    /// Moves the entries of journals into files of their own, as the database does little by little.
    pub fn flush(&self) -> Result<(), TablesError> {
        self.with(|open| open.keyspaces.iter().try_for_each(Keyspace::rotate_memtable_and_wait))
    }

    fn with<T>(&self, act: impl FnOnce(&Open) -> fjall::Result<T>) -> Result<T, TablesError> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(open) = open else { return Err(TablesError::Failed("closed after an error".into())) };
        match catch_unwind(AssertUnwindSafe(|| act(&open))) {
            Ok(done) => done.map_err(|error| sort(&error, &self.directory)),
            Err(_) => Err(panicked()),
        }
    }

    fn begin_again(&self, prepare: impl FnOnce() -> io::Result<()>) -> Result<(), TablesError> {
        let mut place = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // The former database must be gone before its directory can be opened again.
        drop(place.take());
        prepare().map_err(|error| io_failed(&error))?;
        let (open, writes) = open_or_empty(&self.directory)?;
        self.writes.store(writes, Ordering::Release);
        *place = Some(open);
        Ok(())
    }
}

impl Tables for FjallTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        self.with(|open| Ok(open.keyspaces[table as usize].get(key)?.map(|value| value.to_vec())))
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, take: &mut Take<'_>) -> Result<(), TablesError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        self.with(|open| {
            let keyspace = &open.keyspaces[table as usize];
            let entries = match to {
                Some(to) => keyspace.range(from..to),
                None => keyspace.range(from..),
            };
            for entry in entries {
                let (key, value) = entry.into_inner()?;
                if !take(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], take: &mut Take<'_>) -> Result<(), TablesError> {
        if to <= from {
            return Ok(());
        }
        self.with(|open| {
            for entry in open.keyspaces[table as usize].range(from..to).rev() {
                let (key, value) = entry.into_inner()?;
                if !take(&key, &value) {
                    break;
                }
            }
            Ok(())
        })
    }

    fn write(&self, mut batch: Batch) -> Result<(), TablesError> {
        let writes = self.writes.load(Ordering::Acquire) + 1;
        batch.set(Table::Meta, WRITES, writes.to_le_bytes().to_vec());
        self.with(|open| {
            let mut write = fjall::OwnedWriteBatch::with_capacity(open.database.clone(), batch.changes.len());
            for Change { table, key, value } in batch.changes {
                let keyspace = &open.keyspaces[table as usize];
                match value {
                    Some(value) => write.insert(keyspace, &*key, value),
                    None => write.remove(keyspace, &*key),
                }
            }
            write.commit()
        })?;
        self.writes.store(writes, Ordering::Release);
        Ok(())
    }

    fn sync(&self) -> Result<(), TablesError> {
        self.with(|open| open.database.persist(PersistMode::SyncData))?;
        note_synced(&self.directory, self.writes.load(Ordering::Acquire)).map_err(|error| io_failed(&error))
    }

    fn reopen(&self) -> Result<(), TablesError> {
        self.begin_again(|| Ok(()))
    }

    fn clear(&self) -> Result<(), TablesError> {
        self.begin_again(|| empty(&self.directory))
    }

    fn bytes(&self) -> u64 {
        occupied(&self.directory)
    }
}

/// The bytes that the files take on the disk. A journal is made 64 MiB long and takes only the bytes written to it;
/// files that are removed meanwhile take nothing.
fn occupied(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => occupied(&entry.path()),
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}

/// The database, and the number of its writes.
fn open_or_empty(directory: &Path) -> Result<(Open, u64), TablesError> {
    fs::create_dir_all(directory).map_err(|error| io_failed(&error))?;
    if fs::read(directory.join(FORMAT_FILE)).is_ok_and(|format| format == FORMAT) {
        match open_database(directory).and_then(|open| Ok((written(directory, &open)?, open))) {
            Err(TablesError::Damaged(what)) => {
                tracing::error!(directory = %directory.display(), what, "the store is damaged: rebuilding it from the log");
            }
            done => return done.map(|(writes, open)| (open, writes)),
        }
    } else if directory.join(DATABASE).exists() {
        tracing::warn!(directory = %directory.display(), "the store is of another format: rebuilding it from the log");
    }
    empty(directory).map_err(|error| io_failed(&error))?;
    let open = open_database(directory)?;
    note_synced(directory, 0).map_err(|error| io_failed(&error))?;
    fs::write(directory.join(FORMAT_FILE), FORMAT).map_err(|error| io_failed(&error))?;
    Ok((open, 0))
}

/// The number of writes that the database has: at least those that were synced.
fn written(directory: &Path, open: &Open) -> Result<u64, TablesError> {
    let damaged = |what: &str| TablesError::Damaged(what.to_owned());
    let found = open.keyspaces[Table::Meta as usize].get(WRITES).map_err(|error| sort(&error, directory))?;
    let writes = found.map_or(Some(0), |found| Some(u64::from_le_bytes(found.as_ref().try_into().ok()?)));
    let writes = writes.ok_or_else(|| damaged("the number of its writes"))?;
    let synced = fs::read(directory.join(SYNCED_FILE)).ok();
    let synced = synced.and_then(|bytes| Some(u64::from_le_bytes(unseal(&bytes)?.try_into().ok()?)));
    match synced {
        None => Err(damaged("the file `SYNCED` is missing or altered")),
        Some(synced) if writes < synced => Err(damaged("what was synced is gone")),
        Some(_) => Ok(writes),
    }
}

fn note_synced(directory: &Path, writes: u64) -> io::Result<()> {
    let (path, new) = (directory.join(SYNCED_FILE), directory.join("SYNCED.new"));
    let mut file = fs::File::create(&new)?;
    file.write_all(&seal(writes.to_le_bytes().to_vec()))?;
    file.sync_data()?;
    fs::rename(new, path)
}

fn empty(directory: &Path) -> io::Result<()> {
    for path in [FORMAT_FILE, SYNCED_FILE, DATABASE].map(|name| directory.join(name)) {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    }
    Ok(())
}

/// Opens the database. fjall panics on some kinds of damage; they are handled like the others.
fn open_database(directory: &Path) -> Result<Open, TablesError> {
    match catch_unwind(AssertUnwindSafe(|| try_open(&directory.join(DATABASE)))) {
        Ok(opened) => opened.map_err(|error| match sort(&error, directory) {
            // A database that can't be opened is made anew, whatever the reason, unless the disk wouldn't let that
            // either.
            TablesError::Failed(what) if !is_hindered(&error) => TablesError::Damaged(what),
            other => other,
        }),
        Err(_) => Err(panicked()),
    }
}

fn panicked() -> TablesError {
    TablesError::Damaged("the database panicked".into())
}

/// Whether nothing can be opened or written now, so that damage isn't the reason.
fn is_hindered(error: &fjall::Error) -> bool {
    /// Too many open files, in this process and on this machine.
    const TOO_MANY: [i32; 2] = [24, 23];
    let (fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error))) = error else { return false };
    let is_full = error.raw_os_error().is_some_and(|number| TOO_MANY.contains(&number));
    is_full
        || matches!(
            error.kind(),
            io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::ReadOnlyFilesystem
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::OutOfMemory
        )
}

fn try_open(path: &Path) -> fjall::Result<Open> {
    let database = Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES)
        .max_cached_files(Some(FILES))
        .worker_threads(2)
        .open()?;
    let open = |(name, memory, block, compression): (&str, u64, u32, CompressionType)| {
        database.keyspace(name, || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(memory)
                .data_block_size_policy(BlockSizePolicy::all(block))
                .filter_block_pinning_policy(PinningPolicy::all(true))
                .data_block_compression_policy(CompressionPolicy::all(compression))
        })
    };
    let [topics, index, retained, meta] = SHAPES;
    let keyspaces = [open(topics)?, open(index)?, open(retained)?, open(meta)?];
    Ok(Open { database, keyspaces })
}

/// Sorts an error: it is of the disk, of another process, or damage.
fn sort(error: &fjall::Error, directory: &Path) -> TablesError {
    match error {
        fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) if !is_damage(e) => io_failed(e),
        fjall::Error::Poisoned => TablesError::Failed("an earlier write failed".into()),
        fjall::Error::Locked => TablesError::Locked(directory.display().to_string()),
        other => TablesError::Damaged(other.to_string()),
    }
}

fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData)
}

fn io_failed(error: &io::Error) -> TablesError {
    TablesError::Failed(error.to_string())
}
