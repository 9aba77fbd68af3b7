//! The classic long-polling walk-through: `/polling/watch/T` hangs until something is published to T, then answers its
//! bare body, or 304 when the time is over; `/polling/publish/T` publishes.
//!
//! Both answers carry the position as `ETag` and `Everywire-Cursor`. A client that sends it back (`If-None-Match`,
//! `Everywire-Cursor`, or `after=`) misses nothing between two watches; without it a watch begins now.
//!
//! A bare body is never active content (RULES 23).

use bytes::Bytes;
use everywire_base::cursor::Cursor;
use everywire_base::limits::Limits;
use everywire_base::record::Message;
use everywire_base::topic::{Filter, Topic};

use crate::guard;
use crate::head::Head;
use crate::problem::Problem;
use crate::publish::{Publication, parse_topic};
use crate::reading::Reading;
use crate::reply::{self, Fields, Length, Manner};
use crate::request::Surroundings;
use crate::target::{decode, decode_text, once};

/// `GET /polling/watch/T`.
pub(crate) fn watch(head: &Head<'_, '_>, topic: &str, limits: &Limits) -> Result<Reading, Problem> {
    Reading::watch(head, Filter::Exact(path_topic(topic)?), limits)
}

/// `POST /polling/publish/T`, with the body or `?message=`.
pub(crate) fn publish(head: &Head<'_, '_>, topic: &str, around: &Surroundings<'_>) -> Result<Publication, Problem> {
    let mut message = None;
    for (_, value) in head.target.pairs().filter(|p| p.0 == "message") {
        once(&mut message, decode_text(value, "message")?, "message")?;
    }
    let mut publication = Publication::to(head, path_topic(topic)?, around)?;
    publication.inline = message.map(|text| Bytes::from(text.into_owned()));
    Ok(publication)
}

/// `GET /polling/publish/T?message=…`: only for an anonymous client on this machine.
pub(crate) fn publish_by_get(
    head: &Head<'_, '_>,
    topic: &str,
    around: &Surroundings<'_>,
) -> Result<Publication, Problem> {
    if around.who.is_some() || !guard::is_of_this_machine(head, around.peer) {
        let detail = "publishing by GET is for anonymous clients on this machine only: use POST";
        return Err(Problem::new(403, detail));
    }
    let publication = publish(head, topic, around)?;
    if publication.inline.is_none() {
        return Err(Problem::bad("say what to publish: `message=` is missing"));
    }
    Ok(publication)
}

fn path_topic(text: &str) -> Result<Topic, Problem> {
    parse_topic(&decode(text, "topic")?)
}

/// Adds the position of the reader, in both forms.
fn position(fields: &mut Fields<'_>, cursor: &Cursor, gap: bool) {
    let cursor = cursor.to_string();
    fields.add("ETag", format!("\"{cursor}\"").as_bytes());
    fields.add("Everywire-Cursor", cursor.as_bytes());
    if gap {
        fields.add("Everywire-Gap", b"true");
    }
    fields.add("Cache-Control", b"no-store");
}

/// Appends the reply of a watch that saw a message.
pub(crate) fn changed(out: &mut Vec<u8>, manner: &Manner, message: &Message, cursor: &Cursor, gap: bool) {
    reply::head(out, manner, 200, Length::Bytes(message.body.len()), |fields| {
        fields.add("Content-Type", passive_type(message).as_bytes());
        position(fields, cursor, gap);
        fields.add("X-Content-Type-Options", b"nosniff");
        fields.add("Content-Security-Policy", b"sandbox");
    });
    reply::body(out, manner, &message.body);
}

/// Appends the reply of a watch whose time is over.
pub(crate) fn unchanged(out: &mut Vec<u8>, manner: &Manner, cursor: &Cursor, gap: bool) {
    reply::head(out, manner, 304, Length::None, |fields| position(fields, cursor, gap));
}

/// Families of media types in which nothing runs, and which are told as they are.
const PASSIVE: &[&str] = &[
    "text/plain",
    "text/csv",
    "text/markdown",
    "application/json",
    "application/octet-stream",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "audio/",
    "video/",
];

/// The media type under which a bare body is told: content that could run in a page is told as plain text.
fn passive_type(message: &Message) -> &str {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let Some(given) = message.content_type.as_deref() else {
        let text = std::str::from_utf8(&message.body).is_ok();
        return if text { PLAIN } else { "application/octet-stream" };
    };
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let passive = |known: &&str| essence == **known || (known.ends_with('/') && essence.starts_with(*known));
    let clean = !given.chars().any(char::is_control);
    if clean && PASSIVE.iter().any(passive) { given } else { PLAIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_run_in_a_page_is_plain_text() {
        for (given, told) in [
            ("text/html", "text/plain; charset=utf-8"),
            ("image/svg+xml", "text/plain; charset=utf-8"),
            ("application/javascript", "text/plain; charset=utf-8"),
            ("text/plain; charset=latin1", "text/plain; charset=latin1"),
            ("application/json", "application/json"),
            ("image/png", "image/png"),
            ("audio/ogg", "audio/ogg"),
            ("TEXT/HTML;x", "text/plain; charset=utf-8"),
        ] {
            let mut message = Message::new(Topic::parse("t").unwrap(), "x");
            message.content_type = Some(given.into());
            assert_eq!(passive_type(&message), told, "{given}");
        }
        let binary = Message::new(Topic::parse("t").unwrap(), vec![0xff]);
        assert_eq!(passive_type(&binary), "application/octet-stream");
    }
}
