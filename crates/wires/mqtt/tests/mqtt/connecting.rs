//! CONNECT, CONNACK, the end of a connection (MQTT-5.0 §3.1, §3.2, §3.14).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use everywire_base::ask::{AuthError, Goodbye, SessionWish};
use everywire_base::identity::Identity;
use everywire_base::reason::Reason as End;
use everywire_base::rules::Anonymous;
use everywire_mqtt::MqttConfig;
use everywire_mqtt_packets::{
    Auth, Connect, Disconnect, Id, Options, Packet, Properties, Reason, Subscribe, Value, Will,
};

use crate::setup::{Client, V3, V5, V31, hello, id, message, numbered, who};

fn goodbye(reason: Reason, properties: Properties) -> Packet<'static> {
    Packet::Disconnect(Disconnect { reason, properties })
}

#[test]
fn a_client_is_told_the_bounds_and_the_name_that_it_got() {
    let config = MqttConfig { server_keep_alive: Some(60), maximum_packet_size: Some(4096), ..MqttConfig::default() };
    let mut client = Client::with(V5, config);
    client.pair.bench.limits.session_expiry_max = Duration::from_secs(100);
    let properties = Properties::default().with(Id::SessionExpiryInterval, u32::MAX);
    let connack = client.connect(Connect { client_id: "".into(), properties, ..hello(V5) });
    let told = |id| connack.properties.number(id);
    assert_eq!(told(Id::ServerKeepAlive), Some(60), "none is longer than this");
    assert_eq!(told(Id::MaximumPacketSize), Some(4096));
    assert_eq!(told(Id::ReceiveMaximum), Some(1024));
    assert_eq!(told(Id::TopicAliasMaximum), Some(32));
    assert_eq!(told(Id::SessionExpiryInterval), Some(100), "MQTT-3.2.2-23 tells what holds instead");
    assert!(connack.properties.text(Id::AssignedClientIdentifier).is_some());
}

#[test]
fn sessions_are_wished_for_as_each_version_says_it() {
    let wish = |connect: Connect| {
        let mut client = Client::silent(connect.version);
        client.connect(connect);
        match &client.pair.node.logins()[0].session {
            SessionWish::Named { id, expiry, fresh, window } => (id.to_string(), expiry.as_secs(), *fresh, *window),
            other => panic!("{other:?}"),
        }
    };
    let week = 7 * 24 * 3600;
    assert_eq!(wish(hello(V3)), ("me".into(), 0, true, u16::MAX));
    assert_eq!(wish(Connect { clean_start: false, ..hello(V3) }), ("me".into(), week, false, u16::MAX));
    let properties = Properties::default().with(Id::SessionExpiryInterval, 60u32).with(Id::ReceiveMaximum, 5u32);
    assert_eq!(wish(Connect { properties, ..hello(V5) }), ("me".into(), 60, true, 5));
}

#[test]
fn what_is_not_a_client_is_told_so_where_there_are_words_for_it() {
    let cases: [(&[u8], &[u8]); 6] = [
        // A version that isn't known, MQTT-3.1.2-2.
        (b"\x10\x0c\x00\x04MQTT\x02\x02\0\0\0\0", b"\x20\x02\0\x01"),
        // 5.0 with a reserved flag, MQTT-3.1.2-3.
        (b"\x10\x0d\x00\x04MQTT\x05\x03\0\0\0\0\0", b"\x20"),
        // 3.1.1 with a reserved flag: no return code says it.
        (b"\x10\x0c\x00\x04MQTT\x04\x03\0\0\0\0", b""),
        // A packet before CONNECT, MQTT-3.1.0-1.
        (b"\xc0\0", b""),
        (b"GET / HTTP/1.1\r\n", b""),
        // A name is needed for a session that lasts, MQTT-3.1.3-8 of 3.1.1.
        (b"\x10\x0c\x00\x04MQTT\x04\x00\0\0\0\0", b"\x20\x02\0\x02"),
    ];
    for (said, heard) in cases {
        let mut client = Client::silent(V3);
        client.pair.send(said);
        let out = client.pair.bench.take_output();
        assert!(out.starts_with(heard) && out.is_empty() == heard.is_empty(), "{}", out.escape_ascii());
        assert!(client.pair.bench.closed().is_some(), "{}", said.escape_ascii());
    }
}

