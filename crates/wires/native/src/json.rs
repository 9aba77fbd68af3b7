//! Frames in JSON: one key names the frame.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use everywire_base::ask::{Entered, Past};
use everywire_base::parcel::Parcel;
use everywire_base::signal::{self, Said};
use everywire_base::{envelope, json};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::calls::Wanted;
use crate::frames::{Hello, Problem, Publish, Request, Response};
use crate::people::{People, Told};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ClientFrame<'a> {
    Hello(HelloFrame),
    Subscribe(SubscribeFrame),
    Unsubscribe(SubscribeFrame),
    #[serde(borrow)]
    Publish(PublishFrame<'a>),
    History(HistoryFrame),
    Read(MarkFrame),
    Received(MarkFrame),
    Edit(ChangeFrame),
    Recall(ChangeFrame),
    React(ChangeFrame),
    Role(RoomFrame),
    Conversations(ListFrame),
    Enter(RoomFrame),
    Leave(RoomFrame),
    Typing(MarkFrame),
    Active(ActiveFrame),
    Ack(AckFrame),
    Ping(Empty),
    Pong(Empty),
}

#[derive(Deserialize)]
struct Empty {}

#[derive(Deserialize)]
struct HelloFrame {
    #[serde(default)]
    token: Option<Box<str>>,
    #[serde(default)]
    device: Option<Box<str>>,
    #[serde(default)]
    session: Option<Box<str>>,
    #[serde(default)]
    expiry: u64,
}

#[derive(Deserialize)]
struct SubscribeFrame {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    after: Option<String>,
}

#[derive(Deserialize)]
struct PublishFrame<'a> {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    topic: String,
    #[serde(borrow, default, deserialize_with = "json::present")]
    body: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    body_base64: Option<&'a RawValue>,
    #[serde(default, rename = "type")]
    content_type: Option<Box<str>>,
    #[serde(default)]
    event: Option<Box<str>>,
    #[serde(default)]
    key: Option<Box<str>>,
    #[serde(default)]
    ttl: u64,
    #[serde(default)]
    retain: bool,
    #[serde(default, rename = "ref")]
    about: Option<Box<str>>,
}

#[derive(Deserialize)]
struct HistoryFrame {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    topic: String,
    #[serde(default)]
    before: Option<String>,
    #[serde(default)]
    limit: u32,
}

/// The fields of `read`, `received` and `typing`.
#[derive(Deserialize)]
struct MarkFrame {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    conversation: String,
    #[serde(default)]
    cursor: String,
}

/// The fields of `edit`, `recall` and `react`.
#[derive(Deserialize)]
struct ChangeFrame {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    message: String,
    #[serde(default)]
    body: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    off: bool,
}

/// The fields of `role`, `enter` and `leave`.
#[derive(Deserialize)]
struct RoomFrame {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    room: String,
    #[serde(default)]
    nick: Option<Box<str>>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    role: String,
}

#[derive(Deserialize)]
struct ListFrame {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    unread: bool,
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    limit: u32,
}

#[derive(Deserialize)]
struct ActiveFrame {
    active: bool,
}

#[derive(Deserialize)]
struct AckFrame {
    cursor: String,
}

