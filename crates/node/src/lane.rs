//! A bounded queue in front of a few threads, shared fairly among addresses: an address that sends much waits behind
//! itself.
//!
//! Addresses take turns, however much each has waiting. Items of a client that has closed its sending side are taken
//! when no others wait: most of these clients are gone.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use everywire_base::network::neighbourhood;

/// The bounds of a lane.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most items that may wait in all.
    pub(crate) waiting: usize,
    /// The most items of one address that may wait.
    pub(crate) of_one: usize,
    /// The most items of one address that may be worked on at the same time.
    pub(crate) at_work: usize,
}

/// The reason why a lane doesn't take an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Full {
    /// Too many items wait in all.
    All,
    /// Too many items of this address wait.
    One,
}

/// The queue of items that wait, of type `T`.
pub(crate) struct Lane<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
    more: Condvar,
}

struct State<T> {
    addresses: HashMap<IpAddr, Address<T>>,
    /// Addresses with an item to take, in the order of their turns.
    turns: VecDeque<IpAddr>,
    waiting: usize,
    is_closed: bool,
}

struct Address<T> {
    waiting: VecDeque<T>,
    /// Items of clients that have closed their sending side.
    leaving: VecDeque<T>,
    at_work: usize,
}

/// An item that was taken. It counts as worked on until this is dropped.
pub(crate) struct Taken<'a, T> {
    lane: &'a Lane<T>,
    from: IpAddr,
    item: Option<T>,
}

impl<T> Lane<T> {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let state = State { addresses: HashMap::new(), turns: VecDeque::new(), waiting: 0, is_closed: false };
        Self { bounds, state: Mutex::new(state), more: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets an item wait for its turn, or gives it back.
    pub(crate) fn put(&self, from: IpAddr, item: T, is_leaving: bool) -> Result<(), (Full, T)> {
        let from = neighbourhood(from);
        let mut state = self.state();
        if state.waiting >= self.bounds.waiting || state.is_closed {
            return Err((Full::All, item));
        }
        let State { addresses, turns, waiting, .. } = &mut *state;
        let address = addresses.entry(from).or_insert_with(Address::new);
        if address.len() >= self.bounds.of_one {
            return Err((Full::One, item));
        }
        *waiting += 1;
        if address.is_idle() {
            turns.push_back(from);
        }
        let queue = if is_leaving { &mut address.leaving } else { &mut address.waiting };
        queue.push_back(item);
        self.more.notify_one();
        Ok(())
    }

    /// Takes the next item. `None` when the lane is closed, or when none came in time.
    pub(crate) fn take(&self, within: Option<Duration>) -> Option<Taken<'_, T>> {
        let until = within.map(|within| Instant::now() + within);
        let mut state = self.state();
        loop {
            if state.is_closed {
                return None;
            }
            if let Some((from, item)) = state.next(self.bounds.at_work) {
                return Some(Taken { lane: self, from, item: Some(item) });
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => return None,
                Some(left) => self.more.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.more.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes out the items for which nobody waits any more; returns their number.
    pub(crate) fn forget(&self, from: IpAddr, is_it: impl Fn(&T) -> bool) -> usize {
        let from = neighbourhood(from);
        let mut state = self.state();
        let State { addresses, turns, waiting, .. } = &mut *state;
        let Some(address) = addresses.get_mut(&from) else { return 0 };
        let before = address.len();
        address.waiting.retain(|item| !is_it(item));
        address.leaving.retain(|item| !is_it(item));
        let gone = before - address.len();
        *waiting -= gone;
        if gone > 0 && address.is_idle() {
            turns.retain(|turn| *turn != from);
            if address.at_work == 0 {
                addresses.remove(&from);
            }
        }
        gone
    }

    /// Puts those items last whose client has closed its sending side.
    pub(crate) fn is_leaving(&self, from: IpAddr, is_it: impl Fn(&T) -> bool) {
        let mut state = self.state();
        let Some(address) = state.addresses.get_mut(&neighbourhood(from)) else { return };
        let (leaving, waiting) = std::mem::take(&mut address.waiting).into_iter().partition(is_it);
        address.waiting = waiting;
        let mut leaving: VecDeque<T> = leaving;
        address.leaving.append(&mut leaving);
    }

    /// The number of items that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting
    }

    /// Whether the lane is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().is_closed
    }

    /// Closes the lane, which ends the threads that take from it.
    pub(crate) fn close(&self) {
        self.state().is_closed = true;
        self.more.notify_all();
    }

    fn done(&self, from: IpAddr) {
        let mut state = self.state();
        let State { addresses, .. } = &mut *state;
        if let Some(address) = addresses.get_mut(&from) {
            address.at_work -= 1;
            if address.at_work == 0 && address.is_idle() {
                addresses.remove(&from);
            }
        }
        // The address may have its next item worked on now.
        self.more.notify_one();
    }
}

impl<T> State<T> {
    /// The next item of the first address whose turn it is. Items of clients that stay come before those of clients
    /// that leave.
    fn next(&mut self, at_work: usize) -> Option<(IpAddr, T)> {
        let is_free = |address: &Address<T>| address.at_work < at_work;
        let stays = |from: &IpAddr| self.addresses.get(from).is_some_and(|a| is_free(a) && !a.waiting.is_empty());
        let leaves = |from: &IpAddr| self.addresses.get(from).is_some_and(is_free);
        let turn = self.turns.iter().position(stays).or_else(|| self.turns.iter().position(leaves))?;
        let from = self.turns.remove(turn)?;
        let address = self.addresses.get_mut(&from)?;
        let item = address.waiting.pop_front().or_else(|| address.leaving.pop_front())?;
        address.at_work += 1;
        self.waiting -= 1;
        if !address.is_idle() {
            self.turns.push_back(from);
        }
        Some((from, item))
    }
}

impl<T> Address<T> {
    fn new() -> Self {
        Self { waiting: VecDeque::new(), leaving: VecDeque::new(), at_work: 0 }
    }

