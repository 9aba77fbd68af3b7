//! Topic rules: the history of topics, their durability, and the users who may use them. The first match wins.

use std::time::Duration;

use crate::access::{Role, RoomKeeper, Standing};
use crate::ask::Guard;
use crate::identity::Identity;
use crate::record::{Durability, Message};
use crate::topic::{Filter, Pattern, Topic, is_internal};

/// The identity that asks; `None` is anonymous.
pub type Caller<'a> = Option<&'a Identity>;

/// The rights of clients without an identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Anonymous {
    /// None: they must log in.
    Refused,
    /// Those that the topic rules give to anyone.
    Allowed,
    /// The same, and to publish to inboxes: no other way to come in is configured.
    #[default]
    Everything,
}

/// The fate of a user's earlier connections at a new login.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Logins {
    /// All stay.
    #[default]
    All,
    /// The newest connection of each device stays.
    OnePerDevice,
    /// The newest connection of each user stays.
    OnePerUser,
}

/// The rule for the topics that a filter takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicRule {
    /// The filter of the topics.
    pub filter: Filter,
    /// The bounds of its history.
    pub history: History,
    /// The promise of an acknowledgement.
    pub durability: Durability,
    /// Whether subscribers of a room's topic enter the room.
    pub presence: bool,
    /// The users who may publish; nobody if empty.
    pub publish: Vec<Who>,
    /// The users who may subscribe; nobody if empty.
    pub subscribe: Vec<Who>,
    /// The longest body, in bytes.
    pub max_message: usize,
    /// The fate of a reader that falls behind a topic without history.
    pub slow_consumer: SlowConsumer,
}

/// The bounds of a topic's history: a message beyond any of the three is forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct History {
    /// The age of the oldest message that is kept.
    pub max_age: Duration,
    /// The number of messages that are kept; 0 keeps none.
    pub max_messages: u64,
    /// The number of bytes of bodies that are kept.
    pub max_bytes: u64,
}

impl Default for History {
    fn default() -> Self {
        Self { max_age: Duration::from_hours(7 * 24), max_messages: 10_000, max_bytes: 64 << 20 }
    }
}

/// The users to whom a rule gives a right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    /// All clients that are let in.
    Anyone,
    /// All clients that have an identity.
    User,
    /// The members of the room.
    Member,
    /// The owner of the room or of the inbox.
    Owner,
}

/// The fate of a reader that falls behind a topic without history.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SlowConsumer {
    /// The reader gets a gap and goes on.
    #[default]
    Skip,
    /// Its connection is closed.
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

    /// The rule of the server's own records, `$…`: only retained ones are kept.
    fn own() -> Self {
        let history = History { max_messages: 0, ..History::default() };
        Self { filter: Filter::parse("$own/#").expect("a filter"), history, ..Self::fallback() }
    }

    /// Whether messages are kept at all.
    pub fn keeps_history(&self) -> bool {
        self.durability != Durability::None && self.history.max_messages > 0
    }
}

/// All rules, in the order in which they are tried, and the rules for logins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    first: Vec<TopicRule>,
    fallback: TopicRule,
    own: TopicRule,
    /// The rights of clients without an identity.
    pub anonymous: Anonymous,
    /// The fate of a user's earlier connections at a new login.
    pub logins: Logins,
    /// The keeper of rooms and their members.
    pub rooms: RoomKeeper,
}

impl Default for Rules {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

/// The reason why an ask is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An identity is needed.
    #[error("{0} needs an identity: log in, or send a token")]
    Unauthorized(Box<str>),
    /// The identity doesn't have the right.
    #[error("not allowed: {0}")]
    Forbidden(Box<str>),
    /// More than a bound allows.
    #[error("too much: {0}")]
    TooMany(Box<str>),
    /// This node is behind the cursor, and doesn't know yet whether that is one of the log.
    #[error("this server has not come as far as this cursor: try again, here or at another server")]
    Behind,
}

impl Rules {
    /// Rules in the order in which they are tried; a topic that none takes has [`TopicRule::fallback`].
    pub fn new(rules: Vec<TopicRule>) -> Self {
        let (anonymous, logins) = (Anonymous::default(), Logins::default());
        Self {
            first: rules,
            fallback: TopicRule::fallback(),
            own: TopicRule::own(),
            anonymous,
            logins,
            rooms: RoomKeeper::default(),
        }
    }

