//! Records: the entries of the log, and how they are stored.
//!
//! An entry is a message, or a record of the server's own. Both have the same stored form; the topic says which it is.
//!
//! The stored form is protobuf, so that later fields are skipped by older readers. A record's partition is not stored
//! with it: it is the log that it lies in.

mod stored;

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::clock::UnixMillis;
use crate::cursor::{Offset, Partition};
use crate::id::MessageId;
use crate::kept::Payer;
use crate::system;
use crate::topic::Topic;

use self::stored::{Stored, StoredMessage};

/// One entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The partition that it lies in.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// The time at which it was appended.
    pub time: UnixMillis,
    /// The promise that the engine gave for it.
    pub durability: Durability,
    /// The content.
    pub content: Content,
}

/// The content of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Content {
    /// An entry of a kind that this version knows.
    Known(Entry),
    /// An entry of a kind that this version doesn't know: the stored form as it is. It is kept and skipped, for a later
    /// version.
    Unknown(Bytes),
}

/// An entry of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A message, which clients publish and read.
    Message(Message),
    /// A record of the server's own, which no client can write or read.
    System(System),
}

/// A record of the server's own. Its topic says what it is: see [`crate::system`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct System {
    /// The topic, [`Topic::is_internal`].
    pub topic: Topic,
    /// The state or the event, as JSON.
    pub body: Bytes,
    /// Whether it replaces the topic's retained record; with an empty body it removes that.
    pub retain: bool,
    /// The moment from which it doesn't hold any more.
    pub expires: Option<UnixMillis>,
    /// The generation of its owner: a later record of an older generation doesn't count (RULES 15). 0 if it has none.
    pub generation: u64,
    /// The payer of its kept bytes, if its topic doesn't say.
    pub payer: Payer,
}

/// A message as it was published.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The topic that it was published to.
    pub topic: Topic,
    /// The user who published it, as everybody sees it; `None` for anonymous. See [`Message::author`].
    pub from: Option<Box<str>>,
    /// The name of the event, if it has one.
    pub event: Option<Box<str>>,
    /// The media type of the body, as the publisher gave it.
    pub content_type: Option<Box<str>>,
    /// The idempotency key that it was published with.
    pub key: Option<Box<str>>,
    /// The payload, never interpreted except that JSON is checked at publish.
    pub body: Bytes,
    /// Whether it replaces the topic's retained message; with an empty body it removes that message.
    pub retain: bool,
    /// The quality of service that it was published with (MQTT-5.0 §4.3); 1 for messages of other wires.
    pub qos: u8,
    /// The moment from which it is not delivered any more.
    pub expires: Option<UnixMillis>,
    /// The hash of the session that published it, for subscribers that don't want their own messages; 0 is none.
    pub origin: u64,
    /// The payer of its kept bytes, if `from` doesn't say: see [`Message::charged`].
    pub payer: Payer,
    /// The number by which it is published once, however often it comes (RULES 12).
    pub once: Option<Box<Once>>,
    /// The properties that only some wires have.
    pub extras: Option<Box<Extras>>,
}

/// The number under which a session published a message: known until the session releases the number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Once {
    /// The session's topic.
    pub session: Topic,
    /// Its number for the message.
    pub tag: u16,
    /// The generation of the session's owner: from an older owner it doesn't count (RULES 15).
    pub generation: u64,
    /// The moment from which the number needn't be known: by then the session's own record has it.
    pub until: UnixMillis,
}

/// The properties of a message that only some wires have (MQTT-5.0 §3.3.2.3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extras {
    /// Names and values, in the publisher's order; a name may come several times.
    pub properties: Vec<(Box<str>, Box<str>)>,
    /// The topic where an answer is expected.
    pub response_topic: Option<Box<str>>,
    /// The correlation data, which an answer shall carry.
    pub correlation: Option<Bytes>,
    /// Whether the publisher says that the body is UTF-8, or that it is any bytes (MQTT-5.0 §3.3.2.3.2).
    pub is_text: Option<bool>,
    /// The user whom the original was sent to, in the copy in its sender's own inbox. The copy lies right behind the
    /// original, whose id it has.
    pub to: Option<Box<str>>,
    /// The message that it is about, if it answers or changes one.
    pub about: Option<MessageId>,
    /// The user who published it, if `from` is an alias. No wire and no bridge tells it.
    pub author: Option<Box<str>>,
    /// The nick of its author in the room at that time, if `from` is an alias.
    pub nick: Option<Box<str>>,
}

