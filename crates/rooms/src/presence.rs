//! The presence of users by their connections, and the occupants of rooms, as passing records of the log make them
//! (`$here/USER/CONNECTION`, `$in/ROOM/CONNECTION`). Both are empty after a start. Connections end with the life of
//! their node.
//!
//! A user who comes back within [`GRACE`] was never gone for others. So each [`Party`] keeps the state that others were
//! last told, and the record that changed it. A follower of the log tells the news of a record if it is that record. It
//! tells that a user is gone once the time is over and no later record has changed the party.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everywire_base::access::Role;
use everywire_base::ask::Voice;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::identity::decode;
use everywire_base::limits::RoomBounds;
use everywire_base::record::{Record, System};
use everywire_base::roster::{Life, Roster};
use everywire_base::system::{self, HERE, IN, Occupancy, Sight, Stay, two_levels};

use crate::map::Map;
use crate::names::folded;
use crate::room::Room;
use crate::table::{Table, set};

/// The time for which a user who is cut off counts as being there.
pub const GRACE: Duration = Duration::from_secs(30);
/// The most names of wires that are remembered.
const MOST_WIRES: usize = 32;
/// The time after which a user who has left is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(1);

/// The presence of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The user is there, and looks at a device.
    Here,
    /// The user is there, but looks at no device.
    Away,
    /// The user is not there.
    Left,
}

impl State {
    /// The word for it in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Here => "here",
            State::Away => "away",
            State::Left => "left",
        }
    }
}

/// The rights of a user in a room that they have entered.
pub fn voice(room: &Room, user: &str) -> Voice {
    match room.role(user) {
        role if role >= Role::Admin => Voice::Moderator,
        role if role >= room.head.talk.from() => Voice::Participant,
        _ => Voice::Visitor,
    }
}

/// The change that a record has made to a party.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// Nothing that others are told.
    None,
    /// The party has this state now.
    Is(State),
    /// The last connection was cut off: the user has left, unless they come back within [`GRACE`].
    MayHaveLeft,
}

/// A connection of a party.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Connection {
    is_away: bool,
    /// The name of its wire, of a user's connection.
    wire: Option<Arc<str>>,
}

/// The connections of a user, or of an occupant in a room.
#[derive(Clone, Debug)]
pub struct Party {
    connections: Map<Connection>,
    told: State,
    /// The last record that has changed what others are told, or may do so after [`GRACE`].
    changed: Offset,
    /// The time since which the told state holds.
    since: UnixMillis,
    /// The time at which the last connection was cut off, if others aren't told yet.
    cut: Option<UnixMillis>,
}

impl Party {
    fn new() -> Self {
        let (connections, told, changed) = (Map::default(), State::Left, Offset::BEGINNING);
        Self { connections, told, changed, since: UnixMillis(0), cut: None }
    }

    /// The state that others see.
    pub fn state(&self, now: UnixMillis) -> State {
        let is_over = self.cut.is_some_and(|cut| now >= cut.after(GRACE));
        if is_over { State::Left } else { self.told }
    }

    /// The time since which others see this state.
    pub fn since(&self, now: UnixMillis) -> UnixMillis {
        self.cut.filter(|_| self.state(now) == State::Left).unwrap_or(self.since)
    }

    /// Whether it has been gone for [`FORGOTTEN`].
    fn is_forgotten(&self, now: UnixMillis) -> bool {
        self.connections() == 0 && self.cut.unwrap_or(self.since).after(FORGOTTEN) <= now
    }

