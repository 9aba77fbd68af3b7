//! Ages of offsets: marks of time and offset, few enough to be written with every checkpoint.
//!
//! A floor that they give is never too high: everything up to it is at least that old. It may be too low by the
//! distance of two marks; readers look at a record's own time.
//!
//! The clock may be wrong. The offsets give the order: a record is not younger than a later one, whatever its time
//! says, so that times in the future are forgotten as soon as the clock is set right. A clock that steps ahead by more
//! than a day, while the server runs or between two of its lives, makes nothing older: earlier records keep the age
//! that they had, until the clock has gone on by their whole lifetime. So a clock that is wrong for a while never
//! removes history; after a long stop history stays for up to twice its time.

use std::time::Duration;

use everywire_base::clock::UnixMillis;

use crate::chunk::{read_varint, write_varint};

/// The number of marks beyond which they are thinned to half of that, evenly in time.
const MARKS: usize = 1024;

/// The step ahead beyond which a clock was set.
const STEP: u64 = 24 * 3_600_000;

/// Marks of time and offset, ascending in both.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Ages {
    marks: Vec<(u64, u64)>,
    /// The last time of the clock, …
    shown: u64,
    /// … the time by which it has stepped ahead, …
    ahead: u64,
    /// … and its time after the last such step.
    since: u64,
}

impl Ages {
    /// Notes that everything up to `offset` was appended at `time` or before.
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

    /// Notes the time of the clock; called often.
    pub(crate) fn pass(&mut self, now: UnixMillis) {
        let shown = std::mem::replace(&mut self.shown, now.0);
        if shown > 0 && now.0 > shown.saturating_add(STEP) {
            (self.ahead, self.since) = (self.ahead + (now.0 - shown), now.0);
            tracing::warn!(
                %now,
                "the clock was set ahead by more than a day, or the server was off for so long: nothing counts as older for \
                 that yet"
            );
        } else if shown > now.0.saturating_add(STEP) {
            self.ahead = self.ahead.saturating_sub(shown - now.0);
            self.since = self.since.min(now.0);
        }
    }

    /// The moment by which the age of records is measured that are kept for `max_age`.
    pub(crate) fn moment(&self, now: UnixMillis, max_age: Duration) -> UnixMillis {
        // All records from before the step are then as old as `max_age`, whatever the clock was.
        let is_over = now.0 >= self.since.saturating_add(millis(max_age));
        if is_over { now } else { UnixMillis(now.0.saturating_sub(self.ahead)) }
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

    /// Forgets marks below a floor: no lower floor is asked for any more.
    pub(crate) fn forget(&mut self, floor: u64) {
        let below = self.marks.partition_point(|(_, offset)| *offset < floor);
        self.marks.drain(..below);
    }

    /// The offset up to which everything is older than `max_age`.
    pub(crate) fn floor(&self, now: UnixMillis, max_age: Duration) -> u64 {
        let Some(limit) = self.moment(now, max_age).0.checked_sub(millis(max_age)) else { return 0 };
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
        for number in [self.shown, self.ahead, self.since] {
            write_varint(out, number);
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
        // A former version ends here: then the newest mark is the last known time of the clock.
        ages.shown = read_varint(bytes).unwrap_or(last.0);
        ages.ahead = read_varint(bytes).unwrap_or_default();
        ages.since = read_varint(bytes).unwrap_or_default();
        Some(ages)
    }
}

/// Whether a record of this time is older than the age.
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
    fn a_step_ahead_makes_nothing_older_until_the_clock_has_gone_on_for_as_long_as_things_live() {
        const DAY: u64 = 24 * 3_600_000;
        let (week, start) = (Duration::from_millis(7 * DAY), 1000 * DAY);
        let at = |day: u64| UnixMillis(start + day * DAY);
        let mut ages = Ages::default();
        ages.pass(at(0));
        ages.note(at(0), 5);
        // The clock goes ten years ahead between two lives, and its last time is known.
        let mut bytes = Vec::new();
        ages.encode(&mut bytes);
        let mut ages = Ages::decode(&mut &bytes[..]).unwrap();
        ages.pass(at(3650));
        assert_eq!(ages.floor(at(3650), week), 0);
        ages.note(at(3651), 9);
        assert_eq!((ages.floor(at(3656), week), ages.floor(at(3657), week)), (0, 5), "it had a week to live");
        assert_eq!(ages.floor(at(3658), week), 9, "and what came since lives no longer than that");
        // The clock is set right.
        let mut right = Ages::decode(&mut &bytes[..]).unwrap();
        right.pass(at(3650));
        right.pass(at(1));
        assert_eq!((right.floor(at(7), week), right.floor(at(8), week)), (0, 5));
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
