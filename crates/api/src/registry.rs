//! The connections, the devices that were connected, and the end of connections.
//!
//! All of it needs an operator (RULES 22), except questions of users about themselves. A kick is a record, which every
//! worker applies: the answer is the number of connections that it meant when it was asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use everywire_base::ask::Draft;
use everywire_base::clock::UnixMillis;
use everywire_base::record::{Durability, System};
use everywire_base::registry::{ConnectionInfo, ConnectionsQuery, Everywhere};
use everywire_base::system::{self, Kick, Seen, Whom};
use everywire_base::topic::{Filter, Topic};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::object;
use crate::caller::Caller;
use crate::control::{Control, answered};
use crate::problem::Problem;
use crate::query::Query;

type Node = State<Arc<dyn Control>>;

/// The most bytes of a reason: it must fit into a WebSocket close frame.
const MAX_REASON_BYTES: usize = 120;
/// The most users of one question.
const MAX_USERS: usize = 1000;
/// The most users about whom the nodes are asked at once.
const USERS_AT_ONCE: usize = 100;

/// A connection.
#[derive(Serialize, ToSchema)]
pub(crate) struct Connection {
    /// Its name.
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// The node that it is connected to.
    node: String,
    /// The wire that it speaks: `sse`, `ws`, `tcp`, …
    wire: String,
    /// The remote address.
    address: String,
    /// The software at the other end.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// The time at which it connected.
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    /// The position up to which it has everything.
    cursor: String,
    /// The number of records that it is behind the log.
    lag: u64,
    /// The number of messages sent and not acknowledged, in its session.
    outstanding: u64,
    /// The time of its last acknowledgement.
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<String>,
    /// The number of its filters.
    subscriptions: u64,
    bytes_in: u64,
    bytes_out: u64,
}

impl From<ConnectionInfo> for Connection {
    fn from(info: ConnectionInfo) -> Self {
        // NODE-BOOT-WORKER-PLACE-GENERATION
        let node = info.name.rsplitn(5, '-').last().unwrap_or_default().to_owned();
        Self {
            node,
            id: info.name.into(),
            user: info.user.map(Into::into),
            device: info.device.map(Into::into),
            wire: info.wire.into(),
            address: info.address.to_string(),
            agent: info.agent.map(Into::into),
            since: info.since.to_string(),
            session: info.session.map(Into::into),
            cursor: info.cursor.to_string(),
            lag: info.lag,
            outstanding: info.outstanding,
            acknowledged: info.acknowledged.map(|at| at.to_string()),
            subscriptions: info.subscriptions,
            bytes_in: info.bytes_in,
            bytes_out: info.bytes_out,
        }
    }
}

