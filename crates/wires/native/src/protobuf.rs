//! Frames in protobuf, by `proto/everywire.proto`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_base::clock::UnixMillis;
use everywire_base::envelope::is_json;
use everywire_base::parcel::Parcel;
use everywire_base::signal;
use everywire_native_frames::{
    self as pb, ClientFrame, Encode, ServerFrame, client_frame::Frame as Asked, server_frame::Frame as Said,
};
use serde_json::Value;

use crate::calls::{self, Wanted};
use crate::frames::{Hello, Problem, Publish, Request, Response};
use crate::people::{People, Told};

/// Reads a client's frame.
pub(crate) fn read(bytes: &[u8]) -> Result<Request, Problem> {
    let wrong = |_| Problem::bad(0, "the frame is not a ClientFrame of proto/everywire.proto");
    let frame = ClientFrame::decode(bytes).map_err(wrong)?;
    let some = |text: String| (!text.is_empty()).then(|| text.into_boxed_str());
    Ok(match frame.frame {
        None => Request::Unknown,
        Some(Asked::Hello(h)) => {
            let (token, device, session) = (some(h.token), some(h.device), some(h.session));
            Request::Hello(Hello { token, device, session, expiry: h.expiry })
        }
        Some(Asked::Subscribe(s)) => Request::Subscribe { id: s.id, topics: s.topics, after: s.after },
        Some(Asked::Unsubscribe(s)) => Request::Unsubscribe { id: s.id, topics: s.topics },
        Some(Asked::Publish(p)) => Request::Publish(Box::new(Publish {
            id: p.id,
            topic: p.topic,
            body: p.body.into(),
            content_type: some(p.r#type),
            event: some(p.event),
            key: some(p.key),
            ttl: p.ttl,
            retain: p.retain,
            about: some(p.r#ref),
        })),
        Some(Asked::History(h)) => Request::History { id: h.id, topic: h.topic, before: h.before, limit: h.limit },
        Some(Asked::Read(r)) => call(r.id, Wanted::Read { conversation: r.conversation, cursor: r.cursor }),
        Some(Asked::Received(r)) => call(r.id, Wanted::Received { conversation: r.conversation, cursor: r.cursor }),
        Some(Asked::Edit(e)) => call(e.id, Wanted::Edit { message: e.message, body: e.body }),
        Some(Asked::Recall(r)) => call(r.id, Wanted::Recall { message: r.message }),
        Some(Asked::React(r)) => call(r.id, Wanted::React { message: r.message, key: r.key, off: r.off }),
        Some(Asked::Role(r)) => call(r.id, Wanted::Role { room: r.room, user: r.user, role: r.role }),
        Some(Asked::Conversations(c)) => {
            call(c.id, Wanted::Conversations { unread: c.unread, after: c.after, limit: c.limit })
        }
        Some(Asked::Enter(e)) => ask(People::Enter { id: e.id, room: e.room, nick: some(e.nick) }),
        Some(Asked::Leave(l)) => ask(People::Leave { id: l.id, room: l.room }),
        Some(Asked::Typing(t)) => ask(People::Typing { conversation: t.conversation }),
        Some(Asked::Active(a)) => ask(People::Active { active: a.active }),
        Some(Asked::Ack(ack)) => Request::Ack { cursor: ack.cursor },
        Some(Asked::Ping(_)) => Request::Ping,
        Some(Asked::Pong(_)) => Request::Pong,
    })
}

fn ask(asked: People) -> Request {
    Request::People(Box::new(asked))
}

fn call(id: u64, wanted: Wanted) -> Request {
    ask(People::Call { id, wanted })
}

fn encode(frame: Said, out: &mut Vec<u8>) {
    // Writing to a vector can't fail.
    let _ = ServerFrame { frame: Some(frame) }.encode(out);
}

/// Appends a frame.
pub(crate) fn write(response: &Response, out: &mut Vec<u8>) {
    let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
    let frame = match response {
        Response::Welcome(w) => Said::Welcome(pb::Welcome {
            connection: w.connection.to_string(),
            session: text(&w.session),
            resumed: w.resumed,
            heartbeat: w.heartbeat,
            user: text(&w.user),
            device: text(&w.device),
            expiry: if w.session.is_some() { w.expiry } else { 0 },
        }),
        Response::Subscribed { id, cursor, gap } => {
            Said::Subscribed(pb::Subscribed { id: *id, cursor: cursor.clone(), gap: *gap })
        }
        Response::Unsubscribed { id } => Said::Unsubscribed(pb::Unsubscribed { id: *id }),
        Response::History { id, past } => {
            let parcels = past.records.iter().filter_map(|r| Parcel::new(Arc::clone(r), past.before.epoch));
            Said::History(pb::Page {
                id: *id,
                messages: parcels.map(|parcel| as_message(&parcel, false)).collect(),
                before: past.before.to_string(),
                more: past.more,
                gap: past.gap,
                cursor: past.cursor.to_string(),
            })
        }
        Response::Published { id, place, durability, duplicate } => {
            let (message, cursor) = place.clone().unwrap_or_default();
            let (durability, duplicate) = (durability.to_string(), *duplicate);
            Said::Published(pb::Published { id: *id, message, cursor, durability, duplicate })
        }
        Response::People(told) => people(told),
        Response::Error(p) => Said::Error(pb::Error {
            id: p.id,
            code: p.code.into(),
            reason: p.reason.clone(),
            topic: text(&p.topic),
            retry_after_ms: p.retry_after_ms.unwrap_or_default(),
            expected: p.expected.unwrap_or_default(),
        }),
        Response::Gap { topic, after, earliest } => Said::Gap(pb::Gap {
            topic: topic.to_string(),
            after: after.clone().unwrap_or_default(),
            earliest: earliest.clone(),
        }),
        Response::Close { code, reason, reconnect, delay_ms, detail } => Said::Close(pb::Close {
            code: u32::from(*code),
            reason: (*reason).to_owned(),
            detail: text(detail),
            reconnect: *reconnect,
            delay_ms: *delay_ms,
        }),
        Response::Ping => Said::Ping(pb::Ping {}),
        Response::Pong => Said::Pong(pb::Pong {}),
    };
    encode(frame, out);
}

/// A frame about people.
fn people(told: &Told) -> Said {
    match told {
        Told::Done { id } => Said::Done(pb::Done { id: *id }),
        Told::Entered { id, room, entered } => Said::Entered(pb::Entered {
            id: *id,
            room: room.clone(),
            nick: entered.nick.to_string(),
            voice: entered.voice.as_str().to_owned(),
            cursor: entered.cursor.to_string(),
            greet: entered.greet,
        }),
        Told::Conversations { id, list } => {
            let calls::List { conversations, cursor, more } = calls::list_of(list);
            let conversations = conversations.into_iter().map(conversation).collect();
            Said::Conversations(pb::Conversations { id: *id, conversations, cursor, more })
        }
        Told::Conversation { entry } => Said::Conversation(conversation(calls::entry_of(entry))),
    }
}

/// Appends a message.
pub(crate) fn message(parcel: &Parcel, out: &mut Vec<u8>) {
    write_message(parcel, false, out);
}

/// A conversation as the API writes it.
fn conversation(entry: calls::Entry) -> pb::Conversation {
    pb::Conversation {
        conversation: entry.conversation,
        title: entry.title,
        unread: entry.unread,
        exact: entry.exact,
        mentions: entry.mentions,
        read: entry.read,
        last: entry.last.map(last),
        role: entry.role,
        nick: entry.nick,
        notify: entry.notify,
        muted: entry.muted,
        pinned: entry.pinned,
        archived: entry.archived,
        presence: entry.presence,
        seen: entry.seen,
        r#as: entry.alias,
        wires: entry.wires,
        theirs: entry.theirs,
    }
}

/// The last message of a conversation, with its changes.
fn last(calls::Last { message, edited, recalled }: calls::Last) -> pb::Message {
    let (text, json) = match message.body {
        Some(Value::String(text)) if !message.content_type.as_deref().is_some_and(is_json) => (Some(text), None),
        body => (None, body),
    };
    let bytes = || STANDARD.decode(message.body_base64.unwrap_or_default()).unwrap_or_default();
    pb::Message {
        time: message.time.parse::<UnixMillis>().map_or(0, |time| time.0),
        id: message.id,
        topic: message.topic,
        cursor: message.cursor,
        from: message.from.unwrap_or_default(),
        to: message.to.unwrap_or_default(),
        r#ref: message.about.unwrap_or_default(),
        event: message.event.unwrap_or_default(),
        r#type: message.content_type.unwrap_or_default(),
        body: text.map(String::into_bytes).or(json.map(|json| json.to_string().into_bytes())).unwrap_or_else(bytes),
        retained: false,
        edited,
        recalled,
        nick: message.nick.unwrap_or_default(),
    }
}

/// Appends a signal.
pub(crate) fn signal(said: &signal::Said, out: &mut Vec<u8>) {
    let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
    encode(
        Said::Signal(pb::Signal {
            conversation: said.conversation.to_string(),
            kind: said.kind.as_str().to_owned(),
            user: said.user.to_string(),
            cursor: text(&said.cursor),
            nick: text(&said.nick),
            role: said.role.map(|role| role.as_str().into()).unwrap_or_default(),
        }),
        out,
    );
}

/// Appends a retained message, which is told before the order.
pub(crate) fn retained(parcel: &Parcel, out: &mut Vec<u8>) {
    write_message(parcel, true, out);
}

fn write_message(parcel: &Parcel, retained: bool, out: &mut Vec<u8>) {
    encode(Said::Message(as_message(parcel, retained)), out);
}

fn as_message(parcel: &Parcel, retained: bool) -> pb::Message {
    let (record, message) = (parcel.record(), parcel.message());
    let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
    pb::Message {
        id: record.id().to_string(),
        topic: message.topic.to_string(),
        cursor: parcel.cursor().to_string(),
        time: record.time.0,
        from: text(&message.from),
        event: text(&message.event),
        r#type: text(&message.content_type),
        body: message.body.to_vec(),
        retained,
        to: message.sent_to().unwrap_or_default().to_owned(),
        r#ref: message.about().map(|id| id.to_string()).unwrap_or_default(),
        edited: false,
        recalled: false,
        nick: message.nick().unwrap_or_default().to_owned(),
    }
}
