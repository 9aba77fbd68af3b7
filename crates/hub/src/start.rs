//! Where a subscription begins: what its cursor is worth in the log as it is now.
//!
//! RULES 2, 3 and 8: a cursor of another epoch, beyond a fork or beyond the head is a gap; one inside or across a hole
//! is valid, except for topics whose messages a crash may lose.

use everywire_base::cursor::{Cursor, Offset, Partition, Start};
use everywire_base::record::Durability;
use everywire_base::rules::{Rules, overlaps};
use everywire_base::topic::Filter;
use smallvec::SmallVec;

use crate::Hub;
use crate::lag::{Owed, Positions};

/// Where a subscription begins.
pub(crate) struct Opening {
    pub(crate) positions: Positions,
    /// In which partitions that is the earliest kept message, whatever was lost before it.
    pub(crate) earliest: SmallVec<[bool; 1]>,
    pub(crate) owed: Option<Owed>,
    /// Whether it goes on from a cursor.
    pub(crate) resumed: bool,
}

impl Opening {
    fn at(positions: Positions, earliest: bool) -> Self {
        let earliest = SmallVec::from_elem(earliest, positions.len());
        Self { positions, earliest, owed: None, resumed: false }
    }

    /// Whether it begins now.
    pub(crate) fn is_latest(&self) -> bool {
        !self.resumed && !self.earliest.contains(&true)
    }
}

impl Hub {
    /// Judges a start, for a worker whose mark is `target`.
    pub(crate) fn open(&self, start: &Start, target: &Positions) -> Opening {
        let cursor = match start {
            Start::Latest => return Opening::at(target.clone(), false),
            Start::Earliest => return Opening::at(self.beginning(), true),
            Start::After(cursor) => cursor,
        };
        let mut opening = Opening { resumed: true, ..Opening::at(target.clone(), false) };
        for partition in 0..target.len() {
            self.open_partition(cursor, partition, target[partition], &mut opening);
        }
        opening
    }

    fn open_partition(&self, cursor: &Cursor, partition: usize, target: Offset, opening: &mut Opening) {
        let Some(offset) = cursor.position(Partition(partition as u16)) else { return };
        let lineage = &self.setup.lineages[partition];
        let head = self.setup.tails[partition].head();
        let in_hole = |(first, last): &(Offset, Offset)| *first <= target.next() && offset <= *last;
        match lineage.valid_up_to(cursor.epoch) {
            None => {
                opening.positions[partition] = Offset::BEGINNING;
                opening.earliest[partition] = true;
                opening.owed = Some(Owed { after: None });
            }
            Some(fork) if offset > fork => {
                opening.positions[partition] = fork;
                opening.owed = Some(Owed { after: Some(fork) });
            }
            // Nothing lies between the mark and the cursor.
            Some(_) if offset > target && lineage.holes.iter().any(in_hole) => {}
            Some(_) if offset > head => {
                opening.positions[partition] = Offset::BEGINNING;
                opening.earliest[partition] = true;
                opening.owed = Some(Owed { after: Some(head) });
            }
            Some(_) => opening.positions[partition] = offset,
        }
    }

    /// The first hole above both positions, if a crash may have lost messages of these filters in it.
    pub(crate) fn hole_above<'a>(
        &self,
        partition: usize,
        (position, told): (Offset, Offset),
        mut filters: impl Iterator<Item = &'a Filter>,
    ) -> Option<(Offset, Offset)> {
        let holes = &self.setup.lineages[partition].holes;
        let hole = *holes.iter().find(|(_, last)| *last > position.max(told))?;
        filters.any(|filter| may_lose(&self.setup.rules, filter)).then_some(hole)
    }

    /// The end of the last hole: who was live after the crash has lost nothing in any of them.
    pub(crate) fn past_holes(&self, positions: &Positions) -> Positions {
        let last_hole = |p: usize| self.setup.lineages[p].holes.iter().map(|h| h.1).max().unwrap_or_default();
        positions.iter().enumerate().map(|(p, at)| (*at).max(last_hole(p))).collect()
    }

    pub(crate) fn beginning(&self) -> Positions {
        SmallVec::from_elem(Offset::BEGINNING, self.marks.len())
    }

    pub(crate) fn cursor(&self, positions: &Positions) -> Cursor {
        let epoch = self.setup.lineages[0].epoch;
        let numbered = positions.iter().enumerate().map(|(p, at)| (Partition(p as u16), *at));
        Cursor::new(epoch, numbered).expect("a log has at least one partition")
    }
}

/// Whether a crash may lose messages that the filter takes.
fn may_lose(rules: &Rules, filter: &Filter) -> bool {
    match filter {
        Filter::Exact(topic) => rules.of(topic).durability != Durability::Fsync,
        Filter::Wild(pattern) => rules
            .all()
            .any(|rule| rule.durability != Durability::Fsync && overlaps(rule.filter.as_str(), pattern.as_str())),
    }
}
