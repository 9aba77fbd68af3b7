//! Topic rules: how long a topic's messages are kept, how durable they are, and who may use it. First match wins.

use std::time::Duration;

use crate::record::Durability;
use crate::topic::{Filter, Pattern, Topic};

/// What holds for the topics that a filter takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicRule {
    /// Which topics.
    pub filter: Filter,
    /// How much is kept.
    pub history: History,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// Whether subscribers are listed.
    pub presence: bool,
    /// Who may publish; nobody if empty.
    pub publish: Vec<Who>,
    /// Who may subscribe; nobody if empty.
    pub subscribe: Vec<Who>,
    /// The longest body, in bytes.
    pub max_message: usize,
    /// What happens to a reader who falls behind a topic without history.
    pub slow_consumer: SlowConsumer,
}

/// How much of a topic is kept: what is beyond any of the three bounds is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct History {
    /// The oldest message that is kept.
    pub max_age: Duration,
    /// How many messages are kept; 0 keeps none.
    pub max_messages: u64,
    /// How many bytes of bodies are kept.
    pub max_bytes: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { max_age: Duration::from_hours(24), max_messages: 1000, max_bytes: 16 << 20 }
    }
}

/// Somebody who may.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// Whoever is let in.
    Anyone,
    /// Whoever has an identity.
    User,
    /// Whoever belongs to the room.
    Member,
    /// Whoever owns the room or the inbox.
    Owner,
}

/// What happens to a reader who falls behind a topic without history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SlowConsumer {
    /// He is told of the gap and goes on.
    #[default]
    Skip,
    /// His connection is closed.
    Close,
}

impl TopicRule {
    /// The rule for all topics that no other rule takes.
    pub fn fallback() -> Self {
        Self {
            filter: Filter::parse("#").expect("a filter"),
            history: History::default(),
            durability: Durability::Fsync,
            presence: false,
            publish: vec![Who::Anyone],
            subscribe: vec![Who::Anyone],
            max_message: 256 << 10,
            slow_consumer: SlowConsumer::Skip,
        }
    }

    /// Whether messages are kept at all.
    pub fn keeps_history(&self) -> bool {
        self.durability != Durability::None && self.history.max_messages > 0
    }
}

/// All rules, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    rules: Vec<TopicRule>,
    fallback: TopicRule,
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// Why an ask is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An identity is needed.
    #[error("{0} needs an identity")]
    Unauthorized(Box<str>),
    /// Not allowed.
    #[error("not allowed: {0}")]
    Forbidden(Box<str>),
    /// More than a bound allows.
    #[error("too much: {0}")]
    TooMany(Box<str>),
}

impl Rules {
    /// Rules in the order in which they are tried; what none takes falls to [`TopicRule::fallback`].
    pub fn new(rules: Vec<TopicRule>) -> Self {
        Self { rules, fallback: TopicRule::fallback() }
    }

    /// The rule of a topic.
    pub fn of(&self, topic: &Topic) -> &TopicRule {
        self.rules.iter().find(|r| covers(&r.filter, topic)).unwrap_or(&self.fallback)
    }

    /// Every rule, the fallback last.
    pub fn all(&self) -> impl Iterator<Item = &TopicRule> {
        self.rules.iter().chain([&self.fallback])
    }

    /// The longest body that any rule allows, in bytes.
    pub fn max_message(&self) -> usize {
        self.all().map(|r| r.max_message).max().unwrap_or_default()
    }

    /// Whether an anonymous client may publish there.
    pub fn may_publish(&self, topic: &Topic) -> Result<(), Refusal> {
        if topic.as_str().starts_with('$') {
            return Err(Refusal::Forbidden(
                format!("topics that begin with $ are the server's, {topic} is one").into(),
            ));
        }
        self.allowed(&self.of(topic).publish, "publishing to", topic.as_str())
    }

    /// Whether an anonymous client may subscribe to all that the filter takes: every rule that overlaps it must allow
    /// it in full.
    pub fn may_subscribe(&self, filter: &Filter) -> Result<(), Refusal> {
        match filter {
            Filter::Exact(topic) => self.allowed(&self.of(topic).subscribe, "subscribing to", topic.as_str()),
            Filter::Wild(pattern) => self
                .all()
                .filter(|rule| reaches(pattern, &rule.filter))
                .try_for_each(|rule| self.allowed(&rule.subscribe, "subscribing to", filter.as_str())),
        }
    }

    #[expect(clippy::unused_self, reason = "identities will be compared with the rules' members")]
    fn allowed(&self, who: &[Who], doing: &str, what: &str) -> Result<(), Refusal> {
        if who.contains(&Who::Anyone) {
            Ok(())
        } else if who.is_empty() {
            Err(Refusal::Forbidden(format!("{doing} {what} is forbidden by its rule").into()))
        } else {
            Err(Refusal::Unauthorized(format!("{doing} {what}").into()))
        }
    }
}

fn covers(filter: &Filter, topic: &Topic) -> bool {
    match filter {
        Filter::Exact(exact) => exact == topic,
        Filter::Wild(pattern) => pattern.covers(topic),
    }
}

/// Whether a pattern takes some topic that the rule is for. Reserved ones are out of the reach of a first wildcard.
fn reaches(pattern: &Pattern, rule: &Filter) -> bool {
    let text = rule.as_str();
    let reserved = text.starts_with('$') || text.starts_with("user/");
    !(reserved && pattern.begins_wild()) && overlaps(text, pattern.as_str())
}

/// Whether two filters have a topic in common.
pub fn overlaps(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(x), Some(y)) if x == y => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(filter: &str, subscribe: Vec<Who>) -> TopicRule {
        TopicRule { filter: Filter::parse(filter).unwrap(), subscribe, ..TopicRule::fallback() }
    }

    #[test]
    fn a_filter_is_granted_only_if_every_rule_that_overlaps_it_grants_it() {
        let rules = Rules::new(vec![rule("a/secret", vec![]), rule("b/+", vec![Who::User]), rule("user/#", vec![])]);
        for (filter, ok) in [
            ("a/x", true),
            ("a/secret", false),
            ("a/+", false),
            ("#", false),
            ("b/c", false),
            ("c/#", true),
            ("+/secret/x", true),
            ("+/inbox/x", true),
            ("user/#", false),
            ("b/+/d", true),
        ] {
            assert_eq!(rules.may_subscribe(&Filter::parse(filter).unwrap()).is_ok(), ok, "{filter}");
        }
    }

    #[test]
    fn the_first_match_wins_and_reserved_topics_have_rules_too() {
        let mut first = rule("user/#", vec![]);
        first.max_message = 1;
        let rules = Rules::new(vec![first, rule("#", vec![])]);
        assert_eq!(rules.of(&Topic::parse("user/alice").unwrap()).max_message, 1);
        assert_eq!(rules.of(&Topic::parse("$SYS/x").unwrap()).max_message, TopicRule::fallback().max_message);
        assert!(rules.may_publish(&Topic::parse("$SYS/x").unwrap()).is_err());
    }
}
