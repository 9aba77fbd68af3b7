//! One kept-alive HTTP/1.1 connection (RFC 9112): requests out, heads and bodies in.

use std::io::Write as _;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use crate::address::Server;
use crate::body::Framing;
use crate::error::{ClientError, Problem};
use crate::reader::Reader;

/// The longest head of an answer.
const MAX_HEAD_BYTES: usize = 64 << 10;
const MAX_FIELDS: usize = 64;
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A request to write.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    /// Header fields besides Host, Authorization and Content-Length.
    pub(crate) fields: Vec<(&'a str, &'a str)>,
    pub(crate) body: Option<&'a [u8]>,
}

/// An answer's head.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
    pub(crate) framing: Framing,
    pub(crate) keeps: bool,
}

impl Head {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn retry_after(&self) -> Option<Duration> {
        self.field("retry-after")?.parse().ok().map(Duration::from_secs)
    }

    /// The refusal that this head and a body make.
    pub(crate) fn problem(&self, body: &[u8]) -> ClientError {
        let mut problem: Problem = serde_json::from_slice(body).unwrap_or_else(|_| Problem {
            status: 0,
            title: String::new(),
            detail: String::from_utf8_lossy(&body[..body.len().min(300)]).trim().to_owned(),
            retry_after: None,
        });
        problem.status = self.status;
        if problem.detail.is_empty() && problem.title.is_empty() {
            problem.title = "the server refused without a word".into();
        }
        problem.retry_after = self.retry_after();
        ClientError::Refused(problem)
    }
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) reader: Reader,
    /// The header fields that every request has.
    common: String,
    server: String,
}

impl Connection {
    pub(crate) fn open(server: &Server, token: Option<&str>) -> Result<Self, ClientError> {
        let what = || format!("connecting to {server}");
        let addresses = server.place().to_socket_addrs().map_err(|error| ClientError::io(what(), &error))?;
        let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT_WITHIN) {
                Ok(stream) => return Self::over(stream, server, token),
                Err(error) => last = error,
            }
        }
        Err(ClientError::io(what(), &last))
    }

    fn over(stream: TcpStream, server: &Server, token: Option<&str>) -> Result<Self, ClientError> {
        stream.set_nodelay(true).map_err(|error| ClientError::io(format!("connecting to {server}"), &error))?;
        let token = token.map(|token| token.chars().filter(|c| !c.is_control()).collect::<String>());
        let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let version = env!("CARGO_PKG_VERSION");
        let common = format!("Host: {}\r\nUser-Agent: everywire/{version}\r\n{authorization}", server.authority());
        Ok(Self { reader: Reader::new(stream, server.to_string()), common, server: server.to_string() })
    }

    /// Whether the server has neither closed it nor sent a byte unasked.
    pub(crate) fn is_fresh(&self) -> bool {
        let stream = self.reader.stream();
        let mut byte = [0];
        let waits = stream.set_nonblocking(true).is_ok()
            && stream.peek(&mut byte).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        stream.set_nonblocking(false).is_ok() && waits && self.reader.unread().is_empty()
    }

    /// Sets the longest time of a read or a write.
    pub(crate) fn patience(&self, patience: Duration) -> Result<(), ClientError> {
        let stream = self.reader.stream();
        let set = stream.set_read_timeout(Some(patience)).and_then(|()| stream.set_write_timeout(Some(patience)));
        set.map_err(|error| ClientError::io("setting a socket's timeout", &error))
    }

    /// Appends a request's bytes.
    pub(crate) fn write_to(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        let Request { method, target, fields, body } = request;
        out.extend_from_slice(format!("{method} {target} HTTP/1.1\r\n{}", self.common).as_bytes());
        for (name, value) in fields {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if let Some(body) = body {
            out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body.unwrap_or_default());
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        let sent = self.reader.stream().write_all(bytes);
        sent.map_err(|error| ClientError::io(format!("sending to {}", self.server), &error))
    }

    /// Waits for the head of the next answer; interim ones are skipped (RFC 9110 §15.2).
    pub(crate) fn head(&mut self) -> Result<Head, ClientError> {
        loop {
            if let Some((used, head)) = parse_head(self.reader.unread())? {
                self.reader.consume(used);
                if !(100..200).contains(&head.status) {
                    return Ok(head);
                }
                continue;
            }
            if self.reader.unread().len() > MAX_HEAD_BYTES {
                return Err(ClientError::Protocol("the head of its answer has no end".into()));
            }
            if !self.reader.fill()? {
                return Err(self.reader.cut());
            }
        }
    }

    /// Waits for a whole body.
    pub(crate) fn body(&mut self, mut framing: Framing) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while framing.next(&mut self.reader, &mut body)? {}
        Ok(body)
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, ClientError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let parsed = response.parse(bytes);
    let parsed = parsed.map_err(|error| ClientError::Protocol(format!("its answer is not HTTP: {error}")))?;
    let httparse::Status::Complete(used) = parsed else { return Ok(None) };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut head = Head {
        status: response.code.unwrap_or_default(),
        fields: response.headers.iter().map(|field| (field.name.to_owned(), text(field.value))).collect(),
        framing: Framing::Over,
        keeps: response.version == Some(1),
    };
    head.framing = framing(&head)?;
    let closes = head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    head.keeps &= !closes && head.framing != Framing::UntilClose;
    Ok(Some((used, head)))
}

/// The framing of an answer's body (RFC 9112 §6.3).
fn framing(head: &Head) -> Result<Framing, ClientError> {
    if matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(Framing::Over);
    }
    if let Some(coding) = head.field("transfer-encoding") {
        let chunked = coding.eq_ignore_ascii_case("chunked");
        let unknown = || ClientError::Protocol(format!("it answers with the transfer coding {coding:?}"));
        return chunked.then_some(Framing::Chunked(None)).ok_or_else(unknown);
    }
    match head.field("content-length").map(str::parse) {
        None => Ok(Framing::UntilClose),
        Some(Ok(length)) => Ok(Framing::Length(length)),
        Some(Err(_)) => Err(ClientError::Protocol("the length of its answer is no number".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing_of(head: &str) -> Result<(Framing, bool), ClientError> {
        let (_, head) = parse_head(format!("HTTP/1.1 {head}\r\n\r\n").as_bytes())?.unwrap();
        Ok((head.framing, head.keeps))
    }

    #[test]
    fn framings() {
        for (head, framing, keeps) in [
            ("200 OK\r\nContent-Length: 5", Framing::Length(5), true),
            ("200 OK\r\nContent-Length: 5\r\nConnection: close", Framing::Length(5), false),
            ("204 No Content", Framing::Over, true),
            ("304 Not Modified\r\nContent-Length: 9", Framing::Over, true),
            ("200 OK", Framing::UntilClose, false),
            ("200 OK\r\nTransfer-Encoding: chunked", Framing::Chunked(None), true),
        ] {
            assert_eq!(framing_of(head), Ok((framing, keeps)), "{head}");
        }
        assert!(framing_of("200 OK\r\nTransfer-Encoding: gzip").is_err());
        assert!(framing_of("200 OK\r\nContent-Length: many").is_err());
    }

    #[test]
    fn a_refusal_without_problem_json_has_the_answers_text() {
        let (_, head) = parse_head(b"HTTP/1.1 502 Bad Gateway\r\nRetry-After: 7\r\n\r\n").unwrap().unwrap();
        let error = head.problem(b"upstream is away\n");
        assert_eq!(error.to_string(), "upstream is away (502)");
        assert_eq!((error.is_passing(), error.retry_after()), (true, Some(Duration::from_secs(7))));
    }
}
