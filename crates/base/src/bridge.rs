//! Bridges between topics here and Kafka's: the configuration of each, parsed.

use std::fmt;

use crate::identity::encode;
use crate::rules::overlaps;
use crate::topic::{Filter, Topic, TopicError};

/// The longest name of a topic of Kafka's, in bytes.
const MAX_KAFKA_NAME: usize = 249;
/// The longest name of a bridge, in bytes.
const MAX_NAME: usize = 128;
/// The place of a record's key in a [`Template`].
const KEY: &str = "{key}";

/// One bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bridge {
    /// Its name: its progress is remembered under it.
    pub name: Box<str>,
    /// The access to Kafka.
    pub access: Access,
    /// Its direction, with its topics.
    pub way: Way,
}

/// The direction in which a bridge carries messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// Out of a topic of Kafka's into topics here.
    In(Inward),
    /// Out of topics here into one of Kafka's.
    Out(Outward),
}

/// A bridge that brings records in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inward {
    /// Kafka's topic.
    pub from: KafkaTopic,
    /// The topic where its records are published.
    pub topic: Template,
    /// The begin of a bridge that has taken over nothing yet.
    pub start: Begin,
    /// Whether each message is retained; a tombstone then removes it.
    pub retain: bool,
    /// The media type of a record that doesn't say one.
    pub content_type: Option<Box<str>>,
    /// The topic of Kafka's for records that can't be published.
    pub dead_letter: Option<KafkaTopic>,
}

/// A bridge that carries messages out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outward {
    /// The filter of the messages that it carries.
    pub filter: Filter,
    /// Kafka's topic.
    pub to: KafkaTopic,
    /// The begin of a bridge that has carried nothing yet.
    pub start: Begin,
}

/// The position at which a bridge begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Begin {
    /// With the oldest record that is there.
    Earliest,
    /// With the next record that comes.
    Latest,
}

/// The access to Kafka.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// The brokers to ask first, separated by commas.
    pub brokers: Brokers,
    /// The authorities that TLS trusts; `None` is without TLS.
    pub tls: Option<Trust>,
    /// The login of the bridge.
    pub login: Option<Login>,
}

/// The authorities that TLS trusts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trust {
    /// The authorities of the web.
    Web,
    /// The authorities of this PEM file alone.
    File(Box<str>),
}

/// The login at Kafka (SASL).
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The mechanism by which it is proved.
    pub mechanism: Mechanism,
    /// The user.
    pub user: Box<str>,
    /// The password.
    pub password: Box<str>,
}

/// Secrets never reach a log line.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("mechanism", &self.mechanism).field("user", &self.user).finish_non_exhaustive()
    }
}

/// The mechanism by which a password is proved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mechanism {
    /// In clear text (RFC 4616).
    Plain,
    /// SCRAM (RFC 7677).
    Scram256,
    /// SCRAM with SHA-512.
    Scram512,
}

/// The reason why a bridge's configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BridgeError {
    /// A text that is no name of a topic of Kafka's.
    #[error("{0:?} is not a topic of Kafka's: 1 to {MAX_KAFKA_NAME} letters, digits, `.`, `_` and `-`")]
    KafkaTopic(Box<str>),
    /// A text that is no list of brokers.
    #[error("{0:?} is not a list of brokers: write each as host:port, with commas between them")]
    Brokers(Box<str>),
    /// A text that is no name of a bridge.
    #[error("a bridge's name has 1 to {MAX_NAME} bytes and no control characters")]
    Name,
    /// A template that gives no topic, whatever the key is.
    #[error("{0:?} is not a topic: {1}")]
    Template(Box<str>, TopicError),
    /// A topic of the server's own.
    #[error("topics that begin with $ are the server's, {0:?} is one")]
    Servers(Box<str>),
    /// Braces that mean nothing.
    #[error("{0:?} has braces that mean nothing: only {{key}} stands for something, the record's key")]
    Braces(Box<str>),
}

/// A topic of Kafka's.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KafkaTopic(Box<str>);

