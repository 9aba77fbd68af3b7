//! The operations on rooms, and their drafts.
//!
//! Each operation is a function of the rooms as they are seen, the asker and the time. The draft is guarded by the
//! records that decided on it: the log refuses it if these have changed
//! ([`PublishError::Stale`](everywire_base::ask::PublishError::Stale)), and then it is decided again.

use std::sync::Arc;

use everywire_base::access::Role;
use everywire_base::ask::{Draft, Guard};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::identity::{check_name, decode, encode};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Entry, Message, System};
use everywire_base::system::{self, ROOMS, ReadMark};
use everywire_base::topic::{Topic, hash_name};
use serde::{Deserialize, Serialize};

use crate::Rooms;
use crate::conversation::{Conversation, Notify, Own, Settings};
use crate::names::{self, MAX_ABOUT_BYTES, MAX_TITLE_BYTES, NameError, folded};
use crate::records::{By, Head, Join, Membership, Talk, Visible};
use crate::room::Room;

/// The most messages that are shown to a user who enters.
const MAX_GREET: u32 = 1000;

/// The reason why an operation is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such room, or none that the asker may see.
    #[error("there is no such room, or not for you")]
    NoRoom,
    /// There is no such user in the room.
    #[error("there is no such user in this room")]
    NoMember,
    /// The request is malformed.
    #[error("{0}")]
    Malformed(Box<str>),
    /// The asker doesn't have the right.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The request contradicts the state of the room.
    #[error("{0}")]
    Conflict(&'static str),
    /// A bound is reached.
    #[error("{0}")]
    TooMany(Box<str>),
}

impl From<NameError> for Refused {
    fn from(error: NameError) -> Self {
        Refused::Malformed(error.to_string().into())
    }
}

/// The identity that asks, and the time.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// The user; an operator may have none.
    pub user: Option<&'a str>,
    /// Whether the asker is an operator, who has all rights.
    pub is_operator: bool,
    /// The time.
    pub now: UnixMillis,
}

/// The head that a room shall have; absent fields stay as they are.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wish {
    /// The title.
    pub title: Option<Box<str>>,
    /// The description.
    pub about: Option<Box<str>>,
    /// The subject; only of a room that exists.
    pub subject: Option<Box<str>>,
    /// The users who may join and read.
    pub join: Option<Join>,
    /// The users who may talk.
    pub talk: Option<Talk>,
    /// The users who see the members' identities.
    pub see: Option<Visible>,
    /// The members who may set the subject.
    pub subject_by: Option<By>,
    /// The members who may invite.
    pub invite_by: Option<By>,
    /// Whether it is in the list of rooms.
    pub listed: Option<bool>,
    /// The number of last messages that are shown to a user who enters.
    pub greet: Option<u32>,
    /// Whether it stays without occupants.
    pub lasting: Option<bool>,
    /// The hash of the password that is needed to join. A request has the password itself.
    #[serde(skip)]
    pub password: Option<Box<str>>,
    /// The secret for aliases, which is drawn for a room that is founded.
    #[serde(skip)]
    pub secret: Option<Box<str>>,
    /// The owner; only operators may name one. The default is the founder.
    pub owner: Option<Box<str>>,
}

/// The body of an invitation, in the inbox of the invited user.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Invitation<'a> {
    room: &'a str,
    topic: &'a str,
    title: &'a str,
}

/// A room as it is seen for one decision.
struct Seen<'a> {
    asker: Asker<'a>,
    level: &'a str,
    as_of: Offset,
    room: Arc<Room>,
}

/// A decision: the draft for the log, or `None` if nothing is to change.
pub type Decision = Result<Option<Draft>, Refused>;

/// The settings that a user wants for a conversation; absent ones stay as they are.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(default)]
pub struct OwnWish {
    /// The messages of which the user wants to be notified.
    pub notify: Option<Notify>,
    /// Whether notifications make no sound.
    pub muted: Option<bool>,
    /// Whether the conversation stands before all others.
    pub pinned: Option<bool>,
    /// Whether the conversation is archived.
    pub archived: Option<bool>,
}

