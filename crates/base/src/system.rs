//! The server's own records: messages on topics that begin with `$`, which nobody else can publish or subscribe to.
//!
//! They travel and are kept like all messages, so that nodes need share nothing but the log:
//!
//! | topic | what | kept |
//! | --- | --- | --- |
//! | `$users/USER` | how a user's password is checked | retained, synced |
//! | `$sessions/USER/ID` | a session: its filters, how far it has acknowledged, who owns it | retained, by generation |
//! | the same | a connection wants to own the session | passes |
//! | `$wills/USER/ID` | what is published if the owner of a session ends without a goodbye | retained, by generation |
//! | `$share/GROUP/FILTER` | somebody joins or leaves a group, or gives messages back to it | passes |
//! | the same | what waits while nobody is a member | retained, synced |
//! | `$seen/USER/DEVICE` | when and where a device was last connected | retained |
//! | `$joined/USER` | a user's connection came | passes |
//! | `$producers/USER/PRODUCER` | how far a producer has come with its ordered keys | retained |
//! | `$kick` | connections shall end | passes |
//!
//! The bodies are JSON.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::ask::{Draft, Will};
use crate::identity::{Identity, encode};
use crate::record::{Durability, Message};
use crate::terms::Terms;
use crate::topic::{Filter, Topic};

/// The topic of kicks.
pub const KICK: &str = "$kick";
/// What the topics of sessions begin with.
pub const SESSIONS: &str = "$sessions/";
/// What the topics of wills begin with.
pub const WILLS: &str = "$wills/";
/// What the topics of groups begin with.
pub const GROUPS: &str = "$share/";
/// What the topics of users' secrets begin with.
pub const USERS: &str = "$users/";
/// What the topics of last sightings begin with.
pub const SEEN: &str = "$seen/";
/// What the topics of arrivals begin with.
pub const JOINED: &str = "$joined/";

/// What the topics of producers begin with.
pub const PRODUCERS: &str = "$producers/";

/// The topic of a producer of ordered keys; the anonymous ones have an empty user. `None` if the names are too long.
pub fn producer_topic(user: Option<&str>, producer: &str) -> Option<Topic> {
    Topic::parse(&format!("{PRODUCERS}{}/{}", user.map(encode).unwrap_or_default(), encode(producer))).ok()
}

/// The topic of a user's secrets.
pub fn user_topic(user: &str) -> Option<Topic> {
    Topic::parse(&format!("{USERS}{}", encode(user))).ok()
}

/// The topic of a session; the anonymous ones have an empty user.
pub fn session_topic(user: Option<&str>, id: &str) -> Option<Topic> {
    Topic::parse(&format!("{SESSIONS}{}/{}", user.map(encode).unwrap_or_default(), encode(id))).ok()
}

/// The topic of the will that belongs to a session.
pub fn will_topic(session: &Topic) -> Option<Topic> {
    Topic::parse(&format!("{WILLS}{}", session.as_str().strip_prefix(SESSIONS)?)).ok()
}

/// The topic of the session that a will belongs to.
pub fn session_of_will(will: &Topic) -> Option<Topic> {
    Topic::parse(&format!("{SESSIONS}{}", will.as_str().strip_prefix(WILLS)?)).ok()
}

/// The topic of the mark that a session has published something under a number, and hasn't released it.
pub fn once_topic(session: &Topic, tag: u16) -> Option<Topic> {
    Topic::parse(&format!("{}/{tag}", session.as_str())).ok()
}

/// The topic of a group that shares a filter.
pub fn group_topic(group: &str, filter: &str) -> Option<Topic> {
    let text = format!("{GROUPS}{group}/{filter}");
    // Levels that are wildcards in the filter are names here.
    Topic::parse(&text.replace('%', "%25").replace('+', "%2B").replace('#', "%23")).ok()
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
    /// Whether it wants nothing of what was there before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
}

/// A session between two records of it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SessionState {
    /// The connection that owns it; none while nobody is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Box<str>>,
    /// How long it lives after its connection, in seconds.
    pub expiry_s: u64,
    /// Everything up to here is acknowledged, or stands in `sent`.
    pub acknowledged: Box<str>,
    /// What it is subscribed to.
    pub filters: Vec<SessionFilter>,
    /// Sent and not acknowledged, in sending order, where each is acknowledged by its tag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<SentState>,
    /// Numbers of what it has published exactly once, and not released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub received: Vec<u16>,
    /// Numbers of what was on its way to the log, each with an offset: it is there if its mark lies above that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publishing: Vec<(u16, u64)>,
}

/// A delivery of a session that isn't acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SentState {
    /// The partition.
    #[serde(rename = "p", default, skip_serializing_if = "is_zero")]
    pub partition: u16,
    /// The record.
    #[serde(rename = "o")]
    pub offset: u64,
    /// What an acknowledgement names it by.
    #[serde(rename = "t")]
    pub tag: u16,
    /// How far it is: the hub's own numbers.
    #[serde(rename = "s", default)]
    pub stage: u8,
    /// Whether it was sent as a retained message.
    #[serde(rename = "r", default, skip_serializing_if = "std::ops::Not::not")]
    pub retained: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u16) -> bool {
    *number == 0
}

