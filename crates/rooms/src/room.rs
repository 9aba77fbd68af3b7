//! A room with its members, as the records up to some offset make it.

use std::sync::Arc;

use everywire_base::access::Role;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;

use crate::alias::alias;
use crate::map::Map;
use crate::names::folded;
use crate::records::{Head, Membership};

/// A room. Copies share their members.
#[derive(Clone, Debug)]
pub struct Room {
    /// Its head.
    pub head: Head,
    /// The offset at which it was founded.
    pub founded: Offset,
    /// All users with a membership, the banned and the invited too.
    people: Map<Arc<Membership>>,
    /// The owners of the members' nicks, by the folded nick. The guards make sure that each nick has one owner
    /// ([`crate::decide`]).
    nicks: Map<Arc<str>>,
    /// The number of members for each folded user name.
    names: Map<usize>,
    /// The users by their aliases, if the room hides them.
    aliases: Map<Arc<str>>,
    members: usize,
}

/// A user with a membership in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The user.
    pub user: Arc<str>,
    /// The role.
    pub role: Role,
    /// The nick.
    pub nick: Box<str>,
    /// The begin of the membership.
    pub since: UnixMillis,
}

impl Room {
    pub(crate) fn new(head: Head, founded: Offset) -> Self {
        let (people, nicks, names, aliases) = (Map::default(), Map::default(), Map::default(), Map::default());
        Self { head, founded, people, nicks, names, aliases, members: 0 }
    }

    pub(crate) fn with(&self, head: Head) -> Self {
        Self { head, ..self.clone() }
    }

    /// The number of members.
    pub fn members(&self) -> usize {
        self.members
    }

    /// The number of users with a membership, the banned and the invited too.
    pub fn people(&self) -> usize {
        self.people.len()
    }

    /// A user's role: an owner must be named in the head.
    pub fn role(&self, user: &str) -> Role {
        if self.head.is_owned_by(user) {
            return Role::Owner;
        }
        self.people.get(user).map_or(Role::None, |membership| membership.role.min(Role::Admin))
    }

    /// The membership of a user.
    pub fn membership(&self, user: &str) -> Option<&Arc<Membership>> {
        self.people.get(user)
    }

    /// A user of the room with its membership.
    pub fn member(&self, user: &str) -> Option<Member> {
        let membership = self.people.get(user)?;
        let nick = membership.nick.clone().unwrap_or_else(|| self.name(user));
        let (user, since) = (Arc::<str>::from(user), UnixMillis(membership.since_ms));
        Some(Member { role: self.role(&user), nick, since, user })
    }

    /// The users whose role `is_meant` takes, in the order of their names.
    pub fn list(&self, after: Option<&str>, limit: usize, is_meant: impl Fn(Role) -> bool) -> Vec<Member> {
        let all = self.people.after(after).filter_map(|(user, _)| self.member(user));
        all.filter(|member| is_meant(member.role)).take(limit).collect()
    }

    /// The alias of a user, if the room hides its users.
    pub fn alias(&self, user: &str) -> Option<Box<str>> {
        self.head.hides().then(|| alias(self.head.secret.as_deref().unwrap_or_default(), user))
    }

    /// The name of a user for those who aren't admins.
    pub fn name(&self, user: &str) -> Box<str> {
        self.alias(user).unwrap_or_else(|| user.into())
    }

    /// The user with a membership whose alias this is.
    pub fn user_of(&self, alias: &str) -> Option<&Arc<str>> {
        self.aliases.get(alias)
    }

    /// The same of a room that hides its users, in the order of their aliases.
    pub fn list_hidden(&self, after: Option<&str>, limit: usize, is_meant: impl Fn(Role) -> bool) -> Vec<Member> {
        let all = self.aliases.after(after).filter_map(|(_, user)| self.member(user));
        all.filter(|member| is_meant(member.role)).take(limit).collect()
    }

    /// All users with a membership.
    pub(crate) fn users(&self) -> impl Iterator<Item = &Arc<str>> {
        self.people.iter().map(|(user, _)| user)
    }

    /// Whether a nick is another member's, or the name of another member. Where the room hides its users, that is the
    /// alias: nobody can find out who the members are.
    pub fn is_taken(&self, nick: &str, user: &str) -> bool {
        let nick = folded(nick);
        if self.head.hides() {
            let others = [self.nicks.get(&nick), self.aliases.get(&nick)];
            return others.into_iter().flatten().any(|owner| &**owner != user);
        }
        let is_own = self.role(user).is_member() && folded(user) == nick;
        self.nicks.get(&nick).is_some_and(|owner| &**owner != user)
            || self.names.get(&nick).is_some_and(|count| *count > usize::from(is_own))
    }

    /// Takes in a membership; `None` ends it.
    pub(crate) fn set(&mut self, user: &Arc<str>, membership: Option<Membership>) {
        let before = self.people.remove(user);
        let alias = self.alias(user).map(Arc::<str>::from);
        if let Some(alias) = &alias {
            self.aliases.remove(alias);
        }
        if let Some(before) = before.as_deref().filter(|before| before.role.is_member()) {
            self.count(user, before, false);
        }
        let Some(membership) = membership else { return };
        if membership.role.is_member() {
            self.count(user, &membership, true);
        }
        if let Some(alias) = alias {
            self.aliases.insert(alias, Arc::clone(user));
        }
        self.people.insert(Arc::clone(user), Arc::new(membership));
    }

    fn count(&mut self, user: &Arc<str>, membership: &Membership, comes: bool) {
        let name: Arc<str> = folded(user).into();
        let others = self.names.remove(&name).unwrap_or_default();
        let now = if comes { others + 1 } else { others.saturating_sub(1) };
        if now > 0 {
            self.names.insert(name, now);
        }
        self.members = if comes { self.members + 1 } else { self.members.saturating_sub(1) };
        let Some(nick) = membership.nick.as_deref().map(folded) else { return };
        let owner = self.nicks.get(&nick).map(|owner| owner == user);
        if comes && owner.is_none() {
            self.nicks.insert(nick.into(), Arc::clone(user));
        } else if !comes && owner == Some(true) {
            self.nicks.remove(&nick);
        }
    }
}
