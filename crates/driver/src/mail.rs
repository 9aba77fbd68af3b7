//! Letters to a worker from other threads.
//!
//! Each kind is bounded by the requests for it: outcomes by the appends under way, pages by the reads, replies by the
//! calls, accepted sockets by the accepting worker's budget; the rest comes from an operator's hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use everywire_base::ask::{Authenticated, Outcome, Page, Reply};
use everywire_base::quota::Account;
use everywire_base::registry::{ConnectionInfo, ConnectionsQuery, Recipient, TraceQuestion};
use everywire_base::rules::Rules;
use everywire_base::topic::Topic;

/// A connection that was accepted.
pub struct Accepted<S> {
    /// The socket.
    pub socket: S,
    /// The remote address.
    pub address: SocketAddr,
    /// The listener that accepted it.
    pub listener: u16,
    /// The account of its address's bounds.
    pub account: Option<Arc<Account>>,
    /// Whether it is counted among the connections of its address.
    pub is_counted: bool,
}

/// A letter to a worker.
pub enum Mail<S> {
    /// A connection to own.
    Accepted(Accepted<S>),
    /// Answers to appends.
    Outcomes(Vec<Outcome>),
    /// A page from the store.
    Page(Page),
    /// An answer of the API.
    Called(Reply),
    /// The result of a check of credentials.
    Authenticated(Authenticated),
    /// New topic rules.
    Rules(Arc<Rules>),
    /// New certificates for all listeners with TLS.
    Tls(Arc<rustls::ServerConfig>),
    /// A question for the number of connections that are subscribed to each of these topics.
    Subscribers(Vec<Topic>, Box<dyn FnOnce(Vec<u64>) + Send>),
    /// An operator's question.
    Asked(Question),
    /// Stop accepting, say farewell to everybody, and end when all are gone or the time is over.
    Drain(Duration),
}

/// A question to a worker, and the function that takes the answer.
pub enum Question {
    /// A question for the connections that a query means.
    Connections(ConnectionsQuery, Box<dyn FnOnce(Vec<ConnectionInfo>) + Send>),
    /// A question for the recipients of a message, and whether it has come.
    Trace(TraceQuestion, Box<dyn FnOnce(Vec<Recipient>) + Send>),
}

/// Wakes a sleeping worker.
pub trait Wake: Send + Sync {
    /// Ends its sleep.
    fn wake(&self);
}

impl Wake for Arc<mio::Waker> {
    fn wake(&self) {
        // Fails only when the worker's poll is gone, and then nobody sleeps.
        let _ = mio::Waker::wake(self);
    }
}

/// The post box of a worker, into which letters are dropped. Waking costs a system call only if the worker sleeps.
pub struct Post<S> {
    sender: Sender<Mail<S>>,
    bell: Arc<Doorbell>,
}

impl<S> Clone for Post<S> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: Arc::clone(&self.bell) }
    }
}

struct Doorbell {
    sleeping: AtomicBool,
    wake: Box<dyn Wake>,
}

/// A worker's end of the post.
pub struct Mailbox<S> {
    receiver: Receiver<Mail<S>>,
    bell: Arc<Doorbell>,
}

/// A post and its mailbox.
pub fn mailbox<S>(wake: Box<dyn Wake>) -> (Post<S>, Mailbox<S>) {
    let (sender, receiver) = crossbeam_channel::unbounded();
    let bell = Arc::new(Doorbell { sleeping: AtomicBool::new(false), wake });
    (Post { sender, bell: Arc::clone(&bell) }, Mailbox { receiver, bell })
}

impl<S> Post<S> {
    /// Drops a letter; gives it back if the worker has ended.
    pub fn send(&self, mail: Mail<S>) -> Result<(), Mail<S>> {
        self.sender.send(mail).map_err(|e| e.0)?;
        self.ring();
        Ok(())
    }

    /// Ends the worker's sleep, if it sleeps.
    pub fn ring(&self) {
        if self.bell.sleeping.swap(false, Ordering::SeqCst) {
            self.bell.wake.wake();
        }
    }
}

impl<S> Mailbox<S> {
    pub(crate) fn take(&self) -> Option<Mail<S>> {
        self.receiver.try_recv().ok()
    }

    /// Announces that the worker is about to sleep. It may do so only if `is_idle` still holds afterwards.
    pub(crate) fn may_sleep(&self, is_idle: impl FnOnce() -> bool) -> bool {
        self.bell.sleeping.store(true, Ordering::SeqCst);
        let idle = self.receiver.is_empty() && is_idle();
        if !idle {
            self.awake();
        }
        idle
    }

    pub(crate) fn awake(&self) {
        self.bell.sleeping.store(false, Ordering::SeqCst);
    }
}
