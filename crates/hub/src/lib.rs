//! The hub: everything that all wires mean alike: subscriptions, the delivery rule, sessions, groups, connected users.
//!
//! One hub per worker, which never sees wires, sockets, threads or clocks: it hands deliveries to a [`Deliver`]. This
//! file only wires its six owners. Each stands on the floor; four of them stand on delivery; none knows another, or
//! the hub. A message from one to another is an [`Event`].
//!
//! | module | what it owns |
//! | --- | --- |
//! | `floor` | the ground of all owners: setup, names, callers, the way out |
//! | `delivery` | subscriptions, marks, lagging readers, windows: the delivery rule |
//! | `sessions` | the state that outlives a connection: claims, exactly once, wills |
//! | `groups` | shared subscriptions |
//! | `registry` | the connections, kicks, descriptions |
//! | `presence` | presence as others see it, occupants of rooms, signals |
//! | `publishing` | clients' messages on their way to the log, judged again where that is needed |
//! | `ground` | the loan to the four for a call, and their way to follow the server's own records |

mod delivery;
mod floor;
mod ground;
mod groups;
mod presence;
mod publishing;
mod registry;
mod sessions;

use std::collections::VecDeque;
use std::sync::Arc;

use everywire_base::access::room_of;
use everywire_base::ask::{
    Ack, AckError, Answer, Append, Ask, Draft, DriverAsk, Goodbye, Login, LookBack, Outcome, Page, PublishError,
    Published, Read, Subscribe, Subscribed, Unsubscribe,
};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::cursor::{Offset, Position};
use everywire_base::id::{AskId, ReplyTo, Slot};
use everywire_base::notice::Notice;
use everywire_base::reason::Reason;
use everywire_base::record::Record;
use everywire_base::registry::{Fate, TraceQuestion};
use everywire_base::roster::{Change, Roster};
use everywire_base::rules::{Refusal, Rules};
use everywire_base::system;
use everywire_base::topic::{Filter, Topic};

use crate::delivery::{Deliveries, Pause, State, Turn};
use crate::floor::{Event, Floor};
use crate::ground::{Follower, Ground};
use crate::groups::Groups;
use crate::presence::Presence;
use crate::publishing::Publishing;
use crate::registry::Registry;
use crate::sessions::Sessions;

pub use crate::delivery::Traced;
pub use crate::floor::{Counters, Deliver, Origin, Random, Setup};
pub use crate::registry::Description;

/// One worker's hub.
pub struct Hub {
    floor: Floor,
    deliveries: Deliveries,
    owners: Owners,
}

/// The owners that stand on delivery.
#[derive(Default)]
struct Owners {
    sessions: Sessions,
    groups: Groups,
    registry: Registry,
    presence: Presence,
    publishing: Publishing,
}

impl Owners {
    /// The followers of the server's own records, in this order: sessions open before a group hears of them.
    fn followers(&mut self) -> [&mut dyn Follower; 4] {
        [&mut self.sessions, &mut self.groups, &mut self.registry, &mut self.presence]
    }
}

impl Hub {
    /// A hub whose mark is the head.
    pub fn new(setup: Setup) -> Self {
        let floor = Floor::new(setup);
        Self { deliveries: Deliveries::new(&floor), floor, owners: Owners::default() }
    }

