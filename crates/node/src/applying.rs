//! The store's thread: it applies what the log has, keeps retention, and sleeps until the head moves.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use everywire_store::Applier;

use crate::doorbell::wall_clock;
use crate::threads;

/// The time between two looks at retention while nothing is published.
const IDLE: Duration = Duration::from_millis(500);

/// The time for which records gather before they are applied, if nobody waits for them: one turn takes what came in two
/// milliseconds, instead of one turn for each commit.
const GATHER: Duration = Duration::from_millis(2);

/// The running thread.
pub(crate) struct Applying {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Applying {
    /// Starts the thread, and hands it to the engine's bell, which wakes it.
    pub(crate) fn start(mut applier: Applier, wakes: &OnceLock<Thread>) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = threads::spawn("store", move || {
            while !stopped.load(Ordering::Acquire) {
                if !applier.turn(wall_clock()).more {
                    applier.rest(GATHER);
                    thread::park_timeout(IDLE);
                }
            }
            while applier.turn(wall_clock()).more {}
            if let Err(error) = applier.close() {
                tracing::warn!(%error, "the store's last checkpoint failed; the next start will replay more of the log");
            }
        })?;
        let _ = wakes.set(thread.thread().clone());
        Ok(Self { stop, thread })
    }

    /// Applies the records that are left, and ends.
    pub(crate) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        let _ = self.thread.join(); // it has said itself why it failed
    }
}
