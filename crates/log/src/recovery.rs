//! Opening a log: a torn end is cut, damage is refused, and nothing is ever emptied in silence.
//!
//! Only the last segment is read. A batch in it that isn't whole ends the log if no later one proves that it had been
//! synced, and if the high-water mark doesn't reach behind it; otherwise it is damage. After an unclean stop numbers go
//! on behind the reserved ones (RULES 2), and the offsets between are recorded as a hole. A log that was restored from
//! a backup, or lost its end, goes on in a new epoch that knows its parent, if the operator asks for it.

use std::io;
use std::sync::Arc;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Lineage, Offset};

use crate::disk::{Disk, DiskFile, LockError, Reserve, read_up_to};
use crate::embedded::Options;
use crate::files::Files;
use crate::format::{BATCH_HEAD, BatchHead, FORMAT, FormatError, HEAD, Head, IndexEntry};
use crate::meta::{self, MARK, META, Mark, Meta, MetaError, SEGMENTS, UNFINISHED, read_names, write_names};
use crate::metrics::LogMetrics;
use crate::segment::{Contents, ENDING, Segment, Walk, WalkError, index_batch, name_of, read_foot};
use crate::writer::{Active, Begin};

/// The reason why a log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("opening the log in {place} failed: {error}")]
    Io {
        /// The directory.
        place: String,
        /// The error of the disk.
        error: io::Error,
    },
    /// Another process uses the directory.
    #[error("the data directory {place} is in use: {holder} has it; stop that one, or choose another directory")]
    Locked {
        /// The directory.
        place: String,
        /// The process.
        holder: String,
    },
    /// A newer version wrote it.
    #[error(
        "{file} in {place} has format {found}, this version knows up to {FORMAT}: a newer version wrote it; use that one"
    )]
    Newer {
        /// The directory.
        place: String,
        /// The file.
        file: String,
        /// Its format.
        found: u32,
    },
    /// Records that had been synced are damaged or missing.
    #[error(
        "the log in {place} is damaged: {what}. Nothing was changed. Restore the directory from a backup, or move it \
         away to begin with an empty log"
    )]
    Damaged {
        /// The directory.
        place: String,
        /// The file, the place in it, and the damage.
        what: String,
    },
}

/// An opened log.
pub(crate) struct Recovered {
    pub begin: Begin,
    /// The last offset that is taken.
    pub last: Offset,
    /// The time at which the last record was written, about.
    pub time: UnixMillis,
    pub lineage: Lineage,
}

/// An error while opening, before the directory's name is added.
enum Trouble {
    Io(io::Error),
    Damaged(String),
    Newer(String, u32),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

fn damaged<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Damaged(what.into()))
}

fn of_small_file(name: &str) -> impl Fn(MetaError) -> Trouble + '_ {
    move |error| match error {
        MetaError::Io(error) => Trouble::Io(error),
        MetaError::Damaged => Trouble::Damaged(format!("`{name}` fails its checksum")),
        MetaError::Newer(found) => Trouble::Newer(name.to_owned(), found),
    }
}

/// Opens the log of a directory, or makes one.
pub(crate) fn open(disk: Arc<dyn Disk>, options: Options, metrics: Arc<LogMetrics>) -> Result<Recovered, OpenError> {
    let place = disk.place();
    let lock = match disk.lock() {
        Ok(lock) => lock,
        Err(LockError::Held(holder)) => return Err(OpenError::Locked { place, holder: format!("process {holder}") }),
        Err(LockError::Io(error)) => return Err(OpenError::Io { place, error }),
    };
    recover(Reserve::new(disk, META), options, metrics, lock).map_err(|trouble| match trouble {
        Trouble::Io(error) => OpenError::Io { place, error },
        Trouble::Damaged(what) => OpenError::Damaged { place, what },
        Trouble::Newer(file, found) => OpenError::Newer { place, file, found },
    })
}

