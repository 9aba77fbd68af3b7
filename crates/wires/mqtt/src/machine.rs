//! The machine: the packets that may come in each state, and answers in the order of the questions.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Ack as Acknowledge, AckError, Goodbye, ScramHash};
use everywire_base::clock::Monotonic;
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason as End;
use everywire_mqtt_packets::{
    Ack, AckKind, Connack, Disconnect, Id, Packet, PacketError, Properties, Reason, Side, Version,
};
use everywire_wire::{Answer, Ask, Carrier, Flow, Kind};

use crate::config::MqttConfig;
use crate::connect::Entering;
use crate::deliver::Extensions;
use crate::incoming::{self, Next};
use crate::unsettled::{Unsettled, Waiting, What};
use crate::words;

/// The value for no moment.
pub(crate) const NEVER: Monotonic = Monotonic(0);

const NO_CONNECT: End = End::Protocol("a client begins with CONNECT");

/// One client's connection. It is one piece of memory while the client is idle.
pub struct Mqtt {
    pub(crate) config: Arc<MqttConfig>,
    pub(crate) state: State,
    pub(crate) version: Version,
    next_ask: u32,
    pub(crate) unsettled: Unsettled,
    /// Whether an answer didn't fit the longest packet that the client takes: the connection ends.
    is_mute: bool,
}

/// The state of a connection.
pub(crate) enum State {
    /// CONNECT must come.
    Connecting(Connecting),
    /// The client's identity is checked, and its session is opened.
    Entering(Box<Entering>),
    /// CONNACK was sent.
    Open(Client),
}

/// A client that hasn't said who it is.
pub(crate) struct Connecting {
    /// The time until which CONNECT must come.
    pub(crate) until: Monotonic,
    /// The identity that the upgrade of a WebSocket has proved.
    pub(crate) identity: Option<Arc<Identity>>,
}

/// The client at the other end.
#[derive(Default)]
pub(crate) struct Client {
    pub(crate) identity: Option<Arc<Identity>>,
    /// The time at which the token expires; zero is never.
    pub(crate) expires: Monotonic,
    /// The hash of its session, which its messages carry.
    pub(crate) origin: u64,
    /// The time that it may be silent, in milliseconds: one and a half times the keep-alive that was agreed on
    /// (MQTT-3.1.2-22); 0 is for ever.
    pub(crate) patience: u32,
    /// The time of the next check whether it was heard; zero is never.
    pub(crate) beat: Monotonic,
    /// The longest packet that it takes; 0 is any.
    pub(crate) maximum_packet: u32,
    /// Messages of QoS 1 and 2 that it has under way.
    pub(crate) under_way: u16,
    /// Whether it wants reason strings and user properties on all packets (§3.1.2.11.7).
    pub(crate) wants_texts: bool,
    /// The authentication method that CONNECT has named.
    pub(crate) method: Option<ScramHash>,
    /// Whether its session ends with the connection.
    pub(crate) is_brief: bool,
    /// Whether it is another server: it gets none of its own messages back, and retain flags as they were set.
    pub(crate) is_bridge: bool,
    /// The parts of MQTT 5.0 that few clients use.
    pub(crate) extensions: Option<Box<Extensions>>,
}

impl Mqtt {
    /// A connection on which CONNECT must come until this time.
    pub fn new(config: Arc<MqttConfig>, until: Monotonic) -> Self {
        Self::upgraded(config, until, None)
    }

    /// The same with the identity that an upgrade has proved.
    pub(crate) fn upgraded(config: Arc<MqttConfig>, until: Monotonic, identity: Option<Arc<Identity>>) -> Self {
        Self {
            config,
            state: State::Connecting(Connecting { until, identity }),
            version: Version::V3,
            next_ask: 0,
            unsettled: Unsettled::default(),
            is_mute: false,
        }
    }

    /// Lets CONNECT come until this time.
    pub(crate) fn await_connect(&mut self, time: Monotonic) {
        if let State::Connecting(Connecting { until, .. }) = &mut self.state {
            *until = time;
        }
    }

