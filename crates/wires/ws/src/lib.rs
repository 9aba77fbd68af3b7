//! WebSocket (RFC 6455, RFC 7692): a framing that carries another protocol.
//!
//! [`WebSocket`] is a [`Wire`](everywire_wire::Wire) that carries a [`Carried`](everywire_wire::Carried) protocol;
//! [`WsUpgrade`] makes it of an HTTP request. It knows nothing of topics or users.
//!
//! | module | section |
//! | --- | --- |
//! | `handshake` | RFC 6455 §4.2: opening handshake, subprotocols |
//! | `extension` | RFC 7692 §5, §7.1: negotiation of `permessage-deflate` |
//! | `frame` | RFC 6455 §5.2, §5.3: frames and masking |
//! | `message` | RFC 6455 §5.4, §5.6, §8.1: fragments, text and binary, UTF-8 |
//! | `deflate` | RFC 7692 §7.2: compressed messages, always without context takeover |
//! | `close` | RFC 6455 §5.5.1, §7.4: closing and its codes |
//! | `socket` | the connection: control frames, heartbeat, the carried protocol |
//! | `echo` | the echo for conformance tests |
//!
//! An idle connection owns no buffer: a message under way is in a box that goes with it.

mod close;
mod deflate;
mod echo;
mod extension;
mod frame;
mod handshake;
mod message;
mod socket;
#[cfg(test)]
mod tests;

pub use close::code_of;
pub use deflate::compress_min_bytes;
pub use echo::ECHO_MESSAGE_BYTES;
pub use handshake::{Make, Subprotocol, WsUpgrade};
pub use socket::{HEARTBEAT, WebSocket};
