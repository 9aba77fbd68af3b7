//! The head of a request: found, bounded, and parsed strictly (RFC 9112 §2–§6). It refuses rather than repairs: each
//! line ends with CR LF, nothing is folded, lengths can't contradict each other, there is one `Host`.
//!
//! The meaning of a request is decided elsewhere; only HTTP/1.1's own fields, and those that several routes read, are
//! here.

use std::mem::MaybeUninit;

use httparse::{Header, Status};

use crate::problem::Problem;
use crate::reply::{Address, After, Content, Manner};
use crate::target::Target;

/// The most header fields of a request; more is 431.
pub(crate) const MAX_FIELDS: usize = 100;

/// Fields that only proxies add, besides `X-Forwarded-…` (RFC 7239, RFC 9110 §7.6.3).
const FORWARDING: [&[u8]; 3] = [b"forwarded", b"via", b"x-real-ip"];

/// The space for the parsed fields, on the caller's stack.
pub(crate) type Space<'b> = [MaybeUninit<Header<'b>>; MAX_FIELDS];

/// The version that a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    /// HTTP/1.0: closes unless it says otherwise, knows no chunks.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// The way in which the end of a request's body is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// The number of bytes.
    Length(u64),
    /// Chunked.
    Chunked,
}

/// A parsed head.
pub(crate) struct Head<'b, 'h> {
    pub(crate) method: &'b str,
    pub(crate) target: Target<'b>,
    pub(crate) version: Version,
    pub(crate) framing: Framing,
    pub(crate) fields: Fields<'b>,
    pub(crate) headers: &'h [Header<'b>],
}

/// The fields that the wire itself reads.
#[derive(Default)]
pub(crate) struct Fields<'b> {
    host: Option<&'b [u8]>,
    content_length: Option<&'b [u8]>,
    transfer_encoding: Option<&'b [u8]>,
    expect: Option<&'b [u8]>,
    close: bool,
    keep_alive: bool,
    pub(crate) authorization: Option<&'b [u8]>,
    pub(crate) user_agent: Option<&'b [u8]>,
    pub(crate) content_type: Option<&'b [u8]>,
    pub(crate) content_encoding: Option<&'b [u8]>,
    pub(crate) idempotency_key: Option<&'b [u8]>,
    pub(crate) origin: Option<&'b [u8]>,
    pub(crate) sec_fetch_site: Option<&'b [u8]>,
    pub(crate) sec_fetch_mode: Option<&'b [u8]>,
    pub(crate) sec_fetch_dest: Option<&'b [u8]>,
    /// Whether a proxy says that it has passed the request on.
    pub(crate) is_forwarded: bool,
    pub(crate) last_event_id: Option<&'b [u8]>,
    pub(crate) if_none_match: Option<&'b [u8]>,
    pub(crate) cursor: Option<&'b [u8]>,
    pub(crate) preflight_method: Option<&'b [u8]>,
    pub(crate) preflight_headers: Option<&'b [u8]>,
    pub(crate) preflight_private: Option<&'b [u8]>,
}

/// Looks for the end of a head from `scanned` on, and gives the offset of the body; `None` if more bytes are needed.
pub(crate) fn end(bytes: &[u8], scanned: usize, limit: usize) -> Result<Option<usize>, Problem> {
    let seen = &bytes[..bytes.len().min(limit)];
    if seen.first().is_some_and(|b| !b.is_ascii_alphabetic()) {
        return Err(Problem::fatal(400, "this is not HTTP/1.1: a request begins with its method"));
    }
    for at in memchr::memchr_iter(b'\n', &seen[scanned.min(seen.len())..]) {
        let at = scanned + at;
        if at == 0 || seen[at - 1] != b'\r' {
            return Err(Problem::fatal(400, "a line of the head ends without CR before its LF"));
        }
        if at >= 3 && &seen[at - 3..at] == b"\r\n\r" {
            return Ok(Some(at + 1));
        }
    }
    if bytes.len() > limit {
        return Err(Problem::fatal(431, format!("the request's head is larger than {limit} bytes")));
    }
    Ok(None)
}

