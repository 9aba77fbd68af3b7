//! All connections of a worker, and every call of a wire's verb. The asks of wires are collected here for the worker.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::{AskId, ReplyTo, Slot};
use everywire_base::kept::Kept;
use everywire_base::lab::Lab;
use everywire_base::limits::Limits;
use everywire_base::network::Network;
use everywire_base::notice::{Notice, Refused};
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_base::rules::Rules;
use everywire_hub::{Deliver, Origin};
use everywire_wire::{Ask, Context, Outbox, Peer, Position, Then, Wire};

use crate::closed::Closed;
use crate::connection::{Connection, Flag, Inbound, Leaving, List, Phase, Rare};
use crate::crowd::Crowd;
use crate::mail::Accepted;
use crate::metrics::WorkerMetrics;
use crate::net::{Listener, Net};
use crate::notices::From;
use crate::proxy::Proxied;
use crate::table::Table;
use crate::tls::Transport;
use crate::unfinished::Unfinished;
use crate::wheel::Wheel;
use crate::writing;

/// The time that the last words of a connection may take to be written.
const CLOSING: Duration = Duration::from_secs(10);
/// The time in which bytes that have come from a connection must be read before it is ended.
const LEAVING: Duration = Duration::from_secs(1);

/// The number of connections that have their full share of a turn, `limits.asks_per_turn`; the others have a small one.
const FULL_SHARES: usize = 16;
const SMALL_SHARE: usize = 16;

/// The state that all workers have in common.
pub(crate) struct Shared {
    pub(crate) proxies: Arc<[Network]>,
    pub(crate) lab: Arc<Lab>,
    pub(crate) crowd: Arc<Crowd>,
    pub(crate) kept: Box<[Arc<Kept>]>,
}

pub(crate) struct Connections<N: Net> {
    pub(crate) net: N,
    pub(crate) table: Table<Connection<N::Socket>>,
    pub(crate) wheel: Wheel,
    pub(crate) listeners: Vec<Listener<N>>,
    pub(crate) now: Now,
    pub(crate) limits: Arc<Limits>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// The asks of wires, for the worker to see to.
    pub(crate) questions: VecDeque<(Slot, AskId, Ask)>,
    /// The number of asks that were seen to in this turn.
    pub(crate) asked: usize,
    /// Notices of refusals, for operators.
    pub(crate) notices: Vec<(Option<Slot>, From, Notice)>,
    /// Connections that are gone, for the hub to forget.
    pub(crate) gone: Vec<(Slot, Origin)>,
    /// Places of connections that are gone, to be used again once the hub has forgotten them.
    pub(crate) vacated: Vec<Slot>,
    /// Connections with room again, for the hub to go on with.
    pub(crate) roomy: Vec<Slot>,
    /// Connections to serve: readable, or open again with bytes left over.
    pub(crate) serve: Vec<Slot>,
    /// Connections to settle: all of this turn's deliveries and answers were handed over.
    pub(crate) settle: Vec<Slot>,
    /// Connections that are ended once the bytes that have come from them are read.
    leaving: Vec<Leaving>,
    /// Connections to flush.
    pub(crate) dirty: Vec<Slot>,
    /// The position of live connections, for pushes.
    pub(crate) here: Position,
    pub(crate) unfinished: Unfinished,
    /// The cost of labelled connections.
    pub(crate) lab: Arc<Lab>,
    /// The number of bytes of the last read.
    pub(crate) last_read: u64,
    /// Trusted proxies: they may say for whom they speak.
    pub(crate) proxies: Arc<[Network]>,
    /// Connections of which a proxy has said the address that they come from.
    pub(crate) came_from: Vec<(Slot, IpAddr)>,
    /// The number of connections of each address.
    pub(crate) crowd: Arc<Crowd>,
    /// The kept bytes, by their payer.
    kept: Box<[Arc<Kept>]>,
    asks: Vec<(AskId, Ask)>,
    #[expect(clippy::vec_box, reason = "connections hold their outbox boxed, to be small while they have none")]
    pub(crate) spare: Vec<Box<Outbox>>,
    pub(crate) buffer: Vec<u8>,
    names: Vec<(&'static str, u8)>,
}

impl<N: Net> Connections<N> {
    pub(crate) fn new(
        mut net: N,
        listeners: Vec<Listener<N>>,
        limits: Arc<Limits>,
        rules: Arc<Rules>,
        metrics: Arc<WorkerMetrics>,
        here: Position,
        shared: Shared,
    ) -> Self {
        let now = net.now();
        let Shared { proxies, lab, crowd, kept } = shared;
        Self {
            net,
            table: Table::new(),
            wheel: Wheel::new(now.monotonic),
            listeners,
            now,
            buffer: vec![0; limits.receive_buffer_bytes],
            limits,
            rules,
            metrics,
            questions: VecDeque::new(),
            asked: 0,
            notices: Vec::new(),
            gone: Vec::new(),
            vacated: Vec::new(),
            roomy: Vec::new(),
            serve: Vec::new(),
            settle: Vec::new(),
            leaving: Vec::new(),
            dirty: Vec::new(),
            here,
            unfinished: Unfinished::default(),
            lab,
            last_read: 0,
            proxies,
            came_from: Vec::new(),
            crowd,
            kept,
            asks: Vec::new(),
            spare: Vec::new(),
            names: Vec::new(),
        }
    }

