//! Static users and the secrets that check their passwords: argon2id for clients that send the password, and the keys
//! of SCRAM (RFC 5802, RFC 7677) for those that don't. Nothing here holds a password.

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::derived::derived;

/// Rounds of SCRAM's key derivation (RFC 7677 §4 wants at least 4,096).
const ROUNDS: u32 = 10_000;

/// Finds users.
pub trait Users: Send + Sync {
    /// The secret that checks a user's password, if there is such a user.
    fn find(&self, user: &str) -> Option<UserSecret>;
}

/// The secret that checks a user's password; the body of `$users/NAME`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserSecret {
    /// The user.
    pub user: Box<str>,
    /// The hash of argon2id, as a PHC string.
    pub argon2: Box<str>,
    /// The keys of SCRAM-SHA-1.
    pub scram_sha_1: Scram,
    /// The keys of SCRAM-SHA-256.
    pub scram_sha_256: Scram,
}

/// The values that a server keeps for SCRAM (RFC 5802 §3); bytes in Base64.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Scram {
    /// The salt.
    pub salt: Box<str>,
    /// Rounds of the key derivation.
    pub iterations: u32,
    /// `StoredKey`.
    pub stored_key: Box<str>,
    /// `ServerKey`.
    pub server_key: Box<str>,
}

/// The hash of a password, as a PHC string of argon2id, with 16 random bytes.
pub fn hash_password(password: &str, salt: &[u8; 16]) -> Option<Box<str>> {
    let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), salt).ok()?;
    Some(hash.to_string().into())
}

/// Whether a hash is that of a password.
pub fn password_fits(hash: &str, password: &str) -> bool {
    let hash = PasswordHash::new(hash);
    hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

impl UserSecret {
    /// Makes the secret for a password, with 16 random bytes.
    pub fn make(user: &str, password: &str, salt: &[u8; 16]) -> Option<Self> {
        let argon2 = hash_password(password, salt)?;
        let scram = |stored: &[u8], server: &[u8]| Scram {
            salt: STANDARD.encode(salt).into(),
            iterations: ROUNDS,
            stored_key: STANDARD.encode(stored).into(),
            server_key: STANDARD.encode(server).into(),
        };
        let one: [u8; 20] = pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password.as_bytes(), salt, ROUNDS);
        let two: [u8; 32] = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password.as_bytes(), salt, ROUNDS);
        let hmac_one =
            |text: &[u8]| Some(Hmac::<Sha1>::new_from_slice(&one).ok()?.chain_update(text).finalize().into_bytes());
        let hmac_two =
            |text: &[u8]| Some(Hmac::<Sha256>::new_from_slice(&two).ok()?.chain_update(text).finalize().into_bytes());
        Some(Self {
            user: user.into(),
            argon2,
            scram_sha_1: scram(&Sha1::digest(hmac_one(b"Client Key")?), &hmac_one(b"Server Key")?),
            scram_sha_256: scram(&Sha256::digest(hmac_two(b"Client Key")?), &hmac_two(b"Server Key")?),
        })
    }

    /// Whether a password is the user's.
    pub(crate) fn fits(&self, password: &str) -> bool {
        password_fits(&self.argon2, password)
    }
}

/// The stand-in for users that don't exist: no answer tells whether a user does.
pub(crate) struct Nobody {
    /// The secret whose check takes as long as that of a real user.
    pub(crate) secret: UserSecret,
    /// The key that salts are made with, so that only this server can tell which ones are.
    key: [u8; 32],
}

impl Nobody {
    /// Makes it from a secret that only the server knows, and that it knows after a restart too.
    pub(crate) fn new(own: &[u8]) -> Option<Self> {
        let secret = UserSecret::make("", "nobody has this password", &[7; 16])?;
        Some(Self { secret, key: derived(own, "salts") })
    }

    /// The salt of a user that doesn't exist: the same each time.
    pub(crate) fn salt(&self, user: &str) -> Box<str> {
        STANDARD.encode(&derived(&self.key, user)[..16]).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_user() {
        let secret = UserSecret::make("ann", "pencil", &[1; 16]).unwrap();
        assert!(secret.fits("pencil") && !secret.fits("Pencil") && !secret.fits(""));
        assert!(secret.argon2.starts_with("$argon2id$"));
        let json = serde_json::to_string(&secret).unwrap();
        assert!(!json.contains("pencil"));
        assert_eq!(serde_json::from_str::<UserSecret>(&json).unwrap(), secret);
    }
}
