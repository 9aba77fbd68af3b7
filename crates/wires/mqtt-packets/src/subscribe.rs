//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (MQTT-5.0 §3.8 to §3.11).

use std::num::NonZeroU16;

use crate::fields::{Fields, put_binary, put_packet};
use crate::properties::place;
use crate::{Packet, PacketError, Properties, Reason, Side, Version};

/// The prefix of shared filters (§4.8.2).
pub const SHARED: &str = "$share/";

/// A client wants messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribe {
    /// The identifier that the answer names.
    pub packet_id: NonZeroU16,
    /// The filters, each with its options.
    pub filters: Vec<(Box<str>, Options)>,
    /// The properties.
    pub properties: Properties,
}

/// The options of a subscription (§3.8.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// The highest quality of service.
    pub qos: u8,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether live messages keep their retain flag.
    pub retain_as_published: bool,
    /// The retain handling: retained messages come 0 always, 1 if the subscription is new, 2 never.
    pub retain_handling: u8,
}

impl Options {
    fn read(byte: u8, version: Version, filter: &str) -> Result<Self, PacketError> {
        let (byte, reserved) = match version {
            Version::V31 => (byte & 3, 0),
            Version::V3 => (byte, 0xfc),
            Version::V5 => (byte, 0xc0),
        };
        let options = Self {
            qos: byte & 3,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling: byte >> 4 & 3,
        };
        if byte & reserved != 0 || options.qos == 3 {
            return Err(PacketError::malformed("options of a subscription that there aren't"));
        }
        if options.retain_handling == 3 {
            return Err(PacketError::protocol("a retain handling of 3"));
        }
        if options.no_local && filter.starts_with(SHARED) {
            return Err(PacketError::protocol("no local on a shared subscription"));
        }
        Ok(options)
    }

    fn byte(self, version: Version) -> u8 {
        let more = u8::from(self.no_local) << 2 | u8::from(self.retain_as_published) << 3 | self.retain_handling << 4;
        self.qos | if version == Version::V5 { more } else { 0 }
    }
}

impl Subscribe {
    pub(crate) fn read(version: Version, fields: &mut Fields<'_>) -> Result<Self, PacketError> {
        let packet_id = fields.packet_id()?;
        let properties = properties(version, Side::Client, place::SUBSCRIBE, fields)?;
        let mut filters = Vec::new();
        while !fields.is_empty() {
            let filter = filter(fields)?;
            filters.push((filter.into(), Options::read(fields.u8()?, version, filter)?));
        }
        if filters.is_empty() {
            return Err(PacketError::protocol("a SUBSCRIBE without a filter"));
        }
        Ok(Self { packet_id, filters, properties })
    }

    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(0x82, out, |out| {
            begin(self.packet_id, version, &self.properties, out);
            for (filter, options) in &self.filters {
                put_binary(filter.as_bytes(), out);
                out.push(options.byte(version));
            }
        });
    }
}

/// The answer to SUBSCRIBE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suback {
    /// The identifier of the packet that it answers.
    pub packet_id: NonZeroU16,
    /// The results, one for each filter, in their order.
    pub reasons: Vec<Reason>,
    /// The properties.
    pub properties: Properties,
}

/// Reasons that SUBACK may have (§3.9.3).
const SUBSCRIBED: &[Reason] = &[
    Reason::Success,
    Reason::GrantedQos1,
    Reason::GrantedQos2,
    Reason::UnspecifiedError,
    Reason::ImplementationSpecific,
    Reason::NotAuthorized,
    Reason::TopicFilterInvalid,
    Reason::PacketIdInUse,
    Reason::QuotaExceeded,
    Reason::SharedSubscriptionsNotSupported,
    Reason::SubscriptionIdsNotSupported,
    Reason::WildcardSubscriptionsNotSupported,
];

/// The reasons of 3.1.1 (MQTT-3.9.3-2 there).
const SUBSCRIBED_V3: &[Reason] = &[Reason::Success, Reason::GrantedQos1, Reason::GrantedQos2, Reason::UnspecifiedError];

