//! Followers of one simulated engine, stepped: the log of several nodes when things go wrong.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Append, PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message, Record};
use everywire_log::disk::{self, SimDisk};
use everywire_log::embedded::Options;
use everywire_log::engine::{Engine, Link, Run};
use everywire_log::follower::{FollowError, Follower, FollowerOptions, FollowerRun};
use everywire_log::metrics::Gauge;
use everywire_log::remote::Memory;
use everywire_log::suite::remote_engine::{Fault, SimEngine};
use everywire_log::suite::{Recorder, append, message};

struct Node {
    name: u32,
    engine: Arc<Follower>,
    run: FollowerRun,
    bell: Arc<Recorder>,
    start: Offset,
}

/// Nodes that share an engine and a clock.
struct World {
    remote: SimEngine,
    disks: Vec<SimDisk>,
    nodes: Vec<Node>,
    now: UnixMillis,
    seed: u64,
}

impl World {
    fn new(nodes: u32) -> Self {
        let mut world = Self {
            remote: SimEngine::new(),
            disks: (0..nodes).map(|_| SimDisk::new()).collect(),
            nodes: Vec::new(),
            now: UnixMillis(1_000_000),
            seed: 0,
        };
        for name in 0..nodes {
            let node = world.start(name, name);
            world.nodes.push(node);
        }
        world.settle();
        world
    }

    /// A life of a node, under a name.
    fn start(&mut self, number: u32, name: u32) -> Node {
        self.try_start(number, name).unwrap()
    }

    fn try_start(&mut self, number: u32, name: u32) -> Result<Node, FollowError> {
        self.seed += 1;
        let bell = Recorder::new(self.now);
        let replica = Options { segment_bytes: 64 << 10, ..Options::seeded(self.seed) };
        let options =
            FollowerOptions { node: format!("n{name}"), boot: self.seed as u32, version: String::new(), replica };
        let disk = Arc::new(self.disks[number as usize].clone());
        let (connect, limits) = (self.remote.of(number), Limits::default());
        let (engine, run) = Follower::open(&connect, disk, &options, &limits, Arc::clone(&bell) as _)?;
        let start = engine.tails()[0].head();
        Ok(Node { name: number, engine, run, bell, start })
    }

    /// Runs all nodes until none has work.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            let busy = self.nodes.iter_mut().filter_map(|node| node.run.turn().then_some(())).count() > 0;
            quiet = if busy { 0 } else { quiet + 1 };
        }
    }

    /// Lets time pass, in small steps.
    fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end {
            self.now = self.now.after(Duration::from_millis(250));
            self.remote.set_now(self.now);
            self.nodes.iter().for_each(|node| node.bell.set_now(self.now));
            self.settle();
        }
    }

    /// Publishes at a node; returns the answer once there is one.
    fn publish(&mut self, node: usize, message: Message) -> Option<Result<Published, PublishError>> {
        self.submit(node, message);
        self.settle();
        self.nodes[node].bell.outcomes().last().map(|outcome| outcome.1.result)
    }

    fn submit(&mut self, node: usize, message: Message) {
        let ask = self.nodes[node].bell.outcomes().len() as u32;
        let mut appends: Vec<Append> = vec![append(ask, Durability::Fsync, message)];
        self.nodes[node].engine.submit(&mut appends);
        assert!(appends.is_empty());
    }

    fn kill(&mut self, node: usize) {
        self.nodes.remove(node);
    }
}

impl Node {
    fn shown(&self) -> Vec<Arc<Record>> {
        let mut records = Vec::new();
        let tail = &self.engine.tails()[0];
        assert!(tail.read(self.start, tail.head(), |record| {
            records.push(Arc::clone(record));
            true
        }));
        records.retain(|record| record.message().is_some_and(|message| !message.topic.is_servers()));
        records
    }

    /// The records that it has, read in each way.
    fn kept(&self) -> Vec<Arc<Record>> {
        let archive = self.engine.archive(Partition(0));
        let scanned = archive.scan(Offset(0), archive.last(), usize::MAX).unwrap().0;
        let offsets: Vec<Offset> = scanned.iter().map(|record| record.offset).collect();
        assert_eq!(archive.get(&offsets).unwrap(), scanned);
        scanned
    }

