//! A segment: one file of batches with a sparse index, read by many, written by the appender alone.
//!
//! Its index is kept in memory: built while it is written, else read from its foot when it is first needed. Readers see
//! a batch after [`Segment::extend`]. A segment that was cleaned becomes another segment in another file; a reader of
//! the old one keeps that.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;

use crate::disk::{Disk as _, DiskFile, Reserve, read_up_to};
use crate::engine::ArchiveError;
use crate::format::{BATCH_HEAD, BATCH_TARGET, BatchHead, HEAD, Head, IndexEntry, TRAILER, Trailer};

/// The ending of segment files.
pub(crate) const ENDING: &str = ".seg";

pub(crate) struct Segment {
    pub head: Head,
    pub name: String,
    disk: Arc<Reserve>,
    /// The file, open once it was read; closed again when descriptors are short.
    file: Mutex<Option<Arc<dyn DiskFile>>>,
    /// The position up to which it can be read.
    end: AtomicU64,
    last: AtomicU64,
    records: AtomicU64,
    keyed: AtomicU64,
    time: AtomicU64,
    /// The index; `None` until it was read from the foot.
    index: RwLock<Option<Vec<IndexEntry>>>,
    looks: Mutex<Looks>,
}

/// The state that cleaning keeps for a segment.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Looks {
    /// The growth of the log, in bytes, at which it is looked at again …
    pub at_growth: u64,
    /// … or the number of cleaning's calls.
    pub at_call: u64,
    /// The number of looks.
    pub count: u32,
    /// Whether bytes in it are not those that were written: that doesn't mend.
    pub is_damaged: bool,
    /// Whether it was looked at since all of it was to go because room was short.
    pub was_let_go: bool,
}

/// The contents of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Contents {
    /// The position where its batches end.
    pub end: u64,
    /// The last offset that it covers.
    pub last: Offset,
    pub records: u64,
    /// Records with an idempotency key.
    pub keyed: u64,
    pub time: UnixMillis,
}

impl Contents {
    /// The contents of a segment without batches.
    pub(crate) fn nothing(head: Head, time: UnixMillis) -> Self {
        Self { end: HEAD as u64, last: Offset(head.base.0 - 1), records: 0, keyed: 0, time }
    }

    /// Takes in a batch at the end.
    pub(crate) fn add(&mut self, batch: &BatchHead, keyed: u64) {
        self.end += batch.size() as u64;
        self.last = batch.last;
        self.records += u64::from(batch.count);
        self.keyed += keyed;
        self.time = batch.time;
    }
}

/// The name of a segment's file.
pub(crate) fn name_of(head: Head) -> String {
    format!("{:020}-{:016x}{ENDING}", head.base.0, head.salt)
}

/// Adds a batch to a sparse index.
pub(crate) fn index_batch(index: &mut Vec<IndexEntry>, first: Offset, position: u64) {
    if index.last().is_none_or(|entry| position >= entry.position + BATCH_TARGET as u64) {
        index.push(IndexEntry { first, position });
    }
}

impl Segment {
    /// A segment whose file is open; with its index, unless that stands in its foot.
    pub(crate) fn new(
        disk: Arc<Reserve>,
        file: Option<Arc<dyn DiskFile>>,
        head: Head,
        contents: Contents,
        index: Option<Vec<IndexEntry>>,
    ) -> Arc<Self> {
        let segment = Self {
            head,
            name: name_of(head),
            disk,
            file: Mutex::new(file),
            end: AtomicU64::new(0),
            last: AtomicU64::new(0),
            records: AtomicU64::new(0),
            keyed: AtomicU64::new(0),
            time: AtomicU64::new(0),
            index: RwLock::new(index),
            looks: Mutex::default(),
        };
        segment.publish(contents);
        Arc::new(segment)
    }

    fn publish(&self, contents: Contents) {
        self.records.store(contents.records, Ordering::Release);
        self.keyed.store(contents.keyed, Ordering::Release);
        self.time.store(contents.time.0, Ordering::Release);
        self.last.store(contents.last.0, Ordering::Release);
        self.end.store(contents.end, Ordering::Release);
    }

