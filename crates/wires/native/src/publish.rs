//! Publishing: from a `publish` frame to a message.

use std::time::Duration;

use everywire_base::clock::UnixMillis;
use everywire_base::id::MessageId;
use everywire_base::record::{Extras, Message};
use everywire_base::rules::Caller;
use everywire_base::topic::Topic;

use crate::frames::{Problem, Publish};

/// The message of a frame, not checked yet.
pub(crate) fn message(publish: Publish, who: Caller<'_>, now: UnixMillis) -> Result<Message, Problem> {
    let id = publish.id;
    let topic = Topic::parse(&publish.topic).map_err(|error| Problem::bad(id, format!("`topic`: {error}")))?;
    let no_id = |_| Problem::bad(id, "`ref` is the id of a message");
    let about = publish.about.as_deref().map(str::parse::<MessageId>).transpose().map_err(no_id)?;
    let ttl = (publish.ttl > 0).then(|| Duration::from_secs(publish.ttl.min(u64::from(u32::MAX))));
    Ok(Message {
        from: who.and_then(|who| who.user.clone()),
        event: publish.event,
        content_type: publish.content_type,
        key: publish.key,
        retain: publish.retain,
        expires: ttl.map(|ttl| now.after(ttl)),
        extras: about.map(|id| Box::new(Extras { about: Some(id), ..Extras::default() })),
        ..Message::new(topic, publish.body)
    })
}
