//! The node's numbers in the text format of Prometheus.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use everywire_base::notice::Refused;
use everywire_driver::WorkerMetrics;
use everywire_driver::metrics::{DELAY_BUCKETS_MS, WireMetrics};
use everywire_log::metrics::{Counter as LogCounter, HistogramValues, LogMetrics};
use everywire_store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::process;

/// Where the numbers come from, at one moment.
pub(crate) struct Numbers {
    pub(crate) workers: Vec<Arc<WorkerMetrics>>,
    pub(crate) log: Arc<LogMetrics>,
    pub(crate) store: Store,
    /// Records that the store has not applied.
    pub(crate) store_lag: u64,
    pub(crate) log_bytes: u64,
    pub(crate) tail_bytes: u64,
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
    ("everywire_log_duplicates", "Publishes answered from their idempotency key", |n| n.log.duplicates.get()),
    ("everywire_log_fenced", "Records refused since another connection has their session", |n| n.log.fenced.get()),
    ("everywire_log_waits_for_store", "How often the log waited for the store", |n| n.log.waits_for_store.get()),
    ("everywire_store_unknown_records", "Records of kinds that only a later version knows", |n| {
        n.store.metrics().unknown_records.load(Ordering::Relaxed)
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
    ("everywire_outbox_bytes", "Bytes that wait for sockets", |n| n.sum(|w| w.outbox_bytes.get())),
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
    ("everywire_session_claims", "Claims of sessions that are remembered", |n| n.log.claims.get()),
    ("everywire_idempotency_keys", "Idempotency keys that are remembered", |n| n.log.keys.get()),
    ("everywire_disk_limit_bytes", "Bytes that log and store may have together", |n| {
        n.store.metrics().disk_limit.load(Ordering::Relaxed)
    }),
    ("everywire_ordered_producers", "Producers of ordered keys that are remembered", |n| n.log.producers.get()),
    ("everywire_log_disk_bytes", "Bytes of the log", |n| n.log_bytes),
    ("everywire_store_disk_bytes", "Bytes of the store", |n| n.store.bytes()),
    ("everywire_tail_bytes", "Bytes of the shared recent window", |n| n.tail_bytes),
    ("everywire_store_lag_records", "Records that the store has not applied", |n| n.store_lag),
];

impl Numbers {
    fn sum(&self, number: impl Fn(&WorkerMetrics) -> u64) -> u64 {
        self.workers.iter().map(|w| number(w)).sum()
    }

    /// A number of every wire's name, summed over the workers.
    fn by_wire(&self, number: fn(&WireMetrics) -> u64) -> Vec<(&'static str, u64)> {
        let all = self.workers.iter().flat_map(|w| w.by_wire().into_iter().map(|(name, wire)| (name, number(wire))));
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
        let commits = self.log.append_seconds.values();
        page.histogram("everywire_log_append_seconds", "How long commits took", &commits)?;
        let batches = self.log.batch_records.values();
        page.histogram("everywire_log_batch_records", "Records of a commit", &batches)?;
        page.histogram("everywire_delivery_seconds", "From append to outbox", &self.delivery_seconds())
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

    fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&'static str, u64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        values.iter().try_for_each(|(key, value)| {
            family.encode_family(&[(label, *key)])?.encode_counter::<NoLabelSet, _, f64>(value, None)
        })
    }

    fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(&'static str, u64)]) -> fmt::Result {
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
