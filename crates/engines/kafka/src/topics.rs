//! The two topics of a log: made if they aren't there, else compared with their required settings.

use std::collections::HashMap;
use std::time::Duration;

use everywire_base::record::Durability;
use everywire_log::remote::APPEND_BYTES;
use krafka::KrafkaError;
use krafka::admin::{
    AdminClient, ConfigResource, CreateTopicsOptions, DescribeClusterOptions, DescribeConfigsOptions,
    DescribeTopicsOptions, NewTopic, TopicDescription,
};
use krafka::error::ErrorCode;

use crate::address::Address;
use crate::fault::{Fault, unusable};
use crate::shelf::PARTITIONS;

/// The number of brokers that have a copy, if there are as many.
const COPIES: usize = 3;
/// The longest message of ours with its overhead. It is the bound of one produce.
const MAX_BYTES: i64 = 80 << 20;
/// The bytes that must fit into one produce, at least: an append, and a message of the usual bound.
const LEAST_BYTES: usize = 2 << 20;
/// The bytes that an append takes besides its messages, at most.
const OVERHEAD: usize = 256 << 10;
/// The time and the bytes for which Kafka must keep records, at least.
const LEAST_RETENTION: Duration = Duration::from_hours(1);
const LEAST_RETAINED: u128 = 1 << 30;
/// The time for which Kafka keeps records that nobody trims.
const RETENTION: Duration = Duration::from_hours(24 * 7);

/// The bytes of a segment of the topic of snapshots: Kafka frees the disk by whole segments.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The check of a setting: its name, the condition, and the required value with the reason.
type Check = (&'static str, fn(&str) -> bool, &'static str);

const OF_LOG: &[Check] = &[
    (
        "cleanup.policy",
        |value| value == "delete",
        "delete: compaction keeps the last value of a key, also a dead node's",
    ),
    ("message.timestamp.type", |value| value == "LogAppendTime", "LogAppendTime: nodes' clocks don't count"),
    ("unclean.leader.election.enable", |value| value == "false", "false: else what was acknowledged is lost"),
    (
        "retention.ms",
        |value| lasts(value, LEAST_RETENTION.as_millis()),
        "3600000 or more: else a node that was away for a while has a hole",
    ),
    (
        "retention.bytes",
        |value| lasts(value, LEAST_RETAINED),
        "1073741824 or more: else a node that was away for a while has a hole",
    ),
];
const OF_SNAPSHOTS: &[Check] = &[
    (
        "cleanup.policy",
        |value| matches!(value, "compact,delete" | "delete,compact"),
        "compact,delete: the notes of snapshots are compacted, and the snapshots are deleted by the nodes",
    ),
    ("retention.ms", |value| value == "-1", "-1: else snapshots are let go of with time"),
    ("retention.bytes", |value| value == "-1", "-1: else snapshots are let go of when they are large"),
    ("unclean.leader.election.enable", |value| value == "false", "false: else snapshots are lost"),
];

/// Makes the topics, if they may be made.
pub(crate) async fn make(admin: &AdminClient, address: &Address) -> Result<(), Fault> {
    let cluster = admin.describe_cluster(DescribeClusterOptions::default()).await?;
    let copies = cluster.brokers.len().clamp(1, COPIES);
    // With two copies, one may be away: if both had to be in sync, nothing would be taken.
    let in_sync = if copies >= COPIES { "2" } else { "1" };
    if copies < COPIES {
        tracing::warn!(
            "Kafka has {copies} brokers: what is acknowledged is on one of them alone; run three, and make the topics of \
             {} anew",
            address.prefix
        );
    }
    let new = |name: String, partitions: usize| {
        let topic = NewTopic::new(name, i32::try_from(partitions).unwrap_or(1), i16::try_from(copies).unwrap_or(1))?;
        Ok::<_, KrafkaError>(
            topic.with_config("min.insync.replicas", in_sync).with_config("unclean.leader.election.enable", "false"),
        )
    };
    let log = new(address.log(), 1)?
        .with_config("cleanup.policy", "delete")
        .with_config("message.timestamp.type", "LogAppendTime")
        .with_config("max.message.bytes", MAX_BYTES.to_string())
        .with_config("retention.ms", RETENTION.as_millis().to_string());
    let snapshots = new(address.snapshots(), PARTITIONS)?
        .with_config("cleanup.policy", "compact,delete")
        .with_config("retention.ms", "-1")
        .with_config("segment.bytes", SEGMENT_BYTES.to_string());
    for (name, made) in admin.create_topics([log, snapshots], CreateTopicsOptions::default()).await? {
        match made {
            // Another node may have made them first.
            Ok(()) | Err(KrafkaError::Broker { code: ErrorCode::TopicAlreadyExists, .. }) => {}
            Err(error) => return Err(Fault::of_topic(error, &name)),
        }
    }
    Ok(())
}

