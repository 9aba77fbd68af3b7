//! The state that the applier and the readers of a store share.
//!
//! The applier's thread alone changes it. A reader of history first notes the offset that the applier has reached and
//! looks at states afterwards, so that its view is complete up to there; records beyond are left out. Retained messages
//! are replaced in place and can't be read in this way: they change together with `applied`, when a turn is over.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use arc_swap::ArcSwap;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Lineage, Offset, Partition};
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::topic::Topic;
use everywire_log::engine::Archive;
use everywire_log::hint::RetainedHint;
use everywire_log::tail::Tail;

use crate::ages::Ages;
use crate::applier::StoreError;
use crate::cache::Cache;
use crate::losses::Losses;
use crate::metrics::StoreMetrics;
use crate::retained::Changed;
use crate::state::TopicState;
use crate::tables::{Table, Tables, TablesError, end_of};

/// The parts of a store.
pub struct Parts {
    /// The tables in which it keeps its derived state.
    pub tables: Box<dyn Tables>,
    /// The kept records of the log.
    pub archive: Arc<dyn Archive>,
    /// The log's recent window, which tells of new records.
    pub tail: Arc<Tail>,
    /// The log's partition.
    pub partition: Partition,
    /// Tells the log's epochs as they are now: a store of another log is emptied. They may be ahead of the store.
    pub lineage: Arc<dyn Fn() -> Arc<Lineage> + Send + Sync>,
    /// The topic rules.
    pub rules: Arc<Rules>,
}

pub(crate) struct Shared {
    pub(crate) tables: Box<dyn Tables>,
    pub(crate) archive: Arc<dyn Archive>,
    pub(crate) tail: Arc<Tail>,
    pub(crate) partition: Partition,
    pub(crate) lineage: Arc<dyn Fn() -> Arc<Lineage> + Send + Sync>,
    pub(crate) rules: ArcSwap<Rules>,
    /// Counts changes of the rules.
    pub(crate) generation: AtomicU64,
    /// The offset up to which all records are in the states.
    applied: AtomicU64,
    /// See [`Shared::reached`].
    reached: AtomicU64,
    /// The offset up to which the tables have all that was applied, or are about to.
    written: AtomicU64,
    /// The number of readers that wait for `applied`, and the signal that wakes them.
    waiting: (Mutex<usize>, Condvar),
    /// Counts the resets: the states are thrown away after a failure, and restored; odd in between.
    pub(crate) resets: AtomicU64,
    /// The damage of the tables that a reader has found.
    damage: Mutex<Option<String>>,
    pub(crate) cache: Cache,
    fresh: RwLock<BTreeSet<Topic>>,
    retained: RwLock<Changed>,
    losses: RwLock<Losses>,
    ages: RwLock<Ages>,
    /// The offset up to which everything is removed because room is short.
    room_floor: AtomicU64,
    pub(crate) hint: Arc<RetainedHint>,
    pub(crate) metrics: StoreMetrics,
}

/// Bytes of topics' states in memory.
const CACHE_BYTES: u64 = 32 << 20;

