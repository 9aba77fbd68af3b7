//! Responses: status, header fields, body, apart from the framing that makes bytes of them ([`http1`]).
//!
//! A response is always answered in the manner that its request asked for: kept alive or closed, with or without a
//! body, with the origin that may read it.

use std::sync::Arc;
use std::time::Duration;

use crate::head::Version;
use crate::http1;

pub(crate) use crate::http1::{Coding, Fields};

/// The manner in which a response has to be written.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) version: Version,
    pub(crate) after: After,
    pub(crate) content: Content,
    /// The foreign origin that may read the response.
    pub(crate) origin: Option<Arc<str>>,
    pub(crate) address: Address,
}

/// The step after a response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum After {
    /// Another request.
    KeepAlive,
    /// The end.
    Close,
    /// The end, since the server goes down; the client shall come back after these seconds.
    Leave {
        /// At least 1: all clients at once would be too many.
        seconds: u16,
    },
}

/// The part of a response that is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// Head and body.
    Whole,
    /// The head alone, to HEAD.
    HeadOnly,
}

/// Whether the request's address holds a secret (`?token=`), which must not travel on as a referrer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    /// It may be told.
    Open,
    /// It holds a token.
    Secret,
}

impl Manner {
    /// The manner for a request whose head could not be read.
    pub(crate) fn unknown() -> Self {
        Self {
            version: Version::Http11,
            after: After::Close,
            content: Content::Whole,
            origin: None,
            address: Address::Open,
        }
    }

    pub(crate) fn closing(self) -> Self {
        Self { after: After::Close, ..self }
    }

    /// The manner of the last answer before a planned end.
    pub(crate) fn leaving(self, delay: Duration) -> Self {
        Self { after: After::Leave { seconds: (delay.as_secs() as u16).max(1) }, ..self }
    }

    pub(crate) fn closes(&self) -> bool {
        self.after != After::KeepAlive
    }
}

/// The length of a response's body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Length {
    /// There is no body, by the status.
    None,
    /// The number of bytes.
    Bytes(usize),
    /// The length is not known yet: the body comes in parts.
    Open,
}

/// Reason phrases (RFC 9110 §15).
const PHRASES: &[(u16, &str)] = &[
    (200, "OK"),
    (201, "Created"),
    (202, "Accepted"),
    (204, "No Content"),
    (206, "Partial Content"),
    (301, "Moved Permanently"),
    (302, "Found"),
    (303, "See Other"),
    (304, "Not Modified"),
    (307, "Temporary Redirect"),
    (308, "Permanent Redirect"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (406, "Not Acceptable"),
    (408, "Request Timeout"),
    (409, "Conflict"),
    (410, "Gone"),
    (411, "Length Required"),
    (412, "Precondition Failed"),
    (413, "Content Too Large"),
    (414, "URI Too Long"),
    (415, "Unsupported Media Type"),
    (417, "Expectation Failed"),
    (422, "Unprocessable Content"),
    (426, "Upgrade Required"),
    (429, "Too Many Requests"),
    (431, "Request Header Fields Too Large"),
    (500, "Internal Server Error"),
    (501, "Not Implemented"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Gateway Timeout"),
    (505, "HTTP Version Not Supported"),
];

/// The reason phrase of a status.
pub(crate) fn phrase(status: u16) -> &'static str {
    PHRASES.iter().find(|p| p.0 == status).map_or("Unknown", |p| p.1)
}

/// Appends a decimal number.
pub(crate) fn number(n: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// Appends the whole head of a response, with the fields that `fields` adds in its midst.
pub(crate) fn head(
    out: &mut Vec<u8>,
    manner: &Manner,
    status: u16,
    length: Length,
    fields: impl FnOnce(&mut Fields<'_>),
) {
    match manner.version {
        Version::Http10 | Version::Http11 => http1::head(out, manner, (status, length), fields),
    }
}

/// Adds the fields that every response may have.
pub(crate) fn shared_fields(fields: &mut Fields<'_>, manner: &Manner) {
    if let Some(origin) = &manner.origin {
        fields.add("Access-Control-Allow-Origin", origin.as_bytes());
        fields.add("Access-Control-Expose-Headers", b"Everywire-Cursor, Everywire-Gap, ETag, Retry-After");
        fields.add("Vary", b"Origin");
    }
    if manner.address == Address::Secret {
        fields.add("Referrer-Policy", b"no-referrer");
    }
    if let After::Leave { seconds } = manner.after {
        fields.number("Retry-After", seconds.into());
    }
}

/// Appends a body, unless the manner wants none.
pub(crate) fn body(out: &mut Vec<u8>, manner: &Manner, bytes: &[u8]) {
    if manner.content == Content::Whole {
        out.extend_from_slice(bytes);
    }
}

/// Appends a whole response with a JSON body.
pub(crate) fn json(out: &mut Vec<u8>, manner: &Manner, status: u16, json: &[u8]) {
    head(out, manner, status, Length::Bytes(json.len()), |fields| fields.add("Content-Type", b"application/json"));
    body(out, manner, json);
}
