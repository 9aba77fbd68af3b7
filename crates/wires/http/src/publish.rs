//! Publishing one message: from the request to a message, from the outcome to a reply.
//!
//! Publishes may be pipelined: [`Publishes`] keeps those that wait for the log, and answers them in the order in which
//! they came, whatever the order of their outcomes.

use std::collections::VecDeque;
use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use everywire_base::ask::Published;
use everywire_base::clock::UnixMillis;
use everywire_base::envelope;
use everywire_base::id::{AskId, MessageId};
use everywire_base::publish::{check_event, check_name};
use everywire_base::record::{Durability, Extras, Message};
use everywire_base::rules::{Caller, Rules};
use everywire_base::topic::Topic;

use crate::head::Head;
use crate::problem::Problem;
use crate::reply::{self, Manner};
use crate::request::Surroundings;
use crate::target::{decode_text, decode_topic, once, switch, whole};

/// The head of a request that publishes: a message before its body.
pub(crate) struct Publication {
    /// The message without its body and its expiry.
    message: Message,
    ttl: Option<Duration>,
    /// The body, if it stands in the address; then none may follow.
    pub(crate) inline: Option<Bytes>,
}

impl Publication {
    /// `POST /v1/messages?topic=T[&event=E][&ttl=SECONDS][&retain=1][&ref=ID]`.
    pub(crate) fn from_query(head: &Head<'_, '_>, around: &Surroundings<'_>) -> Result<Self, Problem> {
        let mut topic = None;
        for (_, value) in head.target.pairs().filter(|p| p.0 == "topic") {
            once(&mut topic, decode_topic(value, "topic")?, "topic")?;
        }
        let topic = topic.ok_or_else(|| Problem::bad("say where to publish: `topic=` is missing"))?;
        Self::to(head, parse_topic(&topic)?, around)
    }

    /// A publication to a topic that stands elsewhere than in the query. The head is checked before the body is read.
    pub(crate) fn to(head: &Head<'_, '_>, topic: Topic, around: &Surroundings<'_>) -> Result<Self, Problem> {
        around.rules.may_publish(around.who, &topic)?;
        let (mut event, mut ttl, mut retain, mut about) = (None, None, None, None);
        for (name, value) in head.target.pairs() {
            match name {
                "event" => once(&mut event, event_name(&decode_text(value, name)?)?, name)?,
                "ttl" => once(&mut ttl, time_to_live(whole(value, name)?)?, name)?,
                "retain" => once(&mut retain, switch(value, name)?, name)?,
                "ref" => once(&mut about, message_id(&decode_text(value, name)?)?, name)?,
                _ => {}
            }
        }
        let message = Message {
            from: user(around.who),
            event,
            content_type: head.fields.content_type.map(media_type).transpose()?,
            key: head.fields.idempotency_key.map(|k| header_text(k, "Idempotency-Key")).transpose()?,
            retain: retain.unwrap_or(false),
            extras: about.map(about_extras).map(Box::new),
            ..Message::new(topic, Bytes::new())
        };
        Ok(Self { message, ttl, inline: None })
    }

    /// The longest body, by the topic's rule.
    pub(crate) fn max_body(&self, rules: &Rules) -> (usize, &'static str) {
        match self.inline {
            None => (rules.of(&self.message.topic).max_message, "a message of this topic has"),
            Some(_) => (0, "with `message=` in the address it has"),
        }
    }

    /// The message with its body.
    pub(crate) fn message(self, body: Bytes, now: UnixMillis) -> Message {
        let expires = self.ttl.map(|ttl| now.after(ttl));
        Message { body: self.inline.unwrap_or(body), expires, ..self.message }
    }
}

/// The name under which somebody publishes.
pub(crate) fn user(who: Caller<'_>) -> Option<Box<str>> {
    who?.user.clone()
}

/// Parses a topic for publishing.
pub(crate) fn parse_topic(text: &str) -> Result<Topic, Problem> {
    Topic::parse(text).map_err(|error| Problem::bad(format!("`topic`: {error}")))
}

fn event_name(text: &str) -> Result<Box<str>, Problem> {
    check_event(text)?;
    Ok(text.into())
}

/// The id of the message that a message is about.
pub(crate) fn message_id(text: &str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| Problem::bad("`ref` is the id of a message"))
}

/// The extras of a message that is about another.
pub(crate) fn about_extras(id: MessageId) -> Extras {
    Extras { about: Some(id), ..Extras::default() }
}

