//! The members of rooms: who belongs to one, invitations, roles, bans (`docs/rooms.md`).

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use everywire_base::access::Role;
use everywire_base::identity::encode;
use everywire_rooms::decide::{self, Asker, Refused};
use everywire_rooms::{Member, Room};
use http::Uri;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::control::Control;
use crate::problem::Problem;
use crate::query::Query;
use crate::rooms::{Done, asker, find, read, run};
use crate::signals::PresenceEntry;

type Node = State<Arc<dyn Control>>;

/// A member.
#[derive(Serialize, ToSchema)]
pub(crate) struct MemberEntry {
    /// The user; where the room hides its users from the caller, an alias.
    user: String,
    /// The alias, where the room hides its users and `user` is none.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    /// `owner`, `admin`, `member`, `invited`, `banned`.
    role: &'static str,
    nick: String,
    since: String,
    /// The position up to which it has read, for members: absent if there is none, and in a crowded room.
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<String>,
    /// Whether it is there, where that is for the caller to know.
    #[serde(flatten)]
    presence: Option<PresenceEntry>,
}

/// Some members.
#[derive(Serialize, ToSchema)]
pub(crate) struct MemberList {
    /// Ascending by `user`.
    members: Vec<MemberEntry>,
    /// Whether there are further ones: ask again with `after` as the last user.
    more: bool,
}

/// The user to invite.
#[derive(Deserialize, ToSchema)]
pub(crate) struct InviteWish {
    user: String,
}

/// An invitation.
#[derive(Serialize, ToSchema)]
pub(crate) struct Invited {
    room: String,
    user: String,
    role: &'static str,
}

/// The role to give.
#[derive(Deserialize, ToSchema)]
pub(crate) struct RoleWish {
    /// `owner`, `admin`, `member`, `banned`.
    #[schema(value_type = String)]
    role: Role,
}

