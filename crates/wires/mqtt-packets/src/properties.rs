//! Properties (MQTT-5.0 §2.2.2.2): one table holds the name of each, its form, and the places where it may stand.

use bytes::Bytes;

use crate::fields::{Fields, bytes, put_binary, put_variable, variable_len};
use crate::{PacketError, Reason, Side};

/// The places where properties stand.
pub(crate) mod place {
    pub(crate) const CONNECT: u16 = 1;
    pub(crate) const WILL: u16 = 2;
    pub(crate) const CONNACK: u16 = 4;
    pub(crate) const PUBLISH: u16 = 8;
    pub(crate) const ACKS: u16 = 16;
    pub(crate) const SUBSCRIBE: u16 = 32;
    pub(crate) const SUBACK: u16 = 64;
    pub(crate) const UNSUBSCRIBE: u16 = 128;
    pub(crate) const DISCONNECT: u16 = 256;
    pub(crate) const AUTH: u16 = 512;
    pub(crate) const ALL: u16 = 1023;
}

use place::{ACKS, ALL, AUTH, CONNACK, CONNECT, DISCONNECT, PUBLISH, SUBACK, SUBSCRIBE, WILL};

/// The form in which a property is written (§1.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shape {
    /// 0 or 1.
    Flag,
    Two,
    Four,
    Variable,
    Text,
    Binary,
    Pair,
}

macro_rules! properties {
    ($($name:ident = $id:literal, $shape:ident, $places:expr;)*) => {
        /// The identifier of a property.
        #[expect(missing_docs, reason = "the names are the standard's")]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Id {
            $($name = $id,)*
        }

        const TABLE: &[(Id, Shape, u16)] = &[$((Id::$name, Shape::$shape, $places)),*];
    };
}

properties! {
    PayloadFormatIndicator = 0x01, Flag, PUBLISH | WILL;
    MessageExpiryInterval = 0x02, Four, PUBLISH | WILL;
    ContentType = 0x03, Text, PUBLISH | WILL;
    ResponseTopic = 0x08, Text, PUBLISH | WILL;
    CorrelationData = 0x09, Binary, PUBLISH | WILL;
    SubscriptionIdentifier = 0x0b, Variable, PUBLISH | SUBSCRIBE;
    SessionExpiryInterval = 0x11, Four, CONNECT | CONNACK | DISCONNECT;
    AssignedClientIdentifier = 0x12, Text, CONNACK;
    ServerKeepAlive = 0x13, Two, CONNACK;
    AuthenticationMethod = 0x15, Text, CONNECT | CONNACK | AUTH;
    AuthenticationData = 0x16, Binary, CONNECT | CONNACK | AUTH;
    RequestProblemInformation = 0x17, Flag, CONNECT;
    WillDelayInterval = 0x18, Four, WILL;
    RequestResponseInformation = 0x19, Flag, CONNECT;
    ResponseInformation = 0x1a, Text, CONNACK;
    ServerReference = 0x1c, Text, CONNACK | DISCONNECT;
    ReasonString = 0x1f, Text, CONNACK | ACKS | SUBACK | DISCONNECT | AUTH;
    ReceiveMaximum = 0x21, Two, CONNECT | CONNACK;
    TopicAliasMaximum = 0x22, Two, CONNECT | CONNACK;
    TopicAlias = 0x23, Two, PUBLISH;
    MaximumQos = 0x24, Flag, CONNACK;
    RetainAvailable = 0x25, Flag, CONNACK;
    UserProperty = 0x26, Pair, ALL;
    MaximumPacketSize = 0x27, Four, CONNECT | CONNACK;
    WildcardSubscriptionAvailable = 0x28, Flag, CONNACK;
    SubscriptionIdentifierAvailable = 0x29, Flag, CONNACK;
    SharedSubscriptionAvailable = 0x2a, Flag, CONNACK;
}

/// The value of a property.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A byte, two bytes, four bytes or a variable byte integer, as its property is written.
    Number(u32),
    /// A string.
    Text(Box<str>),
    /// Binary data.
    Binary(Bytes),
    /// A name and its value.
    Pair(Box<str>, Box<str>),
}

/// The properties of a packet, in their order. A property that may stand once stands once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Properties(Vec<(Id, Value)>);

