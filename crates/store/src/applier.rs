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
use everywire_base::kept::What;
use everywire_base::record::{Content, Durability, Entry, Message, Once, Record, System};
use everywire_base::system::{self, HistoryLost};
use everywire_base::topic::Topic;
use everywire_log::engine::ArchiveError;

use crate::cache::Slot;
use crate::checkpoint::{Checkpoint, count_retained};
use crate::chunk;
use crate::former::FormerWills;
use crate::metrics::StoreMetrics;
use crate::retained::{Changed, Retained};
use crate::room::Room;
use crate::shared::{Shared, history_of};
use crate::state::TopicState;
use crate::tables::TablesError;
use crate::upkeep::Upkeep;

/// Records applied in one turn.
const TURN_RECORDS: usize = 8192;
/// Bytes read from the archive in one turn.
const TURN_BYTES: usize = 4 << 20;
/// Records between two checkpoints: the most that a restart replays.
const CHECKPOINT_RECORDS: u64 = 500_000;
/// Changed topics between two checkpoints.
const CHECKPOINT_TOPICS: usize = 32_768;
/// Time between two checkpoints, if anything changed.
const CHECKPOINT_MILLIS: u64 = 5000;
/// After a failure, the time before the tables are tried again.
const RETRY_MILLIS: u64 = 1000;

