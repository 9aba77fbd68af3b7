//! Guests: people without an account, for a day.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::body::object;
use crate::caller::From;
use crate::control::{Control, NoGuest};
use crate::problem::Problem;

type Node = State<Arc<dyn Control>>;

/// The wish of a client to be a guest.
#[derive(Deserialize, ToSchema)]
pub(crate) struct GuestWish {
    /// The name that is shown to others: 1 to 64 bytes without control characters.
    #[schema(example = "Ann")]
    name: String,
}

/// A guest.
#[derive(Serialize, ToSchema)]
pub(crate) struct GuestEntry {
    /// The token, to be sent as `Authorization: Bearer …`, or in `hello`.
    token: String,
    /// The user that the guest is: nobody else has this id.
    #[schema(example = "guest-7k2m9x4hq1")]
    user: String,
    /// The name as it was given.
    name: String,
    /// The time at which the token ends: in 24 hours.
    expires: String,
}

/// Makes a guest: a user with an id of its own, for 24 hours. Anybody may ask, where `auth.guests` allows it.
#[utoipa::path(post, path = "/v1/guests", tag = "guests", request_body = GuestWish, responses(
    (status = 200, description = "A token, and whose it is", body = GuestEntry),
    (status = 400, description = "No name, or none that a guest can have", body = Problem, content_type = "application/problem+json"),
    (status = 403, description = "No guests are taken here", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "Too many guests of this address: come again", body = Problem, content_type = "application/problem+json"),
))]
pub(crate) async fn make(State(control): Node, Extension(from): Extension<From>, body: Bytes) -> Response {
    let wish: GuestWish = match object(&body) {
        Ok(wish) => wish,
        Err(error) => {
            return Problem::malformed(format!("the body is not {{\"name\":\"…\"}}: {error}")).into_response();
        }
    };
    match control.guest(&wish.name, from.0) {
        Ok(guest) => {
            let expires = guest.expires.to_string();
            Json(GuestEntry { token: guest.token, user: guest.user, name: guest.name, expires }).into_response()
        }
        Err(why) => refusal(why),
    }
}

fn refusal(why: NoGuest) -> Response {
    match why {
        NoGuest::Off => {
            let what = "no guests are taken here: log in, or set auth.guests = true";
            Problem::new(StatusCode::FORBIDDEN, what).into_response()
        }
        NoGuest::Name(why) => Problem::malformed(why).into_response(),
        NoGuest::Unavailable => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no guest can be made just now: try again").into_response()
        }
        NoGuest::TooMany(wait) => {
            let what = "too many guests of your address within a minute: come again later";
            let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, what).into_response();
            let seconds = HeaderValue::from(wait.as_secs() + 1);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
            response
        }
    }
}
