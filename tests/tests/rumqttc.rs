//! rumqttc, a client in wide use, in MQTT 3.1.1 and 5.0: every QoS, retained, will, shared, resume.

use std::collections::VecDeque;
use std::time::Duration;

use everywire_tests::{Server, Setup};

/// A message: topic, body, `QoS`, retained.
type Got = (String, String, u8, bool);

/// An event of a client's loop.
enum Seen {
    /// The connection is there; says whether the session was.
    Connected(bool),
    Message(Got),
    Subscribed,
    /// A publish at `QoS` 1 or 2 has come to its end.
    Published,
    Closed,
    Other,
}

/// rumqttc's client of one version.
trait Link {
    fn next(&mut self) -> Seen;
    fn subscribe(&self, filter: &str);
    fn publish(&self, topic: &str, qos: u8, retain: bool, body: &str);
    fn disconnect(&self);
}

/// Implements the trait for the client of one version: rumqttc has two, whose types have nothing in common.
macro_rules! link {
    ($version:ident, $($client:ident)::+, $($packets:ident)::+, $($qos:ident)::+) => {
        mod $version {
            use super::{Got, Link, Seen, WAIT, text};
            use $($client)::+::{Client, Connection, Event};
            use $($packets)::+::Packet;
            use $($qos)::+::QoS;

            pub(crate) struct Pair(pub(crate) Client, pub(crate) Connection);

            impl Link for Pair {
                fn next(&mut self) -> Seen {
                    match self.1.recv_timeout(WAIT).expect("something in time") {
                        Ok(Event::Incoming(Packet::ConnAck(ack))) => Seen::Connected(ack.session_present),
                        Ok(Event::Incoming(Packet::SubAck(_))) => Seen::Subscribed,
                        Ok(Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_))) => Seen::Published,
                        Ok(Event::Incoming(Packet::Publish(message))) => {
                            let body = text(&message.payload);
                            let got: Got = (text(message.topic.as_ref()), body, message.qos as u8, message.retain);
                            Seen::Message(got)
                        }
                        Ok(_) => Seen::Other,
                        Err(_) => Seen::Closed,
                    }
                }

                fn subscribe(&self, filter: &str) {
                    self.0.subscribe(filter, QoS::ExactlyOnce).expect("a subscription");
                }

                fn publish(&self, topic: &str, qos: u8, retain: bool, body: &str) {
                    let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)];
                    self.0.publish(topic, qos, retain, body.to_owned()).expect("a publish");
                }

                fn disconnect(&self) {
                    self.0.disconnect().expect("a goodbye");
                }
            }
        }
    };
}

link!(v4, rumqttc, rumqttc, rumqttc);
link!(v5, rumqttc::v5, rumqttc::v5::mqttbytes::v5, rumqttc::v5::mqttbytes);

const WAIT: Duration = Duration::from_secs(20);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[derive(Clone, Copy, Debug)]
enum Version {
    V4,
    V5,
}

const BOTH: [Version; 2] = [Version::V4, Version::V5];

/// The settings of a connection, besides the client's name.
#[derive(Clone, Copy, Default)]
struct How {
    lasts: bool,
    will: Option<&'static str>,
}

struct Peer {
    link: Box<dyn Link>,
    /// The messages that came while another event was waited for.
    messages: VecDeque<Got>,
    was_there: bool,
}

impl Peer {
    fn connect(server: &Server, version: Version, name: &str, how: How) -> Self {
        let address = server.ready()["mqtt"].as_str().expect("an address");
        let port = address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let link: Box<dyn Link> = match version {
            Version::V4 => {
                let mut options = rumqttc::MqttOptions::new(name, "127.0.0.1", port);
                options.set_clean_session(!how.lasts);
                if let Some(topic) = how.will {
                    options.set_last_will(rumqttc::LastWill::new(topic, "gone", rumqttc::QoS::AtLeastOnce, false));
                }
                let (client, connection) = rumqttc::Client::new(options, 100);
                Box::new(v4::Pair(client, connection))
            }
            Version::V5 => {
                use rumqttc::v5::mqttbytes::{QoS, v5::LastWill};
                let mut options = rumqttc::v5::MqttOptions::new(name, "127.0.0.1", port);
                options.set_clean_start(!how.lasts).set_session_expiry_interval(how.lasts.then_some(600));
                if let Some(topic) = how.will {
                    options.set_last_will(LastWill::new(topic, "gone", QoS::AtLeastOnce, false, None));
                }
                let (client, connection) = rumqttc::v5::Client::new(options, 100);
                Box::new(v5::Pair(client, connection))
            }
        };
        let mut peer = Self { link, messages: VecDeque::new(), was_there: false };
        peer.was_there = peer.until(|seen| if let Seen::Connected(was_there) = seen { Some(*was_there) } else { None });
        peer
    }

