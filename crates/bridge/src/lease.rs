//! The choice of the node that carries messages out.
//!
//! If nodes share a log, one of them has such a bridge: the writer of the last record on `$bridges/NAME/owner`. It
//! writes there again and again while it lives, and a goodbye when it ends. A node that has seen no record of it for
//! long enough claims the bridge. Two nodes that carry for a moment do no harm: outgoing messages go at least once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use everywire_base::ask::Draft;
use everywire_base::record::{Durability, Record};
use everywire_base::system::{self, BridgeOwner};
use everywire_base::topic::{Filter, Topic};

use crate::Setup;
use crate::failure::Failure;
use crate::place::{News, Watch};
use crate::port::Port;

/// The time between two records of an owner that lives.
const BEAT: Duration = Duration::from_secs(5);
/// The time of silence after which an owner has lost the bridge.
const SILENCE: Duration = Duration::from_secs(15);
/// The time between two looks of a node that waits.
const LOOK: Duration = Duration::from_millis(500);

/// The owner of a bridge, as a node knows it.
pub(crate) struct Lease {
    setup: Arc<Setup>,
    topic: Option<Topic>,
    watch: Option<Watch>,
    owner: Box<str>,
    /// The time of the owner's last record that was seen, by this node's own clock.
    heard: Instant,
    /// The time of this node's last record.
    wrote: Option<Instant>,
}

impl Lease {
    /// The lease of the bridge of this name.
    pub(crate) fn new(name: &str, setup: Arc<Setup>) -> Self {
        let topic = if setup.is_shared { system::bridge_owner_topic(name) } else { None };
        let watch = topic.clone().map(|topic| Watch::new(Filter::Exact(topic)));
        Self { setup, topic, watch, owner: Box::default(), heard: Instant::now(), wrote: None }
    }

    /// Waits until this node has the bridge.
    pub(crate) async fn acquire(&mut self, port: &mut Port) -> Result<(), Failure> {
        if self.topic.is_none() {
            return Ok(());
        }
        self.wrote = None;
        loop {
            self.look()?;
            if self.wrote.is_some() && self.is_owner() {
                return Ok(());
            }
            let is_free = self.owner.is_empty() || self.is_owner() || self.heard.elapsed() >= SILENCE;
            if is_free && self.wrote.is_none_or(|wrote| wrote.elapsed() >= SILENCE) {
                self.write(port, &self.setup.node.clone());
            }
            tokio::select! {
                // The outcome is seen in the log.
                _ = port.outcomes() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Whether this node still has the bridge; writes a record of that now and then.
    pub(crate) fn hold(&mut self, port: &mut Port) -> Result<(), Failure> {
        if self.topic.is_none() {
            return Ok(());
        }
        self.look()?;
        if !self.is_owner() {
            return Err(Failure::TakenOver(self.owner.clone()));
        }
        if self.wrote.is_none_or(|wrote| wrote.elapsed() >= BEAT) {
            self.write(port, &self.setup.node.clone());
        }
        Ok(())
    }

    /// Leaves the bridge to other nodes.
    pub(crate) fn leave(&mut self, port: &mut Port) {
        if self.topic.is_some() && self.is_owner() {
            self.write(port, "");
        }
    }

    fn is_owner(&self) -> bool {
        self.owner == self.setup.node
    }

    fn write(&mut self, port: &mut Port, owner: &str) {
        let Some(topic) = self.topic.clone() else { return };
        let lease = system::record(topic, &BridgeOwner { owner: owner.into() }, true);
        port.append(Draft::new(lease, Durability::Memory), None);
        port.submit();
        self.wrote = Some(Instant::now());
    }

    /// Takes in the records since the last look.
    fn look(&mut self) -> Result<(), Failure> {
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let (News::Since(mut said) | News::All(mut said)) = watch.look(&*self.setup.engine, &self.setup.store)?;
        let last = said.pop();
        if let Some(owner) = last.as_deref().and_then(owner_of) {
            (self.owner, self.heard) = (owner.owner, Instant::now());
        }
        Ok(())
    }
}

fn owner_of(record: &Record) -> Option<BridgeOwner> {
    system::read(record.system()?)
}
