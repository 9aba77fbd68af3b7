//! The costs of the store alone: applies messages over many topics, and prints speed, CPU, memory and disk.
//!
//! `cargo run --release -p everywire-store --example store_bench -- RECORDS TOPICS MAX_MESSAGES [PER_SECOND] [retain]`
//!
//! Records come from a thread of their own and are not kept, so that only the store is measured; CPU is counted by
//! thread. At the end the store is opened again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Lineage, Offset, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::topic::Topic;
use everywire_log::engine::{Archive, ArchiveError};
use everywire_log::tail::TailWriter;
use everywire_store::{Applier, FjallTables, Parts, Store};

const BATCH: u64 = 256;

/// A log that keeps nothing.
struct Nothing(Offset);

impl Archive for Nothing {
    fn get(&self, _: &[Offset]) -> Result<Vec<Arc<Record>>, ArchiveError> {
        Ok(Vec::new())
    }
    fn scan(&self, _: Offset, up_to: Offset, _: usize) -> Result<(Vec<Arc<Record>>, Offset), ArchiveError> {
        Ok((Vec::new(), up_to))
    }
    fn last(&self) -> Offset {
        self.0
    }
    fn clean(&self, _: Offset, _: &mut dyn FnMut(&Record) -> bool) -> Result<u64, ArchiveError> {
        Ok(0)
    }
    fn relieve(&self, _: u64, _: Offset) -> Offset {
        Offset::BEGINNING
    }
    fn is_whole(&self) -> bool {
        false
    }

    fn lacks(&self) -> Option<(Offset, Offset)> {
        None
    }

    fn bytes(&self) -> u64 {
        0
    }
}

#[derive(Clone, Copy)]
struct Load {
    records: u64,
    topics: u64,
    max_messages: u64,
    per_second: u64,
    retain: bool,
}

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|arg| arg.parse().ok()).collect();
    let number = |at: usize, default: u64| numbers.get(at).copied().unwrap_or(default);
    let load = Load {
        records: number(0, 5_000_000),
        topics: number(1, 10_000),
        max_messages: number(2, 100),
        per_second: number(3, 0),
        retain: std::env::args().any(|arg| arg == "retain"),
    };
    let directory = tempfile::tempdir().expect("a directory");
    run(load, directory.path());
    reopen(load, directory.path());
}

fn open(load: Load, directory: &Path, writer: &TailWriter, last: Offset) -> (Store, Applier) {
    let history = History { max_messages: load.max_messages, ..History::default() };
    let rules = Rules::new(vec![TopicRule { history, ..TopicRule::fallback() }]);
    Store::open(Parts {
        tables: Box::new(FjallTables::open(directory).expect("tables")),
        archive: Arc::new(Nothing(last)),
        tail: Arc::clone(writer.tail()),
        partition: Partition(0),
        lineage: Arc::new(|| Arc::new(Lineage { epoch: Epoch(1), ..Lineage::default() })),
        rules: Arc::new(rules),
    })
    .expect("a store")
}

fn run(load: Load, directory: &Path) {
    let writer = TailWriter::new(Offset(0), &Limits::default());
    let (store, mut applier) = open(load, directory, &writer, Offset(0));
    let tail = Arc::clone(writer.tail());
    let done = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let feeder = std::thread::Builder::new().name("feeder".into()).spawn(move || feed(load, writer)).expect("a thread");
    let stop = Arc::clone(&done);
    let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
        while !stop.load(Ordering::Acquire) || tail.applied() < tail.head() {
            let progress = applier.turn(now());
            assert!(progress.error.is_none(), "{progress:?}");
            if !progress.more {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        applier.close().expect("a last checkpoint");
    });
    let thread = thread.expect("a thread");
    println!(
        "{:>8} {:>12} {:>10} {:>9} {:>9} {:>8} {:>8}  cpu",
        "seconds", "records", "records/s", "RSS MiB", "disk MiB", "topics", "cached"
    );
    while !feeder.is_finished() {
        std::thread::sleep(Duration::from_secs(5).min(Duration::from_millis(200 + load.records / 2000)));
        report(&store, begun, directory);
    }
    done.store(true, Ordering::Release);
    let (feeding, applying) = (feeder.join(), thread.join());
    assert!(feeding.is_ok() && applying.is_ok(), "a thread failed");
    report(&store, begun, directory);
}

