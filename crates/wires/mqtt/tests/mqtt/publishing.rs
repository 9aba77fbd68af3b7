//! PUBLISH from the client (MQTT-5.0 §3.3, §4.3).

use std::time::Duration;

use bytes::Bytes;
use everywire_base::ask::PublishError;
use everywire_base::clock::UnixMillis;
use everywire_base::kept::{Payer, What};
use everywire_base::notice::Refused;
use everywire_base::reason::Reason as End;
use everywire_base::rules::Refusal;
use everywire_mqtt::MqttConfig;
use everywire_mqtt_packets::{AckKind, Connect, Id, Packet, Properties, Publish, Reason, Value, Will};

use crate::setup::{Client, V3, V5, V31, ack, hello, message, numbered};

fn reasons(packets: &[Packet<'_>]) -> Vec<(AckKind, u16, Reason)> {
    let acks = packets.iter().filter_map(|packet| match packet {
        Packet::Ack(ack) => Some(ack),
        _ => None,
    });
    acks.map(|ack| (ack.kind, ack.packet_id.get(), ack.reason)).collect()
}

#[test]
fn each_qos_is_acknowledged_in_its_way_when_the_log_has_it() {
    for version in [V3, V5] {
        let mut client = Client::connected(version);
        client.pair.node.holds = true;
        client.say(&Packet::Publish(message("a", "0")));
        client.say(&Packet::Publish(numbered("a", "1", 1, 11)));
        client.say(&Packet::Publish(numbered("a", "2", 2, 12)));
        assert_eq!(client.hear(), [], "not before it is kept");
        client.pair.node.holds = false;
        client.pair.run();
        let expected = [(AckKind::Puback, 11, Reason::Success), (AckKind::Pubrec, 12, Reason::Success)];
        assert_eq!(reasons(&client.hear()), expected);
        client.say(&ack(AckKind::Pubrel, 12));
        assert_eq!(client.hear_one(), ack(AckKind::Pubcomp, 12));
        let published: Vec<u8> = client.pair.node.published().iter().map(|r| r.message().unwrap().qos).collect();
        assert_eq!(published, [0, 1, 2]);
    }
}

#[test]
fn who_reads_no_answers_is_answered_no_more_until_it_does() {
    let mut client = Client::connected(V3);
    client.pair.bench.limits.unread_bytes = 1000;
    client.pair.send(&[0xc0, 0].repeat(10_000));
    let bench = &client.pair.bench;
    assert!(!bench.is_open() && bench.out.len() <= 1002, "{} bytes wait", bench.out.len());
    let mut pongs = 0;
    while pongs < 10_000 {
        let packets = client.hear();
        assert!(!packets.is_empty(), "nothing came after {pongs}");
        pongs += packets.len();
    }
}

#[test]
fn exactly_once_is_published_once() {
    let mut client = Client::connected(V5);
    client.say(&Packet::Publish(numbered("a", "x", 2, 5)));
    client.say(&Packet::Publish(Publish { dup: true, ..numbered("a", "x", 2, 5) }));
    assert_eq!(reasons(&client.hear()).len(), 2);
    assert_eq!(client.pair.node.published().len(), 1);
    client.say(&ack(AckKind::Pubrel, 5));
    client.say(&ack(AckKind::Pubrel, 5));
    let expected = [(AckKind::Pubcomp, 5, Reason::Success), (AckKind::Pubcomp, 5, Reason::PacketIdNotFound)];
    assert_eq!(reasons(&client.hear()), expected);
    client.say(&Packet::Publish(numbered("a", "y", 2, 5)));
    assert_eq!(client.pair.node.published().len(), 2, "the number is free");
}

#[test]
fn what_the_log_refuses_is_not_acknowledged() {
    let mut client = Client::connected(V5);
    let failures = [PublishError::DiskFull, PublishError::Busy, PublishError::EngineFull];
    client.pair.node.failures.extend(failures.map(Into::into));
    client.say(&Packet::Publish(numbered("a", "x", 1, 1)));
    client.say(&Packet::Publish(numbered("a", "x", 2, 2)));
    client.say(&Packet::Publish(numbered("a", "x", 1, 3)));
    let acks = [(AckKind::Puback, 1), (AckKind::Pubrec, 2), (AckKind::Puback, 3)];
    let expected = acks.map(|(kind, id)| (kind, id, Reason::QuotaExceeded));
    assert_eq!(reasons(&client.hear()), expected);
}

#[test]
fn a_producer_that_counts_is_told_what_is_expected_of_it() {
    for qos in 1..=2 {
        let mut client = Client::connected(V5);
        client.pair.node.failures.push_back(PublishError::OutOfOrder { expected: 7 }.into());
        let properties = Properties::default().with_pair("everywire-key", "seq:p:9");
        client.say(&Packet::Publish(Publish { properties, ..numbered("a", "x", qos, 1) }));
        let Packet::Ack(ack) = client.hear_one() else { panic!("no answer") };
        assert_eq!(ack.reason, Reason::ImplementationSpecific);
        assert_eq!(ack.properties.pair("everywire-expected"), Some("7"));
        assert!(ack.properties.text(Id::ReasonString).unwrap().contains("7 is expected"));
    }
}

#[test]
fn without_a_word_for_what_became_of_a_message_the_client_comes_again_with_it() {
    let cases = [(V3, PublishError::Busy, None), (V5, PublishError::OutcomeUnknown, Some(Reason::ServerBusy))];
    for (version, error, reason) in cases {
        let mut client = Client::connected(version);
        client.pair.node.failures.push_back(error.into());
        client.say(&Packet::Publish(numbered("a", "x", 2, 1)));
        assert_eq!(client.end(), (reason, End::Overloaded(Duration::from_secs(1))));
    }
}

#[test]
fn what_may_not_be_published_is_refused_for_itself() {
    for (version, reason) in [(V3, Reason::Success), (V5, Reason::NotAuthorized)] {
        let mut client = Client::connected(version);
        client.say(&Packet::Publish(message("$users/ann", "x")));
        client.say(&Packet::Publish(numbered("$users/ann", "x", 1, 1)));
        client.say(&Packet::Publish(numbered("$users/ann", "x", 2, 2)));
        client.say(&Packet::Publish(numbered("a", "x", 1, 3)));
        let expected =
            [(AckKind::Puback, 1, reason), (AckKind::Pubrec, 2, reason), (AckKind::Puback, 3, Reason::Success)];
        assert_eq!(reasons(&client.hear()), expected);
        assert_eq!(client.pair.node.published().len(), 1);
    }
}

#[test]
fn what_may_no_more_be_published_when_it_is_judged_again_is_refused_for_itself() {
    for (version, reason) in [(V31, Reason::Success), (V3, Reason::Success), (V5, Reason::NotAuthorized)] {
        let mut client = Client::connected(version);
        for _ in 0..3 {
            client.pair.node.failures.push_back(Refusal::Forbidden("publishing to a".into()).into());
        }
        client.say(&Packet::Publish(message("a", "x")));
        client.say(&Packet::Publish(numbered("a", "x", 1, 1)));
        client.say(&Packet::Publish(numbered("a", "x", 2, 2)));
        client.say(&Packet::Publish(numbered("a", "y", 1, 3)));
        let expected =
            [(AckKind::Puback, 1, reason), (AckKind::Pubrec, 2, reason), (AckKind::Puback, 3, Reason::Success)];
        assert_eq!(reasons(&client.hear()), expected);
        assert_eq!(client.pair.node.published().len(), 1);
        let notices = client.pair.node.notices();
        assert_eq!(notices.len(), if version == V5 { 1 } else { 3 }, "whoever can't be told");
        assert!(notices.iter().all(|notice| notice.why.contains("not allowed: publishing to a")), "{notices:?}");
    }
}

#[test]
fn what_a_client_cannot_be_told_operators_are() {
    let told = |client: &Client| -> Vec<(Refused, String)> {
        client.pair.node.notices().iter().map(|notice| (notice.refused, notice.why.to_string())).collect()
    };
    let long: &'static str = "x".repeat(300 << 10).leak();
    let event = Properties::default().with_pair("everywire-event", "open");
    let json = Properties::default().with_text(Id::ContentType, "application/json");
    for version in [V31, V3, V5] {
        let mut client = Client::connected(version);
        client.say(&Packet::Publish(message("$users/ann", "x")));
        assert!(told(&client)[0].1.starts_with("a message for $users/ann: not allowed"), "{:?}", told(&client));
        client.say(&Packet::Publish(message("a", long)));
        assert!(told(&client)[1].1.starts_with("a message for a: the body is too large"), "{:?}", told(&client));
        client.say(&Packet::Publish(numbered("a", long, 1, 1)));
        client.say(&Packet::Publish(numbered("a", long, 2, 2)));
        // 5.0 is told.
        assert_eq!(told(&client).len(), if version == V5 { 2 } else { 4 });
        if version == V5 {
            client.say(&Packet::Publish(Publish { properties: event.clone(), ..message("a", "x") }));
            client.say(&Packet::Publish(Publish { properties: json.clone(), ..message("a", "{") }));
            assert_eq!(told(&client).len(), 4);
        }
        assert!(told(&client).iter().all(|(refused, _)| *refused == Refused::Publish));
        client.pair.node.failures.push_back(PublishError::Busy.into());
        client.say(&Packet::Publish(message("a", "x")));
        assert_eq!(told(&client).len(), 5);
        client.hear();
        client.say(&Packet::Publish(numbered("a", "x", 1, 3)));
        assert_eq!(reasons(&client.hear()), [(AckKind::Puback, 3, Reason::Success)], "those behind it are answered");
    }
}

#[test]
fn more_under_way_than_the_receive_maximum_ends_the_connection() {
    let mut client = Client::with(V5, MqttConfig { receive_maximum: 2, ..MqttConfig::default() });
    client.connect(hello(V5));
    for round in 0..3 {
        // PUBREC doesn't end what is under way, PUBCOMP does (§3.3.4).
        client.say(&Packet::Publish(numbered("a", "x", 2, 1)));
        client.say(&Packet::Publish(numbered("a", "x", 1, 2)));
        client.say(&ack(AckKind::Pubrel, 1));
        assert_eq!(client.hear().len(), 3, "round {round}");
    }
    client.pair.node.holds = true;
    for number in 1..=3 {
        client.say(&Packet::Publish(numbered("a", "x", 1, number)));
    }
    assert_eq!(client.end().0, Some(Reason::ReceiveMaximumExceeded));
}

#[test]
fn an_alias_stands_for_its_topic_until_it_is_given_another() {
    let alias = |number: u32| Properties::default().with(Id::TopicAlias, number);
    let mut client = Client::connected(V5);
    for (topic, expected) in [("one", "one"), ("", "one"), ("two", "two"), ("", "two")] {
        client.say(&Packet::Publish(Publish { properties: alias(3), ..message(topic, "x") }));
        assert_eq!(client.pair.node.published().last().unwrap().message().unwrap().topic.as_str(), expected);
    }
    client.say(&Packet::Publish(Publish { properties: alias(4), ..message("", "x") }));
    assert_eq!(client.end().0, Some(Reason::TopicAliasInvalid), "it stands for nothing");
    let mut client = Client::connected(V5);
    client.say(&Packet::Publish(Publish { properties: alias(33), ..message("one", "x") }));
    assert_eq!(client.end().0, Some(Reason::TopicAliasInvalid), "above the maximum");
}

/// The id of a message that another answers.
const ANSWERED: &str = "01M82E65Y10000000000000001";

#[test]
fn what_is_no_id_is_refused_as_what_a_message_answers() {
    let properties = Properties::default().with_pair("everywire-ref", "the last one");
    let mut client = Client::connected(V5);
    client.say(&Packet::Publish(Publish { properties, ..numbered("a", "x", 1, 1) }));
    assert_eq!(reasons(&client.hear()), [(AckKind::Puback, 1, Reason::ImplementationSpecific)]);
    assert!(client.pair.node.published().is_empty());
}

#[test]
fn properties_become_what_other_wires_say_and_stay_what_they_are() {
    let properties = Properties::default()
        .with(Id::PayloadFormatIndicator, 1u32)
        .with(Id::MessageExpiryInterval, 60u32)
        .with_text(Id::ContentType, "text/plain")
        .with_text(Id::ResponseTopic, "answers")
        .with_pair("everywire-event", "chat")
        .with_pair("everywire-key", "k-1")
        .with_pair("everywire-ref", ANSWERED)
        .with_pair("everywire-from", "a liar");
    let mut client = Client::connected(V5);
    let mut publish = Publish { properties, ..message("a", "hi") };
    publish.properties.push(Id::CorrelationData, Value::Binary(Bytes::from_static(b"7")));
    client.say(&Packet::Publish(publish));
    let record = client.pair.node.published()[0].clone();
    let message = record.message().unwrap();
    assert_eq!((message.event.as_deref(), message.key.as_deref()), (Some("chat"), Some("k-1")));
    assert_eq!(message.from, None, "the server says who published it");
    assert_eq!(message.content_type.as_deref(), Some("text/plain"));
    assert_eq!(message.expires, Some(UnixMillis(1_795_378_321_345 + 60_000)));
    let extras = message.extras.as_ref().unwrap();
    let names: Vec<&str> = extras.properties.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["everywire-event", "everywire-key", "everywire-ref", "everywire-from"]);
    assert_eq!(message.about().unwrap().to_string(), ANSWERED);
    assert_eq!(extras.response_topic.as_deref(), Some("answers"));
    assert_eq!(extras.correlation.as_deref(), Some(&b"7"[..]));
    assert_eq!(extras.is_text, Some(true));
}

