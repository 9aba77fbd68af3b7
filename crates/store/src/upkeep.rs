//! Upkeep: the work of retention that no message triggers. A sweep over the topics removes messages that are too old
//! and forgets topics of which nothing is left; cleaning the log frees records that no topic wants any more.
//!
//! Both do a bounded piece at a time. Cleaning works on records that a synced checkpoint covers, so that the records
//! that are replayed after a crash are still there.

use std::ops::Bound;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::{Entry, Message, Record};
use everywire_base::system;
use everywire_base::topic::Topic;

use crate::ages::is_over_age;
use crate::applier::{Applier, StoreError};
use crate::metrics::StoreMetrics;
use crate::retained::{Content, Retained};
use crate::shared::{Shared, history_of, key_of};
use crate::state::TopicState;
use crate::tables::Table;

/// The number of topics that a step of the sweep looks at.
const SWEEP_TOPICS: usize = 1024;
/// The number of retained messages that it looks at.
const SWEEP_RETAINED: usize = 8192;
/// Time between two steps of the sweep.
const SWEEP_MILLIS: u64 = 1000;
/// Time between two cleanings, while they free something and when they don't.
const CLEAN_MILLIS: [u64; 2] = [250, 10_000];

/// The state of upkeep.
#[derive(Default)]
pub(crate) struct Upkeep {
    /// The topic that the sweep looked at last.
    swept: Option<Topic>,
    /// The topic of the retained message that the sweep looked at last.
    swept_retained: Option<Topic>,
    /// Whether the sweep goes round without pause, because the rules have changed.
    hurries: bool,
    sweep_at: UnixMillis,
    clean_at: UnixMillis,
    /// Whether the disk bound is exceeded: then cleaning goes on without pause.
    is_short: bool,
    /// The checkpoint that the last sync covers.
    synced: u64,
    /// Whether a message was removed that a replay of the log would not remove again.
    unwritten: bool,
}

/// Whether an action is due; a clock that went back must not stop anything.
fn is_due(due: UnixMillis, period: u64, now: UnixMillis) -> bool {
    now >= due || due.0 - now.0 > period
}

impl Applier {
    /// Follows a change of the rules: writes the results of the former ones, and sweeps over all topics soon.
    pub(crate) fn begin_round(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        self.upkeep.unwritten = true;
        self.secure(now)?;
        self.upkeep = Upkeep { hurries: true, synced: self.upkeep.synced, ..Upkeep::default() };
        Ok(())
    }

    /// Does the work that is due. Returns whether there is more to do at once.
    pub(crate) fn tidy(&mut self, now: UnixMillis) -> Result<bool, StoreError> {
        if self.upkeep.hurries || is_due(self.upkeep.sweep_at, SWEEP_MILLIS, now) {
            self.upkeep.sweep_at = UnixMillis(now.0.saturating_add(SWEEP_MILLIS));
            self.sweep(now)?;
            self.sweep_retained(now)?;
            self.upkeep.is_short = self.keep_room(now);
            if self.upkeep.is_short {
                self.upkeep.clean_at = now;
            }
        }
        if is_due(self.upkeep.clean_at, CLEAN_MILLIS[1], now) {
            let freed = self.clean(now)?;
            let goes_on = self.upkeep.is_short && freed > 0;
            let wait = if goes_on { 0 } else { CLEAN_MILLIS[usize::from(freed == 0)] };
            self.upkeep.clean_at = UnixMillis(now.0.saturating_add(wait));
            return Ok(self.upkeep.hurries || goes_on);
        }
        Ok(self.upkeep.hurries)
    }

    fn sweep(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        let (mut due, mut seen, mut last) = (Vec::new(), 0, None);
        let forget_floor = self.forget_floor(now);
        let after = self.upkeep.swept.take();
        self.shared.walk("", after.as_ref(), &mut |topic, state| {
            if is_sweepable(&self.shared, topic, state, forget_floor, now) {
                due.push(topic.clone());
            }
            seen += 1;
            last = Some(topic.clone());
            seen < SWEEP_TOPICS
        })?;
        for topic in due {
            self.upkeep.unwritten = true;
            self.change(&topic, now, |_, _| None::<()>)?;
            self.forget(&topic, forget_floor);
        }
        if seen == SWEEP_TOPICS {
            self.upkeep.swept = last;
        } else {
            self.upkeep.hurries = false;
        }
        Ok(())
    }

    /// Removes retained messages that have expired, and marks that cover nothing any more.
    fn sweep_retained(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        let shared = std::sync::Arc::clone(&self.shared);
        let (mut due, mut seen, mut last, mut error) = (Vec::new(), 0, None, None);
        let after = self.upkeep.swept_retained.take().map_or(Bound::Unbounded, Bound::Excluded);
        shared.tables.scan(Table::Retained, &key_of(&after), None, &mut |name, value| {
            seen += 1;
            match shared.retained_entry(name, value) {
                Ok((topic, retained)) => {
                    if retained.is_over(now) || retained.is_message() && retained.is_expired(now) {
                        due.push(topic.clone());
                    }
                    last = Some(topic);
                }
                Err(e) => error = Some(e),
            }
            error.is_none() && seen < SWEEP_RETAINED
        })?;
        if let Some(error) = error {
            return Err(error.into());
        }
        self.upkeep.swept_retained = last.filter(|_| seen == SWEEP_RETAINED);
        due.iter().try_for_each(|topic| self.expire(topic, now))
    }

    fn expire(&mut self, topic: &Topic, now: UnixMillis) -> Result<(), StoreError> {
        let Some(retained) = self.retained_in(topic)? else { return Ok(()) };
        if retained.is_there(now) || !retained.is_message() && !retained.is_over(now) {
            // The message was replaced since it was written.
            return Ok(());
        }
        let mark = Retained { content: Content::Nothing, ..retained.clone() };
        self.stage(topic, Some(&retained), Some(mark).filter(|mark| !mark.is_over(now)), now)
    }

