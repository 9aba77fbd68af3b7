//! The state of a log besides its records, in three small files.
//!
//! * `meta`: two copies of epoch, lineage, holes, and the offset up to which numbers are reserved. Both are written and
//!   synced one after the other, so that one is always whole, and a rotten copy doesn't bring back an old state.
//! * `mark`: the high-water mark: the last record that was synced. Written after each sync but not synced itself: it
//!   survives the process, and the disk keeps it a little behind. `meta` has an older value that is synced.
//! * `segments`: the names of the segments; replaced as a whole, so that cleaning changes them at once.

use std::io;
use std::sync::Arc;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Lineage, Offset};

use crate::disk::{Disk, DiskFile, read_up_to};
use crate::format::{FORMAT, Numbers};

pub(crate) const META: &str = "meta";
pub(crate) const MARK: &str = "mark";
pub(crate) const SEGMENTS: &str = "segments";
/// The ending of files that a crash may leave behind.
pub(crate) const UNFINISHED: &str = ".tmp";

const SLOT: usize = 8192;
const MARK_SLOT: usize = 512;
/// Older holes are joined, so that a copy fits its slot.
const HOLES: usize = 256;
const PARENTS: usize = 128;

/// The content of `meta`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Meta {
    pub generation: u64,
    pub lineage: Lineage,
    /// The last offset that is reserved: offsets up to it may have been given.
    pub reserved: Offset,
    /// After a clean close the last offset that was given, else nothing.
    pub closed_at: Option<Offset>,
    /// The last record that was synced.
    pub synced: Offset,
    /// The time at which it was closed last.
    pub time: UnixMillis,
}

/// The reason why a small file can't be used.
#[derive(Debug)]
pub(crate) enum MetaError {
    Io(io::Error),
    Damaged,
    Newer(u32),
}

impl From<io::Error> for MetaError {
    fn from(error: io::Error) -> Self {
        MetaError::Io(error)
    }
}

/// A checked piece: magic, format version, checksum, length, content.
fn seal(magic: [u8; 8], content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + content.len());
    out.extend_from_slice(&magic);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(content.len() as u64).to_le_bytes());
    out.extend_from_slice(content);
    let crc = crc32c::crc32c(&out);
    out[12..16].copy_from_slice(&crc.to_le_bytes());
    out
}

fn unseal(magic: [u8; 8], bytes: &[u8]) -> Result<&[u8], MetaError> {
    let mut n = Numbers(bytes.strip_prefix(&magic).ok_or(MetaError::Damaged)?);
    let (format, crc, length) = (n.u32(), n.u32(), n.u64());
    let content = n.0.get(..length as usize).ok_or(MetaError::Damaged)?;
    let seeded = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &[0; 4]);
    if crc32c::crc32c_append(seeded, &bytes[16..24 + content.len()]) != crc {
        return Err(MetaError::Damaged);
    }
    if format > FORMAT { Err(MetaError::Newer(format)) } else { Ok(content) }
}

