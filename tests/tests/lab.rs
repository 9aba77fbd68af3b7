//! The cost of a label: `GET /v1/lab`.

use everywire_tests::{EventStream, Request, Server, until};
use serde_json::Value;

const LABEL: &str = "0123456789abcdef0123456789abcdef";

fn counts(server: &Server) -> impl Fn(&str) -> u64 {
    let counts: Value = server.get(&format!("/v1/lab?label={LABEL}")).json();
    move |name| counts[name].as_u64().unwrap_or_else(|| panic!("{name} in {counts}"))
}

#[test]
fn polls_are_counted_with_their_heads() {
    let server = Server::start();
    assert_eq!(counts(&server)("requests"), 0, "a label that was not used has cost nothing");
    server.publish("t", "hello");
    let mut connection = server.connect();
    let poll = Request::get(&format!("/v1/messages?topic=t&label={LABEL}"));
    assert_eq!(connection.exchange(&poll).bodies(), ["hello"]);
    let nothing = Request::get(&format!("/v1/messages?topic=t&after=latest&label={LABEL}"));
    for _ in 0..3 {
        assert_eq!(connection.exchange(&nothing).status, 204);
    }
    let sent = poll.bytes(server.address()).len() + 3 * nothing.bytes(server.address()).len();
    // The cost of an answer is counted when it is written: another worker may be asked a moment before.
    until("the last answer is counted", || counts(&server)("writes") >= 4);
    let count = counts(&server);
    assert_eq!(["requests", "empty", "messages"].map(&count), [4, 3, 1]);
    assert_eq!((count("bytes_in"), count("writes")), (sent as u64, 4));
    assert!(count("bytes_out") > 400, "{}", count("bytes_out"));
    // Reading the counters, on the same connection too, adds nothing.
    connection.exchange(&Request::get(&format!("/v1/lab?label={LABEL}")));
    server.publish("t", "again");
    assert_eq!(["requests", "messages"].map(counts(&server)), [4, 1]);
}

#[test]
fn streams_are_counted_by_their_label() {
    let server = Server::start();
    let mut stream = EventStream::open(server.address(), &Request::get(&format!("/v1/events?topic=t&label={LABEL}")));
    stream.block().expect("the first comment");
    for body in ["a", "b"] {
        server.publish("t", body);
        stream.event();
    }
    until("the last event is counted", || counts(&server)("writes") >= 3);
    let count = counts(&server);
    assert_eq!(["requests", "empty", "messages"].map(&count), [1, 0, 2]);
    assert!(count("bytes_in") > 50 && count("bytes_out") > 200);
}

#[test]
fn a_label_is_128_random_bits() {
    let server = Server::start();
    for label in ["", "short", &"x".repeat(32)] {
        assert_eq!(server.get(&format!("/v1/lab?label={label}")).status, 400, "{label}");
    }
}
