//! A socket's bytes behind a buffer.

use std::io::{self, Read as _};
use std::net::TcpStream;

use crate::error::ClientError;

const BUFFER_BYTES: usize = 64 << 10;

/// Reads a socket.
#[derive(Debug)]
pub(crate) struct Reader {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// The start of the unread bytes.
    start: usize,
    /// The server, for errors.
    from: String,
}

impl Reader {
    pub(crate) fn new(stream: TcpStream, from: String) -> Self {
        Self { stream, buffer: Vec::new(), start: 0, from }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The bytes that have come and are not read yet.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Takes the first `n` unread bytes as read.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
    }

    /// Waits for more bytes; `false` at the stream's end.
    pub(crate) fn fill(&mut self) -> Result<bool, ClientError> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let before = self.buffer.len();
        self.buffer.resize(before + BUFFER_BYTES, 0);
        let result = loop {
            match self.stream.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(before + *result.as_ref().unwrap_or(&0));
        result.map(|n| n > 0).map_err(|error| ClientError::io(format!("reading from {}", self.from), &error))
    }

    /// Appends at most `most` bytes, waiting for them if none are here; 0 at the stream's end.
    pub(crate) fn some(&mut self, most: u64, out: &mut Vec<u8>) -> Result<usize, ClientError> {
        if self.unread().is_empty() && !self.fill()? {
            return Ok(0);
        }
        let n = self.unread().len().min(usize::try_from(most).unwrap_or(usize::MAX));
        out.extend_from_slice(&self.buffer[self.start..self.start + n]);
        self.consume(n);
        Ok(n)
    }

    /// A line without its end.
    pub(crate) fn line(&mut self, most: usize) -> Result<String, ClientError> {
        loop {
            if let Some(end) = self.unread().iter().position(|b| *b == b'\n') {
                let line = String::from_utf8_lossy(&self.unread()[..end]).trim_end_matches('\r').to_owned();
                self.consume(end + 1);
                return Ok(line);
            }
            if self.unread().len() > most {
                return Err(ClientError::Protocol("a line of its answer has no end".into()));
            }
            if !self.fill()? {
                return Err(self.cut());
            }
        }
    }

    /// The error for an answer that ended too early.
    pub(crate) fn cut(&self) -> ClientError {
        let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed");
        ClientError::io(format!("reading from {}", self.from), &error)
    }
}
