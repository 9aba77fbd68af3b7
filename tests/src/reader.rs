//! Readers that are cut again and again, and go on from their cursor, over each transport of HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::http::{Connection, Request, Response};
use crate::stream::EventStream;

/// A transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    /// Poll again and again.
    ShortPoll,
    /// Poll once, and wait.
    LongPoll,
    /// One stream.
    Sse,
}

impl Via {
    /// All transports.
    pub const ALL: [Via; 3] = [Via::ShortPoll, Via::LongPoll, Via::Sse];
}

/// A reader that follows topics, keeps what it got, and knows its cursor.
#[derive(Debug)]
pub struct Reader {
    via: Via,
    query: String,
    after: String,
    /// The bodies, as they came.
    pub got: Vec<String>,
    /// The number of gaps that the server has told of.
    pub gaps: usize,
}

impl Reader {
    /// A reader of the topics of a query (`topic=a&topic=b`), from the earliest message on.
    pub fn new(via: Via, query: &str) -> Self {
        Self { via, query: query.into(), after: "earliest".into(), got: Vec::new(), gaps: 0 }
    }

    /// Connects, takes up to `most` messages and is cut. A wait of `patience` without a message is a cut, too. A server
    /// that isn't there is no error: it may come back.
    pub fn visit(&mut self, address: SocketAddr, most: usize, patience: Duration) {
        // The messages of a visit count, however it ends.
        let _ = match self.via {
            Via::ShortPoll => self.poll(address, most, patience, ""),
            Via::LongPoll => self.poll(address, most, patience, "&wait=20"),
            Via::Sse => self.stream(address, most, patience),
        };
    }

    fn poll(&mut self, address: SocketAddr, most: usize, patience: Duration, wait: &str) -> std::io::Result<()> {
        let mut connection = Connection::try_open(address)?;
        connection.socket().set_read_timeout(Some(patience))?;
        let goal = self.got.len() + most;
        while self.got.len() < goal {
            let target = format!("/v1/messages?{}&limit=50&after={}{wait}", self.query, self.after);
            let response = connection.try_exchange(&Request::get(&target))?;
            if !self.take(&response) && self.via == Via::ShortPoll {
                break;
            }
        }
        Ok(())
    }

    /// Takes a poll's answer; says whether it had messages.
    fn take(&mut self, response: &Response) -> bool {
        if response.status == 503 {
            return false;
        }
        assert!(matches!(response.status, 200 | 204), "{response:?}");
        self.after = response.cursor();
        if response.status == 200 {
            self.gaps += usize::from(response.json()["gap"] != Value::Bool(false));
            self.got.extend(response.bodies());
        }
        response.status == 200
    }

    fn stream(&mut self, address: SocketAddr, most: usize, patience: Duration) -> std::io::Result<()> {
        let request = match self.after.as_str() {
            "earliest" => Request::get(&format!("/v1/events?{}&after=earliest", self.query)),
            cursor => Request::get(&format!("/v1/events?{}", self.query)).header("Last-Event-ID", cursor),
        };
        let mut stream = EventStream::try_open(address, &request)?;
        if stream.head.status == 503 {
            return Ok(());
        }
        assert_eq!(stream.head.status, 200, "{:?}", stream.head);
        stream.connection().socket().set_read_timeout(Some(patience))?;
        let goal = self.got.len() + most;
        while self.got.len() < goal {
            let event = stream.block()?;
            if let Some(cursor) = event.id.clone() {
                self.after = cursor;
            }
            match event.event.as_deref() {
                Some("gap") => self.gaps += 1,
                Some("close") => break,
                _ if event.data.is_some() => self.got.push(event.body()),
                _ => {}
            }
        }
        Ok(())
    }
}

/// All kept messages of the topics of a query, page by page.
///
/// # Panics
/// When the server doesn't answer.
pub fn read_all(address: SocketAddr, query: &str) -> Vec<String> {
    let mut connection = Connection::open(address);
    let (mut after, mut all) = ("earliest".to_owned(), Vec::new());
    loop {
        let page = connection.exchange(&Request::get(&format!("/v1/messages?{query}&limit=1000&after={after}")));
        if page.status == 204 {
            return all;
        }
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.json()["gap"] == Value::Bool(false), "nothing is lost");
        after = page.cursor();
        all.extend(page.bodies());
    }
}
