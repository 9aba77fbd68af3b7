//! The engine `memory`: the same log without a disk. Its records are gone with the process.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everywire_base::ask::{Append, PublishError};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Lineage, Offset, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Record};

use crate::appender::{Appender, Known, Parts, is_stored};
use crate::engine::{Archive, ArchiveError, Bell, Engine};
use crate::journal::Journal;
use crate::metrics::LogMetrics;
use crate::queue::Queue;
use crate::tail::{Tail, TailWriter};

/// The engine without a disk.
pub struct Memory {
    queue: Arc<Queue>,
    tails: [Arc<Tail>; 1],
    lineage: Arc<Lineage>,
    kept: Arc<Kept>,
    metrics: Arc<LogMetrics>,
}

/// The options of a memory engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemoryOptions {
    /// The log's epoch; another one at each start, so that cursors of an earlier start can be told apart.
    pub epoch: Epoch,
    /// The most bytes that are kept; publishing stops there until the store gives records up.
    pub max_bytes: u64,
}

impl MemoryOptions {
    /// The default bound of a log.
    pub const MAX_BYTES: u64 = 1 << 30;

    /// Options with an epoch made of a random number.
    pub fn seeded(seed: u64) -> Self {
        Self { epoch: crate::epoch_of(seed), max_bytes: Self::MAX_BYTES }
    }
}

impl Memory {
    /// Makes an empty log and its appender.
    pub fn open(options: MemoryOptions, limits: &Limits, bell: Arc<dyn Bell>) -> (Arc<Self>, Appender) {
        let (queue, now) = (Arc::new(Queue::new(limits, Arc::clone(&bell))), bell.now());
        let tail = TailWriter::new(Offset::BEGINNING, limits);
        let kept = Arc::new(Kept::default());
        let metrics = Arc::new(LogMetrics::default());
        let engine = Arc::new(Self {
            queue: Arc::clone(&queue),
            tails: [Arc::clone(tail.tail())],
            lineage: Arc::new(Lineage { epoch: options.epoch, ..Lineage::default() }),
            kept: Arc::clone(&kept),
            metrics: Arc::clone(&metrics),
        });
        let journal = Box::new(MemoryJournal { kept, max_bytes: options.max_bytes });
        let (epoch, partition) = (options.epoch, Partition(0));
        let parts = Parts { queue, bell, tail, journal, metrics, epoch, partition };
        (engine, Appender::new(parts, limits, Known::new(limits), Offset::BEGINNING, now))
    }

    /// The metrics of the log.
    pub fn metrics(&self) -> &Arc<LogMetrics> {
        &self.metrics
    }
}

impl Engine for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn submit(&self, appends: &mut Vec<Append>) {
        self.queue.submit(appends);
    }

    fn tails(&self) -> &[Arc<Tail>] {
        &self.tails
    }

    fn lineage(&self, _: Partition) -> Arc<Lineage> {
        Arc::clone(&self.lineage)
    }

    fn archive(&self, _: Partition) -> Arc<dyn Archive> {
        Arc::clone(&self.kept) as _
    }

    fn promise(&self, wanted: Durability) -> Durability {
        promised_of_memory(wanted)
    }

    fn close(&self) {
        self.queue.begin_close();
        self.queue.wait_closed();
    }
}

fn promised_of_memory(wanted: Durability) -> Durability {
    if wanted == Durability::Fsync { Durability::Memory } else { wanted }
}

struct MemoryJournal {
    kept: Arc<Kept>,
    max_bytes: u64,
}

impl Journal for MemoryJournal {
    fn start(&mut self) {}

    fn number(&mut self, _: Offset, _: UnixMillis) -> Result<(), PublishError> {
        Ok(())
    }

    fn admit(&mut self, _: Offset, _: usize, bytes: usize, _: UnixMillis) -> Result<(), PublishError> {
        let fits = self.kept.bytes() + bytes as u64 <= self.max_bytes;
        if fits { Ok(()) } else { Err(PublishError::DiskFull) }
    }

    fn promise(&self, wanted: Durability) -> Durability {
        promised_of_memory(wanted)
    }

    fn write(&mut self, records: &[Arc<Record>], _: UnixMillis) -> Result<(), PublishError> {
        let mut blocks = self.kept.lock();
        for record in records.iter().filter(|r| is_stored(r)) {
            self.kept.bytes.fetch_add(weight(record), Ordering::AcqRel);
            match blocks.back_mut().filter(|block| block.len() < BLOCK) {
                Some(block) => block.push(Arc::clone(record)),
                None => blocks.push_back(vec![Arc::clone(record)]),
            }
        }
        Ok(())
    }

    fn idle(&mut self, _: UnixMillis) -> bool {
        false
    }

    fn close(&mut self, _: Offset, _: UnixMillis) {}
}

/// Records of a block; cleaning looks at one block after the other.
const BLOCK: usize = 1024;
/// The number of calls after which a pass begins at the latest.
const PASS_CALLS: u64 = 1000;
/// The most blocks that one cleaning looks at.
const CLEAN_BLOCKS: usize = 64;

