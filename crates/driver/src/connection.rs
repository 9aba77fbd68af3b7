//! One connection: a socket, its wire, and the bytes that wait between them. An idle one owns no buffer.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_base::id::Slot;
use everywire_base::quota::Account;
use everywire_base::reason::Reason;
use everywire_wire::{Outbox, Wire};

use crate::labels::Labelled;
use crate::tls::Transport;
use crate::unfinished::Held;

pub(crate) struct Connection<S> {
    pub(crate) socket: S,
    /// The number of further asks that it may make in this turn.
    pub(crate) asks_left: u16,
    pub(crate) transport: Transport,
    pub(crate) wire: Box<dyn Wire>,
    /// The bytes that wait to be written; none while nothing does.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// The state that most connections have nothing of, most of the time.
    pub(crate) rare: Option<Box<Rare>>,
    address: Packed,
    /// The time at which it came.
    pub(crate) since: UnixMillis,
    /// The time at which bytes last came from it, read or not.
    pub(crate) heard: Monotonic,
    /// Bytes that came from it.
    pub(crate) bytes_in: u64,
    /// Bytes that went to it.
    pub(crate) bytes_out: u64,
    pub(crate) listener: u16,
    /// The label under which its wire is counted.
    pub(crate) label: u8,
    pub(crate) phase: Phase,
    pub(crate) inbound: Inbound,
    flags: u8,
    /// The worker's lists in which it stands, so that it stands there once.
    lists: u8,
}

/// The address of a peer in few bytes: an IPv6 address stands without its scope.
#[derive(Clone, Copy)]
enum Packed {
    V4([u8; 4], [u8; 2]),
    V6([u8; 16], [u8; 2]),
}

impl From<SocketAddr> for Packed {
    fn from(address: SocketAddr) -> Self {
        let port = address.port().to_be_bytes();
        match address.ip() {
            IpAddr::V4(ip) => Self::V4(ip.octets(), port),
            IpAddr::V6(ip) => Self::V6(ip.octets(), port),
        }
    }
}

impl From<Packed> for SocketAddr {
    fn from(packed: Packed) -> Self {
        match packed {
            Packed::V4(ip, port) => (ip, u16::from_be_bytes(port)).into(),
            Packed::V6(ip, port) => (ip, u16::from_be_bytes(port)).into(),
        }
    }
}

/// A fact that is true of a connection, or isn't.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flag {
    /// It comes from a trusted proxy that has not named its client yet, in a way that the driver knows.
    ThroughProxy = 1,
    /// It is counted among the connections of its address.
    Counted = 2,
    /// It is ended as soon as the bytes that have come from it are read.
    Ending = 4,
    /// Writing to it failed: bytes that wires write to it are thrown away.
    Deaf = 8,
    /// The wire refused a delivery, and the hub waits to be told of room.
    Full = 16,
    /// Somebody has shown credentials that are good.
    Known = 32,
    /// Its client must read its outbox before more is read from it.
    Unread = 64,
}

/// The state that an idle connection has nothing of, in one place that takes no memory while it is empty.
#[derive(Default)]
pub(crate) struct Rare {
    /// Bytes that the wire did not use yet.
    input: Vec<u8>,
    /// The label of its present request.
    labelled: Option<Labelled>,
    /// The bytes of its messages that have not come whole, …
    unfinished: u32,
    /// … and the time since which they wait.
    unfinished_since: Monotonic,
    /// The account of its address's bounds, if it has any.
    account: Option<Arc<Account>>,
    /// The reason why it ends.
    reason: Option<Reason>,
}

impl Rare {
    /// The account of the address's bounds, if it has any.
    pub(crate) fn account(&self) -> Option<&Account> {
        self.account.as_deref()
    }

    fn is_empty(&self) -> bool {
        let Self { input, labelled, unfinished, unfinished_since: _, account, reason } = self;
        input.is_empty() && labelled.is_none() && *unfinished == 0 && account.is_none() && reason.is_none()
    }
}

/// The input that is to be read from a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inbound {
    /// Nothing: the next bytes come with an event.
    Nothing,
    /// Bytes, perhaps.
    Bytes,
    /// The last bytes, with the end behind them: read until it comes.
    LastBytes,
    /// The peer ended its side, and all before it was read.
    Ended,
}

/// A connection that is ended from our side.
pub(crate) struct Leaving {
    pub(crate) slot: Slot,
    /// The reason.
    pub(crate) reason: Reason,
    /// The time at which it is ended in any case.
    pub(crate) until: Monotonic,
}

/// The lists of connections that a turn works through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum List {
    /// To be served: readable, or open again with bytes left over.
    Serve = 1,
    /// To be settled.
    Settle = 2,
    /// To be flushed.
    Flush = 4,
    /// To be seen to again, since it has asked beyond its share of a turn.
    Ask = 8,
}

/// The phase of a connection's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The wire takes input.
    Open,
    /// The wire waits for something else, or the client has too much to read.
    Paused,
    /// The outbox is written, then the connection ends.
    Closing,
    /// All is written; bytes that the peer still sends are thrown away, so that it can read our last words.
    Lingering,
}

