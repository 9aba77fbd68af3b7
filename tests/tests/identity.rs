//! The clients that are let in, their identities, and that no login waits behind refused ones.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_tests::{Connection, PATIENCE, Request, Server, Setup, binary, until};
use serde_json::json;

const SECRET: &str = "a secret of at least thirty-two bytes";

/// A configuration with the secret and these further lines.
fn with_secret(more: &str) -> String {
    format!("mqtt = \"127.0.0.1:0\"\n{more}\n[auth]\nsecret = \"{SECRET}\"\n")
}

/// The token that `everywire token` prints.
fn token(arguments: &[&str]) -> String {
    let mut command = Command::new(binary());
    command.env_clear().env("EVERYWIRE_AUTH_SECRET", SECRET).arg("token").args(arguments).current_dir("/");
    let output = command.output().expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("a token").trim().to_owned()
}

fn bearer(request: Request, token: &str) -> Request {
    request.header("Authorization", &format!("Bearer {token}"))
}

fn poll() -> Request {
    Request::get("/v1/messages?topic=t")
}

#[test]
fn a_guest_speaks_under_a_name_that_is_nobody_elses() {
    let server = Server::start();
    let wish = |name: &str| server.send(&Request::json("/v1/guests", &json!({ "name": name })));
    let (ann, other) = (wish("Ann").json(), wish("Ann").json());
    let (token, user) = (ann["token"].as_str().expect("a token"), ann["user"].as_str().expect("a user"));
    assert!(user.starts_with("guest-") && ann["user"] != other["user"], "{ann} {other}");
    assert_eq!(ann["name"], "Ann");
    assert!(ann["expires"].as_str().is_some_and(|at| at.ends_with('Z')), "{ann}");
    let published = server.send(&bearer(Request::post("/v1/messages?topic=t", "hi"), token));
    assert_eq!(published.status, 200, "{published:?}");
    assert_eq!(server.send(&poll()).json()["messages"][0]["from"], *user);
    for name in ["", "a\nb", "\u{202e}nnA", &"x".repeat(65)] {
        assert_eq!(wish(name).status, 400, "{name:?}");
    }
    assert_eq!(server.send(&Request::post("/v1/guests", "x".repeat(65 << 10))).status, 413);
    // The guest is no operator.
    assert_eq!(server.send(&bearer(Request::get("/v1/users"), token)).status, 403);
}

#[test]
fn guests_are_bounded_and_can_be_off() {
    let server = Server::with("[limits]\nguests_per_address = 2\n");
    let wish = Request::json("/v1/guests", &json!({"name": "Ann"}));
    let answers: Vec<_> = (0..3).map(|_| server.send(&wish)).collect();
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 200, 429]);
    assert!(answers[2].header("Retry-After").is_some());
    // People who must log in can't become guests, unless the configuration allows it.
    assert_eq!(Server::with(&with_secret("")).send(&wish).status, 403);
    let open = Server::with(&(with_secret("") + "guests = true\n"));
    let guest = open.send(&wish).json();
    assert_eq!(open.send(&poll()).status, 401);
    assert_eq!(open.send(&bearer(poll(), guest["token"].as_str().expect("a token"))).status, 204);
}

#[test]
fn an_identity_source_or_a_public_name_closes_the_door() {
    let server = Server::with(&with_secret(""));
    assert_eq!(server.send(&poll()).status, 401);
    assert_eq!(server.send(&bearer(poll(), &token(&["--user", "ann"]))).status, 204);
    assert!(server.setup().errors().contains("anonymous clients are not let in: auth.secret is set"));
    let open = Server::with(&(with_secret("") + "anonymous = true\n"));
    assert_eq!(open.send(&poll()).status, 204);
    assert!(open.setup().errors().contains("anonymous clients are let in: auth.anonymous = true"));
    for public in [
        "[http]\nlisten = \"127.0.0.1:0\"\nhosts = [\"push.example.com\"]",
        "[auth]\norigins = [\"https://a.example\"]",
    ] {
        let failed = Setup::new().config(public).fail();
        assert_eq!(failed.code, Some(1));
        assert!(failed.errors.contains("auth.anonymous = true"), "{}", failed.errors);
    }
}

