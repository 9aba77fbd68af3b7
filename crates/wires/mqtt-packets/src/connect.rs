//! CONNECT (MQTT-5.0 §3.1) and CONNACK (§3.2).

use bytes::Bytes;

use crate::fields::{Fields, bytes, put_binary, put_packet};
use crate::properties::place;
use crate::{PacketError, Properties, Reason, Side, Version};

/// A client wants to connect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connect {
    /// The version that it speaks.
    pub version: Version,
    /// Whether it is another server that passes messages on: in 3.1 and 3.1.1 its level says so, by the highest bit.
    pub is_bridge: bool,
    /// Whether it wants nothing of an earlier session.
    pub clean_start: bool,
    /// The time that it may be silent, in seconds; 0 is for ever.
    pub keep_alive: u16,
    /// Its name; empty asks for one.
    pub client_id: Box<str>,
    /// The will that is published when it goes without a goodbye.
    pub will: Option<Will>,
    /// The user.
    pub user_name: Option<Box<str>>,
    /// The password, or a token.
    pub password: Option<Bytes>,
    /// The properties.
    pub properties: Properties,
}

/// The message that is published when a client goes without a goodbye (§3.1.2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Will {
    /// The topic.
    pub topic: Box<str>,
    /// The payload.
    pub payload: Bytes,
    /// The quality of service.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// The properties.
    pub properties: Properties,
}

/// The flags of CONNECT (§3.1.2.3).
mod flag {
    pub(super) const RESERVED: u8 = 1;
    pub(super) const CLEAN_START: u8 = 2;
    pub(super) const WILL: u8 = 4;
    pub(super) const WILL_QOS: u8 = 0x18;
    pub(super) const WILL_RETAIN: u8 = 0x20;
    pub(super) const PASSWORD: u8 = 0x40;
    pub(super) const USER_NAME: u8 = 0x80;
}

impl Connect {
    /// The level that the body of a CONNECT names, if it can be read, without the bit of a bridge.
    pub fn level(body: &[u8]) -> Option<u8> {
        let fields = &mut Fields(body);
        (fields.binary().ok()? == b"MQTT").then(|| fields.u8().ok()).flatten().map(|level| level & !BRIDGE)
    }

    /// The version that the body of a CONNECT names, whatever is wrong with the rest of it.
    pub fn version(body: &[u8]) -> Option<Version> {
        version(&mut Fields(body)).ok().map(|(version, _)| version)
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Result<Self, PacketError> {
        let (version, is_bridge) = version(fields)?;
        let flags = checked_flags(fields.u8()?, version)?;
        let keep_alive = fields.u16()?;
        let is_v5 = version == Version::V5;
        let properties = |fields: &mut Fields<'_>, place| {
            if is_v5 { Properties::read(fields, place, Side::Client) } else { Ok(Properties::default()) }
        };
        let own = properties(fields, place::CONNECT)?;
        let client_id = fields.text()?.into();
        let mut will = None;
        if flags & flag::WILL != 0 {
            let properties = properties(fields, place::WILL)?;
            let topic = fields.text()?;
            crate::publish::check_topic(topic)?;
            let (topic, payload) = (topic.into(), bytes(fields.binary()?));
            will =
                Some(Will { topic, payload, qos: flags >> 3 & 3, retain: flags & flag::WILL_RETAIN != 0, properties });
        }
        // The length says in 3.1 whether user name and password are there, even if the flags say otherwise.
        let has = |fields: &Fields<'_>, flag| flags & flag != 0 && !(version == Version::V31 && fields.is_empty());
        let user_name = if has(fields, flag::USER_NAME) { Some(fields.text()?.into()) } else { None };
        let password = if has(fields, flag::PASSWORD) { Some(bytes(fields.binary()?)) } else { None };
        fields.end()?;
        let clean_start = flags & flag::CLEAN_START != 0;
        let properties = own;
        Ok(Self { version, is_bridge, clean_start, keep_alive, client_id, will, user_name, password, properties })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_packet(0x10, out, |out| {
            let (name, level): (&[u8], u8) = match self.version {
                Version::V31 => (b"MQIsdp", 3),
                Version::V3 => (b"MQTT", 4),
                Version::V5 => (b"MQTT", 5),
            };
            put_binary(name, out);
            out.push(if self.is_bridge { level | BRIDGE } else { level });
            out.push(self.flags());
            out.extend_from_slice(&self.keep_alive.to_be_bytes());
            let properties = |properties: &Properties, out: &mut Vec<u8>| {
                if self.version == Version::V5 {
                    properties.write(out);
                }
            };
            properties(&self.properties, out);
            put_binary(self.client_id.as_bytes(), out);
            if let Some(will) = &self.will {
                properties(&will.properties, out);
                put_binary(will.topic.as_bytes(), out);
                put_binary(&will.payload, out);
            }
            if let Some(name) = &self.user_name {
                put_binary(name.as_bytes(), out);
            }
            if let Some(password) = &self.password {
                put_binary(password, out);
            }
        });
    }

