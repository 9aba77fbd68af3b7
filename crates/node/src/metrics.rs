//! The node's numbers in the text format of Prometheus.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use everywire_base::kept::{Kept, What};
use everywire_base::notice::Refused;
use everywire_bridge::{Progress, REFUSALS};
use everywire_driver::WorkerMetrics;
use everywire_driver::metrics::{DELAY_BUCKETS_MS, WireMetrics};
use everywire_log::metrics::{Counter as LogCounter, HistogramValues, LogMetrics};
use everywire_rooms::Counts;
use everywire_store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::process;

/// The sources of the numbers, at one moment.
pub(crate) struct Numbers {
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    pub(crate) bridges: Arc<[Arc<Progress>]>,
    pub(crate) log: Arc<LogMetrics>,
    pub(crate) store: Store,
    pub(crate) rooms: Counts,
    /// Nodes that share the log, this one among them.
    pub(crate) nodes: u64,
    /// Records that the store has not applied.
    pub(crate) store_lag: u64,
    pub(crate) log_bytes: u64,
    pub(crate) tail_bytes: u64,
    /// The bytes that are kept for each payer, by partition.
    pub(crate) kept: Vec<Arc<Kept>>,
    pub(crate) reads_waiting: u64,
    pub(crate) checks_waiting: u64,
    pub(crate) checks: [(&'static str, u64); 8],
}

/// All metrics as text.
pub(crate) fn text(numbers: Numbers) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(numbers));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Numbers")
    }
}

type Gauge = (&'static str, &'static str, fn(&Numbers) -> u64);

/// Names without `_total`, which the format adds to counters.
const COUNTERS: &[Gauge] = &[
    ("everywire_signals", "Signals handed over", |n| n.sum(|w| w.signals.get())),
    ("everywire_signals_dropped", "Signals dropped because there were too many in a turn", |n| {
        n.sum(|w| w.signals_dropped.get())
    }),
    ("everywire_presence_untold", "Changes of presence of which not all were told who may know, by a bound", |n| {
        n.sum(|w| w.untold.get())
    }),
    ("everywire_gaps", "Gaps said to readers", |n| n.sum(|w| w.gaps.get())),
    ("everywire_connections_accepted", "Connections accepted", |n| n.sum(|w| w.accepted.get())),
    ("everywire_connections_refused", "Connections refused for want of room", |n| n.sum(|w| w.refused.get())),
    ("everywire_socket_read_bytes", "Bytes read from sockets", |n| n.sum(|w| w.bytes_in.get())),
    ("everywire_socket_written_bytes", "Bytes written to sockets", |n| n.sum(|w| w.bytes_out.get())),
    ("everywire_socket_writes", "Writes to sockets", |n| n.sum(|w| w.writes.get())),
    ("everywire_worker_turns", "Turns of the workers", |n| n.sum(|w| w.turns.get())),
    ("everywire_log_records", "Records committed", |n| n.log.records.get()),
    ("everywire_log_written_bytes", "Bytes written for records", |n| n.log.bytes_written.get()),
    ("everywire_log_syncs", "Syncs of the log", |n| n.log.syncs.get()),
    ("everywire_log_failed_commits", "Commits whose outcome is unknown", |n| n.log.failed_commits.get()),
    ("everywire_log_refused_disk_full", "Publishes refused for want of disk", |n| n.log.refused_disk_full.get()),
    ("everywire_log_refused_engine_full", "Publishes refused since the engine elsewhere has no room", |n| {
        n.log.refused_engine_full.get()
    }),
    ("everywire_snapshots_taken", "Snapshots of the shared log that this node has taken", |n| n.log.snapshots.get()),
    ("everywire_engine_trims", "How often this node had the engine let go of the log's beginning", |n| {
        n.log.trims.get()
    }),
    ("everywire_log_duplicates", "Publishes answered from their idempotency key", |n| n.log.duplicates.get()),
    ("everywire_log_stale", "Records refused since what they were judged by has changed", |n| n.log.stale.get()),
    ("everywire_log_fenced", "Records refused since another connection has their session", |n| n.log.fenced.get()),
    ("everywire_log_waits_for_store", "How often the log waited for the store", |n| n.log.waits_for_store.get()),
    ("everywire_store_unknown_records", "Records of kinds that only a later version knows", |n| {
        n.store.metrics().unknown_records.load(Ordering::Relaxed)
    }),
    ("everywire_store_damaged_records", "How often a damaged retained message was left out", |n| {
        n.store.metrics().damaged_records.load(Ordering::Relaxed)
    }),
    ("everywire_store_pages", "Pages read from the store", |n| n.store.metrics().pages.load(Ordering::Relaxed)),
    ("everywire_store_pages_failed", "Pages that could not be read", |n| {
        n.store.metrics().pages_failed.load(Ordering::Relaxed)
    }),
    ("everywire_disk_limit_reached", "How often the oldest messages were let go for want of room", |n| {
        n.store.metrics().disk_limit_reached.load(Ordering::Relaxed)
    }),
    ("everywire_log_clean_failures", "Segments that can't be cleaned", |n| n.log.clean_failures.get()),
    ("everywire_log_freed_bytes", "Bytes of old segments that were freed", |n| n.log.bytes_freed.get()),
];

