//! A worker: one event loop that owns its connections and its hub.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, Authenticate, Call, Outcome, Read, Reply};
use everywire_base::clock::Monotonic;
use everywire_base::cursor::Offset;
use everywire_base::id::{NodeLife, Slot};
use everywire_base::lab::Lab;
use everywire_base::limits::Limits;
use everywire_base::network::Network;
use everywire_base::quota::{Accounts, Quota};
use everywire_base::reason::Reason;
use everywire_base::rules::Rules;
use everywire_hub::Hub;
use everywire_log::tail::Tail;
use everywire_wire::Answer;

use crate::connection::{Leaving, List};
use crate::connections::{Connections, Shared};
use crate::crowd::Crowd;
use crate::mail::{Mail, Mailbox, Post, Question};
use crate::metrics::WorkerMetrics;
use crate::net::{Event, Listener, Net};
use crate::notices::{From, Notices};
use crate::questions::Later;
use crate::reads::Refused;
use crate::registry::Registry;
use crate::rest::Rest;

/// The delay until a worker tries again appends and reads that had no room.
const RETRY: Duration = Duration::from_millis(1);
/// The delay until it tries again to accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// The number of times that a drained worker tries to hand over its last appends.
const LAST_SUBMITS: usize = 1000;
/// The number of addresses' accounts that are kept although nobody holds them.
const ACCOUNTS_KEPT: usize = 1024;
/// A slot that no connection has: its position is that of live connections.
const NOBODY: Slot = Slot { index: u32::MAX, generation: 0 };
/// The time over which clients are told to come back when the server goes down.
const SPREAD_MS: u64 = 5000;

/// The ports of a worker: through them others work for it. No call may block.
pub trait Ports: Send {
    /// Takes as many appends from the front as the engine has room for.
    fn submit(&self, appends: &mut Vec<Append>);
    /// Takes a read for the store's readers, or gives it back when they are busy. `from` is the address of the asker.
    fn read(&self, read: Read, from: IpAddr) -> Result<(), Read>;
    /// Takes a call for the API, or gives it back when it is busy.
    #[expect(clippy::result_large_err, reason = "it is given back only where the API is overloaded")]
    fn call(&self, call: Call) -> Result<(), Call>;
    /// Takes credentials to be checked, or gives them back when too many wait. `from` is their address; `is_leaving`
    /// says whether their connection has closed its sending side.
    fn authenticate(&self, asked: Authenticate, from: IpAddr, is_leaving: bool) -> Result<(), Authenticate>;
    /// Tells that a waiting connection has closed its sending side.
    fn is_leaving(&self, from: IpAddr, worker: u16, slot: Slot);
    /// Tells that a connection is gone: its asks need not be answered.
    fn is_gone(&self, from: IpAddr, worker: u16, slot: Slot);
}

/// The parts of a worker.
pub struct Setup<N: Net> {
    /// Its number.
    pub number: u16,
    /// Its sockets and clocks.
    pub net: N,
    /// The tails that the hub follows.
    pub tails: Vec<Arc<Tail>>,
    /// The ports for its asks.
    pub ports: Box<dyn Ports>,
    /// Its letters.
    pub mailbox: Mailbox<N::Socket>,
    /// The posts of all workers, itself included, for handing connections over.
    pub posts: Vec<Post<N::Socket>>,
    /// The numbers of all workers, itself included.
    pub metrics: Vec<Arc<WorkerMetrics>>,
    /// The listeners.
    pub listeners: Vec<Listener<N>>,
    /// The bounds.
    pub limits: Arc<Limits>,
    /// The topic rules.
    pub rules: Arc<Rules>,
    /// The life of the node, after which its connections are named.
    pub life: NodeLife,
    /// The number of connections that all workers may have together: the open files that are left for them.
    pub most_connections: u64,
    /// Trusted proxies: they may say for whom they speak.
    pub proxies: Arc<[Network]>,
    /// The cost of labelled connections, for all workers.
    pub lab: Arc<Lab>,
    /// The notices of refusals, for all workers.
    pub notices: Arc<Notices>,
    /// The number of connections of each address, at all workers.
    pub crowd: Arc<Crowd>,
    /// Gives memory that the calling thread doesn't use back to the system; called when the worker rests after work.
    pub trim: fn(),
}

