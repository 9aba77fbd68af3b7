//! A world of three nodes that share one log: whole nodes over a simulated engine, from one seed.
//!
//! Clients come to any node, leave it and go on at another one. The nodes' threads are stepped one by one, so that each
//! of them sees the log late; the engine's replies and frames are lost or come late, nodes are cut off from it, stand
//! still for longer than the others wait, are killed, and lose their disks. At the end all becomes quiet, and the nodes
//! must have judged alike: their digests and their logs are the same, each store finds what its log has, and for the
//! clients holds what the checker of the world of one node asks for. The will of a client that never comes back is
//! published once, also when its node has died; and no node delivers for a session that is at another one.
//!
//! In some worlds the engine loses the end of the log, now and then. There what a node has acknowledged is in the log at
//! the end, as long as that node wasn't killed; and readers by cursor, who alone read there, are told of gaps.
//!
//! Two further kinds of worlds have events of their own. In one the engine keeps a small window of the log alone, and a
//! node that was away for longer, or has lost its disk, goes on from a snapshot. There nodes lack what they say to lack,
//! and no more; and a reader gets all but what its nodes lacked, and is told of a gap in its place, and of no other one.
//! In the other nodes are drained and started anew, one after the other: nobody is promised less for that. These are run
//! when they are asked for, since they show a fault that isn't mended yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everywire_base::limits::Limits;
use everywire_base::topic::Topic;
use everywire_log::engine::Link;
use everywire_log::remote::Window;
use everywire_log::suite::remote_engine::{Fault, SimEngine};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use self::guests::{Around, Guests};
use self::place::{NODES, Place, lacked_by_all};
use crate::checker::{Checker, Loss, Part, is_within, number_of};
use crate::node::{NotStarted, SimNode};
use crate::world::{self, Outcome};

mod guests;
mod place;

/// The number of steps with faults.
const STEPS: u32 = 12_000;
/// The number of steps in which a quiet world must come to its end.
const QUIET_STEPS: u32 = 20_000;
/// The milliseconds that pass in a quiet step.
const QUIET_MS: u64 = 50;
/// The number of quiet steps in a row after which nothing more is expected: in this time lives that have ended are
/// declared dead, and their wills are published.
const STILL: u32 = 1000;

/// The events of a world beside its faults.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Events {
    /// Nothing.
    None,
    /// Nodes are drained and started anew, one after the other.
    Rolling,
    /// The engine keeps a small window of the log.
    Trimmed,
}

/// Runs the world of a seed without such events; returns the fault, if there is one.
pub fn run(seed: u64) -> Result<Outcome, String> {
    run_with(seed, Events::None)
}

/// Runs the world of a seed; returns the fault, if there is one.
pub fn run_with(seed: u64, events: Events) -> Result<Outcome, String> {
    let mut world = World::new(seed, events)?;
    for step in 0..STEPS {
        world.step().map_err(|e| format!("in step {step}: {e}"))?;
    }
    world.come_to_rest()?;
    world.logs_are_one()?;
    world.checker.verdict()?;
    let (acknowledged, delivered) = (world.checker.acknowledged(), world.checker.delivered());
    Ok(Outcome { acknowledged, delivered, ..world.outcome })
}

/// The numbers of faults in a thousand steps.
struct Faults {
    /// Replies and frames to and from the engine are lost or late.
    frames: u32,
    /// A node is cut off from the engine, or connected again.
    cuts: u32,
    /// A node stands still, or goes on.
    pauses: u32,
    /// A node is killed, or started.
    kills: u32,
    /// A node that is killed may lose its disk.
    loses_disks: bool,
    /// The engine's master starts anew, with all that it had.
    restarts: u32,
    /// Another master takes over, which lacks the end of the log, or a former one comes back.
    failovers: u32,
    /// All nodes are drained and started anew, one after the other.
    rolls: u32,
}

impl Faults {
    fn new(random: &mut ChaCha8Rng) -> Self {
        let mut some = |most: u32| [0, most / 3, most][random.random_range(0..3)];
        let (frames, cuts, pauses, kills, restarts) = (some(12), some(6), some(6), some(3), some(2));
        let failovers = if random.random_bool(0.3) { 2 } else { 0 };
        Self { frames, cuts, pauses, kills, loses_disks: random.random_bool(0.5), restarts, failovers, rolls: 0 }
    }
}

struct World {
    random: ChaCha8Rng,
    engine: SimEngine,
    places: Vec<Place>,
    guests: Guests,
    /// Former masters of the engine.
    masters: Vec<usize>,
    /// The nodes that are still to be started anew in a rolling restart. The last one is drained now, or when all are
    /// well.
    rolling: Vec<usize>,
    checker: Checker,
    faults: Faults,
    outcome: Outcome,
}

