//! The record of a session in the log: it is written when something must be confirmed, lazily else, and at the end.

use std::time::Duration;

use everywire_base::ask::{Answer, Subscribed};
use everywire_base::clock::{Now, UnixMillis};
use everywire_base::cursor::{Cursor, Offset, Start};
use everywire_base::id::{AskId, Slot};
use everywire_base::record::{Durability, System};
use everywire_base::system::{self, SessionFilter, SessionState};
use everywire_base::topic::{Filter, Topic};

use super::once::Received;
use super::session::{Before, Kept, Open, Session, Wants};
use super::{LAZY, Sessions};
use crate::delivery::{Held, State, Window};
use crate::ground::Ground;

impl Sessions {
    /// Takes a record of the session's own that has come out of the log.
    pub(super) fn written(&mut self, ground: &mut Ground<'_>, slot: Slot, generation: u64) {
        let opens = |s: &Session| matches!(s, Session::Opening(it) if it.generation() == Some(generation));
        if let Some(Session::Opening(opening)) = self.take_if(slot, opens) {
            return self.open(ground, slot, *opening);
        }
        let Some(Session::Open(open)) = self.session_mut(slot.index) else { return };
        let Some(kept) = open.kept_mut().filter(|kept| kept.is_writing && kept.generation == generation) else {
            return;
        };
        // The state in the record under way is durable.
        kept.is_writing = false;
        let wants = kept.wants;
        let ends = open.ends();
        let confirmed: Vec<_> = ends.held.drain(..std::mem::take(&mut ends.covered)).collect();
        let mut urgent = !ends.held.is_empty() || wants == Wants::RecordAtOnce;
        let is_subscribing = open.is_subscribing();
        open.tie_up();
        if let Some(window) = ground.deliveries.window_mut(slot.index) {
            window.written(true);
            window.hold(is_subscribing);
            urgent |= window.is_urgent();
        }
        for (ask, said) in confirmed {
            ground.floor.say(slot, ask, said);
        }
        ground.deliveries.resume(slot, State::Saving);
        ground.deliveries.resume(slot, State::Unconfirmed);
        if urgent {
            self.write(ground, slot);
        } else if wants > Wants::Nothing {
            self.watch(slot, ground.now.monotonic + LAZY);
        }
    }

    /// Writes the present state of the session, if no record of it is under way.
    pub(super) fn write(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        let Some(Session::Open(open)) = self.session_mut(slot.index) else { return };
        if open.kept().is_none_or(|kept| kept.is_writing) {
            return;
        }
        let owner = Some(ground.floor.name(slot));
        let Some(state) = state(open, ground, slot, owner) else { return };
        let acknowledged: Option<Cursor> = state.acknowledged.parse().ok();
        if let Some(ends) = open.ends_if_any() {
            ends.covered = ends.held.len();
            ends.later.retain(|(_, since)| acknowledged.as_ref().is_none_or(|at| is_above(since, at)));
        }
        let lives = system::lease(state.expiry_s);
        let topic = open.topic.clone();
        let Some(kept) = open.kept_mut() else { return };
        (kept.is_writing, kept.wants) = (true, Wants::Nothing);
        let system = record_of(&topic, kept, &state, Some(lives), ground.now);
        ground.floor.append_for(slot, system, Durability::Fsync);
        if let Some(window) = ground.deliveries.window_mut(slot.index) {
            window.writing();
        }
        self.watch(slot, ground.now.monotonic + lives / 2);
    }

    /// Writes the state for the next owner, and lets it expire.
    pub(super) fn write_last(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        let Some(open) = self.session(slot.index).and_then(Session::held) else { return };
        let Some(kept) = open.kept() else { return };
        // Only its record says then which messages of groups it is to read.
        let is_alone = kept.before == Before::Crashed && ground.deliveries.pending(slot).next().is_some()
            || ground.floor.is_draining && ground.deliveries.shares_any(slot.index);
        let owner = is_alone.then(|| ground.floor.name(slot));
        let Some(state) = state(open, ground, slot, owner) else { return };
        let mut system = record_of(&open.topic, kept, &state, Some(kept.expiry), ground.now);
        if kept.expiry.is_zero() {
            (system.body, system.expires) = (Vec::new().into(), None);
        }
        ground.floor.append_own(system, Durability::Fsync);
    }

    /// Notes the filters that a session was subscribed to. They are confirmed when they are durable.
    pub(crate) fn note_filters(
        &mut self,
        ground: &mut Ground<'_>,
        slot: Slot,
        ask: AskId,
        filters: &[Filter],
        subscribed: Subscribed,
    ) {
        if let Some(open) = self.durable_mut(slot.index) {
            let granted = filters.iter().filter(|f| !subscribed.refused.iter().any(|(refused, _)| refused == *f));
            open.ends().later.extend(granted.map(|f| (f.clone(), subscribed.cursor.clone())));
        }
        self.say_durably(ground, slot, ask, Answer::Subscribed(subscribed));
    }

