//! Wills: what is published when a connection ends without a goodbye (MQTT-5.0 §3.1.2.5, RULES 16).
//!
//! * A will is a record before its connection is welcomed: `$wills/USER/ID`, with the generation of the session's owner.
//! * In memory there is only whose it is, where it lies and when it is due. The message is read when the will fires.
//! * It waits for the smaller of its delay and the session's life; whoever claims the session in the meantime ends the
//!   wait: the will is gone, or, if the session was thrown away, published at once. So is one for which there is no room.
//! * Whether its publisher may publish it is judged when it fires, by the rules that hold then.
//! * Publishing it is the message, under a key of its connection, and then the removal of the record; what the log
//!   refuses is tried again. So a crash in between publishes nothing twice within the keys' window.
//! * What a former life of the node has left is published after a grace in which clients may come back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, Draft, Interest, Page, PublishError, Published, Read, ReadKind, Will};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::identity::Identity;
use everywire_base::limits::Limits;
use everywire_base::network::neighbourhood;
use everywire_base::notice::{Notice, Refused};
use everywire_base::publish;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::system::{self, WillState};
use everywire_base::topic::{Filter, Topic};

use crate::session::{RETRY, Stage};
use crate::{Hub, OWN};

/// In place of a generation: the outcome is that of a will.
const WILL: u32 = u32::MAX - 1;
/// The most wills that are read at once, when a node starts.
const PAGE: usize = 64;
/// The place of who reads wills.
const READER: Slot = Slot { index: OWN, generation: WILL };
/// The ask that reads what a former life of the node has left; others are numbers of wills that fire.
const ADOPTION: AskId = AskId(0);
/// What the keys of wills begin with. A client's key has no control characters, so that it is never one of these.
const KEY: &str = "\0will of ";

/// The will of a connection that is there.
#[derive(Debug)]
pub(crate) struct LastWill {
    delay: Duration,
    /// Where its record lies; the beginning while that is on its way.
    at: Offset,
}

/// The wills that wait, by the topics of their sessions.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    /// Each with the moment that it waits for.
    waiting: BTreeMap<Topic, (Monotonic, Waiting)>,
    due: BTreeSet<(Monotonic, Topic)>,
    /// How many of them are whose.
    shares: BTreeMap<Sharer, usize>,
    /// On their way to the log: nobody takes them back.
    fired: BTreeMap<u32, (Topic, Waiting)>,
    /// Those of them that could not be read or that the log has refused, and when they are tried again.
    again: BTreeSet<(Monotonic, u32)>,
    last: u32,
    /// Sessions that were claimed while the wills of a former life are being read.
    claimed: Option<BTreeSet<Topic>>,
    /// The topic behind which reading goes on, and how far the store must be.
    reading: (Option<Topic>, Offset),
    /// When reading goes on after it has failed.
    reads_again: Option<Monotonic>,
    /// The node goes down: its clients have a grace.
    pub(crate) is_draining: bool,
}

/// A will whose connection is gone.
#[derive(Clone, Debug)]
struct Waiting {
    /// Where its record lies.
    at: Offset,
    owner: Box<str>,
    generation: u64,
    who: Leaver,
    sharer: Sharer,
}

/// Who leaves a will.
#[derive(Clone, Debug)]
enum Leaver {
    /// Somebody who was connected to this life of the node; `None` is anonymous.
    Known(Option<Arc<Identity>>),
    /// Whom the record names.
    Recorded,
}

/// Who may have so many wills waiting: a user, or those who are at one address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Sharer {
    User(Box<str>),
    Address(IpAddr),
    /// Somebody of a former life of the node.
    Former,
}

impl Sharer {
    fn of(who: Option<&Identity>, address: IpAddr) -> Self {
        match (who.and_then(|who| who.user.clone()), address) {
            (Some(user), _) => Sharer::User(user),
            (None, address) => Sharer::Address(neighbourhood(address)),
        }
    }
}

