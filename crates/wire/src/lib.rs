//! The trait that every wire implements.
//!
//! A wire is a pure state machine: bytes, time and answers in; bytes and asks out, into a [`Context`] that the caller
//! owns. It has no socket, clock, task or lock. The driver calls it; it calls nobody.
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

use everywire_base::ask::{
    Ack, AckError, AuthError, Authenticate, Draft, Goodbye, Login, LookBack, NoPast, Past, PublishError, Published,
    Reply, Subscribe, Subscribed, Unsubscribe, Welcome,
};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::limits::Limits;
use everywire_base::notice::Notice;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::publish::{self, Unfit};
use everywire_base::quota::Account;
use everywire_base::reason::Reason;
use everywire_base::record::Message;
use everywire_base::rules::{Caller, Refusal, Rules};

pub use carried::{Carried, Carrier, Flow, Framing, Kind};
pub use everywire_base::cursor::Position;
pub use outbox::{Outbox, Segment};
pub use upgrade::{Denied, Upgrade, UpgradeRequest};

/// A protocol's side of one connection.
pub trait Wire {
    /// Takes bytes from the peer and says how many were used. The driver keeps what is left and offers it again, with
    /// what came after it; a wire that needs more bytes to go on uses none. A wire that answered [`Then::Paused`] is
    /// not read until a later verb answers [`Then::Open`].
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress;

