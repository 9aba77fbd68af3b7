//! In which order who is asked, and what is remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_base::ask::{AuthError, Credentials, ScramStep};
use everywire_base::clock::UnixMillis;
use everywire_base::identity::Identity;
use everywire_base::quota::{Account, Quota};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use sha2::{Digest, Sha256};

use crate::callback;
use crate::claims::Claims;
use crate::keys::{Keys, KeysAt};
use crate::scram;
use crate::users::{UserSecret, Users};

/// The shortest secret for HS256, in bytes (RFC 7518 §3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// Verified tokens that are remembered, and users whose use is counted.
const REMEMBERED: usize = 65_536;

/// Who may say who somebody is.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The secret of HS256.
    pub secret: Option<Box<str>>,
    /// The keys of others.
    pub keys: Option<KeysAt>,
    /// Whether there are static users.
    pub users: bool,
    /// The application's address.
    pub callback: Option<Box<str>>,
    /// The operator's token.
    pub admin_token: Option<Box<str>>,
    /// What each user may do.
    pub quota: Quota,
    /// How long another server may take to answer; none is 2 seconds.
    pub within: Option<Duration>,
}

/// Secrets never reach a log line.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secret = self.secret.as_ref().map(|_| "…");
        f.debug_struct("Config").field("secret", &secret).field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// What can't be started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// HS256 with fewer bytes can be guessed.
    #[error("the secret has fewer than {MIN_SECRET_BYTES} bytes: make one with `openssl rand -base64 33`")]
    ShortSecret,
}

/// Says who somebody is.
pub struct Authority {
    config: Config,
    within: Duration,
    keys: Option<Keys>,
    users: Arc<dyn Users>,
    nobody: Option<UserSecret>,
    /// Verified tokens by their hash.
    known: Mutex<HashMap<[u8; 32], Arc<Identity>>>,
    accounts: Mutex<HashMap<Box<str>, Arc<Account>>>,
}

impl Authority {
    /// An authority that finds static users in `users`.
    pub fn new(config: Config, users: Arc<dyn Users>) -> Result<Self, ConfigError> {
        if config.secret.as_ref().is_some_and(|secret| secret.len() < MIN_SECRET_BYTES) {
            return Err(ConfigError::ShortSecret);
        }
        let within = config.within.unwrap_or(Duration::from_secs(2));
        Ok(Self {
            keys: config.keys.clone().map(|at| Keys::new(at, within)),
            within,
            users,
            nobody: if config.users { UserSecret::nobody() } else { None },
            known: Mutex::default(),
            accounts: Mutex::default(),
            config,
        })
    }

    /// Finds out who somebody is. May take long.
    pub fn check(
        &self,
        credentials: &Credentials,
        device: Option<&str>,
        now: UnixMillis,
    ) -> Result<Arc<Identity>, AuthError> {
        let identity = match credentials {
            Credentials::Token(token) => self.token(token, device, now)?,
            Credentials::Password { user, password } => self.password(credentials, (user, password), device, now)?,
            Credentials::Scram(step) => self.scram(step, now)?,
        };
        match (identity.device.as_deref(), device) {
            (Some(one), Some(other)) if one != other => {
                Err(AuthError::Mismatch("the token is for another device than the one that was named".into()))
            }
            _ if identity.user.is_some() => Ok(identity.on_device(device.map(Into::into))),
            _ => Ok(identity),
        }
    }

    fn token(&self, token: &str, device: Option<&str>, now: UnixMillis) -> Result<Arc<Identity>, AuthError> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(operator) = &self.config.admin_token
            // Of hashes nothing can be learned by time.
            && hash == <[u8; 32]>::from(Sha256::digest(operator.as_bytes()))
        {
            return Ok(Arc::new(Identity { admin: true, ..Identity::default() }));
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned();
        if let Some(known) = known.filter(|known| !known.is_expired(now)) {
            return Ok(known);
        }
        let credentials = Credentials::Token(token.into());
        let claims = match (self.verify(token), &self.config.callback) {
            (Ok(claims), _) => claims,
            (Err(_), Some(url)) => callback::ask(url, &credentials, device, self.within)?,
            (Err(why), None) => return Err(AuthError::Refused(why.into())),
        };
        let identity = self.identity(&claims, now)?;
        self.remember(hash, &identity, now);
        Ok(identity)
    }

