//! Frames in protobuf on TCP, and the worked bytes of docs/protocol.md.

use everywire_base::reason::Reason;
use everywire_base::record::Message;
use everywire_base::topic::Topic;
use everywire_native_frames::{
    self as pb, ClientFrame, Encode, Length, PREAMBLE, ServerFrame, client_frame, server_frame,
};
use everywire_wire::kit::Pair;
use std::time::Duration;

use crate::setup;

fn bytes(frame: client_frame::Frame) -> Vec<u8> {
    let mut out = Vec::new();
    pb::frame(&ClientFrame { frame: Some(frame) }.encode_to_vec(), &mut out);
    out
}

fn said(pair: &mut Pair) -> Vec<server_frame::Frame> {
    let output = pair.bench.take_output();
    let (mut rest, mut frames) = (&output[..], Vec::new());
    while !rest.is_empty() {
        let Length::Known(len, at) = pb::length(rest) else { panic!("a length") };
        let (frame, more) = rest[at..].split_at(len as usize);
        frames.push(ServerFrame::decode(frame).unwrap().frame.unwrap());
        rest = more;
    }
    frames
}

fn begun() -> Pair {
    let mut pair = setup::tcp();
    pair.send(PREAMBLE);
    pair
}

fn ask(pair: &mut Pair, frame: client_frame::Frame) -> Vec<server_frame::Frame> {
    pair.send(&bytes(frame));
    said(pair)
}

fn subscribe(id: u64, topic: &str) -> client_frame::Frame {
    client_frame::Frame::Subscribe(pb::Subscribe { id, topics: vec![topic.into()], after: String::new() })
}

#[test]
fn a_message_comes_as_it_was_published() {
    let mut pair = begun();
    assert!(matches!(&ask(&mut pair, subscribe(1, "a"))[..], [server_frame::Frame::Subscribed(s)] if s.id == 1));
    let body = vec![0, 1, 255];
    let publish = pb::Publish { id: 2, topic: "a".into(), body: body.clone(), event: "e".into(), ..Default::default() };
    let frames = ask(&mut pair, client_frame::Frame::Publish(publish));
    let [server_frame::Frame::Published(done), server_frame::Frame::Message(message)] = &frames[..] else {
        panic!("{frames:?}")
    };
    assert_eq!((done.id, &*done.durability, &done.message), (2, "fsync", &message.id));
    assert_eq!((&message.body, &*message.event, &*message.topic), (&body, "e", "a"));
    assert_eq!(message.cursor, done.cursor);
}

#[test]
fn where_nothing_is_granted_an_error_is_the_only_answer() {
    let mut pair = begun();
    let frames = ask(&mut pair, subscribe(7, "closed/x"));
    assert!(matches!(&frames[..], [server_frame::Frame::Error(e)] if (e.id, e.code) == (7, 403)), "{frames:?}");
}

#[test]
fn a_retained_message_carries_the_cursor_at_which_its_subscription_begins() {
    let mut pair = begun();
    let publish = pb::Publish { id: 1, topic: "a".into(), body: b"old".to_vec(), retain: true, ..Default::default() };
    ask(&mut pair, client_frame::Frame::Publish(publish));
    let other = pb::Publish { id: 2, topic: "b".into(), ..Default::default() };
    ask(&mut pair, client_frame::Frame::Publish(other));
    let frames = ask(&mut pair, subscribe(3, "a"));
    let [server_frame::Frame::Subscribed(begun), server_frame::Frame::Message(kept)] = &frames[..] else {
        panic!("{frames:?}")
    };
    assert_eq!((kept.retained, &kept.cursor, &*kept.cursor), (true, &begun.cursor, "a:2"));
}

