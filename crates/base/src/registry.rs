//! The connections of the nodes, for operators: questions and answers.
//!
//! If several nodes share a log, a question is a record (`$ask`) that every node reads, and so is each answer
//! (`$answer`). Both only pass.

use std::borrow::Cow;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::cursor::{Cursor, Offset, Partition};
use crate::topic::Topic;

/// The connections that are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConnectionsQuery {
    /// Only connections of these users; empty is everybody.
    pub users: Vec<Box<str>>,
    /// Only the connection of this name.
    pub name: Option<Box<str>>,
    /// Only connections that are subscribed to this topic.
    pub topic: Option<Topic>,
    /// Only connections that speak this wire.
    pub wire: Option<Box<str>>,
    /// Only connections after the one of this name.
    pub after: Option<Box<str>>,
    /// The most connections.
    pub limit: usize,
}

/// A connection.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ConnectionInfo {
    /// Its name.
    pub name: Box<str>,
    /// The user at the other end; `None` is anonymous.
    pub user: Option<Box<str>>,
    /// The user's device.
    pub device: Option<Box<str>>,
    /// The name of the wire that it speaks.
    pub wire: Cow<'static, str>,
    /// The remote address.
    pub address: SocketAddr,
    /// The software at the other end, if it is known.
    pub agent: Option<Box<str>>,
    /// The time at which it was accepted.
    pub since: UnixMillis,
    /// Its session.
    pub session: Option<Box<str>>,
    /// The position up to which it has everything.
    pub cursor: Cursor,
    /// The number of records that it is behind.
    pub lag: u64,
    /// The number of deliveries of its session that were sent and not acknowledged.
    pub outstanding: u64,
    /// The time of its last acknowledgement.
    pub acknowledged: Option<UnixMillis>,
    /// The number of filters that it holds.
    pub subscriptions: u64,
    /// Bytes that came from it.
    pub bytes_in: u64,
    /// Bytes that went to it.
    pub bytes_out: u64,
}

/// A question about a message: its recipients, and its fate at each of them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TraceQuestion {
    /// Its topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// The most recipients.
    pub limit: usize,
}

/// A recipient of a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recipient {
    /// The connection.
    pub connection: Box<str>,
    /// The user at the other end.
    pub user: Option<Box<str>>,
    /// The user's device.
    pub device: Option<Box<str>>,
    /// The name of the wire that it speaks.
    pub wire: Cow<'static, str>,
    /// The fate of the message there.
    pub fate: Fate,
    /// The time at which it was written, if that is recent enough to be remembered.
    pub written: Option<UnixMillis>,
    /// The time at which it was acknowledged, if its session did that lately.
    pub acknowledged: Option<UnixMillis>,
}

/// The fate of a message for one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It was put into the socket's queue.
    Written,
    /// It was acknowledged.
    Acknowledged,
    /// The connection is behind: the message will come.
    Lagging,
    /// The subscription began after it.
    Later,
}

impl Fate {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Fate::Written => "written",
            Fate::Acknowledged => "acknowledged",
            Fate::Lagging => "lagging",
            Fate::Later => "subscribed_later",
        }
    }
}

/// The answer of the nodes that share a log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Everywhere<T> {
    /// The findings of the nodes that answered.
    pub found: T,
    /// The living nodes that have not answered in time.
    pub missing: Vec<Box<str>>,
}

/// A question to all nodes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodesAsked {
    /// Its number, which no other question has.
    pub id: u64,
    /// The lives of nodes that are meant, as the names of their connections begin.
    pub lives: Vec<Box<str>>,
    /// The question.
    pub question: NodesQuestion,
}

/// A question to a node about its connections.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodesQuestion {
    /// The connections that a query matches.
    Connections(ConnectionsQuery),
    /// The fate of a message.
    Trace(TraceQuestion),
}

/// The answer of one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeAnswered {
    /// The number of the question.
    pub id: u64,
    /// The life of the node, as the names of its connections begin.
    pub life: Box<str>,
    /// The findings of the node.
    pub found: NodeFound,
}

/// The findings of a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeFound {
    /// Its connections.
    Connections(Vec<ConnectionInfo>),
    /// Its recipients of the message.
    Recipients(Vec<Recipient>),
}
