//! The lives of the nodes that share a log, as its records (`$nodes/NAME`) show them.
//!
//! An owner that isn't of this process may be alive: the owner of a connection, a session or a will may be on another
//! node. All nodes read the same records in the same order, so that at any place of the log all have the same roster.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cursor::{Epoch, Offset};
use crate::record::Record;
use crate::system::{self, GroupDebt, NodeChange};

/// The lives of nodes that are up.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Roster {
    lives: BTreeMap<u64, Life>,
}

/// A life of a node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Life {
    /// The node's name.
    pub node: Box<str>,
    /// The life's part of its connections' names.
    pub boot: u32,
    /// The offset of its last beat but one, or of an earlier one: records above it may wait for this life to handle them.
    pub floor: Offset,
    /// The messages at or below the floor that members of groups on this node owe, as of its last beat.
    pub owes: Arc<[GroupDebt]>,
    /// The offset of its last beat.
    pub beat: Offset,
    /// The offset from which it goes on at the latest if it is killed, as far as it has said so.
    pub synced: Offset,
}

/// The change that a record makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// No life begins or ends.
    None,
    /// A life begins, and knows nothing of what passed before. Older lives of its name end with that.
    Came(Life, Vec<Life>),
    /// Lives end.
    Gone(Vec<Life>),
}

impl Change {
    /// The lives that end.
    pub fn gone(&self) -> &[Life] {
        match self {
            Change::None => &[],
            Change::Came(_, gone) | Change::Gone(gone) => gone,
        }
    }
}

impl Life {
    /// The prefix of the names of its connections, without the last hyphen.
    pub fn prefix(&self) -> String {
        format!("{}-{}", self.node, Epoch(self.boot))
    }

    /// Whether a connection of this name is one of this life's.
    pub fn names(&self, connection: &str) -> bool {
        split(connection).is_some_and(|(node, boot, ..)| *node == *self.node && boot == Epoch(self.boot).to_string())
    }
}

/// The floor of a life that beats, whose last beat was this one: its workers have handled all up to there.
pub fn floor(former: Offset, last: Offset, read: Option<u64>) -> Offset {
    former.max(read.map_or(last, |read| last.min(Offset(read))))
}

/// The parts of a connection's name: node, life, worker, place, generation.
pub fn split(connection: &str) -> Option<(&str, &str, u16, u32, u32)> {
    let mut parts = connection.rsplitn(5, '-');
    let (generation, index, worker) = (parts.next()?, parts.next()?, parts.next()?);
    let (boot, node) = (parts.next()?, parts.next()?);
    Some((node, boot, worker.parse().ok()?, index.parse().ok()?, generation.parse().ok()?))
}

impl Roster {
    /// Follows a record about a node; other records change nothing.
    pub fn follow(&mut self, record: &Record) -> Change {
        let Some(system) = record.system() else { return Change::None };
        if system::node_of(&system.topic).is_none() {
            return Change::None;
        }
        let at = record.offset;
        match system::read::<NodeChange>(system) {
            Some(NodeChange::Up { writer, node, boot, .. }) => {
                let older: Vec<u64> = self
                    .lives
                    .iter()
                    .filter(|(id, life)| **id != writer && life.node == node)
                    .map(|(id, _)| *id)
                    .collect();
                let gone: Vec<Life> = older.iter().filter_map(|id| self.lives.remove(id)).collect();
                let life = Life { node, boot, floor: at, beat: at, ..Life::default() };
                self.lives.insert(writer, life.clone());
                Change::Came(life, gone)
            }
            Some(NodeChange::Beat { writer, synced, read, owes, .. }) => {
                if let Some(life) = self.lives.get_mut(&writer).filter(|life| life.beat < at) {
                    life.floor = floor(life.floor, life.beat, read);
                    (life.owes, life.beat, life.synced) = (owes.into(), at, Offset(synced));
                }
                Change::None
            }
            Some(NodeChange::Down { writer, .. } | NodeChange::Bye { writer }) => match self.lives.remove(&writer) {
                Some(life) => Change::Gone(vec![life]),
                None => Change::None,
            },
            None => Change::None,
        }
    }

    /// Whether the life of the connection of this name is up.
    pub fn is_up(&self, connection: &str) -> bool {
        self.lives.values().any(|life| life.names(connection))
    }

