//! Frames that are calls of the HTTP API, which decides for all wires what may be done with rooms, conversations and
//! messages. A frame becomes a request, and the reply becomes a frame.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use everywire_base::ask::{Call, Reply, path_level as level};
use everywire_base::envelope::Envelope;
use everywire_base::id::ReplyTo;
use everywire_base::identity::Identity;
use serde::Deserialize;
use serde_json::json;

use crate::frames::{Problem, Response};
use crate::people::Told;

/// The delay before another try, in milliseconds, when the API is overloaded.
const RETRY_MS: u64 = 1000;

/// A client's request to the API.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Everything of a conversation up to a cursor is read.
    Read { conversation: String, cursor: String },
    /// Everything of a conversation up to a cursor has come to a device.
    Received { conversation: String, cursor: String },
    /// A message gets another text.
    Edit { message: String, body: String },
    /// A message is taken back.
    Recall { message: String },
    /// A reaction to a message, or its end.
    React { message: String, key: String, off: bool },
    /// A user gets a role in a room.
    Role { room: String, user: String, role: String },
    /// The caller's conversations.
    Conversations { unread: bool, after: String, limit: u32 },
}

/// The kind of an answer of the API.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// The request is done, and nothing more.
    Done,
    /// The message that tells of the change.
    Changed,
    /// Conversations.
    Conversations,
}

impl Wanted {
    /// The kind of its answer.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Wanted::Read { .. } | Wanted::Received { .. } | Wanted::Role { .. } => Kind::Done,
            Wanted::Edit { .. } | Wanted::Recall { .. } | Wanted::React { .. } => Kind::Changed,
            Wanted::Conversations { .. } => Kind::Conversations,
        }
    }

    /// The call.
    pub(crate) fn call(&self, identity: Option<Arc<Identity>>) -> Call {
        let none = serde_json::Value::Null;
        let (method, target, body) = match self {
            Wanted::Read { conversation, cursor } => {
                ("PUT", format!("/v1/conversations/{}/read", level(conversation)), json!({"cursor": cursor}))
            }
            Wanted::Received { conversation, cursor } => {
                ("PUT", format!("/v1/conversations/{}/received", level(conversation)), json!({"cursor": cursor}))
            }
            Wanted::Edit { message, body } => {
                ("PATCH", format!("/v1/messages/{}", level(message)), json!({"body": body}))
            }
            Wanted::Recall { message } => ("DELETE", format!("/v1/messages/{}", level(message)), none),
            Wanted::React { message, key, off } => {
                let method = if *off { "DELETE" } else { "PUT" };
                (method, format!("/v1/messages/{}/reactions/{}", level(message), level(key)), none)
            }
            Wanted::Role { room, user, role } => {
                let method = if role == "none" { "DELETE" } else { "PUT" };
                let body = if role == "none" { none } else { json!({"role": role}) };
                (method, format!("/v1/rooms/{}/members/{}", level(room), level(user)), body)
            }
            Wanted::Conversations { unread, after, limit } => ("GET", list(*unread, after, *limit), none),
        };
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let headers = vec![("content-type".into(), b"application/json".as_slice().into())];
        let (reply_to, from, method, target) = (ReplyTo::Nobody, None, method.into(), target.into());
        Call { reply_to, from, method, target, headers, identity, body }
    }
}

fn list(unread: bool, after: &str, limit: u32) -> String {
    let mut target = format!("/v1/conversations?unread={}", u8::from(unread));
    if !after.is_empty() {
        // Writing to a string can't fail.
        let _ = write!(target, "&after={}", level(after));
    }
    if limit > 0 {
        let _ = write!(target, "&limit={limit}");
    }
    target
}

#[derive(Deserialize)]
struct Changed {
    id: String,
    cursor: String,
    durability: String,
}

#[derive(Deserialize)]
struct Refused {
    detail: String,
}

/// The API's reply as a frame; `None` means that the API is overloaded.
pub(crate) fn response(id: u64, kind: Kind, reply: Option<Reply>) -> Response {
    let Some(reply) = reply else {
        return Response::Error(Problem::new(id, 503, "too much is asked at once: try again").retry(RETRY_MS));
    };
    if !(200..300).contains(&reply.status) {
        let refused = serde_json::from_slice::<Refused>(&reply.body);
        let problem = Problem::new(id, reply.status, refused.map_or_else(|_| String::new(), |refused| refused.detail));
        let again = matches!(reply.status, 429 | 503);
        return Response::Error(if again { problem.retry(RETRY_MS) } else { problem });
    }
    let answer =
        match kind {
            Kind::Done => Some(Response::People(Told::Done { id })),
            Kind::Changed => serde_json::from_slice::<Changed>(&reply.body).ok().map(
                |Changed { id: message, cursor, durability }| Response::Published {
                    id,
                    place: Some((message, cursor)),
                    durability: durability.into(),
                    duplicate: false,
                },
            ),
            Kind::Conversations => Some(Response::People(Told::Conversations { id, list: reply.body })),
        };
    answer.unwrap_or_else(|| Response::Error(Problem::new(id, 500, "the answer could not be read")))
}

/// Conversations, as the API writes them.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct List {
    pub(crate) conversations: Vec<Entry>,
    pub(crate) cursor: String,
    pub(crate) more: bool,
}

/// A conversation, as the API writes it.
#[derive(Default, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a field of the frame")]
pub(crate) struct Entry {
    pub(crate) conversation: String,
    pub(crate) title: String,
    pub(crate) unread: u64,
    pub(crate) exact: bool,
    pub(crate) mentions: u64,
    pub(crate) read: String,
    pub(crate) last: Option<Last>,
    pub(crate) role: String,
    pub(crate) nick: String,
    #[serde(rename = "as")]
    pub(crate) alias: String,
    pub(crate) wires: Vec<String>,
    pub(crate) theirs: String,
    pub(crate) notify: String,
    pub(crate) muted: bool,
    pub(crate) pinned: bool,
    pub(crate) archived: bool,
    pub(crate) presence: String,
    pub(crate) seen: String,
}

/// A message with its changes.
#[derive(Deserialize)]
pub(crate) struct Last {
    #[serde(flatten)]
    pub(crate) message: Envelope,
    #[serde(default)]
    pub(crate) edited: bool,
    #[serde(default)]
    pub(crate) recalled: bool,
}

/// Parses the API's list of conversations, for the encoding that isn't JSON.
pub(crate) fn list_of(json: &[u8]) -> List {
    serde_json::from_slice(json).unwrap_or_default()
}

/// Parses one of them.
pub(crate) fn entry_of(json: &[u8]) -> Entry {
    serde_json::from_slice(json).unwrap_or_default()
}
