//! What parts of a node ask of each other, and the answers: publishing, reading history, logging in, calling the API.
//!
//! All of them are plain values with a [`Ticket`], so that they can cross threads as messages.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::clock::UnixMillis;
use crate::cursor::{Cursor, Epoch, Offset, Partition, Start};
use crate::id::{MessageId, Ticket};
use crate::identity::Identity;
use crate::record::{Durability, Message, Record};
use crate::rules::Refusal;
use crate::terms::{Greet, Terms};
use crate::topic::{Filter, Topic};

/// A message that wants to be appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// What is published. Its `key` is the idempotency key.
    pub message: Message,
    /// What the acknowledgement shall promise, by the topic's rule.
    pub durability: Durability,
}

/// A draft on its way to the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// Whom to answer.
    pub ticket: Ticket,
    /// What to append.
    pub draft: Draft,
    /// Where its publisher is connected from: anonymous ones of one address share their bounds. `None` for what is the
    /// server's own.
    pub address: Option<IpAddr>,
}

impl Append {
    /// An append of the server's own.
    pub fn new(ticket: Ticket, draft: Draft) -> Self {
        Self { ticket, draft, address: None }
    }
}

/// The log's answer to an [`Append`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Whose answer.
    pub ticket: Ticket,
    /// What became of it.
    pub result: Result<Published, PublishError>,
}

/// An acknowledged message: the engine's promise holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// The epoch that the offset belongs to.
    pub epoch: Epoch,
    /// The partition.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// When it was appended.
    pub time: UnixMillis,
    /// What was promised.
    pub durability: Durability,
    /// Whether it had been published before, under the same ordered key: nothing was published now.
    pub duplicate: bool,
}

impl Published {
    /// Whether its place is known: that of a duplicate may have been forgotten, and then it has no id and no cursor.
    pub fn is_placed(&self) -> bool {
        self.offset > Offset::BEGINNING
    }

    /// The message's id.
    pub fn id(&self) -> MessageId {
        MessageId::new(self.time, self.partition, self.offset)
    }

    /// The message's cursor.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.epoch, [(self.partition, self.offset)]).expect("one position")
    }
}

/// Why a message was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nothing was written; try again later.
    #[error("the log is busy: try again")]
    Busy,
    /// Nothing was written: the disk is about to be full.
    #[error("the disk is full: make room, or keep less history; publishing goes on by itself then")]
    DiskFull,
    /// The engine failed in the midst of it: it may or may not have been written.
    #[error("the outcome is unknown: the log failed while it was written; publish again with the same idempotency key")]
    OutcomeUnknown,
    /// The key was used within the window with another body, type or event.
    #[error("this idempotency key was used for another message within the last two minutes")]
    KeyConflict,
    /// No room to remember another key.
    #[error("too many idempotency keys are remembered: try again later, or publish without one")]
    KeysFull,
    /// The share of its publisher of the keys that can be remembered is used up.
    #[error(
        "you use too many idempotency keys: try again when the first of them are forgotten, or publish without one \
         (limits.idempotency_keys_each)"
    )]
    KeysUsedUp,
    /// An ordered key is ahead of what its producer has published: the message before it is missing.
    #[error("this ordered key is ahead of its turn: {expected} is expected of its producer")]
    OutOfOrder {
        /// The number that is accepted next; 1 for a producer that isn't known, or any more.
        expected: u64,
    },
    /// It is of a session that another connection has claimed before it came into the log.
    #[error("the session was taken over by another connection")]
    Fenced,
    /// The server is going down.
    #[error("the server is going down: try again elsewhere or later")]
    Closing,
}

/// One filter of a subscription with the position at which it began: it takes only records above that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interest {
    /// What it takes.
    pub filter: Filter,
    /// Records up to here are not for it.
    pub since: Offset,
}

/// Asks the store for a page of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    /// Whom to answer.
    pub ticket: Ticket,
    /// Which partition.
    pub partition: Partition,
    /// What is wanted, and since when; for [`ReadKind::Retained`] only the filters count, for [`ReadKind::Records`] none.
    pub interests: Arc<[Interest]>,
    /// The store is read when it has applied the log at least up to here.
    pub applied: Offset,
    /// What is read.
    pub kind: ReadKind,
}

/// What a [`Read`] reads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadKind {
    /// The matching messages above `after` and up to `up_to`, in order, at most so many.
    History {
        /// The reader has everything up to here.
        after: Offset,
        /// Nothing above this is wanted.
        up_to: Offset,
        /// The most records.
        max_records: usize,
        /// The most bytes of bodies; at least one record comes all the same.
        max_bytes: usize,
    },
    /// The retained messages of the topics that match, at most so many, above this one in the order of their topics.
    Retained {
        /// Topics up to here were read; `None` begins.
        after: Option<Topic>,
        /// The most records.
        max_records: usize,
    },
    /// The last messages of one topic that lie before an offset, at most so many, in order. The topic is that of the one
    /// exact filter; of others nothing is read.
    Backwards {
        /// Only messages below this are wanted; `None` begins with the newest.
        before: Option<Offset>,
        /// The most records.
        max_records: usize,
        /// The most bytes of bodies; at least one record comes all the same.
        max_bytes: usize,
    },
    /// The records of these offsets, in their order, as far as they are there.
    Records(Arc<[Offset]>),
}

