//! Topics and filters: the names that messages are published to and subscribed by.
//!
//! A topic is a `/`-separated UTF-8 name of 1 to 1,024 bytes without NUL, `+` and `#`. A filter is a topic in which a
//! whole level may be `+` (one level) and the last level may be `#` (the parent and all below), as in MQTT-5.0 §4.7.
//! Both are parsed once, at the edge; a value needs no second check.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest topic or filter, in bytes.
pub const MAX_TOPIC_BYTES: usize = 1024;

/// A topic: cheap to clone, hashed once.
#[derive(Clone)]
pub struct Topic {
    name: Arc<str>,
    hash: u64,
}

/// The reason why a text is not a topic or not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The text is empty.
    #[error("a topic has at least one character")]
    Empty,
    /// The text is longer than [`MAX_TOPIC_BYTES`].
    #[error("a topic has at most {MAX_TOPIC_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// A character that a topic can't have.
    #[error("a topic can't contain {character:?} (at byte {at}); `+` and `#` belong to filters only")]
    Forbidden {
        /// The character.
        character: char,
        /// Its place, in bytes from the start.
        at: usize,
    },
    /// `+` that does not stand alone in its level.
    #[error("`+` stands for a whole level, at byte {0} it does not stand alone")]
    PartialPlus(usize),
    /// `#` that does not stand alone in the last level.
    #[error("`#` stands alone in the last level, at byte {0} it does not")]
    MisplacedHash(usize),
}

fn check_length(text: &str) -> Result<(), TopicError> {
    match text.len() {
        0 => Err(TopicError::Empty),
        n if n > MAX_TOPIC_BYTES => Err(TopicError::TooLong(n)),
        _ => Ok(()),
    }
}

impl Topic {
    /// Parses a topic's name.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_length(text)?;
        match text.char_indices().find(|(_, c)| matches!(c, '\0' | '+' | '#')) {
            Some((at, character)) => Err(TopicError::Forbidden { character, at }),
            None => Ok(Self { name: text.into(), hash: hash_name(text) }),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The name, as it is shared.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// A hash of the name that is the same on every machine and in every version.
    pub fn stable_hash(&self) -> u64 {
        self.hash
    }

    /// Whether the name belongs to the server (`$…`).
    pub fn is_servers(&self) -> bool {
        self.name.starts_with('$')
    }

    /// Whether the topic is for the state of a bridge's connection: `$SYS/broker/connection/NAME/state`, as of
    /// mosquitto's.
    pub fn is_of_a_bridge(&self) -> bool {
        let name = self.name.strip_prefix("$SYS/broker/connection/").and_then(|rest| rest.strip_suffix("/state"));
        name.is_some_and(|name| !name.is_empty())
    }

    /// Whether only the server itself reads it (`crate::system`): the name belongs to it, and isn't below `$SYS`.
    pub fn is_internal(&self) -> bool {
        is_internal(&self.name)
    }

    /// Whether the name belongs to the server (`$…`) or to one user (`user/…`): no filter that begins with a
    /// wildcard matches it.
    pub fn is_reserved(&self) -> bool {
        self.is_servers() || self.name.starts_with("user/")
    }
}

/// Whether only the server itself reads a topic, or the topics of a filter: see [`Topic::is_internal`].
pub(crate) fn is_internal(text: &str) -> bool {
    text.starts_with('$') && text.split('/').next() != Some("$SYS")
}

/// The hash behind [`Topic::stable_hash`].
pub fn hash_name(name: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(name.as_bytes())
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.name == other.name
    }
}
impl Eq for Topic {}
impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
impl PartialOrd for Topic {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Topic {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.name.cmp(&other.name)
    }
}
impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.name, f)
    }
}
impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The text of a topic stands for it in records.
impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Topic {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Topic::parse(&text).map_err(D::Error::custom)
    }
}

/// A filter: one exact topic, or a pattern.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Filter {
    /// Exactly this topic.
    Exact(Topic),
    /// A pattern with at least one wildcard.
    Wild(Pattern),
}

/// A filter's text with at least one `+` or `#`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Arc<str>);

