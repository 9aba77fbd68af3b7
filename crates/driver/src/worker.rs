//! A worker: one event loop that owns its connections and its hub.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, Authenticate, Call, Outcome, Read, Reply};
use everywire_base::clock::Monotonic;
use everywire_base::cursor::Offset;
use everywire_base::id::{Nameplate, Slot};
use everywire_base::lab::Lab;
use everywire_base::limits::Limits;
use everywire_base::network::Network;
use everywire_base::reason::Reason;
use everywire_base::rules::Rules;
use everywire_hub::{Hub, OWN};
use everywire_log::tail::Tail;
use everywire_wire::Answer;

use crate::addresses::Addresses;
use crate::connection::{Leaving, List};
use crate::connections::Connections;
use crate::mail::{Mail, Mailbox, Post, Question};
use crate::metrics::WorkerMetrics;
use crate::net::{Event, Listener, Net};
use crate::notices::{From, Notices};
use crate::questions::Later;
use crate::registry::Registry;

/// How soon a worker tries again what had no room: appends, reads.
const RETRY: Duration = Duration::from_millis(1);
/// How soon it tries again to accept.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// How often a drained worker tries to hand over its last appends.
const LAST_SUBMITS: usize = 1000;
/// A slot that no connection has: it stands where the live ones stand.
const NOBODY: Slot = Slot { index: u32::MAX, generation: 0 };
/// Over how long clients are told to come back when the server goes down.
const SPREAD_MS: u64 = 5000;

/// Where a worker sends what others must do for it. Nothing here may block.
pub trait Ports: Send {
    /// Takes as many appends from the front as the engine has room for.
    fn submit(&self, appends: &mut Vec<Append>);
    /// Takes a read for the store's readers, or gives it back when they are busy. Says from where its asker is.
    fn read(&self, read: Read, from: IpAddr) -> Result<(), Read>;
    /// Takes a call for the API, or gives it back when it is busy.
    #[expect(clippy::result_large_err, reason = "it is given back only where the API is overloaded")]
    fn call(&self, call: Call) -> Result<(), Call>;
    /// Takes credentials to be checked, or gives them back when too many wait. Says from where they come, and whether
    /// their connection has closed its sending side.
    fn authenticate(&self, asked: Authenticate, from: IpAddr, is_leaving: bool) -> Result<(), Authenticate>;
    /// A connection that waits has closed its sending side.
    fn is_leaving(&self, from: IpAddr, worker: u16, slot: Slot);
    /// A connection is gone: what it has asked need not be answered.
    fn is_gone(&self, from: IpAddr, worker: u16, slot: Slot);
}