/// Names that an application may have chosen long before there was this server, in doubles and out of order.
fn of_an_application() -> Properties {
    let pairs =
        [("key", "sensor-17"), ("event", "open"), ("id", "7"), ("from", "hall"), ("cursor", "x"), ("after", "y")];
    let properties = Properties::default().with(Id::PayloadFormatIndicator, 0u32);
    let again = [("key", "sensor-17"), ("a", ""), ("", ""), ("key", "other")];
    pairs.iter().chain(&again).fold(properties, |all, (name, value)| all.with_pair(name, value))
}

#[test]
fn what_a_client_publishes_arrives_unaltered() {
    for qos in 0..=2 {
        let mut client = Client::connected(V5);
        client.subscribe("a", 2);
        for _ in 0..3 {
            let publish = if qos == 0 { message("a", "hi") } else { numbered("a", "hi", qos, 1) };
            client.say(&Packet::Publish(Publish { properties: of_an_application(), ..publish }));
            let got = client.hear();
            let found = got.iter().find_map(|p| if let Packet::Publish(publish) = p { Some(publish) } else { None });
            assert_eq!(found.map(|publish| &publish.properties), Some(&of_an_application()), "QoS {qos}");
            if qos == 2 {
                client.say(&ack(AckKind::Pubrel, 1));
                client.hear();
            }
        }
        let record = client.pair.node.published()[2].clone();
        let message = record.message().unwrap();
        assert_eq!(
            (&message.event, &message.key, &message.from),
            (&None, &None, &None),
            "these names aren't the server's"
        );
    }
}

