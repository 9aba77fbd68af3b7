//! The simulated network: sockets with bounded buffers, which the world can cut.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_driver::net::{Event, Net};

/// The wall clock at the beginning of every world.
const BEGINNING_MS: u64 = 1_795_000_000_000;

/// One connection, seen from both ends.
#[expect(clippy::struct_excessive_bools, reason = "each end goes, is cut and has news on its own")]
#[derive(Debug, Default)]
struct Link {
    to_server: VecDeque<u8>,
    to_client: VecDeque<u8>,
    /// The number of bytes that fit towards the client.
    window: usize,
    /// The client has ended its side or is gone.
    client_gone: bool,
    /// The server has ended its side or is gone.
    server_gone: bool,
    /// Both ends see a reset.
    cut: bool,
    /// The worker that watches it, and the worker's number for it.
    watched: Option<(u16, u32)>,
    /// Whether something changed that the worker was not told of.
    news: bool,
}

/// The listener of HTTP.
pub(crate) const HTTP: u16 = 0;
/// The listener of the native protocol.
pub(crate) const TCP: u16 = 1;
/// The listener of MQTT.
pub(crate) const MQTT: u16 = 2;

/// The way in which a client leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    /// The bytes that it sent still arrive, and then the end of the connection.
    Closed,
    /// The connection is reset.
    Cut,
    /// The bytes that it sent still arrive, but not the end of the connection.
    Silently,
}

/// The network between all clients and one server.
#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<u32, Link>,
    next: u32,
    /// The connections that wait to be accepted, for each listener.
    waiting: [VecDeque<u32>; 3],
    pub(crate) now_ms: u64,
    /// The number of the server's life.
    pub(crate) life: u32,
}

impl Network {
    /// The time.
    pub(crate) fn now(&self) -> UnixMillis {
        UnixMillis(BEGINNING_MS + self.now_ms)
    }

    /// Opens a connection for a client; its bytes wait until the server accepts.
    pub(crate) fn connect(&mut self, listener: u16, window: usize) -> u32 {
        let id = self.next;
        self.next += 1;
        self.links.insert(id, Link { window, ..Link::default() });
        self.waiting[usize::from(listener)].push_back(id);
        id
    }

    pub(crate) fn send(&mut self, id: u32, bytes: &[u8]) {
        if let Some(link) = self.links.get_mut(&id) {
            link.to_server.extend(bytes);
            link.news = true;
        }
    }

    /// Takes at most `most` bytes that the server sent; `None` if the connection is over and all was read.
    pub(crate) fn receive(&mut self, id: u32, most: usize) -> Option<Vec<u8>> {
        let link = self.links.get_mut(&id).filter(|l| !l.cut)?;
        let n = link.to_client.len().min(most);
        if n == 0 && link.server_gone {
            return None;
        }
        if n > 0 {
            link.news = true;
        }
        Some(link.to_client.drain(..n).collect())
    }

    /// Lets the client leave.
    pub(crate) fn leave(&mut self, id: u32, how: Leave) {
        if how == Leave::Silently {
            return;
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.client_gone = true;
            link.cut |= how == Leave::Cut;
            link.news = true;
            if link.server_gone {
                self.links.remove(&id);
            }
        }
    }

    /// Notes that the server sends its clients away. They have some time to come back, as after a crash: a will that is
    /// due may be void.
    pub(crate) fn drains(&mut self) {
        self.life += 1;
    }

    /// Cuts all connections, as the server has crashed.
    pub(crate) fn crash(&mut self) {
        self.life += 1;
        self.waiting.iter_mut().for_each(VecDeque::clear);
        self.links.values_mut().for_each(|l| (l.cut, l.server_gone, l.watched) = (true, true, None));
        self.links.retain(|_, l| !l.client_gone);
    }
}

/// A worker's side of the network.
pub(crate) struct SimNet {
    pub(crate) network: Rc<RefCell<Network>>,
    pub(crate) worker: u16,
}

fn blocked() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

impl Net for SimNet {
    type Socket = u32;
    type Listener = u16;

    fn now(&mut self) -> Now {
        let network = self.network.borrow();
        Now { monotonic: Monotonic(network.now_ms), wall: network.now() }
    }

    fn wait(&mut self, _: Option<Duration>, events: &mut Vec<Event>) {
        let mut network = self.network.borrow_mut();
        let accepting = (0..).zip(&network.waiting).filter(|(_, waiting)| !waiting.is_empty());
        events.extend(accepting.map(|(listener, _)| Event::Accept(listener)));
        for link in network.links.values_mut().filter(|l| l.news) {
            let Some((_, index)) = link.watched.filter(|(worker, _)| *worker == self.worker) else { continue };
            link.news = false;
            let hangup = link.client_gone || link.cut;
            events.push(Event::Ready { index, readable: true, writable: true, hangup });
        }
    }

    fn watch(&mut self, socket: &mut u32, index: u32) -> io::Result<()> {
        if let Some(link) = self.network.borrow_mut().links.get_mut(socket) {
            (link.watched, link.news) = (Some((self.worker, index)), true);
        }
        Ok(())
    }

    fn listen(&mut self, listener: &mut u16, index: u16) -> io::Result<()> {
        *listener = index;
        Ok(())
    }

    fn accept(&mut self, listener: &mut u16) -> io::Result<(u32, SocketAddr)> {
        let id = self.network.borrow_mut().waiting[usize::from(*listener)].pop_front().ok_or_else(blocked)?;
        Ok((id, SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000))))
    }

    fn read(&mut self, socket: &mut u32, buffer: &mut [u8]) -> io::Result<usize> {
        let mut network = self.network.borrow_mut();
        let Some(link) = network.links.get_mut(socket).filter(|l| !l.cut) else {
            return Err(io::ErrorKind::ConnectionReset.into());
        };
        let n = link.to_server.len().min(buffer.len());
        if n == 0 {
            return if link.client_gone { Ok(0) } else { Err(blocked()) };
        }
        for (place, byte) in buffer.iter_mut().zip(link.to_server.drain(..n)) {
            *place = byte;
        }
        Ok(n)
    }

    fn write(&mut self, socket: &mut u32, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut network = self.network.borrow_mut();
        let Some(link) = network.links.get_mut(socket).filter(|l| !l.cut && !l.client_gone) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let room = link.window.saturating_sub(link.to_client.len());
        let bytes = slices.iter().flat_map(|s| s.iter().copied()).take(room);
        let before = link.to_client.len();
        link.to_client.extend(bytes);
        let n = link.to_client.len() - before;
        if n == 0 {
            return Err(blocked());
        }
        Ok(n)
    }

    fn finish(&mut self, socket: &mut u32) {
        let mut network = self.network.borrow_mut();
        if let Some(link) = network.links.get_mut(socket) {
            link.server_gone = true;
        }
    }

    fn close(&mut self, socket: u32) {
        let mut network = self.network.borrow_mut();
        if let Some(link) = network.links.get_mut(&socket) {
            (link.server_gone, link.watched) = (true, None);
            if link.client_gone {
                network.links.remove(&socket);
            }
        }
    }
}