impl Wills {
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        let due = self.due.first().map(|(at, _)| *at);
        due.into_iter().chain(self.again.first().map(|(at, _)| *at)).chain(self.reads_again).min()
    }

    /// How many wait, or are on their way.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len() + self.fired.len()
    }

    fn has_room(&self, sharer: &Sharer, limits: &Limits) -> bool {
        let own = self.shares.get(sharer).copied().unwrap_or_default();
        self.waiting.len() < limits.wills && own < limits.wills_each
    }

    fn wait(&mut self, session: Topic, waiting: Waiting, until: Monotonic) {
        *self.shares.entry(waiting.sharer.clone()).or_default() += 1;
        self.due.insert((until, session.clone()));
        self.waiting.insert(session, (until, waiting));
    }

    fn take(&mut self, session: &Topic) -> Option<Waiting> {
        let (session, (until, waiting)) = self.waiting.remove_entry(session)?;
        self.due.remove(&(until, session));
        if let Some(own) = self.shares.get_mut(&waiting.sharer) {
            *own -= 1;
            if *own == 0 {
                self.shares.remove(&waiting.sharer);
            }
        }
        Some(waiting)
    }
}

impl Hub {
    /// Writes the will of a session that is being opened; without one it removes what may be there. Says whether there
    /// is one.
    pub(crate) fn write_will(&mut self, slot: Slot, will: Option<Box<Will>>) -> bool {
        let (owner, who) = (self.name(slot), self.caller(slot.index));
        let Some(session) = self.session_mut(slot.index) else { return false };
        let Some(topic) = system::will_topic(&session.topic) else { return false };
        let generation = session.generation;
        if let Some(will) = will {
            session.will = Some(Box::new(LastWill { delay: will.delay, at: Offset::BEGINNING }));
            let message = system::message(topic, &WillState::of(&will, owner, who.as_deref()), true);
            self.append_for(slot, Message { generation, ..message }, Durability::Fsync);
            return true;
        }
        if self.may_be_retained(&Filter::Exact(topic.clone())) {
            self.remove_will(topic, generation);
        }
        false
    }

    fn remove_will(&mut self, topic: Topic, generation: u64) {
        let nothing = Message { retain: true, generation, ..Message::new(topic, "") };
        self.append_own(nothing, Durability::Fsync);
    }

    /// A record on a will's topic has come out of the log. A session of which nothing else is kept is open then.
    pub(crate) fn will_record(&mut self, record: &Record, message: &Message, now: Now) {
        let Some(session) = system::session_of_will(&message.topic) else { return };
        let Some(state) = system::read::<WillState>(message).filter(|_| message.retain) else { return };
        for index in self.of_session(&session) {
            let slot = self.slot_at(index);
            let is_own = self.name(slot) == state.owner;
            let Some(session) = self.session_mut(index).filter(|_| is_own) else { continue };
            if let Some(will) = &mut session.will {
                will.at = record.offset;
            }
            if !session.is_durable() {
                self.written(slot, message.generation, now);
            }
        }
    }

    /// The client has said goodbye: its will is void.
    pub(crate) fn void_will(&mut self, slot: Slot) {
        let Some(session) = self.session_mut(slot.index) else { return };
        let (topic, generation) = (system::will_topic(&session.topic), session.generation);
        if let (Some(_), Some(topic)) = (session.will.take(), topic) {
            self.remove_will(topic, generation);
        }
    }

