//! Records: the entries of the log, and how they are stored.
//!
//! The stored form is protobuf, so that later fields are skipped by older readers. A record's partition is not stored
//! with it: it is the log that it lies in.

use std::time::Duration;

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

/// What a record says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A message.
    Message(Message),
    /// Of a kind that this version doesn't know: the stored form as it is. It is kept and skipped, for a later version.
    Unknown(Bytes),
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
    /// The generation of its session's owner, for the server's own and for what a session publishes once: what an older
    /// owner still writes counts no more (RULES 15). 0 for all else.
    pub generation: u64,
    /// The hash of the session that published it, for subscribers who want nothing of their own; 0 is none.
    pub origin: u64,
    /// What makes it be published once, however often it comes (RULES 12).
    pub once: Option<Box<Once>>,
    /// What only some wires can say.
    pub extras: Option<Box<Extras>>,
}

/// Under which number a session published a message: known until it releases the number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Once {
    /// The session's topic.
    pub session: Topic,
    /// Its number for the message.
    pub tag: u16,
    /// The moment from which that needn't be known any more: by then the session has said it itself.
    pub until: UnixMillis,
}

/// What only some wires can say of a message (MQTT-5.0 §3.3.2.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extras {
    /// Names and values, in the publisher's order; names may come again.
    pub properties: Vec<(Box<str>, Box<str>)>,
    /// Where an answer is expected.
    pub response_topic: Option<Box<str>>,
    /// What an answer shall carry.
    pub correlation: Option<Bytes>,
    /// What the publisher says of the body: that it is UTF-8, or that it is any bytes (MQTT-5.0 §3.3.2.3.2).
    pub is_text: Option<bool>,
}

/// What a property takes beside its text: two pointers with lengths, and what the allocator adds to two small pieces.
const PROPERTY_BYTES: usize = 64;

impl Extras {
    /// About how much memory it takes. Properties weigh more than their text: a packet may hold very many that are empty.
    fn weight(&self) -> usize {
        let weight = |(name, value): &(Box<str>, Box<str>)| PROPERTY_BYTES + name.len() + value.len();
        let properties: usize = self.properties.iter().map(weight).sum();
        let topic = self.response_topic.as_ref().map_or(0, |topic| topic.len());
        properties + topic + self.correlation.as_ref().map_or(0, Bytes::len)
    }
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
            origin: 0,
            once: None,
            extras: None,
        }
    }

    /// About how much memory and disk it takes: body and names.
    pub fn weight(&self) -> usize {
        let text = |t: &Option<Box<str>>| t.as_ref().map_or(0, |t| t.len());
        let names = text(&self.from) + text(&self.event) + text(&self.content_type) + text(&self.key);
        let extras = self.extras.as_ref().map_or(0, |extras| extras.weight());
        self.body.len() + self.topic.as_str().len() + names + extras
    }

    /// The stored form, for what carries a message within a message.
    pub fn encode(&self) -> Vec<u8> {
        let stored: StoredMessage = self.into();
        stored.encode_to_vec()
    }

    /// Reads what [`Message::encode`] wrote.
    pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        StoredMessage::decode(bytes).map_err(|_| RecordError::Malformed)?.into_message()
    }

    /// Whether it is past its expiry.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

impl Record {
    /// The message, if the record is one.
    pub fn message(&self) -> Option<&Message> {
        match &self.entry {
            Entry::Message(message) => Some(message),
            Entry::Unknown(_) => None,
        }
    }

    /// The id of the message.
    pub fn id(&self) -> MessageId {
        MessageId::new(self.time, self.partition, self.offset)
    }

    /// How long its message may still be delivered, if it expires: never longer than was given to it, though the clock
    /// was set back since.
    pub fn time_left(&self, now: UnixMillis) -> Option<Duration> {
        let expires = self.message()?.expires?;
        Some(Duration::from_millis(expires.0.saturating_sub(now.0.max(self.time.0))))
    }

