//! Publishing to a room whose head changes all the while: no wire's publisher notices.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use everywire_tests::mqtt::{self, packet};
use everywire_tests::native::{field, number};
use everywire_tests::people::{Person, configured, person, server};
use everywire_tests::{Cluster, Request, Server, until};
use serde_json::{Value, json};

/// The messages of each publisher.
const MESSAGES: usize = 60;

fn room() -> Value {
    json!({"talk": "voiced"})
}

/// Ends the changes, also when the publisher has failed.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Publishes while the owner changes the room, again and again. Gives the bodies that are in the room afterwards.
fn while_it_changes(server: &Server, ann: &Person, publish: impl FnOnce()) -> Vec<String> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                let status = ann.does(server, "PATCH", "/v1/rooms/hall", &json!({"about": format!("{number}")}));
                assert!(matches!(status, 200 | 429), "{status}");
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let _ends = Ends(&is_over);
        publish();
    });
    said(server, ann)
}

fn said(server: &Server, ann: &Person) -> Vec<String> {
    ann.get(server, "/v1/messages?topic=room/hall&after=earliest&limit=1000").bodies()
}

fn bodies() -> Vec<String> {
    (1..=MESSAGES).map(|number| number.to_string()).collect()
}

fn hall() -> (Server, Person, Person) {
    let server = server("");
    let (ann, bob) = (person("ann"), person("bob"));
    ann.found(&server, "hall", &room());
    assert_eq!(bob.join(&server, "hall"), 200);
    (server, ann, bob)
}

#[test]
fn over_http() {
    let (server, ann, bob) = hall();
    let came = while_it_changes(&server, &ann, || {
        let statuses: Vec<u16> = bodies().iter().map(|body| bob.says(&server, "hall", body)).collect();
        assert_eq!(statuses, [200; MESSAGES]);
    });
    assert_eq!(came, bodies());
}

#[test]
fn over_http_in_a_batch() {
    let (server, ann, bob) = hall();
    let came = while_it_changes(&server, &ann, || {
        for part in bodies().chunks(6) {
            let messages = part.iter().map(|body| json!({"topic": "room/hall", "body": body})).collect::<Vec<_>>();
            let answer = bob.ask(&server, "POST", "/v1/batch", &json!({ "messages": messages })).json();
            let statuses: Vec<&Value> = answer.as_array().unwrap().iter().map(|one| &one["status"]).collect();
            assert_eq!(statuses, [200; 6], "{answer}");
        }
    });
    assert_eq!(came, bodies());
}

/// Publishes all at once over WebSocket, under ordered keys.
fn publish_at_once(server: &Server, bob: &Person) {
    let mut socket = bob.socket(server);
    for (at, body) in bodies().iter().enumerate() {
        let key = format!("seq:p:{}", at + 1);
        socket.send(&json!({"publish": {"id": at + 1, "topic": "room/hall", "body": body, "key": key}}));
    }
    for id in 1..=MESSAGES {
        let published = socket.receive().expect("an answer");
        assert_eq!(published["published"]["id"], id, "{published}");
    }
}

#[test]
fn over_websocket_with_many_under_way() {
    let (server, ann, bob) = hall();
    let came = while_it_changes(&server, &ann, || publish_at_once(&server, &bob));
    assert_eq!(came, bodies());
}

#[test]
fn at_another_node() {
    let cluster = Cluster::with(&configured(""));
    let (ann, bob) = (person("ann"), person("bob"));
    let [near, far, _] = &cluster.nodes[..] else { panic!("three nodes") };
    ann.found(near, "hall", &room());
    assert_eq!(bob.join(near, "hall"), 200);
    until("the other node knows of it", || bob.get(far, "/v1/rooms/hall").json()["role"] == "member");
    while_it_changes(near, &ann, || publish_at_once(far, &bob));
    assert_eq!(said(far, &ann), bodies());
}

#[test]
fn over_tcp() {
    let (server, ann, bob) = hall();
    let came = while_it_changes(&server, &ann, || {
        let mut wired = bob.wired(&server);
        for (at, body) in bodies().iter().enumerate() {
            let id = number(1, at as u8 + 1);
            wired.send(&field(4, &[id, field(2, b"room/hall"), field(3, body.as_bytes())].concat()));
            wired.frame(4);
        }
    });
    assert_eq!(came, bodies());
}

#[test]
fn over_mqtt() {
    let (server, ann, bob) = hall();
    let came = while_it_changes(&server, &ann, || {
        let mut client = bob.mqtt(&server);
        for (at, body) in bodies().iter().enumerate() {
            let id = [0, at as u8 + 1];
            let is_once = at % 2 == 1;
            let first = if is_once { 0x34 } else { 0x32 };
            client.send(&packet(first, &[&mqtt::text("room/hall"), &id[..], body.as_bytes()].concat()));
            if is_once {
                assert_eq!(client.packet_of(5).expect("PUBREC"), id);
                client.send(&packet(0x62, &id));
                assert_eq!(client.packet_of(7).expect("PUBCOMP"), id);
            } else {
                assert_eq!(client.packet_of(4).expect("PUBACK"), id);
            }
        }
    });
    assert_eq!(came, bodies());
}

#[test]
fn who_is_banned_meanwhile_is_refused_as_such() {
    let (server, ann, bob) = hall();
    let says = || bob.send(&server, Request::post("/v1/messages?topic=room/hall", "x")).status;
    thread::scope(|scope| {
        let publisher = scope.spawn(|| (0..3 * MESSAGES).map(|_| says()).collect::<Vec<u16>>());
        while !publisher.is_finished() {
            for role in ["banned", "member"] {
                assert_eq!(ann.give(&server, "hall", "bob", role), 200);
            }
        }
        let statuses = publisher.join().unwrap();
        assert!(statuses.iter().all(|status| matches!(status, 200 | 403)), "{statuses:?}");
        assert!([200, 403].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    });
}