    /// Does what a wire asks. The answer is among [`Hub::answers`], at once or later. An ask that isn't the hub's is
    /// left to the driver, and so is a message that is to be published.
    pub fn ask(&mut self, slot: Slot, ask: AskId, question: Ask, now: Now) -> Option<DriverAsk> {
        match question {
            Ask::PublishOnce(draft, number) => match self.publish_once(slot, ask, number, draft, now) {
                Some(draft) => return Some(DriverAsk::Publish(draft)),
                None => self.floor.say(slot, ask, Answer::KnownAlready),
            },
            Ask::Release(number) => self.release(slot, ask, number, now),
            Ask::Subscribe(subscribe) => self.subscribe_for(slot, ask, &subscribe, now),
            Ask::Unsubscribe(which) => self.unsubscribe_from(slot, ask, &which, now),
            Ask::LookBack(what) => self.look_back(slot, ask, what),
            Ask::Login(login) => self.login(slot, ask, login, now),
            Ask::Acknowledge(ack) => {
                if let Err(error) = self.acknowledge(slot, ask, &ack, now) {
                    self.floor.say(slot, ask, Answer::NotAcknowledged(error));
                }
            }
            Ask::Be(being) => {
                self.arrive(slot);
                let (mut ground, owners) = self.at(now);
                owners.presence.be(&mut ground, slot, ask, being);
            }
            Ask::Goodbye(goodbye) => self.goodbye(slot, goodbye),
            Ask::Publish(draft) => return Some(DriverAsk::Publish(draft)),
            Ask::Authenticate(asked) => return Some(DriverAsk::Authenticate(asked)),
            Ask::CameFrom(through) => return Some(DriverAsk::CameFrom(through)),
            Ask::Label(label) => return Some(DriverAsk::Label(label)),
            Ask::FoundNothing => return Some(DriverAsk::FoundNothing),
            Ask::Notice(notice) => return Some(DriverAsk::Notice(notice)),
            Ask::Call(call) => return Some(DriverAsk::Call(call)),
        }
        None
    }

    /// Enters a connection into the registry, or renews its identity. The answer is among [`Hub::answers`], at once or
    /// when its session is open.
    pub fn login(&mut self, slot: Slot, ask: AskId, mut login: Login, now: Now) {
        self.arrive(slot);
        let (mut ground, owners) = self.at(now);
        let admitted = Sessions::may_begin(ground.floor, &login);
        let was_in = match admitted.and_then(|()| owners.registry.enter(&mut ground, slot, &mut login)) {
            Ok(was_in) => was_in,
            Err(refusal) => return ground.floor.say(slot, ask, Answer::Welcomed(Err(refusal))),
        };
        let refused = if was_in { self.recheck(slot) } else { Vec::new() };
        let (mut ground, Owners { sessions, registry, presence, .. }) = self.at(now);
        presence.came(&mut ground, slot, registry.wire(slot.index));
        if !sessions.begin(&mut ground, slot, ask, &mut login) {
            if login.inbox {
                registry.subscribe_inboxes(&mut ground, slot);
            }
            sessions.welcome(ground.floor, (slot, ask), false, refused);
        }
        self.hand_on();
    }

    /// Subscribes a connection, as [`Hub::subscribe`] does. The answer is among [`Hub::answers`]; that of a session
    /// comes when the subscription is durable.
    pub fn subscribe_for(&mut self, slot: Slot, ask: AskId, subscribe: &Subscribe, now: Now) {
        self.arrive(slot);
        if !self.deliveries.wait_ahead(slot, ask, subscribe, &self.floor, now) {
            self.subscribe_now(slot, ask, subscribe, now);
        }
    }

    /// Subscribes a connection, even if its cursor is ahead of this node.
    fn subscribe_now(&mut self, slot: Slot, ask: AskId, subscribe: &Subscribe, now: Now) {
        let (mut ground, Owners { sessions, groups, presence, .. }) = self.at(now);
        let subscribe = &*presence.expand(&ground, slot, subscribe);
        if let Err(refusal) = sessions.may_add(ground.floor, slot.index) {
            return ground.refuse(slot, ask, subscribe, &refusal);
        }
        if subscribe.group.is_some() {
            groups.join(&mut ground, slot, ask, subscribe);
        } else {
            let subscribed = ground.subscribe(slot, subscribe);
            presence.subscribed(&mut ground, slot, &subscribe.filters);
            sessions.note_filters(&mut ground, slot, ask, &subscribe.filters, subscribed);
        }
        self.hand_on();
    }

    /// Subscribes a connection, in addition to its other subscriptions. A reader that has missed nothing is live at
    /// once, and costs no read. A filter that it holds already gets the new terms and, except for the latest, the new
    /// start.
    pub fn subscribe(&mut self, slot: Slot, subscribe: &Subscribe, now: Now) -> Subscribed {
        self.arrive(slot);
        self.at(now).0.subscribe(slot, subscribe)
    }

