//! Bridges: messages between the log and topics of Kafka's that exist.
//!
//! * **In** ([`inward`]): each record is taken over once, by any node and however often it is read: the append has its
//!   place in Kafka, and the log judges that together with it (`base::source::Source`).
//! * **Out** ([`outward`]): a reader of the log whose position stands in the log. It moves when Kafka has acknowledged,
//!   so that each message comes at least once, in order by topic.
//!
//! Each bridge has a thread of its own, on which nothing else waits for Kafka. A failure is logged, counted and tried
//! again, with a spread; no message is skipped meanwhile. A bridge needs no hub: to the log it is one more worker.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use everywire_base::bridge::{Bridge, Way};
use everywire_base::limits::Limits;
use everywire_log::engine::Engine;
use everywire_store::Store;
use tokio::runtime::Builder;
use tokio::sync::watch;

mod failure;
mod flight;
mod headers;
mod inward;
mod lease;
mod outward;
mod place;
mod port;
mod progress;
mod readers;

pub use port::{Line, Seat, line};
pub use progress::{Progress, REFUSALS};

use failure::Failure;
use port::Port;

/// The longest time that a bridge takes to finish the records under way.
const GOODBYE: Duration = Duration::from_secs(5);

/// The parts that bridges use.
pub struct Setup {
    /// The log.
    pub engine: Arc<dyn Engine>,
    /// The store that is derived from it.
    pub store: Store,
    /// Every bound.
    pub limits: Arc<Limits>,
    /// This node's name.
    pub node: Box<str>,
    /// The number of this node's life.
    pub boot: u32,
    /// Whether other nodes may share the log: then each reads its share of what comes in, and one carries out.
    pub is_shared: bool,
    /// The function that starts a thread; a thread that panics must not die alone.
    pub spawn: Spawn,
}

/// A function that starts a thread of this name.
pub type Spawn = fn(&str, Box<dyn FnOnce() + Send>) -> io::Result<JoinHandle<()>>;

/// Running bridges.
pub struct Bridges {
    progress: Arc<[Arc<Progress>]>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

/// The state of each bridge on its thread.
struct Common {
    name: Box<str>,
    setup: Arc<Setup>,
    progress: Arc<Progress>,
    stop: watch::Receiver<bool>,
}

impl Bridges {
    /// Starts the bridges, each at its seat. Returns when those that carry messages out know their positions, so that
    /// no message is published before.
    pub fn start(bridges: Vec<(Bridge, Seat)>, setup: Setup) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (spawn, setup) = (setup.spawn, Arc::new(setup));
        let (mut threads, mut progresses) = (Vec::new(), Vec::new());
        let (placed, placing) = std::sync::mpsc::channel();
        for (bridge, seat) in bridges {
            let progress = Arc::new(Progress::new(&bridge));
            progresses.push(Arc::clone(&progress));
            let (setup, stop) = (Arc::clone(&setup), stopped.clone());
            let common = Common { name: bridge.name.clone(), setup, progress, stop };
            let placed = placed.clone();
            let run = move || run(bridge, seat, common, placed);
            threads.push(spawn("bridge", Box::new(run))?);
        }
        drop(placed);
        // The loop ends when each bridge has reported, and has dropped its end.
        for () in &placing {}
        Ok(Self { progress: progresses.into(), stop, threads })
    }

    /// The counters of the bridges.
    pub fn progress(&self) -> &Arc<[Arc<Progress>]> {
        &self.progress
    }

    /// Finishes the records under way, and ends. The log must still be there.
    pub fn stop(self) {
        let _ = self.stop.send(true);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn run(bridge: Bridge, seat: Seat, common: Common, placed: std::sync::mpsc::Sender<()>) {
    // A bridge does little itself beside the work of Kafka and the log.
    let runtime = Builder::new_current_thread().enable_all().build().expect("an event loop");
    let port = Port::new(seat, Arc::clone(&common.setup.engine));
    let Bridge { name: _, access, way } = bridge;
    match way {
        Way::In(rule) => {
            drop(placed);
            runtime.block_on(inward::Inlet::new(access, rule, common, port).run());
        }
        Way::Out(rule) => runtime.block_on(async {
            let mut outlet = outward::Outlet::new(access, rule, common, port);
            outlet.place().await;
            drop(placed);
            outlet.run().await;
        }),
    }
}

impl Common {
    /// Logs why a bridge doesn't go on for now, and waits until it tries again; `false` if it is to end.
    async fn pause(&mut self, failure: &Failure) -> bool {
        let wait = self.progress.failed(failure);
        tokio::select! {
            _ = self.stop.wait_for(|stop| *stop) => false,
            () = tokio::time::sleep(wait) => true,
        }
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
}
