//! The order in which the sources of identities are asked, and the identities that are remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_base::ask::{AuthError, Credentials, ScramStep};
use everywire_base::clock::UnixMillis;
use everywire_base::identity::Identity;
use everywire_base::quota::{Account, Accounts, Quota};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use sha2::{Digest, Sha256};

use crate::callback::Callback;
use crate::claims::Claims;
use crate::guests::{self, Guest, GuestNameError, Guests};
use crate::jws::Jws;
use crate::keys::{EAGER, Keys, KeysAt};
use crate::scram;
use crate::users::{Nobody, Users};

/// The shortest secret for HS256, in bytes (RFC 7518 §3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// The number of verified tokens, and of users whose use is counted, beyond which old ones are let go.
const REMEMBERED: usize = 65_536;

/// The sources of identities.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The secret of HS256.
    pub secret: Option<Box<str>>,
    /// The keys of others.
    pub keys: Option<KeysAt>,
    /// This server's names: a token must be for one of them. Without any, tokens with an audience are refused.
    pub audience: Vec<Box<str>>,
    /// The issuer that a token must name.
    pub issuer: Option<Box<str>>,
    /// Whether there are static users.
    pub users: bool,
    /// The application's address.
    pub callback: Option<Box<str>>,
    /// Whether guests are let in.
    pub guests: bool,
    /// The operator's token. Other keys of the server's own are derived from it.
    pub admin_token: Option<Box<str>>,
    /// The bounds of each user.
    pub quota: Quota,
    /// The longest time for an answer of another server; `None` is 2 seconds.
    pub within: Option<Duration>,
}

/// Secrets never reach a log line.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = self.secret.as_ref().map(|_| "…");
        f.debug_struct("Config").field("secret", &secret).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// The fault of a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A secret with fewer bytes can be guessed.
    #[error("the secret has fewer than {MIN_SECRET_BYTES} bytes: make one with `openssl rand -base64 33`")]
    ShortSecret,
    /// No key can be made.
    #[error("the system gives no random bytes")]
    NoRandomness,
}

/// The state of a check.
#[derive(Debug)]
pub enum Verdict {
    /// The check is done.
    Is(Result<Arc<Identity>, AuthError>),
    /// Another source must be asked.
    Ask(Source),
}

/// A source that may take long to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The keys of others, which are read again.
    Keys,
    /// The static users: passwords take long to compute.
    Users,
    /// The application.
    Callback,
}

/// The result of verifying a signature.
enum Verified<'a> {
    /// The signature fits; the claims, or the fault in them.
    Is(Result<Claims, String>),
    /// The signature doesn't fit, for this reason.
    Not(String),
    /// None of these keys is the token's.
    NoKey(&'a Keys),
}

/// Checks credentials, and gives the identity that they prove.
pub struct Authority {
    config: Config,
    callback: Option<Callback>,
    keys: Option<Keys>,
    users: Arc<dyn Users>,
    nobody: Option<Nobody>,
    guests: Option<Guests>,
    /// Verified tokens by their hash.
    known: Mutex<HashMap<[u8; 32], Arc<Identity>>>,
    accounts: Mutex<Accounts<Box<str>>>,
}

