//! The journal of the engine embedded: writes batches into segments and knows which records are durable.
//!
//! A commit is one write, and one sync if any of its records needs it. Offsets are reserved in `meta` before they are
//! used. When a write or sync fails, its bytes are cut off: the segment is sealed where it was good and a new one
//! begun, again and again until that works.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use everywire_base::ask::PublishError;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::{Durability, Record};

use crate::appender::is_stored;
use crate::clean;
use crate::disk::{Disk as _, DiskFile, read_up_to};
use crate::engine::ArchiveError;
use crate::files::Files;
use crate::format::{
    BATCH_HEAD, BATCH_TARGET, BatchFacts, BatchHead, ENTRY, HEAD, Head, IndexEntry, TRAILER, add_record, begin_batch,
    finish_batch,
};
use crate::journal::Journal;
use crate::meta::{Mark, Meta};
use crate::segment::{Contents, Segment, name_of};
use crate::spare::{Spare, Spares};

/// The time after a failure at which the next attempt is made.
const RETRY_MS: u64 = 250;
/// The bytes written between two looks at the free space.
const SPACE_CHECK: u64 = 1 << 20;
/// The bytes that a record's stored form adds to its texts and body, at most.
const RECORD_OVERHEAD: usize = 128;
/// The size beyond which a buffer is given back.
const BUFFER_KEPT: usize = 8 << 20;

/// The segment that is written.
pub(crate) struct Active {
    pub segment: Arc<Segment>,
    pub file: Arc<dyn DiskFile>,
    /// The length that was filled with zeros.
    pub length: u64,
    /// The position up to which all is synced.
    pub synced_to: u64,
}

/// A segment that is being begun: its name may stand on the disk already.
struct Next {
    spare: Spare,
    head: Head,
    is_renamed: bool,
}

/// The reason why nothing can be written now.
struct Trouble {
    answer: PublishError,
    since: UnixMillis,
}

impl Trouble {
    /// Whether it is time for the next attempt, also when the clock was set back.
    fn is_retry_due(&self, now: UnixMillis) -> bool {
        now.0.abs_diff(self.since.0) >= RETRY_MS
    }
}

pub(crate) struct Writer {
    files: Arc<Files>,
    active: Option<Active>,
    next: Option<Next>,
    /// Whether a write or sync failed in the active segment: it must not go on.
    is_doubtful: bool,
    trouble: Option<Trouble>,
    spares: Spares,
    meta: Meta,
    meta_file: Arc<dyn DiskFile>,
    mark: Mark,
    /// The last offset that was given.
    last: Offset,
    /// The highest offset that was written.
    written: Offset,
    buffer: Vec<u8>,
    batches: Vec<IndexEntry>,
    /// Bytes until the free space is looked at again.
    unchecked: u64,
    /// The lock of the directory, held as long as something may be written.
    lock: Option<Box<dyn Send + Sync>>,
}

/// The state that recovery hands over to the writer.
pub(crate) struct Begin {
    pub files: Arc<Files>,
    pub active: Option<Active>,
    pub meta: Meta,
    pub meta_file: Arc<dyn DiskFile>,
    pub mark: Mark,
    pub last: Offset,
    pub written: Offset,
    pub lock: Box<dyn Send + Sync>,
}

impl Writer {
    pub(crate) fn new(begin: Begin) -> Self {
        let Begin { files, active, meta, meta_file, mark, last, written, lock } = begin;
        Self {
            spares: Spares::new(Arc::clone(&files)),
            files,
            active,
            next: None,
            is_doubtful: false,
            trouble: None,
            meta,
            meta_file,
            mark,
            last,
            written,
            buffer: Vec::new(),
            batches: Vec::new(),
            unchecked: 0,
            lock: Some(lock),
        }
    }

    fn fail(&mut self, error: &io::Error, now: UnixMillis) -> PublishError {
        let is_full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        let answer = if is_full { PublishError::DiskFull } else { PublishError::Busy };
        if self.trouble.is_none() {
            tracing::error!(%error, place = self.files.disk.place(), "the log can't be written; it tries again");
        }
        self.files.is_tight.store(is_full, Ordering::Release);
        self.trouble = Some(Trouble { answer, since: now });
        answer
    }

    fn full(&mut self, now: UnixMillis) -> PublishError {
        self.fail(&io::Error::new(ErrorKind::StorageFull, "the disk is full but for the reserve"), now)
    }

