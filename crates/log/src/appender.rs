//! The appender: the one writer of a log. Each [`Appender::turn`] is one group commit.
//!
//! It takes the appends that wait, gives offsets and times, has the journal keep the records (one write, at most one
//! sync), shows them to the tail, rings, and answers. Records have the present clock's time, which may go back from one
//! to the next when the clock was set: the offset gives the order. An offset is never given twice, not even that of a
//! commit that failed. Records that are never stored need no room in the journal: they go on when the disk is full.
//! After a failed write nothing goes on until its bytes are cut off, since the next life may find them. When the store
//! is so far behind that the tail can drop nothing, the appender takes nothing more, so that the queue fills up and the
//! workers push back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everywire_base::ask::{Append, Draft, Outcome, PublishError, Published};
use everywire_base::clock::{Steady, UnixMillis};
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::id::ReplyTo;
use everywire_base::limits::Limits;
use everywire_base::ordered::OrderedKey;
use everywire_base::record::{Durability, Entry, Message, Record};

use crate::engine::{Bell, Run};
use crate::fence::Fences;
use crate::gather::Gather;
use crate::guards::Guards;
use crate::idempotency::{Answer, Keys};
use crate::journal::Journal;
use crate::metrics::LogMetrics;
use crate::producers::Producers;
use crate::queue::{Answers, Queue, weight};
use crate::sources::Sources;
use crate::tail::TailWriter;

/// The most records of one commit.
const BATCH_RECORDS: usize = 8192;
/// The number of bytes at which a commit takes no further record.
const BATCH_BYTES: usize = 4 << 20;
/// The bytes of the record of a producer, or of a source, about.
const PRODUCER_BYTES: usize = 512;
/// The time between two looks of an idle appender at its journal: soon after a commit, seldom later.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(10);
/// The time between two looks of an appender that waits for the store.
const STORE_WAIT: Duration = Duration::from_millis(1);

/// The one writer of a log: on a thread of its own ([`Appender::run`]) or stepped ([`Appender::turn`]).
pub struct Appender {
    parts: Parts,
    known: Known,
    fences: Fences,
    guards: Guards,
    last: Offset,
    /// The clock of records, …
    wall: UnixMillis,
    /// … and that of the keys, which takes no part in its steps.
    steady: Steady,
    waiting: VecDeque<Append>,
    gather: Gather,
    /// Whether the journal has nothing left to do.
    is_settled: bool,
    finished: bool,
}

/// The parts of an appender.
pub(crate) struct Parts {
    pub queue: Arc<Queue>,
    pub bell: Arc<dyn Bell>,
    pub tail: TailWriter,
    pub journal: Box<dyn Journal>,
    pub metrics: Arc<LogMetrics>,
    pub epoch: Epoch,
    pub partition: Partition,
}

/// The journal's answer for a batch.
#[derive(Clone, Copy)]
struct Admitted {
    /// Whether its records may have numbers.
    numbers: Result<(), PublishError>,
    /// Whether there is room for its records that are stored.
    room: Result<(), PublishError>,
}

/// The keys and the positions of earlier publishes.
pub(crate) struct Known {
    pub keys: Keys,
    pub producers: Producers,
    pub sources: Sources,
}

impl Known {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { keys: Keys::new(limits), producers: Producers::new(limits), sources: Sources::new(limits) }
    }
}

/// A commit in the making.
#[derive(Default)]
struct Batch {
    records: Vec<Arc<Record>>,
    answers: Vec<(ReplyTo, Result<Answer, PublishError>)>,
}

