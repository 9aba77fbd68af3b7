//! `$SYS`: what the node tells of itself where MQTT's users look for it, as retained messages that nobody has to keep.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, Draft};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::record::{Durability, Message};
use everywire_base::topic::Topic;
use everywire_driver::WorkerMetrics;
use everywire_driver::metrics::WireMetrics;
use everywire_log::engine::Engine;
use everywire_store::Store;

/// Between two tellings.
pub(crate) const PERIOD: Duration = Duration::from_secs(10);

/// What is told of.
pub(crate) struct Sys {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) workers: Arc<[Arc<WorkerMetrics>]>,
    pub(crate) store: Store,
}

impl Sys {
    /// Publishes the present numbers of a node that has been up so long.
    pub(crate) fn tell(&self, up: Duration) {
        // Nobody is answered: no worker has this number.
        let ticket = Ticket { worker: self.workers.len() as u16, slot: Slot::default(), ask: AskId(u32::MAX) };
        let append = |(name, value): (&str, String)| {
            let topic = Topic::parse(&format!("$SYS/broker/{name}")).ok()?;
            let message = Message { retain: true, qos: 0, ..Message::new(topic, value) };
            Some(Append::new(ticket, Draft { message, durability: Durability::None }))
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
