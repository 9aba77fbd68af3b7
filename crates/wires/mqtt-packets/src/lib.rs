//! The control packets of MQTT 3.1, 3.1.1 and 5.0, to and from bytes.
//!
//! No state, no socket, no clock: what one packet alone shows to be wrong is refused here, with the reason code that
//! the standard names; what takes a connection to know is the wire's. The server, the client and the simulation read and
//! write with the same code.
//!
//! | module | section of MQTT-5.0 |
//! | --- | --- |
//! | `frame` | §2.1.1, §2.1.4: the fixed header |
//! | `fields` | §1.5: integers, strings, binary data |
//! | `properties` | §2.2.2: which there are, where they may stand, what they may say |
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

/// Which standard a connection speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// 3.1 (level 3), which has no session present flag, and flags and bits that are passed over.
    V31,
    /// 3.1.1 (level 4).
    V3,
    /// 5.0 (level 5).
    V5,
}

/// Who sent a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The client.
    Client,
    /// The server.
    Server,
}

/// Why bytes are no packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub struct PacketError {
    /// What the standard calls it.
    pub reason: Reason,
    /// What is wrong.
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