/// Invites a user, who gets a message in the inbox.
#[utoipa::path(post, path = "/v1/rooms/{room}/invites", tag = "rooms", request_body = InviteWish, params(
    ("room" = String, Path, description = "Its name"),
), responses(
    (status = 200, description = "The user's role", body = Invited),
    (status = 403, description = "You may not", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is none, or not for you", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The user is banned", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn invite(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Invited>, Problem> {
    let (asker, InviteWish { user }, level) = (asker(&control, &caller)?, read(&body)?, encode(&name));
    let limits = control.limits();
    run(&control, || decide::invite(control.rooms(), asker, &level, &user, limits)).await?;
    let room = find(&control, &asker, &level)?;
    let role = if asker.knows(&room) { room.role(&user) } else { Role::Invited };
    Ok(Json(Invited { room: name, user, role: role.as_str() }))
}

/// The members of a room, for those who may read there.
#[utoipa::path(get, path = "/v1/rooms/{room}/members", tag = "rooms", params(
    ("room" = String, Path, description = "Its name"),
    ("role" = Option<String>, Query, description = "`banned` or `invited`, for admins; else those who belong to it"),
    ("after" = Option<String>, Query, description = "Only users whose name comes after this one"),
    ("limit" = Option<usize>, Query, description = "At most so many: 100 unless given, clamped to 1 … 1,000"),
), responses(
    (status = 200, description = "A page of members", body = MemberList),
    (status = 403, description = "You may not", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is none, or not for you", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn members(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<MemberList>, Problem> {
    let (asker, query, limits) = (asker(&control, &caller)?, Query::of(&uri), control.limits());
    let level = encode(&name);
    let room = find(&control, &asker, &level)?;
    let limit = query.clamped("limit", (1, limits.page_messages_max), limits.page_messages_default)?;
    let wanted = match query.text("role")?.as_deref() {
        None => None,
        Some("banned") => Some(Role::Banned),
        Some("invited") => Some(Role::Invited),
        Some(_) => return Err(Problem::malformed("`role` is `banned` or `invited`")),
    };
    if !asker.reads(&room) || (wanted.is_some() && asker.role(&room) < Role::Admin) {
        return Err(Refused::Forbidden("those who may read a room see its members; admins, the others").into());
    }
    let is_meant = |role: Role| wanted.map_or(role.is_member(), |wanted| role == wanted);
    let after = query.text("after")?;
    let mut found = if asker.knows(&room) {
        room.list(after.as_deref(), limit + 1, is_meant)
    } else {
        let own = after.as_deref().filter(|after| asker.user == Some(*after)).and_then(|user| room.alias(user));
        room.list_hidden(own.as_deref().or(after.as_deref()), limit + 1, is_meant)
    };
    let more = found.len() > limit;
    found.truncate(limit);
    let members = found.into_iter().map(|member| entry_of(&control, &asker, (&level, &room), member)).collect();
    Ok(Json(MemberList { members, more }))
}

fn entry_of(
    control: &Arc<dyn Control>,
    asker: &Asker<'_>,
    (level, room): (&str, &Room),
    member: Member,
) -> MemberEntry {
    let (user, since) = (asker.name_of(room, &member.user), member.since.to_string());
    let is_known = *user == *member.user;
    let presence = PresenceEntry::of(control, asker.user, &member.user).filter(|_| member.role.is_member() && is_known);
    let alias = room.alias(&member.user).filter(|_| is_known).map(Into::into);
    let tells = asker.role(room).is_member() && member.role.is_member();
    let read = control.rooms().mark_in(level, room, &member.user).filter(|_| tells);
    let read = read.map(|at| control.cursor(at).to_string());
    MemberEntry { user, alias, role: member.role.as_str(), nick: member.nick.into(), since, read, presence }
}

/// The user that an admin means by an alias.
fn meant(control: &Arc<dyn Control>, level: &str, named: String) -> String {
    let room = control.rooms().room(level);
    room.and_then(|room| room.user_of(&named).map(ToString::to_string)).unwrap_or(named)
}

/// Gives a user a role. Owners give any; admins give those below theirs, to users who are neither.
#[utoipa::path(put, path = "/v1/rooms/{room}/members/{user}", tag = "rooms", request_body = RoleWish, params(
    ("room" = String, Path, description = "Its name"),
    ("user" = String, Path, description = "The user, or the alias of a member"),
), responses(
    (status = 200, description = "The user's role now", body = MemberEntry),
    (status = 403, description = "You may not", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is none, or not for you", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The last owner stays", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn give_role(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path((name, user)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<MemberEntry>, Problem> {
    let (asker, RoleWish { role }, level) = (asker(&control, &caller)?, read(&body)?, encode(&name));
    if role == Role::None {
        return Err(Problem::malformed("DELETE takes a role away"));
    }
    let (limits, user) = (control.limits(), meant(&control, &level, user));
    run(&control, || decide::give_role(control.rooms(), asker, &level, &user, role, limits)).await?;
    let room = control.rooms().room(&level).ok_or(Refused::NoRoom)?;
    let member = room.member(&user).ok_or(Refused::NoMember)?;
    Ok(Json(entry_of(&control, &asker, (&level, &room), member)))
}

/// Ends a membership, an invitation or a ban.
#[utoipa::path(delete, path = "/v1/rooms/{room}/members/{user}", tag = "rooms", params(
    ("room" = String, Path, description = "Its name"),
    ("user" = String, Path, description = "The user, or the alias of a member"),
), responses(
    (status = 200, description = "Nothing binds the user to the room", body = Done),
    (status = 403, description = "You may not", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such user in it", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The last owner stays", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn remove(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path((name, user)): Path<(String, String)>,
) -> Result<Json<Done>, Problem> {
    let (asker, level) = (asker(&control, &caller)?, encode(&name));
    let (limits, user) = (control.limits(), meant(&control, &level, user));
    run(&control, || decide::give_role(control.rooms(), asker, &level, &user, Role::None, limits)).await?;
    Ok(Json(Done {}))
}