    fn len(&self) -> usize {
        self.waiting.len() + self.leaving.len()
    }

    /// Whether no item of it waits.
    fn is_idle(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Taken<'_, T> {
    /// The item, and its address. It is worked on until this is dropped.
    pub(crate) fn item(&mut self) -> Option<(IpAddr, T)> {
        Some((self.from, self.item.take()?))
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        self.lane.done(self.from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, n])
    }

    fn lane(waiting: usize, of_one: usize, at_work: usize) -> Lane<u32> {
        Lane::new(Bounds { waiting, of_one, at_work })
    }

    /// Takes an item without waiting, works on it, and ends it.
    fn next(lane: &Lane<u32>) -> Option<u32> {
        Some(lane.take(Some(Duration::ZERO))?.item()?.1)
    }

    #[test]
    fn addresses_take_turns() {
        let lane = lane(100, 10, 4);
        (0..10).for_each(|n| lane.put(address(1), n, false).unwrap());
        lane.put(address(2), 100, false).unwrap();
        lane.put(address(3), 200, false).unwrap();
        lane.put(address(2), 101, false).unwrap();
        let order: Vec<u32> = std::iter::from_fn(|| next(&lane)).collect();
        assert_eq!(order, [0, 100, 200, 1, 101, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(lane.waiting(), 0);
        assert!(lane.state().addresses.is_empty() && lane.state().turns.is_empty());
    }

    #[test]
    fn bounds_hold_for_all_and_for_one() {
        let lane = lane(3, 2, 4);
        lane.put(address(1), 1, false).unwrap();
        lane.put(address(1), 2, true).unwrap();
        assert_eq!(lane.put(address(1), 3, false), Err((Full::One, 3)));
        lane.put(address(2), 4, false).unwrap();
        assert_eq!(lane.put(address(3), 5, false), Err((Full::All, 5)));
        // A refused item leaves nothing behind.
        while next(&lane).is_some() {}
        assert!(lane.state().addresses.is_empty());
    }

    #[test]
    fn an_address_holds_some_of_the_threads_only() {
        let lane = lane(100, 100, 2);
        (0..5).for_each(|n| lane.put(address(1), n, false).unwrap());
        lane.put(address(2), 100, false).unwrap();
        let mut held: Vec<_> = (0..3).map(|_| lane.take(Some(Duration::ZERO)).unwrap()).collect();
        let items: Vec<u32> = held.iter_mut().filter_map(|taken| Some(taken.item()?.1)).collect();
        assert_eq!(items, [0, 100, 1]);
        assert_eq!(next(&lane), None);
        held.remove(0);
        assert_eq!(next(&lane), Some(2));
    }

    #[test]
    fn who_leaves_is_last_and_who_is_gone_is_forgotten() {
        let lane = lane(100, 100, 4);
        (0..4).for_each(|n| lane.put(address(1), n, false).unwrap());
        lane.put(address(2), 100, true).unwrap();
        lane.put(address(3), 200, false).unwrap();
        lane.is_leaving(address(1), |n| *n < 2);
        assert_eq!(lane.forget(address(1), |n| *n == 3), 1);
        assert_eq!(lane.forget(address(9), |_| true), 0);
        let order: Vec<u32> = std::iter::from_fn(|| next(&lane)).collect();
        assert_eq!(order, [2, 200, 100, 0, 1]);
        lane.put(address(1), 1, false).unwrap();
        assert_eq!(lane.forget(address(1), |_| true), 1);
        assert!(lane.state().addresses.is_empty() && lane.state().turns.is_empty() && lane.waiting() == 0);
    }

    #[test]
    fn a_network_counts_as_one() {
        let lane = lane(100, 1, 4);
        let six = |text: &str| text.parse::<IpAddr>().unwrap();
        lane.put(six("2001:db8:1:2::1"), 1, false).unwrap();
        assert!(lane.put(six("2001:db8:1:2:ffff::9"), 2, false).is_err());
        lane.put(six("2001:db8:1:3::1"), 3, false).unwrap();
        lane.put(six("::ffff:127.0.0.1"), 4, false).unwrap();
        assert!(lane.put(address(1), 5, false).is_err());
    }

    #[test]
    fn a_closed_lane_ends_its_takers() {
        let lane = lane(1, 1, 1);
        std::thread::scope(|scope| {
            let taker = scope.spawn(|| lane.take(None).is_none());
            lane.close();
            assert!(taker.join().unwrap());
        });
    }
}
