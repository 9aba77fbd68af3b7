//! A follower as a subject of the engines' suite, over any engine elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everywire_base::limits::Limits;

use crate::disk::SimDisk;
use crate::embedded::Options;
use crate::engine::{Bell, Engine, Run as _};
use crate::follower::{Follower, FollowerOptions};
use crate::remote::Connect;
use crate::suite::Subject;
use crate::suite::remote_engine::SimEngine;

/// A node's follower with its replica on a simulated disk.
pub struct Following {
    connect: Arc<dyn Connect>,
    simulated: Option<SimEngine>,
    disk: SimDisk,
    seed: AtomicU64,
}

impl Following {
    /// A follower of an engine that has a clock of its own.
    pub fn of(connect: Arc<dyn Connect>) -> Self {
        Self { connect, simulated: None, disk: SimDisk::new(), seed: AtomicU64::new(1) }
    }

    /// A follower of a simulated engine, whose clock becomes the test's.
    pub fn of_simulated(engine: &SimEngine) -> Self {
        Self { simulated: Some(engine.clone()), ..Self::of(Arc::new(engine.of(0))) }
    }
}

impl Subject for Following {
    fn open(&self, limits: &Limits, bell: Arc<dyn Bell>) -> Arc<dyn Engine> {
        if let Some(engine) = &self.simulated {
            let bell = Arc::clone(&bell);
            engine.follow(move || bell.now());
        }
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        let replica = Options { segment_bytes: 256 << 10, ..Options::seeded(seed) };
        let options = FollowerOptions { node: "a".into(), boot: seed as u32, version: String::new(), replica };
        let opened = Follower::open(&*self.connect, Arc::new(self.disk.clone()), &options, limits, bell);
        let (engine, run) = opened.expect("opened");
        std::thread::spawn(|| Box::new(run).run());
        engine
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn follows_bell(&self) -> bool {
        self.simulated.is_some()
    }
}
