//! The bounded queue between the workers and the appender, and the engine's way from open to closed.
//!
//! Invariants: `submit` never blocks; an append that was taken is answered once, also when it comes while the engine
//! closes.

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use everywire_base::ask::{Append, Outcome, PublishError};
use everywire_base::id::Mailbox;
use everywire_base::limits::Limits;
use everywire_base::record::Entry;

use crate::engine::Bell;

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const CLOSED: u8 = 2;

pub(crate) struct Queue {
    /// The sending half of a channel without a bound: the counters below are the bound.
    sender: Sender<Vec<Append>>,
    receiver: Receiver<Vec<Append>>,
    records: AtomicUsize,
    bytes: AtomicUsize,
    max_records: usize,
    max_bytes: usize,
    state: AtomicU8,
    closed: (Mutex<bool>, Condvar),
    bell: Arc<dyn Bell>,
}

pub(crate) fn weight(append: &Append) -> usize {
    append.draft.entries().map(Entry::weight).sum()
}

impl Queue {
    pub(crate) fn new(limits: &Limits, bell: Arc<dyn Bell>) -> Self {
        let (sender, receiver) = unbounded();
        Self {
            sender,
            receiver,
            records: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            max_records: limits.append_queue_records,
            max_bytes: limits.append_queue_bytes,
            state: AtomicU8::new(OPEN),
            closed: (Mutex::new(false), Condvar::new()),
            bell,
        }
    }

    /// See [`crate::engine::Engine::submit`].
    pub(crate) fn submit(&self, appends: &mut Vec<Append>) {
        if self.state.load(Ordering::SeqCst) == CLOSED {
            refuse(&*self.bell, appends.drain(..));
            return;
        }
        let fitting = self.claim(appends);
        if fitting == 0 {
            return;
        }
        let taken = if fitting == appends.len() { std::mem::take(appends) } else { appends.drain(..fitting).collect() };
        // The send can't fail: this queue holds a receiver itself.
        let _ = self.sender.send(taken);
        if self.state.load(Ordering::SeqCst) == CLOSED {
            self.refuse_rest();
        }
    }

    /// Claims room for as many appends from the front as fit, and returns their number. An append that is larger than
    /// the whole queue fits into an empty one.
    fn claim(&self, appends: &[Append]) -> usize {
        let before = self.records.fetch_add(appends.len(), Ordering::AcqRel);
        let mut fitting = self.max_records.saturating_sub(before).min(appends.len());
        let mut bytes = 0;
        let _ = self.bytes.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            bytes = 0;
            let fits = |append: &&Append| {
                let sum = used + bytes + weight(append);
                let fits = sum <= self.max_bytes || used + bytes == 0;
                bytes += if fits { weight(append) } else { 0 };
                fits
            };
            fitting = appends[..fitting].iter().take_while(fits).count();
            Some(used + bytes)
        });
        self.records.fetch_sub(appends.len() - fitting, Ordering::AcqRel);
        fitting
    }

    /// Frees the room of appends that the appender has taken out.
    pub(crate) fn release(&self, records: usize, bytes: usize) {
        self.records.fetch_sub(records, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }

    /// The number of records that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.records.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Option<Vec<Append>> {
        self.receiver.try_recv().ok()
    }

    /// Takes the next appends, if they come before the deadline.
    pub(crate) fn take_until(&self, deadline: Instant) -> Option<Vec<Append>> {
        self.receiver.recv_deadline(deadline).ok()
    }

    /// Wakes a thread that waits for appends.
    pub(crate) fn wake(&self) {
        let _ = self.sender.send(Vec::new());
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.state.load(Ordering::SeqCst) != OPEN
    }

    pub(crate) fn begin_close(&self) {
        let _ = self.state.compare_exchange(OPEN, CLOSING, Ordering::SeqCst, Ordering::SeqCst);
        // The empty batch wakes the appender.
        let _ = self.sender.send(Vec::new());
    }

    /// Closes the queue when the appender is gone: from now on all appends are refused here.
    pub(crate) fn closed(&self) {
        self.state.store(CLOSED, Ordering::SeqCst);
        self.refuse_rest();
        *self.closed.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.closed.1.notify_all();
    }

    pub(crate) fn wait_closed(&self) {
        let mut closed = self.closed.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*closed {
            let waited = self.closed.1.wait_timeout(closed, Duration::from_secs(1));
            closed = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn refuse_rest(&self) {
        while let Some(appends) = self.take() {
            self.release(appends.len(), appends.iter().map(weight).sum());
            refuse(&*self.bell, appends.into_iter());
        }
    }
}

fn refuse(bell: &dyn Bell, appends: impl Iterator<Item = Append>) {
    let mut answers = Answers::default();
    for append in appends {
        answers.add(Outcome { reply_to: append.reply_to, result: Err(PublishError::Closing) });
    }
    answers.ring(bell);
}

/// Outcomes by the thread that takes them.
#[derive(Default)]
pub(crate) struct Answers(Vec<(Mailbox, Vec<Outcome>)>);

impl Answers {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        let Some(mailbox) = outcome.reply_to.mailbox() else { return };
        // The search is linear: there are few of them, so that it is cheaper than hashing.
        match self.0.iter_mut().find(|(known, _)| *known == mailbox) {
            Some((_, outcomes)) => outcomes.push(outcome),
            None => self.0.push((mailbox, vec![outcome])),
        }
    }

    pub(crate) fn ring(self, bell: &dyn Bell) {
        for (mailbox, outcomes) in self.0 {
            bell.outcomes(mailbox, outcomes);
        }
    }
}
