//! Wills: messages that are published when a connection ends without a goodbye (MQTT-5.0 §3.1.2.5, RULES 16).
//!
//! * A will is a record before its connection is welcomed: `$wills/USER/ID`, with the generation of the session's
//!   owner.
//! * Memory holds only its owner, its offset and the time at which it is due. The message is read when the will fires.
//! * It waits for the shorter of its delay and the session's life. A claim of the session in the meantime ends the
//!   wait: the will is gone, or, if the session was thrown away, published at once. A will for which there is no room
//!   is published at once too.
//! * The publisher's right is judged when the will fires, by the rules that hold then.
//! * Publishing appends the message, under a key of its connection, and then removes the record; an append that the log
//!   refuses is tried again. So a crash in between publishes nothing twice within the keys' window.
//! * Wills that a former life of the node has left are published after a grace in which clients may come back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, Interest, Page, PublishError, Published, Read, ReadKind, Will};
use everywire_base::clock::Monotonic;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{AskId, Part, ReplyTo, Slot};
use everywire_base::identity::Identity;
use everywire_base::kept::Payer;
use everywire_base::limits::Limits;
use everywire_base::network::neighbourhood;
use everywire_base::notice::{Notice, Refused};
use everywire_base::publish;
use everywire_base::record::{Durability, Entry, Record, System};
use everywire_base::system::{self, WillState};
use everywire_base::topic::{Filter, Topic};

use super::Sessions;
use super::session::Session;
use crate::floor::due::Due;
use crate::floor::{Floor, RETRY};
use crate::ground::Ground;

/// The most wills that are read at once, when a node starts.
const PAGE: usize = 64;
/// The ask that reads the wills of a former life of the node; others are numbers of wills that fire.
const ADOPTION: AskId = AskId(0);
/// The prefix of the keys of wills. A client's key has no control characters, so that it is never one of these.
const KEY: &str = "\0will of ";

/// The will of a connection that is there.
#[derive(Debug)]
pub(super) struct LastWill {
    delay: Duration,
    /// The offset of its record; the beginning while that is on its way.
    at: Offset,
    /// The generation of its session's owner.
    pub(super) generation: u64,
}

/// The wills that wait, by the topics of their sessions.
#[derive(Debug, Default)]
pub(super) struct Wills {
    /// Each with the moment that it waits for.
    waiting: BTreeMap<Topic, (Monotonic, Waiting)>,
    due: Due<Topic>,
    /// The number of them for each sharer.
    shares: BTreeMap<Sharer, usize>,
    /// The wills on their way to the log: nobody takes them back.
    fired: BTreeMap<u32, (Topic, Waiting)>,
    /// The fired wills that could not be read or that the log has refused; and the reading of those of a former life.
    again: Due<AskId>,
    last: u32,
    /// Whether this worker looks for wills that others have left.
    adopts: bool,
    /// Sessions that were claimed while the wills of a former life are being read.
    claimed: Option<BTreeSet<Topic>>,
    /// The topic behind which reading goes on, and the offset that the store must have come to.
    reading: (Option<Topic>, Offset),
}

/// A will whose connection is gone.
#[derive(Clone, Debug)]
struct Waiting {
    /// The offset of its record.
    at: Offset,
    owner: Box<str>,
    generation: u64,
    who: Leaver,
    sharer: Sharer,
}

/// The client that leaves a will.
#[derive(Clone, Debug)]
enum Leaver {
    /// Somebody who was connected to this life of the node; `None` is anonymous.
    Known(Option<Arc<Identity>>),
    /// The identity that the record names.
    Recorded,
}

