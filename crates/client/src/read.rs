//! Reading a page: short polling and long polling.

use std::time::Duration;

use everywire_base::cursor::Start;
use everywire_base::envelope::Envelope;
use everywire_base::topic::Filter;
use serde::Deserialize;

use crate::client::{self, Client, PATIENCE, Response};
use crate::connection::Request;
use crate::error::ClientError;

/// A question for a page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Poll {
    /// The topics to read.
    pub topics: Vec<Filter>,
    /// The position to begin at; the server's choice if `None`.
    pub after: Option<Start>,
    /// The most messages.
    pub limit: Option<u32>,
    /// The time to hang until there is a message; whole seconds count.
    pub wait: Option<Duration>,
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Page {
    /// In order.
    pub messages: Vec<Envelope>,
    /// The cursor to go on from.
    pub cursor: String,
    /// Whether messages before these were lost.
    pub gap: bool,
    /// Whether there are further ones already.
    pub more: bool,
}

impl Client {
    /// Reads a page.
    pub fn poll(&mut self, poll: &Poll) -> Result<Page, ClientError> {
        let mut target = target("/v1/messages", &poll.topics, poll.after.as_ref());
        if let Some(limit) = poll.limit {
            client::parameter(&mut target, "limit", &limit.to_string());
        }
        if let Some(wait) = poll.wait {
            client::parameter(&mut target, "wait", &wait.as_secs().to_string());
        }
        let request = Request { method: "GET", target: &target, fields: Vec::new(), body: None };
        page(self.exchange(&request, PATIENCE + poll.wait.unwrap_or_default())?)
    }
}

/// A target that reads topics after a position.
pub(crate) fn target(path: &str, topics: &[Filter], after: Option<&Start>) -> String {
    let mut target = path.to_owned();
    for topic in topics {
        client::parameter(&mut target, "topic", topic.as_str());
    }
    match after {
        None => {}
        Some(Start::Latest) => client::parameter(&mut target, "after", "latest"),
        Some(Start::Earliest) => client::parameter(&mut target, "after", "earliest"),
        Some(Start::After(cursor)) => client::parameter(&mut target, "after", &cursor.to_string()),
    }
    target
}

fn page(response: Response) -> Result<Page, ClientError> {
    if response.status == 204 {
        let missing = || ClientError::Protocol("its empty answer has no Everywire-Cursor".into());
        let cursor = response.cursor.ok_or_else(missing)?;
        return Ok(Page { messages: Vec::new(), cursor, gap: false, more: false });
    }
    serde_json::from_slice(&response.body)
        .map_err(|error| ClientError::Protocol(format!("its page of messages is not understood: {error}")))
}