/// The kept records: blocks, ascending, none empty.
#[derive(Default)]
struct Kept {
    blocks: Mutex<VecDeque<Vec<Arc<Record>>>>,
    bytes: AtomicU64,
    cleaning: Mutex<Cleaning>,
}

/// Cleaning goes from the oldest record to the newest, pass after pass.
#[derive(Default)]
struct Cleaning {
    /// The offset at which the pass goes on.
    at: Offset,
    calls: u64,
    /// The next pass begins when a record of `next_at` is applied, or with call `next_call`.
    next_at: Offset,
    next_call: u64,
    /// The offset up to which all records were to go because room was short, …
    floor: Offset,
    /// … and whether the pass that removes them isn't over.
    relieves: bool,
}

fn weight(record: &Record) -> u64 {
    record.weight() as u64 + 256
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Vec<Arc<Record>>>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The block that may hold this offset or a higher one.
fn block_of(blocks: &VecDeque<Vec<Arc<Record>>>, offset: Offset) -> usize {
    blocks.partition_point(|block| block.last().is_some_and(|r| r.offset < offset))
}

impl Archive for Kept {
    fn get(&self, offsets: &[Offset]) -> Result<Vec<Arc<Record>>, ArchiveError> {
        let blocks = self.lock();
        let find = |offset: &Offset| {
            let block = blocks.get(block_of(&blocks, *offset))?;
            let at = block.binary_search_by_key(offset, |r| r.offset).ok()?;
            Some(Arc::clone(&block[at]))
        };
        Ok(offsets.iter().filter_map(find).collect())
    }

    fn scan(&self, after: Offset, up_to: Offset, max_bytes: usize) -> Result<(Vec<Arc<Record>>, Offset), ArchiveError> {
        let blocks = self.lock();
        let (mut records, mut bytes) = (Vec::new(), 0);
        let kept = blocks.range(block_of(&blocks, after.next())..).flatten();
        for record in kept.filter(|r| r.offset > after).take_while(|r| r.offset <= up_to) {
            bytes += record.weight();
            records.push(Arc::clone(record));
            if bytes >= max_bytes {
                return Ok((records, record.offset));
            }
        }
        Ok((records, up_to))
    }

    fn last(&self) -> Offset {
        self.lock().back().and_then(|block| block.last()).map_or(Offset::BEGINNING, |r| r.offset)
    }

    fn clean(&self, applied: Offset, is_wanted: &mut dyn FnMut(&Record) -> bool) -> Result<u64, ArchiveError> {
        let mut cleaning = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        cleaning.calls += 1;
        let from = cleaning.at;
        if from == Offset::BEGINNING && applied < cleaning.next_at && cleaning.calls < cleaning.next_call {
            return Ok(0);
        }
        // The records are looked at without the lock, since the appender waits for it.
        let due: Vec<Arc<Record>> = {
            let blocks = self.lock();
            let sealed = blocks.range(block_of(&blocks, from)..).take(CLEAN_BLOCKS);
            sealed.flatten().filter(|r| r.offset > from && r.offset <= applied).cloned().collect()
        };
        let Some(last) = due.last().map(|r| r.offset) else {
            // The next pass waits until there is notably more, since a pass costs as much as there is.
            let kept: usize = self.lock().iter().map(Vec::len).sum();
            let (next_at, next_call) = (Offset(applied.0 + kept as u64 / 4 + 1), cleaning.calls + PASS_CALLS);
            (cleaning.at, cleaning.next_at, cleaning.next_call) = (Offset::BEGINNING, next_at, next_call);
            cleaning.relieves = false;
            return Ok(0);
        };
        cleaning.at = last;
        let unwanted: Vec<Offset> = due.iter().filter(|r| !is_wanted(r)).map(|r| r.offset).collect();
        let freed: u64 = {
            let mut blocks = self.lock();
            let (first, end) = (block_of(&blocks, due[0].offset), block_of(&blocks, last) + 1);
            let mut freed = 0;
            for block in blocks.range_mut(first..end) {
                block.retain(|record| {
                    let goes = unwanted.binary_search(&record.offset).is_ok();
                    freed += if goes { weight(record) } else { 0 };
                    !goes
                });
            }
            blocks.retain(|block| !block.is_empty());
            freed
        };
        self.bytes.fetch_sub(freed, Ordering::AcqRel);
        Ok(freed)
    }

    fn relieve(&self, bytes: u64, applied: Offset) -> Offset {
        let mut cleaning = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        if cleaning.relieves {
            return cleaning.floor;
        }
        // Records that a pass has left below the floor must stay.
        let (blocks, mut freed) = (self.lock(), 0);
        let floor = cleaning.floor;
        let above = blocks.range(block_of(&blocks, floor.next())..).flatten();
        for record in above.filter(|r| r.offset > floor).take_while(|r| r.offset <= applied) {
            if freed >= bytes {
                break;
            }
            freed += weight(record);
            cleaning.floor = record.offset;
        }
        (cleaning.at, cleaning.next_at, cleaning.relieves) = (Offset::BEGINNING, Offset::BEGINNING, true);
        cleaning.floor
    }

    fn is_whole(&self) -> bool {
        false
    }

    fn lacks(&self) -> Option<(Offset, Offset)> {
        None
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }
}