/// What a worker is made of.
pub struct Setup<N: Net> {
    /// Its number.
    pub number: u16,
    /// Its sockets and clocks.
    pub net: N,
    /// The tails that the hub follows.
    pub tails: Vec<Arc<Tail>>,
    /// Where its asks go.
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
    /// What the node's connections are named after.
    pub plate: Nameplate,
    /// How many connections all workers may have together: what open files are left for them.
    pub most_connections: u64,
    /// Proxies that are believed for whom they speak.
    pub proxies: Arc<[Network]>,
    /// What labelled connections cost, for all workers.
    pub lab: Arc<Lab>,
    /// What was refused, for all workers.
    pub notices: Arc<Notices>,
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
    /// How many connections were handed to each worker.
    pub(crate) handed: Vec<u64>,
    pub(crate) connections: Connections<N>,
    pub(crate) addresses: Addresses,
    plate: Nameplate,
    appends: Vec<Append>,
    events: Vec<Event>,
    expired: Vec<u32>,
    /// Listeners with connections to accept.
    pub(crate) accepting: Vec<u16>,
    /// Listeners that failed to accept, to be tried again in a later turn.
    pub(crate) stalled: Vec<u16>,
    pub(crate) accept_failures: u64,
    pub(crate) most_connections: u64,
    /// What connections have asked beyond their share of a turn.
    pub(crate) later: Later,
    /// The hub or a socket has more to do at once.
    pub(crate) busy: bool,
    /// Whom those say to be who wait for their password to be checked.
    pub(crate) logins: HashMap<Slot, Box<str>>,
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
            plate,
            most_connections,
            proxies,
            lab,
            notices,
        } = setup;
        for (index, listener) in listeners.iter_mut().enumerate() {
            if let Some(socket) = &mut listener.socket {
                net.listen(socket, index as u16)?;
            }
        }
        let here = hub.position(NOBODY);
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
            addresses: Addresses::new(limits.per_address),
            plate,
            connections: Connections::new(net, listeners, limits, rules, own, here, (proxies, lab)),
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
            notices,
            draining: None,
        })
    }

    /// Turns until it was drained.
    pub fn run(&mut self) {
        while !self.is_over() {
            self.turn();
        }
        // What the last connections have left behind.
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

    /// One turn: sleep, mail, commits, reads, farewells, timers, settle, flush.
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
        // A client that was told of a publish may have asked in this turn: it shall find the message.
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
        metrics.turn_began_ms.set(self.connections.now.wall.0);
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

    /// How long the worker may sleep; `None` is until it is woken.
    fn timeout(&mut self) -> Option<Duration> {
        let connections = &self.connections;
        // What an answer within the last settling has left to settle.
        let unsettled = !connections.settle.is_empty() || !self.later.is_empty();
        let readable = !connections.serve.is_empty() && self.appends.is_empty();
        if self.busy || unsettled || readable || !self.accepting.is_empty() {
            return Some(Duration::ZERO);
        }
        let retry = !self.appends.is_empty() || !self.hub.reads().is_empty();
        let now = self.connections.now.monotonic;
        let hub = self.hub.deadline().map(|at| Duration::from_millis(at.0.saturating_sub(now.0)));
        let wheel = self.connections.wheel.sleep(now);
        let [leaver, drain, notices] = [self.connections.next_leaver(), self.draining, self.notices.deadline()]
            .map(|at| at.map(|at| Duration::from_millis(at.0.saturating_sub(now.0))));
        let accept = (!self.stalled.is_empty()).then_some(ACCEPT_AGAIN);
        [retry.then_some(RETRY), accept, hub, leaver, drain, notices, wheel].into_iter().flatten().min()
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
                Mail::Authenticated(who) => {
                    self.answer(who.ticket.slot, who.ticket.ask, Answer::Authenticated(who.result));
                }
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
        let (hub, plate, worker) = (&self.hub, &self.plate, self.number);
        Registry { hub, connections: &mut self.connections, plate, worker }.answer(question);
    }

    fn published(&mut self, outcome: &Outcome) {
        if outcome.ticket.slot.index == OWN {
            return self.hub.appended(outcome.ticket, &outcome.result, self.connections.now);
        }
        self.hub.published(outcome.ticket.slot, outcome.ticket.ask, outcome.result.is_ok());
        if outcome.result.is_ok() {
            self.connections.count_published(outcome.ticket.slot);
        }
        self.answer(outcome.ticket.slot, outcome.ticket.ask, Answer::Published(outcome.result));
    }

    fn called(&mut self, reply: Reply) {
        let (slot, ask) = (reply.ticket.slot, reply.ticket.ask);
        self.answer(slot, ask, Answer::Called(Some(reply)));
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
        // One that must wait doesn't hold up the others: there are several lanes.
        for _ in 0..self.hub.reads().len() {
            let Some(read) = self.hub.reads().pop_front() else { break };
            let (from, _) = self.connections.whereabouts(read.ticket.slot);
            if let Err(read) = self.ports.read(read, from) {
                self.hub.reads().push_back(read);
            }
        }
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

    /// Ends connections whose end was waited with until what had come from them was read.
    fn farewells(&mut self) {
        for Leaving { slot, reason, .. } in self.connections.take_leavers() {
            let position = self.hub.position(slot);
            self.connections.call_then(slot, &position, |wire, cx| wire.farewell(cx, &reason));
            self.see_to_questions();
        }
    }

    fn timers(&mut self) {
        self.connections.wheel.expire(self.connections.now.monotonic, &mut self.expired);
        for index in std::mem::take(&mut self.expired) {
            let Some(slot) = self.connections.table.slot_at(index) else { continue };
            let position = self.hub.position(slot);
            // What has come is read before it is judged: after a pause this may be sooner than it is told.
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

    /// Counts what was refused in this turn, and logs what is due.
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
        metrics.waiting_appends.set(self.appends.len() as u64);
        let behind = self.tails.iter().zip(&self.seen).map(|(tail, seen)| tail.head().0.saturating_sub(seen.0)).sum();
        metrics.inbox_records.set(behind);
    }
}
