//! The judge: decides which records of a log with many writers count. Every reader runs it.
//!
//! Every node runs it over the same records in the same order and comes to the same result, whatever has happened on
//! the way: doubled frames, late ones, lost replies, nodes that were thought dead. So only the log and its genesis may
//! influence it: no clock, no configuration, no randomness, no hash that a language may change.
//!
//! A record is judged in this order, and every verdict but the first two moves its writer's sequence on:
//!
//! 1. *Writer*: it must be up. `Up` makes a life known, once; `Down`, `Bye`, and an `Up` of the same name end it for
//!    good.
//! 2. *Sequence*: it is the writer's next one. A doubled or late record is void, and so is one that follows a lost
//!    record, until that comes again.
//! 3. *Source*: its place is above the highest of its source. A writer is its own source.
//! 4. *Key*: the first in the log wins; others get its answer, or a conflict.
//! 5. *Guard*: a record of a former owner of a session is void (`fence`), and so is one whose judgement was by records
//!    that have changed since (`guards`).
//!
//! Windows count judged time: each record adds the time by the engine's clock since the one before, at least zero and
//! at most ten seconds. A wrong clock stops no window, and ends none.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use everywire_base::ask::{Guard, PublishError, Published, Source};
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::ordered::OrderedKey;
use everywire_base::record::{Content, Durability, Entry, Record, System};
use everywire_base::roster::{self, Life, Roster};
use everywire_base::system::{self, GroupDebt, NodeChange};
use everywire_base::topic::Topic;

use crate::appender::{ordered_key, published};
use crate::fence::Fences;
use crate::guards::Guards;
use crate::idempotency::{Answer, Keys};
use crate::metrics::LogMetrics;
use crate::producers::Producers;
use crate::proposal::Proposal;
use crate::remote::{EpochEntry, Genesis, Raw};
use crate::share::Sharer;
use crate::siphash::SipHash;
use crate::sources::Sources;

mod state;
#[cfg(test)]
mod tests;

/// The longest time that one record adds to judged time.
const LONGEST_STEP_MS: u64 = 10_000;
/// The number of ended lives that are remembered; a later record of one that is forgotten is of an unknown writer, and
/// void too.
const ENDED: usize = 4096;

/// The state that all readers of a log share.
pub(crate) struct Judge {
    genesis: Genesis,
    epoch: Epoch,
    /// The offset up to which all was judged.
    at: Offset,
    /// A digest of all records and verdicts up to here.
    chain: u64,
    time: Monotonic,
    /// The engine's time of the last record.
    last_time: UnixMillis,
    writers: HashMap<u64, Writer>,
    /// Lives that have ended, the first to end first.
    ended: VecDeque<u64>,
    /// The highest places of sources that are no writers here, or not any more.
    carried: HashMap<u64, u64>,
    /// The progress of logs of others that were taken over.
    sources: Sources,
    keys: Keys,
    producers: Producers,
    fences: Fences,
    guards: Guards,
    left_out: Option<Rule>,
}

/// A life of a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Writer {
    /// The node's name, encoded as in its topic.
    pub name: Box<str>,
    /// The node's name as it is, and the life's part of its connections' names.
    pub node: Box<str>,
    pub boot: u32,
    /// The offset of its first record.
    pub since: Offset,
    /// The number of its last record that counted, which is also its place as a source.
    pub sequence: u64,
    pub is_up: bool,
    /// The offset of its last record, and the judged time of that.
    pub last: Offset,
    pub heard: Monotonic,
    /// The offset of its last beat, and the digest there.
    pub beat: (Offset, u64),
    /// The offset of the beat before that, or of an earlier one, up to which its workers have handled all.
    pub floor: Offset,
    /// The messages below it that members of groups on the node owe.
    pub owes: Arc<[GroupDebt]>,
}

/// The judge's verdict on a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It counts, perhaps as two records.
    Counts(Arc<Record>, Option<Arc<Record>>),
    /// It is the place of the second of two records.
    Filled,
    /// The message was published before, at that place.
    Known(Published),
    /// It doesn't count; the error goes to its publisher.
    Refused(PublishError),
    /// Its writer is no life that is up.
    Stranger,
    /// It isn't its writer's next one.
    OutOfSequence,
    /// Its source has brought it, or a later one, before.
    Again,
    /// It can't be read.
    Foreign,
}

