//! PUBLISH (MQTT-5.0 §3.3). It is written in two parts: a head that is the connection's own, and a tail, properties and
//! payload, which may be shared by all clients that get the message.

use std::num::NonZeroU16;

use crate::fields::{Fields, put_binary, put_variable};
use crate::properties::{block_len, place};
use crate::{Id, PacketError, Properties, Reason, Side, Version};

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// Whether it may have been sent before.
    pub dup: bool,
    /// The quality of service.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// The topic; empty if an alias says it.
    pub topic: &'a str,
    /// The packet identifier, with QoS 1 and 2.
    pub packet_id: Option<NonZeroU16>,
    /// The properties.
    pub properties: Properties,
    /// The payload.
    pub payload: &'a [u8],
}

/// Checks that a topic may be published to (§4.7).
pub(crate) fn check_topic(topic: &str) -> Result<(), PacketError> {
    let invalid = |what| Err(PacketError { reason: Reason::TopicNameInvalid, what });
    if topic.is_empty() {
        return invalid("an empty topic");
    }
    if topic.contains(['+', '#']) { invalid("a topic with wildcards") } else { Ok(()) }
}

impl<'a> Publish<'a> {
    pub(crate) fn read(version: Version, side: Side, first: u8, body: &'a [u8]) -> Result<Self, PacketError> {
        let (mut dup, qos, retain) = (first & 8 != 0, first >> 1 & 3, first & 1 != 0);
        if qos == 3 {
            return Err(PacketError::malformed("a message of QoS 3"));
        }
        if dup && qos == 0 && version != Version::V31 {
            return Err(PacketError::malformed("DUP with QoS 0"));
        }
        dup &= qos > 0;
        let mut fields = Fields(body);
        let topic = fields.text()?;
        let packet_id = if qos > 0 { Some(fields.packet_id()?) } else { None };
        let properties = match version {
            Version::V5 => Properties::read(&mut fields, place::PUBLISH, side)?,
            _ => Properties::default(),
        };
        if !topic.is_empty() || version != Version::V5 {
            check_topic(topic)?;
        } else if properties.number(Id::TopicAlias).is_none() {
            return Err(PacketError::protocol("an empty topic without an alias"));
        }
        Ok(Self { dup, qos, retain, topic, packet_id, properties, payload: fields.0 })
    }

    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        let mut tail = Vec::with_capacity(self.payload.len() + 16);
        if version == Version::V5 {
            self.properties.write(&mut tail);
        }
        tail.extend_from_slice(self.payload);
        self.head().write(tail.len(), out);
        out.extend_from_slice(&tail);
    }

    fn head(&self) -> PublishHead<'_> {
        let Self { dup, qos, retain, topic, packet_id, .. } = *self;
        PublishHead { dup, qos, retain, topic, packet_id }
    }
}

/// The part before properties and payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishHead<'a> {
    /// Whether it may have been sent before.
    pub dup: bool,
    /// The quality of service.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// The topic; empty if an alias says it.
    pub topic: &'a str,
    /// The packet identifier, with QoS 1 and 2.
    pub packet_id: Option<NonZeroU16>,
}

impl PublishHead<'_> {
    /// The number of bytes of the whole packet, with those of its tail.
    pub fn packet_len(&self, tail: usize) -> usize {
        1 + block_len(self.rest(tail))
    }

    fn rest(&self, tail: usize) -> usize {
        2 + self.topic.len() + if self.packet_id.is_some() { 2 } else { 0 } + tail
    }

    /// Appends the head of a packet whose tail has this length.
    pub fn write(&self, tail: usize, out: &mut Vec<u8>) {
        out.push(0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain));
        put_variable(self.rest(tail) as u32, out);
        put_binary(self.topic.as_bytes(), out);
        if let Some(id) = self.packet_id {
            out.extend_from_slice(&id.get().to_be_bytes());
        }
    }
}

/// Appends the properties of a PUBLISH with their length: those of this connection alone before the shared ones, which
/// are given as they are written.
pub fn publish_properties(own: &Properties, shared: &[u8], out: &mut Vec<u8>) {
    let mut bytes = Vec::new();
    own.write_bare(&mut bytes);
    put_variable((bytes.len() + shared.len()) as u32, out);
    out.extend_from_slice(&bytes);
    out.extend_from_slice(shared);
}