/// One event loop with its connections and its hub.
pub struct Worker<N: Net> {
    pub(crate) number: u16,
    pub(crate) hub: Hub,
    tails: Vec<Arc<Tail>>,
    /// The heads that the hub has looked at.
    seen: Vec<Offset>,
    pub(crate) ports: Box<dyn Ports>,
    mailbox: Mailbox<N::Socket>,
    pub(crate) posts: Vec<Post<N::Socket>>,
    pub(crate) all_metrics: Vec<Arc<WorkerMetrics>>,
    /// The number of connections that were handed to each worker.
    pub(crate) handed: Vec<u64>,
    pub(crate) connections: Connections<N>,
    /// The publishes of each remote address, counted by the worker that accepts its connections. All workers together
    /// count its connections: see [`crate::crowd`].
    pub(crate) accounts: Accounts<IpAddr>,
    life: NodeLife,
    refused: Refused,
    appends: Vec<Append>,
    events: Vec<Event>,
    expired: Vec<u32>,
    /// Listeners with connections to accept.
    pub(crate) accepting: Vec<u16>,
    /// Listeners that failed to accept, to be tried again in a later turn.
    pub(crate) stalled: Vec<u16>,
    pub(crate) accept_failures: u64,
    pub(crate) most_connections: u64,
    /// The asks of connections beyond their share of a turn.
    pub(crate) later: Later,
    /// Whether the hub or a socket has more to do at once.
    pub(crate) busy: bool,
    /// The user names of clients that wait for their passwords to be checked.
    pub(crate) logins: HashMap<Slot, Box<str>>,
    rest: Rest,
    notices: Arc<Notices>,
    draining: Option<Monotonic>,
}

impl<N: Net> Worker<N> {
    /// Makes a worker. Its listeners accept from the first turn on.
    pub fn new(setup: Setup<N>, hub: Hub) -> io::Result<Self> {
        let Setup {
            number,
            mut net,
            tails,
            ports,
            mailbox,
            posts,
            metrics,
            mut listeners,
            limits,
            rules,
            life,
            most_connections,
            proxies,
            lab,
            notices,
            crowd,
            trim,
        } = setup;
        for (index, listener) in listeners.iter_mut().enumerate() {
            if let Some(socket) = &mut listener.socket {
                net.listen(socket, index as u16)?;
            }
        }
        let here = hub.position(NOBODY);
        let kept = tails.iter().map(|tail| Arc::clone(tail.kept())).collect();
        let shared = Shared { proxies, lab, crowd, kept };
        let own = Arc::clone(&metrics[usize::from(number)]);
        own.most_connections.set(most_connections);
        Ok(Self {
            number,
            hub,
            seen: tails.iter().map(|_| Offset::BEGINNING).collect(),
            tails,
            ports,
            mailbox,
            handed: vec![0; posts.len()],
            posts,
            all_metrics: metrics,
            accounts: Accounts::new(Quota { connections: 0, ..limits.per_address }, ACCOUNTS_KEPT),
            life,
            refused: Refused::default(),
            connections: Connections::new(net, listeners, limits, rules, own, here, shared),
            appends: Vec::new(),
            events: Vec::new(),
            expired: Vec::new(),
            accepting: Vec::new(),
            stalled: Vec::new(),
            accept_failures: 0,
            most_connections,
            later: Later::default(),
            busy: true,
            logins: HashMap::new(),
            rest: Rest::new(trim),
            notices,
            draining: None,
        })
    }

    /// Runs turns until the worker is drained.
    pub fn run(&mut self) {
        while !self.is_over() {
            self.turn();
        }
        // The last connections have left asks and sessions behind.
        self.forget();
        for _ in 0..LAST_SUBMITS {
            self.submit();
            if self.appends.is_empty() {
                break;
            }
            self.connections.net.wait(Some(RETRY), &mut self.events);
        }
    }

    /// Whether the worker was drained: nobody is left, or the time is over.
    pub fn is_over(&self) -> bool {
        let now = self.connections.now.monotonic;
        self.draining.is_some_and(|deadline| self.connections.table.len() == 0 || now >= deadline)
    }

    /// Does one turn: sleep, mail, commits, reads, farewells, timers, settle, flush.
    pub fn turn(&mut self) {
        self.sleep();
        self.connections.asked = 0;
        self.take_mail();
        self.accept();
        self.commits();
        self.go_on_with_questions();
        if self.appends.is_empty() {
            self.reads();
        }
        self.count_addresses();
        self.farewells();
        self.timers();
        // A client that was told of a publish may have subscribed in this turn: it shall find the message.
        if self.has_news() {
            self.commits();
        }
        self.settle();
        self.connections.flush();
        self.tell();
        self.forget();
        self.submit();
        self.count();
    }

