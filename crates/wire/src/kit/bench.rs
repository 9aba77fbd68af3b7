//! The bench drives one wire as a driver would: it keeps unused bytes, stops reading while it is paused, ticks it in
//! time.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_base::cursor::{Cursor, Epoch, Offset};
use everywire_base::id::AskId;
use everywire_base::kept::Kept;
use everywire_base::limits::Limits;
use everywire_base::network::Network;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::quota::Account;
use everywire_base::reason::Reason;
use everywire_base::rules::Rules;

use crate::{Answer, Ask, Context, Input, Outbox, Peer, Position, Progress, Then, Wire};

/// One wire, and all that a verb sees.
pub struct Bench {
    wire: Box<dyn Wire>,
    /// The present time.
    pub now: Now,
    /// The bounds.
    pub limits: Limits,
    /// The topic rules.
    pub rules: Rules,
    /// The time at which bytes last came.
    pub heard: Monotonic,
    /// The other end.
    pub peer: Peer,
    /// The position of the connection in the log.
    pub position: Position,
    /// The account of the remote address's bounds.
    pub account: Option<Arc<Account>>,
    /// Proxies that are trusted.
    pub proxies: Vec<Network>,
    /// The kept bytes, by their payer.
    pub kept: Vec<Arc<Kept>>,
    /// The bytes that wait for the peer.
    pub out: Outbox,
    asks: Vec<(AskId, Ask)>,
    unused: Vec<u8>,
    ended: bool,
    going: Going,
    laters: usize,
}

enum Going {
    Open,
    Paused,
    Closed(Reason),
}

impl Bench {
    /// The time at which every bench begins.
    pub const START: Now = Now { monotonic: Monotonic(1_000_000), wall: UnixMillis(1_795_378_321_345) };

    /// A wire of an anonymous client on the same machine.
    pub fn new(make: impl FnOnce(&Limits, Now) -> Box<dyn Wire>) -> Self {
        let limits = Limits::default();
        let wire = make(&limits, Self::START);
        Self {
            wire,
            now: Self::START,
            limits,
            rules: Rules::default(),
            heard: Self::START.monotonic,
            peer: Peer {
                address: ([127, 0, 0, 1], 50_000).into(),
                local: ([127, 0, 0, 1], 8080).into(),
                tls: false,
                is_proxy: false,
            },
            position: Position { cursor: Cursor::single(Epoch(10), Offset(0)), live: true },
            account: None,
            proxies: Vec::new(),
            kept: vec![Arc::default()],
            out: Outbox::default(),
            asks: Vec::new(),
            unused: Vec::new(),
            ended: false,
            going: Going::Open,
            laters: 0,
        }
    }