    pub(crate) fn contents(&self) -> Contents {
        Contents {
            end: self.end.load(Ordering::Acquire),
            last: self.last(),
            records: self.records.load(Ordering::Acquire),
            keyed: self.keyed.load(Ordering::Acquire),
            time: UnixMillis(self.time.load(Ordering::Acquire)),
        }
    }

    /// The last offset that it covers.
    pub(crate) fn last(&self) -> Offset {
        Offset(self.last.load(Ordering::Acquire))
    }

    /// Bytes of head and batches.
    pub(crate) fn bytes(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows readers the batches behind the end: their first offsets and positions, and the new contents.
    pub(crate) fn extend(&self, batches: &[IndexEntry], contents: Contents) {
        if let Some(index) = self.index.write().unwrap_or_else(PoisonError::into_inner).as_mut() {
            for batch in batches {
                index_batch(index, batch.first, batch.position);
            }
        }
        self.publish(contents);
    }

    pub(crate) fn file(&self) -> io::Result<Arc<dyn DiskFile>> {
        let mut kept = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*kept {
            return Ok(Arc::clone(file));
        }
        let file = self.disk.open(&self.name)?;
        if !self.disk.is_low() {
            *kept = Some(Arc::clone(&file));
        }
        Ok(file)
    }

    /// Closes its file until it is read again.
    pub(crate) fn close_file(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Writes the foot behind the batches and cuts the file there. May be tried again.
    pub(crate) fn seal(&self) -> io::Result<()> {
        let contents = self.contents();
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default();
        let file = self.file()?;
        let foot = foot(contents, &index);
        file.write_at(contents.end, &foot)?;
        file.sync()?;
        file.truncate(contents.end + foot.len() as u64)?;
        file.sync()
    }

    /// The position at which to begin the search for an offset.
    pub(crate) fn position_of(&self, offset: Offset) -> Result<u64, ArchiveError> {
        self.with_index(|index| {
            let at = index.partition_point(|entry| entry.first <= offset);
            at.checked_sub(1).map_or(HEAD as u64, |at| index[at].position)
        })
    }

    /// The sparse index.
    pub(crate) fn index(&self) -> Result<Vec<IndexEntry>, ArchiveError> {
        self.with_index(<[IndexEntry]>::to_vec)
    }

    fn with_index<T>(&self, look: impl FnOnce(&[IndexEntry]) -> T) -> Result<T, ArchiveError> {
        if let Some(index) = self.index.read().unwrap_or_else(PoisonError::into_inner).as_deref() {
            return Ok(look(index));
        }
        let file = self.file()?;
        let length = file.len()?;
        let loaded = read_foot(&*file, length)?.map(|(_, index)| index).ok_or_else(|| self.damage("a broken foot"))?;
        let found = look(&loaded);
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok(found)
    }

    fn damage(&self, what: &str) -> ArchiveError {
        let what = format!("{what} in {}", self.name);
        ArchiveError::Damaged { offset: Offset(self.head.base.0.saturating_sub(1)), up_to: self.last(), what }
    }

    /// The offsets between which no record can be read, if the batch at a position is broken; by the index of the
    /// others.
    pub(crate) fn gap_at(&self, position: u64) -> (Offset, Offset) {
        let around = self.with_index(|index| {
            let next = index.partition_point(|entry| entry.position <= position);
            let before = next.checked_sub(1).map_or(self.head.base, |at| index[at].first);
            (Offset(before.0.saturating_sub(1)), index.get(next).map_or(self.last(), |entry| Offset(entry.first.0 - 1)))
        });
        around.unwrap_or((Offset(self.head.base.0.saturating_sub(1)), self.last()))
    }
}

/// A sealed segment's foot.
pub(crate) fn foot(contents: Contents, index: &[IndexEntry]) -> Vec<u8> {
    let trailer = Trailer {
        last: contents.last,
        end: contents.end,
        records: contents.records,
        keyed: contents.keyed,
        time: contents.time,
        entries: index.len() as u32,
        ..Trailer::default()
    };
    let mut bytes = Vec::with_capacity(trailer.foot_length());
    trailer.encode(index, &mut bytes);
    bytes
}

/// Reads the foot of a sealed segment; `None` if it isn't sealed, or its foot is damaged.
pub(crate) fn read_foot(file: &dyn DiskFile, length: u64) -> io::Result<Option<(Contents, Vec<IndexEntry>)>> {
    let Some(at) = length.checked_sub(TRAILER as u64) else { return Ok(None) };
    let Some(trailer) = Trailer::decode(&read_up_to(file, at, TRAILER)?) else { return Ok(None) };
    // The trailer must agree with the file's length before anything is allocated by it.
    if trailer.end.checked_add(trailer.foot_length() as u64) != Some(length) {
        return Ok(None);
    }
    let foot = read_up_to(file, trailer.end, trailer.foot_length())?;
    let Trailer { last, end, records, keyed, time, .. } = trailer;
    Ok(trailer.index(&foot).map(|index| (Contents { end, last, records, keyed, time }, index)))
}

/// Walks from batch to batch.
pub(crate) struct Walk {
    file: Arc<dyn DiskFile>,
    salt: u64,
    /// The position of the next batch.
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    /// The bytes that are read at once.
    piece: usize,
    /// The last offset that was seen.
    last: Offset,
}

/// The reason why a walk ends too early.
#[derive(Debug)]
pub(crate) enum WalkError {
    Io(io::Error),
    /// No whole batch stands at this position.
    Broken(u64),
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> Self {
        WalkError::Io(error)
    }
}

impl Walk {
    /// Walks over the part of the segment that readers see.
    pub(crate) fn over(segment: &Segment, position: u64, piece: usize) -> io::Result<Self> {
        let file = segment.file()?;
        Ok(Self::new(file, segment.head, position, segment.bytes(), piece))
    }

    pub(crate) fn new(file: Arc<dyn DiskFile>, head: Head, position: u64, end: u64, piece: usize) -> Self {
        let last = Offset(head.base.0.saturating_sub(1));
        Self { file, salt: head.salt, position, end, buffer: Vec::new(), buffer_at: position, piece, last }
    }

    /// The position of the next batch.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch: its head, and the bytes of its records.
    pub(crate) fn next(&mut self) -> Result<Option<(BatchHead, &[u8])>, WalkError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let broken = WalkError::Broken(self.position);
        self.fill(BATCH_HEAD)?;
        let Some(head) = BatchHead::decode(self.rest()) else { return Err(broken) };
        if head.size() as u64 > self.end - self.position || head.first <= self.last {
            return Err(broken);
        }
        self.fill(head.size())?;
        if !head.is_whole(self.salt, self.rest()) {
            return Err(broken);
        }
        let from = (self.position - self.buffer_at) as usize;
        self.position += head.size() as u64;
        self.last = head.last;
        Ok(Some((head, &self.buffer[from + BATCH_HEAD..from + head.size()])))
    }

    /// Skips a batch that isn't whole, by the length in its own head, if it has one. The next batch shows whether that
    /// is right.
    pub(crate) fn skip_broken(&mut self) -> bool {
        let Some(size) = BatchHead::decode(self.rest()).map(|head| head.size() as u64) else { return false };
        if size > self.end - self.position {
            return false;
        }
        self.position += size;
        (self.buffer_at, self.buffer) = (self.position, Vec::new());
        true
    }

    /// The first offset of the next batch, if that is whole; the walk stays where it is.
    pub(crate) fn next_first(&mut self) -> Option<Offset> {
        let (position, last) = (self.position, self.last);
        let first = self.next().ok().flatten().map(|(batch, _)| batch.first);
        (self.position, self.last) = (position, last);
        first
    }

    /// The last offset that was seen.
    pub(crate) fn last(&self) -> Offset {
        self.last
    }

    fn rest(&self) -> &[u8] {
        &self.buffer[(self.position - self.buffer_at) as usize..]
    }

    /// Reads this many bytes from the position on into the buffer, unless the file ends.
    fn fill(&mut self, needed: usize) -> io::Result<()> {
        if self.position >= self.buffer_at && self.rest().len() >= needed {
            return Ok(());
        }
        let length = needed.max(self.piece).min((self.end - self.position) as usize);
        self.buffer.resize(length, 0);
        let read = self.file.read_at(self.position, &mut self.buffer)?;
        self.buffer.truncate(read);
        self.buffer_at = self.position;
        Ok(())
    }
}
