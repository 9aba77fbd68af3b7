//! A client comes back while its former connection is still open, again and again, over two workers: it keeps its
//! session and gets every message. A goodbye holds even if the next connection overtakes it.

use everywire_tests::mqtt::{DISCONNECT, Mqtt, Opening, packet, text};
use everywire_tests::{Setup, tuned};

/// The number of times that it comes back.
fn times() -> usize {
    tuned("TAKEOVERS", 150)
}

/// Connects, and says whether the session was there.
fn enter(address: std::net::SocketAddr, opening: &Opening) -> (Mqtt, bool) {
    let mut client = Mqtt::dial(address);
    client.send(&opening.bytes());
    let (first, body) = client.packet().expect("CONNACK");
    assert_eq!((first, body.last()), (0x20, Some(&0)), "CONNACK: {body:?}");
    (client, body[0] == 1)
}

/// PUBACK for a PUBLISH of QoS 1.
fn puback(publish: &[u8]) -> Vec<u8> {
    let topic = usize::from(u16::from_be_bytes([publish[0], publish[1]]));
    packet(0x40, &publish[topic + 2..topic + 4])
}

#[test]
fn a_client_that_takes_itself_over_keeps_its_session_and_gets_every_message() {
    let server = Setup::new().argument("--workers").argument("2").start();
    let address = server.address_of("mqtt");
    let opening = Opening { clean: false, ..Opening::new("me") };
    let (mut client, _) = enter(address, &opening);
    client.send(&packet(0x82, &[&[0, 1][..], &text("news"), &[1]].concat()));
    client.packet_of(9).expect("SUBACK");
    for time in 0..times() {
        server.publish("news", &format!("{time};"));
        let (mut next, is_present) = enter(address, &opening);
        assert!(is_present, "take-over {time}: the session is gone");
        loop {
            let publish = next.packet_of(3).expect("a message");
            next.send(&puback(&publish));
            if publish.ends_with(format!("{time};").as_bytes()) {
                break;
            }
        }
        // The former connection is closed only now.
        client = next;
    }
    drop(client);
}

#[test]
fn a_goodbye_holds_though_the_next_connection_overtakes_it() {
    let server = Setup::new().argument("--workers").argument("2").start();
    let address = server.address_of("mqtt");
    let opening = Opening { clean: false, ..Opening::new("me") }.will("will", "died");
    let (mut client, _) = enter(address, &opening);
    for _ in 0..times() {
        client.send(&DISCONNECT);
        client = enter(address, &opening).0;
    }
    client.send(&DISCONNECT);
    assert!(client.packet().is_none(), "the server has heard it");
    assert_eq!(server.get("/v1/messages?topic=will").status, 204, "it has said goodbye each time");
}