impl Authority {
    /// An authority that finds static users in `users`.
    pub fn new(config: Config, users: Arc<dyn Users>) -> Result<Self, ConfigError> {
        if config.secret.as_ref().is_some_and(|secret| secret.len() < MIN_SECRET_BYTES) {
            return Err(ConfigError::ShortSecret);
        }
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|_| ConfigError::NoRandomness)?;
        let own = config.admin_token.as_ref().map_or(&random[..], |token| token.as_bytes());
        let within = config.within.unwrap_or(Duration::from_secs(2));
        Ok(Self {
            keys: config.keys.clone().map(|at| Keys::new(at, within)),
            callback: config.callback.clone().map(|url| Callback::new(url, within)),
            users,
            nobody: if config.users { Nobody::new(own) } else { None },
            guests: config.guests.then(|| Guests::new(own)),
            known: Mutex::default(),
            accounts: Mutex::new(Accounts::new(config.quota, REMEMBERED)),
            config,
        })
    }

    /// Checks credentials, as far as that takes microseconds.
    pub fn at_once(&self, credentials: &Credentials, device: Option<&str>, now: UnixMillis) -> Verdict {
        match credentials {
            Credentials::Token(token) => {
                self.token(token, device, now, self.keys.as_ref().is_some_and(Keys::are_fresh))
            }
            Credentials::Password { .. } | Credentials::Scram(_) if self.config.users => Verdict::Ask(Source::Users),
            Credentials::Password { .. } => self.or_ask(|| refused("the user or the password is wrong")),
            Credentials::Scram(_) => Verdict::Is(refused("there are no users with passwords here")),
        }
    }

    /// Asks a source that may take long.
    pub fn ask(&self, source: Source, credentials: &Credentials, device: Option<&str>, now: UnixMillis) -> Verdict {
        match (source, credentials) {
            (Source::Keys, Credentials::Token(token)) => {
                self.refresh_keys(EAGER);
                self.token(token, device, now, true)
            }
            (Source::Users, Credentials::Password { user, password }) => self.password((user, password), device, now),
            (Source::Users, Credentials::Scram(step)) => Self::settle(self.scram(step, now), device),
            (Source::Callback, _) => Self::settle(self.application(credentials, device, now), device),
            _ => Verdict::Is(refused("the credentials are not accepted")),
        }
    }

    /// Checks credentials to the end. May take long.
    pub fn check(
        &self,
        credentials: &Credentials,
        device: Option<&str>,
        now: UnixMillis,
    ) -> Result<Arc<Identity>, AuthError> {
        let mut verdict = self.at_once(credentials, device, now);
        loop {
            match verdict {
                Verdict::Is(result) => return result,
                Verdict::Ask(source) => verdict = self.ask(source, credentials, device, now),
            }
        }
    }

    /// Whether guests are let in.
    pub fn takes_guests(&self) -> bool {
        self.guests.is_some()
    }

    /// Makes a guest of this name; `None` where guests aren't let in.
    pub fn guest(&self, name: &str, now: UnixMillis) -> Result<Option<Guest>, GuestNameError> {
        guests::check(name)?;
        Ok(self.guests.as_ref().and_then(|guests| guests.make(name, now)))
    }

    /// Whether a source is ever asked.
    pub fn asks(&self, source: Source) -> bool {
        match source {
            Source::Keys => self.keys.is_some(),
            Source::Users => self.config.users,
            Source::Callback => self.callback.is_some(),
        }
    }

    /// The time until the keys of others are to be read again, if there are any.
    pub fn keys_due(&self) -> Option<Duration> {
        self.keys.as_ref().map(Keys::due)
    }

    /// Reads the keys of others, unless that was done within this time. May take long.
    pub fn refresh_keys(&self, age: Duration) {
        if self.keys.as_ref().is_some_and(|keys| keys.refresh(age)) {
            // A withdrawn key proves nothing any more, so that all verified tokens are forgotten.
            self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// The verdict when nothing here knows the credentials: the application is asked, if there is one.
    fn or_ask(&self, otherwise: impl FnOnce() -> Result<Arc<Identity>, AuthError>) -> Verdict {
        if self.callback.is_some() { Verdict::Ask(Source::Callback) } else { Verdict::Is(otherwise()) }
    }

    /// Puts an identity on the device that the client has named.
    fn settle(found: Result<Arc<Identity>, AuthError>, device: Option<&str>) -> Verdict {
        let placed =
            |who: Arc<Identity>| who.at_device(device).map_err(|error| AuthError::Mismatch(error.to_string().into()));
        Verdict::Is(found.and_then(placed))
    }

    /// Checks a token. Unless the keys of others are `fresh`, a token of an unknown key has them read again.
    fn token(&self, token: &str, device: Option<&str>, now: UnixMillis, fresh: bool) -> Verdict {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(operator) = &self.config.admin_token
            // The time that comparing hashes takes tells nothing.
            && hash == <[u8; 32]>::from(Sha256::digest(operator.as_bytes()))
        {
            return Verdict::Is(Ok(Arc::new(Identity { admin: true, ..Identity::default() })));
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        if let Some(known) = known.filter(|known| !known.is_expired(now)) {
            return Self::settle(Ok(known), device);
        }
        match self.verify(token) {
            Verified::Is(claims) => {
                let found = claims.map_err(|why| AuthError::Refused(why.into())).and_then(|c| self.identity(&c, now));
                if let Ok(identity) = &found {
                    self.remember(hash, identity, now);
                }
                Self::settle(found, device)
            }
            Verified::Not(why) => self.or_ask(|| Err(AuthError::Refused(why.into()))),
            Verified::NoKey(_) if !fresh => Verdict::Ask(Source::Keys),
            Verified::NoKey(keys) => self.or_ask(|| Err(keys.no_key())),
        }
    }

    /// Verifies a signature: by the algorithm that the token names, with a key of just that algorithm.
    fn verify(&self, token: &str) -> Verified<'_> {
        let wrong = || Verified::Not("the token's signature does not fit".into());
        let token = match Jws::parse(token) {
            Ok(token) => token,
            Err(why) => return Verified::Not(why),
        };
        let read = || token.claims().and_then(|claims| Claims::read(&claims));
        let read_ours = || read().and_then(|claims| self.for_us(claims));
        if self.guests.as_ref().is_some_and(|guests| guests.have_signed(&token)) {
            return Verified::Is(read());
        }
        match (token.alg, &self.config.secret, &self.keys) {
            (Algorithm::HS256, Some(secret), _) => {
                let fits = token.is_signed_by(&DecodingKey::from_secret(secret.as_bytes()));
                if fits { Verified::Is(read_ours()) } else { wrong() }
            }
            (Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA, _, Some(keys)) => {
                let known = keys.known();
                let mut meant = known.iter().filter(|key| key.is_meant(&token)).peekable();
                let is_named = token.kid.is_some() && meant.peek().is_some();
                match meant.any(|key| key.has_signed(&token)) {
                    true => Verified::Is(read_ours()),
                    // The key that the token names is known: another one won't help.
                    false if is_named => wrong(),
                    false => Verified::NoKey(keys),
                }
            }
            (alg, ..) => Verified::Not(format!("tokens signed with {alg:?} are not accepted here")),
        }
    }

    /// Whether a token is for this server, and of the right issuer (RFC 7519 §4.1.1, §4.1.3).
    fn for_us(&self, claims: Claims) -> Result<Claims, String> {
        let Config { audience, issuer, .. } = &self.config;
        let is_meant = claims.aud.iter().any(|name| audience.iter().any(|ours| **ours == **name));
        match (audience.is_empty(), claims.aud.is_empty()) {
            (true, false) => return Err("the token is for another audience: no auth.audience is set here".into()),
            (false, true) => return Err("the token names no audience: the claim `aud` is missing".into()),
            (false, false) if !is_meant => return Err("the token is for another audience".into()),
            _ => {}
        }
        match (issuer, &claims.iss) {
            (Some(_), None) => Err("the token names no issuer: the claim `iss` is missing".into()),
            (Some(ours), Some(iss)) if **ours != **iss => Err("the token is of another issuer".into()),
            _ => Ok(claims),
        }
    }

    fn password(&self, (user, password): (&str, &str), device: Option<&str>, now: UnixMillis) -> Verdict {
        let found = self.users.find(user);
        let fits = match (&found, &self.nobody) {
            (Some(secret), _) => secret.fits(password),
            // The time of the answer must not tell whether there is such a user.
            (None, Some(nobody)) => {
                let _ = nobody.secret.fits(password);
                false
            }
            (None, None) => false,
        };
        let wrong = || refused("the user or the password is wrong");
        match (fits, found) {
            (true, _) => {
                let claims = Claims { sub: Some(user.into()), ..Claims::default() };
                Self::settle(self.identity(&claims, now), device)
            }
            (false, None) => self.or_ask(wrong),
            (false, Some(_)) => Verdict::Is(wrong()),
        }
    }

    fn application(
        &self,
        credentials: &Credentials,
        device: Option<&str>,
        now: UnixMillis,
    ) -> Result<Arc<Identity>, AuthError> {
        let Some(callback) = &self.callback else { return refused("the credentials are not accepted") };
        let claims = callback.ask(credentials, device)?;
        let identity = self.identity(&claims, now)?;
        if let Credentials::Token(token) = credentials {
            self.remember(Sha256::digest(&**token).into(), &identity, now);
        }
        Ok(identity)
    }

    fn scram(&self, step: &ScramStep, now: UnixMillis) -> Result<Arc<Identity>, AuthError> {
        let Some(nobody) = &self.nobody else { return refused("there are no users with passwords here") };
        let found = scram::user(&step.first).and_then(|user| self.users.find(&user));
        let mut nonce = [0; 18];
        getrandom::fill(&mut nonce).map_err(|_| AuthError::Unavailable("no random numbers just now".into()))?;
        let user = scram::step(step, found.as_ref(), nobody, &STANDARD.encode(nonce))?;
        self.identity(&Claims { sub: Some(user), ..Claims::default() }, now)
    }

    fn identity(&self, claims: &Claims, now: UnixMillis) -> Result<Arc<Identity>, AuthError> {
        let identity = claims.identity(now).map_err(|why| AuthError::Refused(why.into()))?;
        let account = identity.user.as_deref().and_then(|user| self.account(user));
        Ok(Arc::new(Identity { account, ..identity }))
    }

    /// The account of a user, which counts the use of its bounds for all its identities.
    fn account(&self, user: &str) -> Option<Arc<Account>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner).of(user.into())
    }

    fn remember(&self, hash: [u8; 32], identity: &Arc<Identity>, now: UnixMillis) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, identity| !identity.is_expired(now));
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        // A token that never expires is checked again each time: its key may be withdrawn.
        if identity.expires.is_some() {
            known.insert(hash, Arc::clone(identity));
        }
    }
}

fn refused(why: &str) -> Result<Arc<Identity>, AuthError> {
    Err(AuthError::Refused(why.into()))
}

/// Signs a token with HS256.
pub fn mint(secret: &str, claims: &Claims) -> Result<String, ConfigError> {
    if secret.len() < MIN_SECRET_BYTES {
        return Err(ConfigError::ShortSecret);
    }
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).map_err(|_| ConfigError::ShortSecret)
}
