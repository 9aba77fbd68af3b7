//! The topics that may have a retained message: a shared table that answers most "none" without a store read.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use everywire_base::topic::{Filter, Topic};

const PLACES: usize = 1 << 16;

/// Counts retained topics by the hash of their name. Written by the store, read by the hubs.
pub struct RetainedHint {
    counts: Box<[AtomicU32]>,
    total: AtomicU64,
}

impl Default for RetainedHint {
    fn default() -> Self {
        Self { counts: (0..PLACES).map(|_| AtomicU32::new(0)).collect(), total: AtomicU64::new(0) }
    }
}

impl RetainedHint {
    fn place(&self, topic: &Topic) -> &AtomicU32 {
        &self.counts[topic.stable_hash() as usize % PLACES]
    }

    /// Counts a topic that had no retained message and has one now.
    pub fn add(&self, topic: &Topic) {
        self.place(topic).fetch_add(1, Ordering::AcqRel);
        self.total.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts a topic that had a retained message and has none now.
    pub fn remove(&self, topic: &Topic) {
        self.place(topic).fetch_sub(1, Ordering::AcqRel);
        self.total.fetch_sub(1, Ordering::AcqRel);
    }

    /// Takes over the counts of another one; with `or_more` a count never falls, so that it may be too high but never
    /// too low.
    pub fn follow(&self, other: &Self, or_more: bool) {
        let set = |place: &AtomicU32, count: u32| {
            if or_more {
                place.fetch_max(count, Ordering::AcqRel)
            } else {
                place.swap(count, Ordering::AcqRel)
            };
        };
        self.counts.iter().zip(&other.counts).for_each(|(place, count)| set(place, count.load(Ordering::Acquire)));
        let total = other.total();
        if or_more {
            self.total.fetch_max(total, Ordering::AcqRel)
        } else {
            self.total.swap(total, Ordering::AcqRel)
        };
    }

    /// The number of topics that have one.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// Whether a topic that the filter takes may have a retained message; a `true` may be wrong and costs a read.
    pub fn may_match(&self, filter: &Filter) -> bool {
        match filter {
            Filter::Exact(topic) => self.place(topic).load(Ordering::Acquire) > 0,
            Filter::Wild(_) => self.total() > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_is_never_wrong_about_none() {
        let hint = RetainedHint::default();
        let (topic, other) = (Topic::parse("room/1").unwrap(), Topic::parse("room/2").unwrap());
        let (exact, wild) = (Filter::Exact(topic.clone()), Filter::parse("room/+").unwrap());
        assert!(!hint.may_match(&exact) && !hint.may_match(&wild));
        hint.add(&topic);
        assert!(hint.may_match(&exact) && hint.may_match(&wild) && !hint.may_match(&Filter::Exact(other)));
        hint.remove(&topic);
        assert!(!hint.may_match(&exact) && !hint.may_match(&wild));
        assert_eq!(hint.total(), 0);
    }
}
