//! Streams: Server-Sent Events, and newline-delimited JSON.

use std::net::SocketAddr;

use serde_json::Value;

use crate::http::{Connection, Request, Response};

/// A block of an event stream, up to its blank line.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Event {
    /// `id:`.
    pub id: Option<String>,
    /// `event:`.
    pub event: Option<String>,
    /// The `data:` lines, joined.
    pub data: Option<String>,
    /// `retry:`, in milliseconds.
    pub retry: Option<u64>,
    /// Comments.
    pub comments: Vec<String>,
}

impl Event {
    /// The data as JSON.
    ///
    /// # Panics
    /// When there is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().expect("data")).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The body of the message that it carries.
    ///
    /// # Panics
    /// When it carries none.
    pub fn body(&self) -> String {
        self.json()["body"].as_str().unwrap_or_else(|| panic!("no body: {self:?}")).to_owned()
    }
}

/// Reads `text/event-stream`.
#[derive(Debug)]
pub struct EventStream {
    /// The answer's head.
    pub head: Response,
    /// The delay before coming back that the server has asked for, in milliseconds.
    pub retry: Option<u64>,
    /// The last `id:`.
    pub cursor: Option<String>,
    connection: Connection,
}

impl EventStream {
    /// Opens a stream.
    ///
    /// # Panics
    /// When the server doesn't answer with one.
    pub fn open(address: SocketAddr, request: &Request) -> Self {
        let stream = Self::try_open(address, request).expect("a stream");
        assert_eq!(stream.head.status, 200, "{:?}", stream.head);
        stream
    }

    /// Opens a stream, if the server is there.
    pub fn try_open(address: SocketAddr, request: &Request) -> std::io::Result<Self> {
        let mut connection = Connection::try_open(address)?;
        connection.ask(request);
        let head = connection.head()?;
        Ok(Self { head, retry: None, cursor: None, connection })
    }

    /// The next block, of any content.
    pub fn block(&mut self) -> std::io::Result<Event> {
        let (mut event, mut data) = (Event::default(), Vec::new());
        loop {
            let line = self.connection.line()?;
            let Some((field, value)) = line.split_once(':') else {
                assert!(line.is_empty(), "a line without a field: {line:?}");
                break;
            };
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "" => event.comments.push(value),
                "id" => event.id = Some(value),
                "event" => event.event = Some(value),
                "retry" => event.retry = value.parse().ok(),
                "data" => data.push(value),
                other => panic!("an unknown field {other:?}"),
            }
        }
        event.data = (!data.is_empty()).then(|| data.join("\n"));
        self.retry = event.retry.or(self.retry);
        self.cursor = event.id.clone().or(self.cursor.take());
        Ok(event)
    }

    /// The next event with data, if one comes before the end.
    pub fn try_next(&mut self) -> std::io::Result<Event> {
        loop {
            let event = self.block()?;
            if event.data.is_some() {
                return Ok(event);
            }
        }
    }

    /// The next event with data.
    ///
    /// # Panics
    /// When none comes.
    pub fn event(&mut self) -> Event {
        self.try_next().expect("an event")
    }

    /// The bodies of the next events.
    ///
    /// # Panics
    /// When they don't come.
    pub fn bodies(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.event().body()).collect()
    }

    /// The connection below.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

/// Reads newline-delimited JSON.
#[derive(Debug)]
pub struct LineStream {
    /// The answer's head.
    pub head: Response,
    connection: Connection,
}

impl LineStream {
    /// Opens a stream.
    ///
    /// # Panics
    /// When the server doesn't answer with one.
    pub fn open(address: SocketAddr, request: &Request) -> Self {
        let mut connection = Connection::open(address);
        connection.ask(request);
        let head = connection.head().expect("a head");
        assert_eq!(head.status, 200, "{head:?}");
        Self { head, connection }
    }

    /// The next line that isn't empty.
    ///
    /// # Panics
    /// When none comes or it isn't JSON.
    pub fn next_line(&mut self) -> Value {
        loop {
            let line = self.connection.line().expect("a line");
            if !line.is_empty() {
                return serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
            }
        }
    }
}