/// A page of connections.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_field_names, reason = "these are the names in the answer")]
pub(crate) struct Connections {
    connections: Vec<Connection>,
    /// Whether there are further ones: ask again with `after` as the last id.
    more: bool,
    /// The living nodes that have not answered in time: their findings are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// The connections of all nodes: operators see all, users their own.
#[utoipa::path(get, path = "/v1/connections", tag = "registry", params(
    ("user" = Option<String>, Query, description = "Only this user's"),
    ("topic" = Option<String>, Query, description = "Only those that are subscribed to this topic"),
    ("wire" = Option<String>, Query, description = "Only those that speak this wire"),
    ("after" = Option<String>, Query, description = "Only those after the connection of this id"),
    ("limit" = Option<usize>, Query, description = "At most so many: 100 unless given, clamped to 1 … 1,000"),
), responses(
    (status = 200, description = "A page of connections", body = Connections),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not an operator", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn connections(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Connections>, Problem> {
    let query = Query::of(&uri);
    let user = query.text("user")?;
    user.as_ref().map_or_else(|| caller.admin(), |user| caller.admin_or(user))?;
    let limits = control.limits();
    let limit = query.clamped("limit", (1, limits.page_messages_max), limits.page_messages_default)?;
    let question = ConnectionsQuery {
        users: user.map(Into::into).into_iter().collect(),
        topic: query.topic("topic", |text| Topic::parse(text).map_err(|e| e.to_string()))?,
        wire: query.text("wire")?.map(Into::into),
        after: query.text("after")?.map(Into::into),
        name: None,
        limit: limit + 1,
    };
    let Everywhere { mut found, missing } = answered(control.connections(question)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let missing = names(missing);
    Ok(Json(Connections { connections: found.into_iter().map(Into::into).collect(), more, missing }))
}

/// A user's devices and their connections.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserEntry {
    user: String,
    online: bool,
    devices: Vec<DeviceEntry>,
    /// The living nodes that have not answered in time: their findings are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// A device.
#[derive(Serialize, ToSchema)]
pub(crate) struct DeviceEntry {
    /// Connections that name no device stand together, without a name.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    online: bool,
    connections: Vec<Connection>,
    /// The device's last connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen: Option<LastSeen>,
}

/// The last time and place of a device's connection.
#[derive(Serialize, ToSchema)]
pub(crate) struct LastSeen {
    at: String,
    wire: String,
    address: String,
    node: String,
}

fn names(missing: Vec<Box<str>>) -> Vec<String> {
    missing.into_iter().map(Into::into).collect()
}

/// The connections of some users, by user. A user of many connections among them would hide those of others: then each
/// is asked about alone.
async fn connections_of(
    control: &Arc<dyn Control>,
    users: &[Box<str>],
) -> Result<Everywhere<HashMap<Box<str>, Vec<ConnectionInfo>>>, Problem> {
    let limit = control.limits().page_messages_max;
    let ask = async |users: &[Box<str>]| {
        let query = ConnectionsQuery { users: users.to_vec(), limit, ..ConnectionsQuery::default() };
        answered(control.connections(query)).await
    };
    let Everywhere { found, mut missing } = ask(users).await?;
    let mut all = vec![found];
    if all[0].len() >= limit && users.len() > 1 {
        all.clear();
        for user in users {
            let one = ask(std::slice::from_ref(user)).await?;
            all.push(one.found);
            missing.extend(one.missing);
        }
    }
    missing.sort_unstable();
    missing.dedup();
    let mut found: HashMap<Box<str>, Vec<ConnectionInfo>> = HashMap::new();
    for info in all.into_iter().flatten() {
        let Some(user) = info.user.clone() else { continue };
        found.entry(user).or_default().push(info);
    }
    Ok(Everywhere { found, missing })
}

async fn describe(
    control: &Arc<dyn Control>,
    user: &str,
    Everywhere { found: connections, missing }: Everywhere<Vec<ConnectionInfo>>,
) -> Result<UserEntry, Problem> {
    let online = !connections.is_empty();
    let mut devices: BTreeMap<Option<String>, DeviceEntry> = BTreeMap::new();
    let empty = |device: Option<String>| DeviceEntry { device, online: false, connections: vec![], last_seen: None };
    for info in connections {
        let name = info.device.as_deref().map(ToOwned::to_owned);
        let device = devices.entry(name.clone()).or_insert_with(|| empty(name));
        device.online = true;
        device.connections.push(info.into());
    }
    let seen = system::seen_topic(user, None).map(|topic| format!("{topic}+"));
    let filter = seen.and_then(|text| Filter::parse(&text).ok());
    let records = match filter {
        Some(filter) => answered(control.retained(filter)).await?,
        None => Vec::new(),
    };
    for seen in records.iter().filter_map(|record| system::read::<Seen>(record.system()?)) {
        let name = seen.device.as_deref().map(ToOwned::to_owned);
        let device = devices.entry(name.clone()).or_insert_with(|| empty(name));
        let (wire, address, node) = (seen.wire.into(), seen.address.into(), seen.node.into());
        device.last_seen = Some(LastSeen { at: UnixMillis(seen.at_ms).to_string(), wire, address, node });
    }
    let (user, devices, missing) = (user.to_owned(), devices.into_values().collect(), names(missing));
    Ok(UserEntry { user, online, devices, missing })
}

/// A user: devices, their connections, and when they were last seen.
#[utoipa::path(get, path = "/v1/users/{user}", tag = "registry", params(
    ("user" = String, Path, description = "The user"),
), responses(
    (status = 200, description = "What is known of the user", body = UserEntry),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Neither an operator nor the user", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn user(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<Json<UserEntry>, Problem> {
    caller.admin_or(&user)?;
    let Everywhere { mut found, missing } = connections_of(&control, &[user.as_str().into()]).await?;
    let found = found.remove(user.as_str()).unwrap_or_default();
    Ok(Json(describe(&control, &user, Everywhere { found, missing }).await?))
}