impl KafkaTopic {
    /// Parses a name.
    pub fn parse(text: &str) -> Result<Self, BridgeError> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let fits = (1..=MAX_KAFKA_NAME).contains(&text.len()) && text.chars().all(good) && !matches!(text, "." | "..");
        if fits { Ok(Self(text.into())) } else { Err(BridgeError::KafkaTopic(text.into())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The brokers to ask first; by default those of the engine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Brokers(Box<str>);

impl Brokers {
    /// Parses `host:port,host:port`.
    pub fn parse(text: &str) -> Result<Self, BridgeError> {
        let is_one = |broker: &str| {
            let Some((host, port)) = broker.rsplit_once(':') else { return false };
            let good = |c: char| c.is_ascii_graphic() && !matches!(c, ',' | '/' | '@');
            !host.is_empty() && host.chars().all(good) && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        let listed: Vec<&str> = text.split(',').map(str::trim).collect();
        let fits = listed.iter().all(|broker| is_one(broker));
        if fits { Ok(Self(listed.join(",").into())) } else { Err(BridgeError::Brokers(text.into())) }
    }

    /// Whether no brokers are named: then they are the engine's.
    pub fn is_engine(&self) -> bool {
        self.0.is_empty()
    }

    /// The list.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a broker stands in both lists, so that both are the same cluster.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.split(',').any(|broker| other.0.split(',').any(|other| broker.eq_ignore_ascii_case(other)))
    }
}

/// Checks the name of a bridge.
pub fn check_bridge_name(text: &str) -> Result<Box<str>, BridgeError> {
    let fits = (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    if fits { Ok(text.into()) } else { Err(BridgeError::Name) }
}

/// The topic where records of a topic of Kafka's are published; in it `{key}` stands for the record's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Template(Box<str>);

/// The reason why a record has no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// It has no key, or an empty one.
    #[error("the record has no key, of which its topic is made")]
    Missing,
    /// Its key is not UTF-8.
    #[error("the record's key is not UTF-8")]
    NotText,
    /// The template with this key is no topic that can be published to.
    #[error("the record's key makes no topic: {0}")]
    NoTopic(TopicError),
    /// The template with this key is a topic of the server's own.
    #[error("the record's key makes a topic of the server's own")]
    Servers,
}

impl Template {
    /// Parses a template.
    pub fn parse(text: &str) -> Result<Self, BridgeError> {
        if text.replace(KEY, "").contains(['{', '}']) {
            return Err(BridgeError::Braces(text.into()));
        }
        if text.starts_with('$') {
            return Err(BridgeError::Servers(text.into()));
        }
        Topic::parse(&text.replace(KEY, "key")).map_err(|error| BridgeError::Template(text.into(), error))?;
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The topic of a record with this key, which is percent-encoded so that it stays within its level.
    pub fn topic(&self, key: Option<&[u8]>) -> Result<Topic, BadKey> {
        if !self.0.contains(KEY) {
            return Topic::parse(&self.0).map_err(BadKey::NoTopic);
        }
        let key = key.filter(|key| !key.is_empty()).ok_or(BadKey::Missing)?;
        let key = encode(str::from_utf8(key).map_err(|_| BadKey::NotText)?);
        let topic = Topic::parse(&self.0.replace(KEY, &key)).map_err(BadKey::NoTopic)?;
        if topic.is_servers() { Err(BadKey::Servers) } else { Ok(topic) }
    }

    /// A filter that takes all topics that it makes.
    fn filter(&self) -> String {
        let level = |level: &str| if level.contains(KEY) { "+".to_owned() } else { level.to_owned() };
        self.0.split('/').map(level).collect::<Vec<_>>().join("/")
    }

    /// Whether a filter takes some of its topics. A filter that begins with a wildcard takes no inbox.
    fn meets(&self, filter: &Filter) -> bool {
        let reserved = self.0.starts_with("user/") && filter.as_str().starts_with(['+', '#']);
        !reserved && overlaps(&self.filter(), filter.as_str())
    }
}

impl Bridge {
    /// The topics of Kafka's that it names.
    pub fn topics(&self) -> Vec<&KafkaTopic> {
        match &self.way {
            Way::In(rule) => std::iter::once(&rule.from).chain(&rule.dead_letter).collect(),
            Way::Out(rule) => vec![&rule.to],
        }
    }

    /// Whether this bridge writes what the next one reads.
    fn feeds(&self, next: &Self) -> bool {
        let same = |a: &KafkaTopic, b: &KafkaTopic| a == b && self.access.brokers.meets(&next.access.brokers);
        match (&self.way, &next.way) {
            (Way::In(one), Way::Out(next)) => one.topic.meets(&next.filter),
            (Way::Out(one), Way::In(next)) => same(&one.to, &next.from),
            (Way::In(one), Way::In(next)) => one.dead_letter.as_ref().is_some_and(|dead| same(dead, &next.from)),
            (Way::Out(_), Way::Out(_)) => false,
        }
    }
}

/// The first bridges that carry their own messages in a circle, in the order of that circle.
pub fn circle(bridges: &[Bridge]) -> Option<Vec<usize>> {
    (0..bridges.len()).find_map(|first| {
        let mut path = vec![first];
        let mut seen = vec![false; bridges.len()];
        closes(bridges, first, &mut path, &mut seen).then_some(path)
    })
}

/// Whether the path leads back to its first bridge.
fn closes(bridges: &[Bridge], first: usize, path: &mut Vec<usize>, seen: &mut [bool]) -> bool {
    let Some(last) = path.last().copied() else { return false };
    for next in (0..bridges.len()).filter(|next| bridges[last].feeds(&bridges[*next])) {
        if next == first {
            return true;
        }
        // A bridge from which no circle was found before leads to none now. Bridges are few, so that paths are short.
        if !std::mem::replace(&mut seen[next], true) {
            path.push(next);
            if closes(bridges, first, path, seen) {
                return true;
            }
            path.pop();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kafka(text: &str) -> KafkaTopic {
        KafkaTopic::parse(text).unwrap()
    }

    fn bridge(brokers: &str, way: Way) -> Bridge {
        let access = Access { brokers: Brokers::parse(brokers).unwrap(), tls: None, login: None };
        Bridge { name: "b".into(), access, way }
    }

    fn inward(from: &str, topic: &str, dead: Option<&str>) -> Bridge {
        let (topic, dead_letter) = (Template::parse(topic).unwrap(), dead.map(kafka));
        let (start, retain, content_type) = (Begin::Earliest, false, None);
        bridge("a:1,b:1", Way::In(Inward { from: kafka(from), topic, start, retain, content_type, dead_letter }))
    }

    fn outward(brokers: &str, filter: &str, to: &str) -> Bridge {
        let (filter, start) = (Filter::parse(filter).unwrap(), Begin::Latest);
        bridge(brokers, Way::Out(Outward { filter, to: kafka(to), start }))
    }

    #[test]
    fn a_key_stays_within_its_level_and_never_makes_a_topic_of_the_servers() {
        let topic = |template: &str, key: Option<&[u8]>| {
            Template::parse(template).unwrap().topic(key).map(|topic| topic.as_str().to_owned())
        };
        assert_eq!(topic("order/{key}", Some(b"a/b+#%\n")).unwrap(), "order/a%2Fb%2B%23%25%0A");
        assert_eq!(topic("o/{key}/x-{key}", Some("é".as_bytes())).unwrap(), "o/é/x-é");
        assert_eq!(topic("plain", None).unwrap(), "plain");
        assert_eq!(topic("order/{key}", None), Err(BadKey::Missing));
        assert_eq!(topic("order/{key}", Some(b"")), Err(BadKey::Missing));
        assert_eq!(topic("order/{key}", Some(b"\xff")), Err(BadKey::NotText));
        assert_eq!(topic("{key}", Some(b"$users")), Err(BadKey::Servers));
        assert_eq!(topic("o/{key}", Some(b"$x")).unwrap(), "o/$x", "only the first level is the server's");
        assert!(matches!(topic("{key}", Some(&[b'a'; 2000])), Err(BadKey::NoTopic(_))));
        assert_eq!(topic("{key}", Some(b"a\0b")).unwrap(), "a%00b");
    }

    #[test]
    fn what_is_no_template_no_topic_and_no_list_of_brokers() {
        for text in ["", "$SYS/{key}", "a/{kee}", "a/{key", "a/+", "#"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        for text in ["", ".", "..", "a/b", "a b", "é", &"x".repeat(250)] {
            assert!(KafkaTopic::parse(text).is_err(), "{text}");
        }
        for text in ["", "host", "host:", ":1", "host:0", "host:70000", "a:1,,b:1", "kafka://a:1"] {
            assert!(Brokers::parse(text).is_err(), "{text}");
        }
        assert_eq!(Brokers::parse(" a:1, [::1]:2").unwrap().as_str(), "a:1,[::1]:2");
    }

    #[test]
    fn what_goes_round_is_found_and_nothing_else() {
        let circle_of = |bridges: Vec<Bridge>| circle(&bridges);
        let there = inward("orders", "order/{key}", None);
        for (filter, round) in [("order/#", true), ("#", true), ("+/x", true), ("order", false), ("room/#", false)] {
            let found = circle_of(vec![there.clone(), outward("b:1", filter, "orders")]);
            assert_eq!(found.is_some(), round, "{filter}");
        }
        assert_eq!(circle_of(vec![there.clone(), outward("b:1", "#", "others")]), None, "another topic");
        assert_eq!(circle_of(vec![there, outward("c:1", "#", "orders")]), None, "another cluster");
        let long = vec![
            inward("x", "x/{key}", None),
            outward("a:1", "x/+", "y"),
            inward("y", "y", None),
            outward("a:1", "y", "x"),
        ];
        assert_eq!(circle_of(long), Some(vec![0, 1, 2, 3]));
        assert_eq!(circle_of(vec![inward("x", "x", Some("x"))]), Some(vec![0]), "what is dead comes back");
        assert_eq!(circle_of(vec![inward("x", "user/{key}", None), outward("a:1", "#", "x")]), None, "inboxes stay");
    }
}