/// A record that was judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Judged {
    /// The life that has written it, and its number, if it can be read.
    pub of: Option<(u64, u64)>,
    pub verdict: Verdict,
    /// The writer of a beat whose digest differs from this judge's, if this record is one.
    pub differs: Option<u64>,
}

/// A rule of the judge: the tests leave them out one by one, to show the purpose of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    Writer,
    Sequence,
    Source,
    Key,
    Guard,
    /// A `Down` is void when a later record of the life has come.
    Down,
    /// Every verdict but the first two moves the sequence on.
    Advance,
    /// A record that wasn't read back is sent again over a new connection and in a new epoch (`follower`).
    Withdraw,
    /// An answer waits until its record was read back.
    ReadBack,
    /// An acknowledged record that the engine has lost is appended again.
    Again,
    /// A life of the log that has lost records which a node has ends that life of the node.
    Fork,
}

#[cfg(test)]
std::thread_local! {
    /// The rule that followers leave out that are stepped by this thread.
    pub(crate) static LEFT_OUT: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Whether a rule holds: always, except in tests that show its purpose.
#[cfg(test)]
pub(crate) fn holds(rule: Rule) -> bool {
    LEFT_OUT.get() != Some(rule)
}

/// Whether a rule holds: always, except in tests that show its purpose.
#[cfg(not(test))]
pub(crate) const fn holds(_: Rule) -> bool {
    true
}

impl Judge {
    /// A judge at the beginning of a log.
    pub(crate) fn new(genesis: Genesis, epoch: Epoch) -> Self {
        let hashes = (SipHash(genesis.key_seed), SipHash([genesis.key_seed[1], genesis.key_seed[0]]));
        let bounds = |numbers: [u64; 2]| numbers.map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let millis = |time: std::time::Duration| time.as_millis() as u64;
        Self {
            epoch,
            at: Offset::BEGINNING,
            chain: crate::mix(genesis.log),
            time: Monotonic(0),
            last_time: UnixMillis(0),
            writers: HashMap::new(),
            ended: VecDeque::new(),
            carried: HashMap::new(),
            sources: Sources::with(bounds([genesis.sources, 0])[0]),
            keys: Keys::with(hashes, millis(genesis.key_window), bounds(genesis.keys)),
            producers: Producers::with(hashes.0, millis(genesis.producer_window), bounds(genesis.producers)),
            fences: Fences::with(bounds([genesis.claims, 0])[0]),
            guards: Guards::with(bounds([genesis.guards, 0])[0], Offset::BEGINNING),
            left_out: None,
            genesis,
        }
    }

    /// The judge without a rule.
    #[cfg(test)]
    pub(crate) fn without(self, rule: Option<Rule>) -> Self {
        Self { left_out: rule, ..self }
    }

    fn holds(&self, rule: Rule) -> bool {
        self.left_out != Some(rule) && holds(rule)
    }

    pub(crate) fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The offset up to which all was judged.
    pub(crate) fn at(&self) -> Offset {
        self.at
    }

    /// The digest of all up to there.
    pub(crate) fn chain(&self) -> u64 {
        self.chain
    }

    /// Judged time.
    pub(crate) fn time(&self) -> Monotonic {
        self.time
    }

    /// The lives that are known, ended ones too.
    pub(crate) fn writers(&self) -> &HashMap<u64, Writer> {
        &self.writers
    }

    /// The lives that are up.
    pub(crate) fn roster(&self) -> Roster {
        let mut roster = Roster::default();
        for (id, writer) in self.writers.iter().filter(|(_, writer)| writer.is_up) {
            let Writer { boot, floor, since, .. } = *writer;
            let (node, beat, owes) = (writer.node.clone(), writer.beat.0.max(since), Arc::clone(&writer.owes));
            roster.insert(*id, Life { node, boot, floor, beat, owes, synced: Offset::BEGINNING });
        }
        roster
    }

    /// Sets the metrics of the tables' sizes.
    pub(crate) fn measure(&self, metrics: &LogMetrics) {
        metrics.keys.set(self.keys.len() as u64);
        metrics.producers.set(self.producers.len() as u64);
        metrics.claims.set(self.fences.len() as u64);
        metrics.guards.set(self.guards.len() as u64);
        metrics.sources.set(self.sources.len() as u64);
    }

    /// Enters another epoch, which begins here.
    pub(crate) fn enter(&mut self, entry: &EpochEntry) {
        self.epoch = entry.life.epoch;
        self.at = self.at.max(entry.begin);
        self.digest(entry.begin, u64::from(entry.life.epoch.0), u64::MAX);
    }

    /// Notes that everything up to here was seen: no record lies behind the last one.
    pub(crate) fn passed(&mut self, seen: Offset) {
        self.at = self.at.max(seen);
    }

    /// Judges the next record.
    pub(crate) fn judge(&mut self, raw: &Raw) -> Judged {
        let passed = if self.at == Offset::BEGINNING { 0 } else { raw.time.0.saturating_sub(self.last_time.0) };
        self.time.0 += passed.min(LONGEST_STEP_MS);
        self.last_time = raw.time;
        self.keys.expire(self.time);
        self.producers.expire(self.time);
        let judged = match Proposal::decode(raw.stored.clone()) {
            Ok(proposal) => self.judge_proposal(proposal, raw),
            Err(_) => Judged { of: None, verdict: Verdict::Foreign, differs: None },
        };
        self.at = raw.offset;
        self.digest(raw.offset, u64::from(crc32c::crc32c(&raw.stored)), judged.verdict.code());
        judged
    }

    fn digest(&mut self, offset: Offset, content: u64, verdict: u64) {
        for number in [offset.0, content, verdict, self.time.0] {
            self.chain = crate::mix(self.chain ^ number);
        }
    }

    fn judge_proposal(&mut self, proposal: Proposal, raw: &Raw) -> Judged {
        let (writer, sequence, source) = (proposal.writer, proposal.sequence, proposal.source);
        let of = Some((writer, sequence));
        let change = proposal.entry.as_ref().and_then(Entry::system).and_then(node_change);
        let judged = |verdict| Judged { of, verdict, differs: None };
        if let Some((name, NodeChange::Up { writer: named, node, boot, .. })) = &change
            && *named == writer
        {
            self.comes((name, node, *boot), writer, sequence, raw.offset);
        }
        if self.holds(Rule::Writer) && !self.writers.get(&writer).is_some_and(|writer| writer.is_up) {
            return judged(Verdict::Stranger);
        }
        let (time, in_sequence) = (self.time, self.holds(Rule::Sequence));
        let Some(known) = self.writers.get_mut(&writer) else { return judged(Verdict::Stranger) };
        if in_sequence && sequence != known.sequence + 1 {
            return judged(Verdict::OutOfSequence);
        }
        let before = known.clone();
        (known.sequence, known.last, known.heard) = (sequence.max(known.sequence), raw.offset, time);
        if let Some((source, place)) = source
            && !self.takes(source, place)
        {
            return judged(Verdict::Again);
        }
        let verdict = match change {
            Some((_, change)) => {
                let record = proposal.entry.map(|entry| record(raw, raw.offset, proposal.durability, entry));
                return self.changes(&change, writer, &before, record);
            }
            None => self.judge_entry(proposal, raw),
        };
        if !self.holds(Rule::Advance) && !matches!(verdict, Verdict::Counts(..) | Verdict::Filled) {
            self.writers.insert(writer, before);
        }
        Judged { of, verdict, differs: None }
    }

    /// Begins a life, unless it was known before. An older one of the same name ends.
    fn comes(&mut self, (name, node, boot): (&str, &str, u32), writer: u64, sequence: u64, at: Offset) {
        if sequence != 1 || self.writers.contains_key(&writer) || self.carried.contains_key(&writer) {
            return;
        }
        let older: Vec<u64> =
            self.writers.iter().filter(|(_, known)| known.is_up && *known.name == *name).map(|(id, _)| *id).collect();
        for id in older {
            self.ends(id);
        }
        let known = Writer {
            name: name.into(),
            node: node.into(),
            boot,
            since: at,
            sequence: 0,
            is_up: true,
            last: at,
            heard: self.time,
            beat: (Offset::BEGINNING, 0),
            floor: at,
            owes: Arc::default(),
        };
        self.writers.insert(writer, known);
    }

    fn ends(&mut self, writer: u64) {
        let Some(known) = self.writers.get_mut(&writer).filter(|known| known.is_up) else { return };
        known.is_up = false;
        self.ended.push_back(writer);
        if self.ended.len() > ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.writers.remove(&oldest);
        }
    }

    /// Whether a source's place is a new one; then it is the highest.
    fn takes(&mut self, source: u64, place: u64) -> bool {
        let rises = self.holds(Rule::Source);
        let highest = match self.writers.get_mut(&source) {
            Some(writer) => &mut writer.sequence,
            None => self.carried.entry(source).or_default(),
        };
        let is_new = place > *highest || !rises;
        *highest = place.max(*highest);
        is_new
    }

    /// Judges a record about a node; `before` is its writer's state before this record.
    fn changes(&mut self, change: &NodeChange, writer: u64, before: &Writer, record: Option<Arc<Record>>) -> Judged {
        let Some(record) = record else { return Judged { of: None, verdict: Verdict::Foreign, differs: None } };
        let of = self.writers.get(&writer).map(|known| (writer, known.sequence));
        let mut differs = None;
        let is_own = change.writer() == writer;
        let counts = match change {
            NodeChange::Up { .. } => is_own && before.sequence == 0,
            NodeChange::Beat { at, chain, read, owes, .. } => {
                let has_judged = before.beat.0 == Offset(*at) && *at > 0;
                differs = (is_own && has_judged && before.beat.1 != *chain).then_some(writer);
                let beat = (record.offset, self.chain);
                if let Some(known) = self.writers.get_mut(&writer).filter(|_| is_own) {
                    known.floor = roster::floor(known.floor, known.beat.0.max(known.since), *read);
                    (known.beat, known.owes) = (beat, owes.as_slice().into());
                }
                is_own
            }
            NodeChange::Down { writer: other, sequence } => {
                let is_due = |known: &Writer| known.is_up && (known.sequence == *sequence || !self.holds(Rule::Down));
                let is_due = !is_own && self.writers.get(other).is_some_and(is_due);
                if is_due {
                    self.ends(*other);
                }
                is_due
            }
            NodeChange::Bye { .. } => {
                if is_own {
                    self.ends(writer);
                }
                is_own
            }
        };
        let verdict = if counts { Verdict::Counts(record, None) } else { Verdict::Again };
        Judged { of, verdict, differs }
    }

    fn judge_entry(&mut self, proposal: Proposal, raw: &Raw) -> Verdict {
        let Proposal { durability, sharer, entry, later, pair, guards, taken, .. } = proposal;
        let Some(entry) = entry else {
            return later.map_or(Verdict::Filled, |fields| self.judge_later(&fields, durability, &guards, raw));
        };
        let ordered = entry.message().and_then(ordered_key);
        let verdict = self.weigh(&entry, (ordered.clone(), sharer), &guards, taken, raw.offset);
        let is_new = verdict == Ok(None);
        let first = record(raw, raw.offset, durability, entry);
        let second = pair.map(|pair| record(raw, raw.offset.next(), durability, pair));
        self.sources.settle(is_new);
        let place = published(self.epoch, &first);
        self.producers.settle(|_| is_new.then_some(place), self.time);
        if is_new {
            self.guards.claim(&guards, raw.offset);
            if let Some(message) = first.message().filter(|_| ordered.is_none() && taken.is_none()) {
                self.keys.published(message, place, self.time);
            }
            for record in [Some(&first), second.as_ref()].into_iter().flatten() {
                record.entry().into_iter().for_each(|entry| self.guards.note(entry.topic(), record.offset));
            }
        }
        self.guards.settle(true);
        match verdict {
            Ok(None) => Verdict::Counts(first, second),
            Ok(Some(Answer::Published(published))) => Verdict::Known(published),
            Ok(Some(_)) => Verdict::Foreign,
            Err(error) => Verdict::Refused(error),
        }
    }

    /// Judges an entry of a kind that was added in a later version.
    fn judge_later(&mut self, fields: &[u8], durability: Durability, guards: &[Guard], raw: &Raw) -> Verdict {
        if self.holds(Rule::Guard) && !self.guards.hold(guards) {
            return Verdict::Refused(PublishError::Stale);
        }
        self.guards.claim(guards, raw.offset);
        self.guards.settle(true);
        let content = Content::later(raw.offset, raw.time, durability, fields);
        Verdict::Counts(counted(raw, raw.offset, durability, content), None)
    }

    /// Checks the key, then the guards; for a record that was taken over, its position.
    fn weigh(
        &mut self,
        entry: &Entry,
        (ordered, sharer): (Option<OrderedKey>, Option<Sharer>),
        guards: &[Guard],
        taken: Option<Source>,
        at: Offset,
    ) -> Result<Option<Answer>, PublishError> {
        let (keys, guarded) = (self.holds(Rule::Key), self.holds(Rule::Guard));
        if let Some(taken) = taken {
            self.fences.judge(entry, at)?;
            return self.sources.check(&taken, 0, self.epoch);
        }
        let producer = ordered.as_ref().map(|key| key.producer.clone());
        let message = entry.message();
        let known = match (ordered, message) {
            _ if !keys => None,
            (Some(key), _) => self.producers.check_for(key, sharer, 0)?,
            (None, Some(message)) => self.keys.check_for(message, sharer, 0)?,
            (None, None) => None,
        };
        if known.is_some() || !guarded {
            return Ok(known);
        }
        let verdict = self.fences.judge(entry, at);
        let verdict = if self.guards.hold(guards) { verdict } else { verdict.and(Err(PublishError::Stale)) };
        // A message that is refused for another reason uses up no key.
        if let (Err(error), true) = (verdict, keys) {
            match producer {
                Some(producer) => self.producers.take_back(&producer),
                None => message.into_iter().for_each(|message| self.keys.forget(message)),
            }
            return Err(error);
        }
        verdict.map(|()| None)
    }
}

