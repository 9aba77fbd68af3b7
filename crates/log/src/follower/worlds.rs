//! Several followers of one engine under random schedules: whatever goes wrong, they come to the same log, every
//! acknowledged message is in it, and none is in it twice.
//!
//! There are lost and late frames, lost replies, cuts, masters that start anew, failovers that lose the log's end,
//! former masters that come back, and nodes that stand still, are killed, or lose their disks. With each rule left out
//! a world goes wrong: so these worlds show the purpose of each rule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::system::{self, HistoryLost};
use everywire_base::topic::Topic;

use crate::disk::SimDisk;
use crate::embedded::Options;
use crate::engine::{Archive, Engine, Link, Run};
use crate::follower::snapshot;
use crate::follower::{FollowError, Follower, FollowerOptions, FollowerRun, Keeper};
use crate::judge::{LEFT_OUT, Rule};
use crate::remote::{Connect as _, Window};
use crate::suite::remote_engine::{Fault, SimEngine};
use crate::suite::{Recorder, append, message};

const NODES: u32 = 3;
const STEPS: u32 = 300;
const TICK: Duration = Duration::from_millis(250);

/// A generator of random numbers (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % sides
    }
}

struct Node {
    engine: Arc<Follower>,
    run: FollowerRun,
    keeper: Keeper,
    bell: Arc<Recorder>,
    /// The messages that were published at this life, by the number of their ask.
    published: Vec<u32>,
    /// The number of answers that were looked at.
    answers: usize,
    stands_still: bool,
}

struct World {
    dice: Dice,
    remote: SimEngine,
    disks: Vec<SimDisk>,
    nodes: Vec<Option<Node>>,
    now: UnixMillis,
    lives: u64,
    next: u32,
    /// The node that acknowledged each message, as long as it vouches for that: a life that has ended doesn't, unless
    /// it has seen the engine lose the message.
    vouched: BTreeMap<u32, u32>,
    masters: Vec<usize>,
    trouble: bool,
    /// Whether the engine keeps a window alone, and snapshots.
    trims: bool,
    /// Whether the store of the node that is to take snapshots is stuck.
    first_is_stuck: bool,
}

impl World {
    fn new(seed: u64) -> Self {
        Self::with(seed, None)
    }

    fn with(seed: u64, window: Option<Window>) -> Self {
        let mut world = Self {
            dice: Dice(seed),
            remote: SimEngine::new(),
            disks: (0..NODES).map(|_| SimDisk::new()).collect(),
            nodes: (0..NODES).map(|_| None).collect(),
            now: UnixMillis(1_000_000),
            lives: seed << 20,
            next: 0,
            vouched: BTreeMap::new(),
            masters: Vec::new(),
            trouble: true,
            trims: window.is_some(),
            first_is_stuck: false,
        };
        world.remote.set_now(world.now);
        if let Some(window) = window {
            world.remote.set_window(window);
        }
        (0..NODES).for_each(|node| world.start(node));
        world
    }

    fn start(&mut self, number: u32) {
        self.lives += 1;
        self.remote.set_cut(number, false);
        let bell = Recorder::new(self.now);
        let replica =
            Options { segment_bytes: 16 << 10, reserve_offsets: 64, reserve_bytes: 0, ..Options::seeded(self.lives) };
        let node = format!("n{number}");
        let options = FollowerOptions { node, boot: self.lives as u32, version: String::new(), replica };
        let disk = Arc::new(self.disks[number as usize].clone());
        let (connect, limits) = (self.remote.of(number), Limits::default());
        let (engine, run) = match Follower::open(&connect, disk, &options, &limits, Arc::clone(&bell) as _) {
            // Another node must take a snapshot first.
            Err(FollowError::NoSnapshot) if self.trims => return,
            opened => opened.unwrap(),
        };
        let keeper = engine.keeper(&connect);
        let node = Node { engine, run, keeper, bell, published: Vec::new(), answers: 0, stands_still: false };
        self.nodes[number as usize] = Some(node);
    }

