//! The records of rooms and users: their topics, and the bodies of those that pass.

use serde::{Deserialize, Serialize};

use crate::id::MessageId;
use crate::identity::{decode, encode};
use crate::signal::SignalKind;
use crate::topic::Topic;

/// The prefix of the topics of rooms.
pub const ROOMS: &str = "$room/";
/// The prefix of the topics of users' memberships, blocks, read marks and settings.
pub const OF: &str = "$of/";
/// The prefix of the topics of folds: the changes of messages.
pub const FOLDS: &str = "$fold/";

/// The prefix of the topics of users' connections that are there.
pub const HERE: &str = "$here/";
/// The prefix of the topics of connections that have entered a room.
pub const IN: &str = "$in/";
/// The prefix of the topics of signals.
pub const SIGNALS: &str = "$signal/";

/// The topic of a message's fold.
pub fn fold_topic(id: MessageId) -> Option<Topic> {
    Topic::parse(&format!("{FOLDS}{id}")).ok()
}

/// The topic of a room's head; `room` is a level.
pub fn room_topic(room: &str) -> Option<Topic> {
    Topic::parse(&format!("{ROOMS}{room}")).ok()
}

/// The topic of a user's membership in a room; `room` is a level.
pub fn membership_topic(user: &str, room: &str) -> Option<Topic> {
    Topic::parse(&format!("{OF}{}/room/{room}", encode(user))).ok()
}

/// The user, and the level of the room, of the topic of a membership.
pub fn membership_of(name: &str) -> Option<(String, &str)> {
    let (user, room) = name.strip_prefix(OF)?.split_once("/room/")?;
    (!user.contains('/') && !room.contains('/')).then(|| (decode(user), room))
}

/// Whether a guard may name this topic: those of rooms, folds, memberships, blocks and settings.
pub fn is_guarded(topic: &Topic) -> bool {
    let name = topic.as_str();
    // No decision depends on a read mark.
    let is_mark = || name.split('/').nth(2) == Some("read");
    name.starts_with(ROOMS) || name.starts_with(FOLDS) || (name.starts_with(OF) && !is_mark())
}

/// The topic of a block: a user takes no messages from another.
pub fn block_topic(user: &str, other: &str) -> Option<Topic> {
    Topic::parse(&format!("{OF}{}/blocked/{}", encode(user), encode(other))).ok()
}

/// The topic of a user's read mark in a conversation, `room/ROOM` or `user/USER`.
pub fn read_topic(user: &str, conversation: &str) -> Option<Topic> {
    Topic::parse(&format!("{OF}{}/read/{conversation}", encode(user))).ok()
}

/// The topic of a user's settings of a conversation.
pub fn settings_topic(user: &str, conversation: &str) -> Option<Topic> {
    Topic::parse(&format!("{OF}{}/conversation/{conversation}", encode(user))).ok()
}

/// The topic of a user's connection that is there.
pub fn here_topic(user: &str, connection: &str) -> Option<Topic> {
    Topic::parse(&format!("{HERE}{}/{}", encode(user), encode(connection))).ok()
}

/// The topic of a connection's stay in a room; `room` is a level.
pub fn occupancy_topic(room: &str, connection: &str) -> Option<Topic> {
    Topic::parse(&format!("{IN}{room}/{}", encode(connection))).ok()
}

/// The topic of signals to a conversation: `room/ROOM`, or `user/USER` with their receiver.
pub fn signal_topic(conversation: &str) -> Option<Topic> {
    Topic::parse(&format!("{SIGNALS}{conversation}")).ok()
}

/// The two levels behind a prefix.
pub fn two_levels<'a>(name: &'a str, beginning: &str) -> Option<(&'a str, &'a str)> {
    let (first, second) = name.strip_prefix(beginning)?.split_once('/')?;
    (!second.contains('/')).then_some((first, second))
}

/// The position up to which a user has read, as it is stored on `$of/U/read/CONV`. It only rises: the generation of its
/// record is the same position, so that an older mark counts for nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ReadMark {
    /// Everything up to here is read.
    pub offset: u64,
    /// The authors of the messages that this mark adds, who are told: the latest of them, if they are many.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<Box<str>>,
}

/// The presence of a user's connection. A record without a body says that it is gone.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sight {
    /// Whether the user doesn't look at it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
    /// The device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Box<str>>,
    /// The name of the wire that it speaks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<Box<str>>,
}

/// Whether a connection is in a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stay {
    /// It enters.
    In,
    /// It is cut off: it may come back.
    Cut,
    /// It leaves.
    Out,
}

/// A connection enters a room, or leaves it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Occupancy {
    /// The user.
    pub user: Box<str>,
    /// The nick that the user wants.
    #[serde(default)]
    pub nick: Box<str>,
    /// Whether the connection is in the room.
    pub stay: Stay,
}

/// The body of a signal's record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Passing {
    /// The kind of the signal.
    pub kind: SignalKind,
    /// The user that it is about.
    pub user: Box<str>,
    /// The offset up to which it holds, or 0 for kinds without one.
    #[serde(default)]
    pub offset: u64,
}
