//! The tail: the log's shared recent window, with its head mark.
//!
//! One engine thread writes, all workers and the store read. Nobody locks: records stand in chunks whose places are
//! filled once, the list of chunks is replaced as a whole, and the head mark is moved after the records are in place.
//! The window is bounded by records and by bytes, and drops only records that the store has applied. Records on the
//! server's own topics are not read here later: they are dropped as soon as every worker has them, and never before. A
//! worker that falls out of the window reads messages from the store, but kicks and claims are nowhere else.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use everywire_base::cursor::Offset;
use everywire_base::kept::Kept;
use everywire_base::limits::Limits;
use everywire_base::record::{Entry, Record};
use everywire_base::topic::{Filter, Topic};

mod debts;
mod progress;

pub use self::debts::{Board, Debts};
pub use self::progress::Progress;

const CHUNK_RECORDS: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;
const HEADS: usize = 1 << 16;

/// The shared recent window of one partition.
pub struct Tail {
    window: ArcSwap<Window>,
    /// The head mark: all records up to here may be delivered.
    head: AtomicU64,
    /// The last record that the store has applied.
    applied: AtomicU64,
    progress: Progress,
    /// The highest offset of any topic with each hash: never too low.
    heads: Box<[AtomicU64]>,
    /// The last retained record on a public topic.
    retained: AtomicU64,
    /// The kept bytes by their payers, as the store counts them.
    kept: Arc<Kept>,
    /// The offset up to which each worker has read, if they report it.
    readers: OnceLock<Box<[AtomicU64]>>,
    /// The messages that members of groups owe.
    debts: Board,
    /// The observer that sees each record before all others.
    watch: OnceLock<Arc<dyn Watch>>,
    max_records: usize,
    max_bytes: usize,
}

/// Sees every record of a log, in order, before any reader does; on the thread that shows them.
pub trait Watch: Send + Sync {
    /// Sees the next record.
    fn see(&self, record: &Record);
}

#[derive(Default)]
struct Window {
    chunks: Vec<Arc<Chunk>>,
    /// The records that the window has dropped and some worker must still have, in order.
    unread: Vec<Arc<Record>>,
}

struct Chunk {
    /// The offset of the first place.
    first: Offset,
    places: Box<[OnceLock<Arc<Record>>]>,
    bytes: AtomicU64,
    /// Whether a record of it may be wanted later.
    lasts: AtomicBool,
    /// The number of places that were filled when the next chunk was begun.
    sealed: OnceLock<usize>,
}

/// The memory that a record takes, about.
fn weight(record: &Record) -> usize {
    record.weight() + 256
}

/// Whether it stands on a topic of the server's own.
fn is_servers(record: &Record) -> bool {
    record.entry().is_some_and(|entry| entry.topic().is_servers())
}

impl Window {
    fn start(&self) -> Option<Offset> {
        self.chunks.first().map(|chunk| Offset(chunk.first.0 - 1))
    }

    fn unread_above(&self, after: Offset) -> &[Arc<Record>] {
        &self.unread[self.unread.partition_point(|record| record.offset <= after)..]
    }
}

impl Chunk {
    fn new(first: Offset) -> Arc<Self> {
        let places = (0..CHUNK_RECORDS).map(|_| OnceLock::new()).collect();
        Arc::new(Self {
            first,
            places,
            bytes: AtomicU64::new(0),
            lasts: AtomicBool::new(false),
            sealed: OnceLock::new(),
        })
    }
}

impl Tail {
    /// A tail for a log whose last record is `last`, with nothing in its window.
    pub fn new(last: Offset, limits: &Limits) -> Self {
        Self {
            window: ArcSwap::default(),
            head: AtomicU64::new(last.0),
            applied: AtomicU64::new(0),
            progress: Progress::new(last),
            heads: (0..HEADS).map(|_| AtomicU64::new(last.0)).collect(),
            retained: AtomicU64::new(0),
            kept: Arc::default(),
            readers: OnceLock::new(),
            debts: Board::default(),
            watch: OnceLock::new(),
            max_records: limits.tail_records,
            max_bytes: limits.tail_bytes,
        }
    }

