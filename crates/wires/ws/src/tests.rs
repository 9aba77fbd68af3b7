//! WebSocket as a client at the other end notices it, section by section.

use everywire_base::clock::Monotonic;
use everywire_base::limits::Limits;
use everywire_base::reason::Reason;
use everywire_wire::kit::Bench;
use everywire_wire::{Answer, Context, Framing, Input, Kind, Progress, Then, Upgrade, UpgradeRequest, Wire};
use proptest::prelude::*;

use crate::deflate::{Plain, deflated};
use crate::echo::Echo;
use crate::{HEARTBEAT, Subprotocol, WebSocket, WsUpgrade, code_of};

const MASK: [u8; 4] = [1, 2, 3, 4];

fn echo() -> Bench {
    Bench::new(|_, now| Box::new(WebSocket::new(Box::new(Echo), &Plain, false, None, now)))
}

fn deflating() -> Bench {
    Bench::new(|_, now| Box::new(WebSocket::new(Box::new(Echo), deflated(15), true, None, now)))
}

/// A client's frame: the first byte as it is, the payload masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ ..=125 => frame.push(0x80 | len as u8),
        len @ ..=0xffff => {
            frame.push(0xfe);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(0xff);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The server's frames: first byte and payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, len, rest @ ..] = bytes {
        let (len, rest) = match len {
            126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 => (u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize, &rest[8..]),
            len => (usize::from(*len), rest),
        };
        frames.push((*first, rest[..len].to_vec()));
        bytes = &rest[len..];
    }
    frames
}

fn got(bench: &mut Bench) -> Vec<(u8, Vec<u8>)> {
    frames(&bench.take_output())
}

fn sent(bench: &mut Bench, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    bench.send(bytes);
    got(bench)
}

/// The code of the close frame that answers these bytes.
fn close_code(bytes: &[u8]) -> u16 {
    let mut bench = echo();
    let frames = sent(&mut bench, bytes);
    let (first, payload) = frames.last().expect("a close frame");
    assert_eq!(*first, 0x88);
    assert!(bench.closed().is_some());
    u16::from_be_bytes([payload[0], payload[1]])
}

/// §5.4, §5.5: fragments, with control frames between them.
#[test]
fn control_frames_come_between_fragments() {
    let mut bench = echo();
    assert_eq!(sent(&mut bench, &frame(0x01, b"Hel")), []);
    assert_eq!(sent(&mut bench, &frame(0x89, b"ping")), [(0x8a, b"ping".to_vec())]);
    assert_eq!(sent(&mut bench, &frame(0x00, b"")), []);
    assert_eq!(sent(&mut bench, &frame(0x8a, b"unasked")), []);
    assert_eq!(sent(&mut bench, &frame(0x80, b"lo")), [(0x81, b"Hello".to_vec())]);
}

#[test]
fn a_hundred_thousand_fragments_are_a_message() {
    let mut bench = echo();
    let mut bytes = frame(0x02, b"x");
    (0..100_000).for_each(|_| bytes.extend(frame(0x00, b"x")));
    bytes.extend(frame(0x80, b"x"));
    assert_eq!(sent(&mut bench, &bytes), [(0x82, vec![b'x'; 100_002])]);
}

/// §5.2, §5.4, §5.5: 1002.
#[test]
fn what_breaks_the_protocol() {
    let mut unmasked = frame(0x81, b"");
    unmasked[1] = 0;
    for (what, bytes) in [
        ("RSV1 without extension", frame(0xc1, b"x")),
        ("RSV2", frame(0xa1, b"x")),
        ("RSV3", frame(0x91, b"x")),
        ("opcode 3", frame(0x83, b"x")),
        ("opcode 0xb", frame(0x8b, b"x")),
        ("unmasked", unmasked),
        ("a continuation of nothing", frame(0x80, b"x")),
        ("two messages at once", [frame(0x01, b"x"), frame(0x81, b"x")].concat()),
        ("a fragmented ping", frame(0x09, b"x")),
        ("a long ping", frame(0x89, &[0; 126])),
        ("a close code of one byte", frame(0x88, b"x")),
        ("close 1005", frame(0x88, &1005u16.to_be_bytes())),
    ] {
        assert_eq!(close_code(&bytes), 1002, "{what}");
    }
}

