//! Retained messages: what the table says, and what changed since the checkpoint.
//!
//! The table holds a topic's offset; the message itself stays in the log, which must keep it anyway so that the table
//! can be rebuilt. Only what the log doesn't keep (`durability = "none"`) stands in the table in full.
//!
//! What was removed or has expired leaves a mark for as long as something older of its topic may come again: written
//! late by a former owner, or read from the log when the table is rebuilt. The log keeps the record of the mark so long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::record::{Durability, Message, Record};
use everywire_base::topic::Topic;

use crate::chunk::{read_varint, write_varint};
use crate::tables::{Batch, Table, TablesError};

/// How long what replaces a message that doesn't expire says that it came after it: the log lets go of what nobody wants
/// by and by, and is rewritten by then.
const REWRITTEN: Duration = Duration::from_hours(24 * 7);
/// How long a removal stands against records of lower generations that are still on their way.
const LATE: Duration = Duration::from_hours(1);

/// A topic's retained message, or the mark that there is none any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Retained {
    pub(crate) offset: Offset,
    pub(crate) expires: Option<UnixMillis>,
    /// A message of a lower one doesn't replace it (RULES 15).
    pub(crate) generation: u64,
    /// Until then something older of the topic may lie in the log, or be written.
    pub(crate) covers: UnixMillis,
    pub(crate) content: Content,
}

/// Where a retained message is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// In the log.
    Logged,
    /// Here, as the log doesn't keep it.
    Inline(Arc<Record>),
    /// Nowhere: it was removed.
    Nothing,
}

impl Retained {
    /// What a retained record makes of its topic.
    pub(crate) fn of(record: &Arc<Record>, message: &Message) -> Self {
        let content = match record.durability {
            _ if message.body.is_empty() => Content::Nothing,
            Durability::None => Content::Inline(Arc::clone(record)),
            _ => Content::Logged,
        };
        // What a session publishes once carries a generation too: that says nothing of its topic.
        let generation = if message.topic.is_internal() { message.generation } else { 0 };
        let (offset, expires) = (record.offset, message.expires);
        Self { offset, expires, generation, covers: UnixMillis(0), content }
    }

    /// The mark that a session has published the record under a number.
    pub(crate) fn mark(record: Arc<Record>, expires: UnixMillis) -> Self {
        let (offset, covers) = (record.offset, UnixMillis(0));
        Self { offset, expires: Some(expires), generation: 0, covers, content: Content::Inline(record) }
    }

    /// The same, known to come after `former` by a record of this time.
    pub(crate) fn after(mut self, former: Option<&Self>, time: UnixMillis) -> Self {
        let late =
            if self.generation > 0 && self.content == Content::Nothing { later(time, LATE) } else { self.covers };
        let covered = former.map_or(UnixMillis(0), |former| {
            former.covers.max(former.expires.unwrap_or_else(|| later(time, REWRITTEN)))
        });
        self.covers = self.covers.max(late).max(covered);
        self
    }

    /// Whether there is a message, which may have expired.
    pub(crate) fn is_message(&self) -> bool {
        self.content != Content::Nothing
    }

    /// Whether readers get it.
    pub(crate) fn is_there(&self, now: UnixMillis) -> bool {
        self.is_message() && !self.is_expired(now)
    }

    pub(crate) fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Whether it needn't be known any more.
    pub(crate) fn is_over(&self, now: UnixMillis) -> bool {
        !self.is_there(now) && self.covers <= now
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![match self.content {
            Content::Logged => 0,
            Content::Inline(_) => 1,
            Content::Nothing => 2,
        }];
        write_varint(&mut out, self.offset.0);
        write_varint(&mut out, self.expires.map_or(0, |at| at.0.saturating_add(1)));
        write_varint(&mut out, self.generation);
        write_varint(&mut out, self.covers.0);
        if let Content::Inline(record) = &self.content {
            record.encode(&mut out);
        }
        out
    }

    pub(crate) fn decode(partition: Partition, name: &[u8], bytes: &[u8]) -> Result<Self, TablesError> {
        let damaged = || TablesError::Damaged(format!("the retained message of {}", String::from_utf8_lossy(name)));
        let (kind, mut bytes) = bytes.split_first().ok_or_else(damaged)?;
        let mut number = || read_varint(&mut bytes).ok_or_else(damaged);
        let (offset, expires, generation, covers) = (number()?, number()?, number()?, number()?);
        let content = match (kind, bytes) {
            (0, []) => Content::Logged,
            (2, []) => Content::Nothing,
            (1, bytes) => {
                let record = Record::decode(partition, Bytes::copy_from_slice(bytes)).map_err(|_| damaged())?;
                Content::Inline(Arc::new(record))
            }
            _ => return Err(damaged()),
        };
        let expires = expires.checked_sub(1).map(UnixMillis);
        Ok(Self { offset: Offset(offset), expires, generation, covers: UnixMillis(covers), content })
    }
}

fn later(time: UnixMillis, by: Duration) -> UnixMillis {
    UnixMillis(time.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
}

/// What changed, by topic: what is retained from then on, or that nothing is known of the topic any more.
#[derive(Default)]
pub(crate) struct Changed(pub(crate) BTreeMap<Topic, Option<Retained>>);

impl Changed {
    pub(crate) fn store(&self, batch: &mut Batch) {
        for (topic, retained) in &self.0 {
            match retained {
                Some(retained) => batch.set(Table::Retained, topic.as_str().as_bytes(), retained.encode()),
                None => batch.remove(Table::Retained, topic.as_str().as_bytes()),
            }
        }
    }
}
