//! The answers of rooms on who may use their topics (`docs/rooms.md`): the rules ask, the keeper of the rooms answers.
//!
//! A room is the topic `room/R` with a head; the head governs all topics below it too. An answer is known up to an
//! offset: a draft that was judged by it is judged again if the answer has changed since ([`Guard`]).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ask::Guard;
use crate::record::Message;

/// The room of a topic or filter: `R` of `room/R` and `room/R/…`. `None` if that level is a wildcard.
pub fn room_of(text: &str) -> Option<&str> {
    let level = text.strip_prefix("room/")?.split('/').next()?;
    (!level.is_empty() && level != "+" && level != "#").then_some(level)
}

/// A user's lasting role in a room, ascending by its rights.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Nothing is allowed.
    Banned,
    /// No role.
    #[default]
    None,
    /// May join.
    Invited,
    /// Belongs to the room.
    Member,
    /// Sees to the room and its members.
    Admin,
    /// May do all in it.
    Owner,
}

impl Role {
    /// The word for it in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Banned => "banned",
            Role::None => "none",
            Role::Invited => "invited",
            Role::Member => "member",
            Role::Admin => "admin",
            Role::Owner => "owner",
        }
    }

    /// Whether somebody of this role belongs to the room.
    pub fn is_member(self) -> bool {
        self >= Role::Member
    }
}

/// The rights of one user in a room with a head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The role.
    pub role: Role,
    /// Whether all who aren't banned may read; else only members may.
    pub is_open: bool,
    /// The lowest role that may talk, among those who may read.
    pub talks_from: Role,
}

/// The name that stands for a user in one room, as long as the room lives. Nobody else can tell whose it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alias {
    /// The name.
    pub name: Box<str>,
    /// The nick that the user has chosen, if any.
    pub nick: Option<Box<str>>,
}

impl Alias {
    /// Puts the alias into a message of the user, in place of the user.
    pub fn hide(self, user: &str, message: &mut Message) {
        message.from = Some(self.name);
        let extras = message.extras.get_or_insert_default();
        (extras.author, extras.nick) = (Some(user.into()), self.nick);
    }
}

/// Keeps rooms.
pub trait Membership: Send + Sync {
    /// The rights of a user in a room, or of somebody without an identity; `None` if the room has no head.
    fn standing(&self, room: &str, user: Option<&str>) -> Option<Standing>;

    /// The guards of a user's rights there: the room's head and the membership, as far as they are known now.
    fn guards(&self, room: &str, user: Option<&str>) -> [Guard; 2];

    /// The alias of a user in a room that shows its users to admins alone; `None` in all others.
    fn alias(&self, room: &str, user: &str) -> Option<Alias>;

    /// Whether the owner of an inbox, by its level, has blocked a user; and the guard of that answer.
    fn blocked(&self, inbox: &str, user: &str) -> (bool, Guard);
}

/// The keeper of the rooms, if there is one.
#[derive(Clone, Default)]
pub struct RoomKeeper(Option<Arc<dyn Membership>>);

impl RoomKeeper {
    /// A keeper that asks `rooms`.
    pub fn new(rooms: Arc<dyn Membership>) -> Self {
        Self(Some(rooms))
    }

    /// The rights of a user in the room of a topic or filter. `None` if there is no room with a head.
    pub fn standing(&self, text: &str, user: Option<&str>) -> Option<Standing> {
        self.0.as_ref()?.standing(room_of(text)?, user)
    }

    /// The guards of [`RoomKeeper::standing`]. Ask for them first, so that the answer is at least as new.
    pub fn guards(&self, text: &str, user: Option<&str>) -> Option<[Guard; 2]> {
        Some(self.0.as_ref()?.guards(room_of(text)?, user))
    }

    /// The alias of a user in the room of a topic, if that room hides its users.
    pub fn alias(&self, text: &str, user: &str) -> Option<Alias> {
        self.0.as_ref()?.alias(room_of(text)?, user)
    }

    /// Whether the owner of the inbox that a topic belongs to has blocked a user. `None` if the topic is in no inbox.
    pub fn blocked(&self, text: &str, user: &str) -> Option<(bool, Guard)> {
        let inbox = text.strip_prefix("user/")?.split('/').next()?;
        Some(self.0.as_ref()?.blocked(inbox, user))
    }
}

impl fmt::Debug for RoomKeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "rooms" } else { "no rooms" })
    }
}

impl PartialEq for RoomKeeper {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_ref().map(Arc::as_ptr).map(<*const _>::cast::<()>)
            == other.0.as_ref().map(Arc::as_ptr).map(<*const _>::cast::<()>)
    }
}
impl Eq for RoomKeeper {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_one_level() {
        let rooms = [("room/a", "a"), ("room/a/b", "a"), ("room/a/#", "a"), ("room/%2F/+", "%2F")];
        for (text, room) in rooms {
            assert_eq!(room_of(text), Some(room));
        }
        for text in ["room", "room/", "room//a", "room/+", "room/#", "rooms/a", "#", "+/a", "user/a", "$room/a"] {
            assert_eq!(room_of(text), None, "{text}");
        }
    }

    #[test]
    fn roles_ascend() {
        use Role::{Admin, Banned, Invited, Member, None, Owner};
        assert!([Banned, None, Invited, Member, Admin, Owner].is_sorted());
        assert!(!Invited.is_member() && Member.is_member());
    }
}
