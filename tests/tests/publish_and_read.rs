//! Publishing, and reading by short poll, long poll, SSE, stream and the classic walk-through (`docs/http.md`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use everywire_tests::{EventStream, LineStream, Request, Server, Setup, until};
use serde_json::{Value, json};

fn numbered(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn publish_all(server: &Server, topic: &str, bodies: &[String]) -> Vec<String> {
    bodies.iter().map(|body| server.publish(topic, body)).collect()
}

/// A stream whose first block has come, so that later messages reach it.
fn listening(server: &Server, request: &Request) -> EventStream {
    let mut stream = EventStream::open(server.address(), request);
    let first = stream.block().expect("a first block");
    assert!(!first.comments.is_empty(), "the first block is a comment: {first:?}");
    stream
}

fn events(query: &str) -> Request {
    Request::get(&format!("/v1/events?{query}"))
}

#[test]
fn a_publish_is_acknowledged_with_id_cursor_and_durability() {
    let server = Server::start();
    let answer = server.send(&Request::post("/v1/messages?topic=room/42", "hi"));
    assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("application/json")));
    let json = answer.json();
    assert_eq!((&json["topic"], &json["durability"]), (&json!("room/42"), &json!("fsync")));
    assert_eq!(json["id"].as_str().map(str::len), Some(26), "a ULID: {json}");
    assert!(json["cursor"].as_str().is_some_and(|c| c.contains(':')), "{json}");
}

#[test]
fn the_envelope_says_everything_about_a_message() {
    let server = Server::start();
    let published = server.send(&Request::post("/v1/messages?topic=room/42&event=chat", "hi")).json();
    let message = server.get("/v1/messages?topic=room/42").json()["messages"][0].clone();
    for (field, expected) in [
        ("id", &published["id"]),
        ("cursor", &published["cursor"]),
        ("topic", &json!("room/42")),
        ("event", &json!("chat")),
        ("type", &json!("text/plain")),
        ("body", &json!("hi")),
    ] {
        assert_eq!(&message[field], expected, "{field} of {message}");
    }
    let time = message["time"].as_str().expect("a time");
    assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "RFC 3339, UTC, milliseconds: {time}");
}

#[test]
fn a_short_poll_answers_200_with_messages_and_204_with_nothing() {
    let server = Server::start();
    let empty = server.get("/v1/messages?topic=t");
    assert_eq!((empty.status, empty.body.len()), (204, 0));
    assert!(empty.cursor().contains(':'));

    publish_all(&server, "t", &numbered(1..=3));
    let found = server.get(&format!("/v1/messages?topic=t&after={}", empty.cursor()));
    assert_eq!((found.status, found.bodies()), (200, numbered(1..=3)));
    let json = found.json();
    assert_eq!((&json["gap"], &json["more"]), (&json!(false), &json!(false)));
    assert_eq!(json["cursor"], json!(found.cursor()), "header and body say the same cursor");

    let again = server.get(&format!("/v1/messages?topic=t&after={}", found.cursor()));
    assert_eq!((again.status, again.cursor()), (204, found.cursor()));
}

#[test]
fn a_plain_read_starts_at_the_earliest_and_words_name_both_ends() {
    let server = Server::start();
    publish_all(&server, "t", &numbered(1..=2));
    assert_eq!(server.get("/v1/messages?topic=t").bodies(), numbered(1..=2));
    assert_eq!(server.get("/v1/messages?topic=t&after=earliest").bodies(), numbered(1..=2));
    let latest = server.get("/v1/messages?topic=t&after=latest");
    assert_eq!(latest.status, 204);
    server.publish("t", "3");
    assert_eq!(server.get(&format!("/v1/messages?topic=t&after={}", latest.cursor())).bodies(), ["3"]);
}

