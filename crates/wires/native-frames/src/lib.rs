//! The native protocol's schema as Rust types, and the constants of its TCP framing, which the server's wire and
//! clients share. The meaning of the frames stands in `docs/protocol.md`.
//!
//! `everywire.v1.rs` is made from `proto/everywire.proto`; a test compares them. After a change of the schema run
//! `EVERYWIRE_BLESS=1 cargo nextest run -p everywire-native-frames`.

#[allow(missing_docs, clippy::all, clippy::pedantic, reason = "made from the schema, which has the comments")]
mod generated {
    include!("everywire.v1.rs");
}

pub use generated::*;
pub use prost::Message as Encode;

/// The bytes with which a client on TCP begins, so that nothing else can be taken for one (RULES 24).
pub const PREAMBLE: &[u8; 8] = b"EVERYW/1";
/// Seconds of silence after which each side pings; two of them, and the other side is gone.
pub const HEARTBEAT_SECONDS: u32 = 25;
/// The subprotocol of frames in JSON.
pub const JSON: &str = "everywire.json";
/// The subprotocol of frames in protobuf.
pub const PROTOBUF: &str = "everywire.proto";

/// The most bytes of a frame's length.
const MAX_VARINT: usize = 10;

/// The length of a frame, as far as the first bytes tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Length {
    /// The number of bytes of the frame, and of the length before them.
    Known(u64, usize),
    /// More bytes are needed.
    Unknown,
    /// The bytes are no varint of at most 64 bits.
    Malformed,
}

/// Reads a frame's length.
pub fn length(bytes: &[u8]) -> Length {
    let mut value = 0u64;
    for (i, byte) in bytes.iter().enumerate().take(MAX_VARINT) {
        let part = u64::from(byte & 0x7f);
        if i == MAX_VARINT - 1 && part > 1 {
            return Length::Malformed;
        }
        value |= part << (7 * i);
        if byte & 0x80 == 0 {
            return Length::Known(value, i + 1);
        }
    }
    if bytes.len() >= MAX_VARINT { Length::Malformed } else { Length::Unknown }
}

/// Appends a frame with its length.
pub fn frame(message: &[u8], out: &mut Vec<u8>) {
    out.reserve(message.len() + MAX_VARINT);
    let mut length = message.len() as u64;
    while length > 0x7f {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_come_back() {
        for len in [0, 1, 127, 128, 300, 16_383, 16_384, 1_000_000] {
            let mut out = Vec::new();
            frame(&vec![7; len], &mut out);
            let Length::Known(known, at) = length(&out) else { panic!("{len}") };
            assert_eq!((known as usize, out.len()), (len, at + len));
            assert!((0..at).all(|cut| length(&out[..cut]) == Length::Unknown));
        }
        assert_eq!(length(&[0xff; 10]), Length::Malformed);
        assert_eq!(length(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Length::Known(u64::MAX, 10));
    }
}
