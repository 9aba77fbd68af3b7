//! The reader: reads all records, has them judged, keeps those that count, shows them, and answers those of this node.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use everywire_base::ask::{PublishError, Published};
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::{Epoch, Lineage, Offset, Partition};
use everywire_base::record::{Durability, Record};
use everywire_base::roster::Roster;
use everywire_base::system::{self, EpochChange};
use everywire_base::topic::Topic;

use super::keeper::Captured;
use super::replica::Replica;
use super::saved::{self, Written, is_told};
use super::{FENCED, FORKED, FollowError, LIVES, RETRY, Shared, first_judge, lock, snapshot};
use crate::appender::published;
use crate::judge::{Judge, Judged, Rule, Verdict, holds, is_about_nodes};
use crate::remote::{Batch, EpochEntry, Item, LogState, Raw, Refusal, Remote, RemoteError};
use crate::tail::TailWriter;

/// The bytes that an engine keeps beside those of a record, about.
const BESIDE: usize = 60;
/// Bytes of one read.
const READ_BYTES: usize = 1 << 20;
/// The most records that are kept and shown at once.
const PIECE: usize = 512;
/// The least time between two notes of the judge's state …
const NOTE: Duration = Duration::from_secs(30);
/// … and the most bytes of them that are written in a second.
const NOTE_BYTES: u64 = 256 << 10;
/// The number of beats of this node without a record of another life after which that life is declared dead …
const BEATS: usize = 3;
/// … if they lie so far apart in judged time.
const SILENCE_MS: u64 = 10_000;

pub(super) struct Reader {
    remote: Box<dyn Remote>,
    replica: Replica,
    judge: Judge,
    parents: Vec<(Epoch, Offset)>,
    connection: Connection,
    /// Items that were read, and not judged.
    pending: VecDeque<Item>,
    /// Records that count, and are not kept and shown yet.
    counts: Vec<Arc<Record>>,
    /// The results of records of this node.
    results: Vec<(u64, Result<Published, PublishError>)>,
    serving: Option<Serving>,
    /// The lives of the nodes, up to the last judged record, and whether that has changed.
    roster: (Roster, bool),
    /// The records of this life that count.
    written: Written,
    /// The offsets of this node's last beats, and the times at which they came.
    beats: VecDeque<(Offset, Monotonic)>,
    /// The life that was last found to judge otherwise.
    differs: Option<u64>,
    /// Whether this life has said goodbye.
    has_left: bool,
    /// Whether the last read came up to the log's head.
    is_at_head: bool,
    /// The number of records that were read before the node served.
    replayed: u64,
    next_note: Monotonic,
    is_finished: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Connection {
    Off(Monotonic),
    On,
}

/// The state of a reader that serves.
struct Serving {
    shared: Arc<Shared>,
    tail: TailWriter,
    writer: u64,
}

/// A fork: the log has lost all records above this offset that this node has.
pub(super) struct Fork(Offset);

impl Reader {
    /// Reads up to the head. The node doesn't serve yet.
    pub(super) fn open(
        remote: Box<dyn Remote>,
        replica: Replica,
        known: Vec<(&str, Judge)>,
        state: &LogState,
        now: UnixMillis,
    ) -> Result<Self, FollowError> {
        if known.iter().any(|(_, judge)| judge.genesis().log != state.genesis.log) {
            return Err(FollowError::OtherLog);
        }
        // A state of the judge may know too much of a log that has lost its end.
        let useless: Vec<&str> =
            known.iter().take_while(|(_, judge)| check(judge, state).is_err()).map(|(name, _)| *name).collect();
        let judge = known.into_iter().nth(useless.len()).map_or_else(|| first_judge(state), |(_, judge)| judge);
        let (mut remote, mut replica) = (remote, replica);
        let is_whole = judge.at() == Offset::BEGINNING;
        replica.go_on(judge.at(), &useless).map_err(|error| broken(std::io::Error::other(error)))?;
        let judge = match joined(&mut *remote, judge.at(), state)? {
            Some(snapshot) => {
                tracing::warn!(
                    from = %judge.at(), to = %snapshot.judge.at(),
                    "the engine has let go of what comes next: this node goes on from a snapshot, and lacks what lies between"
                );
                replica.take(judge.at(), &snapshot, now)?;
                snapshot.judge
            }
            None => judge,
        };
        let parents = parents_of(judge.epoch(), state);
        let roster = (judge.roster(), false);
        let mut reader = Self {
            remote,
            replica,
            judge,
            parents,
            connection: Connection::Off(Monotonic(0)),
            pending: VecDeque::new(),
            counts: Vec::new(),
            results: Vec::new(),
            serving: None,
            roster,
            written: Written::default(),
            beats: VecDeque::new(),
            differs: None,
            has_left: false,
            is_at_head: false,
            replayed: 0,
            next_note: Monotonic(0),
            is_finished: false,
        };
        reader.catch_up(now)?;
        reader.replica.set_whole(is_whole);
        Ok(reader)
    }

