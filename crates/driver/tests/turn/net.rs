//! A scripted network: sockets whose bytes, ends and readiness the test decides, and a clock that stands still.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_driver::net::{Event, Net};

/// One connection, seen from the network.
#[expect(clippy::struct_excessive_bools, reason = "each happens on its own")]
#[derive(Debug, Default)]
pub(crate) struct Link {
    to_server: VecDeque<u8>,
    to_client: Vec<u8>,
    /// The number of bytes that fit towards the client.
    window: usize,
    ended: bool,
    reset: bool,
    pub(crate) closed: bool,
    index: Option<u32>,
    news: bool,
    /// The number of times that it was read.
    pub(crate) reads: u32,
}

/// All connections of a worker.
#[derive(Debug)]
pub(crate) struct Script {
    links: Vec<Link>,
    waiting: VecDeque<usize>,
    now_ms: u64,
    /// The most events that one wait tells.
    pub(crate) events_at_once: usize,
    /// The error code with which accepting fails, if it does.
    pub(crate) refuses: Option<i32>,
    /// The time that the worker would have slept; `None` is until it is woken.
    pub(crate) sleep: Option<Duration>,
}

impl Script {
    pub(crate) fn connect(&mut self) -> usize {
        self.links.push(Link { window: usize::MAX, ..Link::default() });
        self.waiting.push_back(self.links.len() - 1);
        self.links.len() - 1
    }

    pub(crate) fn send(&mut self, client: usize, bytes: &[u8]) {
        self.links[client].to_server.extend(bytes);
        self.links[client].news = true;
    }

    pub(crate) fn end(&mut self, client: usize) {
        self.links[client].ended = true;
        self.links[client].news = true;
    }

    /// Resets a connection: the client's bytes can still be read, but nothing can be written.
    pub(crate) fn reset(&mut self, client: usize) {
        self.links[client].reset = true;
        self.links[client].news = true;
    }

    /// Sets the number of bytes that fit towards the client until it reads.
    pub(crate) fn set_window(&mut self, client: usize, window: usize) {
        self.links[client].window = window;
        self.links[client].news = true;
    }

    /// Takes the bytes that the server has sent.
    pub(crate) fn receive(&mut self, client: usize) -> Vec<u8> {
        self.links[client].news = true;
        std::mem::take(&mut self.links[client].to_client)
    }

    pub(crate) fn link(&self, client: usize) -> &Link {
        &self.links[client]
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now_ms += time.as_millis() as u64;
    }
}

/// The worker's side of it.
pub(crate) struct ScriptNet(pub(crate) Rc<RefCell<Script>>);

impl ScriptNet {
    pub(crate) fn new() -> (Self, Rc<RefCell<Script>>) {
        let script = Rc::new(RefCell::new(Script {
            links: Vec::new(),
            waiting: VecDeque::new(),
            now_ms: 1_000_000,
            events_at_once: usize::MAX,
            refuses: None,
            sleep: None,
        }));
        (Self(Rc::clone(&script)), script)
    }
}

fn error<T>(kind: io::ErrorKind) -> io::Result<T> {
    Err(kind.into())
}

impl Net for ScriptNet {
    type Socket = usize;
    type Listener = u16;

    fn now(&mut self) -> Now {
        let now = self.0.borrow().now_ms;
        Now { monotonic: Monotonic(now), wall: UnixMillis(1_795_000_000_000 + now) }
    }

    fn wait(&mut self, sleep: Option<Duration>, events: &mut Vec<Event>) {
        let mut script = self.0.borrow_mut();
        script.sleep = sleep;
        let most = script.events_at_once;
        if !script.waiting.is_empty() {
            events.push(Event::Accept(0));
        }
        for link in script.links.iter_mut().filter(|link| link.news && !link.closed).take(most) {
            let Some(index) = link.index else { continue };
            link.news = false;
            let hangup = link.ended || link.reset;
            let readable = hangup || !link.to_server.is_empty();
            events.push(Event::Ready { index, readable, writable: true, hangup });
        }
    }

    fn watch(&mut self, socket: &mut usize, index: u32) -> io::Result<()> {
        let link = &mut self.0.borrow_mut().links[*socket];
        (link.index, link.news) = (Some(index), true);
        Ok(())
    }

    fn listen(&mut self, _: &mut u16, _: u16) -> io::Result<()> {
        Ok(())
    }

    fn accept(&mut self, _: &mut u16) -> io::Result<(usize, SocketAddr)> {
        let mut script = self.0.borrow_mut();
        if let Some(code) = script.refuses {
            return Err(io::Error::from_raw_os_error(code));
        }
        let client = script.waiting.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        Ok((client, SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + client as u16))))
    }

    fn read(&mut self, socket: &mut usize, buffer: &mut [u8]) -> io::Result<usize> {
        let link = &mut self.0.borrow_mut().links[*socket];
        link.reads += 1;
        let n = link.to_server.len().min(buffer.len());
        if n == 0 {
            return if link.reset {
                error(io::ErrorKind::ConnectionReset)
            } else if link.ended {
                Ok(0)
            } else {
                error(io::ErrorKind::WouldBlock)
            };
        }
        buffer.iter_mut().zip(link.to_server.drain(..n)).for_each(|(place, byte)| *place = byte);
        Ok(n)
    }

    fn write(&mut self, socket: &mut usize, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let link = &mut self.0.borrow_mut().links[*socket];
        if link.reset {
            return error(io::ErrorKind::BrokenPipe);
        }
        let before = link.to_client.len();
        let room = link.window.saturating_sub(before);
        link.to_client.extend(slices.iter().flat_map(|slice| slice.iter().copied()).take(room));
        let written = link.to_client.len() - before;
        if written == 0 { error(io::ErrorKind::WouldBlock) } else { Ok(written) }
    }

    fn finish(&mut self, _: &mut usize) {}

    fn close(&mut self, socket: usize) {
        self.0.borrow_mut().links[socket].closed = true;
    }
}
