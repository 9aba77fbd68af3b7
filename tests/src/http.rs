//! A part of HTTP/1.1: it sends any bytes, and reads an answer.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;

use crate::PATIENCE;

/// A request as a well-behaved client writes it. Malformed ones are sent as raw bytes.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request without a body.
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.into(), target: target.into(), headers: Vec::new(), body: None }
    }

    /// A `GET`.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A `POST` of plain text.
    pub fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new("POST", target).header("Content-Type", "text/plain").body(body)
    }

    /// A `POST` of JSON.
    pub fn json(target: &str, body: &Value) -> Self {
        Self::new("POST", target).header("Content-Type", "application/json").body(body.to_string())
    }

    /// Sets this header field, in place of one of the same name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets this body.
    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = Some(body.as_ref().to_vec());
        self
    }

    /// The bytes on the wire.
    pub fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            let _ = write!(head, "Host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if let Some(body) = &self.body {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(self.body.iter().flatten());
        bytes
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header fields, as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A header field's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it isn't UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("a body of text")
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it isn't JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The bodies of a poll's messages.
    ///
    /// # Panics
    /// When it isn't a poll's answer with texts.
    pub fn bodies(&self) -> Vec<String> {
        let json = self.json();
        let messages = json["messages"].as_array().unwrap_or_else(|| panic!("no messages: {json}"));
        messages.iter().map(|m| m["body"].as_str().expect("a text").to_owned()).collect()
    }

    /// The cursor in the header.
    ///
    /// # Panics
    /// When there is none.
    pub fn cursor(&self) -> String {
        self.header("Everywire-Cursor").unwrap_or_else(|| panic!("no Everywire-Cursor: {self:?}")).to_owned()
    }
}

/// A connection, kept alive for any number of exchanges.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    buffer: Vec<u8>,
    /// The chunks of the present answer that have come and are not decoded yet.
    chunks: Option<Vec<u8>>,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn open(address: SocketAddr) -> Self {
        Self::try_open(address).expect("the server accepts")
    }

    /// Connects, if the server accepts.
    pub fn try_open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address, buffer: Vec::new(), chunks: None })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub fn exchange(&mut self, request: &Request) -> Response {
        self.try_exchange(request).unwrap_or_else(|e| panic!("{} {}: {e}", request.method, request.target))
    }

    /// Sends a request and reads its answer, if a whole one comes.
    pub fn try_exchange(&mut self, request: &Request) -> std::io::Result<Response> {
        self.stream.write_all(&request.bytes(self.address))?;
        self.try_response(request.method == "HEAD")
    }

    /// Sends any bytes. A server that has answered and closed doesn't take them all, which is no error.
    ///
    /// # Panics
    /// When the server takes nothing for long.
    pub fn send(&mut self, bytes: &[u8]) {
        match self.stream.write_all(bytes) {
            Err(e) if !matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => panic!("{e}"),
            _ => {}
        }
    }

    /// Sends a request without waiting for the answer.
    pub fn ask(&mut self, request: &Request) {
        let bytes = request.bytes(self.address);
        self.send(&bytes);
    }

    /// Reads an answer.
    ///
    /// # Panics
    /// When no whole answer comes.
    pub fn response(&mut self) -> Response {
        self.try_response(false).expect("an answer")
    }

    /// Reads an answer, if a whole one comes; `headless` for the answer to `HEAD`.
    pub fn try_response(&mut self, headless: bool) -> std::io::Result<Response> {
        let mut response = self.head()?;
        if headless || matches!(response.status, 100..=199 | 204 | 304) {
            return Ok(response);
        }
        response.body = match response.header("Content-Length") {
            Some(length) => self.take(length.parse().expect("a length"))?,
            None => self.rest()?,
        };
        Ok(response)
    }

    /// Reads an answer's head.
    pub fn head(&mut self) -> std::io::Result<Response> {
        let mut lines = vec![self.line()?];
        while lines.last().is_some_and(|line| !line.is_empty()) {
            lines.push(self.line()?);
        }
        let status = lines[0].split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {:?}", lines[0]));
        let fields = lines[1..].iter().filter_map(|line| line.split_once(':'));
        let headers = fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        let response = Response { status, headers, body: Vec::new() };
        if response.header("Transfer-Encoding") == Some("chunked") {
            self.chunks = Some(std::mem::take(&mut self.buffer));
            self.decode();
        }
        Ok(response)
    }

    /// Reads a line, and returns it without its end.
    pub fn line(&mut self) -> std::io::Result<String> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=searched + at).collect();
                let text = String::from_utf8(line).map_err(std::io::Error::other)?;
                return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
            }
            searched = self.buffer.len();
            self.fill()?;
        }
    }

    /// Reads up to the end of the connection.
    pub fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        loop {
            match self.fill() {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(std::mem::take(&mut self.buffer)),
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether the server closes the connection without a further byte.
    ///
    /// # Panics
    /// When it neither closes nor says anything for long.
    pub fn is_closed(&mut self) -> bool {
        match self.rest() {
            Ok(rest) => rest.is_empty(),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => true,
            Err(e) => panic!("the connection stays open: {e}"),
        }
    }

    /// Closes our side of the connection.
    pub fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    pub(crate) fn take(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            self.fill()?;
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self) -> std::io::Result<()> {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk)? {
            0 => Err(std::io::Error::new(ErrorKind::UnexpectedEof, "the server closed the connection")),
            n => {
                self.chunks.as_mut().unwrap_or(&mut self.buffer).extend(&chunk[..n]);
                self.decode();
                Ok(())
            }
        }
    }

    /// Decodes the whole chunks that have come (RFC 9112 §7.1); the last one is empty.
    fn decode(&mut self) {
        let Some(raw) = &mut self.chunks else { return };
        while let Some(at) = raw.windows(2).position(|w| w == b"\r\n") {
            let size = std::str::from_utf8(&raw[..at]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
            let size =
                size.unwrap_or_else(|| panic!("not the size of a chunk: {:?}", raw[..at].escape_ascii().to_string()));
            let (start, end) = (at + 2, at + 2 + size);
            if raw.len() < end + 2 {
                return;
            }
            assert_eq!(&raw[end..end + 2], b"\r\n", "the end of a chunk");
            self.buffer.extend(&raw[start..end]);
            raw.drain(..end + 2);
        }
    }
}