impl Meta {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let lineage = &self.lineage;
        let closed = self.closed_at.map_or(u64::MAX, |offset| offset.0);
        let counts = [lineage.parents.len() as u64, lineage.holes.len() as u64];
        let numbers =
            [self.generation, u64::from(lineage.epoch.0), self.reserved.0, closed, self.synced.0, self.time.0];
        let parents = lineage.parents.iter().flat_map(|(epoch, fork)| [u64::from(epoch.0), fork.0]);
        let holes = lineage.holes.iter().flat_map(|(first, last)| [first.0, last.0]);
        for number in numbers.into_iter().chain(counts).chain(parents).chain(holes) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        seal(*b"EWMETA\0\0", &out)
    }

    fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        let mut n = Numbers(unseal(*b"EWMETA\0\0", bytes)?);
        let (generation, epoch, reserved) = (n.u64(), Epoch(n.u64() as u32), Offset(n.u64()));
        let (closed, synced, time) = (n.u64(), Offset(n.u64()), UnixMillis(n.u64()));
        let (parents, holes) = (n.u64().min(PARENTS as u64), n.u64().min(HOLES as u64));
        let parents = (0..parents).map(|_| (Epoch(n.u64() as u32), Offset(n.u64()))).collect();
        let holes = (0..holes).map(|_| (Offset(n.u64()), Offset(n.u64()))).collect();
        let closed_at = (closed != u64::MAX).then_some(Offset(closed));
        Ok(Self { generation, lineage: Lineage { epoch, parents, holes }, reserved, closed_at, synced, time })
    }

    /// Records a hole; when there are too many, the two oldest become one, which may give a gap too often but never too
    /// seldom.
    pub(crate) fn add_hole(&mut self, first: Offset, last: Offset) {
        let holes = &mut self.lineage.holes;
        match holes.last_mut().filter(|hole| hole.1 >= first) {
            // No record was written between two crashes.
            Some(hole) => hole.1 = hole.1.max(last),
            None => holes.push((first, last)),
        }
        if holes.len() > HOLES {
            let (first, _) = holes.remove(0);
            holes[0].0 = first;
        }
    }

    /// Records the last offset of a former epoch; the oldest is forgotten when there are too many.
    pub(crate) fn add_parent(&mut self, epoch: Epoch, last: Offset) {
        let parents = &mut self.lineage.parents;
        for parent in parents.iter_mut() {
            parent.1 = parent.1.min(last);
        }
        parents.push((epoch, last));
        if parents.len() > PARENTS {
            parents.remove(0);
        }
    }

    /// Writes both copies.
    pub(crate) fn write(&mut self, file: &dyn DiskFile) -> io::Result<()> {
        self.generation += 1;
        let mut bytes = self.encode();
        bytes.resize(SLOT, 0);
        for slot in 0..2 {
            file.write_at(slot * SLOT as u64, &bytes)?;
            file.sync()?;
        }
        Ok(())
    }

    /// Reads the newer of the whole copies.
    pub(crate) fn read(file: &dyn DiskFile) -> Result<Self, MetaError> {
        let bytes = read_up_to(file, 0, 2 * SLOT)?;
        let (first, second) = bytes.split_at_checked(SLOT).unwrap_or((&bytes, &[]));
        match (Self::decode(first), Self::decode(second)) {
            (Ok(a), Ok(b)) => Ok(if a.generation >= b.generation { a } else { b }),
            (Err(MetaError::Newer(v)), _) | (_, Err(MetaError::Newer(v))) => Err(MetaError::Newer(v)),
            (Ok(meta), Err(_)) | (Err(_), Ok(meta)) => Ok(meta),
            (Err(error), Err(_)) => Err(error),
        }
    }
}

/// Replaces a small file in one step.
pub(crate) fn replace(
    disk: &dyn Disk,
    name: &str,
    fill: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = format!("{name}{UNFINISHED}");
    let new = disk.create(&unfinished)?;
    fill(&*new)?;
    new.sync()?;
    disk.rename(&unfinished, name)?;
    disk.sync_dir()
}

/// Writes the names of the segments.
pub(crate) fn write_names<'a>(disk: &dyn Disk, names: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let text = names.collect::<Vec<_>>().join("\n");
    replace(disk, SEGMENTS, |file| file.write_at(0, &seal(*b"EWNAMES\0", text.as_bytes())))
}

