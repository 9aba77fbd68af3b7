//! A client that has closed its sending side, like `nc -N` and `socat`, gets what it asked for.

use everywire_tests::{Connection, Request, Server, until};
use serde_json::json;

/// A connection that has sent requests, and sends no more.
fn asked(server: &Server, requests: &[Request]) -> Connection {
    let mut connection = server.connect();
    for request in requests {
        connection.ask(request);
    }
    connection.end();
    connection
}

/// Waits until this number of connections speak a wire.
fn speak(server: &Server, wire: &str, count: f64) {
    let key = format!("everywire_connections{{wire=\"{wire}\"}} ");
    let number = |text: &str| text.lines().find_map(|line| line.strip_prefix(&key)?.parse::<f64>().ok());
    until("it waits, or is gone", || number(&server.get("/metrics").text()) == Some(count));
}

#[test]
fn a_long_poll_gets_its_answer() {
    let server = Server::start();
    let mut poll = asked(&server, &[Request::get("/v1/messages?topic=t&wait=60")]);
    speak(&server, "longpoll", 1.0);
    server.publish("t", "late");
    let answer = poll.response();
    assert_eq!((answer.status, answer.bodies()), (200, vec!["late".to_owned()]));
    assert!(poll.is_closed());
}

#[test]
fn a_long_poll_that_sees_nothing_is_answered_before_long() {
    let server = Server::with("[limits]\nheartbeat = \"300ms\"\n");
    let mut poll = asked(&server, &[Request::get("/v1/messages?topic=t&wait=60")]);
    assert_eq!(poll.response().status, 204);
    let mut watch = asked(&server, &[Request::get("/polling/watch/t?wait=60")]);
    assert_eq!(watch.response().status, 304);
}

#[test]
fn every_request_before_the_end_is_answered_in_its_turn() {
    let server = Server::start();
    let batch = json!({"messages": [{"topic": "t", "body": "2"}]});
    let requests = [
        Request::post("/v1/messages?topic=t", "1"),
        Request::json("/v1/batch", &batch),
        Request::get("/v1/messages?topic=t"),
        Request::get("/v1/topics"),
        Request::get("/v1/messages?topic=other&wait=60"),
        Request::get("/polling/watch/t?wait=0"),
        Request::post("/v1/messages?topic=t", "3"),
    ];
    let mut all = asked(&server, &requests);
    let before: Vec<u16> = (0..4).map(|_| all.response().status).collect();
    assert_eq!(before, [200; 4]);
    speak(&server, "longpoll", 1.0);
    server.publish("other", "x");
    assert_eq!(all.response().bodies(), ["x"]);
    assert_eq!(all.response().status, 304);
    assert_eq!(all.response().status, 200);
    assert!(all.is_closed());
    assert_eq!(server.get("/v1/messages?topic=t").bodies(), ["1", "2", "3"]);
}

#[test]
fn streams_go_on_and_end_when_nobody_reads_them() {
    let server = Server::with("[limits]\nheartbeat = \"300ms\"\n");
    for (target, wire) in [("/v1/events?topic=t&format=body", "sse"), ("/v1/stream?topic=t", "stream")] {
        let mut stream = asked(&server, &[Request::get(target)]);
        speak(&server, wire, 1.0);
        assert_eq!(stream.head().expect("a head").status, 200);
        for body in ["one", "two"] {
            server.publish("t", body);
            while !stream.line().expect("a line").contains(body) {}
        }
        drop(stream);
        speak(&server, wire, 0.0);
    }
}
