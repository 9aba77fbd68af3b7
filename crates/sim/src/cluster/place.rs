//! The place of a node: the machine that outlives it, and the node while there is one.

use std::cell::RefMut;
use std::rc::Rc;
use std::sync::Arc;

use everywire_base::limits::Limits;
use everywire_base::rules::Rules;
use everywire_log::disk::SimDisk;
use everywire_log::engine::Link;
use everywire_log::suite::remote_engine::SimEngine;

use crate::checker::Part;
use crate::net::Network;
use crate::node::{Machine, SimNode};
use crate::tables::SimTables;

/// The number of nodes.
pub(super) const NODES: usize = 3;

/// The place of a node.
pub(super) struct Place {
    pub(super) machine: Machine,
    pub(super) node: Option<SimNode>,
    /// Whether the node stands still.
    pub(super) is_paused: bool,
    /// The parts of the log that the machine lacks, as its nodes have said. When the store knows of one, the record
    /// that says so goes.
    pub(super) lacks: Vec<Part>,
}

impl Place {
    pub(super) fn new(
        number: usize,
        engine: &SimEngine,
        (limits, rules): (&Arc<Limits>, &Arc<Rules>),
        workers: u16,
    ) -> Self {
        let machine = Machine {
            name: format!("n{number}").into(),
            shared: Some(Arc::new(engine.of(number as u32))),
            network: Rc::default(),
            disk: SimDisk::new(),
            tables: SimTables::default(),
            workers,
            limits: Arc::clone(limits),
            rules: Arc::clone(rules),
        };
        // No two lives of any nodes have one number.
        machine.network.borrow_mut().life = (number as u32) << 16;
        Self { machine, node: None, is_paused: false, lacks: Vec::new() }
    }

    pub(super) fn network(&self) -> RefMut<'_, Network> {
        self.machine.network.borrow_mut()
    }

    /// The node, unless it stands still.
    pub(super) fn awake(&mut self) -> Option<&mut SimNode> {
        self.node.as_mut().filter(|_| !self.is_paused)
    }

    /// The offset up to which the node may lack something.
    pub(super) fn floor(&self) -> u64 {
        self.lacks.iter().map(|(_, up_to)| *up_to).max().unwrap_or_default()
    }

    /// Whether clients come to it.
    pub(super) fn takes_clients(&self) -> bool {
        self.node.as_ref().is_some_and(|node| !node.is_draining())
    }

    /// Whether the node serves, as far as itself knows.
    pub(super) fn is_well(&self) -> bool {
        self.node.as_ref().is_some_and(|node| !node.is_draining() && node.link() == Link::Up)
    }
}

/// The parts of the log that all nodes lack.
pub(super) fn lacked_by_all(places: &[Place]) -> Vec<Part> {
    let both = |one: Vec<Part>, other: &Place| {
        let cross = |(above, up_to): &Part| {
            let parts = other.lacks.iter().map(|part| (part.0.max(*above), part.1.min(*up_to)));
            parts.filter(|part| part.0 < part.1).collect::<Vec<_>>()
        };
        one.iter().flat_map(cross).collect()
    };
    places.iter().fold(vec![(0, u64::MAX)], both)
}