    /// The rule of a topic.
    pub fn of(&self, topic: &Topic) -> &TopicRule {
        if topic.as_str().starts_with('$') {
            return &self.own;
        }
        self.said_of(topic)
    }

    /// The configured rule of a topic, which may be the server's own.
    fn said_of(&self, topic: &Topic) -> &TopicRule {
        self.first.iter().find(|r| covers(&r.filter, topic)).unwrap_or(&self.fallback)
    }

    /// Every rule, the fallback last.
    pub fn all(&self) -> impl Iterator<Item = &TopicRule> {
        self.first.iter().chain([&self.fallback])
    }

    /// The longest body that any rule allows, in bytes.
    pub fn max_message(&self) -> usize {
        self.all().map(|r| r.max_message).max().unwrap_or_default()
    }

    /// Whether a client may come in at all.
    pub fn may_enter(&self, who: Caller<'_>) -> Result<(), Refusal> {
        match (who, self.anonymous) {
            (None, Anonymous::Refused) => Err(Refusal::Unauthorized("this server".into())),
            _ => Ok(()),
        }
    }

    /// Whether a client may publish to the topic. Nobody may publish to the server's own topics, except for the state
    /// of a bridge's connection; an inbox takes messages of all who have an identity (RULES 20).
    pub fn may_publish(&self, who: Caller<'_>, topic: &Topic) -> Result<(), Refusal> {
        self.judge_publish(who, topic).map(drop)
    }

    /// The same, with the guards of that judgement.
    pub fn judge_publish(&self, who: Caller<'_>, topic: &Topic) -> Result<Box<[Guard]>, Refusal> {
        let name = topic.as_str();
        if topic.is_servers() && !topic.is_of_a_bridge() {
            return Err(Refusal::Forbidden(
                format!("topics that begin with $ are the server's, {topic} is one").into(),
            ));
        }
        self.may_enter(who)?;
        if name.starts_with("user/") && who.is_none() && self.anonymous != Anonymous::Everything {
            return Err(Refusal::Unauthorized(format!("publishing to {topic}").into()));
        }
        let granted =
            who.and_then(|who| who.publish.as_deref()).map(|filters| filters.iter().any(|f| covers(f, topic)));
        let user = who.and_then(|who| who.user.as_deref());
        let guards = self.rooms.guards(name, user);
        let (doing, standing) = ("publishing to", self.standing(who, name));
        allowed(&self.said_of(topic).publish, who, granted, standing.as_ref(), doing, name)?;
        let Some(standing) = standing else {
            return match guards {
                // A room may be founded at the same moment, which may hide its users.
                Some([head, _]) if user.is_some() => Ok(Box::new([head])),
                _ => self.taken_by_its_owner(who, name),
            };
        };
        admitted(standing, who, granted, doing, name)?;
        let is_operator = who.is_some_and(|who| who.admin);
        if standing.role < standing.talks_from
            && !is_operator
            && !(granted.is_some() && standing.talks_from <= Role::Member)
        {
            let who = if standing.talks_from > Role::Member { "admins" } else { "members" };
            return Err(Refusal::Forbidden(format!("{doing} {name}: here {who} alone talk").into()));
        }
        Ok(match guards {
            Some(guards) if !is_operator => Box::new(guards),
            _ => Box::default(),
        })
    }

    /// Puts the alias of its author into a message for a room that hides its users. Call it again whenever such a message
    /// is judged again.
    pub fn hide_author(&self, who: Caller<'_>, message: &mut Message) {
        let Some(user) = who.and_then(|who| who.user.as_deref()) else { return };
        if let Some(alias) = self.rooms.alias(message.topic.as_str(), user) {
            alias.hide(user, message);
        }
    }

    /// Refuses users whom the owner of an inbox has blocked.
    fn taken_by_its_owner(&self, who: Caller<'_>, name: &str) -> Result<Box<[Guard]>, Refusal> {
        let user = who.filter(|who| !who.admin).and_then(|who| who.user.as_deref());
        let Some((is_blocked, guard)) = user.and_then(|user| self.rooms.blocked(name, user)) else {
            return Ok(Box::default());
        };
        if is_blocked {
            return Err(Refusal::Forbidden(format!("publishing to {name}: its owner takes nothing from you").into()));
        }
        Ok(Box::new([guard]))
    }

    /// The rights of a client in the room of a topic or filter, if there is a room.
    fn standing(&self, who: Caller<'_>, name: &str) -> Option<Standing> {
        self.rooms.standing(name, who.and_then(|who| who.user.as_deref()))
    }

