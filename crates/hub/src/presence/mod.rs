//! The presence of users as others see it: connections of users that have something to do with rooms, occupants of
//! rooms, and signals.
//!
//! No worker routes. A connection's statement becomes a passing record. Each worker's hub sees that record, and decides
//! from the rooms' state after it ([`everywire_rooms`]) which of its own connections are told. So one node and several
//! behave alike.
//!
//! | module | what it does |
//! | --- | --- |
//! | `ending` | rooms that don't last without occupants |
//! | `hears` | the connections that are told of a record |
//! | `mine` | `$conversations`: one subscription to a user's inbox and rooms |
//! | `said` | records about connections, until the log has taken them |
//! | `signals` | the signals of a turn |

mod ending;
mod hears;
mod mine;
mod said;
mod signals;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use everywire_base::access::room_of;
use everywire_base::ask::{Answer, Being, Entered, NotEntered, PublishError, Published};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::cursor::Offset;
use everywire_base::id::{AskId, ReplyTo, Slot};
use everywire_base::identity::Identity;
use everywire_base::record::{Record, System};
use everywire_base::roster::Change;
use everywire_base::rules::Refusal;
use everywire_base::system::{self, Occupancy, Sight, Stay};
use everywire_base::topic::{Filter, Topic};
use everywire_rooms::conversation::Conversation;
use everywire_rooms::decide::Asker;
use everywire_rooms::names::check_nick;
use everywire_rooms::presence::{GRACE, Whom, voice};
use everywire_rooms::typing::typing;
use everywire_rooms::{Room, Rooms};

use self::said::{OnTheWay, say, say_again};
use self::signals::Signals;
use crate::floor::{Deliver, Floor};
use crate::ground::{Follower, Ground};

/// The presence of this worker's connections.
#[derive(Default)]
pub(crate) struct Presence {
    /// Connections that others may know of, by their places.
    here: BTreeMap<u32, Shown>,
    /// Rooms that connections have entered.
    entered: BTreeMap<u32, Vec<Stays>>,
    /// Connections that are subscribed to `$conversations`.
    mine: BTreeSet<u32>,
    /// Users who may have left, in the order in which that becomes certain.
    departures: VecDeque<Departure>,
    said: OnTheWay,
    /// Rooms that end if nobody enters them, in the order of their time.
    ending: VecDeque<(Monotonic, Arc<str>)>,
    /// Whether the rooms that nobody has entered since the start were looked for.
    has_looked: bool,
    signals: Signals,
}

/// A connection that others may know of.
struct Shown {
    user: Box<str>,
    wire: &'static str,
    is_away: bool,
}

/// A room that a connection has entered.
struct Stays {
    room: Box<str>,
    nick: Box<str>,
    /// Whether the client has entered by itself: then an end of its subscription takes nothing back.
    is_asked: bool,
    /// One for each record of an entrance that has yet to come out of the log: the ask that it answers, if there is one.
    waiting: VecDeque<Option<AskId>>,
}

/// A user whose last connection was cut off.
struct Departure {
    at: Monotonic,
    /// The record that said so.
    record: Offset,
    who: Whom,
}

impl Presence {
    /// A connection has logged in over this wire, or its user has something to do with rooms now.
    pub(crate) fn came(&mut self, ground: &mut Ground<'_>, slot: Slot, wire: &'static str) {
        let known = self.here.get(&slot.index).map(|shown| &*shown.user);
        let user = ground.floor.user(slot.index);
        if known.is_some() && known != user {
            self.hide(ground, slot);
        }
        let Some(user) = ground.floor.user(slot.index).filter(|user| ground.floor.setup.rooms.knows(user)) else {
            return;
        };
        if self.here.contains_key(&slot.index) {
            return;
        }
        self.here.insert(slot.index, Shown { user: user.into(), wire, is_away: false });
        self.show(ground, slot);
    }

    /// A connection is gone.
    pub(crate) fn gone(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        self.mine.remove(&slot.index);
        for stays in self.entered.remove(&slot.index).unwrap_or_default() {
            say_stay(&mut self.said, ground, slot, &stays, Stay::Cut);
        }
        self.hide(ground, slot);
    }

    /// Forgets the earlier connection of a place, which was not closed. No record says that it is gone.
    pub(crate) fn forget(&mut self, index: u32) {
        self.here.remove(&index);
        self.entered.remove(&index);
        self.mine.remove(&index);
    }

