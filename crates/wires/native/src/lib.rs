//! The native protocol: protobuf on TCP and WebSocket, JSON on WebSocket. `docs/protocol.md` is its specification.
//!
//! [`Native`] is a [`Carried`](everywire_wire::Carried) protocol in two codecs; [`NativeTcp`] carries it on TCP, where a
//! client begins with `EVERYW/1` and each frame is preceded by its length.
//!
//! | module | what it does |
//! | --- | --- |
//! | `frames` | what a client asks and what it is answered, apart from how that is written |
//! | `json`, `protobuf` | how that is written |
//! | `native` | the machine: who it is, what waits for an answer |
//! | `publish` | from a frame to a draft |
//! | `tcp` | frames among the bytes of a TCP connection, heartbeat |
//!
//! An idle anonymous connection owns its struct and nothing else.

mod frames;
mod json;
mod native;
mod protobuf;
mod publish;
mod tcp;

pub use native::Native;
pub use tcp::{NativeTcp, TcpListen};
