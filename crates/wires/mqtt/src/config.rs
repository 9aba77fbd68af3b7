//! The settings of MQTT, which the server tells its clients (`[mqtt]`).

use std::time::Duration;

/// The settings of the wire, shared by all its connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MqttConfig {
    /// The longest keep-alive, in seconds: a client that wants a longer one, or none, is told this one.
    pub server_keep_alive: Option<u16>,
    /// Messages of QoS 1 and 2 that a client may have under way; more end it with 0x93.
    pub receive_maximum: u16,
    /// Topic aliases that a client may use, and that are used for it at most.
    pub topic_alias_maximum: u16,
    /// The longest packet of a client, in bytes; `None` is the bound of `limits.message_bytes`.
    pub maximum_packet_size: Option<u32>,
    /// The longest that a session outlives its connection, if it is less than `limits.session_expiry_max`.
    pub session_expiry_max: Option<Duration>,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self {
            server_keep_alive: None,
            receive_maximum: 1024,
            topic_alias_maximum: 32,
            maximum_packet_size: None,
            session_expiry_max: None,
        }
    }
}
