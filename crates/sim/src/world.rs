//! One world from one seed.

use std::fmt;
use std::ops::AddAssign;
use std::rc::Rc;
use std::sync::Arc;

use everywire_base::limits::Limits;
use everywire_base::rules::{Anonymous, History, Rules, TopicRule};
use everywire_base::topic::{Filter, Topic};
use everywire_log::disk::{Fault, SimDisk};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::checker::{Checker, Reading};
use crate::client::{Publisher, Reader, Transport};
use crate::member::Member;
use crate::net::Leave;
use crate::node::{Machine, SimNode};
use crate::operator::Operator;
use crate::tables::SimTables;

/// The number of steps with faults; then the world becomes quiet.
const STEPS: u32 = 12_000;
/// The number of steps in which a quiet world must come to its end.
const QUIET_STEPS: u32 = 40_000;
/// The number of quiet steps in a row after which nothing more is expected: apart from heartbeats, nothing moves.
const STILL: u32 = 400;

pub(crate) const TOPICS: [&str; 6] = ["a", "b", "room/1", "room/2", "room/1/x", "c"];
const FILTERS: [&str; 6] = ["a", "b", "room/+", "room/#", "#", "c"];

/// The counts of a world that ended well.
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
    /// Kicks over the API that were answered.
    pub kicks: u64,
    /// Lives of nodes that the others, or the engine, have ended.
    pub lives: u64,
    /// Nodes that have gone on from a snapshot, without a part of the log.
    pub joins: u64,
    /// Nodes that were drained to their end.
    pub drains: u64,
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.cuts += other.cuts;
        self.crashes += other.crashes;
        self.kicks += other.kicks;
        self.lives += other.lives;
        self.joins += other.joins;
        self.drains += other.drains;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acknowledged, delivered, cuts, crashes, kicks, lives, joins, drains } = self;
        write!(
            f,
            "{acknowledged} messages acknowledged, {delivered} delivered, {cuts} cuts, {crashes} crashes, {kicks} kicks, \
             {lives} lives that others ended, {joins} joins by snapshot, {drains} drains"
        )
    }
}

/// Runs the world of a seed; returns the fault, if there is one.
pub fn run(seed: u64) -> Result<Outcome, String> {
    let mut world = World::new(seed)?;
    for step in 0..STEPS {
        world.step().map_err(|e| format!("in step {step}: {e}"))?;
    }
    world.kick_everybody()?;
    world.come_to_rest()?;
    world.checker.verdict()?;
    world.operator.verdict(&world.readers)?;
    world.registry_is_whole()?;
    let (acknowledged, delivered) = (world.checker.acknowledged(), world.checker.delivered());
    Ok(Outcome { acknowledged, delivered, kicks: world.operator.kicks, ..world.outcome })
}

struct World {
    random: ChaCha8Rng,
    machine: Machine,
    node: SimNode,
    readers: Vec<Reader>,
    publishers: Vec<Publisher>,
    members: Vec<Member>,
    operator: Operator,
    /// A second source of randomness: its draws change nothing in the rest of the world.
    shape: ChaCha8Rng,
    checker: Checker,
    padding: usize,
    /// The number of crashes in a thousand steps.
    crashes: u32,
    /// Whether the disk is full or fails now and then.
    has_bad_disk: bool,
    outcome: Outcome,
}