impl Appender {
    pub(crate) fn new(parts: Parts, limits: &Limits, known: Known, last: Offset, wall: UnixMillis) -> Self {
        let (fences, guards) = (Fences::new(limits), Guards::new(limits, last));
        let (waiting, gather, steady) = (VecDeque::new(), Gather::new(), Steady::new(wall));
        Self { parts, known, fences, guards, last, wall, steady, waiting, gather, is_settled: false, finished: false }
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

    /// One group commit. Returns whether there was one.
    pub fn turn(&mut self) -> bool {
        if self.finished {
            return false;
        }
        // The look at the state comes before the one into the queue, so that all appends before the close are answered.
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

    /// Restores the progress of producers of ordered keys, and of sources, from the records on their topics. It is
    /// called before the first turn.
    pub fn remember<'r>(&mut self, records: impl IntoIterator<Item = &'r Arc<Record>>) {
        for record in records {
            self.known.producers.restore(record, self.parts.epoch, self.wall);
            self.known.sources.restore(record);
        }
    }

    /// Finishes the waiting appends and closes the log in good order, for tests that step the appender themselves.
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

    /// Asks the journal for numbers, and for room for the records that it is to keep.
    fn admit(&mut self, taken: &[Append], wall: UnixMillis) -> Admitted {
        let (mut count, mut bytes) = (0, 0);
        for append in taken.iter().filter(|append| append.draft.durability != Durability::None) {
            count += append.draft.entries().count();
            bytes += weight(append);
        }
        let entries: usize = taken.iter().map(|append| append.draft.entries().count()).sum();
        // Each ordered key may be another producer's.
        let ordered = taken.iter().filter(|append| append.draft.message().and_then(ordered_key).is_some()).count();
        let ordered = ordered + Sources::count(taken);
        let (journal, before) = (&mut self.parts.journal, self.last);
        let numbers = journal.number(Offset(before.0 + (entries + ordered) as u64), wall);
        (count, bytes) = (count + ordered, bytes + ordered * PRODUCER_BYTES);
        let room = if count == 0 { Ok(()) } else { numbers.and_then(|()| journal.admit(before, count, bytes, wall)) };
        Admitted { numbers, room }
    }

    fn assemble(&mut self, taken: Vec<Append>, admitted: Admitted) -> Batch {
        let mut batch = Batch { records: Vec::with_capacity(taken.len()), answers: Vec::with_capacity(taken.len()) };
        for append in taken {
            let (index, reply_to) = (batch.records.len(), append.reply_to);
            let answer = match self.judge(&append, index, admitted) {
                Ok(None) => {
                    self.guards.claim(&append.draft.guards, self.last.next());
                    let Draft { entry, durability, pair, .. } = append.draft;
                    batch.records.push(self.record(entry, durability));
                    batch.records.extend(pair.map(|pair| self.record(*pair, durability)));
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
            batch.answers.push((reply_to, answer));
        }
        if admitted.room.is_ok() {
            self.add_progress(&mut batch);
        }
        self.parts.metrics.claims.set(self.fences.len() as u64);
        self.parts.metrics.guards.set(self.guards.len() as u64);
        self.parts.metrics.keys.set(self.known.keys.len() as u64);
        self.parts.metrics.producers.set(self.known.producers.len() as u64);
        self.parts.metrics.sources.set(self.known.sources.len() as u64);
        batch
    }

    /// Whether a draft becomes the batch's `index`-th record; the answer, if it was published before.
    fn judge(&mut self, append: &Append, index: usize, admitted: Admitted) -> Result<Option<Answer>, PublishError> {
        let Append { draft, address, source, .. } = append;
        if draft.durability == Durability::None { admitted.numbers } else { admitted.room }?;
        // A record that is taken over adds a record of its source's progress, which needs room.
        source.map_or(Ok(()), |_| admitted.room)?;
        self.fences.judge(&draft.entry, self.last.next())?;
        if let Some(source) = source {
            return self.known.sources.check(source, index, self.parts.epoch);
        }
        let Some(message) = draft.message() else {
            return if self.guards.hold(&draft.guards) { Ok(None) } else { Err(PublishError::Stale) };
        };
        let ordered = ordered_key(message);
        let producer = ordered.as_ref().map(|key| key.producer.clone());
        let before = match ordered {
            Some(key) => self.known.producers.check(key, *address, index),
            None => self.known.keys.check(message, *address, index),
        }?;
        // A message that was published before gets its first answer, whatever has changed since.
        if before.is_none() && !self.guards.hold(&draft.guards) {
            match producer {
                Some(producer) => self.known.producers.take_back(&producer),
                None => self.known.keys.forget(message),
            }
            return Err(PublishError::Stale);
        }
        Ok(before)
    }

    /// Adds the progress of the batch's producers and sources.
    fn add_progress(&mut self, batch: &mut Batch) {
        let producers = self.known.producers.progress(&batch.records, self.wall);
        for (system, durability) in producers.into_iter().chain(self.known.sources.progress(&batch.records)) {
            let record = self.record(system, durability);
            batch.records.push(record);
        }
    }

    fn record(&mut self, entry: impl Into<Entry>, durability: Durability) -> Arc<Record> {
        let entry = entry.into();
        self.last = self.last.next();
        self.guards.note(entry.topic(), self.last);
        Arc::new(Record {
            partition: self.parts.partition,
            offset: self.last,
            time: self.wall,
            durability: self.parts.journal.promise(durability),
            content: entry.into(),
        })
    }

    /// Keeps the records, remembers or forgets their keys, and shows them. A batch fails as a whole: records of it that
    /// the journal may have kept must not lie below records that readers have.
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
        self.guards.settle(result.is_ok());
        self.known.sources.settle(result.is_ok());
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
        for (reply_to, answer) in batch.answers {
            let result = answer.and_then(|answer| match answer {
                Answer::Published(published) => Ok(published),
                Answer::InBatch(index) => done(index),
                Answer::AgainInBatch(index) => done(index).map(|done| Published { duplicate: true, ..done }),
            });
            answers.add(Outcome { reply_to, result });
        }
        answers.ring(&*self.parts.bell);
    }
}

impl Run for Appender {
    fn run(self: Box<Self>) {
        Appender::run(*self);
    }

    fn turn(&mut self) -> bool {
        Appender::turn(self)
    }

    fn close(self: Box<Self>) {
        Appender::close(*self);
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
    OrderedKey::parse(message.author(), message.key.as_deref()?)
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

/// Whether the record is stored; else it is only shown.
pub(crate) fn is_stored(record: &Record) -> bool {
    record.durability != Durability::None
}
