//! A bounded pool of threads that read the store for the workers.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use everywire_base::ask::Read;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use everywire_store::Store;

use crate::doorbell::wall_clock;
use crate::threads;

/// Threads of the pool: enough to keep a disk busy.
const READERS: usize = 4;

/// How long a read waits for the store to come as far as it must be: it is milliseconds behind the log.
const BEHIND: Duration = Duration::from_millis(200);

/// Reads on their way to the pool. Clones share the pool.
#[derive(Clone)]
pub(crate) struct Readers {
    queue: Sender<Read>,
}

impl Readers {
    /// Starts the pool. It ends when the last clone is gone.
    pub(crate) fn start(
        store: &Store,
        posts: &Arc<[Post<Socket>]>,
        bound: usize,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (queue, reads) = bounded(bound);
        let reader = |i| {
            let (store, posts, reads) = (store.clone(), Arc::clone(posts), reads.clone());
            threads::spawn(format!("reader-{i}"), move || serve(&store, &posts, &reads))
        };
        let threads = (0..READERS).map(reader).collect::<io::Result<_>>()?;
        Ok((Self { queue }, threads))
    }

    /// Takes a read, or gives it back when too many wait.
    pub(crate) fn read(&self, read: Read) -> Result<(), Read> {
        self.queue.try_send(read).map_err(|e| match e {
            TrySendError::Full(read) | TrySendError::Disconnected(read) => read,
        })
    }

    /// How many reads wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }
}

fn serve(store: &Store, posts: &[Post<Socket>], reads: &Receiver<Read>) {
    for read in reads {
        // One that waits in vain fails, and is asked for again.
        store.wait(read.applied, BEHIND);
        let page = store.read(&read, wall_clock());
        // A worker that has ended has nobody to give it to.
        let _ = posts[usize::from(read.ticket.worker)].send(Mail::Page(page));
    }
}
