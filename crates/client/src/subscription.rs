//! A subscription over any of the wires: an endless iterator of events that resumes by cursor.
//!
//! Invariants: the cursor is that of the last event that was handed over; nothing is asked for while events wait to be
//! handed over, so that a cut loses nothing and repeats nothing.

use std::collections::VecDeque;
use std::time::Duration;

use everywire_base::cursor::{Cursor, Start};
use everywire_base::envelope::Envelope;
use everywire_base::topic::Filter;
use serde::Deserialize;

use crate::backoff::Backoff;
use crate::body::Framing;
use crate::client::Client;
use crate::connection::{Connection, Request};
use crate::error::ClientError;
use crate::native::{Native, Over, Told};
use crate::read::{self, Page, Poll};
use crate::sse;

/// The wire of a subscription, and its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Short polling, with this pause after a poll that found nothing.
    Poll(Duration),
    /// Long polling; each poll hangs at most this long.
    LongPoll(Duration),
    /// Server-sent events.
    Sse,
    /// Newline-delimited JSON.
    Stream,
    /// The native protocol.
    Native(Over),
}

/// An event of a subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A message, in order.
    Message(Box<Envelope>),
    /// The retained message of a topic, before the first message; outside the order.
    Retained(Box<Envelope>),
    /// Messages were lost; those that follow are later.
    Gap(Gap),
    /// Nothing new; the server lives.
    Heartbeat,
    /// The connection is cut; the next call of `next` waits for the delay and comes back.
    Interrupted {
        /// The error.
        why: ClientError,
        /// The time until the next attempt.
        delay: Duration,
    },
}

/// A gap, as the server describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct Gap {
    /// The topic that lost them, if the wire says so.
    pub topic: Option<String>,
    /// The last position of the reader.
    pub after: Option<String>,
    /// The position at which reading goes on.
    pub earliest: Option<String>,
}

/// The reason for which the server ends a stream.
#[derive(Deserialize)]
pub(crate) struct Close {
    pub(crate) reason: String,
    pub(crate) reconnect: bool,
    pub(crate) delay_ms: u64,
}

/// The further fields of an envelope that this client reads.
#[derive(Deserialize)]
struct Flags {
    #[serde(default)]
    retained: bool,
}

/// A line that is no message.
#[derive(Deserialize)]
struct Line {
    gap: Option<Gap>,
    close: Option<Close>,
}

/// The longest silence of a stream: three heartbeats.
const SILENCE: Duration = Duration::from_secs(45);
const FIRST_DELAY: Duration = Duration::from_millis(500);
const MOST_DELAY: Duration = Duration::from_secs(30);

/// An endless iterator of events. After an error it ends.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    topics: Vec<Filter>,
    via: Via,
    start: Start,
    cursor: Option<String>,
    /// Events that wait to be handed over, each with the cursor that it moves to.
    waiting: VecDeque<(Event, Option<String>)>,
    stream: Option<Stream>,
    native: Option<Native>,
    backoff: Backoff,
    /// The error that came after the waiting events.
    failure: Option<ClientError>,
    /// The delay that the server has asked for, once.
    asked_delay: Option<Duration>,
    /// The delay before the next attempt.
    pause: Option<Duration>,
    has_connected: bool,
    has_ended: bool,
}

#[derive(Debug)]
struct Stream {
    connection: Connection,
    framing: Framing,
    syntax: Syntax,
}

#[derive(Debug)]
enum Syntax {
    Events(sse::Parser),
    Lines(Vec<u8>),
}

impl Subscription {
    /// A subscription that begins at `start`. It connects with the first call of `next`.
    pub fn new(client: Client, topics: Vec<Filter>, via: Via, start: Start) -> Self {
        Self {
            client,
            topics,
            via,
            start,
            cursor: None,
            waiting: VecDeque::new(),
            stream: None,
            native: None,
            backoff: Backoff::new(FIRST_DELAY, MOST_DELAY),
            failure: None,
            asked_delay: None,
            pause: None,
            has_connected: false,
            has_ended: false,
        }
    }

    /// The subscription with other delays between attempts.
    #[must_use]
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// The subscription, which comes back also when its very first attempt fails.
    #[must_use]
    pub fn patient(self) -> Self {
        Self { has_connected: true, ..self }
    }

