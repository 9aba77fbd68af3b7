//! Opens the log and the store, and restores before anybody is served.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::io;
use std::path::Path;
use std::sync::Arc;

use everywire_base::ask::{Interest, Read, ReadKind};
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::ReplyTo;
use everywire_base::record::Record;
use everywire_base::roster::Roster;
use everywire_base::system::{PRODUCERS, SOURCES};
use everywire_base::topic::Filter;
use everywire_log::disk::{Disk as _, RealDisk};
use everywire_log::embedded::{Embedded, Options};
use everywire_log::engine::{Bell, Engine, Run};
use everywire_log::follower::{Follower, FollowerOptions, Keeper};
use everywire_log::memory::{Memory, MemoryOptions};
use everywire_log::metrics::LogMetrics;
use everywire_log::remote::Connect;
use everywire_log::tail::{Tail, Watch};
use everywire_log::{Appender, BackupError, Copied};
use everywire_rooms::Rooms;
use everywire_store::tables::Tables;
use everywire_store::{Applier, FjallTables, MemoryTables, Parts, Store};

use crate::config::{Config, EngineKind, StartError};
use crate::doorbell::wall_clock;
use crate::peers::Inbox;

/// The directory of the embedded log, below the data directory.
const LOG: &str = "log";
/// The directory of this node's copy of a log elsewhere.
const REPLICA: &str = "replica";
/// The least size of a log's segment.
const MIN_SEGMENT: u64 = 1 << 20;
/// The least number of bytes for log and store where the configuration doesn't say.
const MIN_DISK_BYTES: u64 = 1 << 30;

/// The number of retained records that one read returns.
const RETAINED_PAGE: usize = 1024;

/// The parts of a node that [`open`] has opened.
pub(crate) struct Opened {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) log_metrics: Arc<LogMetrics>,
    pub(crate) run: Box<dyn Run>,
    pub(crate) store: Store,
    pub(crate) applier: Applier,
    /// The keeper of the snapshots of a log elsewhere.
    pub(crate) keeper: Option<Keeper>,
}

/// A log, the part that moves it on, and the tables in which the store keeps what it derives from the log.
struct Opening {
    engine: Arc<dyn Engine>,
    log_metrics: Arc<LogMetrics>,
    run: Running,
    tables: Box<dyn Tables>,
    /// The number of bytes that log and store may have together.
    disk_limit: u64,
}

/// The part that moves a log on.
enum Running {
    /// The appender judges what it appends, and must be told what the store knows.
    Appender(Box<Appender>),
    /// The follower judges what it reads, and knows all that by itself.
    Follower(Box<dyn Run>, Keeper),
}

/// Opens log and store, and applies what the store hasn't applied yet. `boot` tells this life of the node from others.
pub(crate) fn open(
    config: &Config,
    boot: u32,
    (rooms, inbox): (&Arc<Rooms>, &Arc<Inbox>),
    bell: Arc<dyn Bell>,
) -> Result<Opened, StartError> {
    // The standard library's hasher is seeded by the system: all the randomness that an epoch needs.
    let seed = RandomState::new().hash_one(wall_clock());
    let Opening { engine, log_metrics, run, tables, disk_limit } = match &config.engine {
        EngineKind::Memory => memory(config, seed, bell),
        EngineKind::Embedded => embedded(config, seed, bell)?,
        EngineKind::Elsewhere(connect) => elsewhere(config, &**connect, (seed, boot), bell)?,
    };
    let partition = Partition(0);
    let (ordering, archive, tail) = (Arc::clone(&engine), engine.archive(partition), Arc::clone(&engine.tails()[0]));
    let (store, mut applier) = Store::open(Parts {
        tables,
        archive,
        tail,
        partition,
        lineage: Arc::new(move || ordering.lineage(partition)),
        rules: Arc::new(config.rules.clone()),
    })?;
    applier.set_disk_limit(disk_limit);
    restore(&mut applier)?;
    let (run, keeper): (Box<dyn Run>, _) = match run {
        Running::Appender(mut appender) => {
            remember(&store, &mut appender);
            (appender, None)
        }
        Running::Follower(run, keeper) => (run, Some(keeper)),
    };
    if let Some(roster) = engine.roster() {
        rooms.set_roster(Roster::clone(&roster));
    }
    restore_rooms(&store, &engine.tails()[0], rooms)?;
    engine.tails()[0].set_watch(Arc::new(Watches { rooms: Arc::clone(rooms), inbox: Arc::clone(inbox) }));
    Ok(Opened { engine, log_metrics, run, store, applier, keeper })
}

/// Copies the log of a data directory, which a server may be using, into an empty one. The store is left out: it is
/// derived.
pub fn backup(data: &Path, to: &Path) -> Result<Copied, BackupError> {
    let disk = |data: &Path| RealDisk::new(data.join(LOG)).map_err(BackupError::from);
    everywire_log::backup(&disk(data)?, &disk(to)?)
}

fn memory(config: &Config, seed: u64, bell: Arc<dyn Bell>) -> Opening {
    let (engine, appender) = Memory::open(MemoryOptions::seeded(seed), &config.limits, bell);
    let log_metrics = Arc::clone(engine.metrics());
    let disk_limit = MemoryOptions::MAX_BYTES / 8 * 7;
    let run = Running::Appender(Box::new(appender));
    Opening { engine, log_metrics, run, tables: Box::new(MemoryTables::default()), disk_limit }
}

