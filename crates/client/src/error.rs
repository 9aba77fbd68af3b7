//! The errors, sorted by blame: the caller's address, the network, the server's words, the server's refusal.

use std::io;
use std::time::Duration;

/// An error of the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The caller's address is malformed.
    #[error("{0}")]
    Address(String),
    /// The server could not be reached, or the connection broke.
    #[error("{what}: {message}")]
    Unreachable {
        /// The action that failed, and the server.
        what: String,
        /// The kind of the system's error.
        kind: io::ErrorKind,
        /// The system's words.
        message: String,
    },
    /// The server's answer is malformed.
    #[error("this is no Everywire server, or something between changes its answers: {0}")]
    Protocol(String),
    /// The server refused.
    #[error("{0}")]
    Refused(Problem),
}

/// A refusal in the server's words (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Deserialize)]
#[error("{} ({status})", if .detail.is_empty() { .title } else { .detail })]
pub struct Problem {
    /// The status.
    #[serde(default)]
    pub status: u16,
    /// The status in words.
    #[serde(default)]
    pub title: String,
    /// The fault, its place, and what to do.
    #[serde(default)]
    pub detail: String,
    /// The time to wait before coming back, if the server said it.
    #[serde(skip)]
    pub retry_after: Option<Duration>,
}

impl ClientError {
    /// Wraps a system's error.
    pub(crate) fn io(what: impl Into<String>, error: &io::Error) -> Self {
        let timed_out = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
        let message = if timed_out { "nothing came in time".to_owned() } else { error.to_string() };
        Self::Unreachable { what: what.into(), kind: error.kind(), message }
    }

    /// Whether the same call may succeed later.
    pub fn is_passing(&self) -> bool {
        match self {
            ClientError::Address(_) | ClientError::Protocol(_) => false,
            ClientError::Unreachable { .. } => true,
            ClientError::Refused(problem) => matches!(problem.status, 408 | 425 | 429 | 500..=599),
        }
    }

    /// The time to wait before coming back, if the server said it.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Refused(problem) => problem.retry_after,
            _ => None,
        }
    }
}
