//! Random users do random operations on rooms, some of them judged by an older state, against a plain model; and a new
//! reading of the log gives the same rooms.
//!
//! Mutations that it finds: a draft without its guard of the head (two owners demote each other), a nick that isn't
//! claimed, a membership that survives its room, an owner whom the head doesn't name.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

mod log;

use std::collections::{BTreeMap, BTreeSet};

use everywire_base::access::{Membership as _, Role};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::limits::Limits;
use everywire_rooms::decide::{self, Asker, Refused, Wish};
use everywire_rooms::{Join, Rooms};
use proptest::prelude::*;

use self::log::Log;

const USERS: [&str; 5] = ["ann", "Bob", "cid", "dan", "a/b"];
const ROOMS: [&str; 2] = ["lobby", "den"];
const NICKS: [&str; 4] = ["King", "KING", "ann", "x"];

/// An operation of a user, with its target.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Found { closed: bool },
    End,
    Join { nick: Option<usize> },
    Leave,
    Invite { whom: usize },
    Give { whom: usize, role: Role },
}

fn deed() -> impl Strategy<Value = Deed> {
    let user = 0..USERS.len();
    let role = prop::sample::select(vec![Role::Banned, Role::None, Role::Member, Role::Admin, Role::Owner]);
    prop_oneof![
        1 => any::<bool>().prop_map(|closed| Deed::Found { closed }),
        1 => Just(Deed::End),
        6 => proptest::option::of(0..NICKS.len()).prop_map(|nick| Deed::Join { nick }),
        2 => Just(Deed::Leave),
        2 => user.clone().prop_map(|whom| Deed::Invite { whom }),
        8 => (user, role).prop_map(|(whom, role)| Deed::Give { whom, role }),
    ]
}

/// A room in a plain form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plain {
    closed: bool,
    roles: BTreeMap<String, Role>,
    nicks: BTreeMap<String, String>,
}

impl Plain {
    fn role(&self, user: &str) -> Role {
        self.roles.get(user).copied().unwrap_or_default()
    }

    fn owners(&self) -> usize {
        self.roles.values().filter(|role| **role == Role::Owner).count()
    }

    fn is_taken(&self, nick: &str, user: &str) -> bool {
        let nick = nick.to_lowercase();
        let is_other = |other: &&String| other.as_str() != user;
        let mut members = self.roles.iter().filter(|(_, role)| role.is_member()).map(|(user, _)| user);
        members.clone().filter(is_other).any(|other| other.to_lowercase() == nick)
            || members.any(|other| other != user && self.nicks.get(other).is_some_and(|n| n.to_lowercase() == nick))
    }

    fn set(&mut self, user: &str, role: Role) -> bool {
        if self.role(user) == Role::Owner && role != Role::Owner && self.owners() == 1 {
            return false;
        }
        if !role.is_member() {
            self.nicks.remove(user);
        }
        if role == Role::None {
            self.roles.remove(user);
        } else {
            self.roles.insert(user.into(), role);
        }
        true
    }

    /// Does a deed; returns whether it is allowed. Rooms here are listed, so that all users see them.
    fn does(&mut self, user: &str, deed: Deed) -> bool {
        let own = self.role(user);
        match deed {
            Deed::Found { .. } => false,
            Deed::End => own == Role::Owner,
            Deed::Join { nick } => {
                let nick = nick.map(|nick| NICKS[nick]).filter(|nick| *nick != user);
                let may = own >= Role::Invited || (own == Role::None && !self.closed);
                let kept = self.nicks.get(user).cloned();
                let wanted = nick.map(str::to_owned).or(kept.clone());
                let is_new = !own.is_member() || (nick.is_some() && wanted != kept);
                if !may || (is_new && wanted.as_deref().is_some_and(|nick| self.is_taken(nick, user))) {
                    return false;
                }
                self.roles.insert(user.into(), own.max(Role::Member));
                self.nicks.extend(wanted.map(|nick| (user.to_owned(), nick)));
                true
            }
            Deed::Leave => own == Role::Banned || self.set(user, Role::None),
            Deed::Invite { whom } => {
                let whom = USERS[whom];
                let may = own.is_member() && self.role(whom) > Role::Banned;
                if may && self.role(whom) == Role::None {
                    self.roles.insert(whom.into(), Role::Invited);
                }
                may
            }
            Deed::Give { whom, role } => {
                let now = self.role(USERS[whom]);
                let may = own == Role::Owner || (own == Role::Admin && now < Role::Admin && role < Role::Admin);
                if !may || (now == Role::None && role == Role::None) {
                    return false;
                }
                now == role || self.set(USERS[whom], role)
            }
        }
    }
}

