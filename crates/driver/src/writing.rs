//! Writing, from wires to sockets: one `writev` for each dirty connection and turn, and the end of those that close.

use std::time::Duration;

use everywire_base::id::Slot;
use everywire_base::reason::Reason;
use everywire_wire::Outbox;

use crate::connection::{Connection, Flag, Inbound, List, Phase};
use crate::connections::Connections;
use crate::net::Net;
use crate::tls::Flushed;

/// Empty outboxes kept for the next connections that need one.
const SPARE_OUTBOXES: usize = 1024;
/// The time that a peer may go on sending after our last words.
const LINGERING: Duration = Duration::from_secs(2);

impl<N: Net> Connections<N> {
    /// Writes the outboxes: one `writev` for each dirty connection.
    pub(crate) fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            self.flush_one(slot);
        }
        // The list keeps its memory, and a connection that became dirty meanwhile stays in it for the next turn.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Goes on writing to a socket that has room again.
    pub(crate) fn writable(&mut self, slot: Slot) {
        let waits = |c: &mut Connection<_>| c.outbox.is_some() || c.transport.wants_write();
        if self.table.get_mut(slot).is_some_and(waits) {
            self.flush_one(slot);
        }
    }

    /// Writes the outbox of one connection.
    fn flush_one(&mut self, slot: Slot) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        connection.delist(List::Flush);
        let (spare, is_deaf) = (&mut self.spare, connection.is(Flag::Deaf));
        let outbox = connection.outbox.get_or_insert_with(|| spare.pop().unwrap_or_default());
        let before = outbox.len();
        let (result, written) = if is_deaf {
            outbox.clear();
            (Ok(Flushed::All), 0)
        } else {
            connection.transport.flush(&mut self.net, &mut connection.socket, outbox)
        };
        if result.is_err() {
            outbox.clear();
        }
        let left = outbox.len();
        if outbox.is_empty() {
            put_back(&mut self.spare, &mut connection.outbox);
        }
        if result.is_err() {
            connection.set(Flag::Deaf, true);
        }
        self.metrics.bytes_out.add(written);
        connection.bytes_out += written;
        let came = connection.bytes_in;
        if let Some(labelled) = connection.labelled() {
            labelled.wrote(written, came);
        }
        self.metrics.writes.add(u64::from(written > 0));
        self.metrics.outbox_bytes.sub((before - left) as u64);
        if connection.is(Flag::Full) && left <= self.limits.outbox_bytes / 2 {
            connection.set(Flag::Full, false);
            self.roomy.push(slot);
        }
        if left <= self.limits.unread_bytes && connection.set(Flag::Unread, false) {
            self.metrics.unread.sub(1);
            if connection.enlist(List::Settle) {
                self.settle.push(slot);
            }
        }
        match result {
            // The peer takes nothing any more, but bytes that it has sent before are still read: a goodbye may be among
            // them.
            Err(_) if connection.is_alive() => self.ready(slot, true),
            Err(_) => self.drop_now(slot, &Reason::PeerClosed),
            Ok(Flushed::All) if left == 0 => self.finish_closing(slot),
            Ok(_) => {}
        }
    }

    /// Writes the alert of TLS, which says what is wrong.
    pub(crate) fn alert(&mut self, slot: Slot) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        let mut nothing = Outbox::default();
        let _ = connection.transport.flush(&mut self.net, &mut connection.socket, &mut nothing); // it may be gone
    }

    fn finish_closing(&mut self, slot: Slot) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        let Some(reason) = connection.reason().cloned() else { return };
        if connection.inbound == Inbound::Ended || connection.is(Flag::Deaf) || reason == Reason::Timeout {
            return self.drop_now(slot, &reason);
        }
        connection.transport.finish();
        self.alert(slot);
        let Some(connection) = self.table.get_mut(slot) else { return };
        self.net.finish(&mut connection.socket);
        connection.phase = Phase::Lingering;
        self.wheel.set(slot.index, Some(self.now.monotonic + LINGERING));
        self.ready(slot, false);
    }
}

#[expect(clippy::vec_box, reason = "as in `Connections::spare`")]
pub(crate) fn put_back(spare: &mut Vec<Box<Outbox>>, outbox: &mut Option<Box<Outbox>>) {
    if let Some(mut outbox) = outbox.take().filter(|_| spare.len() < SPARE_OUTBOXES) {
        outbox.clear();
        spare.push(outbox);
    }
}