    /// Ends subscriptions of a connection.
    pub fn unsubscribe_from(&mut self, slot: Slot, ask: AskId, which: &Unsubscribe, now: Now) {
        if !self.deliveries.is_here(slot) {
            return;
        }
        if let Unsubscribe::All = which {
            let (mut ground, owners) = self.at(now);
            owners.groups.unsubscribe_all(&mut ground, slot);
            self.unsubscribe(slot);
        }
        let (mut ground, Owners { sessions, groups, presence, .. }) = self.at(now);
        match which {
            Unsubscribe::All => sessions.note_loss(&mut ground, slot),
            Unsubscribe::These(filters) => {
                let filters = presence.ended(&mut ground, slot, filters);
                for filter in &filters {
                    ground.leave_filter(slot, filter, None);
                }
                sessions.note_loss(&mut ground, slot);
            }
            Unsubscribe::One(filter, group) => {
                let was_there = if let Some(group) = group.as_deref() {
                    let was_joining = groups.unsubscribe(&mut ground, slot, filter, group);
                    ground.leave_filter(slot, filter, Some(group)) || was_joining
                } else {
                    let filters = presence.ended(&mut ground, slot, std::slice::from_ref(filter));
                    filters.iter().filter(|filter| ground.leave_filter(slot, filter, None)).count() > 0
                };
                sessions.say_durably(&mut ground, slot, ask, Answer::Unsubscribed(was_there));
            }
        }
    }

    /// Ends all subscriptions of a connection.
    pub fn unsubscribe(&mut self, slot: Slot) {
        if self.deliveries.is_here(slot) {
            let lives = self.owners.sessions.expiry(slot.index);
            let (mut ground, owners) = self.lend();
            owners.groups.leave_all(&mut ground, slot, lives);
            owners.presence.ended_all(&mut ground, slot);
            ground.deliveries.leave_all(slot.index, ground.floor);
        }
    }

    /// Reads a topic backwards for a connection. The answer is among [`Hub::answers`].
    pub fn look_back(&mut self, slot: Slot, ask: AskId, what: LookBack) {
        self.deliveries.look_back(slot, ask, what, &mut self.floor);
    }

    /// Takes an acknowledgement. A confirmation that must wait is among [`Hub::answers`] later.
    pub fn acknowledge(&mut self, slot: Slot, ask: AskId, ack: &Ack, now: Now) -> Result<(), AckError> {
        if !self.deliveries.is_here(slot) {
            return Err(AckError::NoSession);
        }
        let (mut ground, owners) = self.at(now);
        owners.sessions.acknowledge(&mut ground, slot, ask, ack)
    }

    /// Notes a message that its session wants to be published once; `None` if that was done already.
    pub fn publish_once(&mut self, slot: Slot, ask: AskId, number: u16, draft: Draft, now: Now) -> Option<Draft> {
        let (mut ground, owners) = self.at(now);
        owners.sessions.publish_once(&mut ground, (slot, ask), number, draft)
    }

    /// Takes a connection's message to the log: it is among [`Hub::appends`], at once or when its turn comes.
    pub fn publish(&mut self, append: Append) {
        self.owners.publishing.publish(&mut self.floor, append);
    }

    /// Takes the log's answer to a connection's message, published once or not. The connection's answer is among
    /// [`Hub::answers`], at once or when the message was judged again.
    pub fn published(&mut self, outcome: &Outcome, now: Now) {
        self.owners.publishing.answered(outcome, now);
        self.tell_publishers();
    }

    fn tell_publishers(&mut self) {
        while let Some((slot, ask, result)) = self.owners.publishing.next_answer() {
            if self.deliveries.is_here(slot) {
                self.owners.sessions.published(slot, ask, &result);
            }
            self.floor.say(slot, ask, Answer::Published(result));
        }
    }

    /// Releases a number. The answer comes when that is durable.
    pub fn release(&mut self, slot: Slot, ask: AskId, number: u16, now: Now) {
        let (mut ground, owners) = self.at(now);
        owners.sessions.release(&mut ground, slot, ask, number);
    }

    /// Takes the goodbye of a client; its connection will be closed.
    pub fn goodbye(&mut self, slot: Slot, goodbye: Goodbye) {
        if self.deliveries.is_here(slot) {
            self.owners.sessions.goodbye(&mut self.floor, slot, goodbye);
        }
    }

