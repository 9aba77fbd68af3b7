//! A part of the native protocol: it makes frames of any content, for TCP and WebSocket.

use std::net::SocketAddr;

use crate::http::Connection;
use crate::mqtt::packet;

/// A field of protobuf: bytes with their length before them.
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let Some(tag) = number.checked_mul(8).filter(|tag| *tag < 128) else {
        // Two bytes, as all above 15.
        return [&[number << 3 & 0x7f | 0x82, number >> 4][..], &packet(0, bytes)[1..]].concat();
    };
    packet(tag | 2, bytes) // MQTT writes lengths alike
}

/// A field that is a number.
pub fn number(field: u8, value: u8) -> Vec<u8> {
    vec![field << 3, value]
}

/// The native protocol on TCP, in protobuf.
#[derive(Debug)]
pub struct Wired(Connection);

impl Wired {
    /// Connects, and logs in.
    ///
    /// # Panics
    /// When it isn't let in.
    pub fn open(address: SocketAddr, token: &str) -> Self {
        let mut connection = Connection::open(address);
        connection.send(b"EVERYW/1");
        let mut wired = Self(connection);
        wired.send(&field(1, &field(1, token.as_bytes())));
        wired.frame(1);
        wired
    }

    /// Sends a frame.
    pub fn send(&mut self, frame: &[u8]) {
        self.0.send(&framed(frame));
    }

    /// The next frame of this number, with all texts in it, in their order.
    ///
    /// # Panics
    /// When none comes.
    pub fn frame(&mut self, number: u8) -> Vec<String> {
        loop {
            let frame = self.receive();
            let (found, rest) = tag(&frame);
            if found >> 3 == usize::from(number) {
                return texts(&rest[varint(rest).1..]);
            }
        }
    }

    /// The next frame, of any kind.
    ///
    /// # Panics
    /// When the connection ends.
    pub fn receive(&mut self) -> Vec<u8> {
        let length = self.varint();
        self.0.take(length).expect("a frame")
    }

    fn varint(&mut self) -> usize {
        let mut bytes = Vec::new();
        loop {
            bytes.extend(self.0.take(1).expect("a frame"));
            if bytes.last().is_some_and(|byte| byte & 0x80 == 0) {
                return varint(&bytes).0;
            }
        }
    }
}

/// A number, and how many bytes it has.
fn varint(bytes: &[u8]) -> (usize, usize) {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a whole number") + 1;
    (bytes[..len].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7f)), len)
}

fn tag(bytes: &[u8]) -> (usize, &[u8]) {
    let (tag, len) = varint(bytes);
    (tag, &bytes[len..])
}

/// The fields of a message that are texts.
fn texts(mut message: &[u8]) -> Vec<String> {
    let mut texts = Vec::new();
    while !message.is_empty() {
        let (kind, rest) = tag(message);
        let (value, len) = varint(rest);
        message = &rest[len..];
        if kind & 7 == 2 {
            texts.push(String::from_utf8_lossy(&message[..value]).into_owned());
            message = &message[value..];
        }
    }
    texts
}

/// A frame for TCP, with its length before it.
pub fn framed(frame: &[u8]) -> Vec<u8> {
    packet(0, frame).split_off(1)
}

/// The request that begins a WebSocket in the native protocol (RFC 6455 §4.1).
pub fn upgrade() -> String {
    "GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_owned()
}

/// A masked frame of WebSocket (RFC 6455 §5.2), with a mask that changes nothing.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            frame.push(0x80 | 0x7e);
            frame.extend((len as u16).to_be_bytes());
        }
        len => {
            frame.push(0x80 | 0x7f);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}