impl World {
    fn new(seed: u64) -> Result<Self, String> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut shape = random.clone();
        shape.set_stream(1);
        let machine = Machine {
            name: "sim".into(),
            shared: None,
            network: Rc::default(),
            disk: SimDisk::new(),
            tables: SimTables::default(),
            workers: shape.random_range(1..3),
            limits: Arc::new(small_limits(&mut random)),
            rules: Arc::new(rules()),
        };
        let node = SimNode::start(&machine, random.random())?;
        let mut checker = Checker::new(new_filter(&mut random));
        let crashes = [0, 1, 3][random.random_range(0..3)];
        let has_bad_disk = random.random_bool(0.3);
        // Messages of QoS 1 and QoS 2 on one topic have no order among each other (MQTT-4.6.0-5): where readers read
        // exactly once, publishers publish so too.
        let once = random.random_bool(0.5);
        let transports = if once { &Transport::ALL[..] } else { &Transport::ALL[..Transport::ALL.len() - 1] };
        let readers = (0..random.random_range(2..9))
            .map(|number| {
                let reader = new_reader(number, transports, &mut random, &mut checker);
                if shape.random_bool(0.5) { reader.with_tokens(shape.random_range(5..60)) } else { reader }
            })
            .collect();
        let publishers =
            (0..random.random_range(1..12)).map(|number| new_publisher(number, once, &mut random)).collect();
        let members =
            (0..random.random_range(0..4)).map(|n| Member::new(n, n == 0 || random.random_bool(0.5))).collect();
        let padding = random.random_range(0..60);
        Ok(Self {
            random,
            machine,
            node,
            readers,
            publishers,
            members,
            operator: Operator::default(),
            shape,
            checker,
            padding,
            crashes,
            has_bad_disk,
            outcome: Outcome::default(),
        })
    }

    /// Does one random step, perhaps a fault.
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

    /// Lets one part go on.
    fn advance(&mut self) -> Result<(), String> {
        let place = self.random.random_range(0..64);
        match self.random.random_range(0..10) {
            0..=2 => self.node.work(place),
            3 => drop(self.node.commit()),
            4 => drop(self.node.apply_beside_reader(place % 8)),
            5 => {
                self.node.read(place);
                self.node.check(place);
                self.node.serve_api(place);
                self.operate()?;
            }
            6 if !self.members.is_empty() && self.random.random_bool(0.3) => {
                let (member, most) =
                    (self.random.random_range(0..self.members.len()), self.random.random_range(1..2000));
                self.members[member].step(&mut self.machine.network.borrow_mut(), &mut self.checker, most)?;
            }
            6 => {
                let publisher = self.random.random_range(0..self.publishers.len());
                self.publishers[publisher].step(
                    &mut self.machine.network.borrow_mut(),
                    &mut self.checker,
                    self.padding,
                )?;
            }
            _ => {
                let reader = self.random.random_range(0..self.readers.len());
                let most = self.random.random_range(1..2000);
                self.readers[reader].step(&mut self.machine.network.borrow_mut(), &mut self.checker, most)?;
            }
        }
        Ok(())
    }

    /// Lets the operator do something, perhaps.
    fn operate(&mut self) -> Result<(), String> {
        let mut network = self.machine.network.borrow_mut();
        match self.shape.random_range(0..100) {
            0 => self.operator.disconnect(&mut network, Leave::Cut),
            1..10 => self.operator.kick(&mut network, &self.readers, self.shape.random_range(0..self.readers.len())),
            _ => self.operator.step(&mut network)?,
        }
        Ok(())
    }

    /// Lets the operator end all connections of users, when nothing else ends them any more.
    fn kick_everybody(&mut self) -> Result<(), String> {
        self.heal();
        for number in 0..self.readers.len() {
            let before = self.operator.kicks;
            for _ in 0..STILL {
                if !self.operator.waits() {
                    self.operator.kick(&mut self.machine.network.borrow_mut(), &self.readers, number);
                }
                self.all_parts()?;
                if self.readers[number].user().is_none() || self.operator.kicks > before {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Complains of a reader who is let in and not in the registry.
    fn registry_is_whole(&mut self) -> Result<(), String> {
        for number in 0..self.readers.len() {
            let (link, Some(user)) = (self.readers[number].link, self.readers[number].user()) else { continue };
            let (was_in, mut listed) = (self.readers[number].is_in(), None);
            for _ in 0..STILL {
                if !self.operator.waits() {
                    self.operator.list(&mut self.machine.network.borrow_mut(), &user);
                }
                self.all_parts()?;
                listed = self.operator.listed();
                if listed.is_some() {
                    break;
                }
            }
            let listed = listed.ok_or("the API never answered")?;
            if was_in && self.readers[number].link == link && listed == 0 {
                return Err(format!("{user} is connected, and not in the registry"));
            }
        }
        Ok(())
    }

    fn pass(&mut self, ms: u64) {
        let mut network = self.machine.network.borrow_mut();
        network.now_ms += ms;
        self.node.set_time(network.now().0);
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
        let mut network = self.machine.network.borrow_mut();
        if place < readers {
            self.readers[place].disconnect(&mut network, how);
        } else if place < readers + publishers {
            self.publishers[place - readers].disconnect(&mut network, how, &mut self.checker);
        } else {
            self.members[place - readers - publishers].disconnect(&mut network, how);
        }
    }

    /// Makes the disk full, lets it fail soon, or heals it.
    fn spoil_or_heal(&mut self) {
        match self.random.random_range(0..4) {
            0 => self.machine.disk.set_capacity(Some(self.machine.disk.used() + self.random.random_range(0..2000))),
            1 => self.machine.disk.fail(Fault::Write(self.random.random_range(0..20))),
            2 => self.machine.disk.fail(Fault::Sync(self.random.random_range(0..20))),
            _ => self.heal(),
        }
    }

    fn heal(&self) {
        self.machine.disk.set_capacity(None);
        self.machine.disk.heal();
    }

    /// Cuts the power of the machine: data that was not synced may be gone, torn or there.
    fn crash(&mut self) -> Result<(), String> {
        self.outcome.crashes += 1;
        self.heal();
        self.checker.crashed();
        // A life doesn't begin in the millisecond of the life before.
        self.pass(1);
        self.machine.network.borrow_mut().crash();
        self.machine.disk.crash(self.random.random());
        self.machine.tables.crash(self.random.random_range(0..64)).map_err(|e| e.to_string())?;
        self.node = SimNode::start(&self.machine, self.random.random())?;
        self.pass(0);
        Ok(())
    }

    /// Ends faults and new messages: everything must come to its end.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.readers.iter_mut().for_each(|r| r.stalled = 0);
        self.heal();
        let mut still = 0;
        for step in 0..QUIET_STEPS {
            let before = self.checker.seen();
            self.all_parts().map_err(|e| format!("in quiet step {step}: {e}"))?;
            let idle = self.publishers.iter().all(|p| p.number.is_none()) && before == self.checker.seen();
            still = if idle { still + 1 } else { 0 };
            if still >= STILL {
                return Ok(());
            }
        }
        Err("the world never came to rest".to_owned())
    }

    fn all_parts(&mut self) -> Result<(), String> {
        self.pass(20);
        self.node.work_all();
        self.node.commit();
        while self.node.apply() {}
        while self.node.read(0) || self.node.check(0) || self.node.serve_api(0) {}
        self.node.work_all();
        let mut network = self.machine.network.borrow_mut();
        for publisher in &mut self.publishers {
            publisher.step(&mut network, &mut self.checker, self.padding)?;
        }
        for reader in &mut self.readers {
            reader.step(&mut network, &mut self.checker, usize::MAX)?;
        }
        for member in &mut self.members {
            member.step(&mut network, &mut self.checker, usize::MAX)?;
        }
        self.operator.step(&mut network)
    }
}

pub(crate) fn new_publisher(number: usize, once: bool, random: &mut ChaCha8Rng) -> Publisher {
    if once || random.random_bool(0.5) { Publisher::over_mqtt(number) } else { Publisher::over_http() }
}

pub(crate) fn new_filter(random: &mut ChaCha8Rng) -> Filter {
    Filter::parse(FILTERS[random.random_range(0..FILTERS.len())]).expect("a filter")
}

pub(crate) fn new_reader(
    number: usize,
    transports: &[Transport],
    random: &mut ChaCha8Rng,
    checker: &mut Checker,
) -> Reader {
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
        seen_at_gap: 0,
        missed: Vec::new(),
        by_cursor: transport.is_by_cursor(),
    });
    Reader::new(number, transport, filters, random.random_range(300..20_000))
}

