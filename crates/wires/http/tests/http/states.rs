//! Cases that a table can't say: order under reordering, bounds of memory, shared renditions.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{PublishError, Published, Subscribed};
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::id::AskId;
use everywire_base::parcel::{Delivery, Format, Parcel, Taken};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::terms::DeliveryOptions;
use everywire_base::topic::Topic;
use everywire_wire::kit::Pair;
use everywire_wire::{Answer, Ask};

use crate::setup;

fn publish(body: &str) -> String {
    format!("POST /v1/messages?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn published(pair: &Pair, offset: u64) -> Answer {
    Answer::Published(Ok(Published {
        epoch: Epoch(10),
        partition: Partition(0),
        offset: Offset(offset),
        time: pair.bench.now.wall,
        durability: Durability::Fsync,
        duplicate: false,
    }))
}

fn output(pair: &mut Pair) -> String {
    String::from_utf8(pair.bench.take_output()).unwrap()
}

fn parcel(pair: &Pair, offset: u64, body: &str) -> Parcel {
    let record = Record {
        partition: Partition(0),
        offset: Offset(offset),
        time: pair.bench.now.wall,
        durability: Durability::Fsync,
        content: Message::new(Topic::parse("a").unwrap(), body.to_owned()).into(),
    };
    Parcel::new(Arc::new(record), Epoch(10)).unwrap()
}

/// Sends without the scripted node.
fn send_only(pair: &mut Pair, bytes: &str) -> Vec<(AskId, Ask)> {
    pair.bench.send(bytes.as_bytes());
    pair.bench.take_asks()
}

#[test]
fn refusals_that_come_early_are_answered_in_their_turn() {
    let mut pair = setup::plain();
    let asks = send_only(&mut pair, &(publish("1") + &publish("2") + &publish("3")));
    assert_eq!(asks.len(), 3);
    pair.bench.answer(asks[2].0, Answer::Published(Err(PublishError::Busy.into())));
    assert_eq!(output(&mut pair), "");
    let answer = published(&pair, 1);
    pair.bench.answer(asks[0].0, answer);
    assert_eq!(output(&mut pair).matches("200 OK").count(), 1);
    let answer = published(&pair, 2);
    pair.bench.answer(asks[1].0, answer);
    let rest = output(&mut pair);
    assert!(rest.find("200 OK").unwrap() < rest.find("503 Service Unavailable").unwrap(), "{rest}");
}

#[test]
fn an_ordered_key_is_answered_with_what_is_expected_or_that_it_had_come() {
    let mut pair = setup::plain();
    let asks = send_only(&mut pair, &(publish("1") + &publish("2") + &publish("3")));
    pair.bench.answer(asks[0].0, Answer::Published(Err(PublishError::OutOfOrder { expected: 7 }.into())));
    let ahead = output(&mut pair);
    assert!(ahead.starts_with("HTTP/1.1 409 ") && ahead.ends_with("\"expected\":7}"), "{ahead}");
    let Answer::Published(Ok(done)) = published(&pair, 5) else { panic!("it was published") };
    pair.bench.answer(asks[1].0, Answer::Published(Ok(Published { duplicate: true, ..done })));
    let known = output(&mut pair);
    assert!(known.contains("\"cursor\":\"a:5\"") && known.ends_with("\"duplicate\":true}"), "{known}");
    let forgotten = Published { duplicate: true, offset: Offset(0), ..done };
    pair.bench.answer(asks[2].0, Answer::Published(Ok(forgotten)));
    let unknown = output(&mut pair);
    assert!(unknown.ends_with("{\"topic\":\"a\",\"durability\":\"fsync\",\"duplicate\":true}"), "{unknown}");
}

#[test]
fn outstanding_publishes_are_bounded_and_the_socket_is_not_read_meanwhile() {
    let mut pair = setup::plain();
    let most = pair.bench.limits.pipelined_publishes;
    let asks = send_only(&mut pair, &publish("x").repeat(most + 10));
    assert_eq!(asks.len(), most);
    assert!(!pair.bench.is_open());
    let answer = published(&pair, 1);
    pair.bench.answer(asks[0].0, answer);
    assert_eq!(pair.bench.take_asks().len(), 1, "one answered makes room for one");
}

/// A pair that holds a few answers for a client that doesn't read.
fn narrow() -> (Pair, usize) {
    let mut pair = setup::named("narrow");
    pair.send("GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100).as_bytes());
    let answered = pair.node.calls().len();
    assert!((2..20).contains(&answered), "{answered} were answered");
    (pair, answered)
}

#[test]
fn a_client_that_reads_no_answers_is_answered_no_more_and_ends() {
    let (mut pair, answered) = narrow();
    assert!(!pair.bench.is_open());
    pair.advance(Duration::from_secs(76));
    assert_eq!(pair.node.calls().len(), answered);
    assert_eq!(pair.bench.closed(), Some(&Reason::SlowConsumer));
}

#[test]
fn a_client_that_reads_late_gets_every_answer_as_it_reads() {
    let (mut pair, _) = narrow();
    let mut answers = 0;
    while answers < 100 {
        let read = output(&mut pair).matches("HTTP/1.1 200 OK").count();
        assert!(read > 0, "nothing came after {answers}");
        answers += read;
        pair.run();
    }
    assert_eq!((answers, pair.node.calls().len()), (100, 100));
}

#[test]
fn a_client_that_ends_its_side_and_reads_late_gets_every_answer() {
    let mut pair = setup::named("narrow");
    let options = "OPTIONS /v1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n";
    pair.bench.send(options.repeat(100).as_bytes());
    pair.end();
    let mut answers = 0;
    while pair.bench.closed().is_none() {
        answers += output(&mut pair).matches("HTTP/1.1 ").count();
        pair.run();
    }
    answers += output(&mut pair).matches("HTTP/1.1 ").count();
    assert_eq!(answers, 100);
}

#[test]
fn a_batch_is_one_ask_for_each_message_and_one_reply() {
    let mut pair = setup::plain();
    let messages = vec![r#"{"topic":"a","body":"hi"}"#; 1000].join(",");
    let body = format!("{{\"messages\":[{messages}]}}");
    let head = format!("POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    let asks = send_only(&mut pair, &(head + &body));
    assert_eq!(asks.len(), 1000);
    for (i, (ask, _)) in asks.iter().enumerate().rev() {
        assert_eq!(output(&mut pair), "");
        let answer = published(&pair, i as u64 + 1);
        pair.bench.answer(*ask, answer);
    }
    let reply = output(&mut pair);
    let cursors: Vec<_> = reply.match_indices("\"cursor\":\"a:").map(|(at, m)| &reply[at + m.len()..]).collect();
    assert_eq!(cursors.len(), 1000);
    assert!(cursors[0].starts_with("1\"") && cursors[999].starts_with("1000\""), "in the order of the request");
}

#[test]
fn a_stream_has_room_until_its_bound_and_one_message_always_fits() {
    let mut pair = setup::plain();
    pair.send(b"GET /v1/events?topic=a&format=body HTTP/1.1\r\nHost: localhost\r\n\r\n");
    pair.bench.take_output();
    let bound = pair.bench.limits.outbox_bytes;
    let large = parcel(&pair, 1, &"x".repeat(2 * bound));
    assert_eq!(pair.bench.push(&Delivery::Message(&large, DeliveryOptions::PLAIN)), Taken::Yes, "the outbox was empty");
    assert_eq!(pair.bench.push(&Delivery::Message(&large, DeliveryOptions::PLAIN)), Taken::Full);
    let before = pair.bench.out.len();
    pair.advance(Duration::from_mins(1));
    assert_eq!(pair.bench.out.len(), before, "no heartbeat is queued for a peer that doesn't read");
}

#[test]
fn subscribers_of_one_format_share_one_rendition() {
    let mut pair = setup::plain();
    let mut other = setup::plain();
    for pair in [&mut pair, &mut other] {
        pair.send(b"GET /v1/events?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    let parcel = parcel(&pair, 1, "hi");
    pair.bench.push(&Delivery::Message(&parcel, DeliveryOptions::PLAIN));
    other.bench.push(&Delivery::Message(&parcel, DeliveryOptions::PLAIN));
    let made = parcel.rendition(Format { name: "http.events.json", framing: "chunked" }, |_, _| {
        panic!("it was made for the first subscriber")
    });
    assert_eq!(Rc::strong_count(&made), 4, "the parcel, both outboxes and this one hold the same bytes");
}

#[test]
fn deliveries_that_come_too_late_are_dropped_without_a_word() {
    let mut pair = setup::plain();
    pair.send(b"GET /v1/messages?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    pair.bench.take_output();
    let late = parcel(&pair, 1, "late");
    assert_eq!(pair.bench.push(&Delivery::Message(&late, DeliveryOptions::PLAIN)), Taken::Yes);
    pair.bench.settle();
    assert_eq!(output(&mut pair), "");
}

#[test]
fn a_short_poll_waits_for_its_history_but_not_for_ever() {
    let mut pair = setup::plain();
    let asks = send_only(&mut pair, "GET /v1/messages?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let cursor = pair.bench.position.cursor.clone();
    pair.bench.position.live = false;
    let granted = Subscribed { cursor, refused: vec![], gap: false };
    pair.bench.answer(asks[0].0, Answer::Subscribed(granted));
    pair.bench.settle();
    assert_eq!(output(&mut pair), "");
    let deadline = pair.bench.next_deadline().unwrap();
    pair.bench.move_clock(deadline);
    pair.bench.tick();
    let reply = output(&mut pair);
    assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("\r\nRetry-After: 1\r\n"), "{reply}");
}

#[test]
fn a_poll_whose_time_is_over_tells_the_gap_that_it_began_with() {
    for (request, told) in [
        ("GET /v1/messages?topic=a&wait=9&after=zz:7", "\"gap\":true"),
        ("GET /v1/messages?topic=a&after=zz:7", "\"gap\":true"),
        ("GET /polling/watch/a", "Everywire-Gap: true"),
    ] {
        let mut pair = setup::plain();
        let asks = send_only(&mut pair, &format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        let cursor = pair.bench.position.cursor.clone();
        pair.bench.position.live = false;
        pair.bench.answer(asks[0].0, Answer::Subscribed(Subscribed { cursor, refused: vec![], gap: true }));
        pair.bench.settle();
        assert_eq!(output(&mut pair), "", "{request}: the gap has its place among the messages");
        let deadline = pair.bench.next_deadline().unwrap();
        pair.bench.move_clock(deadline);
        pair.bench.tick();
        let reply = output(&mut pair);
        assert!(reply.contains(told), "{request}: {reply}");
    }
}

#[test]
fn the_wire_says_what_it_speaks() {
    for (request, name) in [
        ("GET /v1/messages?topic=a&wait=9", "longpoll"),
        ("GET /polling/watch/a", "longpoll"),
        ("GET /v1/events?topic=a", "sse"),
        ("GET /v1/stream?topic=a", "stream"),
        ("GET /v1/messages?topic=a", "http"),
    ] {
        let mut pair = setup::plain();
        pair.send(format!("{request} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        assert_eq!(pair.bench.name(), name, "{request}");
    }
}

#[test]
fn the_api_sees_the_request_without_what_belongs_to_one_hop() {
    let mut pair = setup::plain();
    pair.send(
        b"HEAD /v1/topics?filter=a HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\nAuthorization: Bearer alice\r\n\r\n",
    );
    let call = &pair.node.calls()[0];
    assert_eq!((&*call.method, &*call.target), ("GET", "/v1/topics?filter=a"));
    let names: Vec<&str> = call.headers.iter().map(|h| &*h.0).collect();
    assert_eq!(names, ["Host"], "what proves who it is, is the wire's alone");
    assert_eq!(call.identity.as_ref().and_then(|who| who.user.as_deref()), Some("alice"));
}

/// The bytes that lead into each state of the wire in which it owes an answer or none, and the state's name.
const STATES: &[(&str, &str)] = &[
    ("", "between requests"),
    ("GET /v1", "within a head"),
    ("POST /v1/messages?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1", "within a body"),
    ("POST /v1/messages?topic=a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1", "publishing"),
    (
        "POST /v1/batch HTTP/1.1\r\nHost: localhost\r\nContent-Length: 28\r\n\r\n{\"messages\":[{\"topic\":\"a\"}]}",
        "in a batch",
    ),
    ("GET /v1/messages?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n", "subscribing"),
    ("GET /none HTTP/1.1\r\nHost: localhost\r\n\r\n", "calling"),
];

#[test]
fn answers_and_verbs_that_a_state_does_not_expect_change_nothing() {
    for (request, state) in STATES {
        let mut pair = setup::plain();
        send_only(&mut pair, request);
        let (open, deadline) = (pair.bench.is_open(), pair.bench.next_deadline());
        let cursor = pair.bench.position.cursor.clone();
        let granted = Subscribed { cursor, refused: vec![], gap: false };
        let stranger = AskId(77);
        for answer in [published(&pair, 1), Answer::Subscribed(granted), Answer::Called(None)] {
            pair.bench.answer(stranger, answer);
        }
        pair.bench.settle();
        pair.bench.tick();
        let late = parcel(&pair, 1, "late");
        assert_eq!(pair.bench.push(&Delivery::Message(&late, DeliveryOptions::PLAIN)), Taken::Yes, "{state}");
        assert_eq!(output(&mut pair), "", "{state}");
        assert_eq!((pair.bench.is_open(), pair.bench.next_deadline()), (open, deadline), "{state}");
        assert!(pair.bench.closed().is_none() && pair.bench.take_asks().is_empty(), "{state}");
    }
}

#[test]
fn the_peers_end_closes_every_state_and_only_after_what_is_owed() {
    for (request, state) in STATES {
        let mut pair = setup::plain();
        pair.send(request.as_bytes());
        pair.end();
        assert!(pair.bench.closed().is_some(), "{state}");
        let owes = request.ends_with("\r\n\r\n") || state == &"publishing" || state == &"in a batch";
        assert_eq!(output(&mut pair).contains("HTTP/1.1 20"), owes, "{state}");
    }
}
