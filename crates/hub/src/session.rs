//! Sessions: subscriptions and unacknowledged messages that outlive their connection.
//!
//! A session is a retained message on a topic of its own (`base::system`), so it is wherever the log is. Who owns it is
//! settled in `ownership`. RULES 11:
//!
//! * What was sent and isn't acknowledged stands in a bounded window, in sending order. A full window is lagging.
//! * Subscriptions are durable before they are confirmed; acknowledgements are written lazily, and at the end.

use std::collections::VecDeque;
use std::time::Duration;

use everywire_base::ask::{AckError, Append, Draft, Subscribed};
use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_base::cursor::{Cursor, Offset, Partition};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message};
use everywire_base::system::{self, SessionFilter, SessionState};
use everywire_base::topic::{Filter, Topic};

use crate::connection::State;
use crate::{Hub, OWN, Said};

/// The generation of a session that nobody else has claimed yet.
pub(crate) const FIRST: u64 = 1;
/// How soon a store that could not be read is asked again, and how soon a record that was refused is written again.
pub(crate) const RETRY: Duration = Duration::from_millis(200);
/// How long an acknowledgement may wait until it is written.
const LAZY: Duration = Duration::from_secs(5);

/// A connection's session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: Box<str>,
    pub(crate) topic: Topic,
    pub(crate) generation: u64,
    pub(crate) expiry: Duration,
    pub(crate) stage: Stage,
    /// The login that is to be answered when the session is open, and whether it wants the inboxes.
    pub(crate) login: Option<(AskId, bool)>,
    pub(crate) resumed: bool,
    /// What was sent and isn't acknowledged, in sending order.
    pub(crate) window: VecDeque<Sent>,
    /// Filters that begin above what is acknowledged.
    pub(crate) later: Vec<(Filter, Cursor)>,
    pub(crate) acknowledged: Option<UnixMillis>,
    /// Subscriptions that are confirmed when they are durable; the first `covered` stand in the record under way.
    pub(crate) held: VecDeque<(AskId, Subscribed)>,
    pub(crate) covered: usize,
    /// Whether a record of it is under way.
    pub(crate) writing: bool,
    /// Whether it must be written again.
    pub(crate) dirty: bool,
    /// When it is to be looked at again.
    pub(crate) due: Option<Monotonic>,
}

/// How far the opening of a session is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Its claim is on its way through the log.
    Claiming,
    /// The store reads what it was at the claim.
    Reading(AskId),
    /// Its owner has a moment to hand it over; else it goes on from what the store has.
    Waiting(Box<SessionState>),
    /// Its record of ownership is on its way through the log.
    Opening(Box<SessionState>),
    /// It is there.
    Open,
    /// Another connection has it.
    Ended,
}

/// A message that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sent {
    pub(crate) partition: u16,
    pub(crate) offset: Offset,
}

/// The messages of a session that are sent and not acknowledged.
pub(crate) struct Window<'a> {
    sent: &'a mut VecDeque<Sent>,
}

impl Window<'_> {
    pub(crate) fn is_full(&self, bound: usize) -> bool {
        self.sent.len() >= bound
    }

    pub(crate) fn push(&mut self, partition: usize, offset: Offset) {
        self.sent.push_back(Sent { partition: partition as u16, offset });
    }
}

impl Session {
    /// One that isn't open yet.
    pub(crate) fn new(id: Box<str>, topic: Topic, expiry: Duration, login: (AskId, bool)) -> Self {
        Self {
            id,
            topic,
            generation: FIRST,
            expiry,
            stage: Stage::Claiming,
            login: Some(login),
            resumed: false,
            window: VecDeque::new(),
            later: Vec::new(),
            acknowledged: None,
            held: VecDeque::new(),
            covered: 0,
            writing: false,
            dirty: false,
            due: None,
        }
    }

    pub(crate) fn window(&mut self) -> Window<'_> {
        Window { sent: &mut self.window }
    }

    pub(crate) fn outstanding(&self) -> usize {
        self.window.len()
    }

    pub(crate) fn holds(&self, partition: usize, offset: Offset) -> bool {
        self.window.contains(&Sent { partition: partition as u16, offset })
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    fn is_settled(&self) -> bool {
        matches!(self.stage, Stage::Open | Stage::Ended)
    }
}

impl Hub {
    /// A record of its own has come out of the log.
    pub(crate) fn written(&mut self, slot: Slot, generation: u64, now: Now) {
        let Some(session) = self.session_mut(slot.index).filter(|s| s.generation == generation) else { return };
        match std::mem::replace(&mut session.stage, Stage::Open) {
            Stage::Opening(state) => self.open_session(slot, &state, now),
            Stage::Open if session.writing => {
                session.writing = false;
                let confirmed: Vec<_> = session.held.drain(..session.covered).collect();
                session.covered = 0;
                let (dirty, urgent) = (session.dirty, !session.held.is_empty());
                for (ask, subscribed) in confirmed {
                    self.say(slot, ask, Said::Subscribed(subscribed));
                }
                if urgent {
                    self.write_session(slot, now);
                } else if dirty {
                    self.watch(slot, now.monotonic + LAZY);
                }
            }
            other => session.stage = other,
        }
    }

