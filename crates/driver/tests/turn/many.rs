//! Every packet, frame and request in its greatest number in one segment: the stack is bounded, whatever comes.
//!
//! A worker's thread has two megabytes of stack, as a test's has.

use everywire_base::limits::Limits;
use everywire_native_frames::client_frame::Frame;
use everywire_native_frames::{Ack, ClientFrame, Encode as _, Hello, Ping, Pong, Publish, Subscribe, Unsubscribe};

use crate::packets::{connect, http, mqtt, native, packet, publish, text};
use crate::setup::World;

/// The bytes of one segment, which are read at once.
const SEGMENT: usize = 64 << 10;

/// A client that sends an opening and then as many of one thing as one segment holds; it must still be served.
fn sends(world: &mut World, opening: &[u8], thing: &[u8]) -> usize {
    let client = world.client();
    world.script().send(client, opening);
    world.turns(4);
    let all = thing.repeat((SEGMENT / thing.len()).max(1));
    world.script().send(client, &all);
    world.turns(SEGMENT / 512);
    client
}

fn numbered(first: u8, rest: &[u8]) -> Vec<u8> {
    packet(first, &[&[0, 7], rest].concat())
}

#[test]
fn mqtt_packets() {
    let mut filters = vec![0, 9];
    for n in 0..8000 {
        filters.extend(text(&format!("a/{n}")));
        filters.push(0);
    }
    let names: Vec<u8> = [0, 9].into_iter().chain((0..8000).flat_map(|n| text(&format!("a/{n}")))).collect();
    let things = [
        ("PUBLISH at QoS 0", publish("t", "")),
        ("PUBLISH at QoS 1", packet(0x32, &[&text("t")[..], &[0, 7]].concat())),
        ("PUBLISH at QoS 2", packet(0x34, &[&text("t")[..], &[0, 7]].concat())),
        ("PUBACK", numbered(0x40, &[])),
        ("PUBREC", numbered(0x50, &[])),
        ("PUBREL", numbered(0x62, &[])),
        ("PUBCOMP", numbered(0x70, &[])),
        ("SUBSCRIBE", numbered(0x82, &[0, 1, b't', 2])),
        ("UNSUBSCRIBE", numbered(0xa2, &[0, 1, b't'])),
        ("SUBSCRIBE with 8,000 filters", packet(0x82, &filters)),
        ("UNSUBSCRIBE with 8,000 filters", packet(0xa2, &names)),
        ("PINGREQ", packet(0xc0, &[])),
    ];
    for (what, thing) in things {
        println!("{what}");
        let mut world = World::new(Limits::default(), mqtt);
        let client = sends(&mut world, &connect("c", 2, 0), &thing);
        let said = world.script().receive(client);
        assert_eq!(said[..4], [0x20, 2, 0, 0], "{what}: CONNACK");
        assert!(!world.see().link(client).closed, "{what}: the connection lives on");
    }
}

fn framed(frame: Frame) -> Vec<u8> {
    let mut bytes = Vec::new();
    everywire_native_frames::frame(&ClientFrame { frame: Some(frame) }.encode_to_vec(), &mut bytes);
    bytes
}

#[test]
fn native_frames() {
    let topics = |count: usize| (0..count).map(|n| format!("a/{n}")).collect();
    let subscribe = |id, topics| Frame::Subscribe(Subscribe { id, topics, ..Subscribe::default() });
    let unsubscribe = |id, topics| Frame::Unsubscribe(Unsubscribe { id, topics });
    let ack = |cursor: &str| Frame::Ack(Ack { cursor: cursor.into() });
    let things = [
        ("hello", Frame::Hello(Hello::default())),
        ("hello with a session", Frame::Hello(Hello { session: "new".into(), ..Hello::default() })),
        ("hello with a token", Frame::Hello(Hello { token: "x".into(), ..Hello::default() })),
        ("subscribe", subscribe(1, topics(1))),
        ("subscribe to 8,000", subscribe(1, topics(8000))),
        ("unsubscribe", unsubscribe(1, topics(1))),
        ("unsubscribe from 8,000", unsubscribe(1, topics(8000))),
        ("publish", Frame::Publish(Publish { id: 1, topic: "t".into(), ..Publish::default() })),
        ("ack", ack("a:1")),
        ("ack of what is no cursor", ack("x")),
        ("ping", Frame::Ping(Ping {})),
        ("pong", Frame::Pong(Pong {})),
    ];
    for (what, thing) in things {
        println!("{what}");
        let mut world = World::new(Limits::default(), native);
        sends(&mut world, b"EVERYW/1", &framed(thing));
        let client = sends(&mut world, b"EVERYW/1", &framed(Frame::Ping(Ping {})));
        assert!(!world.script().receive(client).is_empty(), "{what}: others are served");
    }
}

#[test]
fn pipelined_requests() {
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
    let things = [
        ("publish", head("POST /v1/messages?topic=t") + "Content-Length: 0\r\n\r\n"),
        ("poll", head("GET /v1/messages?topic=t&after=latest") + "\r\n"),
        ("call", head("GET /v1/topics") + "\r\n"),
        ("batch", head("POST /v1/batch") + "Content-Length: 15\r\n\r\n{\"messages\":[]}"),
        ("credentials", head("GET /v1/messages?topic=t") + "Authorization: Bearer x\r\n\r\n"),
        ("nothing there", head("GET /nothing") + "\r\n"),
    ];
    for (what, thing) in things {
        println!("{what}");
        let mut world = World::new(Limits::default(), http);
        let client = sends(&mut world, b"", thing.as_bytes());
        world.turns(2000);
        let said = String::from_utf8_lossy(&world.script().receive(client)).into_owned();
        assert_eq!(said.matches("HTTP/1.1 ").count(), SEGMENT / thing.len(), "{what}: each is answered");
    }
}