    /// The records that it has up to an offset.
    fn kept_to(&self, end: Offset) -> Vec<Arc<Record>> {
        self.engine.archive(Partition(0)).scan(Offset(0), end, usize::MAX).unwrap().0
    }

    fn bodies(&self) -> Vec<String> {
        let body = |record: &Arc<Record>| String::from_utf8(record.message().unwrap().body.to_vec()).unwrap();
        self.shown().iter().map(body).collect()
    }

    fn answers(&self) -> usize {
        self.bell.outcomes().len()
    }
}

fn keyed(key: &str, body: u32) -> Message {
    Message { key: Some(key.into()), ..message("t", body) }
}

#[test]
fn what_any_publishes_all_see_in_one_order() {
    let mut world = World::new(3);
    for n in 0..30 {
        world.submit(n as usize % 3, message("t", n));
        if n % 5 == 0 {
            world.settle();
        }
    }
    world.settle();
    let shown = world.nodes[0].shown();
    assert_eq!(shown.len(), 30);
    for node in &world.nodes {
        assert_eq!((node.shown(), node.answers()), (shown.clone(), 10));
        let kept = node.engine.archive(Partition(0));
        assert_eq!(kept.scan(Offset(0), kept.last(), usize::MAX).unwrap().0, shown, "and all keep it");
    }
}

#[test]
fn a_key_is_published_once_whichever_node_it_comes_to() {
    let mut world = World::new(3);
    let first = world.publish(0, keyed("k", 1)).unwrap().unwrap();
    assert_eq!(world.publish(1, keyed("k", 1)), Some(Ok(first)));
    assert_eq!(world.publish(2, keyed("k", 2)), Some(Err(PublishError::KeyConflict)));
    // The key is used at the same moment, too.
    world.submit(1, keyed("l", 1));
    world.submit(2, keyed("l", 1));
    world.settle();
    let answer = |node: usize| world.nodes[node].bell.outcomes().last().unwrap().1.result.unwrap();
    assert_eq!(answer(1), answer(2));
    assert_eq!(world.nodes[0].bodies(), ["1", "1"]);
}

#[test]
fn ordered_keys_count_over_all_nodes() {
    let mut world = World::new(2);
    let mut verdicts = Vec::new();
    for (node, number) in [(0, 1), (1, 2), (0, 2), (1, 4), (0, 3)] {
        let answer = world.publish(node, keyed(&format!("seq:p:{number}"), number)).unwrap();
        verdicts.push(answer.map(|published| published.duplicate));
    }
    assert_eq!(verdicts, [Ok(false), Ok(false), Ok(true), Err(PublishError::OutOfOrder { expected: 3 }), Ok(false)]);
    assert_eq!(world.nodes[1].bodies(), ["1", "2", "3"]);
}

#[test]
fn lost_replies_lost_frames_and_late_ones_double_and_lose_nothing() {
    for fault in [Fault::LostReply, Fault::LostFrame, Fault::LateFrame] {
        for newest in [false, true] {
            let mut world = World::new(2);
            for n in 0..20 {
                if n % 3 == 0 {
                    world.remote.fault(0, fault);
                }
                world.submit(0, message("t", n));
                world.settle();
                if n % 2 == 0 {
                    world.remote.deliver_late(newest);
                }
            }
            world.pass(Duration::from_secs(2));
            while world.remote.deliver_late(newest) {}
            world.pass(Duration::from_secs(1));
            let expected: Vec<String> = (0..20).map(|n| n.to_string()).collect();
            for node in &world.nodes {
                assert_eq!(node.bodies(), expected, "{fault:?}");
            }
            let outcomes = world.nodes[0].bell.outcomes();
            assert_eq!(outcomes.iter().filter(|(_, outcome)| outcome.result.is_ok()).count(), 20, "{fault:?}");
        }
    }
}

