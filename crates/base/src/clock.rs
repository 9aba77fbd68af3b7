//! Time as an input: nothing in the data plane reads a clock of its own.

use std::fmt;
use std::ops::Add;
use std::str::FromStr;
use std::time::Duration;

/// Milliseconds since an arbitrary start, never going back. For deadlines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Monotonic(pub u64);

impl Add<Duration> for Monotonic {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0 + later.as_millis() as u64)
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z. For people and other machines.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The moment that is later by this time.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later.as_millis() as u64))
    }
}

/// Reads RFC 3339.
impl FromStr for UnixMillis {
    type Err = NoTime;

    fn from_str(text: &str) -> Result<Self, NoTime> {
        let stamp: jiff::Timestamp = text.parse().map_err(|_| NoTime)?;
        u64::try_from(stamp.as_millisecond()).map(Self).map_err(|_| NoTime)
    }
}

/// A text that is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no time as RFC 3339 writes it")]
pub struct NoTime;

/// RFC 3339 in UTC with milliseconds: `2026-11-22T20:12:01.345Z`.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        let stamp = jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX);
        write!(f, "{stamp:.3}")
    }
}

/// The longest change of the wall clock between two looks that counts as passed time: beyond it, the clock was set.
pub const STEP: Duration = Duration::from_mins(1);

/// Steady time though the wall clock that it is taken from may be set: such a step counts as no time at all. The wall
/// clock must be looked at more often than every [`STEP`]. The first value is the wall clock's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Steady {
    wall: UnixMillis,
    now: Monotonic,
}

impl Steady {
    /// Steady time from here on.
    pub fn new(wall: UnixMillis) -> Self {
        Self { wall, now: Monotonic(wall.0) }
    }

    /// Looks at the wall clock. Returns the milliseconds by which it was set, if they are more than [`STEP`].
    pub fn look(&mut self, wall: UnixMillis) -> Option<i64> {
        let passed = wall.0.cast_signed().wrapping_sub(self.wall.0.cast_signed());
        self.wall = wall;
        let is_step = passed.unsigned_abs() > STEP.as_millis() as u64;
        if passed > 0 && !is_step {
            self.now.0 += passed.unsigned_abs();
        }
        is_step.then_some(passed)
    }

    /// The time now.
    pub fn now(&self) -> Monotonic {
        self.now
    }
}

/// Both clocks, read once a turn by the driver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// For deadlines.
    pub monotonic: Monotonic,
    /// For time stamps and expiry.
    pub wall: UnixMillis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_time_takes_no_part_in_steps() {
        const HOUR: u64 = 3_600_000;
        let mut steady = Steady::new(UnixMillis(5 * HOUR));
        for (wall, step, now) in [
            (5 * HOUR + 10_000, None, 10_000),
            (8 * HOUR, Some(3 * HOUR.cast_signed() - 10_000), 10_000),
            (8 * HOUR + 60_000, None, 70_000),
            (HOUR, Some(-7 * HOUR.cast_signed() - 60_000), 70_000),
            (HOUR - 500, None, 70_000),
            (HOUR + 500, None, 71_000),
        ] {
            assert_eq!((steady.look(UnixMillis(wall)), steady.now()), (step, Monotonic(5 * HOUR + now)), "{wall}");
        }
    }

    #[test]
    fn time_stamps_have_three_decimals() {
        assert_eq!(UnixMillis(1_795_378_321_345).to_string(), "2026-11-22T20:12:01.345Z");
        assert_eq!("2026-11-22T20:12:01.345Z".parse(), Ok(UnixMillis(1_795_378_321_345)));
        assert_eq!("yesterday".parse::<UnixMillis>(), Err(NoTime));
        assert_eq!(UnixMillis(0).to_string(), "1970-01-01T00:00:00.000Z");
    }
}
