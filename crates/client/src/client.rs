//! A client: one kept-alive connection, opened when needed.

use std::fmt::Write as _;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::address::Server;
use crate::connection::{Connection, Head, Request};
use crate::error::ClientError;
use crate::native::{Native, Over};
use crate::publish::{Publish, Published};

/// The longest time for an answer that doesn't wait for messages.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Characters that have a meaning in a query are encoded; a slash has none.
const QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b':').remove(b'~');

/// A client of one server.
#[derive(Debug)]
pub struct Client {
    server: Server,
    token: Option<String>,
    connection: Option<Connection>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The media type.
    pub content_type: String,
    /// The header `Everywire-Cursor`.
    pub cursor: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// A client of a server at `http://host:port`. It connects when it has something to ask.
    pub fn new(url: &str) -> Result<Self, ClientError> {
        Ok(Self { server: Server::parse(url)?, token: None, connection: None })
    }

    /// The client with a token, sent as `Authorization: Bearer`.
    #[must_use]
    pub fn with_token(self, token: Option<String>) -> Self {
        Self { token, ..self }
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// A client of the same server with a connection of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { server: self.server.clone(), token: self.token.clone(), connection: None }
    }

    /// Gets an answer of the API, such as that of `/v1/topics?filter=room/%23`.
    pub fn get(&mut self, target: &str) -> Result<Response, ClientError> {
        self.exchange(&Request { method: "GET", target, fields: Vec::new(), body: None }, PATIENCE)
    }

    /// Publishes a message over the native protocol, on a connection of its own.
    pub fn publish_over(&self, over: Over, message: &Publish) -> Result<Published, ClientError> {
        self.native(over)?.publish(message)
    }

    pub(crate) fn native(&self, over: Over) -> Result<Native, ClientError> {
        Native::connect(&self.server, over, self.token.as_deref())
    }

    /// The connection that is kept, if it is still good; else a new one.
    pub(crate) fn connect(&mut self) -> Result<Connection, ClientError> {
        match self.connection.take() {
            Some(connection) if connection.is_fresh() => Ok(connection),
            _ => Connection::open(&self.server, self.token.as_deref()),
        }
    }

    pub(crate) fn keep(&mut self, connection: Connection) {
        self.connection = Some(connection);
    }

    /// Sends a request and waits for its answer; an answer other than 2xx or 304 is an error.
    pub(crate) fn exchange(&mut self, request: &Request<'_>, patience: Duration) -> Result<Response, ClientError> {
        let mut connection = self.connect()?;
        connection.patience(patience)?;
        let mut bytes = Vec::new();
        connection.write_to(request, &mut bytes);
        connection.send(&bytes)?;
        let (head, response) = receive(&mut connection)?;
        if head.keeps {
            self.keep(connection);
        }
        response
    }

    /// Sends a request whose answer goes on; the connection is the answer's alone.
    pub(crate) fn open(
        &mut self,
        request: &Request<'_>,
        patience: Duration,
    ) -> Result<(Connection, Head), ClientError> {
        let mut connection = self.connect()?;
        connection.patience(patience)?;
        let mut bytes = Vec::new();
        connection.write_to(request, &mut bytes);
        connection.send(&bytes)?;
        let head = connection.head()?;
        if head.status != 200 {
            let body = connection.body(head.framing)?;
            return Err(head.problem(&body));
        }
        Ok((connection, head))
    }
}

/// Waits for an answer. The outer error is the connection's, the inner the server's.
pub(crate) fn receive(connection: &mut Connection) -> Result<(Head, Result<Response, ClientError>), ClientError> {
    let head = connection.head()?;
    let body = connection.body(head.framing)?;
    let response = match head.status {
        200..=299 | 304 => Ok(Response {
            status: head.status,
            content_type: head.field("content-type").unwrap_or_default().to_owned(),
            cursor: head.field("everywire-cursor").map(str::to_owned),
            body,
        }),
        _ => Err(head.problem(&body)),
    };
    Ok((head, response))
}

/// Appends `name=value` to a target, encoded.
pub(crate) fn parameter(target: &mut String, name: &str, value: &str) {
    let separator = if target.contains('?') { '&' } else { '?' };
    // Writing to a string can't fail.
    let _ = write!(target, "{separator}{name}={}", utf8_percent_encode(value, QUERY));
}