    /// The number of connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// The names of the wires over which the user is there, ascending.
    pub fn wires(&self) -> Vec<Arc<str>> {
        let mut all: Vec<Arc<str>> = self.connections.iter().filter_map(|(_, link)| link.wire.clone()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether this connection is one of them.
    pub fn has(&self, connection: &str) -> bool {
        self.connections.get(connection).is_some()
    }

    /// The change that the record at this offset has made.
    pub fn news(&self, at: Offset) -> News {
        match (self.changed == at, self.cut) {
            (false, _) => News::None,
            (true, Some(_)) => News::MayHaveLeft,
            (true, None) => News::Is(self.told),
        }
    }

    /// A connection comes, becomes away or active, or goes; `says_so` if it leaves rather than is cut off.
    fn put(&mut self, name: &str, link: Option<Connection>, says_so: bool, (at, now): (Offset, UnixMillis)) {
        let before = self.state(now);
        set(&mut self.connections, name, link);
        let any = |away: bool| self.connections.iter().any(|(_, link)| link.is_away == away);
        let state = if any(false) {
            State::Here
        } else if any(true) {
            State::Away
        } else {
            State::Left
        };
        if state == State::Left && !says_so && before != State::Left {
            (self.cut, self.changed) = (Some(now), at);
            return;
        }
        self.cut = None;
        if state != before {
            (self.changed, self.since) = (at, now);
        }
        self.told = state;
    }

    /// The party without the connections of a life that is over, if it had some.
    fn without(&self, life: &Life, place: (Offset, UnixMillis)) -> Option<Self> {
        let gone: Vec<Arc<str>> =
            self.connections.iter().filter(|(name, _)| life.names(name)).map(|(name, _)| Arc::clone(name)).collect();
        let mut after = self.clone();
        for name in &gone {
            after.put(name, None, false, place);
        }
        (!gone.is_empty()).then_some(after)
    }
}

/// The number of occupants beyond which a room is crowded ([`everywire_base::limits::RoomBounds::crowd`]).
#[derive(Clone, Copy, Debug)]
struct Crowd(usize);

impl Default for Crowd {
    fn default() -> Self {
        Self(RoomBounds::default().crowd)
    }
}

/// A user who has entered a room.
#[derive(Clone, Debug)]
pub struct Occupant {
    /// The user's connections in the room.
    pub party: Party,
    /// The user's nick in the room.
    pub nick: Box<str>,
}

/// The occupants of a room.
#[derive(Clone, Debug, Default)]
pub struct Occupants {
    users: Map<Arc<Occupant>>,
    /// The owner of each nick, which is folded as nicks are compared.
    nicks: Map<Arc<str>>,
    is_crowded: bool,
}

impl Occupants {
    /// The number of users.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is no user.
    pub fn is_empty(&self) -> bool {
        self.users.len() == 0
    }

    /// Whether there are too many for signals: then only admins hear of comings and goings.
    pub fn is_crowded(&self) -> bool {
        self.is_crowded
    }

    /// The occupant of this user.
    pub fn get(&self, user: &str) -> Option<&Arc<Occupant>> {
        self.users.get(user)
    }

    /// The occupants whose users' names come after this one, ascending.
    pub fn after<'a>(&'a self, user: Option<&'a str>) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Occupant>)> + 'a {
        self.users.after(user)
    }

    /// Whether another user has this nick here.
    pub fn is_taken(&self, nick: &str, user: &str, now: UnixMillis) -> bool {
        let owner = self.nicks.get(&folded(nick)).filter(|owner| &***owner != user);
        owner.and_then(|owner| self.users.get(owner)).is_some_and(|other| other.party.state(now) != State::Left)
    }

    fn put(&mut self, user: &str, occupant: Occupant, crowd: Crowd) {
        if let Some(before) = self.users.get(user).map(|before| folded(&before.nick))
            && self.nicks.get(&before).is_some_and(|owner| &**owner == user)
        {
            self.nicks.remove(&before);
        }
        self.nicks.insert(folded(&occupant.nick).into(), user.into());
        self.users.insert(user.into(), Arc::new(occupant));
        self.count(crowd);
    }

    fn remove(&mut self, user: &str, crowd: Crowd) {
        if let Some(before) = self.users.remove(user) {
            let nick = folded(&before.nick);
            if self.nicks.get(&nick).is_some_and(|owner| &**owner == user) {
                self.nicks.remove(&nick);
            }
        }
        self.count(crowd);
    }

    fn count(&mut self, Crowd(crowd): Crowd) {
        let people = self.users.len();
        // A crowded room stays so until it has clearly fewer.
        self.is_crowded = if self.is_crowded { people >= crowd / 5 * 4 } else { people > crowd };
    }
}

/// A user, or a user as the occupant of a room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whom {
    /// The user.
    pub user: Arc<str>,
    /// The room's level.
    pub room: Option<Arc<str>>,
}

impl Whom {
    fn user(user: &str) -> Self {
        Self { user: user.into(), room: None }
    }

