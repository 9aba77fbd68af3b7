//! What every wire checks before a message goes to the log, and why it may be refused.

use std::time::Duration;

use crate::ask::Draft;
use crate::envelope;
use crate::json::{self, NotJson};
use crate::limits::Limits;
use crate::record::Message;
use crate::rules::{Caller, Refusal, Rules};

/// The longest idempotency key, event name or media type, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Names of events that on a stream are the server's or the browser's own.
const RESERVED_EVENTS: [&str; 4] = ["close", "error", "gap", "open"];

/// Why a message can't be published as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Its publisher may not.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The body is longer than the topic's rule allows, so many bytes.
    #[error("the body is too large: a message of this topic has at most {0} bytes")]
    TooLarge(usize),
    /// A name that can't travel in lines.
    #[error("`{0}` has 1 to {MAX_NAME_BYTES} bytes and no control characters")]
    Name(&'static str),
    /// An event that a reader would take for the server's word.
    #[error("the event name {0:?} is the server's own on a stream: choose another")]
    ReservedEvent(Box<str>),
    /// The body says it is JSON.
    #[error("the body says it is JSON, but it is not: {0}")]
    NotJson(#[from] NotJson),
    /// The bounds of its publisher are used up; they allow it after this time.
    #[error("too much is published: come again in {} ms (limits.user_…, limits.address_…)", .0.as_millis().max(1))]
    TooFast(Duration),
}

/// Checks a message against the rules: who publishes it, how long it is, what it says it is. JSON is checked here and
/// nowhere else.
pub fn check(message: Message, who: Caller<'_>, rules: &Rules, limits: &Limits) -> Result<Draft, Unfit> {
    rules.may_publish(who, &message.topic)?;
    let rule = rules.of(&message.topic);
    if message.body.len() > rule.max_message {
        return Err(Unfit::TooLarge(rule.max_message));
    }
    message.event.as_deref().map_or(Ok(()), check_event)?;
    message.key.as_deref().map_or(Ok(()), |key| check_name(key, "key"))?;
    message.content_type.as_deref().map_or(Ok(()), |text| check_name(text, "type"))?;
    let removes = message.body.is_empty() && message.retain;
    if message.content_type.as_deref().is_some_and(envelope::is_json) && !removes {
        json::check(&message.body, limits.json_depth)?;
    }
    Ok(Draft { durability: rule.durability, message })
}

/// A name that travels in lines: no control characters, not empty, bounded.
pub fn check_name(text: &str, what: &'static str) -> Result<(), Unfit> {
    let fits = !text.is_empty() && text.len() <= MAX_NAME_BYTES && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(Unfit::Name(what)) }
}

/// An event's name; those that a reader would take for the server's word are refused.
pub fn check_event(text: &str) -> Result<(), Unfit> {
    if RESERVED_EVENTS.contains(&text) {
        return Err(Unfit::ReservedEvent(text.into()));
    }
    check_name(text, "event")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::Topic;

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
