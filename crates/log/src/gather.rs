//! How long a commit waits for company.
//!
//! Clients that wait for their answer before they publish again come back shortly after a commit, one after the other.
//! Who commits what the first of them brings splits them into two halves, each of which waits for the other's sync. So
//! the appender waits for about as many as were under way, but never longer than half a sync, and not at all where that
//! didn't help. A lone publisher never waits.

use std::time::{Duration, Instant};

const LONGEST: Duration = Duration::from_millis(2);
/// After so many vain waits in a row …
const VAIN: u32 = 4;
/// … so many commits don't wait.
const REST: u32 = 32;

pub(crate) struct Gather {
    expected: usize,
    until: Instant,
    /// A moving average.
    sync: Duration,
    vain: u32,
    rest: u32,
}

impl Gather {
    pub(crate) fn new() -> Self {
        Self { expected: 0, until: Instant::now(), sync: Duration::ZERO, vain: 0, rest: 0 }
    }

    /// A commit of so many is over, and so many wait already.
    pub(crate) fn committed(&mut self, answered: usize, waiting: usize, took: Duration) {
        self.expected = answered + waiting;
        self.sync = if self.sync.is_zero() { took } else { (self.sync * 7 + took) / 8 };
        self.until = Instant::now() + (self.sync / 2).min(LONGEST);
        self.rest = self.rest.saturating_sub(1);
    }

    /// Until when to wait for more if so many wait now; `None` if there is nothing to wait for.
    pub(crate) fn until(&self, waiting: usize) -> Option<Instant> {
        (waiting < self.expected && self.rest == 0).then_some(self.until)
    }

    /// The wait is over, with so many.
    pub(crate) fn waited(&mut self, waiting: usize) {
        // Nearly all is as good as all: one of them may have gone for good.
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
