//! The reasons why a bridge doesn't go on for now.

use everywire_base::ask::PublishError;
use krafka::KrafkaError;
use krafka::error::{ErrorCode, ProtocolErrorKind};

/// The reason why a bridge doesn't go on for now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Kafka can't be reached, doesn't know us, or doesn't let us use it.
    #[error("{0}")]
    Kafka(#[from] KrafkaError),
    /// The topic isn't there, or isn't visible to us.
    #[error("Kafka has no topic {0}, or doesn't let us see it: make it, allow it, or mend the bridge's rule")]
    NoTopic(Box<str>),
    /// The topic has too many partitions.
    #[error("Kafka's topic {topic} has {partitions} partitions, more than limits.bridge_sources")]
    Partitions {
        /// The topic.
        topic: Box<str>,
        /// The number of its partitions.
        partitions: usize,
    },
    /// Kafka acknowledges nothing.
    #[error("Kafka has acknowledged nothing for 10 s: it is away, or has too few replicas in sync")]
    Silent,
    /// The log has no record that this node reads.
    #[error("the log takes nothing for now: it does not say yet that this node reads")]
    Unheard,
    /// Another node has the bridge.
    #[error("the node {0:?} carries it now")]
    TakenOver(Box<str>),
    /// The log takes nothing for now.
    #[error("{0}")]
    Log(#[from] PublishError),
    /// The store of this node can't be read.
    #[error("the store can't be read; see the log above")]
    Store,
    /// The log has another position for a partition than the one from which the bridge was to go on.
    #[error("the log has another place for partition {0}: going on from there")]
    Elsewhere(i32),
}

impl Failure {
    /// The failure for an error about this topic.
    pub(crate) fn of_topic(error: KrafkaError, topic: &str) -> Self {
        match error {
            KrafkaError::UnknownTopic { .. } | KrafkaError::Broker { code: ErrorCode::UnknownTopicOrPartition, .. } => {
                Self::NoTopic(topic.into())
            }
            error => error.into(),
        }
    }
}

/// Whether Kafka will never take a record, for its length.
pub(crate) fn is_too_large(error: &KrafkaError) -> bool {
    match error {
        KrafkaError::Broker { code, .. } => matches!(code, ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge),
        error => error.protocol_error_kind() == Some(ProtocolErrorKind::FrameTooLarge),
    }
}