    /// The kept bytes of this partition by their payers. The store writes them.
    pub fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// The head mark: all records up to here may be delivered.
    pub fn head(&self) -> Offset {
        Offset(self.head.load(Ordering::Acquire))
    }

    /// Whether all up to an offset is known. The offset may lie behind the head, where nothing counts yet; if it lies
    /// behind all that was read, another node may have come further.
    pub fn knows(&self, offset: Offset) -> bool {
        offset <= self.head() || offset <= self.progress.read_to()
    }

    /// The progress in a log elsewhere.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The last offset that the store has applied.
    pub fn applied(&self) -> Offset {
        Offset(self.applied.load(Ordering::Acquire))
    }

    /// Notes the last offset that the store has applied.
    pub fn set_applied(&self, offset: Offset) {
        self.applied.fetch_max(offset.0, Ordering::AcqRel);
    }

    /// Sets the number of workers that read, and will report their offsets.
    pub fn set_readers(&self, readers: usize) {
        let head = self.head().0;
        // Only the first call counts.
        let _ = self.readers.set((0..readers).map(|_| AtomicU64::new(head)).collect());
        self.debts.set_workers(readers);
    }

    /// Sets the observer, which sees each record from now on before it can be read.
    pub fn set_watch(&self, watch: Arc<dyn Watch>) {
        // Only the first call counts.
        let _ = self.watch.set(watch);
    }

    /// Notes that a worker has read everything up to here.
    pub fn has_read(&self, reader: usize, up_to: Offset) {
        if let Some(mark) = self.readers.get().and_then(|readers| readers.get(reader)) {
            mark.store(up_to.0, Ordering::Release);
        }
    }

    /// The debts of members of groups.
    pub fn debts(&self) -> &Board {
        &self.debts
    }

    /// The offset up to which all workers have read; without workers there is no bound.
    fn read_by_all(&self) -> u64 {
        let readers = self.readers.get().map_or(&[][..], |readers| readers);
        readers.iter().map(|mark| mark.load(Ordering::Acquire)).min().unwrap_or(u64::MAX)
    }

    /// The offset from which on a reader can go on from the window alone.
    pub fn start(&self) -> Offset {
        self.window.load().start().unwrap_or_else(|| self.head())
    }

    /// For a worker that has fallen out of the window: the offset at which it can go on, and the records on the
    /// server's own topics up to there.
    pub fn missed(&self, after: Offset) -> (Offset, Vec<Arc<Record>>) {
        let window = self.window.load();
        let start = window.start().unwrap_or_else(|| self.head());
        (start, window.unread_above(after).to_vec())
    }

    /// Whether a topic certainly has no message above `after`. A `false` may be wrong and costs a read.
    pub fn is_quiet_since(&self, topic: &Topic, after: Offset) -> bool {
        self.heads[topic.stable_hash() as usize % HEADS].load(Ordering::Acquire) <= after.0
    }

    /// Whether a record that the store hasn't applied may be retained on a topic that the filter takes.
    pub fn may_retain(&self, filter: &Filter) -> bool {
        let applied = self.applied();
        match filter {
            Filter::Exact(topic) => !self.is_quiet_since(topic, applied),
            Filter::Wild(_) => self.retained.load(Ordering::Acquire) > applied.0,
        }
    }

    /// Hands the records above `after` and up to `up_to` (at most the head mark) to `take`, in order, until it returns
    /// `false`. Returns whether the window reached back far enough; if not, nothing was handed over.
    pub fn read(&self, after: Offset, up_to: Offset, mut take: impl FnMut(&Arc<Record>) -> bool) -> bool {
        let up_to = up_to.min(self.head());
        if after >= up_to {
            return true;
        }
        let chunks = &self.window.load().chunks;
        // The chunk before the first one that begins above `after.next()`.
        let at = chunks.partition_point(|c| c.first <= after.next());
        if at == 0 {
            return false;
        }
        for chunk in &chunks[at - 1..] {
            let from = (after.0 + 1).saturating_sub(chunk.first.0) as usize;
            for place in chunk.places.iter().skip(from) {
                let Some(record) = place.get() else { break };
                if record.offset > up_to {
                    return true;
                }
                if !take(record) {
                    return true;
                }
            }
        }
        true
    }

