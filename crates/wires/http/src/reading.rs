//! Requests to read, as polls, streams and the classic watch share them: topics, start and shape.

use std::time::Duration;

use everywire_base::ask::Subscribe;
use everywire_base::cursor::{Cursor, Epoch, Offset, Start};
use everywire_base::limits::Limits;
use everywire_base::terms::RetainHandling;
use everywire_base::topic::Filter;
use smallvec::SmallVec;

use crate::head::Head;
use crate::problem::Problem;
use crate::target::{decode, decode_topic, once, seconds, whole};

/// The longest first comment of a stream, in bytes.
const MAX_PAD: u64 = 8192;

/// A request to read.
pub(crate) struct Reading {
    pub(crate) filters: SmallVec<[Filter; 1]>,
    pub(crate) start: Start,
    /// Whether retained messages come first.
    pub(crate) retained: bool,
    pub(crate) shape: Shape,
    /// The software that asks, for the registry.
    pub(crate) agent: Option<Box<str>>,
}

/// The shape in which messages are handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// One page of envelopes, at once.
    ShortPoll {
        /// The most messages.
        limit: usize,
    },
    /// One page of envelopes, as soon as there is a message.
    LongPoll {
        /// The most messages.
        limit: usize,
        /// The time that there may be no message.
        wait: Duration,
    },
    /// The classic long poll: one bare body.
    Watch {
        /// The time that there may be no message.
        wait: Duration,
    },
    /// One after the other, without end.
    Stream {
        /// The format of each message.
        format: Format,
        /// The least length of the first line.
        pad: usize,
        /// The place where it begins.
        begins: Begins,
    },
}

/// The place where a stream begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begins {
    /// An end of the log: the reader is told that position.
    AtAnEnd,
    /// The cursor that the reader gave. It is told no other before it was told of a gap.
    AfterCursor,
}

impl Begins {
    fn of(start: Option<&Start>) -> Self {
        if matches!(start, Some(Start::After(_))) { Begins::AfterCursor } else { Begins::AtAnEnd }
    }
}

/// The format in which a stream writes messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// Server-sent events with envelopes.
    EventsJson,
    /// Server-sent events with bare bodies.
    EventsBody,
    /// Envelopes by line.
    Lines,
}

impl Format {
    /// The name of the wire.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::EventsJson | Format::EventsBody => "sse",
            Format::Lines => "stream",
        }
    }
}

/// The parameters of a query, as they came.
#[derive(Default)]
pub(crate) struct Parameters<'a> {
    pub(crate) before: Option<&'a str>,
    pub(crate) after: Option<&'a str>,
    limit: Option<&'a str>,
    pub(crate) wait: Option<&'a str>,
    format: Option<&'a str>,
    pad: Option<&'a str>,
    /// The id that a script in place of `EventSource` sends instead of the field, since it can set none.
    last_event_id: Option<&'a str>,
    pub(crate) filters: SmallVec<[Filter; 1]>,
}

/// The names under which such scripts send it, in small letters.
const LAST_EVENT_ID: [&str; 4] = ["lasteventid", "last-event-id", "last_event_id", "evs_last_event_id"];

impl<'a> Parameters<'a> {
    pub(crate) fn of(head: &Head<'a, '_>, limits: &Limits) -> Result<Self, Problem> {
        let mut these = Self::default();
        for (name, value) in head.target.pairs() {
            match name {
                "topic" => these.add_filter(&decode_topic(value, name)?, limits)?,
                "before" => once(&mut these.before, value, name)?,
                "after" => once(&mut these.after, value, name)?,
                "limit" => once(&mut these.limit, value, name)?,
                "wait" => once(&mut these.wait, value, name)?,
                "format" => once(&mut these.format, value, name)?,
                "pad" => once(&mut these.pad, value, name)?,
                // The page's own address may name one already: the last is the newest.
                _ if LAST_EVENT_ID.contains(&&*name.to_ascii_lowercase()) => these.last_event_id = Some(value),
                _ => {}
            }
        }
        Ok(these)
    }

    fn add_filter(&mut self, text: &str, limits: &Limits) -> Result<(), Problem> {
        let filter = Filter::parse(text).map_err(|error| Problem::bad(format!("`topic`: {error}")))?;
        if !self.filters.contains(&filter) {
            self.filters.push(filter);
        }
        let most = limits.filters_per_subscription;
        if self.filters.len() > most { Err(Problem::bad(format!("at most {most} topics at once"))) } else { Ok(()) }
    }

    fn start(&self) -> Result<Option<Start>, Problem> {
        let Some(after) = self.after else { return Ok(None) };
        let text = decode(after, "after")?;
        text.parse().map(Some).map_err(|error| Problem::bad(format!("`after`: {error}")))
    }

    /// The start of an event stream: the last id of the client wins over `after`, because a browser that comes back
    /// repeats the address.
    fn resumption(&self, field: Option<&[u8]>) -> Result<Option<Start>, Problem> {
        if let Some(id) = field.filter(|id| !id.is_empty()) {
            return Ok(Some(last_event_id(std::str::from_utf8(id).ok())));
        }
        match self.last_event_id.filter(|id| !id.is_empty()) {
            Some(id) => Ok(Some(last_event_id(decode(id, "lastEventId").ok().as_deref()))),
            None => self.start(),
        }
    }