    /// Removes a connection that is gone. Its session, and the time when it was last seen, go to the log.
    pub fn close(&mut self, slot: Slot, origin: Origin, now: Now) {
        if !self.deliveries.is_here(slot) {
            return;
        }
        let lives = self.owners.sessions.expiry(slot.index);
        let (mut ground, Owners { sessions, groups, registry, presence, .. }) = self.at(now);
        presence.gone(&mut ground, slot);
        groups.leave_all(&mut ground, slot, lives);
        sessions.leave(&mut ground, slot, origin.address.ip());
        registry.leave(&mut ground, slot, origin);
        self.unsubscribe(slot);
        let (mut ground, owners) = self.lend();
        owners.groups.forget(&mut ground, slot);
    }

    /// Replaces the rules. Each connection that holds a filter which isn't granted any more loses it at once, and is
    /// ended in the next turn.
    pub fn set_rules(&mut self, rules: Arc<Rules>) {
        self.floor.setup.rules = rules;
        for index in self.deliveries.without_right(&self.floor) {
            let slot = self.deliveries.slot_at(index);
            // Its session keeps the filters that are still granted.
            self.recheck(slot);
            self.floor.end(slot, Reason::Forbidden);
        }
    }

    /// Notes that the node goes down: a client that is ended from now on may come back elsewhere, or after it.
    pub fn drain(&mut self) {
        self.floor.is_draining = true;
    }

    /// Sets the living nodes that share the log. Called right after the hub was made.
    pub fn set_roster(&mut self, roster: Roster) {
        self.floor.set_roster(roster);
    }

    /// Reads the wills that a former life of the node has left. One worker of a node does that, at its start.
    pub fn adopt_wills(&mut self) {
        let (mut ground, owners) = self.lend();
        owners.sessions.adopt_wills(&mut ground);
    }

    /// Fans out from the mark to the head, then catches up lagging connections, both under the budget. True if more
    /// waits; the hub goes on only when the answers were handed over.
    pub fn turn(&mut self, now: Now, to: &mut dyn Deliver) -> bool {
        let (mut ground, Owners { sessions, groups, presence, publishing, .. }) = self.at(now);
        sessions.turn(&mut ground);
        groups.turn(&mut ground);
        presence.turn(&mut ground);
        publishing.turn(ground.floor, now);
        self.tell_publishers();
        let whole = self.floor.setup.limits.deliveries_per_turn.max(1);
        let mut budget = self.deliveries.budget(whole);
        self.fan_out(&mut budget, now, to);
        self.let_in(now);
        let (mut ground, owners) = self.lend();
        owners.presence.tell(&mut ground, to);
        for (slot, reason) in std::mem::take(&mut self.floor.out.endings) {
            to.end(slot, reason);
        }
        if !self.floor.out.answers.is_empty() {
            return true;
        }
        // Lagging connections get a share even if there is always something new.
        let mut budget = budget.max(whole.div_ceil(4));
        let Self { floor, deliveries, owners, .. } = self;
        deliveries.catch_up(&mut budget, &mut Turn { floor, shares: &owners.groups, now, to });
        self.hand_on();
        self.deliveries.tidy(&self.floor.counters);
        self.deliveries.has_more(&self.floor)
    }

    /// The time at which [`Hub::turn`] is wanted though nothing else happens: a page that failed is asked for again, a
    /// session is due.
    pub fn deadline(&self) -> Option<Monotonic> {
        let Owners { sessions, groups, presence, publishing, .. } = &self.owners;
        let own = [sessions.deadline(), groups.deadline(), presence.deadline(), publishing.deadline()];
        own.into_iter().chain([self.deliveries.deadline()]).flatten().min()
    }

    /// Notes that a connection's outbox has room again after [`everywire_base::parcel::Taken::Full`].
    pub fn room(&mut self, slot: Slot) {
        self.deliveries.resume(slot, State::Full);
    }

    /// Takes the store's answer to a read.
    pub fn page(&mut self, page: &Page, now: Now, to: &mut dyn Deliver) {
        let (mut ground, Owners { sessions, groups, .. }) = self.at(now);
        let is_taken = ground.deliveries.take_past(page, ground.floor)
            || sessions.page(&mut ground, page)
            || groups.page(&mut ground, page);
        if !is_taken {
            let Self { floor, deliveries, owners, .. } = self;
            deliveries.take_page(page, &mut Turn { floor, shares: &owners.groups, now, to });
        }
        self.hand_on();
    }

