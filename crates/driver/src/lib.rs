//! The driver: moves bytes between sockets and wires.
//!
//! A [`Worker`] is one event loop on one thread. It owns its connections outright; other threads send it mail. A turn
//! is: sleep, mail, commits, reads, farewells, timers, settle, flush. The worker never blocks but in its sleep, never
//! touches the disk, spawns nothing, and knows no protocol: an `if` about one in here means that it leaked.
//!
//! mio and rustls live only in this crate. [`net::Net`] lets a simulation run the same turn without them.

mod accepting;
mod closed;
mod connection;
mod connections;
mod crowd;
mod labels;
pub mod mail;
pub mod metrics;
pub mod mio_net;
pub mod net;
mod notices;
mod proxy;
mod questions;
mod reading;
mod reads;
mod registry;
mod rest;
mod table;
pub mod tls;
mod unfinished;
mod wheel;
pub mod worker;
mod writing;

pub use crowd::Crowd;
pub use mail::{Accepted, Mail, Mailbox, Post, Question};
pub use metrics::WorkerMetrics;
pub use net::Listener;
pub use notices::Notices;
pub use worker::{Ports, Setup, Worker};