macro_rules! locks {
    ($($read:ident, $write:ident: $type:ty = $field:ident;)*) => {
        $(
            pub(crate) fn $read(&self) -> RwLockReadGuard<'_, $type> {
                self.$field.read().unwrap_or_else(PoisonError::into_inner)
            }

            pub(crate) fn $write(&self) -> RwLockWriteGuard<'_, $type> {
                self.$field.write().unwrap_or_else(PoisonError::into_inner)
            }
        )*
    };
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            tables: parts.tables,
            archive: parts.archive,
            tail: parts.tail,
            partition: parts.partition,
            lineage: parts.lineage,
            rules: ArcSwap::new(parts.rules),
            generation: AtomicU64::new(1),
            applied: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            written: AtomicU64::new(0),
            waiting: Default::default(),
            resets: AtomicU64::new(0),
            damage: Mutex::default(),
            cache: Cache::new(CACHE_BYTES),
            fresh: RwLock::default(),
            retained: RwLock::default(),
            losses: RwLock::default(),
            ages: RwLock::default(),
            room_floor: AtomicU64::new(0),
            hint: Arc::default(),
            metrics: StoreMetrics::default(),
        }
    }

    locks! {
        fresh, fresh_mut: BTreeSet<Topic> = fresh;
        retained, retained_mut: Changed = retained;
        losses, losses_mut: Losses = losses;
        ages, ages_mut: Ages = ages;
    }

    /// The offset up to which everything is older than `max_age`, or is removed because room is short.
    pub(crate) fn floor(&self, now: UnixMillis, max_age: Duration) -> u64 {
        self.ages().floor(now, max_age).max(self.room_floor())
    }

    /// The offset up to which everything is removed because room is short.
    pub(crate) fn room_floor(&self) -> u64 {
        self.room_floor.load(Ordering::Acquire)
    }

    /// Raises the floor below which everything is removed; returns whether it is higher than before.
    pub(crate) fn raise_floor(&self, floor: u64) -> bool {
        self.room_floor.fetch_max(floor, Ordering::AcqRel) < floor
    }

    pub(crate) fn applied(&self) -> Offset {
        Offset(self.applied.load(Ordering::Acquire))
    }

    pub(crate) fn written(&self) -> Offset {
        Offset(self.written.load(Ordering::Acquire))
    }

    pub(crate) fn set_written(&self, offset: Offset) {
        self.written.store(offset.0, Ordering::Release);
    }

    /// Moves `applied`, and with it the retained messages.
    pub(crate) fn set_applied(&self, offset: Offset, changed: Changed) {
        let mut retained = self.retained_mut();
        retained.0.extend(changed.0);
        self.applied.store(offset.0, Ordering::Release);
        self.set_reached(offset);
        drop(retained);
        let waiting = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *waiting > 0 {
            self.waiting.1.notify_all();
        }
        drop(waiting);
        self.tail.set_applied(offset);
        StoreMetrics::set(&self.metrics.applied, offset.0);
        StoreMetrics::set(&self.metrics.lag, self.tail.head().0.saturating_sub(offset.0));
    }

    /// The offset up to which all records are in the states of the topics, with their losses: `applied`, or within a
    /// turn the last record that was applied.
    pub(crate) fn reached(&self) -> Offset {
        Offset(self.reached.load(Ordering::Acquire))
    }

    pub(crate) fn set_reached(&self, offset: Offset) {
        self.reached.store(offset.0, Ordering::Release);
    }

    /// Waits until the log is applied up to an offset; `false` if that takes longer than `within`.
    pub(crate) fn wait(&self, offset: Offset, within: Duration) -> bool {
        if self.applied() >= offset {
            return true;
        }
        let mut waiting = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting += 1;
        self.waiting.1.notify_all();
        let is_behind = |_: &mut usize| self.applied() < offset;
        let waited = self.waiting.1.wait_timeout_while(waiting, within, is_behind);
        let (mut waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *waiting -= 1;
        self.applied() >= offset
    }

    /// Sleeps for `pause`, or until a reader waits for records that aren't applied yet.
    pub(crate) fn rest(&self, pause: Duration) {
        let waiting = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.waiting.1.wait_timeout_while(waiting, pause, |waiting| *waiting == 0));
    }

    /// The time, and the moment by which the age of records is measured that are kept for `max_age`.
    pub(crate) fn times(&self, now: UnixMillis, max_age: Duration) -> (UnixMillis, UnixMillis) {
        (now, self.ages().moment(now, max_age))
    }

    /// Notes that a reader has found the tables damaged: the applier makes them anew.
    pub(crate) fn note_damage(&self, error: &StoreError) {
        if let StoreError::Tables(TablesError::Damaged(what)) = error {
            *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.clone());
        }
    }

    pub(crate) fn take_damage(&self) -> Option<String> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A topic's state as it is now, for reading.
    pub(crate) fn state(&self, topic: &Topic) -> Result<Option<TopicState>, TablesError> {
        if let Some(state) = self.cache.look(topic, TopicState::clone) {
            return Ok(Some(state));
        }
        self.stored_state(topic)
    }

    /// A topic's state as the last checkpoint left it.
    pub(crate) fn stored_state(&self, topic: &Topic) -> Result<Option<TopicState>, TablesError> {
        let name = topic.as_str().as_bytes();
        let stored = self.tables.get(Table::Topics, name)?;
        stored.map(|value| TopicState::decode(name, &value)).transpose()
    }

    /// Walks over all topics with this prefix, in the order of their names, above `after`, until `take` says no.
    pub(crate) fn walk(
        &self,
        prefix: &str,
        after: Option<&Topic>,
        take: &mut dyn FnMut(&Topic, &TopicState) -> bool,
    ) -> Result<(), TablesError> {
        let begin = first(prefix, after);
        let from = key_of(&begin);
        // The topics that no checkpoint has written come first: those that one writes meanwhile are found below.
        let with_prefix = |topic: &&Topic| topic.as_str().starts_with(prefix);
        let fresh = self.fresh().range((begin, Bound::Unbounded)).take_while(with_prefix).cloned().collect::<Vec<_>>();
        let mut walk = Walk { shared: self, fresh: fresh.into_iter().peekable(), more: true, error: None };
        self.tables.scan(Table::Topics, &from, end_of(prefix.as_bytes()).as_deref(), &mut |name, value| {
            walk.stored(name, value, take)
        })?;
        walk.rest(take);
        walk.error.map_or(Ok(()), Err)
    }
}

