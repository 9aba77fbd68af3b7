//! How a connection comes to own a session, and loses it (RULES 15).
//!
//! * It claims the session: a record that passes, whose offset is the generation of all that it writes from then on. The
//!   store ignores lower generations. Whoever sees a later claim of another's hands the session over, and ends.
//! * It reads the session as it was at the claim. If an owner of this life of the node is named there, it waits a moment
//!   for the handover, and reads again; so it does at once if none is found though there may be one.
//! * An answer of the store counts only if the store has come as far as the claim. So a new session is never made in
//!   place of one that couldn't be seen.
//! * The former owner hands the session over when its connection ends: what had come from its client until then counts.
//! * It delivers only after it has read its own record of ownership from the log.

use std::collections::VecDeque;
use std::time::Duration;

use everywire_base::ask::{Interest, Login, Page, Read, ReadKind, SessionWish, Subscribe};
use everywire_base::clock::Now;
use everywire_base::cursor::{Cursor, Offset, Partition, Start};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::rules::Refusal;
use everywire_base::system::{self, Claim, SessionFilter, SessionState};
use everywire_base::terms::Terms;
use everywire_base::topic::Filter;

use crate::Hub;
use crate::lag::Lag;
use crate::once::Received;
use crate::session::{FIRST, Opening, RETRY, Session, Stage, is_above, record_of};
use crate::window::{self, Kind, Window};

/// How long a living owner has to hand its session over.
const HANDOVER: Duration = Duration::from_millis(500);

/// The most marks that are read with a session at once.
const PAGE: usize = 1024;

impl Hub {
    /// Begins to open the session that a login wants; false if there is nothing to wait for.
    pub(crate) fn begin_session(&mut self, slot: Slot, ask: AskId, login: &mut Login, now: Now) -> bool {
        if self.session(slot.index).is_some() {
            // A renewed login goes on with the session that the connection has.
            return false;
        }
        let limits = &self.setup.limits;
        let (bound, longest) = (limits.session_window, limits.session_expiry_max);
        let (id, expiry, kind, bound) = match &login.session {
            SessionWish::None => return false,
            SessionWish::New { expiry } => (None, *expiry, Kind::UpTo, bound),
            SessionWish::Resume { id, expiry } => (Some(id.clone()), *expiry, Kind::UpTo, bound),
            SessionWish::Named { id, expiry, window, .. } => {
                let id = Some(id.clone()).filter(|id| !id.is_empty());
                let kind = Kind::Tagged { durable: !expiry.is_zero() };
                (id, *expiry, kind, bound.min(usize::from(*window)))
            }
        };
        let is_new = id.is_none();
        let user = self.caller(slot.index).and_then(|who| who.user.clone());
        let id = id.unwrap_or_else(|| self.draw());
        let Some(topic) = system::session_topic(user.as_deref(), &id) else {
            login.session = SessionWish::New { expiry };
            return self.begin_session(slot, ask, login, now);
        };
        let window = Window::new(kind, bound, topic.stable_hash());
        let mut session = Session::new(id, topic, expiry.min(longest), window);
        session.fresh = matches!(login.session, SessionWish::Named { fresh: true, .. });
        let Some(member) = &mut self.connections.reach(slot.index).member else { return false };
        member.session = Some(Box::new(session));
        self.index_session(slot.index);
        let (inbox, applied) = (login.inbox, Offset::BEGINNING);
        let opening = Box::new(Opening {
            ask,
            inbox,
            applied,
            again: false,
            found: Vec::new(),
            next: None,
            will: login.will.take(),
        });
        if is_new {
            self.make(slot, opening, now);
        } else {
            self.claim(slot, opening);
        }
        true
    }

    fn claim(&mut self, slot: Slot, opening: Box<Opening>) {
        let owner = self.name(slot);
        let Some(session) = self.session_mut(slot.index) else { return };
        session.stage = Stage::Claiming(opening);
        let claim = Claim { owner, fresh: session.fresh };
        let message = system::message(session.topic.clone(), &claim, false);
        self.append_for(slot, message, Durability::None);
    }

