//! The routes of the API.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, patch, post, put};
use axum::{Extension, Json, Router};
use everywire_base::limits::Limits;
use everywire_base::topic::{Filter, Topic};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::control::{Control, Health, State as NodeState, TopicInfo, TopicsQuestion, answered};
use crate::openapi;
use crate::problem::Problem;
use crate::query::Query;
use crate::registry;
use crate::web;
use crate::{changes, conversations, guests, history, members, rooms, secrets, signals, trace};

type Node = State<Arc<dyn Control>>;

/// All routes.
pub(crate) fn router(control: Arc<dyn Control>) -> Router {
    Router::new()
        .route("/v1/topics", get(topics))
        .route("/v1/connections", get(registry::connections))
        .route("/v1/connections/{id}", delete(registry::kick_connection))
        .route("/v1/presence", get(registry::presence))
        .route("/v1/users", get(secrets::users))
        .route("/v1/users/query", post(registry::query))
        .route("/v1/users/{user}", get(registry::user))
        .route("/v1/users/{user}/connections", delete(registry::kick_user))
        .route("/v1/users/{user}/devices/{device}", delete(registry::kick_device))
        .route("/v1/users/{user}/secret", put(secrets::put_secret).delete(secrets::delete_secret))
        .route("/v1/rooms", get(rooms::rooms))
        .route("/v1/rooms/{room}", put(rooms::found).get(rooms::room).patch(rooms::change).delete(rooms::end))
        .route("/v1/rooms/{room}/join", post(rooms::join))
        .route("/v1/rooms/{room}/leave", post(rooms::leave))
        .route("/v1/rooms/{room}/invites", post(members::invite))
        .route("/v1/rooms/{room}/occupants", get(signals::occupants))
        .route("/v1/rooms/{room}/members", get(members::members))
        .route("/v1/rooms/{room}/members/{user}", put(members::give_role).delete(members::remove))
        .route("/v1/conversations", get(conversations::list))
        .route("/v1/conversations/{conversation}", get(conversations::get).patch(conversations::set))
        .route("/v1/conversations/{conversation}/read", put(conversations::read))
        .route("/v1/conversations/{conversation}/received", put(signals::received))
        .route("/v1/conversations/{conversation}/typing", post(signals::typing))
        .route("/v1/blocked", get(conversations::blocked))
        .route("/v1/blocked/{user}", put(conversations::block).delete(conversations::unblock))
        .route("/v1/messages", get(history::folded))
        .route("/v1/messages/{id}", patch(changes::edit).delete(changes::recall))
        .route("/v1/messages/{id}/reactions/{key}", put(changes::react).delete(changes::unreact))
        .route("/v1/lab", get(crate::lab::lab))
        .route("/v1/guests", post(guests::make))
        .route("/v1/messages/{id}/trace", get(trace::trace))
        .route("/healthz", get(health))
        .route("/readyz", get(readiness))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(description))
        .route("/", get(web::home))
        .route("/console", get(web::console))
        .route("/chat", get(web::chat))
        .route("/lab", get(web::lab))
        .route("/web/{*path}", get(web::file))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(tower::util::MapResponseLayer::new(guard))
        .with_state(control)
}