    fn flags(&self) -> u8 {
        let set = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let will = self.will.as_ref().map_or(0, |w| flag::WILL | w.qos << 3 | set(w.retain, flag::WILL_RETAIN));
        set(self.clean_start, flag::CLEAN_START)
            | will
            | set(self.user_name.is_some(), flag::USER_NAME)
            | set(self.password.is_some(), flag::PASSWORD)
    }
}

/// The bit of the level that marks a bridge. No standard has it; mosquitto and its peers do.
const BRIDGE: u8 = 0x80;

/// Reads name and level (§3.1.2.1, §3.1.2.2), and whether the client is a bridge. 3.1 has another name.
fn version(fields: &mut Fields<'_>) -> Result<(Version, bool), PacketError> {
    let unsupported = |what| PacketError { reason: Reason::UnsupportedVersion, what };
    let (name, level) = (fields.binary()?, fields.u8()?);
    match (name, level) {
        (b"MQTT", 5) => Ok((Version::V5, false)),
        (b"MQTT", 4 | 0x84) => Ok((Version::V3, level & BRIDGE != 0)),
        (b"MQIsdp", 3 | 0x83) => Ok((Version::V31, level & BRIDGE != 0)),
        (b"MQTT" | b"MQIsdp", _) => Err(unsupported("no such version is spoken here: 3.1.1 and 5.0 are")),
        _ => Err(unsupported("the protocol's name is not MQTT")),
    }
}

/// The flags, if they may stand together. 3.1 passes over flags that have no meaning.
fn checked_flags(mut flags: u8, version: Version) -> Result<u8, PacketError> {
    if version == Version::V31 {
        flags &= !flag::RESERVED;
        if flags & flag::WILL == 0 {
            flags &= !(flag::WILL_RETAIN | flag::WILL_QOS);
        }
    }
    let has = |flag: u8| flags & flag != 0;
    let what = if has(flag::RESERVED) {
        "a reserved flag is set"
    } else if flags >> 3 & 3 == 3 {
        "a will of QoS 3"
    } else if !has(flag::WILL) && has(flag::WILL_QOS | flag::WILL_RETAIN) {
        "flags of a will without a will"
    } else if version != Version::V5 && has(flag::PASSWORD) && !has(flag::USER_NAME) {
        "a password without a user name"
    } else {
        return Ok(flags);
    };
    Err(PacketError::malformed(what))
}

/// The answer to CONNECT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connack {
    /// Whether an earlier session goes on.
    pub session_present: bool,
    /// The result.
    pub reason: Reason,
    /// The properties.
    pub properties: Properties,
}

impl Connack {
    pub(crate) fn read(version: Version, fields: &mut Fields<'_>) -> Result<Self, PacketError> {
        let flags = fields.u8()?;
        if flags > 1 && version != Version::V31 {
            return Err(PacketError::malformed("a reserved flag is set"));
        }
        let code = fields.u8()?;
        let (reason, properties) = match version {
            Version::V5 => (Reason::of(code), Properties::read(fields, place::CONNACK, Side::Server)?),
            _ => (Reason::of_connack_v3(code), Properties::default()),
        };
        let reason = reason.ok_or(PacketError::malformed("no such reason code"))?;
        fields.end()?;
        Ok(Self { session_present: flags == 1 && version != Version::V31, reason, properties })
    }

    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(0x20, out, |out| {
            // 3.1 has no such flag: the byte is reserved.
            out.push(u8::from(self.session_present && version != Version::V31));
            if version == Version::V5 {
                out.push(self.reason.code());
                self.properties.write(out);
            } else {
                out.push(self.reason.connack_v3().unwrap_or(3));
            }
        });
    }
}