/// The users that are asked for.
#[derive(Deserialize, ToSchema)]
pub(crate) struct UsersQuestion {
    users: Vec<String>,
}

/// The entries of several users, in the order of the question.
#[derive(Serialize, ToSchema)]
pub(crate) struct UsersAnswer {
    users: Vec<UserEntry>,
}

/// Several users at once.
#[utoipa::path(post, path = "/v1/users/query", tag = "registry", request_body = UsersQuestion, responses(
    (status = 200, description = "What is known of them", body = UsersAnswer),
    (status = 400, description = "Malformed, or more than 1,000", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not an operator", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn query(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Result<Json<UsersAnswer>, Problem> {
    caller.admin()?;
    let question: UsersQuestion =
        object(&body).map_err(|error| Problem::malformed(format!("the body is not {{\"users\":[…]}}: {error}")))?;
    if question.users.len() > MAX_USERS {
        return Err(Problem::malformed(format!("at most {MAX_USERS} users at once")));
    }
    let mut users = Vec::with_capacity(question.users.len());
    let asked: Vec<Box<str>> = question.users.iter().map(|user| user.as_str().into()).collect();
    for chunk in asked.chunks(USERS_AT_ONCE) {
        let Everywhere { found, missing } = connections_of(&control, chunk).await?;
        for user in chunk {
            let found = found.get(user).cloned().unwrap_or_default();
            users.push(describe(&control, user, Everywhere { found, missing: missing.clone() }).await?);
        }
    }
    Ok(Json(UsersAnswer { users }))
}

/// The subscribers of a topic.
#[derive(Serialize, ToSchema)]
pub(crate) struct Presence {
    topic: String,
    users: Vec<Present>,
    /// Connections without an identity.
    anonymous: usize,
    /// The living nodes that have not answered in time: their findings are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

/// A user who is subscribed.
#[derive(Serialize, ToSchema)]
pub(crate) struct Present {
    user: String,
    devices: Vec<String>,
    connections: usize,
}

/// The subscribers of a topic: for users who may subscribe, where its rule has `presence`; for operators always.
#[utoipa::path(get, path = "/v1/presence", tag = "registry", params(
    ("topic" = String, Query, description = "The topic"),
), responses(
    (status = 200, description = "Who is subscribed, of the first 1,000 connections", body = Presence),
    (status = 400, description = "The topic is missing or malformed", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not allowed", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn presence(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Presence>, Problem> {
    let topic = Query::of(&uri).topic("topic", |text| Topic::parse(text).map_err(|e| e.to_string()))?;
    let topic = topic.ok_or_else(|| Problem::malformed("say of what: `topic=` is missing"))?;
    if caller.admin().is_err() {
        let rules = control.rules();
        rules.may_subscribe(caller.0.as_deref(), &Filter::Exact(topic.clone())).map_err(Problem::from)?;
        if !rules.of(&topic).presence {
            let why = "who is subscribed isn't told here: the topic's rule has no `presence = true`";
            return Err(Problem::new(StatusCode::FORBIDDEN, why));
        }
    }
    let limit = control.limits().page_messages_max;
    let query = ConnectionsQuery { topic: Some(topic.clone()), limit, ..ConnectionsQuery::default() };
    let mut users: BTreeMap<String, Present> = BTreeMap::new();
    let mut anonymous = 0;
    let Everywhere { found, missing } = answered(control.connections(query)).await?;
    for info in found {
        let Some(user) = info.user.map(String::from) else {
            anonymous += 1;
            continue;
        };
        let fresh = || Present { user: user.clone(), devices: Vec::new(), connections: 0 };
        let present = users.entry(user.clone()).or_insert_with(fresh);
        present.connections += 1;
        let device = info.device.map(String::from).filter(|device| !present.devices.contains(device));
        present.devices.extend(device);
    }
    let (topic, users, missing) = (topic.to_string(), users.into_values().collect(), names(missing));
    Ok(Json(Presence { topic, users, anonymous, missing }))
}

/// The number of connections that were meant, at the nodes that answered.
#[derive(Serialize, ToSchema)]
pub(crate) struct Kicked {
    kicked: usize,
}

async fn kick(control: &Arc<dyn Control>, whom: Whom, uri: &Uri) -> Result<Json<Kicked>, Problem> {
    let reason = Query::of(uri).parsed("reason", |text| {
        let fits = text.len() <= MAX_REASON_BYTES && !text.chars().any(char::is_control);
        let wrong = || format!("a reason has at most {MAX_REASON_BYTES} bytes and no control characters");
        if fits { Ok(text.to_owned()) } else { Err(wrong()) }
    })?;
    let (user, device, name) = match &whom {
        Whom::Connection(name) => (None, None, Some(name.clone())),
        Whom::Device { user, device } => (Some(user.clone()), Some(device.clone()), None),
        Whom::User(user) => (Some(user.clone()), None, None),
    };
    let is_one = name.is_some();
    let limit = control.limits().page_messages_max;
    let users = user.into_iter().collect();
    let mut query = ConnectionsQuery { users, name, limit, ..ConnectionsQuery::default() };
    let mut meant = 0;
    let missing = loop {
        let Everywhere { found, missing } = answered(control.connections(query.clone())).await?;
        meant += found.iter().filter(|info| device.is_none() || info.device == device).count();
        query.after = found.last().map(|info| info.name.clone());
        if found.len() < limit {
            break missing;
        }
    };
    // A node that didn't answer may have it: every node reads the kick.
    if is_one && meant == 0 && missing.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such connection, or not any more"));
    }
    let kick = Kick { whom, reason: reason.unwrap_or_else(|| "kicked".into()).into() };
    let topic = Topic::parse(system::KICK).map_err(|error| Problem::malformed(error.to_string()))?;
    append(control, system::record(topic, &kick, false), Durability::None).await?;
    Ok(Json(Kicked { kicked: meant }))
}

