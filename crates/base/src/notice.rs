//! What a client is refused where it can't be told, or where operators want to know: it is counted, and logged at most once
//! a minute for each kind and address, with who and why.

/// What was refused. The words are those of the metric `everywire_refusals_total{reason}`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// Credentials, or a login without any.
    Login,
    /// The opening of a connection: TLS, or a protocol's first words.
    Handshake,
    /// A request for a host or from an origin that is not served.
    Host,
    /// Input that breaks the protocol, or is more than a bound allows.
    Protocol,
    /// A connection, for want of room.
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

    /// What has happened, as a line of the log begins.
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

/// Something that was refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    /// What.
    pub refused: Refused,
    /// To whom: a user or client id, if it is known. The connection's user unless said.
    pub who: Option<Box<str>>,
    /// Why, and what to do. Never a payload or a secret.
    pub why: Box<str>,
}

impl Notice {
    /// A notice about the connection's user, or whoever is at the other end.
    pub fn new(refused: Refused, why: impl Into<Box<str>>) -> Self {
        Self { refused, who: None, why: why.into() }
    }

    /// About this user or client.
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
