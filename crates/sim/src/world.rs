//! One world from one seed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use everywire_base::limits::Limits;
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::topic::{Filter, Topic};
use everywire_log::disk::{Fault, SimDisk};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::checker::{Acknowledged, Checker, Reading};
use crate::client::{Publisher, Reader, Transport};
use crate::member::Member;
use crate::net::{Leave, Network};
use crate::node::SimNode;
use crate::tables::SimTables;

/// Steps with faults; then the world becomes quiet.
const STEPS: u32 = 12_000;
/// Steps in which a quiet world must come to its end.
const QUIET_STEPS: u32 = 40_000;
/// Quiet steps in a row after which nothing more is expected: heartbeats apart, nothing moves.
const STILL: u32 = 400;

const TOPICS: [&str; 6] = ["a", "b", "room/1", "room/2", "room/1/x", "c"];
const FILTERS: [&str; 6] = ["a", "b", "room/+", "room/#", "#", "c"];

/// How a world ended well: what it had seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages that came to readers.
    pub delivered: u64,
    /// Connections cut.
    pub cuts: u64,
    /// Crashes of the server.
    pub crashes: u64,
}

/// Runs the world of a seed, and says what went wrong, if anything did.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let mut world = World::new(seed)?;
    for step in 0..STEPS {
        world.step().map_err(|e| format!("in step {step}: {e}"))?;
    }
    world.come_to_rest()?;
    world.checker.verdict()?;
    let acknowledged = world.checker.publishes.values().filter(|p| p.acknowledged != Acknowledged::No).count() as u64;
    let delivered = world.checker.readings.iter().map(|r| r.seen.len() as u64).sum();
    Ok(Outcome { acknowledged, delivered, ..world.outcome })
}

struct World {
    random: ChaCha8Rng,
    network: Rc<RefCell<Network>>,
    disk: SimDisk,
    tables: SimTables,
    limits: Arc<Limits>,
    rules: Arc<Rules>,
    node: SimNode,
    readers: Vec<Reader>,
    publishers: Vec<Publisher>,
    members: Vec<Member>,
    checker: Checker,
    padding: usize,
    /// How many of a thousand steps are crashes.
    crashes: u32,
    /// Whether the disk is full or fails now and then.
    has_bad_disk: bool,
    outcome: Outcome,
}