    fn sleep(&mut self) {
        let timeout = self.timeout();
        let sleeps = timeout != Some(Duration::ZERO) && self.mailbox.may_sleep(|| !self.has_news());
        self.connections.metrics.sleeping.set(sleeps.into());
        let timeout = if sleeps { timeout } else { Some(Duration::ZERO) };
        self.connections.net.wait(timeout, &mut self.events);
        self.mailbox.awake();
        self.accepting.append(&mut self.stalled);
        self.connections.now = self.connections.net.now();
        let metrics = &self.connections.metrics;
        metrics.sleeping.set(0);
        metrics.turn_began_ms.set(self.connections.now.monotonic.0);
        if !self.events.is_empty() {
            self.rest.works(self.connections.now.monotonic);
        }
        for event in self.events.drain(..) {
            match event {
                Event::Accept(listener) => self.accepting.push(listener),
                Event::Ready { index, readable, writable, hangup } => {
                    let Some(slot) = self.connections.table.slot_at(index) else { continue };
                    if writable {
                        self.connections.writable(slot);
                    }
                    if readable {
                        self.connections.heard(slot, hangup);
                    }
                    if let Some(from) = self.connections.is_waiting(slot).filter(|_| hangup) {
                        self.ports.is_leaving(from, self.number, slot);
                    }
                }
            }
        }
    }

    /// The time that the worker may sleep; `None` is until it is woken.
    fn timeout(&mut self) -> Option<Duration> {
        let connections = &self.connections;
        // An answer within the last settling may have left connections to settle.
        let unsettled = !connections.settle.is_empty() || !self.later.is_empty();
        let readable = !connections.serve.is_empty() && self.appends.is_empty();
        if self.busy || unsettled || readable || !self.accepting.is_empty() {
            return Some(Duration::ZERO);
        }
        let retry = !self.appends.is_empty() || !self.hub.reads().is_empty();
        let now = self.connections.now.monotonic;
        let wheel = self.connections.wheel.sleep(now);
        let (hub, leaver) = (self.hub.deadline(), self.connections.next_leaver());
        let deadlines = [hub, leaver, self.draining, self.notices.deadline(), self.rest.deadline()];
        let until = deadlines.into_iter().flatten().map(|at| Duration::from_millis(at.0.saturating_sub(now.0)));
        let accept = (!self.stalled.is_empty()).then_some(ACCEPT_AGAIN);
        [retry.then_some(RETRY), accept, wheel].into_iter().flatten().chain(until).min()
    }

    fn take_mail(&mut self) {
        while let Some(mail) = self.mailbox.take() {
            match mail {
                Mail::Accepted(accepted) => {
                    self.connections.metrics.adopted.add(1);
                    self.connections.adopt(accepted);
                }
                Mail::Outcomes(outcomes) => outcomes.into_iter().for_each(|o| self.published(&o)),
                Mail::Page(page) => self.hub.page(&page, self.connections.now, &mut self.connections),
                Mail::Called(reply) => self.called(reply),
                Mail::Authenticated(who) => self.answer(who.reply_to, Answer::Authenticated(who.result)),
                Mail::Rules(rules) => {
                    self.hub.set_rules(Arc::clone(&rules));
                    self.connections.rules = rules;
                }
                Mail::Tls(config) => {
                    let listeners = self.connections.listeners.iter_mut();
                    listeners.filter_map(|l| l.tls.as_mut()).for_each(|tls| *tls = tls.renewed(&config));
                }
                Mail::Subscribers(topics, answer) => answer(topics.iter().map(|t| self.hub.subscribers(t)).collect()),
                Mail::Asked(question) => self.asked(question),
                Mail::Drain(within) => self.drain(within),
            }
        }
    }

    fn asked(&mut self, question: Question) {
        let (hub, life, worker) = (&self.hub, &self.life, self.number);
        Registry { hub, connections: &mut self.connections, life, worker }.answer(question);
    }

    fn published(&mut self, outcome: &Outcome) {
        if outcome.reply_to.connection().is_none() {
            return self.hub.appended(outcome.reply_to, &outcome.result, self.connections.now);
        }
        self.hub.published(outcome, self.connections.now);
        self.see_to_questions();
    }

    fn called(&mut self, reply: Reply) {
        self.answer(reply.reply_to, Answer::Called(Some(reply)));
    }

    /// Whether some head has moved since the hub last looked.
    fn has_news(&self) -> bool {
        self.tails.iter().zip(&self.seen).any(|(tail, seen)| tail.head() != *seen)
    }

    fn commits(&mut self) {
        for (seen, tail) in self.seen.iter_mut().zip(&self.tails) {
            *seen = tail.head();
        }
        self.connections.here = self.hub.position(NOBODY);
        self.busy = self.hub.turn(self.connections.now, &mut self.connections);
        for (tail, mark) in self.tails.iter().zip(self.hub.marks()) {
            tail.has_read(self.number.into(), *mark);
        }
        self.send_reads();
        self.see_to_questions();
    }

    fn send_reads(&mut self) {
        let Self { hub, connections, ports, refused, .. } = self;
        let whence = |read: &Read| connections.origin_of(read.reply_to);
        refused.send(hub.reads(), whence, |read, from| ports.read(read, from));
    }

