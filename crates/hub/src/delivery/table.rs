//! The table of subscriptions: a list of connections for each filter that somebody holds.
//!
//! Each filter is interned once. One subscriber stands inline, more in a vector. A connection remembers its place in
//! each of its lists, so that leaving a list of any length costs the same; the last subscriber moves into the free
//! place, and the caller tells it.

use std::collections::BTreeMap;

use everywire_base::system::group_topic;
use everywire_base::topic::{Filter, Topic};
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::trie::{ListId, Trie};
use crate::floor::chunked::Chunked;

/// A subscriber in a list: the connection, and which of its filters this is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Subscriber {
    pub(crate) connection: u32,
    pub(crate) nth: u32,
}

/// A filter that a connection holds: the list, the connection's place in it, and how it wants the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(super) list: ListId,
    pub(crate) place: u32,
    /// Packed [`everywire_base::terms::Terms`].
    pub(crate) terms: u32,
}

/// A list that a group shares: its filter's own list stands beside it, with those who want all.
#[derive(Debug)]
struct Share {
    plain: ListId,
    group: Box<str>,
    /// The topic of the group's records.
    topic: Topic,
}

#[expect(clippy::box_collection, reason = "most lists have one subscriber, and are small")]
#[derive(Debug, Default)]
enum Subscribers {
    #[default]
    None,
    One(Subscriber),
    Many(Box<Vec<Subscriber>>),
}

/// A place in the table of lists.
#[derive(Debug, Default)]
enum List {
    #[default]
    Free,
    Held {
        filter: Filter,
        subscribers: Subscribers,
    },
}

impl List {
    fn filter(&self) -> Option<&Filter> {
        match self {
            List::Free => None,
            List::Held { filter, .. } => Some(filter),
        }
    }

    /// The topic, if it is the list of an exact filter.
    fn topic(&self) -> Option<&Topic> {
        match self.filter() {
            Some(Filter::Exact(topic)) => Some(topic),
            _ => None,
        }
    }
}

/// The lists.
#[derive(Debug, Default)]
pub(super) struct Table {
    lists: Chunked<List>,
    free: Vec<ListId>,
    used: u32,
    /// The lists of exact filters, by the hash of the topic.
    exact: HashTable<ListId>,
    wild: Trie,
    /// Lists of groups.
    shares: BTreeMap<ListId, Share>,
    /// The lists of groups beside each list that has some.
    beside: BTreeMap<ListId, Vec<ListId>>,
}

/// The result of leaving a list.
pub(super) struct Left {
    /// The subscriber that stands in the place now.
    pub(super) moved: Option<Subscriber>,
    /// Whether that was the list's last subscriber, so that its name may be used for another list.
    pub(super) freed: bool,
}

impl Table {
    /// The list of a filter, if somebody holds it.
    pub(crate) fn find(&self, filter: &Filter) -> Option<ListId> {
        match filter {
            Filter::Exact(topic) => self.find_exact(topic),
            Filter::Wild(pattern) => self.wild.get(pattern),
        }
    }

    /// The list of a group's filter, or of those who want all.
    pub(super) fn find_in(&self, filter: &Filter, group: Option<&str>) -> Option<ListId> {
        let plain = self.find(filter)?;
        let Some(group) = group else { return Some(plain) };
        let is_it = |list: &&ListId| self.shares.get(*list).is_some_and(|share| *share.group == *group);
        self.beside.get(&plain)?.iter().find(is_it).copied()
    }

    /// The group that shares a list.
    pub(crate) fn group(&self, list: ListId) -> Option<&str> {
        self.shares.get(&list).map(|share| &*share.group)
    }

    /// The topic of the group that shares a list.
    pub(crate) fn share(&self, list: ListId) -> Option<&Topic> {
        if self.shares.is_empty() { None } else { self.shares.get(&list).map(|share| &share.topic) }
    }

    /// Appends the lists of all filters that take the topic; none twice.
    pub(super) fn matching(&self, topic: &Topic, lists: &mut SmallVec<[ListId; 4]>) {
        lists.extend(self.find_exact(topic));
        self.wild.matching(topic, lists);
        if !self.beside.is_empty() {
            let shares: SmallVec<[ListId; 4]> =
                lists.iter().filter_map(|list| self.beside.get(list)).flatten().copied().collect();
            lists.extend(shares);
        }
    }

    /// Adds a subscriber.
    pub(crate) fn join(&mut self, filter: &Filter, group: Option<&str>, subscriber: Subscriber, terms: u32) -> Held {
        let list = self.find_in(filter, group).unwrap_or_else(|| self.begin_in(filter, group));
        let subscribers = self.subscribers_mut(list);
        let place = match subscribers {
            Subscribers::None => {
                *subscribers = Subscribers::One(subscriber);
                0
            }
            Subscribers::One(first) => {
                *subscribers = Subscribers::Many(Box::new(vec![*first, subscriber]));
                1
            }
            Subscribers::Many(all) => {
                all.push(subscriber);
                all.len() as u32 - 1
            }
        };
        Held { list, place, terms }
    }

