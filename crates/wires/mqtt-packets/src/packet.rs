//! All packets together (MQTT-5.0 §2.1.2).

use crate::fields::Fields;
use crate::{
    Ack, AckKind, Auth, Connack, Connect, Disconnect, PacketError, Publish, Reason, Side, Suback, Subscribe, Unsuback,
    Unsubscribe, Version,
};

/// A control packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// A client wants to connect.
    Connect(Box<Connect>),
    /// The answer.
    Connack(Connack),
    /// A message.
    Publish(Publish<'a>),
    /// An acknowledgement.
    Ack(Ack),
    /// A client wants messages.
    Subscribe(Subscribe),
    /// The answer.
    Suback(Suback),
    /// A client wants messages no more.
    Unsubscribe(Unsubscribe),
    /// The answer.
    Unsuback(Unsuback),
    /// A question whether the other side is there.
    Pingreq,
    /// The answer to it.
    Pingresp,
    /// The end.
    Disconnect(Disconnect),
    /// A step of an enhanced authentication.
    Auth(Auth),
}

/// The type of CONNECT, with which a client begins.
pub(crate) const CONNECT: u8 = 1;

impl<'a> Packet<'a> {
    /// Reads a packet that `side` has sent: the first byte, and all after the fixed header. A CONNECT itself says the
    /// version.
    pub fn read(version: Version, side: Side, first: u8, body: &'a [u8]) -> Result<Self, PacketError> {
        let kind = first >> 4;
        let version = if kind == CONNECT { Connect::version(body).unwrap_or(version) } else { version };
        check_flags(version, kind, first & 0x0f)?;
        check_side(kind, side)?;
        let fields = &mut Fields(body);
        Ok(match kind {
            CONNECT => Packet::Connect(Box::new(Connect::read(fields)?)),
            2 => Packet::Connack(Connack::read(version, fields)?),
            3 => Packet::Publish(Publish::read(version, side, first, body)?),
            4 => Packet::Ack(Ack::read(version, side, AckKind::Puback, fields)?),
            5 => Packet::Ack(Ack::read(version, side, AckKind::Pubrec, fields)?),
            6 => Packet::Ack(Ack::read(version, side, AckKind::Pubrel, fields)?),
            7 => Packet::Ack(Ack::read(version, side, AckKind::Pubcomp, fields)?),
            8 => Packet::Subscribe(Subscribe::read(version, fields)?),
            9 => Packet::Suback(Suback::read(version, fields)?),
            10 => Packet::Unsubscribe(Unsubscribe::read(version, fields)?),
            11 => Packet::Unsuback(Unsuback::read(version, fields)?),
            12 => fields.end().map(|()| Packet::Pingreq)?,
            13 => fields.end().map(|()| Packet::Pingresp)?,
            14 => Packet::Disconnect(Disconnect::read(version, side, fields)?),
            15 if version == Version::V5 => Packet::Auth(Auth::read(side, fields)?),
            _ => return Err(PacketError::malformed("no packet has this type")),
        })
    }

    /// Appends the packet.
    pub fn write(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(packet) => packet.write(out),
            Packet::Connack(packet) => packet.write(version, out),
            Packet::Publish(packet) => packet.write(version, out),
            Packet::Ack(packet) => packet.write(version, out),
            Packet::Subscribe(packet) => packet.write(version, out),
            Packet::Suback(packet) => packet.write(version, out),
            Packet::Unsubscribe(packet) => packet.write(version, out),
            Packet::Unsuback(packet) => packet.write(version, out),
            Packet::Pingreq => out.extend_from_slice(&[0xc0, 0]),
            Packet::Pingresp => out.extend_from_slice(&[0xd0, 0]),
            Packet::Disconnect(packet) => packet.write(version, out),
            Packet::Auth(packet) => packet.write(out),
        }
    }

    /// Leaves out explanations: reason string and user properties. A PUBLISH stays as it is.
    pub fn remove_texts(&mut self) {
        match self {
            Packet::Connack(Connack { properties, .. })
            | Packet::Ack(Ack { properties, .. })
            | Packet::Suback(Suback { properties, .. })
            | Packet::Unsuback(Unsuback { properties, .. })
            | Packet::Disconnect(Disconnect { properties, .. })
            | Packet::Auth(Auth { properties, .. }) => properties.remove_texts(),
            _ => {}
        }
    }

    /// Reads a reason code that this packet may have.
    pub(crate) fn reason(fields: &mut Fields<'_>, allowed: &[Reason]) -> Result<Reason, PacketError> {
        let code = fields.u8()?;
        let known = Reason::of(code).ok_or(PacketError::malformed("no such reason code"))?;
        allowed
            .contains(&known)
            .then_some(known)
            .ok_or(PacketError::protocol("a reason code that this packet can't have"))
    }
}

/// Checks the flags of the fixed header (§2.1.3). In 3.1 most are of no use, and PUBREL, SUBSCRIBE and UNSUBSCRIBE may
/// come again.
fn check_flags(version: Version, kind: u8, flags: u8) -> Result<(), PacketError> {
    let (meant, expected) = match (kind, version) {
        (6 | 8 | 10, Version::V31) => (0b0110, 2),
        (3, _) | (_, Version::V31) => return Ok(()),
        (6 | 8 | 10, _) => (0b1111, 2),
        _ => (0b1111, 0),
    };
    if flags & meant == expected {
        return Ok(());
    }
    Err(PacketError::malformed("the flags of the fixed header are reserved"))
}

/// Checks that this side may send this packet (§2.1.2).
fn check_side(kind: u8, side: Side) -> Result<(), PacketError> {
    let by_server_alone = matches!(kind, 2 | 9 | 11 | 13);
    let by_client_alone = matches!(kind, 1 | 8 | 10 | 12);
    match side {
        Side::Client if by_server_alone => Err(PacketError::protocol("a packet that only servers send")),
        Side::Server if by_client_alone => Err(PacketError::protocol("a packet that only clients send")),
        _ => Ok(()),
    }
}