/// The promise of a log's topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// The promise of an acknowledgement.
    pub(crate) durability: Durability,
    /// The bytes that fit into one append.
    pub(crate) append_bytes: usize,
}

/// Compares the topics with their required settings, where the longest message has this many bytes. Returns what the
/// log promises; `None` if the topics aren't there.
pub(crate) async fn compare(admin: &AdminClient, address: &Address, longest: usize) -> Result<Option<Promise>, Fault> {
    let (log, snapshots) = (address.log(), address.snapshots());
    let mut found = admin.describe_topics([&log, &snapshots], DescribeTopicsOptions::default()).await?;
    for (name, partitions) in [(&log, 1), (&snapshots, PARTITIONS)] {
        match found.remove(name) {
            Some(Ok(topic)) => has_partitions(name, &topic, partitions)?,
            None | Some(Err(KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. })) => return Ok(None),
            Some(Err(error)) => return Err(Fault::of_topic(error, name)),
        }
    }
    let found = settings(admin, &log, OF_LOG).await?;
    settings(admin, &snapshots, OF_SNAPSHOTS).await?;
    let number = |key| found.get(key).and_then(|value: &String| value.parse::<usize>().ok());
    let (least, most) = (LEAST_BYTES.max(APPEND_BYTES + longest + OVERHEAD), number("max.message.bytes").unwrap_or(0));
    if most < least {
        return Err(unusable(format!(
            "Kafka's topic {log} has max.message.bytes={most}, and must have {least} or more: the longest message has \
             {longest} bytes (max_message)"
        )));
    }
    let is_replicated = number("min.insync.replicas").is_some_and(|copies| copies >= 2);
    let durability = if is_replicated { Durability::Replicated } else { Durability::Memory };
    Ok(Some(Promise { durability, append_bytes: most - OVERHEAD }))
}

/// Whether a bound of retention is none, or as high as this.
fn lasts(value: &str, least: u128) -> bool {
    value == "-1" || value.parse().is_ok_and(|value: u128| value >= least)
}

fn has_partitions(name: &str, topic: &TopicDescription, wanted: usize) -> Result<(), Fault> {
    match topic.partitions.len() {
        count if count == wanted => Ok(()),
        count => Err(unusable(format!(
            "Kafka's topic {name} has {count} partitions, and must have {wanted}: name another prefix, or remove the topic"
        ))),
    }
}

/// Compares a topic's settings, and returns them.
async fn settings(admin: &AdminClient, name: &str, checks: &[Check]) -> Result<HashMap<String, String>, Fault> {
    let resource = ConfigResource::topic(name);
    let mut found = admin.describe_configs([resource.clone()], DescribeConfigsOptions::default()).await?;
    let entries = match found.remove(&resource) {
        Some(Ok(entries)) => entries,
        Some(Err(error)) => return Err(Fault::of_topic(error, name)),
        None => return Err(unusable(format!("Kafka doesn't tell the settings of its topic {name}"))),
    };
    let entries: HashMap<String, String> =
        entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect();
    for (key, is_well, wanted) in checks {
        let value = entries.get(*key).map_or("", String::as_str);
        if !is_well(value) {
            return Err(unusable(format!("Kafka's topic {name} has {key}={value}, and must have {wanted}")));
        }
    }
    Ok(entries)
}
