//! Ownership: a connection comes to own a session, and loses it (RULES 15).
//!
//! * It claims the session by a record that passes. The record's offset is the generation of all that it writes from
//!   then on; the store ignores lower generations. An owner that sees a later claim of another's hands the session
//!   over, and ends.
//! * It reads the session as it was at the claim. If the session names an owner on a node that lives, it waits a moment
//!   for the handover, and reads again. It reads again at once if no session is found though there may be one.
//! * An answer of the store counts only if the store has come as far as the claim. So a new session is never made in
//!   place of one that couldn't be seen.
//! * The former owner hands the session over when its connection ends: everything that its client had sent until then
//!   counts.
//! * It delivers only after it has read its own record of ownership from the log.

use std::time::Duration;

use everywire_base::ask::{Interest, Login, Page, Read, ReadKind, SessionWish};
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{AskId, Slot};
use everywire_base::kept::Payer;
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Record, System};
use everywire_base::system::{self, Claim, SessionFilter, SessionState};
use everywire_base::terms::Terms;
use everywire_base::topic::Filter;

use super::Sessions;
use super::record::{record_of, write_nothing};
use super::session::{Before, Claimed, Claiming, FIRST, Opening, Reading, Session, Wanted};
use super::wills::write_will;
use crate::delivery::{Kind, Window};
use crate::floor::RETRY;
use crate::ground::Ground;

/// The time that a living owner has to hand its session over.
const HANDOVER: Duration = Duration::from_millis(500);
/// The same if it is on another node.
const HANDOVER_ELSEWHERE: Duration = Duration::from_secs(2);

/// The most marks that are read with a session at once.
const PAGE: usize = 1024;

impl Sessions {
    /// Begins to open the session that a login wants; false if there is nothing to wait for.
    pub(crate) fn begin(&mut self, ground: &mut Ground<'_>, slot: Slot, ask: AskId, login: &mut Login) -> bool {
        if self.session(slot.index).is_some() {
            // A renewed login goes on with the session that the connection has.
            return false;
        }
        let limits = &ground.floor.setup.limits;
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
        let user = ground.floor.caller(slot.index).and_then(|who| who.user.clone());
        let id = id.unwrap_or_else(|| ground.floor.random_id());
        let Some(topic) = system::session_topic(user.as_deref(), &id) else {
            login.session = SessionWish::New { expiry };
            return self.begin(ground, slot, ask, login);
        };
        self.index(&topic, slot.index);
        ground.deliveries.set_window(slot.index, Window::new(kind, bound, topic.stable_hash()));
        let payer = if user.is_some() { Payer::NOBODY } else { login.payer };
        let (inbox, will) = (login.inbox, login.will.take());
        let wanted = Wanted { topic, expiry: expiry.min(longest), ask, inbox, will, payer };
        if is_new {
            self.make(ground, slot, Claimed::new(wanted, Offset::BEGINNING));
        } else {
            let fresh = matches!(login.session, SessionWish::Named { fresh: true, .. });
            self.claim(ground, slot, Claiming { wanted, fresh });
        }
        true
    }

    fn claim(&mut self, ground: &mut Ground<'_>, slot: Slot, claiming: Claiming) {
        let claim = Claim { owner: ground.floor.name(slot), fresh: claiming.fresh };
        let claim = system::record(claiming.wanted.topic.clone(), &claim, false);
        ground.floor.append_for(slot, claim, Durability::None);
        self.put(slot.index, Session::Claiming(Box::new(claiming)));
    }

    /// Makes a new session. Filters that the connection holds already belong to it.
    fn make(&mut self, ground: &mut Ground<'_>, slot: Slot, claimed: Claimed) {
        let begin = ground.floor.cursor(&ground.deliveries.target()).to_string().into_boxed_str();
        let inboxes = ground.floor.caller(slot.index).map(|who| who.inboxes()).unwrap_or_default();
        let inboxes = inboxes.into_iter().filter(|_| claimed.wanted.inbox).map(Filter::Exact);
        let mut filters: Vec<Filter> = ground.deliveries.filters(slot.index).cloned().collect();
        inboxes.for_each(|inbox| filters.extend((!filters.contains(&inbox)).then_some(inbox)));
        let terms = Terms::default().pack();
        let filter = |f: Filter| SessionFilter { filter: f.as_str().into(), since: begin.clone(), terms, group: None };
        let filters = filters.into_iter().map(filter).collect();
        let state = SessionState { acknowledged: begin, filters, ..SessionState::default() };
        self.own(ground, slot, claimed, state, Before::Nothing);
    }

