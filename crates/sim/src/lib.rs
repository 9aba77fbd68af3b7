//! A deterministic world: the real hub, wires, log, store and driver turn under one seeded clock, network and disk.
//!
//! Everything follows from the seed: the publishes, the readers and their transports, the moments at which a connection
//! is cut or forgotten, a reader stalls, or the server crashes and its disk forgets what was not synced. At the end the
//! world becomes quiet, and the [`checker`] says whether every acknowledged message reached every reader once, in
//! order.
//!
//! The world steps whole turns one after the other, so that a fault in the midst of a turn never shows. In this way a
//! session was lost that was read while the applier was between its record and the position of all, and thousands of
//! worlds found nothing. The applier is therefore stopped at a random lookup in its tables, where a reader serves a
//! read. The turns of the appender and of a worker are still whole. Half of the worlds have two workers, between which
//! claims of a session, groups and wills cross, and half of the readers log in, with tokens that expire.
//! An operator asks the API for connections, and ends some. Cleaning, which looks at records the applier has just let
//! go, is stepped with the applier's turn. The store's own tests try a reader at every place of a turn, for short
//! histories (`crates/store/tests/interleaving.rs`).
//!
//! [`cluster`] has worlds of three nodes that share a log.

mod api;
pub mod checker;
mod client;
pub mod cluster;
mod http;
mod member;
mod mortal;
mod mqtt;
mod native;
mod net;
mod node;
mod operator;
mod ports;
mod tables;
mod tokens;
mod websocket;
mod world;

pub use world::{Outcome, run};