    /// The connection is gone without a goodbye. If another has claimed its session, the client has come back, which
    /// ends the wait before it began.
    pub(crate) fn leave_will(&mut self, slot: Slot, address: IpAddr, now: Now) {
        let is_draining = self.wills.is_draining;
        let (owner, who) = (self.name(slot), self.caller(slot.index));
        let sharer = Sharer::of(who.as_deref(), address);
        let Some(session) = self.session_mut(slot.index).filter(|s| s.is_held()) else { return };
        let Some(will) = session.will.take().filter(|_| !is_draining) else { return };
        let (topic, generation, delay) = (session.topic.clone(), session.generation, will.delay.min(session.expiry));
        let has_returned = matches!(session.stage, Stage::Lost);
        let waiting = Waiting { at: will.at, owner, generation, who: Leaver::Known(who), sharer };
        if delay.is_zero() {
            self.fire(topic, waiting);
        } else if !has_returned && self.wills.has_room(&waiting.sharer, &self.setup.limits) {
            self.wills.wait(topic, waiting, now.monotonic + delay);
        } else if !has_returned {
            self.fire(topic, waiting);
        }
    }

    /// A session was claimed: who had it before has come back in time, or has thrown it away.
    pub(crate) fn returned(&mut self, session: &Topic, fresh: bool) {
        if let Some(claimed) = &mut self.wills.claimed {
            claimed.insert(session.clone());
        }
        if let Some(waiting) = self.wills.take(session).filter(|_| fresh) {
            self.fire(session.clone(), waiting);
        }
    }

    /// Publishes the wills whose time has come.
    pub(crate) fn see_to_wills(&mut self, now: Now) {
        while let Some((_, session)) = self.wills.due.first().filter(|(at, _)| *at <= now.monotonic).cloned() {
            if let Some(waiting) = self.wills.take(&session) {
                self.fire(session, waiting);
            }
        }
        while let Some((_, number)) = self.wills.again.first().filter(|(at, _)| *at <= now.monotonic).copied() {
            self.wills.again.pop_first();
            self.read_will(number);
        }
        if self.wills.reads_again.take_if(|at| *at <= now.monotonic).is_some() {
            let after = self.wills.reading.0.clone();
            self.read_wills(after);
        }
    }

    fn fire(&mut self, session: Topic, waiting: Waiting) {
        self.wills.last = self.wills.last.wrapping_add(1).max(1);
        self.wills.fired.insert(self.wills.last, (session, waiting));
        self.read_will(self.wills.last);
    }

    /// Asks the store for the message of a will that fires, by its place: its client may have left another since.
    fn read_will(&mut self, number: u32) {
        let Some((_, Waiting { at, .. })) = self.wills.fired.get(&number) else { return };
        let (applied, kind) = (*at, ReadKind::Records(Arc::new([*at])));
        let ticket = Ticket { worker: self.setup.worker, slot: READER, ask: AskId(number) };
        self.reads.push_back(Read { ticket, partition: Partition(0), interests: Arc::new([]), applied, kind });
        self.counters.reads += 1;
    }

    /// Publishes a will that was read, if its publisher may publish it now.
    fn publish_will(&mut self, number: u32, page: &Page, now: Now) {
        let Some((_, waiting)) = self.wills.fired.get(&number) else { return };
        if page.failed {
            self.wills.again.insert((now.monotonic + RETRY, number));
            return;
        }
        let is_its = |state: &WillState| state.owner == waiting.owner;
        let mut found = page.records.iter().filter_map(|record| system::read::<WillState>(record.message()?));
        let Some((state, will)) = found.find(is_its).and_then(|state| state.will().map(|will| (state, will))) else {
            return self.lose_will(number, "its record is gone from the log");
        };
        let who = match &waiting.who {
            Leaver::Known(who) => who.clone(),
            Leaver::Recorded => state.identity().map(Arc::new),
        };
        let key = Some(format!("{KEY}{}", waiting.owner).into());
        match publish::check(will.draft.message, who.as_deref(), &self.setup.rules, &self.setup.limits) {
            Ok(Draft { message, durability }) => {
                let expires = will.ttl.map(|ttl| now.wall.after(ttl));
                let draft = Draft { message: Message { expires, key, ..message }, durability };
                let ticket = Ticket { worker: self.setup.worker, slot: READER, ask: AskId(number) };
                self.appends.push(Append::new(ticket, draft));
            }
            Err(unfit) => self.lose_will(number, &unfit.to_string()),
        }
    }

