//! Publishing: one message, many over one connection without waiting in between, or many in one request.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_base::topic::Topic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::client::{self, Client, PATIENCE, Response};
use crate::connection::{Connection, Request};
use crate::error::{ClientError, Problem};

/// The most publishes under way on one connection: their answers must fit into the sockets' buffers, since nothing is
/// read while requests are written.
pub const MAX_WINDOW: usize = 1024;

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// The topic to publish to.
    pub topic: Topic,
    /// The body.
    pub body: Vec<u8>,
    /// Its media type.
    pub content_type: Option<String>,
    /// The name of the event.
    pub event: Option<String>,
    /// The idempotency key.
    pub key: Option<String>,
    /// The time after which it is not delivered any more; whole seconds count.
    pub ttl: Option<Duration>,
    /// Whether it becomes the topic's retained message.
    pub retain: bool,
    /// The id of the message that it answers.
    pub about: Option<String>,
}

impl Publish {
    /// A message with nothing but a topic and a body.
    pub fn new(topic: Topic, body: impl Into<Vec<u8>>) -> Self {
        let (content_type, event, key, ttl, about) = (None, None, None, None, None);
        Self { topic, body: body.into(), content_type, event, key, ttl, retain: false, about }
    }
}

/// An acknowledged message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Its id; empty if it had been published before, under the same ordered key, and the id isn't known any more.
    #[serde(default)]
    pub id: String,
    /// Its topic.
    pub topic: String,
    /// Its cursor; empty where the id is.
    #[serde(default)]
    pub cursor: String,
    /// The durability of the acknowledgement: `fsync`, `replicated`, `memory` or `none`.
    pub durability: String,
}

impl Client {
    /// Publishes a message and waits until it is as durable as its topic's rule says.
    ///
    /// After [`ClientError::Unreachable`] the outcome is unknown: publish again with the same key.
    pub fn publish(&mut self, message: &Publish) -> Result<Published, ClientError> {
        let target = target(message);
        published(&self.exchange(&request(message, &target), PATIENCE)?)
    }

    /// Publishes messages over one connection with up to `window` of them under way, at most [`MAX_WINDOW`]. The
    /// results are in the order of the messages; once the connection breaks, the rest have its error and their outcome
    /// is unknown.
    pub fn publish_all(&mut self, messages: &[Publish], window: usize) -> Vec<Result<Published, ClientError>> {
        let mut results = Vec::with_capacity(messages.len());
        while results.len() < messages.len() {
            if let Err(error) = self.pipeline(messages, window.clamp(1, MAX_WINDOW), &mut results) {
                let missing = messages.len() - results.len();
                results.extend(std::iter::repeat_n(Err(error), missing));
            }
        }
        results
    }

    /// Goes on until all messages have results, or the server closes the connection after an answer that says so.
    fn pipeline(
        &mut self,
        messages: &[Publish],
        window: usize,
        results: &mut Vec<Result<Published, ClientError>>,
    ) -> Result<(), ClientError> {
        let mut connection = self.connect()?;
        connection.patience(PATIENCE)?;
        let mut sent = results.len();
        while results.len() < messages.len() {
            if sent - results.len() <= window / 2 {
                let until = messages.len().min(results.len() + window);
                send_all(&mut connection, &messages[sent..until])?;
                sent = until;
            }
            let (head, response) = client::receive(&mut connection)?;
            results.push(response.and_then(|response| published(&response)));
            if !head.keeps {
                return if sent == results.len() { Ok(()) } else { Err(connection.reader.cut()) };
            }
        }
        self.keep(connection);
        Ok(())
    }

    /// Publishes messages with one request, by default at most 1,000 and 4 MiB. The results are in the order of the
    /// messages.
    pub fn batch(&mut self, messages: &[Publish]) -> Result<Vec<Result<Published, Problem>>, ClientError> {
        let body = json!({ "messages": messages.iter().map(item).collect::<Vec<_>>() }).to_string();
        let fields = vec![("Content-Type", "application/json")];
        let request = Request { method: "POST", target: "/v1/batch", fields, body: Some(body.as_bytes()) };
        let response = self.exchange(&request, PATIENCE)?;
        let results: Vec<Value> = parse(&response)?;
        results.into_iter().map(item_result).collect()
    }
}

fn target(message: &Publish) -> String {
    let mut target = "/v1/messages".to_owned();
    client::parameter(&mut target, "topic", message.topic.as_str());
    if let Some(event) = &message.event {
        client::parameter(&mut target, "event", event);
    }
    if let Some(ttl) = message.ttl {
        client::parameter(&mut target, "ttl", &ttl.as_secs().max(1).to_string());
    }
    if message.retain {
        client::parameter(&mut target, "retain", "1");
    }
    if let Some(about) = &message.about {
        client::parameter(&mut target, "ref", about);
    }
    target
}

fn request<'a>(message: &'a Publish, target: &'a str) -> Request<'a> {
    let key = message.key.as_deref().map(|key| ("Idempotency-Key", key));
    let kind = message.content_type.as_deref().map(|kind| ("Content-Type", kind));
    let fields = key.into_iter().chain(kind).collect();
    Request { method: "POST", target, fields, body: Some(&message.body) }
}

fn send_all(connection: &mut Connection, messages: &[Publish]) -> Result<(), ClientError> {
    let mut bytes = Vec::new();
    for message in messages {
        connection.write_to(&request(message, &target(message)), &mut bytes);
    }
    connection.send(&bytes)
}

fn parse<T: serde::de::DeserializeOwned>(response: &Response) -> Result<T, ClientError> {
    serde_json::from_slice(&response.body)
        .map_err(|error| ClientError::Protocol(format!("its answer to a publish is not understood: {error}")))
}

fn published(response: &Response) -> Result<Published, ClientError> {
    parse(response)
}

fn item(message: &Publish) -> Value {
    let mut item = Map::new();
    item.insert("topic".into(), message.topic.as_str().into());
    match std::str::from_utf8(&message.body) {
        Ok(text) if !message.content_type.as_deref().is_some_and(everywire_base::envelope::is_json) => {
            item.insert("body".into(), text.into())
        }
        _ => item.insert("body_base64".into(), STANDARD.encode(&message.body).into()),
    };
    let texts =
        [("event", &message.event), ("key", &message.key), ("type", &message.content_type), ("ref", &message.about)];
    for (name, value) in texts {
        item.extend(value.as_ref().map(|value| (name.to_owned(), value.as_str().into())));
    }
    item.extend(message.ttl.map(|ttl| ("ttl".to_owned(), ttl.as_secs().max(1).into())));
    item.extend(message.retain.then(|| ("retain".to_owned(), true.into())));
    Value::Object(item)
}

fn item_result(value: Value) -> Result<Result<Published, Problem>, ClientError> {
    let failed = value["status"].as_u64().is_some_and(|status| status >= 300);
    let wrong = |error| ClientError::Protocol(format!("its answer to a batch is not understood: {error}"));
    if failed {
        serde_json::from_value(value).map(Err).map_err(wrong)
    } else {
        serde_json::from_value(value).map(Ok).map_err(wrong)
    }
}
