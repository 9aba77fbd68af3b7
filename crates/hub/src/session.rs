//! Sessions: subscriptions and unacknowledged messages that outlive their connection.
//!
//! A session is a retained message on a topic of its own (`base::system`), so it is wherever the log is. Who owns it is
//! settled in `ownership`. RULES 11:
//!
//! * What was sent and isn't acknowledged stands in a bounded window, in sending order. A full window is lagging.
//! * Subscriptions are durable before they are confirmed; acknowledgements are written lazily, and at the end.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, Draft, Subscribed, Will};
use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_base::cursor::{Cursor, Offset, Start};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::system::{self, SessionFilter, SessionState};
use everywire_base::topic::{Filter, Topic};

use crate::lag::State;
use crate::once::Received;
use crate::table::Held;
use crate::wills::LastWill;
use crate::window::Window;
use crate::{Hub, OWN, Said};

/// The generation of a session that nobody else has claimed yet.
pub(crate) const FIRST: u64 = 1;
/// How soon a store that could not be read is asked again, and how soon a record that was refused is written again.
pub(crate) const RETRY: Duration = Duration::from_millis(200);
/// How long an acknowledgement may wait until it is written.
pub(crate) const LAZY: Duration = Duration::from_secs(5);

/// A connection's session.
#[expect(clippy::struct_excessive_bools, reason = "they say different things, and none excludes another")]
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: Box<str>,
    pub(crate) topic: Topic,
    pub(crate) generation: u64,
    pub(crate) expiry: Duration,
    pub(crate) stage: Stage,
    /// Whether what was there before is thrown away.
    pub(crate) fresh: bool,
    pub(crate) resumed: bool,
    /// Whether something of it stands in the log.
    pub(crate) stored: bool,
    /// Whether its former owner died without a word.
    pub(crate) crashed: bool,
    /// Whether a record of it is under way.
    pub(crate) writing: bool,
    /// Whether it must be written again.
    pub(crate) dirty: bool,
    /// And that as soon as it can be.
    hurries: bool,
    /// What was sent and isn't acknowledged.
    pub(crate) window: Window,
    /// None while it rests.
    pub(crate) open_ends: Option<Box<OpenEnds>>,
    /// When something was last acknowledged; zero is never.
    pub(crate) acknowledged: UnixMillis,
    /// When it is to be looked at again; zero is not at all.
    pub(crate) due: Monotonic,
    /// What is published if the connection ends without a goodbye.
    pub(crate) will: Option<Box<LastWill>>,
}

/// What a session has not come to an end with, besides its deliveries.
#[derive(Debug, Default)]
pub(crate) struct OpenEnds {
    /// Filters that begin above what is acknowledged.
    pub(crate) later: Vec<(Filter, Cursor)>,
    /// What is confirmed when it is durable; the first `covered` stand in the record under way.
    held: VecDeque<(AskId, Said)>,
    covered: usize,
    /// What was published exactly once and isn't released.
    pub(crate) received: Vec<Received>,
}

/// How far the opening of a session is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its claim is on its way through the log.
    Claiming(Box<Opening>),
    /// The store reads what it was at the claim.
    Reading(AskId, Box<Opening>),
    /// What was found may not be all: its owner has a moment to hand it over. Then it is read again.
    Waiting(Box<Opening>),
    /// Its record of ownership, or of its will, is on its way through the log.
    Opening(Box<SessionState>, Box<Opening>),
    /// It is there.
    Open,
    /// Another connection has claimed it. It is handed over when this one ends, with what had come until then.
    Lost,
    /// Another connection has it.
    Ended,
}

/// The login that opens a session.
#[derive(Debug)]
pub(crate) struct Opening {
    /// What is answered when the session is open.
    pub(crate) ask: AskId,
    /// Whether it wants the inboxes.
    pub(crate) inbox: bool,
    /// The store is read when it has come as far as this.
    pub(crate) applied: Offset,
    /// Whether the store is read for the second time: what it has now counts.
    pub(crate) again: bool,
    /// What the store has found, page by page.
    pub(crate) found: Vec<Arc<Record>>,
    /// Where the next page goes on.
    pub(crate) next: Option<Topic>,
    /// The will, until it is on its way to the log.
    pub(crate) will: Option<Box<Will>>,
}

