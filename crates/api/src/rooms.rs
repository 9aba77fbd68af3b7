//! Rooms: founding, joining, members, roles (`docs/rooms.md`).
//!
//! Each change is a decision over the rooms as they are ([`everywire_rooms::decide`]) and a record of the log. If a
//! record that the decision rests on has changed meanwhile, the log refuses the change, and it is decided anew.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use everywire_base::access::Role;
use everywire_base::ask::{PublishError, Published, ReadKind};
use everywire_base::identity::{Identity, encode};
use everywire_base::topic::{Filter, Topic};
use everywire_rooms::decide::{self, Asker, Decision, Refused, Wish, name_of};
use everywire_rooms::presence::State as Presence;
use everywire_rooms::{By, Join, Room, Talk, Visible};
use http::{StatusCode, Uri};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::object;
use crate::caller::Caller;
use crate::control::{Control, TopicsQuestion, answered};
use crate::problem::Problem;
use crate::query::Query;

type Node = State<Arc<dyn Control>>;

/// The longest password of a room, in bytes.
const MAX_PASSWORD_BYTES: usize = 128;

/// The number of decisions after which the caller is told to try again.
pub(crate) const ATTEMPTS: usize = 8;

/// The wanted properties of a room. All fields may be left out.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `decide::Wish` reads")]
pub(crate) struct RoomWish {
    /// The title: at most 256 bytes.
    title: Option<String>,
    /// The description: at most 1,024 bytes.
    about: Option<String>,
    /// The present subject of the talk; only for a room that exists.
    subject: Option<String>,
    /// `open`, `members`, `password`.
    join: Option<String>,
    /// `all`, `voiced`, `admins`.
    talk: Option<String>,
    /// `all`, `admins`: only for a room that is founded. With `admins` all others see aliases of the users.
    see: Option<String>,
    /// `members`, `admins`.
    subject_by: Option<String>,
    /// `members`, `admins`.
    invite_by: Option<String>,
    /// Whether the room is in the list of rooms.
    listed: Option<bool>,
    /// The number of last messages that are shown to a user who enters: at most 1,000.
    greet: Option<u32>,
    /// Whether the room stays without occupants; else it ends a minute after the last has left.
    lasting: Option<bool>,
    /// The password, where `join` is `password`: 1 to 128 bytes.
    password: Option<String>,
    /// The owner, if an operator founds the room.
    owner: Option<String>,
}

/// A room.
#[derive(Serialize, ToSchema)]
pub(crate) struct RoomEntry {
    /// Its name.
    #[schema(example = "lobby")]
    room: String,
    /// Its topic.
    #[schema(example = "room/lobby")]
    topic: String,
    title: String,
    about: String,
    subject: String,
    #[schema(value_type = String)]
    join: Join,
    #[schema(value_type = String)]
    talk: Talk,
    #[schema(value_type = String)]
    see: Visible,
    #[schema(value_type = String)]
    subject_by: By,
    #[schema(value_type = String)]
    invite_by: By,
    listed: bool,
    /// The number of last messages that are shown to a user who enters.
    greet: u32,
    /// Whether the room stays without occupants.
    lasting: bool,
    owners: Vec<String>,
    members: usize,
    /// The number of users who have entered it.
    occupants: usize,
    /// The position at which the room was founded.
    founded: String,
    /// The caller's role.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nick: Option<String>,
    /// The alias by which others know the caller, where `see` is `admins`.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    may: May,
}

/// The rights of the caller in a room.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a button of a page")]
pub(crate) struct May {
    read: bool,
    talk: bool,
    join: bool,
    invite: bool,
    moderate: bool,
}

/// A room in a list.
#[derive(Serialize, ToSchema)]
pub(crate) struct RoomLine {
    room: String,
    topic: String,
    title: String,
    about: String,
    #[schema(value_type = String)]
    join: Join,
    members: usize,
    /// The caller's role.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// The alias by which others know the caller, where `see` is `admins`.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
}

/// Some rooms.
#[derive(Serialize, ToSchema)]
pub(crate) struct RoomList {
    /// Ascending by the topic level that encodes the name.
    rooms: Vec<RoomLine>,
    /// Whether there are further ones: ask again with `after` as the last name.
    more: bool,
}

/// The request to join a room.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct JoinWish {
    /// The nick: 1 to 64 bytes. The default is the user's name.
    nick: Option<String>,
    /// The password, if the room's `join` is `password`.
    password: Option<String>,
}

