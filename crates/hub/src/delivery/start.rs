//! The start of a subscription: its cursor, judged by the log as it is now.
//!
//! RULES 2, 3 and 8: a cursor of another epoch, beyond a fork or beyond the head is a gap; one inside or across a hole
//! is valid, except for topics whose messages a crash may lose.

use everywire_base::cursor::{Cursor, Offset, Partition, Start};
use everywire_base::record::Durability;
use everywire_base::rules::{Rules, overlaps};
use everywire_base::topic::Filter;
use smallvec::SmallVec;

use super::Deliveries;
use super::lag::{FirstGap, Positions};
use crate::floor::Setup;

/// The point at which a subscription begins.
pub(crate) struct StartPoint {
    pub(crate) positions: Positions,
    /// The partitions in which that is the earliest kept message, whatever was lost before it.
    pub(crate) earliest: SmallVec<[bool; 1]>,
    pub(super) first_gap: Option<FirstGap>,
    /// Whether it goes on from a cursor.
    pub(crate) resumed: bool,
}

impl StartPoint {
    fn at(positions: Positions, earliest: bool) -> Self {
        let earliest = SmallVec::from_elem(earliest, positions.len());
        Self { positions, earliest, first_gap: None, resumed: false }
    }

    /// Whether it begins now.
    pub(super) fn is_latest(&self) -> bool {
        !self.resumed && !self.earliest.contains(&true)
    }
}

impl Deliveries {
    /// Judges a start, for a worker whose mark is `target`.
    pub(super) fn open(&self, start: &Start, target: &Positions, setup: &Setup) -> StartPoint {
        let cursor = match start {
            Start::Latest => return StartPoint::at(target.clone(), false),
            Start::Earliest => return StartPoint::at(self.beginning(), true),
            Start::After(cursor) => cursor,
        };
        let mut opening = StartPoint { resumed: true, ..StartPoint::at(target.clone(), false) };
        for partition in 0..target.len() {
            opening.place(cursor, partition, target[partition], setup);
        }
        opening
    }
}

impl StartPoint {
    /// Judges the position of a cursor in one partition.
    fn place(&mut self, cursor: &Cursor, partition: usize, target: Offset, setup: &Setup) {
        let opening = self;
        let Some(offset) = cursor.position(Partition(partition as u16)) else { return };
        let lineage = &setup.lineages[partition];
        let tail = &setup.tails[partition];
        let in_hole = |(first, last): &(Offset, Offset)| *first <= target.next() && offset <= *last;
        match lineage.valid_up_to(cursor.epoch) {
            None => {
                opening.positions[partition] = Offset::BEGINNING;
                opening.earliest[partition] = true;
                opening.first_gap = Some(FirstGap { after: None });
            }
            Some(fork) if offset > fork => {
                opening.positions[partition] = fork;
                opening.first_gap = Some(FirstGap { after: Some(fork) });
            }
            // Nothing lies between the mark and the cursor.
            Some(_) if offset > target && lineage.holes.iter().any(in_hole) => {}
            Some(_) if !tail.knows(offset) => {
                opening.positions[partition] = Offset::BEGINNING;
                opening.earliest[partition] = true;
                opening.first_gap = Some(FirstGap { after: Some(tail.head()) });
            }
            Some(_) => opening.positions[partition] = offset,
        }
    }
}

/// The first hole above both positions, if a crash may have lost messages of these filters in it.
pub(super) fn hole_above<'a>(
    partition: usize,
    (position, told): (Offset, Offset),
    mut filters: impl Iterator<Item = &'a Filter>,
    setup: &Setup,
) -> Option<(Offset, Offset)> {
    let holes = &setup.lineages[partition].holes;
    let hole = *holes.iter().find(|(_, last)| *last > position.max(told))?;
    filters.any(|filter| may_lose(&setup.rules, filter)).then_some(hole)
}

/// The ends of the last holes: a connection that was live after the crash has lost nothing in any of them.
pub(super) fn last_holes(setup: &Setup) -> Positions {
    setup.lineages.iter().map(|lineage| lineage.holes.iter().map(|hole| hole.1).max().unwrap_or_default()).collect()
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