    /// A will is not published.
    fn lose_will(&mut self, number: u32, why: &str) {
        let Some((session, waiting)) = self.wills.fired.remove(&number) else { return };
        let whose = session.as_str().trim_start_matches(system::SESSIONS);
        self.notices.push((None, Notice::new(Refused::Will, why).of(whose)));
        self.forget_will(&session, waiting.generation);
    }

    fn forget_will(&mut self, session: &Topic, generation: u64) {
        if let Some(topic) = system::will_topic(session) {
            self.remove_will(topic, generation);
        }
    }

    /// What came of an append, if it was a will's.
    pub(crate) fn fired(&mut self, ticket: Ticket, result: &Result<Published, PublishError>, now: Now) -> bool {
        if ticket.slot != READER {
            return false;
        }
        let number = ticket.ask.0;
        match result {
            Ok(_) | Err(PublishError::KeyConflict) => {
                if let Some((session, waiting)) = self.wills.fired.remove(&number) {
                    self.forget_will(&session, waiting.generation);
                }
            }
            // The record stays, and the node's next life goes on.
            Err(PublishError::Closing) => drop(self.wills.fired.remove(&number)),
            Err(_) => drop(self.wills.again.insert((now.monotonic + RETRY, number))),
        }
        true
    }

    /// Reads the wills that a former life of the node has left. One worker of a node does that, at its start.
    pub fn adopt_wills(&mut self) {
        let all = Filter::parse(&format!("{}#", system::WILLS)).expect("a filter");
        if self.may_be_retained(&all) {
            self.wills.claimed = Some(BTreeSet::new());
            self.read_wills(None);
        }
    }

    fn read_wills(&mut self, after: Option<Topic>) {
        self.wills.reading = (after.clone(), self.marks[0]);
        let filter = Filter::parse(&format!("{}#", system::WILLS)).expect("a filter");
        let read = Read {
            ticket: Ticket { worker: self.setup.worker, slot: READER, ask: ADOPTION },
            partition: Partition(0),
            interests: Arc::new([Interest { filter, since: Offset::BEGINNING }]),
            applied: self.marks[0],
            kind: ReadKind::Retained { after, max_records: PAGE },
        };
        self.reads.push_back(read);
        self.counters.reads += 1;
    }

    /// Takes the store's answer, if it is about wills.
    pub(crate) fn take_wills(&mut self, page: &Page, now: Now) -> bool {
        if page.ticket.slot != READER {
            return false;
        }
        if page.ticket.ask != ADOPTION {
            self.publish_will(page.ticket.ask.0, page, now);
            return true;
        }
        if page.failed || page.upto < self.wills.reading.1 {
            self.wills.reads_again = Some(now.monotonic + RETRY);
            return true;
        }
        for record in &page.records {
            self.adopt_will(record, now);
        }
        match &page.next {
            Some(next) => self.read_wills(Some(next.clone())),
            None => self.wills.claimed = None,
        }
        true
    }

    fn adopt_will(&mut self, record: &Record, now: Now) {
        let Some(message) = record.message() else { return };
        let (Some(session), Some(state)) =
            (system::session_of_will(&message.topic), system::read::<WillState>(message))
        else {
            return;
        };
        let is_of_this_life = self.setup.plate.find(&state.owner).is_some();
        let has_returned = self.wills.claimed.as_ref().is_some_and(|claimed| claimed.contains(&session));
        if is_of_this_life || has_returned || self.wills.waiting.contains_key(&session) {
            return;
        }
        let until = now.monotonic + Duration::from_millis(state.delay_ms).max(self.setup.limits.will_grace);
        let (at, owner, generation) = (record.offset, state.owner, message.generation);
        self.wills.wait(
            session,
            Waiting { at, owner, generation, who: Leaver::Recorded, sharer: Sharer::Former },
            until,
        );
    }
}