    /// Takes the result of an append of the hub's own.
    pub fn appended(&mut self, reply_to: ReplyTo, result: &Result<Published, PublishError>, now: Now) {
        let (mut ground, Owners { sessions, groups, presence, .. }) = self.at(now);
        if !groups.appended(reply_to, result, now) && !presence.appended(reply_to, result, now) {
            sessions.appended(&mut ground, reply_to, result);
        }
    }

    /// Records for the log; the driver takes them. Published messages join them: a message that a session's record
    /// doesn't know of must lie above it (RULES 12).
    pub fn appends(&mut self) -> &mut Vec<Append> {
        &mut self.floor.out.appends
    }

    /// Answers for wires; the driver takes them.
    pub fn answers(&mut self) -> &mut VecDeque<(Slot, AskId, Answer)> {
        &mut self.floor.out.answers
    }

    /// Reads for the store that wait to be sent; the driver takes from the front as many as the pool accepts.
    pub fn reads(&mut self) -> &mut VecDeque<Read> {
        &mut self.floor.out.reads
    }

    /// Notices for operators, each with its connection if there is one; the driver takes them.
    pub fn notices(&mut self) -> &mut Vec<(Option<Slot>, Notice)> {
        &mut self.floor.out.notices
    }

    /// The marks, one for each partition: all records up to there are fanned out.
    pub fn marks(&self) -> &[Offset] {
        self.deliveries.marks()
    }

    /// The position of a connection.
    pub fn position(&self, slot: Slot) -> Position {
        self.deliveries.position(slot, &self.floor)
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        let (filters, wills) = (self.deliveries.different_filters(), self.owners.sessions.wills());
        Counters { filters, wills, ..self.floor.counters }
    }

    /// The number of connections on this worker that are subscribed to a topic.
    pub fn subscribers(&self, topic: &Topic) -> u64 {
        self.deliveries.subscribers(topic)
    }

    /// The description of a connection; that of an anonymous one without subscriptions holds nothing but its position.
    pub fn describe(&self, slot: Slot) -> Description {
        let known = self.owners.registry.describe(slot, &self.floor, &self.deliveries);
        if !self.deliveries.is_here(slot) {
            return known;
        }
        let session = self.owners.sessions.id(slot.index);
        let client = session.clone().filter(|_| self.deliveries.is_tagged(slot.index));
        Description { session, client, acknowledged: self.owners.sessions.acknowledged(slot.index), ..known }
    }

    /// The connections of a user.
    pub fn connections_of(&self, user: &str) -> Vec<Slot> {
        self.slots(self.owners.registry.of_user(user, &self.floor))
    }

    /// The connections that are subscribed to a topic, by place.
    pub fn connections_on(&self, topic: &Topic) -> Vec<Slot> {
        self.slots(self.deliveries.subscribed_to(topic))
    }

    /// The fate of a message for the connections that are subscribed to its topic now, at most as many as asked for. It
    /// is computed from their positions; only the time of writing is remembered, and not for long.
    pub fn trace(&self, question: &TraceQuestion) -> Vec<Traced> {
        let acknowledged = |traced: &Traced| match traced.fate {
            Fate::Acknowledged => self.owners.sessions.acknowledged(traced.slot.index),
            _ => None,
        };
        let all = self.deliveries.trace(question).into_iter();
        all.map(|traced| Traced { acknowledged: acknowledged(&traced), ..traced }).collect()
    }

    /// Fans out. It tells all followers of a record of the server's own before it goes on.
    fn fan_out(&mut self, budget: &mut usize, now: Now, to: &mut dyn Deliver) {
        loop {
            let Self { floor, deliveries, owners, .. } = self;
            let pause = deliveries.fan_out(budget, &mut Turn { floor, shares: &owners.groups, now, to });
            self.hand_on();
            match pause {
                Some(Pause::System(record)) => self.follow(&record),
                Some(Pause::Missed(records)) => records.iter().for_each(|record| self.follow(record)),
                None => return,
            }
        }
    }

    /// Subscribes the connections whose cursors aren't ahead of this node any more.
    fn let_in(&mut self, now: Now) {
        for ahead in self.deliveries.waited_ahead(&self.floor, now) {
            if !self.deliveries.is_here(ahead.slot) {
                continue;
            }
            if ahead.is_known {
                self.subscribe_now(ahead.slot, ahead.ask, &ahead.subscribe, now);
            } else {
                self.at(now).0.refuse(ahead.slot, ahead.ask, &ahead.subscribe, &Refusal::Behind);
            }
        }
    }

