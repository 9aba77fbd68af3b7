//! The tokens that prove an identity, and the keys that may verify them (RFC 7515, RFC 7517, RFC 7519, RFC 8725). The
//! keys in `keys/` were made for these tests and open nothing.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use everywire_auth::{Authority, Config, KeysAt, Source, UserSecret, Users, Verdict};
use everywire_base::ask::{AuthError, Credentials};
use everywire_base::clock::UnixMillis;
use everywire_base::identity::Identity;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

const SECRET: &str = "a secret of at least thirty-two bytes";
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
/// The modulus of `keys/rsa-1024.der`.
const SHORT_MODULUS: &str = "v4rBHmKXBlQRk75xVUmWoVdfagQvt2kz2DE8xVOYjhlY-XSq-c_fC5yXcTgtH5p5ihz-IgMzDbxubnCNVIxLUH-eZhEeKH-Kiup2VMU1v2UrsoNpCuPyefa9lHNvONIydAJehVuHw13cD2ZDEXyWvJp63l1rxOGYZ5DfjsCs95E";

struct Nobody;

impl Users for Nobody {
    fn find(&self, _: &str) -> Option<UserSecret> {
        None
    }
}

fn authority(config: Config) -> Authority {
    Authority::new(config, Arc::new(Nobody)).unwrap()
}

fn with_secret() -> Authority {
    authority(Config { secret: Some(SECRET.into()), ..Config::default() })
}

fn show(authority: &Authority, token: &str) -> Result<Arc<Identity>, AuthError> {
    authority.check(&Credentials::Token(token.into()), None, NOW)
}

fn why(result: Result<Arc<Identity>, AuthError>) -> String {
    match result {
        Err(AuthError::Refused(why)) => why.into(),
        other => panic!("{other:?}"),
    }
}

/// A token with just this head and these claims.
fn signed(key: &EncodingKey, alg: Algorithm, head: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(head), part(claims));
    let signature = crypto::sign(signed.as_bytes(), key, alg).unwrap();
    format!("{signed}.{signature}")
}

fn ours(claims: &Value) -> String {
    signed(&EncodingKey::from_secret(SECRET.as_bytes()), Algorithm::HS256, &json!({"alg": "HS256"}), claims)
}

/// A token signed with a key in `keys/`.
fn theirs(name: &str, kid: Option<&str>) -> String {
    let der = std::fs::read(format!("{}/tests/keys/{name}.der", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (alg, key) = match name {
        "ec" => (Algorithm::ES256, EncodingKey::from_ec_der(&der)),
        "ed" => (Algorithm::EdDSA, EncodingKey::from_ed_der(&der)),
        _ => (Algorithm::RS256, EncodingKey::from_rsa_der(&der)),
    };
    let mut head = json!({"alg": format!("{alg:?}")});
    if let Some(kid) = kid {
        head["kid"] = kid.into();
    }
    signed(&key, alg, &head, &json!({"sub": "ann", "exp": 1_800_000_060}))
}

/// The good keys.
fn jwks() -> Vec<Value> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/jwks.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["keys"].as_array().unwrap().clone()
}

/// An authority with these keys.
fn with_keys(keys: &[Value]) -> Authority {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, json!({"keys": keys}).to_string()).unwrap();
    let authority = authority(Config { keys: Some(KeysAt::File(file)), ..Config::default() });
    authority.refresh_keys(Duration::ZERO);
    authority
}

#[test]
fn a_token_is_for_somebody() {
    let open = with_secret();
    assert!(show(&open, &ours(&json!({"sub": "ann"}))).is_ok());
    for aud in [json!("push"), json!(["push"]), json!(["a", "b"])] {
        let said = why(show(&open, &ours(&json!({"sub": "ann", "aud": aud}))));
        assert!(said.contains("audience"), "{said}");
    }
    let audience = vec!["push".into(), "other".into()];
    let named = authority(Config { secret: Some(SECRET.into()), audience, ..Config::default() });
    for aud in [json!("push"), json!("other"), json!(["x", "push"])] {
        assert!(show(&named, &ours(&json!({"sub": "ann", "aud": aud}))).is_ok(), "{aud}");
    }
    for aud in [json!("Push"), json!("push "), json!(["x"]), json!([]), json!(null), json!(7), json!([7])] {
        let said = why(show(&named, &ours(&json!({"sub": "ann", "aud": aud}))));
        assert!(said.contains("aud"), "{aud}: {said}");
    }
    assert!(why(show(&named, &ours(&json!({"sub": "ann"})))).contains("`aud` is missing"));
}

