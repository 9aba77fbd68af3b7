//! A client of the wire, in packets.

use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;
use everywire_base::clock::UnixMillis;
use everywire_base::reason::Reason as End;
use everywire_base::record::Message;
use everywire_base::topic::Topic;
use everywire_mqtt::{MqttConfig, MqttTcp};
use everywire_mqtt_packets::{
    Ack, AckKind, Connack, Connect, Frame, Options, Packet, Properties, Publish, Reason, Side, Subscribe, Version,
    frame,
};
use everywire_wire::kit::{Bench, Pair};

pub(crate) use everywire_mqtt_packets::Version::{V3, V5, V31};

/// A client, and the wire that it speaks to.
pub(crate) struct Client {
    pub(crate) pair: Pair,
    version: Version,
}

/// A wire with these settings.
pub(crate) fn pair(config: MqttConfig) -> Pair {
    Pair::new(Bench::new(|limits, now| Box::new(MqttTcp::new(Arc::new(config), limits, now))))
}

/// A CONNECT without anything.
pub(crate) fn hello(version: Version) -> Connect {
    Connect {
        version,
        is_bridge: false,
        clean_start: true,
        keep_alive: 0,
        client_id: "me".into(),
        will: None,
        user_name: None,
        password: None,
        properties: Properties::default(),
    }
}

/// Adds a user and a password.
pub(crate) fn who(connect: Connect, user: &str, password: &'static str) -> Connect {
    Connect { user_name: Some(user.into()), password: Some(Bytes::from_static(password.as_bytes())), ..connect }
}

impl Client {
    /// A client that hasn't said anything.
    pub(crate) fn silent(version: Version) -> Self {
        Self::with(version, MqttConfig::default())
    }

    pub(crate) fn with(version: Version, config: MqttConfig) -> Self {
        Self { pair: pair(config), version }
    }

    /// A client that is let in.
    pub(crate) fn connected(version: Version) -> Self {
        let mut client = Self::silent(version);
        let answer = client.connect(hello(version));
        assert_eq!(answer.reason, Reason::Success);
        client
    }

    /// Says hello, and gives the answer.
    pub(crate) fn connect(&mut self, connect: Connect) -> Connack {
        self.say(&Packet::Connect(Box::new(connect)));
        match self.hear().remove(0) {
            Packet::Connack(connack) => connack,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn say(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        packet.write(self.version, &mut bytes);
        self.pair.send(&bytes);
    }

    /// All that has come since it was last asked.
    pub(crate) fn hear(&mut self) -> Vec<Packet<'static>> {
        let bytes: &'static [u8] = Box::leak(self.pair.bench.take_output().into_boxed_slice());
        let (mut packets, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let Frame::Known { first, header, body } = frame(&bytes[at..]) else { panic!("half a packet") };
            let body = &bytes[at + header..at + header + body];
            packets.push(Packet::read(self.version, Side::Server, first, body).unwrap());
            at += header + body.len();
        }
        packets
    }

    /// The only packet that has come.
    pub(crate) fn hear_one(&mut self) -> Packet<'static> {
        let mut packets = self.hear();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) -> Vec<Packet<'static>> {
        self.say(&subscribe(1, filter, Options { qos, ..Options::default() }, Properties::default()));
        self.hear()
    }

    /// Publishes for another client.
    pub(crate) fn others_publish(&mut self, topic: &str, body: &'static str, qos: u8) {
        self.others(Message { qos, ..Message::new(Topic::parse(topic).unwrap(), body) });
    }

    pub(crate) fn others(&mut self, message: Message) {
        self.pair.node.publish(message, UnixMillis(1_795_378_321_345));
        self.pair.run();
    }

    /// The reason of the DISCONNECT that has come, and why the connection was closed.
    pub(crate) fn end(&mut self) -> (Option<Reason>, End) {
        let last = match self.hear().pop() {
            Some(Packet::Disconnect(disconnect)) => Some(disconnect.reason),
            _ => None,
        };
        (last, self.pair.bench.closed().cloned().expect("closed"))
    }
}

pub(crate) fn id(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

pub(crate) fn ack(kind: AckKind, number: u16) -> Packet<'static> {
    Packet::Ack(Ack::new(kind, id(number), Reason::Success))
}

pub(crate) fn subscribe(number: u16, filter: &str, options: Options, properties: Properties) -> Packet<'static> {
    Packet::Subscribe(Subscribe { packet_id: id(number), filters: vec![(filter.into(), options)], properties })
}

/// A PUBLISH of QoS 0 without anything.
pub(crate) fn message<'a>(topic: &'a str, payload: &'a str) -> Publish<'a> {
    Publish {
        dup: false,
        qos: 0,
        retain: false,
        topic,
        packet_id: None,
        properties: Properties::default(),
        payload: payload.as_bytes(),
    }
}

/// A PUBLISH with a number.
pub(crate) fn numbered<'a>(topic: &'a str, payload: &'a str, qos: u8, number: u16) -> Publish<'a> {
    Publish { qos, packet_id: Some(id(number)), ..message(topic, payload) }
}

/// The messages among packets: payload, QoS and number.
pub(crate) fn messages(packets: &[Packet<'_>]) -> Vec<(String, u8, Option<u16>)> {
    let publishes = packets.iter().filter_map(|packet| match packet {
        Packet::Publish(publish) => Some(publish),
        _ => None,
    });
    let text = |payload: &[u8]| String::from_utf8_lossy(payload).into_owned();
    publishes.map(|p| (text(p.payload), p.qos, p.packet_id.map(NonZeroU16::get))).collect()
}
