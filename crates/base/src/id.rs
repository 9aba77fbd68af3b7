//! Identifiers: of messages, of connections, and of asks.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use crate::clock::UnixMillis;
use crate::cursor::{Epoch, Offset, Partition};

/// A message's id: a ULID whose 80 "random" bits are its place in the log, so that it sorts by time, is unique, and
/// tells where the message lies without an index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u128);

const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

impl MessageId {
    /// The id of the message that was appended then and there.
    pub fn new(time: UnixMillis, partition: Partition, offset: Offset) -> Self {
        let time = u128::from(time.0 & 0xffff_ffff_ffff);
        Self(time << 80 | u128::from(partition.0) << 64 | u128::from(offset.0))
    }

    /// The time at which the message was appended.
    pub fn time(self) -> UnixMillis {
        UnixMillis((self.0 >> 80) as u64)
    }

    /// The partition that it lies in.
    pub fn partition(self) -> Partition {
        Partition((self.0 >> 64) as u16)
    }

    /// Its offset there.
    pub fn offset(self) -> Offset {
        Offset(self.0 as u64)
    }

    /// The 26 characters of the id.
    pub fn text(self) -> [u8; 26] {
        std::array::from_fn(|i| CROCKFORD[(self.0 >> (125 - 5 * i) & 31) as usize])
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text()).unwrap_or_default())
    }
}
impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a message id: it has 26 letters and digits, like 01KAQN5T9M0000000000000509")]
pub struct MessageIdError;

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        if text.len() != 26 || text.as_bytes()[0] > b'7' {
            return Err(MessageIdError);
        }
        let digit = |c: u8| CROCKFORD.iter().position(|d| *d == c.to_ascii_uppercase());
        text.bytes().try_fold(0u128, |value, c| Some(value << 5 | digit(c)? as u128)).map(Self).ok_or(MessageIdError)
    }
}

/// A connection's place in its worker's table. The generation tells a reused place from the former connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Slot {
    /// Index into the worker's table.
    pub index: u32,
    /// The number of times that the place was reused.
    pub generation: u32,
}

/// Numbers the asks of one connection, so that a wire can tell the answers apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct AskId(pub u32);

/// The address of an answer: whoever has asked, and which of its asks it was.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum ReplyTo {
    /// Nobody: the answer is the return of a call, or nobody waits for it.
    #[default]
    Nobody,
    /// A connection of a worker.
    Connection {
        /// The worker.
        worker: u16,
        /// The connection on it.
        slot: Slot,
        /// The ask of that connection.
        ask: AskId,
    },
    /// The session of a connection, which stands on a record of its own.
    Session {
        /// The worker.
        worker: u16,
        /// The connection on it.
        slot: Slot,
    },
    /// A part of a worker's hub that asks by itself.
    Part {
        /// The worker.
        worker: u16,
        /// The part.
        part: Part,
        /// The ask of that part.
        ask: AskId,
    },
    /// The HTTP API, which has no worker.
    Api(AskId),
    /// A bridge.
    Bridge {
        /// The number of the bridge.
        bridge: u16,
        /// The ask of that bridge.
        ask: AskId,
    },
}

/// The parts of a hub that append and read by themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
    /// Wills.
    Wills,
    /// Shared groups.
    Groups,
    /// Looks at the past.
    LookBack,
    /// Presence.
    Presence,
}

/// The threads that take answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mailbox {
    /// A worker, by its number.
    Worker(u16),
    /// The HTTP API.
    Api,
    /// A bridge, by its number.
    Bridge(u16),
}

impl ReplyTo {
    /// The thread that takes the answer.
    pub fn mailbox(self) -> Option<Mailbox> {
        match self {
            ReplyTo::Nobody => None,
            ReplyTo::Connection { worker, .. } | ReplyTo::Session { worker, .. } | ReplyTo::Part { worker, .. } => {
                Some(Mailbox::Worker(worker))
            }
            ReplyTo::Api(_) => Some(Mailbox::Api),
            ReplyTo::Bridge { bridge, .. } => Some(Mailbox::Bridge(bridge)),
        }
    }

    /// The worker that takes the answer.
    pub fn worker(self) -> Option<u16> {
        match self.mailbox() {
            Some(Mailbox::Worker(worker)) => Some(worker),
            _ => None,
        }
    }