pub(crate) async fn append(control: &Arc<dyn Control>, record: System, durability: Durability) -> Result<(), Problem> {
    let done = answered(control.append(Draft::new(record, durability))).await?;
    done.map(|_| ()).map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))
}

/// Ends a connection, and tells its client not to come back.
#[utoipa::path(delete, path = "/v1/connections/{id}", tag = "registry", params(
    ("id" = String, Path, description = "The connection's id"),
    ("reason" = Option<String>, Query, description = "For the client: at most 120 bytes"),
), responses(
    (status = 200, description = "It is being ended", body = Kicked),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not an operator", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is none", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn kick_connection(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Result<Json<Kicked>, Problem> {
    caller.admin()?;
    kick(&control, Whom::Connection(id.into()), &uri).await
}

/// Ends the connections of a user's device.
#[utoipa::path(delete, path = "/v1/users/{user}/devices/{device}", tag = "registry", params(
    ("user" = String, Path, description = "The user"),
    ("device" = String, Path, description = "The device"),
    ("reason" = Option<String>, Query, description = "For the client: at most 120 bytes"),
), responses(
    (status = 200, description = "They are being ended", body = Kicked),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Neither an operator nor the user", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn kick_device(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path((user, device)): Path<(String, String)>,
    uri: Uri,
) -> Result<Json<Kicked>, Problem> {
    caller.admin_or(&user)?;
    kick(&control, Whom::Device { user: user.into(), device: device.into() }, &uri).await
}

/// Ends all connections of a user.
#[utoipa::path(delete, path = "/v1/users/{user}/connections", tag = "registry", params(
    ("user" = String, Path, description = "The user"),
    ("reason" = Option<String>, Query, description = "For the client: at most 120 bytes"),
), responses(
    (status = 200, description = "They are being ended", body = Kicked),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Neither an operator nor the user", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn kick_user(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
    uri: Uri,
) -> Result<Json<Kicked>, Problem> {
    caller.admin_or(&user)?;
    kick(&control, Whom::User(user.into()), &uri).await
}
