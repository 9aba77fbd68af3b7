//! A copy of a log that somebody else may be writing meanwhile.
//!
//! Sealed segments don't change. The last one is copied up to where it is whole, which is at least all that had been
//! synced when the copy began; the small files are written anew to fit. Cleaning may remove segments: those that are
//! open stay readable, and if one is gone before it is open, the copy begins again.

use std::io;
use std::sync::Arc;

use everywire_base::cursor::Offset;

use crate::disk::{Disk, DiskFile, read_up_to};
use crate::format::{FormatError, HEAD, Head};
use crate::meta::{self, META, Meta, MetaError, SEGMENTS, read_names, write_names};
use crate::segment::{Walk, WalkError, read_foot};

/// The number of times that a copy begins again.
const TRIES: usize = 100;
/// The bytes that are copied at once.
const PIECE: usize = 1 << 20;

/// The reason why a log can't be copied.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A disk failed: that of the log, or that of the copy.
    #[error("copying the log failed: {0}")]
    Io(#[from] io::Error),
    /// There is nothing to copy.
    #[error("there is no log")]
    Nothing,
    /// The log is damaged, or of a newer version.
    #[error("the log can't be copied: {0}")]
    Damaged(String),
    /// Its segments changed too often.
    #[error("the log changes faster than it can be looked at: try again")]
    Moving,
}

/// The extent of a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Copied {
    /// Bytes of segments.
    pub bytes: u64,
    /// The last offset in the copy.
    pub last: Offset,
}

/// A segment whose file is open, so that it stays readable.
type Pinned = (String, Arc<dyn DiskFile>);

/// Copies the log of a directory into an empty one.
pub fn backup(from: &dyn Disk, to: &dyn Disk) -> Result<Copied, BackupError> {
    if !from.list()?.iter().any(|name| name == META) {
        return Err(BackupError::Nothing);
    }
    for _ in 0..TRIES {
        if let Some(segments) = pin(from)? {
            return copy(from, &segments, to);
        }
    }
    Err(BackupError::Moving)
}

/// Opens all segments; `None` if one of them was taken away meanwhile.
fn pin(from: &dyn Disk) -> Result<Option<Vec<Pinned>>, BackupError> {
    let names = read_names(&*from.open(SEGMENTS)?).map_err(|error| of_small_file(SEGMENTS, error))?;
    let mut segments = Vec::with_capacity(names.len());
    for name in names {
        match from.open(&name) {
            Ok(file) => segments.push((name, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(segments))
}

fn copy(from: &dyn Disk, segments: &[Pinned], to: &dyn Disk) -> Result<Copied, BackupError> {
    let mut copied = Copied { bytes: 0, last: Offset::BEGINNING };
    for (at, (name, file)) in segments.iter().enumerate() {
        let (end, last) = if at + 1 == segments.len() { whole(name, file)? } else { sealed(name, &**file)? };
        let new = to.create(name)?;
        copy_bytes(&**file, &*new, end)?;
        new.sync()?;
        copied = Copied { bytes: copied.bytes + end, last: copied.last.max(last) };
    }
    write_names(to, segments.iter().map(|(name, _)| name.as_str()))?;
    // It is read when all is copied, so that it knows every number that was given.
    let mut small = Meta::read(&*from.open(META)?).map_err(|error| of_small_file(META, error))?;
    small.synced = small.synced.min(copied.last);
    // It comes last, since a log exists once it does.
    meta::replace(to, META, |file| small.write(file))?;
    Ok(copied)
}

/// The length and the last offset of a segment that isn't written any more.
fn sealed(name: &str, file: &dyn DiskFile) -> Result<(u64, Offset), BackupError> {
    let length = file.len()?;
    let foot = read_foot(file, length)?;
    let (contents, _) = foot.ok_or_else(|| BackupError::Damaged(format!("`{name}` has no good end")))?;
    Ok((length, contents.last))
}

/// The length up to which the last segment is whole, and its last offset. The bytes behind that may be half written.
fn whole(name: &str, file: &Arc<dyn DiskFile>) -> Result<(u64, Offset), BackupError> {
    let head = Head::decode(&read_up_to(&**file, 0, HEAD)?).map_err(|error| match error {
        FormatError::Damaged => BackupError::Damaged(format!("the head of `{name}` is not what was written")),
        FormatError::Newer(_) => BackupError::Damaged(format!("a newer version wrote `{name}`: use that one")),
    })?;
    let mut walk = Walk::new(Arc::clone(file), head, HEAD as u64, file.len()?, PIECE);
    let mut last = Offset(head.base.0.saturating_sub(1));
    loop {
        match walk.next() {
            Ok(Some((batch, _))) => last = batch.last,
            Ok(None) | Err(WalkError::Broken(_)) => return Ok((walk.position(), last)),
            Err(WalkError::Io(error)) => return Err(error.into()),
        }
    }
}

fn copy_bytes(from: &dyn DiskFile, to: &dyn DiskFile, end: u64) -> io::Result<()> {
    let mut at = 0;
    while at < end {
        let piece = read_up_to(from, at, PIECE.min((end - at) as usize))?;
        if piece.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        to.write_at(at, &piece)?;
        at += piece.len() as u64;
    }
    Ok(())
}

fn of_small_file(name: &str, error: MetaError) -> BackupError {
    match error {
        MetaError::Io(error) => BackupError::Io(error),
        MetaError::Damaged => BackupError::Damaged(format!("`{name}` fails its checksum")),
        MetaError::Newer(_) => BackupError::Damaged(format!("a newer version wrote `{name}`: use that one")),
    }
}
