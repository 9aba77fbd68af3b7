//! SUBSCRIBE and what comes of it (MQTT-5.0 §3.3, §3.8 to §3.11).

use everywire_base::clock::UnixMillis;
use everywire_base::record::{Extras, Message};
use everywire_base::topic::{Filter, Topic};
use everywire_mqtt::MqttConfig;
use everywire_mqtt_packets::{
    AckKind, Connect, Id, Options, Packet, Properties, Reason, Suback, Subscribe, Unsuback, Unsubscribe,
};

use crate::setup::{Client, V3, V5, ack, hello, id, messages, subscribe};

#[test]
fn each_filter_is_answered_for_itself() {
    for (version, refused, malformed) in [
        (V3, Reason::UnspecifiedError, Reason::UnspecifiedError),
        (V5, Reason::NotAuthorized, Reason::TopicFilterInvalid),
    ] {
        let mut client = Client::connected(version);
        client.pair.node.refuses.push(Filter::parse("no").unwrap());
        let options = |qos| Options { qos, ..Options::default() };
        let filters = vec![
            ("a".into(), options(0)),
            ("no".into(), options(1)),
            ("b/#".into(), options(2)),
            ("b/#/c".into(), options(1)),
            ("$share//x".into(), options(1)),
        ];
        client.say(&Packet::Subscribe(Subscribe { packet_id: id(9), filters, properties: Properties::default() }));
        let Packet::Suback(Suback { packet_id, reasons, .. }) = client.hear_one() else { panic!("no SUBACK") };
        assert_eq!(packet_id, id(9));
        assert_eq!(reasons, [Reason::Success, refused, Reason::GrantedQos2, malformed, malformed]);
    }
}

#[test]
fn unsubscribing_says_what_was_there() {
    let mut client = Client::connected(V5);
    client.subscribe("a", 1);
    let filters = vec!["a".into(), "b".into()];
    client.say(&Packet::Unsubscribe(Unsubscribe { packet_id: id(2), filters, properties: Properties::default() }));
    let Packet::Unsuback(Unsuback { reasons, .. }) = client.hear_one() else { panic!("no UNSUBACK") };
    assert_eq!(reasons, [Reason::Success, Reason::NoSubscriptionExisted]);
}

#[test]
fn a_message_comes_at_the_lower_of_both_qos() {
    for version in [V3, V5] {
        for granted in 0..=2u8 {
            let mut client = Client::connected(version);
            client.subscribe("a", granted);
            (0..=2).for_each(|qos| client.others_publish("a", "x", qos));
            let got: Vec<u8> = messages(&client.hear()).iter().map(|(_, qos, _)| *qos).collect();
            let expected: Vec<u8> = (0..=2).map(|published: u8| published.min(granted)).collect();
            assert_eq!(got, expected);
        }
    }
}

#[test]
fn a_delivery_of_qos_2_is_released_when_it_was_received() {
    let mut client = Client::connected(V5);
    client.subscribe("a", 2);
    client.others_publish("a", "x", 2);
    assert_eq!(messages(&client.hear()), [("x".into(), 2, Some(1))]);
    client.say(&ack(AckKind::Pubrec, 1));
    assert_eq!(client.hear_one(), ack(AckKind::Pubrel, 1));
    client.say(&ack(AckKind::Pubcomp, 1));
    client.say(&ack(AckKind::Pubrec, 1));
    let Packet::Ack(pubrel) = client.hear_one() else { panic!("no PUBREL") };
    assert_eq!((pubrel.kind, pubrel.reason), (AckKind::Pubrel, Reason::PacketIdNotFound));
}