    /// Takes a new connection in.
    pub(crate) fn adopt(&mut self, accepted: Accepted<N::Socket>) {
        let Accepted { mut socket, address, listener, account, is_counted } = accepted;
        let at = &self.listeners[usize::from(listener)];
        let is_proxy = self.is_trusted(address.ip());
        let peer = Peer { address, local: at.local, tls: at.tls.is_some(), is_proxy };
        let tls = at.tls.clone();
        let transport = if is_proxy { Transport::Proxied(Box::new(Proxied::new(tls))) } else { Transport::new(tls) };
        let slot = self.table.next_slot();
        let full = self.table.len() >= self.limits.connections_per_worker;
        let (false, Ok(())) = (full, self.net.watch(&mut socket, slot.index)) else {
            if is_counted {
                self.crowd.leave(address.ip());
            }
            self.metrics.refused.add(1);
            let notice = Notice::new(Refused::Connection, "limits.connections_per_worker are open");
            self.notices.push((None, From { address: Some(address.ip()), wire: "" }, notice));
            return self.net.close(socket);
        };
        let wire = at.wires.accept(&peer, self.now);
        let (deadline, name) = (wire.deadline(), wire.name());
        let label = self.label(name);
        self.metrics.wire(label).connections.add(1);
        self.metrics.accepted.add(1);
        let mut connection = Connection::new(socket, transport, wire, (address, listener), self.now);
        connection.label = label;
        connection.set_account(account);
        connection.set(Flag::ThroughProxy, is_proxy);
        connection.set(Flag::Counted, is_counted);
        let slot = self.table.insert(connection);
        self.metrics.connections.set(self.table.len().into());
        self.wheel.set(slot.index, deadline);
        self.ready(slot, false);
    }

    fn label(&mut self, name: &'static str) -> u8 {
        if let Some((_, label)) = self.names.iter().find(|n| n.0 == name) {
            return *label;
        }
        let label = self.metrics.label(name);
        self.names.push((name, label));
        label
    }

    /// Notes that the socket may have bytes; with `hangup`, the last ones.
    pub(crate) fn ready(&mut self, slot: Slot, hangup: bool) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        connection.inbound = match connection.inbound {
            Inbound::Nothing | Inbound::Bytes if !hangup => Inbound::Bytes,
            Inbound::Ended => Inbound::Ended,
            _ => Inbound::LastBytes,
        };
        self.enlist(slot, List::Serve);
    }

    /// Notes that bytes have come, or the end. Nothing more is known of the bytes that a paused connection sends.
    pub(crate) fn heard(&mut self, slot: Slot, hangup: bool) {
        if let Some(connection) = self.table.get_mut(slot).filter(|c| c.phase == Phase::Paused) {
            connection.heard = self.now.monotonic;
        }
        self.ready(slot, hangup);
    }

    /// The remote address of a connection whose wire waits for something else than input.
    pub(crate) fn is_waiting(&mut self, slot: Slot) -> Option<IpAddr> {
        self.table.get_mut(slot).filter(|c| c.phase == Phase::Paused).map(|c| c.address().ip())
    }

