//! How a connection comes to own a session, and loses it (RULES 15).
//!
//! * It claims the session: a record that passes, whose offset is the generation of all that it writes from then on. The
//!   store ignores lower generations. Whoever sees a later claim of another's hands the session over, and ends.
//! * It reads the session as it was at the claim; if its owner lives, it waits a moment for the handover.
//! * It delivers only after it has read its own record of ownership from the log.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Interest, Page, Read, ReadKind, SessionWish, Subscribe, Welcome};
use everywire_base::clock::Now;
use everywire_base::cursor::{Cursor, Offset, Partition, Start};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::system::{self, Claim, SessionFilter, SessionState};
use everywire_base::topic::Filter;

use crate::session::{FIRST, RETRY, Session, Stage, is_above, record_of};
use crate::{Hub, Said};

/// How long a living owner has to hand its session over.
const HANDOVER: Duration = Duration::from_millis(500);

impl Hub {
    /// Begins to open the session that a login wants; false if there is nothing to wait for.
    pub(crate) fn begin_session(&mut self, slot: Slot, ask: AskId, wish: SessionWish, inbox: bool, now: Now) -> bool {
        let resumes = matches!(wish, SessionWish::Resume { .. });
        let (id, expiry) = match wish {
            SessionWish::None => return false,
            SessionWish::New { expiry } => (self.draw(), expiry),
            SessionWish::Resume { id, expiry } => (id, expiry),
        };
        if self.session(slot.index).is_some() {
            // A renewed login goes on with the session that the connection has.
            return false;
        }
        let expiry = expiry.min(self.setup.limits.session_expiry_max);
        let user = self.caller(slot.index).and_then(|who| who.user.clone());
        let Some(topic) = system::session_topic(user.as_deref(), &id) else {
            return self.begin_session(slot, ask, SessionWish::New { expiry }, inbox, now);
        };
        let session = Session::new(id, topic, expiry, (ask, inbox));
        let Some(member) = &mut self.connections.reach(slot.index).member else { return false };
        member.session = Some(Box::new(session));
        self.index_session(slot.index);
        if resumes {
            self.claim(slot);
        } else {
            self.make(slot, now);
        }
        true
    }

    fn claim(&mut self, slot: Slot) {
        let owner = self.name(slot);
        let Some(session) = self.session_mut(slot.index) else { return };
        let message = system::message(session.topic.clone(), &Claim { owner }, false);
        self.append_for(slot, message, Durability::None);
    }

    /// Makes a new session. What the connection is subscribed to already belongs to it.
    fn make(&mut self, slot: Slot, now: Now) {
        let begin = self.cursor(&self.target()).to_string().into_boxed_str();
        let inboxes = self.caller(slot.index).map(|who| who.inboxes()).unwrap_or_default();
        let wants_inbox = self.session(slot.index).and_then(|s| s.login).is_some_and(|(_, inbox)| inbox);
        let inboxes = inboxes.into_iter().filter(|_| wants_inbox).map(Filter::Exact);
        let mut filters: Vec<Filter> = self.filters(slot.index).cloned().collect();
        inboxes.for_each(|inbox| filters.extend((!filters.contains(&inbox)).then_some(inbox)));
        let filter = |f: Filter| SessionFilter { filter: f.as_str().into(), since: begin.clone() };
        let filters = filters.into_iter().map(filter).collect();
        let expiry_s = self.session(slot.index).map_or(0, |s| s.expiry.as_secs());
        self.own(slot, SessionState { owner: None, expiry_s, acknowledged: begin, filters }, now);
    }

    /// Writes the record of ownership.
    fn own(&mut self, slot: Slot, state: SessionState, now: Now) {
        let owner = Some(self.name(slot));
        let Some(session) = self.session_mut(slot.index) else { return };
        let state = SessionState { owner, expiry_s: session.expiry.as_secs(), ..state };
        let message = record_of(session, &state, Some(system::lease(state.expiry_s)), now);
        session.stage = Stage::Opening(Box::new(state));
        self.append_for(slot, message, Durability::Fsync);
    }

    /// A record on a session's topic has come out of the log.
    pub(crate) fn session_record(&mut self, record: &Record, message: &Message, now: Now) {
        let at = record.offset;
        for index in self.of_session(&message.topic) {
            let slot = self.slot_at(index);
            let own = self.name(slot);
            if message.retain {
                let Some(state) = system::read::<SessionState>(message) else { continue };
                if state.owner.as_ref() == Some(&own) {
                    self.written(slot, message.generation, now);
                } else if state.owner.is_none() {
                    self.handed_over(slot, state, now);
                }
            } else if let Some(claim) = system::read::<Claim>(message) {
                if claim.owner == own { self.claimed(slot, at) } else { self.lose(slot, now) }
            }
        }
    }

    /// Its claim stands in the log: from now on it writes with this generation.
    fn claimed(&mut self, slot: Slot, at: Offset) {
        let Some(session) = self.session_mut(slot.index) else { return };
        if matches!(session.stage, Stage::Claiming) {
            session.generation = at.0;
            self.read_session(slot);
        }
    }