    /// Carries out a connection's statement about its own presence.
    pub(crate) fn be(&mut self, ground: &mut Ground<'_>, slot: Slot, ask: AskId, being: Being) {
        match being {
            Being::Enter { room, nick } => {
                if let Err(why) = self.enter(ground, slot, Some(ask), (&room, nick.as_deref())) {
                    ground.floor.say(slot, ask, Answer::Entered(Err(why)));
                }
            }
            Being::Leave { room } => {
                self.leave(ground, slot, &room);
                ground.floor.say(slot, ask, Answer::Left);
            }
            Being::Typing(conversation) => {
                let Some(which) = Conversation::parse(&conversation) else { return };
                let Some(who) = ground.floor.caller(slot.index) else { return };
                let Floor { setup, now, .. } = &*ground.floor;
                // A client that may not talk gets no error, and neither does one that types too often.
                if let Ok(Some(system)) = typing(&setup.rooms, &setup.rules, who, &which, now.wall) {
                    ground.floor.append_passing(system);
                }
            }
            Being::Active(active) => {
                let Some(shown) = self.here.get_mut(&slot.index).filter(|shown| shown.is_away == active) else {
                    return;
                };
                shown.is_away = !active;
                self.show(ground, slot);
            }
        }
    }

    /// A connection wants to enter a room, by itself or by the rule of a topic that it subscribes to. It has entered
    /// once its record has come out of the log.
    fn enter(
        &mut self,
        ground: &mut Ground<'_>,
        slot: Slot,
        ask: Option<AskId>,
        (level, nick): (&str, Option<&str>),
    ) -> Result<(), NotEntered> {
        let Some(who) = ground.floor.caller(slot.index).cloned() else {
            return Err(NotEntered::Refused(Refusal::Unauthorized("entering a room".into())));
        };
        let nick = may_enter(ground.floor, &who, level, nick)?;
        let all = self.entered.entry(slot.index).or_default();
        let known = all.iter().position(|stays| &*stays.room == level);
        if known.is_none() && all.len() >= ground.floor.setup.limits.rooms.per_user {
            let why = "more rooms than one user may have (limits.rooms_per_user)";
            return Err(NotEntered::Refused(Refusal::TooMany(why.into())));
        }
        let known = known.map(|nth| all.remove(nth));
        let is_asked = ask.is_some() || known.as_ref().is_some_and(|stays| stays.is_asked);
        let mut waiting = known.map(|stays| stays.waiting).unwrap_or_default();
        waiting.push_back(ask);
        let stays = Stays { room: level.into(), nick, is_asked, waiting };
        say_stay(&mut self.said, ground, slot, &stays, Stay::In);
        all.push(stays);
        Ok(())
    }

    /// A connection leaves a room.
    fn leave(&mut self, ground: &mut Ground<'_>, slot: Slot, level: &str) {
        let Some(all) = self.entered.get_mut(&slot.index) else { return };
        let Some(at) = all.iter().position(|stays| &*stays.room == level) else { return };
        let stays = all.remove(at);
        if all.is_empty() {
            self.entered.remove(&slot.index);
        }
        say_stay(&mut self.said, ground, slot, &stays, Stay::Out);
    }

    /// A connection has subscribed to these. It enters those rooms whose rule says that subscribers are present.
    pub(crate) fn subscribed(&mut self, ground: &mut Ground<'_>, slot: Slot, filters: &[Filter]) {
        for topic in filters.iter().filter_map(exact) {
            let Some(level) = whole_room(topic) else { continue };
            let rules = &ground.floor.setup.rules;
            let is_in = |all: &Vec<Stays>| all.iter().any(|stays| &*stays.room == level);
            if rules.of(topic).presence && !self.entered.get(&slot.index).is_some_and(is_in) {
                // A connection that may not enter stays a subscriber.
                let _ = self.enter(ground, slot, None, (level, None));
            }
        }
    }

    /// A connection has unsubscribed from these. It leaves those rooms whose rule says that subscribers are present,
    /// unless it has entered them by itself too.
    fn unsubscribed(&mut self, ground: &mut Ground<'_>, slot: Slot, filters: &[Filter]) {
        for topic in filters.iter().filter_map(exact) {
            let Some(level) = whole_room(topic).filter(|_| ground.floor.setup.rules.of(topic).presence) else {
                continue;
            };
            let mut all = self.entered.get(&slot.index).into_iter().flatten();
            if !all.any(|stays| &*stays.room == level && stays.is_asked) {
                self.leave(ground, slot, level);
            }
        }
    }

