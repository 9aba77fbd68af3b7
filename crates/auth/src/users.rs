//! Static users: how their passwords are checked. argon2id for those who send them, and the keys of SCRAM (RFC 5802, RFC
//! 7677) for those who don't. Nothing here holds a password.

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
    /// How a user's password is checked, if there is such a user.
    fn find(&self, user: &str) -> Option<UserSecret>;
}

/// How a user's password is checked; the body of `$users/NAME`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UserSecret {
    /// The user.
    pub user: Box<str>,
    /// argon2id, as a PHC string.
    pub argon2: Box<str>,
    /// For SCRAM-SHA-1.
    pub scram_sha_1: Scram,
    /// For SCRAM-SHA-256.
    pub scram_sha_256: Scram,
}

/// What a server keeps for SCRAM (RFC 5802 §3); bytes in Base64.
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

impl UserSecret {
    /// For a password, with 16 random bytes.
    pub fn make(user: &str, password: &str, salt: &[u8; 16]) -> Option<Self> {
        let argon2 = Argon2::default().hash_password_with_salt(password.as_bytes(), salt).ok()?;
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
            argon2: argon2.to_string().into(),
            scram_sha_1: scram(&Sha1::digest(hmac_one(b"Client Key")?), &hmac_one(b"Server Key")?),
            scram_sha_256: scram(&Sha256::digest(hmac_two(b"Client Key")?), &hmac_two(b"Server Key")?),
        })
    }

    /// Whether a password is the user's.
    pub(crate) fn fits(&self, password: &str) -> bool {
        let hash = PasswordHash::new(&self.argon2);
        hash.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
    }
}

/// What stands for users that are not there: nothing that it is asked tells whether they are.
pub(crate) struct Nobody {
    /// Checking it takes as long as checking somebody's.
    pub(crate) secret: UserSecret,
    /// Salts are made with it, so that only this server knows which ones are.
    key: [u8; 32],
}

impl Nobody {
    /// Made with something that only the server knows, and knows after a restart too.
    pub(crate) fn new(own: &[u8]) -> Option<Self> {
        let secret = UserSecret::make("", "nobody has this password", &[7; 16])?;
        Some(Self { secret, key: derived(own, "salts") })
    }

    /// The salt of a user who is not there: the same each time.
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