/// The memory of a property beside its text: two pointers with lengths, and the allocator's overhead of two small
/// pieces.
const PROPERTY_BYTES: usize = 64;

impl Extras {
    /// The memory that it takes, about. Properties weigh more than their text: a packet may hold very many empty ones.
    fn weight(&self) -> usize {
        let weight = |(name, value): &(Box<str>, Box<str>)| PROPERTY_BYTES + name.len() + value.len();
        let properties: usize = self.properties.iter().map(weight).sum();
        let names = [&self.response_topic, &self.to, &self.author, &self.nick];
        let names: usize = names.into_iter().flatten().map(|name| name.len()).sum();
        properties + names + self.correlation.as_ref().map_or(0, Bytes::len)
    }
}

/// The promise of an acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// On the disk, synced.
    #[default]
    Fsync,
    /// Kept as history, but a crash may lose it.
    Memory,
    /// Fanned out, but never stored: no history.
    None,
    /// In the memory of several machines of an engine elsewhere; its documentation says which failures that survives.
    Replicated,
}

/// The values, at the index of the number that is stored.
const STORED_DURABILITIES: [Durability; 4] =
    [Durability::Fsync, Durability::Memory, Durability::None, Durability::Replicated];

impl Durability {
    /// The word in the configuration and in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Memory => "memory",
            Durability::None => "none",
            Durability::Replicated => "replicated",
        }
    }
}

impl Entry {
    /// The topic.
    pub fn topic(&self) -> &Topic {
        match self {
            Entry::Message(message) => &message.topic,
            Entry::System(system) => &system.topic,
        }
    }

    /// The payload.
    pub fn body(&self) -> &Bytes {
        match self {
            Entry::Message(message) => &message.body,
            Entry::System(system) => &system.body,
        }
    }

    /// Whether it replaces the topic's retained entry; with an empty body it removes that.
    pub fn is_retained(&self) -> bool {
        match self {
            Entry::Message(message) => message.retain,
            Entry::System(system) => system.retain,
        }
    }

    /// The moment from which it doesn't hold any more.
    pub fn expires(&self) -> Option<UnixMillis> {
        match self {
            Entry::Message(message) => message.expires,
            Entry::System(system) => system.expires,
        }
    }

    /// Whether it is past its expiry.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires().is_some_and(|at| at <= now)
    }

    /// The payer for its bytes while it is kept.
    pub fn charged(&self) -> Payer {
        match self {
            Entry::Message(message) => message.charged(),
            Entry::System(system) => system.charged(),
        }
    }

    /// The memory and the disk space that it takes, about: body and names.
    pub fn weight(&self) -> usize {
        match self {
            Entry::Message(message) => message.weight(),
            Entry::System(system) => system.body.len() + system.topic.as_str().len(),
        }
    }

    /// The message, if it is one.
    pub fn message(&self) -> Option<&Message> {
        match self {
            Entry::Message(message) => Some(message),
            Entry::System(_) => None,
        }
    }

    /// The message, if it is one.
    pub fn message_mut(&mut self) -> Option<&mut Message> {
        match self {
            Entry::Message(message) => Some(message),
            Entry::System(_) => None,
        }
    }

    /// The server's own record, if it is one.
    pub fn system(&self) -> Option<&System> {
        match self {
            Entry::Message(_) => None,
            Entry::System(system) => Some(system),
        }
    }

    /// Encodes the stored form, for a record that carries an entry within it.
    pub fn encode(&self) -> Vec<u8> {
        let stored: StoredMessage = self.into();
        stored.encode_to_vec()
    }

    /// Decodes the output of [`Entry::encode`].
    pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        StoredMessage::decode(bytes).map_err(|_| RecordError::Malformed)?.into_entry()
    }
}

impl From<Message> for Entry {
    fn from(message: Message) -> Self {
        Entry::Message(message)
    }
}

impl From<System> for Entry {
    fn from(system: System) -> Self {
        Entry::System(system)
    }
}

