//! What a node knows of its connections, for operators: questions and answers.

use std::net::SocketAddr;

use crate::clock::UnixMillis;
use crate::cursor::{Cursor, Offset, Partition};
use crate::topic::Topic;

/// Which connections are wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConnectionsQuery {
    /// Only this user's.
    pub user: Option<Box<str>>,
    /// Only this one.
    pub name: Option<Box<str>>,
    /// Only those that are subscribed to this topic.
    pub topic: Option<Topic>,
    /// Only those that speak this wire.
    pub wire: Option<Box<str>>,
    /// Those after the one of this name.
    pub after: Option<Box<str>>,
    /// At most so many.
    pub limit: usize,
}

/// A connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionInfo {
    /// Its name.
    pub name: Box<str>,
    /// Who is at the other end; `None` is anonymous.
    pub user: Option<Box<str>>,
    /// On which device.
    pub device: Option<Box<str>>,
    /// What it speaks.
    pub wire: &'static str,
    /// The remote address.
    pub address: SocketAddr,
    /// What software is at the other end, if that is known.
    pub agent: Option<Box<str>>,
    /// Since when it is there.
    pub since: UnixMillis,
    /// Its session.
    pub session: Option<Box<str>>,
    /// Up to where it has everything.
    pub cursor: Cursor,
    /// How many records it is behind.
    pub lag: u64,
    /// Sent and not acknowledged, in its session.
    pub outstanding: u64,
    /// When it last acknowledged something.
    pub acknowledged: Option<UnixMillis>,
    /// How many filters it holds.
    pub subscriptions: u64,
    /// Bytes that came from it.
    pub bytes_in: u64,
    /// Bytes that went to it.
    pub bytes_out: u64,
}

/// What became of a message: who was to have it?
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceQuestion {
    /// Its topic.
    pub topic: Topic,
    /// Its partition.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// At most so many recipients.
    pub limit: usize,
}

/// One who was to have a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    /// The connection.
    pub connection: Box<str>,
    /// Who is at the other end.
    pub user: Option<Box<str>>,
    /// On which device.
    pub device: Option<Box<str>>,
    /// What it speaks.
    pub wire: &'static str,
    /// What became of it there.
    pub fate: Fate,
    /// When it was written, if that is recent enough to be remembered.
    pub written: Option<UnixMillis>,
    /// When it was acknowledged, if its session did that lately.
    pub acknowledged: Option<UnixMillis>,
}

/// What became of a message for one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was put into the socket's queue.
    Written,
    /// It was acknowledged.
    Acknowledged,
    /// The connection is behind: it comes.
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
