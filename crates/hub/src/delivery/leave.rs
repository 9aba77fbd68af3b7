//! Leaving: messages of a filter that a connection has left are not on their way to it any more.

use everywire_base::ask::Read;
use everywire_base::id::AskId;
use everywire_base::topic::Filter;
use smallvec::SmallVec;

use super::Deliveries;
use super::lag::{Lag, State};
use super::table::Held;
use super::trie::ListId;
use crate::floor::Floor;

impl Deliveries {
    /// Ends all subscriptions of a connection.
    pub(crate) fn leave_all(&mut self, index: u32, floor: &mut Floor) {
        floor.set_reader(index, None);
        let Some(connection) = self.connections.get_mut(index) else { return };
        let holding = std::mem::take(&mut connection.holding);
        let lag = connection.lag.take();
        if let (_, Some(window)) = connection.parts() {
            window.make_room();
        }
        for held in holding.as_slice() {
            self.leave(*held, floor);
        }
        let Some(lag) = lag else { return };
        floor.counters.lagging -= 1;
        if let Some(asked) = lag.asked() {
            unask(index, asked, floor);
        }
    }

    /// Ends one subscription of a connection, and says whether there was one. Records that the store was asked for are
    /// not offered to it any more.
    pub(crate) fn leave_filter(&mut self, index: u32, filter: &Filter, group: Option<&str>, floor: &mut Floor) -> bool {
        let Some(list) = self.table.find_in(filter, group) else { return false };
        let Some(nth) = self.held(index).iter().position(|held| held.list == list) else { return false };
        if self.held(index).len() == 1 {
            self.leave_all(index, floor);
            return true;
        }
        let connection = self.connections.reach(index);
        let table = &self.table;
        let held = connection.holding.remove(nth, |held| table.filter(held.list).as_str().len());
        let lag = connection.lag.take();
        if let Some(lag) = lag {
            self.leave_lag(index, lag, (nth, filter), floor);
        }
        let connection = self.connections.reach(index);
        let moved: SmallVec<[Held; 8]> = connection.holding.as_slice()[nth..].into();
        // The numbers change before the list is left, so that every place still is the one that its connection says.
        moved.iter().zip(nth..).for_each(|(held, nth)| self.table.renumber(*held, nth as u32));
        self.leave(held, floor);
        true
    }

    /// Takes the `nth` filter out of a connection's lag state: messages that only this filter takes are not on their
    /// way any more.
    fn leave_lag(&mut self, index: u32, mut lag: Box<Lag>, (nth, filter): (usize, &Filter), floor: &mut Floor) {
        if nth < lag.sinces.len() {
            lag.sinces.remove(nth);
        }
        if let State::Greeting(asked) = lag.state {
            unask(index, asked, floor);
            lag.state = State::Ready;
        }
        lag.greetings.retain_mut(|greeting| greeting.leave(filter));
        self.go_back(index, &mut lag);
        let ready = lag.state == State::Ready;
        self.connections.reach(index).lag = Some(lag);
        if ready {
            self.enqueue(index);
        }
    }

    fn leave(&mut self, held: Held, floor: &mut Floor) {
        floor.counters.subscriptions -= 1;
        let left = self.table.leave(held);
        if let Some(moved) = left.moved {
            let connection = self.connections.reach(moved.connection);
            connection.holding.as_mut_slice()[moved.nth as usize].place = held.place;
        }
        if left.freed {
            self.forget(held.list);
        }
    }

    fn forget(&mut self, list: ListId) {
        if let Some(walk) = &mut self.walk {
            walk.forget(list);
        }
    }
}

/// Takes back a read that hasn't gone to the store yet. Its session may wait for another.
pub(super) fn unask(index: u32, asked: AskId, floor: &mut Floor) {
    let is_it = |read: &Read| read.reply_to.connection().is_some_and(|(slot, ask)| (slot.index, ask) == (index, asked));
    floor.out.reads.retain(|read| !is_it(read));
}