    /// The cursor of the last event that was handed over: another subscription can go on there.
    pub fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    fn fetch(&mut self) -> Result<(), ClientError> {
        match self.via {
            Via::Poll(pause) => {
                let page = self.poll(None)?;
                self.pause = (page.messages.is_empty() && !page.gap).then_some(pause);
                self.take_page(page);
                Ok(())
            }
            Via::LongPoll(_) if self.begins_at()? == Start::Latest => {
                // The position of "now" must be known before the first wait, or a cut during it would lose messages.
                let page = self.poll(None)?;
                self.take_page(page);
                Ok(())
            }
            Via::LongPoll(wait) => {
                let page = self.poll(Some(wait))?;
                self.take_page(page);
                Ok(())
            }
            Via::Native(over) => match self.native.take() {
                None => self.connect(over),
                Some(native) => self.listen(native),
            },
            Via::Sse | Via::Stream => match self.stream.take() {
                None => self.open(),
                Some(stream) => self.read(stream),
            },
        }
    }

    fn begins_at(&self) -> Result<Start, ClientError> {
        let Some(text) = &self.cursor else { return Ok(self.start.clone()) };
        let cursor: Result<Cursor, _> = text.parse();
        let cursor = cursor.map_err(|_| ClientError::Protocol(format!("{text:?}, which it gave as a cursor, is none")));
        Ok(Start::After(cursor?))
    }

    fn poll(&mut self, wait: Option<Duration>) -> Result<Page, ClientError> {
        let poll = Poll { topics: self.topics.clone(), after: Some(self.begins_at()?), limit: None, wait };
        self.client.poll(&poll)
    }

    fn take_page(&mut self, page: Page) {
        self.backoff.reset();
        if page.gap {
            let gap = Gap { topic: None, after: self.cursor.clone(), earliest: None };
            self.waiting.push_back((Event::Gap(gap), None));
        }
        for message in page.messages {
            let cursor = message.cursor.clone();
            self.waiting.push_back((Event::Message(Box::new(message)), Some(cursor)));
        }
        // The page's own cursor may be further than its last message's.
        match self.waiting.back_mut() {
            Some((_, cursor)) => *cursor = Some(page.cursor),
            None => self.waiting.push_back((Event::Heartbeat, Some(page.cursor))),
        }
    }

    fn open(&mut self) -> Result<(), ClientError> {
        let (path, syntax) = match self.via {
            Via::Sse => ("/v1/events", Syntax::Events(sse::Parser::default())),
            _ => ("/v1/stream", Syntax::Lines(Vec::new())),
        };
        // Without `after`, retained messages come first.
        let after = Some(self.begins_at()?).filter(|start| *start != Start::Latest);
        let target = read::target(path, &self.topics, after.as_ref());
        let request = Request { method: "GET", target: &target, fields: vec![("Accept", "*/*")], body: None };
        let (connection, head) = self.client.open(&request, SILENCE)?;
        if self.start == Start::Latest && self.cursor.is_none() {
            self.cursor = head.field("everywire-cursor").map(str::to_owned);
        }
        self.stream = Some(Stream { connection, framing: head.framing, syntax });
        Ok(())
    }

    fn connect(&mut self, over: Over) -> Result<(), ClientError> {
        let mut native = self.client.native(over)?;
        native.subscribe(&self.topics, &self.begins_at()?)?;
        self.native = Some(native);
        Ok(())
    }

    fn listen(&mut self, mut native: Native) -> Result<(), ClientError> {
        let told = native.receive()?;
        self.backoff.reset();
        match told {
            Told::Subscribed(cursor) if self.start == Start::Latest && self.cursor.is_none() => {
                self.waiting.push_back((Event::Heartbeat, Some(cursor)));
            }
            Told::Message(envelope, true) => self.waiting.push_back((Event::Retained(envelope), None)),
            Told::Message(envelope, false) => {
                let cursor = envelope.cursor.clone();
                self.waiting.push_back((Event::Message(envelope), Some(cursor)));
            }
            Told::Gap(gap) => self.take_gap(gap, None),
            Told::Close(close) => return Err(self.closed(close)),
            Told::Error(problem) => return Err(ClientError::Refused(problem)),
            Told::Subscribed(_) | Told::Published(_) | Told::Other => self.waiting.push_back((Event::Heartbeat, None)),
        }
        self.native = Some(native);
        Ok(())
    }

