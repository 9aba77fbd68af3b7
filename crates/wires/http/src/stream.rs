//! Streams: server-sent events (HTML Living Standard §9.2) and envelopes by line. Each message is one shared rendition,
//! its `id:` included, and one chunk (RFC 9112 §7.1): many clients and proxies hand on whole chunks at once, but hold
//! back the bytes of a body without framing. To HTTP/1.0 the body comes bare, and ends with the connection.
//!
//! | | `format=json` | `format=body` | by line |
//! | --- | --- | --- | --- |
//! | message | the envelope as `data:` | the body as `data:`, cut at its line ends; Base64 if it isn't UTF-8 | the envelope |
//! | greeting | the same with `"retained":true`, without `id:` | the same without `id:` | with `"retained":true` |
//! | gap | `event: gap` | `event: gap` | `{"gap":{…}}` |
//! | conversation | `event: conversation`, without `id:` | the same | `{"conversation":{…}}` |
//! | signal | `event: signal`, without `id:` | the same | `{"signal":{…}}` |
//! | end | `event: close` and `retry:` | the same | `{"close":{…}}` |
//! | heartbeat | a comment; now and then the position as `id:` | the same | an empty line |
//!
//! Some clients take every blank line for an event. So comments stand alone, without a blank line after them, and an
//! `id:` comes without an event only where its reader needs it: at the start, and when its topics have been quiet for
//! [`QUIET_HEARTBEATS`] while the log went on.

use std::collections::VecDeque;
use std::io::Write;

use everywire_base::ask::{Call, Reply};
use everywire_base::clock::Monotonic;
use everywire_base::cursor::Cursor;
use everywire_base::envelope;
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Gap, Parcel, Taken};
use everywire_base::reason::Reason;
use everywire_base::signal::{self, Said};
use everywire_wire::{Ask, Context};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::machine::Link;
use crate::reading::Format;
use crate::reply::{self, Coding, Length, Manner};

/// The milliseconds after which a browser comes back.
const RETRY_MS: u64 = 2000;

/// The number of heartbeats without a message after which a reader is told its position, if that has moved.
const QUIET_HEARTBEATS: u8 = 4;

/// A stream under way: the time of its next heartbeat, and the position that its reader knows.
pub(crate) struct Streaming {
    format: Format,
    coding: Coding,
    /// Heartbeats since its reader was told a position.
    quiet: u8,
    /// The [`height`] of the position that was told last.
    told: u64,
    heartbeat: Monotonic,
    /// Conversations of its reader's that have changed, if there are any.
    changes: Option<Box<Changes>>,
}

/// The most changed conversations that are remembered while one is asked for.
const MOST_CHANGED: usize = 256;

/// Conversations that have changed. The API is asked for the state of each.
#[derive(Default)]
struct Changes {
    waiting: VecDeque<Box<str>>,
    asked: Option<AskId>,
}

impl Streaming {
    /// Appends the head and the first bytes, and begins. The reader is told of `cursor`, if there is one.
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
        Self { format, coding, quiet: 0, told, heartbeat: cx.now.monotonic + cx.limits.heartbeat, changes: None }
    }

    /// Notes that a conversation of its reader's has changed.
    pub(crate) fn note_change(&mut self, cx: &mut Context<'_>, link: &mut Link<'_>, conversation: &str) {
        let Changes { waiting, .. } = &mut **self.changes.get_or_insert_default();
        if waiting.len() < MOST_CHANGED && !waiting.iter().any(|known| &**known == conversation) {
            waiting.push_back(conversation.into());
        }
        self.ask(cx, link);
    }

    /// Asks the API for the next changed conversation, one at a time.
    fn ask(&mut self, cx: &mut Context<'_>, link: &mut Link<'_>) {
        let Some(changes) = self.changes.as_mut().filter(|changes| changes.asked.is_none()) else { return };
        let Some(next) = changes.waiting.pop_front() else {
            self.changes = None;
            return;
        };
        let ask = link.number();
        changes.asked = Some(ask);
        let who = link.known.as_ref().and_then(|known| known.registered());
        cx.asks.push((ask, Ask::Call(Call::conversation(&next, who))));
    }

    /// Tells the conversation. One that isn't its reader's any more gets no event: it is missing in the list.
    pub(crate) fn called(&mut self, cx: &mut Context<'_>, link: &mut Link<'_>, ask: AskId, reply: Option<Reply>) {
        let Some(changes) = self.changes.as_mut().filter(|changes| changes.asked == Some(ask)) else { return };
        changes.asked = None;
        if let Some(reply) = reply.filter(|reply| reply.status == 200) {
            let format = self.format;
            self.write(cx, |out| write_named(format, "conversation", &reply.body, out));
        }
        self.ask(cx, link);
    }

    /// Appends bytes to the outbox, as one chunk.
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
            Delivery::Signal(signal) => {
                let (name, coding, format) = (signal_name(self.format), self.coding, self.format);
                let write = |said: &Said, out: &mut Vec<u8>| coding.frame(out, |out| write_signal(format, said, out));
                cx.out.share(&signal.rendition(coding.name(name), write));
            }
            Delivery::Message(parcel, _) => {
                (self.quiet, self.told) = (0, height(&parcel.cursor()));
                let (name, write) = rendition(self.format);
                let (name, coding) = (self.coding.name(name), self.coding);
                cx.out.share(&parcel.rendition(name, |parcel, out| coding.frame(out, |out| write(parcel, out))));
            }
            Delivery::Retained(parcel, _) => {
                self.write(cx, |out| write_retained(self.format, parcel, out));
            }
            Delivery::Release(_) | Delivery::Conversation(_) => {}
        }
        Taken::Yes
    }

    /// Says that the connection lives, and tells its reader's position: a topic may be quiet while others are not. While it
    /// catches up its messages tell it; a gap may have to be said before.
    pub(crate) fn tick(&mut self, cx: &mut Context<'_>) {
        self.heartbeat = cx.now.monotonic + cx.limits.heartbeat;
        if cx.is_full() {
            return;
        }
        self.quiet = self.quiet.saturating_add(1);
        let cursor = &cx.position.cursor;
        let moves = cx.position.live && self.quiet >= QUIET_HEARTBEATS && self.told != height(cursor);
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

    /// Says the reason for the end, and the delay until the client may come back.
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
        cx.out.copy(self.coding.end());
    }
}

