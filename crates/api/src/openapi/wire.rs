//! The description of the HTTP wire's routes. The functions are never called: they carry the description of the wire
//! (`everywire-http`). Where the two differ, the wire and `docs/http.md` are right and this is a bug.

#![expect(dead_code, reason = "descriptions, never called nor built")]

use everywire_base::record::Durability;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::problem::Problem;

/// A message, the same on every JSON wire.
#[derive(Serialize, ToSchema)]
pub(crate) struct Envelope {
    /// The message's id: a ULID.
    #[schema(example = "01KAQN5T9M0000000000000509")]
    id: String,
    /// Its topic.
    #[schema(example = "room/42")]
    topic: String,
    /// Its position.
    #[schema(example = "k3f9:1289")]
    cursor: String,
    /// The time at which it was published: RFC 3339, UTC, milliseconds.
    #[schema(example = "2026-11-22T20:12:01.345Z")]
    time: String,
    /// The user who published it; an alias in a room that hides its users.
    #[schema(example = "alice")]
    from: Option<String>,
    /// The nick of its author, if `from` is an alias.
    nick: Option<String>,
    /// With `fold=1`: the user behind an alias, for admins and owners.
    author: Option<String>,
    /// The user to whom it was sent, if it is the copy in its sender's own inbox.
    to: Option<String>,
    /// The id of the message that it answers or changes.
    #[serde(rename = "ref")]
    about: Option<String>,
    /// The name of the event.
    #[schema(example = "chat")]
    event: Option<String>,
    /// The media type of the body.
    #[serde(rename = "type")]
    #[schema(example = "text/plain")]
    kind: Option<String>,
    /// A string; any JSON if `type` is JSON; absent if `body_base64` is there.
    #[schema(example = "hi")]
    body: Option<serde_json::Value>,
    /// The body, if it isn't UTF-8 text.
    body_base64: Option<String>,
    /// With `fold=1`: whether its text was changed.
    edited: Option<bool>,
    /// With `fold=1`: whether it was recalled; then it has no body.
    recalled: Option<bool>,
    /// With `fold=1`: the reactions, and for each the users.
    reactions: Option<std::collections::BTreeMap<String, Vec<String>>>,
    /// Only in streams: it is the topic's retained message, outside the order.
    retained: Option<bool>,
}

/// Messages between `after` and `earliest` were lost to retention or a crash; reading goes on at the earliest kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct Gap {
    /// The topic that lost messages.
    topic: String,
    /// The last position of the reader.
    after: Option<String>,
    /// The position at which reading goes on.
    earliest: String,
}

/// An acknowledged message.
#[derive(Serialize, ToSchema)]
pub(crate) struct Published {
    /// The message's id.
    #[schema(example = "01KAQN5T9M0000000000000509")]
    id: String,
    /// Its topic.
    #[schema(example = "room/42")]
    topic: String,
    /// Its position.
    #[schema(example = "k3f9:1289")]
    cursor: String,
    /// The durability of the acknowledgement: `fsync`, `replicated`, `memory` or `none`.
    #[schema(value_type = String, example = "fsync")]
    durability: Durability,
    /// `true` if it had been published before, under the same ordered key; then `id` and `cursor` may be absent.
    duplicate: Option<bool>,
}

/// Messages to publish.
#[derive(Serialize, ToSchema)]
pub(crate) struct Batch {
    /// At most 1,000.
    messages: Vec<BatchMessage>,
}

/// A message of a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchMessage {
    /// The topic to publish to.
    #[schema(example = "room/42")]
    topic: String,
    /// A string, or any JSON.
    #[schema(example = "hi")]
    body: Option<serde_json::Value>,
    /// The body, if it isn't UTF-8 text.
    body_base64: Option<String>,
    /// The media type; without it a string is text and anything else JSON.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// The name of the event.
    event: Option<String>,
    /// The idempotency key.
    key: Option<String>,
    /// The number of seconds after which it is not delivered any more.
    ttl: Option<u64>,
    /// Whether it becomes the topic's retained message.
    retain: Option<bool>,
    /// The id of the message that it answers.
    #[serde(rename = "ref")]
    about: Option<String>,
}