    /// Whether a client may subscribe to all topics that the filter takes: every rule that overlaps it must allow it in
    /// full (RULES 32). Only its owner may subscribe to an inbox.
    pub fn may_subscribe(&self, who: Caller<'_>, filter: &Filter) -> Result<(), Refusal> {
        let (doing, text) = ("subscribing to", filter.as_str());
        if is_internal(text) {
            return Err(Refusal::Forbidden(format!("{doing} {text}: it is the server's own").into()));
        }
        self.may_enter(who)?;
        if text.starts_with("user/") && !who.is_some_and(|who| who.admin || who.owns(text)) {
            return Err(match who {
                None => Refusal::Unauthorized(format!("{doing} {text}").into()),
                Some(_) => Refusal::Forbidden(format!("{doing} {text}: an inbox is its owner's alone").into()),
            });
        }
        let claims = who.filter(|who| !who.owns(text)).and_then(|who| who.subscribe.as_deref());
        let granted = claims.map(|filters| filters.iter().any(|f| contains(f, filter)));
        let standing = self.standing(who, text);
        let may = |rule: &TopicRule| allowed(&rule.subscribe, who, granted, standing.as_ref(), doing, text);
        match filter {
            Filter::Exact(topic) => may(self.of(topic)),
            Filter::Wild(pattern) => self.all().filter(|rule| reaches(pattern, &rule.filter)).try_for_each(may),
        }?;
        standing.map_or(Ok(()), |standing| admitted(standing, who, granted, doing, text))
    }

    /// Whether a client may have a message of this topic that comes by a filter with wildcards: such a filter takes
    /// rooms of which the client may not read all.
    pub fn may_see(&self, who: Caller<'_>, topic: &Topic) -> bool {
        let Some(standing) = self.standing(who, topic.as_str()) else { return true };
        let claims = who.and_then(|who| who.subscribe.as_deref());
        let granted = claims.map(|filters| filters.iter().any(|f| covers(f, topic)));
        admitted(standing, who, granted, "reading", topic.as_str()).is_ok()
    }
}

/// Whether a room admits a client. A token's filter replaces a membership, but doesn't lift a ban.
fn admitted(
    standing: Standing,
    who: Caller<'_>,
    granted: Option<bool>,
    doing: &str,
    what: &str,
) -> Result<(), Refusal> {
    if who.is_some_and(|who| who.admin) {
        return Ok(());
    }
    if standing.role == Role::Banned {
        return Err(Refusal::Forbidden(format!("{doing} {what}: you are banned from this room").into()));
    }
    if standing.is_open || standing.role.is_member() || granted == Some(true) {
        return Ok(());
    }
    let what = format!("{doing} {what}: this room is its members' alone").into();
    Err(if who.is_some() { Refusal::Forbidden(what) } else { Refusal::Unauthorized(what) })
}

/// Whether a rule's list allows it to a client. If the token has filters of its own, they decide (`granted`); an empty
/// list forbids it to all but operators.
fn allowed(
    list: &[Who],
    who: Caller<'_>,
    granted: Option<bool>,
    standing: Option<&Standing>,
    doing: &str,
    what: &str,
) -> Result<(), Refusal> {
    if who.is_some_and(|who| who.admin) {
        return Ok(());
    }
    if list.is_empty() {
        return Err(Refusal::Forbidden(format!("{doing} {what} is forbidden by its rule").into()));
    }
    match granted {
        Some(true) => return Ok(()),
        Some(false) => {
            return Err(Refusal::Forbidden(format!("{doing} {what}: the token's filters leave it out").into()));
        }
        None => {}
    }
    let is_one = |one: &Who| match one {
        Who::Anyone => true,
        Who::User => who.is_some_and(|who| who.user.is_some()),
        Who::Owner => who.is_some_and(|who| who.owns(what)) || standing.is_some_and(|room| room.role == Role::Owner),
        Who::Member => standing.is_some_and(|room| room.role.is_member()),
    };
    match who {
        _ if list.iter().any(is_one) => Ok(()),
        None => Err(Refusal::Unauthorized(format!("{doing} {what}").into())),
        Some(_) => Err(Refusal::Forbidden(format!("{doing} {what}: its rule names others").into())),
    }
}

fn covers(filter: &Filter, topic: &Topic) -> bool {
    match filter {
        Filter::Exact(exact) => exact == topic,
        Filter::Wild(pattern) => pattern.covers(topic),
    }
}

