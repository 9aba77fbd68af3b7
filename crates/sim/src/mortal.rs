//! Clients that connect once, with a will, and never come back.
//!
//! A client of which the server has let the connection in leaves its will when the connection is reset, or when the
//! node dies that it is at: then another node publishes it. Nobody gets it twice.

use bytes::Bytes;
use everywire_base::topic::Topic;
use everywire_mqtt_packets::{Connect, Packet, Properties, Reason, Will};

use crate::checker::Checker;
use crate::mqtt::{RECEIVE_MAXIMUM, hello, next_packet, read, send};
use crate::net::{Leave, MQTT, Network};

/// The topic of their wills.
const WILLS: &str = "room/2";

/// Such a client.
pub(crate) struct Mortal {
    name: String,
    link: Option<u32>,
    received: Vec<u8>,
    will: u64,
    is_in: bool,
    /// Whether its session would outlive it.
    lasts: bool,
}

impl Mortal {
    pub(crate) fn new(number: usize) -> Self {
        let name = format!("mortal {number}");
        Self { name, link: None, received: Vec::new(), will: 0, is_in: false, lasts: number.is_multiple_of(2) }
    }

    /// Does its next step: connects, or sees whether it is in; `false` when its connection is over.
    pub(crate) fn step(&mut self, network: &mut Network, checker: &mut Checker) -> Result<bool, String> {
        let link = if let Some(link) = self.link { link } else { self.connect(network, checker) };
        let Some(bytes) = network.receive(link, usize::MAX) else { return Ok(false) };
        self.received.extend(bytes);
        while let Some((first, bytes)) = next_packet(&mut self.received)? {
            match read(first, &bytes)? {
                Packet::Connack(connack) if connack.reason == Reason::Success => self.is_in = true,
                Packet::Connack(_) | Packet::Disconnect(_) => return Ok(false),
                other => return Err(format!("nobody asked for {other:?}")),
            }
        }
        Ok(true)
    }

    fn connect(&mut self, network: &mut Network, checker: &mut Checker) -> u32 {
        let link = network.connect(MQTT, 1 << 16);
        self.link = Some(link);
        self.will = checker.promise(Topic::parse(WILLS).expect("a topic"));
        let (payload, properties): (Bytes, _) = (self.will.to_string().into(), Properties::default());
        let will = Will { topic: WILLS.into(), payload, qos: 2, retain: false, properties };
        let expiry = if self.lasts { 3600 } else { 0 };
        let hello = Connect { will: Some(will), ..hello(&self.name, true, expiry, RECEIVE_MAXIMUM) };
        send(network, link, &Packet::Connect(Box::new(hello)));
        link
    }

    /// Dies: its will must come if the server has let it in.
    pub(crate) fn die(self, network: &mut Network, checker: &mut Checker) {
        self.link.into_iter().for_each(|link| network.leave(link, Leave::Cut));
        if self.is_in {
            checker.acknowledge(self.will);
        }
    }
}