/// The result of a message of a batch: the fields of an acknowledgement, or of a problem.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResult {
    /// 200, or the error's status.
    status: u16,
    /// The message's id.
    id: Option<String>,
    /// Its topic.
    topic: Option<String>,
    /// Its position.
    cursor: Option<String>,
    /// The durability of the acknowledgement.
    durability: Option<String>,
    /// `true` if it had been published before, under the same ordered key.
    duplicate: Option<bool>,
    /// The number that is accepted next, if an ordered key is ahead of its turn (409).
    expected: Option<u64>,
    /// The error's status in words.
    title: Option<String>,
    /// The fault.
    detail: Option<String>,
}

/// A page of messages.
#[derive(Serialize, ToSchema)]
pub(crate) struct Page {
    /// In order.
    messages: Vec<Envelope>,
    /// The cursor to ask again with, as `after`.
    #[schema(example = "k3f9:1289")]
    cursor: String,
    /// Whether messages after the asked cursor were lost.
    gap: bool,
    /// Whether there are further ones already.
    more: bool,
    /// Backwards: the position at which the page before this one ends.
    before: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct PublishParams {
    /// The topic to publish to: 1 to 1,024 bytes of UTF-8 without NUL, `+`, `#`; levels split by `/`.
    topic: String,
    /// The name of the event.
    event: Option<String>,
    /// The number of seconds after which it is not delivered any more.
    ttl: Option<u64>,
    /// `1`: it becomes the topic's retained message; with an empty body it removes it.
    retain: Option<String>,
    /// The id of the message that it answers.
    #[param(rename = "ref")]
    about: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
struct PublishHeaders {
    /// The same key and body within 2 minutes is published once and answered alike; another body is 409. An ordered key
    /// `seq:PRODUCER:N` counts without holes.
    #[param(rename = "Idempotency-Key")]
    idempotency_key: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct ReadParams {
    /// Topics or filters, each as a parameter of its own; `#` is written `%23`; `+` is a space within a level, and else
    /// itself.
    #[param(style = Form, explode)]
    topic: Vec<String>,
    /// A cursor, `earliest` or `latest`. Without it a plain read starts at the earliest kept message, and a read that
    /// waits or streams starts now.
    after: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct PollParams {
    /// The most messages: 100 unless given, at most 1,000.
    limit: Option<u32>,
    /// Long polling: how many seconds to hang until there is a message; 20 without a value, at most 60.
    wait: Option<u32>,
    /// Reads one topic backwards: the last messages before this cursor, or before `latest`; not with `after` and
    /// `wait`.
    before: Option<String>,
    /// `1`: one topic, each message with its changes folded in, the changes themselves left out; not with `wait`.
    fold: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct EventsParams {
    /// `json` (the default): `data:` is the envelope; `body`: the bare body.
    format: Option<String>,
    /// The same as the header field `Last-Event-ID`, which wins, for scripts that stand in for `EventSource`.
    #[param(rename = "lastEventId")]
    last_event_id: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
struct PadParams {
    /// The number of bytes of the first line (at most 8,192), for proxies that hold the first bytes back.
    pad: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
struct EventsHeaders {
    /// The last `id:`. The stream resumes after it, in place of `after`; a value that is no cursor of this log gives a
    /// gap.
    #[param(rename = "Last-Event-ID")]
    last_event_id: Option<String>,
}

/// Publishes the request's body as it is, with its Content-Type.
#[utoipa::path(post, path = "/v1/messages", tag = "publish", params(PublishParams, PublishHeaders),
    request_body(content = String, content_type = "*/*", description = "The message's body: anything"),
    responses(
    (status = 200, description = "It is as durable as the answer says", body = Published),
    (status = 400, description = "The topic or a parameter is malformed, or a JSON body isn't", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "The topic's rule forbids it", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The key was used for another message, or an ordered key is ahead of its turn: then `expected` is the number that is accepted next", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "The body is longer than the topic's rule allows", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "Not now: the log is busy, the disk is full, the server goes down; or the outcome is unknown", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) fn publish() {}

/// Publishes several messages; the results come in the same order.
#[utoipa::path(post, path = "/v1/batch", tag = "publish", request_body = Batch, responses(
    (status = 200, description = "A result for each message", body = Vec<BatchResult>),
    (status = 400, description = "Not a batch", body = Problem, content_type = "application/problem+json"),
    (status = 413, description = "Too many messages or bytes", body = Problem, content_type = "application/problem+json"),
    (status = 415, description = "The body has a Content-Encoding", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) fn batch() {}

/// Short polling; long polling with `wait`; backwards with `before`.
#[utoipa::path(get, path = "/v1/messages", tag = "receive", params(ReadParams, PollParams), responses(
    (status = 200, description = "Messages, or a gap", body = Page, headers(("Everywire-Cursor" = String, description = "Ask again with this as `after`"))),
    (status = 204, description = "Nothing new", headers(("Everywire-Cursor" = String, description = "Ask again with this as `after`"))),
    (status = 400, description = "A topic, the cursor or a parameter is malformed", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "A topic's rule forbids it", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) fn poll() {}

/// Server-Sent Events: `id:` is the cursor, `event:` the message's event name, `data:` the envelope.
#[utoipa::path(get, path = "/v1/events", tag = "receive", params(ReadParams, EventsParams, PadParams, EventsHeaders), responses(
    (status = 200, description = "Events until one side closes. A heartbeat is a comment; an `id:` without data moves the position; `event: gap` with a Gap says that messages were lost; `event: close` says why the server ends, and `retry:` when to come back", body = String, content_type = "text/event-stream"),
    (status = 400, description = "A topic, the cursor or a parameter is malformed", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "A topic's rule forbids it", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) fn events() {}

/// The stream of messages as newline-delimited JSON.
#[utoipa::path(get, path = "/v1/stream", tag = "receive", params(ReadParams, PadParams), responses(
    (status = 200, description = "An envelope a line until one side closes; besides them an empty line (heartbeat), `{\"gap\":{…}}` and `{\"close\":{…}}`", body = Envelope, content_type = "application/x-ndjson"),
    (status = 400, description = "A topic, the cursor or a parameter is malformed", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "A topic's rule forbids it", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) fn stream() {}

/// Hangs until something is published to the topic or the time is over.
#[utoipa::path(get, path = "/polling/watch/{topic}", tag = "classic", params(
    ("topic" = String, Path, description = "The topic"),
    ("wait" = Option<u32>, Query, description = "How many seconds to hang: 20 unless given, at most 60"),
    ("after" = Option<String>, Query, description = "A cursor: nothing after it is missed"),
    ("If-None-Match" = Option<String>, Header, description = "The last answer's ETag: nothing after it is missed"),
), responses(
    (status = 200, description = "The message's body as it is", headers(("Everywire-Cursor" = String, description = "The position"), ("ETag" = String, description = "The position"))),
    (status = 304, description = "The time is over"),
    (status = 400, description = "Not a topic", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) fn watch() {}

/// Publishes the body, or `message`.
#[utoipa::path(post, path = "/polling/publish/{topic}", tag = "classic", params(
    ("topic" = String, Path, description = "The topic"),
    ("message" = Option<String>, Query, description = "The message, in place of a body"),
), request_body(content = Option<String>, content_type = "*/*"), responses(
    (status = 200, description = "It is published", body = Published),
    (status = 400, description = "Not a topic", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) fn polling_publish() {}

/// Publishes `message`; only for anonymous clients on loopback.
#[utoipa::path(get, path = "/polling/publish/{topic}", tag = "classic", params(
    ("topic" = String, Path, description = "The topic"),
    ("message" = Option<String>, Query, description = "The message"),
), responses(
    (status = 200, description = "It is published", body = Published),
    (status = 400, description = "Not a topic", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not an anonymous client on loopback", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) fn polling_publish_by_get() {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use utoipa::PartialSchema;

    #[test]
    fn the_described_envelope_has_the_fields_of_the_real_one() {
        let real = everywire_base::envelope::Envelope {
            id: String::new(),
            topic: String::new(),
            cursor: String::new(),
            time: String::new(),
            from: Some(String::new()),
            nick: Some(String::new()),
            to: Some(String::new()),
            about: Some(String::new()),
            event: Some(String::new()),
            content_type: Some(String::new()),
            body: Some(1.into()),
            body_base64: Some(String::new()),
        };
        let keys =
            |value: &serde_json::Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
        let described = serde_json::to_value(super::Envelope::schema()).unwrap();
        let mut expected = keys(&serde_json::to_value(real).unwrap());
        expected.extend(["author", "retained", "edited", "recalled", "reactions"].map(Into::into));
        assert_eq!(keys(&described["properties"]), expected);
    }
}