/// The owner of a share of the waiting wills: a user, or all who are at one address.
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
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.due.deadline().into_iter().chain(self.again.deadline()).min()
    }

    /// The number of wills that wait, or are on their way.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.fired.len()
    }

    fn has_room(&self, sharer: &Sharer, limits: &Limits) -> bool {
        let own = self.shares.get(sharer).copied().unwrap_or_default();
        self.waiting.len() < limits.wills && own < limits.wills_each
    }

    fn wait(&mut self, session: Topic, waiting: Waiting, until: Monotonic) {
        *self.shares.entry(waiting.sharer.clone()).or_default() += 1;
        self.due.add(until, session.clone());
        self.waiting.insert(session, (until, waiting));
    }

    fn take(&mut self, session: &Topic) -> Option<Waiting> {
        let (session, (until, waiting)) = self.waiting.remove_entry(session)?;
        self.due.remove(until, session);
        if let Some(own) = self.shares.get_mut(&waiting.sharer) {
            *own -= 1;
            if *own == 0 {
                self.shares.remove(&waiting.sharer);
            }
        }
        Some(waiting)
    }
}

impl Sessions {
    /// Takes a record on a will's topic that has come out of the log. It opens a session of which nothing else is kept.
    pub(super) fn will_record(&mut self, ground: &mut Ground<'_>, record: &Record, system: &System) {
        let Some(session) = system::session_of_will(&system.topic) else { return };
        let Some(state) = system::read::<WillState>(system).filter(|_| system.retain) else { return };
        for index in self.of_topic(&session) {
            let slot = ground.deliveries.slot_at(index);
            let is_own = ground.floor.name(slot) == state.owner;
            let Some(session) = self.session_mut(index).filter(|_| is_own) else { continue };
            if let Some(will) = session.will_mut() {
                will.at = record.offset;
            }
            if let Session::Opening(opening) = session
                && !opening.open.is_durable()
            {
                self.written(ground, slot, system.generation);
            }
        }
    }

    /// Removes the will of a client that has said goodbye.
    pub(super) fn void_will(&mut self, floor: &mut Floor, slot: Slot) {
        let Some(session) = self.session_mut(slot.index) else { return };
        let topic = system::will_topic(session.topic());
        if let (Some(will), Some(topic)) = (session.take_will(), topic) {
            remove_will(floor, topic, will.generation);
        }
    }

    /// Takes the will of a connection that is gone: it waits, or fires. If another has claimed its session, the client
    /// has come back, which ends the wait before it began.
    pub(super) fn leave_will(&mut self, ground: &mut Ground<'_>, slot: Slot, address: IpAddr) {
        let is_draining = ground.floor.is_draining;
        let (owner, who) = (ground.floor.name(slot), ground.floor.caller(slot.index).cloned());
        let sharer = Sharer::of(who.as_deref(), address);
        let Some(session) = self.session_mut(slot.index) else { return };
        let has_returned = matches!(session, Session::Lost(_));
        let Some(open) = session.held_mut() else { return };
        let Some(will) = open.take_will().filter(|_| !is_draining) else { return };
        let (topic, generation, delay) = (open.topic.clone(), will.generation, will.delay.min(open.expiry()));
        let waiting = Waiting { at: will.at, owner, generation, who: Leaver::Known(who), sharer };
        if delay.is_zero() {
            self.fire(ground, topic, waiting);
        } else if !has_returned && self.wills.has_room(&waiting.sharer, &ground.floor.setup.limits) {
            self.wills.wait(topic, waiting, ground.now.monotonic + delay);
        } else if !has_returned {
            self.fire(ground, topic, waiting);
        }
    }

    /// Ends the wait of a will whose session was claimed: its client has come back in time, or has thrown the session
    /// away.
    pub(super) fn returned(&mut self, ground: &mut Ground<'_>, session: &Topic, fresh: bool) {
        if let Some(claimed) = &mut self.wills.claimed {
            claimed.insert(session.clone());
        }
        if let Some(waiting) = self.wills.take(session).filter(|_| fresh) {
            self.fire(ground, session.clone(), waiting);
        }
    }

    /// Publishes the wills whose time has come.
    pub(super) fn see_to_wills(&mut self, ground: &mut Ground<'_>) {
        while let Some((_, session)) = self.wills.due.next(ground.now.monotonic) {
            if let Some(waiting) = self.wills.take(&session) {
                self.fire(ground, session, waiting);
            }
        }
        while let Some((_, ask)) = self.wills.again.next(ground.now.monotonic) {
            if ask == ADOPTION {
                let after = self.wills.reading.0.clone();
                self.read_wills(ground, after);
            } else {
                self.read_will(ground, ask.0);
            }
        }
    }