/// Appends the head of a stream.
pub(crate) fn head(out: &mut Vec<u8>, manner: &Manner, format: Format, cursor: Option<&Cursor>) {
    let content_type: &[u8] = match format {
        Format::EventsJson | Format::EventsBody => b"text/event-stream",
        Format::Lines => b"application/x-ndjson",
    };
    reply::head(out, &manner.clone().closing(), 200, Length::Open, |fields| {
        fields.add("Content-Type", content_type);
        fields.add("Cache-Control", b"no-store, no-transform");
        fields.add("X-Accel-Buffering", b"no");
        fields.add("X-Content-Type-Options", b"nosniff");
        if let Some(cursor) = cursor {
            fields.add("Everywire-Cursor", cursor.to_string().as_bytes());
        }
    });
}

/// Writes a comment, the delay until a browser comes back, and the position where the stream begins. A browser takes an
/// `id:` only with a blank line after it.
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

/// The name of a format's rendition, and the function that writes it.
fn rendition(format: Format) -> (&'static str, Render) {
    match format {
        Format::EventsJson => ("http.events.json", |parcel, out| {
            write_message(parcel, out, write_envelope_data);
        }),
        Format::EventsBody => ("http.events.body", |parcel, out| {
            write_message(parcel, out, write_body_data);
        }),
        Format::Lines => ("http.lines", |parcel, out| {
            envelope::write(parcel, out);
            out.push(b'\n');
        }),
    }
}

/// The name of a signal's rendition.
fn signal_name(format: Format) -> &'static str {
    if format == Format::Lines { "http.lines" } else { "http.events" }
}

/// A signal: it has no place in the log, and so no `id:`.
fn write_signal(format: Format, said: &Said, out: &mut Vec<u8>) {
    let mut json = Vec::with_capacity(128);
    signal::json(said, &mut json);
    write_named(format, "signal", &json, out);
}

/// A JSON object that is no message, by its name.
fn write_named(format: Format, name: &str, json: &[u8], out: &mut Vec<u8>) {
    let (before, after) = match format {
        Format::Lines => (format!("{{\"{name}\":"), "}\n"),
        Format::EventsJson | Format::EventsBody => (format!("event: {name}\ndata: "), "\n\n"),
    };
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(json);
    out.extend_from_slice(after.as_bytes());
}

fn write_message(parcel: &Parcel, out: &mut Vec<u8>, data: fn(&Parcel, &mut Vec<u8>)) {
    write_id(&parcel.cursor(), out);
    write_event_name(parcel, out);
    data(parcel, out);
    out.push(b'\n');
}

/// Writes the publisher's name of the event. Other wires than HTTP may have let line ends through: they'd be fields
/// here.
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

/// Writes the body, each of its lines as a `data:` of its own: the browser puts line ends between them again. A body
/// that is not UTF-8 can't stand in an event stream, so it comes as Base64; `format=json` tells the two apart.
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

/// Writes a retained greeting, which stands outside the order: it carries the cursor at which the subscription begins,
/// not its own (RULES 5), and leaves the reader's position alone.
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
