//! The greatest number of units in one segment: every packet of MQTT, every frame of the native protocol on TCP and
//! WebSocket, pipelined requests of HTTP. The server survives it and serves others.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use everywire_tests::mqtt::{Opening, packet, publish, text};
use everywire_tests::native::{field, framed, masked, upgrade};
use everywire_tests::{Request, Server};

/// The bytes of one burst: several times as many as the server reads at once.
const BURST: usize = 256 << 10;
/// The number of filters of one packet: more than any client in use sends at once.
const FILTERS: usize = 20_000;

fn start() -> Server {
    Server::with("[limits]\nfilter_bytes = \"4MiB\"\n")
}

/// Sends an opening and then a burst of one unit, reads until the server ends the connection, and checks that others
/// are served.
fn burst(server: &Server, address: SocketAddr, opening: &[u8], (what, thing): (&str, &[u8])) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    let mut other = stream.try_clone().expect("a second handle");
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        // A server that refuses may close while we still send: then the system may report it here.
        let _ = other.read_to_end(&mut said);
        said
    });
    for bytes in [opening, &thing.repeat((BURST / thing.len()).max(1))] {
        let _ = stream.write_all(bytes); // as above
    }
    let _ = stream.shutdown(Shutdown::Write);
    let said = reader.join().expect("the reader ends");
    let response = server.send(&Request::post("/v1/messages?topic=other", what));
    assert_eq!(response.status, 200, "after {what}: {response:?}");
    said
}

#[test]
fn mqtt_packets() {
    let server = start();
    let many = |qos: &[u8]| {
        let filters = (0..FILTERS).flat_map(|n| [&text(&format!("a/{n}")), qos].concat());
        [0, 9].into_iter().chain(filters).collect::<Vec<u8>>()
    };
    let numbered = |first, rest: &[u8]| packet(first, &[&[0, 7], rest].concat());
    for (what, thing) in [
        ("PUBLISH at QoS 0", publish("t", "")),
        ("PUBLISH at QoS 1", packet(0x32, &[&text("t")[..], &[0, 7]].concat())),
        ("PUBLISH at QoS 2", packet(0x34, &[&text("t")[..], &[0, 7]].concat())),
        ("PUBACK", numbered(0x40, &[])),
        ("PUBREC", numbered(0x50, &[])),
        ("PUBREL", numbered(0x62, &[])),
        ("PUBCOMP", numbered(0x70, &[])),
        ("SUBSCRIBE", numbered(0x82, &[0, 1, b't', 2])),
        ("SUBSCRIBE with 20,000 filters", packet(0x82, &many(&[2]))),
        ("UNSUBSCRIBE", numbered(0xa2, &[0, 1, b't'])),
        ("UNSUBSCRIBE with 20,000 filters", packet(0xa2, &many(&[]))),
        ("PINGREQ", packet(0xc0, &[])),
    ] {
        let said = burst(&server, server.address_of("mqtt"), &Opening::new("c").bytes(), (what, &thing));
        assert_eq!(said[..4], [0x20, 2, 0, 0], "{what}: CONNACK");
    }
}

#[test]
fn native_frames_on_tcp() {
    let server = start();
    let topics: Vec<u8> = (0..FILTERS).flat_map(|n| field(2, format!("a/{n}").as_bytes())).collect();
    let (id, topic) = ([8, 1], field(2, b"t"));
    for (what, frame) in [
        ("hello", field(1, &[])),
        ("hello with a session", field(1, &field(3, b"new"))),
        ("hello with a token", field(1, &field(1, b"x"))),
        ("subscribe", field(2, &[&id[..], &topic].concat())),
        ("subscribe to 20,000", field(2, &[&id[..], &topics].concat())),
        ("unsubscribe", field(3, &[&id[..], &topic].concat())),
        ("unsubscribe from 20,000", field(3, &[&id[..], &topics].concat())),
        ("publish", field(4, &[&id[..], &topic].concat())),
        ("ack", field(5, &field(1, b"a:1"))),
        ("ack of no cursor", field(5, &field(1, b"x"))),
        ("ping", field(6, &[])),
        ("pong", field(7, &[])),
        ("nothing known", field(15, &[])),
    ] {
        burst(&server, server.address_of("tcp"), b"EVERYW/1", (what, &framed(&frame)));
    }
}

#[test]
fn native_frames_on_websocket() {
    let server = start();
    let topics = (0..FILTERS).map(|n| format!("\"a/{n}\"")).collect::<Vec<_>>().join(",");
    for (what, frame) in [
        ("hello", r#"{"hello":{}}"#.to_owned()),
        ("hello with a session", r#"{"hello":{"session":"new"}}"#.into()),
        ("subscribe", r#"{"subscribe":{"id":1,"topics":["t"]}}"#.into()),
        ("subscribe to 20,000", format!(r#"{{"subscribe":{{"id":1,"topics":[{topics}]}}}}"#)),
        ("unsubscribe from 20,000", format!(r#"{{"unsubscribe":{{"id":1,"topics":[{topics}]}}}}"#)),
        ("publish", r#"{"publish":{"id":1,"topic":"t"}}"#.into()),
        ("ack", r#"{"ack":{"cursor":"a:1"}}"#.into()),
        ("ping", r#"{"ping":{}}"#.into()),
        ("nothing known", r#"{"x":{}}"#.into()),
        ("brackets", "[".repeat(BURST)),
        ("braces", "{\"x\":".repeat(BURST / 5)),
        ("a body of brackets", format!(r#"{{"publish":{{"id":1,"topic":"t","body":{}}}}}"#, "[".repeat(BURST))),
    ] {
        let said = burst(&server, server.address(), upgrade().as_bytes(), (what, &masked(1, frame.as_bytes())));
        assert!(said.starts_with(b"HTTP/1.1 101 "), "{what}: {}", String::from_utf8_lossy(&said));
    }
    burst(&server, server.address(), upgrade().as_bytes(), ("pings", &masked(9, b"")));
    burst(&server, server.address(), upgrade().as_bytes(), ("empty continuations", &masked(0, b"")));
}

#[test]
fn pipelined_requests() {
    let server = start();
    let head = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n");
    for (what, request, status) in [
        ("publish", head("POST /v1/messages?topic=t") + "Content-Length: 0\r\n\r\n", "200"),
        ("poll", head("GET /v1/messages?topic=t&after=latest") + "\r\n", "204"),
        ("call", head("GET /v1/topics?filter=nothing") + "\r\n", "200"),
        ("batch", head("POST /v1/batch") + "Content-Length: 15\r\n\r\n{\"messages\":[]}", "200"),
        ("credentials", head("GET /v1/messages?topic=t") + "Authorization: Bearer x\r\n\r\n", "401"),
        ("nothing there", head("GET /nothing") + "\r\n", "404"),
    ] {
        let said = burst(&server, server.address(), b"", (what, request.as_bytes()));
        let said = String::from_utf8_lossy(&said);
        let answers = said.matches(&format!("HTTP/1.1 {status} ")).count();
        assert_eq!(answers, BURST / request.len(), "{what}: each is answered: {}", &said[..said.len().min(300)]);
    }
}
