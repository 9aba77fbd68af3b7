//! Refusals are counted, and logged with the client, its address and the reason: once at once, then once a minute.

use std::io::{Read, Write};
use std::net::TcpStream;

use everywire_tests::mqtt::{Mqtt, Opening, packet, publish, text};
use everywire_tests::{Request, Server, until};

/// A server that lets in no client without a token.
fn closed() -> Server {
    Server::with("[auth]\nsecret = \"0123456789abcdef0123456789abcdef\"\nanonymous = false\n")
}

/// Sends some bytes and waits for the end of the connection.
fn say(server: &Server, listener: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(server.address_of(listener)).expect("the server accepts");
    let _ = stream.write_all(bytes); // it may have closed
    let _ = stream.read_to_end(&mut Vec::new());
}

fn logged(server: &Server, line: &str) {
    until(&format!("the log says {line:?}"), || server.setup().errors().contains(line));
}

fn refusals(server: &Server, reason: &str) -> u64 {
    metric(server, &format!("everywire_refusals_total{{reason=\"{reason}\"}}"))
}

fn metric(server: &Server, name: &str) -> u64 {
    let admin = std::fs::read_to_string(server.setup().data_directory().join("admin.token")).expect("a token");
    let request = Request::get("/metrics").header("Authorization", &format!("Bearer {}", admin.trim()));
    let text = server.send(&request).text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect("the metric");
    value.split('.').next().and_then(|whole| whole.parse().ok()).expect("a number")
}

#[test]
fn wrong_logins_are_logged_once_and_counted() {
    let server = closed();
    let credentials = [text("c1"), text("mallory"), text("wrong")].concat();
    let connect = packet(0x10, &[&b"\0\x04MQTT\x04\xc2\0\0"[..], &credentials].concat());
    for _ in 0..5 {
        say(&server, "mqtt", &connect);
    }
    logged(&server, "login refused of \"mallory\" from 127.0.0.1 over mqtt: ");
    let response = server.send(&Request::get("/v1/messages?topic=t").header("Authorization", "Bearer forged"));
    assert_eq!(response.status, 401);
    until("six are counted", || refusals(&server, "login") == 6);
    assert_eq!(server.setup().errors().matches("login refused").count(), 1, "{}", server.setup().errors());
}

#[test]
fn clients_without_credentials_are_named_by_their_id() {
    let server = closed();
    say(&server, "mqtt", &Opening::new("lamp-7").bytes());
    logged(&server, "login refused of \"lamp-7\" from 127.0.0.1 over mqtt: ");
}

#[test]
fn failed_openings_are_logged() {
    let server = Server::start();
    say(&server, "tcp", b"GET / HTTP/1.1\r\n\r\n");
    logged(&server, "input refused from 127.0.0.1 over tcp: a client begins with EVERYW/1");
    let other = Server::start();
    say(&other, "mqtt", b"GET / HTTP/1.1\r\n\r\n");
    logged(&other, "input refused from 127.0.0.1 over mqtt: a client begins with CONNECT");
    let response = other.send(&Request::get("/v1/ws"));
    assert_eq!(response.status, 426, "{response:?}");
    logged(&other, "handshake failed from 127.0.0.1 over http: ");
    let response = other.send(&Request::get("/v1/messages?topic=t").header("Host", "evil.example"));
    assert_eq!(response.status, 403, "{response:?}");
    logged(&other, "host or origin refused from 127.0.0.1 over http: ");
}

#[test]
fn a_session_that_is_taken_over_is_logged_with_what_took_it() {
    let server = Server::start();
    let opening = Opening { clean: false, ..Opening::new("twin") };
    let mut first = Mqtt::open(server.address_of("mqtt"), &opening);
    let _second = Mqtt::open(server.address_of("mqtt"), &opening);
    assert!(first.packet().is_none(), "the older one is ended");
    logged(&server, "connection ended by a newer one");
}

#[test]
fn what_clients_say_can_neither_end_the_line_nor_steer_a_terminal() {
    let server = closed();
    say(&server, "mqtt", &Opening::new("a\n\u{1b}[2Jb").bytes());
    logged(&server, "login refused of ");
    assert!(!server.setup().errors().contains('\u{1b}'), "{:?}", server.setup().errors());
}

#[test]
fn messages_whose_publisher_cannot_be_told_are_counted_and_logged_with_their_client() {
    let server = Server::start();
    let mut client = Mqtt::open(server.address_of("mqtt"), &Opening::new("sensor-9"));
    let long = "x".repeat(300 << 10);
    let numbered = |number: u8| packet(0x32, &[&text("t")[..], &[0, number], long.as_bytes()].concat());
    for number in 1..=3 {
        client.send(&numbered(number));
        assert_eq!(client.packet_of(4), Some(vec![0, number]), "3.1.1 has no word for it");
    }
    client.send(&publish("$mine", "x"));
    logged(&server, "message refused of \"sensor-9\" from 127.0.0.1 over mqtt: a message for t: the body is too large");
    until("four are counted", || refusals(&server, "publish") == 4);
    assert_eq!(metric(&server, "everywire_messages_dropped_total{reason=\"refused\"}"), 4);
    assert_eq!(server.setup().errors().matches("message refused").count(), 1, "{}", server.setup().errors());
}
