//! One connection: a socket, its wire, and what waits between them. An idle one owns no buffer.

use std::net::SocketAddr;
use std::sync::Arc;

use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_base::id::Slot;
use everywire_base::quota::Account;
use everywire_base::reason::Reason;
use everywire_wire::{Outbox, Wire};

use crate::labels::Labelled;
use crate::tls::Transport;
use crate::unfinished::Held;

#[expect(clippy::struct_excessive_bools, reason = "each is true for itself")]
pub(crate) struct Connection<S> {
    pub(crate) socket: S,
    pub(crate) transport: Transport,
    pub(crate) wire: Box<dyn Wire>,
    /// What waits to be written; none while nothing does.
    pub(crate) outbox: Option<Box<Outbox>>,
    /// Bytes that the wire did not use yet; without memory while there are none.
    pub(crate) input: Vec<u8>,
    pub(crate) address: SocketAddr,
    pub(crate) listener: u16,
    /// Under which name its wire is counted.
    pub(crate) label: u8,
    /// When it came.
    pub(crate) since: UnixMillis,
    /// When bytes last came from it, read or not.
    pub(crate) heard: Monotonic,
    /// Bytes that came from it.
    pub(crate) bytes_in: u64,
    /// Bytes that went to it.
    pub(crate) bytes_out: u64,
    /// The label of its present request.
    pub(crate) labelled: Option<Box<Labelled>>,
    /// What of its messages has not come whole.
    pub(crate) held: Held,
    /// What its address has used of its bounds, if it has any.
    pub(crate) account: Option<Arc<Account>>,
    pub(crate) phase: Phase,
    pub(crate) inbound: Inbound,
    /// It comes from a trusted proxy that has not said for whom it speaks, in ways that the driver knows.
    pub(crate) through_proxy: bool,
    /// It is ended as soon as what has come from it is read.
    pub(crate) is_ending: bool,
    /// Writing to it failed: what wires write to it is thrown away.
    pub(crate) is_deaf: bool,
    /// The wire refused a delivery, and the hub waits to be told of room.
    pub(crate) full: bool,
    /// How much more it may ask in this turn.
    pub(crate) asks_left: u32,
    /// In which of the worker's lists it stands, so that it stands there once.
    lists: u8,
}

/// What is to be read from a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inbound {
    /// Nothing: the next bytes come with an event.
    Nothing,
    /// Perhaps some bytes.
    Bytes,
    /// The last bytes, with the end behind them: read until it comes.
    LastBytes,
    /// The peer ended its side, and all before it was read.
    Ended,
}

/// A connection that is ended from our side.
pub(crate) struct Leaving {
    pub(crate) slot: Slot,
    /// Why.
    pub(crate) reason: Reason,
    /// When it is ended in any case.
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
    /// To be asked again what it has asked beyond its share of a turn.
    Ask = 8,
}

/// Where a connection is in its life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// The wire takes input.
    Open,
    /// The wire waits for something else.
    Paused,
    /// The outbox is written, then the connection ends.
    Closing(Box<Reason>),
    /// All is written; what the peer still sends is thrown away, so that it can read our last words.
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
            transport,
            wire,
            outbox: None,
            input: Vec::new(),
            address,
            listener,
            label: 0,
            since: now.wall,
            heard: now.monotonic,
            bytes_in: 0,
            bytes_out: 0,
            labelled: None,
            held: Held::default(),
            account: None,
            phase: Phase::Open,
            inbound: Inbound::Nothing,
            through_proxy: false,
            is_ending: false,
            is_deaf: false,
            full: false,
            asks_left: 0,
            lists: 0,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Paused)
    }

    /// Whether there are bytes to offer, or to read.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty() || self.inbound != Inbound::Nothing
    }

    /// Whether nothing has come from it that is still to be read, as far as is known.
    pub(crate) fn is_quiet(&self) -> bool {
        match self.phase {
            Phase::Open => !self.is_listed(List::Serve),
            Phase::Paused => !self.has_input(),
            Phase::Closing(_) | Phase::Lingering => true,
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
