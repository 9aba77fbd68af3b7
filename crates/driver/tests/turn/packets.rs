//! Packets of clients.

use std::sync::Arc;

use everywire_base::limits::Limits;
use everywire_http::{HttpConfig, HttpListener, Service};
use everywire_mqtt::{MqttConfig, MqttListen};
use everywire_native::TcpListen;
use everywire_wire::Listen;

pub(crate) fn http(limits: &Arc<Limits>) -> Arc<dyn Listen> {
    let config = HttpConfig::default();
    Arc::new(HttpListener::new(Arc::new(Service::new(config, Vec::new())), Arc::clone(limits)))
}

pub(crate) fn mqtt(limits: &Arc<Limits>) -> Arc<dyn Listen> {
    Arc::new(MqttListen::new(Arc::new(MqttConfig::default()), Arc::clone(limits)))
}

pub(crate) fn native(limits: &Arc<Limits>) -> Arc<dyn Listen> {
    Arc::new(TcpListen::new(Arc::clone(limits)))
}

/// A packet of MQTT: its first byte and its body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut len = body.len();
    loop {
        let more = len >= 128;
        bytes.push((len % 128) as u8 | u8::from(more) << 7);
        len /= 128;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A text or payload with its length before it.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// CONNECT of MQTT 3.1.1 with flags, and a keep-alive in seconds.
pub(crate) fn connect(client: &str, flags: u8, keep_alive: u16) -> Vec<u8> {
    let body = [&b"\0\x04MQTT\x04"[..], &[flags], &keep_alive.to_be_bytes(), &text(client)].concat();
    packet(0x10, &body)
}

/// PUBLISH at QoS 0.
pub(crate) fn publish(topic: &str, body: &str) -> Vec<u8> {
    packet(0x30, &[&text(topic), body.as_bytes()].concat())
}

/// CONNECT of MQTT 3.1.1 in a clean session with a will.
pub(crate) fn connect_with_will(client: &str, topic: &str, message: &str) -> Vec<u8> {
    let fields = [text(client), text(topic), text(message)].concat();
    packet(0x10, &[&b"\0\x04MQTT\x04\x06\0\0"[..], &fields].concat())
}