    pub(crate) fn limit(&self, limits: &Limits) -> Result<usize, Problem> {
        let Some(text) = self.limit else { return Ok(limits.page_messages_default) };
        match whole(text, "limit")? {
            0 => Err(Problem::bad("`limit` is at least 1")),
            n => Ok(n.min(limits.page_messages_max as u64) as usize),
        }
    }

    fn wait(&self, limits: &Limits) -> Result<Option<Duration>, Problem> {
        match self.wait {
            None => Ok(None),
            Some("") => Ok(Some(limits.long_poll_default)),
            Some(text) => Ok(Some(seconds(text, "wait")?.min(limits.long_poll_max))),
        }
    }

    fn pad(&self) -> Result<usize, Problem> {
        self.pad.map_or(Ok(0), |text| Ok(whole(text, "pad")?.min(MAX_PAD) as usize))
    }

    fn reading(self, start: Option<Start>, otherwise: Start, shape: Shape) -> Result<Reading, Problem> {
        if self.filters.is_empty() {
            return Err(Problem::bad("say what to read: `topic=` is missing"));
        }
        let retained = start.is_none() && matches!(shape, Shape::Stream { .. });
        Ok(Reading { filters: self.filters, start: start.unwrap_or(otherwise), retained, shape, agent: None })
    }
}

impl Reading {
    /// `GET /v1/messages`: a short poll, or with `wait` a long one.
    pub(crate) fn poll(head: &Head<'_, '_>, limits: &Limits) -> Result<Self, Problem> {
        let these = Parameters::of(head, limits)?;
        let (start, limit) = (these.start()?, these.limit(limits)?);
        let (shape, otherwise) = match these.wait(limits)? {
            None | Some(Duration::ZERO) => (Shape::ShortPoll { limit }, Start::Earliest),
            Some(wait) => (Shape::LongPoll { limit, wait }, Start::Latest),
        };
        these.reading(start, otherwise, shape)
    }

    /// `GET /v1/events`.
    pub(crate) fn events(head: &Head<'_, '_>, limits: &Limits) -> Result<Self, Problem> {
        let these = Parameters::of(head, limits)?;
        let format = match these.format {
            None | Some("json") => Format::EventsJson,
            Some("body") => Format::EventsBody,
            Some(_) => return Err(Problem::bad("`format` is `json` or `body`")),
        };
        let start = these.resumption(head.fields.last_event_id)?;
        let shape = Shape::Stream { format, pad: these.pad()?, begins: Begins::of(start.as_ref()) };
        these.reading(start, Start::Latest, shape)
    }

    /// `GET /v1/stream`.
    pub(crate) fn stream(head: &Head<'_, '_>, limits: &Limits) -> Result<Self, Problem> {
        let these = Parameters::of(head, limits)?;
        let start = these.start()?;
        let (pad, begins) = (these.pad()?, Begins::of(start.as_ref()));
        let shape = Shape::Stream { format: Format::Lines, pad, begins };
        these.reading(start, Start::Latest, shape)
    }

    /// The classic watch of one topic.
    pub(crate) fn watch(head: &Head<'_, '_>, filter: Filter, limits: &Limits) -> Result<Self, Problem> {
        let these = Parameters::of(head, limits)?;
        let wait = these.wait(limits)?.unwrap_or(limits.long_poll_default);
        let start = match (these.start()?, head.fields.cursor) {
            (Some(start), _) => Some(start),
            (None, Some(cursor)) => Some(cursor_field(cursor, "Everywire-Cursor")?),
            // Somebody else's tag is no cursor, and no error either.
            (None, None) => {
                head.fields.if_none_match.and_then(|tag| cursor_field(entity_tag(tag), "If-None-Match").ok())
            }
        };
        let filters = SmallVec::from_iter([filter]);
        Ok(Self {
            filters,
            start: start.unwrap_or_default(),
            retained: false,
            shape: Shape::Watch { wait },
            agent: None,
        })
    }

    /// The ask, and the rest of the request.
    pub(crate) fn into_ask(self) -> (Subscribe, Shape, Option<Box<str>>) {
        let retained = if self.retained { RetainHandling::Always } else { RetainHandling::Never };
        let subscribe = Subscribe { start: self.start, retained, ..Subscribe::to(self.filters) };
        (subscribe, self.shape, self.agent)
    }
}

/// The start of a client that got this id last. An `EventSource` can't change what it sends, and a refusal would end it
/// for good: an id that is no cursor counts as one of another log, of which everything is lost.
fn last_event_id(id: Option<&str>) -> Start {
    // No log has this epoch.
    let elsewhere = || Start::After(Cursor::single(Epoch(0), Offset(0)));
    id.and_then(|id| id.trim().parse().ok()).unwrap_or_else(elsewhere)
}

fn cursor_field(value: &[u8], name: &str) -> Result<Start, Problem> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.parse().map_err(|error| Problem::bad(format!("`{name}`: {error}")))
}

/// The text between the quotes of an entity tag.
fn entity_tag(value: &[u8]) -> &[u8] {
    let value = value.strip_prefix(b"W/").unwrap_or(value);
    value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value)
}
