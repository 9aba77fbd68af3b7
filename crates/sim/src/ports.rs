//! The ports between the workers and the rest of the node: mail, appends, reads, checks of credentials. In place of
//! threads there are queues, which the world serves.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everywire_base::ask::{Append, Authenticate, Call, Outcome, Read};
use everywire_base::clock::UnixMillis;
use everywire_base::id::{Mailbox, ReplyTo, Slot};
use everywire_base::limits::Limits;
use everywire_driver::mail::Wake;
use everywire_driver::{Mail, Ports, Post};
use everywire_log::engine::{Bell, Engine};

use crate::api::Appends;

/// Wakes nobody: workers are stepped.
pub(crate) struct NeverAsleep;

impl Wake for NeverAsleep {
    fn wake(&self) {}
}

/// The engine's bell, with the time of the parts that have no clock of their own.
pub(crate) struct SimBell {
    posts: Vec<Post<u32>>,
    /// The appends of the API.
    pub(crate) appends: Appends,
    wall_ms: AtomicU64,
}

impl SimBell {
    pub(crate) fn new(posts: Vec<Post<u32>>, now: UnixMillis) -> Self {
        Self { posts, appends: Appends::default(), wall_ms: AtomicU64::new(now.0) }
    }

    pub(crate) fn set_time(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
    }

    /// Drops a letter for a worker.
    pub(crate) fn send(&self, worker: u16, mail: Mail<u32>) {
        let _ = self.posts[usize::from(worker)].send(mail); // the worker may have crashed meanwhile
    }

    /// Drops an answer for the worker whose connection or hub has asked.
    pub(crate) fn answer(&self, reply_to: ReplyTo, mail: Mail<u32>) {
        if let Some(worker) = reply_to.worker() {
            self.send(worker, mail);
        }
    }
}

impl Bell for SimBell {
    fn head_moved(&self) {}

    fn outcomes(&self, mailbox: Mailbox, outcomes: Vec<Outcome>) {
        if let Mailbox::Worker(worker) = mailbox {
            return self.send(worker, Mail::Outcomes(outcomes));
        }
        for Outcome { reply_to, result } in outcomes {
            reply_to.ask().into_iter().for_each(|ask| self.appends.done(ask, result));
        }
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall_ms.load(Ordering::Relaxed))
    }
}

/// A queue with a bound, from which the world takes at any place.
pub(crate) struct Queue<T> {
    items: Mutex<VecDeque<T>>,
    bound: usize,
}

impl<T> Queue<T> {
    pub(crate) fn new(bound: usize) -> Self {
        Self { items: Mutex::default(), bound }
    }

    fn items(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, item: T) -> Result<(), T> {
        let mut items = self.items();
        if items.len() >= self.bound {
            return Err(item);
        }
        items.push_back(item);
        Ok(())
    }

    /// Takes the item at this place, counted round and round.
    pub(crate) fn take(&self, place: usize) -> Option<T> {
        let mut items = self.items();
        let place = place.checked_rem(items.len())?;
        items.remove(place)
    }
}

/// The queues of all workers of a node.
pub(crate) struct Desk {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) reads: Queue<Read>,
    pub(crate) checks: Queue<Authenticate>,
    pub(crate) calls: Queue<Call>,
}

impl Desk {
    pub(crate) fn new(engine: Arc<dyn Engine>, limits: &Limits) -> Self {
        let (reads, checks) = (Queue::new(limits.read_queue), Queue::new(limits.auth_queue));
        Self { engine, reads, checks, calls: Queue::new(limits.api_calls) }
    }
}

/// A worker's way to the desk.
pub(crate) struct SimPorts(pub(crate) Arc<Desk>);

impl Ports for SimPorts {
    fn submit(&self, appends: &mut Vec<Append>) {
        self.0.engine.submit(appends);
    }

    fn read(&self, read: Read, _: IpAddr) -> Result<(), Read> {
        self.0.reads.put(read)
    }

    fn authenticate(&self, asked: Authenticate, _: IpAddr, _: bool) -> Result<(), Authenticate> {
        self.0.checks.put(asked)
    }

    fn is_leaving(&self, _: IpAddr, _: u16, _: Slot) {}

    fn is_gone(&self, _: IpAddr, worker: u16, slot: Slot) {
        self.0.checks.items().retain(|asked| !asked.reply_to.is_of(worker, slot));
    }

    fn call(&self, call: Call) -> Result<(), Call> {
        self.0.calls.put(call)
    }
}
