//! The server's side of SCRAM (RFC 5802, RFC 7677), without channel binding.
//!
//! No state is kept between the steps: the asker brings along the messages so far. The server's last message is known
//! at the first step already, since all that it signs is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_base::ask::{AuthError, ScramHash, ScramStep};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use crate::users::{Nobody, Scram, UserSecret};

/// The client's first message (RFC 5802 §5.1): `n,,n=USER,r=NONCE`.
struct First<'a> {
    /// The head, which says that there is no channel binding.
    head: &'a str,
    bare: &'a str,
    user: String,
    nonce: &'a str,
}

impl<'a> First<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let bare = text.strip_prefix("n,,").or_else(|| text.strip_prefix("y,,"))?;
        let (head, mut parts) = (&text[..3], bare.split(','));
        let user = parts.next()?.strip_prefix("n=")?.replace("=2C", ",").replace("=3D", "=");
        let nonce = parts.next()?.strip_prefix("r=").filter(|nonce| !nonce.is_empty())?;
        Some(Self { head, bare, user, nonce })
    }
}

/// The user that a client's first message names.
pub(crate) fn user(first: &str) -> Option<String> {
    First::read(first).map(|first| first.user)
}

/// The keys of a user, or stand-ins for one that doesn't exist: the challenge must not tell whether there is such a
/// user.
fn keys(hash: ScramHash, found: Option<&UserSecret>, nobody: &Nobody, user: &str) -> Scram {
    let of = |secret: &UserSecret| match hash {
        ScramHash::Sha1 => secret.scram_sha_1.clone(),
        ScramHash::Sha256 => secret.scram_sha_256.clone(),
    };
    found.map_or_else(|| Scram { salt: nobody.salt(user), ..of(&nobody.secret) }, of)
}

/// Goes one step further: asks for the proof, or checks it. Returns the user.
pub(crate) fn step(
    step: &ScramStep,
    found: Option<&UserSecret>,
    nobody: &Nobody,
    nonce: &str,
) -> Result<String, AuthError> {
    let wrong = || AuthError::Refused("the user or the password is wrong".into());
    let malformed = || AuthError::Refused("this is no message of SCRAM (RFC 5802 §5)".into());
    let first = First::read(&step.first).ok_or_else(malformed)?;
    let keys = keys(step.hash, found, nobody, &first.user);
    let Some((challenge, last)) = &step.proof else {
        let (salt, rounds) = (&keys.salt, keys.iterations);
        let challenge = format!("r={}{nonce},s={salt},i={rounds}", first.nonce);
        let signed = signed(&first, &challenge);
        let server_key = STANDARD.decode(&*keys.server_key).map_err(|_| wrong())?;
        let last = format!("v={}", STANDARD.encode(mac(step.hash, &server_key, signed.as_bytes())));
        return Err(AuthError::Continue { challenge: challenge.into(), last: last.into() });
    };
    let proof = last.strip_prefix(&without_proof(&first, challenge)).and_then(|rest| rest.strip_prefix(",p="));
    let proof = proof.and_then(|proof| STANDARD.decode(proof).ok()).ok_or_else(malformed)?;
    let stored = STANDARD.decode(&*keys.stored_key).map_err(|_| wrong())?;
    let signature = mac(step.hash, &stored, signed(&first, challenge).as_bytes());
    let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
    let fits = proof.len() == signature.len() && digest(step.hash, &client_key) == stored;
    if fits && found.is_some() { Ok(first.user) } else { Err(wrong()) }
}

/// The client's final message without its proof.
fn without_proof(first: &First<'_>, challenge: &str) -> String {
    let nonce = challenge.split(',').next().unwrap_or_default();
    format!("c={},{nonce}", STANDARD.encode(first.head))
}

/// `AuthMessage` (RFC 5802 §3).
fn signed(first: &First<'_>, challenge: &str) -> String {
    format!("{},{challenge},{}", first.bare, without_proof(first, challenge))
}

