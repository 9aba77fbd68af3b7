//! `$conversations`: one subscription to a user's inbox and to the rooms that the user belongs to, also those joined
//! later. For delivery these are filters like all others; this module knows which connections want them.

use std::borrow::Cow;

use everywire_base::ask::Subscribe;
use everywire_base::id::Slot;
use everywire_base::identity::encode;
use everywire_base::topic::{Filter, Topic};

use super::Presence;
use crate::ground::Ground;

/// The name that stands for a user's inbox and rooms in a subscription.
const MINE: &str = "$conversations";

impl Presence {
    /// Expands a subscription: the user's inbox and rooms take the place of `$conversations`.
    pub(crate) fn expand<'a>(
        &mut self,
        ground: &Ground<'_>,
        slot: Slot,
        subscribe: &'a Subscribe,
    ) -> Cow<'a, Subscribe> {
        if !subscribe.filters.iter().any(is_mine) {
            return Cow::Borrowed(subscribe);
        }
        let who = subscribe.identity.as_ref().or_else(|| ground.floor.caller(slot.index));
        // Without a user the name stays: it is a topic of the server's own, which is refused.
        let Some((who, user)) = who.and_then(|who| Some((who, who.user.as_deref()?))) else {
            return Cow::Borrowed(subscribe);
        };
        let mut all = subscribe.clone();
        all.filters.retain(|filter| !is_mine(filter));
        for filter in of_user(ground, user) {
            // A filter that the rules don't grant is left out, not refused.
            if !all.filters.contains(&filter) && ground.floor.grants(Some(who), &filter).is_ok() {
                all.filters.push(filter);
            }
        }
        self.mine.insert(slot.index);
        Cow::Owned(all)
    }

    /// Gives the filters that these subscriptions stand for, and leaves their rooms where subscribers are occupants.
    pub(crate) fn ended(&mut self, ground: &mut Ground<'_>, slot: Slot, filters: &[Filter]) -> Vec<Filter> {
        let mut all: Vec<Filter> = filters.iter().filter(|filter| !is_mine(filter)).cloned().collect();
        if all.len() < filters.len()
            && self.mine.remove(&slot.index)
            && let Some(user) = ground.floor.user(slot.index)
        {
            // The inbox stays: a login subscribes to it.
            all.extend(of_user(ground, user).into_iter().skip(1));
        }
        self.unsubscribed(ground, slot, &all);
        all
    }

    /// All of a connection's subscriptions end.
    pub(crate) fn ended_all(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        self.mine.remove(&slot.index);
        if self.entered.contains_key(&slot.index) {
            let all: Vec<Filter> = ground.deliveries.filters(slot.index).cloned().collect();
            self.unsubscribed(ground, slot, &all);
        }
    }

    /// A user's membership has changed: their `$conversations` gain or lose the room.
    pub(super) fn follow_membership(&mut self, ground: &mut Ground<'_>, user: &str, level: &str) {
        let Ok(topic) = Topic::parse(&format!("room/{level}")) else { return };
        let is_member = ground.floor.setup.rooms.room(level).is_some_and(|room| room.role(user).is_member());
        let filter = Filter::Exact(topic);
        for slot in self.mine_of(ground, user) {
            let holds = ground.deliveries.holds(slot.index, &filter, None);
            if is_member && !holds {
                ground.subscribe(slot, &Subscribe::to([filter.clone()]));
            } else if !is_member && holds {
                ground.leave_filter(slot, &filter, None);
            }
        }
    }

    /// The connections of this user that are subscribed to `$conversations`.
    pub(super) fn mine_of(&self, ground: &Ground<'_>, user: &str) -> Vec<Slot> {
        if self.mine.is_empty() {
            return Vec::new();
        }
        let readers = super::hears::inbox_readers(ground, user).into_iter();
        readers.filter(|slot| self.mine.contains(&slot.index)).collect()
    }
}

fn is_mine(filter: &Filter) -> bool {
    filter.as_str() == MINE
}

/// A user's inbox, and the rooms that the user belongs to.
fn of_user(ground: &Ground<'_>, user: &str) -> Vec<Filter> {
    let rooms = ground.floor.setup.rooms.of_user(user, None);
    let rooms = rooms.into_iter().filter(|(_, room)| room.role(user).is_member());
    let names = rooms.map(|(level, _)| format!("room/{level}"));
    let all = std::iter::once(format!("user/{}", encode(user))).chain(names);
    all.filter_map(|name| Topic::parse(&name).ok()).map(Filter::Exact).collect()
}