#[test]
fn a_message_carries_what_was_published_and_where_it_stands_in_the_log() {
    let mut client = Client::connected(V5);
    let properties = Properties::default().with(Id::SubscriptionIdentifier, 7u32);
    client.say(&subscribe(1, "a", Options { qos: 1, ..Options::default() }, properties));
    client.hear();
    let extras = Extras { properties: vec![("colour".into(), "red".into())], ..Extras::default() };
    client.others(Message {
        from: Some("ann".into()),
        event: Some("chat".into()),
        content_type: Some("text/plain".into()),
        expires: Some(UnixMillis(1_795_378_321_345 + 59_500)),
        extras: Some(Box::new(extras)),
        ..Message::new(Topic::parse("a").unwrap(), "hi")
    });
    let Packet::Publish(publish) = client.hear_one() else { panic!("no PUBLISH") };
    assert_eq!(publish.properties.identifiers().collect::<Vec<_>>(), [7]);
    assert_eq!(publish.properties.number(Id::MessageExpiryInterval), Some(60), "what is left of it");
    assert_eq!(publish.properties.text(Id::ContentType), Some("text/plain"));
    let names: Vec<&str> = publish.properties.pairs().map(|(name, _)| name).collect();
    assert_eq!(names, ["colour", "cursor", "id", "from", "event"], "the publisher's own come first");
    assert_eq!(publish.properties.pair("cursor"), Some("a:1"));
}

#[test]
fn no_fields_of_other_wires_where_they_are_off() {
    let mut client = Client::with(V5, MqttConfig { user_properties: false, ..MqttConfig::default() });
    client.connect(hello(V5));
    client.subscribe("a", 0);
    client.others_publish("a", "x", 1);
    let Packet::Publish(publish) = client.hear_one() else { panic!("no PUBLISH") };
    assert!(publish.properties.is_empty());
}

#[test]
fn a_topic_is_named_once_to_a_client_that_takes_aliases() {
    let mut client = Client::silent(V5);
    let properties = Properties::default().with(Id::TopicAliasMaximum, 1u32);
    client.connect(Connect { properties, ..hello(V5) });
    client.subscribe("#", 0);
    for topic in ["one", "one", "two"] {
        client.others_publish(topic, "x", 0);
    }
    let got: Vec<_> = client.hear();
    let topics: Vec<_> = got
        .iter()
        .map(|packet| match packet {
            Packet::Publish(publish) => (publish.topic, publish.properties.number(Id::TopicAlias)),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics, [("one", Some(1)), ("", Some(1)), ("two", None)]);
}

#[test]
fn a_message_above_the_clients_maximum_counts_as_delivered() {
    let mut client = Client::silent(V5);
    let properties = Properties::default().with(Id::MaximumPacketSize, 100u32);
    client.connect(Connect { properties, ..hello(V5) });
    client.subscribe("a", 1);
    let long: &'static str = "x".repeat(200).leak();
    client.others_publish("a", long, 1);
    client.others_publish("a", "short", 1);
    assert_eq!(messages(&client.hear()), [("short".into(), 1, Some(2))]);
}

#[test]
fn a_subscription_may_begin_in_the_past() {
    let mut client = Client::connected(V5);
    client.others_publish("a", "one", 1);
    client.others_publish("a", "two", 1);
    let after = Properties::default().with_pair("after", "a:1");
    client.say(&subscribe(1, "a", Options::default(), after));
    assert_eq!(messages(&client.hear()), [("two".into(), 0, None)]);
    let wrong = Properties::default().with_pair("after", "nonsense!");
    client.say(&subscribe(2, "b", Options::default(), wrong));
    let Packet::Suback(suback) = client.hear_one() else { panic!("no SUBACK") };
    assert_eq!(suback.reasons, [Reason::ImplementationSpecific]);
    assert!(suback.properties.text(Id::ReasonString).unwrap().starts_with("`after`: "));
}

#[test]
fn a_retained_message_greets_when_it_is_wanted() {
    for (handling, greets) in [(0, true), (1, true), (2, false)] {
        let mut client = Client::connected(V5);
        client.others(Message { retain: true, ..Message::new(Topic::parse("a").unwrap(), "old") });
        let options = Options { retain_handling: handling, ..Options::default() };
        client.say(&subscribe(1, "a", options, Properties::default()));
        let got = client.hear();
        assert_eq!(messages(&got).len(), usize::from(greets), "retain handling {handling}");
        let flags: Vec<bool> =
            got.iter().filter_map(|p| if let Packet::Publish(p) = p { Some(p.retain) } else { None }).collect();
        assert!(flags.iter().all(|retain| *retain));
    }
}