#[test]
fn a_limited_page_says_more_and_the_next_goes_on_there() {
    let server = Server::start();
    publish_all(&server, "t", &numbered(1..=5));
    let (mut after, mut pages) = ("earliest".to_owned(), Vec::new());
    loop {
        let page = server.get(&format!("/v1/messages?topic=t&limit=2&after={after}"));
        after = page.cursor();
        pages.push(page.bodies());
        if page.json()["more"] == json!(false) {
            break;
        }
    }
    assert_eq!(pages, [numbered(1..=2), numbered(3..=4), numbered(5..=5)]);
}

#[test]
fn a_page_has_100_messages_unless_asked_and_at_most_1000() {
    let server = Server::with("[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 5000 }\n");
    let messages: Vec<Value> = (0..1000).map(|n| json!({ "topic": "t", "body": n.to_string() })).collect();
    for _ in 0..2 {
        assert_eq!(server.send(&Request::json("/v1/batch", &json!({ "messages": messages }))).status, 200);
    }
    for (limit, expected) in [("", 100), ("&limit=1", 1), ("&limit=1000", 1000), ("&limit=5000", 1000)] {
        let page = server.get(&format!("/v1/messages?topic=t{limit}"));
        if page.status == 400 {
            assert_eq!(limit, "&limit=5000", "only what is out of range may be refused: {page:?}");
            continue;
        }
        assert_eq!((page.bodies().len(), &page.json()["more"]), (expected, &json!(true)), "{limit}");
    }
}

#[test]
fn several_topics_come_in_the_order_of_the_log() {
    let server = Server::start();
    for (topic, body) in [("a", "1"), ("b", "2"), ("c", "no"), ("a", "3"), ("b/x", "no"), ("b", "4")] {
        server.publish(topic, body);
    }
    assert_eq!(server.get("/v1/messages?topic=a&topic=b").bodies(), numbered(1..=4));
}

#[test]
fn filters_take_what_mqtt_says() {
    let server = Server::start();
    for topic in ["room/1", "room/1/log", "room", "other"] {
        server.publish(topic, topic);
    }
    for (filter, expected) in [
        ("room/%23", &["room/1", "room/1/log", "room"][..]),
        ("room/+", &["room/1"]),
        ("+/1/%23", &["room/1", "room/1/log"]),
    ] {
        assert_eq!(server.get(&format!("/v1/messages?topic={filter}")).bodies(), expected, "{filter}");
    }
}

#[test]
fn a_long_poll_wakes_when_something_comes() {
    let server = Server::start();
    let cursor = server.get("/v1/messages?topic=t&after=latest").cursor();
    let mut waiting = server.connect();
    waiting.ask(&Request::get(&format!("/v1/messages?topic=t&wait=25&after={cursor}")));
    server.publish("other", "not this");
    server.publish("t", "hi");
    let answer = waiting.response();
    assert_eq!((answer.status, answer.bodies()), (200, vec!["hi".to_owned()]));

    let kept_alive = waiting.exchange(&Request::get(&format!("/v1/messages?topic=t&after={}", answer.cursor())));
    assert_eq!(kept_alive.status, 204, "the connection serves on");
}

#[test]
fn a_long_poll_that_is_behind_answers_at_once() {
    let server = Server::start();
    publish_all(&server, "t", &numbered(1..=2));
    assert_eq!(server.get("/v1/messages?topic=t&wait=25&after=earliest").bodies(), numbered(1..=2));
}

#[test]
fn a_long_poll_whose_time_is_over_answers_204_with_a_cursor() {
    let server = Server::start();
    let over = server.get("/v1/messages?topic=t&wait=1");
    assert_eq!((over.status, over.body.len()), (204, 0));
    server.publish("t", "later");
    assert_eq!(server.get(&format!("/v1/messages?topic=t&after={}", over.cursor())).bodies(), ["later"]);
}

