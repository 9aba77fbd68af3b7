//! The set of a log's segments, which the writer, the readers and cleaning share.
//!
//! The set changes as a whole: first its names on the disk, then for readers; files that left it are removed last.

use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use everywire_base::cursor::{Offset, Partition};

use crate::clean::Cleaning;
use crate::disk::{Disk as _, Reserve, fill_with_zeros};
use crate::embedded::Options;
use crate::meta::write_names;
use crate::metrics::LogMetrics;
use crate::segment::Segment;

const BALLAST: &str = "ballast";
const BALLAST_BYTES: u64 = 256 << 10;

/// The number of the newest segments that keep their files open once they were read.
const OPEN_SEGMENTS: usize = 64;

pub(crate) struct Files {
    pub disk: Arc<Reserve>,
    pub options: Options,
    pub metrics: Arc<LogMetrics>,
    pub partition: Partition,
    /// Ascending; the last one may be the one that is written.
    segments: ArcSwap<Vec<Arc<Segment>>>,
    change: Mutex<()>,
    /// The number of bytes that were written since the start.
    pub growth: AtomicU64,
    /// Whether the disk is about to be full, so that cleaning should hurry.
    pub is_tight: AtomicBool,
    /// The offset up to which all records were to go because room was short.
    pub floor: AtomicU64,
    /// Whether nothing may change any more: another process may have the directory.
    pub is_closed: AtomicBool,
    /// See [`crate::engine::Archive::is_whole`].
    pub is_whole: AtomicBool,
    /// See [`crate::engine::Archive::lacks`].
    pub lacks: ArcSwapOption<(Offset, Offset)>,
    pub cleaning: Mutex<Cleaning>,
    /// The number in the name of the next segment, so that no name comes twice.
    salt: AtomicU64,
}

impl Files {
    pub(crate) fn new(
        disk: Arc<Reserve>,
        options: Options,
        metrics: Arc<LogMetrics>,
        segments: Vec<Arc<Segment>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            disk,
            options,
            metrics,
            partition: Partition(0),
            segments: ArcSwap::from_pointee(segments),
            change: Mutex::default(),
            growth: AtomicU64::new(0),
            is_tight: AtomicBool::new(false),
            floor: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            is_whole: AtomicBool::new(false),
            lacks: ArcSwapOption::empty(),
            cleaning: Mutex::default(),
            salt: AtomicU64::new(options.seed),
        })
    }

    pub(crate) fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.load_full()
    }

    /// A number that only one segment has.
    pub(crate) fn new_salt(&self) -> u64 {
        crate::mix(self.salt.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) ^ 0x5a17)
    }

    /// Adds the next segment. Only some of those before it keep their files open, and none when descriptors are short.
    pub(crate) fn add(&self, segment: Arc<Segment>) -> io::Result<()> {
        let kept_open = if self.disk.is_low() { 0 } else { OPEN_SEGMENTS };
        self.change(|segments| {
            segments.iter().rev().skip(kept_open).for_each(|segment| segment.close_file());
            segments.push(segment);
        })
    }

    /// Replaces adjacent segments with one or none, and removes their files.
    pub(crate) fn replace(&self, old: &[Arc<Segment>], new: Option<&Arc<Segment>>) -> io::Result<()> {
        let is_old = |segment: &Arc<Segment>| old.iter().any(|o| Arc::ptr_eq(o, segment));
        self.change(|segments| {
            let at = segments.iter().position(is_old).unwrap_or(segments.len());
            segments.retain(|segment| !is_old(segment));
            // A reader in the old segments needs their files open, since they lose their names.
            for segment in old {
                drop(segment.file());
            }
            if let Some(new) = new {
                segments.insert(at, Arc::clone(new));
            }
        })?;
        // A file that can't be removed now is removed at the next start, since it isn't in the set.
        for segment in old {
            let _ = self.disk.remove(&segment.name);
        }
        self.keep_ballast();
        Ok(())
    }

    fn change(&self, edit: impl FnOnce(&mut Vec<Arc<Segment>>)) -> io::Result<()> {
        let _guard = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let mut segments = self.segments.load().as_ref().clone();
        edit(&mut segments);
        let write = || write_names(&*self.disk, segments.iter().map(|s| s.name.as_str()));
        match write() {
            // The disk is full to the last byte: even freeing space needs some.
            Err(error) if error.kind() == ErrorKind::StorageFull && self.disk.remove(BALLAST).is_ok() => write()?,
            other => other?,
        }
        self.segments.store(Arc::new(segments));
        Ok(())
    }

    /// Keeps a small file that can be given up on a full disk.
    pub(crate) fn keep_ballast(&self) {
        if self.disk.open(BALLAST).is_err()
            && let Ok(file) = self.disk.create(BALLAST)
            && fill_with_zeros(&*file, BALLAST_BYTES, BALLAST_BYTES).is_err()
        {
            let _ = self.disk.remove(BALLAST);
        }
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.load().iter().map(|s| s.bytes()).sum()
    }

    /// The last record that any segment covers.
    pub(crate) fn last(&self) -> Offset {
        self.segments.load().iter().rev().find(|s| s.contents().records > 0).map_or(Offset::BEGINNING, |s| s.last())
    }

    /// The size that the next segment may have so that the reserve stays free; `None` if that isn't even `needed`.
    pub(crate) fn room_for_segment(&self, wanted: u64, needed: u64) -> io::Result<Option<u64>> {
        let available = self.free_beyond_reserve()?;
        let size = wanted.min(available / 4).max(needed);
        Ok((size <= available).then_some(size))
    }

    /// The free bytes beyond the reserve, which is kept for cleaning, the store and the small files.
    pub(crate) fn free_beyond_reserve(&self) -> io::Result<u64> {
        let space = self.disk.space()?;
        let reserve = self.options.reserve_bytes.min(space.total / 16);
        Ok(space.free.saturating_sub(reserve))
    }
}
