//! Compressed messages (RFC 7692 §7.2), always without context takeover: each message stands for itself, so that one
//! compressed message serves all subscribers, and an idle connection owns no window.

use std::cell::RefCell;

use everywire_wire::{Framing, Kind};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::close::Failure;
use crate::frame::{self, Opcode};

/// Shorter messages are sent as they are: they would hardly become shorter.
const MIN_BYTES: usize = 256;
/// The bytes that end a message and aren't sent (§7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The narrowest window that zlib can write.
pub(crate) const MIN_WINDOW_BITS: u8 = 9;

/// The length from which messages are compressed, in bytes.
pub fn compress_min_bytes() -> usize {
    MIN_BYTES
}

thread_local! {
    // Codecs are large and take long to make. They are reset for each message, so nothing passes from one to another.
    static CODECS: RefCell<Codecs> = const { RefCell::new(Codecs { compress: None, decompress: None }) };
}

struct Codecs {
    compress: Option<(u8, Compress)>,
    decompress: Option<Decompress>,
}

/// Messages as they are.
pub(crate) struct Plain;

impl Framing for Plain {
    fn name(&self) -> &'static str {
        "ws"
    }

    fn frame(&self, kind: Kind, message: &[u8], out: &mut Vec<u8>) {
        frame::write(opcode(kind), false, message, out);
    }
}

/// Messages compressed with a window of this many bits.
pub(crate) struct Deflated {
    bits: u8,
    name: &'static str,
}

/// Every window that can be negotiated.
static DEFLATED: [Deflated; 7] = [
    Deflated { bits: 9, name: "ws.deflate.9" },
    Deflated { bits: 10, name: "ws.deflate.10" },
    Deflated { bits: 11, name: "ws.deflate.11" },
    Deflated { bits: 12, name: "ws.deflate.12" },
    Deflated { bits: 13, name: "ws.deflate.13" },
    Deflated { bits: 14, name: "ws.deflate.14" },
    Deflated { bits: 15, name: "ws.deflate.15" },
];

/// The framing for a window of this many bits: from 9 to 15.
pub(crate) fn deflated(bits: u8) -> &'static Deflated {
    &DEFLATED[usize::from(bits.clamp(MIN_WINDOW_BITS, 15) - MIN_WINDOW_BITS)]
}

impl Framing for Deflated {
    fn name(&self) -> &'static str {
        self.name
    }

    fn frame(&self, kind: Kind, message: &[u8], out: &mut Vec<u8>) {
        let compressed = if message.len() < MIN_BYTES { None } else { compress(message, self.bits) };
        match compressed.filter(|compressed| compressed.len() < message.len()) {
            Some(compressed) => frame::write(opcode(kind), true, &compressed, out),
            None => frame::write(opcode(kind), false, message, out),
        }
    }
}

fn opcode(kind: Kind) -> Opcode {
    match kind {
        Kind::Text => Opcode::Text,
        Kind::Binary => Opcode::Binary,
    }
}

/// Compresses a message (§7.2.1); `None` if the library fails.
fn compress(message: &[u8], bits: u8) -> Option<Vec<u8>> {
    CODECS.with_borrow_mut(|codecs| {
        codecs.compress.take_if(|(other, _)| *other != bits);
        let make = || (bits, Compress::new_with_window_bits(Compression::fast(), false, bits));
        let (_, compress) = codecs.compress.get_or_insert_with(make);
        compress.reset();
        let mut out = Vec::with_capacity(message.len() / 2 + 64);
        loop {
            let rest = &message[compress.total_in() as usize..];
            compress.compress_vec(rest, &mut out, FlushCompress::Sync).ok()?;
            if out.len() < out.capacity() && compress.total_in() == message.len() as u64 {
                break;
            }
            out.reserve(message.len() / 4 + 64);
        }
        out.truncate(out.strip_suffix(&TAIL)?.len());
        Some(out)
    })
}

/// Inflates a message (§7.2.2) to at most `bound` bytes.
pub(crate) fn inflate(message: &[u8], bound: usize) -> Result<Vec<u8>, Failure> {
    const DAMAGED: Failure = Failure::Protocol("the compressed message is damaged");
    CODECS.with_borrow_mut(|codecs| {
        let decompress = codecs.decompress.get_or_insert_with(|| Decompress::new(false));
        decompress.reset(false);
        let mut out = Vec::with_capacity(message.len().saturating_mul(4).clamp(64, bound.saturating_add(1)));
        for part in [message, &TAIL] {
            let before = decompress.total_in();
            loop {
                let rest = &part[(decompress.total_in() - before) as usize..];
                let status = decompress.decompress_vec(rest, &mut out, FlushDecompress::Sync);
                let status = status.map_err(|_| DAMAGED)?;
                if out.len() > bound {
                    return Err(Failure::TooLarge);
                }
                if status == Status::StreamEnd {
                    return Ok(out);
                }
                let is_read = (decompress.total_in() - before) as usize == part.len();
                if is_read && out.len() < out.capacity() {
                    break;
                }
                if out.len() < out.capacity() && status == Status::BufError {
                    return Err(DAMAGED);
                }
                let room = out.len().min(bound.saturating_add(1) - out.len()).max(64);
                out.reserve(room);
            }
        }
        Ok(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back() {
        for len in [256, 1000, 65_536, 1_000_000] {
            let message: Vec<u8> = (0..len).map(|i: u32| (i % 17) as u8 ^ (i / 1000) as u8).collect();
            for bits in 9..=15 {
                let compressed = compress(&message, bits).unwrap();
                assert!(compressed.len() < message.len());
                assert_eq!(inflate(&compressed, message.len()).unwrap(), message);
                assert_eq!(inflate(&compressed, message.len() - 1), Err(Failure::TooLarge));
            }
        }
    }

    #[test]
    fn a_bomb_stops_at_the_bound() {
        let bomb = compress(&vec![0; 20_000_000], 15).unwrap();
        assert!(bomb.len() < 1_000_000);
        assert_eq!(inflate(&bomb, 1 << 20), Err(Failure::TooLarge));
    }

    #[test]
    fn the_examples_of_the_standard() {
        // RFC 7692 §7.2.3.1, §7.2.3.3 (no compression), §7.2.3.4 (BFINAL), §7.2.3.5 (two blocks)
        let hello: [&[u8]; 4] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for compressed in hello {
            assert_eq!(inflate(compressed, 100).unwrap(), b"Hello");
        }
        assert_eq!(inflate(&[0x00], 100).unwrap(), b"");
        assert!(inflate(&[0xff, 0xff, 0xff], 100).is_err());
    }
}