    fn fire(&mut self, ground: &mut Ground<'_>, session: Topic, waiting: Waiting) {
        self.wills.last = self.wills.last.wrapping_add(1).max(1);
        self.wills.fired.insert(self.wills.last, (session, waiting));
        self.read_will(ground, self.wills.last);
    }

    /// Asks the store for the message of a will that fires, by its place: its client may have left another since.
    fn read_will(&mut self, ground: &mut Ground<'_>, number: u32) {
        let Some((_, Waiting { at, .. })) = self.wills.fired.get(&number) else { return };
        let (applied, kind) = (*at, ReadKind::Records(Arc::new([*at])));
        let reply_to = ground.floor.to_part(Part::Wills, AskId(number));
        ground.floor.read(Read { reply_to, partition: Partition(0), interests: Arc::new([]), applied, kind });
    }

    /// Publishes a will that was read, if its publisher may publish it now.
    fn publish_will(&mut self, ground: &mut Ground<'_>, number: u32, page: &Page) {
        let Some((_, waiting)) = self.wills.fired.get(&number) else { return };
        if page.failed {
            self.wills.again.add(ground.now.monotonic + RETRY, AskId(number));
            return;
        }
        let is_its = |state: &WillState| state.owner == waiting.owner;
        let mut found = page.records.iter().filter_map(|record| system::read::<WillState>(record.system()?));
        let Some((state, will)) = found.find(is_its).and_then(|state| state.will().map(|will| (state, will))) else {
            return self.lose_will(ground, number, "its record is gone from the log");
        };
        let who = match &waiting.who {
            Leaver::Known(who) => who.clone(),
            Leaver::Recorded => state.identity().map(Arc::new),
        };
        let key = Some(format!("{KEY}{}", waiting.owner).into());
        match publish::check(will.message, who.as_deref(), &ground.floor.setup.rules, &ground.floor.setup.limits) {
            Ok(mut draft) => {
                if let Entry::Message(message) = &mut draft.entry {
                    message.expires = will.ttl.map(|ttl| ground.now.wall.after(ttl));
                    message.key = key;
                }
                let reply_to = ground.floor.to_part(Part::Wills, AskId(number));
                ground.floor.out.appends.push(Append::new(reply_to, draft));
            }
            Err(unfit) => self.lose_will(ground, number, &unfit.to_string()),
        }
    }

    /// Gives up a will that can't be published.
    fn lose_will(&mut self, ground: &mut Ground<'_>, number: u32, why: &str) {
        let Some((session, waiting)) = self.wills.fired.remove(&number) else { return };
        let whose = session.as_str().trim_start_matches(system::SESSIONS);
        ground.floor.out.notices.push((None, Notice::new(Refused::Will, why).of(whose)));
        forget_will(ground.floor, &session, waiting.generation);
    }

    /// Takes the result of an append; says whether it was a will's.
    pub(crate) fn fired(
        &mut self,
        ground: &mut Ground<'_>,
        reply_to: ReplyTo,
        result: &Result<Published, PublishError>,
    ) -> bool {
        let Some(AskId(number)) = reply_to.part(Part::Wills) else { return false };
        match result {
            Ok(_) | Err(PublishError::KeyConflict) => {
                if let Some((session, waiting)) = self.wills.fired.remove(&number) {
                    forget_will(ground.floor, &session, waiting.generation);
                }
            }
            // The record stays, and the node's next life goes on.
            Err(PublishError::Closing) => drop(self.wills.fired.remove(&number)),
            Err(_) => self.wills.again.add(ground.now.monotonic + RETRY, AskId(number)),
        }
        true
    }

    /// Reads the wills of lives that are over. One worker of a node does that, at its start and when another node's
    /// life ends. Where several nodes do, the key under which a will is published counts once.
    pub(crate) fn adopt_wills(&mut self, ground: &mut Ground<'_>) {
        self.wills.adopts = true;
        let all = Filter::parse(&format!("{}#", system::WILLS)).expect("a filter");
        if ground.floor.may_be_retained(&all) {
            self.wills.claimed = Some(BTreeSet::new());
            self.read_wills(ground, None);
        }
    }