fn record(raw: &Raw, offset: Offset, durability: Durability, entry: Entry) -> Arc<Record> {
    counted(raw, offset, durability, entry.into())
}

fn counted(raw: &Raw, offset: Offset, durability: Durability, content: Content) -> Arc<Record> {
    Arc::new(Record { partition: Partition(0), offset, time: raw.time, durability, content })
}

impl Verdict {
    /// A number for the digest.
    fn code(&self) -> u64 {
        match self {
            Verdict::Counts(..) => 1,
            Verdict::Filled => 8,
            Verdict::Known(_) => 2,
            Verdict::Refused(_) => 3,
            Verdict::Stranger => 4,
            Verdict::OutOfSequence => 5,
            Verdict::Again => 6,
            Verdict::Foreign => 7,
        }
    }
}

/// The node's name and its change, if a record is about that.
pub(crate) fn node_change(system: &System) -> Option<(Box<str>, NodeChange)> {
    let name = system::node_of(&system.topic)?;
    Some((name.into(), system::read(system)?))
}

/// The topic of a node, by its name as encoded in another topic.
pub(crate) fn node_name(encoded: &str) -> Option<Topic> {
    Topic::parse(&format!("{}{encoded}", system::NODES)).ok()
}

/// Whether a record is a node's about itself, or the log's own: it is not for clients.
pub(crate) fn is_about_nodes(record: &Record) -> bool {
    let name = record.system().map(|system| system.topic.as_str());
    name.is_some_and(|name| name.starts_with(system::NODES) || name == system::LOG)
}

/// The promise of an answer: that of the topic's rule, or the engine's if it is lower.
pub(crate) fn promised(wanted: Durability, engine: Durability) -> Durability {
    match (wanted, engine) {
        (Durability::None, _) | (_, Durability::None) => Durability::None,
        (Durability::Memory, _) | (_, Durability::Memory) => Durability::Memory,
        (Durability::Replicated | Durability::Fsync, engine) => engine,
    }
}
