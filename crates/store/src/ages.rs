//! Which offset is how old: marks of time and offset, few enough to be written with every checkpoint.
//!
//! A floor that they give is never too high: everything up to it is at least that old. It may be too low by the
//! distance of two marks; readers look at a record's own time.

use std::time::Duration;

use everywire_base::clock::UnixMillis;

use crate::chunk::{read_varint, write_varint};

/// When there are more marks, they are thinned to half of that, evenly in time.
const MARKS: usize = 1024;

/// Marks of time and offset, ascending in both.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ages {
    marks: Vec<(u64, u64)>,
}

impl Ages {
    /// Everything up to `offset` was appended at `time` or before.
    pub(crate) fn note(&mut self, time: UnixMillis, offset: u64) {
        let (last_time, last_offset) = self.marks.last().copied().unwrap_or_default();
        if offset <= last_offset {
            return;
        }
        if time.0 <= last_time {
            // The clock stands or went back: what is newer counts as younger than it is.
            if let Some(last) = self.marks.last_mut() {
                last.1 = offset;
            }
            return;
        }
        self.marks.push((time.0, offset));
        if self.marks.len() > MARKS {
            self.thin();
        }
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
        let Some(limit) = now.0.checked_sub(millis(max_age)) else { return 0 };
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
        assert_eq!(ages.floor(UnixMillis(150), Duration::from_millis(51)), 0);
        let mut bytes = Vec::new();
        ages.encode(&mut bytes);
        assert_eq!(Ages::decode(&mut &bytes[..]), Some(ages));
    }
}