    /// Takes the answer to an ask.
    fn answer(&mut self, cx: &mut Context<'_>, ask: AskId, answer: Answer) -> Then;

    /// Takes a delivery, or says that there is no room for it.
    fn push(&mut self, cx: &mut Context<'_>, delivery: &Delivery<'_>) -> Taken;

    /// This turn's deliveries and answers are over: what was collected can be sent.
    fn settle(&mut self, cx: &mut Context<'_>) -> Then;

    /// When [`Wire::tick`] is wanted, if ever.
    fn deadline(&self) -> Option<Monotonic>;

    /// The deadline has passed.
    fn tick(&mut self, cx: &mut Context<'_>) -> Then;

    /// Ends the connection from our side, in the protocol's words.
    fn farewell(&mut self, cx: &mut Context<'_>, reason: &Reason) -> Then;

    /// Bytes of a message that has not come whole, as far as the wire keeps them: the driver gives them a time and a bound.
    fn holds(&self) -> usize;

    /// What the connection speaks now, for metrics and the registry: `http`, `poll`, `longpoll`, `sse`, `stream`,
    /// `ws`, …
    fn name(&self) -> &'static str;
}

/// What came from the peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input<'a> {
    /// All bytes that were not used yet, oldest first.
    Bytes(&'a [u8]),
    /// The peer ended its side. Told once nothing is left that the wire would use: it has taken all bytes that came before,
    /// or was offered these ones and used none. A paused wire hears of it when it is open again and has taken the rest.
    End(&'a [u8]),
}

/// What a read came to.
pub struct Progress {
    /// How many of the offered bytes were used.
    pub used: usize,
    /// How it goes on.
    pub then: Then,
}

/// How it goes on with a connection.
pub enum Then {
    /// The wire takes input.
    Open,
    /// The wire has used its share of this turn and takes more in the next one.
    Later,
    /// The wire takes no input until an answer, a delivery or its deadline has come: the socket is not read.
    Paused,
    /// Another wire takes over, with the bytes that were not used and whatever the peer sends from now on.
    Become(Box<dyn Wire>),
    /// All that is in the outbox is sent, then the connection is closed.
    Closed(Reason),
}

/// What a wire sees and writes to during one verb.
pub struct Context<'a> {
    /// The time of this turn.
    pub now: Now,
    /// The server's bounds.
    pub limits: &'a Limits,
    /// The present topic rules.
    pub rules: &'a Rules,
    /// Who is at the other end.
    pub peer: &'a Peer,
    /// When bytes last came from the peer, also such as were not offered yet: by this its silence is judged.
    pub heard: Monotonic,
    /// Where the connection stands in the log.
    pub position: &'a Position,
    /// What the remote address has used of its bounds, if it has any; for clients without an identity.
    pub account: Option<&'a Account>,
    /// What goes to the peer.
    pub out: &'a mut Outbox,
    /// What is asked of the node.
    pub asks: &'a mut Vec<(AskId, Ask)>,
}

impl Context<'_> {
    /// Checks a message for [`Ask::Publish`], and counts it against the bounds of its publisher.
    pub fn draft(&self, message: Message, who: Caller<'_>) -> Result<Draft, Unfit> {
        let draft = publish::check(message, who, self.rules, self.limits)?;
        let account = who.map_or(self.account, |who| who.account.as_deref());
        let spend = |account: &Account| account.publish(draft.message.body.len(), self.now.monotonic);
        account.map_or(Ok(()), spend).map_err(Unfit::TooFast)?;
        Ok(draft)
    }

    /// Tells operators of something that was refused: it is counted, and logged at most once a minute for each kind and
    /// address. For what the client can't be told, and for what somebody may try on purpose.
    pub fn notice(&mut self, notice: Notice) {
        self.asks.push((AskId(u32::MAX), Ask::Notice(notice)));
    }

    /// The moment on the monotonic clock at which an identity expires, for a wire's deadline.
    pub fn expiry(&self, who: Caller<'_>) -> Option<Monotonic> {
        let left = who?.expires?.0.saturating_sub(self.now.wall.0);
        Some(self.now.monotonic + Duration::from_millis(left))
    }
}

/// Who is at the other end of a connection.
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

/// What a wire asks of the node. Each ask is answered once, unless its wire is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Append a message. Answers to several come in the order of their asking, refusals perhaps earlier.
    Publish(Draft),
    /// Append a message once, under a number of the session that stands for it until it is released.
    PublishOnce(Draft, u16),
    /// Release such a number; answered when that is durable.
    Release(u16),
    /// Subscribe the connection, in addition to what it is subscribed to.
    Subscribe(Subscribe),
    /// End subscriptions of the connection; answered only for [`Unsubscribe::One`].
    Unsubscribe(Unsubscribe),
    /// Read a topic backwards.
    LookBack(LookBack),
    /// Find out who somebody is.
    Authenticate(Authenticate),
    /// Enter the connection into the registry, with its session.
    Login(Login),
    /// Something was received; answered only if that is refused.
    Acknowledge(Ack),
    /// The client says goodbye: the connection ends now. Not answered.
    Goodbye(Goodbye),
    /// The request came through these addresses, the client's first, as trusted proxies say. Not answered.
    CameFrom(Box<[IpAddr]>),
    /// The request carries a label, or none: see [`everywire_base::lab`]. Not answered.
    Label(Option<Box<str>>),
    /// A request was answered without a message. Not answered.
    FoundNothing,
    /// Something was refused that operators shall know of: see [`Context::notice`]. Not answered.
    Notice(Notice),
    /// Call the HTTP API. The ticket is filled in by the driver.
    Call(everywire_base::ask::Call),
}

/// The answer to an [`Ask`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To [`Ask::Publish`].
    Published(Result<Published, PublishError>),
    /// To [`Ask::PublishOnce`], if something was published under this number before.
    KnownAlready,
    /// To [`Ask::Release`]: whether the number was known.
    Released(bool),
    /// To [`Ask::Unsubscribe`] of one filter: whether there was such a subscription.
    Unsubscribed(bool),
    /// To [`Ask::Subscribe`].
    Subscribed(Subscribed),
    /// To [`Ask::LookBack`].
    Past(Result<Past, NoPast>),
    /// To [`Ask::Authenticate`].
    Authenticated(Result<Arc<Identity>, AuthError>),
    /// To [`Ask::Login`].
    Welcomed(Result<Welcome, Refusal>),
    /// To [`Ask::Acknowledge`] of an exactly-once delivery: it was received, that is durable, and it is to be released.
    Received(u16),
    /// To [`Ask::Acknowledge`], if it is refused.
    NotAcknowledged(AckError),
    /// To [`Ask::Call`]; `None` if the API is overloaded.
    Called(Option<Reply>),
}

/// Makes the first wire of each connection that a listener accepts; shared by all workers.
pub trait Listen: Send + Sync {
    /// The wire for a new connection.
    fn accept(&self, peer: &Peer, now: Now) -> Box<dyn Wire>;
}
