//! Polls: a page of envelopes, at once or as soon as there is a message; and the classic watch.
//!
//! A poll is a subscription that ends with its answer. While it waits it owns nothing but this state.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::clock::Monotonic;
use everywire_base::cursor::Cursor;
use everywire_base::envelope::{self, ENVELOPE};
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Parcel, Rendition, Taken};
use everywire_base::reason::Reason;
use everywire_base::record::Record;
use everywire_wire::{Ask, Context, Position};

use crate::classic;
use crate::machine::Phase;
use crate::problem::{Hint, Problem};
use crate::reply::{self, Content, Fields, Length, Manner};

/// A poll under way.
pub(crate) struct Polling {
    manner: Box<Manner>,
    until: Monotonic,
    patience: Patience,
    limit: u32,
    bytes: u32,
    room: Room,
    gap: bool,
    taken: Vec<Taking>,
}

/// A message of the page, shared with all others that poll for it.
struct Taking {
    record: Arc<Record>,
    envelope: Rendition,
}

/// The patience of a poll without a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    /// It is answered as soon as the present messages are known.
    None,
    /// It is answered when there is a message, or when its time is over.
    Long,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Left,
    /// A message had to be refused: there is more.
    Exhausted,
}

/// The ripeness of a poll for its answer.
pub(crate) enum Ripe {
    /// Not yet.
    No,
    /// Now.
    Yes,
}

impl Polling {
    /// Begins, perhaps with a gap: the request's cursor can't be honoured.
    pub(crate) fn new(manner: Manner, patience: Patience, limit: usize, until: Monotonic, gap: bool) -> Self {
        Self {
            manner: Box::new(manner),
            until,
            patience,
            limit: limit as u32,
            bytes: 0,
            room: Room::Left,
            gap,
            taken: Vec::new(),
        }
    }

    pub(crate) fn until(&self) -> Monotonic {
        self.until
    }

    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    /// Makes the answer the last one, since the peer sends no more.
    pub(crate) fn at_peers_end(self, patience: impl FnOnce(Monotonic) -> Monotonic) -> Self {
        Self { manner: Box::new(self.manner.closing()), until: patience(self.until), ..self }
    }

    pub(crate) fn push(&mut self, cx: &Context<'_>, delivery: &Delivery<'_>) -> Taken {
        match delivery {
            Delivery::Gap(_) => self.gap = true,
            Delivery::Retained(..) | Delivery::Release(_) | Delivery::Signal(_) | Delivery::Conversation(_) => {}
            Delivery::Message(parcel, _) => return self.take(cx, parcel),
        }
        Taken::Yes
    }

    fn take(&mut self, cx: &Context<'_>, parcel: &Parcel) -> Taken {
        if self.taken.len() >= self.limit as usize || self.bytes as usize >= cx.limits.page_bytes {
            self.room = Room::Exhausted;
            return Taken::Full;
        }
        let envelope = parcel.rendition(ENVELOPE, envelope::write);
        self.bytes += envelope.len() as u32;
        self.taken.push(Taking { record: Arc::clone(parcel.record()), envelope });
        Taken::Yes
    }

    /// Says whether the page can be answered: nothing can be added to it any more, or there is nothing to add.
    pub(crate) fn ripe(&self, position: &Position) -> Ripe {
        let full = self.room == Room::Exhausted;
        let found = !self.taken.is_empty() || self.gap;
        let all = position.live && (found || self.patience == Patience::None);
        if full || all { Ripe::Yes } else { Ripe::No }
    }

    /// Answers with the messages that there are.
    pub(crate) fn answer(self, cx: &mut Context<'_>) -> Manner {
        let more = self.room == Room::Exhausted || !cx.position.live;
        let cursor = self.cursor(cx.position).to_string();
        if self.taken.is_empty() && !self.gap {
            if more && self.patience == Patience::None {
                let problem = Problem::unavailable(1, "the history could not be read in time: ask again in a moment");
                cx.out.write(|out| problem.reply(&self.manner, out));
            } else {
                cx.out.write(|out| nothing(out, &self.manner, &cursor));
                cx.asks.push((AskId(u32::MAX), Ask::FoundNothing));
            }
        } else {
            self.page(cx, &cursor, more);
        }
        *self.manner
    }

    /// Answers with the messages that there are, because the server goes down: the client comes back with the cursor.
    pub(crate) fn interrupt(self, cx: &mut Context<'_>, delay: Duration) -> Manner {
        let manner = self.manner.leaving(delay);
        Self { manner: Box::new(manner), patience: Patience::Long, ..self }.answer(cx)
    }

    /// Says that it ends without an answer, and why.
    pub(crate) fn refuse(self, cx: &mut Context<'_>, reason: &Reason) -> Phase {
        refuse(cx, &self.manner.closing(), reason)
    }

    /// The position after the last taken message if one was refused after it, else the reader's position.
    fn cursor(&self, position: &Position) -> Cursor {
        match (self.room, self.taken.last()) {
            (Room::Exhausted, Some(last)) => after(&position.cursor, &last.record),
            _ => position.cursor.clone(),
        }
    }