    fn occupant(level: &str, user: &str) -> Self {
        Self { user: user.into(), room: Some(level.into()) }
    }
}

/// The state that only the feeding thread needs.
#[derive(Debug, Default)]
struct Fed {
    roster: Roster,
    /// The users to forget, each with the time at which they went.
    gone: VecDeque<(UnixMillis, Whom)>,
    /// The names of wires that were said, once each.
    wires: Vec<Arc<str>>,
}

impl Fed {
    /// The one copy of a wire's name. A node has few wires: names beyond [`MOST_WIRES`] are left out.
    fn wire(&mut self, name: &str) -> Option<Arc<str>> {
        let known = self.wires.iter().find(|known| &***known == name).cloned();
        if known.is_none() && self.wires.len() < MOST_WIRES {
            self.wires.push(name.into());
            return self.wires.last().cloned();
        }
        known
    }
}

/// The presence of users on all nodes.
#[derive(Default)]
pub(crate) struct Presence {
    users: Table<Arc<Party>>,
    rooms: Table<Arc<Occupants>>,
    crowd: Crowd,
    fed: Mutex<Fed>,
}

impl Presence {
    /// Nobody is there. Rooms with more occupants than this are crowded.
    pub(crate) fn with_crowd(crowd: usize) -> Self {
        Self { crowd: Crowd(crowd), ..Self::default() }
    }

    /// Sets the nodes that live at the position from which on records come.
    pub(crate) fn set_roster(&self, roster: Roster) {
        self.fed.lock().unwrap_or_else(PoisonError::into_inner).roster = roster;
    }

    /// The connections of a user who has some, or had some a moment ago.
    pub(crate) fn party(&self, user: &str) -> Option<Arc<Party>> {
        self.users.get(user)
    }

    /// The users who have entered a room.
    pub(crate) fn occupants(&self, level: &str) -> Option<Arc<Occupants>> {
        self.rooms.get(level)
    }

    /// The number of users who are there, and of rooms with occupants.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.users.len(), self.rooms.len())
    }

    /// The users and occupants whose last change is the record at this offset.
    pub(crate) fn changed_at(&self, at: Offset) -> Vec<Whom> {
        let users = self.users.all(|party| party.changed == at).into_iter();
        let mut all: Vec<Whom> = users.map(|(user, _)| Whom { user, room: None }).collect();
        let is_new = |occupant: &Arc<Occupant>| occupant.party.changed == at;
        for (level, room) in self.rooms.all(|_| true) {
            let fresh = room.users.iter().filter(|(_, occupant)| is_new(occupant));
            all.extend(fresh.map(|(user, _)| Whom { user: Arc::clone(user), room: Some(Arc::clone(&level)) }));
        }
        all
    }

    /// Removes the occupants of a room that has ended.
    pub(crate) fn end(&self, level: &str) {
        self.rooms.set(level, None);
    }

    /// Takes in a record, if it is about presence. `room` finds rooms. Gives the user who has lost the last connection.
    pub(crate) fn take(&self, record: &Record, room: impl Fn(&str) -> Option<Arc<Room>>) -> Option<Box<str>> {
        let system = record.system()?;
        let (name, place) = (system.topic.as_str(), (record.offset, record.time));
        let mut fed = self.fed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = None;
        if let Some((user, connection)) = two_levels(name, HERE) {
            left = self.see(&mut fed, &decode(user), connection, system, place);
        } else if let Some((level, connection)) = two_levels(name, IN) {
            if let (Some(room), Some(occupancy)) = (room(level), system::read::<Occupancy>(system)) {
                self.occupy(&mut fed, (level, &room), connection, &occupancy, place);
            }
        } else {
            let change = fed.roster.follow(record);
            if change.gone().is_empty() {
                return None;
            }
            for life in change.gone() {
                self.bury(&mut fed, life, place);
            }
        }
        self.forget(&mut fed, record.time);
        left
    }