/// Reads a client's frame.
pub(crate) fn read(bytes: &[u8]) -> Result<Request, Problem> {
    Ok(match serde_json::from_slice(bytes).map_err(|error| problem(bytes, &error))? {
        ClientFrame::Hello(HelloFrame { token, device, session, expiry }) => {
            Request::Hello(Hello { token, device, session, expiry })
        }
        ClientFrame::Subscribe(SubscribeFrame { id, topics, after }) => {
            Request::Subscribe { id, topics, after: after.unwrap_or_default() }
        }
        ClientFrame::Unsubscribe(SubscribeFrame { id, topics, .. }) => Request::Unsubscribe { id, topics },
        ClientFrame::Publish(publish) => Request::Publish(Box::new(publication(publish)?)),
        ClientFrame::History(HistoryFrame { id, topic, before, limit }) => {
            Request::History { id, topic, before: before.unwrap_or_default(), limit }
        }
        ClientFrame::Read(MarkFrame { id, conversation, cursor }) => call(id, Wanted::Read { conversation, cursor }),
        ClientFrame::Received(MarkFrame { id, conversation, cursor }) => {
            call(id, Wanted::Received { conversation, cursor })
        }
        ClientFrame::Edit(ChangeFrame { id, message, body, .. }) => call(id, Wanted::Edit { message, body }),
        ClientFrame::Recall(ChangeFrame { id, message, .. }) => call(id, Wanted::Recall { message }),
        ClientFrame::React(ChangeFrame { id, message, key, off, .. }) => call(id, Wanted::React { message, key, off }),
        ClientFrame::Role(RoomFrame { id, room, user, role, .. }) => call(id, Wanted::Role { room, user, role }),
        ClientFrame::Conversations(ListFrame { id, unread, after, limit }) => {
            call(id, Wanted::Conversations { unread, after: after.unwrap_or_default(), limit })
        }
        ClientFrame::Enter(RoomFrame { id, room, nick, .. }) => ask(People::Enter { id, room, nick }),
        ClientFrame::Leave(RoomFrame { id, room, .. }) => ask(People::Leave { id, room }),
        ClientFrame::Typing(MarkFrame { conversation, .. }) => ask(People::Typing { conversation }),
        ClientFrame::Active(ActiveFrame { active }) => ask(People::Active { active }),
        ClientFrame::Ack(AckFrame { cursor }) => Request::Ack { cursor },
        ClientFrame::Ping(Empty {}) => Request::Ping,
        ClientFrame::Pong(Empty {}) => Request::Pong,
    })
}

fn ask(asked: People) -> Request {
    Request::People(Box::new(asked))
}

fn call(id: u64, wanted: Wanted) -> Request {
    ask(People::Call { id, wanted })
}

/// The name of a frame and its content, whatever that is.
type Outline<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

#[derive(Deserialize)]
struct Id {
    id: u64,
}

/// The fault of a frame, under its id if it has one.
fn problem(bytes: &[u8], error: &serde_json::Error) -> Problem {
    match serde_json::from_slice::<Outline<'_>>(bytes) {
        Ok(frame) if frame.len() == 1 => {
            let id = frame.values().find_map(|fields| serde_json::from_str::<Id>(fields.get()).ok());
            // Only serde calls a frame a variant.
            let reason = json::explain(error).replacen("unknown variant", "unknown frame", 1);
            Problem::bad(id.map_or(0, |fields| fields.id), reason)
        }
        Err(error) if !error.is_data() => {
            let (line, column) = (error.line(), error.column());
            Problem::bad(0, format!("the frame is not JSON like {{\"ping\":{{}}}}, at line {line} column {column}"))
        }
        _ => Problem::bad(0, "a frame is an object with one key, which names it, like {\"ping\":{}}"),
    }
}

fn publication(frame: PublishFrame<'_>) -> Result<Publish, Problem> {
    let id = frame.id;
    let content = json::content(frame.body, frame.body_base64, frame.content_type.as_deref());
    let (body, implied) = content.map_err(|what| Problem::bad(id, what))?;
    let content_type = frame.content_type.or(implied.map(Into::into));
    Ok(Publish {
        id,
        topic: frame.topic,
        body,
        content_type,
        event: frame.event,
        key: frame.key,
        ttl: frame.ttl,
        retain: frame.retain,
        about: frame.about,
    })
}

#[derive(Serialize)]
struct WelcomeFrame<'a> {
    connection: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    resumed: bool,
    heartbeat: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiry: Option<u64>,
}

#[derive(Serialize)]
struct ErrorFrame<'a> {
    #[serde(skip_serializing_if = "is_zero")]
    id: u64,
    code: u16,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<u64>,
}

#[derive(Serialize)]
struct PublishedFrame<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    durability: &'a str,
    #[serde(skip_serializing_if = "is_false")]
    duplicate: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(switch: &bool) -> bool {
    !*switch
}

#[derive(Serialize)]
struct CloseFrame<'a> {
    code: u16,
    reason: &'a str,
    reconnect: bool,
    delay_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Appends a frame.
