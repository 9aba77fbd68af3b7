//! Bytes of messages that are not whole, in wires and before them: they have a time, and bounds.
//!
//! The time is that of slow requests: it begins with the first byte of a message that isn't whole, and small parts now
//! and then don't make it longer. The bytes are bounded for a connection that nobody has logged in on where login is
//! on, for all connections of an address that nobody has logged in on, and for a worker.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use everywire_base::clock::Monotonic;
use everywire_base::id::Slot;
use everywire_base::limits::Limits;
use everywire_base::notice::{Notice, Refused};
use everywire_base::reason::Reason;
use everywire_wire::Position;

use crate::connection::{Flag, Phase};
use crate::connections::Connections;
use crate::net::Net;

/// The unfinished bytes of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    pub(crate) bytes: u32,
    /// Whether somebody has shown good credentials.
    pub(crate) is_known: bool,
    /// The time since which they wait.
    pub(crate) since: Monotonic,
}

/// The unfinished bytes of all connections of a worker.
#[derive(Default)]
pub(crate) struct Unfinished {
    bytes: usize,
    /// Those of connections that nobody has logged in on, by address.
    of_strangers: HashMap<IpAddr, usize>,
}

impl Unfinished {
    fn change(&mut self, address: IpAddr, held: Held, bytes: usize) {
        let before = held.bytes as usize;
        self.bytes = self.bytes - before + bytes;
        if held.is_known {
            return;
        }
        let of_address = self.of_strangers.entry(address).or_default();
        *of_address = *of_address - before + bytes;
        if *of_address == 0 {
            self.of_strangers.remove(&address);
        }
    }

    /// The bound that the bytes of a connection exceed, if there is one.
    fn exceeded(&self, address: IpAddr, held: Held, may_be_anonymous: bool, limits: &Limits) -> Option<&'static str> {
        let bytes = held.bytes as usize;
        if bytes <= limits.unfinished_bytes_before_login {
            return None;
        }
        let of_address = self.of_strangers.get(&address).copied().unwrap_or_default();
        if !held.is_known && !may_be_anonymous {
            Some("limits.unfinished_bytes_before_login")
        } else if !held.is_known && of_address > limits.unfinished_bytes_per_address {
            Some("limits.unfinished_bytes_per_address")
        } else if self.bytes > limits.unfinished_bytes {
            Some("limits.unfinished_bytes")
        } else {
            None
        }
    }
}

impl<N: Net> Connections<N> {
    /// Weighs the unfinished bytes of a connection, after `came` bytes have come.
    pub(crate) fn weigh(&mut self, slot: Slot, came: usize, position: &Position) {
        let Some(connection) = self.table.get_mut(slot).filter(|c| c.is_alive()) else { return };
        let bytes = connection.input().len() + connection.wire.holds();
        let before = connection.held();
        if bytes == 0 && before.bytes == 0 {
            return;
        }
        self.unfinished.change(connection.address().ip(), before, bytes);
        self.metrics.unfinished_bytes.set(self.unfinished.bytes as u64);
        // All bytes have come just now, or the wire has not taken them until now.
        let is_new = before.bytes == 0 || bytes <= came || connection.phase == Phase::Paused;
        let since = if is_new { self.now.monotonic } else { before.since };
        connection.hold(u32::try_from(bytes).unwrap_or(u32::MAX), since);
        let (address, held) = (connection.address().ip(), connection.held());
        let may_be_anonymous = self.rules.may_enter(None).is_ok();
        if let Some(bound) = self.unfinished.exceeded(address, held, may_be_anonymous, &self.limits) {
            return self.give_up(slot, position, &format!("{bytes} bytes of it, and {bound} allows no more"), || {
                if held.is_known || may_be_anonymous {
                    Reason::Overloaded(Duration::from_secs(1))
                } else {
                    Reason::TooLarge(bound)
                }
            });
        }
        self.set_deadline(slot);
    }

    /// Ends a connection that has not finished something in time.
    pub(crate) fn give_up_late(&mut self, slot: Slot, position: &Position) {
        let due = self.unfinished_until(slot).is_some_and(|at| at <= self.now.monotonic);
        if due {
            let why = format!("it was not whole within limits.slow_request, {:?}", self.limits.slow_request);
            self.give_up(slot, position, &why, || Reason::Timeout);
        }
    }

    /// The time at which the unfinished bytes of a connection must be whole.
    pub(crate) fn unfinished_until(&mut self, slot: Slot) -> Option<Monotonic> {
        let connection = self.table.get_mut(slot)?;
        let held = connection.held();
        let waits = held.bytes > 0 && connection.phase == Phase::Open;
        waits.then(|| held.since + self.limits.slow_request)
    }

    /// Takes the bytes of a connection off the counts.
    pub(crate) fn unweigh(&mut self, address: IpAddr, held: Held) {
        if held.bytes > 0 {
            self.unfinished.change(address, held, 0);
            self.metrics.unfinished_bytes.set(self.unfinished.bytes as u64);
        }
    }

    /// Notes that somebody has logged in on a connection.
    pub(crate) fn is_known(&mut self, slot: Slot) {
        let Some(connection) = self.table.get_mut(slot).filter(|c| !c.is(Flag::Known)) else { return };
        let (address, held) = (connection.address().ip(), connection.held());
        connection.set(Flag::Known, true);
        self.unfinished.change(address, held, 0);
        self.unfinished.bytes += held.bytes as usize;
    }

    fn give_up(&mut self, slot: Slot, position: &Position, why: &str, reason: impl FnOnce() -> Reason) {
        self.note(slot, Notice::new(Refused::Unfinished, why));
        let reason = reason();
        self.call_then(slot, position, |wire, cx| wire.farewell(cx, &reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_by_address_until_somebody_logs_in() {
        let (limits, mut all) = (Limits::default(), Unfinished::default());
        let address = IpAddr::from([10, 0, 0, 1]);
        let of = |bytes: usize, is_known| Held { bytes: bytes as u32, is_known, since: Monotonic(0) };
        let most = limits.unfinished_bytes_per_address;
        all.change(address, of(0, false), most);
        assert_eq!(all.exceeded(address, of(most, false), true, &limits), None);
        assert_eq!(
            all.exceeded(address, of(most, false), false, &limits),
            Some("limits.unfinished_bytes_before_login"),
            "where login is on"
        );
        all.change(address, of(0, false), 100_000);
        let bound = all.exceeded(address, of(100_000, false), true, &limits);
        assert_eq!(bound, Some("limits.unfinished_bytes_per_address"));
        assert_eq!(all.exceeded(address, of(1000, false), true, &limits), None, "small packets go on");
        assert_eq!(all.exceeded(address, of(100_000, true), true, &limits), None, "and who has logged in");
        all.change(address, of(most, false), 0);
        all.change(address, of(100_000, false), 0);
        assert!(all.of_strangers.is_empty() && all.bytes == 0, "nothing is kept of what is over");
    }
}
