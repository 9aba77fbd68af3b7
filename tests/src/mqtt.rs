//! A part of MQTT 3.1.1: it sends any bytes, and reads packets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::PATIENCE;

/// A packet of MQTT: its first byte and its body (§2.2).
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
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

/// A text with its length before it (§1.5.3).
pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

/// All properties of a packet: one user property (MQTT-5.0 §2.2.2).
pub fn property(name: &str, value: &str) -> Vec<u8> {
    let pair = [&[0x26][..], &text(name), &text(value)].concat();
    [&[pair.len() as u8][..], &pair].concat()
}

/// PUBLISH at QoS 0.
pub fn publish(topic: &str, body: &str) -> Vec<u8> {
    packet(0x30, &[&text(topic), body.as_bytes()].concat())
}

/// DISCONNECT.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];
/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// The content of a CONNECT.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The client id.
    pub client: String,
    /// Whether the session begins anew and ends with the connection.
    pub clean: bool,
    /// The keep-alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// Topic and message of the will, if there is one.
    pub will: Option<(String, String)>,
    /// User name and password, or token, if there are some.
    pub credentials: Option<(String, String)>,
}

impl Opening {
    /// A clean session without keep-alive and will.
    pub fn new(client: &str) -> Self {
        Self { client: client.into(), clean: true, keep_alive: 0, will: None, credentials: None }
    }

    /// Sets a will.
    #[must_use]
    pub fn will(mut self, topic: &str, message: &str) -> Self {
        self.will = Some((topic.into(), message.into()));
        self
    }

    /// Sets a user and a token.
    #[must_use]
    pub fn credentials(mut self, user: &str, token: &str) -> Self {
        self.credentials = Some((user.into(), token.into()));
        self
    }

    /// CONNECT (§3.1).
    pub fn bytes(&self) -> Vec<u8> {
        let credentials = if self.credentials.is_some() { 0xc0 } else { 0 };
        let flags = u8::from(self.clean) << 1 | u8::from(self.will.is_some()) << 2 | credentials;
        let mut body = [&b"\0\x04MQTT\x04"[..], &[flags], &self.keep_alive.to_be_bytes(), &text(&self.client)].concat();
        if let Some((topic, message)) = &self.will {
            body.extend(text(topic));
            body.extend(text(message));
        }
        if let Some((user, password)) = &self.credentials {
            body.extend(text(user));
            body.extend(text(password));
        }
        packet(0x10, &body)
    }
}

/// A client's connection.
#[derive(Debug)]
pub struct Mqtt {
    stream: TcpStream,
}

impl Mqtt {
    /// Connects, without sending a byte.
    ///
    /// # Panics
    /// When the server refuses.
    pub fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("an option");
        Self { stream }
    }

    /// Connects and logs in.
    ///
    /// # Panics
    /// When it isn't let in.
    pub fn open(address: SocketAddr, opening: &Opening) -> Self {
        let mut client = Self::dial(address);
        client.send(&opening.bytes());
        let (first, body) = client.packet().expect("CONNACK");
        assert_eq!((first, body.last()), (0x20, Some(&0)), "CONNACK: {body:?}");
        client
    }

    /// Sends any bytes. A server that has closed doesn't take them, which is no error.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Reads a packet; `None` if the connection is over.
    pub fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok()?;
        let first = byte[0];
        let (mut len, mut shift) = (0_usize, 0);
        loop {
            self.stream.read_exact(&mut byte).ok()?;
            len |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).ok()?;
        Some((first, body))
    }

    /// Reads up to a packet of this kind; `None` if the connection ends before.
    pub fn packet_of(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let (first, body) = self.packet()?;
            if first >> 4 == kind {
                return Some(body);
            }
        }
    }

    /// Sends PINGREQ and reads up to its answer; says whether one came.
    pub fn is_served(&mut self) -> bool {
        self.send(&PINGREQ);
        self.packet_of(13).is_some()
    }

    /// Closes our side of the connection.
    pub fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }
}
