//! Refusals as `application/problem+json` (RFC 9457). The detail says what is wrong and what to do; a payload is never
//! part of it.

use std::borrow::Cow;

use everywire_base::ask::{NotPublished, PublishError};
use everywire_base::envelope;
use everywire_base::publish::Unfit;
use everywire_base::rules::Refusal;

use crate::reply::{self, Length, Manner};

/// The refusal of a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Problem {
    pub(crate) status: u16,
    pub(crate) detail: Cow<'static, str>,
    pub(crate) hint: Hint,
    /// The number that an ordered key should have had.
    pub(crate) expected: Option<u64>,
    /// Whether the beginning of the next request is still known.
    pub(crate) framing: Sound,
}

/// The field that a refusal adds to the reply's head.
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

/// The state of the framing after a refusal: whether the connection can go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sound {
    /// The next request begins after this one.
    Yes,
    /// The place where the next request begins is not known.
    Lost,
}

impl Problem {
    pub(crate) fn new(status: u16, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, detail: detail.into(), hint: Hint::None, expected: None, framing: Sound::Yes }
    }

    /// A refusal with 400, of a request that is framed well.
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

    /// A refusal with 503 and `Retry-After`.
    pub(crate) fn unavailable(seconds: u32, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(503, detail).hinting(Hint::RetryAfter(seconds))
    }

    /// A refusal of a body with 413.
    pub(crate) fn too_large(max: usize, what: &str) -> Self {
        Self::new(413, format!("the body is too large: {what} at most {max} bytes"))
    }

    /// A refusal with 405 and `Allow`.
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
    pub(crate) fn reply_with(&self, manner: &Manner, more: &[(&'static str, &'static str)], out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(128 + self.detail.len());
        self.json(&mut body);
        reply::head(out, manner, self.status, Length::Bytes(body.len()), |fields| {
            fields.add("Content-Type", b"application/problem+json");
            for (name, value) in more {
                fields.add(name, value.as_bytes());
            }
            match self.hint {
                Hint::None => {}
                Hint::RetryAfter(seconds) => fields.number("Retry-After", u64::from(seconds)),
                Hint::Allow(methods) => fields.add("Allow", methods.as_bytes()),
                Hint::Authenticate => fields.add("WWW-Authenticate", b"Bearer"),
                Hint::InvalidToken => fields.add("WWW-Authenticate", b"Bearer error=\"invalid_token\""),
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
            Refusal::Behind => Self::unavailable(1, detail),
        }
    }
}

impl From<Unfit> for Problem {
    fn from(unfit: Unfit) -> Self {
        let detail = unfit.to_string();
        match unfit {
            Unfit::Refused(refusal) => refusal.into(),
            Unfit::TooLarge(_) => Self::new(413, detail),
            Unfit::RetainedUsedUp => Self::new(429, detail),
            Unfit::Name(_) | Unfit::ReservedEvent(_) | Unfit::NotJson(_) => Self::bad(detail),
            Unfit::TooFast(wait) => {
                let seconds = wait.as_millis().div_ceil(1000).max(1) as u32;
                Self::new(429, detail).hinting(Hint::RetryAfter(seconds))
            }
        }
    }
}

impl From<NotPublished> for Problem {
    fn from(why: NotPublished) -> Self {
        match why {
            NotPublished::Log(error) => error.into(),
            NotPublished::Refused(refusal) => refusal.into(),
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
            PublishError::Busy
            | PublishError::Stale
            | PublishError::NoEngine
            | PublishError::OutcomeUnknown
            | PublishError::Closing => Self::unavailable(1, detail),
            PublishError::DiskFull | PublishError::EngineFull | PublishError::KeysFull => Self::unavailable(10, detail),
        }
    }
}
