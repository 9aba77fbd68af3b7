//! The answers to malformed, oversized, slow and hostile requests (`docs/http.md`; RULES 21).

use std::io::ErrorKind;

use everywire_tests::{Connection, Request, Response, Server};
use serde_json::json;

/// Sends raw bytes on a connection of its own and returns the answer; the connection must be closed after an error.
fn raw(server: &Server, bytes: &[u8]) -> Response {
    let mut connection = server.connect();
    connection.send(bytes);
    connection.try_response(false).unwrap_or_else(|e| panic!("{}: {e}", bytes.escape_ascii()))
}

fn still_serves(server: &Server) {
    assert_eq!(server.get("/healthz").status, 200);
}

const POST: &str = "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\n";

#[test]
fn malformed_heads_are_refused_and_closed() {
    let server = Server::start();
    for (what, bytes) in [
        ("no version", "GET /v1/messages?topic=t\r\nHost: localhost\r\n\r\n"),
        ("not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n"),
        ("an absent Host", "GET /healthz HTTP/1.1\r\n\r\n"),
        ("two Hosts", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n"),
        ("an empty method", " /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a space before the colon", "GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n"),
        ("a folded line", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n"),
        ("a bare CR in a field", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\rb\r\n\r\n"),
        ("a NUL in a field", "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n"),
        ("a NUL in the target", "GET /heal\0thz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a field without a name", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n"),
        ("a broken escape", "GET /v1/messages?topic=%zz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        ("a topic that is no UTF-8", "GET /v1/messages?topic=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ] {
        let answer = raw(&server, bytes.as_bytes());
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{what}");
    }
    still_serves(&server);
}

#[test]
fn another_version_of_http_is_refused() {
    let server = Server::start();
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/1.7"] {
        let answer = raw(&server, format!("GET /healthz {version}\r\nHost: localhost\r\n\r\n").as_bytes());
        assert!(matches!(answer.status, 400 | 505), "{version}: {answer:?}");
    }
}

#[test]
fn bodies_whose_length_is_in_doubt_are_refused_and_closed() {
    let server = Server::start();
    for (what, rest) in [
        ("both lengths", "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("two lengths that differ", "Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi"),
        ("a negative length", "Content-Length: -2\r\n\r\nhi"),
        ("a length with a sign", "Content-Length: +2\r\n\r\nhi"),
        ("a length in hexadecimal", "Content-Length: 0x2\r\n\r\nhi"),
        ("a length with a comma", "Content-Length: 2, 3\r\n\r\nhi"),
        ("a length beyond any number", "Content-Length: 99999999999999999999999\r\n\r\nhi"),
        ("an empty length", "Content-Length: \r\n\r\nhi"),
        ("an encoding that is not chunked", "Transfer-Encoding: identity\r\n\r\nhi"),
        ("an encoding around chunked", "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("a chunk size that is no number", "Transfer-Encoding: chunked\r\n\r\nxx\r\nhi\r\n0\r\n\r\n"),
        ("a chunk size with a sign", "Transfer-Encoding: chunked\r\n\r\n+2\r\nhi\r\n0\r\n\r\n"),
        ("a chunk size that overflows", "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nhi\r\n0\r\n\r\n"),
        ("an empty chunk size", "Transfer-Encoding: chunked\r\n\r\n\r\nhi\r\n0\r\n\r\n"),
        ("a chunk longer than it says", "Transfer-Encoding: chunked\r\n\r\n2\r\nhixx\r\n0\r\n\r\n"),
        ("chunk lines that end in LF alone", "Transfer-Encoding: chunked\r\n\r\n2\nhi\n0\n\n"),
    ] {
        let mut connection = server.connect();
        connection.send(format!("{POST}{rest}").as_bytes());
        let answer = connection.try_response(false).unwrap_or_else(|e| panic!("{what}: {e}"));
        // RFC 9112 §6.1 allows 501 for an encoding that nobody knows.
        let expected: &[u16] = if what.contains("encoding") { &[400, 501] } else { &[400, 413] };
        assert!(expected.contains(&answer.status), "{what}: {answer:?}");
        assert!(connection.is_closed(), "{what}: what follows can't be told from the body");
    }
    assert_eq!(server.get("/v1/messages?topic=t").status, 204, "nothing of it was published");
}

#[test]
fn a_request_smuggled_behind_a_refused_one_is_never_served() {
    let server = Server::start();
    let inner = "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nsmuggled";
    raw(&server, format!("{POST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}").as_bytes());
    assert_eq!(server.get("/v1/messages?topic=t").status, 204);
}

#[test]
fn heads_over_16_kib_get_431() {
    let server = Server::start();
    let long = "x".repeat(17 << 10);
    for (what, bytes) in [
        ("a field", format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n")),
        ("the target", format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n")),
        ("never an end", format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {long}")),
        ("many fields", format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X-Y: z\r\n".repeat(3000))),
    ] {
        let answer = raw(&server, bytes.as_bytes());
        assert!(answer.status == 431 || (what == "the target" && answer.status == 414), "{what}: {answer:?}");
    }
    let fits = "x".repeat(15 << 10);
    let answer = raw(&server, format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {fits}\r\n\r\n").as_bytes());
    assert_eq!(answer.status, 200);
}

#[test]
fn a_body_over_the_topics_limit_gets_413_before_it_is_read() {
    let server = Server::with("[[topics]]\nmatch = \"small/#\"\nmax_message = \"1KiB\"\n");
    for (topic, length, status) in
        [("small/t", 1025, 413), ("small/t", 1 << 30, 413), ("t", (256 << 10) + 1, 413), ("t", 5 << 20, 413)]
    {
        let mut connection = server.connect();
        let head =
            format!("POST /v1/messages?topic={topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        connection.send(head.as_bytes());
        assert_eq!(connection.response().status, status, "{topic} {length}");
    }
    let chunked = format!("{POST}Transfer-Encoding: chunked\r\n\r\n50000\r\n{}", "x".repeat(0x50000));
    assert_eq!(raw(&server, chunked.as_bytes()).status, 413, "chunks add up");
    let fits = server.send(&Request::post("/v1/messages?topic=small/t", vec![b'x'; 1024]));
    assert_eq!(fits.status, 200);
}

#[test]
fn topics_that_are_none_are_refused_with_the_character() {
    let server = Server::start();
    for (target, needle) in [
        ("/v1/messages?topic=a%2F%23", "#"),
        ("/v1/messages?topic=a/+", "+"),
        ("/v1/messages?topic=a%00b", "\\0"),
        ("/v1/messages?topic=", "character"),
        ("/v1/messages", "topic"),
    ] {
        let answer = server.send(&Request::post(target, "hi"));
        assert_eq!(answer.status, 400, "{target}: {answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(needle), "{target}: {detail:?} names {needle:?}");
    }
    let long = format!("/v1/messages?topic={}", "x".repeat(1025));
    assert_eq!(server.send(&Request::post(&long, "hi")).status, 400);
    for target in ["/v1/messages?topic=a%23", "/v1/messages?topic=a/b+", "/v1/messages?topic=%23/a", "/v1/messages"] {
        assert_eq!(server.get(target).status, 400, "{target}");
    }
    let reserved = server.send(&Request::post("/v1/messages?topic=$SYS/x", "hi"));
    assert_eq!(reserved.status, 403, "{reserved:?}");
}

#[test]
fn cursors_that_are_none_get_400_and_those_of_elsewhere_a_gap() {
    let server = Server::start();
    let cursor = server.publish("t", "hi");
    for after in ["", "x", "k3f9:", ":5", "k3f9:-1", "k3f9:1.2.3", "K:1", "earliest2", "%00", "18446744073709551616"] {
        let answer = server.get(&format!("/v1/messages?topic=t&after={after}"));
        assert_eq!(answer.status, 400, "{after:?}: {answer:?}");
    }
    let epoch = cursor.split(':').next().expect("an epoch");
    for after in ["zzzz:1".to_owned(), format!("{epoch}:18446744073709551615"), format!("{epoch}:99999999")] {
        let answer = server.get(&format!("/v1/messages?topic=t&after={after}"));
        assert_eq!((answer.status, &answer.json()["gap"]), (200, &json!(true)), "{after}: {answer:?}");
    }
}

#[test]
fn numbers_out_of_range_are_clamped_or_refused_and_nonsense_is_refused() {
    let server = Server::start();
    server.publish("t", "hi");
    for query in ["limit=0", "limit=100000", "wait=3600", "wait=0", "wait=99999999999999999999", "pad=0"] {
        let answer = server.get(&format!("/v1/messages?topic=t&after=earliest&{query}"));
        assert!(matches!(answer.status, 200 | 400), "{query}: {answer:?}");
    }
    for query in ["limit=-1", "limit=x", "limit=1e3", "wait=x", "wait=-1"] {
        let answer = server.get(&format!("/v1/messages?topic=t&after=earliest&{query}"));
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
    for query in ["format=xml", "pad=x", "pad=-1"] {
        assert_eq!(server.get(&format!("/v1/events?topic=t&{query}")).status, 400, "{query}");
    }
    for query in ["ttl=x", "ttl=-1"] {
        assert_eq!(server.send(&Request::post(&format!("/v1/messages?topic=t&{query}"), "hi")).status, 400, "{query}");
    }
}

#[test]
fn batches_that_are_none_are_refused() {
    let server = Server::start();
    for body in ["", "[]", "{}", "{\"messages\":{}}", "{\"messages\":[", "{\"messages\":[1]}", "nonsense"] {
        let answer = server.send(&Request::post("/v1/batch", body).header("Content-Type", "application/json"));
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
    }
    let many: Vec<_> = (0..1001).map(|_| json!({ "topic": "t", "body": "x" })).collect();
    let answer = server.send(&Request::json("/v1/batch", &json!({ "messages": many })));
    assert!(matches!(answer.status, 400 | 413), "{}", answer.status);
    assert_eq!(server.get("/v1/messages?topic=t").status, 204, "nothing of it was published");
}

/// An accepted body must never stop a reader: Rust's, JavaScript's and Python's parsers among others.
#[test]
fn json_that_common_parsers_cannot_read_is_refused_on_every_route() {
    let server = Server::start();
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let refused = [r#""\ud83d""#, r#"{"a":"\ude00\ud83d"}"#, "1e400", "[-1e999]", "{,}", &deep(200), &deep(100_000)];
    for body in refused {
        let what = &body[..body.len().min(30)];
        let answer =
            server.send(&Request::post("/v1/messages?topic=t", body).header("Content-Type", "application/json"));
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains("line 1 column "), "{what} says where: {detail}");
        if body == "{,}" {
            continue; // the batch itself would be no JSON
        }
        let batch = format!(r#"{{"messages":[{{"topic":"t","body":{body}}},{{"topic":"other","body":"x"}}]}}"#);
        let answer = server.send(&Request::post("/v1/batch", batch));
        let statuses: Vec<_> = answer.json().as_array().expect("results").iter().map(|r| r["status"].clone()).collect();
        assert_eq!((answer.status, statuses), (200, vec![json!(400), json!(200)]), "{what}");
    }
    assert_eq!(server.get("/v1/messages?topic=t").status, 204, "nothing of it was published");
    for body in [r#""\ud83d\ude00""#, "1e308", r#"{"a":1,"a":2}"#, &deep(100)] {
        let post = Request::post("/v1/messages?topic=t", body).header("Content-Type", "application/json");
        assert_eq!(server.send(&post).status, 200, "{}", &body[..body.len().min(30)]);
    }
    assert_eq!(server.get("/v1/messages?topic=t").json()["messages"].as_array().map(Vec::len), Some(4));
}

#[test]
fn a_message_of_a_batch_fails_for_itself_and_null_is_json() {
    let server = Server::start();
    server.send(&Request::post("/v1/messages?topic=t&retain=1", "kept"));
    let batch = r#"{"messages":[{"topic":"t","body":null,"retain":true},{"topic":"t","body":"x","ttl":"soon"},
        {"topic":7},9,{"topic":"t","body":null,"type":"text/plain"},{"topic":"t","body_base64":null,"retain":true}]}"#;
    let answer = server.send(&Request::post("/v1/batch", batch));
    let statuses: Vec<_> = answer.json().as_array().expect("results").iter().map(|r| r["status"].clone()).collect();
    assert_eq!(
        (answer.status, statuses),
        (200, vec![json!(200), json!(400), json!(400), json!(400), json!(400), json!(400)])
    );
    let last = server.get("/v1/messages?topic=t").json()["messages"][1].clone();
    assert_eq!((&last["type"], &last["body"]), (&json!("application/json"), &serde_json::Value::Null), "{last}");
    assert!(last.as_object().is_some_and(|fields| fields.contains_key("body")), "{last}");
}

/// The request line, and the fields in which a browser names the origin of a request (RULES 21).
#[test]
fn a_page_of_another_site_reaches_nothing() {
    let server = Server::start();
    let host = server.address().to_string();
    let own = format!("http://{host}");
    let ask = |request: Request, headers: &[(&str, &str)]| {
        server.send(&headers.iter().fold(request, |request, (name, value)| request.header(name, value))).status
    };
    let requests = || {
        [
            Request::get("/v1/messages?topic=t"),
            Request::get("/v1/messages?topic=t&wait=60"),
            Request::get("/v1/events?topic=t"),
            Request::get("/v1/stream?topic=t"),
            Request::get("/v1/topics"),
            Request::get("/polling/publish/t?message=x"),
            Request::post("/v1/messages?topic=t", "x"),
            Request::post("/polling/publish/t", "x"),
        ]
    };
    for headers in [
        &[("Origin", "https://evil.example")][..],
        &[("Origin", "null")],
        &[("Origin", "http://127.0.0.1:1")],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Host", "evil.example")],
        &[("Host", "evil.example:8080")],
        &[("Host", "localhost.evil.example")],
        &[("Host", "127.0.0.1.evil.example")],
    ] {
        for request in requests() {
            assert_eq!(ask(request.clone(), headers), 403, "{headers:?} {request:?}");
        }
    }
    assert_eq!(server.get("/v1/messages?topic=t").status, 204, "nothing was published");
    for headers in [
        &[("Origin", own.as_str()), ("Sec-Fetch-Site", "same-origin")][..],
        &[("Sec-Fetch-Site", "none")],
        &[("Host", "localhost")],
        &[("Host", "localhost:8080")],
        &[("Host", "[::1]:8080")],
        &[("Host", host.as_str())],
    ] {
        assert_eq!(ask(Request::post("/v1/messages?topic=t", "x"), headers), 200, "{headers:?}");
    }
}

#[test]
fn an_allowed_origin_may_and_is_told_so() {
    let server = Server::with("[auth]\nanonymous = true\norigins = [\"https://app.example.com\"]\n");
    let origin = "https://app.example.com";
    let asked = Request::get("/v1/messages?topic=t").header("Origin", origin).header("Sec-Fetch-Site", "cross-site");
    let answer = server.send(&asked);
    assert_eq!((answer.status, answer.header("Access-Control-Allow-Origin")), (204, Some(origin)));
    assert!(
        answer.header("Access-Control-Expose-Headers").is_some_and(|h| h.to_lowercase().contains("everywire-cursor")),
        "{answer:?}"
    );
    let preflight = Request::new("OPTIONS", "/v1/messages?topic=t")
        .header("Origin", origin)
        .header("Sec-Fetch-Site", "cross-site")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "content-type, idempotency-key");
    let allowed = server.send(&preflight);
    assert!(matches!(allowed.status, 200 | 204), "{allowed:?}");
    assert_eq!(allowed.header("Access-Control-Allow-Origin"), Some(origin));
    let headers = allowed.header("Access-Control-Allow-Headers").unwrap_or_default().to_lowercase();
    assert!(headers.contains("content-type") && headers.contains("idempotency-key"), "{headers}");
    let stranger = server.send(&asked.header("Origin", "https://app.example.com.evil.example"));
    assert_eq!((stranger.status, stranger.header("Access-Control-Allow-Origin")), (403, None));
}

#[test]
fn what_a_proxy_has_passed_on_is_no_client_of_this_machine() {
    let ask = |server: &Server, request: Request, (name, value): (&str, &str)| {
        server.send(&request.header(name, value)).status
    };
    let (closed, open) = (Server::start(), Server::with("[auth]\nanonymous = true\n"));
    for header in [
        ("X-Forwarded-For", "192.0.2.7"),
        ("x-forwarded-proto", "https"),
        ("Forwarded", "for=127.0.0.1"),
        ("X-Real-IP", "127.0.0.1"),
        ("Via", "1.1 cache"),
    ] {
        for (request, status) in [
            (Request::post("/v1/messages?topic=t", "x"), 401),
            (Request::json("/v1/batch", &json!({"messages": [{"topic": "t", "body": "x"}]})), 401),
            (Request::get("/v1/messages?topic=t"), 401),
            (Request::get("/v1/events?topic=t"), 401),
            (Request::get("/v1/ws"), 401),
            (Request::get("/v1/topics"), 401),
            (Request::get("/polling/publish/t?message=x"), 401),
            (Request::get("/healthz"), 200),
        ] {
            assert_eq!(ask(&closed, request.clone(), header), status, "{header:?} {request:?}");
        }
        assert_eq!(ask(&open, Request::post("/v1/messages?topic=t", "x"), header), 200, "{header:?}");
        assert_eq!(ask(&open, Request::get("/polling/publish/t?message=x"), header), 403, "{header:?}");
    }
    assert_eq!(closed.get("/v1/messages?topic=t").status, 204, "nothing was published");
}

#[test]
fn what_a_page_embeds_publishes_nothing() {
    let server = Server::start();
    let image = |dest: &str| {
        let request = Request::get("/polling/publish/t?message=x").header("Sec-Fetch-Dest", dest);
        request.header("Sec-Fetch-Mode", "no-cors").header("Sec-Fetch-Site", "none")
    };
    for dest in ["image", "script", "style", "audio", "iframe"] {
        assert_eq!(server.send(&image(dest)).status, 403, "{dest}");
    }
    assert_eq!(server.get("/v1/messages?topic=t").status, 204, "nothing was published");
    assert_eq!(server.get("/polling/publish/t?message=x").status, 200, "curl publishes");
}

#[test]
fn a_name_that_is_not_configured_is_refused_also_where_everybody_may_come_in() {
    let server = Server::with("[auth]\nanonymous = true\n");
    for (host, status) in [("10.0.0.1:8080", 204), ("[fd00::1]", 204), ("localhost", 204), ("rebound.example", 403)] {
        let answer = server.send(&Request::get("/v1/messages?topic=t").header("Host", host));
        assert_eq!(answer.status, status, "{host}");
    }
}

#[test]
fn how_the_server_is_is_told_to_everybody() {
    let server = Server::with("[auth]\nsecret = \"a secret of at least thirty-two bytes\"\nanonymous = false\n");
    for target in ["/healthz", "/readyz", "/metrics"] {
        for (name, value) in [
            ("Host", "10.1.2.3:8080"),
            ("Host", "everywire.push.svc"),
            ("Authorization", "Bearer forged"),
            ("Authorization", "Basic !"),
            ("X-Forwarded-For", "192.0.2.7"),
        ] {
            assert_eq!(server.send(&Request::get(target).header(name, value)).status, 200, "{target} {name}: {value}");
        }
        assert_eq!(raw(&server, format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).status, 200, "{target}");
    }
    assert_eq!(server.get("/v1/messages?topic=t").status, 401);
}

#[test]
fn credentials_for_a_proxy_say_nothing_on_an_open_server() {
    let server = Server::start();
    for value in ["Basic YWxpY2U6cHc=", "Basic !", "Negotiate x", "Digest username=\"x\""] {
        let request = Request::post("/v1/messages?topic=t", "x").header("Authorization", value);
        assert_eq!(server.send(&request).status, 200, "{value}");
        let rebound = request.header("Host", "rebound.example");
        assert_eq!(server.send(&rebound).status, 403, "{value}: a browser adds it by itself");
    }
    let forged = Request::get("/v1/messages?topic=t").header("Authorization", "Bearer forged");
    assert_eq!(server.send(&forged).status, 401);
}

/// A connection that has sent the beginning of a request and then is silent.
fn stuck(server: &Server, bytes: &str) -> Connection {
    let mut connection = server.connect();
    connection.send(bytes.as_bytes());
    connection
}

#[test]
fn slow_heads_and_bodies_get_408_while_others_are_served() {
    const EACH: usize = 300;
    let server = Server::start();
    let mut slow: Vec<Connection> = (0..EACH)
        .flat_map(|_| {
            [
                stuck(&server, "GET /healthz HTTP/1.1\r\nHost: loc"),
                stuck(&server, &format!("{POST}Content-Length: 9\r\n\r\nhi")),
            ]
        })
        .collect();
    for n in 0..100 {
        server.publish("others", &n.to_string());
    }
    assert_eq!(server.get("/v1/messages?topic=others").bodies().len(), 100, "others are served meanwhile");
    for (n, connection) in slow.iter_mut().enumerate() {
        let answer = connection.try_response(false).unwrap_or_else(|e| panic!("slow connection {n}: {e}"));
        assert_eq!(answer.status, 408);
        assert!(connection.is_closed());
    }
    assert_eq!(server.get("/v1/messages?topic=t").status, 204, "half a body is no message");
}

#[test]
fn whoever_vanishes_in_the_middle_leaves_nothing() {
    let server = Server::start();
    for begun in
        ["GET /heal", POST, "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhi"]
    {
        let mut connection = stuck(&server, begun);
        connection.end();
        match connection.try_response(false) {
            Ok(answer) => assert_eq!(answer.status, 400, "{begun:?}"),
            Err(e) => assert!(matches!(e.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{e}"),
        }
        drop(stuck(&server, begun));
    }
    assert_eq!(server.get("/v1/messages?topic=t").status, 204);
    still_serves(&server);
}

#[test]
fn every_cut_of_a_request_gets_the_same_answer() {
    let server = Server::start();
    let bytes = format!("{POST}Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi").into_bytes();
    for at in 1..bytes.len() {
        let mut connection = server.connect();
        connection.send(&bytes[..at]);
        connection.send(&bytes[at..]);
        assert_eq!(connection.response().status, 200, "cut at {at}");
    }
}