/// CONNECT by hand: its first byte, name, level, flags and the bytes after the keep-alive.
fn connect_bytes(first: u8, name: &str, level: u8, flags: u8, rest: &[u8]) -> Vec<u8> {
    let body = [&[0, name.len() as u8], name.as_bytes(), &[level, flags, 0, 10], rest].concat();
    [&[first, body.len() as u8], &body[..]].concat()
}

#[test]
fn what_3_1_leaves_open_is_let_pass() {
    let accepted: [(u8, u8, &[u8]); 6] = [
        (0x10, 2, b"\0\x01c"),
        // Flags of the fixed header, the reserved one of CONNECT, those of a will without a will.
        (0x1f, 2, b"\0\x01c"),
        (0x10, 3, b"\0\x01c"),
        (0x10, 0x3a, b"\0\x01c"),
        // The length says that neither user nor password is there.
        (0x10, 0x82, b"\0\x01c"),
        (0x10, 0xc2, b"\0\x01c\0\x01u"),
    ];
    for (first, flags, rest) in accepted {
        let mut client = Client::silent(V31);
        client.pair.send(&connect_bytes(first, "MQIsdp", 3, flags, rest));
        assert_eq!(client.pair.bench.take_output(), b"\x20\x02\0\0", "{first:#x} {flags:#x}");
        // PUBREL and SUBSCRIBE that come again say so.
        client.pair.send(b"\x6a\x02\0\x05\x8a\x06\0\x06\0\x01a\x01\xaa\x05\0\x07\0\x01a");
        assert_eq!(client.pair.bench.take_output(), b"\x70\x02\0\x05\x90\x03\0\x06\x01\xb0\x02\0\x07");
    }
    let mut nameless = Client::silent(V31);
    nameless.pair.send(&connect_bytes(0x10, "MQIsdp", 3, 2, b"\0\0"));
    assert_eq!(nameless.pair.bench.take_output(), b"\x20\x02\0\x02", "3.1 has no client without a name");
}

#[test]
fn a_connack_of_3_1_has_no_session_present() {
    for (name, level, expected) in [("MQIsdp", 3, 0), ("MQTT", 4, 1)] {
        let mut client = Client::silent(V3);
        client.pair.node.sessions.insert("c".into());
        client.pair.send(&connect_bytes(0x10, name, level, 0, b"\0\x01c"));
        assert_eq!(client.pair.bench.take_output(), [0x20, 2, expected, 0]);
    }
}

#[test]
fn a_bridge_says_so_by_its_level() {
    for (name, level) in [("MQTT", 0x84), ("MQIsdp", 0x83)] {
        let mut client = Client::silent(V3);
        client.pair.send(&connect_bytes(0x10, name, level, 2, b"\0\x01c"));
        assert_eq!(client.pair.bench.take_output(), b"\x20\x02\0\0", "{level:#x}");
        client.pair.send(b"\x82\x06\0\x01\0\x01a\x01");
        let terms: Vec<_> = client.pair.node.terms().collect();
        assert!(terms[0].no_local && terms[0].retain_as_published, "nothing comes back to it");
    }
    let mut unknown = Client::silent(V3);
    unknown.pair.send(&connect_bytes(0x10, "MQTT", 0x86, 2, b"\0\0\x01c"));
    assert_eq!(unknown.pair.bench.take_output()[3], Reason::UnsupportedVersion.code());
}

#[test]
fn a_client_that_says_nothing_is_not_waited_for() {
    let mut client = Client::silent(V5);
    client.pair.advance(Duration::from_secs(11));
    assert_eq!(client.end(), (None, End::Timeout));
}