impl Suback {
    pub(crate) fn read(version: Version, fields: &mut Fields<'_>) -> Result<Self, PacketError> {
        let packet_id = fields.packet_id()?;
        let properties = properties(version, Side::Server, place::SUBACK, fields)?;
        let mut reasons = Vec::new();
        let allowed = if version == Version::V5 { SUBSCRIBED } else { SUBSCRIBED_V3 };
        while !fields.is_empty() {
            reasons.push(Packet::reason(fields, allowed)?);
        }
        Ok(Self { packet_id, reasons, properties })
    }

    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(0x90, out, |out| {
            begin(self.packet_id, version, &self.properties, out);
            // 3.1.1 has one code for all failures (MQTT-3.1.1 §3.9.3).
            let code = |reason: &Reason| {
                let is_one_word = version != Version::V5 && reason.is_failure();
                if is_one_word { Reason::UnspecifiedError.code() } else { reason.code() }
            };
            out.extend(self.reasons.iter().map(code));
        });
    }
}

/// A client wants messages no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsubscribe {
    /// The identifier that the answer names.
    pub packet_id: NonZeroU16,
    /// The filters that it leaves.
    pub filters: Vec<Box<str>>,
    /// The properties.
    pub properties: Properties,
}

impl Unsubscribe {
    pub(crate) fn read(version: Version, fields: &mut Fields<'_>) -> Result<Self, PacketError> {
        let packet_id = fields.packet_id()?;
        let properties = properties(version, Side::Client, place::UNSUBSCRIBE, fields)?;
        let mut filters = Vec::new();
        while !fields.is_empty() {
            filters.push(filter(fields)?.into());
        }
        if filters.is_empty() {
            return Err(PacketError::protocol("an UNSUBSCRIBE without a filter"));
        }
        Ok(Self { packet_id, filters, properties })
    }

    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(0xa2, out, |out| {
            begin(self.packet_id, version, &self.properties, out);
            self.filters.iter().for_each(|filter| put_binary(filter.as_bytes(), out));
        });
    }
}

/// The answer to UNSUBSCRIBE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsuback {
    /// The identifier of the packet that it answers.
    pub packet_id: NonZeroU16,
    /// The results, one for each filter, in their order; none in 3.1.1.
    pub reasons: Vec<Reason>,
    /// The properties.
    pub properties: Properties,
}

/// Reasons that UNSUBACK may have (§3.11.3).
const UNSUBSCRIBED: &[Reason] = &[
    Reason::Success,
    Reason::NoSubscriptionExisted,
    Reason::UnspecifiedError,
    Reason::ImplementationSpecific,
    Reason::NotAuthorized,
    Reason::TopicFilterInvalid,
    Reason::PacketIdInUse,
];

impl Unsuback {
    pub(crate) fn read(version: Version, fields: &mut Fields<'_>) -> Result<Self, PacketError> {
        let packet_id = fields.packet_id()?;
        let properties = properties(version, Side::Server, place::SUBACK, fields)?;
        let mut reasons = Vec::new();
        while version == Version::V5 && !fields.is_empty() {
            reasons.push(Packet::reason(fields, UNSUBSCRIBED)?);
        }
        fields.end()?;
        Ok(Self { packet_id, reasons, properties })
    }

    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(0xb0, out, |out| {
            begin(self.packet_id, version, &self.properties, out);
            if version == Version::V5 {
                out.extend(self.reasons.iter().map(|reason| reason.code()));
            }
        });
    }
}

fn properties(version: Version, side: Side, place: u16, fields: &mut Fields<'_>) -> Result<Properties, PacketError> {
    match version {
        Version::V5 => Properties::read(fields, place, side),
        _ => Ok(Properties::default()),
    }
}

fn begin(packet_id: NonZeroU16, version: Version, properties: &Properties, out: &mut Vec<u8>) {
    out.extend_from_slice(&packet_id.get().to_be_bytes());
    if version == Version::V5 {
        properties.write(out);
    }
}

/// Reads a topic filter, which must be well formed (§4.7, §4.8.2).
fn filter<'a>(fields: &mut Fields<'a>) -> Result<&'a str, PacketError> {
    let text = fields.text()?;
    let Some(shared) = text.strip_prefix(SHARED) else { return check_filter(text).map(|()| text) };
    let (group, filter) = shared.split_once('/').unwrap_or((shared, ""));
    if group.is_empty() || group.contains(['+', '#']) || filter.is_empty() {
        return Err(PacketError::protocol("a shared filter is $share/GROUP/FILTER, its group without wildcards"));
    }
    check_filter(filter).map(|()| text)
}

fn check_filter(text: &str) -> Result<(), PacketError> {
    if text.is_empty() {
        return Err(PacketError::malformed("an empty topic filter"));
    }
    let mut levels = text.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_alone = level.len() == 1 || !level.contains(['+', '#']);
        if !is_alone || level == "#" && levels.peek().is_some() {
            return Err(PacketError::malformed("a wildcard that isn't a level of its own, or # before the last one"));
        }
    }
    Ok(())
}