/// Bounds so small that a world meets each of them.
pub(crate) fn small_limits(random: &mut ChaCha8Rng) -> Limits {
    let outbox_bytes = random.random_range(200..4000);
    Limits {
        outbox_bytes,
        unread_bytes: 2 * outbox_bytes,
        tail_records: random.random_range(1..600),
        deliveries_per_turn: random.random_range(1..60),
        page_messages_max: random.random_range(1..50),
        page_bytes: random.random_range(100..10_000),
        append_queue_records: random.random_range(1..10),
        read_queue: random.random_range(1..6),
        session_window: random.random_range(4..40),
        auth_queue: 3,
        receive_buffer_bytes: 17 << 10,
        // The window is longer than a world lasts: a publisher may come back to a message very late.
        idempotency_window: std::time::Duration::from_hours(1),
        ..Limits::default()
    }
}

/// The rules: everything is kept, and anonymous clients may log in.
pub(crate) fn rules() -> Rules {
    let mut rules = Rules::new(vec![keep_everything()]);
    rules.anonymous = Anonymous::Allowed;
    rules
}

fn keep_everything() -> TopicRule {
    let history =
        History { max_age: std::time::Duration::from_secs(1 << 30), max_messages: 1 << 30, max_bytes: 1 << 40 };
    TopicRule { history, ..TopicRule::fallback() }
}
