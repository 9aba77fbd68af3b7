//! All rooms: by name, and by the users who have a membership.
//!
//! It is fed each record once, in the order of the log, by one thread ([`Rooms::take`]). The tables are split by
//! hashes, so that a change copies little; a reader keeps the values that it has found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use everywire_base::access::{Alias, Membership as Keeps, Role, Standing};
use everywire_base::ask::Guard;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::identity::{decode, encode};
use everywire_base::limits::RoomBounds;
use everywire_base::record::{Message, Record, System};
use everywire_base::roster::Roster;
use everywire_base::system::{self, OF, ROOMS, ReadMark};
use everywire_base::topic::hash_name;

use crate::conversation::{Conversation, Own, Settings};
use crate::ended::Ended;
use crate::map::Map;
use crate::presence::{Occupants, Party, Presence, State, Whom};
use crate::records::{Head, Join, Membership, founding};
use crate::room::Room;
use crate::table::{Table, set};
use crate::typing::Typed;

/// The state of a user.
#[derive(Clone, Debug, Default)]
struct User {
    /// The rooms in which it has a membership, a ban or an invitation.
    rooms: Map<()>,
    /// The users whom it has blocked.
    blocked: Map<()>,
    /// Its own state of conversations.
    conversations: Map<Own>,
    /// The time at which it was last there.
    seen: UnixMillis,
}

/// The number of rooms and memberships.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Rooms with a head.
    pub rooms: usize,
    /// Memberships, bans and invitations in all of them.
    pub memberships: usize,
    /// Users who are there, of those who have something to do with rooms.
    pub here: usize,
    /// Rooms that users have entered.
    pub occupied: usize,
}

/// All rooms. Clones of the pointer share them; one thread feeds them.
#[derive(Default)]
pub struct Rooms {
    by_name: Table<Arc<Room>>,
    by_user: Table<Arc<User>>,
    presence: Presence,
    typed: Typed,
    memberships: AtomicUsize,
    ended: Ended,
    /// The offset up to which all records are applied.
    as_of: AtomicU64,
}

impl Rooms {
    /// No rooms yet, with these bounds.
    pub fn with(bounds: &RoomBounds) -> Self {
        Self { presence: Presence::with_crowd(bounds.crowd), ..Self::default() }
    }

    /// Restores rooms from the retained records of `$room/#` and `$of/#`, which were read at the offset `as_of`.
    pub fn restore(&self, mut records: Vec<Arc<Record>>, as_of: Offset) {
        let heads = |record: &Arc<Record>| record.system().is_some_and(|s| s.topic.as_str().starts_with(ROOMS));
        records.sort_by_key(|record| (!heads(record), record.offset));
        for record in &records {
            self.apply(record);
        }
        self.as_of.fetch_max(as_of.0, Ordering::AcqRel);
    }

    /// Takes in the next record of the log, of any kind.
    pub fn take(&self, record: &Record) {
        self.ended.forget(record.time);
        self.apply(record);
        self.typed.take(record);
        if let Some(user) = self.presence.take(record, |level| self.room(level)) {
            self.last_seen(&user, record.time);
        }
        self.as_of.store(record.offset.0, Ordering::Release);
    }

    /// The offset up to which all records are applied.
    pub fn as_of(&self) -> Offset {
        Offset(self.as_of.load(Ordering::Acquire))
    }

    /// The number of rooms and memberships.
    pub fn counts(&self) -> Counts {
        let (here, occupied) = self.presence.counts();
        Counts { here, occupied, rooms: self.by_name.len(), memberships: self.memberships.load(Ordering::Relaxed) }
    }

    /// The room of this level, if it has a head.
    pub fn room(&self, level: &str) -> Option<Arc<Room>> {
        self.by_name.get(level)
    }

    /// The first rooms above `after` by name that `is_meant` takes, with their levels.
    pub fn list(
        &self,
        after: Option<&str>,
        limit: usize,
        is_meant: impl Fn(&str, &Room) -> bool,
    ) -> Vec<(Arc<str>, Arc<Room>)> {
        self.by_name.first(after, limit, |level, room| is_meant(level, room))
    }

