//! A log on a simulated disk that a test steps by hand.

use std::sync::Arc;

use everywire_base::ask::{Append, Outcome, PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message, Record};
use everywire_log::disk::{Disk, SimDisk};
use everywire_log::embedded::{Embedded, Options};
use everywire_log::engine::{Archive, ArchiveError, Engine};
use everywire_log::suite::{Recorder, append, message};
use everywire_log::{Appender, OpenError};

/// An open log.
pub(crate) struct World {
    pub(crate) engine: Arc<Embedded>,
    pub(crate) appender: Appender,
    pub(crate) bell: Arc<Recorder>,
    now: u64,
    seen: usize,
}

/// Options that are small enough to give a test several segments and reservations.
pub(crate) fn options(seed: u64) -> Options {
    Options { segment_bytes: 24 << 10, reserve_offsets: 50, reserve_bytes: 4 << 10, ..Options::seeded(seed) }
}

impl World {
    pub(crate) fn open(disk: &SimDisk, seed: u64, now: u64) -> Result<Self, OpenError> {
        let bell = Recorder::new(UnixMillis(now));
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let (engine, appender) = Embedded::open(disk, options(seed), &Limits::default(), Arc::clone(&bell) as _)?;
        Ok(Self { engine, appender, bell, now, seen: 0 })
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    pub(crate) fn pass(&mut self, millis: u64) {
        self.now += millis;
        self.bell.set_now(UnixMillis(self.now));
    }

    /// Submits these appends, takes one turn, and returns the answers.
    pub(crate) fn publish(&mut self, mut appends: Vec<Append>) -> Vec<Outcome> {
        self.engine.submit(&mut appends);
        assert!(appends.is_empty(), "the queue has room");
        self.appender.turn();
        let tail = &self.engine.tails()[0];
        tail.set_applied(tail.head());
        let outcomes = self.bell.outcomes();
        let new = outcomes[self.seen..].iter().map(|(_, outcome)| outcome.clone()).collect();
        self.seen = outcomes.len();
        new
    }

    /// Publishes one message with a body of that length.
    pub(crate) fn publish_one(&mut self, number: u32, length: usize) -> Result<Published, PublishError> {
        let message = Message { body: vec![number as u8; length].into(), ..message("t", number) };
        self.publish(vec![append(number, Durability::Fsync, message)])[0].result
    }

    pub(crate) fn archive(&self) -> Arc<dyn Archive> {
        self.engine.archive(Partition(0))
    }

    pub(crate) fn kept(&self) -> Result<Vec<Arc<Record>>, ArchiveError> {
        let archive = self.archive();
        let (mut records, mut after, end) = (Vec::new(), Offset::BEGINNING, archive.last());
        while after < end {
            let (page, to) = archive.scan(after, end, 3000)?;
            assert!(to > after, "the scan goes on");
            records.extend(page);
            after = to;
        }
        Ok(records)
    }
}

/// A small generator of numbers from a seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % sides
    }
}