#[test]
fn a_long_poll_of_nobody_any_more_is_forgotten() {
    let server = Server::start();
    let mut gone = server.connect();
    gone.ask(&Request::get("/v1/messages?topic=t&wait=60"));
    until("the poll waits", || server.metric("everywire_connections") >= 2.0);
    drop(gone);
    until("it is forgotten", || server.metric("everywire_connections") <= 1.0);
    server.publish("t", "into the void");
}

#[test]
fn sse_carries_cursor_event_name_and_envelope() {
    let server = Server::start();
    let mut stream = listening(&server, &events("topic=t"));
    for (name, value) in [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-store, no-transform"),
        ("X-Accel-Buffering", "no"),
        ("X-Content-Type-Options", "nosniff"),
    ] {
        let header = stream.head.header(name).unwrap_or_default().to_owned();
        assert!(header.starts_with(value), "{name}: {header}");
    }
    let published = server.send(&Request::post("/v1/messages?topic=t&event=chat", "hi")).json();
    let event = stream.event();
    assert_eq!((event.event.as_deref(), event.id.as_deref()), (Some("chat"), published["cursor"].as_str()));
    let envelope = event.json();
    assert_eq!((&envelope["id"], &envelope["body"], &envelope["topic"]), (&published["id"], &json!("hi"), &json!("t")));
    assert!(stream.retry.is_some(), "the stream says when to come back");
}

#[test]
fn sse_can_carry_the_bare_body_of_any_number_of_lines() {
    let server = Server::start();
    let mut stream = listening(&server, &events("topic=t&format=body"));
    for body in ["one", "one\ntwo\n\nfour", " indented", "\n", "data: not a field\nid: neither"] {
        server.publish("t", body);
        assert_eq!(stream.event().data.as_deref(), Some(body));
    }
}

#[test]
fn a_bare_carriage_return_is_a_line_end_in_sse_and_cannot_smuggle_fields() {
    let server = Server::start();
    let mut stream = listening(&server, &events("topic=t&format=body"));
    server.publish("t", "a\rid: forged\r\nb");
    let event = stream.event();
    assert_eq!(event.data.as_deref(), Some("a\nid: forged\nb"));
    server.publish("t", "next");
    assert_eq!(stream.event().data.as_deref(), Some("next"));
}

#[test]
fn sse_resumes_after_the_last_event_id() {
    let server = Server::start();
    let mut stream = listening(&server, &events("topic=a&topic=b"));
    server.publish("a", "1");
    server.publish("b", "2");
    assert_eq!(stream.bodies(1), ["1"]);
    let cursor = stream.cursor.clone().expect("a cursor");
    drop(stream);
    server.publish("a", "3");

    let resume = events("topic=a&topic=b").header("Last-Event-ID", &cursor);
    let mut resumed = EventStream::open(server.address(), &resume);
    assert_eq!(resumed.bodies(2), ["2", "3"]);
    server.publish("b", "4");
    assert_eq!(resumed.bodies(1), ["4"]);

    let mut by_query = EventStream::open(server.address(), &events(&format!("topic=b&after={cursor}")));
    assert_eq!(by_query.bodies(2), ["2", "4"], "the same cursor on another set of topics");
}

#[test]
fn sse_from_the_earliest_brings_history_then_what_comes() {
    let server = Server::start();
    publish_all(&server, "t", &numbered(1..=300));
    let mut stream = EventStream::open(server.address(), &events("topic=t&after=earliest"));
    assert_eq!(stream.bodies(300), numbered(1..=300));
    server.publish("t", "301");
    assert_eq!(stream.bodies(1), ["301"]);
}

#[test]
fn a_cursor_of_another_life_of_the_log_is_a_gap_and_reading_goes_on() {
    let server = Server::start();
    publish_all(&server, "t", &numbered(1..=2));
    let page = server.get("/v1/messages?topic=t&after=zzzz:7");
    assert_eq!((page.status, &page.json()["gap"], page.bodies()), (200, &json!(true), numbered(1..=2)));

    let mut stream = EventStream::open(server.address(), &events("topic=t").header("Last-Event-ID", "zzzz:7"));
    let gap = stream.event();
    assert_eq!(gap.event.as_deref(), Some("gap"), "{gap:?}");
    assert!(gap.json()["earliest"].is_string(), "{gap:?}");
    assert_eq!(stream.bodies(2), numbered(1..=2));
}

