//! The server's own records ([`System`]): on topics that begin with `$`, to which nobody else can publish or subscribe.
//!
//! They travel and are kept like messages, so that nodes need share nothing but the log:
//!
//! | topic | content | kept |
//! | --- | --- | --- |
//! | `$users/USER` | the secrets by which a user's password is checked | retained, synced |
//! | `$sessions/USER/ID` | a session: its filters, its acknowledged position, its owner | retained, by generation |
//! | the same | a connection's claim to own the session | not stored |
//! | `$wills/USER/ID` | the will of a session's owner, if that ends without a goodbye | retained, by generation |
//! | `$share/GROUP/FILTER` | a connection joins or leaves a group, or gives messages back to it | not stored |
//! | the same | the messages that wait while nobody is a member | retained, synced |
//! | `$seen/USER/DEVICE` | the time and place of a device's last connection | retained |
//! | `$joined/USER` | the arrival of a user's connection | not stored |
//! | `$producers/USER/PRODUCER` | the progress of a producer with its ordered keys | retained |
//! | `$sources/ID` | the progress of taking over another system's log | retained |
//! | `$bridges/NAME` | the progress of a bridge that carries messages out | retained, synced |
//! | `$bridges/NAME/owner` | the node that carries a bridge out, if several share a log | retained |
//! | `$bridges/NAME/begin` | the offsets at which a bridge in began, if it takes only new messages | retained, synced |
//! | `$bridges/NAME/readers/NODE` | a node that reads for a bridge in, if several share a log | retained |
//! | `$kick` | a kick: connections shall end | not stored |
//! | `$room/ROOM` | a room's head (`everywire-rooms`) | retained, synced, guarded |
//! | `$of/USER/room/ROOM` | a user's membership there | the same |
//! | `$of/USER/blocked/USER` | a user's block of another one | the same |
//! | `$of/USER/conversation/…` | a user's settings of `room/ROOM` or of the exchange with `user/USER` | the same |
//! | `$of/USER/read/…` | a user's read mark there | retained, by generation |
//! | `$here/USER/CONNECTION` | the presence of a user's connection | passes; for as long as its node lives |
//! | `$in/ROOM/CONNECTION` | a connection enters a room, or leaves it | the same |
//! | `$signal/…` | a signal in `room/ROOM` or to `user/USER`: typing, or messages that have come to a device | passes |
//! | `$fold/ID` | the present state of a changed message: its last text, reactions | retained, synced, guarded |
//! | `$nodes/NAME` | a node comes, lives, goes, or is declared dead | not stored |
//! | `$log` | the log goes on in another epoch | not stored |
//! | `$ask` | a node asks the others about their connections | passes |
//! | `$answer` | one of them answers | passes |
//!
//! The bodies are JSON.

mod nodes;
mod rooms;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::ask::Will;
use crate::identity::{Identity, decode, encode};
use crate::kept::Payer;
use crate::record::{Durability, Message, System};
use crate::terms::Terms;
use crate::topic::{Filter, Topic};

pub use self::nodes::{EpochChange, GroupDebt, HistoryLost, NodeChange};
pub use self::rooms::{
    FOLDS, HERE, IN, OF, Occupancy, Passing, ROOMS, ReadMark, SIGNALS, Sight, Stay, block_topic, fold_topic,
    here_topic, is_guarded, membership_of, membership_topic, occupancy_topic, read_topic, room_topic, settings_topic,
    signal_topic, two_levels,
};

/// The topic of kicks.
pub const KICK: &str = "$kick";
/// The prefix of the topics of sessions.
pub const SESSIONS: &str = "$sessions/";
/// The prefix of the topics of wills.
pub const WILLS: &str = "$wills/";
/// The prefix of the topics of groups.
pub const GROUPS: &str = "$share/";
/// The prefix of the topics of users' secrets.
pub const USERS: &str = "$users/";
/// The prefix of the topics of last sightings.
pub const SEEN: &str = "$seen/";
/// The prefix of the topics of arrivals.
pub const JOINED: &str = "$joined/";

/// The prefix of the topics of nodes.
pub const NODES: &str = "$nodes/";
/// The topic of the log's own changes.
pub const LOG: &str = "$log";
/// The topic of questions to all nodes.
pub const ASK: &str = "$ask";
/// The topic of their answers.
pub const ANSWER: &str = "$answer";

/// The prefix of the topics of producers.
pub const PRODUCERS: &str = "$producers/";

/// The prefix of the topics of sources.
pub const SOURCES: &str = "$sources/";

/// The prefix of the topics of bridges.
pub const BRIDGES: &str = "$bridges/";

/// The topic of a bridge that carries messages out. `None` if its name is too long.
pub fn bridge_topic(name: &str) -> Option<Topic> {
    Topic::parse(&format!("{BRIDGES}{}", encode(name))).ok()
}

/// The topic of the owner of a bridge out.
pub fn bridge_owner_topic(name: &str) -> Option<Topic> {
    Topic::parse(&format!("{BRIDGES}{}/owner", encode(name))).ok()
}