    /// A user's membership has changed: this connection of theirs leaves the room if they may not read there any more.
    pub(crate) fn recheck(&mut self, ground: &mut Ground<'_>, slot: Slot, level: &str) {
        let Some(who) = ground.floor.caller(slot.index).cloned() else { return };
        if self.entered.contains_key(&slot.index) && may_read(ground.floor, &who, level).is_err() {
            self.leave(ground, slot, level);
        }
    }

    /// Takes the result of an append. Says whether the append was one of these.
    pub(crate) fn appended(&mut self, reply_to: ReplyTo, result: &Result<Published, PublishError>, now: Now) -> bool {
        self.said.appended(reply_to, result, now)
    }

    /// A node has joined, and knows none of this worker's connections: says that they are there.
    fn announce(&mut self, ground: &mut Ground<'_>) {
        let here: Vec<u32> = self.here.keys().copied().collect();
        for index in here {
            let slot = ground.deliveries.slot_at(index);
            self.show(ground, slot);
        }
        for (index, all) in &self.entered {
            let slot = ground.deliveries.slot_at(*index);
            for stays in all.iter().filter(|stays| stays.waiting.is_empty()) {
                say_stay(&mut self.said, ground, slot, stays, Stay::In);
            }
        }
    }

    /// The record at this offset says that nodes have gone: the users of their connections may have left.
    fn lives_ended(&mut self, ground: &mut Ground<'_>, at: Offset) {
        for who in ground.floor.setup.rooms.changed_at(at) {
            self.may_have_left(ground, at, who);
        }
    }

    /// Appends refused records again, ends rooms, and tells of users whose grace time is over.
    pub(crate) fn turn(&mut self, ground: &mut Ground<'_>) {
        say_again(&mut self.said, ground);
        self.end_rooms(ground);
        let now = ground.now.monotonic;
        while let Some(Departure { record, who, .. }) = self.departures.pop_front_if(|departure| departure.at <= now) {
            self.has_left(ground, record, &who);
        }
    }

    /// Delivers the signals of this turn.
    pub(crate) fn tell(&mut self, ground: &mut Ground<'_>, to: &mut dyn Deliver) {
        self.signals.deliver(ground, to);
    }

    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        let departure = self.departures.front().map(|departure| departure.at);
        let ending = self.ending.front().map(|(at, _)| *at);
        [departure, self.said.deadline(), ending].into_iter().flatten().min()
    }

    fn may_have_left(&mut self, ground: &mut Ground<'_>, record: Offset, who: Whom) {
        if self.departures.len() < ground.floor.setup.limits.rooms.departures {
            self.departures.push_back(Departure { at: ground.now.monotonic + GRACE, record, who });
        } else {
            ground.floor.counters.untold += 1;
        }
    }

    /// Says that a connection is there.
    fn show(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        let Some(Shown { user, wire, is_away }) = self.here.get(&slot.index) else { return };
        let Some(topic) = system::here_topic(user, &ground.floor.name(slot)) else { return };
        let device = ground.floor.caller(slot.index).and_then(|who| who.device.clone());
        let wire = Some(*wire).filter(|wire| !wire.is_empty()).map(Into::into);
        let sight = Sight { away: *is_away, device, wire };
        say(&mut self.said, ground, slot, (false, Box::default()), system::record(topic, &sight, false));
    }

    /// Says that a connection is gone.
    fn hide(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        let Some(shown) = self.here.remove(&slot.index) else { return };
        if let Some(topic) = system::here_topic(&shown.user, &ground.floor.name(slot)) {
            say(&mut self.said, ground, slot, (true, Box::default()), System::new(topic, "", false));
        }
    }

    /// A connection of this worker has entered, or could not.
    pub(super) fn has_entered(&mut self, ground: &mut Ground<'_>, level: &str, connection: &str, at: Offset) {
        let Some(slot) = ground.floor.find(connection).filter(|slot| ground.deliveries.is_here(*slot)) else { return };
        let Some(all) = self.entered.get_mut(&slot.index) else { return };
        let Some(nth) = all.iter().position(|stays| &*stays.room == level) else { return };
        let rooms = &ground.floor.setup.rooms;
        let user = ground.floor.user(slot.index).unwrap_or_default();
        let occupants = rooms.occupants(level);
        let occupant = occupants.as_ref().and_then(|all| all.get(user)).filter(|one| one.party.has(connection));
        let ask = all[nth].waiting.pop_front().flatten();
        let answer = match (occupant, rooms.room(level)) {
            (Some(occupant), Some(room)) => {
                let (cursor, voice) = (ground.floor.cursor(&[at]), voice(&room, user));
                Ok(Entered { nick: occupant.nick.clone(), voice, cursor, greet: room.head.greet })
            }
            (None, Some(_)) => Err(NotEntered::NickTaken),
            (_, None) => Err(NotEntered::NoRoom),
        };
        if answer.is_err() && all[nth].waiting.is_empty() {
            all.remove(nth);
        }
        if let Some(ask) = ask {
            ground.floor.say(slot, ask, Answer::Entered(answer));
        }
    }
}

