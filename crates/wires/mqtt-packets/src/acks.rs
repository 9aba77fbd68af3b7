//! PUBACK, PUBREC, PUBREL, PUBCOMP (MQTT-5.0 §3.4 to §3.7): one shape.

use std::num::NonZeroU16;

use crate::fields::{Fields, put_packet};
use crate::properties::place;
use crate::{Packet, PacketError, Properties, Reason, Side, Version};

/// The packets of this shape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckKind {
    /// At least once: the message has arrived.
    Puback,
    /// Exactly once, part 1: the message has arrived.
    Pubrec,
    /// Exactly once, part 2: the packet identifier is free.
    Pubrel,
    /// Exactly once, part 3: the packet identifier is free here too.
    Pubcomp,
}

/// An acknowledgement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ack {
    /// The packet.
    pub kind: AckKind,
    /// The identifier of the message.
    pub packet_id: NonZeroU16,
    /// The result.
    pub reason: Reason,
    /// The properties.
    pub properties: Properties,
}

/// Reasons that PUBACK and PUBREC may have (§3.4.2.1, §3.5.2.1).
const PUBLISHED: &[Reason] = &[
    Reason::Success,
    Reason::NoMatchingSubscribers,
    Reason::UnspecifiedError,
    Reason::ImplementationSpecific,
    Reason::NotAuthorized,
    Reason::TopicNameInvalid,
    Reason::PacketIdInUse,
    Reason::QuotaExceeded,
    Reason::PayloadFormatInvalid,
];
/// Reasons that PUBREL and PUBCOMP may have (§3.6.2.1, §3.7.2.1).
const RELEASED: &[Reason] = &[Reason::Success, Reason::PacketIdNotFound];

impl Ack {
    /// An acknowledgement without properties.
    pub fn new(kind: AckKind, packet_id: NonZeroU16, reason: Reason) -> Self {
        Self { kind, packet_id, reason, properties: Properties::default() }
    }

    pub(crate) fn read(
        version: Version,
        side: Side,
        kind: AckKind,
        fields: &mut Fields<'_>,
    ) -> Result<Self, PacketError> {
        let packet_id = fields.packet_id()?;
        let mut ack = Self::new(kind, packet_id, Reason::Success);
        if version == Version::V5 && !fields.is_empty() {
            let allowed = if matches!(kind, AckKind::Puback | AckKind::Pubrec) { PUBLISHED } else { RELEASED };
            ack.reason = Packet::reason(fields, allowed)?;
            if !fields.is_empty() {
                ack.properties = Properties::read(fields, place::ACKS, side)?;
            }
        }
        fields.end()?;
        Ok(ack)
    }

    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        let first = match self.kind {
            AckKind::Puback => 0x40,
            AckKind::Pubrec => 0x50,
            AckKind::Pubrel => 0x62,
            AckKind::Pubcomp => 0x70,
        };
        put_packet(first, out, |out| {
            out.extend_from_slice(&self.packet_id.get().to_be_bytes());
            let says_more = self.reason != Reason::Success || !self.properties.is_empty();
            if version == Version::V5 && says_more {
                out.push(self.reason.code());
                if !self.properties.is_empty() {
                    self.properties.write(out);
                }
            }
        });
    }
}
