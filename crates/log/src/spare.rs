//! The next segment's file, made ready ahead of need: filled with zeros, so that commits overwrite (which syncs faster)
//! and a full disk is noticed before the last byte. The first one after a start is small: its commit waits for it, and
//! a log with few records shall be small.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Sender, bounded};

use crate::disk::{Disk as _, DiskFile, fill_with_zeros};
use crate::files::Files;
use crate::meta::UNFINISHED;

/// A file full of zeros.
pub(crate) struct Spare {
    pub name: String,
    pub file: Arc<dyn DiskFile>,
    pub length: u64,
}

/// Keeps one spare, made by a thread of its own or when it is asked for.
pub(crate) struct Spares {
    files: Arc<Files>,
    ready: Arc<Mutex<Option<Spare>>>,
    helper: Option<Sender<u64>>,
    /// Whether the helper has an order.
    is_ordered: bool,
    /// The length of the next one.
    length: u64,
}

fn lock(ready: &Mutex<Option<Spare>>) -> MutexGuard<'_, Option<Spare>> {
    ready.lock().unwrap_or_else(PoisonError::into_inner)
}

fn make(files: &Files, wanted: u64, needed: u64, sync_every: u64) -> io::Result<Option<Spare>> {
    let Some(length) = files.room_for_segment(wanted, needed)? else { return Ok(None) };
    let name = format!("spare-{:016x}{UNFINISHED}", files.new_salt());
    let file = files.disk.create(&name)?;
    match fill_with_zeros(&*file, length, sync_every) {
        Ok(()) => Ok(Some(Spare { name, file, length })),
        Err(error) => {
            let _ = files.disk.remove(&name);
            Err(error)
        }
    }
}

impl Spares {
    pub(crate) fn new(files: Arc<Files>) -> Self {
        let length = FIRST.min(files.options.segment_bytes);
        Self { files, ready: Arc::default(), helper: None, is_ordered: false, length }
    }

    /// Starts a thread that makes the spares from now on.
    pub(crate) fn spawn_helper(&mut self) {
        let (orders, inbox) = bounded::<u64>(1);
        let (files, ready) = (Arc::clone(&self.files), Arc::clone(&self.ready));
        let spawned = std::thread::Builder::new().name("everywire-spare".into()).spawn(move || {
            // The loop ends with the appender, which holds the sender.
            for length in inbox {
                if lock(&ready).is_none()
                    && let Ok(Some(spare)) = make(&files, length, length.min(MIN_SPARE), GENTLE)
                {
                    *lock(&ready) = Some(spare);
                }
            }
        });
        self.helper = spawned.is_ok().then_some(orders);
    }

    /// Makes a spare at a good moment.
    pub(crate) fn prepare(&mut self) {
        if lock(&self.ready).is_some() {
            self.is_ordered = false;
            return;
        }
        if let Some(orders) = &self.helper {
            self.is_ordered = orders.try_send(self.length).is_ok();
        } else {
            let made = make(&self.files, self.length, self.length.min(MIN_SPARE), u64::MAX);
            *lock(&self.ready) = made.ok().flatten();
        }
    }

    /// Removes the spare, when none is needed any more.
    pub(crate) fn discard(&mut self) {
        self.helper = None;
        if let Some(spare) = lock(&self.ready).take() {
            let _ = self.files.disk.remove(&spare.name);
        }
    }

    /// Makes a spare if one is due.
    pub(crate) fn prepare_when(&mut self, is_due: impl FnOnce() -> bool) {
        if !self.is_ordered && is_due() {
            self.prepare();
        }
    }

    /// The spare, or one made on the spot; `None` if the disk has no room for it.
    pub(crate) fn take(&mut self, needed: u64) -> io::Result<Option<Spare>> {
        self.is_ordered = false;
        let ready = lock(&self.ready).take();
        let taken = match ready {
            Some(spare) if spare.length >= needed => Ok(Some(spare)),
            unfit => {
                if let Some(spare) = unfit {
                    let _ = self.files.disk.remove(&spare.name);
                }
                make(&self.files, self.length, needed, u64::MAX)
            }
        };
        self.length = (self.length * GROWTH).min(self.files.options.segment_bytes);
        taken
    }
}

/// The longest first spare.
const FIRST: u64 = 1 << 20;
/// The factor by which each may be longer than the one before, up to the bound.
const GROWTH: u64 = 8;
/// The shortest spare that is worth it.
const MIN_SPARE: u64 = 256 << 10;
/// The bytes between two syncs of the helper while commits go on.
const GENTLE: u64 = 2 << 20;