    fn page(&self, cx: &mut Context<'_>, cursor: &str, more: bool) {
        const OPENING: &[u8] = b"{\"messages\":[";
        let mut closing = Vec::with_capacity(80);
        for part in ["],\"cursor\":\"", cursor, "\",\"gap\":", word(self.gap), ",\"more\":", word(more), "}"] {
            closing.extend_from_slice(part.as_bytes());
        }
        let envelopes: usize = self.taken.iter().map(|t| t.envelope.len()).sum();
        let length = OPENING.len() + envelopes + self.taken.len().saturating_sub(1) + closing.len();
        cx.out.write(|out| {
            reply::head(out, &self.manner, 200, Length::Bytes(length), |fields| {
                fields.add("Content-Type", b"application/json");
                position(fields, cursor);
            });
        });
        if self.manner.content == Content::HeadOnly {
            return;
        }
        cx.out.copy(OPENING);
        for (i, taking) in self.taken.iter().enumerate() {
            if i > 0 {
                cx.out.copy(b",");
            }
            cx.out.share(&taking.envelope);
        }
        cx.out.copy(&closing);
    }
}

fn word(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}

fn position(fields: &mut Fields<'_>, cursor: &str) {
    fields.add("Everywire-Cursor", cursor.as_bytes());
    fields.add("Cache-Control", b"no-store");
}

fn nothing(out: &mut Vec<u8>, manner: &Manner, cursor: &str) {
    reply::head(out, manner, 204, Length::None, |fields| position(fields, cursor));
}

/// A classic watch under way.
pub(crate) struct Watching {
    manner: Box<Manner>,
    until: Monotonic,
    gap: bool,
    /// The message that ends it.
    seen: Option<Arc<Record>>,
}

impl Watching {
    /// Begins, perhaps with a gap: the request's cursor can't be honoured.
    pub(crate) fn new(manner: Manner, until: Monotonic, gap: bool) -> Self {
        Self { manner: Box::new(manner), until, gap, seen: None }
    }

    pub(crate) fn until(&self) -> Monotonic {
        self.until
    }

    /// Makes the answer the last one, since the peer sends no more.
    pub(crate) fn at_peers_end(self, patience: impl FnOnce(Monotonic) -> Monotonic) -> Self {
        Self { manner: Box::new(self.manner.closing()), until: patience(self.until), ..self }
    }

    pub(crate) fn push(&mut self, delivery: &Delivery<'_>) -> Taken {
        match delivery {
            Delivery::Gap(_) => self.gap = true,
            Delivery::Retained(..) | Delivery::Release(_) | Delivery::Signal(_) | Delivery::Conversation(_) => {}
            Delivery::Message(_, _) if self.seen.is_some() => return Taken::Full,
            Delivery::Message(parcel, _) => self.seen = Some(Arc::clone(parcel.record())),
        }
        Taken::Yes
    }

    pub(crate) fn ripe(&self) -> Ripe {
        if self.seen.is_some() { Ripe::Yes } else { Ripe::No }
    }

    /// Answers with the message, or that there was none.
    pub(crate) fn answer(self, cx: &mut Context<'_>) -> Manner {
        let position = &cx.position.cursor;
        match self.seen.as_ref().and_then(|record| Some((record, record.message()?))) {
            Some((record, message)) => {
                let cursor = after(position, record);
                cx.out.write(|out| classic::changed(out, &self.manner, message, &cursor, self.gap));
            }
            None => cx.out.write(|out| classic::unchanged(out, &self.manner, position, self.gap)),
        }
        *self.manner
    }

    /// Says that the server goes down: the client comes back with the same cursor.
    pub(crate) fn interrupt(self, cx: &mut Context<'_>, delay: Duration) -> Manner {
        let manner = self.manner.leaving(delay);
        Self { manner: Box::new(manner), ..self }.answer(cx)
    }

    /// Says that it ends without an answer, and why.
    pub(crate) fn refuse(self, cx: &mut Context<'_>, reason: &Reason) -> Phase {
        refuse(cx, &self.manner.closing(), reason)
    }
}

fn refuse(cx: &mut Context<'_>, manner: &Manner, reason: &Reason) -> Phase {
    let detail = format!("the server ended this request: {}", reason.as_str());
    let problem = match reason.reconnect() {
        _ if *reason == Reason::Expired => Problem::new(401, detail).hinting(Hint::InvalidToken),
        Some(delay) => Problem::unavailable((delay.as_secs() as u32).max(1), detail),
        None => Problem::new(403, detail),
    };
    cx.out.write(|out| problem.reply(manner, out));
    Phase::Closed(reason.clone())
}

/// The position of a reader that has everything up to this record, and in other partitions everything up to its
/// position.
fn after(position: &Cursor, record: &Record) -> Cursor {
    let others = position.positions().iter().copied().filter(|p| p.0 != record.partition);
    let all = others.chain([(record.partition, record.offset)]);
    Cursor::new(position.epoch, all).unwrap_or_else(|| position.clone())
}
