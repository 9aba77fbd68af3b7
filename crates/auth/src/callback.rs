//! Asking the application who somebody is: `POST` with what he shows as JSON. 200 answers with claims, 401 and 403 refuse.

use std::time::Duration;

use everywire_base::ask::{AuthError, Credentials};
use serde_json::json;

use crate::claims::Claims;
use crate::keys::agent;

/// The most bytes of an answer.
const MAX_BYTES: u64 = 64 << 10;

/// Asks; waits no longer than `within`.
pub(crate) fn ask(
    url: &str,
    credentials: &Credentials,
    device: Option<&str>,
    within: Duration,
) -> Result<Claims, AuthError> {
    let question = match credentials {
        Credentials::Token(token) => json!({"token": token, "device": device}),
        Credentials::Password { user, password } => json!({"user": user, "password": password, "device": device}),
        // Of whom SCRAM names only the store has the keys.
        Credentials::Scram(_) => return Err(AuthError::Refused("the credentials are not accepted".into())),
    };
    let unavailable = |error: &dyn std::fmt::Display| {
        tracing::warn!("auth.callback can't be asked: {error}");
        AuthError::Unavailable("who you are can't be found out just now: try again".into())
    };
    let request = agent(within).post(url).header("Content-Type", "application/json");
    match request.send(question.to_string()) {
        Ok(response) => {
            let body = response.into_body().into_with_config().limit(MAX_BYTES).read_to_string();
            let body = body.map_err(|error| unavailable(&error))?;
            let claims = serde_json::from_str(&body).map_err(|error| unavailable(&error))?;
            Claims::read(&claims).map_err(|error| unavailable(&error))
        }
        Err(ureq::Error::StatusCode(401 | 403)) => Err(AuthError::Refused("the credentials are not accepted".into())),
        Err(error) => Err(unavailable(&error)),
    }
}
