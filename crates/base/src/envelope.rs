//! The JSON envelope of a message, the same on every JSON wire.
//!
//! `{"id","topic","cursor","time","from","nick","to","ref","event","type","body" or "body_base64"}`: absent fields are left out; a JSON
//! body stands verbatim under `body`, without line ends between its tokens, so that formats by line can carry it.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::parcel::{Format, Parcel};
use crate::record::Message;

/// The envelope as a rendition: one line, no line end.
pub const ENVELOPE: Format = Format::bare("json.envelope");

/// The form of a body in an envelope.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyKind {
    /// `application/json` or `…+json`: verbatim.
    Json,
    /// UTF-8 text: a JSON string.
    Text,
    /// Anything else: Base64 under `body_base64`.
    Binary,
}

/// Whether a media type is one of JSON.
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || (essence.len() > 5
            && essence.is_char_boundary(essence.len() - 5)
            && essence[essence.len() - 5..].eq_ignore_ascii_case("+json"))
}

impl BodyKind {
    /// Decides by type and content. JSON was checked at publish.
    pub fn of(message: &Message) -> Self {
        if !message.body.is_empty() && message.content_type.as_deref().is_some_and(is_json) {
            return BodyKind::Json;
        }
        match std::str::from_utf8(&message.body) {
            Ok(_) => BodyKind::Text,
            Err(_) => BodyKind::Binary,
        }
    }
}

/// Appends the envelope of a parcel.
pub fn write(parcel: &Parcel, out: &mut Vec<u8>) {
    let (record, message) = (parcel.record(), parcel.message());
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(&record.id().text());
    out.extend_from_slice(b"\",\"topic\":");
    string(message.topic.as_str(), out);
    // Writing to a vector can't fail.
    let _ = write!(out, ",\"cursor\":\"{}\",\"time\":\"{}\"", parcel.cursor(), record.time);
    let texts = [
        ("from", message.from.as_deref()),
        ("nick", message.nick()),
        ("to", message.sent_to()),
        ("event", message.event.as_deref()),
        ("type", message.content_type.as_deref()),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            let _ = write!(out, ",\"{name}\":");
            string(value, out);
        }
    }
    if let Some(id) = message.about() {
        let _ = write!(out, ",\"ref\":\"{id}\"");
    }
    body(message, out);
    out.push(b'}');
}

/// Appends the envelope of a retained message that greets a reader: outside the order.
pub fn write_retained(parcel: &Parcel, out: &mut Vec<u8>) {
    write(parcel, out);
    out.truncate(out.len() - 1);
    out.extend_from_slice(b",\"retained\":true}");
}

fn body(message: &Message, out: &mut Vec<u8>) {
    match BodyKind::of(message) {
        BodyKind::Json => {
            out.extend_from_slice(b",\"body\":");
            json_on_one_line(&message.body, out);
        }
        BodyKind::Text => {
            out.extend_from_slice(b",\"body\":");
            string(std::str::from_utf8(&message.body).unwrap_or_default(), out);
        }
        BodyKind::Binary => {
            out.extend_from_slice(b",\"body_base64\":\"");
            out.extend_from_slice(STANDARD.encode(&message.body).as_bytes());
            out.push(b'"');
        }
    }
}

/// Appends a JSON string.
pub fn string(text: &str, out: &mut Vec<u8>) {
    // A string is always JSON, and writing to a vector can't fail.
    let _ = serde_json::to_writer(&mut *out, text);
}

/// Appends valid JSON without the line ends between its tokens; inside strings JSON has none.
pub fn json_on_one_line(json: &[u8], out: &mut Vec<u8>) {
    out.extend(json.iter().filter(|b| !matches!(b, b'\n' | b'\r')));
}

/// The envelope as a client reads it.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Envelope {
    /// The message's id.
    pub id: String,
    /// Its topic.
    pub topic: String,
    /// Its cursor.
    pub cursor: String,
    /// RFC 3339, UTC, milliseconds.
    pub time: String,
    /// The user who published it, or an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The nick of its author, if `from` is an alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nick: Option<String>,
    /// The user whom it was sent to, if it is the copy in its sender's own inbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The id of the message that it answers or changes.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// The name of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// The media type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The body, a string or any JSON value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    /// The body in Base64, if it isn't text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

impl Envelope {
    /// The body's bytes: text as it is, JSON serialized, Base64 decoded.
    pub fn bytes(&self) -> Vec<u8> {
        match (&self.body, &self.body_base64) {
            (_, Some(encoded)) => STANDARD.decode(encoded).unwrap_or_default(),
            (Some(serde_json::Value::String(text)), None) => text.clone().into_bytes(),
            (Some(value), None) => value.to_string().into_bytes(),
            (None, None) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::UnixMillis;
    use crate::cursor::{Epoch, Offset, Partition};
    use crate::record::{Durability, Record};
    use crate::topic::Topic;

    fn envelope(message: Message) -> String {
        let record = Record {
            partition: Partition(0),
            offset: Offset(1289),
            time: UnixMillis(1_795_378_321_345),
            durability: Durability::Fsync,
            content: message.into(),
        };
        let parcel = Parcel::new(Arc::new(record), Epoch(942_741)).unwrap();
        let mut out = Vec::new();
        write(&parcel, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_envelope_of_the_interface() {
        let mut message = Message::new(Topic::parse("room/42").unwrap(), "hi");
        (message.from, message.event) = (Some("alice".into()), Some("chat".into()));
        message.content_type = Some("text/plain".into());
        let text = envelope(message);
        assert!(text.ends_with(
            r#","topic":"room/42","cursor":"k7f9:1289","time":"2026-11-22T20:12:01.345Z","from":"alice","event":"chat","type":"text/plain","body":"hi"}"#
        ), "{text}");
        let read: Envelope = serde_json::from_str(&text).unwrap();
        assert_eq!(read.bytes(), b"hi");
    }

    #[test]
    fn json_stands_verbatim_on_one_line_and_binary_in_base64() {
        let mut message = Message::new(Topic::parse("t").unwrap(), "{\"a\":\r\n [1.50,\"x\\n\"]}");
        message.content_type = Some("application/json; charset=utf-8".into());
        assert!(envelope(message).ends_with(r#""body":{"a": [1.50,"x\n"]}}"#));
        let binary = Message::new(Topic::parse("t").unwrap(), vec![0xff, 0x00]);
        assert!(envelope(binary).ends_with(r#""body_base64":"/wA="}"#));
    }
}
