//! Wills: what is published when a connection ends without a goodbye (MQTT-5.0 §3.1.2.5, RULES 16).
//!
//! * A will is a record before its connection is welcomed: `$wills/USER/ID`, with the generation of the session's owner.
//! * It waits for the smaller of its delay and the session's life; whoever claims the session in the meantime ends the
//!   wait: the will is gone, or, if the session was thrown away, published at once.
//! * Publishing it is the message, under a key of its connection, and then the removal of the record; what the log
//!   refuses is tried again. So a crash in between publishes nothing twice within the keys' window.
//! * What a former life of the node has left is published after a grace in which clients may come back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, Draft, Interest, Page, PublishError, Published, Read, ReadKind, Will};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::record::{Durability, Message};
use everywire_base::system::{self, WillState};
use everywire_base::topic::{Filter, Topic};

use crate::session::{RETRY, Stage};
use crate::{Hub, OWN};

/// In place of a generation: the outcome is that of a will.
const WILL: u32 = u32::MAX - 1;
/// The most wills that are read at once.
const PAGE: usize = 1024;
/// The place of who reads wills.
const READER: Slot = Slot { index: OWN, generation: WILL };

/// The wills that wait, by the topics of their sessions.
#[derive(Debug, Default)]
pub(crate) struct Wills {
    /// Each with the moment that it waits for.
    waiting: BTreeMap<Topic, (Monotonic, Waiting)>,
    due: BTreeSet<(Monotonic, Topic)>,
    /// On their way to the log: nobody takes them back.
    fired: BTreeMap<u32, (Topic, Waiting)>,
    /// Those of them that the log has refused, and when they are tried again.
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
    will: Will,
    owner: Box<str>,
    generation: u64,
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

    fn wait(&mut self, session: Topic, waiting: Waiting, until: Monotonic) {
        self.due.insert((until, session.clone()));
        self.waiting.insert(session, (until, waiting));
    }

    fn take(&mut self, session: &Topic) -> Option<Waiting> {
        let (session, (until, waiting)) = self.waiting.remove_entry(session)?;
        self.due.remove(&(until, session));
        Some(waiting)
    }
}

impl Hub {
    /// Writes the will of a session that is being opened; without one it removes what may be there. Says whether there
    /// is one.
    pub(crate) fn write_will(&mut self, slot: Slot) -> bool {
        let owner = self.name(slot);
        let Some(session) = self.session(slot.index) else { return false };
        let Some(topic) = system::will_topic(&session.topic) else { return false };
        let generation = session.generation;
        if let Some(will) = &session.will {
            let message = system::message(topic, &WillState::of(will, owner), true);
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

    /// A record on a will's topic has come out of the log: a session of which nothing else is kept is open.
    pub(crate) fn will_record(&mut self, message: &Message, now: Now) {
        let Some(session) = system::session_of_will(&message.topic) else { return };
        let Some(state) = system::read::<WillState>(message).filter(|_| message.retain) else { return };
        for index in self.of_session(&session) {
            let slot = self.slot_at(index);
            let is_own = self.name(slot) == state.owner;
            if is_own && self.session(index).is_some_and(|session| !session.is_durable()) {
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
    pub(crate) fn leave_will(&mut self, slot: Slot, now: Now) {
        let is_draining = self.wills.is_draining;
        let owner = self.name(slot);
        let Some(session) = self.session_mut(slot.index).filter(|s| s.is_held()) else { return };
        let Some(will) = session.will.take().filter(|_| !is_draining) else { return };
        let (topic, generation) = (session.topic.clone(), session.generation);
        let delay = will.delay.min(session.expiry);
        let waiting = Waiting { will: *will, owner, generation };
        if delay.is_zero() {
            self.fire(topic, waiting, now);
        } else if !matches!(session.stage, Stage::Lost) {
            self.wills.wait(topic, waiting, now.monotonic + delay);
        }
    }

    /// A session was claimed: who had it before has come back in time, or has thrown it away.
    pub(crate) fn returned(&mut self, session: &Topic, fresh: bool, now: Now) {
        if let Some(claimed) = &mut self.wills.claimed {
            claimed.insert(session.clone());
        }
        if let Some(waiting) = self.wills.take(session).filter(|_| fresh) {
            self.fire(session.clone(), waiting, now);
        }
    }

    /// Publishes the wills whose time has come.
    pub(crate) fn see_to_wills(&mut self, now: Now) {
        while let Some((_, session)) = self.wills.due.first().filter(|(at, _)| *at <= now.monotonic).cloned() {
            if let Some(waiting) = self.wills.take(&session) {
                self.fire(session, waiting, now);
            }
        }
        while let Some((_, number)) = self.wills.again.first().filter(|(at, _)| *at <= now.monotonic).copied() {
            self.wills.again.pop_first();
            self.publish_will(number, now);
        }
        if self.wills.reads_again.take_if(|at| *at <= now.monotonic).is_some() {
            let after = self.wills.reading.0.clone();
            self.read_wills(after);
        }
    }

    fn fire(&mut self, session: Topic, waiting: Waiting, now: Now) {
        self.wills.last = self.wills.last.wrapping_add(1);
        self.wills.fired.insert(self.wills.last, (session, waiting));
        self.publish_will(self.wills.last, now);
    }

    fn publish_will(&mut self, number: u32, now: Now) {
        let Some((_, waiting)) = self.wills.fired.get(&number) else { return };
        let Draft { message, durability } = waiting.will.draft.clone();
        let expires = waiting.will.ttl.map(|ttl| now.wall.after(ttl));
        let key = Some(format!("will of {}", waiting.owner).into());
        let draft = Draft { message: Message { expires, key, ..message }, durability };
        let ticket = Ticket { worker: self.setup.worker, slot: READER, ask: AskId(number) };
        self.appends.push(Append::new(ticket, draft));
    }

    /// What came of an append, if it was a will's.
    pub(crate) fn fired(&mut self, ticket: Ticket, result: &Result<Published, PublishError>, now: Now) -> bool {
        if ticket.slot != READER {
            return false;
        }
        let number = ticket.ask.0;
        if !matches!(result, Ok(_) | Err(PublishError::KeyConflict | PublishError::Closing)) {
            self.wills.again.insert((now.monotonic + RETRY, number));
            return true;
        }
        let fired = self.wills.fired.remove(&number);
        // When the node goes down the record stays, and its next life goes on.
        let done = fired.filter(|_| !matches!(result, Err(PublishError::Closing)));
        if let Some((session, waiting)) = done
            && let Some(topic) = system::will_topic(&session)
        {
            self.remove_will(topic, waiting.generation);
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
            ticket: Ticket { worker: self.setup.worker, slot: READER, ask: AskId(0) },
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
        if page.failed || page.upto < self.wills.reading.1 {
            self.wills.reads_again = Some(now.monotonic + RETRY);
            return true;
        }
        for message in page.records.iter().filter_map(|record| record.message()) {
            self.adopt_will(message, now);
        }
        match &page.next {
            Some(next) => self.read_wills(Some(next.clone())),
            None => self.wills.claimed = None,
        }
        true
    }

    fn adopt_will(&mut self, message: &Message, now: Now) {
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
        let Some(will) = state.will() else { return };
        let grace: Duration = self.setup.limits.will_grace;
        let until = now.monotonic + will.delay.max(grace);
        self.wills.wait(session, Waiting { will, owner: state.owner, generation: message.generation }, until);
    }
}
