//! The client against a server that follows a script: each connection gets its answers in turn.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use everywire_base::topic::{Filter, Topic};
use everywire_client::{Backoff, Client, ClientError, Event, Publish, Start, Subscription, Via};

/// A server that answers the requests of its n-th connection with the n-th list of answers, and then closes it.
struct Script {
    url: String,
    requests: Receiver<String>,
    thread: JoinHandle<()>,
}

impl Script {
    fn new(connections: Vec<Vec<String>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = channel();
        let thread = std::thread::spawn(move || {
            for answers in connections {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                for answer in answers {
                    sender.send(request(&mut stream)).unwrap();
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        Self { url, requests, thread }
    }

    fn client(&self) -> Client {
        Client::new(&self.url).unwrap()
    }

    fn subscription(&self, via: Via, start: Start) -> Subscription {
        let moment = Duration::from_millis(1);
        let topics = vec![Filter::parse("room/+").unwrap()];
        Subscription::new(self.client(), topics, via, start).with_backoff(Backoff::seeded(moment, moment, 1))
    }

    /// The first lines of all requests, once the script is over.
    fn lines(self) -> Vec<String> {
        self.thread.join().unwrap();
        self.requests.iter().map(|request| request.lines().next().unwrap_or_default().to_owned()).collect()
    }
}

/// Reads a request byte by byte, so that the next, pipelined one stays in the socket.
fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    head + &String::from_utf8_lossy(&body)
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

fn published(n: u32) -> String {
    answer("200 OK", "", &format!(r#"{{"id":"ID{n}","topic":"room/42","cursor":"a:{n}","durability":"fsync"}}"#))
}

fn envelope(n: u32) -> String {
    format!(r#"{{"id":"ID{n}","topic":"room/42","cursor":"a:{n}","time":"2026-11-22T20:12:01.345Z","body":"m{n}"}}"#)
}

fn page(messages: &[u32], cursor: u32, gap: bool) -> String {
    let messages: Vec<String> = messages.iter().map(|n| envelope(*n)).collect();
    let body = format!(r#"{{"messages":[{}],"cursor":"a:{cursor}","gap":{gap},"more":false}}"#, messages.join(","));
    answer("200 OK", "", &body)
}

fn empty(cursor: u32) -> String {
    format!("HTTP/1.1 204 No Content\r\nEverywire-Cursor: a:{cursor}\r\n\r\n")
}

fn stream(kind: &str, cursor: u32, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\nEverywire-Cursor: a:{cursor}\r\n\r\n{body}"
    )
}

fn sse(n: u32) -> String {
    format!("id: a:{n}\ndata: {}\n\n", envelope(n))
}

/// The events of a subscription in short, up to this number of messages.
fn told(subscription: &mut Subscription, messages: usize) -> Vec<String> {
    let mut told = Vec::new();
    let mut count = 0;
    while count < messages {
        match subscription.next().unwrap().unwrap() {
            Event::Message(envelope) => {
                count += 1;
                told.push(String::from_utf8(envelope.bytes()).unwrap());
            }
            Event::Retained(envelope) => told.push(format!("retained {}", String::from_utf8_lossy(&envelope.bytes()))),
            Event::Gap(gap) => told.push(format!("gap {}", gap.earliest.or(gap.after).unwrap_or_default())),
            Event::Interrupted { .. } => told.push("cut".into()),
            Event::Heartbeat => {}
        }
    }
    told
}

#[test]
fn a_publish_says_everything_and_keeps_its_connection() {
    let script = Script::new(vec![vec![published(1), published(2)]]);
    let mut client = script.client().with_token(Some("secret".into()));
    let mut message = Publish::new(Topic::parse("room/4 2&é").unwrap(), "hi");
    (message.event, message.key) = (Some("chat".into()), Some("k-1".into()));
    (message.content_type, message.retain) = (Some("text/plain".into()), true);
    message.ttl = Some(Duration::from_secs(90));
    assert_eq!(client.publish(&message).unwrap().cursor, "a:1");
    assert_eq!(client.publish(&Publish::new(Topic::parse("t").unwrap(), "")).unwrap().cursor, "a:2");
    let request = script.requests.recv().unwrap();
    assert!(
        request.starts_with("POST /v1/messages?topic=room/4%202%26%C3%A9&event=chat&ttl=90&retain=1 HTTP/1.1\r\n"),
        "{request}"
    );
    for line in
        ["Authorization: Bearer secret", "Idempotency-Key: k-1", "Content-Type: text/plain", "Content-Length: 2"]
    {
        assert!(request.contains(&format!("{line}\r\n")), "{request}");
    }
    assert!(request.ends_with("\r\n\r\nhi"));
}

#[test]
fn a_connection_that_the_server_closed_meanwhile_is_opened_anew() {
    let script = Script::new(vec![vec![published(1)], vec![published(2)]]);
    let mut client = script.client();
    let message = Publish::new(Topic::parse("t").unwrap(), "x");
    client.publish(&message).unwrap();
    while !script.thread.is_finished() {
        if client.publish(&message).is_ok() {
            break;
        }
    }
    assert_eq!(script.lines().len(), 2);
}

#[test]
fn refusals_come_in_the_servers_words() {
    let problem = r#"{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the disk is full"}"#;
    let full = answer("503 Service Unavailable", "Retry-After: 3\r\n", problem);
    let script = Script::new(vec![vec![full, answer("400 Bad Request", "", "{}")]]);
    let mut client = script.client();
    let message = Publish::new(Topic::parse("t").unwrap(), "x");
    let error = client.publish(&message).unwrap_err();
    assert_eq!(error.to_string(), "the disk is full (503)");
    assert_eq!((error.is_passing(), error.retry_after()), (true, Some(Duration::from_secs(3))));
    assert!(!client.publish(&message).unwrap_err().is_passing());
}

#[test]
fn what_is_no_server_of_ours_is_said() {
    let script = Script::new(vec![vec!["SSH-2.0-OpenSSH\r\n\r\n".into()], vec![answer("200 OK", "", "<html>")]]);
    let mut client = script.client();
    for _ in 0..2 {
        let error = client.publish(&Publish::new(Topic::parse("t").unwrap(), "x")).unwrap_err();
        assert!(matches!(error, ClientError::Protocol(_)), "{error}");
    }
}

#[test]
fn nobody_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = Client::new(&url).unwrap().get("/healthz").unwrap_err();
    assert!(error.to_string().starts_with(&format!("connecting to {url}: ")), "{error}");
    let topics = vec![Filter::parse("t").unwrap()];
    let mut subscription = Subscription::new(Client::new(&url).unwrap(), topics, Via::Sse, Start::Latest);
    assert!(subscription.next().unwrap().is_err(), "the first attempt is not repeated");
    assert_eq!(subscription.next(), None);
}

#[test]
fn a_message_that_had_come_before_may_have_no_place_any_more() {
    let script =
        Script::new(vec![vec![answer("200 OK", "", r#"{"topic":"a","durability":"fsync","duplicate":true}"#)]]);
    let done = script.client().publish(&Publish::new(Topic::parse("a").unwrap(), "hi")).unwrap();
    assert_eq!((&*done.id, &*done.topic, &*done.cursor), ("", "a", ""));
    script.thread.join().unwrap();
}

#[test]
fn pipelined_publishes_have_their_results_in_order() {
    let refused = answer("413 Content Too Large", "", r#"{"detail":"too long"}"#);
    let script = Script::new(vec![vec![published(1), refused, published(3), published(4), published(5)]]);
    let messages = vec![Publish::new(Topic::parse("t").unwrap(), "x"); 5];
    let results = script.client().publish_all(&messages, 2);
    let cursors: Vec<_> = results.iter().map(|r| r.as_ref().map(|p| p.cursor.as_str()).ok()).collect();
    assert_eq!(cursors, [Some("a:1"), None, Some("a:3"), Some("a:4"), Some("a:5")]);
}

#[test]
fn pipelined_publishes_after_a_cut_are_unknown() {
    let script = Script::new(vec![vec![published(1)]]);
    let results = script.client().publish_all(&vec![Publish::new(Topic::parse("t").unwrap(), "x"); 3], 8);
    assert!(results[0].is_ok());
    assert!(results[1..].iter().all(|result| matches!(result, Err(ClientError::Unreachable { .. }))));
}

#[test]
fn a_batch_has_a_result_for_each() {
    let results = r#"[{"status":200,"id":"ID1","topic":"t","cursor":"a:1","durability":"fsync"},
        {"status":403,"title":"Forbidden","detail":"not allowed"}]"#;
    let script = Script::new(vec![vec![answer("200 OK", "", results)]]);
    let mut binary = Publish::new(Topic::parse("t").unwrap(), vec![0xff]);
    binary.key = Some("k".into());
    let results = script.client().batch(&[Publish::new(Topic::parse("t").unwrap(), "hi"), binary]).unwrap();
    assert_eq!(results[0].as_ref().unwrap().cursor, "a:1");
    assert_eq!(results[1].as_ref().unwrap_err().detail, "not allowed");
    let request = script.requests.recv().unwrap();
    let body: serde_json::Value = serde_json::from_str(request.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let expected = serde_json::json!({"messages": [{"topic": "t", "body": "hi"}, {"topic": "t", "body_base64": "/w==", "key": "k"}]});
    assert_eq!(body, expected);
}

#[test]
fn chunked_answers_are_read() {
    let rest = r#"D1","topic":"room/42","cursor":"a:1","durability":"fsync"}"#;
    let body = format!("5\r\n{{\"id\"\r\n3;x=y\r\n:\"I\r\n{:x}\r\n{rest}\r\n0\r\nTrailer: x\r\n\r\n", rest.len());
    let chunked = format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let script = Script::new(vec![vec![chunked, published(2)]]);
    let mut client = script.client();
    let message = Publish::new(Topic::parse("t").unwrap(), "x");
    assert_eq!(client.publish(&message).unwrap().id, "ID1");
    assert_eq!(client.publish(&message).unwrap().id, "ID2", "the connection is clean after the last chunk");
}

#[test]
fn short_polls_go_on_where_the_last_one_ended() {
    let script = Script::new(vec![vec![empty(5), page(&[6, 7], 9, false)], vec![page(&[10], 10, true)]]);
    let mut subscription = script.subscription(Via::Poll(Duration::ZERO), Start::Latest);
    assert_eq!(told(&mut subscription, 3), ["m6", "m7", "gap a:9", "m10"]);
    assert_eq!(subscription.cursor(), Some("a:10"));
    drop(subscription);
    assert_eq!(
        script.lines(),
        [
            "GET /v1/messages?topic=room/%2B&after=latest HTTP/1.1",
            "GET /v1/messages?topic=room/%2B&after=a:5 HTTP/1.1",
            "GET /v1/messages?topic=room/%2B&after=a:9 HTTP/1.1",
        ]
    );
}

#[test]
fn long_polls_learn_where_now_is_before_they_wait() {
    let script = Script::new(vec![vec![empty(5), empty(5)], vec![page(&[6], 6, false)]]);
    let mut subscription = script.subscription(Via::LongPoll(Duration::from_secs(20)), Start::Latest);
    assert_eq!(told(&mut subscription, 1).last().unwrap(), "m6");
    drop(subscription);
    assert_eq!(script.lines()[1..], ["GET /v1/messages?topic=room/%2B&after=a:5&wait=20 HTTP/1.1"; 2]);
}

#[test]
fn a_cut_stream_of_events_resumes_after_what_was_handed_over() {
    let opening = ": everywire\nretry: 1\nid: a:3\n\n";
    let retained = format!("data: {}\n\n", envelope(2).replace("\"body\"", "\"retained\":true,\"body\""));
    let half = sse(6)[..20].to_owned();
    let gap = "id: a:8\nevent: gap\ndata: {\"topic\":\"room/42\",\"after\":\"a:5\",\"earliest\":\"a:8\"}\n\n";
    let script = Script::new(vec![
        vec![stream("text/event-stream", 3, &format!("{opening}{retained}{}{}{half}", sse(4), sse(5)))],
        vec![stream("text/event-stream", 5, ":\nid: a:7\n\n")],
        vec![stream("text/event-stream", 7, &format!("{gap}{}", sse(9)))],
    ]);
    let mut subscription = script.subscription(Via::Sse, Start::Latest);
    assert_eq!(told(&mut subscription, 3), ["retained m2", "m4", "m5", "cut", "cut", "gap a:8", "m9"]);
    drop(subscription);
    assert_eq!(
        script.lines(),
        [
            "GET /v1/events?topic=room/%2B HTTP/1.1",
            "GET /v1/events?topic=room/%2B&after=a:5 HTTP/1.1",
            "GET /v1/events?topic=room/%2B&after=a:7 HTTP/1.1",
        ]
    );
}

#[test]
fn a_stream_that_is_cut_before_its_first_message_resumes_at_its_head() {
    let script = Script::new(vec![
        vec![stream("application/x-ndjson", 3, "\n")],
        vec![stream(
            "application/x-ndjson",
            3,
            &format!("{}\n{{\"later\":1}}\n{{\"gap\":{{\"earliest\":\"a:6\"}}}}\n{}\n", envelope(4), envelope(7)),
        )],
    ]);
    let mut subscription = script.subscription(Via::Stream, Start::Latest);
    assert_eq!(told(&mut subscription, 2), ["cut", "m4", "gap a:6", "m7"]);
    drop(subscription);
    assert_eq!(script.lines()[1], "GET /v1/stream?topic=room/%2B&after=a:3 HTTP/1.1");
}

#[test]
fn an_end_without_return_ends_the_subscription() {
    let close = |reconnect| {
        format!("event: close\ndata: {{\"reason\":\"drain\",\"reconnect\":{reconnect},\"delay_ms\":1}}\n\n")
    };
    let script = Script::new(vec![
        vec![stream("text/event-stream", 3, &format!("{}{}", sse(4), close(true)))],
        vec![stream("text/event-stream", 4, &format!("{}{}", sse(5), close(false)))],
    ]);
    let mut subscription = script.subscription(Via::Sse, Start::Earliest);
    assert_eq!(told(&mut subscription, 2), ["m4", "cut", "m5"]);
    assert!(subscription.next().unwrap().unwrap_err().to_string().contains("ended the stream: drain"));
    assert_eq!(subscription.next(), None);
}

#[test]
fn an_event_named_gap_by_its_publisher_is_a_message() {
    let script = Script::new(vec![vec![stream("text/event-stream", 3, &format!("event: gap\n{}", sse(4)))]]);
    assert_eq!(told(&mut script.subscription(Via::Sse, Start::Latest), 1), ["m4"]);
}

#[test]
fn a_refusal_ends_a_subscription_and_a_passing_one_does_not() {
    let away = answer("503 Service Unavailable", "", "{\"detail\":\"restoring\"}");
    let no = answer("403 Forbidden", "", "{\"detail\":\"not allowed\"}");
    let script = Script::new(vec![vec![stream("text/event-stream", 3, &sse(4))], vec![away], vec![no]]);
    let mut subscription = script.subscription(Via::Sse, Start::Latest);
    assert_eq!(told(&mut subscription, 1), ["m4"]);
    let events: Vec<_> = subscription.by_ref().collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[2].as_ref().unwrap_err().to_string(), "not allowed (403)");
}
