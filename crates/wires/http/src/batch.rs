//! Publishing many messages with one request: each is an ask of its own, the reply has their outcomes in order.
//!
//! A wrong message fails alone, whatever is wrong with it.

use std::borrow::Cow;

use everywire_base::ask::Published;
use everywire_base::clock::UnixMillis;
use everywire_base::envelope;
use everywire_base::id::AskId;
use everywire_base::json;
use everywire_base::limits::Limits;
use everywire_base::record::Message;
use everywire_base::rules::Caller;
use everywire_base::topic::Topic;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::problem::Problem;
use crate::publish::{self, about_extras, message_id, parse_topic, time_to_live};
use crate::reply::{self, Manner};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<&'a RawValue>,
}

/// One message, as it stands in the request.
#[derive(Deserialize)]
#[serde(expecting = "an object like {\"topic\":…,\"body\":…}")]
struct Item<'a> {
    #[serde(borrow, default)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    body: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    body_base64: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    ttl: Option<u64>,
    #[serde(default)]
    retain: Option<bool>,
    #[serde(borrow, default, rename = "ref")]
    about: Option<Cow<'a, str>>,
}

/// Finds the messages of a batch. If none of them is an object, the body is no batch.
pub(crate) fn parse<'a>(body: &'a [u8], limits: &Limits) -> Result<Vec<&'a RawValue>, Problem> {
    let malformed = |(line, column): (usize, usize)| {
        let place = format!("line {line} column {column}");
        Problem::bad(format!("the batch is not `{{\"messages\":[{{\"topic\":…,\"body\":…}}]}}`, at {place}"))
    };
    let text = std::str::from_utf8(body).map_err(|_| Problem::bad("the batch is not UTF-8"))?;
    let body: Body<'_> = serde_json::from_str(text).map_err(|error| malformed((error.line(), error.column())))?;
    let messages = body.messages;
    if messages.len() > limits.batch_messages {
        return Err(Problem::new(413, format!("a batch has at most {} messages", limits.batch_messages)));
    }
    let is_batch = messages.is_empty() || messages.iter().any(|message| message.get().starts_with('{'));
    if is_batch { Ok(messages) } else { Err(malformed((1, 1))) }
}

/// Reads one message of a batch; it is not checked yet.
pub(crate) fn message(raw: &RawValue, who: Caller<'_>, now: UnixMillis) -> Result<Message, Problem> {
    let item: Item<'_> = serde_json::from_str(raw.get())
        .map_err(|error| Problem::bad(format!("the message is malformed: {}", json::explain(&error))))?;
    item.message(who, now)
}

impl Item<'_> {
    fn message(self, who: Caller<'_>, now: UnixMillis) -> Result<Message, Problem> {
        let topic = self.topic.as_deref().ok_or_else(|| Problem::bad("`topic` is missing"))?;
        let topic = parse_topic(topic)?;
        let (body, implied_type) =
            json::content(self.body, self.body_base64, self.content_type.as_deref()).map_err(Problem::bad)?;
        let ttl = self.ttl.map(time_to_live).transpose()?;
        let about = self.about.as_deref().map(message_id).transpose()?;
        Ok(Message {
            from: publish::user(who),
            event: self.event.map(Into::into),
            content_type: self.content_type.map(Into::into).or(implied_type.map(Into::into)),
            key: self.key.map(Into::into),
            retain: self.retain.unwrap_or(false),
            expires: ttl.map(|ttl| now.after(ttl)),
            extras: about.map(about_extras).map(Box::new),
            ..Message::new(topic, body)
        })
    }
}

/// A batch whose messages wait for the log.
pub(crate) struct Batching {
    manner: Manner,
    first: AskId,
    results: Vec<Outcome>,
    open: usize,
}

enum Outcome {
    Waiting(Topic),
    Done(Topic, Published),
    Failed(Problem),
}

impl Batching {
    /// A batch whose asks have the numbers from `first` on; each message spends one.
    pub(crate) fn new(manner: Manner, first: AskId, messages: usize) -> Self {
        Self { manner, first, results: Vec::with_capacity(messages), open: 0 }
    }

    pub(crate) fn asked(&mut self, topic: Topic) {
        self.results.push(Outcome::Waiting(topic));
        self.open += 1;
    }

    pub(crate) fn failed(&mut self, problem: Problem) {
        self.results.push(Outcome::Failed(problem));
    }

    pub(crate) fn outcome(&mut self, ask: AskId, outcome: Result<Published, Problem>) {
        let place = ask.0.wrapping_sub(self.first.0) as usize;
        let Some(result @ Outcome::Waiting(_)) = self.results.get_mut(place) else { return };
        let Outcome::Waiting(topic) = result else { return };
        *result = match outcome {
            Ok(published) => Outcome::Done(topic.clone(), published),
            Err(problem) => Outcome::Failed(problem),
        };
        self.open -= 1;
    }

    /// Whether all outcomes are known.
    pub(crate) fn is_complete(&self) -> bool {
        self.open == 0
    }

    /// Appends the reply, and gives its manner.
    pub(crate) fn reply(self, out: &mut Vec<u8>) -> Manner {
        let mut json = Vec::with_capacity(2 + 160 * self.results.len());
        json.push(b'[');
        for (i, result) in self.results.iter().enumerate() {
            if i > 0 {
                json.push(b',');
            }
            match result {
                Outcome::Done(topic, published) => {
                    json.extend_from_slice(b"{\"status\":200,");
                    publish::published(topic, published, &mut json);
                    json.push(b'}');
                }
                Outcome::Failed(problem) => failed(problem, &mut json),
                Outcome::Waiting(_) => failed(&Problem::unavailable(1, "the outcome is unknown"), &mut json),
            }
        }
        json.push(b']');
        reply::json(out, &self.manner, 200, &json);
        self.manner
    }
}

fn failed(problem: &Problem, json: &mut Vec<u8>) {
    json.extend_from_slice(b"{\"status\":");
    reply::number(u64::from(problem.status), json);
    json.extend_from_slice(b",\"title\":");
    envelope::string(reply::phrase(problem.status), json);
    json.extend_from_slice(b",\"detail\":");
    envelope::string(&problem.detail, json);
    problem.expectation(json);
    json.push(b'}');
}
