//! The keys of others (RFC 7517): read from a file or a URL, kept, and read again when they rotate.
//!
//! A source that is down changes nothing: the old keys go on, and it is told in the log. While keys are read nobody waits
//! who is served by those that are known.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use everywire_base::ask::AuthError;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::jwk::Key;

/// Keys are read again after this, in case some are withdrawn.
const REFRESH: Duration = Duration::from_mins(5);
/// The same after they could not be read.
const RETRY: Duration = Duration::from_secs(30);
/// A token with an unknown key has them read again, but not more often than this.
pub(crate) const EAGER: Duration = Duration::from_secs(5);
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
    /// Held by whoever reads them, so that they are read once for all who wait.
    reading: Mutex<()>,
}

struct State {
    keys: Arc<[Key]>,
    /// When they were last read, or could not be.
    tried: Option<Instant>,
    /// Whether they could be read then.
    readable: bool,
    /// What was said of keys that can't be used.
    said: Vec<String>,
    /// The hash of the set, to see that it has changed.
    hash: [u8; 32],
}

/// A set that was read.
struct Fetched {
    keys: Vec<Key>,
    /// What is wrong with those that can't be used.
    said: Vec<String>,
    hash: [u8; 32],
}

impl Keys {
    pub(crate) fn new(at: KeysAt, within: Duration) -> Self {
        let state = State { keys: Arc::new([]), tried: None, readable: false, said: Vec::new(), hash: [0; 32] };
        Self { at, within, state: Mutex::new(state), reading: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that are known.
    pub(crate) fn known(&self) -> Arc<[Key]> {
        Arc::clone(&self.state().keys)
    }

    /// Whether they were read, or could not be, within the last moments.
    pub(crate) fn are_fresh(&self) -> bool {
        self.state().tried.is_some_and(|tried| tried.elapsed() < EAGER)
    }

    /// What is to be said of a token that no key fits.
    pub(crate) fn no_key(&self) -> AuthError {
        if self.state().readable {
            AuthError::Refused("the token's signature does not fit any key that is known here".into())
        } else {
            AuthError::Unavailable("the keys of tokens can't be read just now: try again".into())
        }
    }

    /// In how long they are to be read again.
    pub(crate) fn due(&self) -> Duration {
        let state = self.state();
        let age = if state.readable { REFRESH } else { RETRY };
        state.tried.map_or(Duration::ZERO, |tried| age.saturating_sub(tried.elapsed()))
    }

    /// Reads them, unless somebody else did so within this time. Says whether they are others than before.
    pub(crate) fn refresh(&self, age: Duration) -> bool {
        let _alone = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state().tried.is_some_and(|tried| tried.elapsed() < age) {
            return false;
        }
        let fetched = self.fetch();
        let mut state = self.state();
        let before = state.hash;
        match fetched {
            Ok(Fetched { keys, said, hash }) => {
                said.iter().filter(|what| !state.said.contains(what)).for_each(|what| tracing::warn!("{what}"));
                (state.keys, state.said, state.readable, state.hash) = (keys.into(), said, true, hash);
            }
            Err(error) => {
                if state.readable || state.tried.is_none() {
                    let kept = state.keys.len();
                    tracing::warn!("the keys of auth.jwks can't be read: {error}; {kept} earlier ones go on");
                }
                state.readable = false;
            }
        }
        state.tried = Some(Instant::now());
        state.hash != before
    }

    fn fetch(&self) -> Result<Fetched, String> {
        let text = match &self.at {
            KeysAt::File(path) => std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?,
            KeysAt::Url(url) => {
                let response = agent(self.within).get(&**url).call().map_err(|error| error.to_string())?;
                let body = response.into_body().into_with_config().limit(MAX_BYTES).read_to_string();
                body.map_err(|error| error.to_string())?
            }
        };
        let set: Value = serde_json::from_str(&text).map_err(|error| format!("this is no set of keys: {error}"))?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("this is no set of keys: it has no list `keys`")?;
        let (mut good, mut said) = (Vec::new(), Vec::new());
        for (number, key) in keys.iter().enumerate() {
            match Key::read(key) {
                Ok(key) => good.push(key),
                Err(why) => {
                    let id = key.get("kid").and_then(Value::as_str).map(|id| format!(" ({id:?})")).unwrap_or_default();
                    said.push(format!("key {}{id} of auth.jwks is not used: {why}", number + 1));
                }
            }
        }
        Ok(Fetched { keys: good, said, hash: Sha256::digest(&text).into() })
    }
}

/// Asks other servers, within a time.
pub(crate) fn agent(within: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(within)).max_redirects(0).build().into()
}