fn embedded(config: &Config, seed: u64, bell: Arc<dyn Bell>) -> Result<Opening, StartError> {
    let Segments { disk, options, limit } = segments(config, seed, LOG)?;
    let options = Options { new_epoch: config.new_epoch, ..options };
    let (engine, appender) = Embedded::open(disk, options, &config.limits, bell)?;
    let log_metrics = Arc::clone(engine.metrics());
    let tables = FjallTables::open(&config.data.join("store")).map_err(everywire_store::StoreError::from)?;
    Ok(Opening {
        engine,
        log_metrics,
        run: Running::Appender(Box::new(appender)),
        tables: Box::new(tables),
        disk_limit: limit,
    })
}

/// Opens this node's copy of a log elsewhere. It lies beside an embedded log, which may have been there before.
fn elsewhere(
    config: &Config,
    connect: &dyn Connect,
    (seed, boot): (u64, u32),
    bell: Arc<dyn Bell>,
) -> Result<Opening, StartError> {
    let Segments { disk, options, limit } = segments(config, seed, REPLICA)?;
    let options = FollowerOptions {
        node: config.node.clone(),
        boot,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        replica: Options { new_epoch: config.new_epoch, ..options },
    };
    let tables = FjallTables::open(&config.data.join("store")).map_err(everywire_store::StoreError::from)?;
    if !everywire_log::follower::has_notes(&*disk) {
        // Tables that were derived from an earlier copy say nothing of the new one.
        tables.clear().map_err(everywire_store::StoreError::from)?;
    }
    let (engine, run) = Follower::open(connect, disk, &options, &config.limits, bell)?;
    let log_metrics = Arc::clone(engine.metrics());
    let run = Running::Follower(Box::new(run), engine.keeper(connect));
    Ok(Opening { engine, log_metrics, run, tables: Box::new(tables), disk_limit: limit })
}

/// The disk of a log's segments, and their size.
struct Segments {
    disk: Arc<RealDisk>,
    options: Options,
    /// The number of bytes that log and store may have together.
    limit: u64,
}

fn segments(config: &Config, seed: u64, name: &str) -> Result<Segments, StartError> {
    let directory = config.data.join(name);
    let data = |source| StartError::Data { path: directory.clone(), source };
    let disk = Arc::new(RealDisk::new(&directory).map_err(data)?);
    let disk_bytes = match config.limits.disk_bytes {
        0 => room_for_data(&config.data, &disk).map_err(data)?,
        bytes => bytes as u64,
    };
    // Segments are small where the bound is: they are let go as a whole, and two of them are made ready ahead.
    let usual = Options::seeded(seed);
    let segment_bytes = (disk_bytes / 16).clamp(MIN_SEGMENT.min(usual.segment_bytes), usual.segment_bytes);
    let limit = disk_bytes.saturating_sub(2 * segment_bytes);
    Ok(Segments { disk, options: Options { segment_bytes, ..usual }, limit })
}

/// Three quarters of the bytes that log and store have already and that the file system has free, but at least
/// [`MIN_DISK_BYTES`].
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

/// Tells the log how far producers of ordered keys, and sources, had come. If that can't be read, a producer begins
/// anew under another name.
fn remember(store: &Store, appender: &mut Appender) {
    let of = |beginning| Filter::parse(&format!("{beginning}#")).expect("a filter");
    if retained(store, [PRODUCERS, SOURCES].map(of), |records| appender.remember(&records)).is_err() {
        tracing::error!(
            "producers of ordered keys and what bridges have taken over can't be read: producers begin anew under other \
             names, and bridges may take over again what they had"
        );
    }
}

/// Reads all rooms and memberships, and shows them each record that is appended from now on.
fn restore_rooms(store: &Store, tail: &Tail, rooms: &Arc<Rooms>) -> Result<(), StartError> {
    let mut records = Vec::new();
    let filters = ["$room/+", "$of/#"].map(|filter| Filter::parse(filter).expect("a filter"));
    // A node without rooms could not say who may do what.
    retained(store, filters, |mut page| records.append(&mut page)).map_err(|Unread| StartError::Rooms)?;
    rooms.restore(records, tail.head());
    Ok(())
}

/// Hands every record to the rooms and to the questions of other nodes.
struct Watches {
    rooms: Arc<Rooms>,
    inbox: Arc<Inbox>,
}

impl Watch for Watches {
    fn see(&self, record: &Record) {
        self.rooms.take(record);
        self.inbox.see(record);
    }
}

/// The store could not be read.
struct Unread;

/// Reads the records that are retained on the topics of some filters, page by page.
fn retained(store: &Store, filters: [Filter; 2], mut take: impl FnMut(Vec<Arc<Record>>)) -> Result<(), Unread> {
    let interests = filters.map(|filter| Interest { filter, since: Offset::BEGINNING });
    let interests: Arc<[Interest]> = interests.into();
    let mut after = None;
    loop {
        let kind = ReadKind::Retained { after, max_records: RETAINED_PAGE };
        let (reply_to, partition, interests) = (ReplyTo::Nobody, Partition(0), Arc::clone(&interests));
        let page = store.read(&Read { reply_to, partition, interests, applied: Offset::BEGINNING, kind }, wall_clock());
        if page.failed {
            return Err(Unread);
        }
        take(page.records);
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}