/// The store's answer to a [`Read`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Whose answer.
    pub ticket: Ticket,
    /// Which partition.
    pub partition: Partition,
    /// The records, ascending by offset, expired ones left out; or the retained ones.
    pub records: Vec<Arc<Record>>,
    /// All matching records up to here are in this page or were read before; below `up_to` if there is more. Of a page
    /// backwards: the next one is that before here, and there is none if this is the beginning.
    pub upto: Offset,
    /// Of retained messages: where the next page goes on, if there is one.
    pub next: Option<Topic>,
    /// The filter of which something above the reader's position was lost, if so, and how far.
    pub lost: Option<Lost>,
    /// Whether the page could not be read: the reader's position stays, and it is asked for again later.
    pub failed: bool,
}

/// Something was lost: see [`Page::lost`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// The topic that lost it.
    pub topic: Box<str>,
    /// The highest offset that was lost.
    pub up_to: Offset,
}

/// Asks for the last messages of a topic that lie before a position.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LookBack {
    /// The topic.
    pub topic: Topic,
    /// Only messages below this are wanted; `None` begins with the newest.
    pub before: Option<Cursor>,
    /// The most messages.
    pub limit: usize,
    /// Who asks.
    pub asker: Asker,
}

/// Who asks over a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asker {
    /// Whoever has logged in there.
    LoggedIn,
    /// This one, or nobody in particular: a proxy's connection carries requests of many.
    Is(Option<Arc<Identity>>),
}

/// The answer to a [`LookBack`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Past {
    /// The messages, in order.
    pub records: Vec<Arc<Record>>,
    /// Where the page before this one ends.
    pub before: Cursor,
    /// Whether there is one.
    pub more: bool,
    /// Whether messages before these are lost, or the position was of another log.
    pub gap: bool,
    /// Where the log ended when it was asked: whoever goes on from there misses nothing.
    pub cursor: Cursor,
}

/// Why there is no answer to a [`LookBack`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPast {
    /// Who asks may not read the topic.
    #[error(transparent)]
    Refused(Refusal),
    /// The store could not be read in time.
    #[error("the history could not be read in time: ask again in a moment")]
    Busy,
}

/// Subscribes a connection to some filters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribe {
    /// The filters.
    pub filters: SmallVec<[Filter; 1]>,
    /// Where to begin.
    pub start: Start,
    /// Whether retained messages are wanted first; only with [`Start::Latest`].
    pub greet: Greet,
    /// How the messages are wanted.
    pub terms: Terms,
    /// The group with which the filters are shared: each message goes to one of its members (MQTT-5.0 §4.8.2).
    pub group: Option<Box<str>>,
    /// Who asks, where that isn't known from a [`Login`].
    pub identity: Option<Arc<Identity>>,
}

impl Subscribe {
    /// To some filters, from now on, on the usual terms.
    pub fn to(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self {
            filters: filters.into_iter().collect(),
            start: Start::Latest,
            greet: Greet::Never,
            terms: Terms::default(),
            group: None,
            identity: None,
        }
    }
}

/// The hub's answer to a [`Subscribe`]: a cursor, and which filters were refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// The position at which the subscription began.
    pub cursor: Cursor,
    /// The filters that were not granted, each with its reason; all others were.
    pub refused: Vec<(Filter, Refusal)>,
    /// Whether its cursor can't be honoured: what was lost isn't known, and a gap comes before any message.
    pub gap: bool,
}

/// What ends a connection's interest in some filters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unsubscribe {
    /// All that it is subscribed to.
    All,
    /// These; those that it doesn't hold count as ended.
    These(SmallVec<[Filter; 1]>),
    /// This one, of this group if it is shared.
    One(Filter, Option<Box<str>>),
}

/// What a client shows to prove who it is.
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

/// A step of SCRAM, with all that was said before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScramStep {
    /// Which mechanism.
    pub hash: ScramHash,
    /// What the client has said first.
    pub first: Box<str>,
    /// The challenge that it got, and what it says to that.
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

/// Asks who somebody is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authenticate {
    /// Whom to answer; filled in by the driver.
    pub ticket: Ticket,
    /// What the client shows.
    pub credentials: Credentials,
    /// The device that the client names; a token that names another is refused (RULES 25).
    pub device: Option<Box<str>>,
}

