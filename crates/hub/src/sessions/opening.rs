//! Opening: the session is this connection's, and its subscriptions go on.

use everywire_base::ask::Subscribe;
use everywire_base::cursor::{Cursor, Partition, Start};
use everywire_base::id::Slot;
use everywire_base::rules::Refusal;
use everywire_base::system::{self, GroupState, SessionFilter};
use everywire_base::terms::Terms;
use everywire_base::topic::Filter;

use super::Sessions;
use super::once::Received;
use super::record::is_above;
use super::session::{Before, Open, Opening, Session};
use crate::floor::Event;
use crate::ground::Ground;

impl Sessions {
    /// Opens a session, which goes on from its record.
    pub(super) fn open(&mut self, ground: &mut Ground<'_>, slot: Slot, opening: Opening) {
        let Opening { state, mut open, ask } = opening;
        let acknowledged: Option<Cursor> = state.acknowledged.parse().ok();
        ground.deliveries.count(slot.index);
        if let Some(window) = ground.deliveries.window_mut(slot.index) {
            window.restore(&state.sent);
        }
        if !state.received.is_empty() {
            open.ends().received = state.received.iter().copied().map(Received::settled).collect();
        }
        let reopened = state.filters.iter().filter_map(|f| reopen(ground, slot, &mut open, f, acknowledged.as_ref()));
        let refused = reopened.flatten().collect();
        let resumed = open.before() != Before::Nothing;
        if resumed {
            ground.deliveries.send_again(slot.index, ground.floor);
        }
        let renewal = ground.now.monotonic + system::lease(open.expiry().as_secs()) / 2;
        // A session that isn't kept is not renewed.
        self.put(slot.index, Session::Open(open));
        self.watch(slot, renewal);
        self.welcome(ground.floor, (slot, ask), resumed, refused);
    }
}

/// Takes up a subscription of the session; gives the filters that are refused now.
fn reopen(
    ground: &mut Ground<'_>,
    slot: Slot,
    open: &mut Open,
    wanted: &SessionFilter,
    acknowledged: Option<&Cursor>,
) -> Option<Vec<(Filter, Refusal)>> {
    let (filter, since) = (Filter::parse(&wanted.filter).ok()?, wanted.since.parse::<Cursor>().ok()?);
    let begin = acknowledged.filter(|acknowledged| !is_above(&since, acknowledged)).unwrap_or(&since);
    if begin == &since && open.is_durable() {
        open.ends().later.push((filter.clone(), since.clone()));
    }
    let (terms, group) = (Terms::unpack(wanted.terms), wanted.group.clone());
    let start = Start::After(begin.clone());
    let subscribe = Subscribe { start, terms, group, ..Subscribe::to([filter]) };
    if subscribe.group.is_some() {
        // The group knows what its members left, unless the node died.
        let has_crashed = open.before() == Before::Crashed;
        let until_ms = ground.now.wall.after(open.expiry()).0;
        let past = since.position(Partition(0)).filter(|_| has_crashed);
        let past = past.map(|from| GroupState { ranges: Vec::new(), from: from.0, until_ms });
        ground.floor.out.events.push_back(Event::Rejoin(slot, Box::new(subscribe), past));
        return None;
    }
    Some(ground.subscribe(slot, &subscribe).refused)
}
