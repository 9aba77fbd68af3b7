//! A part of a WebSocket client: it reads the texts of the native protocol in JSON.

use std::net::SocketAddr;

use serde_json::Value;

use crate::http::Connection;
use crate::native::{masked, upgrade};

/// A WebSocket with the native protocol in JSON.
#[derive(Debug)]
pub struct JsonSocket(Connection);

impl JsonSocket {
    /// Connects.
    ///
    /// # Panics
    /// When the server doesn't upgrade.
    pub fn open(address: SocketAddr) -> Self {
        let mut connection = Connection::open(address);
        connection.send(upgrade().as_bytes());
        let head = connection.head().expect("an answer");
        assert_eq!(head.status, 101, "{head:?}");
        Self(connection)
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &Value) {
        self.0.send(&masked(1, frame.to_string().as_bytes()));
    }

    /// The next frame; `None` when the server closes.
    ///
    /// # Panics
    /// When it sends a frame that is no text.
    pub fn receive(&mut self) -> Option<Value> {
        loop {
            let head = self.0.take(2).ok()?;
            let length = match head[1] {
                126 => self.0.take(2).ok()?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
                127 => self.0.take(8).ok()?.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
                short => usize::from(short),
            };
            let payload = self.0.take(length).ok()?;
            match head[0] & 0x0f {
                1 => return Some(serde_json::from_slice(&payload).expect("JSON")),
                8 => return None,
                _ => {}
            }
        }
    }

    /// The next frame of this name.
    ///
    /// # Panics
    /// When the server closes before.
    pub fn frame(&mut self, name: &str) -> Value {
        loop {
            let mut frame = self.receive().expect("a frame");
            if let Some(found) = frame.get_mut(name) {
                return found.take();
            }
        }
    }
}