    fn catch_up(&mut self, now: UnixMillis) -> Result<(), FollowError> {
        self.connection = Connection::On;
        loop {
            let Batch { items, seen, head, .. } = self.remote.read(self.judge.at(), READ_BYTES, Duration::ZERO)?;
            self.replayed += items.len() as u64;
            for item in items {
                if self.take(item).is_err() {
                    return Err(FollowError::OtherLog);
                }
            }
            self.judge.passed(seen);
            let kept = self.replica.keep(&self.counts, now);
            kept.map_err(|error| broken(std::io::Error::other(error)))?;
            self.counts.clear();
            if seen >= head {
                self.replica.note(&self.judge, now);
                return Ok(());
            }
        }
    }

    /// The offset up to which all was judged.
    pub(super) fn at(&self) -> Offset {
        self.judge.at()
    }

    /// The number of records that were read before the node served.
    pub(super) fn replayed(&self) -> u64 {
        self.replayed
    }

    /// The offset from which the node goes on if it is killed.
    pub(super) fn synced(&self) -> Offset {
        self.replica.noted()
    }

    pub(super) fn lineage(&self) -> Lineage {
        Lineage { epoch: self.judge.epoch(), parents: self.parents.clone(), holes: Vec::new() }
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster.0
    }

    /// A digest of all that was judged, with its offset.
    pub(super) fn digest(&self) -> (Offset, u64) {
        (self.judge.at(), self.judge.chain())
    }

    /// Shows the records that come from now on.
    pub(super) fn serve(&mut self, shared: Arc<Shared>, tail: TailWriter) {
        let writer = shared.flight().writer;
        self.next_note = shared.now() + NOTE;
        // The packer waits until the reader knows the life of the log that it reads.
        self.connection = Connection::Off(shared.now());
        self.serving = Some(Serving { shared, tail, writer });
        self.replica.start();
    }

    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Reads, judges and shows a piece. Returns whether there was one.
    pub(super) fn turn(&mut self, wait: Duration) -> bool {
        let Some(shared) = self.serving.as_ref().map(|serving| Arc::clone(&serving.shared)) else { return false };
        if self.is_finished {
            return false;
        }
        let (now, wall) = (shared.now(), shared.bell.now());
        shared.give_up();
        if shared.is_done.load(Ordering::Acquire) {
            self.finish(&shared, wall);
            return true;
        }
        if now >= self.next_note && self.counts.is_empty() {
            let written = self.replica.note(&self.judge, wall);
            self.next_note = now + NOTE + Duration::from_millis(written as u64 * 1000 / NOTE_BYTES);
            shared.kept.synced.store(self.replica.noted().0, Ordering::Release);
        }
        if !self.counts.is_empty() || !self.results.is_empty() {
            return self.show(wall);
        }
        self.capture(&shared);
        if !self.pending.is_empty() {
            return self.judge_piece(wall);
        }
        if shared.fate.load(Ordering::Acquire) == FORKED {
            return false;
        }
        match self.read(&shared, now, wait) {
            Ok(is_something) => is_something && self.judge_piece(wall),
            Err(RemoteError::Refused(Refusal::Trimmed(trimmed))) => {
                tracing::error!(
                    at = %self.judge.at(), %trimmed,
                    "the engine has let go of what comes next for this node, which was away for too long: this life of it ends"
                );
                shared.ends(FORKED);
                false
            }
            Err(error) => {
                tracing::debug!(%error, "the engine can't be read");
                self.connection = Connection::Off(now + RETRY);
                false
            }
        }
    }

    /// Hands the judge's state to the keeper, if it wants that. All records up to there are kept and shown.
    fn capture(&self, shared: &Shared) {
        let mut capture = lock(&shared.kept.capture);
        let Some(serving) = self.serving.as_ref().filter(|_| std::mem::take(&mut capture.is_wanted)) else { return };
        let (at, shown) = (self.judge.at(), serving.tail.tail().head());
        capture.taken = Some(Captured { at, shown, judge: self.judge.encode().into() });
    }

