//! The bytes of segment files.
//!
//! A segment is a head, batches one after the other, and once it is sealed a foot:
//!
//! ```text
//! head    64 bytes  magic "EWSEGMNT", format version u32, crc u32, base u64, salt u64, 0…
//! batch   48 bytes  magic "EWBT", payload length u32, crc u32, record count u32,
//!                   first offset u64, last offset u64, synced u64, time u64
//!                   records: length u32, then the record's stored form
//! foot              index entries: first offset u64, position u64
//!         64 bytes  last offset u64, end of batches u64, records u64, keyed records u64, last time u64,
//!                   entries u32, crc u32 (over the entries and what precedes it), 0 u64, magic "EWSEALED"
//! ```
//!
//! All numbers are little-endian. Checksums of batches begin with the segment's salt, so that neither a message's body
//! nor an older file's content can pass for a batch. `synced` is the highest offset that was known to be durable when
//! the batch was written: a broken batch before it is damage, not a torn write.

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;

/// The version of the formats of segments and of `meta`; newer ones are refused.
pub(crate) const FORMAT: u32 = 1;
pub(crate) const HEAD: usize = 64;
pub(crate) const BATCH_HEAD: usize = 48;
pub(crate) const TRAILER: usize = 64;
pub(crate) const ENTRY: usize = 16;
/// The bytes after which a batch is closed, so that reading one record reads little else.
pub(crate) const BATCH_TARGET: usize = 16 << 10;

const HEAD_MAGIC: &[u8; 8] = b"EWSEGMNT";
const BATCH_MAGIC: &[u8; 4] = b"EWBT";
const SEALED_MAGIC: &[u8; 8] = b"EWSEALED";

/// Reads little-endian numbers one after the other; zero past the end, which checksums and lengths rule out.
pub(crate) struct Numbers<'a>(pub &'a [u8]);

impl Numbers<'_> {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let Some((bytes, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *bytes
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes())
    }
}

/// The head of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// The lowest offset that its batches may have.
    pub base: Offset,
    pub salt: u64,
}

/// The reason why bytes are not in the format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FormatError {
    /// The magic, a length or a checksum is wrong.
    Damaged,
    /// A later version wrote it.
    Newer(u32),
}

impl Head {
    pub(crate) fn encode(self) -> [u8; HEAD] {
        let mut out = [0; HEAD];
        out[..8].copy_from_slice(HEAD_MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[16..24].copy_from_slice(&self.base.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let Some((bytes, _)) = bytes.split_first_chunk::<HEAD>() else { return Err(FormatError::Damaged) };
        let mut whole = *bytes;
        let mut numbers = Numbers(&bytes[8..]);
        let (format, crc) = (numbers.u32(), numbers.u32());
        whole[12..16].fill(0);
        if &bytes[..8] != HEAD_MAGIC || crc32c::crc32c(&whole) != crc {
            return Err(FormatError::Damaged);
        }
        if format > FORMAT {
            return Err(FormatError::Newer(format));
        }
        Ok(Self { base: Offset(numbers.u64()), salt: numbers.u64() })
    }
}

/// The head of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchHead {
    /// Bytes of the records.
    pub length: usize,
    pub crc: u32,
    pub count: u32,
    pub first: Offset,
    pub last: Offset,
    pub synced: Offset,
    pub time: UnixMillis,
}

impl BatchHead {
    /// Reads a head; `None` if it can't be one. Its checksum is not checked: that needs the records.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.get(..BATCH_HEAD)?.strip_prefix(BATCH_MAGIC)?;
        let mut n = Numbers(rest);
        let (length, crc, count) = (n.u32() as usize, n.u32(), n.u32());
        let (first, last, synced, time) = (Offset(n.u64()), Offset(n.u64()), Offset(n.u64()), UnixMillis(n.u64()));
        let is_sane = count > 0 && first <= last && length >= count as usize * 4;
        is_sane.then_some(Self { length, crc, count, first, last, synced, time })
    }

    /// The bytes of the whole batch.
    pub(crate) fn size(&self) -> usize {
        BATCH_HEAD + self.length
    }

    /// Whether `batch`, which begins with this head, is as it was written.
    pub(crate) fn is_whole(&self, salt: u64, batch: &[u8]) -> bool {
        batch.len() >= self.size() && checksum(salt, &batch[..self.size()]) == self.crc
    }
}

/// The checksum of a batch: of the salt, the bytes before the checksum, and those behind it.
fn checksum(salt: u64, batch: &[u8]) -> u32 {
    let seeded = crc32c::crc32c(&salt.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seeded, &batch[..8]), &batch[12..])
}

/// Starts a batch at the end of `out`; [`finish_batch`] completes it.
pub(crate) fn begin_batch(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.resize(at + BATCH_HEAD, 0);
    at
}

