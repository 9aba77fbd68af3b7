//! Records: the entries of the log, and how they are stored.
//!
//! The stored form is protobuf, so that later fields are skipped by older readers. A record's partition is not stored
//! with it: it is the log that it lies in.

use bytes::Bytes;
use prost::Message as _;

use crate::clock::UnixMillis;
use crate::cursor::{Offset, Partition};
use crate::id::MessageId;
use crate::topic::Topic;

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The partition that it lies in.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// When it was appended.
    pub time: UnixMillis,
    /// What the engine promised about it.
    pub durability: Durability,
    /// What it says.
    pub entry: Entry,
}

/// What a record says. Sessions, memberships and presence come as further kinds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A message.
    Message(Message),
}

/// A message as it was published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Where it was published.
    pub topic: Topic,
    /// Who published it; `None` for anonymous.
    pub from: Option<Box<str>>,
    /// The name of the event, if it has one.
    pub event: Option<Box<str>>,
    /// The media type of the body, as the publisher gave it.
    pub content_type: Option<Box<str>>,
    /// The idempotency key that it was published with.
    pub key: Option<Box<str>>,
    /// The payload, never interpreted except that JSON is checked at publish.
    pub body: Bytes,
    /// Whether it replaces the topic's retained message; with an empty body it removes it.
    pub retain: bool,
    /// The quality of service that it was published with (MQTT-5.0 §4.3); what other wires publish is 1.
    pub qos: u8,
    /// The moment from which it is not delivered any more.
    pub expires: Option<UnixMillis>,
    /// Who may replace a retained message: not one of a lower generation (RULES 15). 0 but for the server's own.
    pub generation: u64,
}

/// What an acknowledgement promises.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On the disk, synced.
    #[default]
    Fsync,
    /// Kept as history, but a crash may lose it.
    Memory,
    /// Passes: fanned out, never stored, no history.
    None,
}

impl Durability {
    /// The word in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Memory => "memory",
            Durability::None => "none",
        }
    }
}

impl Message {
    /// A message with nothing but a topic and a body.
    pub fn new(topic: Topic, body: impl Into<Bytes>) -> Self {
        Self {
            topic,
            from: None,
            event: None,
            content_type: None,
            key: None,
            body: body.into(),
            retain: false,
            qos: 1,
            expires: None,
            generation: 0,
        }
    }

    /// About how much memory and disk it takes: body and names.
    pub fn weight(&self) -> usize {
        let text = |t: &Option<Box<str>>| t.as_ref().map_or(0, |t| t.len());
        let names = text(&self.from) + text(&self.event) + text(&self.content_type) + text(&self.key);
        self.body.len() + self.topic.as_str().len() + names
    }

    /// Whether it is past its expiry.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

impl Record {
    /// The message, if the record is one.
    pub fn message(&self) -> Option<&Message> {
        let Entry::Message(message) = &self.entry;
        Some(message)
    }

    /// The id of the message.
    pub fn id(&self) -> MessageId {
        MessageId::new(self.time, self.partition, self.offset)
    }

    /// The length of [`Record::encode`]'s output, in bytes.
    pub fn encoded_len(&self) -> usize {
        StoredRef(self).to_stored().encoded_len()
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // The vector grows as needed, so that encoding can't fail.
        let _ = StoredRef(self).to_stored().encode(out);
    }

