//! How the engine calls its node: answers go to the workers' post, a moved head wakes workers and the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{SystemTime, UNIX_EPOCH};

use everywire_base::ask::{Outcome, PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::id::AskId;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use everywire_log::engine::Bell;
use tokio::sync::oneshot;

/// The engine's bell.
pub(crate) struct Doorbell {
    posts: Vec<Post<Socket>>,
    store: Arc<OnceLock<Thread>>,
    api: Arc<Appends>,
}

/// The appends of the API, which has no worker: their tickets name the one after the last.
#[derive(Default)]
pub(crate) struct Appends {
    under_way: Mutex<HashMap<u32, oneshot::Sender<Result<Published, PublishError>>>>,
    last: AtomicU32,
}

impl Appends {
    /// An ask, and where its outcome will be.
    pub(crate) fn ask(&self) -> (AskId, oneshot::Receiver<Result<Published, PublishError>>) {
        let (sender, outcome) = oneshot::channel();
        let ask = self.last.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(ask, sender);
        (AskId(ask), outcome)
    }

    /// An outcome has come, or never will.
    pub(crate) fn done(&self, ask: AskId, result: Result<Published, PublishError>) {
        if let Some(sender) = self.lock().remove(&ask.0) {
            // Who asked may have given up.
            let _ = sender.send(result);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<Result<Published, PublishError>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doorbell {
    /// Rings these workers, and the store's thread once it is known.
    pub(crate) fn new(posts: Vec<Post<Socket>>, store: Arc<OnceLock<Thread>>, api: Arc<Appends>) -> Self {
        Self { posts, store, api }
    }
}

impl Bell for Doorbell {
    fn head_moved(&self) {
        self.posts.iter().for_each(Post::ring);
        if let Some(store) = self.store.get() {
            store.unpark();
        }
    }

    fn outcomes(&self, worker: u16, outcomes: Vec<Outcome>) {
        match self.posts.get(usize::from(worker)) {
            // A worker that has ended has nobody to answer.
            Some(post) => drop(post.send(Mail::Outcomes(outcomes))),
            None => outcomes.into_iter().for_each(|outcome| self.api.done(outcome.ticket.ask, outcome.result)),
        }
    }

    fn now(&self) -> UnixMillis {
        wall_clock()
    }
}

/// The wall clock.
pub(crate) fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}