    /// The floor below which topics may be forgotten, as older than any rule keeps: a reader from below it gets a gap
    /// for any topic.
    fn forget_floor(&self, now: UnixMillis) -> u64 {
        let oldest = self.shared.rules.load().all().map(|rule| rule.history.max_age).max().unwrap_or_default();
        self.shared.ages().floor(now, oldest)
    }

    fn forget(&mut self, topic: &Topic, forget_floor: u64) {
        let dirty = &mut self.dirty;
        let forgotten = self.shared.cache.change_here(topic, |slot| {
            slot.gone = is_forgettable(&slot.state, forget_floor);
            if slot.gone && !std::mem::replace(&mut slot.dirty, true) {
                dirty.push(topic.clone());
            }
            if slot.gone { slot.state.trimmed } else { 0 }
        });
        let mut losses = self.shared.losses_mut();
        losses.forgotten = losses.forgotten.max(forgotten.unwrap_or_default());
    }

    fn clean(&mut self, now: UnixMillis) -> Result<u64, StoreError> {
        self.secure(now)?;
        let (shared, applied) = (std::sync::Arc::clone(&self.shared), self.upkeep.synced);
        let mut error = None;
        let freed = shared.archive.clean(Offset(applied), &mut |record| {
            // A record stays when in doubt.
            error.is_some()
                || self.is_wanted(record, now).unwrap_or_else(|e| {
                    error = Some(e);
                    true
                })
        });
        // A log that can't be cleaned is tried again later; nothing else waits for it.
        let freed = freed.unwrap_or_else(|error| {
            tracing::error!(%error, "the log can't be cleaned; trying again");
            0
        });
        StoreMetrics::add(&shared.metrics.cleaned_bytes, freed);
        if self.upkeep.unwritten {
            self.secure(now)?;
        }
        error.map_or(Ok(freed), Err)
    }

    /// Makes removals durable before the log drops their records: these must be gone in synced tables, or be removed
    /// again by a replay.
    fn secure(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        if self.upkeep.unwritten {
            self.write_checkpoint(now)?;
        }
        if self.upkeep.unwritten || self.upkeep.synced < self.checkpoint.applied {
            self.shared.tables.sync()?;
            (self.upkeep.synced, self.upkeep.unwritten) = (self.checkpoint.applied, false);
        }
        Ok(())
    }

    /// Whether the log must keep a record: it is above its topic's floor and not expired, or a retained message or mark
    /// follows from it.
    fn is_wanted(&mut self, record: &Record, now: UnixMillis) -> Result<bool, StoreError> {
        let Some(entry) = record.entry() else { return Ok(true) };
        let is_will = self.wills.has(record.offset, now);
        if is_will || self.is_retained(record, entry, now)? {
            return Ok(true);
        }
        entry.message().map_or(Ok(false), |message| self.is_history(record, message, now))
    }

    /// Whether a record set its topic's retained message, or removed it, or marks a session's publish, and that must
    /// still be known.
    fn is_retained(&mut self, record: &Record, entry: &Entry, now: UnixMillis) -> Result<bool, StoreError> {
        let own = entry.is_retained().then(|| entry.topic().clone());
        let once = entry.message().and_then(|message| message.once.as_ref());
        let once = once.and_then(|once| system::once_topic(&once.session, once.tag));
        for topic in own.into_iter().chain(once) {
            let retained = self.retained_in(&topic)?;
            if retained.is_some_and(|retained| retained.offset == record.offset && !retained.is_over(now)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_history(&mut self, record: &Record, message: &Message, now: UnixMillis) -> Result<bool, StoreError> {
        let offset = record.offset.0;
        let state = self.shared.state(&message.topic)?;
        let is_kept = |state: &TopicState| offset > state.floor && !message.is_expired(now);
        let Some(state) = state.filter(is_kept) else { return Ok(false) };
        let history = history_of(self.shared.rules.load().of(&message.topic));
        if offset <= self.shared.room_floor()
            || is_over_age(record.time, history.max_age, self.shared.times(now, history.max_age).1)
        {
            self.let_go(&message.topic, offset, now)?;
            return Ok(false);
        }
        Ok(!state.exceeds(&history) || {
            self.upkeep.unwritten = true;
            self.change(&message.topic, now, |_, _| None::<()>)?;
            self.shared.state(&message.topic)?.is_some_and(|state| offset > state.floor)
        })
    }

    /// The offset up to which synced tables have the log.
    pub(crate) fn synced(&self) -> u64 {
        self.upkeep.synced
    }

    /// Removes all messages of a topic up to an offset, by age or because room is short.
    fn let_go(&mut self, topic: &Topic, up_to: u64, now: UnixMillis) -> Result<(), StoreError> {
        self.upkeep.unwritten = true;
        let mut result = Ok(());
        self.change(topic, now, |slot, shared| {
            result = slot.state.trim(&slot.history, up_to, now, &*shared.tables).map(drop);
            Some(())
        })?;
        Ok(result?)
    }
}

fn is_sweepable(shared: &Shared, topic: &Topic, state: &TopicState, forget_floor: u64, now: UnixMillis) -> bool {
    if state.count == 0 {
        return is_forgettable(state, forget_floor);
    }
    let history = history_of(shared.rules.load().of(topic));
    state.exceeds(&history) || state.oldest <= shared.floor(now, history.max_age)
}

fn is_forgettable(state: &TopicState, forget_floor: u64) -> bool {
    state.count == 0 && state.retained == 0 && state.head <= forget_floor && state.trimmed <= forget_floor
}
