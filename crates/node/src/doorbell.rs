//! The calls of the engine to its node: answers go to the workers' post, a moved head wakes workers and the store.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{SystemTime, UNIX_EPOCH};

use everywire_base::ask::{Outcome, PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::id::{AskId, Mailbox, ReplyTo};
use everywire_bridge::Line;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use everywire_log::engine::Bell;
use tokio::sync::oneshot;

/// The engine's bell.
pub(crate) struct Doorbell {
    posts: Vec<Post<Socket>>,
    store: Arc<OnceLock<Thread>>,
    api: Arc<Appends>,
    bridges: Vec<Line>,
}

/// The appends of the API.
#[derive(Default)]
pub(crate) struct Appends {
    under_way: Mutex<HashMap<u32, oneshot::Sender<Result<Published, PublishError>>>>,
    last: AtomicU32,
}

impl Appends {
    /// A new ask, and the receiver of its outcome.
    pub(crate) fn ask(&self) -> (AskId, oneshot::Receiver<Result<Published, PublishError>>) {
        let (sender, outcome) = oneshot::channel();
        let ask = self.last.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(ask, sender);
        (AskId(ask), outcome)
    }

    /// Hands on the outcome of an append.
    pub(crate) fn done(&self, ask: AskId, result: Result<Published, PublishError>) {
        if let Some(sender) = self.lock().remove(&ask.0) {
            // The asker may have given up.
            let _ = sender.send(result);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<Result<Published, PublishError>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doorbell {
    /// Rings these workers, the bridges, and the store's thread once it is known.
    pub(crate) fn new(
        posts: Vec<Post<Socket>>,
        store: Arc<OnceLock<Thread>>,
        api: Arc<Appends>,
        bridges: Vec<Line>,
    ) -> Self {
        Self { posts, store, api, bridges }
    }
}

impl Bell for Doorbell {
    fn head_moved(&self) {
        self.posts.iter().for_each(Post::ring);
        self.bridges.iter().for_each(Line::ring);
        if let Some(store) = self.store.get() {
            store.unpark();
        }
    }

    fn outcomes(&self, mailbox: Mailbox, outcomes: Vec<Outcome>) {
        match mailbox {
            // Outcomes for a worker that has ended are dropped.
            Mailbox::Worker(worker) => drop(self.posts[usize::from(worker)].send(Mail::Outcomes(outcomes))),
            Mailbox::Bridge(bridge) => self.bridges[usize::from(bridge)].outcomes(outcomes),
            Mailbox::Api => {
                for Outcome { reply_to, result } in outcomes {
                    reply_to.ask().into_iter().for_each(|ask| self.api.done(ask, result));
                }
            }
        }
    }

    fn now(&self) -> UnixMillis {
        wall_clock()
    }
}

/// Sends an answer to the worker that takes it. One for a worker that has ended is dropped.
pub(crate) fn answer(posts: &[Post<Socket>], reply_to: ReplyTo, mail: Mail<Socket>) {
    if let Some(worker) = reply_to.worker() {
        let _ = posts[usize::from(worker)].send(mail);
    }
}

/// The wall clock.
pub(crate) fn wall_clock() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}