fn mac(hash: ScramHash, key: &[u8], text: &[u8]) -> Vec<u8> {
    // Every length is a valid length of a key.
    match hash {
        ScramHash::Sha1 => Hmac::<Sha1>::new_from_slice(key)
            .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
            .unwrap_or_default(),
        ScramHash::Sha256 => Hmac::<Sha256>::new_from_slice(key)
            .map(|mac| mac.chain_update(text).finalize().into_bytes().to_vec())
            .unwrap_or_default(),
    }
}

fn digest(hash: ScramHash, bytes: &[u8]) -> Vec<u8> {
    match hash {
        ScramHash::Sha1 => Sha1::digest(bytes).to_vec(),
        ScramHash::Sha256 => Sha256::digest(bytes).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nobody() -> Nobody {
        Nobody::new(b"the server's own secret").expect("a secret")
    }

    fn asked(first: &str, proof: Option<(&str, &str)>) -> ScramStep {
        let proof = proof.map(|(challenge, last)| (challenge.into(), last.into()));
        ScramStep { hash: ScramHash::Sha256, first: first.into(), proof }
    }

    /// The exchange of RFC 7677 §3.
    #[test]
    fn the_standards_own_exchange() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap().try_into().unwrap();
        let mut user = UserSecret::make("user", "pencil", &salt).unwrap();
        let salted = pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(b"pencil", &salt, 4096);
        user.scram_sha_256.iterations = 4096;
        let stored = digest(ScramHash::Sha256, &mac(ScramHash::Sha256, &salted, b"Client Key"));
        user.scram_sha_256.stored_key = STANDARD.encode(stored).into();
        user.scram_sha_256.server_key = STANDARD.encode(mac(ScramHash::Sha256, &salted, b"Server Key")).into();
        let first = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
        let nonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let Err(AuthError::Continue { challenge, last }) = step(&asked(first, None), Some(&user), &nobody(), nonce)
        else {
            panic!("a challenge")
        };
        assert_eq!(
            &*challenge,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        assert_eq!(&*last, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        let proof = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                     p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(step(&asked(first, Some((&challenge, proof))), Some(&user), &nobody(), ""), Ok("user".into()));
        let other = proof.replace("p=dHz", "p=eHz");
        for wrong in [other.as_str(), "c=biws,r=other,p=AA==", "nonsense"] {
            assert!(step(&asked(first, Some((&challenge, wrong))), Some(&user), &nobody(), "").is_err(), "{wrong}");
        }
    }

    #[test]
    fn nobody_is_asked_like_somebody_and_the_same_each_time() {
        let ask = |first: &str| match step(&asked(first, None), None, &nobody(), "n") {
            Err(AuthError::Continue { challenge, .. }) => challenge,
            other => panic!("{other:?}"),
        };
        assert_eq!(ask("n,,n=eve,r=1"), ask("n,,n=eve,r=1"));
        assert_ne!(ask("n,,n=eve,r=1"), ask("n,,n=bob,r=1"));
        // The challenge has the shape of a real user's: a salt of as many bytes, and as many rounds.
        let bob = UserSecret::make("bob", "pencil", &[9; 16]).unwrap();
        let shape = |challenge: &str| {
            let fields: Vec<&str> = challenge.split(',').collect();
            (fields.len(), fields[1].len(), fields[2].to_owned())
        };
        let somebody = match step(&asked("n,,n=bob,r=1", None), Some(&bob), &nobody(), "n") {
            Err(AuthError::Continue { challenge, .. }) => challenge,
            other => panic!("{other:?}"),
        };
        assert_eq!(shape(&somebody), shape(&ask("n,,n=eve,r=1")));
        // Another server makes another salt.
        let other = Nobody::new(b"the secret of another server").unwrap();
        let stranger = match step(&asked("n,,n=eve,r=1", None), None, &other, "n") {
            Err(AuthError::Continue { challenge, .. }) => challenge,
            other => panic!("{other:?}"),
        };
        assert_ne!(stranger, ask("n,,n=eve,r=1"));
        for malformed in ["", "p=tls-unique,,n=eve,r=1", "n,,n=eve", "n,a=x,n=eve,r=1"] {
            assert!(matches!(step(&asked(malformed, None), None, &nobody(), "n"), Err(AuthError::Refused(_))));
        }
    }
}
