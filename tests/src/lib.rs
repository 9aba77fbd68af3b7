//! What the black-box tests share: a server of their own for each test, raw sockets, and just enough HTTP to read
//! answers and streams.
//!
//! Nothing here uses a crate of the server: what the tests see is what anybody sees from outside.

mod http;
pub mod mqtt;
pub mod native;
mod reader;
mod server;
mod stream;

use std::time::Duration;

pub use http::{Connection, Request, Response};
pub use reader::{Reader, Via, read_all};
pub use server::{Failed, Server, Setup, binary};
pub use stream::{Event, EventStream, LineStream};

/// After this a test gives up on what it waits for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds. Looks are counted, so that a machine that stands still for a while loses one.
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

/// A number from the environment, for runs that shall be longer than usual.
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