/// Appends a record by its stored form.
pub(crate) fn add_record(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    encode(out);
    let length = (out.len() - at - 4) as u32;
    out[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

/// The fields of a batch's head besides its length and checksum.
#[derive(Clone, Copy)]
pub(crate) struct BatchFacts {
    pub count: u32,
    pub first: Offset,
    pub last: Offset,
    pub synced: Offset,
    pub time: UnixMillis,
}

/// Completes the batch that began at `at` and is the last in `out`.
pub(crate) fn finish_batch(out: &mut [u8], at: usize, salt: u64, facts: BatchFacts) {
    let batch = &mut out[at..];
    let length = (batch.len() - BATCH_HEAD) as u32;
    batch[..4].copy_from_slice(BATCH_MAGIC);
    batch[4..8].copy_from_slice(&length.to_le_bytes());
    batch[12..16].copy_from_slice(&facts.count.to_le_bytes());
    for (i, number) in [facts.first.0, facts.last.0, facts.synced.0, facts.time.0].into_iter().enumerate() {
        batch[16 + i * 8..24 + i * 8].copy_from_slice(&number.to_le_bytes());
    }
    let crc = checksum(salt, batch);
    batch[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// The stored records of a batch.
pub(crate) struct Records<'a>(pub &'a [u8]);

impl<'a> Iterator for Records<'a> {
    /// `None` is a record whose length reaches too far.
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (record, rest) = match rest.split_at_checked(length) {
            Some((record, rest)) => (Some(record), rest),
            None => (None, &[][..]),
        };
        self.0 = rest;
        Some(record)
    }
}

/// The foot of a sealed segment, without its index.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Trailer {
    /// The last offset that the segment covers.
    pub last: Offset,
    /// The position where the batches end and the index begins.
    pub end: u64,
    pub records: u64,
    /// Records with an idempotency key.
    pub keyed: u64,
    pub time: UnixMillis,
    pub entries: u32,
    pub crc: u32,
}

/// A place in a sparse index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    /// The first offset of the batch.
    pub first: Offset,
    /// The position in the file where it begins.
    pub position: u64,
}

impl Trailer {
    /// The foot of a segment, index first.
    pub(crate) fn encode(self, index: &[IndexEntry], out: &mut Vec<u8>) {
        let at = out.len();
        for entry in index {
            out.extend_from_slice(&entry.first.0.to_le_bytes());
            out.extend_from_slice(&entry.position.to_le_bytes());
        }
        for number in [self.last.0, self.end, self.records, self.keyed, self.time.0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(index.len() as u32).to_le_bytes());
        let crc = crc32c::crc32c(&out[at..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(SEALED_MAGIC);
    }

    /// Reads the last bytes of a file; `None` if they are no trailer.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<TRAILER>()?;
        if &bytes[TRAILER - 8..] != SEALED_MAGIC {
            return None;
        }
        let mut n = Numbers(bytes);
        Some(Self {
            last: Offset(n.u64()),
            end: n.u64(),
            records: n.u64(),
            keyed: n.u64(),
            time: UnixMillis(n.u64()),
            entries: n.u32(),
            crc: n.u32(),
        })
    }

    /// The length of the foot.
    pub(crate) fn foot_length(&self) -> usize {
        self.entries as usize * ENTRY + TRAILER
    }

    /// Reads the index out of the whole foot; `None` if the checksum is wrong.
    pub(crate) fn index(&self, foot: &[u8]) -> Option<Vec<IndexEntry>> {
        let checked = foot.get(..self.foot_length().checked_sub(20)?)?;
        if crc32c::crc32c(checked) != self.crc {
            return None;
        }
        let mut n = Numbers(foot);
        let entry = |n: &mut Numbers<'_>| IndexEntry { first: Offset(n.u64()), position: n.u64() };
        Some((0..self.entries).map(|_| entry(&mut n)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> BatchFacts {
        BatchFacts { count: 2, first: Offset(7), last: Offset(9), synced: Offset(5), time: UnixMillis(1000) }
    }

    #[test]
    fn a_batch_is_whole_only_with_its_salt_and_every_bit() {
        let mut out = vec![1, 2, 3];
        let at = begin_batch(&mut out);
        add_record(&mut out, |out| out.extend_from_slice(b"hello"));
        add_record(&mut out, |out| out.extend_from_slice(b""));
        finish_batch(&mut out, at, 77, facts());
        let batch = &mut out[at..];
        let head = BatchHead::decode(batch).unwrap();
        assert_eq!((head.count, head.first, head.last, head.size()), (2, Offset(7), Offset(9), batch.len()));
        assert!(head.is_whole(77, batch) && !head.is_whole(78, batch));
        let records: Vec<_> = Records(&batch[BATCH_HEAD..]).collect();
        assert_eq!(records, [Some(&b"hello"[..]), Some(b"")]);
        for byte in 0..batch.len() {
            batch[byte] ^= 4;
            let whole = BatchHead::decode(batch).is_some_and(|head| head.is_whole(77, batch));
            assert!(!whole, "byte {byte}");
            batch[byte] ^= 4;
        }
    }

    #[test]
    fn a_foot_is_read_back_and_every_bit_of_it_counts() {
        let index = [IndexEntry { first: Offset(1), position: 64 }, IndexEntry { first: Offset(9), position: 20_000 }];
        let trailer =
            Trailer { last: Offset(12), end: 30_000, records: 11, keyed: 1, entries: 2, ..Trailer::default() };
        let mut out = Vec::new();
        trailer.encode(&index, &mut out);
        let read = |out: &[u8]| Trailer::decode(&out[out.len() - TRAILER..]).and_then(|t| t.index(out));
        assert_eq!(read(&out).as_deref(), Some(&index[..]));
        let padding = out.len() - 16..out.len() - 8;
        for byte in (0..out.len()).filter(|b| !padding.contains(b)) {
            out[byte] ^= 1;
            assert_eq!(read(&out), None, "byte {byte}");
            out[byte] ^= 1;
        }
    }

    #[test]
    fn a_head_of_a_newer_version_is_told_from_damage() {
        let head = Head { base: Offset(5), salt: 9 };
        let mut bytes = head.encode();
        assert_eq!(Head::decode(&bytes), Ok(head));
        bytes[16] ^= 1;
        assert_eq!(Head::decode(&bytes), Err(FormatError::Damaged));
        bytes = head.encode();
        bytes[8] = 2;
        bytes[12..16].fill(0);
        let crc = crc32c::crc32c(&bytes).to_le_bytes();
        bytes[12..16].copy_from_slice(&crc);
        assert_eq!(Head::decode(&bytes), Err(FormatError::Newer(2)));
    }
}