/// The reason why a store can't be opened or go on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The tables can't be used.
    #[error(transparent)]
    Tables(#[from] TablesError),
    /// The log can't be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

/// The result of a turn.
#[derive(Debug, Default)]
pub struct Progress {
    /// Whether more waits: the caller turns again at once.
    pub more: bool,
    /// The error that stops the applier. It tries again by itself in later turns.
    pub error: Option<StoreError>,
}

/// Applies the log to the store. One for each store, on one thread.
pub struct Applier {
    pub(crate) shared: Arc<Shared>,
    /// The last checkpoint, and the counters of the next one.
    pub(crate) checkpoint: Checkpoint,
    /// Topics whose state the next checkpoint writes.
    pub(crate) dirty: Vec<Topic>,
    /// Losses that readers can't see yet.
    losses: Vec<(usize, u64, Topic)>,
    /// The changes of retained messages in this turn: readers see them when they see `applied` move.
    staged: Changed,
    /// Topics that have no retained message after this turn.
    removed: Vec<Topic>,
    /// The time of the last checkpoint.
    checked_at: UnixMillis,
    /// The time of the newest record.
    newest: UnixMillis,
    failed_at: Option<UnixMillis>,
    /// The offset that the applier had reached before a failure: until then nobody reads.
    behind: Option<Offset>,
    /// Whether the failure was damage, so that the tables are made anew.
    is_damaged: bool,
    pub(crate) upkeep: Upkeep,
    pub(crate) room: Room,
    pub(crate) wills: FormerWills,
    /// The generation of the rules that the applier has seen.
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
            staged: Changed::default(),
            removed: Vec::new(),
            checked_at: UnixMillis(0),
            newest: UnixMillis(0),
            failed_at: None,
            behind: None,
            is_damaged: false,
            upkeep: Upkeep::default(),
            room: Room::default(),
            wills: FormerWills::default(),
            rules_seen: generation,
        };
        applier.restore()?;
        Ok(applier)
    }

    /// Starts over from the tables.
    fn restore(&mut self) -> Result<(), StoreError> {
        self.dirty.clear();
        self.losses.clear();
        self.staged.0.clear();
        self.removed.clear();
        self.upkeep = Upkeep::default();
        self.checkpoint = Checkpoint::restore(&self.shared, self.behind.is_some())?;
        // The record that says so may lie behind what was applied.
        let lacks = self.shared.archive.lacks().filter(|(above, _)| above.0 < self.checkpoint.applied);
        if let Some((above, up_to)) = lacks {
            self.shared.losses_mut().note_part(above.0, up_to.0);
        }
        self.shared.set_written(Offset(self.checkpoint.applied));
        self.shared.set_applied(Offset(self.checkpoint.applied), Changed::default());
        Ok(())
    }

    /// Applies the records of the log beyond `applied`, and does upkeep; a bounded piece of work.
    pub fn turn(&mut self, now: UnixMillis) -> Progress {
        if self.failed_at.is_some_and(|at| now.0 < at.0.saturating_add(RETRY_MILLIS) && now >= at) {
            return Progress::default();
        }
        match self.try_turn(now) {
            Ok(more) => Progress { more, error: None },
            Err(error) => {
                if self.failed_at.is_none() {
                    tracing::error!(%error, "the store can't follow the log; trying again");
                }
                if self.behind.is_none() {
                    self.shared.resets.fetch_add(1, Ordering::AcqRel);
                }
                self.behind = self.behind.max(Some(self.shared.applied()));
                self.is_damaged |= matches!(error, StoreError::Tables(TablesError::Damaged(_)));
                self.failed_at = Some(now);
                Progress { more: false, error: Some(error) }
            }
        }
    }

    /// Lets records gather for this time, unless a reader waits for one of them.
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
            self.begin_again()?;
        } else if let Some(what) = self.shared.take_damage() {
            return Err(TablesError::Damaged(what).into());
        }
        self.shared.ages_mut().pass(now);
        self.follow_rules(now)?;
        let after = self.shared.applied();
        let up_to = self.apply_next(after, now)?;
        self.publish(up_to);
        if self.behind.is_some_and(|behind| behind <= up_to) {
            self.caught_up(now)?;
        } else if self.is_due(now) {
            self.write_checkpoint(now)?;
        }
        let tidying = self.tidy(now)?;
        self.publish(up_to);
        Ok(tidying || up_to < self.shared.tail.head())
    }

    /// Goes on after a failure from the tables, or from nothing if they are damaged.
    fn begin_again(&mut self) -> Result<(), StoreError> {
        if self.is_damaged {
            self.shared.tables.clear()?;
        } else {
            self.shared.tables.reopen()?;
        }
        self.restore()?;
        (self.failed_at, self.is_damaged) = (None, false);
        Ok(())
    }

    /// Lets readers come again: the store is as far as it was before a failure.
    fn caught_up(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        self.write_checkpoint(now)?;
        count_retained(&self.shared)?;
        self.behind = None;
        self.shared.resets.fetch_add(1, Ordering::AcqRel);
        tracing::info!(applied = self.checkpoint.applied, "the store follows the log again");
        Ok(())
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

    /// Applies the next records; returns the offset up to which it came.
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
            let end = self.shared.tail.start().min(head);
            match self.shared.archive.scan(after, end, TURN_BYTES) {
                Err(error @ ArchiveError::Damaged { up_to, .. }) => {
                    let up_to = up_to.clamp(after.next(), end);
                    self.pass_over(&error, up_to);
                    return Ok(up_to);
                }
                scanned => {
                    let (kept, up_to) = scanned?;
                    records = kept;
                    up_to
                }
            }
        };
        let mut last = after;
        for record in &records {
            self.note_hole(last, record.offset);
            self.apply(record, now)?;
            self.tell_losses();
            last = record.offset;
            self.shared.set_reached(last);
        }
        self.note_hole(last, up_to.next());
        Ok(up_to)
    }

    /// Passes over records that the log can't give any more: they may be of any topic, so that they are a loss for all.
    fn pass_over(&mut self, error: &ArchiveError, up_to: Offset) {
        tracing::error!(%error, "a part of the log is damaged: the store goes on behind it");
        self.shared.losses_mut().note_missing(up_to.0);
    }

    /// Notes records that aren't in the log any more when the store is made anew: they may be of any topic. Offsets
    /// that a crash left out are no loss here; the hub reports those (RULES 2).
    fn note_hole(&mut self, last: Offset, next: Offset) {
        if next.0 > self.checkpoint.rebuilding_to + 1 {
            return;
        }
        let lineage = (self.shared.lineage)();
        let holes = &lineage.holes;
        let mut missing = next.0 - 1;
        while let Some(hole) = holes.iter().find(|hole| hole.0.0 <= missing && missing <= hole.1.0) {
            missing = hole.0.0 - 1;
        }
        if missing > last.0 {
            self.shared.losses_mut().note_missing(missing);
        }
    }

    /// Shows readers the losses.
    fn tell_losses(&mut self) {
        if !self.losses.is_empty() {
            let mut losses = self.shared.losses_mut();
            self.losses.drain(..).for_each(|(rule, offset, topic)| losses.note(rule, offset, topic));
        }
    }

    /// Shows readers the records that were applied.
    pub(crate) fn publish(&mut self, up_to: Offset) {
        self.tell_losses();
        if up_to > self.shared.applied() || !self.staged.0.is_empty() {
            self.shared.set_applied(up_to, std::mem::take(&mut self.staged));
        }
        // The hint changes last, when nobody finds these messages any more.
        self.removed.drain(..).for_each(|topic| self.shared.hint.remove(&topic));
    }

    /// Counts a record that a later version wrote, and reads again.
    fn note_unknown(&self, record: &Record) {
        if self.shared.metrics.unknown_records.fetch_add(1, Ordering::Relaxed) == 0 {
            let offset = record.offset.0;
            tracing::warn!(
                offset,
                "a later version wrote records of kinds that this one doesn't know: they are kept and skipped"
            );
        }
    }

    fn apply(&mut self, record: &Arc<Record>, now: UnixMillis) -> Result<(), StoreError> {
        self.newest = record.time;
        match &record.content {
            Content::Known(entry @ Entry::Message(message)) => {
                self.apply_message(record, message, now)?;
                if message.retain { self.retain(record, entry, now) } else { Ok(()) }
            }
            Content::Known(entry @ Entry::System(system)) => {
                self.follow_log(system);
                // A record that isn't retained is not read later: it needs no state.
                if system.retain { self.retain(record, entry, now) } else { Ok(()) }
            }
            Content::Unknown(_) => {
                self.note_unknown(record);
                Ok(())
            }
        }
    }

    /// Takes in the log's own changes.
    fn follow_log(&mut self, system: &System) {
        if system.topic.as_str() != system::LOG {
            return;
        }
        if let Some(lost) = system::read::<HistoryLost>(system) {
            self.shared.losses_mut().note_part(lost.above, lost.up_to);
        }
    }

    fn apply_message(&mut self, record: &Record, message: &Message, now: UnixMillis) -> Result<(), StoreError> {
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
        match &message.once {
            Some(once) => self.mark(record, message, once, now),
            None => Ok(()),
        }
    }

    /// Marks that a session has published a message under a number, until it releases that (RULES 12).
    fn mark(&mut self, record: &Record, message: &Message, once: &Once, now: UnixMillis) -> Result<(), StoreError> {
        let Some(topic) = system::once_topic(&once.session, once.tag) else { return Ok(()) };
        let content = System { expires: Some(once.until), ..System::new(topic.clone(), "", false) }.into();
        let Record { partition, offset, time, durability, .. } = *record;
        let mark =
            Retained::mark(Arc::new(Record { partition, offset, time, durability, content }), message, once.until);
        let former = self.retained_in(&topic)?;
        let mark = mark.after(former.as_ref(), time);
        self.stage(&topic, former.as_ref(), Some(mark), now)
    }

    fn retain(&mut self, record: &Arc<Record>, entry: &Entry, now: UnixMillis) -> Result<(), StoreError> {
        let topic = entry.topic();
        let former = self.retained_in(topic)?;
        let retained = Retained::of(record, entry).after(former.as_ref(), record.time);
        let is_late = |former: &Retained| former.generation > retained.generation;
        if retained.generation > 0 && former.as_ref().is_some_and(is_late) {
            return Ok(());
        }
        if let Some(former) = former.as_ref().filter(|_| topic.as_str().starts_with(system::WILLS)) {
            self.wills.note(former.offset, now);
        }
        // A mark that covers nothing is not kept.
        let retained = Some(retained).filter(|retained| retained.is_message() || retained.covers.0 > 0);
        self.stage(topic, former.as_ref(), retained, now)
    }

    /// The retained message of a topic, with the changes of this turn.
    pub(crate) fn retained_in(&self, topic: &Topic) -> Result<Option<Retained>, StoreError> {
        if let Some(staged) = self.staged.0.get(topic) {
            return Ok(staged.clone());
        }
        let changed = self.shared.retained().0.get(topic).cloned();
        Ok(self.shared.retained_at(topic, changed.as_ref())?)
    }

    /// Changes the retained message of a topic; readers see that when the turn is over.
    pub(crate) fn stage(
        &mut self,
        topic: &Topic,
        former: Option<&Retained>,
        retained: Option<Retained>,
        now: UnixMillis,
    ) -> Result<(), StoreError> {
        let message = retained.as_ref().filter(|retained| retained.is_message());
        let (was, is) = (former.is_some_and(Retained::is_message), message.is_some());
        self.count(topic, former.filter(|_| was), message);
        if !topic.is_internal() {
            let offset = message.map_or(0, |retained| retained.offset.0);
            self.change(topic, now, |slot, _| {
                slot.state.retained = offset;
                Some(())
            })?;
        }
        match (was, is) {
            // The hint changes before the message can be found.
            (false, true) => self.shared.hint.add(topic),
            (true, false) => self.removed.push(topic.clone()),
            _ => {}
        }
        self.staged.0.insert(topic.clone(), retained);
        Ok(())
    }

    /// Counts the kept bytes by their payers.
    fn count(&self, topic: &Topic, former: Option<&Retained>, retained: Option<&Retained>) {
        let (kept, what) = (self.shared.tail.kept(), What::on(topic));
        if let Some(retained) = retained {
            kept.add(what, retained.payer, retained.bytes);
        }
        if let Some(former) = former {
            kept.remove(what, former.payer, former.bytes);
        }
    }

    /// Changes a topic's state by its rule, keeps its bounds, and notes the losses. `None` means that nothing was
    /// changed.
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
                let age_floor = shared.floor(now, slot.history.max_age);
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
        self.publish(self.shared.applied());
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