    /// Makes a new session. What the connection is subscribed to already belongs to it.
    fn make(&mut self, slot: Slot, opening: Box<Opening>, now: Now) {
        let begin = self.cursor(&self.target()).to_string().into_boxed_str();
        let inboxes = self.caller(slot.index).map(|who| who.inboxes()).unwrap_or_default();
        let inboxes = inboxes.into_iter().filter(|_| opening.inbox).map(Filter::Exact);
        let mut filters: Vec<Filter> = self.filters(slot.index).cloned().collect();
        inboxes.for_each(|inbox| filters.extend((!filters.contains(&inbox)).then_some(inbox)));
        let terms = Terms::default().pack();
        let filter = |f: Filter| SessionFilter { filter: f.as_str().into(), since: begin.clone(), terms, group: None };
        let filters = filters.into_iter().map(filter).collect();
        let state = SessionState { acknowledged: begin, filters, ..SessionState::default() };
        self.own(slot, state, opening, now);
    }

    /// Writes the record of ownership, after that of the will; what is not kept is open at once.
    fn own(&mut self, slot: Slot, state: SessionState, mut opening: Box<Opening>, now: Now) {
        let owner = Some(self.name(slot));
        let writes_will = self.write_will(slot, opening.will.take());
        let Some(session) = self.session_mut(slot.index) else { return };
        let state = SessionState { owner, expiry_s: session.expiry.as_secs(), ..state };
        if !session.is_durable() && !writes_will {
            session.stage = Stage::Open;
            return self.open_session(slot, &state, &opening, now);
        }
        if session.is_durable() {
            session.stored = true;
            let message = record_of(session, &state, Some(system::lease(state.expiry_s)), now);
            self.append_for(slot, message, Durability::Fsync);
        }
        let Some(session) = self.session_mut(slot.index) else { return };
        session.stage = Stage::Opening(Box::new(state), opening);
    }

    /// A record on a session's topic has come out of the log.
    pub(crate) fn session_record(&mut self, record: &Record, message: &Message, now: Now) {
        let at = record.offset;
        let claim = if message.retain { None } else { system::read::<Claim>(message) };
        if let Some(claim) = &claim {
            self.returned(&message.topic, claim.fresh);
        }
        for index in self.of_session(&message.topic) {
            let slot = self.slot_at(index);
            let own = self.name(slot);
            if let Some(claim) = &claim {
                if claim.owner == own { self.claimed(slot, at, now) } else { self.lose(slot, claim.fresh) }
            } else if let Some(state) = system::read::<SessionState>(message).filter(|_| message.retain) {
                if state.owner.as_ref() == Some(&own) {
                    self.written(slot, message.generation, now);
                } else if state.owner.is_none() {
                    self.handed_over(slot, state, at, now);
                }
            }
        }
    }

    /// Its claim stands in the log: from now on it writes with this generation.
    fn claimed(&mut self, slot: Slot, at: Offset, now: Now) {
        let Some(session) = self.session_mut(slot.index) else { return };
        match std::mem::replace(&mut session.stage, Stage::Ended) {
            Stage::Claiming(mut opening) => {
                (session.generation, opening.applied) = (at.0, at);
                if session.fresh { self.start_over(slot, opening, now) } else { self.read_session(slot, opening) }
            }
            other => session.stage = other,
        }
    }

    /// A new session in place of whatever was there.
    fn start_over(&mut self, slot: Slot, opening: Box<Opening>, now: Now) {
        let Some(session) = self.session(slot.index) else { return };
        let may_be = self.may_be_retained(&Filter::Exact(session.topic.clone()));
        if may_be && !session.is_durable() {
            self.write_nothing(slot);
        }
        self.make(slot, opening, now);
    }

    /// Reads the session, and the marks of what it has published and not released. Of what isn't there nothing is read.
    pub(crate) fn read_session(&mut self, slot: Slot, opening: Box<Opening>) {
        self.last_ask = self.last_ask.wrapping_add(1);
        let (worker, ask) = (self.setup.worker, AskId(self.last_ask));
        let Some(session) = self.session_mut(slot.index) else { return };
        let after = opening.next.clone();
        let filters = [session.topic.as_str().to_owned(), format!("{}/+", session.topic)];
        let filters = filters.iter().filter_map(|filter| Filter::parse(filter).ok());
        let interests = filters.map(|filter| Interest { filter, since: Offset::BEGINNING }).collect();
        let applied = opening.applied;
        session.stage = Stage::Reading(ask, opening);
        let kind = ReadKind::Retained { after, max_records: PAGE };
        let ticket = Ticket { worker, slot, ask };
        self.reads.push_back(Read { ticket, partition: Partition(0), interests, applied, kind });
        self.counters.reads += 1;
    }

