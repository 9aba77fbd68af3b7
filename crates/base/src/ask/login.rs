//! Logging in: the identity of a client, the session that it continues, and its goodbye.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::id::ReplyTo;
use crate::identity::Identity;
use crate::kept::Payer;
use crate::record::{Durability, Message};
use crate::rules::Refusal;
use crate::topic::Filter;

/// The credentials with which a client proves who it is.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// A token (RFC 6750, RFC 7519).
    Token(Box<str>),
    /// A user's name and password.
    Password {
        /// The name.
        user: Box<str>,
        /// The password.
        password: Box<str>,
    },
    /// A step of SCRAM (RFC 5802).
    Scram(ScramStep),
}

/// The hash of SCRAM's exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScramHash {
    /// SCRAM-SHA-1 (RFC 5802).
    Sha1,
    /// SCRAM-SHA-256 (RFC 7677).
    Sha256,
}

/// A step of SCRAM, with all messages before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScramStep {
    /// The hash of the mechanism.
    pub hash: ScramHash,
    /// The first message of the client.
    pub first: Box<str>,
    /// The challenge that the client got, and its answer to that.
    pub proof: Option<(Box<str>, Box<str>)>,
}

/// Secrets never reach a log line.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credentials::Token(_) => f.write_str("Token"),
            Credentials::Password { user, .. } => write!(f, "Password of {user:?}"),
            Credentials::Scram(step) => write!(f, "{:?}", step.hash),
        }
    }
}

/// Asks for the identity behind some credentials.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authenticate {
    /// The address of the answer; the driver writes it.
    pub reply_to: ReplyTo,
    /// The credentials that the client sent.
    pub credentials: Credentials,
    /// The device that the client names; a token that names another is refused (RULES 25).
    pub device: Option<Box<str>>,
}

impl Authenticate {
    /// The question of a wire.
    pub fn new(credentials: Credentials, device: Option<Box<str>>) -> Self {
        Self { reply_to: ReplyTo::Nobody, credentials, device }
    }
}

/// The answer to an [`Authenticate`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authenticated {
    /// The address of the answer, from the ask.
    pub reply_to: ReplyTo,
    /// The identity, or the reason why there is none.
    pub result: Result<Arc<Identity>, AuthError>,
}

/// The reason why credentials are not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The credentials prove nothing: forged, expired, unknown, wrong.
    #[error("{0}")]
    Refused(Box<str>),
    /// The credentials are good, for another identity than the client says.
    #[error("{0}")]
    Mismatch(Box<str>),
    /// The check can't be done just now; the client may come again.
    #[error("{0}")]
    Unavailable(Box<str>),
    /// Not yet: the exchange goes on.
    #[error("the exchange isn't over")]
    Continue {
        /// The challenge to the client.
        challenge: Box<str>,
        /// The last message to the client, sent when it has proved who it is.
        last: Box<str>,
    },
}

/// Enters a connection into the registry: its identity, and the session that it continues. A second login renews the
/// identity in place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Login {
    /// The identity of the client; `None` is anonymous.
    pub identity: Option<Arc<Identity>>,
    /// The name of the client's software, for operators.
    pub agent: Option<Box<str>>,
    /// Whether the connection is subscribed to the user's inboxes without asking.
    pub inbox: bool,
    /// The session that is wanted.
    pub session: SessionWish,
    /// The message that is published if the connection ends without a goodbye; it needs a session with a name of its
    /// own.
    pub will: Option<Box<Will>>,
    /// The payer for the kept bytes of an anonymous client's session. Filled in by the driver.
    pub payer: Payer,
    /// The name of the wire that the connection speaks. Filled in by the driver.
    pub wire: &'static str,
}

impl Login {
    /// Whether a part of it is kept beyond the connection: a session or a will.
    pub fn is_lasting(&self) -> bool {
        let expiry = match &self.session {
            SessionWish::None => Duration::ZERO,
            SessionWish::New { expiry } | SessionWish::Resume { expiry, .. } | SessionWish::Named { expiry, .. } => {
                *expiry
            }
        };
        !expiry.is_zero() || self.will.is_some()
    }
}

/// The message that is published when a connection ends without a goodbye (MQTT-5.0 §3.1.2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Will {
    /// The message. Its expiry is counted from its publication: see [`Will::ttl`].
    pub message: Message,
    /// The promise of its publication, by the topic's rule.
    pub durability: Durability,
    /// The time for which it may be delivered, from its publication on.
    pub ttl: Option<Duration>,
    /// The time for which it waits for the client to come back.
    pub delay: Duration,
}

/// The goodbye of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Goodbye {
    /// The new lifetime of the session from now on, if that changes.
    pub expiry: Option<Duration>,
    /// Whether the will is published all the same.
    pub will: bool,
}

/// The session that a connection wants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum SessionWish {
    /// No session: delivery is at most once.
    #[default]
    None,
    /// A new session, which outlives its connection by `expiry`.
    New {
        /// The time for which it lives after the connection.
        expiry: Duration,
    },
    /// The session of this name; a new one if it isn't there or is another user's.
    Resume {
        /// Its name.
        id: Box<str>,
        /// The time for which it lives after the connection.
        expiry: Duration,
    },
    /// The session of this name, which the client has chosen; a new one of that name if there is none. Messages are
    /// acknowledged one by one, by their tags.
    Named {
        /// Its name.
        id: Box<str>,
        /// The time for which it lives after the connection; zero ends it with the connection.
        expiry: Duration,
        /// Whether the earlier state of the session is thrown away.
        fresh: bool,
        /// The number of messages that may be sent and not acknowledged.
        window: u16,
    },
}

/// The answer to a [`Login`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Welcome {
    /// The connection's name in the registry.
    pub connection: Box<str>,
    /// The session, if one was wanted.
    pub session: Option<Box<str>>,
    /// The time for which the session outlives the connection.
    pub expiry: Duration,
    /// Whether the session was there before: its subscriptions go on, and messages that were not acknowledged come
    /// again.
    pub resumed: bool,
    /// The filters that the identity may not have, or may no longer have: they are ended.
    pub refused: Vec<(Filter, Refusal)>,
}