    fn reads(&mut self) {
        for slot in std::mem::take(&mut self.connections.serve) {
            if self.connections.waits_its_turn(slot) {
                self.connections.serve.push(slot);
                continue;
            }
            let position = self.hub.position(slot);
            self.connections.serve(slot, &position);
            self.see_to_questions();
        }
    }

    /// Ends leaving connections, once the bytes that had come from them are read.
    fn farewells(&mut self) {
        for Leaving { slot, reason, .. } in self.connections.take_leavers() {
            let position = self.hub.position(slot);
            self.connections.call_then(slot, &position, |wire, cx| wire.farewell(cx, &reason));
            self.see_to_questions();
        }
    }

    fn timers(&mut self) {
        self.rest.turn(self.connections.now.monotonic);
        self.connections.wheel.expire(self.connections.now.monotonic, &mut self.expired);
        for index in std::mem::take(&mut self.expired) {
            let Some(slot) = self.connections.table.slot_at(index) else { continue };
            let position = self.hub.position(slot);
            // Bytes that have come are read before the deadline is judged: after a pause, their event may come later.
            self.connections.look(slot, &position, !self.appends.is_empty());
            self.see_to_questions();
            self.connections.tick(slot, &position);
            self.see_to_questions();
        }
    }

    fn settle(&mut self) {
        for slot in std::mem::take(&mut self.connections.settle) {
            let Some(connection) = self.connections.table.get_mut(slot) else { continue };
            connection.delist(List::Settle);
            let position = self.hub.position(slot);
            self.connections.call_then(slot, &position, |wire, cx| wire.settle(cx));
            self.see_to_questions();
        }
    }

    fn submit(&mut self) {
        self.appends.append(self.hub.appends());
        if !self.appends.is_empty() {
            self.ports.submit(&mut self.appends);
        }
    }

    /// Counts the refusals of this turn, and logs the lines that are due.
    fn tell(&mut self) {
        let now = self.connections.now.monotonic;
        for (slot, notice) in std::mem::take(self.hub.notices()) {
            match slot {
                Some(slot) => self.connections.note(slot, notice),
                None => self.connections.notices.push((None, From::NOWHERE, notice)),
            }
        }
        for (slot, from, mut notice) in std::mem::take(&mut self.connections.notices) {
            if notice.who.is_none() {
                let known = slot.map(|slot| self.hub.describe(slot));
                notice.who = known.and_then(|known| known.user.or(known.client));
            }
            self.connections.metrics.refused(notice.refused);
            if let Some(line) = self.notices.note(now, &notice, from) {
                tracing::warn!("{line}");
            }
        }
        if self.notices.deadline().is_some_and(|at| at <= now) {
            for line in self.notices.due(now) {
                tracing::warn!("{line}");
            }
        }
    }

    /// Tells the hub of connections that are gone, or have room again.
    fn forget(&mut self) {
        if !self.connections.gone.is_empty() {
            self.finish_questions();
        }
        for (slot, origin) in self.connections.gone.drain(..) {
            self.ports.is_gone(origin.address.ip(), self.number, slot);
            self.logins.remove(&slot);
            self.hub.close(slot, origin, self.connections.now);
        }
        for slot in self.connections.vacated.drain(..) {
            self.connections.table.recycle(slot);
        }
        for slot in self.connections.roomy.drain(..) {
            self.hub.room(slot);
            self.busy = true;
        }
    }

    fn drain(&mut self, within: Duration) {
        self.draining = Some(self.connections.now.monotonic + within);
        self.hub.drain();
        for listener in &mut self.connections.listeners {
            listener.socket = None;
        }
        for slot in self.connections.table.slots() {
            // Spread over the places, so that not all come back at once.
            let delay = u64::from(slot.index).wrapping_mul(0x9e37_79b9) % SPREAD_MS;
            let reason = Reason::Drain(Duration::from_millis(delay));
            self.connections.end_soon(slot, reason);
        }
    }

    fn count(&mut self) {
        let (metrics, counters) = (&self.connections.metrics, self.hub.counters());
        metrics.turns.add(1);
        metrics.lagging.set(counters.lagging);
        metrics.gaps.set(counters.gaps);
        metrics.expired.set(counters.expired);
        metrics.ended.set(counters.dropped);
        metrics.wills.set(counters.wills);
        metrics.signals.set(counters.signals);
        metrics.signals_dropped.set(counters.signals_dropped);
        metrics.untold.set(counters.untold);
        metrics.waiting_appends.set(self.appends.len() as u64);
        let behind = self.tails.iter().zip(&self.seen).map(|(tail, seen)| tail.head().0.saturating_sub(seen.0)).sum();
        metrics.inbox_records.set(behind);
    }
}