#[test]
fn a_token_is_of_the_right_issuer() {
    let issuer = Some("https://id.example.com".into());
    let strict = authority(Config { secret: Some(SECRET.into()), issuer, ..Config::default() });
    assert!(show(&strict, &ours(&json!({"sub": "ann", "iss": "https://id.example.com"}))).is_ok());
    for iss in [
        json!("https://id.example.com/"),
        json!("HTTPS://id.example.com"),
        json!(""),
        json!(["https://id.example.com"]),
    ] {
        let said = why(show(&strict, &ours(&json!({"sub": "ann", "iss": iss}))));
        assert!(said.contains("iss"), "{iss}: {said}");
    }
    assert!(why(show(&strict, &ours(&json!({"sub": "ann"})))).contains("`iss` is missing"));
    // An authority without an issuer trusts the key alone.
    assert!(show(&with_secret(), &ours(&json!({"sub": "ann", "iss": "anybody"}))).is_ok());
}

#[test]
fn a_head_is_taken_at_its_word() {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let show_with = |head: Value| show(&with_secret(), &signed(&key, Algorithm::HS256, &head, &json!({"sub": "ann"})));
    for fine in [json!({"alg": "HS256"}), json!({"alg": "HS256", "typ": "at+jwt", "kid": "x", "else": 1})] {
        assert!(show_with(fine.clone()).is_ok(), "{fine}");
    }
    for crit in [json!(["b64"]), json!(["exp"]), json!([]), json!("b64"), json!(null)] {
        assert!(why(show_with(json!({"alg": "HS256", "crit": crit}))).contains("crit"), "{crit}");
    }
    for alg in ["none", "None", "NONE", "HS384", "HS512", "hs256", "RS256", "PS256", "ES256", "EdDSA", "", "x"] {
        why(show_with(json!({"alg": alg})));
    }
    for head in [json!({}), json!([]), json!({"alg": 1}), json!({"alg": ["HS256"]}), json!({"alg": "HS256", "kid": 7})]
    {
        why(show_with(head));
    }
}

#[test]
fn a_claim_of_the_wrong_type_is_named() {
    let cases = [
        (json!({"sub": 42}), "the claim `sub` must be a string, and is a number"),
        (json!({"sub": ["ann"]}), "the claim `sub` must be a string, and is a list"),
        (json!({"device": true}), "the claim `device` must be a string, and is true or false"),
        (json!({"publish": "room/#"}), "the claim `publish` must be a list of filters, and is a string"),
        (json!({"subscribe": {"a": 1}}), "the claim `subscribe` must be a list of filters, and is an object"),
        (json!({"subscribe": ["a", 1]}), "the claim `subscribe` must be a list of filters, and has in it a number"),
        (json!({"admin": "true"}), "the claim `admin` must be true or false, and is a string"),
        (json!({"exp": "1800000060"}), "the claim `exp` must be a number of seconds since 1970, and is a string"),
        (json!({"exp": null}), "the claim `exp` must be a number of seconds since 1970, and is null"),
        (json!({"nbf": [1]}), "the claim `nbf` must be a number of seconds since 1970, and is a list"),
        (json!({"iss": 1}), "the claim `iss` must be a string, and is a number"),
        (json!({"aud": 1}), "the claim `aud` must be a string or a list of strings, and is a number"),
    ];
    for (wrong, said) in cases {
        let mut claims = json!({"sub": "ann", "exp": 1_800_000_060});
        claims.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert_eq!(why(show(&with_secret(), &ours(&claims))), said);
    }
    assert_eq!(why(show(&with_secret(), &ours(&json!(["ann"])))), "the claims are not a JSON object");
    for past in [json!(0), json!(-1), json!(1_799_999_999.9), json!(1_800_000_000)] {
        assert_eq!(why(show(&with_secret(), &ours(&json!({"sub": "ann", "exp": past})))), "the token has expired");
    }
    for future in [json!(1_800_000_001), json!(1_800_000_000.5), json!(1e300)] {
        assert!(show(&with_secret(), &ours(&json!({"sub": "ann", "exp": future}))).is_ok(), "{future}");
    }
}

#[test]
fn a_key_for_something_else_verifies_nothing() {
    let rsa = jwks().swap_remove(0);
    let with = |name: &str, value: Value| {
        let mut key = rsa.clone();
        key.as_object_mut().unwrap().remove("use");
        key[name] = value;
        show(&with_keys(&[key]), &theirs("rsa", Some("rsa")))
    };
    for (name, value) in [
        ("use", json!("sig")),
        ("key_ops", json!(["verify"])),
        ("key_ops", json!(["sign", "verify"])),
        ("alg", json!("RS256")),
    ] {
        assert!(with(name, value.clone()).is_ok(), "{name} {value}");
    }
    for (name, value) in [
        ("use", json!("enc")),
        ("use", json!("SIG")),
        ("use", json!(["sig"])),
        ("key_ops", json!(["encrypt"])),
        ("key_ops", json!(["sign"])),
        ("key_ops", json!([])),
        ("key_ops", json!("verify")),
        ("alg", json!("RS512")),
        ("alg", json!("PS256")),
        ("alg", json!("RSA-OAEP-256")),
        ("alg", json!("HS256")),
        ("alg", json!(256)),
        ("e", json!("AQ")),
        ("e", json!("AAE")),
        ("e", json!("Ag")),
        ("e", json!("")),
    ] {
        why(with(name, value));
    }
}

