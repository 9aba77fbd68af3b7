//! Messages out of frames (RFC 6455 §5.4), text as UTF-8 (§8.1), compressed ones inflated (RFC 7692 §6.2).

use everywire_wire::Kind;

use crate::close::Failure;
use crate::deflate::inflate;
use crate::frame::{Header, Opcode, unmask};

/// A message under way.
#[derive(Debug)]
pub(crate) struct Incoming {
    kind: Kind,
    is_compressed: bool,
    /// The frame under way.
    frame: Header,
    /// The bytes of its payload that have come.
    read: u64,
    /// The bytes that have come, unmasked.
    data: Vec<u8>,
    /// The length of the part that is checked to be UTF-8.
    checked: usize,
}

impl Incoming {
    /// Begins with the first frame of a message.
    pub(crate) fn begin(frame: Header, bound: usize) -> Result<Self, Failure> {
        let kind = match frame.opcode {
            Opcode::Text => Kind::Text,
            Opcode::Binary => Kind::Binary,
            _ => return Err(Failure::Protocol("a continuation of nothing")),
        };
        let is_compressed = frame.is_compressed;
        let begun = Self { kind, is_compressed, frame, read: 0, data: Vec::new(), checked: 0 };
        begun.fits(bound)?;
        Ok(begun)
    }

    /// Goes on with the next frame.
    pub(crate) fn go_on(&mut self, frame: Header, bound: usize) -> Result<(), Failure> {
        if frame.opcode != Opcode::Continuation {
            return Err(Failure::Protocol("a message begins before the last has ended"));
        }
        (self.frame, self.read) = (frame, 0);
        self.fits(bound)
    }

    /// Judges the length by the header, before the payload comes.
    fn fits(&self, bound: usize) -> Result<(), Failure> {
        let len = (self.data.len() as u64).saturating_add(self.frame.payload);
        if len > bound as u64 { Err(Failure::TooLarge) } else { Ok(()) }
    }

    /// The bytes that have come; a message without any counts as one byte.
    pub(crate) fn holds(&self) -> usize {
        self.data.len().max(1)
    }

    /// Whether the frame under way is whole, and another must come.
    pub(crate) fn awaits_frame(&self) -> bool {
        self.read == self.frame.payload && !self.frame.is_final
    }

    /// Takes payload of the frame under way; says how many bytes were used.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Failure> {
        let left = self.frame.payload - self.read;
        let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        unmask(&bytes[..used], self.frame.mask, self.read, &mut self.data);
        self.read += used as u64;
        if self.kind == Kind::Text && !self.is_compressed {
            self.check()?;
        }
        Ok(used)
    }

    /// Checks the bytes that can be checked by now: a sequence may still be under way at the end.
    fn check(&mut self) -> Result<(), Failure> {
        match simdutf8::compat::from_utf8(&self.data[self.checked..]) {
            Ok(_) => self.checked = self.data.len(),
            Err(e) if e.error_len().is_none() && !self.is_whole() => self.checked += e.valid_up_to(),
            Err(_) => return Err(Failure::NotUtf8),
        }
        Ok(())
    }

    pub(crate) fn is_compressed(&self) -> bool {
        self.is_compressed
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.frame.is_final && self.read == self.frame.payload
    }

    /// The whole message.
    pub(crate) fn finish(self, bound: usize) -> Result<(Kind, Vec<u8>), Failure> {
        if !self.is_compressed {
            return Ok((self.kind, self.data));
        }
        let data = inflate(&self.data, bound)?;
        if self.kind == Kind::Text {
            simdutf8::basic::from_utf8(&data).map_err(|_| Failure::NotUtf8)?;
        }
        Ok((self.kind, data))
    }
}
