//! A bounded pool of threads that read the store for the workers.
//!
//! Reads that an index answers (exact topics, records by their places, a topic backwards) have a lane of their own, so
//! that they never wait for scans. In each lane addresses take turns. The pages of a scan are small, and each is asked
//! for anew. A connection that is gone asks for none: its reads that still wait are dropped.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use everywire_base::ask::Read;
use everywire_base::id::Slot;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use everywire_store::Store;

use crate::doorbell::{answer, wall_clock};
use crate::lane::{Bounds, Lane};
use crate::threads;

/// The number of threads of each lane, for reads by index and for scans: enough to keep a disk busy.
const THREADS: [usize; 2] = [4, 2];

/// The longest that a read waits until the store has applied what the read needs: the store is milliseconds behind the
/// log.
const BEHIND: Duration = Duration::from_millis(200);

/// Reads on their way to the pool. Clones share the pool.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Pool>);

struct Pool {
    /// The lanes for reads by index and for scans.
    lanes: [Arc<Lane<Read>>; 2],
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.lanes.iter().for_each(|lane| lane.close());
    }
}

impl Readers {
    /// Starts the pool. It ends when the last clone is gone.
    pub(crate) fn start(
        store: &Store,
        posts: &Arc<[Post<Socket>]>,
        bound: usize,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let mut threads = Vec::new();
        let lanes = THREADS
            .map(|count| Arc::new(Lane::new(Bounds { waiting: bound, of_one: bound.div_ceil(2), at_work: count })));
        for (lane, count) in lanes.iter().zip(THREADS) {
            for _ in 0..count {
                let (store, posts, lane) = (store.clone(), Arc::clone(posts), Arc::clone(lane));
                let name = format!("reader-{}", threads.len());
                threads.push(threads::spawn(name, move || serve(&store, &posts, &lane))?);
            }
        }
        Ok((Self(Arc::new(Pool { lanes })), threads))
    }

    /// Takes a read, or gives it back when too many wait.
    pub(crate) fn read(&self, read: Read, from: IpAddr) -> Result<(), Read> {
        let lane = &self.0.lanes[usize::from(!Store::is_short(&read))];
        lane.put(from, read, false).map_err(|(_, read)| read)
    }

    /// Drops the reads of a connection that is gone.
    pub(crate) fn forget(&self, from: IpAddr, worker: u16, slot: Slot) {
        for lane in &self.0.lanes {
            lane.forget(from, |read| read.reply_to.is_of(worker, slot));
        }
    }

    /// The number of reads that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lanes.iter().map(|lane| lane.waiting()).sum()
    }
}

fn serve(store: &Store, posts: &[Post<Socket>], lane: &Lane<Read>) {
    while let Some(mut taken) = lane.take(None) {
        let Some((_, read)) = taken.item() else { continue };
        // A read that waits in vain fails, and is asked for again.
        store.wait(read.applied, BEHIND);
        let page = store.read(&read, wall_clock());
        answer(posts, read.reply_to, Mail::Page(page));
    }
}
