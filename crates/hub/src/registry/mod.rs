//! The registry: the connected users. A member is a connection that has logged in; users are found by their name.
//!
//! It never delivers, and knows no session: the hub sees to the meaning of a login for sessions. It hears of kicks, and
//! of arrivals where one login ends the others, from the log, as every worker's registry does.

mod member;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::id::Slot;
use everywire_base::reason::Reason;
use everywire_base::record::{Record, System};
use everywire_base::roster::Change;
use everywire_base::rules::Logins;
use everywire_base::system::{self, Joined, Kick, Whom};
use everywire_base::topic::hash_name;
use hashbrown::HashTable;

use self::member::Member;
use crate::delivery::Deliveries;
use crate::floor::Floor;
use crate::floor::chunked::Chunked;
use crate::ground::{Follower, Ground};

/// The hub's description of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// The user at the other end; `None` is anonymous.
    pub user: Option<Box<str>>,
    /// The device of the user.
    pub device: Option<Box<str>>,
    /// The software at the other end.
    pub agent: Option<Box<str>>,
    /// Its session.
    pub session: Option<Box<str>>,
    /// The name that the client has chosen for its session, which is no secret.
    pub client: Option<Box<str>>,
    /// The cursor up to which it has everything.
    pub cursor: Cursor,
    /// The number of records by which it is behind the log.
    pub lag: u64,
    /// The number of deliveries that aren't acknowledged.
    pub outstanding: u64,
    /// The time of its last acknowledgement.
    pub acknowledged: Option<UnixMillis>,
    /// The number of filters that it holds.
    pub subscriptions: u64,
}

/// The connections to this worker that have logged in.
#[derive(Default)]
pub(crate) struct Registry {
    /// The members, by the connection's place. Members of which nothing is known share one value.
    members: Chunked<Option<Rc<Member>>>,
    nobody: Rc<Member>,
    /// Members by the hash of their user.
    users: HashTable<u32>,
}

impl Registry {
    /// The connections of a user.
    pub(crate) fn of_user(&self, user: &str, floor: &Floor) -> Vec<u32> {
        let all = self.users.iter_hash(hash_name(user)).copied();
        all.filter(|index| floor.user(*index) == Some(user)).collect()
    }

    /// The description of a connection, without its session; that of an anonymous one without subscriptions holds
    /// nothing but its position.
    pub(crate) fn describe(&self, slot: Slot, floor: &Floor, deliveries: &Deliveries) -> Description {
        let here = deliveries.is_here(slot);
        let who = floor.caller(slot.index).filter(|_| here);
        let positions = if here { deliveries.current(slot.index) } else { deliveries.marks().into() };
        let lag = positions.iter().zip(&floor.setup.tails).map(|(at, tail)| tail.head().0.saturating_sub(at.0)).sum();
        let window = deliveries.window(slot.index).filter(|_| here);
        Description {
            user: who.and_then(|who| who.user.clone()),
            device: who.and_then(|who| who.device.clone()),
            agent: self.member(slot.index).filter(|_| here).and_then(|member| member.agent.clone()),
            session: None,
            client: None,
            cursor: floor.cursor(&positions),
            lag,
            outstanding: window.map_or(0, |window| window.outstanding() as u64),
            acknowledged: None,
            subscriptions: if here { deliveries.held(slot.index).len() as u64 } else { 0 },
        }
    }

    fn kick(&self, ground: &mut Ground<'_>, Kick { whom, reason }: Kick) {
        let reason = Reason::Kicked(reason);
        match whom {
            Whom::Connection(name) => {
                if let Some(slot) = ground.floor.find(&name) {
                    ground.floor.end(slot, reason);
                }
            }
            Whom::User(user) => {
                for index in self.of_user(&user, ground.floor) {
                    ground.floor.end(ground.deliveries.slot_at(index), reason.clone());
                }
            }
            Whom::Device { user, device } => {
                for index in self.of_user(&user, ground.floor) {
                    if ground.floor.caller(index).and_then(|who| who.device.as_ref()) == Some(&device) {
                        ground.floor.end(ground.deliveries.slot_at(index), reason.clone());
                    }
                }
            }
        }
    }

    /// Takes the arrival of a login: if one login ends the others, the earlier ones end.
    fn joined(&mut self, ground: &mut Ground<'_>, joined: &Joined, at: Offset) {
        let logins = ground.floor.setup.rules.logins;
        if let Some(slot) = ground.floor.find(&joined.connection).filter(|slot| ground.deliveries.is_here(*slot))
            && let Some(member) = self.member_mut(slot.index)
        {
            member.joined = Some(at);
        }
        for index in self.of_user(&joined.user, ground.floor) {
            let Some(member) = self.member(index) else { continue };
            let device = ground.floor.caller(index).and_then(|who| who.device.as_ref());
            let is_meant = logins == Logins::OnePerUser || device == joined.device.as_ref();
            let is_older = member.joined.is_some_and(|came| came < at);
            if logins != Logins::All && is_meant && is_older {
                ground.floor.end(ground.deliveries.slot_at(index), Reason::TakenOver);
            }
        }
    }

    /// The wire of a user's connection; empty if it isn't known.
    pub(crate) fn wire(&self, index: u32) -> &'static str {
        self.member(index).map_or("", |member| member.wire)
    }

    fn member(&self, index: u32) -> Option<&Member> {
        self.members.get(index)?.as_deref()
    }

    fn member_mut(&mut self, index: u32) -> Option<&mut Member> {
        self.members.get_mut(index)?.as_mut().map(Rc::make_mut)
    }
}

impl Follower for Registry {
    /// It knows the connections of its own worker alone.
    fn nodes(&mut self, _: &mut Ground<'_>, _: &Change, _: &Record) {}

    fn record(&mut self, ground: &mut Ground<'_>, record: &Record, system: &System) {
        let topic = system.topic.as_str();
        if topic == system::KICK {
            let Some(kick) = system::read(system) else { return };
            self.kick(ground, kick);
        } else if topic.starts_with(system::JOINED) {
            let Some(joined) = system::read(system) else { return };
            self.joined(ground, &joined, record.offset);
        }
    }
}