/// The bound at which the topics with a prefix begin, above `after` if that is one of them.
pub(crate) fn first(prefix: &str, after: Option<&Topic>) -> Bound<Topic> {
    match after {
        Some(after) if after.as_str() >= prefix => Bound::Excluded(after.clone()),
        _ => Topic::parse(prefix).map_or(Bound::Unbounded, Bound::Included),
    }
}

/// The first key in the tables that may be a topic's from that bound on.
pub(crate) fn key_of(begin: &Bound<Topic>) -> Vec<u8> {
    match begin {
        Bound::Included(topic) => topic.as_str().into(),
        Bound::Excluded(topic) => [topic.as_str().as_bytes(), &[0]].concat(),
        Bound::Unbounded => Vec::new(),
    }
}

/// The history that a rule keeps: no messages if it keeps none.
pub(crate) fn history_of(rule: &TopicRule) -> History {
    if rule.keeps_history() { rule.history } else { History { max_messages: 0, ..rule.history } }
}

pub(crate) fn parse_name(name: &[u8]) -> Result<Topic, TablesError> {
    let topic = std::str::from_utf8(name).ok().and_then(|name| Topic::parse(name).ok());
    topic.ok_or_else(|| TablesError::Damaged("a topic's name".into()))
}

struct Walk<'a> {
    shared: &'a Shared,
    fresh: std::iter::Peekable<std::vec::IntoIter<Topic>>,
    more: bool,
    error: Option<TablesError>,
}

impl Walk<'_> {
    fn stored(&mut self, name: &[u8], value: &[u8], take: &mut dyn FnMut(&Topic, &TopicState) -> bool) -> bool {
        while let Some(topic) = self.fresh.next_if(|topic| topic.as_str().as_bytes() <= name) {
            if topic.as_str().as_bytes() < name {
                self.one(&topic, take);
            }
        }
        match parse_name(name) {
            Ok(topic) if self.more => {
                let here = self.shared.cache.look(&topic, TopicState::clone);
                match here.map_or_else(|| TopicState::decode(name, value), Ok) {
                    Ok(state) => self.more = take(&topic, &state),
                    Err(error) => self.error = Some(error),
                }
            }
            Ok(_) => {}
            Err(error) => self.error = Some(error),
        }
        self.more && self.error.is_none()
    }

    fn one(&mut self, topic: &Topic, take: &mut dyn FnMut(&Topic, &TopicState) -> bool) {
        if self.more
            && let Some(state) = self.shared.cache.look(topic, TopicState::clone)
        {
            self.more = take(topic, &state);
        }
    }

    fn rest(&mut self, take: &mut dyn FnMut(&Topic, &TopicState) -> bool) {
        while let Some(topic) = self.fresh.next() {
            self.one(&topic, take);
        }
    }
}
