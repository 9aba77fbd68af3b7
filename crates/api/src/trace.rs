//! The fate of a message for each recipient. It is computed from the positions of the present subscribers; only the
//! time of writing is remembered, and not for long (RULES 34).

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::{Extension, Json};
use everywire_base::registry::{Everywhere, Recipient, TraceQuestion};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::control::{Control, answered};
use crate::problem::Problem;

type Node = State<Arc<dyn Control>>;

/// The fate of a message.
#[derive(Serialize, ToSchema)]
pub(crate) struct Trace {
    id: String,
    topic: String,
    cursor: String,
    stored: Stored,
    recipients: Vec<Traced>,
    /// Whether `recipients` has all present subscribers.
    complete: bool,
    /// The living nodes that have not answered in time: their findings are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    /// The limits of what is known, and the reason.
    note: &'static str,
}

/// The durability of a stored message, and its times.
#[derive(Serialize, ToSchema)]
pub(crate) struct Stored {
    durability: &'static str,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
}

/// The fate of a message for one subscriber.
#[derive(Serialize, ToSchema)]
pub(crate) struct Traced {
    connection: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    wire: String,
    /// `written`, `acknowledged`, `lagging` or `subscribed_later`.
    fate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<String>,
}

impl From<Recipient> for Traced {
    fn from(recipient: Recipient) -> Self {
        Self {
            connection: recipient.connection.into(),
            user: recipient.user.map(Into::into),
            device: recipient.device.map(Into::into),
            wire: recipient.wire.into(),
            fate: recipient.fate.as_str(),
            written: recipient.written.map(|at| at.to_string()),
            acknowledged: recipient.acknowledged.map(|at| at.to_string()),
        }
    }
}

const NOTE: &str = "computed from where those stand who are subscribed now: who has left is not among them, and one who \
                    came after the message, and is up to date, counts as written; `written` is known of the last few \
                    thousand messages only, and of those who were not behind";

/// The fate of a message for each recipient.
#[utoipa::path(get, path = "/v1/messages/{id}/trace", tag = "registry", params(
    ("id" = String, Path, description = "The message's id"),
), responses(
    (status = 200, description = "What is known of it", body = Trace),
    (status = 400, description = "No message id", body = Problem, content_type = "application/problem+json"),
    (status = 401, description = "Who are you?", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "Not an operator", body = Problem, content_type = "application/problem+json"),
    (status = 404, description = "No such message is kept", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn trace(
    State(control): Node,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Trace>, Problem> {
    caller.admin()?;
    let id = id.parse().map_err(|error| Problem::malformed(format!("{error}")))?;
    let gone = || {
        Problem::new(StatusCode::NOT_FOUND, "no such message is kept: unknown, expired, or beyond its topic's history")
    };
    let record = answered(control.message(id)).await?.ok_or_else(gone)?;
    let message = record.message().ok_or_else(gone)?;
    let limit = control.limits().trace_recipients;
    let (topic, partition, offset) = (message.topic.clone(), record.partition, record.offset);
    let question = TraceQuestion { topic, partition, offset, limit: limit + 1 };
    let Everywhere { found: recipients, missing } = answered(control.trace(question)).await?;
    Ok(Json(Trace {
        id: id.to_string(),
        topic: message.topic.to_string(),
        cursor: control.cursor(offset).to_string(),
        stored: Stored {
            durability: record.durability.as_str(),
            time: record.time.to_string(),
            expires: message.expires.map(|at| at.to_string()),
        },
        complete: recipients.len() <= limit && missing.is_empty(),
        missing: missing.into_iter().map(Into::into).collect(),
        recipients: recipients.into_iter().take(limit).map(Into::into).collect(),
        note: NOTE,
    }))
}
