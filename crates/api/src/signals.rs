//! Signals and presence (`docs/rooms.md`): typing, messages that have come to a device, occupants of rooms.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use everywire_base::access::Role;
use everywire_base::ask::{Draft, PublishError};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Cursor;
use everywire_base::identity::encode;
use everywire_base::record::{Durability, System};
use everywire_base::topic::Topic;
use everywire_rooms::Room;
use everywire_rooms::conversation::Conversation;
use everywire_rooms::decide::Refused;
use everywire_rooms::presence::{Occupant, State as Presence};
use everywire_rooms::typing;
use http::{StatusCode, Uri};
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::control::{Control, answered};
use crate::conversations::{ReadWish, parse};
use crate::problem::Problem;
use crate::query::Query;
use crate::rooms::{Done, asker, find, read};

type Node = State<Arc<dyn Control>>;

/// The presence of a user.
#[derive(Serialize, ToSchema)]
pub(crate) struct PresenceEntry {
    /// `here`, `away`, `left`.
    presence: &'static str,
    /// The time since which it holds, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    /// The wires over which the user is connected, ascending: `mqtt`, `sse`, `tcp`, `ws` and so on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    wires: Vec<String>,
}

/// A user who has entered a room.
#[derive(Serialize, ToSchema)]
pub(crate) struct OccupantEntry {
    /// The user; where the room hides its users from the caller, an alias.
    user: String,
    /// The alias, where the room hides its users and `user` is none.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    nick: String,
    /// `moderator`, `participant`, `visitor`.
    voice: &'static str,
    /// The number of connections by which the user has entered.
    connections: usize,
}

/// Some occupants.
#[derive(Serialize, ToSchema)]
pub(crate) struct OccupantList {
    /// Ascending by `user`.
    occupants: Vec<OccupantEntry>,
    /// Whether there are further ones: ask again with `after` as the last user.
    more: bool,
}

impl PresenceEntry {
    /// The presence of a user, if the viewer may know it.
    pub(crate) fn of(control: &Arc<dyn Control>, viewer: Option<&str>, user: &str) -> Option<Self> {
        let rooms = control.rooms();
        viewer.filter(|viewer| rooms.may_know(viewer, user))?;
        let (state, since) = rooms.presence_of(user, control.now());
        let seen = (since > UnixMillis(0)).then(|| since.to_string());
        let party = rooms.party(user);
        let wires = party.iter().flat_map(|party| party.wires()).map(|name| name.to_string()).collect();
        Some(Self { presence: state.as_str(), seen, wires })
    }
}

/// Appends a signal, which may be lost.
async fn pass(control: &Arc<dyn Control>, signal: Option<System>) -> Result<(), Problem> {
    let Some(signal) = signal else { return Ok(()) };
    match answered(control.append(Draft::new(signal, Durability::None))).await? {
        // A busy log drops signals.
        Ok(_) | Err(PublishError::Busy) => Ok(()),
        Err(error) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
    }
}

