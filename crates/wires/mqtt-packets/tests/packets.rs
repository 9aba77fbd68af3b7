//! The packets of both standards: bytes, and what isn't one.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

use std::num::NonZeroU16;

use bytes::Bytes;
use everywire_mqtt_packets::{
    Ack, AckKind, Auth, Connack, Connect, Disconnect, Frame, Id, Options, Packet, Properties, Publish, Reason, Side,
    Suback, Subscribe, Unsuback, Unsubscribe, Value, Version, Will, frame,
};
use proptest::prelude::*;

use Side::{Client, Server};
use Version::{V3, V5};

fn id(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

/// Reads the one packet that bytes are.
fn read(version: Version, side: Side, bytes: &[u8]) -> Result<Packet<'_>, Reason> {
    match frame(bytes) {
        Frame::Known { first, header, body } if header + body == bytes.len() => {
            Packet::read(version, side, first, &bytes[header..]).map_err(|error| error.reason)
        }
        Frame::Malformed => Err(Reason::MalformedPacket),
        other => panic!("not one packet: {other:?}"),
    }
}

fn connect(version: Version) -> Connect {
    Connect {
        version,
        is_bridge: false,
        clean_start: true,
        keep_alive: 10,
        client_id: "c".into(),
        will: None,
        user_name: None,
        password: None,
        properties: Properties::default(),
    }
}

fn publish(qos: u8, number: Option<u16>) -> Publish<'static> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: "a/b",
        packet_id: number.map(id),
        properties: Properties::default(),
        payload: b"hi",
    }
}

fn ack(kind: AckKind, reason: Reason) -> Packet<'static> {
    Packet::Ack(Ack::new(kind, id(10), reason))
}

