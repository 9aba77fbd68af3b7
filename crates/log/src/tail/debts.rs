//! The debts of members of shared groups: workers write them here, and a node's beat says them to the others.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use everywire_base::cursor::Offset;
use everywire_base::system::GroupDebt;

/// The most groups that a beat names; one debt stands for all others.
const NAMED: usize = 64;

/// The messages that members of groups on a worker owe.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Debts {
    /// The beat of the node up to which the worker has handled all.
    pub beat: Offset,
    /// The groups whose members owe messages from before that.
    pub owes: Vec<GroupDebt>,
}

/// The debts on all workers. Nobody locks: each worker replaces its own.
#[derive(Default)]
pub struct Board {
    workers: OnceLock<Box<[ArcSwap<Debts>]>>,
}

impl Board {
    pub(super) fn set_workers(&self, workers: usize) {
        // Only the first call counts.
        let _ = self.workers.set((0..workers).map(|_| ArcSwap::default()).collect());
    }

    /// Notes what is owed on a worker.
    pub fn write(&self, worker: usize, debts: Debts) {
        if let Some(place) = self.workers.get().and_then(|all| all.get(worker)) {
            place.store(Arc::new(debts));
        }
    }

    /// The debts on all workers: as of the node's last beat, or of an earlier one that they all have handled.
    pub fn read(&self, last: Offset) -> Debts {
        let all: Vec<_> = self.workers.get().into_iter().flatten().map(ArcSwap::load).collect();
        let beat = all.iter().map(|debts| debts.beat).fold(last, Offset::min);
        let mut owes: BTreeMap<&str, u64> = BTreeMap::new();
        for debt in all.iter().flat_map(|debts| &debts.owes).filter(|debt| debt.after < beat.0) {
            let after = owes.entry(&debt.group).or_insert(debt.after);
            *after = debt.after.min(*after);
        }
        let others = owes.values().skip(NAMED).min().map(|after| GroupDebt { group: "".into(), after: *after });
        let named = owes.iter().take(NAMED).map(|(group, after)| GroupDebt { group: (*group).into(), after: *after });
        Debts { beat, owes: named.chain(others).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn debt(group: &str, after: u64) -> GroupDebt {
        GroupDebt { group: group.into(), after }
    }

    #[test]
    fn a_beat_says_what_all_workers_owe_as_of_the_last_that_all_have_handled() {
        let board = Board::default();
        board.set_workers(2);
        board.write(0, Debts { beat: Offset(20), owes: vec![debt("a", 5), debt("b", 7)] });
        assert_eq!(board.read(Offset(20)), Debts::default(), "one has handled nothing yet");
        board.write(1, Debts { beat: Offset(10), owes: vec![debt("a", 3)] });
        let owes = vec![debt("a", 3), debt("b", 7)];
        assert_eq!(board.read(Offset(20)), Debts { beat: Offset(10), owes: owes.clone() });
        board.write(1, Debts { beat: Offset(20), owes: vec![debt("a", 3), debt("c", 20)] });
        assert_eq!(board.read(Offset(20)), Debts { beat: Offset(20), owes });
    }

    #[test]
    fn beyond_so_many_groups_one_debt_stands_for_all_others() {
        let board = Board::default();
        board.set_workers(1);
        let owes = (0..100u64).map(|n| debt(&format!("{n:03}"), 1000 - n)).collect();
        board.write(0, Debts { beat: Offset(2000), owes });
        let read = board.read(Offset(2000)).owes;
        assert_eq!((read.len(), &read[63], &read[64]), (65, &debt("063", 937), &debt("", 901)));
    }
}