/// The caller is typing. Those who read along get a signal, at most one in 3 s of each user.
#[utoipa::path(post, path = "/v1/conversations/{conversation}/typing", tag = "rooms", params(
    ("conversation" = String, Path, description = "`room/R` or `user/P`, percent-encoded into one level"),
), responses(
    (status = 200, description = "Told, if anybody would see it", body = Done),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "You may not talk there", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn typing(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(conversation): Path<String>,
) -> Result<Json<Done>, Problem> {
    let (asker, which) = (asker(&control, &caller)?, parse(&conversation)?);
    let Some(who) = caller.0.as_deref() else { return Err(Refused::NoRoom.into()) };
    let signal = typing::typing(control.rooms(), &control.rules(), who, &which, asker.now)?;
    pass(&control, signal).await?;
    Ok(Json(Done {}))
}

/// Everything of an exchange up to a cursor has come to a device of the caller's: the other gets a signal.
#[utoipa::path(put, path = "/v1/conversations/{conversation}/received", tag = "rooms", request_body = ReadWish, params(
    ("conversation" = String, Path, description = "`user/P`, percent-encoded into one level; of rooms nobody is told"),
), responses(
    (status = 200, description = "Told", body = Done),
    (status = 400, description = "No cursor of this log, or one ahead of it", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "You may not write to the user", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn received(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(conversation): Path<String>,
    body: Bytes,
) -> Result<Json<Done>, Problem> {
    let (asker, ReadWish { cursor }, which) = (asker(&control, &caller)?, read(&body)?, parse(&conversation)?);
    let user = asker.needs_user()?;
    let at = cursor.parse::<Cursor>().ok().and_then(|cursor| control.offset(&cursor));
    let at = at.ok_or_else(|| Problem::malformed("this cursor is of another log, or ahead of this one"))?;
    if let (Conversation::With(other), Some(who)) = (&which, &caller.0) {
        let inbox = Topic::parse(&which.text()).map_err(|error| Problem::malformed(error.to_string()))?;
        control.rules().may_publish(Some(who), &inbox)?;
        pass(&control, typing::received(user, other, at.0)).await?;
    }
    Ok(Json(Done {}))
}

/// Lists the users who have entered a room, for those who may read there.
#[utoipa::path(get, path = "/v1/rooms/{room}/occupants", tag = "rooms", params(
    ("room" = String, Path, description = "Its name"),
    ("after" = Option<String>, Query, description = "Only users whose name comes after this one"),
    ("limit" = Option<usize>, Query, description = "At most so many: 100 unless given, clamped to 1 … 1,000"),
), responses(
    (status = 200, description = "A page of occupants", body = OccupantList),
    (status = 403, description = "You may not", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is none, or not for you", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn occupants(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Json<OccupantList>, Problem> {
    let (asker, query, limits, level) = (asker(&control, &caller)?, Query::of(&uri), control.limits(), encode(&name));
    let room = find(&control, &asker, &level)?;
    if !asker.reads(&room) {
        return Err(Refused::Forbidden("those who may read a room see who has entered it").into());
    }
    let limit = query.clamped("limit", (1, limits.page_messages_max), limits.page_messages_default)?;
    let after = query.text("after")?;
    let all = control.rooms().occupants(&level).unwrap_or_default();
    let is_there = |user: &str, party: &everywire_rooms::presence::Party| {
        party.state(asker.now) != Presence::Left && reads(&room, user)
    };
    let entry = |user: &str, occupant: &Occupant| OccupantEntry {
        user: asker.name_of(&room, user),
        alias: room.alias(user).filter(|_| asker.knows(&room) || asker.user == Some(user)).map(Into::into),
        nick: occupant.nick.to_string(),
        voice: everywire_rooms::presence::voice(&room, user).as_str(),
        connections: occupant.party.connections(),
    };
    let mut found: Vec<OccupantEntry> = if asker.knows(&room) {
        let there = all.after(after.as_deref()).filter(|(user, occupant)| is_there(user, &occupant.party));
        there.take(limit + 1).map(|(user, occupant)| entry(user, occupant)).collect()
    } else {
        // The order of their names would tell who they are.
        let own = after.as_deref().filter(|after| asker.user == Some(*after)).map(|user| room.name(user));
        let after = own.as_deref().or(after.as_deref());
        let there = all.after(None).filter(|(user, occupant)| is_there(user, &occupant.party));
        let mut there: Vec<_> = there.map(|(user, occupant)| (room.name(user), user, occupant)).collect();
        there.retain(|(name, ..)| after.is_none_or(|after| &**name > after));
        there.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        there.into_iter().take(limit + 1).map(|(_, user, occupant)| entry(user, occupant)).collect()
    };
    let more = found.len() > limit;
    found.truncate(limit);
    Ok(Json(OccupantList { occupants: found, more }))
}

/// Whether a user who has entered a room may still read there.
fn reads(room: &Room, user: &str) -> bool {
    let role = room.role(user);
    role.is_member() || (room.head.join == everywire_rooms::Join::Open && role > Role::Banned)
}