/// Each packet, who sends it, and its bytes.
#[expect(clippy::too_many_lines, reason = "a table")]
fn golden() -> Vec<(Version, Side, Packet<'static>, &'static [u8])> {
    let none = Properties::default;
    let will = Will {
        topic: "w".into(),
        payload: Bytes::from_static(b"bye"),
        qos: 1,
        retain: true,
        properties: none().with(Id::WillDelayInterval, 5u32),
    };
    let full = Connect {
        clean_start: false,
        will: Some(will.clone()),
        user_name: Some("u".into()),
        password: Some(Bytes::from_static(b"p")),
        properties: none().with(Id::SessionExpiryInterval, 7u32),
        ..connect(V5)
    };
    let with = Connect { will: Some(Will { properties: none(), ..will }), properties: none(), ..full.clone() };
    let aliased = Publish { topic: "", properties: none().with(Id::TopicAlias, 3u32), ..publish(0, None) };
    let again = Publish { dup: true, retain: true, ..publish(2, Some(10)) };
    let options = Options { qos: 1, no_local: true, retain_as_published: true, retain_handling: 2 };
    let subscribe =
        |options, properties| Subscribe { packet_id: id(10), filters: vec![("a/b".into(), options)], properties };
    let suback = |reasons: &[Reason]| Suback { packet_id: id(10), reasons: reasons.to_vec(), properties: none() };
    let unsubscribe = || Unsubscribe { packet_id: id(10), filters: vec!["a/b".into()], properties: none() };
    let unsuback = |reasons: &[Reason]| Unsuback { packet_id: id(10), reasons: reasons.to_vec(), properties: none() };
    let connack = |present, reason| Connack { session_present: present, reason, properties: none() };
    let disconnect = |reason| Disconnect { reason, properties: none() };
    let method = none().with_text(Id::AuthenticationMethod, "m");
    vec![
        (V3, Client, Packet::Connect(Box::new(connect(V3))), b"\x10\x0d\0\x04MQTT\x04\x02\0\x0a\0\x01c"),
        (V5, Client, Packet::Connect(Box::new(connect(V5))), b"\x10\x0e\0\x04MQTT\x05\x02\0\x0a\0\0\x01c"),
        (
            V3,
            Client,
            Packet::Connect(Box::new(Connect { version: V3, ..with })),
            b"\x10\x1b\0\x04MQTT\x04\xec\0\x0a\0\x01c\0\x01w\0\x03bye\0\x01u\0\x01p",
        ),
        (
            V5,
            Client,
            Packet::Connect(Box::new(full)),
            b"\x10\x27\0\x04MQTT\x05\xec\0\x0a\x05\x11\0\0\0\x07\0\x01c\x05\x18\0\0\0\x05\0\x01w\0\x03bye\0\x01u\0\x01p",
        ),
        (V3, Server, Packet::Connack(connack(true, Reason::Success)), b"\x20\x02\x01\0"),
        (V3, Server, Packet::Connack(connack(false, Reason::BadUserNameOrPassword)), b"\x20\x02\0\x04"),
        (V5, Server, Packet::Connack(connack(false, Reason::Banned)), b"\x20\x03\0\x8a\0"),
        (V3, Client, Packet::Publish(publish(0, None)), b"\x30\x07\0\x03a/bhi"),
        (V3, Client, Packet::Publish(again), b"\x3d\x09\0\x03a/b\0\x0ahi"),
        (V5, Client, Packet::Publish(publish(1, Some(10))), b"\x32\x0a\0\x03a/b\0\x0a\0hi"),
        (V5, Server, Packet::Publish(aliased), b"\x30\x08\0\0\x03\x23\0\x03hi"),
        (V3, Client, ack(AckKind::Puback, Reason::Success), b"\x40\x02\0\x0a"),
        (V3, Client, ack(AckKind::Pubrec, Reason::Success), b"\x50\x02\0\x0a"),
        (V3, Client, ack(AckKind::Pubrel, Reason::Success), b"\x62\x02\0\x0a"),
        (V3, Client, ack(AckKind::Pubcomp, Reason::Success), b"\x70\x02\0\x0a"),
        (V5, Server, ack(AckKind::Puback, Reason::NotAuthorized), b"\x40\x03\0\x0a\x87"),
        (V5, Client, ack(AckKind::Pubcomp, Reason::PacketIdNotFound), b"\x70\x03\0\x0a\x92"),
        (V3, Client, Packet::Subscribe(subscribe(Options { qos: 2, ..Options::default() }, none())), b"\x82\x08\0\x0a\0\x03a/b\x02"),
        (
            V5,
            Client,
            Packet::Subscribe(subscribe(options, none().with(Id::SubscriptionIdentifier, 200u32))),
            b"\x82\x0c\0\x0a\x03\x0b\xc8\x01\0\x03a/b\x2d",
        ),
        (V3, Server, Packet::Suback(suback(&[Reason::GrantedQos2, Reason::UnspecifiedError])), b"\x90\x04\0\x0a\x02\x80"),
        (V5, Server, Packet::Suback(suback(&[Reason::Success, Reason::NotAuthorized])), b"\x90\x05\0\x0a\0\0\x87"),
        (V3, Client, Packet::Unsubscribe(unsubscribe()), b"\xa2\x07\0\x0a\0\x03a/b"),
        (V5, Client, Packet::Unsubscribe(unsubscribe()), b"\xa2\x08\0\x0a\0\0\x03a/b"),
        (V3, Server, Packet::Unsuback(unsuback(&[])), b"\xb0\x02\0\x0a"),
        (V5, Server, Packet::Unsuback(unsuback(&[Reason::NoSubscriptionExisted])), b"\xb0\x04\0\x0a\0\x11"),
        (V3, Client, Packet::Pingreq, b"\xc0\0"),
        (V5, Server, Packet::Pingresp, b"\xd0\0"),
        (V3, Client, Packet::Disconnect(disconnect(Reason::Success)), b"\xe0\0"),
        (V5, Client, Packet::Disconnect(disconnect(Reason::DisconnectWithWill)), b"\xe0\x01\x04"),
        (V5, Server, Packet::Disconnect(disconnect(Reason::SessionTakenOver)), b"\xe0\x01\x8e"),
        (
            V5,
            Client,
            Packet::Auth(Auth { reason: Reason::ContinueAuthentication, properties: method }),
            b"\xf0\x06\x18\x04\x15\0\x01m",
        ),
    ]
}

#[test]
fn packets_have_these_bytes_and_bytes_are_these_packets() {
    for (version, side, packet, bytes) in golden() {
        let mut written = Vec::new();
        packet.write(version, &mut written);
        assert_eq!(written.escape_ascii().to_string(), bytes.escape_ascii().to_string(), "{packet:?}");
        assert_eq!(read(version, side, bytes).as_ref(), Ok(&packet));
    }
}

