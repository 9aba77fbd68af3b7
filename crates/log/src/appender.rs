//! The appender: the one writer of a log. Each [`Appender::turn`] is one group commit.
//!
//! It takes what waits, gives offsets and times, has the journal keep it (one write, at most one sync), shows it to the
//! tail, rings, and answers. Time never goes back from record to record, and offsets are never given twice, not even
//! those of a commit that failed. When the store is so far behind that the tail can let go of nothing, the appender
//! takes nothing more, so that the queue fills up and the workers push back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use everywire_base::ask::{Append, Outcome, PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::id::Ticket;
use everywire_base::record::{Durability, Entry, Message, Record};

use crate::engine::Bell;
use crate::gather::Gather;
use crate::idempotency::{Answer, Keys};
use crate::journal::Journal;
use crate::metrics::LogMetrics;
use crate::queue::{Answers, Queue, weight};
use crate::tail::TailWriter;

/// The most records of one commit.
const BATCH_RECORDS: usize = 8192;
/// No further record is taken into a commit of so many bytes.
const BATCH_BYTES: usize = 4 << 20;
/// When an idle appender looks after its journal: soon after a commit, seldom later.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(10);
/// How often an appender that waits for the store looks.
const STORE_WAIT: Duration = Duration::from_millis(1);

/// The one writer of a log: on a thread of its own ([`Appender::run`]) or stepped ([`Appender::turn`]).
pub struct Appender {
    parts: Parts,
    keys: Keys,
    last: Offset,
    time: UnixMillis,
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

/// A commit in the making.
#[derive(Default)]
struct Batch {
    records: Vec<Arc<Record>>,
    answers: Vec<(Ticket, Result<Answer, PublishError>)>,
}

impl Appender {
    pub(crate) fn new(parts: Parts, keys: Keys, last: Offset, time: UnixMillis) -> Self {
        let (waiting, gather) = (VecDeque::new(), Gather::new());
        Self { parts, keys, last, time, waiting, gather, is_settled: false, finished: false }
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
        let wall = self.parts.bell.now();
        self.time = self.time.max(wall);
        if self.waiting.is_empty() {
            self.is_settled = !self.parts.journal.idle(wall);
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
        self.commit(wall);
        true
    }

    /// Finishes what waits and closes the log in good order, for who steps the appender himself.
    pub fn close(mut self) {
        self.parts.queue.begin_close();
        while !self.finished {
            self.turn();
        }
    }

    fn finish(&mut self) {
        self.parts.journal.close(self.last, self.time);
        self.finished = true;
        self.parts.queue.closed();
    }

    fn commit(&mut self, wall: UnixMillis) {
        let began = Instant::now();
        self.keys.expire(self.time);
        let taken = self.take_batch();
        let bytes: usize = taken.iter().map(weight).sum();
        self.parts.queue.release(taken.len(), bytes);
        let size = taken.len();
        let up_to = Offset(self.last.0 + size as u64);
        let batch = match self.parts.journal.admit(up_to, size, bytes, wall) {
            Ok(()) => self.assemble(taken),
            Err(error) => self.refuse(taken, error),
        };
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

    fn refuse(&mut self, taken: Vec<Append>, error: PublishError) -> Batch {
        if error == PublishError::DiskFull {
            self.parts.metrics.refused_disk_full.add(taken.len() as u64);
        }
        Batch { records: Vec::new(), answers: taken.into_iter().map(|a| (a.ticket, Err(error))).collect() }
    }

    fn assemble(&mut self, taken: Vec<Append>) -> Batch {
        let mut batch = Batch { records: Vec::with_capacity(taken.len()), answers: Vec::with_capacity(taken.len()) };
        for append in taken {
            let index = batch.records.len();
            let known = self.keys.check(&append.draft.message, index);
            if let Ok(None) = known {
                let draft = append.draft;
                self.last = self.last.next();
                batch.records.push(Arc::new(Record {
                    partition: self.parts.partition,
                    offset: self.last,
                    time: self.time,
                    durability: self.parts.journal.promise(draft.durability),
                    entry: Entry::Message(draft.message),
                }));
            } else if known.is_ok() {
                self.parts.metrics.duplicates.add(1);
            }
            batch.answers.push((append.ticket, known.map(|known| known.unwrap_or(Answer::InBatch(index)))));
        }
        batch
    }

    /// Keeps the records, remembers or forgets their keys, and shows them.
    fn keep(&mut self, batch: &Batch, wall: UnixMillis) -> Result<(), PublishError> {
        if batch.records.is_empty() {
            return Ok(());
        }
        let result = self.parts.journal.write(&batch.records, wall);
        for record in &batch.records {
            let Some(message) = with_key(record) else { continue };
            match result {
                Ok(()) => self.keys.published(message, published(self.parts.epoch, record)),
                Err(_) => self.keys.forget(message),
            }
        }
        match result {
            Ok(()) => {
                self.parts.tail.push(batch.records.clone());
                self.parts.bell.head_moved();
            }
            Err(_) => self.parts.metrics.failed_commits.add(1),
        }
        result
    }

    fn answer(&mut self, batch: Batch, result: Result<(), PublishError>) {
        let mut answers = Answers::default();
        let epoch = self.parts.epoch;
        for (ticket, answer) in batch.answers {
            let result = answer.and_then(|answer| match answer {
                Answer::Published(published) => Ok(published),
                Answer::InBatch(index) => result.map(|()| published(epoch, &batch.records[index])),
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

fn with_key(record: &Record) -> Option<&Message> {
    record.message().filter(|m| m.key.is_some())
}

pub(crate) fn published(epoch: Epoch, record: &Record) -> Published {
    Published {
        epoch,
        partition: record.partition,
        offset: record.offset,
        time: record.time,
        durability: record.durability,
    }
}

/// Whether the record is stored, or only passes.
pub(crate) fn is_stored(record: &Record) -> bool {
    record.durability != Durability::None
}