/// How far a producer has come with its ordered keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducerState {
    /// The highest number that was accepted.
    pub last: u64,
    /// Where its message lies.
    pub offset: u64,
    /// When that was appended, in milliseconds since 1970.
    pub time_ms: u64,
    /// What was promised of it.
    pub durability: Durability,
}

/// Somebody joins or leaves a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupChange {
    /// From above this record on, messages are for it too.
    Join {
        /// The connection.
        member: Box<str>,
        /// What it knows that a former life of the node has left.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        past: Option<GroupState>,
    },
    /// From above this record on, messages are not for it any more.
    Leave {
        /// The connection.
        member: Box<str>,
        /// What of its is left for others.
        ranges: Vec<GroupRange>,
        /// For so long it may come back, in milliseconds; 0 if it doesn't.
        lives_ms: u64,
    },
}

/// What waits for whoever comes first, while nobody is a member of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupState {
    /// What its members have left, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<GroupRange>,
    /// … and all above this.
    pub from: u64,
    /// Until then somebody may come back, in milliseconds since 1970.
    pub until_ms: u64,
}

/// Messages that a member leaves to others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupRange {
    /// Those above this offset …
    #[serde(rename = "a")]
    pub after: u64,
    /// … and up to this one, or to the record that says so …
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
    /// … that were this member's, or all.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Box<str>>,
}

/// The will of a session's owner.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WillState {
    /// The connection.
    pub owner: Box<str>,
    /// How long it waits for the client to come back, in milliseconds.
    pub delay_ms: u64,
    /// How long it may be delivered, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The message, as it is stored, in Base64.
    pub message: Box<str>,
    /// What publishing it promises.
    pub durability: Durability,
    /// Who leaves it; none is an anonymous client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Publisher>,
}

/// What of an identity says where it may publish.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Publisher {
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// Where its token lets it publish, if that says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Vec<Box<str>>>,
    /// Whether it may use all topics.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
}

impl Publisher {
    fn of(who: &Identity) -> Self {
        let publish = who.publish.as_ref().map(|filters| filters.iter().map(|f| f.as_str().into()).collect());
        Self { user: who.user.clone(), publish, admin: who.admin }
    }

    /// The identity, as far as it says where it may publish. What can't be read allows nothing.
    fn identity(&self) -> Identity {
        let filters = |texts: &Vec<Box<str>>| texts.iter().filter_map(|text| Filter::parse(text).ok()).collect();
        let publish = self.publish.as_ref().map(filters);
        Identity { user: self.user.clone(), publish, admin: self.admin, ..Identity::default() }
    }
}

/// A filter of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionFilter {
    /// What it takes.
    pub filter: Box<str>,
    /// Records up to here are not for it.
    pub since: Box<str>,
    /// How it wants them: packed.
    #[serde(default = "usual_terms")]
    pub terms: u32,
    /// The group with which it is shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Box<str>>,
}

fn usual_terms() -> u32 {
    Terms::default().pack()
}

impl WillState {
    /// What is written of a will.
    pub fn of(will: &Will, owner: Box<str>, who: Option<&Identity>) -> Self {
        let millis = |time: Duration| time.as_millis() as u64;
        Self {
            owner,
            delay_ms: millis(will.delay),
            ttl_ms: will.ttl.map(millis),
            message: STANDARD.encode(will.draft.message.encode()).into(),
            durability: will.draft.durability,
            who: who.map(Publisher::of),
        }
    }

    /// Who leaves it, as far as that says where it may publish.
    pub fn identity(&self) -> Option<Identity> {
        self.who.as_ref().map(Publisher::identity)
    }

    /// The will that was written.
    pub fn will(&self) -> Option<Will> {
        let bytes = STANDARD.decode(&*self.message).ok()?;
        let draft = Draft { message: Message::decode(bytes.into()).ok()?, durability: self.durability };
        let (ttl, delay) = (self.ttl_ms.map(Duration::from_millis), Duration::from_millis(self.delay_ms));
        Some(Will { draft, ttl, delay })
    }
}

/// How long after its last record a session of this expiry is kept, so that one whose node died lives long enough.
pub fn lease(expiry_s: u64) -> Duration {
    Duration::from_secs(expiry_s.saturating_mul(2).max(120))
}

/// The server's message on a topic: `body` as JSON, retained or not.
pub fn message<T: Serialize>(topic: Topic, body: &T, retain: bool) -> Message {
    // Plain structs of texts and numbers are always JSON.
    let body = serde_json::to_vec(body).unwrap_or_default().into_boxed_slice();
    Message { retain, ..Message::new(topic, body) }
}

/// Reads a body.
pub fn read<'a, T: Deserialize<'a>>(message: &'a Message) -> Option<T> {
    serde_json::from_slice(&message.body).ok()
}