const GAUGES: &[Gauge] = &[
    ("process_resident_memory_bytes", "Memory in use", |_| process::resident_bytes()),
    ("process_open_fds", "Open file descriptors", |_| process::open_files()),
    ("everywire_nodes", "Nodes that are up, as this one knows, and share the log with it", |n| n.nodes),
    ("everywire_outbox_bytes", "Bytes that wait for sockets", |n| n.sum(|w| w.outbox_bytes.get())),
    ("everywire_unread_connections", "Connections that are not read, since they don't read what waits for them", |n| {
        n.sum(|w| w.unread.get())
    }),
    ("everywire_connections_max", "Connections for which there are files", |n| {
        n.workers.first().map_or(0, |w| w.most_connections.get())
    }),
    ("everywire_unfinished_bytes", "Bytes of messages that have not come whole", |n| {
        n.sum(|w| w.unfinished_bytes.get())
    }),
    ("everywire_worker_inbox_records", "Records that workers have not fanned out", |n| {
        n.sum(|w| w.inbox_records.get())
    }),
    ("everywire_waiting_appends", "Publishes that the log had no room for yet", |n| n.sum(|w| w.waiting_appends.get())),
    ("everywire_wills", "Wills that wait for their delay", |n| n.sum(|w| w.wills.get())),
    ("everywire_lagging_connections", "Connections that catch up", |n| n.sum(|w| w.lagging.get())),
    ("everywire_reads_waiting", "Reads that wait for the store's readers", |n| n.reads_waiting),
    ("everywire_auth_waiting", "Credentials that wait to be checked", |n| n.checks_waiting),
    ("everywire_log_guards", "Changes of rooms, memberships and blocks that are remembered", |n| n.log.guards.get()),
    ("everywire_rooms", "Rooms with a head", |n| n.rooms.rooms as u64),
    ("everywire_memberships", "Memberships, invitations and bans in all rooms", |n| n.rooms.memberships as u64),
    ("everywire_users_here", "Users who are there, of those who have something to do with rooms", |n| {
        n.rooms.here as u64
    }),
    ("everywire_rooms_occupied", "Rooms that somebody has entered", |n| n.rooms.occupied as u64),
    ("everywire_session_claims", "Claims of sessions that are remembered", |n| n.log.claims.get()),
    ("everywire_idempotency_keys", "Idempotency keys that are remembered", |n| n.log.keys.get()),
    ("everywire_disk_limit_bytes", "Bytes that log and store may have together", |n| {
        n.store.metrics().disk_limit.load(Ordering::Relaxed)
    }),
    ("everywire_retained_bytes", "Bytes of retained messages", |n| n.kept(What::Retained)),
    ("everywire_session_bytes", "Bytes of sessions and wills that are kept", |n| n.kept(What::Session)),
    ("everywire_ordered_producers", "Producers of ordered keys that are remembered", |n| n.log.producers.get()),
    ("everywire_bridge_sources", "Partitions of which is known how far they were taken over", |n| n.log.sources.get()),
    ("everywire_engine_memory_bytes", "Memory that the engine elsewhere uses", |n| n.log.engine_memory.get()),
    ("everywire_engine_memory_limit_bytes", "Memory that the engine elsewhere may use", |n| {
        n.log.engine_memory_limit.get()
    }),
    ("everywire_engine_log_bytes", "Memory that the log takes in the engine elsewhere", |n| n.log.engine_log.get()),
    ("everywire_snapshot_bytes", "Bytes of the last snapshot that this node has taken", |n| n.log.snapshot_bytes.get()),
    ("everywire_snapshot_age_seconds", "Age of the newest snapshot, at the node that takes them", |n| {
        n.log.snapshot_age.get()
    }),
    ("everywire_replayed_records", "Records that were read from the engine at the start", |n| n.log.replayed.get()),
    ("everywire_log_disk_bytes", "Bytes of the log", |n| n.log_bytes),
    ("everywire_store_disk_bytes", "Bytes of the store", |n| n.store.bytes()),
    ("everywire_tail_bytes", "Bytes of the shared recent window", |n| n.tail_bytes),
    ("everywire_store_lag_records", "Records that the store has not applied", |n| n.store_lag),
];

