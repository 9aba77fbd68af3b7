//! Freeing space: sealed segments with few wanted records are written anew without the rest, or dropped.
//!
//! A call does a bounded piece of work; a rewrite goes on over several. A sample of a segment's batches shows whether a
//! rewrite is worth it; the longer a segment lives, the more seldom it is sampled. Small neighbours become one. The
//! last segment is never touched: it is being written, or it is the witness of the last number. A segment that can't be
//! read stays as it is too, and all others are cleaned.

use std::io::{self, ErrorKind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::Record;

use crate::archive::{decode, decode_stored};
use crate::disk::{Disk as _, DiskFile};
use crate::engine::ArchiveError;
use crate::files::Files;
use crate::format::{
    BATCH_TARGET, BatchFacts, BatchHead, HEAD, Head, IndexEntry, add_record, begin_batch, finish_batch,
};
use crate::meta::UNFINISHED;
use crate::segment::{Contents, Looks, Segment, Walk, foot, index_batch, name_of};

/// Bytes that one call reads at most, about.
const WORK: u64 = 8 << 20;
const PIECE: usize = 1 << 20;
/// The sample has one batch out of this number.
const SAMPLE: u64 = 16;
/// The number of calls after which a segment is looked at if the log doesn't grow; it doubles with each look, …
const CALLS: u64 = 360;
/// … but this number when the disk is about to be full.
const CALLS_TIGHT: u64 = 3;

/// The state of cleaning between two calls.
#[derive(Default)]
pub(crate) struct Cleaning {
    calls: u64,
    job: Option<Box<Job>>,
}

/// A rewrite of adjacent segments into one.
struct Job {
    old: Vec<Arc<Segment>>,
    /// The index of the segment that is read, and the walk over it.
    at: usize,
    walk: Walk,
    output: Output,
}

type Wanted<'a> = &'a mut dyn FnMut(&Record) -> bool;

/// See [`crate::engine::Archive::clean`].
pub(crate) fn clean(files: &Files, applied: Offset, is_wanted: Wanted<'_>) -> u64 {
    if files.is_closed.load(Ordering::Acquire) {
        return 0;
    }
    let mut cleaning = files.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
    cleaning.calls += 1;
    let (mut work, mut freed) = (WORK, 0);
    while work > 0 {
        let job = match cleaning.job.take() {
            Some(job) => job,
            None => match find_job(files, cleaning.calls, applied, &mut work, is_wanted) {
                Some(job) => job,
                None => break,
            },
        };
        let segment = Arc::clone(&job.old[job.at]);
        match job.go_on(files, &mut work, is_wanted) {
            Ok(progress) => {
                freed += progress.dropped;
                cleaning.job = progress.job;
            }
            // The disk has no room for the smaller copy: other segments may have no wanted records at all.
            Err(ArchiveError::Io(error)) if error.kind() == ErrorKind::StorageFull => break,
            // The segment is tried again in its turn, if that may help.
            Err(error) => leave(files, &segment, &error),
        }
    }
    files.metrics.bytes_freed.add(freed);
    freed
}

/// Removes all records above this offset; all segments are sealed.
pub(crate) fn cut(files: &Files, above: Offset) -> Result<(), ArchiveError> {
    let mut cleaning = files.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(job) = cleaning.job.take() {
        job.output.abandon(files);
    }
    for segment in files.segments().iter().filter(|segment| segment.last() > above) {
        let old = std::slice::from_ref(segment);
        let mut job = Job::begin(files, old)?;
        let (mut work, mut dropped) = (u64::MAX, 0);
        let mut is_below = |record: &Record| record.offset <= above;
        job.copy(files, &mut work, &mut dropped, &mut is_below)?;
        // The batches that are copied last may not be written yet, and belong to the new segment too.
        let new = job.output.finish(files, above, segment.contents().time)?;
        files.replace(old, new.as_ref())?;
    }
    Ok(())
}

/// See [`crate::engine::Archive::relieve`]. A segment that cleaning has looked at since its records were to go has only
/// records that must stay, and frees nothing.
pub(crate) fn relieve(files: &Files, bytes: u64, applied: Offset) -> Offset {
    let cleaning = files.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
    let floor = Offset(files.floor.load(Ordering::Acquire));
    let segments = files.segments();
    let Some((_, sealed)) = segments.split_last() else { return floor };
    // A running rewrite is about to free space: how much is known when it is over.
    if cleaning.job.is_some() {
        return floor;
    }
    let (mut freed, mut new) = (0, floor);
    let is_left = |segment: &&Arc<Segment>| !segment.looks().was_let_go;
    for segment in sealed.iter().take_while(|segment| segment.last() <= applied).filter(is_left) {
        if freed >= bytes {
            break;
        }
        freed += segment.bytes();
        new = new.max(segment.last());
    }
    files.floor.store(new.0, Ordering::Release);
    new
}

/// The next segment that is worth a rewrite.
fn find_job(files: &Files, calls: u64, applied: Offset, work: &mut u64, is_wanted: Wanted<'_>) -> Option<Box<Job>> {
    let segments = files.segments();
    let (_, sealed) = segments.split_last()?;
    let (growth, is_tight) = (files.growth.load(Ordering::Acquire), files.is_tight.load(Ordering::Acquire));
    let floor = Offset(files.floor.load(Ordering::Acquire));
    let mut behind: u64 = segments.iter().map(|s| s.bytes()).sum();
    for (at, segment) in sealed.iter().enumerate() {
        behind -= segment.bytes();
        if segment.last() > applied || *work == 0 {
            break;
        }
        let must_go = segment.last() <= floor && !segment.looks().was_let_go;
        if segment.looks().is_damaged || !must_go && !is_due(*segment.looks(), growth, calls, is_tight) {
            continue;
        }
        let wanted = sample(files, segment, work, is_wanted);
        let mut looks = segment.looks();
        looks.count += 1;
        looks.was_let_go = segment.last() <= floor;
        looks.at_call = calls;
        looks.at_growth = growth + (behind / 2).max(files.options.segment_bytes);
        drop(looks);
        // A rewrite is worth it if it frees half of the segment, or a tenth when room is short.
        let worth = |wanted: u64| if is_tight || must_go { wanted + wanted / 9 } else { wanted * 2 };
        let begun = match wanted {
            Ok(wanted) if worth(wanted) <= segment.bytes() => Job::begin(files, &sealed[..=at]).map(Some),
            other => other.map(|_| None),
        };
        match begun {
            Ok(Some(job)) => return Some(Box::new(job)),
            Ok(None) => {}
            Err(error) => leave(files, segment, &error),
        }
    }
    None
}

/// Leaves a segment as it is, because it can't be read or its copy can't be written.
fn leave(files: &Files, segment: &Segment, error: &ArchiveError) {
    files.metrics.clean_failures.add(1);
    segment.looks().is_damaged = matches!(error, ArchiveError::Damaged { .. });
    tracing::error!(%error, segment = segment.name, "a segment of the log can't be cleaned and stays as it is");
}

fn is_due(looks: Looks, growth: u64, calls: u64, is_tight: bool) -> bool {
    let idle = if is_tight { CALLS_TIGHT } else { CALLS << looks.count.min(10) };
    looks.count == 0 || growth >= looks.at_growth || calls >= looks.at_call + idle
}

/// The wanted bytes of a segment, about, by some of its batches.
fn sample(files: &Files, segment: &Segment, work: &mut u64, is_wanted: Wanted<'_>) -> Result<u64, ArchiveError> {
    let end = segment.bytes();
    let step = (end / (SAMPLE * 4)).clamp(1, SAMPLE * BATCH_TARGET as u64);
    let (mut seen, mut wanted) = (0, 0);
    let mut next = HEAD as u64;
    for entry in segment.index()? {
        if entry.position < next {
            continue;
        }
        next = entry.position + step;
        let mut walk = Walk::over(segment, entry.position, 2 * BATCH_TARGET)?;
        let Some((batch, records)) = walk.next().map_err(|e| segment.broken(e))? else { break };
        for record in decode(files.partition, batch, records, |_| true) {
            let record = record?;
            let bytes = record.encoded_len() as u64;
            seen += bytes;
            wanted += if is_wanted(&record) { bytes } else { 0 };
        }
        *work = work.saturating_sub(batch.size() as u64);
    }
    // The product is wide, so that it can't overflow.
    Ok((u128::from(end) * u128::from(wanted) / u128::from(seen.max(1))) as u64)
}

/// The progress of a job.
struct Progress {
    /// Bytes that were read and not copied: they are free when the job is over. They are reported at once, so that a
    /// caller that cleans as long as something is freed goes on.
    dropped: u64,
    /// The rest of the job, if it isn't over.
    job: Option<Box<Job>>,
}

impl Job {
    /// Begins to rewrite the last of these segments, together with small ones before it.
    fn begin(files: &Files, segments: &[Arc<Segment>]) -> Result<Self, ArchiveError> {
        let is_small =
            |segment: &&Arc<Segment>| segment.bytes() <= files.options.segment_bytes / 4 && !segment.looks().is_damaged;
        let small = segments[..segments.len() - 1].iter().rev().take(8).take_while(is_small).count();
        let old = segments[segments.len() - 1 - small..].to_vec();
        let head = Head { base: old[0].head.base, salt: files.new_salt() };
        let walk = Walk::over(&old[0], HEAD as u64, PIECE)?;
        Ok(Self { old, at: 0, walk, output: Output::new(head) })
    }

    fn go_on(
        mut self: Box<Self>,
        files: &Files,
        work: &mut u64,
        is_wanted: Wanted<'_>,
    ) -> Result<Progress, ArchiveError> {
        let mut dropped = 0;
        match self.copy(files, work, &mut dropped, is_wanted) {
            Ok(false) => Ok(Progress { dropped, job: Some(self) }),
            Ok(true) => {
                self.finish(files)?;
                Ok(Progress { dropped, job: None })
            }
            Err(error) => {
                self.output.abandon(files);
                Err(error)
            }
        }
    }

    /// Copies the wanted records; returns whether all segments are done.
    fn copy(
        &mut self,
        files: &Files,
        work: &mut u64,
        dropped: &mut u64,
        is_wanted: Wanted<'_>,
    ) -> Result<bool, ArchiveError> {
        while *work > 0 {
            let segment = &self.old[self.at];
            let Some((batch, records)) = self.walk.next().map_err(|e| segment.broken(e))? else {
                self.at += 1;
                let Some(next) = self.old.get(self.at) else { return Ok(true) };
                self.walk = Walk::over(next, HEAD as u64, PIECE)?;
                continue;
            };
            *work = work.saturating_sub(batch.size() as u64);
            for stored in decode_stored(files.partition, batch, records, |_| true) {
                let (record, stored) = stored?;
                if is_wanted(&record) {
                    self.output.add(files, &record, &stored)?;
                } else {
                    *dropped += stored.len() as u64;
                }
            }
        }
        Ok(false)
    }

    fn finish(mut self: Box<Self>, files: &Files) -> io::Result<()> {
        let Some(newest) = self.old.last().cloned() else { return Ok(()) };
        // An empty segment may be the newest, and has no time of its own.
        let time = self.old.iter().map(|s| s.contents().time).max().unwrap_or_default();
        let last = newest.last();
        let new = match self.output.finish(files, last, time) {
            Ok(new) => new,
            Err(error) => {
                self.output.abandon(files);
                return Err(error);
            }
        };
        if let Some(new) = &new {
            *new.looks() = *newest.looks();
        }
        files.replace(&self.old, new.as_ref())
    }
}

/// The segment that a rewrite makes.
struct Output {
    head: Head,
    file: Option<Arc<dyn DiskFile>>,
    contents: Contents,
    index: Vec<IndexEntry>,
    /// The bytes that are not written yet: whole batches, then the open one.
    buffer: Vec<u8>,
    open: Option<Open>,
}

/// A batch that is not complete yet.
struct Open {
    /// The position in the buffer.
    at: usize,
    facts: BatchFacts,
    keyed: u64,
}

impl Output {
    fn new(head: Head) -> Self {
        let contents = Contents::nothing(head, UnixMillis(0));
        Self { head, file: None, contents, index: Vec::new(), buffer: Vec::new(), open: None }
    }

    fn unfinished_name(&self) -> String {
        format!("{}{UNFINISHED}", name_of(self.head))
    }

    fn add(&mut self, files: &Files, record: &Record, stored: &[u8]) -> io::Result<()> {
        let (offset, time) = (record.offset, record.time);
        let open = self.open.get_or_insert_with(|| Open {
            at: begin_batch(&mut self.buffer),
            facts: BatchFacts { count: 0, first: offset, last: offset, synced: Offset(offset.0 - 1), time },
            keyed: 0,
        });
        add_record(&mut self.buffer, |out| out.extend_from_slice(stored));
        open.facts.count += 1;
        (open.facts.last, open.facts.time) = (offset, time);
        open.keyed += u64::from(record.message().is_some_and(|m| m.key.is_some()));
        if self.buffer.len() - open.at >= BATCH_TARGET {
            self.close_batch();
        }
        if self.buffer.len() >= PIECE { self.flush(files) } else { Ok(()) }
    }

    fn close_batch(&mut self) {
        let Some(open) = self.open.take() else { return };
        finish_batch(&mut self.buffer, open.at, self.head.salt, open.facts);
        index_batch(&mut self.index, open.facts.first, self.contents.end);
        if let Some(batch) = BatchHead::decode(&self.buffer[open.at..]) {
            self.contents.add(&batch, open.keyed);
        }
    }

    fn flush(&mut self, files: &Files) -> io::Result<()> {
        self.close_batch();
        let file = if let Some(file) = &self.file {
            file
        } else {
            let file = files.disk.create(&self.unfinished_name())?;
            file.write_at(0, &self.head.encode())?;
            self.file.insert(file)
        };
        file.write_at(self.contents.end - self.buffer.len() as u64, &self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Finishes the segment under its name; `None` if no record was wanted.
    fn finish(&mut self, files: &Files, last: Offset, time: UnixMillis) -> io::Result<Option<Arc<Segment>>> {
        if !self.buffer.is_empty() {
            self.flush(files)?;
        }
        let Some(file) = self.file.clone() else { return Ok(None) };
        // It stands for all of the old segments, also for unwanted records at their ends.
        (self.contents.last, self.contents.time) = (last, time);
        file.write_at(self.contents.end, &foot(self.contents, &self.index))?;
        file.sync()?;
        files.disk.rename(&self.unfinished_name(), &name_of(self.head))?;
        let disk = Arc::clone(&files.disk);
        Ok(Some(Segment::new(disk, Some(file), self.head, self.contents, Some(std::mem::take(&mut self.index)))))
    }

    fn abandon(&self, files: &Files) {
        if self.file.is_some() {
            let _ = files.disk.remove(&self.unfinished_name());
        }
    }
}