    /// Adds the next records, ascending and without holes among them, and moves the head mark. Only for the engine's
    /// one thread: engines guard it by owning a [`TailWriter`].
    fn push(&self, records: Vec<Arc<Record>>) {
        let Some(last) = records.last().map(|r| r.offset) else { return };
        if let Some(watch) = self.watch.get() {
            for record in &records {
                watch.see(record);
            }
        }
        for record in records {
            if let Some(entry) = record.entry() {
                self.heads[entry.topic().stable_hash() as usize % HEADS].fetch_max(record.offset.0, Ordering::AcqRel);
                if matches!(entry, Entry::Message(message) if message.retain) {
                    self.retained.fetch_max(record.offset.0, Ordering::AcqRel);
                }
            }
            self.place(record);
        }
        self.head.store(last.0, Ordering::Release);
    }

    fn place(&self, record: Arc<Record>) {
        let window = self.window.load();
        let weight = weight(&record) as u64;
        let fits = |chunk: &&Arc<Chunk>| {
            let index = (record.offset.0 - chunk.first.0) as usize;
            index < CHUNK_RECORDS
                && (index == 0 || chunk.places[index - 1].get().is_some())
                && (index == 0 || chunk.bytes.load(Ordering::Relaxed) + weight <= CHUNK_BYTES as u64)
        };
        let chunk = match window.chunks.last().filter(fits) {
            Some(chunk) => Arc::clone(chunk),
            None => self.begin_chunk(&window, record.offset),
        };
        chunk.bytes.fetch_add(weight, Ordering::Relaxed);
        if !is_servers(&record) {
            chunk.lasts.store(true, Ordering::Relaxed);
        }
        let index = (record.offset.0 - chunk.first.0) as usize;
        // Each place is filled once: offsets only go up.
        let _ = chunk.places[index].set(record);
    }

    fn begin_chunk(&self, window: &Window, first: Offset) -> Arc<Chunk> {
        if let Some(last) = window.chunks.last() {
            let _ = last.sealed.set(last.places.iter().take_while(|p| p.get().is_some()).count());
        }
        let (gone, kept) = window.chunks.split_at(self.surplus(&window.chunks));
        let chunk = Chunk::new(first);
        let chunks = kept.iter().chain([&chunk]).cloned().collect();
        let read = Offset(self.read_by_all());
        let left = gone.iter().flat_map(|chunk| &chunk.places).filter_map(OnceLock::get);
        let left = left.filter(|record| record.offset > read && is_servers(record));
        let unread = window.unread_above(read).iter().chain(left).cloned().collect();
        self.window.store(Arc::new(Window { chunks, unread }));
        chunk
    }

    /// Whether more is kept for some worker than the window takes.
    fn keeps_too_much_unread(&self) -> bool {
        let window = self.window.load();
        let is_over = |unread: &[Arc<Record>]| {
            let bytes: usize = unread.iter().map(|record| weight(record)).sum();
            unread.len() > self.max_records || bytes > self.max_bytes
        };
        !window.unread.is_empty() && is_over(window.unread_above(Offset(self.read_by_all())))
    }

    /// The number of the oldest chunks that the window can drop.
    fn surplus(&self, chunks: &[Arc<Chunk>]) -> usize {
        let (applied, read) = (self.applied(), self.read_by_all());
        let filled = |c: &Arc<Chunk>| c.sealed.get().copied().unwrap_or(CHUNK_RECORDS);
        let mut records: usize = chunks.iter().map(filled).sum();
        let mut bytes: u64 = chunks.iter().map(|c| c.bytes.load(Ordering::Relaxed)).sum();
        let mut surplus = 0;
        for chunk in chunks {
            let last = chunk.first.0 + filled(chunk) as u64 - 1;
            let is_over = records > self.max_records || bytes > self.max_bytes as u64;
            let is_done = !chunk.lasts.load(Ordering::Relaxed) && last <= read;
            if !(is_over || is_done) || last > applied.0 {
                break;
            }
            records -= filled(chunk);
            bytes -= chunk.bytes.load(Ordering::Relaxed);
            surplus += 1;
        }
        surplus
    }

