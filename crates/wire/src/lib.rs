//! The trait that every wire implements.
//!
//! A wire is a pure state machine: bytes, time and answers in; bytes and asks out, into a [`Context`] that the caller
//! owns. It has no socket, clock, task or lock. The driver calls it; it calls nobody.
//!
//! The driver deals with a client that doesn't read: beyond `limits.outbox_bytes` it has no delivery for the wire, and
//! beyond `limits.unread_bytes` it doesn't read from the client, until enough is written; then it settles the wire. A
//! wire that answers many requests of one segment is paused among them when [`Context::has_room`] says so.
//!
//! | verb | when the driver calls it |
//! | --- | --- |
//! | [`Wire::read`] | bytes came, or the peer ended its side |
//! | [`Wire::answer`] | an ask of this wire was answered |
//! | [`Wire::push`] | the hub has a delivery |
//! | [`Wire::settle`] | all of this turn's deliveries and answers were handed over, just before the flush |
//! | [`Wire::deadline`] | after each of the others: when to call `tick` |
//! | [`Wire::tick`] | the deadline has passed |
//! | [`Wire::farewell`] | the server wants to end the connection |
//! | [`Wire::holds`], [`Wire::name`] | whenever it wants to know |

mod carried;
#[cfg(feature = "kit")]
pub mod kit;
mod outbox;
mod upgrade;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Call, Draft};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::kept::{Kept, Payer, What};
use everywire_base::limits::Limits;
use everywire_base::network::Network;
use everywire_base::notice::{Notice, Refused};
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::publish::{self, Unfit};
use everywire_base::quota::Account;
use everywire_base::reason::Reason;
use everywire_base::record::{Entry, Message};
use everywire_base::rules::{Caller, Rules};

pub use carried::{Carried, Carrier, Flow, Framing, Kind};
pub use everywire_base::ask::{Answer, Ask};
pub use everywire_base::cursor::Position;
pub use outbox::{Outbox, Segment};
pub use upgrade::{Denied, Upgrade, UpgradeRequest};

/// A protocol's side of one connection.
pub trait Wire {
    /// Takes bytes from the peer and says how many were used. The driver keeps the rest and offers it again, with the
    /// bytes that came after it; a wire that needs more bytes to go on uses none. A wire that answered [`Then::Paused`]
    /// is not read until a later verb answers [`Then::Open`].
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress;

