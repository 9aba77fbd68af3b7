//! The records about the nodes that share a log, and about the log itself.

use serde::{Deserialize, Serialize};

/// A change in a life of a node, where several share a log. The node itself writes it, except [`NodeChange::Down`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeChange {
    /// The life begins: its first record. An older life of the same name ends with it.
    Up {
        /// The life: a random number.
        writer: u64,
        /// The node's name.
        node: Box<str>,
        /// The highest format of records that it reads.
        format: u32,
        /// The life's part of its connections' names.
        #[serde(default)]
        boot: u32,
        /// Its version, for people.
        #[serde(default)]
        version: Box<str>,
    },
    /// The node lives, and has judged the log up to `at` with the result `chain`: other nodes compare that with theirs.
    Beat {
        /// The life.
        writer: u64,
        /// The offset of its own former beat.
        at: u64,
        /// The hash of all judgements up to there.
        chain: u64,
        /// The offset from which the node goes on at the latest if it is killed.
        #[serde(default)]
        synced: u64,
        /// The former beat up to which its workers have handled all, if that isn't the last one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read: Option<u64>,
        /// The groups whose members on this node still owe messages from before that beat.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        owes: Vec<GroupDebt>,
    },
    /// The life is dead: no record of it came for too long. It is void if a later record of it came first.
    Down {
        /// The life.
        writer: u64,
        /// The number of its last record.
        sequence: u64,
    },
    /// The life ends in good order.
    Bye {
        /// The life.
        writer: u64,
    },
}

/// Members of a group on a node have not read some messages above an offset, or their clients haven't acknowledged them.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct GroupDebt {
    /// The group's topic; empty for all others.
    #[serde(rename = "g")]
    pub group: Box<str>,
    /// The offset above which the messages lie.
    #[serde(rename = "a")]
    pub after: u64,
}

impl NodeChange {
    /// The life that it is about.
    pub fn writer(&self) -> u64 {
        match *self {
            NodeChange::Up { writer, .. }
            | NodeChange::Beat { writer, .. }
            | NodeChange::Down { writer, .. }
            | NodeChange::Bye { writer } => writer,
        }
    }
}

/// The log goes on in another epoch: the record on the log's own topic. It lies at the place where the epoch begins.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EpochChange {
    /// The epoch that begins.
    pub epoch: u32,
    /// The one before it.
    pub parent: u32,
    /// The last offset that both share.
    pub fork: u64,
    /// The last offset that the new one leaves out.
    pub begin: u64,
}

/// A node has nothing of a part of the log, since the engine had let go of it: a record in the node's own copy alone.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HistoryLost {
    /// The part begins above this offset …
    pub above: u64,
    /// … and ends with this one.
    pub up_to: u64,
}