impl Session {
    /// One that isn't open yet.
    pub(crate) fn new(id: Box<str>, topic: Topic, expiry: Duration, window: Window) -> Self {
        Self {
            id,
            topic,
            generation: FIRST,
            expiry,
            stage: Stage::Ended,
            fresh: false,
            resumed: false,
            stored: false,
            crashed: false,
            writing: false,
            dirty: false,
            hurries: false,
            window,
            open_ends: None,
            acknowledged: UnixMillis::default(),
            due: Monotonic::default(),
            will: None,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// When something was last acknowledged.
    pub(crate) fn acknowledged(&self) -> Option<UnixMillis> {
        (self.acknowledged > UnixMillis::default()).then_some(self.acknowledged)
    }

    /// Whether what its client does counts: it is open, or is still to be handed over.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Lost)
    }

    fn is_settled(&self) -> bool {
        self.is_held() || matches!(self.stage, Stage::Ended)
    }

    pub(crate) fn open_ends(&mut self) -> &mut OpenEnds {
        self.open_ends.get_or_insert_default()
    }

    /// Nothing is sent while a subscription waits to be confirmed.
    fn hold_back(&mut self) {
        let mut held = self.open_ends.iter().flat_map(|ends| &ends.held);
        self.window.hold(held.any(|(_, said)| matches!(said, Said::Subscribed(_))));
    }

    /// An idle session owns no memory for them.
    fn tie_up(&mut self) {
        let is_over =
            |ends: &mut Box<OpenEnds>| ends.later.is_empty() && ends.held.is_empty() && ends.received.is_empty();
        self.open_ends.take_if(is_over);
    }

    /// What was published exactly once and isn't released.
    pub(crate) fn received(&self) -> &[Received] {
        self.open_ends.as_ref().map_or(&[], |ends| &ends.received)
    }

    fn later(&self) -> &[(Filter, Cursor)] {
        self.open_ends.as_ref().map_or(&[], |ends| &ends.later)
    }

    /// Whether it outlives its connection, or something of it stands in the log.
    pub(crate) fn is_durable(&self) -> bool {
        !self.expiry.is_zero() || self.stored
    }
}

impl Hub {
    /// A record of its own has come out of the log.
    pub(crate) fn written(&mut self, slot: Slot, generation: u64, now: Now) {
        let Some(session) = self.session_mut(slot.index).filter(|s| s.generation == generation) else { return };
        match std::mem::replace(&mut session.stage, Stage::Open) {
            Stage::Opening(state, opening) => self.open_session(slot, &state, &opening, now),
            Stage::Open if session.writing => self.confirm(slot, now),
            other => session.stage = other,
        }
    }

    /// What stood in the record under way is durable.
    fn confirm(&mut self, slot: Slot, now: Now) {
        let Some(session) = self.session_mut(slot.index) else { return };
        session.writing = false;
        session.window.written(true);
        let ends = session.open_ends();
        let confirmed: Vec<_> = ends.held.drain(..std::mem::take(&mut ends.covered)).collect();
        let urgent = !ends.held.is_empty() || session.window.is_urgent() || session.hurries;
        let dirty = session.dirty;
        session.hold_back();
        session.tie_up();
        for (ask, said) in confirmed {
            self.say(slot, ask, said);
        }
        self.resume(slot, State::Saving);
        self.resume(slot, State::Unconfirmed);
        if urgent {
            self.write_session(slot, now);
        } else if dirty {
            self.watch(slot, now.monotonic + LAZY);
        }
    }

