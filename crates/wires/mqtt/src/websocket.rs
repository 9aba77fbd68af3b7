//! MQTT within WebSocket messages (MQTT-5.0 §6): packets may go on beyond the end of a message.

use std::sync::Arc;

use everywire_base::clock::Monotonic;
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_wire::{Answer, Carried, Carrier, Flow, Kind};

use crate::{Mqtt, MqttConfig};

/// One client on WebSocket.
pub struct MqttSocket {
    mqtt: Mqtt,
    /// The bytes that came while none were taken.
    rest: Vec<u8>,
}

impl MqttSocket {
    /// A connection with the identity that the upgrade has proved.
    pub fn new(config: Arc<MqttConfig>, identity: Option<Arc<Identity>>) -> Self {
        Self { mqtt: Mqtt::upgraded(config, Monotonic::default(), identity), rest: Vec::new() }
    }

    /// Goes on with bytes that came before, as soon as some are taken.
    fn go_on(&mut self, cx: &mut Carrier<'_, '_>, flow: Flow) -> Flow {
        if flow != Flow::Open || self.rest.is_empty() {
            return flow;
        }
        let rest = std::mem::take(&mut self.rest);
        let (used, flow) = self.mqtt.read(cx, &rest, true);
        if used < rest.len() {
            self.rest = rest[used..].to_vec();
        }
        flow
    }
}

impl Carried for MqttSocket {
    fn begin(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        self.mqtt.await_connect(cx.cx.now.monotonic + cx.cx.limits.login);
        Flow::Open
    }

    fn message(&mut self, cx: &mut Carrier<'_, '_>, kind: Kind, message: &[u8]) -> Flow {
        if kind == Kind::Text {
            // MQTT-6.0.0-1.
            return Flow::Closed(Reason::Protocol("MQTT goes in binary messages"));
        }
        self.rest.extend_from_slice(message);
        self.go_on(cx, Flow::Open)
    }

    fn answer(&mut self, cx: &mut Carrier<'_, '_>, ask: AskId, answer: Answer) -> Flow {
        let flow = self.mqtt.answer(cx, ask, answer);
        self.go_on(cx, flow)
    }

    fn push(&mut self, cx: &mut Carrier<'_, '_>, delivery: &Delivery<'_>) -> Taken {
        self.mqtt.push(cx, delivery)
    }

    fn settle(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        let flow = self.mqtt.settle(cx);
        self.go_on(cx, flow)
    }

    fn deadline(&self) -> Option<Monotonic> {
        self.mqtt.deadline()
    }

    fn tick(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        let flow = self.mqtt.tick(cx);
        self.go_on(cx, flow)
    }

    fn farewell(&mut self, cx: &mut Carrier<'_, '_>, reason: &Reason) {
        self.mqtt.farewell(cx, reason);
    }

    fn holds(&self) -> usize {
        self.mqtt.holds() + self.rest.len()
    }

    fn name(&self) -> &'static str {
        "mqtt"
    }
}
