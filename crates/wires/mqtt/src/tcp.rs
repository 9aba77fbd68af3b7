//! MQTT on TCP (MQTT-5.0 §4.2).

use std::sync::Arc;

use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::AskId;
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_wire::{Answer, Carrier, Context, Flow, Framing, Input, Kind, Listen, Peer, Progress, Then, Wire};

use crate::{Mqtt, MqttConfig};

/// Packets stand one after the other.
struct Bare;

impl Framing for Bare {
    fn name(&self) -> &'static str {
        ""
    }

    fn frame(&self, _: Kind, message: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(message);
    }
}

/// One client on TCP.
pub struct MqttTcp(Mqtt);

impl MqttTcp {
    /// A new connection.
    pub fn new(config: Arc<MqttConfig>, limits: &Limits, now: Now) -> Self {
        Self(Mqtt::new(config, now.monotonic + limits.login))
    }
}

fn then(flow: Flow) -> Then {
    match flow {
        Flow::Open => Then::Open,
        Flow::Paused => Then::Paused,
        Flow::Closed(reason) => Then::Closed(reason),
    }
}

impl Wire for MqttTcp {
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress {
        match input {
            Input::Bytes(bytes) => {
                let (used, flow) = self.0.read(&mut Carrier { cx, framing: &Bare }, bytes, false);
                Progress { used, then: then(flow) }
            }
            Input::End(bytes) => Progress { used: bytes.len(), then: Then::Closed(Reason::PeerClosed) },
        }
    }

    fn answer(&mut self, cx: &mut Context<'_>, ask: AskId, answer: Answer) -> Then {
        then(self.0.answer(&mut Carrier { cx, framing: &Bare }, ask, answer))
    }

    fn push(&mut self, cx: &mut Context<'_>, delivery: &Delivery<'_>) -> Taken {
        self.0.push(&mut Carrier { cx, framing: &Bare }, delivery)
    }

    fn settle(&mut self, cx: &mut Context<'_>) -> Then {
        then(self.0.settle(&mut Carrier { cx, framing: &Bare }))
    }

    fn deadline(&self) -> Option<Monotonic> {
        self.0.deadline()
    }

    fn tick(&mut self, cx: &mut Context<'_>) -> Then {
        then(self.0.tick(&mut Carrier { cx, framing: &Bare }))
    }

    fn farewell(&mut self, cx: &mut Context<'_>, reason: &Reason) -> Then {
        self.0.farewell(&mut Carrier { cx, framing: &Bare }, reason);
        Then::Closed(reason.clone())
    }

    fn holds(&self) -> usize {
        self.0.holds()
    }

    fn name(&self) -> &'static str {
        "mqtt"
    }
}

/// Makes an [`MqttTcp`] for each connection that is accepted.
#[derive(Clone, Debug)]
pub struct MqttListen {
    config: Arc<MqttConfig>,
    limits: Arc<Limits>,
}

impl MqttListen {
    /// A listener with these settings and bounds.
    pub fn new(config: Arc<MqttConfig>, limits: Arc<Limits>) -> Self {
        Self { config, limits }
    }
}

impl Listen for MqttListen {
    fn accept(&self, _: &Peer, now: Now) -> Box<dyn Wire> {
        Box::new(MqttTcp::new(Arc::clone(&self.config), &self.limits, now))
    }
}
