//! The thread that takes snapshots of a log elsewhere, with records of the store, and has the engine trim the rest.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use everywire_base::cursor::Offset;
use everywire_log::follower::Keeper;
use everywire_store::Store;

use crate::threads;

/// The time between two turns of the keeper.
const PERIOD: Duration = Duration::from_millis(500);
/// The time that the store has to come as far as the snapshot.
const BEHIND: Duration = Duration::from_secs(30);

/// The running thread. It isn't joined after a stop, since it may wait for another machine.
pub(crate) struct Keeping(Arc<AtomicBool>);

impl Keeping {
    pub(crate) fn start(mut keeper: Keeper, store: &Store) -> io::Result<Self> {
        let (stop, store) = (Arc::new(AtomicBool::new(false)), store.clone());
        let is_over = Arc::clone(&stop);
        let mut foundations = move |at: Offset, shown: Offset| {
            if !store.wait(shown, BEHIND) {
                return None;
            }
            let found = store.foundations(at);
            found.inspect_err(|error| tracing::warn!(%error, "no snapshot is taken; it is tried again")).ok()
        };
        threads::spawn("snapshots", move || {
            while !is_over.load(Ordering::Acquire) {
                keeper.turn(&mut foundations);
                thread::sleep(PERIOD);
            }
        })?;
        Ok(Self(stop))
    }

    pub(crate) fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }
}
