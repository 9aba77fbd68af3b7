//! The keeper: takes snapshots of the log, and has the engine trim records that no node needs.
//!
//! One node does so: the living one whose life has the lowest number. All nodes read that from the log, so no record has
//! to claim the right to it, and it goes on to another one with the record that ends the life. A node that lives and
//! can't do it, since its store is behind, is stood in for: each other node looks for a new snapshot after two thirds of
//! the window, and takes one if there is none. If two nodes take one, there are more snapshots, and no harm. The first
//! takes one after a third of the window, and two are kept.
//!
//! Records go that lie below the window, below both snapshots and below the notes of every living node. So a new node
//! finds a snapshot and all records above it, and a node that was killed goes on from its own notes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use everywire_base::clock::Monotonic;
use everywire_base::cursor::Offset;

use super::snapshot::{self, Listed};
use super::{Shared, lock};
use crate::engine::Link;
use crate::remote::{Remote, RemoteError, Window};

/// The time between two samples.
const SAMPLE: Duration = Duration::from_secs(1);
/// The delay before another attempt after a failure.
const AGAIN: Duration = Duration::from_secs(5);
/// The number of snapshots that are kept.
const KEPT: usize = 2;

/// The state that reader and keeper share.
pub(super) struct Kept {
    /// The number that tells the log from every other one.
    pub log: u64,
    /// The offset up to which all records are judged and shown.
    pub judged: AtomicU64,
    /// The bytes of the records that were read since the start.
    pub read_bytes: AtomicU64,
    /// The offset from which the node goes on at the latest if it is killed.
    pub synced: AtomicU64,
    /// The keeper's request to the reader.
    pub capture: Mutex<Capture>,
}

impl Kept {
    pub(super) fn new(log: u64, judged: Offset, synced: Offset) -> Self {
        let number = |offset: Offset| AtomicU64::new(offset.0);
        let (judged, synced) = (number(judged), number(synced));
        Self { log, judged, read_bytes: AtomicU64::new(0), synced, capture: Mutex::default() }
    }
}

/// A request for the judge's state as of some offset, and the reader's answer.
#[derive(Default)]
pub(super) struct Capture {
    pub is_wanted: bool,
    pub taken: Option<Captured>,
}

/// The judge's state at an offset.
pub(super) struct Captured {
    /// The offset up to which all records are judged, …
    pub at: Offset,
    /// … and the last of these offsets that the tail has shown.
    pub shown: Offset,
    pub judge: Bytes,
}

/// Takes snapshots and trims the log. May block; it has a thread of its own, or is stepped.
pub struct Keeper {
    remote: Box<dyn Remote>,
    shared: Arc<Shared>,
    window: Window,
    writer: u64,
    is_open: bool,
    /// Samples of the log's head and size, the oldest first.
    samples: VecDeque<Sample>,
    /// The offsets of the present snapshots, the newest first.
    snapshots: Vec<Offset>,
    /// The sample at which the newest snapshot was first seen.
    since: Sample,
    /// The offset up to which this keeper has trimmed the log.
    trimmed: Offset,
    /// The time before which nothing is tried after a failure.
    next: Monotonic,
}

#[derive(Clone, Copy)]
struct Sample {
    when: Monotonic,
    at: Offset,
    bytes: u64,
}

/// Gives the records from which all that is retained at an offset can be made. Its arguments are that offset, and the
/// last one that the store must have applied for it. `None` if the records can't be had now.
pub type Foundations<'a> = dyn FnMut(Offset, Offset) -> Option<Listed> + 'a;

impl Keeper {
    pub(super) fn new(remote: Box<dyn Remote>, shared: Arc<Shared>, window: Window) -> Self {
        let writer = shared.flight().writer;
        let now = shared.now();
        let since = Sample { when: now, at: Offset::BEGINNING, bytes: 0 };
        let (samples, snapshots, trimmed) = (VecDeque::new(), Vec::new(), Offset::BEGINNING);
        Self { remote, shared, window, writer, is_open: false, samples, snapshots, since, trimmed, next: now }
    }