    /// The bytes in the window, and of the records that are kept beside it.
    pub fn bytes(&self) -> u64 {
        let window = self.window.load();
        let chunks = window.chunks.iter().map(|c| c.bytes.load(Ordering::Relaxed));
        chunks.chain(window.unread.iter().map(|record| weight(record) as u64)).sum()
    }
}

/// The one writer of a tail.
pub struct TailWriter {
    tail: Arc<Tail>,
    /// For each push that the store has perhaps not applied yet: its last offset, records and bytes.
    unapplied: VecDeque<(Offset, usize, usize)>,
    unapplied_records: usize,
    unapplied_bytes: usize,
}

impl TailWriter {
    /// Makes a tail and its one writer.
    pub fn new(last: Offset, limits: &Limits) -> Self {
        Self {
            tail: Arc::new(Tail::new(last, limits)),
            unapplied: VecDeque::new(),
            unapplied_records: 0,
            unapplied_bytes: 0,
        }
    }

    /// The tail for readers.
    pub fn tail(&self) -> &Arc<Tail> {
        &self.tail
    }

    /// Adds the next records, ascending, and moves the head mark past them.
    pub fn push(&mut self, records: Vec<Arc<Record>>) {
        let Some(last) = records.last().map(|r| r.offset) else { return };
        let (count, bytes) = (records.len(), records.iter().map(|r| weight(r)).sum());
        self.unapplied.push_back((last, count, bytes));
        self.unapplied_records += count;
        self.unapplied_bytes += bytes;
        self.tail.push(records);
    }

