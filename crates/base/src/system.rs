//! The server's own records: messages on topics that begin with `$`, which nobody else can publish or subscribe to.
//!
//! They travel and are kept like all messages, so that nodes need share nothing but the log:
//!
//! | topic | what | kept |
//! | --- | --- | --- |
//! | `$users/USER` | how a user's password is checked | retained, synced |
//! | `$sessions/USER/ID` | a session: its filters, how far it has acknowledged, who owns it | retained, by generation |
//! | the same | a connection wants to own the session | passes |
//! | `$seen/USER/DEVICE` | when and where a device was last connected | retained |
//! | `$joined/USER` | a user's connection came | passes |
//! | `$kick` | connections shall end | passes |
//!
//! The bodies are JSON.

use serde::{Deserialize, Serialize};

use crate::identity::encode;
use crate::record::Message;
use crate::topic::Topic;

/// The topic of kicks.
pub const KICK: &str = "$kick";
/// What the topics of sessions begin with.
pub const SESSIONS: &str = "$sessions/";
/// What the topics of users' secrets begin with.
pub const USERS: &str = "$users/";
/// What the topics of last sightings begin with.
pub const SEEN: &str = "$seen/";
/// What the topics of arrivals begin with.
pub const JOINED: &str = "$joined/";

/// The topic of a user's secrets.
pub fn user_topic(user: &str) -> Option<Topic> {
    Topic::parse(&format!("{USERS}{}", encode(user))).ok()
}

/// The topic of a session; the anonymous ones have an empty user.
pub fn session_topic(user: Option<&str>, id: &str) -> Option<Topic> {
    Topic::parse(&format!("{SESSIONS}{}/{}", user.map(encode).unwrap_or_default(), encode(id))).ok()
}

/// The topic of a device's last sighting.
pub fn seen_topic(user: &str, device: Option<&str>) -> Option<Topic> {
    Topic::parse(&format!("{SEEN}{}/{}", encode(user), device.map(encode).unwrap_or_default())).ok()
}

/// The topic of a user's arrivals.
pub fn joined_topic(user: &str) -> Option<Topic> {
    Topic::parse(&format!("{JOINED}{}", encode(user))).ok()
}

/// Ends connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kick {
    /// Whose.
    pub whom: Whom,
    /// Why, for the client.
    pub reason: Box<str>,
}

/// Whose connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// The one of this name.
    Connection(Box<str>),
    /// All of a user's device.
    Device {
        /// The user.
        user: Box<str>,
        /// The device.
        device: Box<str>,
    },
    /// All of a user.
    User(Box<str>),
}

/// A user's connection came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// The connection's name.
    pub connection: Box<str>,
    /// The user.
    pub user: Box<str>,
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Box<str>>,
}

/// When and where a device was last connected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The user.
    pub user: Box<str>,
    /// The device; a user without devices has one that has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Box<str>>,
    /// When the connection ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// The wire that it spoke.
    pub wire: Box<str>,
    /// The remote address.
    pub address: Box<str>,
    /// The node.
    pub node: Box<str>,
}

/// A connection wants to own a session: what stands on the session's topic and isn't retained. Its place in the log is
/// the generation of all that the owner writes from then on (RULES 15).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The connection.
    pub owner: Box<str>,
}

/// A session between two records of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionState {
    /// The connection that owns it; none while nobody is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Box<str>>,
    /// How long it lives after its connection, in seconds.
    pub expiry_s: u64,
    /// Everything up to here is acknowledged.
    pub acknowledged: Box<str>,
    /// What it is subscribed to.
    pub filters: Vec<SessionFilter>,
}

/// A filter of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionFilter {
    /// What it takes.
    pub filter: Box<str>,
    /// Records up to here are not for it.
    pub since: Box<str>,
}

/// How long after its last record a session of this expiry is kept, so that one whose node died lives long enough.
pub fn lease(expiry_s: u64) -> std::time::Duration {
    std::time::Duration::from_secs(expiry_s.saturating_mul(2).max(120))
}

/// The server's message on a topic: `body` as JSON, retained or not.
pub fn message<T: Serialize>(topic: Topic, body: &T, retain: bool) -> Message {
    // Plain structs of texts and numbers are always JSON.
    let body = serde_json::to_vec(body).unwrap_or_default();
    Message { content_type: Some("application/json".into()), retain, ..Message::new(topic, body) }
}

/// Reads a body.
pub fn read<'a, T: Deserialize<'a>>(message: &'a Message) -> Option<T> {
    serde_json::from_slice(&message.body).ok()
}
