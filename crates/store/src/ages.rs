//! Which offset is how old: marks of time and offset, few enough to be written with every checkpoint.
//!
//! A floor that they give is never too high: everything up to it is at least that old. It may be too low by the
//! distance of two marks; readers look at a record's own time.
//!
//! The clock may lie. Order is that of the offsets: what was appended before a record is not younger than it, whatever
//! its time says, so that times of a future that was none are forgotten as soon as the clock is set right. And a clock
//! that steps ahead by more than a day has not made anything older: nothing ages by that, as long as the server runs.

use std::time::Duration;

use everywire_base::clock::UnixMillis;

use crate::chunk::{read_varint, write_varint};

/// When there are more marks, they are thinned to half of that, evenly in time.
const MARKS: usize = 1024;

/// A clock that goes ahead by more at once was set.
const STEP: u64 = 24 * 3_600_000;

/// Marks of time and offset, ascending in both.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ages {
    marks: Vec<(u64, u64)>,
    /// What the clock showed last, and by how much it has been set ahead.
    shown: u64,
    ahead: u64,
}

impl Ages {
    /// Everything up to `offset` was appended at `time` or before.
    pub(crate) fn note(&mut self, time: UnixMillis, offset: u64) {
        let (last_time, last_offset) = self.marks.last().copied().unwrap_or_default();
        if offset <= last_offset {
            return;
        }
        if time.0 < last_time {
            let right = self.marks.partition_point(|(mark, _)| *mark < time.0);
            self.marks.truncate(right);
        }
        match self.marks.last_mut() {
            Some(last) if last.0 == time.0 => last.1 = offset,
            _ => self.marks.push((time.0, offset)),
        }
        if self.marks.len() > MARKS {
            self.thin();
        }
    }

    /// The clock shows this now; asked often.
    pub(crate) fn pass(&mut self, now: UnixMillis) {
        let shown = std::mem::replace(&mut self.shown, now.0);
        if shown > 0 && now.0 > shown.saturating_add(STEP) {
            self.ahead += now.0 - shown;
            tracing::warn!(%now, "the clock was set ahead by more than a day: nothing counts as older for that");
        } else if shown > now.0.saturating_add(STEP) {
            self.ahead = self.ahead.saturating_sub(shown - now.0);
        }
    }

    /// The moment by which ages are measured.
    pub(crate) fn moment(&self, now: UnixMillis) -> UnixMillis {
        UnixMillis(now.0.saturating_sub(self.ahead))
    }

    fn thin(&mut self) {
        let (first, last) = (self.marks[0].0, self.marks[self.marks.len() - 1].0);
        let step = (last - first) / (MARKS as u64 / 2) + 1;
        let mut next = 0;
        self.marks.retain(|(time, _)| {
            let keep = *time >= next || *time == last;
            next = if keep { time + step } else { next };
            keep
        });
    }

    /// Floors at or below this are not asked for any more.
    pub(crate) fn forget(&mut self, floor: u64) {
        let below = self.marks.partition_point(|(_, offset)| *offset < floor);
        self.marks.drain(..below);
    }

    /// Everything up to here is older than `max_age`.
    pub(crate) fn floor(&self, now: UnixMillis, max_age: Duration) -> u64 {
        let Some(limit) = self.moment(now).0.checked_sub(millis(max_age)) else { return 0 };
        let older = self.marks.partition_point(|(time, _)| *time <= limit);
        older.checked_sub(1).map_or(0, |at| self.marks[at].1)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        write_varint(out, self.marks.len() as u64);
        let mut last = (0, 0);
        for mark in &self.marks {
            write_varint(out, mark.0 - last.0);
            write_varint(out, mark.1 - last.1);
            last = *mark;
        }
    }

    pub(crate) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let count = read_varint(bytes)?;
        let mut last = (0u64, 0u64);
        let mut ages = Self::default();
        for _ in 0..count.min(MARKS as u64) {
            last = (last.0.checked_add(read_varint(bytes)?)?, last.1.checked_add(read_varint(bytes)?)?);
            ages.marks.push(last);
        }
        Some(ages)
    }
}

/// Whether something of this time is past the age.
pub(crate) fn is_over_age(time: UnixMillis, max_age: Duration, now: UnixMillis) -> bool {
    time.0.saturating_add(millis(max_age)) <= now.0
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_never_too_high() {
        let mut ages = Ages::default();
        (1..=10_000u64).for_each(|n| ages.note(UnixMillis(n * 10), n));
        for age in [0, 5, 10, 1000, 50_000, 99_990, 100_001, u64::MAX] {
            let floor = ages.floor(UnixMillis(100_000), Duration::from_millis(age));
            assert!(floor == 0 || is_over_age(UnixMillis(floor * 10), Duration::from_millis(age), UnixMillis(100_000)));
        }
        assert!(ages.floor(UnixMillis(100_000), Duration::from_secs(50)) > 4900);
        assert!(ages.marks.len() <= MARKS);
    }

    #[test]
    fn a_clock_that_goes_back_makes_nothing_older() {
        let mut ages = Ages::default();
        ages.note(UnixMillis(100), 1);
        ages.note(UnixMillis(50), 2);
        assert_eq!(ages.floor(UnixMillis(99), Duration::from_millis(50)), 0);
        assert_eq!(ages.floor(UnixMillis(100), Duration::from_millis(50)), 2, "what came before isn't younger");
        let mut bytes = Vec::new();
        ages.encode(&mut bytes);
        assert_eq!(Ages::decode(&mut &bytes[..]), Some(ages));
    }
}
