//! Just enough of the native protocol to send frames of one's own making, on TCP and WebSocket.

use crate::mqtt::packet;

/// A field of protobuf: bytes with their length before them.
pub fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    packet(number << 3 | 2, bytes) // MQTT writes lengths alike
}

/// A frame on TCP: with its length before it.
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