    /// Goes on until an event is found; messages that come meanwhile are kept.
    fn until<T>(&mut self, look: impl Fn(&Seen) -> Option<T>) -> T {
        loop {
            let seen = self.link.next();
            if let Some(found) = look(&seen) {
                return found;
            }
            match seen {
                Seen::Message(got) => self.messages.push_back(got),
                Seen::Closed => panic!("the connection ended"),
                _ => {}
            }
        }
    }

    fn subscribe(&mut self, filter: &str) {
        self.link.subscribe(filter);
        self.until(|seen| matches!(seen, Seen::Subscribed).then_some(()));
    }

    fn publish(&mut self, topic: &str, qos: u8, retain: bool, body: &str) {
        self.link.publish(topic, qos, retain, body);
        if qos == 0 {
            return self.settle();
        }
        self.until(|seen| matches!(seen, Seen::Published).then_some(()));
    }

    fn message(&mut self) -> Got {
        let kept = self.messages.pop_front();
        kept.unwrap_or_else(|| self.until(|seen| if let Seen::Message(got) = seen { Some(got.clone()) } else { None }))
    }

    /// Waits until the server has taken all that was sent before.
    fn settle(&mut self) {
        self.subscribe("settled");
    }
}

fn server() -> Server {
    Setup::new().argument("--mqtt").argument("127.0.0.1:0").start()
}

fn got(topic: &str, body: &str, qos: u8, retain: bool) -> Got {
    (topic.into(), body.into(), qos, retain)
}

#[test]
fn every_qos_both_ways() {
    let server = server();
    for version in BOTH {
        let mut reader = Peer::connect(&server, version, "reader", How::default());
        let mut writer = Peer::connect(&server, version, "writer", How::default());
        reader.subscribe("a/+");
        for qos in 0..3 {
            writer.publish("a/b", qos, false, &format!("at {qos}"));
            assert_eq!(reader.message(), got("a/b", &format!("at {qos}"), qos, false), "{version:?}");
        }
    }
}

#[test]
fn a_retained_message_greets_until_it_is_removed() {
    let server = server();
    for version in BOTH {
        let mut writer = Peer::connect(&server, version, "writer", How::default());
        writer.publish("r", 1, true, "kept");
        let mut reader = Peer::connect(&server, version, "reader", How::default());
        reader.subscribe("#");
        assert_eq!(reader.message(), got("r", "kept", 1, true), "{version:?}");
        writer.publish("r", 1, true, "");
        assert_eq!(reader.message(), got("r", "", 1, false), "{version:?}");
    }
}

#[test]
fn a_will_is_published_when_the_network_goes_and_not_after_a_goodbye() {
    let server = server();
    for version in BOTH {
        let mut reader = Peer::connect(&server, version, "reader", How::default());
        reader.subscribe("will/+");
        let mut polite = Peer::connect(&server, version, "polite", How { will: Some("will/polite"), ..How::default() });
        polite.link.disconnect();
        while !matches!(polite.link.next(), Seen::Closed) {}
        drop(Peer::connect(&server, version, "cut", How { will: Some("will/cut"), ..How::default() }));
        assert_eq!(reader.message(), got("will/cut", "gone", 1, false), "{version:?}");
    }
}

#[test]
fn a_session_goes_on_with_what_was_missed() {
    let server = server();
    for version in BOTH {
        let lasting = How { lasts: true, ..How::default() };
        let name = format!("lasting {version:?}");
        let mut writer = Peer::connect(&server, version, "writer", How::default());
        let mut reader = Peer::connect(&server, version, &name, lasting);
        assert!(!reader.was_there);
        reader.subscribe("s");
        writer.publish("s", 1, false, "first");
        assert_eq!(reader.message().1, "first");
        reader.settle();
        drop(reader);
        for qos in 1..3 {
            writer.publish("s", qos, false, &format!("missed at {qos}"));
        }
        let mut reader = Peer::connect(&server, version, &name, lasting);
        assert!(reader.was_there, "{version:?}");
        assert_eq!([reader.message().1, reader.message().1], ["missed at 1", "missed at 2"], "{version:?}");
    }
}

#[test]
fn a_shared_subscription_gives_each_message_to_one() {
    let server = server();
    for version in BOTH {
        let mut writer = Peer::connect(&server, version, "writer", How::default());
        let mut members = ["a", "b"].map(|name| Peer::connect(&server, version, name, How::default()));
        for member in &mut members {
            member.subscribe("$share/g/jobs");
            member.subscribe("end");
        }
        for n in 0..20 {
            writer.publish("jobs", 1, false, &n.to_string());
        }
        writer.publish("end", 1, false, "end");
        let shares = members.map(|mut member| {
            let jobs = std::iter::from_fn(|| Some(member.message().1).filter(|body| body != "end"));
            jobs.map(|body| body.parse::<u32>().expect("a number")).collect::<Vec<_>>()
        });
        assert!(shares.iter().all(|share| !share.is_empty()), "{version:?}: {shares:?}");
        let mut all = shares.concat();
        all.sort_unstable();
        assert_eq!(all, (0..20).collect::<Vec<_>>(), "{version:?}");
    }
}
