//! From a `publish` frame to a message.

use std::time::Duration;

use everywire_base::clock::UnixMillis;
use everywire_base::record::Message;
use everywire_base::rules::Caller;
use everywire_base::topic::{Topic, TopicError};

use crate::frames::Publish;

/// The message of a frame, not checked yet.
pub(crate) fn message(publish: Publish, who: Caller<'_>, now: UnixMillis) -> Result<Message, TopicError> {
    let ttl = (publish.ttl > 0).then(|| Duration::from_secs(publish.ttl.min(u64::from(u32::MAX))));
    Ok(Message {
        from: who.and_then(|who| who.user.clone()),
        event: publish.event,
        content_type: publish.content_type,
        key: publish.key,
        retain: publish.retain,
        expires: ttl.map(|ttl| now.after(ttl)),
        ..Message::new(Topic::parse(&publish.topic)?, publish.body)
    })
}