    /// Tells all followers of a record of the server's own.
    fn follow(&mut self, record: &Record) {
        let Some(system) = record.system() else { return };
        self.deliveries.record(&self.floor, record, system);
        let change = self.floor.follow(record, system);
        let (mut ground, owners) = self.lend();
        for follower in owners.followers() {
            if change != Change::None {
                follower.nodes(&mut ground, &change, record);
            }
            follower.record(&mut ground, record, system);
        }
        if let Some((user, room)) = system::membership_of(system.topic.as_str()) {
            self.look_after(&user, room);
        }
        self.hand_on();
    }

    /// Ends the subscriptions that a user's changed membership doesn't grant any more. A connection that reads nothing
    /// else is ended.
    fn look_after(&mut self, user: &str, room: &str) {
        for index in self.owners.registry.of_user(user, &self.floor) {
            let is_about = |filter: &Filter| room_of(filter.as_str()) == Some(room);
            let slot = self.deliveries.slot_at(index);
            let (mut ground, owners) = self.lend();
            owners.presence.came(&mut ground, slot, owners.registry.wire(index));
            owners.presence.recheck(&mut ground, slot, room);
            if !self.deliveries.filters(index).any(is_about) || self.recheck(slot).is_empty() {
                continue;
            }
            let (mut ground, owners) = self.lend();
            owners.sessions.note_loss(&mut ground, slot);
            if self.deliveries.held(index).is_empty() {
                self.floor.end(slot, Reason::Forbidden);
            }
        }
    }

    /// Hands on the events between owners.
    fn hand_on(&mut self) {
        while let Some(event) = self.floor.out.events.pop_front() {
            let (mut ground, Owners { sessions, groups, .. }) = self.lend();
            let ground = &mut ground;
            match event {
                Event::Save(slot) => sessions.write_tags(ground, slot),
                Event::Lost(slot, topic) => sessions.tell_of_loss(ground.floor, slot, &topic),
                Event::Subscribed(slot, ask, filters, subscribed) => {
                    sessions.note_filters(ground, slot, ask, &filters, subscribed);
                }
                Event::WentBack(slot) => sessions.note_loss(ground, slot),
                Event::Rejoin(slot, subscribe, past) => groups.rejoin(ground, slot, *subscribe, past),
                Event::Taken(topic, at) => groups.taken(ground, topic, at),
            }
        }
    }

    /// Ends the filters that a connection may not have any more, after its identity or the rules have changed.
    fn recheck(&mut self, slot: Slot) -> Vec<(Filter, Refusal)> {
        let refused = self.deliveries.refused(slot.index, &self.floor);
        let lives = self.owners.sessions.expiry(slot.index);
        let (mut ground, owners) = self.lend();
        for (filter, group, _) in &refused {
            if let Some(group) = group {
                owners.groups.lose(&mut ground, slot, (filter, group), lives);
            }
            ground.leave_filter(slot, filter, group.as_deref());
        }
        refused.into_iter().map(|(filter, _, refusal)| (filter, refusal)).collect()
    }

    /// Gives a connection its place, and takes it from an earlier one that was not closed.
    fn arrive(&mut self, slot: Slot) {
        if !self.deliveries.is_here(slot) {
            let former = self.deliveries.slot_at(slot.index);
            self.unsubscribe(former);
            self.owners.sessions.forget(former);
            self.owners.registry.forget(slot.index, &mut self.floor);
            self.owners.presence.forget(slot.index);
            self.deliveries.take_place(slot);
        }
    }

    fn slots(&self, indices: Vec<u32>) -> Vec<Slot> {
        indices.into_iter().map(|index| self.deliveries.slot_at(index)).collect()
    }

    /// The owners over delivery, and the ground that is lent to them.
    fn lend(&mut self) -> (Ground<'_>, &mut Owners) {
        let Self { floor, deliveries, owners, .. } = self;
        (Ground { now: floor.now, floor, deliveries }, owners)
    }

    /// The same, at this moment.
    fn at(&mut self, now: Now) -> (Ground<'_>, &mut Owners) {
        self.floor.now = now;
        self.lend()
    }
}