#[test]
fn an_engine_that_is_away_refuses_and_is_used_again_when_it_is_back() {
    let mut world = World::new(2);
    world.publish(0, message("t", 1)).unwrap().unwrap();
    world.remote.set_cut(0, true);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.nodes[0].engine.link(), Link::Cut);
    assert_eq!(world.publish(0, message("t", 2)), Some(Err(PublishError::NoEngine)));
    assert_eq!(world.nodes[1].engine.link(), Link::Up);
    world.publish(1, message("t", 3)).unwrap().unwrap();
    assert_eq!(world.nodes[0].bodies(), ["1"], "readers keep what they have");
    world.remote.set_cut(0, false);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.nodes[0].engine.link(), Link::Up);
    world.publish(0, message("t", 4)).unwrap().unwrap();
    for node in &world.nodes {
        assert_eq!(node.bodies(), ["1", "3", "4"], "what was refused isn't there");
    }
}

#[test]
fn who_waits_for_too_long_is_told_that_nobody_knows() {
    let mut world = World::new(1);
    world.remote.fault(0, Fault::LateFrame);
    world.submit(0, message("t", 1));
    world.nodes[0].run.turn();
    world.remote.set_cut(0, true);
    world.pass(Duration::from_secs(11));
    let outcomes = world.nodes[0].bell.outcomes();
    assert_eq!(outcomes.last().unwrap().1.result, Err(PublishError::OutcomeUnknown));
    world.remote.set_cut(0, false);
    world.pass(Duration::from_secs(1));
    assert_eq!((world.nodes[0].bodies(), world.nodes[0].answers()), (vec!["1".to_owned()], 1), "it goes all the same");
}

#[test]
fn a_master_that_starts_anew_is_an_epoch_that_loses_nothing() {
    let mut world = World::new(2);
    let before = world.publish(0, message("t", 1)).unwrap().unwrap();
    world.remote.restart();
    world.submit(1, message("t", 2));
    world.pass(Duration::from_secs(1));
    let after = world.nodes[1].bell.outcomes().last().unwrap().1.result.unwrap();
    assert_ne!(before.epoch, after.epoch);
    for node in &world.nodes {
        let lineage = node.engine.lineage(Partition(0));
        assert_eq!((lineage.epoch, node.engine.link()), (after.epoch, Link::Up));
        assert!(lineage.valid_up_to(before.epoch).is_some_and(|up_to| up_to >= before.offset && up_to < after.offset));
        assert_eq!(node.bodies(), ["1", "2"]);
    }
}

#[test]
fn a_node_that_falls_silent_is_declared_dead_and_finds_that_out() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(30));
    assert!(world.nodes.iter().all(|node| node.engine.link() == Link::Up), "nobody dies of quiet");
    // Two of them go on; the third stands still, with an append on its way.
    let paused = world.nodes.remove(2);
    let mut appends = vec![append(0, Durability::Fsync, message("t", 1))];
    paused.engine.submit(&mut appends);
    world.pass(Duration::from_secs(40));
    world.publish(0, message("t", 2)).unwrap().unwrap();
    paused.bell.set_now(world.now);
    world.nodes.push(paused);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.nodes[2].engine.link(), Link::Fenced);
    let result = world.nodes[2].bell.outcomes().last().unwrap().1.result;
    assert_eq!(result, Err(PublishError::NoEngine), "nothing of it counts, and it says so");
    assert_eq!(world.nodes[0].bodies(), ["2"]);
    // The node comes again as another life.
    world.kill(2);
    let again = world.start(2, 2);
    world.nodes.push(again);
    world.publish(2, message("t", 3)).unwrap().unwrap();
    assert_eq!(world.nodes[0].bodies(), ["2", "3"]);
}

#[test]
fn an_engine_that_is_away_for_all_kills_nobody() {
    let mut world = World::new(3);
    (0..3).for_each(|node| world.remote.set_cut(node, true));
    world.pass(Duration::from_mins(2));
    (0..3).for_each(|node| world.remote.set_cut(node, false));
    world.pass(Duration::from_secs(30));
    assert!(world.nodes.iter().all(|node| node.engine.link() == Link::Up));
}

