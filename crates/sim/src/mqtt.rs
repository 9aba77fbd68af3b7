//! Clients that speak MQTT 5.0. Publishers publish exactly once, each connection with a will. Readers read by cursor at
//! most once, or in a session at least once or exactly once.
//!
//! A session that was confirmed exists at the next connection, whatever happened to the last one. Now and then a reader
//! throws it away, at the end of a connection or at the beginning of the next, and goes on by cursor. A message that
//! comes again at QoS 1 counts as seen. At QoS 2 the reader knows the packet identifiers that it has received, as the
//! standard says (§4.3.3), and nothing may come twice or out of order.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use bytes::Bytes;
use everywire_base::topic::{Filter, Topic};
use everywire_mqtt_packets::{
    Ack, AckKind, Connect, Disconnect, Frame, Id, Options, Packet, Properties, Publish, Reason, Side, Subscribe,
    Version, Will, frame, names,
};

use crate::checker::Checker;
use crate::native::News;
use crate::net::{Leave, Network};

/// The most deliveries that a session has under way: few, so that its window is often full.
pub(crate) const RECEIVE_MAXIMUM: u32 = 4;
/// The number of connections after which a session is thrown away at the beginning of one.
const FRESH: u32 = 8;
/// The number of connections after which a session is thrown away at the end of one.
const FINAL: u32 = 3;
/// The seconds for which a session is kept: longer than any world lasts.
pub(crate) const LASTING: u32 = 1 << 20;

/// The knowledge of a reader about its subscription.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Subscribed {
    #[default]
    No,
    /// The subscription was confirmed: with a session it need not be repeated.
    Yes,
    /// A connection that was given up before the server let it in may still begin a new session, at any later time, and
    /// so end the one that stands: no session can be relied on.
    InDoubt,
}

/// The state of such a reader: the part of one connection, and the part that outlives it.
#[derive(Default)]
pub(crate) struct Mqtt {
    name: String,
    /// The highest QoS; with 0 there is no session.
    qos: u8,
    /// The server has let this connection in.
    pub(crate) is_in: bool,
    subscribed: Subscribed,
    /// Packet identifiers of messages that were handed on, and are not released.
    received: BTreeSet<NonZeroU16>,
    /// The state of the connection: whether its session is new, the number of deliveries that it allows, and those
    /// under way.
    is_fresh: bool,
    window: u32,
    under_way: BTreeSet<NonZeroU16>,
}

impl Mqtt {
    pub(crate) fn new(number: usize, qos: u8) -> Self {
        Self { name: format!("reader {number}"), qos, ..Self::default() }
    }

    /// Sends the first packet of a new connection.
    pub(crate) fn begin(
        &mut self,
        network: &mut Network,
        link: u32,
        token: Option<String>,
        (filters, cursor): (&[Filter], Option<&str>),
    ) {
        self.is_fresh = self.qos == 0 || self.subscribed != Subscribed::Yes || link.is_multiple_of(FRESH);
        self.window = 1 + link % RECEIVE_MAXIMUM;
        self.under_way.clear();
        let expiry = if self.qos == 0 { 0 } else { LASTING };
        let hello = hello(&self.name, self.is_fresh, expiry, self.window);
        let hello = Connect { password: token.map(Bytes::from), ..hello };
        send(network, link, &Packet::Connect(Box::new(hello)));
        if self.is_fresh {
            self.learn(Subscribed::No);
            self.received.clear();
            let options = Options { qos: self.qos, ..Options::default() };
            let filters = filters.iter().map(|filter| (filter.as_str().into(), options)).collect();
            let after = cursor.unwrap_or("earliest");
            let properties = Properties::default().with_pair(names::AFTER, after);
            send(network, link, &Packet::Subscribe(Subscribe { packet_id: NonZeroU16::MIN, filters, properties }));
        }
    }

    /// Says goodbye, and now and then ends the session with it. The reader can't know whether the server hears that, so
    /// that the next connection begins anew (MQTT-3.2.2-4).
    pub(crate) fn leave(&mut self, network: &mut Network, link: u32) {
        let expiry = if link.is_multiple_of(FINAL) { 0 } else { LASTING };
        if expiry == 0 {
            self.learn(Subscribed::No);
        }
        let properties = Properties::default().with(Id::SessionExpiryInterval, expiry);
        send(network, link, &Packet::Disconnect(Disconnect { reason: Reason::Success, properties }));
    }

    /// Notes that a connection on which it has asked to be let in has ended.
    pub(crate) fn disconnected(&mut self) {
        if self.is_fresh && !self.is_in {
            self.learn(Subscribed::InDoubt);
        }
        self.is_in = false;
    }

    fn learn(&mut self, subscribed: Subscribed) {
        if self.subscribed != Subscribed::InDoubt {
            self.subscribed = subscribed;
        }
    }

