//! Integers, strings and binary data (MQTT-5.0 §1.5), read from a packet's body and written to one.

use std::num::NonZeroU16;

use bytes::Bytes;

use crate::PacketError;

/// A variable byte integer (§1.5.5), as far as the first bytes tell.
pub(crate) enum Variable {
    Unknown,
    Malformed,
    /// Its value, and the number of bytes that it takes.
    Known(u32, usize),
}

/// Reads a variable byte integer; one that takes more bytes than it must is malformed (MQTT-1.5.5-1).
pub(crate) fn variable(bytes: &[u8]) -> Variable {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let is_longer_than_it_must = *byte == 0 && at > 0;
            return if is_longer_than_it_must { Variable::Malformed } else { Variable::Known(value, at + 1) };
        }
    }
    if bytes.len() < 4 { Variable::Unknown } else { Variable::Malformed }
}

/// The rest of a packet's body.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], PacketError> {
        let (taken, rest) =
            self.0.split_at_checked(len).ok_or(PacketError::malformed("the packet ends within a field"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, PacketError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, PacketError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, PacketError> {
        let bytes = self.take(4)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn variable(&mut self) -> Result<u32, PacketError> {
        match variable(self.0) {
            Variable::Known(value, len) => {
                self.take(len)?;
                Ok(value)
            }
            Variable::Unknown => Err(PacketError::malformed("the packet ends within a field")),
            Variable::Malformed => Err(PacketError::malformed("a variable byte integer is malformed")),
        }
    }

    pub(crate) fn binary(&mut self) -> Result<&'a [u8], PacketError> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }

    /// Reads UTF-8 without U+0000 (MQTT-1.5.4-1, -2).
    pub(crate) fn text(&mut self) -> Result<&'a str, PacketError> {
        let bytes = self.binary()?;
        let text = simdutf8::basic::from_utf8(bytes);
        let text = text.map_err(|_| PacketError::malformed("a string is not UTF-8"))?;
        if bytes.contains(&0) {
            return Err(PacketError::malformed("a string contains U+0000"));
        }
        Ok(text)
    }

    /// Reads a packet identifier (§2.2.1).
    pub(crate) fn packet_id(&mut self) -> Result<NonZeroU16, PacketError> {
        NonZeroU16::new(self.u16()?).ok_or(PacketError::protocol("a packet identifier of 0"))
    }

    /// Checks that nothing is left.
    pub(crate) fn end(&self) -> Result<(), PacketError> {
        if self.is_empty() { Ok(()) } else { Err(PacketError::malformed("the packet is longer than its fields")) }
    }
}

pub(crate) fn put_variable(mut value: u32, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The number of bytes that a variable byte integer takes.
pub(crate) fn variable_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Appends at most 65,535 bytes with their length.
pub(crate) fn put_binary(bytes: &[u8], out: &mut Vec<u8>) {
    let len = bytes.len().min(usize::from(u16::MAX));
    out.extend_from_slice(&(len as u16).to_be_bytes());
    out.extend_from_slice(&bytes[..len]);
}

/// Appends a packet: its fixed header, and the bytes that `body` writes.
pub(crate) fn put_packet(first: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let mut rest = Vec::with_capacity(64);
    body(&mut rest);
    out.push(first);
    put_variable(rest.len() as u32, out);
    out.extend_from_slice(&rest);
}

pub(crate) fn bytes(slice: &[u8]) -> Bytes {
    Bytes::copy_from_slice(slice)
}
