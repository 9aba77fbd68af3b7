//! Reading: pages of the store, and a topic read backwards.

use std::sync::Arc;

use crate::cursor::{Cursor, Offset, Partition};
use crate::id::ReplyTo;
use crate::identity::Identity;
use crate::record::Record;
use crate::rules::Refusal;
use crate::topic::{Filter, Topic};

/// One filter of a subscription with the position at which it began: it takes only records above that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interest {
    /// The filter.
    pub filter: Filter,
    /// Records up to here are not for it.
    pub since: Offset,
}

/// Asks the store for a page of one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Read {
    /// The address of the answer.
    pub reply_to: ReplyTo,
    /// The partition that is read.
    pub partition: Partition,
    /// The filters, each with its first position; for [`ReadKind::Retained`] only the filters count, for
    /// [`ReadKind::Records`] none.
    pub interests: Arc<[Interest]>,
    /// The offset up to which the store must have applied the log before it is read.
    pub applied: Offset,
    /// The kind of page.
    pub kind: ReadKind,
}

/// The kinds of a [`Read`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadKind {
    /// The matching messages above `after` and up to `up_to`, in order, up to the bounds.
    History {
        /// The position of the reader: it has everything up to here.
        after: Offset,
        /// The last offset that is wanted.
        up_to: Offset,
        /// The most records.
        max_records: usize,
        /// The most bytes of bodies; at least one record comes all the same.
        max_bytes: usize,
        /// Whether recalled messages come too, for a reader that folds them.
        with_recalled: bool,
    },
    /// The retained messages of the topics that match, up to the bound, of topics after `after` in their order.
    Retained {
        /// The last topic that was read; `None` begins.
        after: Option<Topic>,
        /// The most records.
        max_records: usize,
    },
    /// The last messages of one topic that lie before an offset, up to the bounds, in order. The topic is that of the
    /// one exact filter; nothing is read for other filters.
    Backwards {
        /// The offset below which messages are wanted; `None` begins with the newest.
        before: Option<Offset>,
        /// The most records.
        max_records: usize,
        /// The most bytes of bodies; at least one record comes all the same.
        max_bytes: usize,
        /// Whether recalled messages come too, for a reader that folds them.
        with_recalled: bool,
    },
    /// The records of these offsets, in their order, as far as they are there.
    Records(Arc<[Offset]>),
}

/// The store's answer to a [`Read`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// The address of the answer, from the read.
    pub reply_to: ReplyTo,
    /// The partition that was read.
    pub partition: Partition,
    /// The records, ascending by offset, without expired and recalled ones; or the retained ones.
    pub records: Vec<Arc<Record>>,
    /// All matching records up to here are in this page or were read before; below `up_to` if there is more. For a page
    /// backwards: the next page ends before here, and there is none if this is the beginning.
    pub upto: Offset,
    /// The topic after which the next page of retained messages begins, if there is one.
    pub next: Option<Topic>,
    /// The filter that has lost records above the reader's position, and the last of them, if there are such.
    pub lost: Option<Lost>,
    /// Whether the page could not be read: the reader's position stays, and the page is asked for again later.
    pub failed: bool,
}

/// A loss of records: see [`Page::lost`].
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
    /// The position below which messages are wanted; `None` begins with the newest.
    pub before: Option<Cursor>,
    /// The most messages.
    pub limit: usize,
    /// The identity that asks.
    pub asker: Asker,
}

/// The identity that asks over a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Asker {
    /// The identity that has logged in on the connection.
    LoggedIn,
    /// This identity, or an anonymous one: a proxy's connection carries requests of many clients.
    Is(Option<Arc<Identity>>),
}

/// The answer to a [`LookBack`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Past {
    /// The messages, in order.
    pub records: Vec<Arc<Record>>,
    /// The position at which the page before this one ends.
    pub before: Cursor,
    /// Whether there is a page before this one.
    pub more: bool,
    /// Whether messages before these are lost, or the position was of another log.
    pub gap: bool,
    /// The end of the log at the time of the read: a reader that goes on from there misses nothing.
    pub cursor: Cursor,
}

/// The reason why there is no answer to a [`LookBack`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPast {
    /// The asker may not read the topic.
    #[error(transparent)]
    Refused(Refusal),
    /// The store could not be read in time.
    #[error("the history could not be read in time: ask again in a moment")]
    Busy,
}
