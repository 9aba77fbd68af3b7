//! The address of Kafka, with its options: `kafka://[USER:PASSWORD@]HOST:PORT,…/PREFIX`.

use std::fmt;

use everywire_base::bridge::{Access, Brokers, KafkaTopic, Login, Mechanism, Trust};
use percent_encoding::percent_decode_str;

/// The form of an address, for messages.
const FORM: &str = "kafka://[USER:PASSWORD@]HOST:PORT,…/PREFIX[?mechanism=SCRAM-SHA-256&tls=true&ca=FILE]";
/// The longest prefix, so that the names of topics fit.
const MAX_PREFIX: usize = 200;

/// The address of a service's Kafka, with the prefix of its topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    /// The brokers, with TLS and login.
    pub access: Access,
    /// The prefix of the names of its topics: services with different prefixes don't see each other.
    pub prefix: Box<str>,
}

/// The fault of an address; the password is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

fn wrong<T>(what: impl Into<String>) -> Result<T, AddressError> {
    Err(AddressError(what.into()))
}

impl Address {
    /// Parses an address.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let Some(rest) = text.strip_prefix("kafka://") else {
            return wrong(format!("it is no address of a Kafka: write {FORM}"));
        };
        let (rest, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        if prefix.is_empty() || prefix.len() > MAX_PREFIX || KafkaTopic::parse(prefix).is_err() {
            return wrong(format!(
                "it names no prefix, of which the names of its topics are made: 1 to {MAX_PREFIX} letters, digits, `.`, `_` \
                 and `-`; write {FORM}"
            ));
        }
        let brokers = Brokers::parse(hosts).map_err(|error| AddressError(error.to_string()))?;
        let (mut mechanism, mut tls) = (Mechanism::Scram256, None);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(value)?;
            match (name, &*value) {
                ("mechanism", "PLAIN") => mechanism = Mechanism::Plain,
                ("mechanism", "SCRAM-SHA-256") => mechanism = Mechanism::Scram256,
                ("mechanism", "SCRAM-SHA-512") => mechanism = Mechanism::Scram512,
                ("tls", "true") => tls = tls.or(Some(Trust::Web)),
                ("tls", "false") => {}
                ("ca", file) if !file.is_empty() => tls = Some(Trust::File(file.into())),
                ("mechanism" | "tls" | "ca", _) => {
                    return wrong(format!("its option {name} has no such value; write {FORM}"));
                }
                _ => return wrong(format!("it has no option {name:?}: there are mechanism, tls and ca")),
            }
        }
        let login = match login.split_once(':') {
            None if login.is_empty() => None,
            Some((user, password)) if !user.is_empty() && !password.is_empty() => {
                Some(Login { mechanism, user: decoded(user)?, password: decoded(password)? })
            }
            _ => return wrong(format!("a user and a password belong together; write {FORM}")),
        };
        Ok(Self { access: Access { brokers, tls, login }, prefix: prefix.into() })
    }

    /// Whether this topic of these brokers is one of the log's.
    pub fn has(&self, brokers: &Brokers, topic: &KafkaTopic) -> bool {
        self.access.brokers.meets(brokers) && [self.log(), self.snapshots()].iter().any(|own| own == topic.as_str())
    }

    /// The topic of the log.
    pub(crate) fn log(&self) -> String {
        format!("{}.log", self.prefix)
    }

    /// The topic of snapshots, and of the log's genesis.
    pub(crate) fn snapshots(&self) -> String {
        format!("{}.snapshots", self.prefix)
    }
}

/// The address without the password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kafka://{}/{}", self.access.brokers.as_str(), self.prefix)
    }
}

fn decoded(text: &str) -> Result<Box<str>, AddressError> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(Into::into).map_err(|_| AddressError("it has percent-encoded bytes that are not UTF-8".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let address = Address::parse("kafka://a:1,b:2/every").unwrap();
        assert_eq!((address.access.brokers.as_str(), &*address.log()), ("a:1,b:2", "every.log"));
        assert_eq!((address.access.tls, address.access.login), (None, None));
        let address = Address::parse("kafka://me:p%40ss@a:1/x?mechanism=PLAIN&ca=/c.pem&tls=true").unwrap();
        let login = address.access.login.unwrap();
        assert_eq!((&*login.user, &*login.password, login.mechanism), ("me", "p@ss", Mechanism::Plain));
        assert_eq!(address.access.tls, Some(Trust::File("/c.pem".into())));
    }

    #[test]
    fn what_is_none_is_told_without_its_password() {
        for text in [
            "redis://a:1/x",
            "kafka://a:1",
            "kafka://a:1/",
            "kafka://a/x",
            "kafka:///x",
            "kafka://a:1/x/y",
            "kafka://me@a:1/x",
            "kafka://me:secret@a:1/x?tls=maybe",
            "kafka://me:secret@a:1/x?user=me",
            "kafka://me:secret@a:1/x?mechanism=GSSAPI",
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{text}: {error}");
        }
    }
}