impl<E: Into<Entry>> From<E> for Content {
    fn from(entry: E) -> Self {
        Content::Known(entry.into())
    }
}

impl System {
    /// A record with nothing but a topic and a body.
    pub fn new(topic: Topic, body: impl Into<Bytes>, retain: bool) -> Self {
        Self { topic, body: body.into(), retain, expires: None, generation: 0, payer: Payer::NOBODY }
    }

    /// The record that removes what is retained of a topic.
    pub fn removal(topic: Topic) -> Self {
        Self::new(topic, Bytes::new(), true)
    }

    /// The payer for its bytes while it is kept: the one that it names, or the user whose topic it is.
    pub fn charged(&self) -> Payer {
        if self.payer == Payer::NOBODY { system::payer_of(&self.topic) } else { self.payer }
    }

    /// Whether it is past its expiry.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|at| at <= now)
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
            origin: 0,
            payer: Payer::NOBODY,
            once: None,
            extras: None,
        }
    }

    /// The memory and the disk space that it takes, about: body and names.
    pub fn weight(&self) -> usize {
        let text = |t: &Option<Box<str>>| t.as_ref().map_or(0, |t| t.len());
        let names = text(&self.from) + text(&self.event) + text(&self.content_type) + text(&self.key);
        let extras = self.extras.as_ref().map_or(0, |extras| extras.weight());
        self.body.len() + self.topic.as_str().len() + names + extras
    }

    /// The user whom it was sent to, if it is the copy in its sender's own inbox.
    pub fn sent_to(&self) -> Option<&str> {
        self.extras.as_ref()?.to.as_deref()
    }

    /// The user who published it, also if others see an alias.
    pub fn author(&self) -> Option<&str> {
        let hidden = self.extras.as_ref().and_then(|extras| extras.author.as_deref());
        hidden.or(self.from.as_deref())
    }

    /// The nick of its author, if others see an alias.
    pub fn nick(&self) -> Option<&str> {
        self.extras.as_ref()?.nick.as_deref()
    }

    /// The message that it is about, if it answers or changes one.
    pub fn about(&self) -> Option<MessageId> {
        self.extras.as_ref()?.about
    }

    /// The payer for its bytes while it is kept: the one that it names, or its publisher.
    pub fn charged(&self) -> Payer {
        match self.author() {
            _ if self.payer != Payer::NOBODY => self.payer,
            Some(user) => Payer::user(user),
            None => Payer::NOBODY,
        }
    }

    /// Encodes the stored form, for a record that carries a message within it.
    pub fn encode(&self) -> Vec<u8> {
        let stored: StoredMessage = self.into();
        stored.encode_to_vec()
    }

    /// Decodes the output of [`Message::encode`].
    pub fn decode(bytes: Bytes) -> Result<Self, RecordError> {
        StoredMessage::decode(bytes).map_err(|_| RecordError::Malformed)?.into_message()
    }

    /// Whether it is past its expiry.
    pub fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

impl Content {
    /// An entry of a kind that this version doesn't know, whose record has these fields beside its place, time and
    /// promise.
    pub fn later(offset: Offset, time: UnixMillis, durability: Durability, fields: &[u8]) -> Self {
        let known = Stored { offset: offset.0, time_ms: time.0, durability: durability as u32, message: None };
        Self::Unknown([known.encode_to_vec().as_slice(), fields].concat().into())
    }
}

impl Record {
    /// The entry, if its kind is known.
    pub fn entry(&self) -> Option<&Entry> {
        match &self.content {
            Content::Known(entry) => Some(entry),
            Content::Unknown(_) => None,
        }
    }

    /// The message, if the record is one.
    pub fn message(&self) -> Option<&Message> {
        self.entry()?.message()
    }

    /// The server's own record, if it is one.
    pub fn system(&self) -> Option<&System> {
        self.entry()?.system()
    }

    /// The memory and the disk space that its entry takes, about.
    pub fn weight(&self) -> usize {
        match &self.content {
            Content::Known(entry) => entry.weight(),
            Content::Unknown(stored) => stored.len(),
        }
    }