#[test]
fn a_packet_that_ends_early_is_malformed() {
    for (version, side, packet, bytes) in golden() {
        let Frame::Known { first, header, .. } = frame(bytes) else { panic!("a packet") };
        let body = &bytes[header..];
        for len in 0..body.len() {
            // A part that may be left out at the end, or has any length, is no error.
            let is_open = matches!(
                packet,
                Packet::Publish(_) | Packet::Ack(_) | Packet::Disconnect(_) | Packet::Suback(_) | Packet::Unsuback(_)
            );
            let result = Packet::read(version, side, first, &body[..len]);
            assert!(is_open || result.is_err(), "{packet:?} cut at {len}");
        }
    }
}

const MALFORMED: Reason = Reason::MalformedPacket;
const PROTOCOL: Reason = Reason::ProtocolError;

/// Faults that one packet alone shows: the statement, the version, the side that sent it, its bytes, and the reason
/// code.
const WRONG: &[(&str, Version, Side, &[u8], Reason)] = &[
    // §2.1: the fixed header.
    ("MQTT-2.1.3-1 CONNECT", V5, Client, b"\x11\x0e\0\x04MQTT\x05\x02\0\x0a\0\0\x01c", MALFORMED),
    ("MQTT-2.1.3-1 SUBSCRIBE", V5, Client, b"\x80\x09\0\x0a\0\0\x03a/b\0", MALFORMED),
    ("MQTT-2.1.3-1 PUBREL", V3, Client, b"\x60\x02\0\x0a", MALFORMED),
    ("MQTT-2.1.3-1 PINGREQ", V3, Client, b"\xc1\0", MALFORMED),
    ("§2.1.2 type 0", V5, Client, b"\0\0", MALFORMED),
    ("§2.1.2 AUTH in 3.1.1", V3, Client, b"\xf0\0", MALFORMED),
    ("§2.1.4 five bytes of length", V5, Client, b"\xc0\x80\x80\x80\x80\x01", MALFORMED),
    ("MQTT-1.5.5-1 longer than it must", V5, Client, b"\xc0\x80\0", MALFORMED),
    // §2.1.2: the sides that send each packet.
    ("CONNACK from a client", V5, Client, b"\x20\x03\0\0\0", PROTOCOL),
    ("SUBACK from a client", V3, Client, b"\x90\x03\0\x0a\0", PROTOCOL),
    ("PINGRESP from a client", V3, Client, b"\xd0\0", PROTOCOL),
    ("SUBSCRIBE from a server", V5, Server, b"\x82\x09\0\x0a\0\0\x03a/b\0", PROTOCOL),
    // §1.5.4: strings.
    ("MQTT-1.5.4-1 not UTF-8", V5, Client, b"\x30\x05\0\x01\xff\0x", MALFORMED),
    ("MQTT-1.5.4-1 a surrogate", V5, Client, b"\x30\x07\0\x03\xed\xa0\x80\0x", MALFORMED),
    ("MQTT-1.5.4-2 U+0000", V3, Client, b"\x30\x04\0\x01\0x", MALFORMED),
    // §2.2.1: packet identifiers.
    ("MQTT-2.2.1-3 PUBLISH", V5, Client, b"\x32\x07\0\x01a\0\0\0x", PROTOCOL),
    ("MQTT-2.2.1-3 SUBSCRIBE", V3, Client, b"\x82\x08\0\0\0\x03a/b\0", PROTOCOL),
    ("MQTT-2.2.1-3 PUBACK", V3, Client, b"\x40\x02\0\0", PROTOCOL),
    // §2.2.2: properties.
    ("§2.2.2.2 unknown", V5, Client, b"\x30\x06\0\x01a\x01\x04x", MALFORMED),
    ("§2.2.2.2 in the wrong place", V5, Client, b"\x30\x0a\0\x01a\x05\x11\0\0\0\x01x", PROTOCOL),
    ("§2.2.2.2 twice", V5, Client, b"\x30\x09\0\x01a\x04\x01\0\x01\0x", PROTOCOL),
    ("§2.2.2.1 longer than the packet", V5, Client, b"\x30\x05\0\x01a\x09x", MALFORMED),
    ("§2.2.2.1 cut within a property", V5, Client, b"\x30\x06\0\x01a\x01\x02x", MALFORMED),
    // §3.1: CONNECT.
    (
        "MQTT-3.1.2-1 another protocol",
        V5,
        Client,
        b"\x10\x0e\0\x04HTTP\x05\x02\0\x0a\0\0\x01c",
        Reason::UnsupportedVersion,
    ),
    (
        "MQTT-3.1.2-2 another version",
        V5,
        Client,
        b"\x10\x0e\0\x04MQTT\x06\x02\0\x0a\0\0\x01c",
        Reason::UnsupportedVersion,
    ),
    ("MQTT-3.1.2-3 the reserved flag", V5, Client, b"\x10\x0e\0\x04MQTT\x05\x03\0\x0a\0\0\x01c", MALFORMED),
    ("MQTT-3.1.2-11 QoS without a will", V5, Client, b"\x10\x0e\0\x04MQTT\x05\x0a\0\x0a\0\0\x01c", MALFORMED),
    (
        "MQTT-3.1.2-12 a will of QoS 3",
        V3,
        Client,
        b"\x10\x15\0\x04MQTT\x04\x1e\0\x0a\0\x01c\0\x01w\0\x03bye",
        MALFORMED,
    ),
    ("MQTT-3.1.2-13 retain without a will", V5, Client, b"\x10\x0e\0\x04MQTT\x05\x22\0\x0a\0\0\x01c", MALFORMED),
    ("MQTT-3.1.2-22 of 3.1.1", V3, Client, b"\x10\x10\0\x04MQTT\x04\x42\0\x0a\0\x01c\0\x01p", MALFORMED),
    ("MQTT-3.1.3-1 no client id", V5, Client, b"\x10\x0b\0\x04MQTT\x05\x02\0\x0a\0", MALFORMED),
    ("bytes after the end", V3, Client, b"\x10\x0e\0\x04MQTT\x04\x02\0\x0a\0\x01cx", MALFORMED),
    (
        "§3.1.2.11.3 a receive maximum of 0",
        V5,
        Client,
        b"\x10\x11\0\x04MQTT\x05\x02\0\x0a\x03\x21\0\0\0\x01c",
        PROTOCOL,
    ),
    (
        "§3.1.2.11.4 a maximum packet size of 0",
        V5,
        Client,
        b"\x10\x13\0\x04MQTT\x05\x02\0\x0a\x05\x27\0\0\0\0\0\x01c",
        PROTOCOL,
    ),
    ("§3.1.2.11.7 neither 0 nor 1", V5, Client, b"\x10\x10\0\x04MQTT\x05\x02\0\x0a\x02\x17\x02\0\x01c", PROTOCOL),
    (
        "§3.1.2.11.10 data without a method",
        V5,
        Client,
        b"\x10\x12\0\x04MQTT\x05\x02\0\x0a\x04\x16\0\x01x\0\x01c",
        PROTOCOL,
    ),
    (
        "MQTT-3.1.3-11 a will's topic",
        V5,
        Client,
        b"\x10\x17\0\x04MQTT\x05\x06\0\x0a\0\0\x01c\0\0\x01#\0\x03bye",
        Reason::TopicNameInvalid,
    ),
    // §3.2: CONNACK.
    ("MQTT-3.2.2-1 reserved flags", V5, Server, b"\x20\x03\x02\0\0", MALFORMED),
    ("§3.2.2.2 no such reason", V5, Server, b"\x20\x03\0\x05\0", MALFORMED),
    // §3.3: PUBLISH.
    ("MQTT-3.3.1-2 DUP with QoS 0", V5, Client, b"\x38\x05\0\x01a\0x", MALFORMED),
    ("MQTT-3.3.1-4 QoS 3", V3, Client, b"\x36\x06\0\x01a\0\x0ax", MALFORMED),
    ("MQTT-3.3.2-2 a wildcard", V3, Client, b"\x30\x04\0\x01#x", Reason::TopicNameInvalid),
    ("MQTT-4.7.3-1 an empty topic", V3, Client, b"\x30\x03\0\0x", Reason::TopicNameInvalid),
    ("§3.3.2.1 an empty topic without an alias", V5, Client, b"\x30\x04\0\0\0x", PROTOCOL),
    ("MQTT-3.3.2-8 an alias of 0", V5, Client, b"\x30\x08\0\x01a\x03\x23\0\0x", Reason::TopicAliasInvalid),
    ("MQTT-3.3.2-14 a response topic", V5, Client, b"\x30\x09\0\x01a\x04\x08\0\x01+x", PROTOCOL),
    ("MQTT-3.3.4-6 an identifier from a client", V5, Client, b"\x30\x07\0\x01a\x02\x0b\x01x", PROTOCOL),
    ("§3.3.2.3.8 an identifier of 0", V5, Server, b"\x30\x07\0\x01a\x02\x0b\0x", PROTOCOL),
    // §3.4 to §3.7.
    ("§3.4.2.1 a reason that PUBACK can't have", V5, Client, b"\x40\x03\0\x0a\x92", PROTOCOL),
    ("§3.6.2.1 a reason that PUBREL can't have", V5, Client, b"\x62\x03\0\x0a\x87", PROTOCOL),
    ("§2.4 no reason code", V5, Client, b"\x40\x03\0\x0a\xff", MALFORMED),
    ("a reason in 3.1.1", V3, Client, b"\x40\x03\0\x0a\0", MALFORMED),
    // §3.8, §3.10.
    ("MQTT-3.8.3-2 no filter", V5, Client, b"\x82\x03\0\x0a\0", PROTOCOL),
    ("MQTT-3.8.3-3 of 3.1.1 no filter", V3, Client, b"\x82\x02\0\x0a", PROTOCOL),
    ("MQTT-3.8.3-5 reserved options", V5, Client, b"\x82\x09\0\x0a\0\0\x03a/b\x40", MALFORMED),
    ("MQTT-3-8.3-4 of 3.1.1 reserved options", V3, Client, b"\x82\x08\0\x0a\0\x03a/b\x04", MALFORMED),
    ("§3.8.3.1 QoS 3", V5, Client, b"\x82\x09\0\x0a\0\0\x03a/b\x03", MALFORMED),
    ("§3.8.3.1 retain handling 3", V5, Client, b"\x82\x09\0\x0a\0\0\x03a/b\x30", PROTOCOL),
    ("MQTT-3.8.3-4 no local on a shared filter", V5, Client, b"\x82\x10\0\x0a\0\0\x0a$share/g/a\x04", PROTOCOL),
    ("MQTT-4.7.3-1 an empty filter", V5, Client, b"\x82\x06\0\x0a\0\0\0\0", MALFORMED),
    ("MQTT-4.7.3-1 an empty filter", V3, Client, b"\x82\x05\0\x0a\0\0\0", MALFORMED),
    ("MQTT-4.7.3-1 an empty filter after another", V3, Client, b"\x82\x09\0\x0a\0\x01a\0\0\0\0", MALFORMED),
    ("MQTT-4.7.1-1 levels after #", V3, Client, b"\x82\x08\0\x0a\0\x03#/b\0", MALFORMED),
    ("MQTT-4.7.1-1 # within a level", V5, Client, b"\x82\x0a\0\x0a\0\0\x04a/#b\0", MALFORMED),
    ("MQTT-4.7.1-2 + within a level", V5, Client, b"\x82\x09\0\x0a\0\0\x03a+/\0", MALFORMED),
    ("MQTT-4.8.2-1 no group", V5, Client, b"\x82\x0f\0\x0a\0\0\x09$share//a\0", PROTOCOL),
    ("MQTT-4.8.2-2 no filter", V5, Client, b"\x82\x0e\0\x0a\0\0\x08$share/g\0", PROTOCOL),
    ("MQTT-4.8.2-2 an empty filter", V5, Client, b"\x82\x0f\0\x0a\0\0\x09$share/g/\0", PROTOCOL),
    ("MQTT-4.8.2-2 an empty filter", V3, Client, b"\x82\x0e\0\x0a\0\x09$share/g/\0", PROTOCOL),
    ("MQTT-4.8.2-2 a group with a wildcard", V5, Client, b"\x82\x11\0\x0a\0\0\x0b$share/g+/a\0", PROTOCOL),
    ("MQTT-4.7.1-1 a shared filter", V5, Client, b"\x82\x12\0\x0a\0\0\x0c$share/g/a#b\0", MALFORMED),
    ("MQTT-4.7.3-1 an empty filter in UNSUBSCRIBE", V5, Client, b"\xa2\x05\0\x0a\0\0\0", MALFORMED),
    ("MQTT-4.7.3-1 an empty filter in UNSUBSCRIBE", V3, Client, b"\xa2\x04\0\x0a\0\0", MALFORMED),
    ("MQTT-4.8.2-2 no filter in UNSUBSCRIBE", V5, Client, b"\xa2\x0d\0\x0a\0\0\x08$share/g", PROTOCOL),
    ("§3.8.2.1.2 an identifier of 0", V5, Client, b"\x82\x0b\0\x0a\x02\x0b\0\0\x03a/b\0", PROTOCOL),
    ("MQTT-3.10.3-2 no filter", V5, Client, b"\xa2\x03\0\x0a\0", PROTOCOL),
    // §3.12 to §3.15.
    ("PINGREQ with a body", V3, Client, b"\xc0\x01\0", MALFORMED),
    ("DISCONNECT of 3.1.1 with a body", V3, Client, b"\xe0\x01\0", MALFORMED),
    ("§3.14.2.1 a server's reason from a client", V5, Client, b"\xe0\x01\x8e", PROTOCOL),
    ("§3.14.2.2.2 an expiry from a server", V5, Server, b"\xe0\x07\0\x05\x11\0\0\0\x01", PROTOCOL),
    ("§3.15.2.2.2 an AUTH without a method", V5, Client, b"\xf0\x02\x18\0", PROTOCOL),
    ("§3.15.2.1 a reason that AUTH can't have", V5, Client, b"\xf0\x06\x87\x04\x15\0\x01m", PROTOCOL),
];