/// The answer to an [`Authenticate`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authenticated {
    /// Whose answer.
    pub ticket: Ticket,
    /// Who somebody is.
    pub result: Result<Arc<Identity>, AuthError>,
}

/// Why somebody is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// The credentials prove nothing: forged, expired, unknown, wrong.
    #[error("{0}")]
    Refused(Box<str>),
    /// The credentials are good, for another identity than the client says.
    #[error("{0}")]
    Mismatch(Box<str>),
    /// Nobody can tell just now; come again.
    #[error("{0}")]
    Unavailable(Box<str>),
    /// Not yet: the exchange goes on.
    #[error("the exchange isn't over")]
    Continue {
        /// What is said to the client now.
        challenge: Box<str>,
        /// What is said to it when it has proved who it is.
        last: Box<str>,
    },
}

/// Enters a connection into the registry: who is at the other end, and which session it continues. Asked again, it
/// renews the identity in place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Login {
    /// Who logs in; `None` is anonymous.
    pub identity: Option<Arc<Identity>>,
    /// What software the client is, for operators.
    pub agent: Option<Box<str>>,
    /// Whether the connection is subscribed to the user's inboxes without asking.
    pub inbox: bool,
    /// Which session.
    pub session: SessionWish,
    /// What is published if the connection ends without a goodbye; needs a session of a name of its own.
    pub will: Option<Box<Will>>,
}

/// What is published when a connection ends without a goodbye (MQTT-5.0 §3.1.2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Will {
    /// The message. It expires from when it is published: see [`Will::ttl`].
    pub draft: Draft,
    /// How long it may be delivered, from when it is published.
    pub ttl: Option<Duration>,
    /// How long it waits for the client to come back.
    pub delay: Duration,
}

/// How a connection says goodbye.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Goodbye {
    /// How long the session lives from now on, if that changes.
    pub expiry: Option<Duration>,
    /// Whether the will is published all the same.
    pub will: bool,
}

/// Which session a connection wants.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum SessionWish {
    /// None: at most once.
    #[default]
    None,
    /// A new one, that outlives its connection by this.
    New {
        /// How long it lives after the connection.
        expiry: Duration,
    },
    /// The one of this name; a new one, if it isn't there or is another user's.
    Resume {
        /// Its name.
        id: Box<str>,
        /// How long it lives after the connection.
        expiry: Duration,
    },
    /// The one of this name, which the client has chosen: a new one of the name, if there is none. Messages are
    /// acknowledged one by one, by their tags.
    Named {
        /// Its name.
        id: Box<str>,
        /// How long it lives after the connection; not at all if zero.
        expiry: Duration,
        /// Whether what was there before is thrown away.
        fresh: bool,
        /// How many messages may be sent and not acknowledged.
        window: u16,
    },
}

/// What was received.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ack {
    /// Everything up to this cursor; answered only if that is refused.
    UpTo(Cursor),
    /// The delivery of this tag, for good; not answered.
    Done(u16),
    /// The exactly-once delivery of this tag, which goes on with [`crate::parcel::Delivery::Release`] once that is
    /// durable. Answered if no such delivery is under way.
    Received(u16),
}

/// The answer to a [`Login`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Welcome {
    /// The connection's name in the registry.
    pub connection: Box<str>,
    /// The session, if one was wanted.
    pub session: Option<Box<str>>,
    /// How long that outlives the connection.
    pub expiry: Duration,
    /// Whether it was there before: its subscriptions go on, and what was not acknowledged comes again.
    pub resumed: bool,
    /// Filters that the identity may not have, any more: they are ended.
    pub refused: Vec<(Filter, Refusal)>,
}

/// Why an acknowledgement is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// Without a session nothing is outstanding.
    #[error("nothing is to be acknowledged without a session: ask for one in `hello`")]
    NoSession,
    /// Beyond all that was sent.
    #[error("this cursor was never sent")]
    NeverSent,
    /// No delivery of this tag is under way.
    #[error("no delivery has this tag")]
    UnknownTag(u16),
}

/// A call of the API: an HTTP request that is not for a wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Whom to answer.
    pub ticket: Ticket,
    /// From where it comes; filled in by the driver, unless the wire knows better.
    pub from: Option<IpAddr>,
    /// `GET`, `POST` …
    pub method: Box<str>,
    /// Path and query, as they came.
    pub target: Box<str>,
    /// The request's header fields.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
    /// Who calls; `None` is anonymous.
    pub identity: Option<Arc<Identity>>,
    /// The body.
    pub body: Bytes,
}

/// The API's answer to a [`Call`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Whose answer.
    pub ticket: Ticket,
    /// The status code.
    pub status: u16,
    /// The response's header fields, without Content-Length.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
    /// The body.
    pub body: Bytes,
}
