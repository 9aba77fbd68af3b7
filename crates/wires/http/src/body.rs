//! The body of a request, collected while it comes: by length, or chunked (RFC 9112 §7.1). Bounded; strict about every
//! CR and LF; chunk extensions and trailers are read and thrown away.

use crate::head::Framing;
use crate::problem::{Problem, Sound};

/// The most bytes of one chunk's size line.
const MAX_SIZE_LINE: u32 = 256;
/// The most bytes of all trailers.
const MAX_TRAILERS: u32 = 4096;

/// A body on its way.
pub(crate) struct Collector {
    content: Vec<u8>,
    max: usize,
    what: &'static str,
    decoder: Decoder,
}

/// The result of a look at more bytes.
pub(crate) enum Fed {
    /// All were used and more are needed.
    More,
    /// The body is complete after this number of them.
    Complete(usize),
}

enum Decoder {
    Length { left: u64 },
    Chunked { chunk: Chunk, line: u32 },
}

#[derive(Clone, Copy)]
enum Chunk {
    /// At the first digit of a size.
    SizeStart,
    Size(u64),
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a trailer's line, or of the empty line that ends all.
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    End,
}

impl Collector {
    /// A collector for a body of `what`, of at most `max` bytes; a given length was checked before.
    pub(crate) fn new(framing: Framing, max: usize, what: &'static str) -> Self {
        let (decoder, expected) = match framing {
            Framing::Length(left) => (Decoder::Length { left }, left as usize),
            Framing::Chunked => (Decoder::Chunked { chunk: Chunk::SizeStart, line: 0 }, 0),
        };
        // A client that only announces a large body must not make us hold memory for it.
        Self { content: Vec::with_capacity(expected.min(16 << 10)), max, what, decoder }
    }

    /// Takes bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Fed, Problem> {
        match &mut self.decoder {
            Decoder::Length { left } => {
                let n = (*left).min(bytes.len() as u64) as usize;
                self.content.extend_from_slice(&bytes[..n]);
                *left -= n as u64;
                Ok(if *left == 0 { Fed::Complete(n) } else { Fed::More })
            }
            Decoder::Chunked { .. } => self.feed_chunked(bytes),
        }
    }

    /// The bytes that have come.
    pub(crate) fn holds(&self) -> usize {
        self.content.len()
    }

    /// The content, once complete.
    pub(crate) fn into_content(self) -> Vec<u8> {
        self.content
    }

    fn feed_chunked(&mut self, bytes: &[u8]) -> Result<Fed, Problem> {
        let Decoder::Chunked { chunk, line } = &mut self.decoder else { return Ok(Fed::More) };
        let mut used = 0;
        while used < bytes.len() {
            if let Chunk::Data(left) = *chunk {
                let n = left.min((bytes.len() - used) as u64);
                self.content.extend_from_slice(&bytes[used..used + n as usize]);
                used += n as usize;
                *chunk = if n == left { Chunk::DataCr } else { Chunk::Data(left - n) };
                continue;
            }
            *chunk = step(*chunk, bytes[used], line)?;
            used += 1;
            match *chunk {
                Chunk::SizeLf(size) | Chunk::Size(size) | Chunk::Extension(size)
                    if size > (self.max - self.content.len()) as u64 =>
                {
                    let problem = Problem::too_large(self.max, self.what);
                    return Err(Problem { framing: Sound::Lost, ..problem });
                }
                Chunk::End => return Ok(Fed::Complete(used)),
                _ => {}
            }
        }
        Ok(Fed::More)
    }
}