    /// Answers when the present state of the session is durable; at once if nothing of it is kept. A change that is
    /// only handed over is confirmed by nobody: its client asks the next owner again.
    pub(crate) fn say_durably(&mut self, ground: &mut Ground<'_>, slot: Slot, ask: AskId, said: Answer) {
        let Some(open) = self.durable_mut(slot.index) else {
            return ground.floor.say(slot, ask, said);
        };
        open.ends().held.push_back((ask, said));
        open.want(Wants::Record);
        let is_subscribing = open.is_subscribing();
        if let Some(window) = ground.deliveries.window_mut(slot.index) {
            window.hold(is_subscribing);
        }
        self.write(ground, slot);
    }

    /// Writes the record, if tags must be durable before their deliveries are sent.
    pub(crate) fn write_tags(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        if ground.deliveries.window(slot.index).is_some_and(Window::is_urgent) {
            self.write(ground, slot);
        }
    }

    /// Writes the record of a session that has lost filters, or gone back.
    pub(crate) fn note_loss(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        if let Some(open) = self.session_mut(slot.index).and_then(Session::held_mut) {
            open.want(Wants::RecordAtOnce);
            self.write(ground, slot);
        }
    }

    /// The session that is open, or still to be handed over, if it is kept.
    fn durable_mut(&mut self, index: u32) -> Option<&mut Open> {
        self.session_mut(index)?.held_mut().filter(|open| open.is_durable())
    }
}

/// The present state of a session.
fn state(open: &Open, ground: &Ground<'_>, slot: Slot, owner: Option<Box<str>>) -> Option<SessionState> {
    let index = slot.index;
    let window = ground.deliveries.window(index)?;
    let mut positions = ground.deliveries.current(index);
    // Deliveries that are acknowledged one by one stand in the record itself.
    for sent in window.iter().filter(|_| !window.is_tagged()) {
        let position = &mut positions[usize::from(sent.partition)];
        *position = Offset(sent.offset.0.saturating_sub(1)).min(*position);
    }
    let acknowledged = ground.floor.cursor(&positions);
    let since = |nth: usize, filter: &Filter| -> Box<str> {
        if window.is_tagged() && ground.deliveries.is_lagging(index) {
            // The other filters have had the messages that one filter goes back for.
            let begun = |(p, at): (usize, &Offset)| ground.deliveries.since(index, nth, p).max(*at);
            let begun: Vec<Offset> = positions.iter().enumerate().map(begun).collect();
            return ground.floor.cursor(&begun).to_string().into();
        }
        let later = open.later().iter().rfind(|(f, since)| f == filter && is_above(since, &acknowledged));
        let later = later.filter(|_| !window.is_tagged());
        later.map_or(&acknowledged, |(_, since)| since).to_string().into()
    };
    let filter = |(nth, held): (usize, &Held)| {
        let filter = ground.deliveries.filter(held);
        let group = ground.deliveries.group(held).map(Into::into);
        SessionFilter { filter: filter.as_str().into(), since: since(nth, filter), terms: held.terms, group }
    };
    let joining = ground.deliveries.pending(slot).flat_map(|subscribe| {
        let (terms, group) = (subscribe.terms.pack(), &subscribe.group);
        let since = if let Start::After(since) = &subscribe.start { since } else { &acknowledged };
        let since = since.to_string();
        let filter = move |f: &Filter| (f.as_str().into(), since.as_str().into(), terms, group.clone());
        subscribe.filters.iter().map(filter)
    });
    let joining = joining.map(|(filter, since, terms, group)| SessionFilter { filter, since, terms, group });
    let filters = ground.deliveries.held(index).iter().enumerate().map(filter).chain(joining).collect();
    let (expiry_s, sent) = (open.expiry().as_secs(), window.state());
    let settled = |known: &Received| known.publishing.is_none().then_some(known.number);
    let received = open.received().iter().filter_map(settled).collect();
    let under_way = |known: &Received| known.publishing.map(|(_, above)| (known.number, above.0));
    let publishing = open.received().iter().filter_map(under_way).collect();
    let acknowledged = acknowledged.to_string().into();
    Some(SessionState { owner, expiry_s, acknowledged, filters, sent, received, publishing })
}

/// Removes the record of a session.
pub(super) fn write_nothing(ground: &mut Ground<'_>, topic: Topic, generation: u64) {
    let nothing = System { generation, ..System::removal(topic) };
    ground.floor.append_own(nothing, Durability::Fsync);
}

/// Whether some position of a cursor is above the other's.
pub(super) fn is_above(cursor: &Cursor, other: &Cursor) -> bool {
    cursor.epoch != other.epoch
        || cursor.positions().iter().any(|(p, at)| other.position(*p).is_none_or(|other| *at > other))
}

/// The record that holds the state of a session.
pub(super) fn record_of(topic: &Topic, kept: &Kept, state: &SessionState, lives: Option<Duration>, now: Now) -> System {
    let expires = lives.map(|lives| UnixMillis(now.wall.0.saturating_add(lives.as_millis() as u64)));
    System { generation: kept.generation, expires, payer: kept.payer, ..system::record(topic.clone(), state, true) }
}