    /// The connection that has asked, and its ask.
    pub fn connection(self) -> Option<(Slot, AskId)> {
        match self {
            ReplyTo::Connection { slot, ask, .. } => Some((slot, ask)),
            _ => None,
        }
    }

    /// The ask of a part of the hub, if that part has asked.
    pub fn part(self, wanted: Part) -> Option<AskId> {
        match self {
            ReplyTo::Part { part, ask, .. } if part == wanted => Some(ask),
            _ => None,
        }
    }

    /// The number of the ask, among those of whoever has asked.
    pub fn ask(self) -> Option<AskId> {
        match self {
            ReplyTo::Nobody | ReplyTo::Session { .. } => None,
            ReplyTo::Connection { ask, .. }
            | ReplyTo::Part { ask, .. }
            | ReplyTo::Api(ask)
            | ReplyTo::Bridge { ask, .. } => Some(ask),
        }
    }

    /// Whether a connection of a worker has asked.
    pub fn is_of(self, worker: u16, slot: Slot) -> bool {
        matches!(self, ReplyTo::Connection { worker: w, slot: s, .. } if (w, s) == (worker, slot))
    }
}

/// The prefix of the names of a node's connections: the node, and a number for this life of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeLife {
    /// The node's name.
    pub node: Arc<str>,
    /// The number that tells this life of the node from earlier ones.
    pub boot: u32,
}

impl NodeLife {
    /// A connection's name: `NODE-BOOT-WORKER-PLACE-GENERATION`.
    pub fn name(&self, worker: u16, slot: Slot) -> Box<str> {
        // The node's name, four numbers with their hyphens: a text that doesn't grow is made at once.
        let mut name = String::with_capacity(self.node.len() + 40);
        // Writing to a string can't fail.
        let _ = write!(name, "{}-{}-{worker}-{}-{}", self.node, Epoch(self.boot), slot.index, slot.generation);
        name.into()
    }

    /// The prefix of the names of all connections of this life, without the last hyphen.
    pub fn prefix(&self) -> String {
        format!("{}-{}", self.node, Epoch(self.boot))
    }

    /// The worker and the slot of a connection of this life of this node.
    pub fn find(&self, name: &str) -> Option<(u16, Slot)> {
        let rest = name.strip_prefix(&*self.node)?.strip_prefix('-')?;
        let rest = rest.strip_prefix(&Epoch(self.boot).to_string())?.strip_prefix('-')?;
        let mut numbers = rest.split('-').map(|n| n.parse::<u32>().ok());
        let (worker, index, generation) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let slot = Slot { index, generation };
        let worker = u16::try_from(worker).ok()?;
        // Only the exact text counts: "007" is nobody's name.
        (numbers.next().is_none() && *self.name(worker, slot) == *name).then_some((worker, slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_tells_its_place() {
        let id = MessageId::new(UnixMillis(1_795_378_321_345), Partition(3), Offset(1289));
        let back: MessageId = id.to_string().parse().unwrap();
        assert_eq!(back, id);
        assert_eq!(
            (back.time(), back.partition(), back.offset()),
            (UnixMillis(1_795_378_321_345), Partition(3), Offset(1289))
        );
        assert!(id.to_string().starts_with("01"));
        assert_eq!("01".parse::<MessageId>(), Err(MessageIdError));
        assert_eq!("8ZZZZZZZZZZZZZZZZZZZZZZZZZ".parse::<MessageId>(), Err(MessageIdError));
        assert_eq!("01KAQN5T9M000000000000050U".parse::<MessageId>(), Err(MessageIdError));
    }

    #[test]
    fn a_connection_is_found_by_its_name() {
        let life = NodeLife { node: "a-b".into(), boot: 12345 };
        let slot = Slot { index: 7, generation: 3 };
        let name = life.name(1, slot);
        assert_eq!(&*name, "a-b-9ix-1-7-3");
        assert_eq!(life.find(&name), Some((1, slot)));
        for other in ["", "a-b", "a-b-9ix-1-7", "a-b-9ix-1-7-3-4", "a-b-9ix-01-7-3", "a-b-9iy-1-7-3", "c-9ix-1-7-3"] {
            assert_eq!(life.find(other), None, "{other}");
        }
    }
}