#[test]
fn what_is_wrong_has_the_reason_code_that_the_standard_names() {
    for (statement, version, side, bytes, reason) in WRONG {
        assert_eq!(read(*version, *side, bytes).err(), Some(*reason), "{statement}");
    }
}

#[test]
fn what_only_explains_can_be_left_out() {
    let properties =
        Properties::default().with_text(Id::ReasonString, "because").with_pair("a", "b").with(Id::ReceiveMaximum, 5u32);
    let mut packet = Packet::Connack(Connack { session_present: false, reason: Reason::Success, properties });
    packet.remove_texts();
    let expected = Properties::default().with(Id::ReceiveMaximum, 5u32);
    assert!(matches!(packet, Packet::Connack(Connack { properties, .. }) if properties == expected));
}

fn text() -> impl Strategy<Value = Box<str>> {
    "[a-zé/]{1,20}".prop_map(Into::into)
}

fn properties() -> impl Strategy<Value = Properties> {
    let pairs = proptest::collection::vec((text(), text()), 0..4);
    (any::<Option<u32>>(), proptest::option::of(text()), proptest::option::of(any::<Vec<u8>>()), pairs).prop_map(
        |(expiry, content_type, correlation, pairs)| {
            let mut properties = Properties::default();
            if let Some(n) = expiry {
                properties.push(Id::MessageExpiryInterval, Value::Number(n));
            }
            if let Some(text) = content_type {
                properties.push(Id::ContentType, Value::Text(text));
            }
            if let Some(data) = correlation {
                properties.push(Id::CorrelationData, Value::Binary(data.into()));
            }
            for (name, value) in pairs {
                properties.push(Id::UserProperty, Value::Pair(name, value));
            }
            properties
        },
    )
}