    /// Verifies a signature: by the algorithm that the token names, with a key of just that algorithm.
    fn verify(&self, token: &str) -> Result<Claims, String> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| "this is no token that is known here")?;
        let wrong = || "the token's signature does not fit".to_owned();
        match (header.alg, &self.config.secret, &self.keys) {
            (Algorithm::HS256, Some(secret), _) => {
                decode(token, &DecodingKey::from_secret(secret.as_bytes()), Algorithm::HS256).ok_or_else(wrong)
            }
            (alg @ (Algorithm::RS256 | Algorithm::ES256 | Algorithm::EdDSA), _, Some(keys)) => {
                let fitting = keys.for_token(header.kid.as_deref()).into_iter().filter(|key| signs(key, alg));
                let decoding = fitting.filter_map(|key| DecodingKey::from_jwk(&key).ok());
                decoding.into_iter().find_map(|key| decode(token, &key, alg)).ok_or_else(wrong)
            }
            (alg, ..) => Err(format!("tokens signed with {alg:?} are not accepted here")),
        }
    }

    fn password(
        &self,
        credentials: &Credentials,
        (user, password): (&str, &str),
        device: Option<&str>,
        now: UnixMillis,
    ) -> Result<Arc<Identity>, AuthError> {
        let found = if self.config.users { self.users.find(user) } else { None };
        let fits = match (&found, &self.nobody) {
            (Some(secret), _) => secret.fits(password),
            // Whether there is such a user can't be learned by time.
            (None, Some(nobody)) => {
                let _ = nobody.fits(password);
                false
            }
            (None, None) => false,
        };
        match (fits, found, &self.config.callback) {
            (true, ..) => self.identity(&Claims { sub: Some(user.into()), ..Claims::default() }, now),
            (false, None, Some(url)) => {
                let claims = callback::ask(url, credentials, device, self.within)?;
                self.identity(&claims, now)
            }
            _ => Err(AuthError::Refused("the user or the password is wrong".into())),
        }
    }

    fn scram(&self, step: &ScramStep, now: UnixMillis) -> Result<Arc<Identity>, AuthError> {
        let refused = || AuthError::Refused("there are no users with passwords here".into());
        let nobody = self.nobody.as_ref().ok_or_else(refused)?;
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

    /// What a user has used of his bounds, the same for all his identities.
    fn account(&self, user: &str) -> Option<Arc<Account>> {
        if !self.config.quota.is_bounded() {
            return None;
        }
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= REMEMBERED {
            accounts.retain(|_, account| account.connections() > 0);
        }
        let account = accounts.entry(user.into()).or_insert_with(|| Arc::new(Account::new(self.config.quota)));
        Some(Arc::clone(account))
    }

    fn remember(&self, hash: [u8; 32], identity: &Arc<Identity>, now: UnixMillis) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.retain(|_, identity| !identity.is_expired(now));
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        // What never expires is asked for again by and by: its key may be withdrawn.
        if identity.expires.is_some() {
            known.insert(hash, Arc::clone(identity));
        }
    }
}

/// Whether a key is one for this algorithm, so that none is taken for another's (RFC 8725 §3.1).
fn signs(key: &Jwk, alg: Algorithm) -> bool {
    let by_type = match &key.algorithm {
        AlgorithmParameters::RSA(_) => alg == Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(ec) => alg == Algorithm::ES256 && ec.curve == EllipticCurve::P256,
        AlgorithmParameters::OctetKeyPair(_) => alg == Algorithm::EdDSA,
        _ => false,
    };
    by_type && key.common.key_algorithm.is_none_or(|named| named.to_string() == format!("{alg:?}"))
}

fn decode(token: &str, key: &DecodingKey, alg: Algorithm) -> Option<Claims> {
    let mut validation = Validation::new(alg);
    // Time is an input here: the claims are judged by the caller's clock.
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<Claims>(token, key, &validation).ok().map(|data| data.claims)
}

/// Signs a token with HS256.
pub fn mint(secret: &str, claims: &Claims) -> Result<String, ConfigError> {
    if secret.len() < MIN_SECRET_BYTES {
        return Err(ConfigError::ShortSecret);
    }
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).map_err(|_| ConfigError::ShortSecret)
}
