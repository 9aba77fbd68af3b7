//! Signed tokens (RFC 7515, RFC 7519): taken apart, and verified with keys of just their algorithm.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::Value;

/// A token whose signature is still to be verified.
pub(crate) struct Jws<'a> {
    /// The algorithm that its head names.
    pub(crate) alg: Algorithm,
    /// The id of the key that its head names.
    pub(crate) kid: Option<String>,
    /// The signed text: head and payload.
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// The refusal of a text that is no token; an application may know it all the same.
const NO_TOKEN: &str = "this is no token that is known here";

impl<'a> Jws<'a> {
    /// Takes a token apart.
    pub(crate) fn parse(token: &'a str) -> Result<Self, String> {
        let parts = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (head, payload) = signed.split_once('.').filter(|(_, payload)| !payload.contains('.'))?;
            let head: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(head).ok()?).ok()?;
            head.is_object().then_some((head, signed, payload, signature))
        };
        let (head, signed, payload, signature) = parts().ok_or(NO_TOKEN)?;
        let alg = head.get("alg").and_then(Value::as_str).ok_or(NO_TOKEN)?;
        let alg: Algorithm = match alg {
            none if none.eq_ignore_ascii_case("none") => return Err(format!("{NO_TOKEN}: it is not signed")),
            alg => alg.parse().map_err(|_| format!("{NO_TOKEN}: its algorithm {alg:?} is unknown"))?,
        };
        // RFC 7515 §4.1.11: a server that doesn't understand all extensions must refuse the token, and this one
        // understands none.
        if head.get("crit").is_some() {
            return Err("the token needs extensions that are not known here: its head has `crit`".into());
        }
        let kid = match head.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err("the token's head has a `kid` that is no string".into()),
        };
        Ok(Self { alg, kid, signed, payload, signature })
    }

    /// Whether this key has signed it.
    pub(crate) fn is_signed_by(&self, key: &DecodingKey) -> bool {
        crypto::verify(self.signature, self.signed.as_bytes(), key, self.alg).unwrap_or(false)
    }

    /// The claims. Read them only after the signature is verified.
    pub(crate) fn claims(&self) -> Result<Value, String> {
        let bytes = URL_SAFE_NO_PAD.decode(self.payload).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or("the token's claims are not JSON".into())
    }
}
