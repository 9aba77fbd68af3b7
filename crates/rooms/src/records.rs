//! A room's head and a membership, as they are stored on `$room/R` and `$of/U/room/R`: JSON, retained. Fields may be
//! added, but never change their meaning.

use everywire_base::access::Role;
use everywire_base::cursor::Offset;
use serde::{Deserialize, Serialize};

/// The users who may join and read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// Everybody except the banned.
    #[default]
    Open,
    /// The invited may join, and members may read.
    Members,
    /// Users who know the password may join, and members may read.
    Password,
}

/// The users who may talk, among those who may read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Talk {
    /// All of them.
    #[default]
    All,
    /// Members.
    Voiced,
    /// Admins and owners.
    Admins,
}

impl Talk {
    /// The lowest role that may talk.
    pub fn from(self) -> Role {
        match self {
            Talk::All => Role::None,
            Talk::Voiced => Role::Member,
            Talk::Admins => Role::Admin,
        }
    }
}

/// The users who see the members' identities.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visible {
    /// All users.
    #[default]
    All,
    /// Admins and owners. All others see aliases.
    Admins,
}

/// The members who have a right.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// All members.
    #[default]
    Members,
    /// Admins and owners.
    Admins,
}

impl By {
    /// The lowest role that has the right.
    pub fn from(self) -> Role {
        match self {
            By::Members => Role::Member,
            By::Admins => Role::Admin,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(number: &u32) -> bool {
    *number == 0
}

fn yes() -> bool {
    true
}

/// A room's head.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Head {
    /// The offset at which the room was founded; 0 means this record's. Older records are not of this room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub founded: u64,
    /// The users who have all rights. They stand here, so that two owners can't remove each other at once.
    pub owners: Vec<Box<str>>,
    /// The title.
    #[serde(default)]
    pub title: Box<str>,
    /// The description.
    #[serde(default)]
    pub about: Box<str>,
    /// The subject.
    #[serde(default)]
    pub subject: Box<str>,
    /// The users who may join and read.
    #[serde(default)]
    pub join: Join,
    /// The users who may talk.
    #[serde(default)]
    pub talk: Talk,
    /// The users who see the members' identities.
    #[serde(default)]
    pub see: Visible,
    /// The members who may set the subject.
    #[serde(default)]
    pub subject_by: By,
    /// The members who may invite.
    #[serde(default)]
    pub invite_by: By,
    /// Whether it is in the list of rooms.
    #[serde(default = "yes")]
    pub listed: bool,
    /// The number of last messages that are shown to a user who enters.
    #[serde(default, skip_serializing_if = "is_none")]
    pub greet: u32,
    /// Whether it stays without occupants.
    #[serde(default = "yes")]
    pub lasting: bool,
    /// The hash of the password, if it is needed to join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Box<str>>,
    /// The secret that aliases are made with, if the room hides its users.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Box<str>>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            founded: 0,
            owners: Vec::new(),
            title: Box::default(),
            about: Box::default(),
            subject: Box::default(),
            join: Join::default(),
            talk: Talk::default(),
            see: Visible::default(),
            subject_by: By::default(),
            invite_by: By::default(),
            listed: true,
            greet: 0,
            lasting: true,
            password: None,
            secret: None,
        }
    }
}

impl Head {
    /// Whether users who aren't admins see aliases.
    pub fn hides(&self) -> bool {
        self.see == Visible::Admins
    }

    /// Whether this user is one of the owners.
    pub fn is_owned_by(&self, user: &str) -> bool {
        self.owners.iter().any(|owner| &**owner == user)
    }
}

/// The membership of a user in a room, or its invitation or ban.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Membership {
    /// The role; `owner` counts only if the head names the user.
    pub role: Role,
    /// The nick; `None` is the user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nick: Option<Box<str>>,
    /// The begin of the membership, in milliseconds since 1970.
    #[serde(default)]
    pub since_ms: u64,
    /// The offset at which its room was founded; 0 means that of the record right before this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub founded: u64,
}

/// The offset at which a room was founded, by a record at `at` that says `said`.
pub(crate) fn founding(said: u64, at: Offset, is_head: bool) -> u64 {
    match said {
        0 => at.0 - u64::from(!is_head),
        founded => founded,
    }
}