impl<'a> Asker<'a> {
    /// The user; an error if there is none.
    pub fn needs_user(&self) -> Result<&'a str, Refused> {
        self.user.ok_or(Refused::Forbidden("this is a user's own: log in as one"))
    }

    /// The role in a room.
    pub fn role(&self, room: &Room) -> Role {
        let own = self.user.map_or(Role::None, |user| room.role(user));
        if self.is_operator { Role::Owner } else { own }
    }

    /// Whether the asker may know who the users of a room are.
    pub fn knows(&self, room: &Room) -> bool {
        !room.head.hides() || self.role(room) >= Role::Admin
    }

    /// The name by which the asker knows a user of a room.
    pub fn name_of(&self, room: &Room, user: &str) -> String {
        let knows = self.knows(room) || self.user == Some(user);
        if knows { user.to_owned() } else { room.name(user).into() }
    }

    /// Whether the asker may know of a room.
    pub fn sees(&self, room: &Room) -> bool {
        room.head.join != Join::Members || room.head.listed || self.role(room) >= Role::Invited
    }

    /// Whether the asker may read in a room, by the room's own rules.
    pub fn reads(&self, room: &Room) -> bool {
        let role = self.role(room);
        role.is_member() || (room.head.join == Join::Open && role > Role::Banned)
    }
}

/// Founds a room. `has_messages` is whether messages are kept on its topic.
pub fn found(
    rooms: &Rooms,
    asker: Asker<'_>,
    name: &str,
    wish: &Wish,
    has_messages: bool,
    limits: &Limits,
) -> Result<Draft, Refused> {
    names::check_room(name)?;
    let (level, as_of) = (encode(name), rooms.as_of());
    if rooms.room(&level).is_some() {
        return Err(Refused::Conflict("there is such a room already: PATCH changes it, join enters it"));
    }
    if has_messages && !asker.is_operator {
        return Err(Refused::Conflict("messages are kept on this topic: an operator may found a room over them"));
    }
    let owner = match (&wish.owner, asker.user) {
        (Some(owner), _) if asker.is_operator => check_user(owner)?,
        (Some(_), _) => return Err(Refused::Forbidden("operators alone found rooms for others")),
        (None, Some(user)) => user.into(),
        (None, None) => return Err(Refused::Malformed("say whose it is: `owner`".into())),
    };
    let is_own = |(_, room): &(Arc<str>, Arc<Room>)| room.head.is_owned_by(&owner);
    let (all, own) = (rooms.counts().rooms, rooms.of_user(&owner, None).iter().filter(|room| is_own(room)).count());
    if all >= limits.rooms.rooms || (own >= limits.rooms.each && !asker.is_operator) {
        return Err(Refused::TooMany("there are too many rooms (limits.rooms, limits.rooms_each)".into()));
    }
    has_room_for(rooms, &owner, limits)?;
    let mut head = Head { owners: vec![owner.clone()], see: wish.see.unwrap_or_default(), ..Head::default() };
    apply(&mut head, wish)?;
    if head.hides() {
        if has_messages {
            return Err(Refused::Conflict("messages that are kept on this topic name their authors: `see` is `all`"));
        }
        head.secret = Some(wish.secret.clone().ok_or(Refused::Malformed("an alias needs a secret".into()))?);
    }
    let membership = Membership { role: Role::Owner, nick: None, since_ms: asker.now.0, founded: 0 };
    let topic = topic(system::room_topic(&level))?;
    let guards = Box::new([Guard::of(&topic, as_of)]);
    let head = system::record(topic, &head, true);
    let pair = Some(Box::new(membership_record(&owner, &level, Some(&membership))?.into()));
    Ok(Draft { pair, guards, ..Draft::new(head, Durability::Fsync) })
}