    /// Makes sure of an active segment with room for this many bytes.
    fn make_room(&mut self, needed: u64, now: UnixMillis) -> Result<(), PublishError> {
        if let Some(trouble) = &self.trouble
            && !trouble.is_retry_due(now)
        {
            return Err(trouble.answer);
        }
        self.check_space(needed, now)?;
        let fits = |active: &Active| active.segment.bytes() + needed <= data_room(active.length);
        if self.is_doubtful || !self.active.as_ref().is_some_and(fits) {
            self.roll(needed, now)?;
        }
        if self.trouble.take().is_some() {
            tracing::info!("the log is written again");
            self.files.is_tight.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn check_space(&mut self, needed: u64, now: UnixMillis) -> Result<(), PublishError> {
        if self.unchecked > needed && self.trouble.is_none() {
            self.unchecked -= needed;
            return Ok(());
        }
        match self.files.free_beyond_reserve() {
            Ok(0) => Err(self.full(now)),
            Ok(_) => {
                self.unchecked = SPACE_CHECK;
                Ok(())
            }
            Err(error) => Err(self.fail(&error, now)),
        }
    }

    /// Seals the active segment and begins the next one. Each step may fail, and is tried again at the next call.
    fn roll(&mut self, needed: u64, now: UnixMillis) -> Result<(), PublishError> {
        self.seal().map_err(|error| self.fail(&error, now))?;
        match self.begin_segment(needed, now) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.full(now)),
            Err(error) => Err(self.fail(&error, now)),
        }
    }

    fn seal(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if self.is_doubtful {
            rewrite_unsynced(active)?;
        }
        active.segment.seal()?;
        self.note_synced();
        self.active = None;
        self.is_doubtful = false;
        Ok(())
    }

    fn begin_segment(&mut self, needed: u64, now: UnixMillis) -> io::Result<bool> {
        if self.next.is_none() {
            let Some(spare) = self.spares.take(file_length(needed))? else { return Ok(false) };
            let head = Head { base: self.last.max(self.written).next(), salt: self.files.new_salt() };
            self.next = Some(Next { spare, head, is_renamed: false });
        }
        let Some(next) = &mut self.next else { return Ok(false) };
        next.spare.file.write_at(0, &next.head.encode())?;
        next.spare.file.sync()?;
        if !next.is_renamed {
            self.files.disk.rename(&next.spare.name, &name_of(next.head))?;
            next.is_renamed = true;
        }
        let (head, file, length) = (next.head, Arc::clone(&next.spare.file), next.spare.length);
        let contents = Contents::nothing(head, now);
        let disk = Arc::clone(&self.files.disk);
        let segment = Segment::new(disk, Some(Arc::clone(&file)), head, contents, Some(Vec::new()));
        self.files.add(Arc::clone(&segment))?;
        self.next = None;
        self.active = Some(Active { segment, file, length, synced_to: contents.end });
        Ok(true)
    }

    fn reserve(&mut self, up_to: Offset) -> io::Result<()> {
        if up_to <= self.meta.reserved {
            return Ok(());
        }
        let before = self.meta.reserved;
        self.meta.reserved = Offset(up_to.0 + self.files.options.reserve_offsets);
        let written = self.meta.write(&*self.meta_file);
        if written.is_err() {
            self.meta.reserved = before;
        }
        written
    }

    /// Notes that all written records are synced.
    fn note_synced(&mut self) {
        if self.meta.synced < self.written {
            self.meta.synced = self.written;
            self.mark.note(self.written);
        }
    }

    /// Encodes batches into the buffer; returns the contents that the segment will have.
    fn encode(&mut self, records: &[Arc<Record>]) -> Option<Contents> {
        let active = self.active.as_ref()?;
        let (salt, mut contents) = (active.segment.head.salt, active.segment.contents());
        self.buffer.clear();
        self.batches.clear();
        let mut stored = records.iter().filter(|r| is_stored(r)).peekable();
        while let Some(first) = stored.peek().map(|r| r.offset) {
            let at = begin_batch(&mut self.buffer);
            let (mut count, mut keyed, mut last, mut time) = (0, 0, first, UnixMillis(0));
            while let Some(record) = stored.next_if(|_| self.buffer.len() - at < BATCH_TARGET) {
                add_record(&mut self.buffer, |out| record.encode(out));
                count += 1;
                keyed += u64::from(record.message().is_some_and(|m| m.key.is_some()));
                (last, time) = (record.offset, record.time);
            }
            let facts = BatchFacts { count, first, last, synced: self.meta.synced, time };
            finish_batch(&mut self.buffer, at, salt, facts);
            self.batches.push(IndexEntry { first, position: contents.end });
            let head = BatchHead::decode(&self.buffer[at..])?;
            contents.add(&head, keyed);
        }
        (!self.buffer.is_empty()).then_some(contents)
    }