    fn finish(&mut self, shared: &Shared, wall: UnixMillis) {
        self.is_finished = true;
        // Records that were judged and aren't shown are judged again by the next life.
        if self.counts.is_empty() {
            self.replica.close(&self.judge, wall);
        } else {
            tracing::warn!("the replica could not be written to its end; the next start reads that again");
        }
        shared.queue.closed();
    }

    /// Reads the next items; over a new connection it checks first that the log is still the same.
    fn read(&mut self, shared: &Shared, now: Monotonic, wait: Duration) -> Result<bool, RemoteError> {
        match self.connection {
            Connection::Off(then) if now < then => return Ok(false),
            Connection::Off(_) => {
                let state = self.remote.open(None)?;
                if state.genesis.log != self.judge.genesis().log {
                    tracing::error!("the engine has another log than before; this node stops to follow it");
                    shared.ends(FORKED);
                    return Ok(false);
                }
                if let Err(Fork(fork)) = check(&self.judge, &state) {
                    self.forked(fork);
                    return Ok(false);
                }
                self.connection = Connection::On;
                self.tell_life(shared, &state);
            }
            Connection::On => {}
        }
        let Batch { items, seen, head, life } = self.remote.read(self.judge.at(), READ_BYTES, wait)?;
        shared.hears();
        self.is_at_head = seen >= head;
        shared.engine_head.fetch_max(head.0, Ordering::AcqRel);
        let knows = |item: &Item| matches!(item, Item::Epoch(entry) if entry.life == life);
        if life.epoch != self.judge.epoch() && !items.iter().any(knows) && seen >= head {
            // The connection leads to another master, of whose life nothing can be read from here.
            self.connection = Connection::Off(now);
            self.is_at_head = false;
        }
        if items.is_empty() {
            self.judge.passed(seen);
            let is_at_head = std::mem::take(&mut self.is_at_head);
            if let Some(Serving { tail, .. }) = &self.serving {
                tail.tail().progress().reads_to(self.judge.at(), is_at_head);
            }
            shared.flight().read_to = self.judge.at();
            shared.kept.judged.store(self.judge.at().0, Ordering::Release);
            self.replica.idle(shared.bell.now());
            return Ok(false);
        }
        self.pending.extend(items);
        Ok(true)
    }

    /// Tells the packer the life in which it may write: that of the reader, if it is the present one.
    fn tell_life(&self, shared: &Shared, state: &LogState) {
        let entry = state.epochs.iter().find(|entry| entry.life.epoch == self.judge.epoch());
        let mut flight = shared.flight();
        flight.life = entry.map(|entry| entry.life.clone());
        flight.read_to = self.judge.at();
    }

    fn judge_piece(&mut self, wall: UnixMillis) -> bool {
        let Some(serving) = &mut self.serving else { return false };
        if serving.tail.is_full() {
            serving.shared.metrics.waits_for_store.add(1);
            // The engine is there: the reader waits for the store.
            serving.shared.hears();
            return false;
        }
        for _ in 0..PIECE {
            let Some(item) = self.pending.pop_front() else { break };
            if let Err(Fork(fork)) = self.take(item) {
                self.forked(fork);
                break;
            }
        }
        self.show(wall)
    }

    /// Judges the next item.
    fn take(&mut self, item: Item) -> Result<(), Fork> {
        match item {
            Item::Record(raw) => self.take_record(&raw),
            Item::Epoch(entry) => self.enter(&entry)?,
        }
        Ok(())
    }

    fn enter(&mut self, entry: &EpochEntry) -> Result<(), Fork> {
        let (epoch, at) = (self.judge.epoch(), self.judge.at());
        let Some((parent, fork)) = entry.parent.filter(|_| entry.life.epoch != epoch) else {
            self.judge.enter(entry);
            return Ok(());
        };
        if (parent != epoch || fork < at) && holds(Rule::Fork) {
            return Err(Fork(fork.min(at)));
        }
        self.judge.enter(entry);
        self.parents.iter_mut().for_each(|parent| parent.1 = parent.1.min(fork));
        self.parents.push((parent, fork));
        let Some(serving) = &self.serving else { return Ok(()) };
        let lineage = Arc::new(self.lineage());
        serving.shared.lineage.store(lineage);
        {
            let mut flight = serving.shared.flight();
            flight.life = Some(entry.life.clone());
            flight.withdraw();
        }
        self.counts.extend(epoch_record(entry, parent, fork, serving.shared.bell.now()));
        Ok(())
    }

