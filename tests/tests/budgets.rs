//! The bytes that are kept for one address are bounded, on every wire, also after a restart.

use everywire_tests::mqtt::{Mqtt, Opening, packet, text};
use everywire_tests::{Request, Server, until};

const CONFIG: &str = "[limits]\nretained_bytes_each = \"64KiB\"\nsession_bytes_each = \"4KiB\"\n";

fn retain(server: &Server, topic: &str, bytes: usize) -> u16 {
    let target = format!("/v1/messages?topic={topic}&retain=true");
    server.send(&Request::post(&target, "x".repeat(bytes))).status
}

#[test]
fn retained_messages_of_an_address_are_bounded_and_given_back() {
    let server = Server::with(CONFIG);
    until("the store has counted them", || {
        retain(&server, "a", 20_000) == 200 && {
            // Each message replaces the one before it.
            server.metric("everywire_retained_bytes") > 20_000.0
        }
    });
    for topic in ["b", "c"] {
        assert_eq!(retain(&server, topic, 20_000), 200, "{topic}");
    }
    until("all are counted", || server.metric("everywire_retained_bytes") > 60_000.0);
    let server = server.kill().start();
    assert_eq!(retain(&server, "d", 20_000), 429, "also after a crash");
    assert_eq!(server.send(&Request::post("/v1/messages?topic=d", "x")).status, 200, "others than retained ones pass");
    assert!(server.metric("everywire_refusals_total") >= 1.0);
    let said = server.setup().errors();
    assert_eq!(said.matches("limits.retained_bytes_each").count(), 1, "{said}");
    assert_eq!(retain(&server, "a", 0), 200, "some are removed");
    until("their bytes are given back", || retain(&server, "d", 20_000) == 200);
}

const QUOTA_EXCEEDED: u8 = 0x97;

/// CONNECT of 5.0 with a session that lives on.
fn connect(client: &str) -> Vec<u8> {
    let properties = [&[5, 0x11][..], &3600_u32.to_be_bytes()].concat();
    packet(0x10, &[&b"\0\x04MQTT\x05\0\0\0"[..], &properties, &text(client)].concat())
}

/// Whether the session was there, and the reason code of the login.
fn come(server: &Server, client: &str) -> (u8, u8) {
    let mut mqtt = Mqtt::dial(server.address_of("mqtt"));
    mqtt.send(&connect(client));
    let (_, body) = mqtt.packet().expect("CONNACK");
    mqtt.send(&[0xe0, 0]);
    (body[0], body[1])
}

/// Makes sessions until one is refused. Gives the names of those that were made.
fn fill(server: &Server, prefix: &str) -> Vec<String> {
    let mut made = Vec::new();
    until("no more sessions are made", || {
        let name = format!("{prefix}-{}", made.len());
        let (_, reason) = come(server, &name);
        assert!([0, QUOTA_EXCEEDED].contains(&reason), "{reason}");
        made.extend((reason == 0).then_some(name));
        reason == QUOTA_EXCEEDED
    });
    made
}

#[test]
fn sessions_of_an_address_are_bounded_and_those_that_are_there_go_on() {
    let server = Server::with(CONFIG);
    let made = fill(&server, "device");
    assert!(made.len() > 4, "{made:?}");
    let server = server.kill().start();
    // The goodbye of a client may have been lost in the crash, and with it a few bytes of its session.
    let more = fill(&server, "late");
    assert!(more.len() < made.len() / 2, "also after a crash: {more:?}");
    assert_eq!(come(&server, &made[0]), (1, 0), "who has a session comes back to it");
    let _ = Mqtt::open(server.address_of("mqtt"), &Opening::new("clean"));
    assert!(server.setup().errors().contains("limits.session_bytes_each"), "{}", server.setup().errors());
    // A clean start ends a session.
    for name in made.iter().chain(&more) {
        let _ = Mqtt::open(server.address_of("mqtt"), &Opening::new(name));
    }
    until("there is room again", || come(&server, "late").1 == 0);
}
