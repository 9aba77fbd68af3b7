//! The checks of every wire before a message goes to the log, and the reasons to refuse one.

use std::time::Duration;

use crate::ask::Draft;
use crate::envelope;
use crate::identity::{decode, encode};
use crate::json::{self, NotJson};
use crate::limits::Limits;
use crate::record::{Durability, Message};
use crate::rules::{Caller, Refusal, Rules};
use crate::topic::Topic;

/// The longest idempotency key, event name or media type, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Names of events that on a stream are the server's or the browser's own.
const RESERVED_EVENTS: [&str; 4] = ["close", "error", "gap", "open"];

/// Events of rooms and inboxes that only the server publishes.
pub const CHANGES: [&str; 5] = ["edit", "invite", "react", "recall", "subject"];

/// The reason why a message can't be published as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its publisher may not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The body is longer than the number of bytes that the topic's rule allows.
    #[error("the body is too large: a message of this topic has at most {0} bytes")]
    TooLarge(usize),
    /// A name that can't travel in lines.
    #[error("`{0}` has 1 to {MAX_NAME_BYTES} bytes and no control characters")]
    Name(&'static str),
    /// An event that a reader would take for the server's word.
    #[error("the event name {0:?} is the server's own on a stream: choose another")]
    ReservedEvent(Box<str>),
    /// The body is not JSON though its type says so.
    #[error("the body says it is JSON, but it is not: {0}")]
    NotJson(#[from] NotJson),
    /// The bytes of retained messages of its publisher are used up.
    #[error(
        "the bytes of retained messages that a user, or an address, may have are used up: remove some, or publish without \
         retaining (limits.retained_bytes_each)"
    )]
    RetainedUsedUp,
    /// The bounds of its publisher are used up; they allow it after this time.
    #[error("too much is published: come again in {} ms (limits.user_…, limits.address_…)", .0.as_millis().max(1))]
    TooFast(Duration),
}

/// Checks a message against the rules: its publisher, its length, its media type. JSON is checked here and nowhere
/// else.
pub fn check(mut message: Message, who: Caller<'_>, rules: &Rules, limits: &Limits) -> Result<Draft, Unfit> {
    let guards = rules.judge_publish(who, &message.topic)?;
    rules.hide_author(who, &mut message);
    let draft = fit(message, rules, limits)?;
    let copy = draft.message().and_then(|message| copy_of(message, who));
    // The answer gives the lower promise of both messages.
    let kept = copy.as_ref().map_or(draft.durability, |copy| rules.of(&copy.topic).durability);
    let durability = if kept == Durability::Fsync { draft.durability } else { kept };
    Ok(Draft { guards, durability, pair: copy.map(|copy| Box::new(copy.into())), ..draft })
}

/// Checks the same except the publisher: for messages that the operator has allowed.
pub fn fit(message: Message, rules: &Rules, limits: &Limits) -> Result<Draft, Unfit> {
    let rule = rules.of(&message.topic);
    if message.body.len() > rule.max_message {
        return Err(Unfit::TooLarge(rule.max_message));
    }
    message.event.as_deref().map_or(Ok(()), check_event)?;
    message.event.as_deref().map_or(Ok(()), |event| check_change(event, &message.topic))?;
    message.key.as_deref().map_or(Ok(()), |key| check_name(key, "key"))?;
    message.content_type.as_deref().map_or(Ok(()), |text| check_name(text, "type"))?;
    let removes = message.body.is_empty() && message.retain;
    if message.content_type.as_deref().is_some_and(envelope::is_json) && !removes {
        json::check(&message.body, limits.json_depth)?;
    }
    Ok(Draft::new(message, rule.durability))
}

/// The copy of a user's message to another, for the user's own inbox, so that the user's other devices have it: the
/// inbox of each of them is the whole exchange.
fn copy_of(message: &Message, who: Caller<'_>) -> Option<Message> {
    let user = who?.user.as_deref()?;
    let other = message.topic.as_str().strip_prefix("user/").filter(|other| !other.contains('/'))?;
    if message.event.as_deref() != Some("chat") || other == encode(user) {
        return None;
    }
    to_self(message, user, &decode(other))
}

/// The copy in the inbox of a user who writes to another one.
pub fn to_self(message: &Message, user: &str, other: &str) -> Option<Message> {
    let topic = Topic::parse(&format!("user/{}", encode(user))).ok()?;
    let mut extras = message.extras.clone().unwrap_or_default();
    extras.to = Some(other.into());
    let extras = Some(extras);
    Some(Message { topic, extras, key: None, once: None, retain: false, ..message.clone() })
}

/// Refuses events that only the server publishes, after its own check: those that change a message or a room.
fn check_change(event: &str, topic: &Topic) -> Result<(), Unfit> {
    let is_of_people = topic.as_str().starts_with("room/") || topic.as_str().starts_with("user/");
    if is_of_people && CHANGES.contains(&event) {
        let why = format!("publishing the event {event} to {topic}: there is a route for it (docs/rooms.md)");
        return Err(Unfit::Refused(Refusal::Forbidden(why.into())));
    }
    Ok(())
}

/// Checks a name that travels in lines: no control characters, not empty, bounded.
pub fn check_name(text: &str, what: &'static str) -> Result<(), Unfit> {
    let fits = !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(Unfit::Name(what)) }
}

/// Checks an event's name; those that a reader would take for the server's own are refused.
pub fn check_event(text: &str) -> Result<(), Unfit> {
    if RESERVED_EVENTS.contains(&text) {
        return Err(Unfit::ReservedEvent(text.into()));
    }
    check_name(text, "event")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &'static str) -> Message {
        Message::new(Topic::parse("t").unwrap(), body)
    }

    #[test]
    fn what_a_message_may_not_be() {
        let refused = |message| check(message, None, &Rules::default(), &Limits::default()).unwrap_err().to_string();
        let json = Message { content_type: Some("application/json".into()), ..message("{\n?") };
        assert_eq!(refused(json), "the body says it is JSON, but it is not: see line 2 column 1");
        let event = Message { event: Some("gap".into()), ..message("") };
        assert!(refused(event).starts_with("the event name \"gap\""));
        let key = Message { key: Some("a\nb".into()), ..message("") };
        assert_eq!(refused(key), "`key` has 1 to 255 bytes and no control characters");
        let server = Message::new(Topic::parse("$users/ann").unwrap(), "");
        assert!(refused(server).starts_with("not allowed"));
    }

    #[test]
    fn an_empty_body_removes_what_is_retained_whatever_its_type() {
        let removes = Message { content_type: Some("application/json".into()), retain: true, ..message("") };
        assert!(check(removes, None, &Rules::default(), &Limits::default()).is_ok());
    }
}