    /// Reads the next packet; `None` if it isn't whole yet.
    pub(crate) fn next(
        &mut self,
        received: &mut Vec<u8>,
        network: &mut Network,
        link: u32,
    ) -> Result<Option<Vec<News>>, String> {
        let Some((first, bytes)) = next_packet(received)? else { return Ok(None) };
        let mut news = Vec::new();
        match read(first, &bytes)? {
            Packet::Connack(connack) if connack.reason == Reason::Success => {
                self.is_in = true;
                if connack.session_present == self.is_fresh {
                    let (name, fresh) = (&self.name, self.is_fresh);
                    return Err(format!("a session of {name}, present: {}, fresh: {fresh}", connack.session_present));
                }
            }
            Packet::Suback(suback) => {
                if let Some(reason) = suback.reasons.iter().find(|reason| reason.is_failure()) {
                    // The node doesn't know its cursor yet.
                    let is_behind = *reason == Reason::QuotaExceeded;
                    return is_behind.then(|| Some(vec![News::Close])).ok_or(format!("refused: {reason:?}"));
                }
                self.learn(Subscribed::Yes);
            }
            Packet::Publish(publish) => news.extend(self.take(&publish, network, link)?),
            Packet::Ack(ack) if ack.kind == AckKind::Pubrel => {
                self.received.remove(&ack.packet_id);
                self.under_way.remove(&ack.packet_id);
                send(network, link, &Packet::Ack(Ack::new(AckKind::Pubcomp, ack.packet_id, Reason::Success)));
            }
            Packet::Connack(_) | Packet::Disconnect(_) => news.push(News::Close),
            other => return Err(format!("nobody asked for {other:?}")),
        }
        Ok(Some(news))
    }

    /// Acknowledges a message; returns it, unless it was handed on before.
    fn take(&mut self, publish: &Publish<'_>, network: &mut Network, link: u32) -> Result<Option<News>, String> {
        if publish.qos > self.qos || publish.qos > 0 && publish.packet_id.is_none() {
            return Err(format!("a message of QoS {} with the number {:?}", publish.qos, publish.packet_id));
        }
        let cursor = publish.properties.pair(names::CURSOR).ok_or("a message without a cursor")?.to_owned();
        let (topic, body, may_repeat) = (publish.topic.to_owned(), publish.payload.to_vec(), publish.qos == 1);
        let news = News::Message { topic, cursor, body, may_repeat };
        let Some(number) = publish.packet_id else { return Ok(Some(news)) };
        if publish.qos == 1 {
            send(network, link, &Packet::Ack(Ack::new(AckKind::Puback, number, Reason::Success)));
            return Ok(Some(news));
        }
        let is_new = self.received.insert(number);
        if !is_new && !publish.dup {
            return Err(format!("the number {number} is used for another message before it was released"));
        }
        self.under_way.insert(number);
        if self.under_way.len() > self.window as usize {
            return Err(format!("more than {} are under way", self.window));
        }
        send(network, link, &Packet::Ack(Ack::new(AckKind::Pubrec, number, Reason::Success)));
        Ok(is_new.then_some(news))
    }
}

/// A publisher that sends one message after the other exactly once: the next may go out while the last is released
/// (§4.3.3).
pub(crate) struct Writer {
    name: String,
    /// The publisher was let in once: its session exists from then on.
    is_known: bool,
    /// The publisher is let in now.
    is_in: bool,
    /// The packet identifier of the message under way.
    publishing: Option<NonZeroU16>,
    /// Packet identifiers that the server has received, and not released.
    releasing: BTreeSet<NonZeroU16>,
    /// The will of this connection.
    will: u64,
    /// The life of the server that let it in.
    life: u32,
    /// The wills of connections whose end the server doesn't know of.
    left: Vec<u64>,
}

/// The topic of all wills.
const WILLS: &str = "c";

/// The result of a step of a message.
pub(crate) enum Written {
    Yes,
    NotYet,
    Closed,
}

impl Writer {
    pub(crate) fn new(number: usize) -> Self {
        let name = format!("writer {number}");
        let (releasing, left) = (BTreeSet::new(), Vec::new());
        Self { name, is_known: false, is_in: false, publishing: None, releasing, will: 0, life: 0, left }
    }

    /// Sends the first packet of a new connection, with a will.
    pub(crate) fn begin(&mut self, network: &mut Network, link: u32, checker: &mut Checker) {
        self.will = checker.promise(Topic::parse(WILLS).expect("a topic"));
        let (payload, properties) = (self.will.to_string().into(), Properties::default());
        let will = Will { topic: WILLS.into(), payload, qos: 2, retain: false, properties };
        let hello = Connect { will: Some(will), ..hello(&self.name, false, LASTING, RECEIVE_MAXIMUM) };
        send(network, link, &Packet::Connect(Box::new(hello)));
    }

