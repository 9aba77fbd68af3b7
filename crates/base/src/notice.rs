//! Refusals that the client can't be told, or that operators want to know: each is counted, and logged at most once a
//! minute for each kind and address, with the client and the reason.

/// The kinds of refusals. The words are those of the metric `everywire_refusals_total{reason}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// Credentials, or a login without any.
    Login,
    /// The opening of a connection: TLS, or a protocol's first message.
    Handshake,
    /// A request for a host or from an origin that is not served.
    Host,
    /// Input that breaks the protocol, or is more than a bound allows.
    Protocol,
    /// A connection, because there is no room.
    Connection,
    /// A message.
    Publish,
    /// A subscription.
    Subscribe,
    /// A message for a client that can't take it.
    Delivery,
    /// A will, when it was to be published.
    Will,
    /// A packet or frame that was not finished in time, or for which there was no room.
    Unfinished,
    /// A connection that an operator ended.
    Kicked,
    /// A connection whose session another one took over.
    TakenOver,
    /// Messages that a session lost while its client was away.
    Lost,
}

impl Refused {
    /// All words, at the index of their kind.
    pub const WORDS: [&'static str; 13] = [
        "login",
        "handshake",
        "host",
        "protocol",
        "connection",
        "publish",
        "subscribe",
        "delivery",
        "will",
        "unfinished",
        "kicked",
        "taken_over",
        "lost",
    ];

    /// The place in [`Refused::WORDS`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The event as a phrase, with which a line of the log begins.
    pub fn phrase(self) -> &'static str {
        match self {
            Refused::Login => "login refused",
            Refused::Handshake => "handshake failed",
            Refused::Host => "host or origin refused",
            Refused::Protocol => "input refused",
            Refused::Connection => "connection refused",
            Refused::Publish => "message refused",
            Refused::Subscribe => "subscription refused",
            Refused::Delivery => "message not delivered",
            Refused::Will => "will refused",
            Refused::Unfinished => "unfinished input given up",
            Refused::Kicked => "connection ended by an operator",
            Refused::TakenOver => "connection ended by a newer one",
            Refused::Lost => "session lost messages",
        }
    }
}

/// A refusal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// The kind of the refusal.
    pub refused: Refused,
    /// The user or client id that was refused, if it is known; by default the connection's user.
    pub who: Option<Box<str>>,
    /// The reason, and the remedy. Never a payload or a secret.
    pub why: Box<str>,
}

impl Notice {
    /// A notice about the connection's user, or the client without one.
    pub fn new(refused: Refused, why: impl Into<Box<str>>) -> Self {
        Self { refused, who: None, why: why.into() }
    }

    /// The notice about this user or client.
    #[must_use]
    pub fn of(self, who: &str) -> Self {
        Self { who: Some(who.into()), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_word() {
        assert_eq!(Refused::WORDS[Refused::Login.index()], "login");
        assert_eq!(Refused::WORDS[Refused::Unfinished.index()], "unfinished");
        assert_eq!(Refused::WORDS[Refused::Lost.index()], "lost");
    }
}
