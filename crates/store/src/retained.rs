//! Retained messages: what the table says, and what changed since the checkpoint.
//!
//! The table holds a topic's offset; the message itself stays in the log, which must keep it anyway so that the table
//! can be rebuilt. Only what the log doesn't keep (`durability = "none"`) stands in the table in full.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::record::{Durability, Message, Record};
use everywire_base::topic::Topic;

use crate::chunk::{read_varint, write_varint};
use crate::tables::{Batch, Table, TablesError};

/// A topic's retained message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Retained {
    pub(crate) offset: Offset,
    pub(crate) expires: Option<UnixMillis>,
    /// A message of a lower one doesn't replace it (RULES 15).
    pub(crate) generation: u64,
    /// The record, if the log doesn't keep it.
    pub(crate) record: Option<Arc<Record>>,
}

impl Retained {
    pub(crate) fn of(record: &Arc<Record>, message: &Message) -> Self {
        let inline = record.durability == Durability::None;
        Self {
            offset: record.offset,
            expires: message.expires,
            generation: message.generation,
            record: inline.then(|| Arc::clone(record)),
        }
    }

    pub(crate) fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_varint(&mut out, self.offset.0);
        write_varint(&mut out, self.expires.map_or(0, |at| at.0.saturating_add(1)));
        write_varint(&mut out, self.generation);
        if let Some(record) = &self.record {
            record.encode(&mut out);
        }
        out
    }

    pub(crate) fn decode(partition: Partition, name: &[u8], mut bytes: &[u8]) -> Result<Self, TablesError> {
        let damaged = || TablesError::Damaged(format!("the retained message of {}", String::from_utf8_lossy(name)));
        let offset = Offset(read_varint(&mut bytes).ok_or_else(damaged)?);
        let expires = read_varint(&mut bytes).ok_or_else(damaged)?.checked_sub(1).map(UnixMillis);
        let generation = read_varint(&mut bytes).ok_or_else(damaged)?;
        let record = match bytes {
            [] => None,
            bytes => {
                let record = Record::decode(partition, Bytes::copy_from_slice(bytes)).map_err(|_| damaged())?;
                Some(Arc::new(record))
            }
        };
        Ok(Self { offset, expires, generation, record })
    }
}

/// What changed since the checkpoint: the offset of the change, and what is retained from then on.
#[derive(Default)]
pub(crate) struct Changed(pub(crate) BTreeMap<Topic, (Offset, Option<Retained>)>);

impl Changed {
    pub(crate) fn store(&self, batch: &mut Batch) {
        for (topic, (_, retained)) in &self.0 {
            match retained {
                Some(retained) => batch.set(Table::Retained, topic.as_str().as_bytes(), retained.encode()),
                None => batch.remove(Table::Retained, topic.as_str().as_bytes()),
            }
        }
    }
}
