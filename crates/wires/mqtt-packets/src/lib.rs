//! The control packets of MQTT 3.1, 3.1.1 and 5.0, to and from bytes.
//!
//! No state, no socket, no clock: faults that one packet alone shows are refused here, with the reason code that the
//! standard names; faults that only a connection shows are the wire's. The server, the client and the simulation read
//! and write with the same code.
//!
//! | module | section of MQTT-5.0 |
//! | --- | --- |
//! | `frame` | §2.1.1, §2.1.4: the fixed header |
//! | `fields` | §1.5: integers, strings, binary data |
//! | `properties` | §2.2.2: the properties, their packets and their values |
//! | `reason` | §2.4: reason codes, and the return codes of 3.1.1 |
//! | `connect`, `publish`, `acks`, `subscribe`, `ends` | §3: the packets |
//!
//! [`names`] is this server's own: the user properties that it reads and adds.

mod acks;
mod connect;
mod ends;
mod fields;
mod frame;
pub mod names;
mod packet;
mod properties;
mod publish;
mod reason;
mod subscribe;

pub use acks::{Ack, AckKind};
pub use connect::{Connack, Connect, Will};
pub use ends::{Auth, Disconnect};
pub use frame::{Frame, MAX_REMAINING, frame};
pub use packet::Packet;
pub use properties::{Id, Properties, Value};
pub use publish::{Publish, PublishHead, publish_properties};
pub use reason::Reason;
pub use subscribe::{Options, SHARED, Suback, Subscribe, Unsuback, Unsubscribe};

/// The version that a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// 3.1 (level 3), which has no session present flag, and flags and bits that are passed over.
    V31,
    /// 3.1.1 (level 4).
    V3,
    /// 5.0 (level 5).
    V5,
}

/// The side that sent a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// The reason why bytes are no packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct PacketError {
    /// The standard's code.
    pub reason: Reason,
    /// The fault.
    pub what: &'static str,
}

impl PacketError {
    pub(crate) fn malformed(what: &'static str) -> Self {
        Self { reason: Reason::MalformedPacket, what }
    }

    pub(crate) fn protocol(what: &'static str) -> Self {
        Self { reason: Reason::ProtocolError, what }
    }
}