fn recover(
    disk: Arc<Reserve>,
    options: Options,
    metrics: Arc<LogMetrics>,
    lock: Box<dyn Send + Sync>,
) -> Result<Recovered, Trouble> {
    let names = disk.list()?;
    if !names.iter().any(|name| name == META) {
        first_start(&*disk, &names, options)?;
    }
    let meta_file = disk.open(META)?;
    let mut meta = Meta::read(&*meta_file).map_err(of_small_file(META))?;
    let (mut mark, marked) = Mark::open(&*disk, meta.lineage.epoch)?;
    meta.synced = meta.synced.max(marked);

    let Found { listed, mut segments, tail, written, loss } = find(&disk, &meta)?;
    match loss {
        Some(what) if !options.new_epoch => return damaged(what),
        Some(what) => tracing::warn!(what, up_to = written.0, "the log lost its end and goes on in a new epoch"),
        None if options.new_epoch => {
            tracing::warn!(up_to = written.0, "the log goes on in a new epoch, as it was told to");
        }
        None => {}
    }
    if options.new_epoch {
        fork(&mut meta, written, options.seed);
    }
    // The log is known to be good from here on, and may be changed.
    for name in names.iter().filter(|n| n.ends_with(UNFINISHED) || (n.ends_with(ENDING) && !listed.contains(n))) {
        disk.remove(name)?;
    }
    let last = number_on(&mut meta, written);
    let was_closed = meta.closed_at.take().is_some();
    let active = match tail {
        Some(tail) => settle_tail(&disk, tail, was_closed, &mut segments)?,
        None => None,
    };
    let time = segments.last().map_or(meta.time, |s| s.contents().time);
    meta.synced = written;
    meta.reserved = Offset(last.0 + options.reserve_offsets);
    meta.write(&*meta_file)?;
    mark.belongs_to(meta.lineage.epoch);
    let lineage = meta.lineage.clone();
    write_names(&*disk, segments.iter().map(|s| s.name.as_str()))?;
    let files = Files::new(disk, options, metrics, segments);
    files.keep_ballast();
    let begin = Begin { files, active, meta, meta_file, mark, last, written, lock };
    Ok(Recovered { begin, last, time, lineage })
}

/// The files on the disk, before anything is changed.
struct Found {
    listed: Vec<String>,
    /// The sealed ones.
    segments: Vec<Arc<Segment>>,
    tail: Option<Tail>,
    /// The highest offset that was written.
    written: Offset,
    /// The description of the records that are missing behind it, if some are.
    loss: Option<String>,
}

/// The last segment, if it isn't sealed.
struct Tail {
    file: Arc<dyn DiskFile>,
    head: Head,
    contents: Contents,
    index: Vec<IndexEntry>,
}

fn find(disk: &Arc<Reserve>, meta: &Meta) -> Result<Found, Trouble> {
    let listed = read_names(&*open_listed(disk, SEGMENTS)?).map_err(of_small_file(SEGMENTS))?;
    let mut segments = Vec::with_capacity(listed.len());
    let (mut tail, mut loss) = (None, None);
    for (at, name) in listed.iter().enumerate() {
        match open_segment(disk, name)? {
            Opened::Sealed(segment) => segments.push(segment),
            Opened::Unsealed(file, head) if at + 1 == listed.len() => {
                let (scanned, damage) = scan_tail(file, head, meta)?;
                (tail, loss) = (Some(scanned), damage);
            }
            Opened::Unsealed(..) => {
                return damaged(format!("`{name}`, which is not the last segment, has no good end"));
            }
        }
    }
    let covered = segments.last().map_or(Offset::BEGINNING, |s| s.last());
    let written = tail.as_ref().map_or(covered, |tail| tail.contents.last.max(covered));
    let loss = loss.or(check_marks(written, meta)?);
    Ok(Found { listed, segments, tail, written, loss })
}

/// A log that lost its end begins a new epoch; cursors of the old one are valid up to `written`.
fn fork(meta: &mut Meta, written: Offset, seed: u64) {
    let before = meta.lineage.epoch;
    let is_new = |epoch: &Epoch| *epoch != before && meta.lineage.parents.iter().all(|parent| parent.0 != *epoch);
    let mut candidates = (0..=u16::MAX).map(|n| crate::epoch_of(seed.wrapping_add(u64::from(n))));
    meta.lineage.epoch = candidates.find(is_new).unwrap_or_default();
    meta.add_parent(before, written);
    meta.closed_at = None;
}

/// Makes the small files of an empty log; `meta` last, since a log exists once `meta` does.
fn first_start(disk: &dyn Disk, names: &[String], options: Options) -> Result<(), Trouble> {
    if let Some(name) = names.iter().find(|name| name.ends_with(ENDING)) {
        return damaged(format!("`{META}` is missing, but there is `{name}`"));
    }
    for name in names.iter().filter(|n| *n == MARK || n.ends_with(UNFINISHED)) {
        disk.remove(name)?;
    }
    write_names(disk, std::iter::empty())?;
    let mut meta = Meta::default();
    meta.lineage.epoch = crate::epoch_of(options.seed);
    meta.closed_at = Some(Offset::BEGINNING);
    meta::replace(disk, META, |file| meta.write(file))?;
    Ok(())
}

fn open_listed(disk: &Arc<Reserve>, name: &str) -> Result<Arc<dyn DiskFile>, Trouble> {
    match disk.open(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => damaged(format!("`{name}` is missing")),
        other => Ok(other?),
    }
}

enum Opened {
    Sealed(Arc<Segment>),
    Unsealed(Arc<dyn DiskFile>, Head),
}

