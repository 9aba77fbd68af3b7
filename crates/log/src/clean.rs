//! Freeing space: sealed segments in which little is wanted are written anew without the rest, or dropped.
//!
//! A call does a bounded piece of work; a rewrite goes on over several. Which segments are worth it is found out from a
//! sample of their batches, and the more seldom the longer a segment lives. Small neighbours become one. The last
//! segment is never touched: it is being written, or the witness of how far numbers had come. Nor is one that can't be read:
//! it stays as it is, and all others are cleaned.

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
/// One batch of so many is in the sample.
const SAMPLE: u64 = 16;
/// A segment that doesn't grow old by the log's growth is looked at after so many calls, then twice as many, …
const CALLS: u64 = 360;
/// … but when the disk is about to be full, after so many.
const CALLS_TIGHT: u64 = 3;

/// What goes on over several calls.
#[derive(Default)]
pub(crate) struct Cleaning {
    calls: u64,
    job: Option<Box<Job>>,
}

/// A rewrite of adjacent segments into one.
struct Job {
    old: Vec<Arc<Segment>>,
    /// The one that is read, and the walk over it.
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
            // No room for the smaller copy: others may be free of all that is wanted.
            Err(ArchiveError::Io(error)) if error.kind() == ErrorKind::StorageFull => break,
            // It is tried again in its turn, if that may be of use.
            Err(error) => leave(files, &segment, &error),
        }
    }
    files.metrics.bytes_freed.add(freed);
    freed
}

/// See [`crate::engine::Archive::relieve`]. What cleaning has looked at since its records were to go holds what must
/// stay, and frees nothing.
pub(crate) fn relieve(files: &Files, bytes: u64, applied: Offset) -> Offset {
    let cleaning = files.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
    let floor = Offset(files.floor.load(Ordering::Acquire));
    let segments = files.segments();
    let Some((_, sealed)) = segments.split_last() else { return floor };
    // What is being rewritten is about to be free: how much that is will be known then.
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
        // Copying is worth half of it; when room is short, a tenth.
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

/// A segment can't be read, or its copy can't be written: it stays as it is.
fn leave(files: &Files, segment: &Segment, error: &ArchiveError) {
    files.metrics.clean_failures.add(1);
    segment.looks().is_damaged = matches!(error, ArchiveError::Damaged { .. });
    tracing::error!(%error, segment = segment.name, "a segment of the log can't be cleaned and stays as it is");
}

fn is_due(looks: Looks, growth: u64, calls: u64, is_tight: bool) -> bool {
    let idle = if is_tight { CALLS_TIGHT } else { CALLS << looks.count.min(10) };
    looks.count == 0 || growth >= looks.at_growth || calls >= looks.at_call + idle
}

/// About how many of the segment's bytes are wanted, by a few of its batches.
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
    // Wide, so that the product can't overflow.
    Ok((u128::from(end) * u128::from(wanted) / u128::from(seen.max(1))) as u64)
}

/// How far a job came.
struct Progress {
    /// Bytes that were read and not copied: they are free when the job is over. Told at once, so that who cleans as long
    /// as something is freed goes on.
    dropped: u64,
    /// What is left to do.
    job: Option<Box<Job>>,
}

impl Job {
    /// Begins to rewrite the last one of these, together with what is small before it.
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

    /// Copies what is wanted; says whether all of it is done.
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
    /// What is not written yet: whole batches, then the open one.
    buffer: Vec<u8>,
    open: Option<Open>,
}

/// A batch that is not complete yet.
struct Open {
    /// Where in the buffer.
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

    /// The finished segment under its name, if anything was wanted.
    fn finish(&mut self, files: &Files, last: Offset, time: UnixMillis) -> io::Result<Option<Arc<Segment>>> {
        if !self.buffer.is_empty() {
            self.flush(files)?;
        }
        let Some(file) = self.file.clone() else { return Ok(None) };
        // It stands for all of the old ones, also for what was not wanted at their ends.
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
