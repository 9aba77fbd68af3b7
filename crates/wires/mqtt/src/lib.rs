//! MQTT 3.1.1 and 5.0 as a wire. `docs/mqtt.md` says what a client sees of it.
//!
//! What delivery, sessions, acknowledgement and wills mean is the hub's; what packets look like is `mqtt-packets`'.
//! Between them stands [`Mqtt`], one client's connection: packet ids are the hub's tags, a reason code is the hub's word.
//!
//! | module | section of MQTT-5.0 |
//! | --- | --- |
//! | `machine` | §4: which packet may come when, answers in the order of the questions |
//! | `connect` | §3.1, §3.2: who it is, which session |
//! | `auth` | §4.12: SCRAM |
//! | `publish` | §3.3, §4.3: what the client publishes |
//! | `deliver` | §3.3: what the client gets; the renditions that clients share |
//! | `subscribe` | §3.8, §3.10, §4.7, §4.8: filters, shared subscriptions |
//! | `words` | §2.4: the reason codes of all that can be refused, and of every end |
//! | `incoming` | packets among the bytes |
//! | `tcp`, `websocket` | what carries them (§4.2, §6) |
//!
//! An idle connection owns its structs and nothing else.

mod auth;
mod config;
mod connect;
mod deliver;
mod incoming;
mod machine;
mod publish;
mod subscribe;
mod tcp;
mod websocket;
mod words;

pub use config::MqttConfig;
pub use machine::Mqtt;
pub use tcp::{MqttListen, MqttTcp};
pub use websocket::MqttSocket;