    /// The present state of a session.
    fn state(&self, index: u32, owner: Option<Box<str>>) -> Option<SessionState> {
        let session = self.session(index)?;
        let mut positions = self.current(index);
        // What is acknowledged one by one stands in the record itself.
        for sent in session.window.iter().filter(|_| !session.window.is_tagged()) {
            let position = &mut positions[usize::from(sent.partition)];
            *position = Offset(sent.offset.0.saturating_sub(1)).min(*position);
        }
        let acknowledged = self.cursor(&positions);
        let lag = self.connections.get(index).and_then(|connection| connection.lag.as_ref());
        let since = |nth: usize, filter: &Filter| -> Box<str> {
            if let Some(lag) = lag.filter(|_| session.window.is_tagged()) {
                // What one filter goes back for the others have had.
                let begun = positions.iter().enumerate().map(|(p, at)| lag.since(nth, p).max(*at)).collect();
                return self.cursor(&begun).to_string().into();
            }
            let later = session.later().iter().rfind(|(f, since)| f == filter && is_above(since, &acknowledged));
            let later = later.filter(|_| !session.window.is_tagged());
            later.map_or(&acknowledged, |(_, since)| since).to_string().into()
        };
        let filter = |(nth, held): (usize, &Held)| {
            let filter = self.table.filter(held.list);
            let group = self.table.group(held.list).map(Into::into);
            SessionFilter { filter: filter.as_str().into(), since: since(nth, filter), terms: held.terms, group }
        };
        let joining = self.groups.joining(self.slot_at(index)).flat_map(|subscribe| {
            let (terms, group) = (subscribe.terms.pack(), &subscribe.group);
            let since = if let Start::After(since) = &subscribe.start { since } else { &acknowledged };
            let since = since.to_string();
            let filter = move |f: &Filter| (f.as_str().into(), since.as_str().into(), terms, group.clone());
            subscribe.filters.iter().map(filter)
        });
        let joining = joining.map(|(filter, since, terms, group)| SessionFilter { filter, since, terms, group });
        let filters = self.held(index).iter().enumerate().map(filter).chain(joining).collect();
        let (expiry_s, sent) = (session.expiry.as_secs(), session.window.state());
        let settled = |known: &Received| known.publishing.is_none().then_some(known.number);
        let received = session.received().iter().filter_map(settled).collect();
        let under_way = |known: &Received| known.publishing.map(|(_, above)| (known.number, above.0));
        let publishing = session.received().iter().filter_map(under_way).collect();
        let acknowledged = acknowledged.to_string().into();
        Some(SessionState { owner, expiry_s, acknowledged, filters, sent, received, publishing })
    }

    /// Writes what the session is now, if nothing of it is under way.
    pub(crate) fn write_session(&mut self, slot: Slot, now: Now) {
        let may_write = |s: &&Session| s.is_open() && !s.writing && s.is_durable();
        if self.session(slot.index).as_ref().is_none_or(|x| !may_write(x)) {
            return;
        }
        let owner = Some(self.name(slot));
        let Some(state) = self.state(slot.index, owner) else { return };
        let Some(session) = self.session_mut(slot.index) else { return };
        (session.writing, session.dirty, session.hurries) = (true, false, false);
        session.window.writing();
        let acknowledged: Option<Cursor> = state.acknowledged.parse().ok();
        if let Some(ends) = &mut session.open_ends {
            ends.covered = ends.held.len();
            ends.later.retain(|(_, since)| acknowledged.as_ref().is_none_or(|at| is_above(since, at)));
        }
        let lives = system::lease(state.expiry_s);
        let message = record_of(session, &state, Some(lives), now);
        self.append_for(slot, message, Durability::Fsync);
        self.watch(slot, now.monotonic + lives / 2);
    }

