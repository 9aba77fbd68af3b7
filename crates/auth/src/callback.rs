//! The application that is asked about logins: `POST` with the credentials as JSON. 200 brings claims, 401 and 403
//! refuse.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use everywire_base::ask::{AuthError, Credentials};
use serde_json::json;

use crate::claims::Claims;
use crate::keys::agent;

/// The most bytes of an answer.
const MAX_BYTES: u64 = 64 << 10;
/// The least time between two log lines that say that it can't be asked.
const PAUSE: Duration = Duration::from_mins(1);

/// The application.
pub(crate) struct Callback {
    url: Box<str>,
    within: Duration,
    /// The time of the last log line that it can't be asked.
    told: Mutex<Option<Instant>>,
}

impl Callback {
    /// The application at an address; nobody waits for it longer than `within`.
    pub(crate) fn new(url: Box<str>, within: Duration) -> Self {
        Self { url, within, told: Mutex::default() }
    }

    /// Asks the application.
    pub(crate) fn ask(&self, credentials: &Credentials, device: Option<&str>) -> Result<Claims, AuthError> {
        let question = match credentials {
            Credentials::Token(token) => json!({"token": token, "device": device}),
            Credentials::Password { user, password } => {
                json!({"user": user, "password": password, "device": device})
            }
            // SCRAM's keys are in the store alone.
            Credentials::Scram(_) => return Err(AuthError::Refused("the credentials are not accepted".into())),
        };
        let request = agent(self.within).post(&*self.url).header("Content-Type", "application/json");
        match request.send(question.to_string()) {
            Ok(response) => {
                let body = response.into_body().into_with_config().limit(MAX_BYTES).read_to_string();
                let body = body.map_err(|error| self.unavailable(&error))?;
                let claims = serde_json::from_str(&body).map_err(|error| self.unavailable(&error))?;
                Claims::read(&claims).map_err(|error| self.unavailable(&error))
            }
            Err(ureq::Error::StatusCode(401 | 403)) => {
                Err(AuthError::Refused("the credentials are not accepted".into()))
            }
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    fn unavailable(&self, error: &dyn Display) -> AuthError {
        if self.may_tell(Instant::now()) {
            tracing::warn!("auth.callback can't be asked: {error}; said at most once a minute");
        }
        AuthError::Unavailable("who you are can't be found out just now: try again".into())
    }

    fn may_tell(&self, now: Instant) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = told.is_none_or(|told| now.duration_since(told) >= PAUSE);
        if is_due {
            *told = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_that_hangs_is_told_of_once_a_minute() {
        let callback = Callback::new("http://127.0.0.1:1/".into(), PAUSE);
        let now = Instant::now();
        let told = [0, 1, 59, 60, 61, 120].map(|seconds| callback.may_tell(now + Duration::from_secs(seconds)));
        assert_eq!(told, [true, false, false, true, false, true]);
    }
}