    /// Takes a snapshot and trims the log, if this node does so and it is time.
    pub fn turn(&mut self, foundations: &mut Foundations<'_>) {
        let now = self.sample();
        let is_first = self.shared.roster.load().first() == Some(self.writer);
        let thirds = if is_first { 1 } else { 2 };
        let age = now.0.saturating_sub(self.since.when.0) / 1000;
        let is_known = is_first && !self.snapshots.is_empty();
        self.shared.metrics.snapshot_age.set(if is_known { age } else { 0 });
        let has_work = is_first || self.is_due(now, thirds);
        if !has_work || self.shared.link() != Link::Up || now < self.next {
            return;
        }
        if let Err(error) = self.try_turn(now, thirds, foundations) {
            tracing::warn!(%error, "snapshots of the log can't be taken, or it can't be let go of; it is tried again");
            self.is_open = false;
            self.next = now + AGAIN;
        }
    }

    fn sample(&mut self) -> Monotonic {
        let now = self.shared.now();
        if self.samples.back().is_none_or(|last| last.when + SAMPLE <= now) {
            let sample = self.here(now);
            self.samples.push_back(sample);
        }
        while self.samples.get(1).is_some_and(|sample| self.is_old(sample, now)) {
            self.samples.pop_front();
        }
        now
    }

    /// Whether the records below a sample lie outside the window.
    fn is_old(&self, sample: &Sample, now: Monotonic) -> bool {
        let bytes = self.here(now).bytes;
        sample.when + self.window.age <= now || bytes.saturating_sub(sample.bytes) >= self.window.bytes
    }

    fn here(&self, when: Monotonic) -> Sample {
        let at = Offset(self.shared.kept.judged.load(Ordering::Acquire));
        Sample { when, at, bytes: self.shared.kept.read_bytes.load(Ordering::Acquire) }
    }

    fn try_turn(&mut self, now: Monotonic, thirds: u32, foundations: &mut Foundations<'_>) -> Result<(), RemoteError> {
        if !self.is_open {
            self.remote.open(None)?;
            self.is_open = true;
            self.look(now)?;
        }
        let captured = lock(&self.shared.kept.capture).taken.take();
        if let Some(captured) = captured {
            if let Some(listed) = foundations(captured.at, captured.shown) {
                let name = snapshot::name(self.shared.kept.log, captured.at, self.writer);
                let (records, bytes) = (listed.count(), snapshot::encode(&captured.judge, listed));
                tracing::info!(at = %captured.at, records, bytes = bytes.len(), "a snapshot is taken");
                let metrics = &self.shared.metrics;
                metrics.snapshot_bytes.set(bytes.len() as u64);
                self.remote.blobs().put(&name, bytes)?;
                metrics.snapshots.add(1);
                self.look(now)?;
            }
        } else if self.is_due(now, thirds) {
            // Another node may have taken a snapshot.
            self.look(now)?;
            lock(&self.shared.kept.capture).is_wanted = self.is_due(now, thirds);
        }
        self.let_go(now)
    }

    /// Lists the snapshots, and removes all but the newest.
    fn look(&mut self, now: Monotonic) -> Result<(), RemoteError> {
        let names = snapshot::names(self.remote.blobs(), self.shared.kept.log)?;
        for (_, name) in names.iter().skip(KEPT) {
            self.remote.blobs().remove(name)?;
        }
        let snapshots: Vec<Offset> = names.iter().take(KEPT).map(|(at, _)| *at).collect();
        if snapshots.first() != self.snapshots.first() {
            self.since = self.here(now);
        }
        self.snapshots = snapshots;
        Ok(())
    }

    /// Whether the newest snapshot lies so many thirds of the window back, as far as this node knows.
    fn is_due(&self, now: Monotonic, thirds: u32) -> bool {
        let here = self.here(now);
        let is_late = self.since.when + self.window.age / 3 * thirds <= now && here.at > self.since.at;
        is_late || here.bytes - self.since.bytes >= (self.window.bytes / 3 * u64::from(thirds)).max(1)
    }

    /// Trims records that lie below the window and that no node needs any more.
    fn let_go(&mut self, now: Monotonic) -> Result<(), RemoteError> {
        let oldest = self.samples.front().filter(|sample| self.is_old(sample, now));
        let Some(old) = oldest.map(|sample| sample.at) else { return Ok(()) };
        let Some(snapshot) = self.snapshots.get(KEPT - 1).filter(|_| self.window.is_trimmed) else { return Ok(()) };
        let synced = self.shared.roster.load().lives().map(|life| life.synced).min().unwrap_or_default();
        let below = old.min(*snapshot).min(synced);
        if below > self.trimmed {
            self.remote.trim(below)?;
            self.shared.metrics.trims.add(1);
            self.trimmed = below;
        }
        Ok(())
    }
}
