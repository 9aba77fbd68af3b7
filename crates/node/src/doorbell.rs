//! How the engine calls its node: answers go to the workers' post, a moved head wakes workers and the store.

use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{SystemTime, UNIX_EPOCH};

use everywire_base::ask::Outcome;
use everywire_base::clock::UnixMillis;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use everywire_log::engine::Bell;

/// The engine's bell.
pub(crate) struct Doorbell {
    posts: Vec<Post<Socket>>,
    store: Arc<OnceLock<Thread>>,
}

impl Doorbell {
    /// Rings these workers, and the store's thread once it is known.
    pub(crate) fn new(posts: Vec<Post<Socket>>, store: Arc<OnceLock<Thread>>) -> Self {
        Self { posts, store }
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
        // A worker that has ended has nobody to answer.
        let _ = self.posts[usize::from(worker)].send(Mail::Outcomes(outcomes));
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