    /// Publishes a message with a number of its own; some have a key, and come at two nodes.
    fn publish(&mut self, node: u32) {
        let number = self.next;
        self.next += 1;
        let is_keyed = number.is_multiple_of(4);
        let body = if is_keyed {
            Message { key: Some(number.to_string().into()), ..message("t", number) }
        } else if self.trims && number % 4 == 1 {
            let body = if number.is_multiple_of(3) { String::new() } else { number.to_string() };
            Message { retain: true, ..Message::new(Topic::parse(&format!("r/{}", number % 7)).unwrap(), body) }
        } else {
            message("t", number)
        };
        let other = (node + 1) % NODES;
        for node in if is_keyed { vec![node, other] } else { vec![node] } {
            let Some(node) = &mut self.nodes[node as usize] else { continue };
            let ask = node.published.len() as u32;
            node.published.push(number);
            node.engine.submit(&mut vec![append(ask, Durability::Fsync, body.clone())]);
        }
    }

    /// Looks at the answers that came since.
    fn look(&mut self) {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let Some(node) = node else { continue };
            for (_, outcome) in &node.bell.outcomes()[node.answers..] {
                node.answers += 1;
                if outcome.result.is_ok() {
                    self.vouched
                        .insert(node.published[outcome.reply_to.ask().expect("an ask").0 as usize], number as u32);
                }
            }
        }
    }

    fn tick(&mut self) {
        self.now = self.now.after(TICK);
        self.remote.set_now(self.now);
        for _ in 0..=self.dice.roll(6) {
            let number = self.dice.roll(u64::from(NODES)) as usize;
            let both = self.dice.roll(3);
            if let Some(node) = self.nodes[number].as_mut().filter(|node| !node.stands_still) {
                node.bell.set_now(self.now);
                // The two run on threads of their own: one may be faster than the other.
                let _ = match both {
                    0 => node.run.packer.turn(),
                    1 => node.run.reader.turn(Duration::ZERO),
                    _ => node.run.turn(),
                };
                let archive = node.engine.archive(Partition(0));
                let is_first = node.engine.roster().unwrap().first() == Some(node.engine.writer());
                let is_stuck = self.first_is_stuck && is_first;
                node.keeper.turn(&mut |at, _| (!is_stuck).then(|| retained(&*archive, at).into_iter().collect()));
            }
        }
        self.look();
        for number in 0..NODES {
            let link = self.nodes[number as usize].as_ref().map(|node| node.engine.link());
            if let Some(link @ (Link::Fenced | Link::Forked)) = link {
                let there = self.there();
                self.vouched.retain(|n, node| *node != number || (link == Link::Forked && !there.contains(n)));
                self.nodes[number as usize] = None;
                self.start(number);
            }
            if link.is_none() && self.trims && !self.trouble {
                self.start(number);
            }
        }
    }

    /// Lets something happen.
    fn act(&mut self) {
        let node = self.dice.roll(u64::from(NODES)) as u32;
        match self.dice.roll(if self.trouble { 40 } else { 12 }) {
            0..12 => self.publish(node),
            12..15 => self.remote.fault(node, Fault::LostReply),
            15..17 => self.remote.fault(node, Fault::LostFrame),
            17..20 => self.remote.fault(node, Fault::LateFrame),
            20..24 => drop(self.remote.deliver_late(node == 0)),
            24 => self.remote.restart(),
            25 => {
                let lacking = self.dice.roll(6) as usize;
                self.masters.push(self.remote.fail_over(lacking));
            }
            26 => {
                if let Some(master) = self.masters.pop() {
                    self.remote.return_to(master);
                }
            }
            27..29 => self.remote.set_cut(node, true),
            29..32 => self.remote.set_cut(node, false),
            32 => self.pause(node),
            33..36 => (0..NODES).for_each(|node| self.wake(node)),
            36 => self.kill(node),
            37 => {
                self.kill(node);
                self.disks[node as usize] = SimDisk::new();
            }
            _ => {
                if self.nodes[node as usize].is_none() {
                    self.start(node);
                }
            }
        }
    }

    /// Lets a node stand still, perhaps for longer than others wait.
    fn pause(&mut self, node: u32) {
        if let Some(node) = &mut self.nodes[node as usize] {
            node.stands_still = true;
        }
        if self.dice.roll(3) == 0 {
            for _ in 0..200 {
                self.tick();
            }
        }
    }

    fn wake(&mut self, node: u32) {
        if let Some(node) = &mut self.nodes[node as usize] {
            node.stands_still = false;
        }
    }

    /// The messages in the engine's log.
    fn there(&self) -> BTreeSet<u32> {
        self.remote.bodies().iter().filter_map(|body| body.parse().ok()).collect()
    }

    fn kill(&mut self, node: u32) {
        self.look();
        self.vouched.retain(|_, other| *other != node);
        self.nodes[node as usize] = None;
    }

    /// Ends all trouble, and lets everything come to rest.
    fn rest(&mut self) {
        self.trouble = false;
        for node in 0..NODES {
            self.remote.set_cut(node, false);
            self.wake(node);
            if self.nodes[node as usize].is_none() {
                self.start(node);
            }
        }
        while self.remote.deliver_late(false) {}
        for _ in 0..400 {
            self.tick();
        }
        // Each node has heard of the engine just now.
        for node in self.nodes.iter_mut().flatten() {
            node.bell.set_now(self.now);
            for _ in 0..20 {
                node.run.turn();
            }
        }
        (0..NODES).for_each(|node| self.publish(node));
        // No beat comes any more that one node has read and another hasn't.
        for _ in 0..200 {
            for node in self.nodes.iter_mut().flatten() {
                node.run.turn();
            }
        }
        self.look();
    }

    fn kept(&self, node: u32) -> Vec<Arc<Record>> {
        let archive = self.nodes[node as usize].as_ref().unwrap().engine.archive(Partition(0));
        archive.scan(Offset::BEGINNING, archive.last(), usize::MAX).unwrap().0
    }

    fn check(&self) -> Result<(), String> {
        let kept = self.kept(0);
        for node in 0..NODES {
            let live = self.nodes[node as usize].as_ref().unwrap();
            if live.engine.link() != Link::Up {
                return Err(format!("node {node} doesn't come to rest: {:?}", live.engine.link()));
            }
            if self.kept(node) != kept || live.run.digest() != self.nodes[0].as_ref().unwrap().run.digest() {
                let digests: Vec<_> = self.nodes.iter().flatten().map(|node| node.run.digest()).collect();
                let (own, other) = (bodies(&self.kept(node)), bodies(&kept));
                let only = |one: &[(u64, String)], two: &[(u64, String)]| -> Vec<(u64, String)> {
                    one.iter().filter(|r| !two.contains(r)).cloned().collect()
                };
                let (more, less) = (only(&own, &other), only(&other, &own));
                return Err(format!("node {node} has another log: {more:?} more, {less:?} less, {digests:?}"));
            }
            let unanswered = live.published.len() - live.answers;
            if unanswered > 0 {
                return Err(format!("{unanswered} publishes at node {node} were never answered"));
            }
        }
        let numbers: Vec<u32> =
            kept.iter().map(|r| String::from_utf8_lossy(r.entry().unwrap().body()).parse().unwrap()).collect();
        let once: BTreeSet<u32> = numbers.iter().copied().collect();
        let mut last: BTreeMap<u32, UnixMillis> = BTreeMap::new();
        for (number, record) in numbers.iter().zip(&kept) {
            // A key holds for its window: a message that a node couldn't send for longer than that comes again.
            let is_forgotten = |at: UnixMillis| {
                number.is_multiple_of(4) && record.time >= at.after(Limits::default().idempotency_window)
            };
            if last.insert(*number, record.time).is_some_and(|at| !is_forgotten(at)) {
                return Err(format!("{number} is there twice: {:?}", bodies(&kept)));
            }
        }
        // The last messages were published when nothing was wrong any more.
        if let Some(number) = (self.next - NODES..self.next).find(|number| !once.contains(number)) {
            return Err(format!("{number}, published at the end, is not there"));
        }
        match self.vouched.iter().find(|(number, _)| !once.contains(number)) {
            Some((number, node)) => Err(format!("{number} is lost, which node {node} has acknowledged")),
            None => Ok(()),
        }
    }
}

