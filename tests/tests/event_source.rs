//! The needs of an `EventSource`, and of the scripts and libraries that stand in for it.

use everywire_tests::{Connection, EventStream, Request, Server};

fn events(query: &str) -> Request {
    Request::get(&format!("/v1/events?{query}"))
}

/// The lines of a stream, as they come.
fn lines(server: &Server, request: &Request) -> Connection {
    let mut connection = server.connect();
    connection.ask(request);
    assert_eq!(connection.head().expect("a head").status, 200);
    connection
}

#[test]
fn the_query_of_a_script_resumes_like_the_field() {
    let server = Server::start();
    let (first, second) = (server.publish("t", "1"), server.publish("t", "2"));
    server.publish("t", "3");
    for name in ["lastEventId", "last-event-id", "lasteventid", "last_event_id", "Last-Event-ID"] {
        for after in ["", "&after=latest", "&after=earliest"] {
            let request = events(&format!("topic=t{after}&{name}={}", first.replace(':', "%3A")));
            assert_eq!(EventStream::open(server.address(), &request).bodies(2), ["2", "3"], "{name} {after}");
        }
    }
    let both = events(&format!("topic=t&lastEventId={first}")).header("Last-Event-ID", &second);
    assert_eq!(EventStream::open(server.address(), &both).bodies(1), ["3"], "the field is newer");
}

#[test]
fn an_id_that_is_no_cursor_of_this_log_is_a_gap_and_no_refusal() {
    let server = Server::start();
    server.publish("t", "kept");
    for id in ["17", "x y", "zzzz:7", "k3f9:", ":", "01J9Z8X7", "{\"n\":1}", "é", &"9".repeat(3000)] {
        for request in [
            events("topic=t").header("Last-Event-ID", id),
            events(&format!("topic=t&lastEventId={}", id.replace([' ', '"', '{', '}', 'é'], "%22"))),
        ] {
            let mut stream = EventStream::open(server.address(), &request);
            assert_eq!(stream.event().event.as_deref(), Some("gap"), "{request:?}");
            assert_eq!(stream.event().body(), "kept", "{request:?}");
        }
    }
    let odd = EventStream::open(server.address(), &events("topic=t&lastEventId=%zz&lastEventId=%ff")).event();
    assert_eq!(odd.event.as_deref(), Some("gap"));
}

#[test]
fn no_comment_has_a_blank_line_after_it() {
    let server = Server::with("[limits]\nheartbeat = \"20ms\"\n");
    for request in [events("topic=t"), events("topic=t&pad=4096"), events("topic=t&after=zzzz:1&pad=100")] {
        let mut stream = lines(&server, &request);
        let (mut comments, mut before) = (0, String::new());
        while comments < 10 {
            let line = stream.line().expect("a line");
            assert!(!(line.is_empty() && before.starts_with(':')), "{request:?}: a blank line after {before:?}");
            comments += usize::from(line.starts_with(':'));
            before = line;
        }
    }
}

#[test]
fn heartbeats_of_a_quiet_log_are_comments_alone_and_a_busy_log_moves_quiet_readers() {
    let server = Server::with("[limits]\nheartbeat = \"20ms\"\n");
    let mut stream = lines(&server, &events("topic=quiet"));
    while !stream.line().expect("a line").is_empty() {} // up to where it begins
    let still: Vec<_> = (0..10).map(|_| stream.line().expect("a heartbeat")).collect();
    assert!(still.iter().all(|line| line == ":"), "{still:?}");
    let moved = format!("id: {}", server.publish("busy", "x"));
    let mut line = String::new();
    while !line.starts_with("id:") {
        line = stream.line().expect("a line");
    }
    assert_eq!((line, stream.line().expect("a line")), (moved, String::new()));
}