#[test]
fn of_two_nodes_of_one_name_the_older_ends() {
    let mut world = World::new(2);
    world.disks.push(SimDisk::new());
    let twin = world.start(2, 0);
    world.nodes.push(twin);
    world.pass(Duration::from_secs(1));
    let links: Vec<Link> = world.nodes.iter().map(|node| node.engine.link()).collect();
    assert_eq!(links, [Link::Fenced, Link::Up, Link::Up]);
}

#[test]
fn a_killed_node_loses_nothing_acknowledged_and_knows_all_again() {
    let mut world = World::new(2);
    let first = world.publish(0, keyed("k", 1)).unwrap().unwrap();
    for n in 2..50 {
        world.publish(n as usize % 2, message("t", n)).unwrap().unwrap();
    }
    world.kill(0);
    for n in 50..60 {
        world.publish(0, message("t", n)).unwrap().unwrap();
    }
    let again = world.start(0, 0);
    assert_eq!(again.name, 0);
    world.nodes.push(again);
    world.settle();
    assert_eq!(world.publish(1, keyed("k", 1)), Some(Ok(first)));
    let kept: Vec<Vec<Arc<Record>>> = world.nodes.iter().map(Node::kept).collect();
    assert_eq!(kept[0].len(), 59);
    assert_eq!(kept[0], kept[1]);
}

/// A node of two that has written down its judge's state, kept more since, and died: and the records that it must have
/// again.
fn died(records: u32, body: usize) -> (World, Vec<Arc<Record>>) {
    let mut world = World::new(2);
    let publish = |world: &mut World, range: std::ops::Range<u32>| {
        for n in range {
            let filled = Message { body: vec![b'x'; body].into(), ..message("t", n) };
            world.publish(1, filled).unwrap().unwrap();
        }
    };
    publish(&mut world, 0..records);
    world.pass(Duration::from_secs(31));
    publish(&mut world, records..records + 10);
    let kept = world.nodes[1].kept();
    assert_eq!(world.nodes[0].kept(), kept);
    world.kill(0);
    (world, kept)
}

#[test]
fn a_node_that_died_behind_its_notes_has_all_of_its_past_again() {
    // The sizes are less than a batch, several batches, several segments.
    for (records, body) in [(5, 10), (100, 1000), (100, 5000)] {
        for crash in [None, Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7)] {
            let (mut world, kept) = died(records, body);
            match crash {
                None => world.disks[0].kill(),
                Some(seed) => world.disks[0].crash(seed),
            }
            for life in 0..2 {
                let again = world.start(0, 0);
                let there: Vec<Arc<Record>> = again.kept().into_iter().take(kept.len()).collect();
                assert_eq!(there, kept, "{records} records of {body} bytes, {crash:?}, life {life}");
            }
        }
    }
}

#[test]
fn a_node_that_dies_while_it_starts_has_all_of_its_past_again() {
    for fault in [disk::Fault::Write, disk::Fault::Sync] {
        for seed in 0..3 {
            for at in 0.. {
                let (mut world, kept) = died(40, 3000);
                world.disks[0].kill();
                world.disks[0].fail(fault(at));
                let has_started = world.try_start(0, 0).is_ok();
                match seed {
                    0 => world.disks[0].kill(),
                    seed => world.disks[0].crash(seed),
                }
                let again = world.start(0, 0);
                let there: Vec<Arc<Record>> = again.kept().into_iter().take(kept.len()).collect();
                assert_eq!(there, kept, "{:?}, seed {seed}", fault(at));
                if has_started {
                    break;
                }
            }
        }
    }
}

#[test]
fn what_a_failover_has_lost_is_appended_again_by_who_has_acknowledged_it() {
    let mut world = World::new(2);
    let acknowledged: Vec<Published> = (1..=3).map(|n| world.publish(0, message("t", n)).unwrap().unwrap()).collect();
    let lost = acknowledged[2];
    world.remote.fail_over(1);
    world.pass(Duration::from_secs(3));
    let links: Vec<Link> = world.nodes.iter().map(|node| node.engine.link()).collect();
    assert_eq!(links, [Link::Forked, Link::Forked]);
    world.kill(0);
    let again = world.start(0, 0);
    world.nodes.push(again);
    let newest = world.publish(1, message("t", 4)).unwrap().unwrap();
    let kept = world.nodes[1].kept_to(newest.offset);
    let bodies: Vec<&[u8]> = kept.iter().map(|record| &record.message().unwrap().body[..]).collect();
    assert_eq!(bodies, [b"1", b"2", b"3", b"4"]);
    assert!(kept[2].offset > lost.offset, "in another place");
}