    /// The length of [`Record::encode`]'s output, in bytes.
    pub fn encoded_len(&self) -> usize {
        match &self.entry {
            Entry::Message(message) => self.stored(message).encoded_len(),
            Entry::Unknown(stored) => stored.len(),
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.entry {
            // The vector grows as needed, so that encoding can't fail.
            Entry::Message(message) => drop(self.stored(message).encode(out)),
            Entry::Unknown(stored) => out.extend_from_slice(stored),
        }
    }

    /// Reads the stored form; the body shares the memory of `bytes`. Of a known kind, fields that a later version has
    /// added are left out.
    pub fn decode(partition: Partition, bytes: Bytes) -> Result<Self, RecordError> {
        let Stored { offset, time_ms, durability, message } =
            Stored::decode(bytes.clone()).map_err(|_| RecordError::Malformed)?;
        if offset == 0 {
            return Err(RecordError::Malformed);
        }
        let promise = [Durability::Fsync, Durability::Memory, Durability::None].get(durability as usize).copied();
        let entry = match (message, promise) {
            (Some(message), Some(_)) => Entry::Message(message.into_message()?),
            _ => Entry::Unknown(bytes),
        };
        let (offset, time) = (Offset(offset), UnixMillis(time_ms));
        Ok(Self { partition, offset, time, durability: promise.unwrap_or_default(), entry })
    }

    fn stored(&self, message: &Message) -> Stored {
        let (offset, time_ms, durability) = (self.offset.0, self.time.0, self.durability as u32);
        Stored { offset, time_ms, durability, message: Some(message.into()) }
    }
}

/// Why stored bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not the protobuf that a record is.
    #[error("the stored record is malformed")]
    Malformed,
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
    #[prost(fixed64, tag = "11")]
    origin: u64,
    #[prost(message, optional, boxed, tag = "12")]
    once: Option<Box<StoredOnce>>,
    #[prost(message, optional, boxed, tag = "13")]
    extras: Option<Box<StoredExtras>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredOnce {
    #[prost(string, tag = "1")]
    session: String,
    #[prost(uint32, tag = "2")]
    tag: u32,
    #[prost(uint64, tag = "3")]
    until_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredExtras {
    /// Names and values in turn.
    #[prost(string, repeated, tag = "1")]
    properties: Vec<String>,
    #[prost(string, optional, tag = "2")]
    response_topic: Option<String>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    correlation: Option<Bytes>,
    #[prost(bool, optional, tag = "4")]
    is_text: Option<bool>,
}

impl StoredOnce {
    fn of(once: &Once) -> Self {
        let session = once.session.as_str().to_owned();
        Self { session, tag: u32::from(once.tag), until_ms: once.until.0 }
    }

    fn once(&self) -> Option<Once> {
        let session = Topic::parse(&self.session).ok()?;
        Some(Once { session, tag: u16::try_from(self.tag).ok()?, until: UnixMillis(self.until_ms) })
    }
}

impl StoredExtras {
    fn of(extras: &Extras) -> Self {
        let properties = extras.properties.iter().flat_map(|(name, value)| [name.to_string(), value.to_string()]);
        Self {
            properties: properties.collect(),
            response_topic: extras.response_topic.as_deref().map(str::to_owned),
            correlation: extras.correlation.clone(),
            is_text: extras.is_text,
        }
    }

    fn extras(self) -> Extras {
        let pairs = self.properties.chunks_exact(2);
        Extras {
            properties: pairs.map(|pair| (pair[0].as_str().into(), pair[1].as_str().into())).collect(),
            response_topic: self.response_topic.map(String::into_boxed_str),
            correlation: self.correlation,
            is_text: self.is_text,
        }
    }
}

impl From<&Message> for StoredMessage {
    fn from(m: &Message) -> Self {
        let text = |t: &Option<Box<str>>| t.as_deref().map(str::to_owned);
        Self {
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
            origin: m.origin,
            once: m.once.as_ref().map(|once| Box::new(StoredOnce::of(once))),
            extras: m.extras.as_ref().map(|extras| Box::new(StoredExtras::of(extras))),
        }
    }
}

impl StoredMessage {
    fn into_message(self) -> Result<Message, RecordError> {
        let text = |t: Option<String>| t.map(String::into_boxed_str);
        Ok(Message {
            topic: Topic::parse(&self.topic).map_err(|_| RecordError::Malformed)?,
            from: text(self.from),
            event: text(self.event),
            content_type: text(self.content_type),
            key: text(self.key),
            body: self.body,
            retain: self.retain,
            qos: u8::try_from(self.qos).ok().filter(|q| *q <= 2).ok_or(RecordError::Malformed)?,
            expires: self.expires_ms.map(UnixMillis),
            generation: self.generation,
            origin: self.origin,
            once: self.once.map(|once| once.once().ok_or(RecordError::Malformed)).transpose()?.map(Box::new),
            extras: self.extras.map(|extras| Box::new(extras.extras())),
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

    #[test]
    fn what_is_left_of_a_message_s_time_is_never_more_than_it_had() {
        let message = Message { expires: Some(UnixMillis(130)), ..Message::new(Topic::parse("t").unwrap(), "x") };
        let (partition, offset, time) = (Partition(0), Offset(1), UnixMillis(100));
        let record = Record { partition, offset, time, durability: Durability::Fsync, entry: Entry::Message(message) };
        for (now, left) in [(100, 30), (110, 20), (130, 0), (200, 0), (5, 30)] {
            assert_eq!(record.time_left(UnixMillis(now)), Some(Duration::from_millis(left)), "at {now}");
        }
    }

    /// A record as a later version may store it: of this kind, with this promise.
    fn later(kind: u32, durability: u32) -> Bytes {
        let mut stored = Vec::new();
        for (tag, number) in [(1, 7), (2, 100), (3, durability)] {
            prost::encoding::uint32::encode(tag, &number, &mut stored);
        }
        prost::encoding::string::encode(kind, &"what only a later version reads".to_owned(), &mut stored);
        stored.into()
    }

    #[test]
    fn a_record_of_an_unknown_kind_is_kept_as_it_is() {
        for stored in [later(9, 0), later(2000, 1), later(9, 77)] {
            let record = Record::decode(Partition(0), stored.clone()).unwrap();
            assert_eq!((record.offset, record.time, record.message()), (Offset(7), UnixMillis(100), None));
            let mut again = Vec::new();
            record.encode(&mut again);
            assert_eq!((&again[..], record.encoded_len()), (&stored[..], stored.len()));
        }
    }

    #[test]
    fn what_has_no_place_in_the_log_is_no_record() {
        assert_eq!(Record::decode(Partition(0), Bytes::new()), Err(RecordError::Malformed));
    }

    proptest! {
        #[test]
        fn a_record_survives_its_stored_form(
            topic in "[a-z]{1,8}(/[a-zé]{0,8}){0,3}",
            (from, event, content_type, key) in (text(), text(), text(), text()),
            body in proptest::collection::vec(any::<u8>(), 0..64),
            (retain, qos, expires) in (any::<bool>(), 0u8..3, proptest::option::of(any::<u64>())),
            (offset, time) in (1u64.., any::<u64>()),
            tag in proptest::option::of(any::<u16>()),
            properties in proptest::option::of(proptest::collection::vec(("[a-z]{0,4}", "[a-z]{0,4}"), 0..3)),
        ) {
            let once = tag.map(|tag| {
                let session = Topic::parse("$sessions//a").unwrap();
                Box::new(Once { session, tag, until: UnixMillis(offset) })
            });
            let extras = properties.map(|all| Box::new(Extras {
                properties: all.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
                response_topic: from.clone(),
                correlation: event.as_ref().map(|_| Bytes::from_static(b"x")),
                is_text: event.as_ref().map(|_| retain),
            }));
            let message = Message {
                topic: Topic::parse(&topic).unwrap(), from, event, content_type, key, body: body.into(), retain, qos,
                expires: expires.map(UnixMillis), generation: offset, origin: time, once, extras,
            };
            prop_assert_eq!(Message::decode(message.encode().into()), Ok(message.clone()));
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