#[test]
fn a_token_never_waits_behind_wrong_passwords() {
    let server =
        Server::with(&format!("[auth]\nsecret = \"{SECRET}\"\nusers = true\n[limits]\nauth_per_address = 50\n"));
    let wrong = format!("Basic {}", STANDARD.encode("ann:wrong"));
    let mut flood: Vec<Connection> = (0..100).map(|_| server.connect()).collect();
    for connection in &mut flood {
        connection.ask(&poll().header("Authorization", &wrong));
    }
    let waiting = || server.metric("everywire_auth_waiting");
    until("some passwords wait", || waiting() > 20.0);
    let ann = token(&["--user", "ann"]);
    for _ in 0..20 {
        assert_eq!(server.send(&bearer(poll(), &ann)).status, 204);
    }
    assert!(waiting() > 0.0, "the tokens were answered before the passwords");
    let mut statuses: Vec<u16> = flood.iter_mut().map(|connection| connection.response().status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    // The attempts beyond the bound of the address are told to come again.
    assert_eq!(statuses, [401, 503]);
}

#[test]
fn a_token_is_for_this_server() {
    let names = "audience = [\"push\", \"other\"]\nissuer = \"https://id.example.com\"\n";
    let server = Server::with(&(with_secret("") + names));
    let signed = |environment: &[(&str, &str)]| {
        let mut command = Command::new(binary());
        command.env_clear().env("EVERYWIRE_AUTH_SECRET", SECRET).envs(environment.iter().copied()).current_dir("/");
        let output = command.args(["token", "--user", "ann"]).output().expect("the binary runs");
        String::from_utf8(output.stdout).expect("a token").trim().to_owned()
    };
    let (aud, iss) = (("EVERYWIRE_AUTH_AUDIENCE", "push"), ("EVERYWIRE_AUTH_ISSUER", "https://id.example.com"));
    assert_eq!(server.send(&bearer(poll(), &signed(&[aud, iss]))).status, 204);
    for wrong in [&[][..], &[aud], &[iss], &[("EVERYWIRE_AUTH_AUDIENCE", "Push"), iss]] {
        let refused = server.send(&bearer(poll(), &signed(wrong)));
        assert_eq!(refused.status, 401, "{wrong:?}");
        assert!(refused.text().contains("audience") || refused.text().contains("issuer"), "{}", refused.text());
    }
    let open = Server::with(&with_secret(""));
    let refused = open.send(&bearer(poll(), &signed(&[aud])));
    assert!(refused.status == 401 && refused.text().contains("audience"), "{}", refused.text());
}

#[test]
fn who_may_not_call_learns_it_before_its_body_is_read() {
    let server = Server::with(&(with_secret("") + "anonymous = true\n"));
    let ask = |authorization: &str, target: &str| {
        let mut connection = server.connect();
        let head = format!(
            "PUT {target} HTTP/1.1\r\nHost: localhost\r\n{authorization}Content-Length: 60000\r\n\
             Content-Type: application/json\r\n\r\n"
        );
        // No byte of the body is sent.
        connection.send(head.as_bytes());
        connection.response().status
    };
    let ann = format!("Authorization: Bearer {}\r\n", token(&["--user", "ann"]));
    assert_eq!(ask("", "/v1/users/ann/secret"), 401);
    assert_eq!(ask(&ann, "/v1/users/ann/secret"), 403);
    let mut connection = server.connect();
    connection.send(b"POST /v1/nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 70000\r\n\r\n");
    assert_eq!(connection.response().status, 413);
}

/// The return code of CONNACK to a CONNECT of MQTT 3.1.1 with this client id and this token as password.
fn connack(server: &Server, client_id: &str, token: &str) -> u8 {
    let text = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let body = [
        &text(b"MQTT")[..],
        &[4, 0b1100_0010, 0, 60],
        &text(client_id.as_bytes()),
        &text(b"token"),
        &text(token.as_bytes()),
    ]
    .concat();
    let length = [(body.len() % 128 + 128) as u8, (body.len() / 128) as u8];
    let address: SocketAddr = server.ready()["mqtt"].as_str().expect("mqtt listens").parse().expect("an address");
    let mut socket = TcpStream::connect(address).expect("it accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time");
    socket.write_all(&[&[0x10][..], &length, &body].concat()).expect("it reads");
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).expect("a CONNACK");
    assert_eq!(answer[..2], [0x20, 2]);
    answer[3]
}

