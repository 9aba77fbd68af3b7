//! Reading kept records out of segment files.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::record::Record;

use crate::clean;
use crate::engine::{Archive, ArchiveError};
use crate::files::Files;
use crate::format::{BATCH_TARGET, BatchHead, Records};
use crate::segment::{Segment, Walk, WalkError};

/// The bytes that are read at once for a single record, and for a long scan.
const PIECE: usize = 2 * BATCH_TARGET;
const SCAN_PIECE: usize = 256 << 10;

impl Segment {
    /// The reader's error for a batch that isn't whole.
    pub(crate) fn broken(&self, error: WalkError) -> ArchiveError {
        match error {
            WalkError::Io(error) => ArchiveError::Io(error),
            WalkError::Broken(position) => {
                let (offset, up_to) = self.gap_at(position);
                let what = format!("the batch at byte {position} of `{}` fails its checksum", self.name);
                ArchiveError::Damaged { offset, up_to, what }
            }
        }
    }
}

/// The offset of a stored record, if it begins with that field as ours do, without decoding the rest.
fn peek_offset(stored: &[u8]) -> Option<Offset> {
    let rest = stored.strip_prefix(&[0x08])?;
    let mut value = 0u64;
    for (i, byte) in rest.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32)?;
        if byte & 0x80 == 0 {
            return Some(Offset(value));
        }
    }
    None
}

/// The records of a batch whose offset is wanted.
pub(crate) fn decode(
    partition: Partition,
    batch: BatchHead,
    records: &[u8],
    is_wanted: impl Fn(Offset) -> bool,
) -> impl Iterator<Item = Result<Record, ArchiveError>> {
    decode_stored(partition, batch, records, is_wanted).map(|stored| stored.map(|(record, _)| record))
}

/// The same, each with its stored form: a copy of that has also the fields that a later version has written.
pub(crate) fn decode_stored(
    partition: Partition,
    batch: BatchHead,
    records: &[u8],
    is_wanted: impl Fn(Offset) -> bool,
) -> impl Iterator<Item = Result<(Record, Bytes), ArchiveError>> {
    let (offset, up_to) = (Offset(batch.first.0 - 1), batch.last);
    let bad = move |what: &str| ArchiveError::Damaged { offset, up_to, what: what.to_owned() };
    let decode_one = move |stored: Option<&[u8]>| {
        let Some(stored) = stored else { return Some(Err(bad("a record is longer than its batch"))) };
        if peek_offset(stored).is_some_and(|offset| !is_wanted(offset)) {
            return None;
        }
        // The record has a copy of its own, so that it doesn't hold its neighbours in memory.
        let stored = Bytes::copy_from_slice(stored);
        match Record::decode(partition, stored.clone()) {
            Ok(record) => is_wanted(record.offset).then_some(Ok((record, stored))),
            Err(error) => Some(Err(bad(&error.to_string()))),
        }
    };
    Records(records).filter_map(decode_one)
}

