//! A worker at rest: memory that a burst of work has left behind goes back to the system.

use std::time::Duration;

use everywire_base::clock::Monotonic;

/// The time without work after which a worker is at rest.
const REST: Duration = Duration::from_millis(1500);
/// The shortest time between two trims, since each looks at all memory of the thread.
const BETWEEN: Duration = Duration::from_secs(10);

/// The rest of a worker, and what it does there.
pub(crate) struct Rest {
    trim: fn(),
    /// The time at which it trims, if it has worked since it last did.
    due: Option<Monotonic>,
    earliest: Monotonic,
}

impl Rest {
    pub(crate) fn new(trim: fn()) -> Self {
        Self { trim, due: None, earliest: Monotonic::default() }
    }

    /// Begins anew: there is work.
    pub(crate) fn works(&mut self, now: Monotonic) {
        self.due = Some((now + REST).max(self.earliest));
    }

    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.due
    }

    /// Trims if it is time.
    pub(crate) fn turn(&mut self, now: Monotonic) {
        if self.due.is_some_and(|due| due <= now) {
            (self.due, self.earliest) = (None, now + BETWEEN);
            (self.trim)();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        static TRIMS: Cell<u32> = const { Cell::new(0) };
    }

    #[test]
    fn memory_is_trimmed_once_after_work_and_not_again_at_once() {
        let mut rest = Rest::new(|| TRIMS.set(TRIMS.get() + 1));
        let mut trims_at = |ms, works| {
            if works {
                rest.works(Monotonic(ms));
            }
            rest.turn(Monotonic(ms));
            TRIMS.get()
        };
        assert_eq!(trims_at(5000, false), 0, "nothing was done");
        assert_eq!((trims_at(5000, true), trims_at(6499, false), trims_at(6500, false)), (0, 0, 1));
        assert_eq!(trims_at(60_000, false), 1, "nothing was done since");
        assert_eq!((trims_at(60_500, true), trims_at(61_900, true), trims_at(62_000, false)), (1, 1, 1));
        assert_eq!(trims_at(63_400, false), 2);
        assert_eq!((trims_at(63_500, true), trims_at(65_000, false), trims_at(73_399, false)), (2, 2, 2));
        assert_eq!(trims_at(73_400, false), 3);
    }
}