    /// Reads the stored form; the body shares the memory of `bytes`.
    pub fn decode(partition: Partition, bytes: Bytes) -> Result<Self, RecordError> {
        let stored = Stored::decode(bytes).map_err(|_| RecordError::Malformed)?;
        stored.into_record(partition)
    }
}

/// Why stored bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not the protobuf that a record is.
    #[error("the stored record is malformed")]
    Malformed,
    /// A kind of record that this version doesn't know.
    #[error("the stored record is of a kind that this version does not know; a newer version wrote it")]
    UnknownKind,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Stored {
    #[prost(uint64, tag = "1")]
    offset: u64,
    #[prost(uint64, tag = "2")]
    time_ms: u64,
    #[prost(uint32, tag = "3")]
    durability: u32,
    #[prost(message, optional, tag = "4")]
    message: Option<StoredMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredMessage {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(string, optional, tag = "2")]
    from: Option<String>,
    #[prost(string, optional, tag = "3")]
    event: Option<String>,
    #[prost(string, optional, tag = "4")]
    content_type: Option<String>,
    #[prost(string, optional, tag = "5")]
    key: Option<String>,
    #[prost(bytes = "bytes", tag = "6")]
    body: Bytes,
    #[prost(bool, tag = "7")]
    retain: bool,
    #[prost(uint32, tag = "8")]
    qos: u32,
    #[prost(uint64, optional, tag = "9")]
    expires_ms: Option<u64>,
    #[prost(uint64, tag = "10")]
    generation: u64,
}

struct StoredRef<'a>(&'a Record);

impl StoredRef<'_> {
    fn to_stored(&self) -> Stored {
        let Entry::Message(m) = &self.0.entry;
        let text = |t: &Option<Box<str>>| t.as_deref().map(str::to_owned);
        let message = StoredMessage {
            topic: m.topic.as_str().to_owned(),
            from: text(&m.from),
            event: text(&m.event),
            content_type: text(&m.content_type),
            key: text(&m.key),
            body: m.body.clone(),
            retain: m.retain,
            qos: u32::from(m.qos),
            expires_ms: m.expires.map(|e| e.0),
            generation: m.generation,
        };
        Stored {
            offset: self.0.offset.0,
            time_ms: self.0.time.0,
            durability: self.0.durability as u32,
            message: Some(message),
        }
    }
}

impl Stored {
    fn into_record(self, partition: Partition) -> Result<Record, RecordError> {
        let durability = match self.durability {
            0 => Durability::Fsync,
            1 => Durability::Memory,
            2 => Durability::None,
            _ => return Err(RecordError::UnknownKind),
        };
        let m = self.message.ok_or(RecordError::UnknownKind)?;
        let text = |t: Option<String>| t.map(String::into_boxed_str);
        let message = Message {
            topic: Topic::parse(&m.topic).map_err(|_| RecordError::Malformed)?,
            from: text(m.from),
            event: text(m.event),
            content_type: text(m.content_type),
            key: text(m.key),
            body: m.body,
            retain: m.retain,
            qos: u8::try_from(m.qos).ok().filter(|q| *q <= 2).ok_or(RecordError::Malformed)?,
            expires: m.expires_ms.map(UnixMillis),
            generation: m.generation,
        };
        Ok(Record {
            partition,
            offset: Offset(self.offset),
            time: UnixMillis(self.time_ms),
            durability,
            entry: Entry::Message(message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = Option<Box<str>>> {
        proptest::option::of("[a-z/é]{0,12}").prop_map(|t| t.map(String::into_boxed_str))
    }

    proptest! {
        #[test]
        fn a_record_survives_its_stored_form(
            topic in "[a-z]{1,8}(/[a-zé]{0,8}){0,3}",
            (from, event, content_type, key) in (text(), text(), text(), text()),
            body in proptest::collection::vec(any::<u8>(), 0..64),
            (retain, qos, expires) in (any::<bool>(), 0u8..3, proptest::option::of(any::<u64>())),
            (offset, time) in (any::<u64>(), any::<u64>()),
        ) {
            let message = Message {
                topic: Topic::parse(&topic).unwrap(), from, event, content_type, key, body: body.into(), retain, qos,
                expires: expires.map(UnixMillis), generation: offset,
            };
            let record = Record {
                partition: Partition(0), offset: Offset(offset), time: UnixMillis(time),
                durability: Durability::Memory, entry: Entry::Message(message),
            };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), record.encoded_len());
            prop_assert_eq!(Record::decode(Partition(0), bytes.into()), Ok(record));
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Record::decode(Partition(0), bytes.into());
        }
    }
}