    pub(crate) fn read_session(&mut self, slot: Slot) {
        self.last_ask = self.last_ask.wrapping_add(1);
        let (worker, ask) = (self.setup.worker, AskId(self.last_ask));
        let Some(session) = self.session_mut(slot.index) else { return };
        session.stage = Stage::Reading(ask);
        let interest = Interest { filter: Filter::Exact(session.topic.clone()), since: Offset::BEGINNING };
        let read = Read {
            ticket: Ticket { worker, slot, ask },
            partition: Partition(0),
            interests: Arc::new([interest]),
            applied: Offset(session.generation),
            kind: ReadKind::Retained,
        };
        self.reads.push_back(read);
        self.counters.reads += 1;
    }

    /// Takes the store's answer, if a session waits for one.
    pub(crate) fn take_session(&mut self, page: &Page, now: Now) -> bool {
        let slot = page.ticket.slot;
        let is_it = |s: &Session| matches!(s.stage, Stage::Reading(ask) if ask == page.ticket.ask);
        if !self.is_here(slot) || !self.session(slot.index).is_some_and(is_it) {
            return false;
        }
        if page.failed {
            self.watch(slot, now.monotonic + RETRY);
            return true;
        }
        let state = page.records.first().and_then(|r| r.message()).and_then(system::read::<SessionState>);
        match state {
            None => self.make_instead(slot, now),
            Some(state) if state.owner.as_deref().is_some_and(|owner| self.may_live(owner)) => {
                let Some(session) = self.session_mut(slot.index) else { return true };
                session.stage = Stage::Waiting(Box::new(state));
                self.watch(slot, now.monotonic + HANDOVER);
            }
            Some(state) => self.take_up(slot, state, now),
        }
        true
    }

    /// There is no such session, or it is another user's: a new one, of another name.
    fn make_instead(&mut self, slot: Slot, now: Now) {
        let user = self.caller(slot.index).and_then(|who| who.user.clone());
        self.remove_session(slot.index);
        let id = self.draw();
        let Some(topic) = system::session_topic(user.as_deref(), &id) else { return };
        let Some(session) = self.session_mut(slot.index) else { return };
        (session.id, session.topic, session.generation) = (id, topic, FIRST);
        self.index_session(slot.index);
        self.make(slot, now);
    }

    /// Whether a connection of this name may be there. Those of this worker are known.
    fn may_live(&self, owner: &str) -> bool {
        let found = self.setup.plate.find(owner);
        let is_here = |slot: Slot| self.is_here(slot) && self.session(slot.index).is_some();
        found.is_some_and(|(worker, slot)| worker != self.setup.worker || is_here(slot))
    }

    /// The owner has written its last.
    fn handed_over(&mut self, slot: Slot, state: SessionState, now: Now) {
        let Some(session) = self.session_mut(slot.index) else { return };
        if matches!(session.stage, Stage::Reading(_) | Stage::Waiting(_)) {
            self.take_up(slot, state, now);
        }
    }

    /// Goes on from where a session was left.
    pub(crate) fn take_up(&mut self, slot: Slot, state: SessionState, now: Now) {
        let Some(session) = self.session_mut(slot.index) else { return };
        session.resumed = true;
        self.own(slot, state, now);
    }

    /// The session is this connection's: its subscriptions go on.
    pub(crate) fn open_session(&mut self, slot: Slot, state: &SessionState, now: Now) {
        let acknowledged: Option<Cursor> = state.acknowledged.parse().ok();
        let mut refused = Vec::new();
        self.connections.reach(slot.index).windowed = true;
        for wanted in &state.filters {
            let (Ok(filter), Ok(since)) = (Filter::parse(&wanted.filter), wanted.since.parse::<Cursor>()) else {
                continue;
            };
            let begin = acknowledged.as_ref().filter(|acknowledged| !is_above(&since, acknowledged)).unwrap_or(&since);
            if begin == &since
                && let Some(session) = self.session_mut(slot.index)
            {
                session.later.push((filter.clone(), since.clone()));
            }
            let subscribe = Subscribe {
                filters: [filter].into(),
                start: Start::After(begin.clone()),
                greet: false,
                identity: None,
            };
            refused.extend(self.subscribe_connection(slot, subscribe).refused);
        }
        let connection = self.name(slot);
        let Some(session) = self.session_mut(slot.index) else { return };
        let renewal = now.monotonic + system::lease(session.expiry.as_secs()) / 2;
        let Some((ask, _)) = session.login.take() else { return };
        let welcome = Welcome { connection, session: Some(session.id.clone()), resumed: session.resumed, refused };
        self.watch(slot, renewal);
        self.say(slot, ask, Said::Welcomed(Ok(welcome)));
    }

    /// Another connection has claimed the session: it gets what is known, and this one ends.
    fn lose(&mut self, slot: Slot, now: Now) {
        let Some(session) = self.session_mut(slot.index) else { return };
        match session.stage {
            // Its own claim comes later, and so it wins.
            Stage::Claiming | Stage::Ended => return,
            Stage::Open => self.write_last(slot, now),
            Stage::Reading(_) | Stage::Waiting(_) | Stage::Opening(_) => {}
        }
        if let Some(session) = self.session_mut(slot.index) {
            session.stage = Stage::Ended;
        }
        self.end(slot.index, Reason::TakenOver);
    }
}
