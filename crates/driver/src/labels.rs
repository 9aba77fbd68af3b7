//! The cost of labelled connections. A connection without a label holds nothing for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everywire_base::id::Slot;
use everywire_base::lab::Tally;

use crate::connections::Connections;
use crate::net::Net;

/// The label of a connection's present request.
pub(crate) struct Labelled {
    tally: Arc<Tally>,
    /// The bytes that came and are counted.
    counted: u64,
}

fn add(number: &AtomicU64, more: u64) {
    number.fetch_add(more, Ordering::Relaxed);
}

impl<N: Net> Connections<N> {
    /// Notes that a request carries a label, or none.
    pub(crate) fn label_with(&mut self, slot: Slot, label: Option<&str>) {
        let (from, _) = self.whereabouts(slot);
        let tally = label.and_then(|label| self.lab.enter(label, from, self.now.monotonic));
        let Some(connection) = self.table.get_mut(slot) else { return };
        // The request itself came with the last read; bytes before it were counted when something was written.
        let came = connection.bytes_in.saturating_sub(self.last_read);
        let counted = connection.labelled().map_or(came, |labelled| labelled.counted);
        connection.label_with(tally.map(|tally| {
            add(&tally.requests, 1);
            Labelled { tally, counted }
        }));
    }

    /// Counts a request that was answered without a message.
    pub(crate) fn found_nothing(&mut self, slot: Slot) {
        if let Some(labelled) = self.table.get_mut(slot).and_then(|connection| connection.labelled()) {
            add(&labelled.tally.empty, 1);
        }
    }
}

impl Labelled {
    /// Counts a message that was delivered.
    pub(crate) fn delivered(&self) {
        add(&self.tally.messages, 1);
    }

    /// Counts a write, and the bytes that had come before it.
    pub(crate) fn wrote(&mut self, bytes: u64, came: u64) {
        add(&self.tally.bytes_out, bytes);
        add(&self.tally.writes, u64::from(bytes > 0));
        add(&self.tally.bytes_in, came - self.counted);
        self.counted = came;
    }
}
