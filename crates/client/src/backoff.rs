//! The delay before the next attempt: twice as long each time, and spread, so that a thousand clients of one server
//! don't all come back at the same moment.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

/// Delays between attempts.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    attempts: u32,
    random: u64,
}

impl Backoff {
    /// The first delay and the longest.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self::seeded(first, most, RandomState::new().hash_one(0))
    }

    /// Delays with a spread that repeats for the same seed.
    pub fn seeded(first: Duration, most: Duration, seed: u64) -> Self {
        Self { first, most, attempts: 0, random: seed }
    }

    /// Sets the first delay, as the server asks for it.
    pub fn set_first(&mut self, first: Duration) {
        self.first = first.min(self.most);
    }

    /// Begins again with the first delay, after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next delay: between a half and the whole of the due one, and never less than the server asked for.
    pub fn next(&mut self, at_least: Option<Duration>) -> Duration {
        let due = self.first.saturating_mul(1 << self.attempts.min(16)).min(self.most);
        self.attempts += 1;
        let share = 0.5 + 0.5 * self.fraction();
        match at_least {
            Some(asked) => asked + due.mul_f64(share / 2.0),
            None => due.mul_f64(share),
        }
    }

    /// A number from 0 to 1 (`SplitMix64`).
    fn fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::seeded(Duration::from_millis(100), Duration::from_secs(1), 7);
        for due in [100, 200, 400, 800, 1000, 1000] {
            let due = Duration::from_millis(due);
            let delay = backoff.next(None);
            assert!((due / 2..=due).contains(&delay), "{delay:?} of {due:?}");
        }
        backoff.reset();
        assert!(backoff.next(None) <= Duration::from_millis(100));
    }

    #[test]
    fn what_the_server_asks_for_is_the_least() {
        let mut backoff = Backoff::seeded(Duration::from_millis(100), Duration::from_secs(1), 7);
        assert!(backoff.next(Some(Duration::from_secs(5))) >= Duration::from_secs(5));
        backoff.set_first(Duration::from_secs(99));
        assert!(backoff.next(None) <= Duration::from_secs(1), "a server can't ask for more than our longest");
    }

    #[test]
    fn two_clients_differ() {
        let delays = |seed| {
            let mut backoff = Backoff::seeded(Duration::from_secs(1), Duration::from_secs(9), seed);
            [backoff.next(None), backoff.next(None)]
        };
        assert_ne!(delays(1), delays(2));
        assert_eq!(delays(1), delays(1));
    }
}