/// Changes a room's head.
pub fn change(rooms: &Rooms, asker: Asker<'_>, level: &str, wish: &Wish) -> Decision {
    let seen = Seen::of(rooms, asker, level)?;
    let role = asker.role(&seen.room);
    let is_subject_alone = *wish == Wish { subject: wish.subject.clone(), ..Wish::default() };
    let needed = if is_subject_alone { seen.room.head.subject_by.from() } else { Role::Admin };
    if role < needed {
        return Err(Refused::Forbidden("admins and owners change a room; its subject, those whom `subject_by` names"));
    }
    if wish.owner.is_some() {
        return Err(Refused::Malformed("owners are made by their role".into()));
    }
    if wish.see.is_some_and(|see| see != seen.room.head.see) {
        return Err(Refused::Conflict(
            "`see` is said when a room is founded: what was said there stays as it was told",
        ));
    }
    let mut head = seen.room.head.clone();
    apply(&mut head, wish)?;
    if head == seen.room.head {
        return Ok(None);
    }
    // A change of the subject is also published as a message on the room's topic.
    let says = head.subject != seen.room.head.subject;
    let pair = if says { Some(subject_message(rooms, asker, level, &head.subject)?.into()) } else { None };
    seen.head(&head, pair).map(Some)
}

/// Ends a room.
pub fn end(rooms: &Rooms, asker: Asker<'_>, level: &str) -> Decision {
    let seen = Seen::of(rooms, asker, level)?;
    if asker.role(&seen.room) < Role::Owner {
        return Err(Refused::Forbidden("owners end a room"));
    }
    let topic = topic(system::room_topic(level))?;
    let guards = Box::new([Guard::of(&topic, seen.as_of)]);
    Ok(Some(Draft { guards, ..Draft::new(System::removal(topic), Durability::Fsync) }))
}

/// Joins a room, or takes another nick there.
///
/// `fits` is the hash of the password that the asker knows.
pub fn join(
    rooms: &Rooms,
    asker: Asker<'_>,
    level: &str,
    nick: Option<&str>,
    fits: Option<&str>,
    limits: &Limits,
) -> Decision {
    let Some(user) = asker.user else { return Err(Refused::Forbidden("users join rooms")) };
    let seen = Seen::of(rooms, asker, level)?;
    let (role, own) = (seen.room.role(user), seen.room.membership(user));
    match (role, seen.room.head.join) {
        (Role::Banned, _) => return Err(Refused::Forbidden("you are banned from this room")),
        (Role::None, Join::Members) if !asker.is_operator => {
            return Err(Refused::Forbidden("this room is for those who are invited"));
        }
        (Role::None, Join::Password) if !asker.is_operator && seen.room.head.password.as_deref() != fits => {
            return Err(Refused::Forbidden("this room is for those who know its password"));
        }
        _ => {}
    }
    let nick = nick.filter(|nick| *nick != user);
    if let Some(nick) = nick {
        names::check_nick(nick)?;
    }
    let kept = own.and_then(|own| own.nick.as_deref());
    if role.is_member() && own.is_some() && (nick.is_none() || nick == kept) {
        return Ok(None);
    }
    let nick = nick.or(kept);
    if nick.is_some_and(|nick| seen.room.is_taken(nick, user)) {
        return Err(Refused::Conflict("another member is called so: choose another nick"));
    }
    if !role.is_member() {
        if seen.room.members() >= limits.rooms.members {
            return Err(Refused::TooMany("the room is full (limits.room_members)".into()));
        }
        has_room_for(rooms, user, limits)?;
    }
    let since_ms = own.filter(|_| role.is_member()).map_or(asker.now.0, |own| own.since_ms);
    let role = role.max(Role::Member);
    let membership = Membership { role, nick: nick.map(Into::into), since_ms, founded: seen.room.founded.0 };
    seen.membership(user, Some(&membership), None).map(Some)
}

/// Leaves a room.
pub fn leave(rooms: &Rooms, asker: Asker<'_>, level: &str) -> Decision {
    let Some(user) = asker.user else { return Err(Refused::Forbidden("users leave rooms")) };
    let seen = Seen::of(rooms, asker, level)?;
    if seen.room.role(user) == Role::Banned || seen.room.membership(user).is_none() {
        return Ok(None);
    }
    seen.become_role(user, Role::None)
}

