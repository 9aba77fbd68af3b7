//! Take-overs of a session by another connection, at every interleaving of what happens around them; at some where the
//! client does something besides.
//!
//! Two workers, one log and one store. Whenever several of them can go on, each order is tried: a hub's turn, its next
//! record coming into the log, the store applying the log, and its answers. Time stands still until nobody can go on.
//! A client loses nothing by a take-over: not its session, not a message, and nothing comes twice.
//!
//! These mutations were tried by hand, and are found:
//! * a claimant that doesn't wait for an owner of its own worker that is gone, in `Sessions::found`;
//! * a claimant that makes a new session when the store couldn't see, in `Sessions::take_page`.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod pair;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use everywire_base::ask::{
    Ack, Append, Draft, Goodbye, Login, Page, PublishError, Read, ReadKind, SessionWish, Subscribe, Will,
};
use everywire_base::cursor::Offset;
use everywire_base::id::{AskId, ReplyTo};
use everywire_base::record::{Durability, Message};
use everywire_base::terms::Terms;
use everywire_base::topic::{Filter, Topic};

use pair::{EXPIRY, ORIGIN, World, named, slot, world};

/// An event that can happen next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Event {
    Turn(usize),
    Commit(usize),
    Apply,
    Answer,
    /// An act of the owner's client besides.
    Client(Act),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Act {
    /// It acknowledges what it was sent.
    Acknowledges,
    /// It publishes once, under a number.
    Publishes,
    /// Its connection breaks.
    Breaks,
    /// It says goodbye, and that has been read before its connection ends.
    SaysGoodbye,
}

/// One order of events.
struct Order {
    world: World,
    appends: [Vec<Append>; 2],
    reads: VecDeque<Read>,
    acts: Vec<Act>,
    /// The worker of the owner, and that of the claimant.
    workers: (usize, usize),
    /// The number of times that the store can't see the session.
    is_blind: u32,
    /// Whether the client's acknowledgement came before its connection ended.
    is_heard: bool,
    done: Vec<Event>,
    /// The events that each worker has seen, and the order of the log: the state of the world comes from them alone.
    seen: [Vec<(Event, u64)>; 2],
    log: Vec<usize>,
}

const OWNER: u32 = 1;
const CLAIMANT: u32 = 5;
/// The owner's client acts before this many events have happened; by then its connection is lost in some orders.
const LATEST: usize = 5;

/// The worker whose hub has asked.
fn worker_of(read: &Read) -> usize {
    read.reply_to.worker().expect("a worker").into()
}

impl Drop for Order {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in this order: {:?}", self.done);
        }
    }
}

impl Order {
    fn new(workers: (usize, usize), acts: &[Act], session: SessionWish) -> Self {
        let mut world = world();
        let (message, durability) = (Message::new(topic("will"), "gone"), Durability::Fsync);
        let will = Some(Box::new(Will { message, durability, ttl: None, delay: Duration::ZERO }));
        let login = Login { session: named("me", EXPIRY, false, 100), will, ..Login::default() };
        world.hubs[workers.0].login(slot(OWNER), AskId(1), login, world.now);
        world.settle();
        let terms = Terms { qos: 1, ..Terms::default() };
        world.subscribe_on(workers.0, OWNER, &Subscribe { terms, ..Subscribe::to([Filter::parse("a").unwrap()]) });
        world.publish("a", "one");
        world.publish("a", "two");
        world.is_slow = true;
        world.clients[workers.0].reads_on = acts.contains(&Act::SaysGoodbye);
        let login = Login { session, ..Login::default() };
        world.hubs[workers.1].login(slot(CLAIMANT), AskId(1), login, world.now);
        let (appends, reads, is_blind) = ([vec![], vec![]], VecDeque::new(), 0);
        Self {
            world,
            appends,
            reads,
            acts: acts.to_vec(),
            workers,
            is_blind,
            is_heard: false,
            done: Vec::new(),
            seen: [vec![], vec![]],
            log: vec![],
        }
    }

    fn gather(&mut self) {
        for worker in 0..2 {
            self.appends[worker].append(self.world.hubs[worker].appends());
            for read in self.world.hubs[worker].reads().drain(..).collect::<Vec<_>>() {
                if matches!(read.kind, ReadKind::Retained { .. }) {
                    self.reads.push_back(read);
                } else {
                    self.world.answer(worker, &read);
                }
            }
        }
    }

