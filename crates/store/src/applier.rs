//! The applier: brings the store up to the log's head, one bounded turn after the other, on a thread of its own.
//!
//! A turn changes states in memory and moves `applied`; every few seconds a checkpoint writes all that changed in one
//! atomic batch together with the offset up to which it is true. So the tables are always exactly the log up to their
//! checkpoint, and replaying from there gives the same again (DESIGN 9: derived, written behind, rebuilt).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::{Durability, Entry, Message, Once, Record};
use everywire_base::system;
use everywire_base::topic::Topic;
use everywire_log::engine::ArchiveError;

use crate::cache::Slot;
use crate::checkpoint::Checkpoint;
use crate::chunk;
use crate::metrics::StoreMetrics;
use crate::retained::Retained;
use crate::shared::{Shared, history_of};
use crate::state::TopicState;
use crate::tables::TablesError;
use crate::upkeep::Upkeep;

/// Records applied in one turn.
const TURN_RECORDS: usize = 8192;
/// Bytes read from the archive in one turn.
const TURN_BYTES: usize = 4 << 20;
/// Records between two checkpoints: what a restart replays at most.
const CHECKPOINT_RECORDS: u64 = 500_000;
/// Changed topics between two checkpoints.
const CHECKPOINT_TOPICS: usize = 32_768;
/// Time between two checkpoints, if anything changed.
const CHECKPOINT_MILLIS: u64 = 5000;
/// After a failure, the time before the tables are tried again.
const RETRY_MILLIS: u64 = 1000;

/// Why a store can't be opened or go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The tables.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The log.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// What a turn came to.
#[derive(Debug, Default)]
pub struct Progress {
    /// Whether more waits: turn again at once.
    pub more: bool,
    /// Why nothing goes on. The applier tries again by itself in later turns.
    pub error: Option<StoreError>,
}

/// Applies the log to the store. One for each store, on one thread.
pub struct Applier {
    pub(crate) shared: Arc<Shared>,
    /// What the tables say, and what of it goes on.
    pub(crate) checkpoint: Checkpoint,
    /// Topics whose state the next checkpoint writes.
    pub(crate) dirty: Vec<Topic>,
    /// Losses of this turn.
    losses: Vec<(usize, u64, Topic)>,
    /// When the last checkpoint was written.
    checked_at: UnixMillis,
    /// The time of the newest record.
    newest: UnixMillis,
    failed_at: Option<UnixMillis>,
    pub(crate) upkeep: Upkeep,
    /// Of which rules `rules_seen` is the generation.
    rules_seen: u64,
}