    /// The remote address of a connection, and whether it has closed its sending side.
    pub(crate) fn whereabouts(&mut self, slot: Slot) -> (IpAddr, bool) {
        let connection = self.table.get_mut(slot);
        connection.map_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), true), |c| {
            (c.address().ip(), matches!(c.inbound, Inbound::LastBytes | Inbound::Ended))
        })
    }

    /// The remote address on whose account an ask goes: the hub's own asks have none.
    pub(crate) fn origin_of(&mut self, reply_to: ReplyTo) -> IpAddr {
        reply_to.connection().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |(slot, _)| self.whereabouts(slot).0)
    }

    /// Puts a connection into a list, unless it stands there.
    pub(crate) fn enlist(&mut self, slot: Slot, list: List) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        if connection.enlist(list) {
            match list {
                List::Serve => self.serve.push(slot),
                List::Settle => self.settle.push(slot),
                List::Flush => self.dirty.push(slot),
                List::Ask => {} // its questions themselves wait at the worker
            }
        }
    }

    /// Calls a verb of a connection's wire, if it is alive, and sees to its output and its asks. Without `position`, it
    /// is given that of live connections.
    pub(crate) fn call<R>(
        &mut self,
        slot: Slot,
        position: Option<&Position>,
        verb: impl FnOnce(&mut dyn Wire, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let connection = self.table.get_mut(slot).filter(|c| c.is_alive())?;
        let at = &self.listeners[usize::from(connection.listener)];
        let (address, is_proxy) = (connection.address(), connection.is(Flag::ThroughProxy));
        let peer = Peer { address, local: at.local, tls: at.tls.is_some(), is_proxy };
        let spare = &mut self.spare;
        let out = connection.outbox.get_or_insert_with(|| spare.pop().unwrap_or_default());
        let mut context = Context {
            now: self.now,
            limits: &self.limits,
            rules: &self.rules,
            peer: &peer,
            heard: connection.heard,
            position: position.unwrap_or(&self.here),
            account: connection.rare.as_deref().and_then(Rare::account),
            from: address.ip(),
            proxies: &self.proxies,
            kept: &self.kept,
            out,
            asks: &mut self.asks,
        };
        let before = context.out.len();
        let result = verb(&mut *connection.wire, &mut context);
        self.metrics.outbox_bytes.add((context.out.len() - before) as u64);
        if !self.asks.is_empty() {
            self.questions.extend(self.asks.drain(..).map(|(id, ask)| (slot, id, ask)));
        }
        if out.is_empty() {
            writing::put_back(&mut self.spare, &mut connection.outbox);
        } else if connection.enlist(List::Flush) {
            self.dirty.push(slot);
        }
        Some(result)
    }

    /// Calls a verb that gives the next state, and moves the connection there.
    pub(crate) fn call_then(
        &mut self,
        slot: Slot,
        position: &Position,
        verb: impl FnOnce(&mut dyn Wire, &mut Context<'_>) -> Then,
    ) {
        if let Some(then) = self.call(slot, Some(position), verb) {
            self.go_on(slot, then);
        }
    }

    pub(crate) fn go_on(&mut self, slot: Slot, then: Then) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        let is_unread = connection.waiting_bytes() > self.limits.unread_bytes;
        if is_unread && !connection.set(Flag::Unread, true) {
            self.metrics.unread.add(1);
        }
        match then {
            Then::Open | Then::Later if is_unread => connection.phase = Phase::Paused,
            Then::Open => {
                // While bytes are being offered none are kept, so that only other verbs come back to kept ones.
                let reopened = connection.phase == Phase::Paused || !connection.input().is_empty();
                if connection.phase == Phase::Paused {
                    connection.begin_again(self.now.monotonic);
                }
                connection.phase = Phase::Open;
                if reopened && connection.has_input() {
                    self.enlist(slot, List::Serve);
                }
            }
            Then::Later => {
                // The wire goes on, so that the bytes that are left are not late.
                connection.begin_again(self.now.monotonic);
                connection.phase = Phase::Open;
                self.enlist(slot, List::Serve);
            }
            Then::Paused => connection.phase = Phase::Paused,
            Then::Become(wire) => {
                connection.wire = wire;
                connection.phase = Phase::Open;
            }
            Then::Closed(reason) => return self.begin_closing(slot, reason),
        }
        self.note_wire(slot);
    }

    /// Whether a connection may ask one more thing in this turn; one that has ended may ask all that it has.
    pub(crate) fn may_ask(&mut self, slot: Slot) -> bool {
        let Some(connection) = self.table.get_mut(slot).filter(|c| c.is_alive()) else { return true };
        if connection.asks_left == 0 {
            connection.enlist(List::Ask);
            return false;
        }
        connection.asks_left -= 1;
        self.asked += 1;
        true
    }

    /// Whether this turn goes on with asks of earlier ones: half of it is for new ones.
    pub(crate) fn has_time_for_later(&self) -> bool {
        self.asked < self.limits.asks_per_turn.saturating_mul(FULL_SHARES / 2)
    }

    /// Renews a connection's share of a turn: a small one if many others had theirs before in this turn. Gives the
    /// number of asks; a connection that has ended may ask all that it has.
    pub(crate) fn renew(&mut self, slot: Slot) -> usize {
        let full = self.limits.asks_per_turn;
        let share = if self.asked < full.saturating_mul(FULL_SHARES) { full } else { full.min(SMALL_SHARE) };
        // The count takes little memory; beyond it, the rest waits for the next turn.
        let share = share.min(u16::MAX.into());
        let Some(connection) = self.table.get_mut(slot) else { return usize::MAX };
        connection.delist(List::Ask);
        connection.asks_left = share as u16;
        if connection.is_alive() { share } else { usize::MAX }
    }

    /// Notes that asks of a connection wait for another turn: it isn't read until then.
    pub(crate) fn wait_turn(&mut self, slot: Slot) {
        if let Some(connection) = self.table.get_mut(slot) {
            connection.enlist(List::Ask);
        }
    }

    /// Whether asks of a connection still wait to be seen to: until then it isn't read.
    pub(crate) fn waits_its_turn(&mut self, slot: Slot) -> bool {
        self.table.get_mut(slot).is_some_and(|c| c.is_listed(List::Ask) && c.is_alive())
    }

    /// Counts a message of a connection that was published.
    pub(crate) fn count_published(&mut self, slot: Slot) {
        let label = self.table.get_mut(slot).map_or(0, |c| c.label);
        self.metrics.wire(label).published.add(1);
    }

    /// Sets the time at which the connection is looked at next: the wire's deadline, or that of bytes that aren't
    /// whole.
    pub(crate) fn set_deadline(&mut self, slot: Slot) {
        let unfinished = self.unfinished_until(slot);
        let Some(connection) = self.table.get_mut(slot) else { return };
        let deadline = [connection.wire.deadline(), unfinished].into_iter().flatten().min();
        self.wheel.set(slot.index, deadline);
    }

    /// Looks at the wire's deadline and name again, after a verb.
    fn note_wire(&mut self, slot: Slot) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        let (name, label) = (connection.wire.name(), connection.label);
        self.set_deadline(slot);
        let new_label = self.label(name);
        if new_label != label {
            self.metrics.wire(label).connections.sub(1);
            self.metrics.wire(new_label).connections.add(1);
            if let Some(connection) = self.table.get_mut(slot) {
                connection.label = new_label;
            }
        }
    }

    /// Ends a connection from our side, once the bytes that have come from it are read: a goodbye may be among them.
    pub(crate) fn end_soon(&mut self, slot: Slot, reason: Reason) {
        let Some(connection) = self.table.get_mut(slot).filter(|c| c.is_alive() && !c.is(Flag::Ending)) else { return };
        connection.set(Flag::Ending, true);
        self.ready(slot, false);
        self.leaving.push(Leaving { slot, reason, until: self.now.monotonic + LEAVING });
    }

    /// Whether a connection is ended as soon as the bytes that have come from it are read.
    pub(crate) fn is_ending(&mut self, slot: Slot) -> bool {
        self.table.get_mut(slot).is_none_or(|connection| connection.is(Flag::Ending))
    }

    /// Takes the leaving connections of which all was read, or that took too long.
    pub(crate) fn take_leavers(&mut self) -> Vec<Leaving> {
        let (table, now) = (&mut self.table, self.now.monotonic);
        let is_due = |leaving: &mut Leaving| {
            leaving.until <= now || table.get_mut(leaving.slot).is_none_or(|connection| connection.is_quiet())
        };
        self.leaving.extract_if(.., is_due).collect()
    }

    /// The time at which the first of them has taken too long.
    pub(crate) fn next_leaver(&self) -> Option<Monotonic> {
        self.leaving.first().map(|leaving| leaving.until)
    }

    fn begin_closing(&mut self, slot: Slot, reason: Reason) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        if matches!(reason, Reason::PeerClosed) {
            return self.drop_now(slot, &reason);
        }
        let (label, address) = (connection.label, connection.address());
        let notice = notice_of(&reason);
        connection.close(reason);
        connection.wire = Box::new(Closed(connection.wire.name()));
        let held = connection.take_held();
        self.unweigh(address.ip(), held);
        self.enlist(slot, List::Flush);
        if let Some(notice) = notice {
            self.note(slot, notice);
        }
        self.wheel.set(slot.index, Some(self.now.monotonic + CLOSING));
        self.part(slot, label, address);
    }

    /// Notes something for operators.
    pub(crate) fn note(&mut self, slot: Slot, notice: Notice) {
        let from = self.origin(slot);
        self.notices.push((Some(slot), from, notice));
    }

    /// The name of the wire that a connection speaks, also of one that has gone in this turn.
    pub(crate) fn wire_name(&mut self, slot: Slot) -> &'static str {
        self.origin(slot).wire
    }

    /// The origin of a connection, also of one that has gone in this turn.
    fn origin(&mut self, slot: Slot) -> From {
        let here = self.table.get_mut(slot).map(|c| (c.address(), c.wire.name()));
        let gone = || self.gone.iter().find(|(gone, _)| *gone == slot).map(|(_, origin)| (origin.address, origin.wire));
        here.or_else(gone).map_or(From::NOWHERE, |(address, wire)| From { address: Some(address.ip()), wire })
    }

    /// Tells the hub that a connection is gone, with the name that its wire had before it ended.
    fn part(&mut self, slot: Slot, label: u8, address: SocketAddr) {
        let wire = self.names.iter().find(|name| name.1 == label).map_or("", |name| name.0);
        self.gone.push((slot, Origin { wire, address }));
    }

    /// Ends a connection without further words.
    pub(crate) fn drop_now(&mut self, slot: Slot, reason: &Reason) {
        let Some(mut connection) = self.table.remove(slot) else { return };
        self.metrics.ended(reason);
        self.metrics.wire(connection.label).connections.sub(1);
        self.metrics.connections.set(self.table.len().into());
        self.wheel.set(slot.index, None);
        self.metrics.outbox_bytes.sub(connection.waiting_bytes() as u64);
        self.metrics.unread.sub(connection.is(Flag::Unread).into());
        writing::put_back(&mut self.spare, &mut connection.outbox);
        self.part(slot, connection.label, connection.address());
        self.unweigh(connection.address().ip(), connection.held());
        if connection.is(Flag::Counted) {
            self.crowd.leave(connection.address().ip());
        }
        self.net.close(connection.socket);
        self.vacated.push(slot);
    }

    /// Sees to a connection whose deadline has come.
    pub(crate) fn tick(&mut self, slot: Slot, position: &Position) {
        let Some(connection) = self.table.get_mut(slot) else { return };
        match &connection.phase {
            Phase::Open | Phase::Paused => {
                self.call_then(slot, position, |wire, cx| wire.tick(cx));
                self.give_up_late(slot, position);
            }
            Phase::Closing => self.drop_now(slot, &Reason::Timeout),
            Phase::Lingering => self.drop_now(slot, &Reason::Done),
        }
    }
}

