//! The worker's view of sockets: real ones through mio, or a simulation's.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::clock::Now;
use everywire_wire::Listen;

use crate::tls::Tls;

/// Sockets and clocks, as a worker needs them. Only [`Net::wait`] blocks.
pub trait Net {
    /// A connected socket.
    type Socket: Send;
    /// A listening socket.
    type Listener: Send;

    /// The time of both clocks.
    fn now(&mut self) -> Now;

    /// Sleeps until something is ready, somebody wakes the worker, or the time is over; appends the events.
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>);

    /// Begins to tell what becomes ready on this socket, under this number.
    fn watch(&mut self, socket: &mut Self::Socket, index: u32) -> io::Result<()>;

    /// Begins to tell when this listener has connections to accept, under this number.
    fn listen(&mut self, listener: &mut Self::Listener, index: u16) -> io::Result<()>;

    /// Accepts one connection.
    fn accept(&mut self, listener: &mut Self::Listener) -> io::Result<(Self::Socket, SocketAddr)>;

    /// Reads the bytes that are there; 0 means that the peer ended its side.
    fn read(&mut self, socket: &mut Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes as much as the socket takes, all slices in one system call.
    fn write(&mut self, socket: &mut Self::Socket, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Tells the peer that nothing more will come.
    fn finish(&mut self, socket: &mut Self::Socket);

    /// Closes the socket.
    fn close(&mut self, socket: Self::Socket);
}

/// A socket became ready. Each event is told once (edge-triggered), and may be told too often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The listener has connections to accept.
    Accept(u16),
    /// The connection can be read or written.
    Ready {
        /// Its number.
        index: u32,
        /// There may be bytes, or the end.
        readable: bool,
        /// There may be room.
        writable: bool,
        /// The peer has ended its side: the end stands behind the last bytes.
        hangup: bool,
    },
}

/// A listener as one worker sees it. All workers have all listeners, but each is accepted from by one.
pub struct Listener<N: Net> {
    /// The socket, for the worker that accepts from it.
    pub socket: Option<N::Listener>,
    /// The address that it is bound to.
    pub local: SocketAddr,
    /// Makes the first wire of each connection.
    pub wires: Arc<dyn Listen>,
    /// The certificates, if it speaks TLS.
    pub tls: Option<Tls>,
}