    /// Takes the store's answer, if a session waits for one.
    pub(crate) fn take_session(&mut self, page: &Page, now: Now) -> bool {
        let slot = page.ticket.slot;
        let is_it = |s: &Session| matches!(s.stage, Stage::Reading(ask, _) if ask == page.ticket.ask);
        if !self.is_here(slot) || !self.session(slot.index).is_some_and(is_it) {
            return false;
        }
        let Some(session) = self.session_mut(slot.index) else { return true };
        let is_behind = matches!(&session.stage, Stage::Reading(_, opening) if page.upto < opening.applied);
        if page.failed || is_behind {
            self.watch(slot, now.monotonic + RETRY);
            return true;
        }
        if let Stage::Reading(_, mut opening) = std::mem::replace(&mut session.stage, Stage::Ended) {
            opening.found.extend(page.records.iter().cloned());
            opening.next.clone_from(&page.next);
            if opening.next.is_some() {
                self.read_session(slot, opening);
            } else {
                self.found(slot, opening, now);
            }
        }
        true
    }

    /// The store has told all that it has of a session.
    fn found(&mut self, slot: Slot, mut opening: Box<Opening>, now: Now) {
        let Some(session) = self.session(slot.index) else { return };
        let found = std::mem::take(&mut opening.found);
        let is_state = |message: &Message| message.topic == session.topic;
        let state = found.iter().find(|record| record.message().is_some_and(is_state));
        let Some((at, mut state)) = state.and_then(|r| Some((r.offset, system::read::<SessionState>(r.message()?)?)))
        else {
            let may_be = !opening.again && self.may_be_retained(&Filter::Exact(session.topic.clone()));
            return if may_be { self.look_again(slot, opening) } else { self.make_instead(slot, opening, now) };
        };
        // Marks above the record are not in it yet, or were on their way when it was written.
        let publishing = std::mem::take(&mut state.publishing);
        let above =
            |number| publishing.iter().find(|(other, _)| *other == number).map_or(at, |(_, above)| Offset(*above));
        let number =
            |mark: &Message| mark.topic.as_str().rsplit('/').next().and_then(|number| number.parse::<u16>().ok());
        let marked = found.iter().filter_map(|record| Some((number(record.message()?)?, record.offset)));
        state.received.extend(marked.filter(|(number, offset)| *offset > above(*number)).map(|(number, _)| number));
        // What an owner of this life of the node has written last may still be on its way, also if it is gone.
        let may_come = |owner: &str| self.setup.plate.find(owner).is_some();
        if !opening.again && state.owner.as_deref().is_some_and(may_come) {
            let Some(session) = self.session_mut(slot.index) else { return };
            session.stage = Stage::Waiting(opening);
            self.watch(slot, now.monotonic + HANDOVER);
        } else {
            self.take_up(slot, state, opening, now);
        }
    }

    /// Reads the session as it is now, for the last time.
    pub(crate) fn look_again(&mut self, slot: Slot, mut opening: Box<Opening>) {
        (opening.applied, opening.again) = (self.marks[0], true);
        self.read_session(slot, opening);
    }

    /// There is no such session, or it is another user's: a new one, of another name unless the client chose it.
    fn make_instead(&mut self, slot: Slot, opening: Box<Opening>, now: Now) {
        if self.session(slot.index).is_some_and(|session| session.window.is_tagged()) {
            return self.make(slot, opening, now);
        }
        let user = self.caller(slot.index).and_then(|who| who.user.clone());
        self.remove_session(slot.index);
        let id = self.draw();
        let Some(topic) = system::session_topic(user.as_deref(), &id) else { return };
        let Some(session) = self.session_mut(slot.index) else { return };
        (session.id, session.topic, session.generation) = (id, topic, FIRST);
        self.index_session(slot.index);
        self.make(slot, opening, now);
    }

    /// The owner has written its last. What it was still publishing then, the store knows.
    fn handed_over(&mut self, slot: Slot, state: SessionState, at: Offset, now: Now) {
        let Some(session) = self.session_mut(slot.index) else { return };
        match std::mem::replace(&mut session.stage, Stage::Ended) {
            Stage::Reading(_, mut opening) | Stage::Waiting(mut opening) if !state.publishing.is_empty() => {
                (opening.applied, opening.next) = (at, None);
                opening.found.clear();
                self.read_session(slot, opening);
            }
            Stage::Reading(_, opening) | Stage::Waiting(opening) => self.take_up(slot, state, opening, now),
            other => session.stage = other,
        }
    }

