//! Wills that were replaced or removed a short while ago. They may still be published: a hub reads a will by its offset
//! when the connection is over, and the client may have left another since.

use std::collections::{BTreeSet, VecDeque};

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;

/// The time for which the log keeps them: longer than a connection takes to end.
const MILLIS: u64 = 60_000;
/// The most that are remembered.
const MAX: usize = 65_536;

/// The offsets of former wills.
#[derive(Default)]
pub(crate) struct FormerWills {
    by_age: VecDeque<(UnixMillis, Offset)>,
    offsets: BTreeSet<Offset>,
}

impl FormerWills {
    /// Notes that the will at an offset is no longer its topic's.
    pub(crate) fn note(&mut self, offset: Offset, now: UnixMillis) {
        self.let_go(now);
        if self.offsets.insert(offset) {
            self.by_age.push_back((now, offset));
        }
    }

    /// Whether the will at an offset may still be read.
    pub(crate) fn has(&mut self, offset: Offset, now: UnixMillis) -> bool {
        self.let_go(now);
        self.offsets.contains(&offset)
    }

    fn let_go(&mut self, now: UnixMillis) {
        let is_over = |since: UnixMillis| now.0 >= since.0.saturating_add(MILLIS);
        while let Some((since, offset)) = self.by_age.front().copied()
            && (is_over(since) || self.by_age.len() > MAX)
        {
            self.by_age.pop_front();
            self.offsets.remove(&offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_will_that_was_replaced_is_kept_for_a_while() {
        let mut wills = FormerWills::default();
        wills.note(Offset(7), UnixMillis(1000));
        wills.note(Offset(9), UnixMillis(2000));
        assert!(wills.has(Offset(7), UnixMillis(60_999)) && !wills.has(Offset(8), UnixMillis(60_999)));
        assert!(!wills.has(Offset(7), UnixMillis(61_000)) && wills.has(Offset(9), UnixMillis(61_000)));
    }

    #[test]
    fn their_number_is_bounded() {
        let mut wills = FormerWills::default();
        (1..=MAX as u64 + 10).for_each(|offset| wills.note(Offset(offset), UnixMillis(1000)));
        assert!(!wills.has(Offset(1), UnixMillis(1000)) && wills.has(Offset(MAX as u64 + 10), UnixMillis(1000)));
        assert!(wills.by_age.len() <= MAX && wills.offsets.len() == wills.by_age.len());
    }
}