/// The topic of the offsets at which a bridge in began.
pub fn bridge_begin_topic(name: &str) -> Option<Topic> {
    Topic::parse(&format!("{BRIDGES}{}/begin", encode(name))).ok()
}

/// The topic of a node that reads for a bridge in.
pub fn bridge_reader_topic(name: &str, node: &str) -> Option<Topic> {
    Topic::parse(&format!("{BRIDGES}{}/readers/{}", encode(name), encode(node))).ok()
}

/// The filter of the topics of all nodes that read for a bridge in.
pub fn bridge_readers(name: &str) -> Option<Filter> {
    Filter::parse(&format!("{BRIDGES}{}/readers/+", encode(name))).ok()
}

/// The topic of a source.
pub fn source_topic(id: u64) -> Topic {
    Topic::parse(&format!("{SOURCES}{id:016x}")).expect("a short name without wildcards")
}

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

/// The name of a session, as its client knows it.
pub fn session_id(session: &Topic) -> String {
    decode(session.as_str().rsplit('/').next().unwrap_or_default())
}

/// The topic of the will that belongs to a session.
pub fn will_topic(session: &Topic) -> Option<Topic> {
    Topic::parse(&format!("{WILLS}{}", session.as_str().strip_prefix(SESSIONS)?)).ok()
}

/// The topic of the session that a will belongs to.
pub fn session_of_will(will: &Topic) -> Option<Topic> {
    Topic::parse(&format!("{SESSIONS}{}", will.as_str().strip_prefix(WILLS)?)).ok()
}

/// The topic of the mark that a session has published a message under a number, and hasn't released it.
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

/// The topic of a node; `None` if its name is too long.
pub fn node_topic(name: &str) -> Option<Topic> {
    Topic::parse(&format!("{NODES}{}", encode(name))).ok()
}

/// The node that a topic is of, as [`node_topic`] has encoded its name.
pub fn node_of(topic: &Topic) -> Option<&str> {
    topic.as_str().strip_prefix(NODES)
}

/// The payer for the bytes of a record of the server's own: the user whose session, will or device it is about.
pub(crate) fn payer_of(topic: &Topic) -> Payer {
    let name = topic.as_str();
    let rest = [SESSIONS, WILLS, SEEN].iter().find_map(|beginning| name.strip_prefix(beginning));
    let user = rest.and_then(|rest| rest.split('/').next()).filter(|user| !user.is_empty());
    user.map_or(Payer::NOBODY, Payer::encoded)
}

/// Ends connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kick {
    /// The connections that end.
    pub whom: Whom,
    /// The reason, for the client.
    pub reason: Box<str>,
}

/// The connections that a kick ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    /// The connection of this name.
    Connection(Box<str>),
    /// All connections of a user's device.
    Device {
        /// The user.
        user: Box<str>,
        /// The device.
        device: Box<str>,
    },
    /// All connections of a user.
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

/// The time and place at which a device was last connected.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// The user.
    pub user: Box<str>,
    /// The device; a user without devices has one that has no name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Box<str>>,
    /// The time at which the connection ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// The wire that it spoke.
    pub wire: Box<str>,
    /// The remote address.
    pub address: Box<str>,
    /// The node.
    pub node: Box<str>,
}

/// A connection's wish to own a session: a record on the session's topic that isn't retained. Its place in the log is
/// the generation of all that the owner writes from then on (RULES 15).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claim {
    /// The connection.
    pub owner: Box<str>,
    /// Whether the earlier state of the session is thrown away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
}

/// The state of a session, as its retained record has it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SessionState {
    /// The connection that owns it; none while nobody is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Box<str>>,
    /// The time for which it lives after its connection, in seconds.
    pub expiry_s: u64,
    /// The cursor up to which everything is acknowledged, or stands in `sent`.
    pub acknowledged: Box<str>,
    /// The filters that it is subscribed to.
    pub filters: Vec<SessionFilter>,
    /// The deliveries that were sent and not acknowledged, in sending order, if each is acknowledged by its tag.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<SentState>,
    /// The numbers of messages that it has published exactly once, and not released.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub received: Vec<u16>,
    /// The numbers of messages that were on their way to the log, each with an offset: the message is there if its mark
    /// lies above that.
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
    /// The tag by which an acknowledgement names it.
    #[serde(rename = "t")]
    pub tag: u16,
    /// The stage of the delivery: the hub's own numbers.
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

/// The progress of a producer with its ordered keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProducerState {
    /// The highest number that was accepted.
    pub last: u64,
    /// The offset of its message.
    pub offset: u64,
    /// The time at which that was appended, in milliseconds since 1970.
    pub time_ms: u64,
    /// The promise that was given for it.
    pub durability: Durability,
}

/// The progress of a source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SourceState {
    /// The highest position that was accepted.
    pub position: u64,
}

/// The node that carries a bridge out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BridgeOwner {
    /// The node's name; empty if the bridge is free.
    pub owner: Box<str>,
}

