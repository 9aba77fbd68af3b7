//! The reasons why a connection ends: one closed list, which every wire maps to its own words.

use std::time::Duration;

/// The reason why a connection ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The peer closed, or reset the connection.
    PeerClosed,
    /// The peer was silent or slow for longer than the protocol allows.
    Timeout,
    /// The peer broke the protocol.
    Protocol(&'static str),
    /// The peer sent more than a limit allows.
    TooLarge(&'static str),
    /// The peer reads too slowly: the topic's rule says to close, or its answers have waited for too long.
    SlowConsumer,
    /// The identity is not the one that is claimed, or not any more.
    Unauthorized,
    /// The client is not allowed to do this.
    Forbidden,
    /// An operator ended it.
    Kicked(Box<str>),
    /// A newer login of the same identity took over.
    TakenOver,
    /// The token has expired.
    Expired,
    /// The server is going down; come back after the delay.
    Drain(Duration),
    /// Too many connections or too much traffic; come back after the delay.
    Overloaded(Duration),
    /// A fault of the server.
    Internal,
    /// The protocol came to its own orderly end.
    Done,
}

impl Reason {
    /// All words, at the index of their reason.
    pub const WORDS: [&'static str; 14] = [
        "peer_closed",
        "timeout",
        "protocol",
        "too_large",
        "slow_consumer",
        "unauthorized",
        "forbidden",
        "kicked",
        "taken_over",
        "expired",
        "drain",
        "overloaded",
        "internal",
        "done",
    ];

    /// The word in metrics and in the wires' texts.
    pub fn as_str(&self) -> &'static str {
        Self::WORDS[self.index()]
    }

    /// The place in [`Reason::WORDS`].
    pub fn index(&self) -> usize {
        match self {
            Reason::PeerClosed => 0,
            Reason::Timeout => 1,
            Reason::Protocol(_) => 2,
            Reason::TooLarge(_) => 3,
            Reason::SlowConsumer => 4,
            Reason::Unauthorized => 5,
            Reason::Forbidden => 6,
            Reason::Kicked(_) => 7,
            Reason::TakenOver => 8,
            Reason::Expired => 9,
            Reason::Drain(_) => 10,
            Reason::Overloaded(_) => 11,
            Reason::Internal => 12,
            Reason::Done => 13,
        }
    }

    /// Whether the client should come back, and after which delay.
    pub fn reconnect(&self) -> Option<Duration> {
        match self {
            Reason::Drain(delay) | Reason::Overloaded(delay) => Some(*delay),
            Reason::PeerClosed | Reason::Timeout | Reason::SlowConsumer | Reason::Internal | Reason::Done => {
                Some(Duration::ZERO)
            }
            Reason::Protocol(_)
            | Reason::TooLarge(_)
            | Reason::Unauthorized
            | Reason::Forbidden
            | Reason::Kicked(_)
            | Reason::TakenOver
            | Reason::Expired => None,
        }
    }
}
