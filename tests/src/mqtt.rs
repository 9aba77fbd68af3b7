//! Just enough MQTT 3.1.1 to send any bytes and to read packets.

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

/// PUBLISH at QoS 0.
pub fn publish(topic: &str, body: &str) -> Vec<u8> {
    packet(0x30, &[&text(topic), body.as_bytes()].concat())
}

/// DISCONNECT.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];
/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// What CONNECT says.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The client id.
    pub client: String,
    /// Whether the session begins anew and ends with the connection.
    pub clean: bool,
    /// In seconds; 0 is none.
    pub keep_alive: u16,
    /// Topic and message of the will, if there is one.
    pub will: Option<(String, String)>,
}

impl Opening {
    /// A clean session without keep-alive and will.
    pub fn new(client: &str) -> Self {
        Self { client: client.into(), clean: true, keep_alive: 0, will: None }
    }

    /// With a will.
    #[must_use]
    pub fn will(mut self, topic: &str, message: &str) -> Self {
        self.will = Some((topic.into(), message.into()));
        self
    }

    /// CONNECT (§3.1).
    pub fn bytes(&self) -> Vec<u8> {
        let flags = u8::from(self.clean) << 1 | u8::from(self.will.is_some()) << 2;
        let mut body = [&b"\0\x04MQTT\x04"[..], &[flags], &self.keep_alive.to_be_bytes(), &text(&self.client)].concat();
        if let Some((topic, message)) = &self.will {
            body.extend(text(topic));
            body.extend(text(message));
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
    /// Connects, without a word.
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

    /// Connects and is let in.
    ///
    /// # Panics
    /// When it isn't.
    pub fn open(address: SocketAddr, opening: &Opening) -> Self {
        let mut client = Self::dial(address);
        client.send(&opening.bytes());
        let (first, body) = client.packet().expect("CONNACK");
        assert_eq!((first, body.last()), (0x20, Some(&0)), "CONNACK: {body:?}");
        client
    }

    /// Sends any bytes. What a server that has closed no longer takes is no error.
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

    /// Reads up to a packet of this kind; `None` if the connection is over before.
    pub fn packet_of(&mut self, kind: u8) -> Option<Vec<u8>> {
        loop {
            let (first, body) = self.packet()?;
            if first >> 4 == kind {
                return Some(body);
            }
        }
    }

    /// Sends PINGREQ and reads up to its answer; whether one came.
    pub fn is_served(&mut self) -> bool {
        self.send(&PINGREQ);
        self.packet_of(13).is_some()
    }

    /// Ends our side of the connection.
    pub fn end(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }
}
