//! The user properties that mean something to this server (`docs/mqtt.md`, "Across wires"). All other names are the
//! application's: they are neither read nor added to.

/// On PUBLISH and wills: the idempotency key.
pub const KEY: &str = "everywire-key";
/// On PUBACK and PUBREC that refuse an ordered key: the number that its producer is expected to publish next.
pub const EXPECTED: &str = "everywire-expected";
/// On PUBLISH and wills: the name of the event; on a delivery too, for a client that asked.
pub const EVENT: &str = "everywire-event";
/// On a delivery, for a client that asked: who published the message.
pub const FROM: &str = "everywire-from";
/// On a delivery, for a client that asked: the message's id.
pub const MESSAGE_ID: &str = "everywire-id";
/// On a delivery and on SUBACK, for a client that asked: what it has everything up to.
pub const CURSOR: &str = "everywire-cursor";
/// On SUBSCRIBE: where the subscription begins, a cursor, `earliest` or `latest`.
pub const AFTER: &str = "everywire-after";
/// On CONNECT, with the value `1`: the client asks for what deliveries can carry.
pub const ASKS: &str = "everywire-properties";

/// What the server alone says to a client that asked: a publisher's own under these names don't reach that client.
pub const TOLD: [&str; 4] = [MESSAGE_ID, CURSOR, FROM, EVENT];
