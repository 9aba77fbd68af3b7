//! Chunks: the offsets of one topic's messages in the log, about four bytes each.
//!
//! An entry is a varint of the distance to the former offset, a varint of the body's length times two, plus one if an
//! absolute expiry in milliseconds follows as a third varint. Entries are added at the end and removed at the front.

use everywire_base::clock::UnixMillis;

/// One message of a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The offset of the message.
    pub(crate) offset: u64,
    /// The length of its body.
    pub(crate) bytes: u64,
    /// The time at which it expires.
    pub(crate) expires: Option<UnixMillis>,
}

impl Entry {
    pub(crate) fn is_expired(&self, now: UnixMillis) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// Some successive messages of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Chunk {
    /// The offset that the first entry's distance counts from.
    base: u64,
    /// The offset of the last entry; `base` without entries.
    last: u64,
    count: u32,
    /// The position in `bytes` at which the first entry begins.
    start: u32,
    bytes: Vec<u8>,
}

impl Chunk {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The offset of the last entry that was ever added.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        if self.is_empty() {
            *self =
                Self { base: self.last, last: self.last, bytes: std::mem::take(&mut self.bytes), ..Self::default() };
            self.bytes.clear();
        }
        write_varint(&mut self.bytes, entry.offset - self.last);
        write_varint(&mut self.bytes, entry.bytes << 1 | u64::from(entry.expires.is_some()));
        if let Some(expires) = entry.expires {
            write_varint(&mut self.bytes, expires.0);
        }
        self.last = entry.offset;
        self.count += 1;
    }

    /// The entries in order.
    pub(crate) fn entries(&self) -> Entries<'_> {
        Entries { at: self.base, left: self.count, rest: &self.bytes[self.start as usize..] }
    }

    pub(crate) fn first(&self) -> Option<Entry> {
        self.entries().next()
    }

    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let mut entries = self.entries();
        let entry = entries.next()?;
        let start = self.bytes.len() - entries.rest.len();
        self.base = entry.offset;
        self.count -= 1;
        self.start = start as u32;
        if start > self.bytes.len() / 2 {
            self.bytes.drain(..start);
            self.start = 0;
        }
        Some(entry)
    }

    /// Removes the entries up to an offset; for chunks that were read from the index.
    pub(crate) fn skip(&mut self, up_to: u64) {
        while self.first().is_some_and(|entry| entry.offset <= up_to) {
            self.pop();
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write_varint(out, self.base);
        write_varint(out, self.last - self.base);
        write_varint(out, u64::from(self.count));
        out.extend_from_slice(&self.bytes[self.start as usize..]);
    }

    /// Decodes the output of [`Chunk::encode`]; `None` for other bytes.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let base = read_varint(&mut bytes)?;
        let last = base.checked_add(read_varint(&mut bytes)?)?;
        let count = u32::try_from(read_varint(&mut bytes)?).ok()?;
        let chunk = Self { base, last, count, start: 0, bytes: bytes.to_vec() };
        let (mut found, mut at) = (0, base);
        for entry in chunk.entries() {
            found += 1;
            at = entry.offset;
        }
        (found == count && (at == last || count == 0)).then_some(chunk)
    }
}

/// See [`Chunk::entries`].
pub(crate) struct Entries<'a> {
    at: u64,
    left: u32,
    rest: &'a [u8],
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        self.at = self.at.checked_add(read_varint(&mut self.rest)?)?;
        let length = read_varint(&mut self.rest)?;
        let expires = if length & 1 == 1 { Some(UnixMillis(read_varint(&mut self.rest)?)) } else { None };
        Some(Entry { offset: self.at, bytes: length >> 1, expires })
    }
}

pub(crate) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let step = (1u64..1 << 40, any::<u32>(), proptest::option::of(any::<u64>()));
        proptest::collection::vec(step, 0..64).prop_map(|steps| {
            let mut offset = 0;
            let entry = |(step, bytes, expires): (u64, u32, Option<u64>)| {
                offset += step;
                Entry { offset, bytes: u64::from(bytes), expires: expires.map(UnixMillis) }
            };
            steps.into_iter().map(entry).collect()
        })
    }

    proptest! {
        #[test]
        fn a_chunk_gives_what_was_put_in(entries in entries(), pops in 0usize..64) {
            let mut chunk = Chunk::default();
            for entry in &entries {
                chunk.push(*entry);
            }
            let pops = pops.min(entries.len());
            for entry in &entries[..pops] {
                prop_assert_eq!(chunk.pop(), Some(*entry));
            }
            prop_assert_eq!(chunk.entries().collect::<Vec<_>>(), &entries[pops..]);
            let mut bytes = Vec::new();
            chunk.encode(&mut bytes);
            let back = Chunk::decode(&bytes).unwrap();
            prop_assert_eq!(back.entries().collect::<Vec<_>>(), &entries[pops..]);
            prop_assert_eq!(back.last(), chunk.last());
        }

        #[test]
        fn any_bytes_are_a_chunk_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Chunk::decode(&bytes);
        }
    }

    #[test]
    fn an_entry_of_a_busy_log_takes_four_bytes() {
        let mut chunk = Chunk::default();
        (1..=128).for_each(|n| chunk.push(Entry { offset: n * 10_000, bytes: 128, expires: None }));
        assert!(chunk.memory() <= 512);
    }
}