/// Parses a whole head.
pub(crate) fn parse<'b, 'h>(bytes: &'b [u8], space: &'h mut Space<'b>) -> Result<Head<'b, 'h>, Problem> {
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, space) {
        Ok(Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Problem::fatal(400, "the request's head is malformed")),
        Err(error) => return Err(explain(error, bytes)),
    }
    let (Some(method), Some(raw_target), Some(minor)) = (request.method, request.path, request.version) else {
        return Err(Problem::fatal(400, "the request's first line is malformed"));
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let mut fields = Fields::default();
    for header in request.headers.iter() {
        fields.note(header)?;
    }
    let framing = fields.framing(version)?;
    fields.check_host(version)?;
    let target = Target::parse(raw_target)?;
    Ok(Head { method, target, version, framing, fields, headers: request.headers })
}

fn explain(error: httparse::Error, bytes: &[u8]) -> Problem {
    use httparse::Error;
    let detail = match error {
        Error::TooManyHeaders => {
            return Problem::fatal(431, format!("the request has more than {MAX_FIELDS} header fields"));
        }
        Error::Version if names_a_version(bytes) => {
            return Problem::fatal(505, "this server speaks HTTP/1.1 and HTTP/1.0 only");
        }
        Error::HeaderName => "a header field's name has a character that it can't have, or the line is folded",
        Error::HeaderValue => "a header field's value has a character that it can't have",
        Error::Token => "the request's first line has a character that it can't have",
        Error::NewLine | Error::Status | Error::Version => "the request's first line is malformed",
    };
    Problem::fatal(400, detail)
}

fn names_a_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    let last = line.rsplit(|b| *b == b' ').next().unwrap_or_default();
    matches!(last, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

fn once<'b>(place: &mut Option<&'b [u8]>, header: &Header<'b>) -> Result<(), Problem> {
    match place.replace(header.value) {
        None => Ok(()),
        Some(_) => Err(Problem::fatal(400, format!("the header field {} is given twice", header.name))),
    }
}

impl<'b> Fields<'b> {
    fn note(&mut self, header: &Header<'b>) -> Result<(), Problem> {
        let mut lower = [0u8; 40];
        let Some(name) = lower.get_mut(..header.name.len()) else { return Ok(()) };
        name.copy_from_slice(header.name.as_bytes());
        name.make_ascii_lowercase();
        match &*name {
            b"connection" => {
                self.note_connection(header.value);
                Ok(())
            }
            b"host" => once(&mut self.host, header),
            b"content-length" => once(&mut self.content_length, header),
            b"transfer-encoding" => once(&mut self.transfer_encoding, header),
            b"expect" => once(&mut self.expect, header),
            b"authorization" => once(&mut self.authorization, header),
            b"user-agent" => once(&mut self.user_agent, header),
            b"content-type" => once(&mut self.content_type, header),
            b"content-encoding" => once(&mut self.content_encoding, header),
            b"idempotency-key" => once(&mut self.idempotency_key, header),
            b"origin" => once(&mut self.origin, header),
            b"sec-fetch-site" => once(&mut self.sec_fetch_site, header),
            b"sec-fetch-mode" => once(&mut self.sec_fetch_mode, header),
            b"sec-fetch-dest" => once(&mut self.sec_fetch_dest, header),
            name if name.starts_with(b"x-forwarded-") || FORWARDING.contains(&name) => {
                self.is_forwarded = true;
                Ok(())
            }
            b"last-event-id" => once(&mut self.last_event_id, header),
            b"if-none-match" => once(&mut self.if_none_match, header),
            b"everywire-cursor" => once(&mut self.cursor, header),
            b"access-control-request-method" => once(&mut self.preflight_method, header),
            b"access-control-request-headers" => once(&mut self.preflight_headers, header),
            b"access-control-request-private-network" => once(&mut self.preflight_private, header),
            _ => Ok(()),
        }
    }

    fn note_connection(&mut self, value: &[u8]) {
        for option in value.split(|b| *b == b',').map(<[u8]>::trim_ascii) {
            self.close |= option.eq_ignore_ascii_case(b"close");
            self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
        }
    }