    /// Removes a subscriber from its place.
    pub(crate) fn leave(&mut self, held: Held) -> Left {
        let subscribers = self.subscribers_mut(held.list);
        if let Subscribers::Many(all) = subscribers {
            all.swap_remove(held.place as usize);
            let moved = all.get(held.place as usize).copied();
            if let [only] = all[..] {
                *subscribers = Subscribers::One(only);
            } else if all.len() * 4 < all.capacity() {
                all.shrink_to(all.len() * 2);
            }
            return Left { moved, freed: false };
        }
        *subscribers = Subscribers::None;
        Left { moved: None, freed: self.end(held.list) }
    }

    /// Gives a subscriber's filter its new number.
    pub(super) fn renumber(&mut self, held: Held, nth: u32) {
        match self.subscribers_mut(held.list) {
            Subscribers::None => {}
            Subscribers::One(one) => one.nth = nth,
            Subscribers::Many(all) => all[held.place as usize].nth = nth,
        }
    }

    /// The subscribers of a list; none if it is gone.
    pub(crate) fn subscribers(&self, list: ListId) -> &[Subscriber] {
        let Some(List::Held { subscribers, .. }) = self.lists.get(list) else { return &[] };
        match subscribers {
            Subscribers::None => &[],
            Subscribers::One(one) => std::slice::from_ref(one),
            Subscribers::Many(all) => all,
        }
    }

    fn subscribers_mut(&mut self, list: ListId) -> &mut Subscribers {
        match self.lists.reach(list) {
            List::Held { subscribers, .. } => subscribers,
            List::Free => unreachable!("whoever is in a list holds it"),
        }
    }

    /// The filter of a list that has subscribers.
    pub(crate) fn filter(&self, list: ListId) -> &Filter {
        self.lists.get(list).and_then(List::filter).expect("a held list has its filter")
    }

    /// All lists that have subscribers.
    pub(crate) fn all(&self) -> impl Iterator<Item = (ListId, &Filter)> {
        (0..self.used).filter_map(|list| Some((list, self.lists.get(list)?.filter()?)))
    }

    /// The number of lists that have subscribers.
    pub(crate) fn len(&self) -> u64 {
        u64::from(self.used) - self.free.len() as u64
    }

    fn find_exact(&self, topic: &Topic) -> Option<ListId> {
        self.exact.find(topic.stable_hash(), |list| self.is_exactly(*list, topic)).copied()
    }

    fn is_exactly(&self, list: ListId, topic: &Topic) -> bool {
        self.lists.get(list).and_then(List::topic) == Some(topic)
    }

    fn begin_in(&mut self, filter: &Filter, group: Option<&str>) -> ListId {
        let plain = self.find(filter).unwrap_or_else(|| self.begin(filter));
        let Some((group, topic)) = group.and_then(|group| Some((group, group_topic(group, filter.as_str())?))) else {
            return plain;
        };
        let list = self.fresh(filter);
        self.shares.insert(list, Share { plain, group: group.into(), topic });
        self.beside.entry(plain).or_default().push(list);
        list
    }

    fn fresh(&mut self, filter: &Filter) -> ListId {
        let list = self.free.pop().unwrap_or_else(|| {
            self.used += 1;
            self.used - 1
        });
        *self.lists.reach(list) = List::Held { filter: filter.clone(), subscribers: Subscribers::None };
        list
    }

    fn begin(&mut self, filter: &Filter) -> ListId {
        let list = self.fresh(filter);
        match filter {
            Filter::Wild(pattern) => self.wild.insert(pattern, list),
            Filter::Exact(topic) => {
                let lists = &self.lists;
                let rehash = |list: &ListId| lists.get(*list).and_then(List::topic).map_or(0, Topic::stable_hash);
                self.exact.insert_unique(topic.stable_hash(), list, rehash);
            }
        }
        list
    }

    /// Ends a list that has no subscribers, unless groups stand beside it; says whether its name is free.
    fn end(&mut self, list: ListId) -> bool {
        if let Some(Share { plain, .. }) = self.shares.remove(&list) {
            *self.lists.reach(list) = List::Free;
            self.free.push(list);
            let beside = self.beside.entry(plain).or_default();
            beside.retain(|other| *other != list);
            if beside.is_empty() {
                self.beside.remove(&plain);
                if self.subscribers(plain).is_empty() {
                    self.end(plain);
                }
            }
            return true;
        }
        if self.beside.contains_key(&list) {
            return false;
        }
        let List::Held { filter, .. } = std::mem::take(self.lists.reach(list)) else { return false };
        match filter {
            Filter::Wild(pattern) => self.wild.remove(&pattern),
            Filter::Exact(topic) => {
                if let Ok(entry) = self.exact.find_entry(topic.stable_hash(), |other| *other == list) {
                    entry.remove();
                }
            }
        }
        self.free.push(list);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_entry_is_small() {
        assert!(size_of::<List>() <= 40, "{}", size_of::<List>());
    }

    #[test]
    fn leaving_moves_the_last_into_the_place() {
        let mut table = Table::default();
        let filter = Filter::parse("a").unwrap();
        let who = |connection| Subscriber { connection, nth: 0 };
        let held: Vec<Held> = (0..3).map(|c| table.join(&filter, None, who(c), 0)).collect();
        let left = table.leave(held[0]);
        assert_eq!((left.moved, left.freed), (Some(who(2)), false));
        assert_eq!(table.subscribers(held[0].list), [who(2), who(1)]);
        table.leave(held[1]);
        assert!(table.leave(held[0]).freed);
        assert_eq!((table.len(), table.find(&filter)), (0, None));
        assert!(table.subscribers(held[0].list).is_empty());
    }
}