/// Invites a user.
pub fn invite(rooms: &Rooms, asker: Asker<'_>, level: &str, user: &str, limits: &Limits) -> Decision {
    let seen = Seen::of(rooms, asker, level)?;
    let user = &*check_user(user)?;
    if asker.role(&seen.room) < seen.room.head.invite_by.from() {
        return Err(Refused::Forbidden("members invite, or admins alone, as `invite_by` says"));
    }
    match seen.room.role(user) {
        // The answer doesn't say who belongs to a room that hides its users.
        Role::Banned if seen.room.head.hides() && asker.role(&seen.room) < Role::Admin => return Ok(None),
        Role::Banned => return Err(Refused::Conflict("this user is banned: end the ban first")),
        Role::None => {}
        _ => return Ok(None),
    }
    if seen.room.people() >= limits.rooms.members.saturating_mul(2) {
        return Err(Refused::TooMany("too many are invited or banned here (limits.room_members)".into()));
    }
    has_room_for(rooms, user, limits)?;
    let (since_ms, founded) = (asker.now.0, seen.room.founded.0);
    let membership = Membership { role: Role::Invited, nick: None, since_ms, founded };
    let name = name_of(level);
    let (room, title) = (format!("room/{level}"), &seen.room.head.title);
    let body = Invitation { room: &name, topic: &room, title };
    let inbox = topic(Topic::parse(&format!("user/{}", encode(user))).ok())?;
    let message = Message {
        event: Some("invite".into()),
        content_type: Some("application/json".into()),
        ..Message::new(inbox, serde_json::to_vec(&body).unwrap_or_default())
    };
    let message = rooms.signed(message, level, asker.user);
    seen.membership(user, Some(&membership), Some(message.into())).map(Some)
}

/// Gives a user a role; [`Role::None`] takes every role away.
pub fn give_role(rooms: &Rooms, asker: Asker<'_>, level: &str, user: &str, role: Role, limits: &Limits) -> Decision {
    let seen = Seen::of(rooms, asker, level)?;
    let user = &*check_user(user)?;
    let (own, now) = (asker.role(&seen.room), seen.room.role(user));
    if own < Role::Admin || (own == Role::Admin && (now >= Role::Admin || role >= Role::Admin)) {
        return Err(Refused::Forbidden("owners give all roles; admins see to those who are neither"));
    }
    if role == Role::Invited {
        return Err(Refused::Malformed("there is a route for invitations".into()));
    }
    if now == role && (role != Role::Owner || seen.room.membership(user).is_some()) {
        return if role == Role::None { Err(Refused::NoMember) } else { Ok(None) };
    }
    if now == Role::None {
        if seen.room.people() >= limits.rooms.members.saturating_mul(2) {
            return Err(Refused::TooMany("the room is full (limits.room_members)".into()));
        }
        has_room_for(rooms, user, limits)?;
    }
    seen.become_role(user, role)
}

/// Blocks a user, or ends the block.
pub fn block(rooms: &Rooms, asker: Asker<'_>, other: &str, blocks: bool, limits: &Limits) -> Decision {
    let (user, other) = (asker.needs_user()?, &*check_user(other)?);
    let as_of = rooms.as_of();
    if other == user {
        return Err(Refused::Malformed("nobody blocks themselves".into()));
    }
    if rooms.is_blocked(user, other) == blocks {
        return Ok(None);
    }
    if blocks {
        has_room_for(rooms, user, limits)?;
    }
    let topic = topic(system::block_topic(user, other))?;
    let guards = Box::new([Guard::of(&topic, as_of)]);
    let body: &[u8] = if blocks { b"{}" } else { b"" };
    Ok(Some(Draft { guards, ..Draft::new(System::new(topic, body, true), Durability::Fsync) }))
}

/// Moves a read mark, which only rises.
pub fn mark(
    rooms: &Rooms,
    asker: Asker<'_>,
    which: &Conversation,
    read: Offset,
    authors: &[Box<str>],
    limits: &Limits,
) -> Decision {
    let user = asker.needs_user()?;
    let own = rooms.own(user, which);
    if read <= own.read {
        return Ok(None);
    }
    if own == Own::default() {
        has_room_for(rooms, user, limits)?;
    }
    let topic = topic(system::read_topic(user, &which.text()))?;
    let mark = ReadMark { offset: read.0, authors: authors.to_vec() };
    let mark = System { generation: read.0, ..system::record(topic, &mark, true) };
    Ok(Some(Draft::new(mark, Durability::Memory)))
}