#[test]
fn who_shows_a_token_or_a_password_is_who_it_proves() {
    let enter = |connect: Connect| {
        let mut client = Client::silent(V5);
        client.pair.bench.rules.anonymous = Anonymous::Allowed;
        let identities = &mut client.pair.node.identities;
        identities.insert("eyJ.t.s".into(), Ok(Arc::new(Identity::user("ann"))));
        identities.insert("ann:secret".into(), Ok(Arc::new(Identity::user("ann"))));
        identities.insert("later:x".into(), Err(AuthError::Unavailable("come again".into())));
        let reason = client.connect(connect).reason;
        let user = client.pair.node.logins().first().and_then(|login| login.identity.as_ref()?.user.clone());
        (reason, user)
    };
    let ann = Some("ann".into());
    assert_eq!(enter(who(hello(V5), "", "eyJ.t.s")), (Reason::Success, ann.clone()));
    assert_eq!(enter(who(hello(V5), "token", "eyJ.t.s")), (Reason::Success, ann.clone()));
    assert_eq!(enter(who(hello(V5), "ann", "eyJ.t.s")), (Reason::Success, ann.clone()));
    assert_eq!(enter(who(hello(V5), "ann", "secret")), (Reason::Success, ann));
    assert_eq!(enter(who(hello(V5), "bob", "eyJ.t.s")), (Reason::NotAuthorized, None), "it is another's");
    assert_eq!(enter(who(hello(V5), "ann", "wrong")), (Reason::BadUserNameOrPassword, None));
    assert_eq!(enter(who(hello(V5), "later", "x")), (Reason::ServerBusy, None));
    let name_alone = Connect { user_name: Some("ann".into()), ..hello(V5) };
    assert_eq!(enter(name_alone), (Reason::Success, None), "a name proves nothing");
    let bytes = Connect { password: Some(Bytes::from_static(&[0xff])), ..hello(V5) };
    assert_eq!(enter(bytes), (Reason::BadUserNameOrPassword, None));
    let method = Properties::default().with_text(Id::AuthenticationMethod, "unknown");
    assert_eq!(enter(Connect { properties: method, ..hello(V5) }).0, Reason::BadAuthenticationMethod);
}

#[test]
fn credentials_that_nobody_needs_do_no_harm() {
    let enter = |version, anonymous, user: Option<&str>, password: Option<&'static [u8]>| {
        let mut client = Client::silent(version);
        client.pair.bench.rules.anonymous = anonymous;
        let (user_name, password) = (user.map(Into::into), password.map(Bytes::from_static));
        let reason = client.connect(Connect { user_name, password, ..hello(version) }).reason;
        (reason, client.pair.node.logins().first().is_some_and(|login| login.identity.is_none()))
    };
    let shown: [(Option<&str>, Option<&'static [u8]>); 6] = [
        (Some("ann"), Some(b"secret")),
        (Some("ann"), Some(b"")),
        (Some(""), Some(b"secret")),
        (Some("token"), Some(b"eyJ.x.y")),
        (Some("ann"), Some(&[0xff])),
        (Some(""), Some(b"")),
    ];
    for (user, password) in shown {
        for version in [V3, V5] {
            let entered = enter(version, Anonymous::Everything, user, password);
            assert_eq!(entered, (Reason::Success, true), "{user:?} {password:?}");
        }
        let (reason, _) = enter(V5, Anonymous::Allowed, user, password);
        let shows_nothing = user == Some("") && password == Some(b"");
        assert_eq!(
            reason == Reason::Success,
            shows_nothing,
            "where somebody can have an identity: {user:?} {password:?}"
        );
    }
    assert_eq!(enter(V5, Anonymous::Everything, None, Some(b"secret")), (Reason::Success, true));
    assert_eq!(enter(V5, Anonymous::Allowed, None, Some(b"")), (Reason::Success, true));
}

#[test]
fn a_client_gets_no_packet_above_its_maximum() {
    let with_maximum = |most: u32| {
        let mut client = Client::silent(V5);
        let properties = Properties::default().with(Id::MaximumPacketSize, most);
        client.say(&Packet::Connect(Box::new(Connect { properties, ..hello(V5) })));
        client
    };
    // CONNACK takes 16 bytes.
    for most in 1..16 {
        let mut client = with_maximum(most);
        assert_eq!(client.hear(), []);
        assert!(matches!(client.pair.bench.closed(), Some(End::TooLarge(_))), "it isn't left to wait");
    }
    let mut client = with_maximum(16);
    assert!(matches!(client.hear_one(), Packet::Connack(connack) if connack.reason == Reason::Success));
    client.say(&Packet::Pingreq);
    assert_eq!(client.hear_one(), Packet::Pingresp);
    // A SUBACK of 16 bytes, and one of 17, which can't be made shorter.
    let filters = |count: usize| vec![("a".into(), Options::default()); count];
    let subscribe = |count| Subscribe { packet_id: id(1), filters: filters(count), properties: Properties::default() };
    client.say(&Packet::Subscribe(subscribe(11)));
    assert!(matches!(client.hear_one(), Packet::Suback(suback) if suback.reasons.len() == 11));
    client.say(&Packet::Subscribe(subscribe(12)));
    let (reason, end) = client.end();
    assert_eq!((reason, matches!(end, End::TooLarge(_))), (Some(Reason::PacketTooLarge), true));
    // A refusal is cut to what fits, or nothing is said.
    for (most, is_said) in [(5u32, true), (4, false)] {
        let mut client = Client::silent(V5);
        client.pair.bench.rules.anonymous = Anonymous::Refused;
        let properties = Properties::default().with(Id::MaximumPacketSize, most);
        client.say(&Packet::Connect(Box::new(Connect { properties, ..hello(V5) })));
        let heard = client.hear();
        assert_eq!(heard.len(), usize::from(is_said), "{heard:?}");
        assert!(client.pair.bench.closed().is_some());
    }
}