/// Takes one byte outside of chunk data. `line` counts the bytes of the present line, or of all trailers.
fn step(chunk: Chunk, byte: u8, line: &mut u32) -> Result<Chunk, Problem> {
    *line += 1;
    let next = match (chunk, byte) {
        (Chunk::SizeStart, b) if b.is_ascii_hexdigit() => {
            *line = 1;
            Chunk::Size(digit(b))
        }
        (Chunk::Size(n), b) if b.is_ascii_hexdigit() && n < 1 << 56 => Chunk::Size(n << 4 | digit(b)),
        (Chunk::Size(n) | Chunk::Extension(n), b'\r') => Chunk::SizeLf(n),
        (Chunk::Size(n), b';') => Chunk::Extension(n),
        (Chunk::Extension(n), b) if is_text(b) => Chunk::Extension(n),
        (Chunk::SizeLf(0), b'\n') => {
            *line = 0;
            Chunk::TrailerStart
        }
        (Chunk::SizeLf(n), b'\n') => Chunk::Data(n),
        (Chunk::DataCr, b'\r') => Chunk::DataLf,
        (Chunk::DataLf, b'\n') => Chunk::SizeStart,
        (Chunk::TrailerStart, b'\r') => Chunk::EndLf,
        (Chunk::TrailerStart, b) if b.is_ascii_alphanumeric() => Chunk::Trailer,
        (Chunk::Trailer, b'\r') => Chunk::TrailerLf,
        (Chunk::Trailer, b) if is_text(b) => Chunk::Trailer,
        (Chunk::TrailerLf, b'\n') => Chunk::TrailerStart,
        (Chunk::EndLf, b'\n') => Chunk::End,
        _ => return Err(Problem::fatal(400, "the chunked body is malformed")),
    };
    let most = match next {
        Chunk::Size(_) | Chunk::Extension(_) => MAX_SIZE_LINE,
        Chunk::Trailer => MAX_TRAILERS,
        _ => u32::MAX,
    };
    if *line > most {
        return Err(Problem::fatal(400, "a chunk's size line or the trailers are too long"));
    }
    Ok(next)
}

fn digit(b: u8) -> u64 {
    u64::from(char::from(b).to_digit(16).unwrap_or_default())
}

fn is_text(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(bytes: &[u8], cut: usize) -> Result<(Vec<u8>, usize), u16> {
        let mut collector = Collector::new(Framing::Chunked, 20, "it has");
        let mut used = 0;
        for piece in [&bytes[..cut], &bytes[cut..]] {
            match collector.feed(piece).map_err(|p| p.status)? {
                Fed::More => used += piece.len(),
                Fed::Complete(n) => return Ok((collector.into_content(), used + n)),
            }
        }
        Err(0)
    }

    #[test]
    fn chunks_wherever_they_are_cut() {
        type Case = (&'static [u8], Result<&'static [u8], u16>);
        let cases: &[Case] = &[
            (b"3\r\nabc\r\n0\r\n\r\n", Ok(b"abc")),
            (b"0\r\n\r\n", Ok(b"")),
            (b"003;a=b\r\nabc\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n", Ok(b"abc0123456789")),
            (b"3\nabc\r\n0\r\n\r\n", Err(400)),
            (b"3 \r\nabc\r\n0\r\n\r\n", Err(400)),
            (b"3\r\nabcd\r\n0\r\n\r\n", Err(400)),
            (b"-3\r\nabc\r\n0\r\n\r\n", Err(400)),
            (b"0x3\r\nabc\r\n0\r\n\r\n", Err(400)),
            (b"3\r\nabc\r\n0\r\n\n", Err(400)),
            (b"3\r\nabc\r\n0\r\n : folded\r\n\r\n", Err(400)),
            (b"3\r\nabc\r\n0\r\nx\ry\r\n\r\n", Err(400)),
            (b"15\r\n", Err(413)),
            (b"ffffffffffffffffff\r\n", Err(413)),
            (b"\r\n", Err(400)),
        ];
        for (bytes, expected) in cases {
            for cut in 0..=bytes.len() {
                let got = collect(bytes, cut);
                assert_eq!(got, expected.map(|b| (b.to_vec(), bytes.len())), "{:?} cut at {cut}", bytes.escape_ascii());
            }
        }
    }
}