    /// Goes on from where a session was left.
    pub(crate) fn take_up(&mut self, slot: Slot, state: SessionState, opening: Box<Opening>, now: Now) {
        let Some(session) = self.session_mut(slot.index) else { return };
        (session.resumed, session.stored) = (true, true);
        session.crashed = state.owner.is_some();
        session.window.outlives();
        self.own(slot, state, opening, now);
    }

    /// The session is this connection's: its subscriptions go on.
    pub(crate) fn open_session(&mut self, slot: Slot, state: &SessionState, opening: &Opening, now: Now) {
        let acknowledged: Option<Cursor> = state.acknowledged.parse().ok();
        self.connections.reach(slot.index).windowed = true;
        if let Some(session) = self.session_mut(slot.index) {
            session.window.restore(&state.sent);
            if !state.received.is_empty() {
                session.open_ends().received = state.received.iter().copied().map(Received::settled).collect();
            }
        }
        let refused =
            state.filters.iter().filter_map(|f| self.reopen(slot, f, acknowledged.as_ref(), now)).flatten().collect();
        self.send_again(slot);
        let Some(session) = self.session(slot.index) else { return };
        let (resumed, is_durable) = (session.resumed, session.is_durable());
        let renewal = now.monotonic + system::lease(session.expiry.as_secs()) / 2;
        if is_durable {
            self.watch(slot, renewal);
        }
        self.say_welcome(slot, opening.ask, resumed, refused);
    }

    /// A subscription of the session goes on; gives back what is refused now.
    fn reopen(
        &mut self,
        slot: Slot,
        wanted: &SessionFilter,
        acknowledged: Option<&Cursor>,
        now: Now,
    ) -> Option<Vec<(Filter, Refusal)>> {
        let (filter, since) = (Filter::parse(&wanted.filter).ok()?, wanted.since.parse::<Cursor>().ok()?);
        let begin = acknowledged.filter(|acknowledged| !is_above(&since, acknowledged)).unwrap_or(&since);
        if begin == &since
            && let Some(session) = self.session_mut(slot.index).filter(|s| s.is_durable())
        {
            session.open_ends().later.push((filter.clone(), since.clone()));
        }
        let (terms, group) = (Terms::unpack(wanted.terms), wanted.group.clone());
        let start = Start::After(begin.clone());
        if group.is_some() {
            self.rejoin(slot, Subscribe { start, terms, group, ..Subscribe::to([filter]) }, &since, now);
            return None;
        }
        Some(self.subscribe_connection(slot, &Subscribe { start, terms, group, ..Subscribe::to([filter]) }).refused)
    }

    /// What a former owner has sent and nobody has acknowledged comes again, before anything else.
    fn send_again(&mut self, slot: Slot) {
        let target = self.target();
        let Some(session) = self.session(slot.index).filter(|s| s.window.is_tagged() && s.resumed) else { return };
        let again: VecDeque<_> = session.window.iter().filter(|s| s.stage != window::Stage::Done).copied().collect();
        let connection = self.connections.reach(slot.index);
        if again.is_empty() && connection.lag.is_none() {
            return;
        }
        let mut lag = connection.lag.take().unwrap_or_else(|| {
            self.counters.lagging += 1;
            Box::new(Lag::new(target.clone(), target.clone()))
        });
        // What came at most once while nobody was there is over.
        (lag.again, lag.quiet_until) = (again, target);
        connection.lag = Some(lag);
        self.enqueue(slot.index);
    }

    /// Another connection has claimed the session: it gets what is known when this one ends, which is now.
    fn lose(&mut self, slot: Slot, fresh: bool) {
        let Some(session) = self.session_mut(slot.index) else { return };
        let is_opening = matches!(session.stage, Stage::Opening(..));
        session.stage = match session.stage {
            // Its own claim comes later, and so it wins.
            Stage::Claiming(_) | Stage::Ended => return,
            Stage::Open | Stage::Lost => Stage::Lost,
            Stage::Reading(..) | Stage::Waiting(..) | Stage::Opening(..) => Stage::Ended,
        };
        // Its record may come to lie above the claim, and the claimant may write none.
        let is_left = fresh && is_opening && session.is_durable();
        if fresh {
            // Nobody comes back to it.
            session.expiry = Duration::ZERO;
        }
        if is_left {
            self.write_nothing(slot);
        }
        self.end(slot.index, Reason::TakenOver);
    }
}
