//! The common ground of the black-box tests: a server of its own for each test, raw sockets, and enough HTTP to read
//! answers and streams.
//!
//! Nothing here uses a crate of the server: the tests see only what any client sees.

mod cluster;
mod http;
pub mod kafka;
pub mod mqtt;
pub mod native;
pub mod people;
mod reader;
mod redis;
mod server;
mod socket;
mod stream;
pub mod tls;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use cluster::Cluster;
pub use http::{Connection, Request, Response};
pub use native::Wired;
pub use reader::{Reader, Via, read_all};
pub use redis::{Redis, SYNCED, free_port};
pub use server::{Failed, Server, Setup, binary};
pub use socket::JsonSocket;
pub use stream::{Event, EventStream, LineStream};

/// The longest time for which a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The root of the tree.
///
/// # Panics
/// When there is none.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests stand in the tree").to_owned()
}

/// Waits until a condition holds. It counts its looks, so that a machine that stands still for a while costs only one.
///
/// # Panics
/// When it doesn't within [`PATIENCE`].
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let pause = Duration::from_millis(5);
    for _ in 0..PATIENCE.as_millis() / pause.as_millis() {
        if holds() {
            return;
        }
        std::thread::sleep(pause);
    }
    panic!("waited {PATIENCE:?} in vain until {what}");
}

/// A number from the environment, for runs that are longer than usual.
///
/// # Panics
/// When it is set to something that is no number.
pub fn tuned(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// A small generator of numbers that look random, from a seed that a failing test prints.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// The generator of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