impl Follower for Presence {
    fn nodes(&mut self, ground: &mut Ground<'_>, change: &Change, record: &Record) {
        if !change.gone().is_empty() {
            self.lives_ended(ground, record.offset);
        }
        if let Change::Came(..) = change {
            self.announce(ground);
        }
    }

    fn record(&mut self, ground: &mut Ground<'_>, record: &Record, system: &System) {
        self.hear(ground, record, system);
    }
}

fn exact(filter: &Filter) -> Option<&Topic> {
    match filter {
        Filter::Exact(topic) => Some(topic),
        Filter::Wild(_) => None,
    }
}

/// The level of a room whose own topic this is.
fn whole_room(topic: &Topic) -> Option<&str> {
    room_of(topic.as_str()).filter(|level| topic.as_str().len() == "room/".len() + level.len())
}

/// Says that a connection is in a room, is cut off, or leaves.
fn say_stay(said: &mut OnTheWay, ground: &mut Ground<'_>, slot: Slot, stays: &Stays, stay: Stay) {
    let Some(user) = ground.floor.user(slot.index).map(Box::from) else { return };
    let Some(topic) = system::occupancy_topic(&stays.room, &ground.floor.name(slot)) else { return };
    let occupancy = Occupancy { user, nick: stays.nick.clone(), stay };
    let guards = if stay == Stay::In { ending::claim(ground, &stays.room) } else { Box::default() };
    say(said, ground, slot, (stay != Stay::In, guards), system::record(topic, &occupancy, false));
}

/// The room, if it has a head and this identity may read there.
fn may_read(floor: &Floor, who: &Identity, level: &str) -> Result<Arc<Room>, NotEntered> {
    let rooms: &Rooms = &floor.setup.rooms;
    let asker = Asker { user: who.user.as_deref(), is_operator: who.admin, now: floor.now.wall };
    let room = rooms.room(level).filter(|room| asker.sees(room)).ok_or(NotEntered::NoRoom)?;
    let topic =
        Topic::parse(&format!("room/{level}")).map_err(|error| NotEntered::Malformed(error.to_string().into()))?;
    floor.grants(Some(who), &Filter::Exact(topic)).map_err(NotEntered::Refused)?;
    Ok(room)
}

/// The nick with which an identity enters a room, if it may.
fn may_enter(floor: &Floor, who: &Identity, level: &str, nick: Option<&str>) -> Result<Box<str>, NotEntered> {
    let room = may_read(floor, who, level)?;
    let Some(user) = who.user.as_deref() else {
        return Err(NotEntered::Refused(Refusal::Forbidden("users enter rooms".into())));
    };
    let nick = nick.map(Into::into).or_else(|| room.member(user).map(|member| member.nick));
    let name = room.name(user);
    let nick: Box<str> = nick.filter(|nick| **nick != *user).unwrap_or_else(|| name.clone());
    if nick != name {
        check_nick(&nick).map_err(|error| NotEntered::Malformed(error.to_string().into()))?;
    }
    let occupants = floor.setup.rooms.occupants(level);
    if room.is_taken(&nick, user) || occupants.is_some_and(|all| all.is_taken(&nick, user, floor.now.wall)) {
        return Err(NotEntered::NickTaken);
    }
    Ok(nick)
}
