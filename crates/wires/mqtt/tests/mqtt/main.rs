//! MQTT as its clients see it, a client's connection alone; tests of a whole server are in `conform/mqtt`.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod connecting;
mod phases;
mod publishing;
mod setup;
mod subscribing;

use everywire_mqtt::MqttConfig;
use everywire_mqtt_packets::{AckKind, Options, Packet, Properties};
use everywire_wire::kit::cut_at_every_byte;

use setup::{V3, V5, ack, hello, message, numbered, pair, subscribe};

#[test]
fn packets_may_come_in_any_pieces() {
    for version in [V3, V5] {
        let options = Options { qos: 1, ..Options::default() };
        let script = [
            Packet::Connect(Box::new(hello(version))),
            subscribe(1, "b/#", options, Properties::default()),
            Packet::Publish(message("a/b", "zero")),
            Packet::Publish(numbered("a/b", "one", 1, 7)),
            Packet::Publish(numbered("a/b", "two", 2, 8)),
            ack(AckKind::Pubrel, 8),
        ];
        let mut bytes = Vec::new();
        for packet in script {
            packet.write(version, &mut bytes);
        }
        let said = cut_at_every_byte(|| pair(MqttConfig::default()), &bytes);
        assert!(said.ends_with(&[0x70, 2, 0, 8]), "{}", said.escape_ascii());
    }
}
