//! The conformance of the engines memory and embedded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everywire_base::ask::PublishError;
use everywire_base::clock::UnixMillis;
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message};
use everywire_log::disk::{Disk, RealDisk, SimDisk};
use everywire_log::embedded::{Embedded, Options};
use everywire_log::engine::{Bell, Engine};
use everywire_log::memory::{Memory, MemoryOptions};
use everywire_log::suite::following::Following;
use everywire_log::suite::remote_engine::SimEngine;
use everywire_log::suite::{self, Subject};

struct InMemory;

impl Subject for InMemory {
    fn open(&self, limits: &Limits, bell: Arc<dyn Bell>) -> Arc<dyn Engine> {
        let (engine, appender) = Memory::open(MemoryOptions::seeded(1), limits, bell);
        std::thread::spawn(|| appender.run());
        engine
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn follows_bell(&self) -> bool {
        true
    }
}

struct OnDisk {
    disk: Arc<dyn Disk>,
    seed: AtomicU64,
    segment_bytes: u64,
    _directory: Option<tempfile::TempDir>,
}

impl Subject for OnDisk {
    fn open(&self, limits: &Limits, bell: Arc<dyn Bell>) -> Arc<dyn Engine> {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let options = Options { segment_bytes: self.segment_bytes, ..Options::seeded(seed) };
        let (engine, appender) = Embedded::open(Arc::clone(&self.disk), options, limits, bell).expect("opened");
        std::thread::spawn(|| appender.run());
        engine
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn follows_bell(&self) -> bool {
        true
    }
}

#[test]
fn memory_passes_the_suite() {
    suite::run(&|| Box::new(InMemory));
}

#[test]
fn embedded_passes_the_suite_on_a_simulated_disk() {
    suite::run(&|| {
        let disk = Arc::new(SimDisk::new());
        Box::new(OnDisk { disk, seed: AtomicU64::new(1), segment_bytes: 256 << 10, _directory: None })
    });
}

#[test]
fn embedded_passes_the_suite_on_a_real_disk() {
    suite::run(&|| {
        let directory = tempfile::tempdir().unwrap();
        let disk = Arc::new(RealDisk::new(directory.path()).unwrap());
        Box::new(OnDisk { disk, seed: AtomicU64::new(1), segment_bytes: 1 << 20, _directory: Some(directory) })
    });
}

#[test]
fn a_follower_passes_the_suite() {
    suite::run(&|| Box::new(Following::of_simulated(&SimEngine::new())));
}

#[test]
fn what_only_passes_needs_no_room_in_a_full_memory() {
    let bell = suite::Recorder::new(UnixMillis(1));
    let options = MemoryOptions { max_bytes: 1000, ..MemoryOptions::seeded(1) };
    let (engine, mut appender) = Memory::open(options, &Limits::default(), Arc::clone(&bell) as _);
    let kinds = [Durability::Fsync, Durability::Fsync, Durability::None];
    let large =
        |durability| suite::append(0, durability, Message { body: vec![0; 600].into(), ..suite::message("t", 1) });
    for durability in kinds {
        engine.submit(&mut vec![large(durability)]);
        appender.turn();
    }
    let results: Vec<_> = bell.outcomes().into_iter().map(|(_, outcome)| outcome.result.map(drop)).collect();
    assert_eq!(results, [Ok(()), Err(PublishError::DiskFull), Ok(())]);
}