    fn see(
        &self,
        fed: &mut Fed,
        user: &str,
        connection: &str,
        system: &System,
        place: (Offset, UnixMillis),
    ) -> Option<Box<str>> {
        let sight = system::read::<Sight>(system);
        let before = self.users.get(user);
        if before.is_none() && sight.is_none() {
            return None;
        }
        let mut party = before.map_or_else(Party::new, |before| Party::clone(&before));
        let link =
            sight.map(|sight| Connection { is_away: sight.away, wire: sight.wire.and_then(|name| fed.wire(&name)) });
        party.put(connection, link, false, place);
        let is_gone = party.connections() == 0;
        if is_gone {
            fed.gone.push_back((place.1, Whom::user(user)));
        }
        self.users.set(user, Some(Arc::new(party)));
        is_gone.then(|| user.into())
    }

    fn occupy(
        &self,
        fed: &mut Fed,
        (level, room): (&str, &Room),
        connection: &str,
        occupancy: &Occupancy,
        place: (Offset, UnixMillis),
    ) {
        let (user, stay) = (&*occupancy.user, occupancy.stay);
        let mut occupants = self.rooms.get(level).map_or_else(Occupants::default, |known| Occupants::clone(&known));
        let known = occupants.get(user).map(|known| Occupant::clone(known));
        let is_in = known.as_ref().is_some_and(|known| known.party.has(connection));
        let nick = &*occupancy.nick;
        match stay {
            Stay::In => {
                let is_banned = room.role(user) == Role::Banned;
                if is_banned || room.is_taken(nick, user) || occupants.is_taken(nick, user, place.1) {
                    return;
                }
            }
            Stay::Cut | Stay::Out if !is_in => return,
            Stay::Cut | Stay::Out => {}
        }
        let mut occupant = known.unwrap_or_else(|| Occupant { party: Party::new(), nick: nick.into() });
        // All connections of a user in the room share the nick.
        if stay == Stay::In && occupant.party.connections() == usize::from(is_in) {
            occupant.nick = nick.into();
        }
        occupant.party.put(connection, (stay == Stay::In).then(Connection::default), stay == Stay::Out, place);
        if occupant.party.connections() == 0 {
            fed.gone.push_back((place.1, Whom::occupant(level, user)));
        }
        occupants.put(user, occupant, self.crowd);
        self.rooms.set(level, Some(Arc::new(occupants)));
    }

    /// Cuts off the connections of a node's life that is over.
    fn bury(&self, fed: &mut Fed, life: &Life, place: (Offset, UnixMillis)) {
        for (user, party) in self.users.all(|_| true) {
            let Some(after) = party.without(life, place) else { continue };
            if after.connections() == 0 {
                fed.gone.push_back((place.1, Whom::user(&user)));
            }
            self.users.set(&user, Some(Arc::new(after)));
        }
        for (level, room) in self.rooms.all(|_| true) {
            let mut occupants = Occupants::clone(&room);
            for (user, occupant) in room.users.iter() {
                let Some(party) = occupant.party.without(life, place) else { continue };
                if party.connections() == 0 {
                    fed.gone.push_back((place.1, Whom::occupant(&level, user)));
                }
                occupants.put(user, Occupant { party, nick: occupant.nick.clone() }, self.crowd);
            }
            self.rooms.set(&level, Some(Arc::new(occupants)));
        }
    }

    /// Forgets the users who left a while ago.
    fn forget(&self, fed: &mut Fed, now: UnixMillis) {
        while let Some((_, gone)) = fed.gone.pop_front_if(|(at, _)| at.after(FORGOTTEN) <= now) {
            let Whom { user, room: Some(level) } = gone else {
                if self.users.get(&gone.user).is_some_and(|party| party.is_forgotten(now)) {
                    self.users.set(&gone.user, None);
                }
                continue;
            };
            let Some(room) = self.rooms.get(&level) else { continue };
            if !room.get(&user).is_some_and(|occupant| occupant.party.is_forgotten(now)) {
                continue;
            }
            let mut occupants = Occupants::clone(&room);
            occupants.remove(&user, self.crowd);
            let rest = (!occupants.is_empty()).then(|| Arc::new(occupants));
            self.rooms.set(&level, rest);
        }
    }
}