fn feed(load: Load, mut writer: TailWriter) {
    let topics: Vec<Topic> =
        (0..load.topics).map(|n| Topic::parse(&format!("bench/topic/{n}")).expect("a topic")).collect();
    let body = vec![b'x'; 128];
    let begun = Instant::now();
    let mut offset = 0;
    while offset < load.records {
        while offset > writer.tail().applied().0 + 60_000 {
            std::thread::sleep(Duration::from_micros(200));
        }
        if load.per_second > 0 && offset as f64 > begun.elapsed().as_secs_f64() * load.per_second as f64 {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let time = now();
        let record = |offset: u64| {
            // The topics come in turn, in an order that has nothing to do with their names.
            let topic = &topics[(offset.wrapping_mul(0x9e37_79b9) % load.topics) as usize];
            let mut message = Message::new(topic.clone(), body.clone());
            message.retain = load.retain;
            Arc::new(Record {
                partition: Partition(0),
                offset: Offset(offset),
                time,
                durability: Durability::Fsync,
                content: message.into(),
            })
        };
        let next = (offset + BATCH).min(load.records);
        writer.push((offset + 1..=next).map(record).collect());
        offset = next;
    }
}

fn reopen(load: Load, directory: &Path) {
    let writer = TailWriter::new(Offset(load.records), &Limits::default());
    let (begun, busy) = (Instant::now(), process_cpu());
    let (store, mut applier) = open(load, directory, &writer, Offset(load.records));
    let opened = begun.elapsed();
    while applier.turn(now()).more {}
    let (topics, retained) = (&store.metrics().topics, store.retained().total());
    println!(
        "opened again in {:.2} s, first turn after {:.2} s, {:.1} s of CPU: {} topics, {retained} retained",
        opened.as_secs_f64(),
        begun.elapsed().as_secs_f64(),
        process_cpu() - busy,
        topics.load(Ordering::Relaxed)
    );
}

fn report(store: &Store, begun: Instant, directory: &Path) {
    let seconds = begun.elapsed().as_secs_f64();
    let applied = store.applied().0;
    println!(
        "{seconds:>8.1} {applied:>12} {:>10.0} {:>9.1} {:>9.1} {:>8} {:>7.1}M  {}",
        applied as f64 / seconds,
        resident() as f64 / 1_048_576.0,
        disk(directory) as f64 / 1_048_576.0,
        store.metrics().topics.load(Ordering::Relaxed),
        store.metrics().cache_bytes.load(Ordering::Relaxed) as f64 / 1_048_576.0,
        cpu().iter().map(|(name, seconds)| format!("{name} {seconds:.1} s")).collect::<Vec<_>>().join(", "),
    );
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}

fn resident() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

fn disk(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => disk(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// CPU seconds of all threads there ever were.
fn process_cpu() -> f64 {
    seconds_of(&fs::read_to_string("/proc/self/stat").unwrap_or_default()).map_or(0.0, |(_, seconds)| seconds)
}

/// CPU seconds by the name of the threads that live.
fn cpu() -> BTreeMap<String, f64> {
    let mut seconds = BTreeMap::new();
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        if let Some((name, busy)) = seconds_of(&stat) {
            *seconds.entry(name).or_default() += busy;
        }
    }
    seconds
}

/// The name and the CPU seconds in a `stat` file.
fn seconds_of(stat: &str) -> Option<(String, f64)> {
    let (name, rest) = stat.split_once(") ")?;
    let name = name.split_once('(')?.1.to_owned();
    let ticks: f64 = rest.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum();
    Some((name, ticks / 100.0))
}