#[test]
fn a_tokens_device_holds_for_every_client_id() {
    let server = Server::with(&with_secret(""));
    let phone = token(&["--user", "ann", "--device", "phone"]);
    assert_eq!(connack(&server, "phone", &phone), 0);
    for other in ["desk", "pho\tne", &"p".repeat(129), &"p".repeat(300)] {
        assert_ne!(connack(&server, other, &phone), 0, "{other:?}");
    }
    let ann = token(&["--user", "ann"]);
    for any in ["desk", &"p".repeat(129)] {
        assert_eq!(connack(&server, any, &ann), 0, "{any:?}");
    }
}

#[test]
fn tokens_reach_neither_log_nor_answers() {
    let setup = Setup::new().config(&with_secret("[log]\nlevel = \"trace\"")).start();
    let secret = token(&["--user", "secretly"]);
    let mut said = String::new();
    for target in [
        "/v1/events?topic=t&token=",
        "/v1/ws?token=",
        "/v1/messages?topic=t&token=",
        "/nothing?token=",
        "/v1/topics?token=",
    ] {
        for shown in [secret.as_str(), "forged.forged.forged"] {
            let mut connection = setup.connect();
            connection.ask(&Request::get(&format!("{target}{shown}")));
            let is_stream = target.starts_with("/v1/events") && shown == secret;
            let answer = if is_stream { connection.head().expect("a head") } else { connection.response() };
            said.extend(answer.headers.iter().flat_map(|(name, value)| [name.clone(), value.clone()]));
            said += &String::from_utf8_lossy(&answer.body);
        }
        let basic = STANDARD.encode(format!("ann:{secret}"));
        said += &setup.send(&Request::get("/v1/topics").header("Authorization", &format!("Basic {basic}"))).text();
    }
    said += &setup.setup().errors();
    assert!(!said.contains(&secret) && !said.contains("forged.forged"), "{said}");
    let admin =
        std::fs::read_to_string(setup.setup().data_directory().join("admin.token")).expect("the operator's token");
    assert!(!said.contains(admin.trim()) && said.contains("admin.token"), "it says where the token is, and not which");
}

#[test]
fn the_data_directory_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let server = Server::start();
    let mode =
        |setup: &Setup| std::fs::metadata(setup.data_directory()).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(server.setup()), 0o700);
    let setup = server.kill();
    std::fs::set_permissions(setup.data_directory(), std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert_eq!(mode(setup.start().setup()), 0o700);
}

#[test]
fn a_topic_forges_no_line_of_the_log() {
    let server = Server::with("[log]\nlevel = \"trace\"\n");
    server.send(&Request::post("/v1/messages?topic=a%1b%5B2J%0A2026-01-01%20ERROR%20forged", "x"));
    let refused = Command::new(binary())
        .args([
            "pub",
            "--server",
            &format!("http://{}", server.address()),
            "a\u{1b}[2J",
            "x",
            "--token",
            "a\u{1b}b\u{9b}",
        ])
        .output()
        .expect("the binary runs");
    for text in [server.setup().errors(), String::from_utf8_lossy(&refused.stderr).into_owned()] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.lines().any(|line| line.starts_with("2026-01-01")), "{text}");
    }
}
