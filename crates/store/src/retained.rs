//! Retained messages: the table's entries, and the changes since the checkpoint.
//!
//! The table holds a topic's offset; the message itself stays in the log, which must keep it anyway so that the table
//! can be rebuilt. Only a message that the log doesn't keep (`durability = "none"`) stands in the table in full.
//!
//! A message that was removed or has expired leaves a mark for as long as an older message of its topic may come again:
//! written late by a former owner, or read from the log when the table is rebuilt. The log keeps the record of the mark
//! for that time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::kept::Payer;
use everywire_base::record::{Durability, Entry, Message, Record};
use everywire_base::topic::Topic;

use crate::chunk::{read_varint, write_varint};
use crate::tables::{Batch, Table, TablesError};

/// The time for which a mark covers a former message that doesn't expire: the log removes unwanted records little by
/// little, and is rewritten by then.
const REWRITTEN: Duration = Duration::from_hours(24 * 7);
/// The time for which a removal stands against records of lower generations that are still on their way.
const LATE: Duration = Duration::from_hours(1);

/// The bytes of a retained message beside itself: its places in the tables and in the log's index.
const BESIDE: u64 = 128;

/// A topic's retained message, or the mark that it has none any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Retained {
    pub(crate) offset: Offset,
    pub(crate) expires: Option<UnixMillis>,
    /// The generation: a message of a lower one doesn't replace it (RULES 15).
    pub(crate) generation: u64,
    /// The time until which an older message of the topic may lie in the log, or be written.
    pub(crate) covers: UnixMillis,
    /// The payer of its bytes, …
    pub(crate) payer: Payer,
    /// … and their number; 0 for a removed message.
    pub(crate) bytes: u64,
    pub(crate) content: Content,
}

/// The place of a retained message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// In the log.
    Logged,
    /// Here, since the log doesn't keep it.
    Inline(Arc<Record>),
    /// Nowhere: it was removed.
    Nothing,
}

impl Retained {
    /// The retained message, or the mark, that a record makes of its topic.
    pub(crate) fn of(record: &Arc<Record>, entry: &Entry) -> Self {
        let content = match record.durability {
            _ if entry.body().is_empty() => Content::Nothing,
            Durability::None => Content::Inline(Arc::clone(record)),
            _ => Content::Logged,
        };
        let generation = entry.system().map_or(0, |system| system.generation);
        let (offset, expires) = (record.offset, entry.expires());
        let bytes = if content == Content::Nothing { 0 } else { weight(entry) };
        Self { offset, expires, generation, covers: UnixMillis(0), payer: entry.charged(), bytes, content }
    }

    /// The mark that a session has published the record under a number.
    pub(crate) fn mark(record: Arc<Record>, message: &Message, expires: UnixMillis) -> Self {
        let (offset, covers) = (record.offset, UnixMillis(0));
        let (payer, bytes) = (message.charged(), BESIDE);
        let content = Content::Inline(record);
        Self { offset, expires: Some(expires), generation: 0, covers, payer, bytes, content }
    }

    /// The same after `former`, by a record of this time.
    pub(crate) fn after(mut self, former: Option<&Self>, time: UnixMillis) -> Self {
        let late = if self.generation > 0 && self.content == Content::Nothing { time.after(LATE) } else { self.covers };
        let covered = former
            .map_or(UnixMillis(0), |former| former.covers.max(former.expires.unwrap_or_else(|| time.after(REWRITTEN))));
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

    /// Whether it needn't be remembered any more.
    pub(crate) fn is_over(&self, now: UnixMillis) -> bool {
        !self.is_there(now) && self.covers <= now
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![match self.content {
            Content::Nothing => 2,
            Content::Logged => 3,
            Content::Inline(_) => 4,
        }];
        write_varint(&mut out, self.offset.0);
        write_varint(&mut out, self.expires.map_or(0, |at| at.0.saturating_add(1)));
        write_varint(&mut out, self.generation);
        write_varint(&mut out, self.covers.0);
        if self.is_message() {
            write_varint(&mut out, self.payer.0);
            write_varint(&mut out, self.bytes);
        }
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
        // Entries of kind 0 and 1 are of a version that didn't count bytes.
        let (payer, kept) = if matches!(kind, 3 | 4) { (Payer(number()?), number()?) } else { (Payer::NOBODY, 0) };
        let content = match (kind, bytes) {
            (0 | 3, []) => Content::Logged,
            (2, []) => Content::Nothing,
            (1 | 4, bytes) => {
                let record = Record::decode(partition, Bytes::copy_from_slice(bytes)).map_err(|_| damaged())?;
                Content::Inline(Arc::new(record))
            }
            _ => return Err(damaged()),
        };
        let expires = expires.checked_sub(1).map(UnixMillis);
        let (offset, covers) = (Offset(offset), UnixMillis(covers));
        Ok(Self { offset, expires, generation, covers, payer, bytes: kept, content })
    }
}

/// The bytes for which a retained message counts.
pub(crate) fn weight(entry: &Entry) -> u64 {
    entry.weight() as u64 + BESIDE
}

/// The changes by topic: the new retained message, or `None` if nothing is known of the topic any more.
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
