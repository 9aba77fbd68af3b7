//! Streams: server-sent events (HTML Living Standard §9.2) and envelopes by line. Each message is one shared rendition,
//! its `id:` included, and one chunk (RFC 9112 §7.1): many clients and proxies hand on whole chunks at once, but hold
//! back the bytes of a body without framing. To HTTP/1.0 the body comes bare, and ends with the connection.
//!
//! | | `format=json` | `format=body` | by line |
//! | --- | --- | --- | --- |
//! | message | the envelope as `data:` | the body as `data:`, cut at its line ends; Base64 if it isn't UTF-8 | the envelope |
//! | greeting | the same with `"retained":true`, without `id:` | the same without `id:` | with `"retained":true` |
//! | gap | `event: gap` | `event: gap` | `{"gap":{…}}` |
//! | end | `event: close` and `retry:` | the same | `{"close":{…}}` |
//! | heartbeat | a comment; now and then the position as `id:` | the same | an empty line |
//!
//! Some clients take every blank line for an event. So comments stand alone, without a blank line after them, and an
//! `id:` comes without an event only where its reader needs it: at the start, and when its topics have been quiet for
//! [`QUIET_HEARTBEATS`] while the log went on.

use std::io::Write;

use everywire_base::clock::Monotonic;
use everywire_base::cursor::Cursor;
use everywire_base::envelope;
use everywire_base::parcel::{Delivery, Format as Name, Gap, Parcel, Taken};
use everywire_base::reason::Reason;
use everywire_wire::Context;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::head::Version;
use crate::reading::Format;
use crate::reply::{self, Length, Manner};

/// After how many milliseconds a browser comes back.
const RETRY_MS: u64 = 2000;

/// After how many heartbeats without a message a reader is told its position, if that has moved.
const QUIET_HEARTBEATS: u8 = 4;

/// A stream under way: when its next heartbeat is due, and what its reader knows of its position.
pub(crate) struct Streaming {
    format: Format,
    coding: Coding,
    /// Heartbeats since its reader was told a position.
    quiet: u8,
    /// The [`height`] of the position that was told last.
    told: u64,
    heartbeat: Monotonic,
}

impl Streaming {
    /// Appends the head and whatever comes first, and begins. The reader is told of `cursor`, if there is one.
    pub(crate) fn begin(
        cx: &mut Context<'_>,
        manner: &Manner,
        format: Format,
        pad: usize,
        cursor: Option<&Cursor>,
    ) -> Self {
        let coding = Coding::of(manner);
        cx.out.write(|out| {
            head(out, manner, format, cursor);
            coding.frame(out, |out| match format {
                Format::EventsJson | Format::EventsBody => opening(out, pad, cursor),
                Format::Lines => {
                    out.resize(out.len() + pad.saturating_sub(1), b' ');
                    out.push(b'\n');
                }
            });
        });
        let told = cursor.map_or(0, height);
        Self { format, coding, quiet: 0, told, heartbeat: cx.now.monotonic + cx.limits.heartbeat }
    }

    /// Appends to what waits, as one chunk.
    fn write(&self, cx: &mut Context<'_>, write: impl FnOnce(&mut Vec<u8>)) {
        cx.out.write(|out| self.coding.frame(out, write));
    }

    pub(crate) fn until(&self) -> Monotonic {
        self.heartbeat
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn push(&mut self, cx: &mut Context<'_>, delivery: &Delivery<'_>) -> Taken {
        match delivery {
            Delivery::Gap(gap) => self.write(cx, |out| write_gap(self.format, gap, out)),
            _ if cx.out.len() >= cx.limits.outbox_bytes => return Taken::Full,
            Delivery::Message(parcel, _) => {
                (self.quiet, self.told) = (0, height(&parcel.cursor()));
                let (names, write) = rendition(self.format);
                let (name, coding) = (names[self.coding as usize], self.coding);
                cx.out.share(&parcel.rendition(name, |parcel, out| coding.frame(out, |out| write(parcel, out))));
            }
            Delivery::Retained(parcel, _) => {
                self.write(cx, |out| write_retained(self.format, parcel, out));
            }
            Delivery::Release(_) => {}
        }
        Taken::Yes
    }

    /// Says that the connection lives, and where its reader stands: a topic may be quiet while others are not.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        self.heartbeat = cx.now.monotonic + cx.limits.heartbeat;
        if cx.out.len() >= cx.limits.outbox_bytes {
            return;
        }
        self.quiet = self.quiet.saturating_add(1);
        let cursor = &cx.position.cursor;
        let moves = self.quiet >= QUIET_HEARTBEATS && self.told != height(cursor);
        if moves {
            (self.quiet, self.told) = (0, height(cursor));
        }
        self.write(cx, |out| match self.format {
            Format::EventsJson | Format::EventsBody => {
                out.extend_from_slice(b":\n");
                if moves {
                    write_id(cursor, out);
                    out.push(b'\n');
                }
            }
            Format::Lines => out.push(b'\n'),
        });
    }