    /// Takes bytes, and says how many were used. With `keeps`, a packet that isn't whole is kept here.
    pub(crate) fn read(&mut self, cx: &mut Carrier<'_, '_>, bytes: &[u8], keeps: bool) -> (usize, Flow) {
        // MQTT-3.1.0-1: no bytes of another protocol are waited for.
        let begins = matches!(self.state, State::Connecting(_)) && !incoming::is_amid(&self.unsettled);
        if begins && bytes.first().is_some_and(|first| first >> 4 != 1) {
            return (bytes.len(), Flow::Closed(NO_CONNECT));
        }
        let bound = self.bound(cx);
        let mut used = 0;
        loop {
            let flow = match incoming::next(&mut self.unsettled, &bytes[used..], bound, keeps) {
                Next::Wait(more) => return (used + more, self.flow(cx)),
                Next::Packet { first, body, used: more } => {
                    used += more;
                    self.packet(cx, first, body.bytes())
                }
                Next::Malformed => {
                    self.fail(cx, PacketError { reason: Reason::MalformedPacket, what: "a length that is none" })
                }
                Next::TooLarge => self.end(cx, Reason::PacketTooLarge, End::TooLarge("mqtt.maximum_packet_size")),
            };
            match flow {
                Flow::Open => {}
                Flow::Paused => return (used, flow),
                Flow::Closed(_) => return (bytes.len(), flow),
            }
        }
    }

    /// The bytes of a packet that has not come whole.
    pub(crate) fn holds(&self) -> usize {
        self.unsettled.partial.len()
    }

    /// The longest packet that is taken, in bytes.
    pub(crate) fn bound(&self, cx: &Carrier<'_, '_>) -> usize {
        self.config.maximum_packet_size.map_or(cx.cx.limits.message_bytes, |bytes| bytes as usize)
    }

    fn packet(&mut self, cx: &mut Carrier<'_, '_>, first: u8, body: &[u8]) -> Flow {
        match (Packet::read(self.version, Side::Client, first, body), &self.state) {
            (Ok(Packet::Connect(connect)), State::Connecting(_)) => self.connect(cx, *connect),
            // Another protocol gets no answer (MQTT-3.1.0-1); a CONNECT is told that its version isn't known.
            (Err(error), State::Connecting(_)) if first >> 4 == 1 => self.refuse_connect(cx, body, error),
            (_, State::Connecting(_)) => Flow::Closed(NO_CONNECT),
            // MQTT-3.1.0-2: even if its content is malformed.
            _ if first >> 4 == 1 => {
                self.fail(cx, PacketError { reason: Reason::ProtocolError, what: "a second CONNECT" })
            }
            (Ok(packet), State::Open(_)) => self.open_packet(cx, packet),
            (Ok(Packet::Auth(auth)), State::Entering(_)) => self.go_on_entering(cx, &auth),
            // MQTT-3.1.2-30: a client may give up.
            (Ok(Packet::Disconnect(_)), State::Entering(_)) => Flow::Closed(End::Done),
            (Ok(_), State::Entering(_)) => self.fail(cx, out_of_turn()),
            (Err(error), _) => self.fail(cx, error),
        }
    }

    fn open_packet(&mut self, cx: &mut Carrier<'_, '_>, packet: Packet<'_>) -> Flow {
        match packet {
            Packet::Publish(publish) => return self.publish(cx, &publish),
            Packet::Ack(ack) => return self.ack(cx, &ack),
            Packet::Subscribe(subscribe) => return self.subscribe(cx, subscribe),
            Packet::Unsubscribe(unsubscribe) => return self.unsubscribe(cx, unsubscribe),
            Packet::Pingreq => self.send(cx, Packet::Pingresp),
            Packet::Disconnect(disconnect) => return self.goodbye(cx, &disconnect),
            Packet::Auth(auth) => return self.reauthenticate(cx, &auth),
            // Packets that only servers send were refused when they were read, and a second CONNECT before.
            _ => {}
        }
        self.flow(cx)
    }

    fn ack(&mut self, cx: &mut Carrier<'_, '_>, ack: &Ack) -> Flow {
        let tag = ack.packet_id.get();
        match ack.kind {
            AckKind::Pubrel => {
                let id = self.ask(cx, Ask::Release(tag));
                self.wait(What::Release(id, ack.packet_id));
            }
            AckKind::Pubrec if !ack.reason.is_failure() => {
                self.ask(cx, Ask::Acknowledge(Acknowledge::Received(tag)));
            }
            AckKind::Puback => {
                self.ask(cx, Ask::Acknowledge(Acknowledge::DoneAtLeastOnce(tag)));
            }
            AckKind::Pubcomp | AckKind::Pubrec => {
                self.ask(cx, Ask::Acknowledge(Acknowledge::DoneExactlyOnce(tag)));
            }
        }
        self.flow(cx)
    }

