//! The meaning of Kafka's errors for the log, with the remedy.

use everywire_log::remote::{Refusal, RemoteError};
use krafka::KrafkaError;
use krafka::error::ErrorCode;

/// A failure: its meaning depends on the request that was under way.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A failure of the log itself.
    Log(RemoteError),
    /// A failure of Kafka.
    Kafka(KrafkaError),
}

impl From<KrafkaError> for Fault {
    fn from(error: KrafkaError) -> Self {
        Self::Kafka(error)
    }
}

impl From<RemoteError> for Fault {
    fn from(error: RemoteError) -> Self {
        Self::Log(error)
    }
}

/// A fault with which nothing goes on until somebody changes something.
pub(crate) fn unusable(what: impl Into<Box<str>>) -> Fault {
    Fault::Log(RemoteError::Refused(Refusal::Unusable(what.into())))
}

impl Fault {
    /// The fault for an error about this topic.
    pub(crate) fn of_topic(error: KrafkaError, topic: &str) -> Self {
        match &error {
            KrafkaError::Broker { code: ErrorCode::TopicAuthorizationFailed, .. } => unusable(format!(
                "Kafka doesn't let us use its topic {topic}: a node needs Create, Describe, DescribeConfigs, Read, Write and \
                 Delete on the topics of its prefix"
            )),
            _ => error.into(),
        }
    }

    /// The meaning if nothing was sent that changes anything.
    pub(crate) fn asking(self) -> RemoteError {
        self.means(RemoteError::Cut)
    }

    /// The meaning if a request was sent that may have been done.
    pub(crate) fn appending(self) -> RemoteError {
        self.means(RemoteError::Unknown)
    }

    fn means(self, failed: fn(Box<str>) -> RemoteError) -> RemoteError {
        let error = match self {
            Self::Log(error) => return error,
            Self::Kafka(error) => error,
        };
        let text = error.to_string();
        let unusable = |what: String| RemoteError::Refused(Refusal::Unusable(what.into()));
        match &error {
            KrafkaError::Auth { .. } => unusable(format!(
                "Kafka refuses us: {text}; look at user, password and mechanism in the engine's address"
            )),
            KrafkaError::Config { .. } => unusable(text),
            KrafkaError::Broker { code, .. } => match code {
                ErrorCode::ClusterAuthorizationFailed | ErrorCode::TopicAuthorizationFailed => {
                    unusable(format!("Kafka's access control forbids it: {text}"))
                }
                ErrorCode::NotEnoughReplicas => RemoteError::Refused(Refusal::Busy(
                    "Kafka has fewer replicas in sync than min.insync.replicas: start the brokers".into(),
                )),
                _ => failed(text.into()),
            },
            _ => failed(text.into()),
        }
    }
}