    /// Says why it ends, and when to come back.
    pub(crate) fn end(&self, cx: &mut Context<'_>, reason: &Reason) {
        let back = reason.reconnect();
        let delay = back.map_or(0, |d| d.as_millis() as u64);
        let json = format!(
            "{{\"reason\":\"{}\",\"reconnect\":{},\"delay_ms\":{delay}}}",
            reason.as_str(),
            if back.is_some() { "true" } else { "false" }
        );
        self.write(cx, |out| match self.format {
            Format::EventsJson | Format::EventsBody => {
                if back.is_some() {
                    write_retry(delay.max(1), out);
                }
                write_event("close", &json, out);
                out.push(b'\n');
            }
            Format::Lines => out.extend_from_slice(format!("{{\"close\":{json}}}\n").as_bytes()),
        });
        if self.coding == Coding::Chunked {
            cx.out.copy(b"0\r\n\r\n");
        }
    }
}

/// How the parts of a stream are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Coding {
    /// Not at all: HTTP/1.0.
    Bare,
    /// Each is a chunk.
    Chunked,
}

impl Coding {
    fn of(manner: &Manner) -> Self {
        match manner.version {
            Version::Http10 => Coding::Bare,
            Version::Http11 => Coding::Chunked,
        }
    }

    /// Appends what `write` appends, framed.
    fn frame(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        write(out);
        if self == Coding::Chunked && out.len() > start {
            let size = format!("{:x}\r\n", out.len() - start);
            out.splice(start..start, size.into_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Appends the head of a stream.
pub(crate) fn head(out: &mut Vec<u8>, manner: &Manner, format: Format, cursor: Option<&Cursor>) {
    let content_type: &[u8] = match format {
        Format::EventsJson | Format::EventsBody => b"text/event-stream",
        Format::Lines => b"application/x-ndjson",
    };
    let length = if Coding::of(manner) == Coding::Chunked { Length::Chunked } else { Length::UntilClose };
    reply::head(out, &manner.clone().closing(), 200, length, |out| {
        reply::field(out, "Content-Type", content_type);
        reply::field(out, "Cache-Control", b"no-store, no-transform");
        reply::field(out, "X-Accel-Buffering", b"no");
        reply::field(out, "X-Content-Type-Options", b"nosniff");
        if let Some(cursor) = cursor {
            reply::field(out, "Everywire-Cursor", cursor.to_string().as_bytes());
        }
    });
}

/// A comment, when to come back, and where the stream begins. A browser takes an `id:` only with a blank line after it.
fn opening(out: &mut Vec<u8>, pad: usize, cursor: Option<&Cursor>) {
    const COMMENT: &[u8] = b": everywire";
    out.extend_from_slice(COMMENT);
    out.resize(out.len() + pad.saturating_sub(COMMENT.len()), b' ');
    out.push(b'\n');
    write_retry(RETRY_MS, out);
    if let Some(cursor) = cursor {
        write_id(cursor, out);
        out.push(b'\n');
    }
}

/// A number that grows whenever a position moves.
fn height(cursor: &Cursor) -> u64 {
    cursor.positions().iter().fold(0, |sum, (_, offset)| sum.wrapping_add(offset.0))
}

fn write_retry(delay_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"retry: ");
    reply::number(delay_ms, out);
    out.push(b'\n');
}

fn write_id(cursor: &Cursor, out: &mut Vec<u8>) {
    // Writing to a vector can't fail.
    let _ = writeln!(out, "id: {cursor}");
}

fn write_event(name: &str, data: &str, out: &mut Vec<u8>) {
    for part in ["event: ", name, "\ndata: ", data, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

type Render = fn(&Parcel, &mut Vec<u8>);

/// The same bytes, bare and as one chunk.
fn names(name: &'static str) -> [Name; 2] {
    [Name::bare(name), Name { name, framing: "chunked" }]
}

/// The names of a format's renditions, bare and chunked, and what writes it.
fn rendition(format: Format) -> ([Name; 2], Render) {
    match format {
        Format::EventsJson => (names("http.events.json"), |parcel, out| {
            write_message(parcel, out, write_envelope_data);
        }),
        Format::EventsBody => (names("http.events.body"), |parcel, out| {
            write_message(parcel, out, write_body_data);
        }),
        Format::Lines => (names("http.lines"), |parcel, out| {
            envelope::write(parcel, out);
            out.push(b'\n');
        }),
    }
}

fn write_message(parcel: &Parcel, out: &mut Vec<u8>, data: fn(&Parcel, &mut Vec<u8>)) {
    write_id(&parcel.cursor(), out);
    write_event_name(parcel, out);
    data(parcel, out);
    out.push(b'\n');
}

/// The publisher's name of the event. Other wires than HTTP may have let line ends through: they'd be fields here.
fn write_event_name(parcel: &Parcel, out: &mut Vec<u8>) {
    if let Some(event) = &parcel.message().event {
        out.extend_from_slice(b"event: ");
        out.extend(event.bytes().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
        out.push(b'\n');
    }
}

fn write_envelope_data(parcel: &Parcel, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    envelope::write(parcel, out);
    out.push(b'\n');
}

/// The body, each of its lines as a `data:` of its own: the browser puts line ends between them again. A body that is
/// not UTF-8 can't stand in an event stream, so it comes as Base64; `format=json` says which is which.
fn write_body_data(parcel: &Parcel, out: &mut Vec<u8>) {
    let body = &parcel.message().body;
    match std::str::from_utf8(body) {
        Ok(text) => text.split("\r\n").flat_map(|part| part.split(['\r', '\n'])).for_each(|line| data_line(line, out)),
        Err(_) => data_line(&STANDARD.encode(body), out),
    }
}

fn data_line(line: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(line.as_bytes());
    out.push(b'\n');
}

/// A retained greeting stands outside the order: it carries the cursor at which the subscription begins, not its own
/// (RULES 5), and leaves the reader's position alone.
fn write_retained(format: Format, parcel: &Parcel, out: &mut Vec<u8>) {
    match format {
        Format::Lines => {
            envelope::write_retained(parcel, out);
            out.push(b'\n');
        }
        Format::EventsJson => {
            write_event_name(parcel, out);
            out.extend_from_slice(b"data: ");
            envelope::write_retained(parcel, out);
            out.extend_from_slice(b"\n\n");
        }
        Format::EventsBody => {
            write_event_name(parcel, out);
            write_body_data(parcel, out);
            out.push(b'\n');
        }
    }
}

fn write_gap(format: Format, gap: &Gap, out: &mut Vec<u8>) {
    let mut json = b"{\"topic\":".to_vec();
    envelope::string(&gap.topic, &mut json);
    if let Some(after) = gap.after {
        json.extend_from_slice(format!(",\"after\":\"{}:{after}\"", gap.earliest.epoch).as_bytes());
    }
    json.extend_from_slice(format!(",\"earliest\":\"{}\"}}", gap.earliest).as_bytes());
    match format {
        Format::Lines => {
            out.extend_from_slice(b"{\"gap\":");
            out.extend_from_slice(&json);
            out.extend_from_slice(b"}\n");
        }
        Format::EventsJson | Format::EventsBody => {
            write_id(&gap.earliest, out);
            out.extend_from_slice(b"event: gap\ndata: ");
            out.extend_from_slice(&json);
            out.extend_from_slice(b"\n\n");
        }
    }
}
