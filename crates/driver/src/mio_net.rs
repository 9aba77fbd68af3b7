//! Real sockets, through mio: edge-triggered epoll on Linux, kqueue elsewhere.

use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use everywire_base::clock::{Monotonic, Now, UnixMillis};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use crate::net::{Event, Net};

const WAKE: Token = Token(usize::MAX);
/// Tokens below this are listeners, the others connections.
const CONNECTIONS: usize = 1 << 16;
const EVENTS: usize = 4096;
/// Connections that wait to be accepted; the kernel may allow fewer.
const BACKLOG: i32 = 4096;

/// Sockets of one worker.
pub struct MioNet {
    poll: Poll,
    events: Events,
    start: Instant,
}

impl MioNet {
    /// The sockets of one worker, whose steady time began at `start`, with the means to wake it.
    pub fn new(start: Instant) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        Ok((Self { poll, events: Events::with_capacity(EVENTS), start }, waker))
    }
}

/// A connected socket.
pub type Socket = TcpStream;

/// A socket that holds an address, and accepts nobody yet.
pub struct Bound {
    socket: socket2::Socket,
    local: SocketAddr,
}

impl Bound {
    /// Binds an address; port 0 picks a free one. Accepted connections will inherit `TCP_NODELAY`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let local = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok(Self { socket, local })
    }

    /// The address that was bound.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Begins to take connections.
    pub fn listen(self) -> io::Result<TcpListener> {
        self.socket.listen(BACKLOG)?;
        Ok(TcpListener::from_std(self.socket.into()))
    }
}

impl Net for MioNet {
    type Socket = TcpStream;
    type Listener = TcpListener;

    fn now(&mut self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: Monotonic(self.start.elapsed().as_millis() as u64), wall: UnixMillis(wall.as_millis() as u64) }
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Event>) {
        if self.poll.poll(&mut self.events, timeout).is_err() {
            return; // interrupted by a signal: the next turn waits again
        }
        ready.extend(self.events.iter().filter(|e| e.token() != WAKE).map(|e| match e.token().0 {
            listener if listener < CONNECTIONS => Event::Accept(listener as u16),
            connection => Event::Ready {
                index: (connection - CONNECTIONS) as u32,
                readable: e.is_readable() || e.is_read_closed() || e.is_error(),
                writable: e.is_writable() || e.is_write_closed() || e.is_error(),
                hangup: e.is_read_closed() || e.is_error(),
            },
        }));
    }

    fn watch(&mut self, socket: &mut TcpStream, index: u32) -> io::Result<()> {
        let token = Token(index as usize + CONNECTIONS);
        self.poll.registry().register(socket, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn listen(&mut self, listener: &mut TcpListener, index: u16) -> io::Result<()> {
        self.poll.registry().register(listener, Token(index.into()), Interest::READABLE)
    }

    fn accept(&mut self, listener: &mut TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
        listener.accept()
    }

    fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        socket.read(buffer)
    }

    fn write(&mut self, socket: &mut TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [one] => socket.write(one),
            several => socket.write_vectored(several),
        }
    }

    fn finish(&mut self, socket: &mut TcpStream) {
        let _ = socket.shutdown(Shutdown::Write); // fails only if the peer is gone already
    }

    fn close(&mut self, socket: TcpStream) {
        drop(socket); // closing the descriptor takes it out of the poll
    }
}