    /// Takes a DISCONNECT (§3.14): the will is not published, unless it asks for that.
    fn goodbye(&mut self, cx: &mut Carrier<'_, '_>, disconnect: &Disconnect) -> Flow {
        let expiry = disconnect.properties.number(Id::SessionExpiryInterval);
        let is_brief = matches!(&self.state, State::Open(client) if client.is_brief);
        if is_brief && expiry.is_some_and(|expiry| expiry > 0) {
            let what = "a session that ends with its connection gets an expiry";
            return self.fail(cx, PacketError { reason: Reason::ProtocolError, what });
        }
        let expiry = expiry.map(|seconds| Duration::from_secs(seconds.into()));
        self.ask(cx, Ask::Goodbye(Goodbye { expiry, will: disconnect.reason != Reason::Success }));
        Flow::Closed(End::Done)
    }

    /// Takes the answer to an ask.
    pub(crate) fn answer(&mut self, cx: &mut Carrier<'_, '_>, ask: AskId, answer: Answer) -> Flow {
        match answer {
            Answer::Authenticated(result) => return self.authenticated(cx, result),
            Answer::Welcomed(result) => return self.welcomed(cx, result),
            Answer::Published(result) => return self.published(cx, ask, result),
            Answer::KnownAlready => self.fill(cx, ask, |_, id| Self::received(id)),
            Answer::Released(was_known) => self.fill(cx, ask, |_, id| Self::complete(id, was_known)),
            Answer::Subscribed(subscribed) => self.subscribed(cx, ask, &subscribed),
            Answer::Unsubscribed(was_there) => self.unsubscribed(cx, ask, was_there),
            Answer::Received(tag) => self.release(cx, tag, Reason::Success),
            Answer::NotAcknowledged(AckError::UnknownTag(tag)) => self.release(cx, tag, Reason::PacketIdNotFound),
            Answer::NotAcknowledged(AckError::WrongKind) => {
                let what = "a message of one quality of service, acknowledged in the way of another";
                return self.fail(cx, PacketError { reason: Reason::ProtocolError, what });
            }
            // MQTT asks nothing else.
            _ => {}
        }
        self.flow(cx)
    }

