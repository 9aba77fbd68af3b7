//! The time for which a commit waits for further appends.
//!
//! Clients that wait for their answer before they publish again come back shortly after a commit, one after the other.
//! An appender that commits the first of them at once splits them into two halves, each of which waits for the other's
//! sync. So the appender waits for about as many appends as were under way, but never longer than half a sync, and not
//! at all if that didn't help. A lone publisher never waits.

use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_millis(2);
/// The number of vain waits in a row …
const VAIN: u32 = 4;
/// … after which this number of commits don't wait.
const REST: u32 = 32;

pub(crate) struct Gather {
    expected: usize,
    until: Instant,
    /// The time of a sync, as a moving average.
    sync: Duration,
    vain: u32,
    rest: u32,
}

impl Gather {
    pub(crate) fn new() -> Self {
        Self { expected: 0, until: Instant::now(), sync: Duration::ZERO, vain: 0, rest: 0 }
    }

    /// Notes the end of a commit: the number of appends that it answered, and of those that wait already.
    pub(crate) fn committed(&mut self, answered: usize, waiting: usize, took: Duration) {
        self.expected = answered + waiting;
        self.sync = if self.sync.is_zero() { took } else { (self.sync * 7 + took) / 8 };
        self.until = Instant::now() + (self.sync / 2).min(LONGEST);
        self.rest = self.rest.saturating_sub(1);
    }

    /// The time until which to wait for more appends than those that wait now; `None` if no more are expected.
    pub(crate) fn until(&self, waiting: usize) -> Option<Instant> {
        (waiting < self.expected && self.rest == 0).then_some(self.until)
    }

    /// Notes the end of a wait, with the number of appends.
    pub(crate) fn waited(&mut self, waiting: usize) {
        // Nearly all is as good as all: one of the clients may have gone for good.
        let in_vain = waiting * 4 < self.expected * 3;
        self.vain = if in_vain { self.vain + 1 } else { 0 };
        if self.vain == VAIN {
            (self.vain, self.rest) = (0, REST);
        }
        self.expected = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_publisher_never_waits_and_a_vain_wait_is_not_repeated_for_ever() {
        let mut gather = Gather::new();
        assert_eq!(gather.until(1), None);
        gather.committed(1, 0, Duration::from_micros(200));
        assert_eq!(gather.until(1), None);
        for _ in 0..VAIN {
            gather.committed(8, 0, Duration::from_micros(200));
            assert!(gather.until(1).is_some());
            gather.waited(1);
        }
        gather.committed(8, 0, Duration::from_micros(200));
        assert_eq!(gather.until(1), None);
    }
}