#[test]
fn a_will_keeps_its_properties() {
    let will = Will {
        topic: "a".into(),
        payload: Bytes::from_static(b"gone"),
        qos: 1,
        retain: false,
        properties: of_an_application().with_pair("everywire-event", "left").with_pair("everywire-ref", ANSWERED),
    };
    let mut client = Client::silent(V5);
    client.connect(Connect { will: Some(will), ..hello(V5) });
    let message = client.pair.node.logins()[0].will.clone().unwrap().message;
    assert_eq!((message.event.as_deref(), &message.key), (Some("left"), &None));
    assert_eq!(message.about().unwrap().to_string(), ANSWERED);
    let said: Vec<_> = message.extras.unwrap().properties;
    let properties = of_an_application().with_pair("everywire-event", "left").with_pair("everywire-ref", ANSWERED);
    let expected: Vec<(Box<str>, Box<str>)> = properties.pairs().map(|(n, v)| (n.into(), v.into())).collect();
    assert_eq!(said, expected);
}

#[test]
fn a_payload_that_is_not_what_it_says_is_refused() {
    let json = Properties::default().with_text(Id::ContentType, "application/json");
    let mut client = Client::connected(V5);
    client.say(&Packet::Publish(Publish { properties: json, ..numbered("a", "{", 1, 1) }));
    assert_eq!(reasons(&client.hear()), [(AckKind::Puback, 1, Reason::PayloadFormatInvalid)]);
}