/// The records from which all that is retained at an offset can be made.
fn retained(archive: &dyn Archive, at: Offset) -> Vec<Arc<Record>> {
    let mut retained: BTreeMap<Topic, Arc<Record>> = BTreeMap::new();
    for record in archive.scan(Offset::BEGINNING, at, usize::MAX).unwrap().0 {
        let entry = record.entry().unwrap();
        if entry.is_retained() && entry.body().is_empty() {
            retained.remove(entry.topic());
        } else if entry.is_retained() {
            retained.insert(entry.topic().clone(), record);
        }
    }
    let mut records: Vec<Arc<Record>> = retained.into_values().collect();
    records.sort_unstable_by_key(|record| record.offset);
    records
}

fn bodies(records: &[Arc<Record>]) -> Vec<(u64, String)> {
    let body = |r: &Arc<Record>| (r.offset.0, String::from_utf8_lossy(r.entry().unwrap().body()).into_owned());
    records.iter().map(body).collect()
}

fn run(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.act();
        for _ in 0..world.dice.roll(4) {
            world.tick();
        }
    }
    world.rest();
    world.check()
}

/// Whether a world goes wrong, perhaps so much that something panics.
fn goes_wrong(seed: u64) -> bool {
    !std::panic::catch_unwind(|| run(seed)).is_ok_and(|result| result.is_ok())
}

