//! Frames (RFC 6455 §5.2) and masking (§5.3).

use crate::close::Failure;

/// The kind of a frame (§11.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opcode {
    /// Goes on with a message.
    Continuation,
    /// Begins a message of UTF-8.
    Text,
    /// Begins a message of bytes.
    Binary,
    /// §5.5.1.
    Close,
    /// §5.5.2.
    Ping,
    /// §5.5.3.
    Pong,
}

impl Opcode {
    fn parse(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Opcode::Continuation,
            0x1 => Opcode::Text,
            0x2 => Opcode::Binary,
            0x8 => Opcode::Close,
            0x9 => Opcode::Ping,
            0xa => Opcode::Pong,
            _ => return None,
        })
    }

    pub(crate) fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }

    fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0x0,
            Opcode::Text => 0x1,
            Opcode::Binary => 0x2,
            Opcode::Close => 0x8,
            Opcode::Ping => 0x9,
            Opcode::Pong => 0xa,
        }
    }
}

/// The longest payload of a control frame (§5.5).
pub(crate) const MAX_CONTROL: usize = 125;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_3: u8 = 0x30;
const MASK: u8 = 0x80;

/// A client's frame header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub(crate) is_final: bool,
    /// RSV1: the message is compressed (RFC 7692 §6).
    pub(crate) is_compressed: bool,
    pub(crate) opcode: Opcode,
    pub(crate) payload: u64,
    pub(crate) mask: [u8; 4],
    /// The length of the header itself.
    pub(crate) len: usize,
}

impl Header {
    /// Reads a header; `None` if more bytes are needed. `deflates` says whether RSV1 has a meaning.
    pub(crate) fn parse(bytes: &[u8], deflates: bool) -> Result<Option<Self>, Failure> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let opcode = Opcode::parse(first & 0x0f).ok_or(Failure::Protocol("unknown opcode"))?;
        let (is_final, is_compressed) = (first & FIN != 0, first & RSV1 != 0);
        let may_compress = deflates && matches!(opcode, Opcode::Text | Opcode::Binary);
        if first & RSV2_3 != 0 || (is_compressed && !may_compress) {
            return Err(Failure::Protocol("reserved bits without an extension"));
        }
        if second & MASK == 0 {
            return Err(Failure::Protocol("a client's frames are masked"));
        }
        let short = second & 0x7f;
        if opcode.is_control() && (!is_final || usize::from(short) > MAX_CONTROL) {
            return Err(Failure::Protocol("a control frame is whole and has at most 125 bytes"));
        }
        let (payload, rest, len) = match (short, rest) {
            (126, rest) => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from(u16::from_be_bytes(*len)), rest, 4),
                None => return Ok(None),
            },
            (127, rest) => match rest.split_first_chunk() {
                Some((len, rest)) => (u64::from_be_bytes(*len), rest, 10),
                None => return Ok(None),
            },
            (short, rest) => (u64::from(short), rest, 2),
        };
        let is_minimal = match short {
            126 => payload > 125,
            127 => payload > 0xffff && payload >> 63 == 0,
            _ => true,
        };
        if !is_minimal {
            return Err(Failure::Protocol("a length is written in the fewest bytes"));
        }
        let Some(mask) = rest.first_chunk() else { return Ok(None) };
        Ok(Some(Self { is_final, is_compressed, opcode, payload, mask: *mask, len: len + 4 }))
    }
}

/// Writes a server's frame: whole, never masked (§5.1).
pub(crate) fn write(opcode: Opcode, is_compressed: bool, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(payload.len() + 10);
    out.push(FIN | if is_compressed { RSV1 } else { 0 } | opcode.bits());
    match payload.len() {
        short @ ..=125 => out.push(short as u8),
        len @ 126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Appends payload bytes without their mask (§5.3); `at` is the number of the frame's bytes that came before.
pub(crate) fn unmask(payload: &[u8], mask: [u8; 4], at: u64, out: &mut Vec<u8>) {
    let turn = (at % 4) as usize;
    let mut turned = mask;
    turned.rotate_left(turn);
    let word = u64::from_ne_bytes([turned, turned].as_flattened().try_into().unwrap_or_default());
    let start = out.len();
    out.extend_from_slice(payload);
    let (words, rest) = out[start..].as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmasking_goes_on_anywhere() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let masked = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        for cut in 0..=masked.len() {
            let mut out = Vec::new();
            unmask(&masked[..cut], mask, 0, &mut out);
            unmask(&masked[cut..], mask, cut as u64, &mut out);
            // RFC 6455 §5.7
            assert_eq!(out, b"Hello");
        }
        let long: Vec<u8> = (0..100).collect();
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        unmask(&long, mask, 3, &mut once);
        assert_eq!(once[13], long[13] ^ mask[0]);
        unmask(&once, mask, 3, &mut twice);
        assert_eq!(twice, long);
    }

    #[test]
    fn lengths_have_their_shortest_form() {
        for (len, head) in [(0, 2), (125, 2), (126, 4), (65_535, 4), (65_536, 10)] {
            let mut out = Vec::new();
            write(Opcode::Binary, false, &vec![1; len], &mut out);
            assert_eq!(out.len(), head + len);
        }
        let long_form = |bytes: &[u8]| Header::parse(bytes, false).is_err();
        assert!(long_form(&[0x82, 0xfe, 0, 125, 0, 0, 0, 0]));
        assert!(long_form(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]));
        assert!(long_form(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
    }
}