#[test]
fn what_retention_took_is_a_gap_and_what_it_left_comes() {
    let server = Server::with("[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 3 }\n");
    let cursors = publish_all(&server, "t", &numbered(1..=9));
    until("retention has taken six", || server.get("/v1/messages?topic=t&after=earliest").bodies() == numbered(7..=9));
    // The shared recent window may still have older messages, which are no loss; after a restart only kept ones are
    // there.
    let server = server.kill().start();
    let page = server.get(&format!("/v1/messages?topic=t&after={}", cursors[1]));
    assert_eq!((&page.json()["gap"], page.bodies()), (&json!(true), numbered(7..=9)));
    let whole = server.get(&format!("/v1/messages?topic=t&after={}", cursors[5]));
    assert_eq!((&whole.json()["gap"], whole.bodies()), (&json!(false), numbered(7..=9)), "nothing of it is lost");
}

#[test]
fn the_first_comment_is_as_long_as_asked() {
    let server = Server::start();
    for (pad, least) in [(0, 1), (2048, 2048), (8192, 8192)] {
        let mut stream = EventStream::open(server.address(), &events(&format!("topic=t&pad={pad}")));
        let first = stream.block().expect("a block");
        let length: usize = first.comments.iter().map(|c| c.len() + ": \n".len()).sum();
        assert!((least..least + 64).contains(&length), "pad={pad}: {length}");
    }
}

#[test]
fn a_stream_has_one_envelope_a_line() {
    let server = Server::start();
    publish_all(&server, "t", &numbered(1..=2));
    server.send(&Request::post("/v1/messages?topic=t", "{\n \"a\": 1\n}").header("Content-Type", "application/json"));
    let mut stream = LineStream::open(server.address(), &Request::get("/v1/stream?topic=t&after=earliest"));
    assert!(stream.head.header("Content-Type").is_some_and(|t| t.starts_with("application/x-ndjson")));
    assert_eq!(stream.next_line()["body"], "1");
    assert_eq!(stream.next_line()["body"], "2");
    assert_eq!(stream.next_line()["body"], json!({ "a": 1 }));
    server.publish("t", "live");
    assert_eq!(stream.next_line()["body"], "live");
}

#[test]
fn the_classic_walk_through_hangs_and_wakes_with_the_bare_body() {
    let server = Server::start();
    let mut watching = server.connect();
    watching.ask(&Request::get("/polling/watch/10086"));
    until("it watches", || server.metric("everywire_connections") >= 2.0);
    let published = server.send(&Request::post("/polling/publish/10086", "balance changed"));
    assert_eq!(published.status, 200);
    let woken = watching.response();
    assert_eq!((woken.status, woken.text().as_str()), (200, "balance changed"));
    assert_eq!(woken.header("X-Content-Type-Options"), Some("nosniff"));
    assert!(woken.header("Content-Security-Policy").is_some_and(|p| p.contains("sandbox")), "{woken:?}");
}

#[test]
fn the_classic_watch_answers_304_when_the_time_is_over() {
    let server = Server::start();
    assert_eq!(server.get("/polling/watch/10086?wait=1").status, 304);
}

#[test]
fn the_classic_publish_takes_a_message_from_the_address() {
    let server = Server::start();
    for request in [
        Request::get("/polling/publish/a/b?message=one%20word"),
        Request::new("POST", "/polling/publish/a/b?message=one%20word"),
    ] {
        assert_eq!(server.send(&request).status, 200);
    }
    assert_eq!(server.get("/v1/messages?topic=a/b").bodies(), ["one word", "one word"]);
}