impl World {
    fn new(seed: u64) -> Result<Self, String> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let network = Rc::new(RefCell::new(Network::default()));
        let disk = SimDisk::new();
        let limits = Arc::new(small_limits(&mut random));
        let rules = Arc::new(Rules::new(vec![keep_everything()]));
        let tables = SimTables::default();
        let node = SimNode::start(&network, (&disk, &tables), random.random(), &limits, &rules)?;
        let mut checker = Checker::new(new_filter(&mut random));
        let crashes = [0, 1, 3][random.random_range(0..3)];
        let has_bad_disk = random.random_bool(0.3);
        // QoS 1 and 2 of one topic have no order among each other (MQTT-4.6.0-5): who reads exactly once reads nothing else.
        let once = random.random_bool(0.5);
        let transports = if once { &Transport::ALL[..] } else { &Transport::ALL[..Transport::ALL.len() - 1] };
        let readers = (0..random.random_range(2..9))
            .map(|number| new_reader(number, transports, &mut random, &mut checker))
            .collect();
        let publishers =
            (0..random.random_range(1..12)).map(|number| new_publisher(number, once, &mut random)).collect();
        let members =
            (0..random.random_range(0..4)).map(|n| Member::new(n, n == 0 || random.random_bool(0.5))).collect();
        let padding = random.random_range(0..60);
        Ok(Self {
            random,
            network,
            disk,
            tables,
            limits,
            rules,
            node,
            readers,
            publishers,
            members,
            checker,
            padding,
            crashes,
            has_bad_disk,
            outcome: Outcome::default(),
        })
    }

    /// Something happens, perhaps something bad.
    fn step(&mut self) -> Result<(), String> {
        match self.random.random_range(0..1000u32) {
            n if n < self.crashes => self.crash(),
            n if n < self.crashes + 12 => {
                self.cut();
                Ok(())
            }
            n if n < self.crashes + 16 && self.has_bad_disk => {
                self.spoil_or_heal();
                Ok(())
            }
            n if n < self.crashes + 22 => {
                let reader = self.random.random_range(0..self.readers.len());
                self.readers[reader].stalled = self.random.random_range(0..300);
                Ok(())
            }
            n if n < self.crashes + 42 => {
                let ahead = self.random.random_range(0..4000);
                self.pass(ahead);
                Ok(())
            }
            n if n < self.crashes + 242 => {
                self.publish_more();
                Ok(())
            }
            _ => self.advance(),
        }
    }

    /// Some part goes on.
    fn advance(&mut self) -> Result<(), String> {
        let place = self.random.random_range(0..64);
        match self.random.random_range(0..10) {
            0..=2 => self.node.work(),
            3 => drop(self.node.commit()),
            4 => drop(self.node.apply_beside_reader(place % 8)),
            5 => drop(self.node.read(place)),
            6 if !self.members.is_empty() && self.random.random_bool(0.3) => {
                let (member, most) =
                    (self.random.random_range(0..self.members.len()), self.random.random_range(1..2000));
                self.members[member].step(&mut self.network.borrow_mut(), &mut self.checker, most)?;
            }
            6 => {
                let publisher = self.random.random_range(0..self.publishers.len());
                self.publishers[publisher].step(&mut self.network.borrow_mut(), &mut self.checker, self.padding)?;
            }
            _ => {
                let reader = self.random.random_range(0..self.readers.len());
                let most = self.random.random_range(1..2000);
                self.readers[reader].step(&mut self.network.borrow_mut(), &mut self.checker, most)?;
            }
        }
        Ok(())
    }

    fn pass(&mut self, ms: u64) {
        let mut network = self.network.borrow_mut();
        network.now_ms += ms;
        self.node.set_time(1_795_000_000_000 + network.now_ms);
    }

    fn publish_more(&mut self) {
        let idle = self.publishers.iter_mut().filter(|p| p.number.is_none());
        for publisher in idle {
            let topic = TOPICS[self.random.random_range(0..TOPICS.len())];
            publisher.number = Some(self.checker.promise(Topic::parse(topic).expect("a topic")));
        }
    }

    fn cut(&mut self) {
        self.outcome.cuts += 1;
        let how = [Leave::Closed, Leave::Cut, Leave::Silently][self.random.random_range(0..3)];
        let (readers, publishers) = (self.readers.len(), self.publishers.len());
        let place = self.random.random_range(0..readers + publishers + self.members.len());
        let mut network = self.network.borrow_mut();
        if place < readers {
            self.readers[place].disconnect(&mut network, how);
        } else if place < readers + publishers {
            self.publishers[place - readers].disconnect(&mut network, how, &mut self.checker);
        } else {
            self.members[place - readers - publishers].disconnect(&mut network, how);
        }
    }

    /// The disk is full, fails soon, or is whole again.
    fn spoil_or_heal(&mut self) {
        match self.random.random_range(0..4) {
            0 => self.disk.set_capacity(Some(self.disk.used() + self.random.random_range(0..2000))),
            1 => self.disk.fail(Fault::Write(self.random.random_range(0..20))),
            2 => self.disk.fail(Fault::Sync(self.random.random_range(0..20))),
            _ => self.heal(),
        }
    }

    fn heal(&self) {
        self.disk.set_capacity(None);
        self.disk.heal();
    }

    /// The machine loses its power: what was not synced may be gone, torn or there.
    fn crash(&mut self) -> Result<(), String> {
        self.outcome.crashes += 1;
        self.heal();
        self.checker.crashed();
        // No life begins in the millisecond of the one before.
        self.pass(1);
        self.network.borrow_mut().crash();
        self.disk.crash(self.random.random());
        self.tables.crash(self.random.random_range(0..64)).map_err(|e| e.to_string())?;
        self.node =
            SimNode::start(&self.network, (&self.disk, &self.tables), self.random.random(), &self.limits, &self.rules)?;
        self.pass(0);
        Ok(())
    }

    /// No more faults and no more messages: everything must come to its end.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.readers.iter_mut().for_each(|r| r.stalled = 0);
        self.heal();
        let mut still = 0;
        for step in 0..QUIET_STEPS {
            self.network.borrow_mut().moved = false;
            let seen = |checker: &Checker| {
                checker.readings.iter().map(|r| r.seen.len()).sum::<usize>() + checker.group.seen.len()
            };
            let before = seen(&self.checker);
            self.all_parts().map_err(|e| format!("in quiet step {step}: {e}"))?;
            let after = seen(&self.checker);
            let idle = self.publishers.iter().all(|p| p.number.is_none()) && before == after;
            still = if idle { still + 1 } else { 0 };
            if still >= STILL {
                return Ok(());
            }
        }
        Err("the world never came to rest".to_owned())
    }

    fn all_parts(&mut self) -> Result<(), String> {
        self.pass(20);
        self.node.work();
        self.node.commit();
        while self.node.apply() {}
        while self.node.read(0) {}
        self.node.work();
        let mut network = self.network.borrow_mut();
        for publisher in &mut self.publishers {
            publisher.step(&mut network, &mut self.checker, self.padding)?;
        }
        for reader in &mut self.readers {
            reader.step(&mut network, &mut self.checker, usize::MAX)?;
        }
        for member in &mut self.members {
            member.step(&mut network, &mut self.checker, usize::MAX)?;
        }
        Ok(())
    }
}