pub(crate) fn write(response: &Response, out: &mut Vec<u8>) {
    let mut object = |name: &str, value: serde_json::Result<String>| {
        // Plain texts and numbers are always JSON; writing to a vector can't fail.
        let _ = write!(out, "{{\"{name}\":{}}}", value.unwrap_or_default());
    };
    let json = |value: serde_json::Value| Ok(value.to_string());
    match response {
        Response::Welcome(w) => {
            let session = w.session.as_deref();
            let welcome = WelcomeFrame {
                connection: &w.connection,
                session,
                resumed: w.resumed,
                heartbeat: w.heartbeat,
                user: w.user.as_deref(),
                device: w.device.as_deref(),
                expiry: session.map(|_| w.expiry),
            };
            object("welcome", serde_json::to_string(&welcome));
        }
        Response::Subscribed { id, cursor, gap } => {
            object("subscribed", Ok(format!("{{\"id\":{id},\"cursor\":\"{cursor}\",\"gap\":{gap}}}")));
        }
        Response::Unsubscribed { id } => object("unsubscribed", Ok(format!("{{\"id\":{id}}}"))),
        Response::History { id, past } => object("history", Ok(page(*id, past))),
        Response::Published { id, place, durability, duplicate } => {
            let (message, cursor) = place.as_ref().map(|(message, cursor)| (&**message, &**cursor)).unzip();
            let (id, duplicate) = (*id, *duplicate);
            object("published", serde_json::to_string(&PublishedFrame { id, message, cursor, durability, duplicate }));
        }
        Response::People(told) => {
            let (name, value) = people(told);
            object(name, Ok(value));
        }
        Response::Error(p) => {
            let (topic, retry_after_ms) = (p.topic.as_deref(), p.retry_after_ms);
            let error =
                ErrorFrame { id: p.id, code: p.code, reason: &p.reason, topic, retry_after_ms, expected: p.expected };
            object("error", serde_json::to_string(&error));
        }
        Response::Gap { topic, after, earliest } => {
            object("gap", json(serde_json::json!({"topic": topic, "after": after, "earliest": earliest})));
        }
        Response::Close { code, reason, reconnect, delay_ms, detail } => {
            let (code, reconnect, delay_ms, detail) = (*code, *reconnect, *delay_ms, detail.as_deref());
            let close = CloseFrame { code, reason, reconnect, delay_ms, detail };
            object("close", serde_json::to_string(&close));
        }
        Response::Ping => object("ping", Ok("{}".into())),
        Response::Pong => object("pong", Ok("{}".into())),
    }
}

/// A page that was read backwards.
fn page(id: u64, past: &Past) -> String {
    let mut messages = Vec::new();
    for parcel in past.records.iter().filter_map(|record| Parcel::new(Arc::clone(record), past.before.epoch)) {
        if !messages.is_empty() {
            messages.push(b',');
        }
        envelope::write(&parcel, &mut messages);
    }
    // Envelopes are JSON, and so UTF-8.
    let messages = String::from_utf8(messages).unwrap_or_default();
    let Past { before, cursor, gap, more, .. } = past;
    let ends = format!("\"before\":\"{before}\",\"cursor\":\"{cursor}\",\"gap\":{gap},\"more\":{more}");
    format!("{{\"id\":{id},\"messages\":[{messages}],{ends}}}")
}

/// The name and the content of a frame about people.
fn people(told: &Told) -> (&'static str, String) {
    match told {
        Told::Done { id } => ("done", format!("{{\"id\":{id}}}")),
        Told::Entered { id, room, entered: Entered { nick, voice, cursor, greet } } => {
            let (voice, cursor) = (voice.as_str(), cursor.to_string());
            let entered = serde_json::json!({
                "id": id, "room": room, "nick": nick, "voice": voice, "cursor": cursor, "greet": greet,
            });
            ("entered", entered.to_string())
        }
        Told::Conversations { id, list } => {
            // The API's answer is an object: its fields stand behind the id.
            let fields = String::from_utf8_lossy(list.get(1..).unwrap_or_default());
            ("conversations", format!("{{\"id\":{id},{fields}"))
        }
        Told::Conversation { entry } => ("conversation", String::from_utf8_lossy(entry).into_owned()),
    }
}

/// Appends a message.
pub(crate) fn message(parcel: &Parcel, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"message\":");
    envelope::write(parcel, out);
    out.push(b'}');
}

/// Appends a signal.
pub(crate) fn signal(said: &Said, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"signal\":");
    signal::json(said, out);
    out.push(b'}');
}

/// Appends a retained message, which is told before the order.
pub(crate) fn retained(parcel: &Parcel, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"message\":");
    envelope::write_retained(parcel, out);
    out.push(b'}');
}