impl<S> Connection<S> {
    pub(crate) fn new(
        socket: S,
        transport: Transport,
        wire: Box<dyn Wire>,
        (address, listener): (SocketAddr, u16),
        now: Now,
    ) -> Self {
        Self {
            socket,
            asks_left: 0,
            transport,
            wire,
            outbox: None,
            rare: None,
            address: Packed::from(address),
            since: now.wall,
            heard: now.monotonic,
            bytes_in: 0,
            bytes_out: 0,
            listener,
            label: 0,
            phase: Phase::Open,
            inbound: Inbound::Nothing,
            flags: 0,
            lists: 0,
        }
    }

    /// The address that it comes from.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address.into()
    }

    /// Notes that it comes from another address than its socket says; gives the former.
    pub(crate) fn set_address(&mut self, address: SocketAddr) -> SocketAddr {
        std::mem::replace(&mut self.address, address.into()).into()
    }

    /// Whether something is true of it.
    pub(crate) fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u8 != 0
    }

    /// Makes something true of it, or not; says whether it was.
    pub(crate) fn set(&mut self, flag: Flag, is_so: bool) -> bool {
        let was_so = self.is(flag);
        self.flags = if is_so { self.flags | flag as u8 } else { self.flags & !(flag as u8) };
        was_so
    }

    /// The number of bytes that wait to be written.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.len())
    }

    /// Changes its rare state, and keeps no memory for it while it is empty.
    fn change(&mut self, change: impl FnOnce(&mut Rare)) {
        change(self.rare.get_or_insert_default());
        if self.rare.as_ref().is_some_and(|rare| rare.is_empty()) {
            self.rare = None;
        }
    }

    /// The bytes that the wire did not use yet.
    pub(crate) fn input(&self) -> &[u8] {
        self.rare.as_ref().map_or(&[], |rare| &rare.input)
    }

    /// Takes them out.
    pub(crate) fn take_input(&mut self) -> Vec<u8> {
        self.rare.as_mut().map(|rare| std::mem::take(&mut rare.input)).unwrap_or_default()
    }

    /// Keeps bytes that the wire did not use.
    pub(crate) fn keep_input(&mut self, input: Vec<u8>) {
        if !input.is_empty() || self.rare.is_some() {
            self.change(|rare| rare.input = input);
        }
    }

    /// The label of its present request.
    pub(crate) fn labelled(&mut self) -> Option<&mut Labelled> {
        self.rare.as_mut()?.labelled.as_mut()
    }

    /// Gives its present request a label, or none.
    pub(crate) fn label_with(&mut self, labelled: Option<Labelled>) {
        if labelled.is_some() || self.rare.is_some() {
            self.change(|rare| rare.labelled = labelled);
        }
    }

    /// The bytes of its messages that have not come whole.
    pub(crate) fn held(&self) -> Held {
        let (bytes, since) =
            self.rare.as_ref().map_or((0, Monotonic::default()), |rare| (rare.unfinished, rare.unfinished_since));
        Held { bytes, since, is_known: self.is(Flag::Known) }
    }

    /// Notes the bytes that have not come whole, and the time since which they wait.
    pub(crate) fn hold(&mut self, bytes: u32, since: Monotonic) {
        if bytes > 0 || self.rare.is_some() {
            self.change(|rare| (rare.unfinished, rare.unfinished_since) = (bytes, since));
        }
    }

    /// Lets the time of the bytes that have not come whole begin again.
    pub(crate) fn begin_again(&mut self, now: Monotonic) {
        if let Some(rare) = &mut self.rare {
            rare.unfinished_since = now;
        }
    }

    /// Takes out the count of bytes that have not come whole, and forgets the login.
    pub(crate) fn take_held(&mut self) -> Held {
        let held = self.held();
        self.hold(0, Monotonic::default());
        self.set(Flag::Known, false);
        held
    }

    /// Sets the account of its address's bounds, or none.
    pub(crate) fn set_account(&mut self, account: Option<Arc<Account>>) {
        if account.is_some() || self.rare.is_some() {
            self.change(|rare| rare.account = account);
        }
    }

    /// The reason why it ends, if it does.
    pub(crate) fn reason(&self) -> Option<&Reason> {
        self.rare.as_ref().filter(|_| self.phase == Phase::Closing)?.reason.as_ref()
    }

    /// Ends it for this reason when its outbox is written.
    pub(crate) fn close(&mut self, reason: Reason) {
        self.phase = Phase::Closing;
        self.change(|rare| (rare.reason, rare.input) = (Some(reason), Vec::new()));
    }

    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Paused)
    }

    /// Whether there are bytes to offer, or to read.
    pub(crate) fn has_input(&self) -> bool {
        !self.input().is_empty() || self.inbound != Inbound::Nothing
    }

    /// Whether no bytes from it are still to be read, as far as is known.
    pub(crate) fn is_quiet(&self) -> bool {
        match self.phase {
            Phase::Open => !self.is_listed(List::Serve),
            Phase::Paused => !self.has_input(),
            Phase::Closing | Phase::Lingering => true,
        }
    }

    /// Notes that it stands in a list; says whether it didn't yet.
    pub(crate) fn enlist(&mut self, list: List) -> bool {
        let before = self.lists;
        self.lists |= list as u8;
        before != self.lists
    }

    /// Whether it stands in a list.
    pub(crate) fn is_listed(&self, list: List) -> bool {
        self.lists & list as u8 != 0
    }

    /// Notes that it was taken from a list.
    pub(crate) fn delist(&mut self, list: List) {
        self.lists &= !(list as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A socket is a number of four bytes, without the notes of mio in debug builds.
    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection<u32>>() <= 112, "{}", size_of::<Connection<u32>>());
    }
}