/// The notice to operators of an ending, if they shall know of it.
fn notice_of(reason: &Reason) -> Option<Notice> {
    let notice = |refused, why: &str| Some(Notice::new(refused, why));
    match reason {
        Reason::Protocol(what) => notice(Refused::Protocol, what),
        Reason::TooLarge(bound) => notice(Refused::Protocol, &format!("more than {bound} allows")),
        Reason::Kicked(why) => notice(Refused::Kicked, why),
        Reason::TakenOver => notice(Refused::TakenOver, "a newer login has its session"),
        Reason::SlowConsumer => notice(
            Refused::Delivery,
            "it reads too slowly: the topic's rule says to close, or its answers wait for too long",
        ),
        Reason::Overloaded(_) => notice(Refused::Connection, "too many connections, or too much traffic"),
        Reason::PeerClosed
        | Reason::Timeout
        | Reason::Unauthorized
        | Reason::Forbidden
        | Reason::Expired
        | Reason::Drain(_)
        | Reason::Internal
        | Reason::Done => None,
    }
}

impl<N: Net> Deliver for Connections<N> {
    fn deliver(&mut self, slot: Slot, delivery: &Delivery<'_>) -> Taken {
        let Some(taken) =
            self.call(slot, None, |wire, cx| if cx.is_full() { Taken::Full } else { wire.push(cx, delivery) })
        else {
            return Taken::Yes;
        };
        let Some(connection) = self.table.get_mut(slot) else { return taken };
        match delivery {
            // A signal for which there is no room is dropped.
            Delivery::Signal(_) | Delivery::Conversation(_) => {}
            _ if taken == Taken::Full => {
                connection.set(Flag::Full, true);
                self.enlist(slot, List::Flush);
            }
            Delivery::Message(parcel, _) | Delivery::Retained(parcel, _) => {
                self.metrics.wire(connection.label).delivered.add(1);
                if let Some(labelled) = connection.labelled() {
                    labelled.delivered();
                }
                let record = parcel.record();
                // A record of history that somebody reads again was not late.
                if self.here.cursor.position(record.partition).is_some_and(|mark| record.offset > mark) {
                    self.metrics.delay(self.now.wall.0.saturating_sub(record.time.0));
                }
            }
            Delivery::Gap(_) | Delivery::Release(_) => {}
        }
        self.settled(slot);
        taken
    }

    fn settled(&mut self, slot: Slot) {
        self.enlist(slot, List::Settle);
    }

    fn end(&mut self, slot: Slot, reason: Reason) {
        self.end_soon(slot, reason);
    }
}
