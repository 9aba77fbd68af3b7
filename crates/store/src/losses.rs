//! Recent losses, for readers of many topics: whether a topic of a pattern lost a message that they have not read.
//!
//! The answer is exact, in three steps from cheap to dear: the highest loss under each rule that overlaps the pattern;
//! the ring of the latest losses; and, for readers far behind, a walk over the topics (which is `read`'s, not done
//! here).

use std::collections::VecDeque;

use everywire_base::rules::{Rules, overlaps};
use everywire_base::topic::Topic;

/// The number of the latest losses that are remembered by topic.
const RING: usize = 1 << 16;

/// The latest losses, and the floors that hold for many topics.
#[derive(Default)]
pub(crate) struct Losses {
    /// The highest loss of a topic under each rule, in the order of the rules.
    per_rule: Vec<u64>,
    ring: VecDeque<(u64, Topic)>,
    /// The offset above which all losses are in the ring.
    ring_floor: u64,
    /// The offset above which topics whose state was forgotten lost nothing.
    pub(crate) forgotten: u64,
    /// The highest offset of which the log had no record when the store was made anew: that may be any topic's.
    pub(crate) rebuilt: u64,
    /// The offset up to which kept records come before that loss. The few that a node has of a part of the log that it
    /// lacks come behind it: who goes on at another node after one of them has heard of the gap.
    pub(crate) rebuilt_above: u64,
}

/// The answer of the ring.
pub(crate) enum Recent {
    /// No topic that matches lost a message above the position.
    Nothing,
    /// This topic lost its messages up to this offset.
    Lost(Topic, u64),
    /// The position is too far back.
    Unknown,
}

impl Losses {
    /// The losses as of the checkpoint: nothing was lost above `highest`.
    pub(crate) fn restore(highest: u64, forgotten: u64, (above, rebuilt): (u64, u64), rules: &Rules) -> Self {
        let per_rule = vec![highest; rules.all().count()];
        Self { per_rule, ring_floor: highest, forgotten, rebuilt, rebuilt_above: above, ring: VecDeque::new() }
    }

    /// Notes that the log has no record of an offset: those before it come before the loss.
    pub(crate) fn note_missing(&mut self, offset: u64) {
        if offset > self.rebuilt {
            (self.rebuilt, self.rebuilt_above) = (offset, offset - 1);
        }
    }

    /// Notes a part of the log that the node lacks but for some records.
    pub(crate) fn note_part(&mut self, above: u64, up_to: u64) {
        if up_to > self.rebuilt {
            let is_part = self.rebuilt_above + 1 < self.rebuilt;
            self.rebuilt_above = if is_part { above.min(self.rebuilt_above) } else { above };
            self.rebuilt = up_to;
        }
    }

    /// The first offset whose kept record comes behind the loss of all up to `up_to`.
    pub(crate) fn behind(&self, up_to: u64) -> u64 {
        if up_to == self.rebuilt { up_to.min(self.rebuilt_above + 1) } else { up_to }
    }

    /// The highest loss of all.
    pub(crate) fn highest(&self) -> u64 {
        self.per_rule.iter().copied().max().unwrap_or_default()
    }

    /// Follows a change of the rules: the losses under each rule are not known then.
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

    /// Whether a topic under a rule that overlaps one of these filters may have lost a message above `after`.
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
