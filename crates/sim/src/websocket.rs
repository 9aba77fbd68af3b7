//! A part of a WebSocket client (RFC 6455): a handshake, whole messages, pongs.

use crate::http;
use crate::net::Network;

/// The request (§4.1) for the native protocol in protobuf.
pub(crate) const HANDSHAKE: &[u8] =
    b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: everywire.proto\r\n\r\n";

const BINARY: u8 = 2;
const PONG: u8 = 10;

/// The content of a frame.
pub(crate) enum Came {
    Message(Vec<u8>),
    Close,
    Nothing,
}

/// Takes the answer to the handshake off the front, if it is whole. Says whether the connection is a WebSocket now.
pub(crate) fn opened(received: &mut Vec<u8>) -> Option<bool> {
    let head = http::head(received)?;
    received.drain(..head.bytes);
    Some(head.status == 101)
}

/// Takes the next frame off the front (§5.2), if it is whole. The server's frames are unmasked.
pub(crate) fn next(received: &mut Vec<u8>, network: &mut Network, link: u32) -> Result<Option<Came>, String> {
    let [first, second, ..] = received[..] else { return Ok(None) };
    let extended = match second {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some(bytes) = received.get(2..2 + extended) else { return Ok(None) };
    let long = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let (at, length) = (2 + extended, if extended == 0 { usize::from(second) } else { long });
    if received.len() < at + length {
        return Ok(None);
    }
    let payload: Vec<u8> = received.drain(..at + length).skip(at).collect();
    match first {
        0x82 => Ok(Some(Came::Message(payload))),
        0x88 => Ok(Some(Came::Close)),
        0x89 => {
            send(network, link, PONG, &payload);
            Ok(Some(Came::Nothing))
        }
        other => Err(format!("nobody asked for a frame that begins with {other:#x}")),
    }
}

/// Sends a message.
pub(crate) fn say(network: &mut Network, link: u32, message: &[u8]) {
    send(network, link, BINARY, message);
}

fn send(network: &mut Network, link: u32, opcode: u8, payload: &[u8]) {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let mut frame = vec![0x80 | opcode];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            // The mask bit, and a length of two bytes.
            frame.push(0xfe);
            frame.extend(u16::try_from(length).expect("a client says little").to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    network.send(link, &frame);
}