/// Sets the headers that every answer has, except where it sets them itself.
fn guard(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The topics of a page.
#[derive(Serialize, ToSchema)]
pub(crate) struct Topics {
    /// Ascending by name.
    topics: Vec<TopicEntry>,
    /// Whether there are further ones: ask again with `after` as the last name.
    more: bool,
}

/// A topic.
#[derive(Serialize, ToSchema)]
pub(crate) struct TopicEntry {
    /// Its name.
    #[schema(example = "room/42")]
    topic: String,
    /// The position of its last message.
    #[schema(example = "k3f9:1289")]
    cursor: String,
    /// The number of kept messages.
    count: u64,
    /// The number of their bytes.
    bytes: u64,
    /// The number of connections of this node that are subscribed to it.
    subscribers: u64,
}

impl From<TopicInfo> for TopicEntry {
    fn from(info: TopicInfo) -> Self {
        Self {
            topic: info.topic.as_str().to_owned(),
            cursor: info.cursor.to_string(),
            count: info.count,
            bytes: info.bytes,
            subscribers: info.subscribers,
        }
    }
}

/// Topics with their last position, the number of kept messages, and the number of subscribers.
#[utoipa::path(get, path = "/v1/topics", tag = "server", params(
    ("filter" = Option<String>, Query, description = "Only topics that this filter takes; `#` is written `%23`, `+` is itself"),
    ("after" = Option<String>, Query, description = "Only topics whose name comes after this one"),
    ("limit" = Option<usize>, Query, description = "At most so many: 100 unless given, clamped to 1 … 1,000"),
), responses(
    (status = 200, description = "A page of topics", body = Topics),
    (status = 400, description = "A parameter is malformed", body = Problem, content_type = "application/problem+json"),
    (status = 503, description = "No answer in time", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn topics(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Topics>, Problem> {
    let page = answered(control.topics(topics_question(&uri, caller, control.limits())?)).await?;
    Ok(Json(Topics { topics: page.topics.into_iter().map(TopicEntry::from).collect(), more: page.more }))
}

fn topics_question(uri: &Uri, caller: Caller, limits: &Limits) -> Result<TopicsQuestion, Problem> {
    let query = Query::of(uri);
    Ok(TopicsQuestion {
        identity: caller.0,
        filter: query.topic("filter", |text| Filter::parse(text).map_err(|e| e.to_string()))?,
        after: query.topic("after", |text| Topic::parse(text).map_err(|e| e.to_string()))?,
        limit: query.clamped("limit", (1, limits.page_messages_max), limits.page_messages_default)?,
    })
}

/// The state of the server.
#[derive(Serialize, ToSchema)]
pub(crate) struct Status {
    /// `alive` or `ready`.
    #[schema(example = "ready")]
    state: &'static str,
    /// The server's version.
    version: &'static str,
}

/// Whether the server lives; it fails only when a part of it is stuck.
#[utoipa::path(get, path = "/healthz", tag = "server", responses(
    (status = 200, description = "It lives", body = Status),
    (status = 503, description = "A part of it is stuck", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn health(State(control): Node) -> Result<Json<Status>, Problem> {
    match answered(control.health()).await? {
        Health::Alive => Ok(Json(Status { state: "alive", version: control.version() })),
        Health::Stuck(parts) => Err(unavailable("stuck", "a part of the server is stuck: restart it", parts)),
    }
}

/// Whether the server serves: restored, connected to its engine, not draining.
#[utoipa::path(get, path = "/readyz", tag = "server", responses(
    (status = 200, description = "It serves", body = Status),
    (status = 503, description = "It doesn't, and why", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn readiness(State(control): Node) -> Result<Json<Status>, Problem> {
    let readiness = answered(control.readiness()).await?;
    let detail = match readiness.state {
        NodeState::Ready => return Ok(Json(Status { state: "ready", version: control.version() })),
        NodeState::Restoring => "the server is reading back what it stored: wait a little",
        NodeState::Draining => "the server is going down: use another one, or come back later",
        NodeState::EngineDown => "the server's engine does not answer: look after it; service returns by itself",
    };
    Err(unavailable(readiness.state.as_str(), detail, readiness.reasons))
}

fn unavailable(state: &'static str, detail: &str, reasons: Vec<String>) -> Problem {
    Problem { state: Some(state), reasons, ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
}

/// All metrics, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", tag = "server", responses(
    (status = 200, description = "Prometheus' text format or OpenMetrics", body = String, content_type = "application/openmetrics-text"),
    (status = 503, description = "No answer in time", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn metrics(State(control): Node) -> Result<Response, Problem> {
    let metrics = answered(control.metrics()).await?;
    Ok(([(header::CONTENT_TYPE, metrics.format.content_type())], metrics.text).into_response())
}

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "server", responses(
    (status = 200, description = "The description of the whole HTTP API", body = Object),
))]
pub(crate) async fn description(State(control): Node) -> Response {
    let body = openapi::description(control.version());
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn nothing_here(uri: Uri) -> Problem {
    let path = uri.path();
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("there is nothing at {path}: the routes are described at /openapi.json, the web page is at /"),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} can't be asked with {method}: the header Allow says how", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}