    fn write_buffer(&mut self, contents: Contents, needs_sync: bool) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Err(io::Error::other("there is no segment to write")) };
        active.file.write_at(active.segment.bytes(), &self.buffer)?;
        if needs_sync {
            active.file.sync()?;
            active.synced_to = contents.end;
        }
        active.segment.extend(&self.batches, contents);
        self.written = contents.last;
        Ok(())
    }
}

/// The bytes of a segment's file that batches may fill, so that the foot still fits.
fn data_room(length: u64) -> u64 {
    length.saturating_sub(length / BATCH_TARGET as u64 * ENTRY as u64 + (TRAILER + ENTRY) as u64)
}

/// The least length of a file with room for this many bytes of batches.
fn file_length(needed: u64) -> u64 {
    HEAD as u64 + needed + needed / 512 + 1024
}

/// Writes again the bytes that a failed sync may have lost in the system.
fn rewrite_unsynced(active: &mut Active) -> io::Result<()> {
    let end = active.segment.bytes();
    let mut at = active.synced_to;
    while at < end {
        let bytes = read_up_to(&*active.file, at, (end - at).min(1 << 20) as usize)?;
        if bytes.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        active.file.write_at(at, &bytes)?;
        at += bytes.len() as u64;
    }
    active.file.sync()?;
    active.synced_to = end;
    Ok(())
}

impl Journal for Writer {
    fn start(&mut self) {
        self.spares.spawn_helper();
    }

    fn number(&mut self, up_to: Offset, now: UnixMillis) -> Result<(), PublishError> {
        if self.is_doubtful {
            // The call tries to cut off the failed bytes. A failure is noted inside.
            let _ = self.make_room(1, now);
        }
        if self.is_doubtful {
            return Err(self.trouble.as_ref().map_or(PublishError::Busy, |trouble| trouble.answer));
        }
        self.reserve(up_to).map_err(|error| self.fail(&error, now))
    }

    fn admit(&mut self, behind: Offset, count: usize, bytes: usize, now: UnixMillis) -> Result<(), PublishError> {
        self.last = behind;
        let needed = bytes + count * RECORD_OVERHEAD + (bytes / BATCH_TARGET + count / 64 + 2) * BATCH_HEAD;
        self.make_room(needed as u64, now)
    }

    fn promise(&self, wanted: Durability) -> Durability {
        wanted
    }

    fn write(&mut self, records: &[Arc<Record>], now: UnixMillis) -> Result<(), PublishError> {
        let Some(contents) = self.encode(records) else { return Ok(()) };
        let needs_sync = !self.files.options.unsynced && records.iter().any(|r| r.durability == Durability::Fsync);
        if let Err(error) = self.write_buffer(contents, needs_sync) {
            self.is_doubtful = true;
            self.fail(&error, now);
            return Err(PublishError::OutcomeUnknown);
        }
        let bytes = self.buffer.len() as u64;
        self.files.growth.fetch_add(bytes, Ordering::AcqRel);
        self.files.metrics.bytes_written.add(bytes);
        if needs_sync {
            self.files.metrics.syncs.add(1);
            self.note_synced();
        }
        if self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
        self.spares.prepare_when(|| self.active.as_ref().is_none_or(|a| a.segment.bytes() > a.length / 2));
        Ok(())
    }

    fn idle(&mut self, now: UnixMillis) -> bool {
        if self.trouble.as_ref().is_some_and(|trouble| trouble.is_retry_due(now)) {
            // A failure is noted inside, and tried again later.
            let _ = self.make_room(1, now);
        } else if self.trouble.is_none() && self.active.as_ref().is_some_and(|a| a.synced_to < a.segment.bytes()) {
            self.sync_rest(now);
        }
        self.trouble.is_some()
    }

