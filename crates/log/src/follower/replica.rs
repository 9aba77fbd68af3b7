//! A node's replica of a log elsewhere: the records that count, in segments, and the judge's state as of one of them.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use everywire_base::ask::PublishError;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::Record;
use everywire_base::topic::Topic;

use super::FollowError;
use super::reader::broken;
use super::snapshot::Snapshot;
use crate::appender::is_stored;
use crate::disk::{Disk, read_up_to};
use crate::engine::{Archive as _, ArchiveError};
use crate::files::Files;
use crate::journal::Journal;
use crate::judge::Judge;
use crate::meta;
use crate::writer::Writer;

/// The file of the judge's state.
const STATE: &str = "judge";
/// The file of the state before it, for an engine that has lost records that the newer one knows.
const STATE_BEFORE: &str = "judge.before";

/// The file of the last part of the log that the replica lacks.
const LACKS: &str = "lacks";

/// The most records that are kept at once.
const PIECE: usize = 512;
/// The most bytes that are scanned at once.
const SCAN_BYTES: usize = 1 << 20;

pub(super) struct Replica {
    disk: Arc<dyn Disk>,
    writer: Writer,
    /// The last record that is there.
    last: Offset,
    /// The offset of the judge's state that is written down.
    noted: Offset,
}

/// The judge's states that were written down, the newest first.
pub(super) fn read_states(disk: &dyn Disk) -> io::Result<Vec<(&'static str, Judge)>> {
    let mut judges = Vec::new();
    for name in [STATE, STATE_BEFORE] {
        let file = match disk.open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let bytes = read_up_to(&*file, 0, file.len()? as usize)?;
        let judge = Judge::decode(&Bytes::from(bytes));
        if judge.is_none() {
            tracing::error!("the file `{name}` beside the log fails its checksum, and isn't used");
        }
        judges.extend(judge.map(|judge| (name, judge)));
    }
    Ok(judges)
}

/// Whether a state of the judge was written down.
pub(super) fn has_notes(disk: &dyn Disk) -> bool {
    [STATE, STATE_BEFORE].into_iter().any(|name| disk.open(name).is_ok())
}

fn write_lacks(disk: &dyn Disk, (above, up_to): (Offset, Offset)) -> io::Result<()> {
    let mut bytes = [above.0.to_le_bytes(), up_to.0.to_le_bytes()].concat();
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    meta::replace(disk, LACKS, |file| file.write_at(0, &bytes))
}

fn read_lacks(disk: &dyn Disk) -> Option<(Offset, Offset)> {
    let bytes: [u8; 20] = read_up_to(&*disk.open(LACKS).ok()?, 0, 20).ok()?.try_into().ok()?;
    let (numbers, sum) = bytes.split_at(16);
    if crc32c::crc32c(numbers).to_le_bytes() != sum {
        tracing::error!("the file `{LACKS}` beside the log fails its checksum, and isn't used");
        return None;
    }
    let number = |at: usize| Some(Offset(u64::from_le_bytes(numbers.get(at..at + 8)?.try_into().ok()?)));
    Some((number(0)?, number(8)?))
}

impl Replica {
    pub(super) fn new(disk: Arc<dyn Disk>, writer: Writer, files: &Files) -> Self {
        let last = files.last();
        files.lacks.store(read_lacks(&*disk).map(Arc::new));
        Self { disk, writer, last, noted: Offset::BEGINNING }
    }

    /// Notes whether it was made just now, from the beginning of the log.
    pub(super) fn set_whole(&self, is_whole: bool) {
        self.writer.files().is_whole.store(is_whole, Ordering::Release);
    }

    pub(super) fn start(&mut self) {
        self.writer.start();
    }

    /// Goes on from `from`: records above it are read again, or were lost. It removes the `useless` states, which know
    /// of such records.
    pub(super) fn go_on(&mut self, from: Offset, useless: &[&str]) -> Result<(), ArchiveError> {
        useless.iter().try_for_each(|name| self.disk.remove(name))?;
        self.disk.sync_dir()?;
        self.writer.cut(from)
    }

    /// Goes on at a snapshot: adds the records that it lacks above `own`, see [`Snapshot::missing`].
    pub(super) fn take(&mut self, own: Offset, snapshot: &Snapshot, now: UnixMillis) -> Result<(), FollowError> {
        // A store that has applied more than the judge's state knew doesn't read the record that says so.
        let part = (own, snapshot.judge.at());
        write_lacks(&*self.disk, part).map_err(broken)?;
        self.writer.files().lacks.store(Some(Arc::new(part)));
        let retained = self.retained(own).map_err(|error| broken(io::Error::other(error)))?;
        let mut missing = snapshot.missing(own, retained);
        loop {
            let piece: Vec<_> = missing.by_ref().take(PIECE).collect();
            if piece.is_empty() {
                return Ok(());
            }
            self.keep(&piece, now).map_err(|error| broken(io::Error::other(error)))?;
        }
    }

    /// The offsets of the retained records that it has, by topic.
    fn retained(&self, up_to: Offset) -> Result<HashMap<Topic, Offset>, ArchiveError> {
        let (mut retained, mut after) = (HashMap::new(), Offset::BEGINNING);
        while after < up_to {
            let (records, reached) = self.writer.files().scan(after, up_to, SCAN_BYTES)?;
            for record in records {
                let Some(entry) = record.entry().filter(|entry| entry.is_retained()) else { continue };
                if entry.body().is_empty() {
                    retained.remove(entry.topic());
                } else {
                    retained.insert(entry.topic().clone(), record.offset);
                }
            }
            after = reached;
        }
        Ok(retained)
    }

    /// The offset as of which the judge's state is written down.
    pub(super) fn noted(&self) -> Offset {
        self.noted
    }

    /// Keeps the stored ones of these records. All of them or none.
    pub(super) fn keep(&mut self, records: &[Arc<Record>], now: UnixMillis) -> Result<(), PublishError> {
        let stored: Vec<Arc<Record>> = records.iter().filter(|record| is_stored(record)).cloned().collect();
        let (Some(first), Some(last)) = (stored.first(), stored.last()) else { return Ok(()) };
        let bytes = stored.iter().map(|record| record.encoded_len()).sum();
        self.writer.number(last.offset, now)?;
        self.writer.admit(Offset(first.offset.0 - 1), stored.len(), bytes, now)?;
        self.writer.write(&stored, now)?;
        self.last = last.offset;
        Ok(())
    }

    /// The disk, where other files are kept beside it.
    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Does repairs while no records come.
    pub(super) fn idle(&mut self, now: UnixMillis) {
        self.writer.idle(now);
    }

    /// Writes down the judge's state, if it has changed: behind records that are synced.
    pub(super) fn note(&mut self, judge: &Judge, now: UnixMillis) -> usize {
        if judge.at() == self.noted {
            return 0;
        }
        self.writer.idle(now);
        if !self.writer.is_synced() {
            return 0;
        }
        let bytes = judge.encode();
        // The file may not exist yet.
        let _ = self.disk.rename(STATE, STATE_BEFORE);
        let written = meta::replace(&*self.disk, STATE, |file| file.write_at(0, &bytes));
        match written {
            Ok(()) => self.noted = judge.at(),
            Err(error) => tracing::error!(%error, "what the judge knows can't be written down; it is tried again"),
        }
        bytes.len()
    }

    pub(super) fn close(&mut self, judge: &Judge, now: UnixMillis) {
        self.note(judge, now);
        self.writer.close(self.last, now);
    }
}
