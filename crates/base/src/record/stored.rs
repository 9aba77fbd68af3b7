//! The stored form of records, in protobuf.

use bytes::Bytes;

use super::{Entry, Extras, Message, Once, RecordError, System};
use crate::clock::UnixMillis;
use crate::kept::Payer;
use crate::topic::{Topic, is_internal};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Stored {
    #[prost(uint64, tag = "1")]
    pub(super) offset: u64,
    #[prost(uint64, tag = "2")]
    pub(super) time_ms: u64,
    #[prost(uint32, tag = "3")]
    pub(super) durability: u32,
    #[prost(message, optional, tag = "4")]
    pub(super) message: Option<StoredMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StoredMessage {
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
    #[prost(fixed64, tag = "14")]
    payer: u64,
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
    #[prost(string, optional, tag = "5")]
    to: Option<String>,
    #[prost(string, optional, tag = "6")]
    about: Option<String>,
    #[prost(string, optional, tag = "7")]
    author: Option<String>,
    #[prost(string, optional, tag = "8")]
    nick: Option<String>,
}

impl StoredOnce {
    fn of(once: &Once) -> Self {
        let session = once.session.as_str().to_owned();
        Self { session, tag: u32::from(once.tag), until_ms: once.until.0 }
    }

    fn once(&self, generation: u64) -> Option<Once> {
        let session = Topic::parse(&self.session).ok()?;
        Some(Once { session, tag: u16::try_from(self.tag).ok()?, generation, until: UnixMillis(self.until_ms) })
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
            to: extras.to.as_deref().map(str::to_owned),
            about: extras.about.map(|id| id.to_string()),
            author: extras.author.as_deref().map(str::to_owned),
            nick: extras.nick.as_deref().map(str::to_owned),
        }
    }

    fn extras(self) -> Extras {
        let pairs = self.properties.chunks_exact(2);
        Extras {
            properties: pairs.map(|pair| (pair[0].as_str().into(), pair[1].as_str().into())).collect(),
            response_topic: self.response_topic.map(String::into_boxed_str),
            correlation: self.correlation,
            is_text: self.is_text,
            to: self.to.map(String::into_boxed_str),
            about: self.about.and_then(|id| id.parse().ok()),
            author: self.author.map(String::into_boxed_str),
            nick: self.nick.map(String::into_boxed_str),
        }
    }
}

impl From<&Entry> for StoredMessage {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Message(message) => message.into(),
            Entry::System(system) => system.into(),
        }
    }
}

impl From<&System> for StoredMessage {
    fn from(system: &System) -> Self {
        Self {
            topic: system.topic.as_str().to_owned(),
            body: system.body.clone(),
            retain: system.retain,
            qos: 1,
            expires_ms: system.expires.map(|e| e.0),
            generation: system.generation,
            payer: system.payer.0,
            ..Self::default()
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
            generation: m.once.as_ref().map_or(0, |once| once.generation),
            origin: m.origin,
            payer: m.payer.0,
            once: m.once.as_ref().map(|once| Box::new(StoredOnce::of(once))),
            extras: m.extras.as_ref().map(|extras| Box::new(StoredExtras::of(extras))),
        }
    }
}

impl StoredMessage {
    /// The entry: its topic says which of both it is.
    pub(super) fn into_entry(self) -> Result<Entry, RecordError> {
        if is_internal(&self.topic) {
            self.into_system().map(Entry::System)
        } else {
            self.into_message().map(Entry::Message)
        }
    }

    fn into_system(self) -> Result<System, RecordError> {
        Ok(System {
            topic: Topic::parse(&self.topic).map_err(|_| RecordError::Malformed)?,
            body: self.body,
            retain: self.retain,
            expires: self.expires_ms.map(UnixMillis),
            generation: self.generation,
            payer: Payer(self.payer),
        })
    }

    pub(super) fn into_message(self) -> Result<Message, RecordError> {
        let text = |t: Option<String>| t.map(String::into_boxed_str);
        let generation = self.generation;
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
            origin: self.origin,
            payer: Payer(self.payer),
            once: self.once.map(|once| once.once(generation).ok_or(RecordError::Malformed)).transpose()?.map(Box::new),
            extras: self.extras.map(|extras| Box::new(extras.extras())),
        })
    }
}