/// Sets a user's settings for a conversation.
pub fn set(rooms: &Rooms, asker: Asker<'_>, which: &Conversation, wish: &OwnWish, limits: &Limits) -> Decision {
    let (user, as_of) = (asker.needs_user()?, rooms.as_of());
    let own = rooms.own(user, which);
    let before = own.settings;
    let settings = Settings {
        notify: wish.notify.unwrap_or(before.notify),
        muted: wish.muted.unwrap_or(before.muted),
        pinned: wish.pinned.unwrap_or(before.pinned),
        archived: wish.archived.unwrap_or(before.archived),
    };
    if settings == before {
        return Ok(None);
    }
    if own == Own::default() {
        has_room_for(rooms, user, limits)?;
    }
    let topic = topic(system::settings_topic(user, &which.text()))?;
    let guards = Box::new([Guard::of(&topic, as_of)]);
    Ok(Some(Draft { guards, ..Draft::new(system::record(topic, &settings, true), Durability::Fsync) }))
}

impl<'a> Seen<'a> {
    fn of(rooms: &Rooms, asker: Asker<'a>, level: &'a str) -> Result<Self, Refused> {
        // The offset is read first, so that the view is at least as new.
        let as_of = rooms.as_of();
        let room = rooms.room(level).filter(|room| asker.sees(room)).ok_or(Refused::NoRoom)?;
        Ok(Self { asker, level, as_of, room })
    }

    /// Gives a user another role. Owners stand in the head too; at least one stays.
    fn become_role(&self, user: &str, role: Role) -> Decision {
        let own = self.room.membership(user);
        let since_ms = own.map_or(self.asker.now.0, |own| own.since_ms);
        let nick = own.and_then(|own| own.nick.clone()).filter(|_| role.is_member());
        let membership = Membership { role, nick, since_ms, founded: self.room.founded.0 };
        let membership = (role != Role::None).then_some(&membership);
        let is_owner = self.room.head.is_owned_by(user);
        if is_owner == (role == Role::Owner) {
            return self.membership(user, membership, None).map(Some);
        }
        let mut head = self.room.head.clone();
        if is_owner {
            head.owners.retain(|owner| &**owner != user);
        } else {
            head.owners.push(user.into());
        }
        if head.owners.is_empty() {
            return Err(Refused::Conflict("the last owner stays: make another one first, or end the room"));
        }
        let mut draft = self.head(&head, Some(membership_record(user, self.level, membership)?.into()))?;
        let own = Guard::of(&topic(system::membership_topic(user, self.level))?, self.as_of);
        draft.guards = [&*draft.guards, &[own], &self.names(user, membership)].concat().into();
        Ok(Some(draft))
    }

    fn head(&self, head: &Head, pair: Option<Entry>) -> Result<Draft, Refused> {
        let topic = topic(system::room_topic(self.level))?;
        let guards = Box::new([Guard::of(&topic, self.as_of), self.own()?]);
        let head = system::record(topic, head, true);
        Ok(Draft { pair: pair.map(Box::new), guards, ..Draft::new(head, Durability::Fsync) })
    }

    fn membership(&self, user: &str, membership: Option<&Membership>, pair: Option<Entry>) -> Result<Draft, Refused> {
        let own = membership_record(user, self.level, membership)?;
        let head = topic(system::room_topic(self.level))?;
        let guards = [Guard::of(&own.topic, self.as_of), Guard::of(&head, self.as_of), self.own()?];
        let guards = [&guards[..], &self.names(user, membership)].concat().into();
        Ok(Draft { pair: pair.map(Box::new), guards, ..Draft::new(own, Durability::Fsync) })
    }

