//! Tables by names that one thread changes and many read: split by hashes, so that a change copies little. A reader
//! keeps the values that it has found.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use everywire_base::topic::hash_name;

use crate::map::Map;

/// The number of parts of a table.
const PARTS: usize = 256;

/// A table by names.
pub(crate) struct Table<V> {
    parts: Box<[ArcSwap<Map<V>>]>,
    len: AtomicUsize,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| ArcSwap::default()).collect(), len: AtomicUsize::new(0) }
    }
}

impl<V: Clone> Table<V> {
    fn part(&self, name: &str) -> &ArcSwap<Map<V>> {
        &self.parts[hash_name(name) as usize % PARTS]
    }

    pub(crate) fn get(&self, name: &str) -> Option<V> {
        self.part(name).load().get(name).cloned()
    }

    /// Puts a value there, or takes it away. Called by one thread.
    pub(crate) fn set(&self, name: &str, value: Option<V>) {
        let part = self.part(name);
        let mut map = Map::clone(&part.load());
        let before = map.len();
        set(&mut map, name, value);
        if map.len() > before {
            self.len.fetch_add(1, Ordering::Relaxed);
        } else if map.len() < before {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        part.store(Arc::new(map));
    }

    /// The number of names.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// All names whose value `is_meant` takes, with their values.
    pub(crate) fn all(&self, is_meant: impl Fn(&V) -> bool) -> Vec<(Arc<str>, V)> {
        self.first(None, usize::MAX, |_, value| is_meant(value))
    }

    /// The first names above one, with their values.
    pub(crate) fn first(
        &self,
        after: Option<&str>,
        limit: usize,
        is_meant: impl Fn(&str, &V) -> bool,
    ) -> Vec<(Arc<str>, V)> {
        let mut found = Vec::new();
        for part in &self.parts {
            let map = part.load();
            let meant = map.after(after).filter(|(name, value)| is_meant(name, value)).take(limit);
            found.extend(meant.map(|(name, value)| (Arc::clone(name), value.clone())));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found.truncate(limit);
        found
    }
}

/// Puts a value there, or takes it away.
pub(crate) fn set<V: Clone>(map: &mut Map<V>, key: &str, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key.into(), value)),
        None => drop(map.remove(key)),
    }
}
