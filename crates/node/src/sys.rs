//! `$SYS`: the node's numbers where MQTT's users look for them, as retained messages that nobody has to keep.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, Draft};
use everywire_base::id::ReplyTo;
use everywire_base::record::{Durability, Message};
use everywire_base::topic::Topic;
use everywire_driver::WorkerMetrics;
use everywire_driver::metrics::WireMetrics;
use everywire_log::engine::Engine;
use everywire_store::Store;

use crate::config::{Config, EngineKind};

/// The time between two publishes of the numbers.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// The sources of the numbers.
pub(crate) struct Sys {
    /// The beginning of its topics' names. Nodes that share a log have their own names in it.
    prefix: String,
    pub(crate) engine: Arc<dyn Engine>,
    workers: Arc<[Arc<WorkerMetrics>]>,
    store: Store,
}

impl Sys {
    /// The numbers of the node of this configuration.
    pub(crate) fn new(
        config: &Config,
        engine: &Arc<dyn Engine>,
        workers: &Arc<[Arc<WorkerMetrics>]>,
        store: &Store,
    ) -> Self {
        let prefix = match &config.engine {
            EngineKind::Elsewhere(_) => format!("$SYS/brokers/{}/", config.node),
            EngineKind::Embedded | EngineKind::Memory => "$SYS/broker/".to_owned(),
        };
        Self { prefix, engine: Arc::clone(engine), workers: Arc::clone(workers), store: store.clone() }
    }

    /// Publishes the present numbers of a node that has been up for this long.
    pub(crate) fn tell(&self, up: Duration) {
        let append = |(name, value): (&str, String)| {
            let topic = Topic::parse(&format!("{}{name}", self.prefix)).ok()?;
            let message = Message { retain: true, qos: 0, ..Message::new(topic, value) };
            Some(Append::new(ReplyTo::Nobody, Draft::new(message, Durability::None)))
        };
        let mut appends = self.numbers(up).into_iter().filter_map(append).collect();
        self.engine.submit(&mut appends);
    }

    fn numbers(&self, up: Duration) -> [(&'static str, String); 7] {
        let sum = |number: fn(&WorkerMetrics) -> u64| self.workers.iter().map(|worker| number(worker)).sum::<u64>();
        let of_wires = |number: fn(&WireMetrics) -> u64| {
            let of =
                |worker: &Arc<WorkerMetrics>| worker.by_wire().into_iter().map(|(_, wire)| number(wire)).sum::<u64>();
            self.workers.iter().map(of).sum::<u64>()
        };
        [
            ("version", format!("everywire {}", env!("CARGO_PKG_VERSION"))),
            ("uptime", format!("{} seconds", up.as_secs())),
            ("clients/connected", sum(|worker| worker.connections.get()).to_string()),
            ("messages/received", of_wires(|wire| wire.published.get()).to_string()),
            ("messages/sent", of_wires(|wire| wire.delivered.get()).to_string()),
            ("bytes/received", sum(|worker| worker.bytes_in.get()).to_string()),
            ("retained messages/count", self.store.retained().total().to_string()),
        ]
    }
}