fn open_segment(disk: &Arc<Reserve>, name: &str) -> Result<Opened, Trouble> {
    let file = open_listed(disk, name)?;
    let head = match Head::decode(&read_up_to(&*file, 0, HEAD)?) {
        Ok(head) if name_of(head) == name => head,
        Ok(_) | Err(FormatError::Damaged) => return damaged(format!("the head of `{name}` is not what was written")),
        Err(FormatError::Newer(found)) => return Err(Trouble::Newer(name.to_owned(), found)),
    };
    match read_foot(&*file, file.len()?)? {
        // The index is read again when it is needed, so that a large log doesn't hold all indexes in memory.
        Some((contents, _)) => Ok(Opened::Sealed(Segment::new(Arc::clone(disk), None, head, contents, None))),
        None => Ok(Opened::Unsealed(file, head)),
    }
}

/// Reads the last segment up to the first batch that isn't whole, and returns a description if that is damage.
fn scan_tail(file: Arc<dyn DiskFile>, head: Head, meta: &Meta) -> Result<(Tail, Option<String>), Trouble> {
    let mut walk = Walk::new(Arc::clone(&file), head, HEAD as u64, file.len()?, 1 << 20);
    let mut tail = Tail { file, head, contents: Contents::nothing(head, meta.time), index: Vec::new() };
    loop {
        let position = walk.position();
        match walk.next() {
            Ok(None) => return Ok((tail, None)),
            Ok(Some((batch, _))) => {
                index_batch(&mut tail.index, batch.first, position);
                // The number of records with keys isn't known without reading them: perhaps all have one.
                tail.contents.add(&batch, u64::from(batch.count));
            }
            Err(WalkError::Io(error)) => return Err(error.into()),
            Err(WalkError::Broken(position)) => {
                let loss = check_rest(&tail, position)?;
                return Ok((tail, loss));
            }
        }
    }
}

/// Looks behind a broken batch for one that proves that the broken one had been synced.
fn check_rest(tail: &Tail, broken: u64) -> io::Result<Option<String>> {
    let Tail { file, head, contents: Contents { last, .. }, .. } = tail;
    let rest = read_up_to(&**file, broken, (file.len()? - broken) as usize)?;
    // The rest is mostly zeros. Bodies that look like batches, put there on purpose, must not take for ever.
    let (mut at, mut checked) = (0, 0);
    while let Some(skip) = rest[at..].iter().position(|byte| *byte == b'E')
        && checked <= 8 * rest.len()
    {
        at += skip;
        checked += BatchHead::decode(&rest[at..]).map_or(0, |batch| batch.size().min(rest.len()));
        let batch = BatchHead::decode(&rest[at..]).filter(|batch| batch.is_whole(head.salt, &rest[at..]));
        if let Some(batch) = batch
            && batch.synced > *last
        {
            return Ok(Some(format!(
                "the batch at byte {broken} of `{}`, behind offset {last}, is broken, though the one at byte {} proves \
                 that offsets up to {} were on the disk",
                name_of(*head),
                broken + at as u64,
                batch.synced
            )));
        }
        at += batch.map_or(1, |batch| batch.size().max(BATCH_HEAD));
    }
    Ok(None)
}

/// Compares the last offset that was found with the known marks; describes the missing records.
fn check_marks(written: Offset, meta: &Meta) -> Result<Option<String>, Trouble> {
    if written > meta.reserved {
        return damaged(format!(
            "its segments reach offset {written}, but `{META}` knows only of offsets up to {}: it is older than they are",
            meta.reserved
        ));
    }
    let missing = || {
        format!(
            "its segments end at offset {written}, but offsets up to {} were on the disk: the end of the last segment \
             is broken or missing",
            meta.synced
        )
    };
    Ok((written < meta.synced).then(missing))
}

/// The offset after which numbers go on; behind a hole after an unclean stop.
fn number_on(meta: &mut Meta, written: Offset) -> Offset {
    if let Some(closed) = meta.closed_at {
        return closed.max(written);
    }
    if meta.reserved > written {
        meta.add_hole(written.next(), meta.reserved);
    }
    meta.reserved.max(written)
}

/// Goes on with the last segment if it was closed in good order; else cuts its torn end and seals it, since behind its
/// end may lie records that must never come back.
fn settle_tail(
    disk: &Arc<Reserve>,
    tail: Tail,
    was_closed: bool,
    segments: &mut Vec<Arc<Segment>>,
) -> Result<Option<Active>, Trouble> {
    let Tail { file, head, contents, index } = tail;
    let segment = Segment::new(Arc::clone(disk), Some(Arc::clone(&file)), head, contents, Some(index));
    if was_closed {
        let length = file.len()?;
        segments.push(Arc::clone(&segment));
        return Ok(Some(Active { segment, file, length, synced_to: contents.end }));
    }
    // The bytes that were read may be in the system's memory only. A segment without batches is sealed too: its head is
    // the witness of the last number when all before it was cleaned away.
    file.sync()?;
    segment.seal()?;
    segments.push(segment);
    Ok(None)
}
