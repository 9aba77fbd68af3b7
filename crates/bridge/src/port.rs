//! The port of a bridge to the log: to the log a bridge is one more worker.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, Draft, Outcome};
use everywire_base::id::{AskId, ReplyTo};
use everywire_base::source::Source;
use everywire_log::engine::Engine;
use tokio::sync::{Notify, mpsc};

/// The time that a bridge waits when the log has no room for its appends.
const FULL: Duration = Duration::from_millis(2);

/// The node's end, which the engine's bell calls.
pub struct Line {
    wake: Arc<Notify>,
    outcomes: mpsc::UnboundedSender<Vec<Outcome>>,
}

/// The bridge's end, before it is started.
pub struct Seat {
    bridge: u16,
    wake: Arc<Notify>,
    outcomes: mpsc::UnboundedReceiver<Vec<Outcome>>,
}

/// Both ends for the bridge of this number.
pub fn line(bridge: u16) -> (Line, Seat) {
    let wake = Arc::new(Notify::new());
    // The channel is bounded by the appends that the bridge has under way.
    let (sender, outcomes) = mpsc::unbounded_channel();
    (Line { wake: Arc::clone(&wake), outcomes: sender }, Seat { bridge, wake, outcomes })
}

impl Line {
    /// Wakes the bridge: the head of the log has moved.
    pub fn ring(&self) {
        self.wake.notify_one();
    }

    /// Hands over answers to appends.
    pub fn outcomes(&self, outcomes: Vec<Outcome>) {
        // A bridge that has ended has nobody to answer.
        let _ = self.outcomes.send(outcomes);
    }
}

/// The bridge's end, running.
pub(crate) struct Port {
    seat: Seat,
    engine: Arc<dyn Engine>,
    /// The appends for which the log had no room yet, in order.
    waiting: Vec<Append>,
    asks: u32,
}

impl Port {
    pub(crate) fn new(seat: Seat, engine: Arc<dyn Engine>) -> Self {
        Self { seat, engine, waiting: Vec::new(), asks: 0 }
    }

    /// Adds an append, which goes to the log with the next [`Port::submit`]; returns its number.
    pub(crate) fn append(&mut self, draft: Draft, source: Option<Source>) -> AskId {
        self.asks = self.asks.wrapping_add(1);
        let ask = AskId(self.asks);
        let reply_to = ReplyTo::Bridge { bridge: self.seat.bridge, ask };
        self.waiting.push(Append { source, ..Append::new(reply_to, draft) });
        ask
    }

    /// Hands on the waiting appends. Returns whether there was room for all of them.
    pub(crate) fn submit(&mut self) -> bool {
        if !self.waiting.is_empty() {
            self.engine.submit(&mut self.waiting);
        }
        self.waiting.is_empty()
    }

    /// Takes back the appends that have not gone to the log, which are the last ones; returns their number.
    pub(crate) fn take_back(&mut self) -> usize {
        self.waiting.drain(..).count()
    }

    /// The next answers, in the order of the appends; waiting appends are handed on meanwhile.
    pub(crate) async fn outcomes(&mut self) -> Vec<Outcome> {
        loop {
            if self.submit() {
                return self.seat.outcomes.recv().await.unwrap_or_default();
            }
            tokio::select! {
                biased;
                outcomes = self.seat.outcomes.recv() => return outcomes.unwrap_or_default(),
                () = tokio::time::sleep(FULL) => {}
            }
        }
    }

    /// The signal that the head of the log moves, or has moved since the last time.
    pub(crate) fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.seat.wake)
    }
}