    /// Whether the window is over a bound with records that the store has not applied, so that it can drop none, or
    /// with records that some worker must have.
    pub fn is_full(&mut self) -> bool {
        let applied = self.tail.applied();
        while let Some((_, records, bytes)) = self.unapplied.pop_front_if(|push| push.0 <= applied) {
            self.unapplied_records -= records;
            self.unapplied_bytes -= bytes;
        }
        let waits_for_store =
            self.unapplied_records >= self.tail.max_records || self.unapplied_bytes >= self.tail.max_bytes;
        waits_for_store || self.tail.keeps_too_much_unread()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use everywire_base::clock::UnixMillis;
    use everywire_base::cursor::Partition;
    use everywire_base::record::{Content, Durability, Message};

    use super::*;

    fn record(offset: u64, topic: &str, length: usize) -> Arc<Record> {
        let message = Message::new(Topic::parse(topic).unwrap(), vec![0; length]);
        let (partition, offset, time) = (Partition(0), Offset(offset), UnixMillis(offset));
        Arc::new(Record { partition, offset, time, durability: Durability::Fsync, content: message.into() })
    }

    fn filter(text: &str) -> Filter {
        Filter::parse(text).unwrap()
    }

    fn read(tail: &Tail, after: u64, up_to: u64) -> Option<Vec<u64>> {
        let mut seen = Vec::new();
        let reached = tail.read(Offset(after), Offset(up_to), |r| {
            seen.push(r.offset.0);
            true
        });
        reached.then_some(seen)
    }

    fn limits(records: usize, bytes: usize) -> Limits {
        Limits { tail_records: records, tail_bytes: bytes, ..Limits::default() }
    }

    #[test]
    fn what_was_pushed_is_read_in_order_across_chunks_and_holes() {
        let mut writer = TailWriter::new(Offset(10), &Limits::default());
        let tail = Arc::clone(writer.tail());
        assert_eq!(read(&tail, 10, u64::MAX), Some(vec![]));
        assert_eq!(read(&tail, 9, u64::MAX), None, "the store has what was before the start");
        let offsets: Vec<u64> = (11..400).chain(1000..1300).chain([5000]).collect();
        for offset in &offsets {
            writer.push(vec![record(*offset, "t", 10)]);
        }
        assert_eq!((tail.head(), tail.start()), (Offset(5000), Offset(10)));
        for (after, up_to) in
            [(10, 5000), (11, 4999), (200, 1100), (399, 5000), (500, 1000), (1299, 5000), (4000, 9000)]
        {
            let expected: Vec<u64> = offsets.iter().copied().filter(|o| *o > after && *o <= up_to).collect();
            assert_eq!(read(&tail, after, up_to), Some(expected), "after {after} up to {up_to}");
        }
    }

    #[test]
    fn a_reader_may_stop() {
        let mut writer = TailWriter::new(Offset(0), &Limits::default());
        writer.push((1..=10).map(|o| record(o, "t", 10)).collect());
        let mut seen = 0;
        assert!(writer.tail().read(Offset(0), Offset(10), |_| {
            seen += 1;
            seen < 3
        }));
        assert_eq!(seen, 3);
    }

    #[test]
    fn the_window_lets_go_only_of_what_the_store_applied() {
        let mut writer = TailWriter::new(Offset(0), &limits(1000, 1 << 30));
        let tail = Arc::clone(writer.tail());
        for offset in 1..=3000 {
            writer.push(vec![record(offset, "t", 10)]);
        }
        assert!(writer.is_full());
        assert_eq!(tail.start(), Offset(0));
        tail.set_applied(Offset(2500));
        assert!(!writer.is_full());
        writer.push((3001..=3600).map(|o| record(o, "t", 10)).collect());
        assert!(tail.start() > Offset(1500) && tail.start() <= Offset(2500), "{}", tail.start());
        assert_eq!(read(&tail, 0, 3600), None);
        assert_eq!(read(&tail, 3000, 3600).map(|r| r.len()), Some(600));
    }

    #[test]
    fn the_window_is_bounded_by_bytes_too() {
        let mut writer = TailWriter::new(Offset(0), &limits(1 << 20, 4 << 20));
        let tail = Arc::clone(writer.tail());
        for offset in 1..=200 {
            writer.push(vec![record(offset, "t", 100_000)]);
            tail.set_applied(Offset(offset));
        }
        assert!(tail.bytes() < 6 << 20, "{} bytes", tail.bytes());
        tail.set_applied(Offset(200));
        writer.push((201..=250).map(|o| record(o, "t", 100_000)).collect());
        assert!(writer.is_full());
    }

    #[test]
    fn a_quiet_topic_is_known_to_be_quiet() {
        let mut writer = TailWriter::new(Offset(5), &Limits::default());
        let tail = Arc::clone(writer.tail());
        let (busy, quiet) = (Topic::parse("busy").unwrap(), Topic::parse("quiet").unwrap());
        assert!(tail.is_quiet_since(&quiet, Offset(5)) && !tail.is_quiet_since(&quiet, Offset(4)));
        writer.push(vec![record(6, "busy", 1)]);
        assert!(!tail.is_quiet_since(&busy, Offset(5)) && tail.is_quiet_since(&busy, Offset(6)));
        assert!(tail.is_quiet_since(&quiet, Offset(5)));
    }

    #[test]
    fn what_is_retained_is_known_until_the_store_knows_it() {
        let mut writer = TailWriter::new(Offset(5), &Limits::default());
        let tail = Arc::clone(writer.tail());
        tail.set_applied(Offset(5));
        let (wild, exact, other) = (filter("#"), filter("a"), filter("b"));
        assert!([&wild, &exact, &other].iter().all(|filter| !tail.may_retain(filter)));
        let mut retained = Record::clone(&record(6, "a", 1));
        let Content::Known(Entry::Message(message)) = &mut retained.content else { panic!("it is a message") };
        message.retain = true;
        writer.push(vec![Arc::new(retained)]);
        assert!(tail.may_retain(&wild) && tail.may_retain(&exact) && !tail.may_retain(&other));
        tail.set_applied(Offset(6));
        assert!([&wild, &exact, &other].iter().all(|filter| !tail.may_retain(filter)));
    }

    #[test]
    fn readers_of_other_threads_see_every_record_once_while_it_is_written() {
        const LAST: u64 = 20_000;
        let mut writer = TailWriter::new(Offset(0), &limits(2000, 1 << 30));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let tail = Arc::clone(writer.tail());
                let is_over = &is_over;
                scope.spawn(move || {
                    let mut at = Offset(0);
                    while at.0 < LAST && !is_over.load(Ordering::Acquire) {
                        let head = tail.head();
                        let mut next = at;
                        let reached = tail.read(at, head, |record| {
                            assert_eq!(record.offset, next.next());
                            next = record.offset;
                            true
                        });
                        // A reader that was too slow for the window begins anew at its start, as from the store.
                        at = if reached { head } else { tail.start() };
                        assert!(!reached || next == head, "all up to the head mark was read");
                    }
                });
            }
            let tail = Arc::clone(writer.tail());
            for first in (1..=LAST).step_by(10) {
                writer.push((first..first + 10).map(|o| record(o, "t", 10)).collect());
                tail.set_applied(tail.head());
            }
            assert_eq!(tail.head(), Offset(LAST));
            is_over.store(true, Ordering::Release);
        });
    }

    #[test]
    fn what_is_the_servers_own_goes_when_every_worker_has_it() {
        let fill = |writer: &mut TailWriter, from: u64| {
            (from..from + 300).for_each(|n| writer.push(vec![record(n, "$sessions/ann/1", 1)]));
            writer.tail().set_applied(Offset(from + 299));
        };
        let mut writer = TailWriter::new(Offset(0), &Limits::default());
        writer.tail().set_readers(2);
        fill(&mut writer, 1);
        writer.tail().has_read(0, Offset(300));
        fill(&mut writer, 301);
        assert_eq!(writer.tail().start(), Offset(0), "one worker hasn't read it");
        writer.tail().has_read(1, Offset(300));
        fill(&mut writer, 601);
        assert_eq!(writer.tail().start(), Offset(256));
        writer.push(vec![record(901, "t", 1)]);
        (0..2).for_each(|reader| writer.tail().has_read(reader, Offset(901)));
        fill(&mut writer, 902);
        assert_eq!(writer.tail().start(), Offset(768), "a message stays as long as there is room");
    }

    #[test]
    fn what_is_the_servers_own_waits_for_a_worker_that_falls_out_of_the_window() {
        let mut writer = TailWriter::new(Offset(0), &limits(300, 1 << 30));
        let tail = Arc::clone(writer.tail());
        tail.set_readers(2);
        let own = |offset: u64| if offset.is_multiple_of(2) { "$sessions/ann/1" } else { "t" };
        let mut fill = |from: u64, up_to: u64| {
            (from..=up_to).for_each(|offset| writer.push(vec![record(offset, own(offset), 1)]));
            tail.set_applied(Offset(up_to));
            writer.is_full()
        };
        assert!(!fill(1, 600));
        tail.has_read(0, Offset(600));
        assert!(!fill(601, 800), "the faster worker has read on");
        let (start, missed) = tail.missed(Offset(5));
        assert_eq!(start, tail.start());
        let expected: Vec<u64> = (6..=start.0).filter(|offset| own(*offset) != "t").collect();
        assert!(!expected.is_empty());
        assert_eq!(missed.iter().map(|record| record.offset.0).collect::<Vec<_>>(), expected);
        assert!(fill(801, 1500), "more than the window takes waits for the slower one");
        tail.has_read(1, Offset(1500));
        assert!(!fill(1501, 1501));
        fill(1502, 1800);
        assert!(tail.missed(Offset(0)).1.iter().all(|record| record.offset > Offset(600)), "what all have is gone");
    }
}