#[test]
fn without_an_identity_nobody_is_let_in_where_one_is_needed() {
    for (version, code) in [(V3, Reason::NotAuthorized), (V5, Reason::NotAuthorized)] {
        let mut client = Client::silent(version);
        client.pair.bench.rules.anonymous = Anonymous::Refused;
        assert_eq!(client.connect(hello(version)).reason, code);
        assert_eq!(client.end(), (None, End::Unauthorized));
    }
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    let mut client = Client::connected(V5);
    client.say(&Packet::Connect(Box::new(hello(V5))));
    assert_eq!(client.end(), (Some(Reason::ProtocolError), End::Protocol("a second CONNECT")));
}

#[test]
fn silence_for_one_and_a_half_keep_alives_ends_a_connection() {
    for (version, said) in [(V3, None), (V5, Some(Reason::KeepAliveTimeout))] {
        let mut client = Client::silent(version);
        client.connect(Connect { keep_alive: 10, ..hello(version) });
        client.pair.advance(Duration::from_secs(14));
        client.say(&Packet::Pingreq);
        assert_eq!(client.hear_one(), Packet::Pingresp);
        client.pair.advance(Duration::from_secs(14));
        assert!(client.pair.bench.closed().is_none(), "it was heard 14 s ago");
        client.pair.advance(Duration::from_secs(2));
        assert_eq!(client.end(), (said, End::Timeout));
    }
}

#[test]
fn a_goodbye_voids_the_will_unless_it_asks_for_it() {
    for (reason, will) in [(Reason::Success, false), (Reason::DisconnectWithWill, true)] {
        let mut client = Client::connected(V5);
        client.say(&goodbye(reason, Properties::default()));
        assert_eq!(client.pair.node.goodbyes(), [Goodbye { expiry: None, will }]);
        assert_eq!(client.end(), (None, End::Done));
    }
}

#[test]
fn a_session_that_ends_with_its_connection_cannot_get_an_expiry_at_the_end() {
    let mut client = Client::connected(V5);
    client.say(&goodbye(Reason::Success, Properties::default().with(Id::SessionExpiryInterval, 5u32)));
    assert_eq!(client.end().0, Some(Reason::ProtocolError), "MQTT-3.14.2.2.2");
    assert!(client.pair.node.goodbyes().is_empty());
}

#[test]
fn a_will_is_checked_before_the_client_is_let_in() {
    let will = |topic: &str| Will {
        topic: topic.into(),
        payload: Bytes::from_static(b"gone"),
        qos: 1,
        retain: true,
        properties: Properties::default().with(Id::WillDelayInterval, 5u32).with(Id::MessageExpiryInterval, 9u32),
    };
    let mut client = Client::silent(V5);
    client.connect(Connect { will: Some(will("state/me")), ..hello(V5) });
    let noted = client.pair.node.logins()[0].will.clone().unwrap();
    let seconds = Duration::from_secs;
    assert_eq!((noted.delay, noted.ttl), (seconds(5), Some(seconds(9))));
    let message = &noted.message;
    assert_eq!((message.qos, message.retain, &*message.body), (1, true, &b"gone"[..]));
    let mut client = Client::silent(V5);
    assert_eq!(client.connect(Connect { will: Some(will("$users/ann")), ..hello(V5) }).reason, Reason::NotAuthorized);
}

#[test]
fn the_server_says_why_it_ends_a_connection() {
    let cases = [
        (End::TakenOver, Reason::SessionTakenOver),
        (End::Kicked("begone".into()), Reason::AdministrativeAction),
        (End::Drain(Duration::from_secs(1)), Reason::ServerShuttingDown),
        (End::Expired, Reason::NotAuthorized),
        (End::SlowConsumer, Reason::QuotaExceeded),
    ];
    for (end, reason) in cases {
        let mut client = Client::connected(V5);
        client.pair.farewell(&end);
        assert_eq!(client.end(), (Some(reason), end));
    }
    let mut client = Client::connected(V3);
    client.pair.farewell(&End::TakenOver);
    assert_eq!(client.end(), (None, End::TakenOver), "3.1.1 has no word for it");
}

