//! A deterministic world: the real hub, wires, log, store and driver turn under one seeded clock, network and disk.
//!
//! From a seed comes everything: who publishes what, which readers there are and over which transport, when a
//! connection is cut or forgotten, a reader stalls, the server crashes and its disk forgets what was not synced. At the end the
//! world becomes quiet, and the [`checker`] says whether every acknowledged message reached every reader once, in order.

pub mod checker;
mod client;
mod http;
mod member;
mod mqtt;
mod native;
mod net;
mod node;
mod tables;
mod websocket;
mod world;

pub use world::{Outcome, run};
