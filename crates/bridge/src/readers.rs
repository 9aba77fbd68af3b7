//! The choice of the node that reads a partition.
//!
//! If nodes share a log, each that reaches Kafka writes a record on `$bridges/NAME/readers/NODE`, and removes it when
//! it doesn't reach Kafka any more, or ends. Among those of them that are up, each partition has one reader: the node
//! with the highest hash (rendezvous hashing), so that a node that comes or goes moves no partitions but its own. Two
//! nodes that read a partition for a moment do no harm: the log judges its records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::Draft;
use everywire_base::record::{Durability, Record, System};
use everywire_base::system::{self, BridgeReader};
use everywire_base::topic::Topic;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Setup;
use crate::failure::Failure;
use crate::place::{News, Watch};
use crate::port::Port;

/// The time between two looks of a node that waits.
const LOOK: Duration = Duration::from_millis(20);
/// The longest time until the log has the record that this node reads.
const PATIENCE: Duration = Duration::from_secs(10);

/// The nodes that read for a bridge.
pub(crate) struct Readers {
    setup: Arc<Setup>,
    /// The topic of this node's own record, and the watch over those of all nodes. None if the log is this node's
    /// alone.
    place: Option<(Topic, Watch)>,
    /// The records of all nodes, by topic.
    said: HashMap<Topic, BridgeReader>,
    /// The names of those nodes that are up, sorted.
    up: Vec<Box<str>>,
}

impl Readers {
    /// The readers of the bridge of this name.
    pub(crate) fn new(name: &str, setup: Arc<Setup>) -> Self {
        let topic = system::bridge_reader_topic(name, &setup.node).filter(|_| setup.is_shared);
        let place = topic.zip(system::bridge_readers(name).map(Watch::new));
        Self { setup, place, said: HashMap::new(), up: Vec::new() }
    }

    /// Writes that this node reads, and waits until the log has it.
    pub(crate) async fn join(&mut self, port: &mut Port) -> Result<(), Failure> {
        let Some((topic, _)) = &self.place else { return Ok(()) };
        let own = BridgeReader { node: self.setup.node.clone(), boot: self.setup.boot };
        let mut own_record = Some(system::record(topic.clone(), &own, true));
        let heard = async {
            loop {
                self.look()?;
                if self.up.contains(&own.node) {
                    return Ok(());
                }
                if let Some(record) = own_record.take() {
                    port.append(Draft::new(record, Durability::Memory), None);
                    port.submit();
                }
                tokio::select! {
                    // The outcome is seen in the log.
                    _ = port.outcomes() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        };
        tokio::time::timeout(PATIENCE, heard).await.unwrap_or(Err(Failure::Unheard))
    }

    /// Leaves its partitions to others.
    pub(crate) fn leave(&mut self, port: &mut Port) {
        let Some((topic, _)) = &self.place else { return };
        if self.said.remove(topic).is_some_and(|said| said.boot == self.setup.boot) {
            port.append(Draft::new(System::removal(topic.clone()), Durability::Memory), None);
            port.submit();
        }
    }

    /// Reads on; whether the nodes that read are others than before.
    pub(crate) fn look(&mut self) -> Result<bool, Failure> {
        let Some((_, watch)) = &mut self.place else { return Ok(false) };
        let records = match watch.look(&*self.setup.engine, &self.setup.store)? {
            News::Since(records) => records,
            News::All(records) => {
                self.said.clear();
                records
            }
        };
        for record in &records {
            self.follow(record);
        }
        let roster = self.setup.engine.roster().unwrap_or_default();
        let is_up = |said: &&BridgeReader| roster.lives().any(|life| life.node == said.node && life.boot == said.boot);
        let mut up: Vec<Box<str>> = self.said.values().filter(is_up).map(|said| said.node.clone()).collect();
        up.sort_unstable();
        let is_other = up != self.up;
        self.up = up;
        Ok(is_other)
    }

    fn follow(&mut self, record: &Record) {
        let Some(system) = record.system() else { return };
        match system::read(system) {
            Some(said) => self.said.insert(system.topic.clone(), said),
            None => self.said.remove(&system.topic),
        };
    }

    /// Whether this node reads the source of this number.
    pub(crate) fn has(&self, source: u64) -> bool {
        self.place.is_none() || reader(&self.up, source) == Some(&*self.setup.node)
    }
}

/// The one of these nodes that reads the source of this number.
fn reader(nodes: &[Box<str>], source: u64) -> Option<&str> {
    nodes.iter().map(|node| &**node).max_by_key(|node| (xxh3_64_with_seed(node.as_bytes(), source), *node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_goes_moves_no_partitions_but_its_own() {
        let three: Vec<Box<str>> = ["a", "b", "c"].map(Into::into).into();
        let two = three[..2].to_vec();
        let mut counts = HashMap::<&str, u32>::new();
        for source in 0..3000 {
            let before = reader(&three, source).expect("somebody");
            let after = reader(&two, source).expect("somebody");
            *counts.entry(before).or_default() += 1;
            assert!(before == after || before == "c", "{source}");
        }
        assert!(counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
        assert_eq!(reader(&[], 1), None);
    }
}