fn decide(rooms: &Rooms, user: &str, room: &str, deed: Deed) -> decide::Decision {
    let (asker, limits) = (Asker { user: Some(user), is_operator: false, now: UnixMillis(7) }, Limits::default());
    match deed {
        Deed::Found { closed } => {
            let join = if closed { Join::Members } else { Join::Open };
            let wish = Wish { join: Some(join), ..Wish::default() };
            decide::found(rooms, asker, room, &wish, false, &limits).map(Some)
        }
        Deed::End => decide::end(rooms, asker, room),
        Deed::Join { nick } => decide::join(rooms, asker, room, nick.map(|nick| NICKS[nick]), None, &limits),
        Deed::Leave => decide::leave(rooms, asker, room),
        Deed::Invite { whom } => decide::invite(rooms, asker, room, USERS[whom], &limits),
        Deed::Give { whom, role } => decide::give_role(rooms, asker, room, USERS[whom], role, &limits),
    }
}

/// Does a deed as a node whose rooms may be behind. Returns whether it was done.
fn run(log: &mut Log, rooms: &Rooms, user: &str, room: &str, deed: Deed) -> Result<bool, Refused> {
    loop {
        // Rooms that are behind may refuse a deed that is allowed by now: it is judged again by the present ones.
        let decision = decide(rooms, user, room, deed);
        match decision {
            Ok(Some(draft)) if log.append(&draft) => {
                log.feed(rooms);
                return Ok(true);
            }
            Ok(None) if rooms.as_of().0 as usize == log.records.len() => return Ok(true),
            Err(why) if rooms.as_of().0 as usize == log.records.len() => return Err(why),
            _ => log.feed(rooms),
        }
    }
}

fn check(rooms: &Rooms, plain: &BTreeMap<&str, Plain>) -> Result<(), TestCaseError> {
    for name in ROOMS {
        let (room, plain) = (rooms.room(name), plain.get(name));
        prop_assert_eq!(room.is_some(), plain.is_some(), "{}", name);
        let (Some(room), Some(plain)) = (room, plain) else { continue };
        for user in USERS {
            prop_assert_eq!(room.role(user), plain.role(user), "{} in {}", user, name);
            let nick = room.membership(user).and_then(|own| own.nick.as_deref().map(str::to_owned));
            prop_assert_eq!(nick.as_ref(), plain.nicks.get(user), "the nick of {} in {}", user, name);
            let standing = rooms.standing(name, Some(user)).unwrap();
            prop_assert_eq!((standing.role, standing.is_open), (plain.role(user), !plain.closed));
            let is_there = rooms.of_user(user, None).iter().any(|(level, _)| &**level == name);
            prop_assert_eq!(is_there, plain.role(user) != Role::None, "{} in {}", user, name);
        }
        prop_assert_eq!(room.members(), plain.roles.values().filter(|role| role.is_member()).count());
        prop_assert!(plain.owners() > 0, "the last owner stays");
        let called: BTreeSet<String> = plain.nicks.values().map(|nick| nick.to_lowercase()).collect();
        prop_assert_eq!(called.len(), plain.nicks.len(), "a nick is one's");
    }
    let memberships: usize = plain.values().map(|room| room.roles.len()).sum();
    prop_assert_eq!((rooms.counts().rooms, rooms.counts().memberships), (plain.len(), memberships));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rooms_are_what_a_plain_model_says(
        deeds in proptest::collection::vec((0..USERS.len(), 0..ROOMS.len(), deed(), 0usize..3, any::<bool>()), 1..60),
    ) {
        let mut log = Log::default();
        // Of the two nodes, one or the other is behind.
        let nodes = [Rooms::default(), Rooms::default()];
        let mut plain: BTreeMap<&str, Plain> = BTreeMap::new();
        for (user, room, deed, node, feeds) in deeds {
            let (user, room) = (USERS[user], ROOMS[room]);
            let done = run(&mut log, &nodes[node % 2], user, room, deed);
            let expected = match (deed, plain.get_mut(room)) {
                (Deed::Found { closed }, None) => {
                    let roles = [(user.to_owned(), Role::Owner)].into();
                    plain.insert(room, Plain { closed, roles, ..Plain::default() });
                    true
                }
                (_, None) => false,
                (deed, Some(known)) => {
                    let done = known.does(user, deed);
                    if done && matches!(deed, Deed::End) {
                        plain.remove(room);
                    }
                    done
                }
            };
            prop_assert_eq!(done.is_ok(), expected, "{} does {:?} in {}: {:?}", user, deed, room, done);
            if feeds {
                log.feed(&nodes[(node + 1) % 2]);
            }
        }
        let restored = Rooms::default();
        restored.restore(log.retained(), Offset(log.records.len() as u64));
        for rooms in nodes.iter().chain([&restored]) {
            log.feed(rooms);
            check(rooms, &plain)?;
        }
    }
}
