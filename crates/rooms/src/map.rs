//! A map with names as keys, in the order of their bytes, whose copies share equal parts: chunks of some entries each.
//!
//! A change copies one chunk and the list of chunks, whatever the size. So one thread can change a map that others
//! read.

use std::sync::Arc;

/// Entries of a chunk; a fuller one is split.
const CHUNK: usize = 64;

/// A key and its value.
type Entry<V> = (Arc<str>, V);

/// The map.
#[derive(Debug)]
pub(crate) struct Map<V> {
    /// The chunks, ascending; none is empty.
    chunks: Vec<Arc<Vec<Entry<V>>>>,
    len: usize,
}

impl<V> Clone for Map<V> {
    fn clone(&self) -> Self {
        Self { chunks: self.chunks.clone(), len: self.len }
    }
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self { chunks: Vec::new(), len: 0 }
    }
}

impl<V: Clone> Map<V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The chunk that has a key, or that it belongs to.
    fn chunk_of(&self, key: &str) -> usize {
        self.chunks.partition_point(|chunk| chunk.last().is_some_and(|(last, _)| &**last < key))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&V> {
        let chunk = self.chunks.get(self.chunk_of(key))?;
        let at = chunk.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        Some(&chunk[at].1)
    }

    pub(crate) fn insert(&mut self, key: Arc<str>, value: V) -> Option<V> {
        // A key that is greater than all belongs to the last chunk.
        let at = self.chunk_of(&key).min(self.chunks.len().saturating_sub(1));
        let Some(chunk) = self.chunks.get_mut(at) else {
            self.chunks.push(Arc::new(vec![(key, value)]));
            self.len = 1;
            return None;
        };
        let entries = Arc::make_mut(chunk);
        match entries.binary_search_by(|(name, _)| name.cmp(&key)) {
            Ok(place) => return Some(std::mem::replace(&mut entries[place].1, value)),
            Err(place) => entries.insert(place, (key, value)),
        }
        if entries.len() > CHUNK {
            let rest = entries.split_off(CHUNK / 2);
            self.chunks.insert(at + 1, Arc::new(rest));
        }
        self.len += 1;
        None
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<V> {
        let at = self.chunk_of(key);
        let chunk = self.chunks.get_mut(at)?;
        let place = chunk.binary_search_by(|(name, _)| (**name).cmp(key)).ok()?;
        let (_, value) = Arc::make_mut(chunk).remove(place);
        if chunk.is_empty() {
            self.chunks.remove(at);
        }
        self.len -= 1;
        Some(value)
    }

    /// All entries with a greater key.
    pub(crate) fn after<'a>(&'a self, key: Option<&'a str>) -> impl Iterator<Item = (&'a Arc<str>, &'a V)> + 'a {
        let from = key.map_or(0, |key| self.chunk_of(key));
        let entries = self.chunks[from..].iter().flat_map(|chunk| chunk.iter());
        entries.filter(move |(name, _)| key.is_none_or(|key| &**name > key)).map(|(name, value)| (name, value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &V)> {
        self.after(None)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_map_and_its_copies_stay_as_they_were(
            steps in proptest::collection::vec((any::<bool>(), 0u32..300, any::<u8>()), 0..600),
        ) {
            let (mut map, mut plain) = (Map::default(), BTreeMap::new());
            let mut before = (map.clone(), plain.clone());
            for (n, (removes, key, value)) in steps.into_iter().enumerate() {
                let key = key.to_string();
                if removes {
                    prop_assert_eq!(map.remove(&key), plain.remove(&key));
                } else {
                    prop_assert_eq!(map.insert(key.as_str().into(), value), plain.insert(key.clone(), value));
                }
                prop_assert_eq!(map.get(&key), plain.get(&key));
                prop_assert_eq!(map.len(), plain.len());
                if n == 200 {
                    before = (map.clone(), plain.clone());
                }
            }
            for (map, plain) in [(&map, &plain), (&before.0, &before.1)] {
                let all: Vec<_> = map.iter().map(|(key, value)| (key.to_string(), *value)).collect();
                prop_assert_eq!(all, plain.clone().into_iter().collect::<Vec<_>>());
                let after: Vec<_> = map.after(Some("15")).map(|(key, _)| key.to_string()).collect();
                let expected: Vec<_> = plain.keys().filter(|key| key.as_str() > "15").cloned().collect();
                prop_assert_eq!(after, expected);
            }
        }
    }
}
