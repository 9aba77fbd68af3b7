//! A burst, then goodbye: messages that a client sent before it ended the connection are taken, however fast it goes.
//! After an orderly goodbye there is no will (MQTT-3.14.4-3).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use everywire_tests::mqtt::{DISCONNECT, Mqtt, Opening, publish};
use everywire_tests::native::{field, framed, masked, upgrade};
use everywire_tests::{Request, Server, until};
use serde_json::Value;

/// The number of messages of a burst: more than may wait for the log at the same time.
const BURST: usize = 5000;

fn start() -> Server {
    Server::with("[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 1000000 }\n")
}

/// All messages kept on a topic, once there are as many as expected.
fn bodies(server: &Server, topic: &str, expected: usize) -> Vec<String> {
    let count = |server: &Server| {
        let listed = server.get(&format!("/v1/topics?filter={topic}")).json();
        listed["topics"].as_array().and_then(|topics| topics.first()?["count"].as_u64()).unwrap_or(0)
    };
    until("all messages are there", || count(server) >= expected as u64);
    let (mut all, mut after) = (Vec::new(), "earliest".to_owned());
    loop {
        let page = server.send(&Request::get(&format!("/v1/messages?topic={topic}&after={after}&limit=1000")));
        if page.status == 204 {
            return all;
        }
        all.extend(page.bodies());
        after = page.cursor();
        if page.json()["more"] == Value::Bool(false) {
            return all;
        }
    }
}

/// Sends all bytes, closes that side, and returns the server's bytes up to its end.
fn send_and_go(mut stream: TcpStream, all: &[u8]) -> Vec<u8> {
    let mut other = stream.try_clone().expect("a second handle");
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        other.read_to_end(&mut said).expect("what the server says");
        said
    });
    stream.write_all(all).expect("the server takes it");
    stream.shutdown(Shutdown::Write).expect("a side that ends");
    reader.join().expect("the reader ends")
}

fn numbers() -> Vec<String> {
    (0..BURST).map(|n| n.to_string()).collect()
}

#[test]
fn a_burst_of_mqtt_arrives_whole_and_there_is_no_will() {
    let server = start();
    for (n, keeps) in [false, true].into_iter().enumerate() {
        let topic = format!("burst/{n}");
        let opening = Opening { clean: !keeps, ..Opening::new("c").will("will", "died") };
        let mut client = Mqtt::open(server.address_of("mqtt"), &opening);
        let mut all: Vec<u8> = numbers().iter().flat_map(|n| publish(&topic, n)).collect();
        all.extend(DISCONNECT);
        client.send(&all);
        drop(client);
        assert!(bodies(&server, &topic, BURST) == numbers(), "all arrive, in order");
    }
    assert_eq!(server.get("/v1/messages?topic=will").status, 204, "and no will");
}

#[test]
fn a_burst_of_native_frames_arrives_whole() {
    let server = start();
    let of = |n: &String| framed(&field(4, &[&[8, 1][..], &field(2, b"burst"), &field(3, n.as_bytes())].concat()));
    let stream = TcpStream::connect(server.address_of("tcp")).expect("the server accepts");
    let all: Vec<u8> = b"EVERYW/1".iter().copied().chain(numbers().iter().flat_map(of)).collect();
    send_and_go(stream, &all);
    assert!(bodies(&server, "burst", BURST) == numbers(), "all arrive, in order");
}

#[test]
fn a_burst_on_websocket_arrives_whole() {
    let server = start();
    let of = |n: &String| masked(1, format!(r#"{{"publish":{{"id":1,"topic":"burst","body":"{n}"}}}}"#).as_bytes());
    let stream = TcpStream::connect(server.address()).expect("the server accepts");
    let all: Vec<u8> = upgrade().into_bytes().into_iter().chain(numbers().iter().flat_map(of)).collect();
    send_and_go(stream, &all);
    assert!(bodies(&server, "burst", BURST) == numbers(), "all arrive, in order");
}

#[test]
fn who_has_ended_its_side_gets_all_its_answers() {
    let server = start();
    let request = "POST /v1/messages?topic=burst HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    let stream = TcpStream::connect(server.address()).expect("the server accepts");
    let said = String::from_utf8(send_and_go(stream, request.repeat(BURST).as_bytes())).expect("answers");
    assert_eq!(said.matches("HTTP/1.1 200 ").count(), BURST);
}