    /// The guards that claim a member's names: of two drafts that claim the same name at once, one is judged again.
    fn names(&self, user: &str, membership: Option<&Membership>) -> Vec<Guard> {
        let Some(member) = membership.filter(|membership| membership.role.is_member()) else { return Vec::new() };
        let claim = |name: &str| {
            let topic = hash_name(&format!("{ROOMS}{}/name/{}", self.level, folded(name)));
            Guard { topic, as_of: self.as_of, claims: true }
        };
        std::iter::once(user).chain(member.nick.as_deref()).map(claim).collect()
    }

    /// The guard of the asker's own role, which was judged too.
    fn own(&self) -> Result<Guard, Refused> {
        let user = self.asker.user.unwrap_or_default();
        Ok(Guard::of(&topic(system::membership_topic(user, self.level))?, self.as_of))
    }
}

/// Applies the wished fields to a head.
fn apply(head: &mut Head, wish: &Wish) -> Result<(), Refused> {
    let texts = [
        (&wish.title, &mut head.title, "a title", MAX_TITLE_BYTES),
        (&wish.about, &mut head.about, "`about`", MAX_ABOUT_BYTES),
        (&wish.subject, &mut head.subject, "a subject", MAX_ABOUT_BYTES),
    ];
    for (text, field, what, most) in texts {
        if let Some(text) = text {
            names::check_text(text, what, most)?;
            field.clone_from(text);
        }
    }
    head.join = wish.join.unwrap_or(head.join);
    head.talk = wish.talk.unwrap_or(head.talk);
    head.subject_by = wish.subject_by.unwrap_or(head.subject_by);
    head.invite_by = wish.invite_by.unwrap_or(head.invite_by);
    head.listed = wish.listed.unwrap_or(head.listed);
    head.greet = wish.greet.unwrap_or(head.greet);
    head.lasting = wish.lasting.unwrap_or(head.lasting);
    if head.greet > MAX_GREET {
        return Err(Refused::Malformed(format!("`greet` is at most {MAX_GREET}").into()));
    }
    match (head.join, &wish.password) {
        (Join::Password, Some(hash)) => head.password = Some(hash.clone()),
        (Join::Password, None) if head.password.is_none() => {
            return Err(Refused::Malformed("a room that is joined by a password needs one: `password`".into()));
        }
        (Join::Password, None) => {}
        (_, Some(_)) => return Err(Refused::Malformed("only where `join` is `password` there is one".into())),
        (_, None) => head.password = None,
    }
    Ok(())
}

fn check_user(user: &str) -> Result<Box<str>, Refused> {
    check_name(user).map_err(|error| Refused::Malformed(error.to_string().into()))
}

fn has_room_for(rooms: &Rooms, user: &str, limits: &Limits) -> Result<(), Refused> {
    if rooms.count_of_user(user) >= limits.rooms.per_user || rooms.counts().memberships >= limits.rooms.memberships {
        let bounds = "too many rooms of one user, or memberships in all (limits.rooms_per_user, limits.memberships)";
        return Err(Refused::TooMany(bounds.into()));
    }
    Ok(())
}

fn membership_record(user: &str, level: &str, membership: Option<&Membership>) -> Result<System, Refused> {
    let topic = topic(system::membership_topic(user, level))?;
    Ok(match membership {
        Some(membership) => system::record(topic, membership, true),
        None => System::removal(topic),
    })
}

fn subject_message(rooms: &Rooms, asker: Asker<'_>, level: &str, subject: &str) -> Result<Message, Refused> {
    let topic = topic(Topic::parse(&format!("room/{level}")).ok())?;
    let (event, content_type) = (Some("subject".into()), Some("text/plain".into()));
    let message = Message { event, content_type, ..Message::new(topic, subject.as_bytes().to_vec()) };
    Ok(rooms.signed(message, level, asker.user))
}

/// The name that a level was made of.
pub fn name_of(level: &str) -> String {
    decode(level)
}

/// Checks a topic that was made of names; these are bounded, so that it isn't too long.
fn topic(topic: Option<Topic>) -> Result<Topic, Refused> {
    topic.ok_or_else(|| Refused::Malformed("a name is too long".into()))
}