#[test]
fn a_client_that_wants_no_explanations_gets_none() {
    for (wants, is_told) in [(1u32, true), (0, false)] {
        let mut client = Client::silent(V5);
        let properties = Properties::default().with(Id::RequestProblemInformation, wants);
        client.connect(Connect { properties, ..hello(V5) });
        let lie = Properties::default().with(Id::PayloadFormatIndicator, 1u32);
        let payload = everywire_mqtt_packets::Publish { properties: lie, payload: &[0xff], ..numbered("a", "", 1, 1) };
        client.say(&Packet::Publish(payload));
        let Packet::Ack(ack) = client.hear_one() else { panic!("no PUBACK") };
        assert_eq!(ack.reason, Reason::PayloadFormatInvalid);
        assert_eq!(ack.properties.text(Id::ReasonString).is_some(), is_told);
    }
}

#[test]
fn a_packet_above_the_maximum_ends_the_connection() {
    let mut client = Client::with(V5, MqttConfig { maximum_packet_size: Some(100), ..MqttConfig::default() });
    client.connect(hello(V5));
    let long = "x".repeat(200);
    client.say(&Packet::Publish(message("a", &long)));
    assert_eq!(client.end(), (Some(Reason::PacketTooLarge), End::TooLarge("mqtt.maximum_packet_size")));
}

fn scram(data: &'static str) -> Properties {
    let mut properties = Properties::default().with_text(Id::AuthenticationMethod, "SCRAM-SHA-256");
    properties.push(Id::AuthenticationData, Value::Binary(Bytes::from_static(data.as_bytes())));
    properties
}

fn auth(reason: Reason, data: &'static str) -> Packet<'static> {
    Packet::Auth(Auth { reason, properties: scram(data) })
}

/// A client whose node knows the exchange: its first data is challenged, the next proves it.
fn exchanging() -> Client {
    let mut client = Client::silent(V5);
    let challenge = || AuthError::Continue { challenge: "challenge".into(), last: "v=last".into() };
    let identities = &mut client.pair.node.identities;
    identities.insert("first".into(), Err(challenge()));
    identities.insert("proof".into(), Ok(Arc::new(Identity::user("ann"))));
    client.say(&Packet::Connect(Box::new(Connect { properties: scram("first"), ..hello(V5) })));
    client
}

fn data(properties: &Properties) -> &[u8] {
    properties.binary(Id::AuthenticationData).unwrap()
}

#[test]
fn scram_proves_who_it_is_in_steps_and_again_later() {
    let mut client = exchanging();
    let Packet::Auth(asked) = client.hear_one() else { panic!("no AUTH") };
    assert_eq!((asked.reason, data(&asked.properties)), (Reason::ContinueAuthentication, &b"challenge"[..]));
    client.say(&auth(Reason::ContinueAuthentication, "proof"));
    let Packet::Connack(connack) = client.hear_one() else { panic!("no CONNACK") };
    assert_eq!((connack.reason, data(&connack.properties)), (Reason::Success, &b"v=last"[..]));
    client.say(&auth(Reason::Reauthenticate, "first"));
    client.hear_one();
    client.say(&Packet::Pingreq);
    assert_eq!(client.hear_one(), Packet::Pingresp, "meanwhile it goes on");
    client.say(&auth(Reason::ContinueAuthentication, "proof"));
    let Packet::Auth(done) = client.hear_one() else { panic!("no AUTH") };
    assert_eq!((done.reason, data(&done.properties)), (Reason::Success, &b"v=last"[..]));
    assert_eq!(client.pair.node.logins().len(), 2);
}

#[test]
fn an_exchange_out_of_turn_ends_the_connection() {
    let mut client = exchanging();
    client.hear();
    client.say(&auth(Reason::ContinueAuthentication, "wrong"));
    let Packet::Connack(connack) = client.hear_one() else { panic!("no CONNACK") };
    assert_eq!(connack.reason, Reason::BadUserNameOrPassword);
    let mut client = exchanging();
    client.hear();
    client.say(&Packet::Pingreq);
    let Packet::Connack(connack) = client.hear_one() else { panic!("no CONNACK") };
    assert_eq!(connack.reason, Reason::ProtocolError, "MQTT-3.1.2-30");
    let mut client = Client::connected(V5);
    client.say(&auth(Reason::Reauthenticate, "first"));
    assert_eq!(client.end().0, Some(Reason::ProtocolError), "MQTT-4.12.1-1");
}
