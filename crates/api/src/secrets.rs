//! Static users: the secrets that check their passwords. The passwords themselves never come here.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use everywire_base::identity::check_name;
use everywire_base::record::{Durability, System};
use everywire_base::system;
use everywire_base::topic::{Filter, Topic};
use http::{StatusCode, Uri};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::control::{Control, answered};
use crate::problem::Problem;
use crate::query::Query;
use crate::registry::append;

type Node = State<Arc<dyn Control>>;

/// The most bytes of a user's secret.
const MAX_SECRET_BYTES: usize = 4096;

/// Static users.
#[derive(Serialize, ToSchema)]
pub(crate) struct Users {
    users: Vec<UserName>,
    /// Whether there are further ones: ask again with `after` as the last name.
    more: bool,
}

/// A static user.
#[derive(Serialize, ToSchema)]
pub(crate) struct UserName {
    user: String,
}

/// The static users.
#[utoipa::path(get, path = "/v1/users", tag = "registry", params(
    ("after" = Option<String>, Query, description = "Only users whose name comes after this one"),
    ("limit" = Option<usize>, Query, description = "At most so many: 100 unless given, clamped to 1 … 1,000"),
), responses(
    (status = 200, description = "A page of users", body = Users),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not an operator", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn users(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Users>, Problem> {
    #[derive(Deserialize)]
    struct Named {
        user: String,
    }
    caller.admin()?;
    let (query, limits) = (Query::of(&uri), control.limits());
    let limit = query.clamped("limit", (1, limits.page_messages_max), limits.page_messages_default)?;
    let after = query.text("after")?.unwrap_or_default();
    let all = Filter::parse(&format!("{}+", system::USERS)).map_err(|error| Problem::malformed(error.to_string()))?;
    let records = answered(control.retained(all)).await?;
    let known = records.iter().filter_map(|record| system::read::<Named>(record.system()?));
    let mut names: Vec<String> = known.map(|known| known.user).filter(|user| *user > after).collect();
    names.sort_unstable();
    let more = names.len() > limit;
    names.truncate(limit);
    Ok(Json(Users { users: names.into_iter().map(|user| UserName { user }).collect(), more }))
}

fn secret_topic(user: &str) -> Result<Topic, Problem> {
    let name = check_name(user).map_err(|error| Problem::malformed(error.to_string()))?;
    system::user_topic(&name).ok_or_else(|| Problem::malformed("the name is too long"))
}

/// Adds a static user, or changes the secret that checks the password. The body comes from `everywire user add`: the
/// password itself never reaches the server.
#[utoipa::path(put, path = "/v1/users/{user}/secret", tag = "registry", params(
    ("user" = String, Path, description = "The user"),
), request_body = Object, responses(
    (status = 204, description = "It holds"),
    (status = 400, description = "No name, or no JSON object of at most 4 KiB", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not an operator", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn put_secret(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    caller.admin()?;
    let topic = secret_topic(&user)?;
    let object: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_slice(&body);
    let object =
        object.ok().filter(|object| body.len() <= MAX_SECRET_BYTES && object.get("user") == Some(&user.into()));
    let Some(object) = object else {
        return Err(Problem::malformed(
            "the body is not the user's secret: a JSON object of at most 4 KiB with `user`",
        ));
    };
    append(&control, system::record(topic, &object, true), Durability::Fsync).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a static user. The user's connections go on; to end them is another call.
#[utoipa::path(delete, path = "/v1/users/{user}/secret", tag = "registry", params(
    ("user" = String, Path, description = "The user"),
), responses(
    (status = 204, description = "The user is removed"),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not an operator", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "There is no such user", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn delete_secret(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<StatusCode, Problem> {
    caller.admin()?;
    let topic = secret_topic(&user)?;
    if answered(control.retained(Filter::Exact(topic.clone()))).await?.is_empty() {
        return Err(Problem::new(StatusCode::NOT_FOUND, "there is no such user"));
    }
    append(&control, System::removal(topic), Durability::Fsync).await?;
    Ok(StatusCode::NO_CONTENT)
}
