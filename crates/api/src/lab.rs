//! The cost of a label: `/v1/lab`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use everywire_base::lab::{Lab, Tally};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::Control;
use crate::problem::Problem;
use crate::query::Query;

/// The cost of the connections and requests that carried a label.
#[derive(Serialize, ToSchema)]
pub(crate) struct Counts {
    /// Requests, the opening of each stream and WebSocket among them.
    requests: u64,
    /// Answers without a message.
    empty: u64,
    /// Messages delivered.
    messages: u64,
    /// Bytes received, heads included, without TLS.
    bytes_in: u64,
    /// Bytes sent, heads included; with TLS, the encrypted ones.
    bytes_out: u64,
    /// Writes to sockets.
    writes: u64,
}

impl Counts {
    fn of(tally: &Tally) -> Self {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Self {
            requests: read(&tally.requests),
            empty: read(&tally.empty),
            messages: read(&tally.messages),
            bytes_in: read(&tally.bytes_in),
            bytes_out: read(&tally.bytes_out),
            writes: read(&tally.writes),
        }
    }
}

/// The cost of a label, for everybody who knows it: connections and requests carry it as `label=` in their query.
#[utoipa::path(get, path = "/v1/lab", tag = "server", params(
    ("label" = String, Query, description = "128 random bits, as 32 hexadecimal digits or 22 characters of base64url"),
), responses(
    (status = 200, description = "The counters; of a label that was not used, zeros", body = Counts),
    (status = 400, description = "The label is missing or malformed", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn lab(State(control): State<Arc<dyn Control>>, uri: Uri) -> Result<Json<Counts>, Problem> {
    let label = Query::of(&uri).text("label")?.filter(|label| Lab::is_label(label));
    let label = label.ok_or_else(|| Problem::malformed("`label=` is 128 random bits: 32 hexadecimal digits"))?;
    Ok(Json(Counts::of(&control.lab(&label).unwrap_or_default())))
}