    fn close(&mut self, last: Offset, time: UnixMillis) {
        self.last = last;
        self.files.is_closed.store(true, Ordering::Release);
        self.spares.discard();
        // After a failure the next start finds out which records are there, as after a crash.
        if self.trouble.is_none() && !self.is_doubtful {
            self.close_cleanly(time);
        }
        self.lock = None;
    }
}

impl Writer {
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    /// Removes records above this offset: they can be had again elsewhere, unless they were lost there.
    pub(crate) fn cut(&mut self, above: Offset) -> Result<(), ArchiveError> {
        // A segment without records, which an unclean stop may have left, counts too: the next one begins behind it.
        if self.written <= above {
            return Ok(());
        }
        self.seal()?;
        // If this is interrupted, records that are gone already are no damage.
        let left = self.files.segments().iter().map(|segment| segment.last()).filter(|last| *last <= above).max();
        self.meta.synced = left.unwrap_or_default();
        self.meta.write(&*self.meta_file)?;
        self.mark.lower(self.meta.synced)?;
        clean::cut(&self.files, above)?;
        (self.written, self.last) = (self.files.last(), self.files.last());
        self.note_synced();
        Ok(())
    }

    /// Whether all that was written is synced.
    pub(crate) fn is_synced(&self) -> bool {
        let is_synced = |active: &Active| active.synced_to == active.segment.bytes();
        self.trouble.is_none() && !self.is_doubtful && self.active.as_ref().is_none_or(is_synced)
    }

    /// Syncs records for which nobody waits.
    fn sync_rest(&mut self, now: UnixMillis) {
        let Some(active) = &mut self.active else { return };
        if active.synced_to == active.segment.bytes() {
            return;
        }
        match active.file.sync() {
            Ok(()) => {
                active.synced_to = active.segment.bytes();
                self.note_synced();
            }
            Err(error) => {
                self.is_doubtful = true;
                self.fail(&error, now);
            }
        }
    }

    fn close_cleanly(&mut self, time: UnixMillis) {
        self.sync_rest(time);
        if self.is_doubtful {
            return;
        }
        (self.meta.closed_at, self.meta.time) = (Some(self.last), time);
        if let Err(error) = self.meta.write(&*self.meta_file) {
            tracing::error!(%error, "the log could not be closed in good order; the next start repairs it");
        }
    }
}

#[cfg(test)]
mod tests {
    use everywire_base::cursor::Partition;

    use super::*;
    use crate::disk::{Disk, SimDisk};
    use crate::embedded::Options;
    use crate::engine::Archive as _;
    use crate::metrics::LogMetrics;
    use crate::recovery;
    use crate::suite::message;

    const NOW: UnixMillis = UnixMillis(1000);

    /// A log of a replica, which numbers nothing itself.
    fn opened(disk: &SimDisk, seed: u64) -> Writer {
        let options = Options { unsynced: true, ..Options::seeded(seed) };
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        Writer::new(recovery::open(disk, options, Arc::new(LogMetrics::default())).unwrap().begin)
    }

    fn record(offset: u64) -> Arc<Record> {
        let content = message("t", offset as u32).into();
        let (partition, durability) = (Partition(0), Durability::Fsync);
        Arc::new(Record { partition, offset: Offset(offset), time: NOW, durability, content })
    }

    fn make_room_for(writer: &mut Writer, offset: u64) {
        writer.number(Offset(offset), NOW).unwrap();
        writer.admit(Offset(offset - 1), 1, 100, NOW).unwrap();
    }

    #[test]
    fn what_is_kept_below_a_segment_that_was_begun_in_vain_is_there_at_the_next_start() {
        let disk = SimDisk::new();
        let mut writer = opened(&disk, 1);
        make_room_for(&mut writer, 100);
        disk.kill();
        // The engine has lost what would have stood there, and goes on at a lower place.
        let mut writer = opened(&disk, 2);
        writer.cut(Offset(10)).unwrap();
        for offset in [11, 12, 200] {
            make_room_for(&mut writer, offset);
            writer.write(&[record(offset)], NOW).unwrap();
        }
        writer.idle(NOW);
        assert!(writer.is_synced());
        disk.kill();
        let files = Arc::clone(&opened(&disk, 3).files);
        let (records, _) = files.scan(Offset::BEGINNING, Offset(1000), 1 << 20).unwrap();
        assert_eq!(records.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [11, 12, 200]);
    }
}