    /// Finds the framing by RFC 9112 §6.3, without its leniency.
    fn framing(&self, version: Version) -> Result<Framing, Problem> {
        match (self.transfer_encoding, self.content_length) {
            (None, None) => Ok(Framing::Length(0)),
            (None, Some(length)) => content_length(length),
            (Some(_), Some(_)) => {
                Err(Problem::fatal(400, "Content-Length and Transfer-Encoding contradict each other"))
            }
            (Some(_), None) if version == Version::Http10 => {
                Err(Problem::fatal(400, "HTTP/1.0 has no Transfer-Encoding"))
            }
            (Some(coding), None) => transfer_encoding(coding),
        }
    }

    fn check_host(&self, version: Version) -> Result<(), Problem> {
        match self.host {
            None if version == Version::Http11 => Err(Problem::fatal(400, "a request of HTTP/1.1 needs a Host")),
            Some(host) if !is_authority(host) => Err(Problem::fatal(400, "the Host is malformed")),
            _ => Ok(()),
        }
    }
}

fn content_length(text: &[u8]) -> Result<Framing, Problem> {
    let wrong = || Problem::fatal(400, "Content-Length is not a plain number");
    if text.is_empty() || text.len() > 18 || !text.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    Ok(Framing::Length(text.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0'))))
}

fn transfer_encoding(text: &[u8]) -> Result<Framing, Problem> {
    let mut codings = text.split(|b| *b == b',').map(<[u8]>::trim_ascii);
    let (first, second) = (codings.next().unwrap_or_default(), codings.next());
    if first.is_empty() || (first.eq_ignore_ascii_case(b"chunked") && second.is_some()) {
        return Err(Problem::fatal(400, "Transfer-Encoding is malformed: `chunked` stands last and once"));
    }
    if !first.eq_ignore_ascii_case(b"chunked") {
        return Err(Problem::fatal(501, "of the transfer codings only `chunked` is understood"));
    }
    Ok(Framing::Chunked)
}

fn is_authority(text: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:[]%".contains(b);
    !text.is_empty() && text.len() <= 300 && text.iter().all(allowed)
}

impl<'b> Head<'b, '_> {
    /// The host and port that the request is for: the absolute target's, else the field's.
    pub(crate) fn authority(&self) -> Option<&'b str> {
        let from_field = || self.fields.host.and_then(|h| std::str::from_utf8(h).ok());
        self.target.authority.or_else(from_field)
    }

    /// Whether the client waits for `100 Continue`; any other expectation is 417.
    pub(crate) fn expects_continue(&self) -> Result<bool, Problem> {
        match self.fields.expect {
            None => Ok(false),
            Some(_) if self.version == Version::Http10 => Ok(false),
            Some(text) if text.eq_ignore_ascii_case(b"100-continue") => Ok(true),
            Some(_) => Err(Problem::new(417, "the only expectation that is understood is 100-continue")),
        }
    }

    /// Refuses an encoded body. Bodies are kept as they come, so that every wire can tell them: none is decoded here.
    pub(crate) fn refuse_encoded(&self) -> Result<(), Problem> {
        match self.fields.content_encoding {
            None => Ok(()),
            Some(coding) if coding.eq_ignore_ascii_case(b"identity") => Ok(()),
            Some(_) => Err(Problem::new(415, "a body with a Content-Encoding is not understood: send it as it is")),
        }
    }

    /// Whether a body follows.
    pub(crate) fn has_body(&self) -> bool {
        self.framing != Framing::Length(0)
    }

    /// The manner in which the request wants to be answered. The origin is known only after the guard's look.
    pub(crate) fn manner(&self) -> Manner {
        let keeps = match self.version {
            Version::Http11 => !self.fields.close,
            Version::Http10 => self.fields.keep_alive && !self.fields.close,
        };
        let secret = self.target.pairs().any(|p| p.0 == "token");
        Manner {
            version: self.version,
            after: if keeps { After::KeepAlive } else { After::Close },
            content: if self.method == "HEAD" { Content::HeadOnly } else { Content::Whole },
            origin: None,
            address: if secret { Address::Secret } else { Address::Open },
        }
    }
}