#[test]
fn who_retains_too_much_is_refused_until_something_is_removed() {
    for (version, refused) in [(V3, Reason::Success), (V5, Reason::QuotaExceeded)] {
        let mut client = Client::connected(version);
        let payer = Payer::address(client.pair.bench.peer.address.ip());
        let most = client.pair.bench.limits.retained_bytes_each as u64;
        client.pair.bench.kept[0].add(What::Retained, payer, most - 1);
        let retained = |body, number| Publish { retain: true, ..numbered("a", body, 1, number) };
        client.say(&Packet::Publish(retained("x", 1)));
        client.say(&Packet::Publish(retained("", 2)));
        client.say(&Packet::Publish(numbered("a", "x", 1, 3)));
        client.pair.bench.kept[0].remove(What::Retained, payer, 10);
        client.say(&Packet::Publish(retained("x", 4)));
        let answers = [refused, Reason::Success, Reason::Success, Reason::Success];
        let expected: Vec<_> = (1..).zip(answers).map(|(number, reason)| (AckKind::Puback, number, reason)).collect();
        assert_eq!(reasons(&client.hear()), expected);
        assert_eq!(client.pair.node.published().len(), 3);
        assert_eq!(
            client.pair.node.published().iter().filter(|r| r.message().unwrap().payer == payer).count(),
            2,
            "what is retained"
        );
        let notices = client.pair.node.notices();
        assert!(notices.len() == 1 && notices[0].why.contains("limits.retained_bytes_each"), "{notices:?}");
    }
}
