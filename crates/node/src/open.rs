//! Opens the log and the store, and restores before anybody is served.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::path::Path;
use std::sync::Arc;

use everywire_base::ask::{Interest, Read, ReadKind};
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::Ticket;
use everywire_base::system::PRODUCERS;
use everywire_base::topic::Filter;
use everywire_log::disk::{Disk as _, RealDisk};
use everywire_log::embedded::{Embedded, Options};
use everywire_log::engine::{Bell, Engine};
use everywire_log::memory::{Memory, MemoryOptions};
use everywire_log::metrics::LogMetrics;
use everywire_log::{Appender, BackupError, Copied};
use everywire_store::tables::Tables;
use everywire_store::{Applier, FjallTables, MemoryTables, Parts, Store};

use crate::config::{Config, EngineKind, StartError};
use crate::doorbell::wall_clock;

/// The least size of a log's segment.
const MIN_SEGMENT: u64 = 1 << 20;
/// What the data may have at least where the configuration doesn't say.
const MIN_DISK_BYTES: u64 = 1 << 30;

/// Producers that are read at once.
const PRODUCERS_PAGE: usize = 1024;

/// What was opened.
pub(crate) struct Opened {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) log_metrics: Arc<LogMetrics>,
    pub(crate) appender: Appender,
    pub(crate) store: Store,
    pub(crate) applier: Applier,
}

/// A log with its appender, and where the store keeps what it derives from it.
struct Opening {
    engine: Arc<dyn Engine>,
    log_metrics: Arc<LogMetrics>,
    appender: Appender,
    tables: Box<dyn Tables>,
    /// How many bytes both may have.
    disk_limit: u64,
}

/// Opens log and store, and applies what the store hasn't applied yet.
pub(crate) fn open(config: &Config, bell: Arc<dyn Bell>) -> Result<Opened, StartError> {
    // The standard library's hasher is seeded by the system: all the randomness that an epoch needs.
    let seed = RandomState::new().hash_one(wall_clock());
    let Opening { engine, log_metrics, mut appender, tables, disk_limit } = match config.engine {
        EngineKind::Memory => memory(config, seed, bell),
        EngineKind::Embedded => embedded(config, seed, bell)?,
    };
    let partition = Partition(0);
    let (store, mut applier) = Store::open(Parts {
        tables,
        archive: engine.archive(partition),
        tail: Arc::clone(&engine.tails()[0]),
        partition,
        lineage: engine.lineage(partition),
        rules: Arc::new(config.rules.clone()),
    })?;
    applier.set_disk_limit(disk_limit);
    restore(&mut applier)?;
    remember_producers(&store, &mut appender);
    Ok(Opened { engine, log_metrics, appender, store, applier })
}

/// Copies the log of a data directory, which a server may be using, into an empty one. The store is left out: it is derived.
pub fn backup(data: &Path, to: &Path) -> Result<Copied, BackupError> {
    let disk = |data: &Path| RealDisk::new(data.join("log")).map_err(BackupError::from);
    everywire_log::backup(&disk(data)?, &disk(to)?)
}

fn memory(config: &Config, seed: u64, bell: Arc<dyn Bell>) -> Opening {
    let (engine, appender) = Memory::open(MemoryOptions::seeded(seed), &config.limits, bell);
    let log_metrics = Arc::clone(engine.metrics());
    let disk_limit = MemoryOptions::MAX_BYTES / 8 * 7;
    Opening { engine, log_metrics, appender, tables: Box::new(MemoryTables::default()), disk_limit }
}

fn embedded(config: &Config, seed: u64, bell: Arc<dyn Bell>) -> Result<Opening, StartError> {
    let directory = config.data.join("log");
    let data = |source| StartError::Data { path: directory.clone(), source };
    let disk = Arc::new(RealDisk::new(&directory).map_err(data)?);
    let disk_bytes = match config.limits.disk_bytes {
        0 => room_for_data(&config.data, &disk).map_err(data)?,
        bytes => bytes as u64,
    };
    // Segments of a small bound are small too: they are let go as a whole, and two of them are made ready ahead.
    let usual = Options::seeded(seed);
    let segment_bytes = (disk_bytes / 16).clamp(MIN_SEGMENT.min(usual.segment_bytes), usual.segment_bytes);
    let disk_limit = disk_bytes.saturating_sub(2 * segment_bytes);
    let options = Options { new_epoch: config.new_epoch, segment_bytes, ..usual };
    let (engine, appender) = Embedded::open(disk, options, &config.limits, bell)?;
    let log_metrics = Arc::clone(engine.metrics());
    let tables = FjallTables::open(&config.data.join("store")).map_err(everywire_store::StoreError::from)?;
    Ok(Opening { engine, log_metrics, appender, tables: Box::new(tables), disk_limit })
}

/// Three quarters of what the file system has for log and store, with what they have already; on a small one no bound.
fn room_for_data(data: &Path, disk: &RealDisk) -> io::Result<u64> {
    let used = bytes_below(data)?;
    Ok(((disk.space()?.free + used) / 4 * 3).max(MIN_DISK_BYTES))
}

fn bytes_below(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        bytes += if kind.is_dir() { bytes_below(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

fn restore(applier: &mut Applier) -> Result<(), StartError> {
    loop {
        let progress = applier.turn(wall_clock());
        if let Some(error) = progress.error {
            return Err(error.into());
        }
        if !progress.more {
            return Ok(());
        }
    }
}

/// Tells the log how far producers of ordered keys had come. One that can't be read is not known any more, and so begins
/// anew under another name.
fn remember_producers(store: &Store, appender: &mut Appender) {
    let filter = Filter::parse(&format!("{PRODUCERS}#")).expect("a filter");
    let interests: Arc<[Interest]> = Arc::new([Interest { filter, since: Offset::BEGINNING }]);
    let mut after = None;
    loop {
        let kind = ReadKind::Retained { after, max_records: PRODUCERS_PAGE };
        let (ticket, partition, interests) = (Ticket::default(), Partition(0), Arc::clone(&interests));
        let page = store.read(&Read { ticket, partition, interests, applied: Offset::BEGINNING, kind }, wall_clock());
        if page.failed {
            tracing::error!("producers of ordered keys can't be read, and begin anew under other names");
        }
        appender.remember_producers(&page.records);
        after = page.next;
        if page.failed || after.is_none() {
            return;
        }
    }
}
