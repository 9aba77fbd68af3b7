//! The appender: the one writer of a log. Each [`Appender::turn`] is one group commit.
//!
//! It takes what waits, gives offsets and times, has the journal keep it (one write, at most one sync), shows it to the
//! tail, rings, and answers. Records have the present clock's time, which may go back from one to the next when the clock
//! was set: order is the offset's. Offsets are never given twice, not even those of a commit that failed. What only passes
//! needs no room in the journal: it goes on when the disk is full. Nothing goes on behind a write that failed until what
//! that left is cut off, since the next life may find it. When the store is so far behind that the tail can let go of nothing, the appender
//! takes nothing more, so that the queue fills up and the workers push back.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everywire_base::ask::{Append, Draft, Outcome, PublishError, Published};
use everywire_base::clock::{Steady, UnixMillis};
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::id::Ticket;
use everywire_base::limits::Limits;
use everywire_base::ordered::OrderedKey;
use everywire_base::record::{Durability, Entry, Message, Record};

use crate::engine::Bell;
use crate::fence::Fences;
use crate::gather::Gather;
use crate::idempotency::{Answer, Keys};
use crate::journal::Journal;
use crate::metrics::LogMetrics;
use crate::producers::Producers;
use crate::queue::{Answers, Queue, weight};
use crate::tail::TailWriter;

/// The most records of one commit.
const BATCH_RECORDS: usize = 8192;
/// No further record is taken into a commit of so many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// About what the record of a producer takes.
const PRODUCER_BYTES: usize = 512;
/// When an idle appender looks after its journal: soon after a commit, seldom later.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(10);
/// How often an appender that waits for the store looks.
const STORE_WAIT: Duration = Duration::from_millis(1);

/// The one writer of a log: on a thread of its own ([`Appender::run`]) or stepped ([`Appender::turn`]).
pub struct Appender {
    parts: Parts,
    known: Known,
    fences: Fences,
    last: Offset,
    /// The clock of records, …
    wall: UnixMillis,
    /// … and that of the keys, which takes no part in its steps.
    steady: Steady,
    waiting: VecDeque<Append>,
    gather: Gather,
    /// The journal has nothing left to do.
    is_settled: bool,
    finished: bool,
}

/// What an appender is made of.
pub(crate) struct Parts {
    pub queue: Arc<Queue>,
    pub bell: Arc<dyn Bell>,
    pub tail: TailWriter,
    pub journal: Box<dyn Journal>,
    pub metrics: Arc<LogMetrics>,
    pub epoch: Epoch,
    pub partition: Partition,
}

/// What the journal admits of a batch.
#[derive(Clone, Copy)]
struct Admitted {
    /// Whether its records may have numbers.
    numbers: Result<(), PublishError>,
    /// Whether there is room for those that are kept.
    room: Result<(), PublishError>,
}

/// What was published before, by its keys.
pub(crate) struct Known {
    pub keys: Keys,
    pub producers: Producers,
}

impl Known {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { keys: Keys::new(limits), producers: Producers::new(limits) }
    }
}

/// A commit in the making.
#[derive(Default)]
struct Batch {
    records: Vec<Arc<Record>>,
    answers: Vec<(Ticket, Result<Answer, PublishError>)>,
}

impl Appender {
    pub(crate) fn new(parts: Parts, limits: &Limits, known: Known, last: Offset, wall: UnixMillis) -> Self {
        let (fences, waiting, gather) = (Fences::new(limits), VecDeque::new(), Gather::new());
        let steady = Steady::new(wall);
        Self { parts, known, fences, last, wall, steady, waiting, gather, is_settled: false, finished: false }
    }

    /// Commits until the engine is closed; on a thread of its own.
    pub fn run(mut self) {
        self.parts.journal.start();
        while !self.finished {
            if self.waiting.is_empty() {
                let pause = if self.is_settled { LATER } else { SOON };
                let arrived = self.parts.queue.take_until(Instant::now() + pause);
                self.waiting.extend(arrived.into_iter().flatten());
            }
            self.gather();
            if !self.turn() && !self.waiting.is_empty() {
                std::thread::sleep(STORE_WAIT);
            }
        }
    }

    fn gather(&mut self) {
        self.collect();
        if self.waiting.is_empty() {
            return;
        }
        let mut has_waited = false;
        while let Some(until) = self.gather.until(self.waiting.len()) {
            has_waited = true;
            match self.parts.queue.take_until(until) {
                Some(arrived) => self.waiting.extend(arrived),
                None => break,
            }
        }
        if has_waited {
            self.gather.waited(self.waiting.len());
        }
    }