    /// The rooms in which a user is a member, invited or banned, by their levels.
    pub fn of_user(&self, user: &str, after: Option<&str>) -> Vec<(Arc<str>, Arc<Room>)> {
        let Some(own) = self.by_user.get(user) else { return Vec::new() };
        let all = own.rooms.after(after).filter_map(|(level, ())| Some((Arc::clone(level), self.room(level)?)));
        all.collect()
    }

    /// The number of a user's rooms, blocks or conversations, whichever is the highest.
    pub fn count_of_user(&self, user: &str) -> usize {
        let count = |own: Arc<User>| own.rooms.len().max(own.blocked.len()).max(own.conversations.len());
        self.by_user.get(user).map_or(0, count)
    }

    /// Whether a user has blocked another.
    pub fn is_blocked(&self, by: &str, user: &str) -> bool {
        self.by_user.get(by).is_some_and(|own| own.blocked.get(user).is_some())
    }

    /// The users whom a user has blocked.
    pub fn blocked(&self, by: &str) -> Vec<Arc<str>> {
        let own = self.by_user.get(by).unwrap_or_default();
        own.blocked.iter().map(|(user, ())| Arc::clone(user)).collect()
    }

    /// A user's own state of a conversation.
    pub fn own(&self, user: &str, conversation: &Conversation) -> Own {
        let own = self.by_user.get(user);
        own.and_then(|own| own.conversations.get(&conversation.text()).copied()).unwrap_or_default()
    }

    /// The position in a room's topic up to which a member has read. `None` if nothing is read, and where there are too
    /// many to tell.
    pub fn mark_in(&self, level: &str, room: &Room, user: &str) -> Option<Offset> {
        let read = self.own(user, &Conversation::Room(level.into())).read;
        (read > room.founded && !self.is_crowded(level)).then_some(read)
    }

    /// The position in a user's inbox up to which the other of an exchange has read. `None` if nothing is read, and where
    /// one of the two has blocked the other.
    pub fn mark_of(&self, other: &str, user: &str) -> Option<Offset> {
        let read = self.own(other, &Conversation::With(user.into())).read;
        let is_told = read > Offset::BEGINNING && !self.is_blocked(user, other) && !self.is_blocked(other, user);
        // The user's copy lies right behind each message in the other's inbox.
        is_told.then(|| Offset(read.0 + 1).min(self.as_of()))
    }

    /// The room that the record at this offset has ended, as it was; for a moment.
    pub fn ended_at(&self, at: Offset) -> Option<Arc<Room>> {
        self.ended.at(at)
    }

    /// Sets the nodes that share the log and live at the position from which on records come.
    pub fn set_roster(&self, roster: Roster) {
        self.presence.set_roster(roster);
    }

    /// The times at which users typed last.
    pub(crate) fn typed(&self) -> &Typed {
        &self.typed
    }

    /// Whether a user has anything to do with rooms or with others.
    pub fn knows(&self, user: &str) -> bool {
        self.by_user.get(user).is_some()
    }

    /// The connections of a user who has some, or had some a moment ago.
    pub fn party(&self, user: &str) -> Option<Arc<Party>> {
        self.presence.party(user)
    }

    /// The presence of a user, and the time since which it holds; 0 if that isn't known.
    pub fn presence_of(&self, user: &str, now: UnixMillis) -> (State, UnixMillis) {
        let seen = || self.by_user.get(user).map_or(UnixMillis(0), |own| own.seen);
        self.party(user).map_or_else(|| (State::Left, seen()), |party| (party.state(now), party.since(now)))
    }

    /// The users who have entered a room.
    pub fn occupants(&self, level: &str) -> Option<Arc<Occupants>> {
        self.presence.occupants(level)
    }

    /// Whether a room is crowded: then only admins hear of comings and goings.
    pub fn is_crowded(&self, level: &str) -> bool {
        self.occupants(level).is_some_and(|occupants| occupants.is_crowded())
    }

    /// The users and occupants whose last change is the record at this offset.
    pub fn changed_at(&self, at: Offset) -> Vec<Whom> {
        self.presence.changed_at(at)
    }

