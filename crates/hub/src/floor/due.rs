//! Things that are seen to later, each at its time: every owner's reads, records and connections that wait.

use std::collections::BTreeSet;

use everywire_base::clock::Monotonic;

/// Things in the order of their times.
#[derive(Debug)]
pub(crate) struct Due<K>(BTreeSet<(Monotonic, K)>);

impl<K> Default for Due<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<K: Ord + Clone> Due<K> {
    /// Adds a thing. It stands there as often as it is added with different times.
    pub(crate) fn add(&mut self, at: Monotonic, thing: K) {
        self.0.insert((at, thing));
    }

    /// Removes a thing that was added with this time.
    pub(crate) fn remove(&mut self, at: Monotonic, thing: K) {
        self.0.remove(&(at, thing));
    }

    /// Takes out the first thing whose time has come, with its time.
    pub(crate) fn next(&mut self, now: Monotonic) -> Option<(Monotonic, K)> {
        self.deadline().filter(|at| *at <= now)?;
        self.0.pop_first()
    }

    /// The time of the first thing.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.0.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_the_order_of_their_times_and_not_before() {
        let (mut due, at) = (Due::default(), Monotonic);
        for (ms, thing) in [(30, "c"), (10, "a"), (20, "b"), (15, "gone")] {
            due.add(at(ms), thing);
        }
        due.remove(at(15), "gone");
        assert_eq!((due.next(at(9)), due.deadline()), (None, Some(at(10))));
        let (a, b) = (Some((at(10), "a")), Some((at(20), "b")));
        assert_eq!([due.next(at(20)), due.next(at(20)), due.next(at(20))], [a, b, None]);
        assert_eq!((due.next(at(99)), due.deadline()), (Some((at(30), "c")), None));
    }
}
