//! Calling the HTTP API.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::id::ReplyTo;
use crate::identity::Identity;

/// A call of the API: an HTTP request that is not for a wire.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// The address of the answer; the driver writes it.
    pub reply_to: ReplyTo,
    /// The address that it comes from; filled in by the driver, unless the wire knows better.
    pub from: Option<IpAddr>,
    /// `GET`, `POST` …
    pub method: Box<str>,
    /// Path and query, as they came.
    pub target: Box<str>,
    /// The request's header fields.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
    /// The identity of the caller; `None` is anonymous.
    pub identity: Option<Arc<Identity>>,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// A plain question.
    pub fn get(target: impl Into<Box<str>>, identity: Option<Arc<Identity>>) -> Self {
        Self {
            reply_to: ReplyTo::Nobody,
            from: None,
            method: "GET".into(),
            target: target.into(),
            headers: Vec::new(),
            identity,
            body: Bytes::new(),
        }
    }

    /// Whether it counts as a publish of its caller's: it changes rooms, conversations or messages.
    pub fn is_change(&self) -> bool {
        const OF_PEOPLE: [&str; 4] = ["/v1/rooms", "/v1/conversations", "/v1/messages/", "/v1/blocked"];
        &*self.method != "GET" && OF_PEOPLE.iter().any(|route| self.target.starts_with(route))
    }

    /// The question how a conversation is now, by its name.
    pub fn conversation(name: &str, identity: Option<Arc<Identity>>) -> Self {
        Self::get(format!("/v1/conversations/{}", path_level(name)), identity)
    }
}

/// A text as one level of a path: percent-encoded, but for what is nothing else there (RFC 3986 §2.3).
pub fn path_level(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The API's answer to a [`Call`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// The address of the answer, from the call.
    pub reply_to: ReplyTo,
    /// The status code.
    pub status: u16,
    /// The response's header fields, without Content-Length.
    pub headers: Vec<(Box<str>, Box<[u8]>)>,
    /// The body.
    pub body: Bytes,
}
