//! The records that this life of a node has written and not answered yet, in the order of their sequence.
//!
//! An entry is answered when it was read back and judged, and the engine has given its promise. Until it was read back
//! it is sent again, the same bytes under the same number, whenever a promise may be worth nothing: over a new
//! connection, in a new epoch. A second copy of it is void.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use everywire_base::ask::{Append, Outcome, PublishError, Published};
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::id::ReplyTo;
use everywire_base::record::{self, Durability, System};

use crate::judge::{Rule, holds, promised};
use crate::proposal::Proposal;
use crate::remote::{APPEND_BYTES, APPEND_RECORDS, Life};
use crate::share::Sharer;
use crate::siphash::SipHash;

/// The time after which a waiting append is answered that its outcome is unknown.
pub(crate) const UNKNOWN_AFTER: Duration = Duration::from_secs(10);
/// The most that may be under way.
const MOST_RECORDS: usize = 8192;
const MOST_BYTES: usize = 8 << 20;

/// The records that are under way.
pub(crate) struct Flight {
    /// This life.
    pub writer: u64,
    /// The number of the next record.
    next: u64,
    /// The number before which all records are those of a former life, appended again.
    again: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The number up to which all records were sent, as far as that counts.
    sent: u64,
    /// The number up to which all records were judged.
    judged: u64,
    /// The number of times that promises were withdrawn.
    round: u64,
    /// The life of the log that the reader has read.
    pub life: Option<Life>,
    /// The offset up to which the reader has read.
    pub read_to: Offset,
    /// Whether this life of the node is over: none of its further records counts.
    pub is_over: bool,
}

struct Entry {
    sequence: u64,
    stored: Bytes,
    /// The address of the answer; `None` if it is the server's own, or was already answered that its outcome is unknown.
    reply_to: Option<ReplyTo>,
    since: Monotonic,
    wanted: Durability,
    /// Whether it is the second place of the pair before it, and so is sent with that.
    fills: bool,
    /// Whether it was sent, so that it may be in the log.
    is_tried: bool,
    promise: Option<Durability>,
    result: Option<Result<Published, PublishError>>,
}

/// The records of the next append.
pub(crate) struct Frame {
    pub life: Life,
    pub records: Vec<Bytes>,
    up_to: u64,
    round: u64,
    /// The number from which on records are sent for the first time.
    first_try: u64,
}

impl Entry {
    /// The answer that could be given without reading back: a wrong one, for the test that shows why it isn't.
    fn early(&self) -> Option<Result<Published, PublishError>> {
        if holds(Rule::ReadBack) {
            return None;
        }
        let (epoch, partition, offset) = (Epoch(0), Partition(0), Offset(1));
        let (time, durability, duplicate) = (UnixMillis(0), self.wanted, false);
        Some(Ok(Published { epoch, partition, offset, time, durability, duplicate }))
    }
}

impl Flight {
    pub(crate) fn new(writer: u64) -> Self {
        Self {
            writer,
            next: 1,
            again: 0,
            entries: VecDeque::new(),
            bytes: 0,
            sent: 0,
            judged: 0,
            round: 0,
            life: None,
            read_to: Offset::BEGINNING,
            is_over: false,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= MOST_RECORDS || self.bytes >= MOST_BYTES
    }

    /// Whether nothing is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether an append waits for an answer.
    pub(crate) fn is_awaited(&self) -> bool {
        self.entries.iter().any(|entry| entry.reply_to.is_some())
    }

    /// Whether the engine has all of it, as far as that counts.
    pub(crate) fn is_sent(&self) -> bool {
        self.sent + 1 == self.next
    }

    /// Takes in an append.
    pub(crate) fn add(&mut self, append: Append, hash: &SipHash, now: Monotonic) {
        let Append { reply_to, draft, address, source } = append;
        let keyed = draft.message().filter(|message| message.key.is_some());
        let sharer = keyed.and_then(|message| Sharer::of(hash, message.author(), address));
        let wanted = draft.durability;
        let proposal = Proposal {
            sharer,
            pair: draft.pair.map(|pair| *pair),
            guards: draft.guards.into(),
            taken: source,
            ..self.proposal(Some(draft.entry), wanted)
        };
        let is_pair = proposal.pair.is_some();
        self.enter(Some(reply_to), &proposal, now);
        if is_pair {
            self.enter(None, &self.proposal(None, wanted), now);
        }
    }

    /// Takes in a record of the node about itself.
    pub(crate) fn add_own(&mut self, system: System, now: Monotonic) {
        self.enter(None, &self.proposal(Some(system.into()), Durability::None), now);
    }

    /// Takes in a record that a former life has written, and the engine has lost.
    pub(crate) fn add_again(&mut self, proposal: Proposal, now: Monotonic) {
        let (writer, sequence, wanted) = (self.writer, self.next, proposal.durability);
        let is_pair = proposal.pair.is_some();
        self.enter(None, &Proposal { writer, sequence, ..proposal }, now);
        if is_pair {
            self.enter(None, &self.proposal(None, wanted), now);
        }
        self.again = self.next;
    }

    /// Whether all records of the former life are judged now; true once.
    pub(crate) fn is_again(&mut self) -> bool {
        let is_done = self.again > 0 && self.judged + 1 >= self.again;
        if is_done {
            self.again = 0;
        }
        is_done
    }

    fn proposal(&self, entry: Option<record::Entry>, durability: Durability) -> Proposal {
        let (writer, sequence) = (self.writer, self.next);
        let (source, sharer, later, pair, guards, taken) = (None, None, None, None, Vec::new(), None);
        Proposal { writer, sequence, source, durability, sharer, entry, later, pair, guards, taken }
    }

    fn enter(&mut self, reply_to: Option<ReplyTo>, proposal: &Proposal, now: Monotonic) {
        let stored = proposal.encode();
        self.next += 1;
        self.bytes += stored.len();
        self.entries.push_back(Entry {
            sequence: proposal.sequence,
            stored,
            reply_to,
            since: now,
            wanted: proposal.durability,
            fills: proposal.entry.is_none(),
            is_tried: false,
            promise: None,
            result: None,
        });
    }

    /// The next frame: records that were not sent, or none at all when only the promise of judged ones is missing.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let life = self.life.clone().filter(|_| !self.is_over)?;
        let from = self.entries.partition_point(|entry| entry.sequence <= self.sent);
        let (mut records, mut bytes) = (Vec::new(), 0);
        let mut first_try = u64::MAX;
        for entry in self.entries.range_mut(from..).take(APPEND_RECORDS) {
            // The last place is left for the second of a pair.
            let is_full = bytes >= APPEND_BYTES || records.len() == APPEND_RECORDS - 1;
            if is_full && !entry.fills {
                break;
            }
            bytes += entry.stored.len();
            records.push(entry.stored.clone());
            if !std::mem::replace(&mut entry.is_tried, true) {
                first_try = first_try.min(entry.sequence);
            }
        }
        let lacks_promise = self.entries.iter().any(|entry| entry.promise.is_none() && entry.result.is_some());
        if records.is_empty() && !lacks_promise {
            return None;
        }
        Some(Frame { life, up_to: self.sent + records.len() as u64, records, round: self.round, first_try })
    }

