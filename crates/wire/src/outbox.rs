//! The bytes that wait to be written to one socket: shared renditions and the small owned heads between them.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use everywire_base::parcel::Rendition;

/// Some of an outbox's bytes.
#[derive(Clone, Debug)]
pub enum Segment {
    /// Bytes that other outboxes share.
    Shared(Rendition),
    /// Bytes of this connection alone.
    Owned(Vec<u8>),
}

impl Segment {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Segment::Shared(bytes) => bytes,
            Segment::Owned(bytes) => bytes,
        }
    }
}

/// The bytes that wait for a socket, oldest first. An empty outbox owns no memory.
#[derive(Default, Debug)]
pub struct Outbox {
    segments: VecDeque<Segment>,
    /// Bytes of the first segment that were written.
    written: usize,
    /// Bytes that wait, over all segments.
    bytes: usize,
}

/// Renditions up to this length are copied: cheaper than a segment of their own in each `writev`.
const COPIED: usize = 96;

impl Outbox {
    /// The number of bytes that wait.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Appends bytes by copying them.
    pub fn copy(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.tail().extend_from_slice(bytes);
            self.bytes += bytes.len();
        }
    }

    /// Appends the bytes that `write` appends to its buffer; it must not touch those that stand there.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let tail = self.tail();
        let before = tail.len();
        write(tail);
        let added = tail.len() - before;
        self.bytes += added;
    }

    /// Appends shared bytes, without copying them unless they are few.
    pub fn share(&mut self, bytes: &Rendition) {
        if bytes.len() <= COPIED {
            return self.copy(bytes);
        }
        self.segments.push_back(Segment::Shared(Rc::clone(bytes)));
        self.bytes += bytes.len();
    }

    fn tail(&mut self) -> &mut Vec<u8> {
        if !matches!(self.segments.back(), Some(Segment::Owned(_))) {
            self.segments.push_back(Segment::Owned(Vec::new()));
        }
        match self.segments.back_mut() {
            Some(Segment::Owned(bytes)) => bytes,
            _ => unreachable!("an owned segment was just put there"),
        }
    }

    /// The waiting bytes, if they are in one piece.
    pub fn only(&self) -> Option<&[u8]> {
        match self.segments.len() {
            1 => self.segments.front().map(|segment| &segment.as_slice()[self.written..]),
            _ => None,
        }
    }

    /// Fills `slices` with the first waiting bytes and says how many slices there are.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut filled = 0;
        for (slice, (i, segment)) in slices.iter_mut().zip(self.segments.iter().enumerate()) {
            let skip = if i == 0 { self.written } else { 0 };
            *slice = IoSlice::new(&segment.as_slice()[skip..]);
            filled += 1;
        }
        filled
    }

    /// Forgets the first `n` bytes: they were written.
    pub fn advance(&mut self, mut n: usize) {
        self.bytes -= n;
        while let Some(first) = self.segments.front() {
            let left = first.as_slice().len() - self.written;
            if n < left {
                self.written += n;
                return;
            }
            n -= left;
            self.written = 0;
            self.segments.pop_front();
        }
    }

    /// All waiting bytes in one piece, for tests.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all: Vec<u8> = self.segments.iter().flat_map(|s| s.as_slice().to_vec()).collect();
        all.drain(..self.written);
        all
    }

    /// Empties it and keeps its memory for the next connection that needs an outbox.
    pub fn clear(&mut self) {
        self.segments.clear();
        (self.written, self.bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_comes_out_in_pieces() {
        let mut outbox = Outbox::default();
        outbox.copy(b"head ");
        let long: Rendition = vec![b'x'; COPIED + 1].into();
        outbox.share(&long);
        outbox.share(&Rc::from(&b"short"[..]));
        outbox.write(|b| b.extend_from_slice(b" tail"));
        let expected = outbox.to_vec();
        let mut got = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 2];
            let n = outbox.slices(&mut slices);
            let bytes: Vec<u8> = slices[..n].iter().flat_map(|s| s.to_vec()).take(7).collect();
            outbox.advance(bytes.len());
            got.extend(bytes);
        }
        assert_eq!(got, expected);
        assert_eq!(outbox.segments.len(), 0);
    }
}