proptest! {
    #[test]
    fn a_message_survives_its_bytes(
        is_v5: bool, dup: bool, qos in 0..3u8, retain: bool, topic in text(), number in 1..=u16::MAX,
        properties in properties(), payload: Vec<u8>,
    ) {
        let version = if is_v5 { V5 } else { V3 };
        let packet = Packet::Publish(Publish {
            dup: dup && qos > 0,
            qos,
            retain,
            topic: &topic,
            packet_id: (qos > 0).then(|| id(number)),
            properties: if is_v5 { properties } else { Properties::default() },
            payload: &payload,
        });
        let mut bytes = Vec::new();
        packet.write(version, &mut bytes);
        prop_assert_eq!(read(version, Client, &bytes), Ok(packet));
    }

    #[test]
    fn any_bytes_are_a_packet_or_an_error(is_v5: bool, is_client: bool, first: u8, body: Vec<u8>) {
        let (version, side) = (if is_v5 { V5 } else { V3 }, if is_client { Client } else { Server });
        if let Ok(packet) = Packet::read(version, side, first, &body) {
            let version = if let Packet::Connect(connect) = &packet { connect.version } else { version };
            let mut bytes = Vec::new();
            packet.write(version, &mut bytes);
            prop_assert_eq!(read(version, side, &bytes), Ok(packet));
        }
    }

    #[test]
    fn a_length_is_unknown_until_it_is_whole(body in 0..=268_435_455usize) {
        let mut bytes = vec![0xc0];
        let mut rest = body;
        loop {
            let more = rest >> 7;
            bytes.push((rest & 0x7f) as u8 | if more > 0 { 0x80 } else { 0 });
            rest = more;
            if rest == 0 {
                break;
            }
        }
        for len in 0..bytes.len() {
            prop_assert_eq!(frame(&bytes[..len]), Frame::Unknown);
        }
        prop_assert_eq!(frame(&bytes), Frame::Known { first: 0xc0, header: bytes.len(), body });
    }
}