/// The offsets at which a bridge in began.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BridgeBegin {
    /// The id of the topic in Kafka: one that was made anew has another id.
    pub topic: [u8; 16],
    /// The partitions that there were, each with its offset.
    pub partitions: Vec<(i32, i64)>,
}

/// A node that reads for a bridge in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BridgeReader {
    /// The node's name.
    pub node: Box<str>,
    /// The number of its life: the records of another life of the node count no more.
    pub boot: u32,
}

/// The progress of a bridge that carries messages out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BridgeState {
    /// The cursor up to which everything is delivered to Kafka, or isn't for this bridge.
    pub carried: Box<str>,
}

/// A connection joins or leaves a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupChange {
    /// The connection joins: messages above this record are for it too.
    Join {
        /// The connection.
        member: Box<str>,
        /// The group's state that a former life of the node has left, as the connection knows it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        past: Option<GroupState>,
        /// Whether it is a member already, and says so for a node that came.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        again: bool,
    },
    /// The connection leaves: messages above this record are no longer for it.
    Leave {
        /// The connection.
        member: Box<str>,
        /// Its messages that are left to other members.
        ranges: Vec<GroupRange>,
        /// The time within which it may come back, in milliseconds; 0 if it doesn't.
        lives_ms: u64,
    },
}

/// The messages that wait for the next member, while nobody is a member of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupState {
    /// The messages that its members have left, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<GroupRange>,
    /// … and all above this.
    pub from: u64,
    /// The time until which a member may come back, in milliseconds since 1970.
    pub until_ms: u64,
}

impl GroupState {
    /// Members are there, so that no message waits; others may come back until this time.
    #[must_use]
    pub fn nothing_waits(until_ms: u64) -> Self {
        Self { ranges: Vec::new(), from: u64::MAX, until_ms }
    }
}

/// Messages that a member leaves to others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GroupRange {
    /// The messages above this offset …
    #[serde(rename = "a")]
    pub after: u64,
    /// … up to this one, or up to the record that leaves them …
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
    /// The time for which it waits for the client to come back, in milliseconds.
    pub delay_ms: u64,
    /// The time for which it may be delivered, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The message, as it is stored, in Base64.
    pub message: Box<str>,
    /// The promise of its publication.
    pub durability: Durability,
    /// The client that leaves it; `None` is an anonymous one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Publisher>,
}

/// The part of an identity that decides where it may publish.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Publisher {
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// The filters that its token lets it publish to, if the token has any.
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

    /// The identity, as far as it decides where it may publish. A filter that can't be read allows nothing.
    fn identity(&self) -> Identity {
        let filters = |texts: &Vec<Box<str>>| texts.iter().filter_map(|text| Filter::parse(text).ok()).collect();
        let publish = self.publish.as_ref().map(filters);
        Identity { user: self.user.clone(), publish, admin: self.admin, ..Identity::default() }
    }
}

/// A filter of a session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionFilter {
    /// The text of the filter.
    pub filter: Box<str>,
    /// The cursor up to which records are not for it.
    pub since: Box<str>,
    /// The terms of delivery, packed.
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
    /// The state of a will, as it is written.
    pub fn of(will: &Will, owner: Box<str>, who: Option<&Identity>) -> Self {
        let millis = |time: Duration| time.as_millis() as u64;
        Self {
            owner,
            delay_ms: millis(will.delay),
            ttl_ms: will.ttl.map(millis),
            message: STANDARD.encode(will.message.encode()).into(),
            durability: will.durability,
            who: who.map(Publisher::of),
        }
    }

    /// The identity of the client that leaves it, as far as it decides where it may publish.
    pub fn identity(&self) -> Option<Identity> {
        self.who.as_ref().map(Publisher::identity)
    }

    /// The will that was written.
    pub fn will(&self) -> Option<Will> {
        let bytes = STANDARD.decode(&*self.message).ok()?;
        let message = Message::decode(bytes.into()).ok()?;
        let (ttl, delay) = (self.ttl_ms.map(Duration::from_millis), Duration::from_millis(self.delay_ms));
        Some(Will { message, durability: self.durability, ttl, delay })
    }
}

/// The time for which a session of this expiry is kept after its last record, long enough for one whose node died.
pub fn lease(expiry_s: u64) -> Duration {
    Duration::from_secs(expiry_s.saturating_mul(2).max(120))
}

/// The server's record on a topic: `body` as JSON, retained or not.
pub fn record<T: Serialize>(topic: Topic, body: &T, retain: bool) -> System {
    // Plain structs of texts and numbers are always JSON.
    System::new(topic, serde_json::to_vec(body).unwrap_or_default().into_boxed_slice(), retain)
}

/// Reads a body.
pub fn read<'a, T: Deserialize<'a>>(system: &'a System) -> Option<T> {
    serde_json::from_slice(&system.body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_the_name_that_its_topic_was_made_of() {
        for id in ["phone", "a/b", "100%", "%2F", "é+#\u{7}", "$x", " "] {
            let topic = session_topic(Some("an/n"), id).unwrap();
            assert_eq!(session_id(&topic), id, "{topic}");
        }
    }
}
