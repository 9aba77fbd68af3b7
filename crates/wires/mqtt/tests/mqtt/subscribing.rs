//! SUBSCRIBE and what comes of it (MQTT-5.0 §3.3, §3.8 to §3.11).

use std::num::NonZeroU16;
use std::time::Duration;

use everywire_base::ask::Subscribed;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Epoch;
use everywire_base::parcel::{Delivery, Parcel};
use everywire_base::reason::Reason as End;
use everywire_base::record::{Extras, Message};
use everywire_base::terms::DeliveryOptions;
use everywire_base::topic::{Filter, Topic};
use everywire_mqtt_packets::{
    AckKind, Connect, Id, Options, Packet, Properties, Publish, Reason, Suback, Subscribe, Unsuback, Unsubscribe,
};
use everywire_wire::Answer;

use crate::setup::{Client, V3, V5, ack, hello, id, message, messages, numbered, subscribe};

#[test]
fn each_filter_is_answered_for_itself() {
    for (version, refused, too_long) in [
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
            ("x".repeat(2000).into(), options(1)),
        ];
        client.say(&Packet::Subscribe(Subscribe { packet_id: id(9), filters, properties: Properties::default() }));
        let Packet::Suback(Suback { packet_id, reasons, .. }) = client.hear_one() else { panic!("no SUBACK") };
        assert_eq!(packet_id, id(9));
        assert_eq!(reasons, [Reason::Success, refused, Reason::GrantedQos2, too_long]);
        assert_eq!(client.pair.node.notices().len(), usize::from(version == V3), "3.1.1 isn't told why");
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

/// A message of another wire, with all that it can say.
fn full(topic: &str) -> Message {
    let extras = Extras {
        properties: vec![("everywire-from".into(), "a liar".into()), ("colour".into(), "red".into())],
        ..Extras::default()
    };
    Message {
        from: Some("ann".into()),
        event: Some("chat".into()),
        content_type: Some("text/plain".into()),
        expires: Some(UnixMillis(1_795_378_321_345 + 59_500)),
        extras: Some(Box::new(extras)),
        ..Message::new(Topic::parse(topic).unwrap(), "hi")
    }
}

/// The names and values of the user properties of the only message.
fn pairs(client: &mut Client) -> Vec<(String, String)> {
    let Packet::Publish(publish) = client.hear_one() else { panic!("no PUBLISH") };
    publish.properties.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn names(client: &mut Client) -> Vec<String> {
    pairs(client).into_iter().map(|(name, _)| name).collect()
}

fn asking() -> Client {
    let mut client = Client::silent(V5);
    let properties = Properties::default().with_pair("everywire-properties", "1");
    client.connect(Connect { properties, ..hello(V5) });
    client
}

#[test]
fn a_message_carries_what_was_published_and_nothing_else() {
    let mut client = Client::connected(V5);
    let properties = Properties::default().with(Id::SubscriptionIdentifier, 7u32);
    client.say(&subscribe(1, "a", Options { qos: 1, ..Options::default() }, properties));
    let Packet::Suback(suback) = client.hear_one() else { panic!("no SUBACK") };
    assert!(suback.properties.is_empty());
    client.others(full("a"));
    let Packet::Publish(publish) = client.hear_one() else { panic!("no PUBLISH") };
    assert_eq!(publish.properties.identifiers().collect::<Vec<_>>(), [7]);
    assert_eq!(publish.properties.number(Id::MessageExpiryInterval), Some(60), "what is left of it");
    assert_eq!(publish.properties.text(Id::ContentType), Some("text/plain"));
    assert_eq!(publish.properties.pairs().collect::<Vec<_>>(), [("everywire-from", "a liar"), ("colour", "red")]);
    client.others_publish("a", "plain", 1);
    let Packet::Publish(publish) = client.hear_one() else { panic!("no PUBLISH") };
    assert_eq!(publish.properties, Properties::default().with(Id::SubscriptionIdentifier, 7u32));
}

#[test]
fn a_client_that_asks_is_told_where_a_message_stands_and_whose_it_is() {
    for qos in 0..=1 {
        let mut client = asking();
        client.say(&subscribe(1, "a", Options { qos, ..Options::default() }, Properties::default()));
        let Packet::Suback(suback) = client.hear_one() else { panic!("no SUBACK") };
        assert_eq!(suback.properties.pair("everywire-cursor"), Some("a:0"));
        client.others(full("a"));
        let told = pairs(&mut client);
        let told: Vec<(&str, &str)> = told.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            told[0],
            ("colour", "red"),
            "the publisher's own come first, without those that only the server says"
        );
        assert_eq!(told[1], ("everywire-cursor", "a:1"));
        assert_eq!(told[2].0, "everywire-id");
        assert_eq!(told[3..], [("everywire-from", "ann"), ("everywire-event", "chat")]);
        client.others_publish("a", "plain", 1);
        assert_eq!(names(&mut client), ["everywire-cursor", "everywire-id"]);
    }
    let mut refusing = Client::silent(V5);
    let properties = Properties::default().with_pair("everywire-properties", "0");
    refusing.connect(Connect { properties, ..hello(V5) });
    refusing.subscribe("a", 1);
    refusing.others_publish("a", "x", 1);
    assert!(pairs(&mut refusing).is_empty());
}

#[test]
fn a_subscription_with_a_start_tells_of_its_messages_alone() {
    let mut client = Client::connected(V5);
    client.subscribe("a", 1);
    let after = Properties::default().with_pair("everywire-after", "latest");
    client.say(&subscribe(2, "b/#", Options { qos: 1, ..Options::default() }, after));
    let Packet::Suback(suback) = client.hear_one() else { panic!("no SUBACK") };
    assert_eq!(suback.properties.pair("everywire-cursor"), Some("a:0"));
    client.others_publish("a", "x", 1);
    assert!(names(&mut client).is_empty());
    client.others_publish("b/c", "x", 1);
    assert_eq!(names(&mut client), ["everywire-cursor", "everywire-id"]);
    client.say(&subscribe(3, "b/#", Options { qos: 1, ..Options::default() }, Properties::default()));
    client.hear();
    client.others_publish("b/c", "x", 1);
    assert!(names(&mut client).is_empty(), "the subscription was replaced by one without a start");
}

#[test]
fn a_retained_message_carries_the_cursor_of_who_gets_it() {
    let mut client = asking();
    client.others(Message { retain: true, ..full("a") });
    client.others_publish("b", "x", 1);
    client.say(&subscribe(1, "a", Options { qos: 1, ..Options::default() }, Properties::default()));
    let mut got = client.hear();
    assert!(
        matches!(got.remove(0), Packet::Suback(suback) if suback.properties.pair("everywire-cursor") == Some("a:2"))
    );
    let Packet::Publish(greeting) = got.remove(0) else { panic!("no PUBLISH") };
    assert!(greeting.retain);
    assert_eq!(greeting.properties.pair("everywire-cursor"), Some("a:2"), "not that of the retained message");
    assert_eq!(greeting.properties.pair("everywire-from"), Some("ann"));
    assert_eq!(greeting.properties.pairs().filter(|(name, _)| *name == "everywire-cursor").count(), 1);
}

#[test]
fn an_expiry_is_what_is_left_at_each_delivery() {
    for tag in [None, NonZeroU16::new(1)] {
        let mut client = Client::connected(V5);
        // One parcel, as a worker keeps it for those who read later.
        let record = client.pair.node.publish(full("a"), UnixMillis(1_795_378_321_345));
        let parcel = Parcel::new(record, Epoch(10)).unwrap();
        let mut left = Vec::new();
        for _ in 0..3 {
            let options = DeliveryOptions { qos: u8::from(tag.is_some()), tag, ..DeliveryOptions::PLAIN };
            client.pair.bench.push(&Delivery::Message(&parcel, options));
            let Packet::Publish(publish) = client.hear_one() else { panic!("no PUBLISH") };
            left.push(publish.properties.number(Id::MessageExpiryInterval).unwrap());
            client.pair.advance(Duration::from_secs(20));
        }
        assert_eq!(left, [60, 40, 20]);
        // The clock was two hours ahead when it was published, and is set right.
        client.pair.bench.now.wall.0 -= 7_200_000;
        client.pair.bench.push(&Delivery::Message(&parcel, DeliveryOptions::PLAIN));
        let Packet::Publish(publish) = client.hear_one() else { panic!("no PUBLISH") };
        assert_eq!(publish.properties.number(Id::MessageExpiryInterval), Some(60));
    }
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
    let notices = client.pair.node.notices();
    assert_eq!(notices.len(), 1);
    assert_eq!(&*notices[0].why, "a message of a is longer than the 100 bytes that the client takes");
}

#[test]
fn a_message_fits_although_what_is_told_of_it_does_not() {
    for qos in 0..=1 {
        let mut client = Client::silent(V5);
        let properties = Properties::default().with(Id::MaximumPacketSize, 64u32);
        client.connect(Connect { properties: properties.with_pair("everywire-properties", "1"), ..hello(V5) });
        client.subscribe("a", qos);
        client.others_publish("a", "a message of 34 bytes, with the head", 1);
        let Packet::Publish(publish) = client.hear_one() else { panic!("no PUBLISH") };
        assert!(publish.properties.is_empty());
    }
}

#[test]
fn a_subscribe_with_very_many_filters_is_asked_for_a_bounded_number_at_a_time() {
    let count = 65_000;
    let mut client = Client::connected(V5);
    let filters: Vec<(Box<str>, Options)> = vec![("a".into(), Options { qos: 1, ..Options::default() }); count];
    let packet = Subscribe { packet_id: id(1), filters, properties: Properties::default() };
    let mut bytes = Vec::new();
    Packet::Subscribe(packet).write(V5, &mut bytes);
    client.pair.bench.send(&bytes);
    let mut most = 0;
    loop {
        let asks = client.pair.bench.take_asks();
        most = most.max(asks.len());
        if asks.is_empty() {
            break;
        }
        for (ask, _) in asks {
            let subscribed = Subscribed { cursor: "a:0".parse().unwrap(), refused: Vec::new(), gap: false };
            client.pair.bench.answer(ask, Answer::Subscribed(subscribed));
        }
    }
    assert!(most <= client.pair.bench.limits.pipelined_asks, "{most}");
    let Packet::Suback(suback) = client.hear_one() else { panic!("no SUBACK") };
    assert!(suback.reasons == vec![Reason::GrantedQos1; count]);
}

#[test]
fn what_a_client_has_published_before_is_not_new_to_its_filters() {
    for qos in 0..=2 {
        let mut client = Client::connected(V5);
        let publish = if qos == 0 { message("a", "before") } else { numbered("a", "before", qos, 1) };
        let mut bytes = Vec::new();
        Packet::Publish(Publish { retain: true, ..publish }).write(V5, &mut bytes);
        let never = Options { retain_handling: 2, ..Options::default() };
        subscribe(1, "a", never, Properties::default()).write(V5, &mut bytes);
        subscribe(2, "a", Options::default(), Properties::default()).write(V5, &mut bytes);
        client.pair.send(&bytes);
        let got = client.hear();
        let greetings = got.iter().filter(|packet| matches!(packet, Packet::Publish(publish) if publish.retain));
        assert_eq!((greetings.count(), messages(&got).len()), (1, 1), "QoS {qos}: as a retained message, once");
        let subacks = got.iter().filter(|packet| matches!(packet, Packet::Suback(_)));
        assert_eq!(subacks.count(), 2);
    }
}

#[test]
fn a_subscription_may_begin_in_the_past() {
    let mut client = Client::connected(V5);
    client.others_publish("a", "one", 1);
    client.others_publish("a", "two", 1);
    let after = Properties::default().with_pair("everywire-after", "a:1");
    client.say(&subscribe(1, "a", Options::default(), after));
    assert_eq!(messages(&client.hear()), [("two".into(), 0, None)]);
    let wrong = Properties::default().with_pair("everywire-after", "nonsense!");
    client.say(&subscribe(2, "b", Options::default(), wrong));
    let Packet::Suback(suback) = client.hear_one() else { panic!("no SUBACK") };
    assert_eq!(suback.reasons, [Reason::ImplementationSpecific]);
    assert!(suback.properties.text(Id::ReasonString).unwrap().starts_with("`everywire-after`: "));
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

/// MQTT-5.0 §3.4 and §3.5: PUBACK answers QoS 1, PUBREC and PUBCOMP answer QoS 2. mosquitto ends such a client too.
#[test]
fn a_delivery_is_acknowledged_in_the_way_of_its_qos() {
    for version in [V3, V5] {
        for (qos, wrong) in [(2, AckKind::Puback), (1, AckKind::Pubrec), (1, AckKind::Pubcomp)] {
            let mut client = Client::connected(version);
            client.subscribe("a", qos);
            client.others_publish("a", "x", qos);
            assert_eq!(client.hear().len(), 1);
            client.say(&ack(wrong, 1));
            let reason = (version == V5).then_some(Reason::ProtocolError);
            let (said, end) = client.end();
            assert_eq!(said, reason, "{wrong:?} for QoS {qos}");
            assert!(matches!(end, End::Protocol(_)), "{end:?}");
        }
    }
}