    /// The present state of a session.
    fn state(&self, index: u32, owner: Option<Box<str>>) -> Option<SessionState> {
        let session = self.session(index)?;
        let mut positions = self.current(index);
        for sent in &session.window {
            let position = &mut positions[usize::from(sent.partition)];
            *position = Offset(sent.offset.0.saturating_sub(1)).min(*position);
        }
        let acknowledged = self.cursor(&positions);
        let since = |filter: &Filter| {
            let later = session.later.iter().rfind(|(f, since)| f == filter && is_above(since, &acknowledged));
            later.map_or(&acknowledged, |(_, since)| since).to_string().into()
        };
        let filters =
            self.filters(index).map(|f| SessionFilter { filter: f.as_str().into(), since: since(f) }).collect();
        let expiry_s = session.expiry.as_secs();
        Some(SessionState { owner, expiry_s, acknowledged: acknowledged.to_string().into(), filters })
    }

    /// Writes what the session is now, if nothing of it is under way.
    pub(crate) fn write_session(&mut self, slot: Slot, now: Now) {
        let owner = Some(self.name(slot));
        let Some(state) = self.state(slot.index, owner) else { return };
        let Some(session) = self.session_mut(slot.index).filter(|s| s.is_open() && !s.writing) else { return };
        (session.writing, session.dirty, session.covered) = (true, false, session.held.len());
        let acknowledged: Option<Cursor> = state.acknowledged.parse().ok();
        session.later.retain(|(_, since)| acknowledged.as_ref().is_none_or(|at| is_above(since, at)));
        let lives = system::lease(state.expiry_s);
        let message = record_of(session, &state, Some(lives), now);
        self.append_for(slot, message, Durability::Fsync);
        self.watch(slot, now.monotonic + lives / 2);
    }

    /// Writes the state for whoever comes next, and lets it expire.
    pub(crate) fn write_last(&mut self, slot: Slot, now: Now) {
        let Some(state) = self.state(slot.index, None) else { return };
        let Some(session) = self.session(slot.index) else { return };
        let mut message = record_of(session, &state, Some(session.expiry), now);
        if session.expiry.is_zero() {
            (message.body, message.expires) = (Vec::new().into(), None);
        }
        self.append_own(message, Durability::Fsync);
    }

    /// The connection is gone; its session waits for the next.
    pub(crate) fn end_session(&mut self, slot: Slot, now: Now) {
        if self.session(slot.index).is_some_and(Session::is_open) {
            self.write_last(slot, now);
        }
        self.remove_session(slot.index);
        if let Some(at) = self.session(slot.index).and_then(|s| s.due) {
            self.watched.remove(&(at, slot));
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
            (session.writing, session.dirty, session.covered) = (false, true, 0);
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
            session.due = None;
            match std::mem::replace(&mut session.stage, Stage::Ended) {
                Stage::Waiting(state) => self.take_up(slot, *state, now),
                stage => {
                    let reads = matches!(stage, Stage::Reading(_));
                    session.stage = stage;
                    if reads { self.read_session(slot) } else { self.write_session(slot, now) }
                }
            }
        }
    }

    /// Notes when a session is due, instead of what was noted before.
    pub(crate) fn watch(&mut self, slot: Slot, at: Monotonic) {
        let Some(session) = self.session_mut(slot.index) else { return };
        if let Some(former) = session.due.replace(at) {
            self.watched.remove(&(former, slot));
        }
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
        let Some(session) = self.session_mut(slot.index).filter(|s| s.is_open()) else {
            return self.say(slot, ask, Said::Subscribed(subscribed));
        };
        let granted = filters.iter().filter(|f| !subscribed.refused.iter().any(|(refused, _)| refused == *f));
        session.later.extend(granted.map(|f| (f.clone(), subscribed.cursor.clone())));
        session.held.push_back((ask, subscribed));
        session.dirty = true;
        self.write_session(slot, now);
    }

    /// The session has lost filters.
    pub(crate) fn note_loss(&mut self, slot: Slot, now: Now) {
        if let Some(session) = self.session_mut(slot.index) {
            session.dirty = true;
            self.write_session(slot, now);
        }
    }

    /// Everything up to a cursor was received (RULES 11): the earliest outstanding delivery of that cursor, and all that
    /// was sent before it.
    pub(crate) fn acknowledge_cursor(&mut self, slot: Slot, cursor: &Cursor, now: Now) -> Result<(), AckError> {
        let epoch = self.setup.lineages[0].epoch;
        let current = self.current(slot.index);
        let session = self.session_mut(slot.index).filter(|s| s.is_open()).ok_or(AckError::NoSession)?;
        let position = |p: u16| cursor.position(Partition(p));
        let is_known = |(p, at): &(Partition, Offset)| current.get(usize::from(p.0)).is_some_and(|sent| at <= sent);
        let is_outstanding = |sent: &Sent| position(sent.partition) == Some(sent.offset);
        let found = session.window.iter().position(is_outstanding);
        if cursor.epoch != epoch || (found.is_none() && !cursor.positions().iter().all(is_known)) {
            return Err(AckError::NeverSent);
        }
        let covers = |sent: &Sent| position(sent.partition).is_some_and(|at| sent.offset <= at);
        let before = session.window.iter().take_while(|sent| covers(sent)).count();
        session.window.drain(..found.map_or(before, |found| found + 1));
        if session.window.is_empty() {
            session.window.shrink_to(8);
        }
        session.acknowledged = Some(now.wall);
        if !std::mem::replace(&mut session.dirty, true) {
            self.watch(slot, now.monotonic + LAZY);
        }
        self.resume(slot, State::Window);
        Ok(())
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
        self.appends.push(Append { ticket, draft: Draft { message, durability } });
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
