//! Members of a shared group (MQTT-5.0 §4.8.2), at least once: each message goes to one of them, and none is lost as
//! long as one of them has a lasting session. Messages come to them in no order, and one may come again to another
//! member.

use std::num::NonZeroU16;

use everywire_base::topic::Filter;
use everywire_mqtt_packets::{Ack, AckKind, Options, Packet, Properties, Reason, Subscribe};

use crate::checker::Checker;
use crate::mqtt::{LASTING, RECEIVE_MAXIMUM, hello, next_packet, read, send};
use crate::net::{Leave, MQTT, Network};

/// A member: one connection at a time.
pub(crate) struct Member {
    name: String,
    /// Whether its session outlives its connections.
    lasts: bool,
    has_joined: bool,
    pub(crate) link: Option<u32>,
    received: Vec<u8>,
    /// The most messages that it takes at once, and those that it has taken.
    window: u32,
    unacknowledged: Vec<NonZeroU16>,
}

impl Member {
    pub(crate) fn new(number: usize, lasts: bool) -> Self {
        let (received, unacknowledged) = (Vec::new(), Vec::new());
        let name = format!("member {number}");
        Self { name, lasts, has_joined: false, link: None, received, window: 0, unacknowledged }
    }

    pub(crate) fn disconnect(&mut self, network: &mut Network, how: Leave) {
        if let Some(link) = self.link.take() {
            network.leave(link, how);
        }
        self.received.clear();
        self.unacknowledged.clear();
    }

    /// Does its next step: connects, joins, takes messages, or acknowledges them when there are no more.
    pub(crate) fn step(&mut self, network: &mut Network, checker: &mut Checker, most: usize) -> Result<(), String> {
        let link = if let Some(link) = self.link { link } else { self.connect(network) };
        let Some(bytes) = network.receive(link, most) else {
            self.disconnect(network, Leave::Closed);
            return Ok(());
        };
        if bytes.is_empty() {
            for number in self.unacknowledged.drain(..) {
                send(network, link, &Packet::Ack(Ack::new(AckKind::Puback, number, Reason::Success)));
            }
        }
        self.received.extend(bytes);
        while let Some((first, bytes)) = next_packet(&mut self.received)? {
            match read(first, &bytes)? {
                Packet::Connack(connack) if connack.reason == Reason::Success => {
                    if self.lasts && self.has_joined && !connack.session_present {
                        return Err(format!("the session of {} was lost", self.name));
                    }
                    if !self.has_joined || !self.lasts {
                        join(network, link, &checker.group.filter);
                    }
                }
                Packet::Suback(suback) => {
                    if let Some(reason) = suback.reasons.iter().find(|reason| reason.is_failure()) {
                        return Err(format!("{} is refused: {reason:?}", self.name));
                    }
                    self.has_joined = true;
                    if self.lasts {
                        checker.group_lasts();
                    }
                }
                Packet::Publish(publish) => {
                    checker.came_to_group(publish.topic, publish.payload)?;
                    if self.lasts {
                        checker.group_lasts();
                    }
                    self.unacknowledged.extend(publish.packet_id);
                    if self.unacknowledged.len() > self.window as usize {
                        return Err(format!("{} has more than {} under way", self.name, self.window));
                    }
                }
                Packet::Connack(_) | Packet::Disconnect(_) => {
                    self.disconnect(network, Leave::Closed);
                    return Ok(());
                }
                other => return Err(format!("nobody asked for {other:?}")),
            }
        }
        Ok(())
    }

    fn connect(&mut self, network: &mut Network) -> u32 {
        let link = network.connect(MQTT, 1 << 16);
        self.link = Some(link);
        self.window = 1 + link % RECEIVE_MAXIMUM;
        let hello = hello(&self.name, !self.lasts, if self.lasts { LASTING } else { 0 }, self.window);
        send(network, link, &Packet::Connect(Box::new(hello)));
        link
    }
}

fn join(network: &mut Network, link: u32, filter: &Filter) {
    let filters = vec![(format!("$share/g/{}", filter.as_str()).into(), Options { qos: 1, ..Options::default() })];
    let subscribe = Subscribe { packet_id: NonZeroU16::MIN, filters, properties: Properties::default() };
    send(network, link, &Packet::Subscribe(subscribe));
}
