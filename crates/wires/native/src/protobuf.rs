//! Frames in protobuf, by `proto/everywire.proto`.

use std::sync::Arc;

use everywire_base::parcel::Parcel;
use everywire_native_frames::{
    self as pb, ClientFrame, Encode, ServerFrame, client_frame::Frame as Asked, server_frame::Frame as Said,
};

use crate::frames::{Hello, Problem, Publish, Request, Response};

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
        })),
        Some(Asked::History(h)) => Request::History { id: h.id, topic: h.topic, before: h.before, limit: h.limit },
        Some(Asked::Ack(ack)) => Request::Ack { cursor: ack.cursor },
        Some(Asked::Ping(_)) => Request::Ping,
        Some(Asked::Pong(_)) => Request::Pong,
    })
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
            let (durability, duplicate) = ((*durability).to_owned(), *duplicate);
            Said::Published(pb::Published { id: *id, message, cursor, durability, duplicate })
        }
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

/// Appends a message.
pub(crate) fn message(parcel: &Parcel, out: &mut Vec<u8>) {
    write_message(parcel, false, out);
}

/// Appends a retained message: what is told before the order.
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
    }
}
