//! A running node: wires, hub, driver, log and store composed. The server starts this library, and so do programs that
//! embed Everywire.
//!
//! Threads: the workers; the engine's appender; the store's applier; a few readers of the store; some that check
//! credentials; one for the API. They share the log's tail and answer each other by message. A panic in any of them
//! aborts the process.

mod api;
mod applying;
mod authority;
mod config;
mod control;
mod doorbell;
mod guests;
mod keeping;
mod lane;
mod link;
mod metrics;
mod node;
mod open;
mod peers;
mod process;
mod readers;
mod sys;
mod threads;

pub use config::{Bind, Config, EngineKind, Listener, Over, Speaks, StartError, Tls};
pub use everywire_http::HttpConfig;
pub use everywire_mqtt::MqttConfig;
pub use node::Node;
pub use open::backup;
