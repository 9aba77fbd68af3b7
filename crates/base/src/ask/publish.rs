//! Publishing: a draft on its way to the log, and its outcome.

use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::UnixMillis;
use crate::cursor::{Cursor, Epoch, Offset, Partition};
use crate::id::{MessageId, ReplyTo};
use crate::identity::Identity;
use crate::record::{Durability, Entry, Message};
use crate::rules::Refusal;
use crate::source::Source;
use crate::topic::Topic;

/// An entry that is to be appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// The message that is published, whose `key` is the idempotency key; or a record of the server's own.
    pub entry: Entry,
    /// The promise of the acknowledgement, by the topic's rule.
    pub durability: Durability,
    /// A second entry that stands right behind it, at the next offset: both are there or neither. The answer, the key
    /// and the promise are the first one's.
    pub pair: Option<Box<Entry>>,
    /// The state by which it was judged: it is refused ([`PublishError::Stale`]) if that has changed since.
    pub guards: Box<[Guard]>,
    /// Its publisher, so that a client's guarded draft can be judged again; `None` is anonymous.
    pub author: Option<Arc<Identity>>,
}

impl Draft {
    /// An entry alone, without guards.
    pub fn new(entry: impl Into<Entry>, durability: Durability) -> Self {
        Self { entry: entry.into(), durability, pair: None, guards: Box::default(), author: None }
    }

    /// The message, if it is one.
    pub fn message(&self) -> Option<&Message> {
        self.entry.message()
    }

    /// The entries that it becomes.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        std::iter::once(&self.entry).chain(self.pair.as_deref())
    }
}

/// A condition of a [`Draft`]: its judge knew all records of a topic with this hash up to an offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard {
    /// [`Topic::stable_hash`]; the topic is one of [`crate::system::is_guarded`].
    pub topic: u64,
    /// The draft is stale if a record of that topic lies above this.
    pub as_of: Offset,
    /// Whether the draft itself counts as a record of that topic: of two drafts that want the same name one is stale.
    pub claims: bool,
}

impl Guard {
    /// The guard that no record of this topic lies above that offset.
    pub fn of(topic: &Topic, as_of: Offset) -> Self {
        Self { topic: topic.stable_hash(), as_of, claims: false }
    }
}

/// A draft on its way to the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append {
    /// The address of the answer.
    pub reply_to: ReplyTo,
    /// The draft to append.
    pub draft: Draft,
    /// The address of its publisher: anonymous publishers of one address share their bounds. `None` for the server's
    /// own drafts.
    pub address: Option<IpAddr>,
    /// The place where it was read, if it comes out of a log that somebody else keeps.
    pub source: Option<Source>,
}

impl Append {
    /// An append of the server's own.
    pub fn new(reply_to: ReplyTo, draft: Draft) -> Self {
        Self { reply_to, draft, address: None, source: None }
    }
}

/// The log's answer to an [`Append`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The address of the answer, from the append.
    pub reply_to: ReplyTo,
    /// The place of the message, or the reason why it was not acknowledged.
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
    /// The time at which it was appended.
    pub time: UnixMillis,
    /// The promise that was given.
    pub durability: Durability,
    /// Whether it had been published before, under the same ordered key: nothing was published now.
    pub duplicate: bool,
}

impl Published {
    /// Whether its place is known. The place of a duplicate may be forgotten; then it has no id and no cursor.
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

/// The reason why a client's message was not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPublished {
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] PublishError),
    /// It was judged again, since what it was judged by had changed: its publisher may not publish it any more.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// The reason why a message was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Nothing was written; try again later.
    #[error("the log is busy: try again")]
    Busy,
    /// Nothing was written: the disk is about to be full.
    #[error("the disk is full: make room, or keep less history; publishing goes on by itself then")]
    DiskFull,
    /// The engine failed during the write: the message may or may not have been written.
    #[error("the outcome is unknown: the log failed while it was written; publish again with the same idempotency key")]
    OutcomeUnknown,
    /// The key was used within the window with another body, type or event.
    #[error("this idempotency key was used for another message within the last two minutes")]
    KeyConflict,
    /// No room is left to remember another key.
    #[error("too many idempotency keys are remembered: try again later, or publish without one")]
    KeysFull,
    /// The share of its publisher of the keys that can be remembered is used up.
    #[error(
        "you use too many idempotency keys: try again when the first of them are forgotten, or publish without one \
         (limits.idempotency_keys_each)"
    )]
    KeysUsedUp,
    /// An ordered key is ahead of its producer's last number: the message before it is missing.
    #[error("this ordered key is ahead of its turn: {expected} is expected of its producer")]
    OutOfOrder {
        /// The number that is accepted next; 1 for a producer that isn't known, or no longer known. For a source, the
        /// position after which a record is accepted.
        expected: u64,
    },
    /// The draft is of a session that another connection claimed before the draft came into the log.
    #[error("the session was taken over by another connection")]
    Fenced,
    /// Nothing was written: the engine that orders the log can't be reached.
    #[error("the engine that keeps the log can't be reached: try again later, or at another server")]
    NoEngine,
    /// A record by which it was judged has changed since: nothing was written. It may be accepted when it is judged
    /// anew.
    #[error("what decides on this has changed at the same moment: try again")]
    Stale,
    /// Nothing was written: the engine that orders the log has no room.
    #[error(
        "the engine that keeps the log is full: give it more memory, or have it keep less; publishing goes on by itself \
         then"
    )]
    EngineFull,
    /// The server is going down.
    #[error("the server is going down: try again elsewhere or later")]
    Closing,
}