#[test]
fn what_a_second_failover_has_lost_before_the_node_is_back_is_appended_again_as_well() {
    let mut world = World::new(2);
    for n in 1..=3 {
        world.publish(0, message("t", n)).unwrap().unwrap();
    }
    world.remote.fail_over(1);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.nodes[0].engine.link(), Link::Forked);
    // The end of the log is lost once more, with two messages that the first fork has left: no life of the node is up.
    world.remote.fail_over(3);
    world.kill(0);
    let again = world.start(0, 0);
    world.nodes.push(again);
    let newest = world.publish(1, message("t", 4)).unwrap().unwrap();
    let kept = world.nodes[1].kept_to(newest.offset);
    let bodies: Vec<&[u8]> = kept.iter().map(|record| &record.message().unwrap().body[..]).collect();
    assert_eq!(bodies, [b"1", b"2", b"3", b"4"]);
}

#[test]
fn a_full_engine_refuses_what_it_has_not_taken() {
    let mut world = World::new(1);
    world.remote.fault(0, Fault::Full);
    assert_eq!(world.publish(0, message("t", 1)), Some(Err(PublishError::EngineFull)));
    world.pass(Duration::from_secs(1));
    world.publish(0, message("t", 2)).unwrap().unwrap();
    assert_eq!(world.nodes[0].bodies(), ["2"]);
}

#[test]
fn an_engine_that_is_nearly_full_is_left_to_what_nodes_say_of_themselves() {
    let mut world = World::new(2);
    world.publish(0, message("t", 1)).unwrap().unwrap();
    world.remote.set_memory(Some(Memory { used: 80, limit: 100, log: 60 }));
    world.pass(Duration::from_secs(6));
    for node in 0..2 {
        assert_eq!(world.publish(node, message("t", 2)), Some(Err(PublishError::EngineFull)), "at {node}");
    }
    assert_eq!(world.nodes[0].engine.metrics().refused_engine_full.get(), 1);
    // The nodes go on to say that they live, and that one of them doesn't any more.
    world.kill(1);
    let head = world.nodes[0].engine.head();
    world.pass(Duration::from_secs(40));
    assert_eq!((world.nodes[0].engine.link(), world.nodes[0].engine.roster().unwrap().lives().count()), (Link::Up, 1));
    assert!(world.nodes[0].engine.head() > head);
    // A new node can begin.
    let fresh = world.start(1, 1);
    assert!(fresh.engine.metrics().replayed.get() > 0, "it has read what came since its notes");
    world.nodes.push(fresh);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.nodes[0].engine.roster().unwrap().lives().count(), 2);
    // A little room isn't enough to go on, so that it doesn't go to and fro.
    world.remote.set_memory(Some(Memory { used: 79, limit: 100, log: 60 }));
    world.pass(Duration::from_secs(6));
    assert_eq!(world.publish(0, message("t", 3)), Some(Err(PublishError::EngineFull)));
    world.remote.set_memory(Some(Memory { used: 70, limit: 100, log: 60 }));
    world.pass(Duration::from_secs(2));
    world.publish(0, message("t", 4)).unwrap().unwrap();
    assert_eq!(world.nodes[0].bodies(), ["1", "4"]);
    let metrics = world.nodes[0].engine.metrics();
    assert_eq!(
        [&metrics.engine_memory, &metrics.engine_memory_limit, &metrics.engine_log].map(Gauge::get),
        [70, 100, 60]
    );
}

#[test]
fn an_answer_promises_what_the_engine_does() {
    let mut world = World::new(1);
    for promise in [Durability::Fsync, Durability::Replicated, Durability::Memory] {
        world.remote.set_promise(promise);
        let published = world.publish(0, message("t", 1)).unwrap().unwrap();
        assert_eq!((published.durability, world.nodes[0].engine.promise(Durability::Fsync)), (promise, promise));
    }
}