    /// Whether a viewer may know a user's presence: both are members of a room that shows them, or the user has an own
    /// side of an exchange with the viewer; and neither has blocked the other.
    pub fn may_know(&self, viewer: &str, user: &str) -> bool {
        if viewer == user {
            return true;
        }
        let (Some(own), Some(theirs)) = (self.by_user.get(viewer), self.by_user.get(user)) else { return false };
        if own.blocked.get(user).is_some() || theirs.blocked.get(viewer).is_some() {
            return false;
        }
        let shows = |level: &str| {
            let room = self.room(level);
            room.is_some_and(|room| !room.head.hides() && room.role(viewer).is_member() && room.role(user).is_member())
        };
        let with = Conversation::With(viewer.into()).text();
        theirs.conversations.get(&with).is_some()
            || theirs.rooms.iter().any(|(level, ())| own.rooms.get(level).is_some() && shows(level))
    }

    /// The users with whom a user has an own side of an exchange.
    pub fn partners(&self, user: &str) -> Vec<Box<str>> {
        let own = self.by_user.get(user).unwrap_or_default();
        let partner = |text: &str| match Conversation::parse(text) {
            Some(Conversation::With(other)) => Some(other),
            _ => None,
        };
        own.conversations.iter().filter_map(|(text, _)| partner(text)).collect()
    }

    /// A message of a user about a room: it names the user as the room's others see them.
    pub fn signed(&self, mut message: Message, level: &str, user: Option<&str>) -> Message {
        message.from = user.map(Into::into);
        if let Some((user, alias)) = user.and_then(|user| Some((user, self.alias(level, user)?))) {
            alias.hide(user, &mut message);
        }
        message
    }

    fn last_seen(&self, user: &str, at: UnixMillis) {
        if self.knows(user) {
            self.change_user(user, |own| own.seen = at);
        }
    }

    fn apply(&self, record: &Record) {
        let Some(system) = record.system().filter(|system| system.retain) else { return };
        let name = system.topic.as_str();
        if let Some(level) = name.strip_prefix(ROOMS) {
            self.apply_head(level, system, (record.offset, record.time));
        } else if let Some((user, about)) = about(name) {
            match about {
                About::Room(level) => self.apply_membership(&user, level, system, record.offset),
                About::Blocked(other) => self.change_user(&user, |own| {
                    let is_there = !system.body.is_empty();
                    set(&mut own.blocked, &decode(other), is_there.then_some(()));
                }),
                About::Read(conversation) => {
                    let mark = system::read::<ReadMark>(system).map_or(0, |mark| mark.offset).min(record.offset.0);
                    self.change_own(&user, conversation, |own| own.read = own.read.max(Offset(mark)));
                }
                About::Settings(conversation) => {
                    let settings = system::read::<Settings>(system).unwrap_or_default();
                    self.change_own(&user, conversation, |own| own.settings = settings);
                }
            }
        }
    }

    fn change_own(&self, user: &str, conversation: &str, change: impl FnOnce(&mut Own)) {
        self.change_user(user, |known| {
            let mut own = known.conversations.get(conversation).copied().unwrap_or_default();
            change(&mut own);
            set(&mut known.conversations, conversation, (own != Own::default()).then_some(own));
        });
    }

    fn change_user(&self, user: &str, change: impl FnOnce(&mut User)) {
        let mut own = User::clone(&self.by_user.get(user).unwrap_or_default());
        change(&mut own);
        let is_known = own.rooms.len() + own.blocked.len() + own.conversations.len() > 0;
        self.by_user.set(user, is_known.then(|| Arc::new(own)));
    }

    fn apply_head(&self, level: &str, system: &System, place: (Offset, UnixMillis)) {
        if level.contains('/') {
            return;
        }
        let (before, at) = (self.room(level), place.0);
        let Some(mut head) = system::read::<Head>(system) else {
            self.forget(level, before.as_ref(), place);
            return self.by_name.set(level, None);
        };
        let founded = Offset(founding(head.founded, at, true));
        head.founded = founded.0;
        let room = match before {
            Some(before) if before.founded == founded => before.with(head),
            before => {
                self.forget(level, before.as_ref(), place);
                Room::new(head, founded)
            }
        };
        self.by_name.set(level, Some(Arc::new(room)));
    }

    /// Forgets the memberships and occupants of a room that has ended.
    fn forget(&self, level: &str, room: Option<&Arc<Room>>, place: (Offset, UnixMillis)) {
        self.presence.end(level);
        let Some(room) = room else { return };
        self.ended.put(room, place);
        for user in room.users() {
            self.note(user, level, false);
        }
        self.memberships.fetch_sub(room.people(), Ordering::Relaxed);
    }