impl World {
    fn new(seed: u64, events: Events) -> Result<Self, String> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // A second source of randomness, whose draws change nothing in the rest of the world.
        let mut shape = random.clone();
        shape.set_stream(1);
        let engine = SimEngine::new();
        let limits = Arc::new(limits(&mut random));
        let rules = Arc::new(world::rules());
        let place = |number| Place::new(number, &engine, (&limits, &rules), random.random_range(1..3));
        let places = (0..NODES).map(place).collect();
        let mut checker = Checker::new(world::new_filter(&mut random));
        let mut faults = Faults::new(&mut random);
        match events {
            Events::None => {}
            Events::Rolling => (faults.failovers, faults.rolls) = (0, 1),
            Events::Trimmed => {
                faults.failovers = 0;
                engine.set_window(small_window(&mut shape));
            }
        }
        checker.loss = match (events, faults.failovers) {
            (Events::Trimmed, _) => Loss::Past,
            (_, 0) => Loss::Nothing,
            _ => Loss::End,
        };
        let guests = Guests::new(&mut random, &mut checker);
        let (masters, rolling, outcome) = (Vec::new(), Vec::new(), Outcome::default());
        let mut world = Self { random, engine, places, guests, masters, rolling, checker, faults, outcome };
        (0..NODES).try_for_each(|place| world.start(place))?;
        Ok(world)
    }

    /// The clients, and what they have around them.
    fn clients(&mut self) -> (&mut Guests, Around<'_>) {
        let Self { random, places, guests, checker, .. } = self;
        (guests, Around { places, checker, random })
    }

    fn start(&mut self, place: usize) -> Result<(), String> {
        if self.places[place].node.is_some() {
            return Ok(());
        }
        // A start waits for the engine.
        self.engine.set_cut(place as u32, false);
        // A life doesn't begin in the millisecond of another one.
        self.pass(1);
        let seed = self.random.random();
        match SimNode::start(&self.places[place].machine, seed) {
            Ok(node) => {
                let place = &mut self.places[place];
                let lacks = node.lacks()?;
                let news: Vec<Part> = lacks.into_iter().filter(|part| !place.lacks.contains(part)).collect();
                self.outcome.joins += u64::from(!news.is_empty());
                place.lacks.extend(news);
                place.node = Some(node);
            }
            Err(NotStarted::NoSnapshot) => {}
            Err(NotStarted::Faulty(fault)) => return Err(format!("node {place}: {fault}")),
        }
        Ok(())
    }

    /// Ends the life of a node: its clients' connections are reset.
    fn end(&mut self, place: usize) {
        self.checker.crashed();
        let place = &mut self.places[place];
        (place.node, place.is_paused) = (None, false);
        place.network().crash();
    }

    /// Cuts the power of a node's machine.
    fn kill(&mut self, place: usize) -> Result<(), String> {
        self.outcome.crashes += 1;
        self.guests.vouched.retain(|_, node| *node != place);
        self.end(place);
        let loses_disk = self.faults.loses_disks && self.random.random_bool(0.3);
        let (seed, kept) = (self.random.random(), self.random.random_range(0..64));
        let machine = &mut self.places[place].machine;
        machine.disk.crash(seed);
        machine.tables.crash(kept).map_err(|e| e.to_string())?;
        if loses_disk {
            machine.lose_disk();
            self.places[place].lacks.clear();
        }
        Ok(())
    }

    /// Lets time pass, for all alike.
    fn pass(&mut self, ms: u64) {
        for place in &self.places {
            let mut network = place.network();
            network.now_ms += ms;
            self.engine.set_now(network.now());
            place.node.iter().for_each(|node| node.set_time(network.now().0));
        }
    }

    /// Does one random step, perhaps a fault.
    fn step(&mut self) -> Result<(), String> {
        self.note_heads();
        let Faults { frames, cuts, pauses, kills, restarts, failovers, rolls, .. } = self.faults;
        let place = self.random.random_range(0..NODES);
        let mut n = self.random.random_range(0..1000u32);
        let mut is = |share: u32| {
            let (is_it, left) = (n < share, n.saturating_sub(share));
            n = if is_it { u32::MAX } else { left };
            is_it
        };
        if is(frames) {
            self.spoil_frames(place as u32);
        } else if is(cuts) {
            self.engine.set_cut(place as u32, self.random.random_bool(0.4));
        } else if is(pauses) {
            self.places[place].is_paused = self.random.random_bool(0.3);
        } else if is(kills) {
            match &self.places[place].node {
                Some(_) if self.random.random_bool(0.4) => self.kill(place)?,
                Some(_) => {}
                None => self.start(place)?,
            }
        } else if is(restarts) {
            self.engine.restart();
        } else if is(failovers) {
            self.fail_over();
        } else if is(rolls) {
            if self.rolling.is_empty() {
                self.rolling = (0..NODES).map(|n| (n + place) % NODES).collect();
            }
        } else if is(12) {
            self.outcome.cuts += 1;
            let (guests, mut around) = self.clients();
            guests.cut(&mut around);
        } else if is(4) {
            self.guests.stall(&mut self.random);
        } else if is(60) {
            let ahead = self.random.random_range(0..800);
            self.pass(ahead);
        } else if is(150) {
            let (guests, mut around) = self.clients();
            guests.publish_more(&mut around);
        } else if is(500) {
            self.advance_node(place)?;
        } else {
            let (guests, mut around) = self.clients();
            guests.advance(&mut around)?;
        }
        Ok(())
    }

    /// Notes the furthest head: where the engine loses the end of the log, gaps may be about all up to there.
    fn note_heads(&mut self) {
        let heads = self.places.iter().filter_map(|place| place.node.as_ref().map(|node| node.head().0));
        if self.checker.loss == Loss::End {
            self.checker.floor = heads.max().unwrap_or(self.checker.floor);
        }
    }

    /// Lets another master take over.
    fn fail_over(&mut self) {
        let former = self.masters.pop().filter(|_| self.random.random_bool(0.3));
        match former {
            Some(former) => self.engine.return_to(former),
            None => self.masters.push(self.engine.fail_over(self.random.random_range(0..8))),
        }
    }

    fn spoil_frames(&mut self, place: u32) {
        match self.random.random_range(0..6) {
            0 => self.engine.fault(place, Fault::LostReply),
            1 => self.engine.fault(place, Fault::LostFrame),
            2 => self.engine.fault(place, Fault::LateFrame),
            _ => drop(self.engine.deliver_late(self.random.random_bool(0.3))),
        }
    }

    /// Lets one part of a node go on for a while. A node whose life is over ends as a process does, some time later.
    fn advance_node(&mut self, place: usize) -> Result<(), String> {
        let (what, turns, lookups) =
            (self.random.random_range(0..8), self.random.random_range(1..5), self.random.random_range(0..64));
        let is_down = self.places[place].node.is_none() && self.checker.loss == Loss::Past;
        if is_down && turns == 1 && lookups == 0 {
            // Somebody starts it again, in case that others have taken a snapshot meanwhile.
            return self.start(place);
        }
        let Some(node) = self.places[place].awake() else { return Ok(()) };
        for _ in 0..turns {
            match what {
                0..=2 => node.work(lookups),
                3 => node.pack(),
                4 => node.follow(),
                5 => drop(node.apply_beside_reader(lookups % 8)),
                6 => node.keep(),
                _ => {
                    node.read(lookups);
                    node.check(lookups);
                }
            }
        }
        if what == 6 {
            self.see_whether_it_is_over(place)?;
            self.roll_on(place)?;
        }
        Ok(())
    }

    /// Goes on with a rolling restart, if it is at this node.
    fn roll_on(&mut self, place: usize) -> Result<(), String> {
        if self.rolling.last() != Some(&place) {
            return Ok(());
        }
        let are_well = self.places.iter().all(Place::is_well);
        let within = self.places[place].machine.limits.drain;
        match &mut self.places[place].node {
            None => drop(self.rolling.pop()),
            Some(node) if !node.is_draining() && are_well => {
                node.drain(within);
                self.places[place].network().drains();
                self.checker.drains();
            }
            Some(node) => {
                if node.leave() {
                    self.rolling.pop();
                    self.ends_well(place)?;
                }
            }
        }
        Ok(())
    }

    /// Ends a node that was drained, and starts it anew. What is under way goes on: no client is promised less.
    fn ends_well(&mut self, place: usize) -> Result<(), String> {
        self.outcome.drains += 1;
        self.checker.drains();
        let node = self.places[place].node.take();
        node.map_or(Ok(()), SimNode::close).map_err(|error| format!("node {place}: {error}"))?;
        self.places[place].network().crash();
        self.start(place)
    }

    /// Starts a node anew whose life is over.
    fn see_whether_it_is_over(&mut self, place: usize) -> Result<(), String> {
        let link = self.places[place].node.as_ref().map(SimNode::link);
        if matches!(link, Some(Link::Fenced | Link::Forked)) {
            self.outcome.lives += 1;
            // A node that has seen the engine lose what it had acknowledged appends that again.
            let there: BTreeSet<u64> =
                self.engine.bodies().iter().filter_map(|body| number_of(body.as_bytes()).ok()).collect();
            let is_saved = |number: &u64| link == Some(Link::Forked) && !there.contains(number);
            self.guests.vouched.retain(|number, node| *node != place || is_saved(number));
            self.end(place);
            self.start(place)?;
        }
        Ok(())
    }

    /// Ends faults and new messages: everything must come to its end.
    fn come_to_rest(&mut self) -> Result<(), String> {
        for place in 0..NODES {
            self.engine.set_cut(place as u32, false);
            self.places[place].is_paused = false;
        }
        while self.engine.deliver_late(false) {}
        let (guests, mut around) = self.clients();
        guests.calm_down(&mut around);
        let mut still = 0;
        for step in 0..QUIET_STEPS {
            let before = self.checker.seen();
            self.all_parts().map_err(|e| format!("in quiet step {step}: {e}"))?;
            let idle = self.guests.are_idle() && before == self.checker.seen();
            let is_well = self.rolling.is_empty() && self.places.iter().all(Place::is_well);
            still = if idle && is_well { still + 1 } else { 0 };
            if still >= STILL {
                return Ok(());
            }
        }
        Err("the world never came to rest".to_owned())
    }

    fn all_parts(&mut self) -> Result<(), String> {
        self.pass(QUIET_MS);
        self.note_heads();
        for place in 0..NODES {
            self.see_whether_it_is_over(place)?;
            self.roll_on(place)?;
            self.start(place)?;
            self.finish_node(place);
        }
        let (guests, mut around) = self.clients();
        guests.advance_all(&mut around)
    }

    /// Lets a node do all that it has to do.
    fn finish_node(&mut self, place: usize) {
        let Some(node) = self.places[place].awake() else { return };
        node.work_all();
        while node.commit() {
            while node.apply() {}
            node.work_all();
        }
        while node.apply() {}
        while node.read(0) || node.check(0) {}
        node.work_all();
        node.keep();
    }

    /// Checks that all nodes have judged alike, and have the same messages.
    fn logs_are_one(&mut self) -> Result<(), String> {
        // No node has appended anything since, so that all read to one place.
        (0..NODES).for_each(|place| self.finish_node(place));
        let nodes: Vec<&SimNode> = self.places.iter().filter_map(|place| place.node.as_ref()).collect();
        if nodes.len() < NODES || nodes.iter().any(|node| node.link() != Link::Up) {
            let links: Vec<_> = nodes.iter().map(|node| node.link()).collect();
            return Err(format!("the nodes don't come to rest: {links:?}"));
        }
        let digests: Vec<_> = nodes.iter().map(|node| node.digest()).collect();
        if digests.iter().any(|digest| *digest != digests[0]) {
            return Err(format!("the nodes have judged the log differently: {digests:?}"));
        }
        for (place, node) in nodes.iter().enumerate() {
            let topics = world::TOPICS.iter().map(|topic| Topic::parse(topic).expect("a topic"));
            topics
                .into_iter()
                .try_for_each(|topic| node.store_is_right(&topic))
                .map_err(|e| format!("node {place}: {e}"))?;
        }
        let (all, gone) = (self.all_messages()?, lacked_by_all(&self.places));
        let there: BTreeSet<u64> = all.iter().map(|(_, number)| *number).collect();
        let lost = self.guests.vouched.iter().find(|(number, _)| !there.contains(number));
        if let Some((number, place)) = lost.filter(|_| self.checker.loss == Loss::End) {
            return Err(format!("message {number} is lost, which node {place} has acknowledged"));
        }
        self.checker.log_is_right(&all, &gone)
    }

    /// The messages that any node has. Each node has all of them but those that it says to lack.
    fn all_messages(&self) -> Result<Vec<(u64, u64)>, String> {
        let (mut all, mut logs) = (BTreeMap::new(), Vec::new());
        for node in self.places.iter().filter_map(|place| place.node.as_ref()) {
            let log: BTreeMap<u64, u64> = node.messages()?.into_iter().collect();
            all.extend(&log);
            logs.push(log);
        }
        for (number, (place, log)) in self.places.iter().zip(&logs).enumerate() {
            let differs = |(offset, message): &(&u64, &u64)| match log.get(offset) {
                Some(own) => own != *message,
                None => !is_within(&place.lacks, **offset),
            };
            if let Some((offset, message)) = all.iter().find(differs) {
                let (own, lacks) = (log.get(offset), &place.lacks);
                return Err(format!(
                    "node {number} has {own:?} at {offset}, others {message}; it says to lack {lacks:?}"
                ));
            }
        }
        Ok(all.into_iter().collect())
    }
}

/// Bounds that a world meets now and then. The time for which keys are known is longer than a world lasts.
fn limits(random: &mut ChaCha8Rng) -> Limits {
    let small = world::small_limits(random);
    // A follower's threads show many records at once: the tail has room for one piece of them.
    Limits { append_queue_records: 4 * small.append_queue_records, ..small }
}

/// A window that nodes fall out of that are away for a while.
fn small_window(random: &mut ChaCha8Rng) -> Window {
    let age = Duration::from_secs(random.random_range(20..90));
    Window { bytes: random.random_range(5_000..50_000), age, is_trimmed: true }
}