/// Reads the names of the segments.
pub(crate) fn read_names(file: &dyn DiskFile) -> Result<Vec<String>, MetaError> {
    let bytes = read_up_to(file, 0, file.len()? as usize)?;
    let text = std::str::from_utf8(unseal(*b"EWNAMES\0", &bytes)?).map_err(|_| MetaError::Damaged)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The high-water mark.
pub(crate) struct Mark {
    file: Arc<dyn DiskFile>,
    epoch: Epoch,
    slot: u64,
}

impl Mark {
    /// Opens or makes the file, and returns its offset; the beginning if it can't be read, since it is only a second
    /// witness.
    pub(crate) fn open(disk: &dyn Disk, epoch: Epoch) -> io::Result<(Self, Offset)> {
        let file = match disk.open(MARK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.create(MARK)?;
                file.write_at(0, &[0; 2 * MARK_SLOT])?;
                file.sync()?;
                file
            }
            other => other?,
        };
        let bytes = read_up_to(&*file, 0, 2 * MARK_SLOT)?;
        let read = |slot: &[u8]| {
            let mut n = Numbers(unseal(*b"EWMARK\0\0", slot).ok()?);
            (n.u64() == u64::from(epoch.0)).then(|| Offset(n.u64()))
        };
        let offset = bytes.chunks(MARK_SLOT).filter_map(read).max().unwrap_or_default();
        Ok((Self { file, epoch, slot: 0 }, offset))
    }

    /// Sets the epoch of the notes from now on.
    pub(crate) fn belongs_to(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// Notes that all records up to here are synced. A failure only leaves the mark lower.
    pub(crate) fn note(&mut self, synced: Offset) {
        let _ = self.write(synced);
    }

    /// Lowers the mark before records above it are removed. No older note comes back.
    pub(crate) fn lower(&mut self, synced: Offset) -> io::Result<()> {
        self.write(synced)?;
        self.write(synced)?;
        self.file.sync()
    }

    fn write(&mut self, synced: Offset) -> io::Result<()> {
        let mut content = [0; 16];
        content[..8].copy_from_slice(&u64::from(self.epoch.0).to_le_bytes());
        content[8..].copy_from_slice(&synced.0.to_le_bytes());
        self.file.write_at(self.slot * MARK_SLOT as u64, &seal(*b"EWMARK\0\0", &content))?;
        self.slot = 1 - self.slot;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SimDisk;

    fn meta() -> Meta {
        let lineage = Lineage {
            epoch: Epoch(7),
            parents: vec![(Epoch(5), Offset(100))],
            holes: vec![(Offset(1), Offset(2)), (Offset(9), Offset(12))],
        };
        let (reserved, closed_at, synced) = (Offset(1000), Some(Offset(77)), Offset(70));
        Meta { generation: 3, lineage, reserved, closed_at, synced, time: UnixMillis(1234) }
    }

    #[test]
    fn one_copy_is_enough_and_damage_to_both_is_seen() {
        let disk = SimDisk::new();
        let file = disk.create(META).unwrap();
        let mut meta = meta();
        meta.write(&*file).unwrap();
        for slot in [0, SLOT as u64] {
            disk.corrupt(META, slot + 30, 1);
            assert_eq!(Meta::read(&*file).unwrap(), meta);
            disk.corrupt(META, slot + 30, 1);
        }
        disk.corrupt(META, 30, 1);
        disk.corrupt(META, SLOT as u64 + 9, 1);
        assert!(matches!(Meta::read(&*file), Err(MetaError::Damaged)));
    }

    #[test]
    fn many_holes_are_joined_and_fit() {
        let mut meta = meta();
        for n in 0..1000 {
            meta.add_hole(Offset(100 + 10 * n), Offset(105 + 10 * n));
        }
        let disk = SimDisk::new();
        let file = disk.create(META).unwrap();
        meta.write(&*file).unwrap();
        assert_eq!(Meta::read(&*file).unwrap(), meta);
        assert_eq!((meta.lineage.holes.len(), meta.lineage.holes[0].0), (HOLES, Offset(1)));
    }

    #[test]
    fn the_mark_is_the_higher_of_two_and_of_the_same_epoch() {
        let disk = SimDisk::new();
        let (mut mark, at) = Mark::open(&disk, Epoch(7)).unwrap();
        assert_eq!(at, Offset(0));
        for n in 1..=5 {
            mark.note(Offset(n));
        }
        assert_eq!(Mark::open(&disk, Epoch(7)).unwrap().1, Offset(5));
        assert_eq!(Mark::open(&disk, Epoch(8)).unwrap().1, Offset(0));
    }

    #[test]
    fn names_are_read_back_or_refused() {
        let disk = SimDisk::new();
        write_names(&disk, ["a.seg", "b.seg"].into_iter()).unwrap();
        let read = || read_names(&*disk.open(SEGMENTS).unwrap());
        assert_eq!(read().unwrap(), ["a.seg", "b.seg"]);
        disk.corrupt(SEGMENTS, 25, 0);
        assert!(matches!(read(), Err(MetaError::Damaged)));
    }
}