#[test]
fn whatever_goes_wrong_all_nodes_come_to_one_log_with_all_that_was_acknowledged_once() {
    let seeds = std::env::var("EVERYWIRE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let first = std::env::var("EVERYWIRE_FIRST_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let wrong: Vec<String> = (first..first + seeds)
        .filter_map(|seed| run(seed).err().map(|error| format!("seed {seed}: {error}")))
        .collect();
    assert!(wrong.is_empty(), "{} of {seeds}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn each_rule_left_out_is_seen() {
    let rules = [Rule::Sequence, Rule::Source, Rule::Key, Rule::Advance, Rule::ReadBack, Rule::Again, Rule::Fork];
    for rule in rules {
        LEFT_OUT.set(Some(rule));
        let is_seen = (1..=60).any(goes_wrong);
        LEFT_OUT.set(None);
        assert!(is_seen, "{rule:?} left out goes unseen");
    }
}

#[test]
fn what_a_master_loses_before_anybody_has_read_it_goes_again() {
    for (left_out, is_there) in [(None, true), (Some(Rule::Withdraw), false)] {
        LEFT_OUT.set(left_out);
        let mut world = World::new(1);
        (0..40).for_each(|_| world.tick());
        world.publish(0);
        while world.nodes[0].as_mut().is_some_and(|node| node.run.packer.turn()) {}
        world.remote.fail_over(1);
        let lives = world.lives;
        world.rest();
        let result = world.check();
        LEFT_OUT.set(None);
        // Without the rule all later records are void, until the other nodes declare the node dead for that.
        assert_eq!(result.is_ok() && world.lives == lives, is_there, "{left_out:?}: {result:?}");
    }
}

/// A world at rest, whose first node has said goodbye to the engine.
fn goodbye() -> World {
    let mut world = World::new(1);
    (0..40).for_each(|_| world.tick());
    let node = world.nodes[0].as_mut().unwrap();
    while node.run.turn() {}
    node.run.packer.begin_close();
    for _ in 0..2 {
        node.run.packer.turn();
    }
    assert!(node.engine.shared.flight().is_sent());
    world
}

#[test]
fn a_goodbye_waits_for_nobody_who_reads() {
    let mut world = goodbye();
    let node = world.nodes[0].as_mut().unwrap();
    node.run.packer.turn();
    assert!(node.run.packer.is_finished());
}

#[test]
fn who_has_said_goodbye_is_not_called_dead() {
    let mut world = goodbye();
    for _ in 0..80 {
        world.now = world.now.after(TICK);
        world.remote.set_now(world.now);
        for node in world.nodes[1..].iter_mut().flatten() {
            node.bell.set_now(world.now);
            while node.run.turn() {}
        }
    }
    let node = world.nodes[0].as_mut().unwrap();
    while node.run.reader.turn(Duration::ZERO) {}
    assert_eq!(node.run.digest(), world.nodes[2].as_ref().unwrap().run.digest(), "it has read what came after");
    assert_eq!(world.nodes[0].as_ref().unwrap().engine.link(), Link::Up);
}

/// A window so small that nodes that were away for a while have to join.
const SMALL: Window = Window { bytes: 3000, age: Duration::from_secs(40), is_trimmed: true };

fn run_trimmed(seed: u64) -> Result<bool, String> {
    let mut world = World::with(seed, Some(SMALL));
    for _ in 0..STEPS {
        world.act();
        for _ in 0..world.dice.roll(4) {
            world.tick();
        }
        if world.nodes.iter().flatten().count() == 0 {
            world.start(0);
        }
    }
    world.rest();
    let is_trimmed = world.remote.trimmed() > Offset(1);
    world.check_joined().map(|()| is_trimmed)
}

impl World {
    /// Checks nodes that may lack a part of the past.
    fn check_joined(&self) -> Result<(), String> {
        let nodes: Vec<&Node> = self.nodes.iter().flatten().collect();
        if nodes.len() < NODES as usize || nodes.iter().any(|node| node.engine.link() != Link::Up) {
            let links: Vec<_> = nodes.iter().map(|node| node.engine.link()).collect();
            let (trimmed, names) = (self.remote.trimmed(), self.remote.blob_names());
            return Err(format!("they don't come to rest: {links:?}; {trimmed} is let go of, snapshots are {names:?}"));
        }
        let digests: Vec<_> = nodes.iter().map(|node| node.run.digest()).collect();
        let archives: Vec<_> = nodes.iter().map(|node| node.engine.archive(Partition(0))).collect();
        let all: Vec<_> = archives.iter().map(|archive| retained(&**archive, archive.last())).collect();
        if digests.iter().any(|digest| *digest != digests[0]) || all.iter().any(|one| *one != all[0]) {
            let all: Vec<_> = all.iter().map(|one| bodies(one)).collect();
            return Err(format!("they know different things: {digests:?}, {all:?}"));
        }
        for (number, node) in nodes.iter().enumerate() {
            let kept = self.kept(number as u32);
            let lost = kept.iter().filter_map(|r| system::read::<HistoryLost>(r.system()?)).collect::<Vec<_>>();
            if !lost.is_empty() && node.engine.archive(Partition(0)).lacks().is_none() {
                return Err(format!("node {number} says to lack something, and its archive doesn't: {lost:?}"));
            }
            let is_lost = |offset: u64| lost.iter().any(|lost| offset > lost.above && offset <= lost.up_to);
            let own: BTreeSet<u64> = kept.iter().map(|record| record.offset.0).collect();
            // A record that another node has and this one lacks lies where this one says that it lacks records.
            let others = (0..NODES).flat_map(|other| self.kept(other));
            let unsaid = |record: &Arc<Record>| {
                let entry = record.entry().unwrap();
                let (is_message, is_removal) = (entry.topic().as_str() != system::LOG, entry.body().is_empty());
                is_message && !is_removal && !own.contains(&record.offset.0) && !is_lost(record.offset.0)
            };
            if let Some(record) = others.into_iter().find(unsaid) {
                return Err(format!("node {number} lacks {} and doesn't say so: {lost:?}", record.offset));
            }
            if node.published.len() > node.answers {
                return Err(format!("publishes at node {number} were never answered"));
            }
        }
        Ok(())
    }
}

#[test]
fn a_node_that_lacks_what_the_engine_has_let_go_of_goes_on_from_a_snapshot_and_says_what_it_lacks() {
    let seeds = std::env::var("EVERYWIRE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(30);
    let first = std::env::var("EVERYWIRE_FIRST_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let (mut wrong, mut trimmed) = (Vec::new(), 0);
    for seed in first..first + seeds {
        match run_trimmed(seed) {
            Ok(is_trimmed) => trimmed += u64::from(is_trimmed),
            Err(error) => wrong.push(format!("seed {seed}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {seeds}:\n{}", wrong.len(), wrong.join("\n"));
    assert!(trimmed * 2 > seeds, "only {trimmed} logs of {seeds} were trimmed");
}

#[test]
fn half_a_snapshot_is_none() {
    let mut world = World::with(1, Some(SMALL));
    world.trouble = false;
    let goes_on = |world: &mut World| {
        let trimmed = world.remote.trimmed();
        while world.remote.trimmed() <= trimmed {
            (0..NODES).for_each(|node| world.publish(node));
            (0..4).for_each(|_| world.tick());
        }
    };
    (0..3).for_each(|_| goes_on(&mut world));
    for damaged in [1, 2] {
        world.nodes[0] = None;
        world.disks[0] = SimDisk::new();
        let names = world.remote.blob_names();
        names.iter().rev().take(damaged).for_each(|name| world.remote.damage_blob(name));
        world.start(0);
        assert_eq!(world.nodes[0].is_some(), damaged == 1, "{damaged} of {} are damaged", names.len());
    }
    // The others take the next ones.
    goes_on(&mut world);
    world.rest();
    world.check_joined().unwrap();
    let lost = world.kept(0).iter().any(|r| r.system().and_then(system::read::<HistoryLost>).is_some());
    assert!(lost, "it says what it lacks");
}

#[test]
fn others_stand_in_for_a_node_that_takes_no_snapshots() {
    let mut world = World::with(1, Some(SMALL));
    (world.trouble, world.first_is_stuck) = (false, true);
    for _ in 0..200 {
        (0..NODES).for_each(|node| world.publish(node));
        (0..4).for_each(|_| world.tick());
    }
    assert!(world.remote.trimmed() > Offset(1), "{:?}", world.remote.blob_names());
}

#[test]
fn snapshots_of_another_log_are_none_of_this_one() {
    let mut world = World::with(1, Some(SMALL));
    world.trouble = false;
    // A longer log seems to have left these snapshots.
    let mut remote = world.remote.of(0).connect();
    remote.open(None).unwrap();
    let foreign = [1, 2].map(|n| snapshot::name(7, Offset(u64::MAX - n), n));
    for name in &foreign {
        remote.blobs().put(name, "of another log".into()).unwrap();
    }
    while world.remote.trimmed() <= Offset(1) {
        (0..NODES).for_each(|node| world.publish(node));
        (0..4).for_each(|_| world.tick());
    }
    (world.nodes[0], world.disks[0]) = (None, SimDisk::new());
    world.start(0);
    assert!(world.nodes[0].is_some(), "it finds a snapshot of its log");
    let names = world.remote.blob_names();
    assert!(foreign.iter().all(|name| names.contains(&name.as_str().into())), "what is another's is left alone");
}