#[test]
fn active_types_never_come_back_as_themselves() {
    let server = Server::start();
    let mut watching = server.connect();
    watching.ask(&Request::get("/polling/watch/t"));
    until("it watches", || server.metric("everywire_connections") >= 2.0);
    let script = "<script>alert(1)</script>";
    server.send(&Request::post("/polling/publish/t", script).header("Content-Type", "text/html"));
    let woken = watching.response();
    assert!(woken.header("Content-Type").is_some_and(|t| t.starts_with("text/plain")), "{woken:?}");
}

#[test]
fn a_retained_message_greets_whoever_comes_later() {
    let server = Server::start();
    server.send(&Request::post("/v1/messages?topic=t&retain=1", "old"));
    server.send(&Request::post("/v1/messages?topic=t&retain=1", "state"));
    server.publish("t", "passing");
    until("the store has applied it", || server.get("/v1/messages?topic=t").bodies().len() == 3);

    let mut stream = EventStream::open(server.address(), &events("topic=t"));
    let greeting = stream.event();
    assert_eq!((greeting.body().as_str(), &greeting.json()["retained"]), ("state", &json!(true)));
    server.publish("t", "live");
    assert_eq!(stream.event().body(), "live");

    let cursor = stream.cursor.clone().expect("a cursor");
    server.publish("t", "later");
    let mut resumed = EventStream::open(server.address(), &events("topic=t").header("Last-Event-ID", &cursor));
    assert_eq!(resumed.event().body(), "later", "who resumes is not greeted");
}

#[test]
fn an_empty_retained_message_removes_the_greeting() {
    let server = Server::start();
    server.send(&Request::post("/v1/messages?topic=t&retain=1", "state"));
    server.send(&Request::post("/v1/messages?topic=t&retain=1", ""));
    let mut stream = listening(&server, &events("topic=t"));
    server.publish("t", "live");
    assert_eq!(stream.event().body(), "live");
}

#[test]
fn an_expired_message_is_not_delivered_and_is_no_gap() {
    let server = Server::start();
    let before = server.publish("t", "first");
    assert_eq!(server.send(&Request::post("/v1/messages?topic=t&ttl=1", "short-lived")).status, 200);
    server.publish("t", "last");
    let read = || server.get(&format!("/v1/messages?topic=t&after={before}"));
    assert_eq!(read().bodies(), ["short-lived", "last"]);
    until("it has expired", || read().bodies() == ["last"]);
    assert_eq!(read().json()["gap"], json!(false));
}

#[test]
fn the_same_idempotency_key_publishes_once_and_answers_alike() {
    let server = Server::start();
    let publish =
        |body: &str| server.send(&Request::post("/v1/messages?topic=t", body).header("Idempotency-Key", "k-1"));
    let (first, second) = (publish("hi"), publish("hi"));
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.json(), second.json());
    assert_eq!(publish("other").status, 409);
    let elsewhere = server.send(&Request::post("/v1/messages?topic=u", "other").header("Idempotency-Key", "k-1"));
    assert_eq!(elsewhere.status, 200, "a key belongs to its topic");
    assert_eq!(server.get("/v1/messages?topic=t").bodies(), ["hi"]);
}

#[test]
fn idempotency_keys_survive_a_restart() {
    let server = Server::start();
    let request = |body: &str| Request::post("/v1/messages?topic=t", body).header("Idempotency-Key", "k-1");
    let first = server.send(&request("hi"));
    let server = server.kill().start();
    assert_eq!(server.send(&request("hi")).json(), first.json());
    assert_eq!(server.send(&request("other")).status, 409);
    assert_eq!(server.get("/v1/messages?topic=t").bodies(), ["hi"]);
}