    fn collect(&mut self) {
        while self.waiting.len() < BATCH_RECORDS
            && let Some(arrived) = self.parts.queue.take()
        {
            self.waiting.extend(arrived);
        }
    }

    /// One group commit. Says whether there was one.
    pub fn turn(&mut self) -> bool {
        if self.finished {
            return false;
        }
        // Before the look into the queue, so that all is answered that came before the close.
        let closing = self.parts.queue.is_closing();
        self.collect();
        self.look_at_the_clock();
        if self.waiting.is_empty() {
            self.is_settled = !self.parts.journal.idle(self.wall);
            if closing {
                self.finish();
            }
            return false;
        }
        if self.parts.tail.is_full() && !closing {
            self.parts.metrics.waits_for_store.add(1);
            return false;
        }
        self.is_settled = false;
        self.commit();
        true
    }

    fn look_at_the_clock(&mut self) {
        self.wall = self.parts.bell.now();
        if let Some(millis) = self.steady.look(self.wall) {
            let (seconds, way) = (millis.unsigned_abs() / 1000, if millis < 0 { "back" } else { "ahead" });
            tracing::warn!(now = %self.wall, "the clock was set {way} by {seconds} s, or the server stood still");
        }
    }

    /// Takes in how far producers of ordered keys had come, by the records on their topics. Before the first turn.
    pub fn remember_producers<'r>(&mut self, records: impl IntoIterator<Item = &'r Arc<Record>>) {
        for record in records {
            self.known.producers.restore(record, self.parts.epoch, self.wall);
        }
    }

    /// Finishes what waits and closes the log in good order, for tests that step the appender themselves.
    pub fn close(mut self) {
        self.parts.queue.begin_close();
        while !self.finished {
            self.turn();
        }
    }

    fn finish(&mut self) {
        self.parts.journal.close(self.last, self.wall);
        self.finished = true;
        self.parts.queue.closed();
    }

    fn commit(&mut self) {
        let (began, wall) = (Instant::now(), self.wall);
        self.known.keys.expire(self.steady.now());
        self.known.producers.expire(self.steady.now());
        let taken = self.take_batch();
        let bytes: usize = taken.iter().map(weight).sum();
        self.parts.queue.release(taken.len(), bytes);
        let size = taken.len();
        let admitted = self.admit(&taken, wall);
        let batch = self.assemble(taken, admitted);
        let result = self.keep(&batch, wall);
        self.answer(batch, result);
        self.parts.metrics.committed(size, began.elapsed());
        self.gather.committed(size, self.parts.queue.waiting(), began.elapsed());
    }

    fn take_batch(&mut self) -> Vec<Append> {
        let mut bytes = 0;
        let fits = |append: &&Append| {
            let fits = bytes < BATCH_BYTES;
            bytes += weight(append);
            fits
        };
        let count = self.waiting.iter().take(BATCH_RECORDS).take_while(fits).count();
        self.waiting.drain(..count).collect()
    }

    /// Asks the journal for numbers, and for room for what it is to keep.
    fn admit(&mut self, taken: &[Append], wall: UnixMillis) -> Admitted {
        let (mut count, mut bytes) = (0, 0);
        for append in taken.iter().filter(|append| append.draft.durability != Durability::None) {
            count += 1;
            bytes += weight(append);
        }
        // Each may be another producer's.
        let ordered = taken.iter().filter(|append| ordered_key(&append.draft.message).is_some()).count();
        let (journal, before) = (&mut self.parts.journal, self.last);
        let numbers = journal.number(Offset(before.0 + (taken.len() + ordered) as u64), wall);
        (count, bytes) = (count + ordered, bytes + ordered * PRODUCER_BYTES);
        let room = if count == 0 { Ok(()) } else { numbers.and_then(|()| journal.admit(before, count, bytes, wall)) };
        Admitted { numbers, room }
    }

    fn assemble(&mut self, taken: Vec<Append>, admitted: Admitted) -> Batch {
        let mut batch = Batch { records: Vec::with_capacity(taken.len()), answers: Vec::with_capacity(taken.len()) };
        for Append { ticket, draft, address } in taken {
            let index = batch.records.len();
            let answer = match self.judge(&draft, address, index, admitted) {
                Ok(None) => {
                    batch.records.push(self.record(draft));
                    Ok(Answer::InBatch(index))
                }
                Ok(Some(known)) => {
                    self.parts.metrics.duplicates.add(1);
                    Ok(known)
                }
                Err(error) => {
                    self.parts.metrics.refused(error);
                    Err(error)
                }
            };
            batch.answers.push((ticket, answer));
        }
        if admitted.room.is_ok() {
            self.add_producers(&mut batch);
        }
        self.parts.metrics.claims.set(self.fences.len() as u64);
        self.parts.metrics.keys.set(self.known.keys.len() as u64);
        self.parts.metrics.producers.set(self.known.producers.len() as u64);
        batch
    }

    /// Whether a draft becomes the batch's `index`-th record; the answer, if it was published before.
    fn judge(
        &mut self,
        draft: &Draft,
        address: Option<IpAddr>,
        index: usize,
        admitted: Admitted,
    ) -> Result<Option<Answer>, PublishError> {
        if draft.durability == Durability::None { admitted.numbers } else { admitted.room }?;
        self.fences.judge(&draft.message, self.last.next())?;
        match ordered_key(&draft.message) {
            Some(key) => self.known.producers.check(key, address, index),
            None => self.known.keys.check(&draft.message, address, index),
        }
    }

    /// Adds how far the producers of the batch have come.
    fn add_producers(&mut self, batch: &mut Batch) {
        for (message, durability) in self.known.producers.messages(&batch.records, self.wall) {
            let record = self.record(Draft { message, durability });
            batch.records.push(record);
        }
    }

    fn record(&mut self, draft: Draft) -> Arc<Record> {
        self.last = self.last.next();
        Arc::new(Record {
            partition: self.parts.partition,
            offset: self.last,
            time: self.wall,
            durability: self.parts.journal.promise(draft.durability),
            entry: Entry::Message(draft.message),
        })
    }

    /// Keeps the records, remembers or forgets their keys, and shows them. A batch fails as a whole: what the journal may
    /// have kept of it must not lie below what readers have.
    fn keep(&mut self, batch: &Batch, wall: UnixMillis) -> Result<(), PublishError> {
        let result = self.parts.journal.write(&batch.records, wall);
        for record in &batch.records {
            let Some(message) = with_key(record) else { continue };
            if result.is_ok() {
                self.known.keys.published(message, published(self.parts.epoch, record), self.steady.now());
            } else {
                self.known.keys.forget(message);
            }
        }
        let epoch = self.parts.epoch;
        let placed = |index: usize| batch.records.get(index).filter(|_| result.is_ok()).map(|r| published(epoch, r));
        self.known.producers.settle(placed, self.steady.now());
        if result.is_err() {
            self.parts.metrics.failed_commits.add(1);
        } else if !batch.records.is_empty() {
            self.parts.tail.push(batch.records.clone());
            self.parts.bell.head_moved();
        }
        result
    }

    fn answer(&mut self, batch: Batch, result: Result<(), PublishError>) {
        let mut answers = Answers::default();
        let epoch = self.parts.epoch;
        let done = |index: usize| result.map(|()| published(epoch, &batch.records[index]));
        for (ticket, answer) in batch.answers {
            let result = answer.and_then(|answer| match answer {
                Answer::Published(published) => Ok(published),
                Answer::InBatch(index) => done(index),
                Answer::AgainInBatch(index) => done(index).map(|done| Published { duplicate: true, ..done }),
            });
            answers.add(Outcome { ticket, result });
        }
        answers.ring(&*self.parts.bell);
    }
}

impl Drop for Appender {
    /// An appender that is dropped without a close leaves the log as a crash would, but nobody waits for it for ever.
    fn drop(&mut self) {
        if !self.finished {
            self.parts.queue.closed();
        }
    }
}

/// The message of a record, if it has an ordinary key.
fn with_key(record: &Record) -> Option<&Message> {
    record.message().filter(|m| m.key.is_some() && ordered_key(m).is_none())
}

pub(crate) fn ordered_key(message: &Message) -> Option<OrderedKey> {
    OrderedKey::parse(message.from.as_deref(), message.key.as_deref()?)
}

pub(crate) fn published(epoch: Epoch, record: &Record) -> Published {
    Published {
        epoch,
        partition: record.partition,
        offset: record.offset,
        time: record.time,
        durability: record.durability,
        duplicate: false,
    }
}

/// Whether the record is stored, or only passes.
pub(crate) fn is_stored(record: &Record) -> bool {
    record.durability != Durability::None
}