    /// The life with the lowest number.
    pub fn first(&self) -> Option<u64> {
        self.lives.keys().next().copied()
    }

    /// The number of lives that are up.
    pub fn count(&self) -> usize {
        self.lives.len()
    }

    /// The lives that are up.
    pub fn lives(&self) -> impl Iterator<Item = &Life> {
        self.lives.values()
    }

    /// Adds a life that is known in another way.
    pub fn insert(&mut self, writer: u64, life: Life) {
        self.lives.insert(writer, life);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::cursor::Partition;
    use crate::record::Durability;

    fn record(offset: u64, node: &str, change: &NodeChange) -> Record {
        let system = system::record(system::node_topic(node).unwrap(), change, false);
        let (partition, offset, time) = (Partition(0), Offset(offset), UnixMillis(1));
        Record { partition, offset, time, durability: Durability::None, content: system.into() }
    }

    fn up(writer: u64, node: &str, boot: u32) -> NodeChange {
        NodeChange::Up { writer, node: node.into(), format: 1, boot, version: "".into() }
    }

    fn beat(read: Option<u64>, owes: Vec<GroupDebt>) -> NodeChange {
        NodeChange::Beat { writer: 2, at: 0, chain: 0, synced: 0, read, owes }
    }

    #[test]
    fn a_beat_says_what_is_owed_below_the_former_one_and_one_of_another_version_owes_nothing() {
        let mut roster = Roster::default();
        roster.follow(&record(1, "c", &up(2, "c", 7)));
        let debt = GroupDebt { group: "$share/g/a".into(), after: 3 };
        let mut after = |offset, beat: &NodeChange| {
            roster.follow(&record(offset, "c", beat));
            let life = roster.lives().next().unwrap();
            (life.floor.0, life.owes.to_vec())
        };
        assert_eq!(after(5, &beat(None, Vec::new())), (1, vec![]));
        assert_eq!(after(9, &beat(None, vec![debt.clone()])), (5, vec![debt.clone()]));
        assert_eq!(after(12, &beat(Some(7), vec![debt.clone()])), (7, vec![debt]), "workers are behind the beat");
        assert_eq!(after(15, &beat(Some(0), Vec::new())), (7, vec![]), "what is handled stays so");
        let old = serde_json::from_str(r#"{"beat":{"writer":2,"at":15,"chain":7}}"#).unwrap();
        assert_eq!(after(20, &old), (15, vec![]));
    }

    #[test]
    fn who_lives_is_what_the_log_says() {
        let mut roster = Roster::default();
        let came = |change: &Change| matches!(change, Change::Came(_, gone) if gone.is_empty());
        assert!(came(&roster.follow(&record(1, "a-b", &up(1, "a-b", 12345)))));
        assert!(came(&roster.follow(&record(2, "c", &up(2, "c", 7)))));
        assert!(roster.is_up("a-b-9ix-1-7-3") && roster.is_up("c-7-0-0-1"));
        for other in ["a-b-9iy-1-7-3", "b-9ix-1-7-3", "a-b-9ix-1-7", "", "c-7"] {
            assert!(!roster.is_up(other), "{other}");
        }
        for offset in [5, 9, 12] {
            roster.follow(&record(offset, "c", &beat(None, Vec::new())));
        }
        let Change::Gone(gone) = roster.follow(&record(20, "c", &NodeChange::Down { writer: 2, sequence: 9 })) else {
            panic!("it is gone")
        };
        assert_eq!((gone[0].floor, gone[0].prefix()), (Offset(9), "c-7".to_owned()));
        assert!(!roster.is_up("c-7-0-0-1"));
        // A new life of a name ends the older one.
        let change = roster.follow(&record(21, "a-b", &up(3, "a-b", 2)));
        let Change::Came(life, gone) = &change else { panic!("it is replaced") };
        assert_eq!((life.boot, gone.len(), change.gone().len()), (2, 1, 1));
        assert!(roster.is_up("a-b-2-0-0-1") && !roster.is_up("a-b-9ix-1-7-3"));
        assert_eq!(roster.follow(&record(22, "a-b", &NodeChange::Bye { writer: 1 })), Change::None);
    }
}