#[test]
fn a_short_rsa_key_verifies_nothing() {
    let mut key = json!({"kty": "RSA", "kid": "short", "n": SHORT_MODULUS, "e": "AQAB"});
    why(show(&with_keys(&[key.clone()]), &theirs("rsa-1024", Some("short"))));
    why(show(&with_keys(&[key.clone()]), &theirs("rsa-1024", None)));
    // Zeros in front don't make the modulus longer.
    let padded = [vec![0; 128], URL_SAFE_NO_PAD.decode(SHORT_MODULUS).unwrap()].concat();
    key["n"] = URL_SAFE_NO_PAD.encode(padded).into();
    why(show(&with_keys(&[key]), &theirs("rsa-1024", Some("short"))));
}

#[test]
fn a_malformed_key_disables_only_itself() {
    let broken = [
        json!("nonsense"),
        json!(null),
        json!({}),
        json!({"kty": "RSA", "kid": "a"}),
        json!({"kty": "RSA", "kid": "b", "n": "*", "e": "AQAB"}),
        json!({"kty": "EC", "kid": "c", "crv": "P-521", "x": "", "y": ""}),
        json!({"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "kid": "d", "crv": "Ed448", "x": "AA"}),
        json!({"kty": "OKP", "kid": "e", "crv": "X25519", "x": "ygyFYtGEj7DwIEndGF558e3cgGi5focdQiOU60sBLtQ"}),
        json!({"kty": "oct", "kid": "f", "k": "AAAA"}),
        json!({"kty": "new", "kid": "g", "more": [1]}),
        json!({"kty": 1}),
        json!({"kty": "RSA", "kid": ["rsa"], "n": "AA", "e": "AQAB"}),
    ];
    let all: Vec<Value> = broken.iter().cloned().chain(jwks()).collect();
    let authority = with_keys(&all);
    for name in ["rsa", "ec", "ed"] {
        for kid in [None, Some(name)] {
            assert!(show(&authority, &theirs(name, kid)).is_ok(), "{name} {kid:?}");
        }
    }
    why(show(&authority, &theirs("rsa", Some("a"))));
}

#[test]
fn what_a_withdrawn_key_has_proved_is_not_known_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let write = |keys: &[Value]| std::fs::write(&file, json!({"keys": keys}).to_string()).unwrap();
    write(&jwks());
    let authority = authority(Config { keys: Some(KeysAt::File(file.clone())), ..Config::default() });
    let (rsa, ec) = (theirs("rsa", Some("rsa")), theirs("ec", Some("ec")));
    assert!(show(&authority, &rsa).is_ok() && show(&authority, &ec).is_ok());
    write(&jwks()[1..]);
    assert!(show(&authority, &rsa).is_ok(), "nobody has looked yet");
    authority.refresh_keys(Duration::ZERO);
    why(show(&authority, &rsa));
    assert!(show(&authority, &ec).is_ok());
}

#[test]
fn keys_share_an_id_and_an_empty_one_is_one() {
    let keys = jwks();
    let renamed = |key: &Value, id: Value| {
        let mut key = key.clone();
        key["kid"] = id;
        key
    };
    // Several keys of one id, of one kind or of several: each is tried (RFC 7517 §4.5).
    let same: Vec<Value> = keys.iter().map(|key| renamed(key, json!("same"))).collect();
    let doubled = with_keys(&[same.clone(), same].concat());
    for name in ["rsa", "ec", "ed"] {
        assert!(show(&doubled, &theirs(name, Some("same"))).is_ok(), "{name}");
    }
    why(show(&doubled, &theirs("rsa", Some(""))));
    assert!(show(&with_keys(&[renamed(&keys[0], json!(""))]), &theirs("rsa", Some(""))).is_ok());
    why(show(&with_keys(&keys), &theirs("rsa", Some("ec"))));
    why(show(&with_keys(&keys), &theirs("rsa", Some("RSA"))));
}

#[test]
fn nobody_can_tell_while_the_keys_cannot_be_read() {
    let gone = |config: Config| authority(Config { keys: Some(KeysAt::File("/nowhere/jwks.json".into())), ..config });
    for kid in [None, Some("rsa")] {
        let result = show(&gone(Config::default()), &theirs("rsa", kid));
        assert!(matches!(result, Err(AuthError::Unavailable(_))), "{result:?}");
    }
    // A token that the secret verifies doesn't need the keys, and neither does one that is no token.
    let both = gone(Config { secret: Some(SECRET.into()), ..Config::default() });
    assert!(show(&both, &ours(&json!({"sub": "ann"}))).is_ok());
    why(show(&both, "nonsense"));
}

#[test]
fn known_keys_go_on_while_their_address_hangs() {
    // The address answers once, and never again.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let body = json!({"keys": jwks()}).to_string();
    let serving = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        socket.write_all((head + &body).as_bytes()).unwrap();
        listener
    });
    let within = Some(Duration::from_mins(1));
    let authority = authority(Config { keys: Some(KeysAt::Url(url.into())), within, ..Config::default() });
    assert!(show(&authority, &theirs("rsa", Some("rsa"))).is_ok());
    let listener = serving.join().unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| authority.refresh_keys(Duration::ZERO));
        // The keys are being read from now on, until this socket is closed.
        let (socket, _) = listener.accept().unwrap();
        for name in ["rsa", "ec", "ed"] {
            let verdict = authority.at_once(&Credentials::Token(theirs(name, Some(name)).into()), None, NOW);
            assert!(matches!(verdict, Verdict::Is(Ok(_))), "{name}: {verdict:?}");
        }
        assert!(!reading.is_finished());
        drop(socket);
    });
}