    /// The events that can happen now. The client's acts come in their order. The order is over when the claimant has
    /// its session.
    fn enabled(&mut self) -> Vec<Event> {
        self.gather();
        if self.acts.is_empty() && self.world.clients[self.workers.1].welcomes.contains_key(&(CLAIMANT, 1)) {
            return Vec::new();
        }
        let head = self.world.writer.tail().head();
        let is_behind = |worker: &usize| self.world.hubs[*worker].marks()[0] < head;
        let turns = (0..2).filter(is_behind).map(Event::Turn);
        let commits = (0..2).filter(|worker| !self.appends[*worker].is_empty()).map(Event::Commit);
        let applies = (self.world.applied < head).then_some(Event::Apply);
        let is_ready = |read: &Read| read.applied <= self.world.applied;
        let answers = self.reads.front().is_some_and(is_ready).then_some(Event::Answer);
        let acts = self.acts.first().copied().map(Event::Client);
        if let Some(act) = acts.filter(|_| self.done.len() >= LATEST) {
            return vec![act];
        }
        turns.chain(commits).chain(applies).chain(answers).chain(acts).collect()
    }

    fn happen(&mut self, event: Event) {
        self.done.push(event);
        self.note(event);
        match event {
            Event::Turn(worker) => drop(self.world.step(worker)),
            Event::Commit(worker) => {
                for append in std::mem::take(&mut self.appends[worker]) {
                    self.commit(worker, append);
                }
            }
            Event::Apply => self.world.apply(),
            Event::Answer => {
                let read = self.reads.pop_front().unwrap();
                self.answer(&read);
            }
            Event::Client(act) => {
                self.acts.remove(0);
                self.act(act);
            }
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Turn(worker) => self.seen[worker].push((event, self.world.writer.tail().head().0)),
            Event::Commit(worker) => {
                self.log.push(worker);
                self.seen[worker].push((event, self.log.len() as u64));
            }
            Event::Answer => {
                let worker = worker_of(&self.reads[0]);
                self.seen[worker].push((event, self.world.applied.0));
            }
            Event::Client(_) => self.seen[self.workers.0].push((event, 0)),
            Event::Apply => {}
        }
    }

    fn commit(&mut self, worker: usize, append: Append) {
        let is_fenced = self.world.is_fenced(&append.draft.entry);
        if !is_fenced {
            self.world.append(append.draft.entry, append.draft.durability);
        }
        if append.reply_to.connection().is_some() {
            self.world.answer_publish(worker, append.reply_to, is_fenced.then_some(PublishError::Fenced));
        }
    }

    fn answer(&mut self, read: &Read) {
        let worker = worker_of(read);
        if self.is_blind > 0 && matches!(read.kind, ReadKind::Retained { .. }) {
            self.is_blind -= 1;
            let (reply_to, partition, upto) = (read.reply_to, read.partition, Offset(read.applied.0 - 1));
            let page = Page { reply_to, partition, records: Vec::new(), upto, next: None, lost: None, failed: false };
            return self.world.hubs[worker].page(&page, self.world.now, &mut self.world.clients[worker]);
        }
        self.world.answer(worker, read);
    }

    fn act(&mut self, act: Act) {
        let (now, worker) = (self.world.now, self.workers.0);
        let hub = &mut self.world.hubs[worker];
        match act {
            Act::Acknowledges => {
                self.is_heard = hub.acknowledge(slot(OWNER), AskId(3), &Ack::Done(1), now).is_ok();
            }
            Act::Publishes => {
                let is_there = hub.describe(slot(OWNER)).session.is_some();
                let draft = is_there.then(|| hub.publish_once(slot(OWNER), AskId(9), 5, once(), now)).flatten();
                let reply_to = ReplyTo::Connection { worker: worker as u16, slot: slot(OWNER), ask: AskId(9) };
                hub.appends().extend(draft.map(|draft| Append::new(reply_to, draft)));
            }
            Act::Breaks => hub.close(slot(OWNER), ORIGIN, now),
            Act::SaysGoodbye => {
                hub.goodbye(slot(OWNER), Goodbye { expiry: None, will: false });
                hub.close(slot(OWNER), ORIGIN, now);
            }
        }
    }

    /// Commits what is left, and lets time pass: nobody can go on otherwise.
    fn finish(&mut self) {
        for worker in 0..2 {
            for append in std::mem::take(&mut self.appends[worker]) {
                self.commit(worker, append);
            }
        }
        self.world.is_slow = false;
        self.world.apply();
        self.world.pass(Duration::from_secs(1));
        self.world.pass(Duration::from_secs(1));
    }

    fn bodies(&self, name: &str) -> usize {
        self.world.records.iter().filter(|r| r.entry().unwrap().topic().as_str() == name).count()
    }

