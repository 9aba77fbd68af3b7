//! Upkeep: what retention does without a message's help. A sweep over the topics lets go what has aged and forgets
//! topics of which nothing is left; cleaning the log frees what no topic wants any more.
//!
//! Both do a bounded piece at a time. Cleaning works on records that a synced checkpoint covers, so that what is
//! replayed after a crash is still there.

use std::ops::Bound;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::{Message, Record};
use everywire_base::system;
use everywire_base::topic::Topic;

use crate::ages::is_over_age;
use crate::applier::{Applier, StoreError};
use crate::metrics::StoreMetrics;
use crate::retained::{Content, Retained};
use crate::shared::{Shared, history_of, key_of};
use crate::state::TopicState;
use crate::tables::Table;

/// Topics that a step of the sweep looks at.
const SWEEP_TOPICS: usize = 1024;
/// Retained messages that it looks at.
const SWEEP_RETAINED: usize = 8192;
/// Time between two steps of the sweep.
const SWEEP_MILLIS: u64 = 1000;
/// Time between two cleanings, while they free something and when they don't.
const CLEAN_MILLIS: [u64; 2] = [250, 10_000];

/// Where upkeep stands.
#[derive(Default)]
pub(crate) struct Upkeep {
    /// The topic that the sweep looked at last.
    swept: Option<Topic>,
    /// The same of the retained messages.
    swept_retained: Option<Topic>,
    /// Whether the sweep goes round without pause, because the rules have changed.
    hurries: bool,
    sweep_at: UnixMillis,
    clean_at: UnixMillis,
    /// Whether the disk bound is exceeded: then cleaning goes on without pause.
    is_short: bool,
    /// The checkpoint that the last sync covers.
    synced: u64,
    /// Whether something was let go that replaying the log would not let go again.
    unwritten: bool,
}

/// Whether the time has come; a clock that went back must not stop anything.
fn is_due(due: UnixMillis, period: u64, now: UnixMillis) -> bool {
    now >= due || due.0 - now.0 > period
}

impl Applier {
    /// Other rules hold from now on: writes what the former ones came to, and sweeps over all topics soon.
    pub(crate) fn begin_round(&mut self, now: UnixMillis) -> Result<(), StoreError> {
        self.upkeep.unwritten = true;
        self.secure(now)?;
        self.upkeep = Upkeep { hurries: true, synced: self.upkeep.synced, ..Upkeep::default() };
        Ok(())
    }

    /// Does what is due. Says whether there is more to do at once.
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

    /// Takes away what was retained and has expired, and marks that cover nothing any more.
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
            // It was replaced since it was written.
            return Ok(());
        }
        let mark = Retained { content: Content::Nothing, ..retained.clone() };
        self.stage(topic, Some(&retained), Some(mark).filter(|mark| !mark.is_over(now)), now)
    }

    /// What is older than any rule keeps may be forgotten: of it, a reader is told a gap whatever the topic was.
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
            // When in doubt it stays.
            error.is_some()
                || self.is_wanted(record, now).unwrap_or_else(|e| {
                    error = Some(e);
                    true
                })
        });
        // What can't be cleaned is tried again later; nothing else waits for it.
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

    /// What the log lets go must be gone in tables that survive a power cut, or be let go again by replaying.
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

    /// Whether the log must keep a record: it is above its topic's floor and not past its time, or what is retained
    /// follows from it.
    fn is_wanted(&mut self, record: &Record, now: UnixMillis) -> Result<bool, StoreError> {
        let Some(message) = record.message() else { return Ok(true) };
        let is_will = self.wills.has(record.offset, now);
        Ok(is_will || self.is_retained(record, message, now)? || self.is_history(record, message, now)?)
    }

    /// Whether a record made its topic's retained message, or took it away, or marks what a session has published, and
    /// that must be known.
    fn is_retained(&mut self, record: &Record, message: &Message, now: UnixMillis) -> Result<bool, StoreError> {
        let own = message.retain.then(|| message.topic.clone());
        let once = message.once.as_ref().and_then(|once| system::once_topic(&once.session, once.tag));
        for topic in own.into_iter().chain(once) {
            let retained = self.retained_in(&topic)?;
            if retained.is_some_and(|retained| retained.offset == record.offset && !retained.is_over(now)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_history(&mut self, record: &Record, message: &Message, now: UnixMillis) -> Result<bool, StoreError> {
        if message.topic.is_internal() {
            return Ok(false);
        }
        let offset = record.offset.0;
        let state = self.shared.state(&message.topic)?;
        let is_kept = |state: &TopicState| offset > state.floor && !message.is_expired(now);
        let Some(state) = state.filter(is_kept) else { return Ok(false) };
        let history = history_of(self.shared.rules.load().of(&message.topic));
        if offset <= self.shared.room_floor() || is_over_age(record.time, history.max_age, self.shared.times(now).1) {
            self.let_go(&message.topic, offset, now)?;
            return Ok(false);
        }
        Ok(!state.exceeds(&history) || {
            self.upkeep.unwritten = true;
            self.change(&message.topic, now, |_, _| None::<()>)?;
            self.shared.state(&message.topic)?.is_some_and(|state| offset > state.floor)
        })
    }

    /// Up to where tables that survive a power cut are true.
    pub(crate) fn synced(&self) -> u64 {
        self.upkeep.synced
    }

    /// Notes that a topic has lost everything up to here by age, or for want of room.
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