#[test]
fn a_guest_is_a_user_of_its_own_for_a_day() {
    let config = |guests| Config { guests, admin_token: Some("0123456789".into()), ..Config::default() };
    let open = authority(config(true));
    let (ann, other) = (open.guest("Ann 👩‍🚀", NOW).unwrap().unwrap(), open.guest("Ann", NOW).unwrap().unwrap());
    assert!(ann.user.starts_with("guest-") && ann.user.len() == 16 && ann.user != other.user, "{ann:?}");
    assert_eq!((ann.name.as_str(), ann.expires), ("Ann 👩‍🚀", UnixMillis(NOW.0 + 86_400_000)));
    let who = show(&open, &ann.token).unwrap();
    assert_eq!((who.user.as_deref(), who.admin, who.expires), (Some(&*ann.user), false, Some(ann.expires)));
    // The token holds after a restart too, whatever the tokens of others must have. It doesn't hold on another server,
    // nor where guests are off.
    let named = Config { audience: vec!["push".into()], issuer: Some("x".into()), ..config(true) };
    assert!(show(&authority(named), &ann.token).is_ok());
    why(show(&authority(Config { admin_token: Some("another".into()), ..config(true) }), &ann.token));
    why(show(&authority(config(false)), &ann.token));
    let with_secret = authority(Config { secret: Some(SECRET.into()), ..config(false) });
    why(show(&with_secret, &ann.token));
    assert_eq!(authority(config(false)).guest("Ann", NOW), Ok(None));
    for name in ["", "  ", "a\nb", "a\u{7f}", "a\u{202e}b", "\u{feff}", &"x".repeat(65)] {
        assert!(open.guest(name, NOW).is_err(), "{name:?}");
    }
    for name in ["x", "Zoë", "李雷", "علي", &"x".repeat(64)] {
        assert!(open.guest(name, NOW).is_ok(), "{name:?}");
    }
}

#[test]
fn what_may_take_long_is_never_done_at_once() {
    let token = |text: String| Credentials::Token(text.into());
    let password = Credentials::Password { user: "ann".into(), password: "x".into() };
    let users = authority(Config { users: true, secret: Some(SECRET.into()), ..Config::default() });
    assert!(matches!(users.at_once(&password, None, NOW), Verdict::Ask(Source::Users)));
    assert!(matches!(users.at_once(&token(ours(&json!({"sub": "a"}))), None, NOW), Verdict::Is(Ok(_))));
    assert!(matches!(users.at_once(&token("x".into()), None, NOW), Verdict::Is(Err(_))));
    let asking = authority(Config { callback: Some("http://127.0.0.1:1/".into()), ..Config::default() });
    assert!(matches!(asking.at_once(&password, None, NOW), Verdict::Ask(Source::Callback)));
    assert!(matches!(asking.at_once(&token("x".into()), None, NOW), Verdict::Ask(Source::Callback)));
    let others = authority(Config { keys: Some(KeysAt::Url("http://127.0.0.1:1/".into())), ..Config::default() });
    assert!(matches!(others.at_once(&token(theirs("rsa", Some("x"))), None, NOW), Verdict::Ask(Source::Keys)));
    assert!(matches!(others.at_once(&token("x".into()), None, NOW), Verdict::Is(Err(_))));
}
