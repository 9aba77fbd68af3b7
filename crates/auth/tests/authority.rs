//! The answers of an authority to credentials. The keys in `keys/` were made for these tests and open nothing.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use everywire_auth::{Authority, Claims, Config, ConfigError, KeysAt, UserSecret, Users, mint};
use everywire_base::ask::{AuthError, Credentials};
use everywire_base::clock::UnixMillis;
use everywire_base::identity::Identity;
use everywire_base::quota::Quota;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

const SECRET: &str = "a secret of at least thirty-two bytes";
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

struct Nobody;

impl Users for Nobody {
    fn find(&self, _: &str) -> Option<UserSecret> {
        None
    }
}

struct Ann;

impl Users for Ann {
    fn find(&self, user: &str) -> Option<UserSecret> {
        (user == "ann").then(|| UserSecret::make("ann", "pencil", &[3; 16]).unwrap())
    }
}

fn authority(config: Config) -> Authority {
    Authority::new(config, Arc::new(Nobody)).unwrap()
}

fn with_secret() -> Authority {
    authority(Config { secret: Some(SECRET.into()), ..Config::default() })
}

fn claims() -> Claims {
    Claims { sub: Some("ann".into()), exp: Some(1_800_000_060.0), ..Claims::default() }
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

fn key(name: &str) -> (Algorithm, EncodingKey) {
    let der = std::fs::read(format!("{}/tests/keys/{name}.der", env!("CARGO_MANIFEST_DIR"))).unwrap();
    match name {
        "rsa" => (Algorithm::RS256, EncodingKey::from_rsa_der(&der)),
        "ec" => (Algorithm::ES256, EncodingKey::from_ec_der(&der)),
        _ => (Algorithm::EdDSA, EncodingKey::from_ed_der(&der)),
    }
}

fn signed(name: &str, kid: Option<&str>) -> String {
    let (alg, key) = key(name);
    let header = Header { kid: kid.map(Into::into), ..Header::new(alg) };
    jsonwebtoken::encode(&header, &claims(), &key).unwrap()
}

fn jwks() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/jwks.json")).unwrap()
}

#[test]
fn a_token_of_ours() {
    let claims = Claims {
        device: Some("phone".into()),
        publish: Some(vec!["room/+".into()]),
        subscribe: Some(vec!["#".into()]),
        ..claims()
    };
    let token = mint(SECRET, &claims).unwrap();
    let who = show(&with_secret(), &token).unwrap();
    assert_eq!((who.user.as_deref(), who.device.as_deref(), who.admin), (Some("ann"), Some("phone"), false));
    assert_eq!(who.publish.as_ref().unwrap()[0].as_str(), "room/+");
    assert_eq!(who.expires, Some(UnixMillis(1_800_000_060_000)));
}

#[test]
fn tokens_that_prove_nothing() {
    let ours = with_secret();
    let expired = mint(SECRET, &Claims { exp: Some(1_799_999_999.0), ..claims() }).unwrap();
    assert_eq!(why(show(&ours, &expired)), "the token has expired");
    let early = mint(SECRET, &Claims { nbf: Some(1_800_000_100.0), ..claims() }).unwrap();
    assert_eq!(why(show(&ours, &early)), "the token does not hold yet");
    let forged = mint("another secret of at least 32 bytes!", &claims()).unwrap();
    assert_eq!(why(show(&ours, &forged)), "the token's signature does not fit");
    let token = mint(SECRET, &claims()).unwrap();
    let (head, signature) = token.rsplit_once('.').unwrap();
    assert!(why(show(&ours, &format!("{head}.{}", &signature[1..]))).contains("signature"));
    // {"alg":"none","typ":"JWT"}
    let (_, payload) = head.split_once('.').unwrap();
    assert!(why(show(&ours, &format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}."))).contains("no token"));
    for nonsense in ["", "x", "a.b.c", "....", "eyJhbGciOiJIUzI1NiJ9.."] {
        why(show(&ours, nonsense));
    }
    let nameless = mint(SECRET, &Claims { sub: None, ..claims() }).unwrap();
    assert!(why(show(&ours, &nameless)).contains("`sub` is missing"));
    let wrong_name = mint(SECRET, &Claims { sub: Some("a\nb".into()), ..claims() }).unwrap();
    assert!(why(show(&ours, &wrong_name)).contains("`sub`"));
    let wrong_filter = mint(SECRET, &Claims { publish: Some(vec!["a/#/b".into()]), ..claims() }).unwrap();
    assert!(why(show(&ours, &wrong_filter)).contains("`publish`"));
    assert!(why(show(&ours, &signed("rsa", None))).contains("RS256"));
    assert_eq!(
        Authority::new(Config { secret: Some("short".into()), ..Config::default() }, Arc::new(Nobody)).err(),
        Some(ConfigError::ShortSecret)
    );
}

#[test]
fn tokens_of_others_by_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, jwks()).unwrap();
    let others = authority(Config { keys: Some(KeysAt::File(file)), ..Config::default() });
    for name in ["rsa", "ec", "ed"] {
        for kid in [None, Some(name)] {
            assert_eq!(show(&others, &signed(name, kid)).unwrap().user.as_deref(), Some("ann"), "{name} {kid:?}");
        }
        why(show(&others, &signed(name, Some("unknown"))));
    }
    // A key of one kind is no key of another, whatever the token says.
    why(show(&others, &signed("ec", Some("rsa"))));
    // The public key as the secret of HS256 is an old attack.
    let key = EncodingKey::from_secret(jwks().as_bytes());
    let confused = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
    assert!(why(show(&others, &confused)).contains("HS256"));
}