    /// Writes the record of ownership, after that of the will; a session that is not kept is open at once.
    fn own(&mut self, ground: &mut Ground<'_>, slot: Slot, mut claimed: Claimed, state: SessionState, before: Before) {
        let will = claimed.wanted.will.take();
        let (generation, payer) = (claimed.generation, claimed.wanted.payer);
        let (mut open, ask) = claimed.open(before);
        open.set_will(write_will(ground, slot, &open.topic, will, (generation, payer)));
        if !open.is_durable() && !open.has_will() {
            return self.open(ground, slot, Opening { state, open, ask });
        }
        let owner = Some(ground.floor.name(slot));
        let state = SessionState { owner, expiry_s: open.expiry().as_secs(), ..state };
        if let Some(kept) = open.kept() {
            let state = record_of(&open.topic, kept, &state, Some(system::lease(state.expiry_s)), ground.now);
            ground.floor.append_for(slot, state, Durability::Fsync);
        }
        self.put(slot.index, Session::Opening(Box::new(Opening { state, open, ask })));
    }

    /// Takes a record on a session's topic that has come out of the log.
    pub(super) fn session_record(&mut self, ground: &mut Ground<'_>, record: &Record, system: &System) {
        let at = record.offset;
        let claim = if system.retain { None } else { system::read::<Claim>(system) };
        if let Some(claim) = &claim {
            self.returned(ground, &system.topic, claim.fresh);
        }
        for index in self.of_topic(&system.topic) {
            let slot = ground.deliveries.slot_at(index);
            let own = ground.floor.name(slot);
            if let Some(claim) = &claim {
                if claim.owner == own { self.claimed(ground, slot, at) } else { self.lose(ground, slot, claim.fresh) }
            } else if let Some(state) = system::read::<SessionState>(system).filter(|_| system.retain) {
                if state.owner.as_ref() == Some(&own) {
                    self.written(ground, slot, system.generation);
                } else if state.owner.is_none() {
                    self.handed_over(ground, slot, state, at);
                }
            }
        }
    }

    /// Goes on with a session whose claim stands in the log.
    fn claimed(&mut self, ground: &mut Ground<'_>, slot: Slot, at: Offset) {
        let Some(Session::Claiming(claiming)) = self.take_if(slot, |s| matches!(s, Session::Claiming(_))) else {
            return;
        };
        let fresh = claiming.fresh;
        let claimed = claiming.claimed(at);
        if fresh { self.start_over(ground, slot, claimed) } else { self.read(ground, slot, claimed) }
    }

    /// Makes a new session in place of the former one, if there was one.
    fn start_over(&mut self, ground: &mut Ground<'_>, slot: Slot, claimed: Claimed) {
        let topic = &claimed.wanted.topic;
        if claimed.wanted.expiry.is_zero() && ground.floor.may_be_retained(&Filter::Exact(topic.clone())) {
            write_nothing(ground, topic.clone(), claimed.generation);
        }
        self.make(ground, slot, claimed);
    }

    /// Reads the session, and the marks of the messages that it has published and not released.
    fn read(&mut self, ground: &mut Ground<'_>, slot: Slot, claimed: Claimed) {
        let ask = ground.floor.next_ask();
        self.read_page(ground, slot, claimed.read(ask));
    }

    /// Reads the next page.
    fn read_page(&mut self, ground: &mut Ground<'_>, slot: Slot, reading: Reading) {
        let topic = &reading.claimed.wanted.topic;
        let filters = [topic.as_str().to_owned(), format!("{topic}/+")];
        let filters = filters.iter().filter_map(|filter| Filter::parse(filter).ok());
        let interests = filters.map(|filter| Interest { filter, since: Offset::BEGINNING }).collect();
        let (applied, after) = (reading.claimed.applied, reading.next.clone());
        let kind = ReadKind::Retained { after, max_records: PAGE };
        let reply_to = ground.floor.to_connection(slot, reading.ask);
        ground.floor.read(Read { reply_to, partition: Partition(0), interests, applied, kind });
        self.put(slot.index, Session::Reading(Box::new(reading)));
    }

    /// Asks for the next page, or again for one that could not be read.
    pub(super) fn read_again(&mut self, ground: &mut Ground<'_>, slot: Slot, reading: Reading) {
        let ask = ground.floor.next_ask();
        self.read_page(ground, slot, Reading { ask, ..reading });
    }

    /// Takes the store's answer, if a session waits for one.
    pub(super) fn take_page(&mut self, ground: &mut Ground<'_>, page: &Page) -> bool {
        let Some((slot, ask)) = page.reply_to.connection() else { return false };
        let is_it = |s: &Session| matches!(s, Session::Reading(reading) if reading.ask == ask);
        if !ground.deliveries.is_here(slot) {
            return false;
        }
        let Some(Session::Reading(mut reading)) = self.take_if(slot, is_it) else { return false };
        if page.failed || page.upto < reading.claimed.applied {
            self.put(slot.index, Session::Reading(reading));
            self.watch(slot, ground.now.monotonic + RETRY);
            return true;
        }
        reading.found.extend(page.records.iter().cloned());
        reading.next.clone_from(&page.next);
        if reading.next.is_some() {
            self.read_again(ground, slot, *reading);
        } else {
            self.found(ground, slot, *reading);
        }
        true
    }

