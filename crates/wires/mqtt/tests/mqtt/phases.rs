//! Packets and phases (MQTT-5.0 §3.1.0, §3.1.2.11.9, §4.12, §4.13): every phase of a connection with every packet. A
//! pair that isn't in the table ends the connection with the code that the standard names.

use everywire_base::ask::AuthError;
use everywire_base::identity::Identity;
use everywire_mqtt_packets::{Connect, Id, Packet, Properties, Reason, Value, Version};

use crate::setup::{Client, V3, V5, V31, hello};

/// The phase of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Nothing was said.
    Silent,
    /// A client of 5.0 was asked for its proof.
    Challenged,
    /// CONNACK was sent.
    Open,
    /// The same, and the client was asked for its proof again.
    Rechallenged,
}

/// The outcome of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// The connection goes on.
    GoesOn,
    /// It ends, and nothing is said.
    Ends,
    /// It ends, after CONNACK or DISCONNECT with this code where the version has one.
    Refused(Reason),
}

use Outcome::{Ends, GoesOn, Refused};
use Phase::{Challenged, Open, Rechallenged, Silent};

/// The packets by name, as they are written without properties, and with those of 5.0.
const PACKETS: [(&str, &[u8], &[u8]); 17] = [
    ("reserved", b"\x00\x00", b"\x00\x00"),
    ("CONNECT", b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c", b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c"),
    ("CONNACK", b"\x20\x02\0\0", b"\x20\x03\0\0\0"),
    ("PUBLISH at QoS 0", b"\x30\x04\0\x01tx", b"\x30\x05\0\x01t\0x"),
    ("PUBLISH at QoS 1", b"\x32\x06\0\x01t\0\x01x", b"\x32\x07\0\x01t\0\x01\0x"),
    ("PUBACK", b"\x40\x02\0\x09", b"\x40\x02\0\x09"),
    ("PUBREC", b"\x50\x02\0\x09", b"\x50\x02\0\x09"),
    ("PUBREL", b"\x62\x02\0\x09", b"\x62\x02\0\x09"),
    ("PUBCOMP", b"\x70\x02\0\x09", b"\x70\x02\0\x09"),
    ("SUBSCRIBE", b"\x82\x06\0\x01\0\x01t\0", b"\x82\x07\0\x01\0\0\x01t\0"),
    ("SUBACK", b"\x90\x03\0\x01\0", b"\x90\x04\0\x01\0\0"),
    ("UNSUBSCRIBE", b"\xa2\x05\0\x01\0\x01t", b"\xa2\x06\0\x01\0\0\x01t"),
    ("UNSUBACK", b"\xb0\x02\0\x01", b"\xb0\x04\0\x01\0\0"),
    ("PINGREQ", b"\xc0\0", b"\xc0\0"),
    ("PINGRESP", b"\xd0\0", b"\xd0\0"),
    ("DISCONNECT", b"\xe0\0", b"\xe0\0"),
    (
        "AUTH",
        b"\xf0\x19\x18\x17\x15\0\x0dSCRAM-SHA-256\x16\0\x04okay",
        b"\xf0\x19\x18\x17\x15\0\x0dSCRAM-SHA-256\x16\0\x04okay",
    ),
];

/// The outcome that the standard names.
fn expected(phase: Phase, packet: &str, version: Version) -> Outcome {
    let only_servers_send = ["CONNACK", "SUBACK", "UNSUBACK", "PINGRESP"].contains(&packet);
    match (phase, packet) {
        (Silent, "CONNECT") | (Challenged | Rechallenged, "AUTH") => GoesOn,
        // MQTT-3.1.0-1; MQTT-3.14.4-2.
        (Silent, _) | (_, "DISCONNECT") => Ends,
        (_, "reserved") => Refused(Reason::MalformedPacket),
        (Open, "AUTH") if version != V5 => Refused(Reason::MalformedPacket),
        // MQTT-3.1.0-2. MQTT-4.12.0-7: no method was agreed on, or none is due. MQTT-3.1.2-30.
        (_, "CONNECT") | (Open, "AUTH") | (Challenged, _) => Refused(Reason::ProtocolError),
        _ if only_servers_send => Refused(Reason::ProtocolError),
        _ => GoesOn,
    }
}

fn scram(data: &'static str) -> Properties {
    let mut properties = Properties::default().with_text(Id::AuthenticationMethod, "SCRAM-SHA-256");
    properties.push(Id::AuthenticationData, Value::Binary(data.into()));
    properties
}

/// A client in a phase; `None` if its version has no such phase.
fn client(phase: Phase, version: Version) -> Option<Client> {
    let mut client = Client::silent(version);
    let challenge = AuthError::Continue { challenge: "challenge".into(), last: "v=last".into() };
    client.pair.node.identities.insert("first".into(), Err(challenge));
    for proof in ["proof", "okay"] {
        client.pair.node.identities.insert(proof.into(), Ok(Identity::user("ann").into()));
    }
    let auth = |reason, data| Packet::Auth(everywire_mqtt_packets::Auth { reason, properties: scram(data) });
    match (phase, version) {
        (Silent, _) => {}
        (Open, _) => client.say(&Packet::Connect(Box::new(hello(version)))),
        (_, V31 | V3) => return None,
        (Challenged | Rechallenged, V5) => {
            client.say(&Packet::Connect(Box::new(Connect { properties: scram("first"), ..hello(V5) })));
            if phase == Rechallenged {
                client.say(&auth(Reason::ContinueAuthentication, "proof"));
                client.say(&auth(Reason::Reauthenticate, "first"));
            }
        }
    }
    client.hear();
    assert!(client.pair.bench.closed().is_none(), "{phase:?} {version:?}");
    Some(client)
}

#[test]
fn every_packet_in_every_phase() {
    let mut pairs = 0;
    for version in [V31, V3, V5] {
        for phase in [Silent, Challenged, Open, Rechallenged] {
            for (name, plain, with_properties) in PACKETS {
                let Some(mut client) = client(phase, version) else { continue };
                client.pair.send(if version == V5 { with_properties } else { plain });
                let said = client.pair.bench.take_output();
                let is_over = client.pair.bench.closed().is_some();
                let outcome = match (is_over, &said[..]) {
                    (false, _) => GoesOn,
                    (true, []) => Ends,
                    (true, [0x20, _, _, code, ..] | [0xe0, _, code, ..]) => Refused(Reason::of(*code).unwrap()),
                    (true, other) => panic!("{name}: {}", other.escape_ascii()),
                };
                let expected = match expected(phase, name, version) {
                    // 3.1.1 just closes.
                    Refused(_) if version != V5 => Ends,
                    other => other,
                };
                assert_eq!(outcome, expected, "{name} of {version:?} when {phase:?}");
                pairs += 1;
            }
        }
    }
    assert_eq!(pairs, PACKETS.len() * 8);
}