    fn take_record(&mut self, raw: &Raw) {
        let Judged { of, verdict, differs } = self.judge.judge(raw);
        let is_own = |serving: &Serving| of.filter(|of| of.0 == serving.writer).map(|of| of.1);
        let own = self.serving.as_ref().and_then(is_own);
        if let Some(serving) = &self.serving {
            serving.shared.kept.read_bytes.fetch_add((raw.stored.len() + BESIDE) as u64, Ordering::AcqRel);
        }
        let epoch = self.judge.epoch();
        let result = match &verdict {
            Verdict::Counts(record, _) => Some(Ok(published(epoch, record))),
            Verdict::Known(published) => Some(Ok(*published)),
            Verdict::Refused(error) => Some(Err(*error)),
            // The record was carried over from another life, or is about a node that another record has told of: nobody
            // waits for it.
            Verdict::Again | Verdict::Filled => Some(Err(PublishError::Fenced)),
            Verdict::Stranger | Verdict::OutOfSequence | Verdict::Foreign => None,
        };
        if let Some(metrics) = self.serving.as_ref().map(|serving| &serving.shared.metrics) {
            match verdict {
                Verdict::Known(_) => metrics.duplicates.add(1),
                Verdict::Stranger | Verdict::OutOfSequence | Verdict::Again | Verdict::Foreign => metrics.void.add(1),
                Verdict::Counts(..) | Verdict::Filled | Verdict::Refused(_) => {}
            }
        }
        self.results.extend(own.zip(result));
        if own.is_some() && is_told(&verdict, &raw.stored) {
            // The place of the first message counts if this one was published before: as long as that stands, nothing
            // is lost.
            let place = if let Verdict::Known(known) = &verdict { known.offset } else { raw.offset };
            self.written.add(place, &raw.stored);
        }
        if let Verdict::Counts(record, second) = verdict {
            let is_of_node = is_about_nodes(&record);
            if is_of_node {
                self.roster.0.follow(&record);
                self.roster.1 = true;
            }
            self.counts.extend([Some(record), second].into_iter().flatten());
            if is_of_node {
                self.look_at_nodes(own.is_some(), differs);
            }
        }
    }

    /// Handles a change of a node, perhaps of this one.
    fn look_at_nodes(&mut self, is_own: bool, differs: Option<u64>) {
        let Some(Serving { shared, writer, .. }) = &self.serving else { return };
        let Some(this) = self.judge.writers().get(writer) else { return };
        if shared.fate.load(Ordering::Acquire) != LIVES {
            // That was said, and the rest of its records changes nothing.
            return;
        }
        let other = differs.filter(|other| self.differs != Some(*other));
        if let Some((id, other)) = other.and_then(|other| self.judge.writers().get_key_value(&other)) {
            tracing::error!(
                other = &*other.name,
                "this node and another have judged the log differently; the younger one ends"
            );
            self.differs = Some(*id);
            if this.since > other.since {
                shared.ends(FORKED);
            }
        }
        // Its own goodbye is the last of it.
        self.has_left |= is_own && !this.is_up;
        if self.has_left {
            return;
        }
        if !this.is_up {
            tracing::error!("others have declared this node dead, or one of its name has come: this life of it ends");
            let judged = self.results.drain(..);
            judged.for_each(|(sequence, result)| shared.flight().judged(sequence, result));
            shared.ends(FENCED);
            return;
        }
        let mut own = lock(&shared.own);
        own.is_up = this.is_up;
        if !is_own || this.beat.0 == own.beat.0 {
            return;
        }
        (own.beat, own.beats) = (this.beat, false);
        self.beats.push_back((this.beat.0, self.judge.time()));
        while self.beats.len() > BEATS {
            self.beats.pop_front();
        }
        let Some((first, then)) = self.beats.front().copied().filter(|_| self.beats.len() == BEATS) else { return };
        if self.judge.time().0 - then.0 < SILENCE_MS {
            return;
        }
        let silent = self.judge.writers().iter().filter(|(_, other)| other.is_up && other.last < first);
        own.downs = silent.map(|(id, other)| (other.name.clone(), *id, other.sequence)).collect();
    }