    /// Goes on with a session of which the store has told all that it has.
    fn found(&mut self, ground: &mut Ground<'_>, slot: Slot, reading: Reading) {
        let Reading { claimed, found, .. } = reading;
        let topic = &claimed.wanted.topic;
        let is_state = |system: &System| system.topic == *topic;
        let state = found.iter().find(|record| record.system().is_some_and(is_state));
        let Some((at, mut state)) = state.and_then(|r| Some((r.offset, system::read::<SessionState>(r.system()?)?)))
        else {
            let may_be = !claimed.again && ground.floor.may_be_retained(&Filter::Exact(topic.clone()));
            return if may_be {
                self.look_again(ground, slot, claimed);
            } else {
                self.make_instead(ground, slot, claimed);
            };
        };
        // Marks above the record are not in it yet, or were on their way when it was written.
        let publishing = std::mem::take(&mut state.publishing);
        let above =
            |number| publishing.iter().find(|(other, _)| *other == number).map_or(at, |(_, above)| Offset(*above));
        let number =
            |mark: &System| mark.topic.as_str().rsplit('/').next().and_then(|number| number.parse::<u16>().ok());
        let marked = found.iter().filter_map(|record| Some((number(record.system()?)?, record.offset)));
        state.received.extend(marked.filter(|(number, offset)| *offset > above(*number)).map(|(number, _)| number));
        // The last record of an owner on a node that lives may still be on its way, even if the owner is gone.
        let may_come = |owner: &str| ground.floor.lives(owner);
        let is_near = |owner: &str| ground.floor.setup.life.find(owner).is_some();
        let patience = if state.owner.as_deref().is_some_and(is_near) { HANDOVER } else { HANDOVER_ELSEWHERE };
        if !claimed.again && state.owner.as_deref().is_some_and(may_come) {
            self.put(slot.index, Session::Waiting(Box::new(claimed)));
            self.watch(slot, ground.now.monotonic + patience);
        } else {
            self.take_up(ground, slot, claimed, state);
        }
    }

    /// Reads the session as it is now, for the last time.
    pub(super) fn look_again(&mut self, ground: &mut Ground<'_>, slot: Slot, claimed: Claimed) {
        let applied = ground.deliveries.marks()[0];
        self.read(ground, slot, Claimed { applied, again: true, ..claimed });
    }

    /// Makes a new session where there is none, or only another user's. It has another name, unless the client chose
    /// the name.
    fn make_instead(&mut self, ground: &mut Ground<'_>, slot: Slot, mut claimed: Claimed) {
        if !ground.deliveries.is_tagged(slot.index) {
            let user = ground.floor.caller(slot.index).and_then(|who| who.user.clone());
            let Some(topic) = system::session_topic(user.as_deref(), &ground.floor.random_id()) else {
                return self.put(slot.index, claimed.end());
            };
            self.remove(&claimed.wanted.topic, slot.index);
            self.index(&topic, slot.index);
            (claimed.wanted.topic, claimed.generation) = (topic, FIRST);
        }
        self.make(ground, slot, claimed);
    }

    /// Takes the last record of the owner. The store knows the messages that it was still publishing then.
    fn handed_over(&mut self, ground: &mut Ground<'_>, slot: Slot, state: SessionState, at: Offset) {
        let claimed = match self.take_if(slot, |s| matches!(s, Session::Reading(_) | Session::Waiting(_))) {
            Some(Session::Reading(reading)) => reading.claimed,
            Some(Session::Waiting(claimed)) => *claimed,
            _ => return,
        };
        if state.publishing.is_empty() {
            self.take_up(ground, slot, claimed, state);
        } else {
            self.read(ground, slot, Claimed { applied: at, ..claimed });
        }
    }

    /// Goes on from where a session was left.
    fn take_up(&mut self, ground: &mut Ground<'_>, slot: Slot, claimed: Claimed, state: SessionState) {
        let before = if state.owner.is_some() { Before::Crashed } else { Before::Session };
        if let Some(window) = ground.deliveries.window_mut(slot.index) {
            window.outlives();
        }
        self.own(ground, slot, claimed, state, before);
    }

    /// Gives up a session that another connection has claimed. The claimant gets its state when this connection ends,
    /// which is now.
    fn lose(&mut self, ground: &mut Ground<'_>, slot: Slot, fresh: bool) {
        let (mut session, generation) = match self.take_if(slot, |_| true).map(Session::lose) {
            Some(Ok(lost)) => lost,
            Some(Err(other)) => return self.put(slot.index, other),
            None => return,
        };
        if fresh {
            // Nobody comes back to it.
            if let Some(expiry) = session.expiry_mut() {
                *expiry = Duration::ZERO;
            }
        }
        let topic = session.topic().clone();
        self.put(slot.index, session);
        if let Some(generation) = generation.filter(|_| fresh) {
            // The claimant may write no record that lies above this one.
            write_nothing(ground, topic, generation);
        }
        ground.floor.end(slot, Reason::TakenOver);
    }
}