    /// Looks for the wills of another node whose life is over, if this worker adopts wills.
    pub(super) fn gone(&mut self, ground: &mut Ground<'_>) {
        if self.wills.adopts {
            self.adopt_wills(ground);
        }
    }

    fn read_wills(&mut self, ground: &mut Ground<'_>, after: Option<Topic>) {
        self.wills.reading = (after.clone(), ground.deliveries.marks()[0]);
        let filter = Filter::parse(&format!("{}#", system::WILLS)).expect("a filter");
        let read = Read {
            reply_to: ground.floor.to_part(Part::Wills, ADOPTION),
            partition: Partition(0),
            interests: Arc::new([Interest { filter, since: Offset::BEGINNING }]),
            applied: ground.deliveries.marks()[0],
            kind: ReadKind::Retained { after, max_records: PAGE },
        };
        ground.floor.read(read);
    }

    /// Takes the store's answer, if it is about wills.
    pub(super) fn take_wills(&mut self, ground: &mut Ground<'_>, page: &Page) -> bool {
        let Some(ask) = page.reply_to.part(Part::Wills) else { return false };
        if ask != ADOPTION {
            self.publish_will(ground, ask.0, page);
            return true;
        }
        if page.failed || page.upto < self.wills.reading.1 {
            self.wills.again.add(ground.now.monotonic + RETRY, ADOPTION);
            return true;
        }
        for record in &page.records {
            self.adopt_will(ground, record);
        }
        match &page.next {
            Some(next) => self.read_wills(ground, Some(next.clone())),
            None => self.wills.claimed = None,
        }
        true
    }

    fn adopt_will(&mut self, ground: &mut Ground<'_>, record: &Record) {
        let Some(system) = record.system() else { return };
        let (Some(session), Some(state)) = (system::session_of_will(&system.topic), system::read::<WillState>(system))
        else {
            return;
        };
        let is_alive = ground.floor.lives(&state.owner);
        let has_returned = self.wills.claimed.as_ref().is_some_and(|claimed| claimed.contains(&session));
        if is_alive || has_returned || self.wills.waiting.contains_key(&session) {
            return;
        }
        let until =
            ground.now.monotonic + Duration::from_millis(state.delay_ms).max(ground.floor.setup.limits.will_grace);
        let (at, owner, generation) = (record.offset, state.owner, system.generation);
        self.wills.wait(
            session,
            Waiting { at, owner, generation, who: Leaver::Recorded, sharer: Sharer::Former },
            until,
        );
    }
}

fn remove_will(floor: &mut Floor, topic: Topic, generation: u64) {
    let nothing = System { generation, ..System::removal(topic) };
    floor.append_own(nothing, Durability::Fsync);
}

fn forget_will(floor: &mut Floor, session: &Topic, generation: u64) {
    if let Some(topic) = system::will_topic(session) {
        remove_will(floor, topic, generation);
    }
}

/// Writes the will of a session that is being opened; without one it removes a former will, if there may be one.
pub(super) fn write_will(
    ground: &mut Ground<'_>,
    slot: Slot,
    session: &Topic,
    will: Option<Box<Will>>,
    (generation, payer): (u64, Payer),
) -> Option<Box<LastWill>> {
    let topic = system::will_topic(session)?;
    if let Some(will) = will {
        let who = ground.floor.caller(slot.index).map(|who| &**who);
        let state = WillState::of(&will, ground.floor.name(slot), who);
        let state = System { generation, payer, ..system::record(topic, &state, true) };
        ground.floor.append_for(slot, state, Durability::Fsync);
        return Some(Box::new(LastWill { delay: will.delay, at: Offset::BEGINNING, generation }));
    }
    if ground.floor.may_be_retained(&Filter::Exact(topic.clone())) {
        remove_will(ground.floor, topic, generation);
    }
    None
}