    /// Takes the answer to an ask.
    fn answer(&mut self, cx: &mut Context<'_>, ask: AskId, answer: Answer) -> Then;

    /// Takes a delivery, or says that there is no room for it. The driver has seen that the outbox isn't full.
    fn push(&mut self, cx: &mut Context<'_>, delivery: &Delivery<'_>) -> Taken;

    /// Notes that this turn's deliveries and answers are over: collected output can be sent.
    fn settle(&mut self, cx: &mut Context<'_>) -> Then;

    /// The time at which [`Wire::tick`] is wanted, if ever.
    fn deadline(&self) -> Option<Monotonic>;

    /// Acts after the deadline has passed.
    fn tick(&mut self, cx: &mut Context<'_>) -> Then;

    /// Ends the connection from our side, in the protocol's words.
    fn farewell(&mut self, cx: &mut Context<'_>, reason: &Reason) -> Then;

    /// The bytes of a message that has not come whole, as far as the wire keeps them: the driver gives them a time and
    /// a bound.
    fn holds(&self) -> usize;

    /// The name of the present protocol, for metrics and the registry: `http`, `poll`, `longpoll`, `sse`, `stream`,
    /// `ws`, …
    fn name(&self) -> &'static str;
}

/// The input from the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// All bytes that were not used yet, oldest first.
    Bytes(&'a [u8]),
    /// The peer ended its side. This is told once nothing is left that the wire would use: it has taken all bytes that
    /// came before, or was offered these ones and used none. A paused wire hears of it when it is open again and has
    /// taken the rest.
    End(&'a [u8]),
}

/// The result of a read.
pub struct Progress {
    /// The number of offered bytes that were used.
    pub used: usize,
    /// The next state.
    pub then: Then,
}

/// The next state of a connection.
pub enum Then {
    /// The wire takes input.
    Open,
    /// The wire has used its share of this turn and takes more in the next one.
    Later,
    /// The wire takes no input until an answer, a delivery or its deadline has come: the socket is not read.
    Paused,
    /// Another wire takes over, with the bytes that were not used and all that the peer sends from now on.
    Become(Box<dyn Wire>),
    /// All that is in the outbox is sent, then the connection is closed.
    Closed(Reason),
}

/// The values that a wire sees and writes to during one verb.
pub struct Context<'a> {
    /// The time of this turn.
    pub now: Now,
    /// The server's bounds.
    pub limits: &'a Limits,
    /// The present topic rules.
    pub rules: &'a Rules,
    /// The other end.
    pub peer: &'a Peer,
    /// The time at which bytes last came from the peer, even if they were not offered yet: its silence is judged by
    /// this.
    pub heard: Monotonic,
    /// The position of the connection in the log.
    pub position: &'a Position,
    /// The account of the remote address's bounds, if it has any; for clients without an identity.
    pub account: Option<&'a Account>,
    /// The client's address: the peer's, or, if the peer is a trusted proxy, the one for which it speaks.
    pub from: IpAddr,
    /// Trusted proxies: they may say for whom they speak.
    pub proxies: &'a [Network],
    /// The kept bytes by their payer, for each partition of the log.
    pub kept: &'a [Arc<Kept>],
    /// The bytes that go to the peer.
    pub out: &'a mut Outbox,
    /// The asks of the node.
    pub asks: &'a mut Vec<(AskId, Ask)>,
}

impl Context<'_> {
    /// Whether the wire may go on with the bytes that have come, since the outbox is short enough. If not, the wire is
    /// settled as soon as there is room.
    pub fn has_room(&self) -> bool {
        self.out.len() <= self.limits.unread_bytes
    }

    /// Whether a delivery must wait.
    pub fn is_full(&self) -> bool {
        self.out.len() >= self.limits.outbox_bytes
    }

    /// Checks a message for [`Ask::Publish`], and counts it against the bounds of its publisher.
    pub fn draft(&mut self, message: Message, author: Option<&Arc<Identity>>) -> Result<Draft, Unfit> {
        let who = author.map(|who| &**who);
        let mut draft = publish::check(message, who, self.rules, self.limits)?;
        draft.author = author.filter(|_| !draft.guards.is_empty()).cloned();
        let mut bytes = 0;
        if let Entry::Message(message) = &mut draft.entry {
            self.charge(message, who)?;
            bytes = message.body.len();
        }
        let account = who.map_or(self.account, |who| who.account.as_deref());
        let spend = |account: &Account| account.publish(bytes, self.now.monotonic);
        account.map_or(Ok(()), spend).map_err(Unfit::TooFast)?;
        Ok(draft)
    }

    /// Counts a call of the API against the bounds of its caller, if it changes what people have to do with each other.
    pub fn count_call(&self, call: &Call) -> Result<(), Unfit> {
        if !call.is_change() {
            return Ok(());
        }
        let account = call.identity.as_deref().map_or(self.account, |who| who.account.as_deref());
        let spend = |account: &Account| account.publish(call.body.len(), self.now.monotonic);
        account.map_or(Ok(()), spend).map_err(Unfit::TooFast)
    }

    /// Sets the payer of a message that is kept, if there is room for it. Operators are told if there isn't.
    fn charge(&mut self, message: &mut Message, who: Caller<'_>) -> Result<(), Unfit> {
        if !message.retain && message.qos < 2 {
            return Ok(());
        }
        if who.and_then(|who| who.user.as_deref()).is_none() {
            message.payer = Payer::address(self.from);
        }
        if !message.retain || message.body.is_empty() || who.is_some_and(|who| who.admin) {
            return Ok(());
        }
        let payer = message.charged();
        let kept: u64 = self.kept.iter().map(|kept| kept.of(What::Retained, payer)).sum();
        let after = kept.saturating_add(message.weight() as u64);
        if after <= self.limits.retained_bytes_each as u64 {
            return Ok(());
        }
        let topic = &message.topic;
        self.notice(Notice::new(Refused::Publish, format!("a message for {topic}: {}", Unfit::RetainedUsedUp)));
        Err(Unfit::RetainedUsedUp)
    }

    /// Notes the addresses through which a request came, as a trusted proxy says, the client's first: its client is the
    /// last that is no trusted proxy.
    pub fn came_through(&mut self, through: &[IpAddr]) {
        let is_trusted = |address: &&IpAddr| self.proxies.iter().any(|network| network.contains(**address));
        if let Some(client) = through.iter().rev().find(|address| !is_trusted(address)).copied() {
            self.from = client;
            self.asks.push((AskId(u32::MAX), Ask::CameFrom(client)));
        }
    }

    /// Tells operators of something that was refused: it is counted, and logged at most once a minute for each kind and
    /// address. Used for a refusal that the client can't be told, or that somebody may provoke on purpose.
    pub fn notice(&mut self, notice: Notice) {
        self.asks.push((AskId(u32::MAX), Ask::Notice(notice)));
    }

    /// The moment on the monotonic clock at which an identity expires, for a wire's deadline.
    pub fn expiry(&self, who: Caller<'_>) -> Option<Monotonic> {
        let left = who?.expires?.0.saturating_sub(self.now.wall.0);
        Some(self.now.monotonic + Duration::from_millis(left))
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// The remote address.
    pub address: SocketAddr,
    /// The local address that accepted it.
    pub local: SocketAddr,
    /// Whether the bytes travel encrypted.
    pub tls: bool,
    /// Whether the remote address is a trusted proxy's, which says in each request for whom it speaks.
    pub is_proxy: bool,
}

/// Makes the first wire of each connection that a listener accepts; shared by all workers.
pub trait Listen: Send + Sync {
    /// The wire for a new connection.
    fn accept(&self, peer: &Peer, now: Now) -> Box<dyn Wire>;
}
