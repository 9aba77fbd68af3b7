//! The keys of others (RFC 7517): read from a file or a URL, kept, and read again when they rotate.
//!
//! A source that is down changes nothing: the old keys stay valid, and the log says so. Logins that the known keys
//! serve don't wait while keys are read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use everywire_base::ask::AuthError;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::jwk::Key;

/// The time after which keys are read again, in case some are withdrawn.
const REFRESH: Duration = Duration::from_mins(5);
/// The time after which keys are read again that could not be read.
const RETRY: Duration = Duration::from_secs(30);
/// The least time between two reads. A token with an unknown key has the keys read again.
pub(crate) const EAGER: Duration = Duration::from_secs(5);
/// The most bytes of a set of keys.
const MAX_BYTES: u64 = 1 << 20;

/// The place of keys.
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
    /// The lock of the reader, so that keys are read once for all that wait.
    reading: Mutex<()>,
}

struct State {
    keys: Arc<[Key]>,
    /// The time of the last read, or of the last failure to read.
    tried: Option<Instant>,
    /// Whether the last read succeeded.
    readable: bool,
    /// The last log lines about keys that can't be used.
    said: Vec<String>,
    /// The hash of the set, to see that it has changed.
    hash: [u8; 32],
}

/// A set that was read.
struct Fetched {
    keys: Vec<Key>,
    /// The faults of the keys that can't be used.
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

    /// Whether they were read, or could not be, within the last seconds ([`EAGER`]).
    pub(crate) fn are_fresh(&self) -> bool {
        self.state().tried.is_some_and(|tried| tried.elapsed() < EAGER)
    }

    /// The error for a token that no key fits.
    pub(crate) fn no_key(&self) -> AuthError {
        if self.state().readable {
            AuthError::Refused("the token's signature does not fit any key that is known here".into())
        } else {
            AuthError::Unavailable("the keys of tokens can't be read just now: try again".into())
        }
    }

    /// The time until they are to be read again.
    pub(crate) fn due(&self) -> Duration {
        let state = self.state();
        let age = if state.readable { REFRESH } else { RETRY };
        state.tried.map_or(Duration::ZERO, |tried| age.saturating_sub(tried.elapsed()))
    }

    /// Reads them, unless another thread did so within this time. Says whether the set has changed.
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

/// The HTTP client for other servers, with a bound on the time.
pub(crate) fn agent(within: Duration) -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(within)).max_redirects(0).build().into()
}