    /// Ends the connection: if it was let in, its will is published as soon as the server knows.
    pub(crate) fn disconnected(&mut self, network: &Network, how: Leave, checker: &mut Checker) {
        if !std::mem::take(&mut self.is_in) || self.life != network.life {
            return;
        }
        if how == Leave::Silently { self.left.push(self.will) } else { checker.owe_will(self.will) }
    }

    /// Does the next step for this message.
    pub(crate) fn go_on(
        &mut self,
        received: &mut Vec<u8>,
        network: &mut Network,
        link: u32,
        (topic, body): (&str, &str),
        checker: &mut Checker,
    ) -> Result<Written, String> {
        let release = |number| Packet::Ack(Ack::new(AckKind::Pubrel, number, Reason::Success));
        while let Some((first, bytes)) = next_packet(received)? {
            match read(first, &bytes)? {
                Packet::Connack(connack) if connack.reason == Reason::Success => {
                    if self.is_known && !connack.session_present {
                        return Err(format!("the session of {} was lost", self.name));
                    }
                    // An older connection of this name has been taken over.
                    let left = std::mem::take(&mut self.left);
                    if self.life == network.life {
                        for will in left {
                            checker.owe_will(will);
                        }
                    }
                    (self.is_known, self.is_in, self.life) = (true, true, network.life);
                    self.releasing.iter().for_each(|number| send(network, link, &release(*number)));
                    if let Some(number) = self.publishing {
                        send(network, link, &publish(topic, body, number, true));
                    }
                }
                Packet::Connack(_) | Packet::Disconnect(_) => return Ok(Written::Closed),
                Packet::Ack(ack) if ack.kind == AckKind::Pubrec && ack.reason.is_failure() => self.publishing = None,
                Packet::Ack(ack) if ack.kind == AckKind::Pubrec && self.publishing == Some(ack.packet_id) => {
                    self.publishing = None;
                    self.releasing.insert(ack.packet_id);
                    send(network, link, &release(ack.packet_id));
                    return Ok(Written::Yes);
                }
                Packet::Ack(ack) if ack.kind == AckKind::Pubcomp && self.releasing.remove(&ack.packet_id) => {}
                other => return Err(format!("nobody asked for {other:?}")),
            }
        }
        if self.is_in && self.publishing.is_none() {
            let free = (1..u16::MAX).filter_map(NonZeroU16::new).find(|number| !self.releasing.contains(number));
            let number = free.ok_or("every number waits to be released")?;
            self.publishing = Some(number);
            send(network, link, &publish(topic, body, number, false));
        }
        Ok(Written::NotYet)
    }
}

pub(crate) fn hello(name: &str, clean_start: bool, expiry: u32, window: u32) -> Connect {
    let properties = Properties::default().with(Id::SessionExpiryInterval, expiry);
    Connect {
        version: Version::V5,
        is_bridge: false,
        clean_start,
        keep_alive: 0,
        client_id: name.into(),
        will: None,
        user_name: None,
        password: None,
        properties: properties.with(Id::ReceiveMaximum, window).with_pair(names::ASKS, "1"),
    }
}

fn publish<'a>(topic: &'a str, body: &'a str, number: NonZeroU16, dup: bool) -> Packet<'a> {
    let (packet_id, properties, payload) = (Some(number), Properties::default(), body.as_bytes());
    Packet::Publish(Publish { dup, qos: 2, retain: false, topic, packet_id, properties, payload })
}

/// The body of the next packet, after its first byte, if the packet is whole.
pub(crate) fn next_packet(received: &mut Vec<u8>) -> Result<Option<(u8, Bytes)>, String> {
    match frame(received) {
        Frame::Known { first, header, body } if received.len() >= header + body => {
            Ok(Some((first, received.drain(..header + body).skip(header).collect())))
        }
        Frame::Malformed => Err("a packet's length is malformed".into()),
        Frame::Known { .. } | Frame::Unknown => Ok(None),
    }
}

/// The cursors of the messages among the whole packets that have come.
pub(crate) fn cursors(received: &mut Vec<u8>) -> Result<Vec<String>, String> {
    let mut cursors = Vec::new();
    while let Some((first, bytes)) = next_packet(received)? {
        if let Packet::Publish(publish) = read(first, &bytes)? {
            cursors.push(publish.properties.pair(names::CURSOR).ok_or("a message without a cursor")?.to_owned());
        }
    }
    Ok(cursors)
}

pub(crate) fn read(first: u8, bytes: &Bytes) -> Result<Packet<'_>, String> {
    Packet::read(Version::V5, Side::Server, first, bytes).map_err(|error| error.to_string())
}

pub(crate) fn send(network: &mut Network, link: u32, packet: &Packet<'_>) {
    let mut bytes = Vec::new();
    packet.write(Version::V5, &mut bytes);
    network.send(link, &bytes);
}