    fn read(&mut self, mut stream: Stream) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        if !stream.framing.next(&mut stream.connection.reader, &mut bytes)? {
            return Err(stream.connection.reader.cut());
        }
        self.backoff.reset();
        match &mut stream.syntax {
            Syntax::Events(parser) => {
                let mut items = Vec::new();
                parser.feed(&bytes, &mut items).map_err(|error| ClientError::Protocol(error.to_string()))?;
                items.into_iter().try_for_each(|item| self.take_item(item))?;
            }
            Syntax::Lines(rest) => {
                rest.extend_from_slice(&bytes);
                let whole = rest.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
                let lines: Vec<u8> = rest.drain(..whole).collect();
                let lines = lines.strip_suffix(b"\n").unwrap_or(&lines);
                if whole > 0 {
                    lines.split(|b| *b == b'\n').try_for_each(|line| self.take_line(line.trim_ascii()))?;
                }
            }
        }
        self.stream = Some(stream);
        Ok(())
    }

    fn take_item(&mut self, item: sse::Item) -> Result<(), ClientError> {
        match item {
            sse::Item::Retry(delay) => self.backoff.set_first(delay),
            sse::Item::Comment(_) => self.waiting.push_back((Event::Heartbeat, None)),
            sse::Item::Id(cursor) => self.waiting.push_back((Event::Heartbeat, Some(cursor))),
            sse::Item::Event(event) => {
                let data = event.data.as_bytes();
                let cursor = (!event.last_event_id.is_empty()).then_some(event.last_event_id);
                // A publisher may name an event like one of the server's, so that the data is tried as a message first.
                match (self.take_message(data, cursor.clone()), event.name.as_str()) {
                    (Ok(()), _) => {}
                    (Err(_), "gap") => self.take_gap(understood(data)?, cursor),
                    (Err(_), "close") => return Err(self.closed(understood(data)?)),
                    (Err(error), _) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<(), ClientError> {
        if line.is_empty() {
            self.waiting.push_back((Event::Heartbeat, None));
            return Ok(());
        }
        if self.take_message(line, None).is_ok() {
            return Ok(());
        }
        match understood(line)? {
            Line { gap: Some(gap), .. } => self.take_gap(gap, None),
            Line { close: Some(close), .. } => return Err(self.closed(close)),
            // A line of a later server is not for this client.
            Line { .. } => {}
        }
        Ok(())
    }

    fn take_message(&mut self, json: &[u8], cursor: Option<String>) -> Result<(), ClientError> {
        let envelope: Box<Envelope> = Box::new(understood(json)?);
        // A retained message's cursor is that of the subscription's beginning, so that it moves no position.
        let entry = if understood::<Flags>(json)?.retained {
            (Event::Retained(envelope), None)
        } else {
            let cursor = cursor.unwrap_or_else(|| envelope.cursor.clone());
            (Event::Message(envelope), Some(cursor))
        };
        self.waiting.push_back(entry);
        Ok(())
    }

    fn take_gap(&mut self, gap: Gap, cursor: Option<String>) {
        let cursor = cursor.or_else(|| gap.earliest.clone());
        self.waiting.push_back((Event::Gap(gap), cursor));
    }

    /// Notes that the server ends the stream, and its delay.
    fn closed(&mut self, close: Close) -> ClientError {
        if close.reconnect {
            self.asked_delay = Some(Duration::from_millis(close.delay_ms));
        } else {
            self.has_ended = true;
        }
        let what = format!("{} ended the stream", self.client.server());
        ClientError::Unreachable { what, kind: std::io::ErrorKind::ConnectionReset, message: close.reason }
    }

    /// The step after an error: the next attempt, or the end.
    fn failed(&mut self, why: ClientError) -> Result<Event, ClientError> {
        (self.stream, self.native) = (None, None);
        if self.has_ended || !why.is_passing() || !self.has_connected {
            self.has_ended = true;
            return Err(why);
        }
        let delay = self.backoff.next(self.asked_delay.take().or(why.retry_after()));
        self.pause = Some(delay);
        Ok(Event::Interrupted { why, delay })
    }
}

fn understood<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ClientError> {
    serde_json::from_slice(json)
        .map_err(|error| ClientError::Protocol(format!("an event of its stream is not understood: {error}")))
}

impl Iterator for Subscription {
    type Item = Result<Event, ClientError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((event, cursor)) = self.waiting.pop_front() {
                self.cursor = cursor.or(self.cursor.take());
                return Some(Ok(event));
            }
            if let Some(why) = self.failure.take() {
                return Some(self.failed(why));
            }
            if self.has_ended {
                return None;
            }
            if let Some(pause) = self.pause.take() {
                std::thread::sleep(pause);
            }
            match self.fetch() {
                Ok(()) => self.has_connected = true,
                // Events before the error are handed over first.
                Err(why) => self.failure = Some(why),
            }
        }
    }
}