impl Numbers {
    fn kept(&self, what: What) -> u64 {
        self.kept.iter().map(|kept| kept.total(what)).sum()
    }

    fn sum(&self, number: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        self.workers.iter().map(|w| number(w)).sum()
    }

    /// A number of every wire, by its name, summed over the workers.
    fn by_wire(&self, number: fn(&WireMetrics) -> u64) -> Vec<(&'static str, u64)> {
        let all = self.workers.iter().flat_map(|w| w.by_wire().into_iter().map(|(name, wire)| (name, number(wire))));
        by_name(all)
    }

    /// A number of every bridge.
    fn by_bridge(&self, number: fn(&Progress) -> u64) -> Vec<(&str, u64)> {
        self.bridges.iter().map(|bridge| (bridge.name(), number(bridge))).collect()
    }

    /// The number of records that bridges don't carry, by reason.
    fn not_carried(&self) -> Vec<(&'static str, u64)> {
        let all = self.bridges.iter().flat_map(|bridge| REFUSALS.into_iter().zip(bridge.refused()));
        by_name(all)
    }

    fn delivery_seconds(&self) -> HistogramValues {
        let counts = (0..=DELAY_BUCKETS_MS.len()).map(|i| self.sum(|w| w.delays[i].get())).collect();
        HistogramValues { bounds: &DELAYS, counts, sum: self.sum(|w| w.delay_sum_ms.get()) as f64 / 1e3 }
    }
}

/// [`DELAY_BUCKETS_MS`] in seconds.
static DELAYS: [f64; DELAY_BUCKETS_MS.len()] = {
    let (mut seconds, mut i) = ([0.0; DELAY_BUCKETS_MS.len()], 0);
    while i < DELAY_BUCKETS_MS.len() {
        seconds[i] = DELAY_BUCKETS_MS[i] as f64 / 1e3;
        i += 1;
    }
    seconds
};