/// Whether a pattern takes some topic of the rule. A pattern that begins with a wildcard takes no reserved topics.
fn reaches(pattern: &Pattern, rule: &Filter) -> bool {
    let text = rule.as_str();
    let reserved = text.starts_with('$') || text.starts_with("user/");
    !(reserved && pattern.begins_wild()) && overlaps(text, pattern.as_str())
}

/// Whether one filter takes all that another takes.
pub fn contains(outer: &Filter, inner: &Filter) -> bool {
    let (mut outer, mut inner) = (outer.as_str().split('/'), inner.as_str().split('/'));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(x), Some(y)) if x == y => {}
            _ => return false,
        }
    }
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
            assert_eq!(rules.may_subscribe(None, &Filter::parse(filter).unwrap()).is_ok(), ok, "{filter}");
        }
    }

    #[test]
    fn the_first_match_wins_and_reserved_topics_have_rules_too() {
        let mut first = rule("user/#", vec![]);
        first.max_message = 1;
        let rules = Rules::new(vec![first, rule("#", vec![])]);
        assert_eq!(rules.of(&Topic::parse("user/alice").unwrap()).max_message, 1);
        assert_eq!(rules.of(&Topic::parse("$SYS/x").unwrap()).max_message, TopicRule::fallback().max_message);
        assert!(rules.may_publish(None, &Topic::parse("$SYS/x").unwrap()).is_err());
    }

    #[test]
    fn who_may_do_what() {
        let list = |publish: Vec<Who>, filter: &str| TopicRule { publish: publish.clone(), ..rule(filter, publish) };
        let mut rules = Rules::new(vec![
            list(vec![Who::User], "users/#"),
            list(vec![Who::Member], "room/#"),
            list(vec![], "closed/#"),
        ]);
        rules.anonymous = Anonymous::Allowed;
        let alice = Identity::user("alice");
        let filters = |all: &[&str]| Some(all.iter().map(|f| Filter::parse(f).unwrap()).collect());
        let scoped =
            Identity { publish: filters(&["room/+"]), subscribe: filters(&["room/1/#", "closed/x"]), ..alice.clone() };
        let admin = Identity { admin: true, ..Identity::default() };
        // Each line: the caller, topic or filter, whether publishing (of a topic) and subscribing are allowed.
        for (who, text, publishes, subscribes) in [
            (None, "t", true, true),
            (None, "users/x", false, false),
            (None, "user/alice", false, false),
            (None, "$SYS/x", false, true),
            (None, "$SYS/broker/connection/b/state", true, true),
            (None, "$SYS/broker/connection/state", false, true),
            (None, "$SYS/broker/connection/b", false, true),
            (Some(&scoped), "$SYS/broker/connection/b/state", false, false),
            (Some(&alice), "users/x", true, true),
            (Some(&alice), "users/#", false, true),
            (Some(&alice), "room/1", false, false),
            (Some(&alice), "user/alice", true, true),
            (Some(&alice), "user/alice/phone", true, true),
            (Some(&alice), "user/alice/#", false, true),
            (Some(&alice), "user/bob", true, false),
            (Some(&alice), "user/+", false, false),
            (Some(&alice), "user/#", false, false),
            (Some(&alice), "$users/alice", false, false),
            (Some(&scoped), "room/1", true, true),
            (Some(&scoped), "room/2", true, false),
            (Some(&scoped), "room/+", false, false),
            (Some(&scoped), "closed/x", false, false),
            (Some(&scoped), "t", false, false),
            (Some(&scoped), "user/alice", false, true),
            (Some(&admin), "closed/x", true, true),
            (Some(&admin), "user/bob", true, true),
            (Some(&admin), "$users/bob", false, false),
        ] {
            let filter = Filter::parse(text).unwrap();
            assert_eq!(rules.may_subscribe(who, &filter).is_ok(), subscribes, "subscribing to {text} as {who:?}");
            if let Filter::Exact(topic) = filter {
                assert_eq!(rules.may_publish(who, &topic).is_ok(), publishes, "publishing to {text} as {who:?}");
            }
        }
        rules.anonymous = Anonymous::Refused;
        assert!(matches!(rules.may_publish(None, &Topic::parse("t").unwrap()), Err(Refusal::Unauthorized(_))));
        let state = Topic::parse("$SYS/broker/connection/b/state").unwrap();
        assert!(rules.may_publish(None, &state).is_err());
        assert!(Rules::new(vec![list(vec![], "#")]).may_publish(None, &state).is_err(), "a rule that forbids all");
    }
}