impl Applier {
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let generation = shared.generation.load(Ordering::Acquire);
        let mut applier = Self {
            shared,
            checkpoint: Checkpoint::default(),
            dirty: Vec::new(),
            losses: Vec::new(),
            checked_at: UnixMillis(0),
            newest: UnixMillis(0),
            failed_at: None,
            upkeep: Upkeep::default(),
            rules_seen: generation,
        };
        applier.restore()?;
        Ok(applier)
    }

    /// Starts over from what the tables say.
    fn restore(&mut self) -> Result<(), StoreError> {
        self.dirty.clear();
        self.losses.clear();
        self.upkeep = Upkeep::default();
        self.checkpoint = Checkpoint::restore(&self.shared)?;
        self.shared.set_applied(Offset(self.checkpoint.applied));
        Ok(())
    }

    /// Applies what the log has beyond `applied`, and keeps retention; a bounded piece of work.
    pub fn turn(&mut self, now: UnixMillis) -> Progress {
        if self.failed_at.is_some_and(|at| now.0 < at.0.saturating_add(RETRY_MILLIS) && now >= at) {
            return Progress::default();
        }
        match self.try_turn(now) {
            Ok(more) => Progress { more, error: None },
            Err(error) => {
                if self.failed_at.is_none() {
                    tracing::error!(%error, "the store can't follow the log; trying again");
                    self.shared.resets.fetch_add(1, Ordering::AcqRel);
                }
                self.failed_at = Some(now);
                Progress { more: false, error: Some(error) }
            }
        }
    }

    /// Lets records gather for so long, unless a reader waits for one of them.
    pub fn rest(&self, pause: Duration) {
        self.shared.rest(pause);
    }

    /// Writes a last checkpoint, so that the next start has nothing to replay.
    pub fn close(mut self) -> Result<(), StoreError> {
        if self.failed_at.is_none() {
            self.write_checkpoint(self.checked_at)?;
            self.shared.tables.sync()?;
        }
        Ok(())
    }

    fn try_turn(&mut self, now: UnixMillis) -> Result<bool, StoreError> {
        if self.failed_at.is_some() {
            self.shared.tables.reopen()?;
            self.restore()?;
            self.failed_at = None;
            self.shared.resets.fetch_add(1, Ordering::AcqRel);
            tracing::info!(applied = self.checkpoint.applied, "the store follows the log again");
        }
        self.follow_rules(now)?;
        let after = self.shared.applied();
        let up_to = self.apply_next(after, now)?;
        if up_to > after {
            self.publish(up_to);
        }
        if self.is_due(now) {
            self.write_checkpoint(now)?;
        }
        let tidying = self.tidy(now)?;
        Ok(tidying || up_to < self.shared.tail.head())
    }

    fn follow_rules(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation != self.rules_seen {
            self.begin_round(now)?;
            self.rules_seen = generation;
            self.shared.losses_mut().reset_rules(&self.shared.rules.load());
        }
        Ok(())
    }

    /// Applies the next records, and says up to where.
    fn apply_next(&mut self, after: Offset, now: UnixMillis) -> Result<Offset, StoreError> {
        let head = self.shared.tail.head();
        if after >= head {
            return Ok(after);
        }
        let mut records = Vec::with_capacity(TURN_RECORDS.min((head.0 - after.0) as usize));
        let reaches = self.shared.tail.read(after, head, |record| {
            records.push(Arc::clone(record));
            records.len() < TURN_RECORDS
        });
        let up_to = if reaches {
            if records.len() < TURN_RECORDS { head } else { records[TURN_RECORDS - 1].offset }
        } else {
            let (kept, up_to) = self.shared.archive.scan(after, self.shared.tail.start().min(head), TURN_BYTES)?;
            records = kept;
            up_to
        };
        let mut last = after;
        for record in &records {
            self.note_hole(last, record.offset);
            self.apply(record, now)?;
            last = record.offset;
        }
        self.note_hole(last, up_to.next());
        Ok(up_to)
    }

    /// What isn't in the log any more when the store is made anew may have been anybody's. Numbers that a crash left out
    /// were nobody's, or are the hub's to speak of (RULES 2).
    fn note_hole(&mut self, last: Offset, next: Offset) {
        if next.0 > self.checkpoint.rebuilding_to + 1 {
            return;
        }
        let holes = &self.shared.lineage.holes;
        let mut missing = next.0 - 1;
        while let Some(hole) = holes.iter().find(|hole| hole.0.0 <= missing && missing <= hole.1.0) {
            missing = hole.0.0 - 1;
        }
        if missing > last.0 {
            self.shared.losses_mut().rebuilt = missing;
        }
    }

    /// Readers may see what was applied.
    fn publish(&mut self, up_to: Offset) {
        if !self.losses.is_empty() {
            let mut losses = self.shared.losses_mut();
            self.losses.drain(..).for_each(|(rule, offset, topic)| losses.note(rule, offset, topic));
        }
        self.shared.set_applied(up_to);
    }

    fn apply(&mut self, record: &Arc<Record>, now: UnixMillis) -> Result<(), StoreError> {
        self.newest = self.newest.max(record.time);
        let Some(message) = record.message() else { return Ok(()) };
        if message.topic.is_internal() {
            // What isn't retained nobody reads later: that it was there needn't be known.
            return if message.retain { self.retain(record, message, now) } else { Ok(()) };
        }
        let keeps = record.durability != Durability::None;
        let offset = record.offset.0;
        self.change(&message.topic, now, |slot, _| {
            if keeps && slot.history.max_messages > 0 {
                slot.state.push(chunk::Entry { offset, bytes: message.body.len() as u64, expires: message.expires });
            } else {
                slot.state.pass(offset);
            }
            Some(())
        })?;
        if let Some(once) = &message.once {
            self.mark(record, once, now)?;
        }
        if message.retain { self.retain(record, message, now) } else { Ok(()) }
    }

    /// A session has published something under a number: that is known until it releases it (RULES 12).
    fn mark(&mut self, record: &Record, once: &Once, now: UnixMillis) -> Result<(), StoreError> {
        let Some(topic) = system::once_topic(&once.session, once.tag) else { return Ok(()) };
        let expires = Some(once.until);
        let message = Message { expires, ..Message::new(topic.clone(), "") };
        let entry = Entry::Message(message);
        let Record { partition, offset, time, durability, .. } = *record;
        let mark = Arc::new(Record { partition, offset, time, durability, entry });
        let retained = Retained { offset, expires, generation: 0, record: Some(mark) };
        self.set_retained(&topic, offset, Some(retained), now)
    }

    fn retain(&mut self, record: &Arc<Record>, message: &Message, now: UnixMillis) -> Result<(), StoreError> {
        let retained = (!message.body.is_empty()).then(|| Retained::of(record, message));
        // What a session publishes once carries a generation too: that says nothing of its topic.
        let generation = if message.topic.is_internal() { message.generation } else { 0 };
        self.replace_retained(&message.topic, (record.offset, generation), retained, now)
    }

    pub(crate) fn set_retained(
        &mut self,
        topic: &Topic,
        at: Offset,
        retained: Option<Retained>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        self.replace_retained(topic, (at, 0), retained, now)
    }

    /// The same, unless what is retained is of a later generation; 0 counts none.
    fn replace_retained(
        &mut self,
        topic: &Topic,
        (at, generation): (Offset, u64),
        retained: Option<Retained>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        // Read only where generations are counted, or no state tells.
        let counts = generation > 0;
        let found = if counts || topic.is_internal() { self.shared.retained_in(topic)? } else { None };
        if counts && found.as_ref().is_some_and(|found| found.generation > generation) {
            return Ok(());
        }
        let offset = retained.as_ref().map_or(0, |retained| retained.offset.0);
        let former = if topic.is_internal() {
            found.map_or(0, |found| found.offset.0)
        } else {
            self.change(topic, now, |slot, _| Some(std::mem::replace(&mut slot.state.retained, offset)))?.unwrap_or(0)
        };
        // Added before it can be found, and removed after.
        if former == 0 && offset != 0 {
            self.shared.hint.add(topic);
        }
        self.shared.retained_mut().0.insert(topic.clone(), (at, retained));
        if former != 0 && offset == 0 {
            self.shared.hint.remove(topic);
        }
        Ok(())
    }

    /// Changes a topic's state by its rule, keeps its bounds, and notes what follows from that. `None` means that
    /// nothing was changed.
    pub(crate) fn change<T>(
        &mut self,
        topic: &Topic,
        now: UnixMillis,
        change: impl FnOnce(&mut Slot, &Shared) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let Self { shared, checkpoint, dirty, losses, rules_seen, .. } = self;
        let done = shared.cache.change(
            topic,
            || load(shared, checkpoint, topic),
            |slot| {
                follow(slot, topic, shared, *rules_seen);
                let before = slot.state.trimmed;
                let done = change(slot, shared);
                let age_floor = shared.ages().floor(now, slot.history.max_age);
                let trimmed = slot.state.trim(&slot.history, age_floor, now, &*shared.tables)?;
                if slot.state.trimmed > before {
                    losses.push((slot.rule, slot.state.trimmed, topic.clone()));
                    StoreMetrics::add(&shared.metrics.floors_moved, 1);
                }
                if done.is_some() || trimmed {
                    slot.gone = false;
                    if !std::mem::replace(&mut slot.dirty, true) {
                        dirty.push(topic.clone());
                    }
                }
                Ok::<_, TablesError>(done)
            },
        )?;
        Ok(done?)
    }

    fn is_due(&self, now: UnixMillis) -> bool {
        let records = self.shared.applied().0 - self.checkpoint.applied;
        let late = now.0 >= self.checked_at.0.saturating_add(CHECKPOINT_MILLIS) || now < self.checked_at;
        let changed = self.dirty.len().max(self.shared.retained().0.len());
        records >= CHECKPOINT_RECORDS
            || changed >= CHECKPOINT_TOPICS
            || self.shared.cache.is_full()
            || late && (records > 0 || changed > 0)
    }

    pub(crate) fn write_checkpoint(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        self.checked_at = now;
        if !self.losses.is_empty() {
            self.publish(self.shared.applied());
        }
        self.checkpoint.write(&self.shared, &mut self.dirty, self.newest, now)?;
        self.shared.cache.shrink();
        StoreMetrics::set(&self.shared.metrics.cache_bytes, self.shared.cache.bytes());
        Ok(())
    }
}

/// A topic's state from the tables, or a new one.
fn load(shared: &Shared, checkpoint: &mut Checkpoint, topic: &Topic) -> Result<TopicState, TablesError> {
    if let Some(state) = shared.stored_state(topic)? {
        return Ok(state);
    }
    checkpoint.topics += 1;
    checkpoint.next_id += 1;
    shared.fresh_mut().insert(topic.clone());
    Ok(TopicState::new(checkpoint.next_id, shared.losses().forgotten))
}

/// Brings the slot's rule up to date.
fn follow(slot: &mut Slot, topic: &Topic, shared: &Shared, generation: u64) {
    if slot.generation != generation {
        let rules = shared.rules.load();
        let rule = rules.of(topic);
        slot.generation = generation;
        slot.rule = rules.all().position(|other| std::ptr::eq(other, rule)).unwrap_or_default();
        slot.history = history_of(rule);
    }
}
