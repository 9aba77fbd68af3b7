//! The keys of others (RFC 7517): read from a file or a URL, kept, and read again when they rotate.
//!
//! A source that is down changes nothing: the old keys go on, and it is told in the log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{Jwk, JwkSet};

/// Keys are read again after this, in case some are withdrawn.
const REFRESH: Duration = Duration::from_mins(5);
/// A token with an unknown key has them read again, but not more often than this.
const EAGER: Duration = Duration::from_secs(5);
/// The most bytes of a set of keys.
const MAX_BYTES: u64 = 1 << 20;

/// Where keys are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeysAt {
    /// In a file.
    File(PathBuf),
    /// At an `http://` or `https://` address.
    Url(Box<str>),
}

pub(crate) struct Keys {
    at: KeysAt,
    within: Duration,
    state: Mutex<State>,
}

struct State {
    keys: Arc<[Jwk]>,
    read: Option<Instant>,
    failing: bool,
}

impl Keys {
    pub(crate) fn new(at: KeysAt, within: Duration) -> Self {
        let state = State { keys: Arc::new([]), read: None, failing: false };
        Self { at, within, state: Mutex::new(state) }
    }

    /// The keys that a token may be signed with: that of its id, or all if it names none.
    pub(crate) fn for_token(&self, id: Option<&str>) -> Vec<Jwk> {
        let fits = |key: &&Jwk| id.is_none() || key.common.key_id.as_deref() == id;
        let known: Vec<Jwk> = self.read_after(REFRESH).iter().filter(fits).cloned().collect();
        if !known.is_empty() {
            return known;
        }
        self.read_after(EAGER).iter().filter(fits).cloned().collect()
    }

    /// The keys, read again if that was longer ago.
    fn read_after(&self, age: Duration) -> Arc<[Jwk]> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.read.is_some_and(|read| read.elapsed() < age) {
            return Arc::clone(&state.keys);
        }
        state.read = Some(Instant::now());
        match self.fetch() {
            Ok(set) => {
                state.keys = set.keys.into();
                state.failing = false;
            }
            Err(error) if !state.failing => {
                state.failing = true;
                let kept = state.keys.len();
                tracing::warn!("the keys of auth.jwks can't be read: {error}; {kept} earlier ones go on");
            }
            Err(_) => {}
        }
        Arc::clone(&state.keys)
    }

    fn fetch(&self) -> Result<JwkSet, String> {
        let text = match &self.at {
            KeysAt::File(path) => std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?,
            KeysAt::Url(url) => {
                let response = agent(self.within).get(&**url).call().map_err(|error| error.to_string())?;
                let body = response.into_body().into_with_config().limit(MAX_BYTES).read_to_string();
                body.map_err(|error| error.to_string())?
            }
        };
        serde_json::from_str(&text).map_err(|error| format!("this is no set of keys: {error}"))
    }
}

/// Asks other servers, within a time.
pub(crate) fn agent(within: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(within)).max_redirects(0).build().into()
}