fn by_name(all: impl Iterator<Item = (&'static str, u64)>) -> Vec<(&'static str, u64)> {
    let mut sums: Vec<(&'static str, u64)> = Vec::new();
    for (name, number) in all {
        match sums.iter_mut().find(|s| s.0 == name) {
            Some(sum) => sum.1 += number,
            None => sums.push((name, number)),
        }
    }
    sums
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut page = Page(encoder);
        page.counter("process_cpu_seconds", "Processor time in user and kernel mode", process::cpu_seconds())?;
        COUNTERS.iter().try_for_each(|c| page.counter(c.0, c.1, c.2(self) as f64))?;
        GAUGES.iter().try_for_each(|g| page.gauge(g.0, g.1, g.2(self)))?;
        page.gauges("everywire_connections", "Open connections", "wire", &self.by_wire(|w| w.connections.get()))?;
        let published = self.by_wire(|w| w.published.get());
        page.counters("everywire_messages_published", "Messages acknowledged", "wire", &published)?;
        let delivered = self.by_wire(|w| w.delivered.get());
        page.counters("everywire_messages_delivered", "Messages put into outboxes", "wire", &delivered)?;
        let dropped = [
            ("expired", self.sum(|w| w.expired.get())),
            ("session_ended", self.sum(|w| w.ended.get())),
            ("refused", self.sum(|w| w.refused_of(Refused::Publish))),
            ("too_large", self.sum(|w| w.refused_of(Refused::Delivery))),
        ];
        page.counters("everywire_messages_dropped", "Messages not delivered", "reason", &dropped)?;
        let refused = ["share", "full"].into_iter().zip(self.log.refused_keys.iter().map(LogCounter::get));
        let refused: Vec<_> = refused.collect();
        page.counters("everywire_log_refused_keys", "Publishes refused for their key", "reason", &refused)?;
        let checks = by_name(self.checks.into_iter());
        page.counters("everywire_auth_checks", "Credentials that were checked", "result", &checks)?;
        let endings = by_name(self.workers.iter().flat_map(|w| w.endings()));
        page.counters("everywire_connections_ended", "Connections that ended", "reason", &endings)?;
        let refusals = by_name(self.workers.iter().flat_map(|w| w.refusals()));
        page.counters("everywire_refusals", "What was refused, for operators to know", "reason", &refusals)?;
        self.bridges(&mut page)?;
        let commits = self.log.append_seconds.values();
        page.histogram("everywire_log_append_seconds", "How long commits took", &commits)?;
        let batches = self.log.batch_records.values();
        page.histogram("everywire_log_batch_records", "Records of a commit", &batches)?;
        page.histogram("everywire_delivery_seconds", "From append to outbox", &self.delivery_seconds())
    }
}

/// A number of a bridge: its name, its help text, and its source.
type OfBridge = (&'static str, &'static str, fn(&Progress) -> u64);

impl Numbers {
    fn bridges(&self, page: &mut Page<'_>) -> fmt::Result {
        let counters: [OfBridge; 3] = [
            ("everywire_bridge_records", "Messages that a bridge has carried", Progress::carried),
            ("everywire_bridge_again", "Records that a bridge had taken over before", Progress::again),
            ("everywire_bridge_failures", "How often a bridge could not go on", Progress::failures),
        ];
        for (name, help, number) in counters {
            page.counters(name, help, "bridge", &self.by_bridge(number))?;
        }
        page.gauges("everywire_bridge_lag", "Records still to come, about", "bridge", &self.by_bridge(Progress::lag))?;
        let connected = self.by_bridge(Progress::connected);
        page.gauges("everywire_bridge_connected", "Whether Kafka is reached", "bridge", &connected)?;
        let partitions = self.by_bridge(Progress::partitions);
        page.gauges("everywire_bridge_partitions", "Partitions that this node reads", "bridge", &partitions)?;
        page.counters("everywire_bridge_refused", "Records that are not carried", "reason", &self.not_carried())
    }
}

/// A page of metrics that is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &'static str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn gauge(&mut self, name: &'static str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&(value as f64))
    }

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.iter().try_for_each(|(key, value)| {
            family.encode_family(&[(label, *key)])?.encode_counter::<NoLabelSet, _, f64>(value, None)
        })
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        values
            .iter()
            .try_for_each(|(key, value)| family.encode_family(&[(label, *key)])?.encode_gauge(&(*value as f64)))
    }

    fn histogram(&mut self, name: &str, help: &str, values: &HistogramValues) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        let bounds = values.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(values.counts.iter().copied()).collect();
        let count = values.counts.iter().sum();
        metric.encode_histogram::<NoLabelSet>(values.sum, count, &buckets, None)
    }
}