impl Properties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one.
    pub fn push(&mut self, id: Id, value: Value) {
        self.0.push((id, value));
    }

    /// Adds a number.
    #[must_use]
    pub fn with(mut self, id: Id, number: impl Into<u32>) -> Self {
        self.push(id, Value::Number(number.into()));
        self
    }

    /// Adds a string.
    #[must_use]
    pub fn with_text(mut self, id: Id, text: &str) -> Self {
        self.push(id, Value::Text(text.into()));
        self
    }

    /// Adds a user property.
    #[must_use]
    pub fn with_pair(mut self, name: &str, value: &str) -> Self {
        self.push(Id::UserProperty, Value::Pair(name.into(), value.into()));
        self
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(Id, Value)> {
        self.0.iter()
    }

    fn get(&self, id: Id) -> Option<&Value> {
        self.0.iter().find(|(other, _)| *other == id).map(|(_, value)| value)
    }

    /// A number.
    pub fn number(&self, id: Id) -> Option<u32> {
        match self.get(id)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A string.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.get(id)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Binary data.
    pub fn binary(&self, id: Id) -> Option<&Bytes> {
        match self.get(id)? {
            Value::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The user properties, in their order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(_, value)| match value {
            Value::Pair(name, value) => Some((&**name, &**value)),
            _ => None,
        })
    }

    /// A user property.
    pub fn pair(&self, name: &str) -> Option<&str> {
        self.pairs().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The subscription identifiers.
    pub fn identifiers(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(|(id, value)| match value {
            Value::Number(number) if *id == Id::SubscriptionIdentifier => Some(*number),
            _ => None,
        })
    }

    /// Leaves out explanations: reason string and user properties (MQTT-3.1.2-29).
    pub fn remove_texts(&mut self) {
        self.0.retain(|(id, _)| !matches!(id, Id::ReasonString | Id::UserProperty));
    }

    pub(crate) fn read(fields: &mut Fields<'_>, place: u16, side: Side) -> Result<Self, PacketError> {
        let len = fields.variable()?;
        let mut block = Fields(fields.take(len as usize)?);
        let mut properties = Self::default();
        while !block.is_empty() {
            let (id, shape) = known(block.variable()?, place)?;
            let may_come_again = id == Id::UserProperty
                || (id == Id::SubscriptionIdentifier && place == PUBLISH && side == Side::Server);
            if !may_come_again && properties.get(id).is_some() {
                return Err(PacketError::protocol("a property stands twice"));
            }
            let value = read(&mut block, shape)?;
            check(id, &value, place, side)?;
            properties.push(id, value);
        }
        let has_data = properties.get(Id::AuthenticationData).is_some();
        if has_data && properties.get(Id::AuthenticationMethod).is_none() {
            return Err(PacketError::protocol("authentication data without a method"));
        }
        Ok(properties)
    }

    /// Appends them with their length.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut block = Vec::new();
        self.write_bare(&mut block);
        put_variable(block.len() as u32, out);
        out.extend_from_slice(&block);
    }

    /// Appends them without their length.
    pub fn write_bare(&self, out: &mut Vec<u8>) {
        for (id, value) in &self.0 {
            write(*id, value, out);
        }
    }
}

/// The property of an identifier, if it may stand here.
fn known(id: u32, place: u16) -> Result<(Id, Shape), PacketError> {
    let found = TABLE.iter().find(|(known, ..)| *known as u32 == id);
    let (id, shape, places) = found.ok_or(PacketError::malformed("no property has this identifier"))?;
    if places & place == 0 {
        return Err(PacketError::protocol("a property stands where it may not"));
    }
    Ok((*id, *shape))
}

fn read(fields: &mut Fields<'_>, shape: Shape) -> Result<Value, PacketError> {
    Ok(match shape {
        Shape::Flag => Value::Number(fields.u8()?.into()),
        Shape::Two => Value::Number(fields.u16()?.into()),
        Shape::Four => Value::Number(fields.u32()?),
        Shape::Variable => Value::Number(fields.variable()?),
        Shape::Text => Value::Text(fields.text()?.into()),
        Shape::Binary => Value::Binary(bytes(fields.binary()?)),
        Shape::Pair => Value::Pair(fields.text()?.into(), fields.text()?.into()),
    })
}

/// Checks the value of a property.
fn check(id: Id, value: &Value, place: u16, side: Side) -> Result<(), PacketError> {
    let Value::Number(number) = value else {
        let is_pattern = |text: &str| text.contains(['+', '#']);
        return match (id, value) {
            (Id::ResponseTopic, Value::Text(text)) if is_pattern(text) => {
                Err(PacketError { reason: Reason::ProtocolError, what: "a response topic with wildcards" })
            }
            _ => Ok(()),
        };
    };
    match (id, number) {
        (Id::TopicAlias, 0) => Err(PacketError { reason: Reason::TopicAliasInvalid, what: "a topic alias of 0" }),
        (Id::ReceiveMaximum, 0) => Err(PacketError::protocol("a receive maximum of 0")),
        (Id::MaximumPacketSize, 0) => Err(PacketError::protocol("a maximum packet size of 0")),
        (Id::SubscriptionIdentifier, 0) => Err(PacketError::protocol("a subscription identifier of 0")),
        (Id::SubscriptionIdentifier, _) if place == PUBLISH && side == Side::Client => {
            Err(PacketError::protocol("a client publishes with a subscription identifier"))
        }
        (_, 2..) if shape_of(id) == Shape::Flag => Err(PacketError::protocol("a property that is 0 or 1 is neither")),
        _ => Ok(()),
    }
}

fn shape_of(id: Id) -> Shape {
    // Every identifier stands in the table.
    TABLE.iter().find(|(known, ..)| *known == id).map_or(Shape::Pair, |(_, shape, _)| *shape)
}

pub(crate) fn write(id: Id, value: &Value, out: &mut Vec<u8>) {
    out.push(id as u8);
    match (value, shape_of(id)) {
        (Value::Number(number), Shape::Flag) => out.push(*number as u8),
        (Value::Number(number), Shape::Two) => out.extend_from_slice(&(*number as u16).to_be_bytes()),
        (Value::Number(number), Shape::Variable) => put_variable(*number, out),
        (Value::Number(number), _) => out.extend_from_slice(&number.to_be_bytes()),
        (Value::Text(text), _) => put_binary(text.as_bytes(), out),
        (Value::Binary(bytes), _) => put_binary(bytes, out),
        (Value::Pair(name, value), _) => {
            put_binary(name.as_bytes(), out);
            put_binary(value.as_bytes(), out);
        }
    }
}

/// The length of a block of this many bytes, with its length field.
pub(crate) fn block_len(bytes: usize) -> usize {
    variable_len(bytes) + bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_stands_in_the_table_once() {
        for (at, (id, ..)) in TABLE.iter().enumerate() {
            assert!(TABLE[at + 1..].iter().all(|(other, ..)| other != id));
        }
        assert_eq!(TABLE.len(), 27, "MQTT-5.0 §2.2.2.2");
    }
}