    /// Writes the state for whoever comes next, and lets it expire.
    pub(crate) fn write_last(&mut self, slot: Slot, now: Now) {
        let has_crashed = self.session(slot.index).is_some_and(|session| session.crashed);
        let owner = self.groups.owes(slot, has_crashed, self.wills.is_draining).then(|| self.name(slot));
        let Some(state) = self.state(slot.index, owner) else { return };
        let Some(session) = self.session(slot.index) else { return };
        if !session.is_durable() {
            return;
        }
        let mut message = record_of(session, &state, Some(session.expiry), now);
        if session.expiry.is_zero() {
            (message.body, message.expires) = (Vec::new().into(), None);
        }
        self.append_own(message, Durability::Fsync);
    }

    /// Nothing of the session is left for anybody.
    pub(crate) fn write_nothing(&mut self, slot: Slot) {
        let Some(session) = self.session(slot.index) else { return };
        let nothing = Message { retain: true, ..Message::new(session.topic.clone(), "") };
        self.append_own(Message { generation: session.generation, ..nothing }, Durability::Fsync);
    }

    /// The connection is gone; its session waits for the next.
    pub(crate) fn end_session(&mut self, slot: Slot, address: IpAddr, now: Now) {
        self.leave_will(slot, address, now);
        if self.session(slot.index).is_some_and(Session::is_held) {
            self.write_last(slot, now);
        }
        self.remove_session(slot.index);
        if let Some(session) = self.session(slot.index) {
            self.watched.remove(&(session.due, slot));
        }
        self.connections.reach(slot.index).windowed = false;
        if let Some(member) = &mut self.connections.reach(slot.index).member {
            member.session = None;
        }
    }

    /// Enters a session among those whose records are looked out for.
    pub(crate) fn index_session(&mut self, index: u32) {
        let Some(hash) = self.session(index).map(|s| s.topic.stable_hash()) else { return };
        let connections = &self.connections;
        self.sessions.insert_unique(hash, index, |index| {
            let session = connections.get(*index).and_then(|c| c.member.as_ref()?.session.as_ref());
            session.map(|s| s.topic.stable_hash()).unwrap_or_default()
        });
    }

    pub(crate) fn remove_session(&mut self, index: u32) {
        let Some(hash) = self.session(index).map(|s| s.topic.stable_hash()) else { return };
        if let Ok(entry) = self.sessions.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
    }

    /// A record of this connection's session was refused by the log.
    pub(crate) fn append_failed(&mut self, slot: Slot, now: Now) {
        let Some(session) = self.session_mut(slot.index) else { return };
        if session.is_settled() {
            (session.writing, session.dirty) = (false, true);
            session.open_ends().covered = 0;
            session.window.written(false);
            self.watch(slot, now.monotonic + RETRY);
        } else {
            session.stage = Stage::Ended;
            self.end(slot.index, Reason::Overloaded(Duration::from_secs(1)));
        }
    }

    /// Sees to the sessions whose time has come.
    pub(crate) fn see_to_sessions(&mut self, now: Now) {
        while let Some((_, slot)) = self.watched.first().copied().filter(|(at, _)| *at <= now.monotonic) {
            self.watched.pop_first();
            let Some(session) = self.session_mut(slot.index) else { continue };
            session.due = Monotonic::default();
            match std::mem::replace(&mut session.stage, Stage::Ended) {
                Stage::Waiting(opening) => self.look_again(slot, opening),
                Stage::Reading(_, opening) => self.read_session(slot, opening),
                stage => {
                    session.stage = stage;
                    self.write_session(slot, now);
                }
            }
        }
    }

    /// Notes when a session is due, instead of what was noted before.
    pub(crate) fn watch(&mut self, slot: Slot, at: Monotonic) {
        let Some(session) = self.session_mut(slot.index) else { return };
        let former = std::mem::replace(&mut session.due, at);
        self.watched.remove(&(former, slot));
        self.watched.insert((at, slot));
    }

