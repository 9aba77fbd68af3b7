//! Publishing many messages with one request: each is an ask of its own, the reply has their outcomes in order.
//!
//! The request's JSON is walked once, with borrowed strings; a message that is wrong in itself fails alone.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use everywire_base::ask::Published;
use everywire_base::clock::UnixMillis;
use everywire_base::envelope;
use everywire_base::id::AskId;
use everywire_base::limits::Limits;
use everywire_base::record::Message;
use everywire_base::rules::Caller;
use everywire_base::topic::Topic;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::problem::Problem;
use crate::publish::{self, parse_topic, time_to_live};
use crate::reply::{self, Manner};

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    messages: Vec<Item<'a>>,
}

/// One message, as it stands in the request.
#[derive(Deserialize)]
pub(crate) struct Item<'a> {
    #[serde(borrow, default)]
    topic: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    body_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    event: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(default)]
    ttl: Option<u64>,
    #[serde(default)]
    retain: bool,
}

/// Reads the messages of a batch.
pub(crate) fn parse<'a>(body: &'a [u8], limits: &Limits) -> Result<Vec<Item<'a>>, Problem> {
    let malformed = |error: &serde_json::Error| {
        let place = format!("line {} column {}", error.line(), error.column());
        Problem::bad(format!("the batch is not `{{\"messages\":[{{\"topic\":…,\"body\":…}}]}}`, at {place}"))
    };
    let text = std::str::from_utf8(body).map_err(|_| Problem::bad("the batch is not UTF-8"))?;
    let body: Body<'_> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    if body.messages.len() > limits.batch_messages {
        return Err(Problem::new(413, format!("a batch has at most {} messages", limits.batch_messages)));
    }
    Ok(body.messages)
}

impl Item<'_> {
    /// The message of an item, not checked yet.
    pub(crate) fn message(self, who: Caller<'_>, now: UnixMillis) -> Result<Message, Problem> {
        let topic = self.topic.as_deref().ok_or_else(|| Problem::bad("`topic` is missing"))?;
        let topic = parse_topic(topic)?;
        let (body, implied_type) = self.content()?;
        let ttl = self.ttl.map(time_to_live).transpose()?;
        Ok(Message {
            from: publish::user(who),
            event: self.event.map(Into::into),
            content_type: self.content_type.map(Into::into).or(implied_type.map(Into::into)),
            key: self.key.map(Into::into),
            retain: self.retain,
            expires: ttl.map(|ttl| now.after(ttl)),
            ..Message::new(topic, body)
        })
    }

    /// The body's bytes, and the type that it has by itself.
    fn content(&self) -> Result<(Bytes, Option<&'static str>), Problem> {
        match (self.body, &self.body_base64) {
            (Some(_), Some(_)) => Err(Problem::bad("a message has `body` or `body_base64`, not both")),
            (None, None) => Ok((Bytes::new(), None)),
            (None, Some(text)) => {
                let wrong = |_| Problem::bad("`body_base64` is not Base64");
                Ok((STANDARD.decode(text.as_bytes()).map_err(wrong)?.into(), None))
            }
            (Some(raw), None) => self.json_content(raw),
        }
    }

    /// A string is text, unless the message says that its type is JSON; anything else is JSON.
    fn json_content(&self, raw: &RawValue) -> Result<(Bytes, Option<&'static str>), Problem> {
        let says_json = self.content_type.as_deref().map(envelope::is_json);
        let verbatim = || Bytes::copy_from_slice(raw.get().as_bytes());
        match (says_json, raw.get().as_bytes().first()) {
            (Some(true), _) => Ok((verbatim(), None)),
            (_, Some(b'"')) => {
                let wrong = |_| Problem::bad("`body` is a string that is not Unicode");
                let text: Cow<'_, str> = unquoted(raw.get())
                    .map_or_else(|| serde_json::from_str(raw.get()).map(Cow::Owned), |t| Ok(Cow::Borrowed(t)))
                    .map_err(wrong)?;
                Ok((Bytes::copy_from_slice(text.as_bytes()), None))
            }
            (None, _) => Ok((verbatim(), Some("application/json"))),
            (Some(false), _) => Err(Problem::bad("`body` is a string, unless `type` says JSON")),
        }
    }
}

/// What stands between the quotes of a JSON string without escapes.
fn unquoted(json: &str) -> Option<&str> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    (memchr::memchr(b'\\', inner.as_bytes()).is_none()).then_some(inner)
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
    /// The numbers of the asks begin with `first`; each message spends one.
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

    /// Appends the reply and gives back its manner.
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
    json.push(b'}');
}