/// The hash of a room's password, if this is it.
async fn fitting(control: &Arc<dyn Control>, level: &str, password: Option<&str>) -> Result<Option<Box<str>>, Problem> {
    let hash = control.rooms().room(level).and_then(|room| room.head.password.clone());
    let (Some(hash), Some(password)) = (hash, password) else { return Ok(None) };
    Ok(answered(control.password_fits(&hash, password)).await?.then_some(hash))
}

/// Parses the wishes for a room. Its password becomes a hash.
async fn wish_of(control: &Arc<dyn Control>, body: &Bytes) -> Result<Wish, Problem> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Secret {
        password: Option<String>,
    }
    let (wish, Secret { password }) = (read::<Wish>(body)?, read(body)?);
    let Some(password) = password else { return Ok(wish) };
    if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
        return Err(Problem::malformed(format!("a password has 1 to {MAX_PASSWORD_BYTES} bytes")));
    }
    let hash = answered(control.hash_password(&password)).await?;
    Ok(Wish { password: Some(hash), ..wish })
}

/// A membership.
#[derive(Serialize, ToSchema)]
pub(crate) struct Joined {
    room: String,
    topic: String,
    user: String,
    role: &'static str,
    nick: String,
    /// The alias by which others know the user, where `see` is `admins`.
    #[serde(rename = "as", skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    /// A position at which the membership held.
    cursor: String,
}

/// An empty answer: the call was carried out.
#[derive(Serialize, ToSchema)]
pub(crate) struct Done {}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::NoRoom | Refused::NoMember => StatusCode::NOT_FOUND,
            Refused::Malformed(_) => StatusCode::BAD_REQUEST,
            Refused::Forbidden(_) => StatusCode::FORBIDDEN,
            Refused::Conflict(_) => StatusCode::CONFLICT,
            Refused::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
        };
        Self::new(status, refused.to_string())
    }
}

/// The user who asks. Rooms need an identity.
pub(crate) fn asker<'a>(control: &Arc<dyn Control>, caller: &'a Caller) -> Result<Asker<'a>, Problem> {
    if caller.0.is_none() {
        let what = "rooms are for those who are known: log in, or send a token";
        return Err(Problem::new(StatusCode::UNAUTHORIZED, what));
    }
    Ok(anybody(control, caller))
}

/// The caller as one who asks, also if it is anonymous.
pub(crate) fn anybody<'a>(control: &Arc<dyn Control>, caller: &'a Caller) -> Asker<'a> {
    let who = caller.0.as_deref();
    let user = who.and_then(|who| who.user.as_deref());
    Asker { user, is_operator: who.is_some_and(|who| who.admin), now: control.now() }
}

/// Carries out a decision, and decides anew if its grounds have changed. `None` if there was nothing to do.
pub(crate) async fn run(
    control: &Arc<dyn Control>,
    decide: impl Fn() -> Decision,
) -> Result<Option<Published>, Problem> {
    for _ in 0..ATTEMPTS {
        let Some(draft) = decide()? else { return Ok(None) };
        match answered(control.append(draft)).await? {
            Ok(published) => return Ok(Some(published)),
            Err(PublishError::Stale) => {}
            Err(error) => return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())),
        }
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, PublishError::Stale.to_string()))
}

pub(crate) fn find(control: &Arc<dyn Control>, asker: &Asker<'_>, level: &str) -> Result<Arc<Room>, Problem> {
    let room = control.rooms().room(level).filter(|room| asker.sees(room));
    room.ok_or_else(|| Refused::NoRoom.into())
}

fn entry(control: &Arc<dyn Control>, asker: &Asker<'_>, level: &str, room: &Room) -> RoomEntry {
    let (head, role) = (&room.head, asker.role(room));
    let own = asker.user.and_then(|user| room.member(user));
    let reads = asker.reads(room);
    let may = May {
        read: reads,
        talk: reads && role >= head.talk.from(),
        join: !role.is_member() && role > Role::Banned && (head.join != Join::Members || role == Role::Invited),
        invite: role >= head.invite_by.from(),
        moderate: role >= Role::Admin,
    };
    RoomEntry {
        room: name_of(level),
        topic: format!("room/{level}"),
        title: head.title.to_string(),
        about: head.about.to_string(),
        subject: head.subject.to_string(),
        join: head.join,
        talk: head.talk,
        see: head.see,
        subject_by: head.subject_by,
        invite_by: head.invite_by,
        listed: head.listed,
        greet: head.greet,
        lasting: head.lasting,
        owners: head.owners.iter().map(|owner| asker.name_of(room, owner)).collect(),
        members: room.members(),
        occupants: control
            .rooms()
            .occupants(level)
            .map_or(0, |all| all.after(None).filter(|(_, one)| one.party.state(asker.now) != Presence::Left).count()),
        founded: control.cursor(room.founded).to_string(),
        role: own.as_ref().map(|own| own.role.as_str()),
        nick: own.map(|own| own.nick.into()),
        alias: asker.user.and_then(|user| room.alias(user)).map(Into::into),
        may,
    }
}

