//! Keys that the server makes of its one secret, each for one purpose.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The key for a purpose: nobody comes from one to another, or to the secret.
pub(crate) fn derived(secret: &[u8], purpose: &str) -> [u8; 32] {
    // A key of any length is one.
    let mac = Hmac::<Sha256>::new_from_slice(secret).map(|mac| mac.chain_update(purpose).finalize().into_bytes());
    mac.map(Into::into).unwrap_or_default()
}