/// The time until a message is not delivered any more.
pub(crate) fn time_to_live(seconds: u64) -> Result<Duration, Problem> {
    if seconds == 0 {
        return Err(Problem::bad("`ttl` is a number of seconds from 1"));
    }
    Ok(Duration::from_secs(seconds.min(u64::from(u32::MAX))))
}

fn header_text(value: &[u8], what: &'static str) -> Result<Box<str>, Problem> {
    let text = std::str::from_utf8(value).map_err(|_| Problem::bad(format!("`{what}` is not UTF-8")))?;
    check_name(text, what)?;
    Ok(text.into())
}

/// The media type as it came; curl's own default counts as text.
fn media_type(value: &[u8]) -> Result<Box<str>, Problem> {
    let text = header_text(value, "Content-Type")?;
    let essence = text.split(';').next().unwrap_or_default().trim();
    let form = essence.eq_ignore_ascii_case("application/x-www-form-urlencoded");
    Ok(if form { "text/plain".into() } else { text })
}

/// Appends `"id":…,"topic":…,"cursor":…,"durability":…`; for a message that had been published before also
/// `"duplicate":true`, and id and cursor only while they are known.
pub(crate) fn published(topic: &Topic, published: &Published, out: &mut Vec<u8>) {
    if published.is_placed() {
        out.extend_from_slice(b"\"id\":\"");
        out.extend_from_slice(&published.id().text());
        out.extend_from_slice(b"\",");
    }
    out.extend_from_slice(b"\"topic\":");
    envelope::string(topic.as_str(), out);
    if published.is_placed() {
        // Writing to a vector can't fail.
        let _ = write!(out, ",\"cursor\":\"{}\"", published.cursor());
    }
    out.extend_from_slice(b",\"durability\":\"");
    out.extend_from_slice(Durability::as_str(published.durability).as_bytes());
    out.push(b'"');
    if published.duplicate {
        out.extend_from_slice(b",\"duplicate\":true");
    }
}

/// The publishes of a connection that are not answered yet, in their order.
#[derive(Default)]
pub(crate) struct Publishes {
    queue: VecDeque<Waiting>,
    /// The ask of the first one in the queue.
    first: AskId,
}

struct Waiting {
    topic: Option<Topic>,
    manner: Manner,
    outcome: Option<Result<Published, Problem>>,
}

impl Publishes {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds a publish that was asked, under the next number.
    pub(crate) fn asked(&mut self, ask: AskId, topic: Topic, manner: Manner) {
        self.enqueue(ask, Waiting { topic: Some(topic), manner, outcome: None });
    }

    /// Adds a publish that was refused before it was asked; its number is spent all the same.
    pub(crate) fn refused(&mut self, ask: AskId, manner: Manner, problem: Problem) {
        self.enqueue(ask, Waiting { topic: None, manner, outcome: Some(Err(problem)) });
    }

    fn enqueue(&mut self, ask: AskId, waiting: Waiting) {
        if self.queue.is_empty() {
            self.first = ask;
        }
        self.queue.push_back(waiting);
    }

    /// Notes an outcome.
    pub(crate) fn outcome(&mut self, ask: AskId, outcome: Result<Published, Problem>) {
        let place = ask.0.wrapping_sub(self.first.0) as usize;
        if let Some(waiting) = self.queue.get_mut(place) {
            waiting.outcome = Some(outcome);
        }
    }

    /// Takes the first one, if its outcome is known, as reply and manner.
    pub(crate) fn next_reply(&mut self) -> Option<(Manner, Result<Vec<u8>, Problem>)> {
        self.queue.front()?.outcome.as_ref()?;
        let Waiting { topic, manner, outcome } = self.queue.pop_front()?;
        self.first = AskId(self.first.0.wrapping_add(1));
        if self.queue.is_empty() {
            // An idle connection owns no memory.
            self.queue = VecDeque::new();
        }
        let reply = outcome?.map(|done| {
            let mut json = Vec::with_capacity(160);
            json.push(b'{');
            if let Some(topic) = topic {
                published(&topic, &done, &mut json);
            }
            json.push(b'}');
            json
        });
        Some((manner, reply))
    }
}

/// Appends the reply to a publish.
pub(crate) fn reply(out: &mut Vec<u8>, manner: &Manner, outcome: &Result<Vec<u8>, Problem>) {
    match outcome {
        Ok(json) => reply::json(out, manner, 200, json),
        Err(problem) => problem.reply(manner, out),
    }
}
