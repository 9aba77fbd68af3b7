//! Refusals as `application/problem+json` (RFC 9457). The detail says what is wrong and what to do; a payload is never
//! part of it.

use std::borrow::Cow;

use everywire_base::ask::PublishError;
use everywire_base::envelope;
use everywire_base::publish::Unfit;
use everywire_base::rules::Refusal;

use crate::reply::{self, Length, Manner};

/// Why a request is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) hint: Hint,
    /// The number that an ordered key should have had.
    pub(crate) expected: Option<u64>,
    /// Whether it is still known where the next request begins.
    pub(crate) framing: Sound,
}

/// What a refusal adds to the reply's head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hint {
    /// Nothing.
    None,
    /// `Retry-After` in seconds.
    RetryAfter(u32),
    /// `Allow`.
    Allow(&'static str),
    /// `WWW-Authenticate: Bearer`.
    Authenticate,
    /// `WWW-Authenticate: Bearer` with the error `invalid_token` (RFC 6750 §3.1).
    InvalidToken,
}

/// Whether the connection can go on after a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sound {
    /// The next request begins after this one.
    Yes,
    /// Nobody knows where the next request begins.
    Lost,
}

impl Problem {
    pub(crate) fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), hint: Hint::None, expected: None, framing: Sound::Yes }
    }

    /// 400 in a request that is framed well.
    pub(crate) fn bad(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(400, detail)
    }

    /// A refusal after which the connection can only be closed.
    pub(crate) fn fatal(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { framing: Sound::Lost, ..Self::new(status, detail) }
    }

    pub(crate) fn hinting(self, hint: Hint) -> Self {
        Self { hint, ..self }
    }

    /// 503 with `Retry-After`.
    pub(crate) fn unavailable(seconds: u32, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(503, detail).hinting(Hint::RetryAfter(seconds))
    }

    /// 413 for a body.
    pub(crate) fn too_large(max: usize, what: &str) -> Self {
        Self::new(413, format!("the body is too large: {what} at most {max} bytes"))
    }

    /// 405 with `Allow`.
    pub(crate) fn method(method: &str, allow: &'static str) -> Self {
        let detail = format!("{method} is not for this address: use {allow}");
        Self::new(405, detail).hinting(Hint::Allow(allow))
    }

    /// Appends the problem document.
    pub(crate) fn json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":");
        envelope::string(reply::phrase(self.status), out);
        out.extend_from_slice(b",\"status\":");
        reply::number(u64::from(self.status), out);
        out.extend_from_slice(b",\"detail\":");
        envelope::string(&self.detail, out);
        self.expectation(out);
        out.push(b'}');
    }

    /// Appends `,"expected":N`, if there is one.
    pub(crate) fn expectation(&self, out: &mut Vec<u8>) {
        if let Some(expected) = self.expected {
            out.extend_from_slice(b",\"expected\":");
            reply::number(expected, out);
        }
    }

    /// Appends the whole reply.
    pub(crate) fn reply(&self, manner: &Manner, out: &mut Vec<u8>) {
        self.reply_with(manner, &[], out);
    }

    /// Appends the whole reply, with further fields in its head.
    pub(crate) fn reply_with(&self, manner: &Manner, fields: &[(&'static str, &'static str)], out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(128 + self.detail.len());
        self.json(&mut body);
        reply::head(out, manner, self.status, Length::Bytes(body.len()), |out| {
            reply::field(out, "Content-Type", b"application/problem+json");
            for (name, value) in fields {
                reply::field(out, name, value.as_bytes());
            }
            match self.hint {
                Hint::None => {}
                Hint::RetryAfter(seconds) => reply::number_field(out, "Retry-After", u64::from(seconds)),
                Hint::Allow(methods) => reply::field(out, "Allow", methods.as_bytes()),
                Hint::Authenticate => reply::field(out, "WWW-Authenticate", b"Bearer"),
                Hint::InvalidToken => reply::field(out, "WWW-Authenticate", b"Bearer error=\"invalid_token\""),
            }
        });
        reply::body(out, manner, &body);
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Unauthorized(_) => Self::new(401, detail).hinting(Hint::Authenticate),
            Refusal::Forbidden(_) => Self::new(403, detail),
            Refusal::TooMany(_) => Self::new(429, detail).hinting(Hint::RetryAfter(1)),
        }
    }
}

impl From<Unfit> for Problem {
    fn from(unfit: Unfit) -> Self {
        let detail = unfit.to_string();
        match unfit {
            Unfit::Refused(refusal) => refusal.into(),
            Unfit::TooLarge(_) => Self::new(413, detail),
            Unfit::Name(_) | Unfit::ReservedEvent(_) | Unfit::NotJson(_) => Self::bad(detail),
            Unfit::TooFast(wait) => {
                let seconds = wait.as_millis().div_ceil(1000).max(1) as u32;
                Self::new(429, detail).hinting(Hint::RetryAfter(seconds))
            }
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::OutOfOrder { expected } => Self { expected: Some(expected), ..Self::new(409, detail) },
            PublishError::KeyConflict | PublishError::Fenced => Self::new(409, detail),
            PublishError::KeysUsedUp => Self::new(429, detail).hinting(Hint::RetryAfter(10)),
            PublishError::Busy | PublishError::OutcomeUnknown | PublishError::Closing => Self::unavailable(1, detail),
            PublishError::DiskFull | PublishError::KeysFull => Self::unavailable(10, detail),
        }
    }
}
