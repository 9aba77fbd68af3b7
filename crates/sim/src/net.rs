//! The simulated network: sockets with bounded buffers, cut at will.

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
    /// How many bytes fit towards the client.
    window: usize,
    /// The client has ended its side or is gone.
    client_gone: bool,
    /// The server has ended its side or is gone.
    server_gone: bool,
    /// Both ends see a reset.
    cut: bool,
    /// The worker's number for it, once it is watched.
    index: Option<u32>,
    /// Something changed that the worker was not told of.
    news: bool,
}

/// The listener of HTTP.
pub(crate) const HTTP: u16 = 0;
/// The listener of the native protocol.
pub(crate) const TCP: u16 = 1;
/// The listener of MQTT.
pub(crate) const MQTT: u16 = 2;

/// How a client goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Leave {
    /// What it sent still arrives, and that it is gone.
    Closed,
    /// The connection is reset.
    Cut,
    /// What it sent still arrives, but not that it is gone.
    Silently,
}

/// The network between all clients and one server.
#[derive(Debug, Default)]
pub(crate) struct Network {
    links: BTreeMap<u32, Link>,
    next: u32,
    /// Those that wait to be accepted, for each listener.
    waiting: [VecDeque<u32>; 3],
    pub(crate) now_ms: u64,
    /// Whether anything moved since it was last asked.
    pub(crate) moved: bool,
    /// Counts the lives of the server.
    pub(crate) life: u32,
}

impl Network {
    /// A client opens a connection; what it sends waits until the server accepts.
    pub(crate) fn connect(&mut self, listener: u16, window: usize) -> u32 {
        let id = self.next;
        self.next += 1;
        self.links.insert(id, Link { window, ..Link::default() });
        self.waiting[usize::from(listener)].push_back(id);
        self.moved = true;
        id
    }

    pub(crate) fn send(&mut self, id: u32, bytes: &[u8]) {
        if let Some(link) = self.links.get_mut(&id) {
            link.to_server.extend(bytes);
            link.news = true;
            self.moved = true;
        }
    }

    /// What the server sent, at most `most` bytes; `None` if the connection is over and all was read.
    pub(crate) fn receive(&mut self, id: u32, most: usize) -> Option<Vec<u8>> {
        let link = self.links.get_mut(&id).filter(|l| !l.cut)?;
        let n = link.to_client.len().min(most);
        if n == 0 && link.server_gone {
            return None;
        }
        if n > 0 {
            link.news = true;
            self.moved = true;
        }
        Some(link.to_client.drain(..n).collect())
    }

    /// The client is gone.
    pub(crate) fn leave(&mut self, id: u32, how: Leave) {
        if how == Leave::Silently {
            return;
        }
        if let Some(link) = self.links.get_mut(&id) {
            link.client_gone = true;
            link.cut |= how == Leave::Cut;
            link.news = true;
            self.moved = true;
            if link.server_gone {
                self.links.remove(&id);
            }
        }
    }

    /// The server has crashed: all connections are cut.
    pub(crate) fn crash(&mut self) {
        self.life += 1;
        self.waiting.iter_mut().for_each(VecDeque::clear);
        self.links.values_mut().for_each(|l| (l.cut, l.server_gone, l.index) = (true, true, None));
        self.links.retain(|_, l| !l.client_gone);
    }
}

/// A worker's side of the network.
pub(crate) struct SimNet(pub(crate) Rc<RefCell<Network>>);

fn blocked() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

impl Net for SimNet {
    type Socket = u32;
    type Listener = u16;

    fn now(&mut self) -> Now {
        let now = self.0.borrow().now_ms;
        Now { monotonic: Monotonic(now), wall: UnixMillis(BEGINNING_MS + now) }
    }

    fn wait(&mut self, _: Option<Duration>, events: &mut Vec<Event>) {
        let mut network = self.0.borrow_mut();
        let accepting = (0..).zip(&network.waiting).filter(|(_, waiting)| !waiting.is_empty());
        events.extend(accepting.map(|(listener, _)| Event::Accept(listener)));
        for link in network.links.values_mut().filter(|l| l.news) {
            let Some(index) = link.index else { continue };
            link.news = false;
            let hangup = link.client_gone || link.cut;
            events.push(Event::Ready { index, readable: true, writable: true, hangup });
        }
    }

    fn watch(&mut self, socket: &mut u32, index: u32) -> io::Result<()> {
        if let Some(link) = self.0.borrow_mut().links.get_mut(socket) {
            (link.index, link.news) = (Some(index), true);
        }
        Ok(())
    }

    fn listen(&mut self, listener: &mut u16, index: u16) -> io::Result<()> {
        *listener = index;
        Ok(())
    }

    fn accept(&mut self, listener: &mut u16) -> io::Result<(u32, SocketAddr)> {
        let id = self.0.borrow_mut().waiting[usize::from(*listener)].pop_front().ok_or_else(blocked)?;
        Ok((id, SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000))))
    }

    fn read(&mut self, socket: &mut u32, buffer: &mut [u8]) -> io::Result<usize> {
        let mut network = self.0.borrow_mut();
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
        network.moved = true;
        Ok(n)
    }

    fn write(&mut self, socket: &mut u32, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut network = self.0.borrow_mut();
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
        network.moved = true;
        Ok(n)
    }

    fn finish(&mut self, socket: &mut u32) {
        let mut network = self.0.borrow_mut();
        network.moved = true;
        if let Some(link) = network.links.get_mut(socket) {
            link.server_gone = true;
        }
    }

    fn close(&mut self, socket: u32) {
        let mut network = self.0.borrow_mut();
        network.moved = true;
        if let Some(link) = network.links.get_mut(&socket) {
            (link.server_gone, link.index) = (true, None);
            if link.client_gone {
                network.links.remove(&socket);
            }
        }
    }
}