    /// The id of the message; a copy has that of its original.
    pub fn id(&self) -> MessageId {
        let is_copy = self.message().is_some_and(|message| message.sent_to().is_some());
        let offset = Offset(self.offset.0 - u64::from(is_copy));
        MessageId::new(self.time, self.partition, offset)
    }

    /// The time for which its message may still be delivered, if it expires: never longer than its whole lifetime, even
    /// if the clock was set back since.
    pub fn time_left(&self, now: UnixMillis) -> Option<Duration> {
        let expires = self.message()?.expires?;
        Some(Duration::from_millis(expires.0.saturating_sub(now.0.max(self.time.0))))
    }

    /// The length of [`Record::encode`]'s output, in bytes.
    pub fn encoded_len(&self) -> usize {
        match &self.content {
            Content::Known(entry) => self.stored(entry).encoded_len(),
            Content::Unknown(stored) => stored.len(),
        }
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.content {
            // The vector grows as needed, so that encoding can't fail.
            Content::Known(entry) => drop(self.stored(entry).encode(out)),
            Content::Unknown(stored) => out.extend_from_slice(stored),
        }
    }

    /// Reads the stored form; the body shares the memory of `bytes`. Fields of a known kind that a later version has
    /// added are left out.
    pub fn decode(partition: Partition, bytes: Bytes) -> Result<Self, RecordError> {
        let Stored { offset, time_ms, durability, message } =
            Stored::decode(bytes.clone()).map_err(|_| RecordError::Malformed)?;
        if offset == 0 {
            return Err(RecordError::Malformed);
        }
        let promise = STORED_DURABILITIES.get(durability as usize).copied();
        let content = match (message, promise) {
            (Some(message), Some(_)) => Content::Known(message.into_entry()?),
            _ => Content::Unknown(bytes),
        };
        let (offset, time) = (Offset(offset), UnixMillis(time_ms));
        Ok(Self { partition, offset, time, durability: promise.unwrap_or_default(), content })
    }

    fn stored(&self, entry: &Entry) -> Stored {
        let (offset, time_ms, durability) = (self.offset.0, self.time.0, self.durability as u32);
        Stored { offset, time_ms, durability, message: Some(entry.into()) }
    }
}

/// The reason why stored bytes are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not the protobuf of a record.
    #[error("the stored record is malformed")]
    Malformed,
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
        let record = Record { partition, offset, time, durability: Durability::Fsync, content: message.into() };
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
            assert_eq!((record.offset, record.time, record.entry()), (Offset(7), UnixMillis(100), None));
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
                Box::new(Once { session, tag, generation: offset, until: UnixMillis(offset) })
            });
            let extras = properties.map(|all| Box::new(Extras {
                properties: all.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
                response_topic: from.clone(),
                correlation: event.as_ref().map(|_| Bytes::from_static(b"x")),
                is_text: event.as_ref().map(|_| retain),
                to: key.clone(),
                author: from.clone(),
                nick: event.clone(),
                about: from.as_ref().map(|_| MessageId::new(UnixMillis(time & 0xffff_ffff), Partition(0), Offset(offset))),
            }));
            let message = Message {
                topic: Topic::parse(&topic).unwrap(), from, event, content_type, key, body: body.into(), retain, qos,
                expires: expires.map(UnixMillis), origin: time, payer: Payer(offset ^ time), once, extras,
            };
            prop_assert_eq!(Message::decode(message.encode().into()), Ok(message.clone()));
            let system = System {
                topic: Topic::parse(&format!("${topic}")).unwrap(), body: message.body.clone(), retain,
                expires: message.expires, generation: offset, payer: Payer(time),
            };
            for entry in [Entry::Message(message), Entry::System(system)] {
                prop_assert_eq!(Entry::decode(entry.encode().into()), Ok(entry.clone()));
                let record = Record {
                    partition: Partition(0), offset: Offset(offset), time: UnixMillis(time),
                    durability: Durability::Memory, content: Content::Known(entry),
                };
                let mut bytes = Vec::new();
                record.encode(&mut bytes);
                prop_assert_eq!(bytes.len(), record.encoded_len());
                prop_assert_eq!(Record::decode(Partition(0), bytes.into()), Ok(record));
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = Record::decode(Partition(0), bytes.into());
        }
    }
}