/// Answers each request with the next of these bodies, and ends after the last.
fn serve(answers: Vec<(u16, String)>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for (status, body) in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
                let len =
                    text.split_once("content-length: ").and_then(|(_, l)| l.lines().next()?.parse().ok()).unwrap_or(0);
                if text.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= len) {
                    break;
                }
                let n = socket.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..n]);
            }
            requests.push(String::from_utf8(request).unwrap());
            let head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            socket.write_all((head + &body).as_bytes()).unwrap();
        }
        requests
    });
    (url, thread)
}

#[test]
fn keys_by_address_and_old_ones_that_go_on() {
    let (url, thread) = serve(vec![(200, jwks())]);
    let others = authority(Config { keys: Some(KeysAt::Url(url.into())), ..Config::default() });
    assert!(show(&others, &signed("ed", Some("ed"))).is_ok());
    thread.join().unwrap();
    // The source doesn't answer any more, and the key stays valid.
    assert!(show(&others, &signed("ec", Some("ec"))).is_ok());
    let (url, thread) = serve(vec![(500, String::new())]);
    let others = authority(Config { keys: Some(KeysAt::Url(url.into())), ..Config::default() });
    assert!(matches!(show(&others, &signed("ed", Some("ed"))), Err(AuthError::Unavailable(_))));
    thread.join().unwrap();
}

#[test]
fn users_and_passwords() {
    let config = Config { users: true, ..Config::default() };
    let authority = Authority::new(config, Arc::new(Ann)).unwrap();
    let login = |user: &str, password: &str| {
        let credentials = Credentials::Password { user: user.into(), password: password.into() };
        authority.check(&credentials, Some("desk"), NOW)
    };
    let who = login("ann", "pencil").unwrap();
    assert_eq!((who.user.as_deref(), who.device.as_deref()), (Some("ann"), Some("desk")));
    assert_eq!(why(login("ann", "pen")), why(login("bob", "pencil")));
}

#[test]
fn a_device_is_not_another() {
    let token = mint(SECRET, &Claims { device: Some("phone".into()), ..claims() }).unwrap();
    let check = |device| with_secret().check(&Credentials::Token(token.clone().into()), device, NOW);
    assert!(check(Some("phone")).is_ok());
    assert!(matches!(check(Some("desk")), Err(AuthError::Mismatch(_))));
}

#[test]
fn the_operator() {
    let config = Config { admin_token: Some("0123456789".into()), ..Config::default() };
    let who = show(&authority(config.clone()), "0123456789").unwrap();
    assert!(who.admin && who.user.is_none());
    why(show(&authority(config), "0123456788"));
    assert!(!format!("{:?}", Config { secret: Some(SECRET.into()), ..Config::default() }).contains("secret of"));
}

#[test]
fn the_application_decides_what_nobody_else_knows() {
    let (url, thread) = serve(vec![(200, r#"{"sub":"ann","exp":1800000060}"#.into()), (403, String::new())]);
    let asking = authority(Config { secret: Some(SECRET.into()), callback: Some(url.into()), ..Config::default() });
    assert_eq!(show(&asking, "opaque").unwrap().user.as_deref(), Some("ann"));
    // The identity is remembered: the application is not asked again.
    assert_eq!(show(&asking, "opaque").unwrap().user.as_deref(), Some("ann"));
    why(show(&asking, "other"));
    let requests = thread.join().unwrap();
    assert!(requests[0].contains(r#""token":"opaque""#), "{requests:?}");
    // The application is gone now: the answer is that nobody can tell.
    assert!(matches!(show(&asking, "third"), Err(AuthError::Unavailable(_))));
}

#[test]
fn an_application_that_hangs_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let within = Some(Duration::from_millis(100));
    let asking = authority(Config { callback: Some(url.into()), within, ..Config::default() });
    assert!(matches!(show(&asking, "x"), Err(AuthError::Unavailable(_))));
}

#[test]
fn a_users_identities_share_one_account() {
    let quota = Quota { connections: 1, ..Quota::default() };
    let counting = authority(Config { secret: Some(SECRET.into()), quota, ..Config::default() });
    let one = show(&counting, &mint(SECRET, &claims()).unwrap()).unwrap();
    let other = show(&counting, &mint(SECRET, &Claims { device: Some("x".into()), ..claims() }).unwrap()).unwrap();
    assert!(Arc::ptr_eq(one.account.as_ref().unwrap(), other.account.as_ref().unwrap()));
}