    fn apply_membership(&self, user: &str, level: &str, system: &System, at: Offset) {
        let Some(room) = self.room(level) else { return };
        let membership = system::read::<Membership>(system);
        // A membership in an earlier room of the name doesn't count in this one.
        let membership = membership.map(|m| Membership { founded: founding(m.founded, at, false), ..m });
        let membership = membership.filter(|m| m.founded == room.founded.0 && m.role != Role::None);
        let (mut after, before) = (Room::clone(&room), room.people());
        let is_there = membership.is_some();
        after.set(&user.into(), membership);
        match after.people().cmp(&before) {
            std::cmp::Ordering::Greater => drop(self.memberships.fetch_add(1, Ordering::Relaxed)),
            std::cmp::Ordering::Less => drop(self.memberships.fetch_sub(1, Ordering::Relaxed)),
            std::cmp::Ordering::Equal => {}
        }
        self.by_name.set(level, Some(Arc::new(after)));
        self.note(user, level, is_there);
    }

    /// Notes that a user has a membership in a room, or none any more.
    fn note(&self, user: &str, level: &str, is_there: bool) {
        let before = self.by_user.get(user).is_some_and(|own| own.rooms.get(level).is_some());
        if before != is_there {
            self.change_user(user, |own| set(&mut own.rooms, level, is_there.then_some(())));
        }
    }
}

impl Keeps for Rooms {
    fn standing(&self, level: &str, user: Option<&str>) -> Option<Standing> {
        let room = self.room(level)?;
        Some(Standing {
            role: user.map_or(Role::None, |user| room.role(user)),
            is_open: room.head.join == Join::Open,
            talks_from: room.head.talk.from(),
        })
    }

    fn guards(&self, level: &str, user: Option<&str>) -> [Guard; 2] {
        let as_of = self.as_of();
        let head = hash_name(&format!("{ROOMS}{level}"));
        let own = user.map_or(head, |user| hash_name(&format!("{OF}{}/room/{level}", encode(user))));
        [head, own].map(|topic| Guard { topic, as_of, claims: false })
    }

    fn alias(&self, level: &str, user: &str) -> Option<Alias> {
        let room = self.room(level)?;
        let name = room.alias(user)?;
        let chosen = room.membership(user).and_then(|own| own.nick.clone());
        let nick = chosen.or_else(|| Some(self.occupants(level)?.get(user)?.nick.clone()));
        Some(Alias { nick: nick.filter(|nick| *nick != name), name })
    }

    fn blocked(&self, inbox: &str, user: &str) -> (bool, Guard) {
        let as_of = self.as_of();
        let topic = hash_name(&format!("{OF}{inbox}/blocked/{}", encode(user)));
        (self.is_blocked(&decode(inbox), user), Guard { topic, as_of, claims: false })
    }
}

/// The part of a user's state that a topic is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum About<'a> {
    /// A membership in the room of this level.
    Room(&'a str),
    /// A block of the user of this level.
    Blocked(&'a str),
    /// The read mark of this conversation.
    Read(&'a str),
    /// The settings of this conversation.
    Settings(&'a str),
}

/// The user, and the part of its state that a topic is about.
fn about(name: &str) -> Option<(String, About<'_>)> {
    let (user, rest) = name.strip_prefix(OF)?.split_once('/')?;
    let (kind, rest) = rest.split_once('/')?;
    let about = match kind {
        "room" if !rest.contains('/') => About::Room(rest),
        "blocked" if !rest.contains('/') => About::Blocked(rest),
        "read" => About::Read(rest),
        "conversation" => About::Settings(rest),
        _ => return None,
    };
    Some((decode(user), about))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_say_whom_and_what_they_are_about() {
        let cases = [
            ("$of/a%2Fb/room/r", About::Room("r")),
            ("$of/a%2Fb/blocked/eve", About::Blocked("eve")),
            ("$of/a%2Fb/read/room/r", About::Read("room/r")),
            ("$of/a%2Fb/conversation/user/eve", About::Settings("user/eve")),
        ];
        for (name, expected) in cases {
            assert_eq!(about(name), Some(("a/b".to_owned(), expected)));
        }
        for other in ["$of/ann/room/r/s", "$room/r", "$of/ann", "$of/ann/other/x", "user/ann"] {
            assert_eq!(about(other), None, "{other}");
        }
    }
}
