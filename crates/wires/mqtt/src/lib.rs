//! MQTT 3.1.1 and 5.0 as a wire. `docs/mqtt.md` describes it for clients.
//!
//! The meaning of delivery, sessions, acknowledgement and wills is the hub's; the form of packets is `mqtt-packets`'.
//! Between them stands [`Mqtt`], one client's connection: packet ids are the hub's tags, a reason code is the hub's
//! word.
//!
//! | module | section of MQTT-5.0 |
//! | --- | --- |
//! | `machine` | §4: the packets of each state, answers in the order of the questions |
//! | `connect` | §3.1, §3.2: the client's identity and its session |
//! | `auth` | §4.12: SCRAM |
//! | `publish` | §3.3, §4.3: messages from the client |
//! | `deliver` | §3.3: messages to the client, and the renditions that clients share |
//! | `subscribe` | §3.8, §3.10, §4.7, §4.8: filters, shared subscriptions |
//! | `words` | §2.4: the reason codes of all that can be refused, and of every end |
//! | `incoming` | packets among the bytes |
//! | `unsettled` | the parts that an idle connection has none of, in one place |
//! | `tcp`, `websocket` | the transports (§4.2, §6) |
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
mod unsettled;
mod websocket;
mod words;

pub use config::MqttConfig;
pub use machine::Mqtt;
pub use tcp::{MqttListen, MqttTcp};
pub use websocket::MqttSocket;
