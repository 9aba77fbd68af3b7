//! What parts of a node ask of each other, and the answers: publishing, reading history, calling the API.
//!
//! All of them are plain values with a [`Ticket`], so that they can cross threads as messages.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::clock::UnixMillis;
use crate::cursor::{Cursor, Epoch, Offset, Partition, Start};
use crate::id::{MessageId, Ticket};
use crate::record::{Durability, Message, Record};
use crate::rules::Refusal;
use crate::topic::Filter;

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
}

impl Published {
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
    /// What is wanted, and since when; for [`ReadKind::Retained`] only the filters count.
    pub interests: Arc<[Interest]>,
    /// What is read.
    pub kind: ReadKind,
}

/// What a [`Read`] reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
    /// The retained messages of the topics that match.
    Retained,
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
    /// All matching records up to here are in this page or were read before; below `up_to` if there is more.
    pub upto: Offset,
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

/// Subscribes a connection to some filters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribe {
    /// The filters.
    pub filters: SmallVec<[Filter; 1]>,
    /// Where to begin.
    pub start: Start,
    /// Whether retained messages are wanted first; only with [`Start::Latest`].
    pub greet: bool,
}

/// The hub's answer to a [`Subscribe`]: a cursor, and which filters were refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// The position at which the subscription began.
    pub cursor: Cursor,
    /// The filters that were not granted, each with its reason; all others were.
    pub refused: Vec<(Filter, Refusal)>,
}

/// A call of the API: an HTTP request that is not for a wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// Whom to answer.
    pub ticket: Ticket,
    /// `GET`, `POST` …
    pub method: Box<str>,
    /// Path and query, as they came.
    pub target: Box<str>,
    /// The request's header fields.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
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
