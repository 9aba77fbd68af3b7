//! Errors as RFC 9457 has them.

use axum::response::{IntoResponse, Response};
use everywire_base::ask::Reply;
use everywire_base::id::ReplyTo;
use everywire_base::rules::Refusal;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::Unanswered;

/// An error: `application/problem+json` (RFC 9457 §3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// A URI that names the kind of problem; with `about:blank` the status says it all.
    #[serde(rename = "type")]
    #[schema(example = "about:blank")]
    pub kind: &'static str,
    /// The status in words.
    #[schema(example = "Bad Request")]
    pub title: &'static str,
    /// The status.
    #[schema(example = 400)]
    pub status: u16,
    /// The fault, its place, and what to do.
    pub detail: String,
    /// The state of a server that is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
    /// The reasons why the server is not ready.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub reasons: Vec<String>,
}

/// The media type of a [`Problem`].
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

impl Problem {
    /// A problem with nothing but a status and a text.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            state: None,
            reasons: Vec::new(),
        }
    }

    /// A problem with status 400.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The answer to a call, without a router.
    pub(crate) fn into_reply(self, reply_to: ReplyTo) -> Reply {
        let headers = vec![("content-type".into(), PROBLEM_JSON.as_bytes().into())];
        Reply { reply_to, status: self.status, headers, body: serde_json::to_vec(&self).unwrap_or_default().into() }
    }
}

impl From<Unanswered> for Problem {
    fn from(why: Unanswered) -> Self {
        let detail = match why {
            Unanswered::Busy => "the server is busy with other questions: try again in a second",
            Unanswered::Closing => "the server is going down: try again elsewhere, or in a while",
            Unanswered::Failed => "the server could not find the answer: its log says why; try again in a while",
            Unanswered::Late => "the server did not find the answer in time: try again in a while",
        };
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Refusal::Forbidden(_) => StatusCode::FORBIDDEN,
            Refusal::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Refusal::Behind => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, refusal.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