    /// Checks that the claimant has the session, with all unacknowledged messages, and that it goes on.
    fn check_taken_over(&mut self, expected: &[&str]) {
        let worker = self.workers.1;
        let welcome = self.world.clients[worker].welcomes.remove(&(CLAIMANT, 1)).expect("a welcome").unwrap();
        assert!(welcome.resumed, "its session is lost");
        self.world.publish("a", "three");
        let bodies: Vec<String> = self.world.tagged(worker, CLAIMANT).into_iter().map(|(body, _)| body).collect();
        assert_eq!(bodies, expected);
    }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn once() -> Draft {
    Draft::new(Message { qos: 2, ..Message::new(topic("once"), "x") }, Durability::Fsync)
}

/// Runs every order of events, as far as it leads to a state that no other has led to.
fn every_order(mut begin: impl FnMut() -> Order, mut check: impl FnMut(&mut Order)) {
    // The number of the event that was chosen at each step, and the number of possible ones.
    let mut choices: Vec<(usize, usize)> = Vec::new();
    let mut states = HashSet::new();
    loop {
        let mut order = begin();
        for (chosen, _) in &choices {
            let enabled = order.enabled();
            order.happen(enabled[*chosen]);
        }
        while states.insert((order.seen.clone(), order.log.clone(), order.world.applied)) {
            let enabled = order.enabled();
            let Some(first) = enabled.first() else {
                order.finish();
                check(&mut order);
                break;
            };
            choices.push((0, enabled.len()));
            order.happen(*first);
        }
        while choices.pop_if(|(chosen, of)| *chosen + 1 == *of).is_some() {}
        let Some((chosen, _)) = choices.last_mut() else { return };
        *chosen += 1;
    }
}

/// Runs some of the orders, where there are too many.
fn some_orders(mut begin: impl FnMut() -> Order, mut check: impl FnMut(&mut Order)) {
    for seed in 0..SOME {
        let mut random = Random(seed);
        let mut order = begin();
        loop {
            let enabled = order.enabled();
            if enabled.is_empty() {
                break;
            }
            order.happen(enabled[random.below(enabled.len() as u64) as usize]);
        }
        order.finish();
        check(&mut order);
    }
}

const SOME: u64 = 60;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

const WORKERS: [(usize, usize); 2] = [(0, 1), (0, 0)];

fn resume() -> SessionWish {
    named("me", EXPIRY, false, 100)
}

#[test]
fn nothing_is_lost_by_a_take_over() {
    for workers in WORKERS {
        let begin = || Order::new(workers, &[], resume());
        every_order(begin, |order| {
            order.check_taken_over(&["one", "two", "three"]);
            assert_eq!(order.bodies("will"), 1, "a take-over publishes a will without a delay");
        });
    }
}

#[test]
fn a_store_that_cannot_see_is_asked_again() {
    for workers in WORKERS {
        let begin = || {
            let mut order = Order::new(workers, &[], resume());
            order.is_blind = 2;
            order
        };
        some_orders(begin, |order| order.check_taken_over(&["one", "two", "three"]));
    }
}

#[test]
fn what_the_owner_has_heard_before_its_end_counts() {
    for (workers, acts) in WORKERS.into_iter().zip([&[Act::Acknowledges][..], &[Act::Acknowledges, Act::Breaks]]) {
        some_orders(
            || Order::new(workers, acts, resume()),
            |order| {
                let expected = if order.is_heard { &["two", "three"][..] } else { &["one", "two", "three"] };
                order.check_taken_over(expected);
            },
        );
    }
}

#[test]
fn what_is_published_once_is_published_once() {
    for (workers, acts) in [((0, 1), &[Act::Publishes][..]), ((0, 0), &[Act::Publishes, Act::Breaks])] {
        let begin = || Order::new(workers, acts, resume());
        some_orders(begin, |order| {
            // The client heard nothing, and sends it again.
            let (now, worker) = (order.world.now, order.workers.1);
            let hub = &mut order.world.hubs[worker];
            if let Some(draft) = hub.publish_once(slot(CLAIMANT), AskId(9), 5, once(), now) {
                order.world.append(draft.entry, draft.durability);
            }
            order.world.settle();
            assert_eq!(order.bodies("once"), 1);
            order.check_taken_over(&["one", "two", "three"]);
        });
    }
}

#[test]
fn a_goodbye_that_was_overtaken_by_the_claim_voids_the_will() {
    for workers in WORKERS {
        some_orders(
            || Order::new(workers, &[Act::SaysGoodbye], resume()),
            |order| {
                assert_eq!(order.bodies("will"), 0);
                order.check_taken_over(&["one", "two", "three"]);
            },
        );
    }
}

#[test]
fn whoever_starts_anew_gets_nothing_of_what_was_there() {
    for workers in WORKERS {
        let fresh = named("me", Duration::ZERO, true, 100);
        some_orders(
            || Order::new(workers, &[Act::Breaks], fresh.clone()),
            |order| {
                assert!(!order.world.clients[order.workers.1].welcomes[&(CLAIMANT, 1)].as_ref().unwrap().resumed);
                assert_eq!(order.bodies("will"), 1);
                order.world.close(order.workers.1, CLAIMANT);
                assert!(!order.world.enter(0, 9, resume()).resumed, "what was thrown away has come back");
            },
        );
    }
}
