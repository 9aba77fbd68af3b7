//! The HTTP API beside the hot path: topics, the registry of connections and users, traces, health, readiness, metrics,
//! the API's description and the web files.
//!
//! It is an [`axum::Router`] that is called in process: there is no socket, no listener and no connection here. It asks
//! the running node through [`Control`]; every question is answered within [`ANSWER_WITHIN`], or the caller gets 503.
//!
//! Publishing, polling and streaming are not here: they belong to the HTTP wire. Their routes are described here all
//! the same (`GET /openapi.json`), so that there is one description.
//!
//! Invariants: an error is `application/problem+json` (RFC 9457); every change of the node is a record of its log.

mod admission;
mod body;
mod caller;
mod changes;
mod control;
mod conversations;
mod guests;
mod history;
mod lab;
mod members;
mod openapi;
mod problem;
mod query;
mod registry;
mod rooms;
mod routes;
mod secrets;
mod signals;
mod trace;
mod web;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use everywire_base::ask::{Call, Reply};
use tower::ServiceExt as _;

pub use admission::longest_body;
pub use control::{
    ANSWER_WITHIN, Answer, Control, Guest, Health, Metrics, MetricsFormat, NoGuest, Readiness, State, TopicInfo,
    TopicsPage, TopicsQuestion, Unanswered,
};
pub use openapi::description;
pub use problem::Problem;

/// All routes over a running node. The runtime that calls it must have tokio's timer.
pub fn router(control: Arc<dyn Control>) -> Router {
    routes::router(control)
}

/// The most bytes of an answer of the API.
const MAX_REPLY_BYTES: usize = 64 << 20;

/// Calls the router with a request that came over the HTTP wire, and collects its answer.
pub async fn call(router: Router, call: Call) -> Reply {
    let reply_to = call.reply_to;
    let response = match request(call) {
        Ok(request) => router.oneshot(request).await.unwrap_or_else(|never| match never {}),
        Err(problem) => axum::response::IntoResponse::into_response(problem),
    };
    let (head, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, MAX_REPLY_BYTES).await else {
        let what = format!("the answer is longer than {MAX_REPLY_BYTES} bytes: ask for less");
        return Problem::new(http::StatusCode::INTERNAL_SERVER_ERROR, what).into_reply(reply_to);
    };
    let headers = head.headers.iter().filter(|(name, _)| **name != http::header::CONTENT_LENGTH);
    let headers = headers.map(|(name, value)| (name.as_str().into(), value.as_bytes().into())).collect();
    Reply { reply_to, status: head.status.as_u16(), headers, body }
}

fn request(call: Call) -> Result<http::Request<Body>, Problem> {
    let caller = caller::Caller(call.identity);
    let from = caller::From(call.from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    let mut request =
        http::Request::builder().method(&*call.method).uri(&*call.target).extension(caller).extension(from);
    for (name, value) in &call.headers {
        request = request.header(&**name, &**value);
    }
    request.body(Body::from(call.body)).map_err(|error| Problem::malformed(format!("not a request: {error}")))
}
