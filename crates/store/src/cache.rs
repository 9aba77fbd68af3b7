//! The topics' states in memory: all that changed since the checkpoint, and those used lately.
//!
//! The applier's thread alone changes it; readers look. A state that isn't here stands in the tables as it is, because
//! only states that a checkpoint has written are dropped. Locks are held for moments, never over a write or a sync.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use everywire_base::rules::History;
use everywire_base::topic::Topic;

use crate::state::TopicState;
use crate::tables::TablesError;

const SHARDS: usize = 64;

/// A topic's name is hashed already.
#[derive(Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = everywire_base::topic::hash_name(&String::from_utf8_lossy(bytes));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

type Shard = HashMap<Topic, Slot, BuildHasherDefault<Hashed>>;

/// A topic's state with the fields that the applier needs beside it.
pub(crate) struct Slot {
    pub(crate) state: TopicState,
    /// Whether the checkpoint must write it.
    pub(crate) dirty: bool,
    /// Whether the checkpoint removes it: nothing is left that is worth keeping.
    pub(crate) gone: bool,
    /// Whether it was used since the last round of [`Cache::shrink`].
    used: bool,
    /// The generation of the rules that `rule` and `history` are of: see [`crate::shared::Shared::generation`].
    pub(crate) generation: u64,
    /// The topic's rule, by its place.
    pub(crate) rule: usize,
    /// The history that the rule keeps.
    pub(crate) history: History,
}

impl Slot {
    pub(crate) fn new(state: TopicState) -> Self {
        let history = History::default();
        Self { state, dirty: false, gone: false, used: true, generation: 0, rule: 0, history }
    }

    fn memory(&self) -> u64 {
        (self.state.memory() + size_of::<Self>() + 64) as u64
    }
}

/// The states in memory.
pub(crate) struct Cache {
    shards: Vec<RwLock<Shard>>,
    bytes: AtomicU64,
    max_bytes: u64,
}

impl Cache {
    pub(crate) fn new(max_bytes: u64) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, bytes: AtomicU64::new(0), max_bytes }
    }

    fn shard(&self, topic: &Topic) -> &RwLock<Shard> {
        // The map inside uses the lowest and the highest bits.
        &self.shards[(topic.stable_hash() >> 32) as usize % SHARDS]
    }

    fn lock(&self, topic: &Topic) -> RwLockWriteGuard<'_, Shard> {
        self.shard(topic).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a topic's state if it is here.
    pub(crate) fn look<T>(&self, topic: &Topic, look: impl FnOnce(&TopicState) -> T) -> Option<T> {
        let shard = self.shard(topic).read().unwrap_or_else(PoisonError::into_inner);
        shard.get(topic).map(|slot| look(&slot.state))
    }

    /// Changes a topic's state, which `load` brings if it is not here.
    pub(crate) fn change<T>(
        &self,
        topic: &Topic,
        load: impl FnOnce() -> Result<TopicState, TablesError>,
        change: impl FnOnce(&mut Slot) -> T,
    ) -> Result<T, TablesError> {
        let mut shard = self.lock(topic);
        if let Some(slot) = shard.get_mut(topic) {
            return Ok(self.counted(slot, change));
        }
        drop(shard);
        let slot = Slot::new(load()?);
        self.bytes.fetch_add(slot.memory(), Ordering::Relaxed);
        let mut shard = self.lock(topic);
        Ok(self.counted(shard.entry(topic.clone()).or_insert(slot), change))
    }

    fn counted<T>(&self, slot: &mut Slot, change: impl FnOnce(&mut Slot) -> T) -> T {
        let before = slot.memory();
        slot.used = true;
        let done = change(slot);
        self.bytes.fetch_add(slot.memory().wrapping_sub(before), Ordering::Relaxed);
        done
    }

    /// Changes a topic's state if it is here.
    pub(crate) fn change_here<T>(&self, topic: &Topic, change: impl FnOnce(&mut Slot) -> T) -> Option<T> {
        let mut shard = self.lock(topic);
        shard.get_mut(topic).map(|slot| self.counted(slot, change))
    }

    /// Takes a topic out.
    pub(crate) fn remove(&self, topic: &Topic) {
        if let Some(slot) = self.lock(topic).remove(topic) {
            self.bytes.fetch_sub(slot.memory(), Ordering::Relaxed);
        }
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            shard.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
        self.bytes.store(0, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.bytes() > self.max_bytes
    }

    /// Drops states that are written and were not used lately, shard by shard, until a quarter is free.
    pub(crate) fn shrink(&self) {
        for shard in self.shards.iter().chain(&self.shards) {
            if self.bytes() <= self.max_bytes / 4 * 3 {
                return;
            }
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, slot| {
                let stays = slot.dirty || std::mem::take(&mut slot.used);
                if !stays {
                    self.bytes.fetch_sub(slot.memory(), Ordering::Relaxed);
                }
                stays
            });
            if shard.capacity() > 4 * shard.len() + 64 {
                let room = 2 * shard.len();
                shard.shrink_to(room);
            }
        }
    }
}
