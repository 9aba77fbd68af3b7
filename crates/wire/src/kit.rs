//! The test kit for wires: a [`Bench`] that drives one wire in virtual time as a driver would, a [`Node`] that answers
//! its asks, both together as a [`Pair`], and golden tables ([`golden`]) that are read by people and by tests.
//!
//! Nothing here knows a protocol. Nothing sleeps: time is a number that [`Pair::advance`] moves.

mod bench;
pub mod golden;
mod node;

use std::time::Duration;

use everywire_base::reason::Reason;

pub use bench::Bench;
pub use node::Node;

/// A wire on its bench, and the node behind it.
pub struct Pair {
    /// Drives the wire.
    pub bench: Bench,
    /// Answers it.
    pub node: Node,
}

impl Pair {
    /// A fresh node behind a wire.
    pub fn new(bench: Bench) -> Self {
        Self { bench, node: Node::default() }
    }

    /// Sends bytes to the wire, and runs all that follows from them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.bench.send(bytes);
        self.run();
    }

    /// Ends the peer's side.
    pub fn end(&mut self) {
        self.bench.end();
        self.run();
    }

    /// Lets time pass, with every deadline in it.
    pub fn advance(&mut self, time: Duration) {
        let until = self.bench.now.monotonic + time;
        while let Some(at) = self.bench.next_deadline().filter(|at| *at <= until) {
            self.bench.move_clock(at);
            self.bench.tick();
            self.run();
        }
        self.bench.move_clock(until);
    }

    /// Ends the connection from the server's side.
    pub fn farewell(&mut self, reason: &Reason) {
        self.bench.farewell(reason);
        self.run();
    }

    /// Answers asks and delivers until nothing more happens.
    pub fn run(&mut self) {
        while self.node.serve(&mut self.bench) {}
    }
}

/// Ways to cut an input into pieces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// All at once.
    Whole,
    /// Two pieces, and the length of the first.
    At(usize),
    /// One byte after the other.
    EveryByte,
}

impl Cut {
    /// Sends an input in these pieces.
    pub fn send(self, pair: &mut Pair, bytes: &[u8]) {
        match self {
            Cut::Whole => pair.send(bytes),
            Cut::At(at) => {
                let (first, second) = bytes.split_at(at.min(bytes.len()));
                pair.send(first);
                pair.send(second);
            }
            Cut::EveryByte => bytes.iter().for_each(|byte| pair.send(&[*byte])),
        }
    }
}

/// Feeds an input whole, byte by byte, and cut at every byte, each time to a fresh pair, and panics if the wire says,
/// publishes, or ends otherwise than with the whole. Gives its output.
pub fn cut_at_every_byte(make: impl Fn() -> Pair, input: &[u8]) -> Vec<u8> {
    let play = |cut: Cut| {
        let mut pair = make();
        cut.send(&mut pair, input);
        (pair.bench.take_output(), pair.node.published().to_vec(), pair.bench.closed().cloned())
    };
    let whole = play(Cut::Whole);
    for cut in (0..=input.len()).map(Cut::At).chain([Cut::EveryByte]) {
        let other = play(cut);
        assert_eq!(
            other.0.escape_ascii().to_string(),
            whole.0.escape_ascii().to_string(),
            "{cut:?} of {}",
            input.escape_ascii()
        );
        assert_eq!((other.1, other.2), (whole.1.clone(), whole.2.clone()), "{cut:?} of {}", input.escape_ascii());
    }
    whole.0
}
