//! A bounded pool of threads that find out who somebody is: passwords take long, and other servers longer (RULES 33).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use everywire_auth::{Authority, UserSecret, Users};
use everywire_base::ask::{AuthError, Authenticate, Authenticated, Interest, Read, ReadKind};
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::Ticket;
use everywire_base::system;
use everywire_base::topic::Filter;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use everywire_log::tail::Tail;
use everywire_store::Store;

use crate::doorbell::wall_clock;
use crate::threads;

/// Threads of the pool: an application that hangs holds one up for its bound.
const THREADS: usize = 4;
/// How long the store may be behind the log before a user is looked for all the same.
const BEHIND: Duration = Duration::from_millis(500);

/// Credentials on their way to the pool. Clones share the pool.
#[derive(Clone)]
pub(crate) struct Checks {
    queue: Sender<Authenticate>,
    counts: Arc<Counts>,
}

/// What became of credentials.
#[derive(Default)]
pub(crate) struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    unavailable: AtomicU64,
    /// Exchanges that wait for the client's proof.
    begun: AtomicU64,
}

impl Checks {
    /// Starts the pool. It ends when the last clone is gone.
    pub(crate) fn start(
        authority: &Arc<Authority>,
        posts: &Arc<[Post<Socket>]>,
        bound: usize,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let (queue, asked) = bounded(bound);
        let counts = Arc::new(Counts::default());
        let checker = |i| {
            let (authority, posts, asked) = (Arc::clone(authority), Arc::clone(posts), asked.clone());
            let counts = Arc::clone(&counts);
            let work = move || check(&authority, &posts, &asked, &counts);
            threads::spawn(format!("auth-{i}"), work)
        };
        let threads = (0..THREADS).map(checker).collect::<io::Result<_>>()?;
        Ok((Self { queue, counts }, threads))
    }

    /// Takes credentials, or gives them back when too many wait.
    pub(crate) fn check(&self, asked: Authenticate) -> Result<(), Authenticate> {
        self.queue.try_send(asked).map_err(|e| match e {
            TrySendError::Full(asked) | TrySendError::Disconnected(asked) => asked,
        })
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many were accepted, refused, could not be judged, and have begun in steps.
    pub(crate) fn results(&self) -> [(&'static str, u64); 4] {
        let Counts { accepted, refused, unavailable, begun } = &*self.counts;
        [("accepted", accepted), ("refused", refused), ("unavailable", unavailable), ("begun", begun)]
            .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

fn check(authority: &Authority, posts: &[Post<Socket>], asked: &Receiver<Authenticate>, counts: &Counts) {
    for Authenticate { ticket, credentials, device } in asked {
        let result = authority.check(&credentials, device.as_deref(), wall_clock());
        let count = match &result {
            Ok(_) => &counts.accepted,
            Err(AuthError::Refused(_) | AuthError::Mismatch(_)) => &counts.refused,
            Err(AuthError::Unavailable(_)) => &counts.unavailable,
            // It will be one of these.
            Err(AuthError::Continue { .. }) => &counts.begun,
        };
        count.fetch_add(1, Ordering::Relaxed);
        // A worker that has ended has nobody to answer.
        let _ = posts[usize::from(ticket.worker)].send(Mail::Authenticated(Authenticated { ticket, result }));
    }
}

/// The static users: retained messages of `$users/NAME`.
pub(crate) struct StoredUsers {
    pub(crate) store: Store,
    pub(crate) tail: Arc<Tail>,
}

impl Users for StoredUsers {
    fn find(&self, user: &str) -> Option<UserSecret> {
        let topic = system::user_topic(user)?;
        // A user who was just added is found.
        self.store.wait(self.tail.head(), BEHIND);
        let interests = Arc::new([Interest { filter: Filter::Exact(topic), since: Offset::BEGINNING }]);
        let (ticket, partition, applied) = (Ticket::default(), Partition(0), Offset::BEGINNING);
        let read =
            Read { ticket, partition, interests, applied, kind: ReadKind::Retained { after: None, max_records: 1 } };
        let page = self.store.read(&read, wall_clock());
        page.records.first().and_then(|record| record.message()).and_then(system::read)
    }
}
