//! One key of a set (RFC 7517, RFC 7518 §6, RFC 8037): whether it may verify signatures, and of which algorithm. A key
//! serves one algorithm only, so that no algorithm is taken for another (RFC 8725 §3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use crate::jws::Jws;

/// The sizes of an RSA modulus, in bits (RFC 7518 §3.3 wants at least 2,048; larger moduli than these take too long).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;
/// Bytes of a coordinate on P-256, and of a key of Ed25519.
const POINT_BYTES: usize = 32;

/// A key that verifies signatures.
pub(crate) struct Key {
    id: Option<String>,
    alg: Algorithm,
    verifies: DecodingKey,
}

impl Key {
    /// Reads a key, or says why it can't be used.
    pub(crate) fn read(jwk: &Value) -> Result<Self, String> {
        let text = |name: &str| match jwk.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(format!("its `{name}` is no string")),
        };
        if !jwk.is_object() {
            return Err("it is no JSON object".into());
        }
        let needed = |name: &str| text(name)?.ok_or_else(|| format!("its `{name}` is missing"));
        let broken = |_| "it can't be computed with".to_owned();
        let (alg, verifies) = match (needed("kty")?, text("crv")?) {
            ("RSA", _) => {
                let (n, e) = (needed("n")?, needed("e")?);
                rsa(&bytes("n", n)?, &bytes("e", e)?)?;
                (Algorithm::RS256, DecodingKey::from_rsa_components(n, e).map_err(broken)?)
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (needed("x")?, needed("y")?);
                point("x", x)?;
                point("y", y)?;
                (Algorithm::ES256, DecodingKey::from_ec_components(x, y).map_err(broken)?)
            }
            ("OKP", Some("Ed25519")) => {
                let x = needed("x")?;
                point("x", x)?;
                (Algorithm::EdDSA, DecodingKey::from_ed_components(x).map_err(broken)?)
            }
            (kty, crv) => {
                let crv = crv.map(|crv| format!(" on {crv:?}")).unwrap_or_default();
                return Err(format!("keys of the type {kty:?}{crv} are not used here"));
            }
        };
        is_for_signatures(jwk, text("use")?, text("alg")?, alg)?;
        Ok(Self { id: text("kid")?.map(Into::into), alg, verifies })
    }

    /// Whether a token may be signed with it: the token names it, or no key.
    pub(crate) fn is_meant(&self, token: &Jws<'_>) -> bool {
        token.kid.is_none() || self.id == token.kid
    }

    /// Whether it has signed a token.
    pub(crate) fn has_signed(&self, token: &Jws<'_>) -> bool {
        self.alg == token.alg && token.is_signed_by(&self.verifies)
    }
}

/// Whether a key is meant to verify signatures of its algorithm (RFC 7517 §4.2 to §4.4).
fn is_for_signatures(jwk: &Value, usage: Option<&str>, named: Option<&str>, alg: Algorithm) -> Result<(), String> {
    if let Some(other) = usage.filter(|usage| *usage != "sig") {
        return Err(format!("its `use` is {other:?}, and not \"sig\""));
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(list)) if list.iter().any(|op| op == "verify") => {}
        Some(_) => return Err("its `key_ops` have no \"verify\"".into()),
    }
    match named {
        Some(other) if other != format!("{alg:?}") => Err(format!("its `alg` is {other:?}, and not \"{alg:?}\"")),
        _ => Ok(()),
    }
}

fn bytes(name: &str, text: &str) -> Result<Vec<u8>, String> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its `{name}` is not Base64 for URLs"))
}

fn point(name: &str, text: &str) -> Result<(), String> {
    let len = bytes(name, text)?.len();
    if len == POINT_BYTES { Ok(()) } else { Err(format!("its `{name}` has {len} bytes, and not {POINT_BYTES}")) }
}

fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<(), String> {
    let significant = |number: &[u8]| number.iter().position(|byte| *byte != 0).map_or(0, |zeros| number.len() - zeros);
    let len = significant(modulus);
    let bits = modulus.iter().rev().nth(len.wrapping_sub(1)).map_or(0, |top| len * 8 - top.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!("it has {bits} bits: {} to {} are accepted", RSA_BITS.start(), RSA_BITS.end()));
    }
    let is_one = significant(exponent) == 1 && exponent.last() == Some(&1);
    // With an exponent of 1 anybody could sign; an even exponent is invalid.
    if is_one || exponent.last().is_none_or(|last| last % 2 == 0) {
        return Err("its `e` is no exponent".into());
    }
    Ok(())
}