    /// Notes what a session was subscribed to, or is no more; says whether that is confirmed later.
    pub(crate) fn note_filters(
        &mut self,
        slot: Slot,
        ask: AskId,
        filters: &[Filter],
        subscribed: Subscribed,
        now: Now,
    ) {
        if let Some(session) = self.session_mut(slot.index).filter(|s| s.is_held() && s.is_durable()) {
            let granted = filters.iter().filter(|f| !subscribed.refused.iter().any(|(refused, _)| refused == *f));
            session.open_ends().later.extend(granted.map(|f| (f.clone(), subscribed.cursor.clone())));
        }
        self.say_durably(slot, ask, Said::Subscribed(subscribed), now);
    }

    /// Answers when the session as it is now is durable; at once if nothing of it is kept. What is only handed over is
    /// confirmed by nobody: its client asks the next owner again.
    pub(crate) fn say_durably(&mut self, slot: Slot, ask: AskId, said: Said, now: Now) {
        let Some(session) = self.session_mut(slot.index).filter(|s| s.is_held() && s.is_durable()) else {
            return self.say(slot, ask, said);
        };
        session.open_ends().held.push_back((ask, said));
        session.hold_back();
        session.dirty = true;
        self.write_session(slot, now);
    }

    /// Has the tags of deliveries written that must be durable before they are sent.
    pub(crate) fn write_tags(&mut self, slot: Slot, now: Now) {
        if self.session(slot.index).is_some_and(|s| s.window.is_urgent()) {
            self.write_session(slot, now);
        }
    }

    /// The session has lost filters, or gone back.
    pub(crate) fn note_loss(&mut self, slot: Slot, now: Now) {
        if let Some(session) = self.session_mut(slot.index) {
            (session.dirty, session.hurries) = (true, true);
            self.write_session(slot, now);
        }
    }

    pub(crate) fn session(&self, index: u32) -> Option<&Session> {
        self.member(index)?.session.as_deref()
    }

    pub(crate) fn session_mut(&mut self, index: u32) -> Option<&mut Session> {
        self.connections.get_mut(index)?.member.as_mut()?.session.as_deref_mut()
    }

    pub(crate) fn of_session(&self, topic: &Topic) -> Vec<u32> {
        let all = self.sessions.iter_hash(topic.stable_hash()).copied();
        all.filter(|index| self.session(*index).is_some_and(|s| s.topic == *topic)).collect()
    }

    pub(crate) fn slot_at(&self, index: u32) -> Slot {
        Slot { index, generation: self.connections.get(index).map_or(0, |c| c.generation) }
    }

    pub(crate) fn draw(&self) -> Box<str> {
        format!("{:032x}", (self.setup.draw)()).into()
    }

    /// Appends a record whose failure its connection must know of.
    pub(crate) fn append_for(&mut self, slot: Slot, message: Message, durability: Durability) {
        let whose = Slot { index: OWN, generation: slot.index };
        let ticket = Ticket { worker: self.setup.worker, slot: whose, ask: AskId(slot.generation) };
        self.appends.push(Append::new(ticket, Draft { message, durability }));
    }

    /// Appends a record of the hub's own, that nobody waits for.
    pub(crate) fn append_own(&mut self, message: Message, durability: Durability) {
        self.append_for(Slot { index: OWN, generation: 0 }, message, durability);
    }

    /// Appends a record that only passes.
    pub(crate) fn append_passing(&mut self, message: Message) {
        self.append_own(message, Durability::None);
    }
}

/// Whether some position of a cursor is above the other's.
pub(crate) fn is_above(cursor: &Cursor, other: &Cursor) -> bool {
    cursor.epoch != other.epoch
        || cursor.positions().iter().any(|(p, at)| other.position(*p).is_none_or(|other| *at > other))
}

/// The message that says what a session is.
pub(crate) fn record_of(session: &Session, state: &SessionState, lives: Option<Duration>, now: Now) -> Message {
    let expires = lives.map(|lives| UnixMillis(now.wall.0.saturating_add(lives.as_millis() as u64)));
    let message = system::message(session.topic.clone(), state, true);
    Message { generation: session.generation, expires, ..message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 192, "{}", size_of::<Session>());
    }
}
