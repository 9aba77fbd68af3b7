//! The requests of a client and the responses to it, apart from their encoding.

use std::borrow::Cow;

use bytes::Bytes;
use everywire_base::ask::{NotEntered, Past, PublishError};
use everywire_base::publish::Unfit;
use everywire_base::reason::Reason;
use everywire_base::rules::Refusal;

use crate::people::{People, Told};

/// A frame of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Request {
    Hello(Hello),
    Subscribe {
        id: u64,
        topics: Vec<String>,
        after: String,
    },
    Unsubscribe {
        id: u64,
        topics: Vec<String>,
    },
    Publish(Box<Publish>),
    /// Reads a topic backwards.
    History {
        id: u64,
        topic: String,
        before: String,
        limit: u32,
    },
    /// A request about people: rooms, conversations, presence.
    People(Box<People>),
    Ack {
        cursor: String,
    },
    Ping,
    Pong,
    /// A frame of a later version.
    Unknown,
}

/// The identity of a client, and the session that it wants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Hello {
    pub(crate) token: Option<Box<str>>,
    pub(crate) device: Option<Box<str>>,
    pub(crate) session: Option<Box<str>>,
    /// The life of the session after the connection, in seconds; 0 is the default.
    pub(crate) expiry: u64,
}

/// A message to publish.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Publish {
    pub(crate) id: u64,
    pub(crate) topic: String,
    pub(crate) body: Bytes,
    pub(crate) content_type: Option<Box<str>>,
    pub(crate) event: Option<Box<str>>,
    pub(crate) key: Option<Box<str>>,
    pub(crate) ttl: u64,
    pub(crate) retain: bool,
    /// The id of the message that it answers.
    pub(crate) about: Option<Box<str>>,
}

/// A frame of the server, deliveries apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Response {
    Welcome(Box<Welcome>),
    Subscribed {
        id: u64,
        cursor: String,
        gap: bool,
    },
    Unsubscribed {
        id: u64,
    },
    History {
        id: u64,
        past: Past,
    },
    /// A publish; without message and cursor, if it had been published before and they aren't known any more.
    Published {
        id: u64,
        place: Option<(String, String)>,
        durability: Cow<'static, str>,
        duplicate: bool,
    },
    /// A response about people.
    People(Told),
    Error(Problem),
    Gap {
        topic: Box<str>,
        after: Option<String>,
        earliest: String,
    },
    Close {
        code: u16,
        reason: &'static str,
        reconnect: bool,
        delay_ms: u64,
        detail: Option<Box<str>>,
    },
    Ping,
    Pong,
}

/// The answer to a hello.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Welcome {
    pub(crate) connection: Box<str>,
    pub(crate) session: Option<Box<str>>,
    pub(crate) resumed: bool,
    pub(crate) heartbeat: u32,
    pub(crate) user: Option<Box<str>>,
    pub(crate) device: Option<Box<str>>,
    pub(crate) expiry: u64,
}

/// The refusal of a frame. The codes are those of HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    pub(crate) id: u64,
    pub(crate) code: u16,
    pub(crate) reason: String,
    pub(crate) topic: Option<Box<str>>,
    pub(crate) retry_after_ms: Option<u64>,
    /// The number that an ordered key should have had.
    pub(crate) expected: Option<u64>,
}

impl Problem {
    pub(crate) fn new(id: u64, code: u16, reason: impl Into<String>) -> Self {
        Self { id, code, reason: reason.into(), topic: None, retry_after_ms: None, expected: None }
    }

    pub(crate) fn bad(id: u64, reason: impl Into<String>) -> Self {
        Self::new(id, 400, reason)
    }

    pub(crate) fn on(self, topic: &str) -> Self {
        Self { topic: Some(topic.into()), ..self }
    }

    pub(crate) fn retry(self, after_ms: u64) -> Self {
        Self { retry_after_ms: Some(after_ms), ..self }
    }

    pub(crate) fn refused(id: u64, refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Unauthorized(_) => Self::new(id, 401, refusal.to_string()),
            Refusal::Forbidden(_) => Self::new(id, 403, refusal.to_string()),
            Refusal::TooMany(_) => Self::new(id, 429, refusal.to_string()),
            Refusal::Behind => Self::new(id, 503, refusal.to_string()).retry(1000),
        }
    }

    pub(crate) fn unfit(id: u64, unfit: &Unfit) -> Self {
        match unfit {
            Unfit::Refused(refusal) => Self::refused(id, refusal),
            Unfit::TooLarge(_) => Self::new(id, 413, unfit.to_string()),
            Unfit::RetainedUsedUp => Self::new(id, 429, unfit.to_string()),
            Unfit::Name(_) | Unfit::ReservedEvent(_) | Unfit::NotJson(_) => Self::bad(id, unfit.to_string()),
            Unfit::TooFast(wait) => Self::new(id, 429, unfit.to_string()).retry((wait.as_millis() as u64).max(1)),
        }
    }

    pub(crate) fn not_entered(id: u64, why: &NotEntered) -> Self {
        match why {
            NotEntered::NoRoom => Self::new(id, 404, why.to_string()),
            NotEntered::NickTaken => Self::new(id, 409, why.to_string()),
            NotEntered::Malformed(_) => Self::bad(id, why.to_string()),
            NotEntered::Refused(refusal) => Self::refused(id, refusal),
        }
    }

    pub(crate) fn publishing(id: u64, error: PublishError) -> Self {
        match error {
            PublishError::OutOfOrder { expected } => {
                Self { expected: Some(expected), ..Self::new(id, 409, error.to_string()) }
            }
            PublishError::KeyConflict | PublishError::Fenced => Self::new(id, 409, error.to_string()),
            PublishError::KeysUsedUp => Self::new(id, 429, error.to_string()).retry(10_000),
            PublishError::Busy
            | PublishError::Stale
            | PublishError::NoEngine
            | PublishError::OutcomeUnknown
            | PublishError::Closing => Self::new(id, 503, error.to_string()).retry(1000),
            PublishError::DiskFull | PublishError::EngineFull | PublishError::KeysFull => {
                Self::new(id, 503, error.to_string()).retry(10_000)
            }
        }
    }
}

/// The frame that ends a connection.
pub(crate) fn close(reason: &Reason) -> Response {
    let detail = match reason {
        Reason::Kicked(why) => Some(why.clone()),
        Reason::Protocol(what) | Reason::TooLarge(what) => Some((*what).into()),
        _ => None,
    };
    let back = reason.reconnect();
    let delay_ms = back.map_or(0, |delay| delay.as_millis() as u64);
    Response::Close { code: code_of(reason), reason: reason.as_str(), reconnect: back.is_some(), delay_ms, detail }
}

/// The code of a reason, like those of HTTP, for readers that look at the number first.
fn code_of(reason: &Reason) -> u16 {
    match reason {
        Reason::Done | Reason::PeerClosed => 200,
        Reason::Protocol(_) => 400,
        Reason::Unauthorized | Reason::Expired => 401,
        Reason::Forbidden | Reason::Kicked(_) => 403,
        Reason::Timeout => 408,
        Reason::TakenOver => 409,
        Reason::TooLarge(_) => 413,
        Reason::Overloaded(_) => 429,
        Reason::SlowConsumer => 410,
        Reason::Internal => 500,
        Reason::Drain(_) => 503,
    }
}