impl Filter {
    /// Parses a filter; without wildcards it is an exact one.
    pub fn parse(text: &str) -> Result<Self, TopicError> {
        check_length(text)?;
        if !text.contains(['+', '#']) {
            return Topic::parse(text).map(Filter::Exact);
        }
        let mut at = 0;
        for level in text.split('/') {
            check_level(level, at, at + level.len() == text.len())?;
            at += level.len() + 1;
        }
        Ok(Filter::Wild(Pattern(text.into())))
    }

    /// The filter's text.
    pub fn as_str(&self) -> &str {
        match self {
            Filter::Exact(topic) => topic.as_str(),
            Filter::Wild(pattern) => pattern.as_str(),
        }
    }

    /// Whether the filter takes the topic.
    pub fn matches(&self, topic: &Topic) -> bool {
        match self {
            Filter::Exact(exact) => exact == topic,
            Filter::Wild(pattern) => pattern.matches(topic),
        }
    }
}

fn check_level(level: &str, at: usize, last: bool) -> Result<(), TopicError> {
    if let Some(p) = level.find('\0') {
        return Err(TopicError::Forbidden { character: '\0', at: at + p });
    }
    match level.find(['+', '#']) {
        None => Ok(()),
        Some(_) if level == "+" || (level == "#" && last) => Ok(()),
        Some(p) if level.as_bytes()[p] == b'+' => Err(TopicError::PartialPlus(at + p)),
        Some(p) => Err(TopicError::MisplacedHash(at + p)),
    }
}

impl Pattern {
    /// The pattern's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the first level is a wildcard, so that it takes no reserved topics.
    pub fn begins_wild(&self) -> bool {
        self.0.starts_with(['+', '#'])
    }

    /// Whether the pattern takes the topic (MQTT-5.0 §4.7.1, and `Topic::is_reserved`).
    pub fn matches(&self, topic: &Topic) -> bool {
        !(self.begins_wild() && topic.is_reserved()) && self.covers(topic)
    }

    /// Whether the pattern takes the topic, reserved or not: rules match in this way.
    pub fn covers(&self, topic: &Topic) -> bool {
        let mut names = topic.as_str().split('/');
        for level in self.0.split('/') {
            match (level, names.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (exact, Some(name)) if exact == name => {}
                _ => return false,
            }
        }
        names.next().is_none()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_says_which_character_is_wrong() {
        assert_eq!(Topic::parse(""), Err(TopicError::Empty));
        assert_eq!(Topic::parse("a/+"), Err(TopicError::Forbidden { character: '+', at: 2 }));
        assert_eq!(Topic::parse("a\0"), Err(TopicError::Forbidden { character: '\0', at: 1 }));
        assert_eq!(Topic::parse(&"x".repeat(1025)), Err(TopicError::TooLong(1025)));
        assert!(Topic::parse(&"x".repeat(1024)).is_ok());
        assert!(Topic::parse("/a//b/").is_ok());
    }

    #[test]
    fn filters_that_are_not() {
        assert_eq!(Filter::parse("a/b+/c"), Err(TopicError::PartialPlus(3)));
        assert_eq!(Filter::parse("a/#/c"), Err(TopicError::MisplacedHash(2)));
        assert_eq!(Filter::parse("a#"), Err(TopicError::MisplacedHash(1)));
        assert_eq!(Filter::parse("a/+\0"), Err(TopicError::Forbidden { character: '\0', at: 3 }));
    }

    #[test]
    fn filters_match_as_mqtt_says() {
        for (filter, topic, expected) in [
            ("a/b", "a/b", true),
            ("a/b", "a/c", false),
            ("a/+", "a/b", true),
            ("a/+", "a", false),
            ("a/+", "a/b/c", false),
            ("a/#", "a", true),
            ("a/#", "a/b/c", true),
            ("a/#", "ab", false),
            ("+", "a", true),
            ("+", "/a", false),
            ("+/+", "/a", true),
            ("/+", "/a", true),
            ("#", "a/b", true),
            ("a/+/c", "a//c", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("#", "user/alice", false),
            ("+/alice", "user/alice", false),
            ("user/+", "user/alice", true),
            ("#", "users/alice", true),
        ] {
            let (f, t) = (Filter::parse(filter).unwrap(), Topic::parse(topic).unwrap());
            assert_eq!(f.matches(&t), expected, "{filter} on {topic}");
        }
    }
}