#[test]
fn a_json_body_stands_verbatim_in_the_envelope() {
    let server = Server::start();
    let body = r#"{"z":1.50,"a":[1e3,"é\n"],"big":123456789012345678901234567890}"#;
    let request = Request::post("/v1/messages?topic=t", body).header("Content-Type", "application/json");
    assert_eq!(server.send(&request).status, 200);
    let text = server.get("/v1/messages?topic=t").text();
    assert!(text.contains(&format!(r#""body":{body}"#)), "{text}");
    let broken = Request::post("/v1/messages?topic=t", "{\"a\":").header("Content-Type", "application/json");
    assert_eq!(server.send(&broken).status, 400, "JSON is checked at publish");
}

#[test]
fn a_body_that_is_no_text_comes_in_base64() {
    let server = Server::start();
    let bytes: Vec<u8> = (0..=255).collect();
    let request = Request::post("/v1/messages?topic=t", &bytes).header("Content-Type", "application/octet-stream");
    assert_eq!(server.send(&request).status, 200);
    let message = server.get("/v1/messages?topic=t").json()["messages"][0].clone();
    assert_eq!(STANDARD.decode(message["body_base64"].as_str().expect("base64")), Ok(bytes));
    assert!(message.get("body").is_none(), "{message}");
}

#[test]
fn what_curl_calls_a_form_counts_as_text() {
    let server = Server::start();
    let request =
        Request::post("/v1/messages?topic=t", "hi").header("Content-Type", "application/x-www-form-urlencoded");
    assert_eq!(server.send(&request).status, 200);
    let message = server.get("/v1/messages?topic=t").json()["messages"][0].clone();
    assert_eq!(message["body"], "hi");
    assert!(message["type"].as_str().unwrap_or("text/plain").starts_with("text/plain"), "{message}");
}

#[test]
fn a_batch_answers_each_message_in_order() {
    let server = Server::start();
    let batch = json!({ "messages": [
        { "topic": "t", "body": "1", "event": "e" },
        { "topic": "a/+", "body": "not a topic" },
        { "topic": "t", "body_base64": STANDARD.encode([0xff, 0xfe]) },
        { "topic": "t", "body": { "n": 3 } },
        { "topic": "t", "body": "4", "key": "k" },
        { "topic": "t", "body": "4", "key": "k" },
    ]});
    let answer = server.send(&Request::json("/v1/batch", &batch));
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json();
    let statuses: Vec<_> = results.as_array().expect("an array").iter().map(|r| r["status"].as_u64()).collect();
    assert_eq!(statuses, [200, 400, 200, 200, 200, 200].map(Some));
    assert_eq!(results[4]["id"], results[5]["id"], "one key, one message");
    let messages = server.get("/v1/messages?topic=t").json()["messages"].clone();
    assert_eq!(messages.as_array().map(Vec::len), Some(4), "{messages}");
    assert_eq!((&messages[0]["event"], &messages[0]["body"]), (&json!("e"), &json!("1")));
    assert_eq!((&messages[1]["body_base64"], &messages[2]["body"]), (&json!("//4="), &json!({ "n": 3 })));
}

#[test]
fn pipelined_publishes_are_answered_in_order() {
    let server = Server::start();
    let mut connection = server.connect();
    let bodies = numbered(1..=200);
    for body in &bodies {
        connection.ask(&Request::post("/v1/messages?topic=t", body));
    }
    for body in &bodies {
        let answer = connection.response();
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
    }
    assert_eq!(server.get("/v1/messages?topic=t&limit=1000").bodies(), bodies);
}

#[test]
fn a_chunked_body_is_put_together() {
    let server = Server::start();
    let mut connection = server.connect();
    connection.send(b"POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    connection.send(b"3\r\nhel\r\n");
    connection.send(b"8;extension=1\r\nlo world\r\n0\r\n\r\n");
    assert_eq!(connection.response().status, 200);
    assert_eq!(server.get("/v1/messages?topic=t").bodies(), ["hello world"]);
}

#[test]
fn expect_100_continue_is_answered_after_the_checks() {
    let server = Server::start();
    let ask = |topic: &str, length: usize| {
        let mut connection = server.connect();
        let head = format!(
            "POST /v1/messages?topic={topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        );
        connection.send(head.as_bytes());
        connection
    };
    let mut connection = ask("t", 2);
    assert_eq!(connection.response().status, 100);
    connection.send(b"hi");
    assert_eq!(connection.response().status, 200);
    assert_eq!(ask("a%2Fb%23", 2).response().status, 400, "refused before the body is sent");
    assert_eq!(ask("t", 300 << 10).response().status, 413, "refused before the body is sent");
}

#[test]
fn topics_are_listed_with_their_head_and_count() {
    let server = Server::start();
    let cursors = publish_all(&server, "room/1", &numbered(1..=3));
    server.publish("other", "x");
    until("the store knows both", || server.get("/v1/topics").json()["topics"].as_array().map(Vec::len) == Some(2));
    let topics = server.get("/v1/topics?filter=room/%23").json()["topics"].clone();
    assert_eq!(topics.as_array().map(Vec::len), Some(1), "{topics}");
    assert_eq!((&topics[0]["topic"], &topics[0]["count"]), (&json!("room/1"), &json!(3)));
    assert_eq!(topics[0]["cursor"], json!(cursors[2]));
}

#[test]
fn durability_none_passes_and_is_not_kept() {
    let server = Server::with("[[topics]]\nmatch = \"typing/#\"\ndurability = \"none\"\n");
    let mut stream = listening(&server, &events("topic=typing/1"));
    let answer = server.send(&Request::post("/v1/messages?topic=typing/1", "…")).json();
    assert_eq!(answer["durability"], "none");
    assert_eq!(stream.event().body(), "…");
    assert_eq!(server.get("/v1/messages?topic=typing/1").status, 204);
}

#[test]
fn the_memory_engine_serves_alike_and_keeps_nothing() {
    let server = Setup::new().argument("--engine").argument("memory").start();
    let answer = server.send(&Request::post("/v1/messages?topic=t", "hi")).json();
    assert_eq!(answer["durability"], "memory");
    assert_eq!(server.get("/v1/messages?topic=t").bodies(), ["hi"]);
    let cursor = server.get("/v1/messages?topic=t").cursor();
    let server = server.kill().start();
    let page = server.get(&format!("/v1/messages?topic=t&after={cursor}"));
    assert_eq!((page.status, &page.json()["gap"]), (200, &json!(true)));
}

#[test]
fn head_options_and_what_is_not_there() {
    let server = Server::start();
    let mut connection = server.connect();
    let head = connection.exchange(&Request::new("HEAD", "/v1/messages?topic=t"));
    assert!(matches!(head.status, 200 | 204), "{head:?}");
    let page = connection.exchange(&Request::new("HEAD", "/"));
    assert_eq!((page.status, page.body.len()), (200, 0));
    let options = connection.exchange(&Request::new("OPTIONS", "/v1/messages"));
    assert!(matches!(options.status, 200 | 204), "{options:?}");
    assert!(options.header("Allow").is_some_and(|a| a.contains("GET") && a.contains("POST")), "{options:?}");
    for (method, target, status, allow) in [
        ("GET", "/nowhere", 404, None),
        ("GET", "/v1/nowhere", 404, None),
        ("GET", "/web/nowhere.js", 404, None),
        ("DELETE", "/v1/messages", 405, Some("GET")),
        ("GET", "/v1/batch", 405, Some("POST")),
        ("POST", "/v1/events?topic=t", 405, Some("GET")),
        ("POST", "/healthz", 405, Some("GET")),
    ] {
        let answer = connection.exchange(&Request::new(method, target).body(""));
        assert_eq!(answer.status, status, "{method} {target}");
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{method} {target}");
        assert_eq!(answer.json()["status"], json!(status), "{method} {target}");
        if let Some(allow) = allow {
            assert!(answer.header("Allow").is_some_and(|a| a.contains(allow)), "{method} {target}: {answer:?}");
        }
    }
}