/// §8.1: text is UTF-8, and other bytes are refused as soon as they show.
#[test]
fn text_that_is_not_utf8() {
    assert_eq!(close_code(&frame(0x81, b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80")), 1007);
    assert_eq!(close_code(&frame(0x81, b"\xce")), 1007, "the last character is cut off");
    assert_eq!(close_code(&[frame(0x01, b"\xf4"), frame(0x00, b"\x90")].concat()), 1007, "before the end");
    assert_eq!(close_code(&frame(0x88, b"\x03\xe8\xff")), 1007);
    let half_frame = &frame(0x81, b"a\xff and more")[..8];
    assert_eq!(close_code(half_frame), 1007, "before the end of the frame");
    let mut bench = echo();
    let split = [frame(0x01, b"\xf0\x9f"), frame(0x00, b"\x98"), frame(0x80, b"\x80")].concat();
    assert_eq!(sent(&mut bench, &split), [(0x81, "😀".as_bytes().to_vec())]);
}

/// §7.4.1: 1009, judged by the header.
#[test]
fn messages_over_the_bound() {
    let bound = Limits::default().message_bytes;
    let header_only = &frame(0x82, &vec![0; bound + 1])[..14];
    assert_eq!(close_code(header_only), 1009);
    let fragments = [frame(0x02, &vec![0; bound]), frame(0x80, b"x")[..6].to_vec()].concat();
    assert_eq!(close_code(&fragments), 1009);
    let mut bench = echo();
    assert_eq!(sent(&mut bench, &frame(0x82, &vec![7; bound])), [(0x82, vec![7; bound])]);
}

/// §5.5.1, §7.1.
#[test]
fn a_close_frame_is_answered_and_ends_it() {
    let mut bench = echo();
    assert_eq!(sent(&mut bench, &frame(0x88, b"\x0b\xb8bye")), [(0x88, b"\x0b\xb8".to_vec())]);
    assert_eq!(bench.closed(), Some(&Reason::Done));
    let mut bench = echo();
    assert_eq!(sent(&mut bench, &frame(0x88, b"")), [(0x88, vec![])]);
    let mut bench = echo();
    bench.end();
    assert_eq!(bench.closed(), Some(&Reason::PeerClosed));
}

#[test]
fn every_reason_has_a_code_that_may_be_sent() {
    let wait = std::time::Duration::ZERO;
    let reasons = [
        Reason::Timeout,
        Reason::Protocol("x"),
        Reason::TooLarge("x"),
        Reason::SlowConsumer,
        Reason::Unauthorized,
        Reason::Forbidden,
        Reason::Kicked("enough".into()),
        Reason::TakenOver,
        Reason::Expired,
        Reason::Drain(wait),
        Reason::Overloaded(wait),
        Reason::Internal,
        Reason::Done,
        Reason::PeerClosed,
    ];
    assert_eq!(reasons.len(), Reason::WORDS.len());
    for reason in reasons {
        let mut bench = echo();
        bench.farewell(&reason);
        let (first, payload) = got(&mut bench).pop().unwrap();
        assert_eq!((first, &payload[..2]), (0x88, &code_of(&reason).to_be_bytes()[..]));
        assert!(crate::close::answer(&payload).is_ok());
        assert_eq!(bench.closed(), Some(&reason));
    }
}

/// RFC 7692 §6.
#[test]
fn compressed_messages_come_and_go() {
    let text = "all work and no play ".repeat(100);
    let mut bench = deflating();
    let [(first, compressed)] = &sent(&mut bench, &frame(0x81, text.as_bytes()))[..] else { panic!("one frame") };
    assert_eq!(*first, 0xc1);
    assert!(compressed.len() < 200);
    // A message comes back as it went, also in fragments, of which only the first says that it is compressed.
    let (a, b) = compressed.split_at(20);
    let again = sent(&mut bench, &[frame(0x41, a), frame(0x80, b)].concat());
    assert_eq!(again, [(0xc1, compressed.clone())]);
    assert_eq!(sent(&mut bench, &frame(0x81, b"short")), [(0x81, b"short".to_vec())]);
    let mut bench = deflating();
    let bad = sent(&mut bench, &frame(0xc1, b"\xff\xff\xff\xff"));
    assert_eq!(bad[0].1[..2], 1002u16.to_be_bytes());
    for misplaced in [frame(0xc9, b""), [frame(0x01, b"x"), frame(0xc0, b"x")].concat()] {
        let mut bench = deflating();
        assert_eq!(sent(&mut bench, &misplaced).last().unwrap().1[..2], 1002u16.to_be_bytes());
    }
}

#[test]
fn a_silent_peer_is_asked_and_then_given_up() {
    let mut bench = echo();
    let at = |n: u32| Bench::START.monotonic + HEARTBEAT * n;
    let tick = |bench: &mut Bench, at: Monotonic| {
        assert_eq!(bench.next_deadline(), Some(at));
        bench.move_clock(at);
        bench.tick();
        got(bench)
    };
    assert_eq!(tick(&mut bench, at(1)), [(0x89, vec![])]);
    bench.send(&frame(0x8a, b""));
    assert_eq!(tick(&mut bench, at(2)), [(0x89, vec![])]);
    let last = tick(&mut bench, at(3));
    assert_eq!(last[0].1[..2], 3008u16.to_be_bytes());
    assert_eq!(bench.closed(), Some(&Reason::Timeout));
}

#[test]
fn pongs_are_not_piled_up_for_who_does_not_read() {
    let mut bench = echo();
    for _ in 0..10_000 {
        bench.send(&frame(0x89, &[0; 125]));
    }
    assert!(bench.take_output().len() <= bench.limits.outbox_bytes + 127);
}

#[test]
fn who_does_not_read_is_answered_no_more_until_it_does() {
    let mut bench = echo();
    bench.limits.unread_bytes = 1000;
    bench.send(&frame(0x82, &[b'x'; 100]).repeat(1000));
    assert!(!bench.is_open() && bench.out.len() < 1110, "{} bytes wait", bench.out.len());
    let mut messages = 0;
    while messages < 1000 {
        let more = got(&mut bench).len();
        assert!(more > 0, "nothing came after {messages}");
        messages += more;
    }
}

/// A stand-in for the HTTP wire: the first line is `METHOD PATH`, then the fields.
struct Opening(WsUpgrade);

impl Wire for Opening {
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress {
        let (Input::Bytes(bytes) | Input::End(bytes)) = input;
        let text = std::str::from_utf8(bytes).unwrap();
        let (first, fields) = text.split_once('\n').unwrap();
        let (method, path) = first.split_once(' ').unwrap();
        let fields: Vec<_> =
            fields.lines().filter_map(|l| l.split_once(": ")).map(|(n, v)| (n, v.as_bytes())).collect();
        assert!(self.0.serves(path) || path == "/v1/nothing");
        let request = UpgradeRequest { path, method, fields: &fields, identity: None };
        let then = match self.0.upgrade(cx, &request) {
            Ok(wire) => Then::Become(wire),
            Err(denied) => {
                cx.out.write(|out| out.extend_from_slice(format!("{} {:?}", denied.status, denied.fields).as_bytes()));
                Then::Open
            }
        };
        Progress { used: bytes.len(), then }
    }
    fn answer(&mut self, _: &mut Context<'_>, _: everywire_base::id::AskId, _: Answer) -> Then {
        Then::Open
    }
    fn push(&mut self, _: &mut Context<'_>, _: &everywire_base::parcel::Delivery<'_>) -> everywire_base::parcel::Taken {
        everywire_base::parcel::Taken::Yes
    }
    fn settle(&mut self, _: &mut Context<'_>) -> Then {
        Then::Open
    }
    fn deadline(&self) -> Option<Monotonic> {
        None
    }
    fn tick(&mut self, _: &mut Context<'_>) -> Then {
        Then::Open
    }
    fn farewell(&mut self, _: &mut Context<'_>, _: &Reason) -> Then {
        Then::Open
    }
    fn holds(&self) -> usize {
        0
    }

    fn name(&self) -> &'static str {
        "http"
    }
}

fn open(request: &str) -> (Bench, String) {
    let made = || Subprotocol { name: "one", also: Some("first"), make: Box::new(|_| Box::new(Echo)) };
    let upgrade = WsUpgrade::new(vec![made(), Subprotocol { name: "two", ..made() }]).with_echo(true);
    let mut bench = Bench::new(|_, _| Box::new(Opening(upgrade)));
    bench.send(request.as_bytes());
    let answer = String::from_utf8(bench.take_output()).unwrap();
    (bench, answer)
}

const GOOD: &str = "GET /v1/ws\nUpgrade: WebSocket\nConnection: keep-alive, Upgrade\nSec-WebSocket-Version: 13\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n";

/// A frame of 1 KB may become a message of 1 MB: one connection has no more of a turn than others.
#[test]
fn what_inflates_much_is_taken_turn_by_turn() {
    let mut bomb = Vec::new();
    deflated(15).frame(Kind::Text, &vec![b' '; 1 << 20], &mut bomb);
    let [(0xc1, bomb)] = &frames(&bomb)[..] else { panic!("not one compressed message") };
    assert!(bomb.len() < 16_384, "{}", bomb.len());
    let read = |bytes: &[u8], messages: usize| {
        let mut bench = deflating();
        bench.send(bytes);
        assert_eq!(got(&mut bench).len(), messages);
        bench.laters()
    };
    let one = frame(0xc1, bomb);
    assert_eq!(read(&one, 1), 0, "nothing is left");
    assert_eq!(read(&one.repeat(5), 5), 4);
    assert_eq!(read(&frame(0x81, b"as it is").repeat(5000), 5000), 0);
}

/// §1.3, §4.2.2.
#[test]
fn a_handshake_as_in_the_standard() {
    let (mut bench, answer) = open(GOOD);
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
    assert_eq!(sent(&mut bench, &frame(0x81, b"hi")), [(0x81, b"hi".to_vec())]);
    let (_, answer) = open(&format!("{GOOD}Sec-WebSocket-Protocol: zero, two\nSec-WebSocket-Protocol: one\n"));
    assert!(answer.contains("\r\nSec-WebSocket-Protocol: two\r\n"), "{answer}");
    let (_, answer) = open(&format!("{GOOD}Sec-WebSocket-Protocol: first\n"));
    assert!(answer.contains("\r\nSec-WebSocket-Protocol: first\r\n"), "by the name that it was asked for: {answer}");
    let (_, answer) = open(&format!("{GOOD}Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\n"));
    assert!(answer.contains("\r\nSec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover"));
    let (mut bench, answer) = open(&GOOD.replace("/v1/ws", "/v1/echo"));
    assert!(answer.starts_with("HTTP/1.1 101 "));
    let long = vec![b'x'; 2 << 20];
    assert_eq!(sent(&mut bench, &frame(0x82, &long)), [(0x82, long)]);
}

/// §4.2.1, §4.4.
#[test]
fn handshakes_that_are_not() {
    for (change, status) in [
        (("GET", "POST"), "405 [(\"Allow\", \"GET\")]"),
        (("Upgrade: WebSocket", "X: x"), "426 [(\"Upgrade\", \"websocket\"), (\"Connection\", \"Upgrade\")]"),
        (("keep-alive, Upgrade", "keep-alive"), "426 "),
        (("Version: 13", "Version: 8"), "426 [(\"Sec-WebSocket-Version\", \"13\")"),
        (("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "X: x"), "400 []"),
        (("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), "400 []"),
        (("Connection:", "Sec-WebSocket-Protocol: three\nConnection:"), "400 []"),
    ] {
        let (_, answer) = open(&GOOD.replace(change.0, change.1));
        assert!(answer.starts_with(status), "{change:?}: {answer}");
    }
    let doubled = format!("{GOOD}Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n");
    assert!(open(&doubled).1.starts_with("400 "));
}

proptest! {
    /// However messages are fragmented, and the bytes are cut, they come out whole and in order.
    #[test]
    fn any_cuts_of_any_fragments(
        messages in prop::collection::vec((any::<bool>(), "\\PC{0,40}", prop::collection::vec(0usize..40, 0..3)), 1..6),
        cuts in prop::collection::vec(1usize..30, 1..20),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for (is_text, text, splits) in &messages {
            let (opcode, body) = (if *is_text { 0x01 } else { 0x02 }, text.as_bytes());
            let mut at: Vec<usize> = splits.iter().map(|s| s % (body.len() + 1)).collect();
            at.extend([0, body.len()]);
            at.sort_unstable();
            let parts: Vec<&[u8]> = at.windows(2).map(|w| &body[w[0]..w[1]]).collect();
            for (i, part) in parts.iter().enumerate() {
                let first = if i == 0 { opcode } else { 0 } | if i + 1 == parts.len() { 0x80 } else { 0 };
                bytes.extend(frame(first, part));
            }
            expected.push((0x80 | opcode, body.to_vec()));
        }
        let mut bench = echo();
        let (mut rest, mut cuts) = (&bytes[..], cuts.into_iter().cycle());
        while !rest.is_empty() {
            let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            bench.send(now);
            rest = later;
        }
        prop_assert_eq!(got(&mut bench), expected);
    }

    /// Any bytes end in order: no panic, and only frames are written.
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bench = deflating();
        bench.send(&bytes);
        got(&mut bench);
    }
}
