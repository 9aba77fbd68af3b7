//! Keys that the server derives from its one secret, each for one purpose.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The key for a purpose. Nobody can compute another purpose's key from it, or the secret.
pub(crate) fn derived(secret: &[u8], purpose: &str) -> [u8; 32] {
    // Every length is a valid length of a key.
    let mac = Hmac::<Sha256>::new_from_slice(secret).map(|mac| mac.chain_update(purpose).finalize().into_bytes());
    mac.map(Into::into).unwrap_or_default()
}
