//! The framing of an answer's body (RFC 9112 §6), which is read piece by piece.

use crate::error::ClientError;
use crate::reader::Reader;

/// The rest of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Framing {
    /// The number of bytes left.
    Length(u64),
    /// Chunks; the bytes left of the present one, if it has begun.
    Chunked(Option<u64>),
    /// All bytes until the connection ends.
    UntilClose,
    /// The body is over.
    Over,
}

/// The longest line between chunks.
const MAX_CHUNK_LINE: usize = 4096;

impl Framing {
    /// Appends the next bytes of the body; `false` if it is over.
    pub(crate) fn next(&mut self, reader: &mut Reader, out: &mut Vec<u8>) -> Result<bool, ClientError> {
        match self {
            Framing::Over => return Ok(false),
            Framing::Length(0) => *self = Framing::Over,
            Framing::UntilClose => {
                if reader.some(u64::MAX, out)? == 0 {
                    *self = Framing::Over;
                }
            }
            Framing::Chunked(None) => *self = next_chunk(reader)?,
            Framing::Chunked(Some(0)) => {
                if !reader.line(MAX_CHUNK_LINE)?.is_empty() {
                    return Err(ClientError::Protocol("a chunk of its answer has the wrong length".into()));
                }
                *self = Framing::Chunked(None);
            }
            Framing::Length(left) | Framing::Chunked(Some(left)) => take(left, reader, out)?,
        }
        Ok(*self != Framing::Over)
    }
}

fn take(left: &mut u64, reader: &mut Reader, out: &mut Vec<u8>) -> Result<(), ClientError> {
    match reader.some(*left, out)? {
        0 => Err(reader.cut()),
        taken => {
            *left -= taken as u64;
            Ok(())
        }
    }
}

/// The next chunk, or the end after the last one and the trailer (RFC 9112 §7.1).
fn next_chunk(reader: &mut Reader) -> Result<Framing, ClientError> {
    match chunk_length(reader)? {
        0 => {
            while !reader.line(MAX_CHUNK_LINE)?.is_empty() {}
            Ok(Framing::Over)
        }
        length => Ok(Framing::Chunked(Some(length))),
    }
}

fn chunk_length(reader: &mut Reader) -> Result<u64, ClientError> {
    let line = reader.line(MAX_CHUNK_LINE)?;
    let digits = line.split(';').next().unwrap_or_default().trim();
    u64::from_str_radix(digits, 16).map_err(|_| ClientError::Protocol(format!("{digits:?} is no length of a chunk")))
}
