//! DISCONNECT (MQTT-5.0 §3.14) and AUTH (§3.15): a reason and properties, both of which may be left out.

use crate::fields::{Fields, put_packet};
use crate::properties::place;
use crate::{Id, Packet, PacketError, Properties, Reason, Side, Version};

/// The end of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disconnect {
    /// The reason.
    pub reason: Reason,
    /// The properties.
    pub properties: Properties,
}

/// Reasons that a client's DISCONNECT may have (§3.14.2.1).
const BY_CLIENT: &[Reason] = &[
    Reason::Success,
    Reason::DisconnectWithWill,
    Reason::UnspecifiedError,
    Reason::MalformedPacket,
    Reason::ProtocolError,
    Reason::ImplementationSpecific,
    Reason::TopicNameInvalid,
    Reason::ReceiveMaximumExceeded,
    Reason::TopicAliasInvalid,
    Reason::PacketTooLarge,
    Reason::MessageRateTooHigh,
    Reason::QuotaExceeded,
    Reason::AdministrativeAction,
    Reason::PayloadFormatInvalid,
];
/// Further reasons that only a server's may have (§3.14.2.1).
const BY_SERVER: &[Reason] = &[
    Reason::NotAuthorized,
    Reason::ServerBusy,
    Reason::ServerShuttingDown,
    Reason::KeepAliveTimeout,
    Reason::SessionTakenOver,
    Reason::TopicFilterInvalid,
    Reason::RetainNotSupported,
    Reason::QosNotSupported,
    Reason::UseAnotherServer,
    Reason::ServerMoved,
    Reason::SharedSubscriptionsNotSupported,
    Reason::ConnectionRateExceeded,
    Reason::MaximumConnectTime,
    Reason::SubscriptionIdsNotSupported,
    Reason::WildcardSubscriptionsNotSupported,
];

impl Disconnect {
    pub(crate) fn read(version: Version, side: Side, fields: &mut Fields<'_>) -> Result<Self, PacketError> {
        if version != Version::V5 {
            fields.end()?;
            return Ok(Self { reason: Reason::Success, properties: Properties::default() });
        }
        let (reason, properties) = match side {
            Side::Client => read(fields, BY_CLIENT, place::DISCONNECT, side)?,
            Side::Server => read(fields, &[BY_CLIENT, BY_SERVER].concat(), place::DISCONNECT, side)?,
        };
        if side == Side::Server && properties.number(Id::SessionExpiryInterval).is_some() {
            return Err(PacketError::protocol("a server ends with a session expiry interval"));
        }
        Ok(Self { reason, properties })
    }

    pub(crate) fn write(&self, version: Version, out: &mut Vec<u8>) {
        put_packet(0xe0, out, |out| {
            if version == Version::V5 {
                write(self.reason, &self.properties, out);
            }
        });
    }
}

/// A step of an enhanced authentication (§4.12).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Auth {
    /// The step.
    pub reason: Reason,
    /// Method and data.
    pub properties: Properties,
}

const STEPS: &[Reason] = &[Reason::Success, Reason::ContinueAuthentication, Reason::Reauthenticate];

impl Auth {
    pub(crate) fn read(side: Side, fields: &mut Fields<'_>) -> Result<Self, PacketError> {
        let (reason, properties) = read(fields, STEPS, place::AUTH, side)?;
        if properties.text(Id::AuthenticationMethod).is_none() {
            return Err(PacketError::protocol("an AUTH without a method"));
        }
        Ok(Self { reason, properties })
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        put_packet(0xf0, out, |out| write(self.reason, &self.properties, out));
    }
}

fn read(
    fields: &mut Fields<'_>,
    allowed: &[Reason],
    place: u16,
    side: Side,
) -> Result<(Reason, Properties), PacketError> {
    let (mut reason, mut properties) = (Reason::Success, Properties::default());
    if !fields.is_empty() {
        reason = Packet::reason(fields, allowed)?;
    }
    if !fields.is_empty() {
        properties = Properties::read(fields, place, side)?;
    }
    fields.end()?;
    Ok((reason, properties))
}

fn write(reason: Reason, properties: &Properties, out: &mut Vec<u8>) {
    if reason != Reason::Success || !properties.is_empty() {
        out.push(reason.code());
        if !properties.is_empty() {
            properties.write(out);
        }
    }
}