    pub(crate) fn received(id: NonZeroU16) -> Packet<'static> {
        Packet::Ack(Ack::new(AckKind::Pubrec, id, Reason::Success))
    }

    fn complete(id: NonZeroU16, was_known: bool) -> Packet<'static> {
        let reason = if was_known { Reason::Success } else { Reason::PacketIdNotFound };
        Packet::Ack(Ack::new(AckKind::Pubcomp, id, reason))
    }

    /// Sends a PUBREL: a delivery was received, or isn't known.
    pub(crate) fn release(&mut self, cx: &mut Carrier<'_, '_>, tag: u16, reason: Reason) {
        if let Some(id) = NonZeroU16::new(tag) {
            self.send(cx, Packet::Ack(Ack::new(AckKind::Pubrel, id, reason)));
        }
    }

    /// Asks the node, and gives the number of the ask.
    pub(crate) fn ask(&mut self, cx: &mut Carrier<'_, '_>, ask: Ask) -> AskId {
        let id = AskId(self.next_ask);
        self.next_ask = self.next_ask.wrapping_add(1);
        cx.cx.asks.push((id, ask));
        id
    }

    /// Notes a question.
    pub(crate) fn wait(&mut self, what: What) {
        self.unsettled.waiting.push_back(Waiting { what, answer: None });
    }

    /// Notes a question that is answered already, as soon as those before it are.
    pub(crate) fn answer_in_turn(&mut self, cx: &mut Carrier<'_, '_>, answer: Packet<'static>) {
        self.unsettled.waiting.push_back(Waiting { what: What::Nothing, answer: Some(answer) });
        self.send_answers(cx);
    }

    /// Fills in the answer to a message or a release.
    pub(crate) fn fill(
        &mut self,
        cx: &mut Carrier<'_, '_>,
        ask: AskId,
        answer: impl FnOnce(u8, NonZeroU16) -> Packet<'static>,
    ) {
        let is_it = |waiting: &&mut Waiting| match &waiting.what {
            What::Publish(id, _) | What::Release(id, _) => *id == ask,
            What::Filters(_) | What::Nothing => false,
        };
        let Some(waiting) = self.unsettled.waiting.iter_mut().find(is_it) else { return };
        waiting.answer = match std::mem::replace(&mut waiting.what, What::Nothing) {
            What::Publish(_, Some((id, qos))) => Some(answer(qos, id)),
            What::Release(_, id) => Some(answer(2, id)),
            _ => None,
        };
        self.send_answers(cx);
    }

    /// Whether a message is to be acknowledged.
    pub(crate) fn is_awaited(&self, ask: AskId) -> bool {
        self.unsettled.waiting.iter().any(|waiting| matches!(waiting.what, What::Publish(id, Some(_)) if id == ask))
    }

    /// Sends the answers whose turn it is (MQTT-4.6.0-2, -3).
    pub(crate) fn send_answers(&mut self, cx: &mut Carrier<'_, '_>) {
        while self.unsettled.waiting.front().is_some_and(|waiting| matches!(waiting.what, What::Nothing)) {
            let Some(Waiting { answer: Some(packet), .. }) = self.unsettled.waiting.pop_front() else { continue };
            if let (Packet::Ack(ack), State::Open(client)) = (&packet, &mut self.state) {
                let is_over = ack.kind != AckKind::Pubrec || ack.reason.is_failure();
                client.under_way = client.under_way.saturating_sub(u16::from(is_over));
            }
            self.send(cx, packet);
        }
        self.unsettled.tidy();
    }

    /// Sends a packet, as short as the client wants it.
    pub(crate) fn send(&mut self, cx: &mut Carrier<'_, '_>, mut packet: Packet<'_>) {
        let wants_texts = match &self.state {
            State::Open(client) => client.wants_texts,
            State::Entering(entering) => entering.wants_texts(),
            State::Connecting(_) => true,
        };
        // MQTT-3.1.2-29: only CONNACK and DISCONNECT may explain themselves all the same.
        if !wants_texts && !matches!(packet, Packet::Connack(_) | Packet::Disconnect(_)) {
            packet.remove_texts();
        }
        let mut bytes = Vec::with_capacity(64);
        packet.write(self.version, &mut bytes);
        let most = match &self.state {
            State::Open(client) => client.maximum_packet,
            State::Entering(entering) => entering.maximum_packet(),
            State::Connecting(_) => 0,
        };
        let fits = |bytes: &[u8]| most == 0 || bytes.len() <= most as usize;
        if !fits(&bytes) {
            packet.remove_texts();
            bytes.clear();
            packet.write(self.version, &mut bytes);
        }
        if fits(&bytes) {
            return cx.send(Kind::Binary, &bytes);
        }
        // MQTT-3.1.2-24: it isn't sent, and without it the client would wait for ever.
        if !std::mem::replace(&mut self.is_mute, true) && !matches!(packet, Packet::Connack(_)) {
            let (reason, properties) = (Reason::PacketTooLarge, Properties::default());
            self.send(cx, Packet::Disconnect(Disconnect { reason, properties }));
        }
    }

    /// The next state after a packet or an answer.
    pub(crate) fn flow(&self, cx: &Carrier<'_, '_>) -> Flow {
        if self.is_mute {
            return Flow::Closed(End::TooLarge("the client's Maximum Packet Size"));
        }
        let bound = cx.cx.limits.pipelined_asks.min(cx.cx.limits.pipelined_publishes);
        match &self.state {
            State::Connecting(_) => Flow::Open,
            State::Entering(_) if self.unsettled.exchange.as_ref().is_some_and(|exchange| exchange.awaits_client()) => {
                Flow::Open
            }
            State::Entering(_) => Flow::Paused,
            State::Open(_) => {
                // Filters that aren't asked for yet are all that one packet may bring.
                let last = self.unsettled.waiting.back().map(|waiting| &waiting.what);
                let has_more = matches!(last, Some(What::Filters(filters)) if filters.has_more());
                if has_more || !cx.cx.has_room() || self.unsettled.waiting.len() >= bound {
                    Flow::Paused
                } else {
                    Flow::Open
                }
            }
        }
    }

    /// Acts at the end of a turn: the log has come as far as the answers in it.
    pub(crate) fn settle(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        self.begin_filters(cx);
        self.flow(cx)
    }

    /// Ends the connection after a fault of the client's, and tells it the fault (§4.13).
    pub(crate) fn fail(&mut self, cx: &mut Carrier<'_, '_>, error: PacketError) -> Flow {
        self.say_end(cx, error.reason, error.what);
        Flow::Closed(End::Protocol(error.what))
    }

    /// Ends the connection.
    pub(crate) fn end(&mut self, cx: &mut Carrier<'_, '_>, reason: Reason, end: End) -> Flow {
        self.say_end(cx, reason, end.as_str());
        Flow::Closed(end)
    }

    /// Says why the connection ends, if there are words for it.
    pub(crate) fn say_end(&mut self, cx: &mut Carrier<'_, '_>, reason: Reason, text: &str) {
        let properties = Properties::default().with_text(Id::ReasonString, text);
        match (&self.state, self.version) {
            (State::Open(_), Version::V5) => self.send(cx, Packet::Disconnect(Disconnect { reason, properties })),
            (State::Entering(_), Version::V5) => {
                self.send(cx, Packet::Connack(Connack { session_present: false, reason, properties }));
            }
            (State::Entering(_), _) if reason.connack_v3().is_some() => {
                let properties = Properties::default();
                self.send(cx, Packet::Connack(Connack { session_present: false, reason, properties }));
            }
            _ => {}
        }
    }

    /// Hands a delivery over, or says that there is no room for it.
    pub(crate) fn push(&mut self, cx: &mut Carrier<'_, '_>, delivery: &Delivery<'_>) -> Taken {
        match delivery {
            Delivery::Message(parcel, options) => self.deliver(cx, parcel, options, false),
            Delivery::Retained(parcel, options) => self.deliver(cx, parcel, options, true),
            Delivery::Release(tag) => self.release(cx, tag.get(), Reason::Success),
            // MQTT has no word for a gap; the registry and the metrics tell of it.
            Delivery::Gap(_) | Delivery::Signal(_) | Delivery::Conversation(_) => {}
        }
        Taken::Yes
    }

    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        match &self.state {
            State::Connecting(connecting) => Some(connecting.until),
            State::Entering(entering) => Some(entering.until()),
            State::Open(client) => [client.expires, client.beat].into_iter().filter(|at| *at != NEVER).min(),
        }
    }

    pub(crate) fn tick(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        let now = cx.cx.now.monotonic;
        let is_due = |at: Monotonic| at != NEVER && at <= now;
        let client = match &mut self.state {
            State::Connecting(connecting) if connecting.until <= now => return Flow::Closed(End::Timeout),
            State::Entering(entering) if entering.until() <= now => {
                return self.end(cx, Reason::ServerBusy, End::Timeout);
            }
            State::Connecting(_) | State::Entering(_) => return self.flow(cx),
            State::Open(client) => client,
        };
        if is_due(client.expires) {
            return self.end(cx, Reason::NotAuthorized, End::Expired);
        }
        if is_due(client.beat) {
            let patience = Duration::from_millis(client.patience.into());
            if cx.cx.heard + patience <= now {
                return self.end(cx, Reason::KeepAliveTimeout, End::Timeout);
            }
            client.beat = cx.cx.heard + patience;
        }
        self.flow(cx)
    }

    /// Ends the connection in MQTT's words.
    pub(crate) fn farewell(&mut self, cx: &mut Carrier<'_, '_>, reason: &End) {
        let code = if matches!(self.state, State::Open(_)) { words::end(reason) } else { words::not_let_in(reason) };
        let text = match reason {
            End::Kicked(why) => why,
            other => other.as_str(),
        };
        self.say_end(cx, code, text);
    }
}

fn out_of_turn() -> PacketError {
    PacketError { reason: Reason::ProtocolError, what: "a packet before the authentication is over" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Mqtt>() <= 80, "{}", size_of::<Mqtt>());
    }
}
