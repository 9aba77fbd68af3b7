//! A deterministic world: the real hub, wires, log, store and driver turn under one seeded clock, network and disk.
//!
//! From a seed comes everything: who publishes what, which readers there are and over which transport, when a
//! connection is cut or forgotten, a reader stalls, the server crashes and its disk forgets what was not synced. At the end the
//! world becomes quiet, and the [`checker`] says whether every acknowledged message reached every reader once, in order.
//!
//! What it can't see: it steps whole turns one after the other, so what is wrong only in the midst of a turn never shows.
//! That is how a session was lost that was read while the applier was between its record and the position of all, in
//! thousands of worlds that found nothing. The applier is therefore stopped at a random look into its tables, where a
//! reader serves a read. Still whole are the turns of the appender and of a worker; there is one worker, so that claims
//! of a session never cross between two of them; and cleaning, which looks at records the applier has just let go, is
//! stepped with the applier's turn. The store's own tests try a reader at every place of a turn, for short histories
//! (`crates/store/tests/interleaving.rs`).

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
