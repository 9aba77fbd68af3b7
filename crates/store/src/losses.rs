//! What was lost lately, for readers of many topics: whether any topic of a pattern lost something they have not read.
//!
//! Exact, in three steps from cheap to dear: the highest loss under each rule that overlaps the pattern; the ring of
//! the latest losses; and, for readers far behind, a walk over the topics (which is `read`'s, not done here).

use std::collections::VecDeque;

use everywire_base::rules::{Rules, overlaps};
use everywire_base::topic::Topic;

/// How many of the latest losses are remembered by topic.
const RING: usize = 1 << 16;

/// The latest losses, and the floors that hold for many topics.
#[derive(Default)]
pub(crate) struct Losses {
    /// The highest loss of a topic under each rule, in the order of the rules.
    per_rule: Vec<u64>,
    ring: VecDeque<(u64, Topic)>,
    /// All losses above this are in the ring.
    ring_floor: u64,
    /// Topics whose state was forgotten lost nothing above this.
    pub(crate) forgotten: u64,
    /// When the store was made anew, this was the highest offset that the log had no record of: it may have been any
    /// topic's.
    pub(crate) rebuilt: u64,
}

/// What the ring knows.
pub(crate) enum Recent {
    /// No topic that matches lost anything above the position.
    Nothing,
    /// This topic lost this.
    Lost(Topic, u64),
    /// The position is too far back.
    Unknown,
}

impl Losses {
    /// What was known at the checkpoint: nothing was lost above `highest`.
    pub(crate) fn restore(highest: u64, forgotten: u64, rebuilt: u64, rules: &Rules) -> Self {
        let per_rule = vec![highest; rules.all().count()];
        Self { per_rule, ring_floor: highest, forgotten, rebuilt, ring: VecDeque::new() }
    }

    /// The highest loss of all.
    pub(crate) fn highest(&self) -> u64 {
        self.per_rule.iter().copied().max().unwrap_or_default()
    }

    /// Other rules: which losses were under which of them is not known.
    pub(crate) fn reset_rules(&mut self, rules: &Rules) {
        self.per_rule = vec![self.highest(); rules.all().count()];
    }

    pub(crate) fn note(&mut self, rule: usize, offset: u64, topic: Topic) {
        if let Some(highest) = self.per_rule.get_mut(rule) {
            *highest = offset.max(*highest);
        }
        if self.ring.len() == RING
            && let Some((evicted, _)) = self.ring.pop_front()
        {
            self.ring_floor = self.ring_floor.max(evicted);
        }
        self.ring.push_back((offset, topic));
    }

    /// Whether a topic under a rule that overlaps one of these filters may have lost something above `after`.
    pub(crate) fn may_be_above(&self, after: u64, filters: &[&str], rules: &Rules) -> bool {
        let of_rule = self.per_rule.iter().zip(rules.all());
        of_rule
            .filter(|(highest, _)| **highest > after)
            .any(|(_, rule)| filters.iter().any(|filter| overlaps(rule.filter.as_str(), filter)))
    }

    /// The highest of the latest losses above `after` that `matches` takes.
    pub(crate) fn recent(&self, after: u64, matches: impl Fn(&Topic, u64) -> bool) -> Recent {
        if after < self.ring_floor {
            return Recent::Unknown;
        }
        let lost = self.ring.iter().filter(|(offset, topic)| *offset > after && matches(topic, *offset));
        lost.max_by_key(|(offset, _)| *offset)
            .map_or(Recent::Nothing, |(offset, topic)| Recent::Lost(topic.clone(), *offset))
    }
}
