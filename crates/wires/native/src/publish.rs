//! From a `publish` frame to a draft.

use std::time::Duration;

use everywire_base::ask::Draft;
use everywire_base::envelope;
use everywire_base::record::Message;
use everywire_base::rules::Caller;
use everywire_base::topic::Topic;
use everywire_wire::Context;
use serde::de::IgnoredAny;

use crate::frames::{Problem, Publish};

/// The longest idempotency key, event name or media type, in bytes.
const MAX_NAME_BYTES: usize = 255;
/// Names of events that on a stream are the server's or the browser's own.
const RESERVED_EVENTS: [&str; 4] = ["close", "error", "gap", "open"];

/// Checks a message, and counts it against its publisher's bounds.
pub(crate) fn draft(publish: Publish, who: Caller<'_>, cx: &Context<'_>) -> Result<Draft, Problem> {
    let id = publish.id;
    let topic = Topic::parse(&publish.topic).map_err(|error| Problem::bad(id, format!("`topic`: {error}")))?;
    cx.rules.may_publish(who, &topic).map_err(|refusal| Problem::refused(id, &refusal))?;
    let rule = cx.rules.of(&topic);
    if publish.body.len() > rule.max_message {
        let bound = rule.max_message;
        return Err(Problem::new(id, 413, format!("a message of this topic has at most {bound} bytes")));
    }
    for (name, what) in [(&publish.event, "event"), (&publish.key, "key"), (&publish.content_type, "type")] {
        check_name(id, name.as_deref(), what)?;
    }
    if let Some(event) = publish.event.as_deref().filter(|event| RESERVED_EVENTS.contains(event)) {
        let reason = format!("the event name {event:?} is the server's own on a stream: choose another");
        return Err(Problem::bad(id, reason));
    }
    let is_json = publish.content_type.as_deref().is_some_and(envelope::is_json);
    if is_json && !(publish.body.is_empty() && publish.retain) {
        // JSON is checked once, here (RULES 27).
        let checked = serde_json::from_slice::<IgnoredAny>(&publish.body);
        checked.map_err(|_| Problem::bad(id, "the body says it is JSON, but it is not"))?;
    }
    cx.spend(who, publish.body.len()).map_err(|wait| {
        let wait = (wait.as_millis() as u64).max(1);
        Problem::new(id, 429, format!("too much is published: try again in {wait} ms")).retry(wait)
    })?;
    let ttl = (publish.ttl > 0).then(|| Duration::from_secs(publish.ttl.min(u64::from(u32::MAX))));
    let message = Message {
        topic,
        from: who.and_then(|who| who.user.clone()),
        event: publish.event,
        content_type: publish.content_type,
        key: publish.key,
        body: publish.body,
        retain: publish.retain,
        qos: 1,
        expires: ttl.map(|ttl| cx.now.wall.after(ttl)),
        generation: 0,
    };
    Ok(Draft { message, durability: rule.durability })
}

fn check_name(id: u64, name: Option<&str>, what: &str) -> Result<(), Problem> {
    let fits = |name: &str| !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    if name.is_none_or(fits) {
        return Ok(());
    }
    Err(Problem::bad(id, format!("`{what}` has 1 to {MAX_NAME_BYTES} bytes and no control characters")))
}