pub(crate) fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    let body = if body.is_empty() { b"{}" } else { &**body };
    object(body).map_err(|error| Problem::malformed(format!("the body is not as it should be: {error}")))
}

/// Founds a room. The caller owns it.
#[utoipa::path(put, path = "/v1/rooms/{room}", tag = "rooms", request_body = RoomWish, params(
    ("room" = String, Path, description = "Its name: 1 to 128 bytes"),
), responses(
    (status = 201, description = "It is founded", body = RoomEntry),
    (status = 400, description = "A name or a field that can't be", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "There is such a room, or messages are kept on its topic", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many rooms", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn found(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<RoomEntry>), Problem> {
    let (asker, wish) = (asker(&control, &caller)?, wish_of(&control, &body).await?);
    let wish = Wish { secret: control.secret(), ..wish };
    let level = encode(&name);
    let has_messages = has_messages(&control, &level, wish.see == Some(Visible::Admins)).await?;
    let limits = control.limits();
    let decide = || decide::found(control.rooms(), asker, &name, &wish, has_messages, limits).map(Some);
    run(&control, decide).await?;
    let room = find(&control, &asker, &level)?;
    Ok((StatusCode::CREATED, Json(entry(&control, &asker, &level, &room))))
}

/// Whether messages are kept on a room's topic, or on one below it too.
async fn has_messages(control: &Arc<dyn Control>, level: &str, or_below: bool) -> Result<bool, Problem> {
    let name = format!("room/{level}");
    let (Ok(topic), Ok(all)) = (Topic::parse(&name), Filter::parse(&format!("{name}/#"))) else { return Ok(false) };
    // A page is as new as the log. The numbers of the topics that are asked for after it are too.
    let last = ReadKind::Backwards { before: None, max_records: 1, max_bytes: 1, with_recalled: true };
    answered(control.pages(vec![(topic.clone(), last)])).await?;
    let operator = Identity { admin: true, ..Identity::default() };
    let filter = if or_below { all } else { Filter::Exact(topic) };
    if or_below && !answered(control.retained(filter.clone())).await?.is_empty() {
        return Ok(true);
    }
    let mut question =
        TopicsQuestion { identity: Some(Arc::new(operator)), filter: Some(filter), after: None, limit: 1000 };
    loop {
        let page = answered(control.topics(question.clone())).await?;
        if page.topics.iter().any(|topic| topic.count > 0) {
            return Ok(true);
        }
        match page.topics.last().filter(|_| page.more) {
            Some(last) => question.after = Some(last.topic.clone()),
            None => return Ok(false),
        }
    }
}

/// A room.
#[utoipa::path(get, path = "/v1/rooms/{room}", tag = "rooms", params(
    ("room" = String, Path, description = "Its name"),
), responses(
    (status = 200, description = "What is known of it", body = RoomEntry),
    (status = 404, description = "There is none, or not for you", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn room(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<RoomEntry>, Problem> {
    let (asker, level) = (asker(&control, &caller)?, encode(&name));
    let room = find(&control, &asker, &level)?;
    Ok(Json(entry(&control, &asker, &level, &room)))
}

/// Changes a room. Admins and owners may; the subject also others, as `subject_by` says.
#[utoipa::path(patch, path = "/v1/rooms/{room}", tag = "rooms", request_body = RoomWish, params(
    ("room" = String, Path, description = "Its name"),
), responses(
    (status = 200, description = "As it is now", body = RoomEntry),
    (status = 400, description = "A field that can't be", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "You may not", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is none, or not for you", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn change(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<RoomEntry>, Problem> {
    let (asker, wish, level) = (asker(&control, &caller)?, wish_of(&control, &body).await?, encode(&name));
    run(&control, || decide::change(control.rooms(), asker, &level, &wish)).await?;
    let room = find(&control, &asker, &level)?;
    Ok(Json(entry(&control, &asker, &level, &room)))
}

/// Ends a room. Owners may. Nobody can read its messages any more, even after the name is founded again.
#[utoipa::path(delete, path = "/v1/rooms/{room}", tag = "rooms", params(
    ("room" = String, Path, description = "Its name"),
), responses(
    (status = 200, description = "It is gone", body = Done),
    (status = 403, description = "You may not", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is none, or not for you", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn end(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    let (asker, level) = (asker(&control, &caller)?, encode(&name));
    run(&control, || decide::end(control.rooms(), asker, &level)).await?;
    Ok(Json(Done {}))
}

/// The rooms that are listed, or those that the caller is a member of.
#[utoipa::path(get, path = "/v1/rooms", tag = "rooms", params(
    ("listed" = Option<String>, Query, description = "`1`: all that are listed"),
    ("member" = Option<String>, Query, description = "`me`: those that the caller belongs to or is invited to"),
    ("after" = Option<String>, Query, description = "Only rooms whose name comes after this one"),
    ("limit" = Option<usize>, Query, description = "At most so many: 100 unless given, clamped to 1 … 1,000"),
), responses(
    (status = 200, description = "A page of rooms", body = RoomList),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn rooms(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<RoomList>, Problem> {
    let (asker, query, limits) = (asker(&control, &caller)?, Query::of(&uri), control.limits());
    let limit = query.clamped("limit", (1, limits.page_messages_max), limits.page_messages_default)?;
    let after = query.text("after")?.map(|name| encode(&name));
    let rooms = control.rooms();
    let mut found = match query.text("member")?.as_deref() {
        Some("me") => {
            let own = asker.user.map(|user| rooms.of_user(user, after.as_deref())).unwrap_or_default();
            own.into_iter().filter(|(_, room)| asker.role(room) >= Role::Invited).take(limit + 1).collect()
        }
        Some(_) => return Err(Problem::malformed("`member` is `me`")),
        None => rooms.list(after.as_deref(), limit + 1, |_, room| room.head.listed || asker.is_operator),
    };
    let more = found.len() > limit;
    found.truncate(limit);
    let line = |(level, room): &(Arc<str>, Arc<Room>)| RoomLine {
        room: name_of(level),
        topic: format!("room/{level}"),
        title: room.head.title.to_string(),
        about: room.head.about.to_string(),
        join: room.head.join,
        members: room.members(),
        role: asker.user.and_then(|user| room.member(user)).map(|own| own.role.as_str()),
        alias: asker.user.and_then(|user| room.alias(user)).map(Into::into),
    };
    Ok(Json(RoomList { rooms: found.iter().map(line).collect(), more }))
}

/// Joins a room, or takes another nick there.
#[utoipa::path(post, path = "/v1/rooms/{room}/join", tag = "rooms", request_body = JoinWish, params(
    ("room" = String, Path, description = "Its name"),
), responses(
    (status = 200, description = "The membership", body = Joined),
    (status = 403, description = "Banned, or not invited", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is none, or not for you", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The nick is another member's", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "The room is full, or too many of yours", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn join(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<Joined>, Problem> {
    let (asker, wish, level) = (asker(&control, &caller)?, read::<JoinWish>(&body)?, encode(&name));
    let limits = control.limits();
    let fits = fitting(&control, &level, wish.password.as_deref()).await?;
    let (nick, fits) = (wish.nick.as_deref(), fits.as_deref());
    run(&control, || decide::join(control.rooms(), asker, &level, nick, fits, limits)).await?;
    let cursor = control.cursor(control.rooms().as_of()).to_string();
    let room = find(&control, &asker, &level)?;
    let own = asker.user.and_then(|user| room.member(user)).ok_or(Refused::NoMember)?;
    let alias = room.alias(&own.user).map(Into::into);
    let (user, role, nick) = (own.user.to_string(), own.role.as_str(), own.nick.into());
    Ok(Json(Joined { room: name, topic: format!("room/{level}"), user, role, nick, alias, cursor }))
}

/// Leaves a room.
#[utoipa::path(post, path = "/v1/rooms/{room}/leave", tag = "rooms", params(
    ("room" = String, Path, description = "Its name"),
), responses(
    (status = 200, description = "No member any more", body = Done),
    (status = 404, description = "There is none, or not for you", body = Problem, content_type = "application/problem+json"),
    (status = 409, description = "The last owner stays", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn leave(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<Done>, Problem> {
    let (asker, level) = (asker(&control, &caller)?, encode(&name));
    run(&control, || decide::leave(control.rooms(), asker, &level)).await?;
    Ok(Json(Done {}))
}