    /// Keeps and shows the judged records, and answers.
    fn show(&mut self, wall: UnixMillis) -> bool {
        if self.replica.keep(&self.counts, wall).is_err() {
            // The cause was logged. The records are tried again: the readers and the publishers wait meanwhile.
            self.replica.idle(wall);
            return false;
        }
        let at = self.judge.at();
        let Some(Serving { shared, tail, .. }) = &mut self.serving else { return false };
        if std::mem::take(&mut self.roster.1) {
            shared.roster.store(Arc::new(self.roster.0.clone()));
        }
        if !self.counts.is_empty() {
            tail.push(std::mem::take(&mut self.counts));
            shared.bell.head_moved();
        }
        tail.tail().progress().reads_to(at, self.pending.is_empty() && std::mem::take(&mut self.is_at_head));
        shared.settle(|flight| {
            for (sequence, result) in self.results.drain(..) {
                flight.judged(sequence, result);
            }
            flight.read_to = at;
            if flight.is_again() {
                saved::forget(self.replica.disk());
            }
            flight.answers()
        });
        shared.kept.judged.store(at.0, Ordering::Release);
        self.judge.measure(&shared.metrics);
        shared.queue.wake();
        true
    }

    fn forked(&mut self, fork: Offset) {
        self.pending.clear();
        let Some(serving) = &self.serving else { return };
        if serving.shared.fate.load(Ordering::Acquire) == LIVES {
            tracing::error!(
                %fork, at = %self.judge.at(),
                "the engine has lost the end of the log, of which this node has more: this life of it ends"
            );
            match self.written.save(self.replica.disk(), fork) {
                Ok(0) => {}
                Ok(records) => tracing::warn!(records, "what was acknowledged here is saved, to be appended again"),
                Err(error) => tracing::error!(%error, "what was acknowledged here can't be saved, and is lost"),
            }
        }
        serving.shared.ends(FORKED);
    }
}

/// The snapshot from which a node goes on, if the entries above its own offset were trimmed.
fn joined(remote: &mut dyn Remote, own: Offset, state: &LogState) -> Result<Option<snapshot::Snapshot>, FollowError> {
    remote.open(None)?;
    match remote.read(own, 1, Duration::ZERO) {
        Err(RemoteError::Refused(Refusal::Trimmed(_))) => {}
        read => return Ok(read.map(|_| None)?),
    }
    let newest = snapshot::newest(remote.blobs(), state)?;
    newest.filter(|snapshot| snapshot.judge.at() > own).map(Some).ok_or(FollowError::NoSnapshot)
}

pub(super) fn broken(error: std::io::Error) -> FollowError {
    FollowError::Disk { place: "the data directory".into(), error }
}

/// Whether the log goes on from where the judge is.
pub(super) fn check(judge: &Judge, state: &LogState) -> Result<(), Fork> {
    let at = judge.at();
    let Some(place) = state.epochs.iter().position(|entry| entry.life.epoch == judge.epoch()) else {
        return Err(Fork(Offset::BEGINNING));
    };
    let end = match state.epochs.get(place + 1) {
        Some(next) => next.parent.map_or(Offset::BEGINNING, |parent| parent.1),
        None => state.head,
    };
    if end < at && holds(Rule::Fork) { Err(Fork(end)) } else { Ok(()) }
}

/// The epochs before this one, with the offsets up to which their cursors are valid.
fn parents_of(epoch: Epoch, state: &LogState) -> Vec<(Epoch, Offset)> {
    let place = state.epochs.iter().position(|entry| entry.life.epoch == epoch).unwrap_or_default();
    let mut parents: Vec<(Epoch, Offset)> =
        state.epochs.get(1..=place).unwrap_or_default().iter().filter_map(|entry| entry.parent).collect();
    let mut lowest = Offset(u64::MAX);
    for parent in parents.iter_mut().rev() {
        lowest = lowest.min(parent.1);
        parent.1 = lowest;
    }
    parents
}

/// The record by which workers and the store learn of an epoch.
fn epoch_record(entry: &EpochEntry, parent: Epoch, fork: Offset, time: UnixMillis) -> Option<Arc<Record>> {
    let (epoch, parent, fork, begin) = (entry.life.epoch.0, parent.0, fork.0, entry.begin.0);
    let change = EpochChange { epoch, parent, fork, begin };
    let entered = system::record(Topic::parse(system::LOG).ok()?, &change, false);
    let (partition, offset, durability) = (Partition(0), entry.begin, Durability::None);
    Some(Arc::new(Record { partition, offset, time, durability, content: entered.into() }))
}
