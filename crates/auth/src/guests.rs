//! Tokens for guests: people who have nothing but a name that they choose.
//!
//! A guest is a user with an id of its own, so that it can't be taken for anybody else. Its token is signed with a key
//! that the server derives for this purpose alone: the token proves a guest and nothing more.

use everywire_base::clock::UnixMillis;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use std::time::Duration;

use crate::Claims;
use crate::derived::derived;
use crate::jws::Jws;

/// The time for which a guest's token holds.
const LIFE: Duration = Duration::from_hours(24);
/// The prefix of guests' ids.
const PREFIX: &str = "guest-";
/// The key id in the head of guests' tokens.
const KEY_ID: &str = "everywire-guest";
/// The longest name of a guest, in bytes.
pub const MAX_GUEST_NAME_BYTES: usize = 64;
/// The digits of an id: those of Crockford, which nobody mistakes for each other.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A guest who was just made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Guest {
    /// The token that proves who the guest is.
    pub token: String,
    /// The guest's user.
    pub user: String,
    /// The name that the guest chose.
    pub name: String,
    /// The moment from which the token is invalid.
    pub expires: UnixMillis,
}

/// A name that a guest can't have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a guest's name has 1 to {MAX_GUEST_NAME_BYTES} bytes, some of them visible, and no control characters")]
pub struct GuestNameError;

/// The key of all guests' tokens.
pub(crate) struct Guests {
    signs: EncodingKey,
    verifies: DecodingKey,
}

impl Guests {
    pub(crate) fn new(secret: &[u8]) -> Self {
        let key = derived(secret, "guests");
        Self { signs: EncodingKey::from_secret(&key), verifies: DecodingKey::from_secret(&key) }
    }

    /// Makes a guest; `None` while the system gives no random bytes.
    pub(crate) fn make(&self, name: &str, now: UnixMillis) -> Option<Guest> {
        let mut random = [0; 10];
        getrandom::fill(&mut random).ok()?;
        let user: String = random.iter().map(|byte| char::from(DIGITS[usize::from(byte % 32)])).collect();
        let user = format!("{PREFIX}{user}");
        let expires = now.after(LIFE);
        let claims = Claims {
            sub: Some(user.clone()),
            name: Some(name.into()),
            exp: Some(expires.0 as f64 / 1000.0),
            ..Claims::default()
        };
        let header = Header { kid: Some(KEY_ID.into()), ..Header::new(Algorithm::HS256) };
        let token = jsonwebtoken::encode(&header, &claims, &self.signs).ok()?;
        Some(Guest { token, user, name: name.into(), expires })
    }

    /// Whether a token is of a guest, by its key id and its signature.
    pub(crate) fn have_signed(&self, token: &Jws<'_>) -> bool {
        token.alg == Algorithm::HS256 && token.kid.as_deref() == Some(KEY_ID) && token.is_signed_by(&self.verifies)
    }
}

/// Checks the name of a guest. It is shown as it is, so that no character in it may move or hide its neighbours.
pub(crate) fn check(name: &str) -> Result<(), GuestNameError> {
    let hides = |c: char| {
        matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let fits = (1..=MAX_GUEST_NAME_BYTES).contains(&name.len())
        && !name.chars().any(|c| c.is_control() || hides(c))
        && !name.trim().is_empty();
    if fits { Ok(()) } else { Err(GuestNameError) }
}