fn new_publisher(number: usize, once: bool, random: &mut ChaCha8Rng) -> Publisher {
    if once || random.random_bool(0.5) { Publisher::over_mqtt(number) } else { Publisher::over_http() }
}

fn new_filter(random: &mut ChaCha8Rng) -> Filter {
    Filter::parse(FILTERS[random.random_range(0..FILTERS.len())]).expect("a filter")
}

fn new_reader(number: usize, transports: &[Transport], random: &mut ChaCha8Rng, checker: &mut Checker) -> Reader {
    let transport = transports[random.random_range(0..transports.len())];
    let mut filters: Vec<Filter> = Vec::new();
    for _ in 0..random.random_range(1..4) {
        let filter = new_filter(random);
        if !filters.contains(&filter) {
            filters.push(filter);
        }
    }
    let name = format!("{transport:?} {number}");
    // Readers begin at the earliest, so that they want everything.
    checker.readings.push(Reading {
        name,
        filters: filters.clone(),
        since: Some(0),
        seen: Vec::new(),
        gaps: Vec::new(),
    });
    Reader::new(number, transport, filters, random.random_range(300..20_000))
}

/// Bounds so small that every one of them is met.
fn small_limits(random: &mut ChaCha8Rng) -> Limits {
    Limits {
        outbox_bytes: random.random_range(200..4000),
        tail_records: random.random_range(1..600),
        deliveries_per_turn: random.random_range(1..60),
        page_messages_max: random.random_range(1..50),
        page_bytes: random.random_range(100..10_000),
        append_queue_records: random.random_range(1..10),
        read_queue: random.random_range(1..6),
        session_window: random.random_range(4..40),
        receive_buffer_bytes: 17 << 10,
        // Longer than a world lasts: a publisher may come back to a message very late.
        idempotency_window: std::time::Duration::from_hours(1),
        ..Limits::default()
    }
}

fn keep_everything() -> TopicRule {
    let history =
        History { max_age: std::time::Duration::from_secs(1 << 30), max_messages: 1 << 30, max_bytes: 1 << 40 };
    TopicRule { history, ..TopicRule::fallback() }
}
