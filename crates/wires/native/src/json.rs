//! Frames in JSON: one key names the frame.

use std::borrow::Cow;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use everywire_base::envelope;
use everywire_base::parcel::Parcel;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, Value};

use crate::frames::{Hello, Problem, Publish, Request, Response};

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ClientFrame<'a> {
    Hello(HelloFrame),
    Subscribe(SubscribeFrame),
    Unsubscribe(SubscribeFrame),
    #[serde(borrow)]
    Publish(PublishFrame<'a>),
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
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    body_base64: Option<Cow<'a, str>>,
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
        ClientFrame::Ack(AckFrame { cursor }) => Request::Ack { cursor },
        ClientFrame::Ping(Empty {}) => Request::Ping,
        ClientFrame::Pong(Empty {}) => Request::Pong,
    })
}

/// What is wrong with a frame, under its id if it has one.
fn problem(bytes: &[u8], error: &serde_json::Error) -> Problem {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(frame)) if frame.len() == 1 => {
            let id = frame.values().find_map(|fields| fields.get("id")?.as_u64());
            // A frame is a variant to serde, and to nobody else.
            let reason = error.to_string().replacen("unknown variant", "unknown frame", 1);
            Problem::bad(id.unwrap_or_default(), reason)
        }
        Ok(_) => Problem::bad(0, "a frame is an object with one key, which names it, like {\"ping\":{}}"),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            Problem::bad(0, format!("the frame is not JSON like {{\"ping\":{{}}}}, at line {line} column {column}"))
        }
    }
}

fn publication(frame: PublishFrame<'_>) -> Result<Publish, Problem> {
    let id = frame.id;
    let (body, implied) = match (frame.body, frame.body_base64) {
        (Some(_), Some(_)) => return Err(Problem::bad(id, "a message has `body` or `body_base64`, not both")),
        (None, None) => (Bytes::new(), None),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text.as_bytes());
            (bytes.map_err(|_| Problem::bad(id, "`body_base64` is not Base64"))?.into(), None)
        }
        (Some(raw), None) => content(id, raw, frame.content_type.as_deref())?,
    };
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
    })
}

/// A string is text, unless the message says that its type is JSON; anything else is JSON.
fn content(id: u64, raw: &RawValue, says: Option<&str>) -> Result<(Bytes, Option<&'static str>), Problem> {
    let verbatim = || Bytes::copy_from_slice(raw.get().as_bytes());
    match (says.map(envelope::is_json), raw.get().starts_with('"')) {
        (Some(true), _) => Ok((verbatim(), None)),
        (_, true) => {
            let text: Result<String, _> = serde_json::from_str(raw.get());
            Ok((text.map_err(|_| Problem::bad(id, "`body` is a string that is not Unicode"))?.into(), None))
        }
        (None, false) => Ok((verbatim(), Some("application/json"))),
        (Some(false), false) => Err(Problem::bad(id, "`body` is a string, unless `type` says JSON")),
    }
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
        Response::Published { id, message, cursor, durability } => {
            let ids = format!("\"id\":{id},\"message\":\"{message}\"");
            object("published", Ok(format!("{{{ids},\"cursor\":\"{cursor}\",\"durability\":\"{durability}\"}}")));
        }
        Response::Error(p) => {
            let (topic, retry_after_ms) = (p.topic.as_deref(), p.retry_after_ms);
            let error = ErrorFrame { id: p.id, code: p.code, reason: &p.reason, topic, retry_after_ms };
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

/// Appends a message.
pub(crate) fn message(parcel: &Parcel, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"message\":");
    envelope::write(parcel, out);
    out.push(b'}');
}

/// Appends a retained message: what is told before the order.
pub(crate) fn retained(parcel: &Parcel, out: &mut Vec<u8>) {
    message(parcel, out);
    out.truncate(out.len() - 2);
    out.extend_from_slice(b",\"retained\":true}}");
}
