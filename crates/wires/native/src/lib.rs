//! The native protocol: protobuf on TCP and WebSocket, JSON on WebSocket. `docs/protocol.md` is its specification.
//!
//! [`Native`] is a [`Carried`](everywire_wire::Carried) protocol in two codecs; [`NativeTcp`] carries it on TCP, where
//! a client begins with `EVERYW/1`, and a length stands before each frame.
//!
//! | module | what it does |
//! | --- | --- |
//! | `frames` | requests and responses, apart from their encoding |
//! | `json`, `protobuf` | their encodings |
//! | `calls` | frames that are calls of the HTTP API |
//! | `native` | the machine: identity, asks that wait for answers |
//! | `people` | rooms, typing, conversations |
//! | `publish` | from a frame to a draft |
//! | `tcp` | frames among the bytes of a TCP connection, heartbeat |
//!
//! An idle anonymous connection owns its struct and nothing else.

mod calls;
mod frames;
mod json;
mod native;
mod people;
mod protobuf;
mod publish;
mod tcp;

pub use native::Native;
pub use tcp::{NativeTcp, TcpListen};