#[test]
fn a_message_says_what_it_answers() {
    let mut pair = begun();
    ask(&mut pair, subscribe(1, "a"));
    let answered = "01M82E65Y10000000000000001";
    let publish = pb::Publish { id: 2, topic: "a".into(), r#ref: answered.into(), ..Default::default() };
    let frames = ask(&mut pair, client_frame::Frame::Publish(publish.clone()));
    let told = frames.iter().find_map(|frame| match frame {
        server_frame::Frame::Message(message) => Some(&*message.r#ref),
        _ => None,
    });
    assert_eq!(told, Some(answered), "{frames:?}");
    let wrong = pb::Publish { r#ref: "the last one".into(), ..publish };
    let frames = ask(&mut pair, client_frame::Frame::Publish(wrong));
    assert!(matches!(&frames[..], [server_frame::Frame::Error(e)] if (e.id, e.code) == (2, 400)), "{frames:?}");
}

#[test]
fn history_is_read_backwards() {
    let mut pair = begun();
    for id in 1..=3 {
        let publish = pb::Publish { id, topic: "a".into(), body: vec![id as u8], ..Default::default() };
        ask(&mut pair, client_frame::Frame::Publish(publish));
    }
    let history = pb::History { id: 7, topic: "a".into(), limit: 2, ..Default::default() };
    let frames = ask(&mut pair, client_frame::Frame::History(history));
    let [server_frame::Frame::History(page)] = &frames[..] else { panic!("{frames:?}") };
    let bodies: Vec<_> = page.messages.iter().map(|m| m.body.clone()).collect();
    assert_eq!((page.id, bodies, &*page.before, page.more, page.gap), (7, vec![vec![2], vec![3]], "a:2", true, false));
}

#[test]
fn a_frame_larger_than_the_drivers_buffer() {
    let mut pair = begun();
    pair.bench.rules = everywire_base::rules::Rules::new(vec![everywire_base::rules::TopicRule {
        max_message: 1 << 20,
        ..everywire_base::rules::TopicRule::fallback()
    }]);
    let publish = pb::Publish { id: 1, topic: "a".into(), body: vec![7; 900_000], ..Default::default() };
    let bytes = [bytes(client_frame::Frame::Publish(publish)), bytes(client_frame::Frame::Ping(pb::Ping {}))].concat();
    for piece in bytes.chunks(10_000) {
        pair.send(piece);
    }
    let frames = said(&mut pair);
    assert!(frames.contains(&server_frame::Frame::Pong(pb::Pong {})), "{frames:?}");
    assert_eq!(pair.node.published()[0].message().unwrap().body.len(), 900_000);
}

#[test]
fn any_cut_of_the_bytes() {
    let publish = pb::Publish { id: 2, topic: "a".into(), body: vec![1; 300], ..Default::default() };
    let hello = pb::Hello { token: "ann".into(), session: "new".into(), ..Default::default() };
    let all = [
        PREAMBLE.to_vec(),
        bytes(client_frame::Frame::Hello(hello)),
        bytes(subscribe(1, "a")),
        bytes(client_frame::Frame::Publish(publish)),
    ]
    .concat();
    let mut whole = setup::tcp();
    whole.send(&all);
    let expected = said(&mut whole);
    assert_eq!(expected.len(), 4);
    for cut in 0..all.len() {
        let mut pair = setup::tcp();
        pair.send(&all[..cut]);
        pair.send(&all[cut..]);
        assert_eq!(said(&mut pair), expected, "cut at {cut}");
    }
}

/// RULES 24.
#[test]
fn what_does_not_begin_as_it_must_is_closed_without_a_word() {
    for other in [&b"POST / HTTP/1.1\r\n"[..], b"EVERYW/2", b"\0"] {
        let mut pair = setup::tcp();
        pair.send(other);
        assert!(matches!(pair.bench.closed(), Some(Reason::Protocol(_))));
        assert!(pair.bench.take_output().is_empty());
    }
    let mut pair = setup::tcp();
    pair.send(b"EVERY");
    pair.advance(Duration::from_secs(10));
    assert_eq!(pair.bench.closed(), Some(&Reason::Timeout));
}

#[test]
fn frames_that_are_too_long_or_none() {
    let mut pair = begun();
    pair.send(&[0xff, 0xff, 0xff, 0x7f]);
    let frames = said(&mut pair);
    assert!(matches!(&frames[..], [server_frame::Frame::Error(e), server_frame::Frame::Close(_)] if e.code == 413));
    assert!(matches!(pair.bench.closed(), Some(Reason::TooLarge(_))));
    let mut pair = begun();
    pair.send(&[0xff; 10]);
    assert!(matches!(&said(&mut pair)[..], [server_frame::Frame::Close(c)] if c.code == 400 && !c.reconnect));
    let mut pair = begun();
    pair.send(&[2, 0xff, 0xff]);
    assert!(matches!(&said(&mut pair)[..], [server_frame::Frame::Error(e)] if e.code == 400));
    assert_eq!(ask(&mut pair, client_frame::Frame::Ping(pb::Ping {})), [server_frame::Frame::Pong(pb::Pong {})]);
    // A frame of a later version: field 99.
    pair.send(&[3, 0x9a, 0x06, 0x00]);
    assert!(matches!(&said(&mut pair)[..], [server_frame::Frame::Error(e)] if e.code == 400));
}

#[test]
fn a_silent_client_is_asked_and_then_given_up() {
    let mut pair = begun();
    pair.advance(Duration::from_secs(25));
    assert_eq!(said(&mut pair), [server_frame::Frame::Ping(pb::Ping {})]);
    assert_eq!(ask(&mut pair, client_frame::Frame::Pong(pb::Pong {})), []);
    pair.advance(Duration::from_secs(49));
    assert_eq!(said(&mut pair), [server_frame::Frame::Ping(pb::Ping {})]);
    pair.advance(Duration::from_secs(1));
    assert!(matches!(&said(&mut pair)[..], [server_frame::Frame::Close(c)] if c.reason == "timeout" && c.reconnect));
    assert_eq!(pair.bench.closed(), Some(&Reason::Timeout));
}

#[test]
fn a_reader_who_is_slow_lags_and_gets_all_of_it() {
    let mut pair = begun();
    ask(&mut pair, subscribe(1, "a"));
    for n in 0..100 {
        let body = vec![n; 10_000];
        pair.node.publish(Message::new(Topic::parse("a").unwrap(), body), pair.bench.now.wall);
    }
    let mut got = Vec::new();
    while got.len() < 100 {
        pair.run();
        let frames = said(&mut pair);
        assert!(!frames.is_empty(), "stopped after {}", got.len());
        got.extend(frames.into_iter().map(|frame| match frame {
            server_frame::Frame::Message(message) => message.body[0],
            other => panic!("{other:?}"),
        }));
    }
    assert_eq!(got, (0..100).collect::<Vec<u8>>());
}

#[test]
fn a_client_that_reads_no_answers_is_answered_no_more_until_it_does() {
    let mut pair = begun();
    pair.bench.limits.unread_bytes = 1000;
    let asks = bytes(client_frame::Frame::Ping(pb::Ping {})).repeat(10_000);
    pair.send(&asks);
    assert!(!pair.bench.is_open() && pair.bench.out.len() < 1100, "{} bytes wait", pair.bench.out.len());
    let mut pongs = 0;
    while pongs < 10_000 {
        let frames = said(&mut pair);
        assert!(!frames.is_empty(), "nothing came after {pongs}");
        pongs += frames.len();
    }
}

/// Every line `→ bytes` and `← bytes` of the worked example in docs/protocol.md.
#[test]
fn the_worked_bytes_of_the_documentation() {
    let text = include_str!("../../../../../docs/protocol.md");
    let example = text.split("## Worked bytes").nth(1).unwrap().split("\n## ").next().unwrap();
    let hex = |line: &str| -> Vec<u8> {
        let digits = line.split("  ").next().unwrap();
        digits.split(' ').filter(|d| !d.is_empty()).map(|d| u8::from_str_radix(d, 16).unwrap()).collect()
    };
    let mut pair = setup::tcp();
    let (mut lines, mut expected) = (0, Vec::new());
    for line in example.lines() {
        if let Some(sent) = line.strip_prefix("→ ") {
            assert_eq!(pair.bench.take_output(), std::mem::take(&mut expected), "before {line}");
            pair.send(&hex(sent));
            lines += 1;
        } else if let Some(got) = line.strip_prefix("← ") {
            expected.extend(hex(got));
            lines += 1;
        }
    }
    assert_eq!(pair.bench.take_output(), expected);
    assert!(lines >= 8, "the example is there");
}