    /// Notes that a frame was appended, with the promise for it and for all records below.
    pub(crate) fn appended(&mut self, frame: &Frame, promise: Durability) {
        if frame.round != self.round {
            return;
        }
        self.sent = frame.up_to;
        for entry in self.entries.iter_mut().take_while(|entry| entry.sequence <= frame.up_to) {
            entry.promise = Some(promise);
        }
    }

    /// Notes that a frame was certainly not appended.
    pub(crate) fn is_not_there(&mut self, frame: &Frame) {
        let is_of_frame = |entry: &&mut Entry| entry.sequence >= frame.first_try && entry.sequence <= frame.up_to;
        self.entries.iter_mut().filter(is_of_frame).for_each(|entry| entry.is_tried = false);
    }

    /// Withdraws the promises of records that were not read back: those are sent again.
    pub(crate) fn withdraw(&mut self) {
        if !holds(Rule::Withdraw) {
            return;
        }
        self.round += 1;
        self.sent = self.judged;
        for entry in self.entries.iter_mut().filter(|entry| entry.result.is_none()) {
            entry.promise = None;
        }
    }

    /// Notes the result of a judged record of this life.
    pub(crate) fn judged(&mut self, sequence: u64, result: Result<Published, PublishError>) {
        self.judged = sequence;
        self.sent = self.sent.max(sequence);
        let at = self.entries.partition_point(|entry| entry.sequence < sequence);
        if let Some(entry) = self.entries.get_mut(at).filter(|entry| entry.sequence == sequence) {
            entry.result = Some(result);
        }
    }

    /// The answers that are due, in order.
    pub(crate) fn answers(&mut self) -> Vec<Outcome> {
        let mut answers = Vec::new();
        while let Some(entry) = self.entries.front() {
            let (Some(result), Some(promise)) = (entry.early().or(entry.result), entry.promise) else { break };
            let wanted = entry.wanted;
            let result = result.map(|published| Published {
                durability: promised(if published.duplicate { published.durability } else { wanted }, promise),
                ..published
            });
            answers.extend(entry.reply_to.map(|reply_to| Outcome { reply_to, result }));
            self.bytes -= entry.stored.len();
            self.entries.pop_front();
        }
        answers
    }

    /// The answers to appends that have waited too long; their records go on all the same.
    pub(crate) fn expired(&mut self, now: Monotonic) -> Vec<Outcome> {
        let is_late = |entry: &&mut Entry| entry.since + UNKNOWN_AFTER <= now;
        let late = self.entries.iter_mut().take_while(is_late).filter_map(|entry| entry.reply_to.take());
        late.map(|reply_to| Outcome { reply_to, result: Err(PublishError::OutcomeUnknown) }).collect()
    }

    /// Gives up records that certainly aren't in the log and stand behind all that may be; returns the answers.
    pub(crate) fn give_up(&mut self, error: PublishError) -> Vec<Outcome> {
        let mut given_up = Vec::new();
        // The node's own first record can't be left out.
        while self.entries.back().is_some_and(|entry| !entry.is_tried && entry.sequence > self.again.max(1))
            && let Some(entry) = self.entries.pop_back()
        {
            self.next = entry.sequence;
            self.bytes -= entry.stored.len();
            given_up.extend(entry.reply_to.map(|reply_to| Outcome { reply_to, result: Err(error) }));
        }
        given_up.reverse();
        given_up
    }

    /// Ends this life. A record that was sent and not judged may be in the log all the same, and count, unless the
    /// reader has read beyond all that counts of this life.
    pub(crate) fn end(&mut self, is_all_read: bool) -> Vec<Outcome> {
        self.is_over = true;
        let left = self.entries.drain(..).filter_map(|entry| {
            let may_count = entry.is_tried && !is_all_read;
            let lost = if may_count { PublishError::OutcomeUnknown } else { PublishError::NoEngine };
            let result = entry.result.unwrap_or(Err(lost));
            // The record is in the log, but nobody knows which promise the engine would have given.
            let result =
                if entry.promise.is_none() && result.is_ok() { Err(PublishError::OutcomeUnknown) } else { result };
            entry.reply_to.map(|reply_to| Outcome { reply_to, result })
        });
        let left = left.collect();
        self.bytes = 0;
        left
    }
}
