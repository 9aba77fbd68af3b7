//! What labelled connections cost. One without a label holds nothing for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use everywire_base::id::Slot;
use everywire_base::lab::Tally;

use crate::connections::Connections;
use crate::net::Net;

/// The label of a connection's present request.
pub(crate) struct Labelled {
    tally: Arc<Tally>,
    /// How much of what came is counted.
    counted: u64,
}

fn add(number: &AtomicU64, more: u64) {
    number.fetch_add(more, Ordering::Relaxed);
}

impl<N: Net> Connections<N> {
    /// A request carries a label, or none.
    pub(crate) fn label_with(&mut self, slot: Slot, label: Option<&str>) {
        let tally = label.and_then(|label| self.lab.enter(label, self.now.monotonic));
        let Some(connection) = self.table.get_mut(slot) else { return };
        // The request itself came with the last read; what came before it was counted when something was written.
        let counted =
            connection.labelled.as_ref().map_or(connection.bytes_in.saturating_sub(self.last_read), |l| l.counted);
        connection.labelled = tally.map(|tally| {
            add(&tally.requests, 1);
            Box::new(Labelled { tally, counted })
        });
    }

    /// A request was answered without a message.
    pub(crate) fn found_nothing(&mut self, slot: Slot) {
        if let Some(labelled) = self.table.get_mut(slot).and_then(|connection| connection.labelled.as_ref()) {
            add(&labelled.tally.empty, 1);
        }
    }
}

impl Labelled {
    /// A message was delivered.
    pub(crate) fn delivered(&self) {
        add(&self.tally.messages, 1);
    }

    /// Something was written, after so much had come.
    pub(crate) fn wrote(&mut self, bytes: u64, came: u64) {
        add(&self.tally.bytes_out, bytes);
        add(&self.tally.writes, u64::from(bytes > 0));
        add(&self.tally.bytes_in, came - self.counted);
        self.counted = came;
    }
}
