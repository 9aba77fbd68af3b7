//! The asks of a node's parts to each other, and the answers. A wire asks an [`Ask`]; the hub and the driver share them
//! out.
//!
//! Those that cross threads as messages carry a [`crate::id::ReplyTo`]. All of them are plain values.

mod call;
mod login;
mod publish;
mod read;
mod room;
mod subscribe;

use std::net::IpAddr;
use std::sync::Arc;

use crate::identity::Identity;
use crate::notice::Notice;
use crate::rules::Refusal;

pub use self::call::{Call, Reply, path_level};
pub use self::login::{
    AuthError, Authenticate, Authenticated, Credentials, Goodbye, Login, ScramHash, ScramStep, SessionWish, Welcome,
    Will,
};
pub use self::publish::{Append, Draft, Guard, NotPublished, Outcome, PublishError, Published};
pub use self::read::{Asker, Interest, LookBack, Lost, NoPast, Page, Past, Read, ReadKind};
pub use self::room::{Being, Entered, NotEntered, Voice};
pub use self::subscribe::{Ack, AckError, Subscribe, Subscribed, Unsubscribe};
pub use crate::source::Source;

/// An ask of a wire to the node. Each is answered once, unless its wire is gone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Append a message. Answers come in the order of the asks; refusals may come earlier.
    Publish(Draft),
    /// Append a message once, under a number of the session that stands for it until it is released.
    PublishOnce(Draft, u16),
    /// Release such a number; answered when that is durable.
    Release(u16),
    /// Subscribe the connection, in addition to its present subscriptions.
    Subscribe(Subscribe),
    /// End subscriptions of the connection; answered only for [`Unsubscribe::One`].
    Unsubscribe(Unsubscribe),
    /// Read a topic backwards.
    LookBack(LookBack),
    /// Find out the identity of a client.
    Authenticate(Authenticate),
    /// Enter the connection into the registry, with its session.
    Login(Login),
    /// Acknowledge a delivery; answered only if that is refused.
    Acknowledge(Ack),
    /// End the connection: the client says goodbye. Not answered.
    Goodbye(Goodbye),
    /// The request comes from this address, as a trusted proxy says: see [`Context::came_through`]. Not answered.
    CameFrom(IpAddr),
    /// The request carries a label, or none: see [`crate::lab`]. Not answered.
    Label(Option<Box<str>>),
    /// A request was answered without a message. Not answered.
    FoundNothing,
    /// A refusal that operators shall know of. Not answered.
    Notice(Notice),
    /// Say something of the connection itself, where people meet.
    Be(Being),
    /// Call the HTTP API. The driver writes the address of the answer.
    Call(Call),
}

/// An ask that the hub leaves to the driver, which knows the connection, or which passes it on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DriverAsk {
    /// [`Ask::Publish`], or the draft that the hub makes of an [`Ask::PublishOnce`].
    Publish(Draft),
    /// [`Ask::Authenticate`]
    Authenticate(Authenticate),
    /// [`Ask::CameFrom`]
    CameFrom(IpAddr),
    /// [`Ask::Label`]
    Label(Option<Box<str>>),
    /// [`Ask::FoundNothing`]
    FoundNothing,
    /// [`Ask::Notice`]
    Notice(Notice),
    /// [`Ask::Call`]
    Call(Call),
}

/// The answer to an [`Ask`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// To [`Ask::Publish`].
    Published(Result<Published, NotPublished>),
    /// To [`Ask::PublishOnce`], if a message was published under this number before.
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
    /// To [`Ask::Acknowledge`] of an exactly-once delivery: its receipt is durable, and the client shall release it.
    Received(u16),
    /// To [`Ask::Acknowledge`], if it is refused.
    NotAcknowledged(AckError),
    /// To [`Being::Enter`].
    Entered(Result<Entered, NotEntered>),
    /// To [`Being::Leave`].
    Left,
    /// To [`Ask::Call`]; `None` if the API is overloaded.
    Called(Option<Reply>),
}
