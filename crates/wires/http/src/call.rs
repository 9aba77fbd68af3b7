//! Calls: on every route that is not a state of the wire, the whole request goes to the API, and its reply is written
//! as it comes.

use std::sync::Arc;

use everywire_base::ask::{Call, Reply};
use everywire_base::id::ReplyTo;

use bytes::Bytes;
use everywire_base::identity::Identity;

use crate::head::Head;
use crate::problem::Problem;
use crate::reply::{self, Content, Length, Manner};

/// A call whose body is not known yet.
pub(crate) struct Calling {
    method: Box<str>,
    target: Box<str>,
    headers: Vec<(Box<str>, Box<[u8]>)>,
    max_body: usize,
}

/// Fields that belong to one hop (RFC 9110 §7.6.1), to the framing, or to this wire: neither passed on nor taken over.
const HOP: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn is_hop(name: &str) -> bool {
    HOP.iter().any(|h| h.eq_ignore_ascii_case(name))
}

/// Makes the call of a head. The API sees HEAD as GET: its body gives the length.
pub(crate) fn understand(head: &Head<'_, '_>, max_body: usize) -> Calling {
    let method = if head.method == "HEAD" { "GET" } else { head.method };
    let target = if head.target.query.is_empty() {
        head.target.path.into()
    } else {
        format!("{}?{}", head.target.path, head.target.query).into()
    };
    let headers = head.headers.iter().filter(|h| !is_hop(h.name));
    let headers = headers.map(|h| (h.name.into(), h.value.into())).collect();
    Calling { method: method.into(), target, headers, max_body }
}

impl Calling {
    /// The longest body that it may have.
    pub(crate) fn max_body(&self) -> usize {
        self.max_body
    }

    /// The whole call.
    pub(crate) fn with(self, identity: Option<Arc<Identity>>, body: Bytes) -> Call {
        Call {
            reply_to: ReplyTo::Nobody,
            from: None,
            method: self.method,
            target: self.target,
            headers: self.headers,
            identity,
            body,
        }
    }
}

/// Appends the API's reply; `None` if it is overloaded.
pub(crate) fn reply(out: &mut Vec<u8>, manner: &Manner, answer: Option<Reply>) {
    let Some(answer) = answer else {
        return Problem::unavailable(1, "too many requests are under way: try again in a moment").reply(manner, out);
    };
    let bodiless = matches!(answer.status, 100..=199 | 204 | 304);
    let length = if bodiless { Length::None } else { Length::Bytes(answer.body.len()) };
    reply::head(out, manner, answer.status, length, |fields| {
        for (name, value) in answer.headers.iter().filter(|h| !is_hop(&h.0)) {
            fields.add(name, value);
        }
    });
    if !bodiless && manner.content == Content::Whole {
        out.extend_from_slice(&answer.body);
    }
}