    /// The present name of the wire.
    pub fn name(&self) -> &'static str {
        self.wire.name()
    }

    /// The number of times that the wire left bytes for another turn.
    pub fn laters(&self) -> usize {
        self.laters
    }

    /// Whether the socket would be read.
    pub fn is_open(&self) -> bool {
        matches!(self.going, Going::Open)
    }

    /// The reason why it was closed, if it was.
    pub fn closed(&self) -> Option<&Reason> {
        match &self.going {
            Going::Closed(reason) => Some(reason),
            _ => None,
        }
    }

    /// Whether the peer must read before more is read from it.
    fn is_unread(&self) -> bool {
        self.out.len() > self.limits.unread_bytes
    }

    /// Takes the wire's asks.
    pub fn take_asks(&mut self) -> Vec<(AskId, Ask)> {
        std::mem::take(&mut self.asks)
    }

    /// Takes the bytes that wait for the peer. A wire that had no room goes on.
    pub fn take_output(&mut self) -> Vec<u8> {
        let (bytes, was_unread) = (self.out.to_vec(), self.is_unread());
        self.out.clear();
        if was_unread {
            self.settle();
        }
        bytes
    }

    /// Sends bytes from the peer.
    pub fn send(&mut self, bytes: &[u8]) {
        self.unused.extend_from_slice(bytes);
        self.heard = self.now.monotonic;
        self.offer();
    }

    /// Ends the peer's side.
    pub fn end(&mut self) {
        self.ended = true;
        self.offer();
    }

    /// Gives an answer.
    pub fn answer(&mut self, ask: AskId, answer: Answer) {
        self.verb(|wire, cx| wire.answer(cx, ask, answer));
    }

    /// Offers a delivery.
    pub fn push(&mut self, delivery: &Delivery<'_>) -> Taken {
        let mut taken = Taken::Yes;
        self.call(|wire, cx| taken = if cx.is_full() { Taken::Full } else { wire.push(cx, delivery) });
        taken
    }

    /// Tells the wire that the turn's deliveries are over.
    pub fn settle(&mut self) {
        self.verb(|wire, cx| wire.settle(cx));
    }

    /// Tells the wire that its deadline has come.
    pub fn tick(&mut self) {
        self.verb(|wire, cx| wire.tick(cx));
    }

    /// Ends the connection from the server's side.
    pub fn farewell(&mut self, reason: &Reason) {
        self.verb(|wire, cx| wire.farewell(cx, reason));
    }

    /// The time at which the wire wants to be ticked.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        if self.closed().is_some() { None } else { self.wire.deadline() }
    }

    /// Moves both clocks to a later moment; going back is ignored.
    pub fn move_clock(&mut self, to: Monotonic) {
        let by = Duration::from_millis(to.0.saturating_sub(self.now.monotonic.0));
        self.now = Now { monotonic: self.now.monotonic + by, wall: self.now.wall.after(by) };
    }

    fn offer(&mut self) {
        let mut is_end = false;
        while self.is_open() {
            let mut unused = std::mem::take(&mut self.unused);
            is_end |= self.ended && unused.is_empty();
            let input = if is_end { Input::End(&unused) } else { Input::Bytes(&unused) };
            let mut progress = Progress { used: 0, then: Then::Open };
            self.call(|wire, cx| progress = wire.read(cx, input));
            assert!(progress.used <= unused.len(), "a wire can't use more than it was given");
            unused.drain(..progress.used);
            self.unused = unused;
            self.go(progress.then);
            let is_stuck = progress.used == 0 || self.unused.is_empty();
            if is_stuck && (is_end || !self.ended) {
                return;
            }
            is_end = is_stuck;
        }
    }

    fn verb(&mut self, verb: impl FnOnce(&mut dyn Wire, &mut Context<'_>) -> Then) {
        if self.closed().is_some() {
            return;
        }
        let was_paused = !self.is_open();
        let mut then = Then::Open;
        self.call(|wire, cx| then = verb(wire, cx));
        self.go(then);
        if was_paused && (self.ended || !self.unused.is_empty()) {
            self.offer();
        }
    }

    fn go(&mut self, then: Then) {
        self.going = match then {
            Then::Open if self.is_unread() => Going::Paused,
            Then::Open => Going::Open,
            Then::Later => {
                self.laters += 1;
                Going::Open
            }
            Then::Paused => Going::Paused,
            Then::Closed(reason) => Going::Closed(reason),
            Then::Become(wire) => {
                self.wire = wire;
                Going::Open
            }
        };
    }

    fn call(&mut self, verb: impl FnOnce(&mut dyn Wire, &mut Context<'_>)) {
        let mut context = Context {
            now: self.now,
            limits: &self.limits,
            rules: &self.rules,
            peer: &self.peer,
            heard: self.heard,
            position: &self.position,
            account: self.account.as_deref(),
            from: self.peer.address.ip(),
            proxies: &self.proxies,
            kept: &self.kept,
            out: &mut self.out,
            asks: &mut self.asks,
        };
        verb(&mut *self.wire, &mut context);
    }
}
