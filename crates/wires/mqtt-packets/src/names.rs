//! The user properties that mean something to this server (`docs/mqtt.md`, "Across wires"). All other names are the
//! application's: they are neither read nor added to.

/// On PUBLISH and wills: the idempotency key.
pub const KEY: &str = "everywire-key";
/// On PUBACK and PUBREC that refuse an ordered key: the number that its producer is expected to publish next.
pub const EXPECTED: &str = "everywire-expected";
/// On PUBLISH and wills: the name of the event; on a delivery too, for a client that asked.
pub const EVENT: &str = "everywire-event";
/// On a delivery, for a client that asked: the publisher of the message.
pub const FROM: &str = "everywire-from";
/// On a delivery, for a client that asked: the nick of the publisher in a room that hides its users.
pub const NICK: &str = "everywire-nick";
/// On a delivery, for a client that asked: the addressee, if the message is the copy in its sender's own inbox.
pub const TO: &str = "everywire-to";
/// On PUBLISH and wills: the id of the message that it answers; on a delivery too, for a client that asked, of one that it
/// changes as well.
pub const REF: &str = "everywire-ref";
/// On a delivery, for a client that asked: the message's id.
pub const MESSAGE_ID: &str = "everywire-id";
/// On a delivery and on SUBACK, for a client that asked: the cursor up to which it has everything.
pub const CURSOR: &str = "everywire-cursor";
/// On SUBSCRIBE: the start of the subscription, a cursor, `earliest` or `latest`.
pub const AFTER: &str = "everywire-after";
/// On CONNECT, with the value `1`: the client asks for the properties that deliveries can carry.
pub const ASKS: &str = "everywire-properties";

/// The names that only the server uses towards a client that asked: a publisher's own properties under them don't reach
/// that client.
pub const ADDED: [&str; 7] = [MESSAGE_ID, CURSOR, FROM, NICK, TO, EVENT, REF];