impl Files {
    /// Reads those of the offsets that lie in the segment.
    fn get_from(&self, segment: &Segment, offsets: &[Offset], out: &mut Vec<Arc<Record>>) -> Result<(), ArchiveError> {
        let mut wanted = offsets;
        while let Some(first) = wanted.first().copied() {
            let mut walk = Walk::over(segment, segment.position_of(first)?, PIECE)?;
            // A batch that was skipped because it can't be read: its error goes to the reader that wants one of its
            // records.
            let mut broken = None;
            loop {
                let (batch, records) = match walk.next() {
                    Ok(Some(next)) => next,
                    Ok(None) => return broken.map_or(Ok(()), Err),
                    Err(error) => {
                        let can_go_on = matches!(error, WalkError::Broken(_)) && broken.is_none();
                        broken = Some(segment.broken(error));
                        if can_go_on && walk.skip_broken() {
                            continue;
                        }
                        return broken.map_or(Ok(()), Err);
                    }
                };
                if let Some(error) = broken.take_if(|_| wanted[0] < batch.first) {
                    return Err(error);
                }
                broken = None;
                let here = wanted.partition_point(|offset| *offset <= batch.last);
                for record in decode(self.partition, batch, records, |o| wanted[..here].binary_search(&o).is_ok()) {
                    out.push(Arc::new(record?));
                }
                wanted = &wanted[here..];
                // The next offset may be far: then the index is faster than the walk.
                let is_far = |next: &Offset| segment.position_of(*next).is_ok_and(|at| at > walk.position());
                if wanted.first().is_none_or(is_far) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// The damage of a broken batch, up to the batch behind it if that can be read; the walk goes on there.
    fn behind(segment: &Segment, error: WalkError, walk: &mut Walk) -> ArchiveError {
        let last = walk.last();
        let next = if walk.skip_broken() { walk.next_first() } else { None };
        match (segment.broken(error), next) {
            (ArchiveError::Damaged { offset, what, .. }, Some(next)) => {
                ArchiveError::Damaged { offset: offset.max(last), up_to: Offset(next.0 - 1), what }
            }
            (ArchiveError::Damaged { offset, up_to, what }, None) => {
                ArchiveError::Damaged { offset: offset.max(last), up_to, what }
            }
            (error, _) => error,
        }
    }

    /// Scans one segment; returns the offset where it stopped if the bytes were used up.
    fn scan_one(&self, segment: &Segment, scan: &mut Scan) -> Result<Option<Offset>, ArchiveError> {
        let piece = scan.room.clamp(PIECE, SCAN_PIECE);
        let mut walk = Walk::over(segment, segment.position_of(scan.after.next())?, piece)?;
        loop {
            let (batch, records) = match walk.next() {
                Ok(Some(next)) => next,
                Ok(None) => break,
                Err(WalkError::Io(error)) => return Err(error.into()),
                Err(error) => match Self::behind(segment, error, &mut walk) {
                    // The damage lies below the offsets that are asked for.
                    ArchiveError::Damaged { up_to, .. } if up_to <= scan.after => continue,
                    error => return Err(error),
                },
            };
            if batch.first > scan.up_to {
                break;
            }
            for record in decode(self.partition, batch, records, |o| o > scan.after && o <= scan.up_to) {
                let record = record?;
                let offset = record.offset;
                scan.room = scan.room.saturating_sub(record.weight().max(1));
                scan.records.push(Arc::new(record));
                if scan.room == 0 {
                    return Ok(Some(offset));
                }
            }
        }
        Ok(None)
    }
}

struct Scan {
    after: Offset,
    up_to: Offset,
    /// Bytes that may still be read.
    room: usize,
    records: Vec<Arc<Record>>,
}

impl Archive for Files {
    fn get(&self, offsets: &[Offset]) -> Result<Vec<Arc<Record>>, ArchiveError> {
        let mut records = Vec::with_capacity(offsets.len());
        let mut rest = offsets;
        for segment in self.segments().iter() {
            let from = rest.partition_point(|offset| *offset < segment.head.base);
            let to = rest.partition_point(|offset| *offset <= segment.last()).max(from);
            self.get_from(segment, &rest[from..to], &mut records)?;
            rest = &rest[to..];
            if rest.is_empty() {
                break;
            }
        }
        Ok(records)
    }

    fn scan(&self, after: Offset, up_to: Offset, max_bytes: usize) -> Result<(Vec<Arc<Record>>, Offset), ArchiveError> {
        let mut scan = Scan { after, up_to, room: max_bytes.max(1), records: Vec::new() };
        let segments = self.segments();
        let from = segments.partition_point(|segment| segment.last() <= after);
        for segment in segments[from..].iter().take_while(|s| s.head.base <= up_to) {
            match self.scan_one(segment, &mut scan) {
                Ok(None) => {}
                Ok(Some(stopped)) => return Ok((scan.records, stopped)),
                // The records before the damage are whole.
                Err(ArchiveError::Damaged { .. }) if !scan.records.is_empty() => {
                    let last = scan.records.last().map_or(after, |record| record.offset);
                    return Ok((scan.records, last));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((scan.records, up_to))
    }

    fn last(&self) -> Offset {
        self.last()
    }

    fn clean(&self, applied: Offset, is_wanted: &mut dyn FnMut(&Record) -> bool) -> Result<u64, ArchiveError> {
        Ok(clean::clean(self, applied, is_wanted))
    }

    fn relieve(&self, bytes: u64, applied: Offset) -> Offset {
        clean::relieve(self, bytes, applied)
    }

    fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Acquire)
    }

    fn lacks(&self) -> Option<(Offset, Offset)> {
        self.lacks.load().as_deref().copied()
    }

    fn bytes(&self) -> u64 {
        self.bytes()
    }
}
