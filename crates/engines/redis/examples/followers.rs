//! Measures the logs of several nodes on one Redis, without wires, hubs and stores: the time of a message from one node
//! to another, the number of messages that are acknowledged through three, and the cost of a message for a node that
//! doesn't want it. Beside it the embedded log of one.
//!
//! `cargo run --release -p everywire-redis --example followers`

#![expect(clippy::unwrap_used, reason = "a measurement ends where something fails")]

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use everywire_base::ask::Outcome;
use everywire_base::clock::UnixMillis;
use everywire_base::id::Mailbox;
use everywire_base::limits::Limits;
use everywire_base::record::Durability;
use everywire_log::disk::{RealDisk, SimDisk};
use everywire_log::embedded::{Embedded, Options};
use everywire_log::engine::{Bell, Engine, Run};
use everywire_log::follower::{Follower, FollowerOptions};
use everywire_log::suite::{append, message};
use everywire_redis::{Address, Redis};
use everywire_tests::{Redis as Server, SYNCED};

const LONE: u32 = 3000;
const PACE: Duration = Duration::from_millis(2);
const MANY: u64 = 300_000;

/// The bell of a node; this one notes the times of its calls.
#[derive(Default)]
struct Watcher {
    moved: Mutex<Option<Instant>>,
    acknowledged: AtomicU64,
}

impl Bell for Watcher {
    fn head_moved(&self) {
        self.moved.lock().unwrap().get_or_insert_with(Instant::now);
    }

    fn outcomes(&self, _: Mailbox, outcomes: Vec<Outcome>) {
        let taken = outcomes.iter().filter(|outcome| outcome.result.is_ok()).count();
        self.acknowledged.fetch_add(taken as u64, Ordering::Relaxed);
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64)
    }
}

struct Node {
    engine: Arc<dyn Engine>,
    bell: Arc<Watcher>,
}

fn follower(url: &str, name: &str) -> Node {
    let bell = Arc::<Watcher>::default();
    let redis = Redis::new(Address::parse(url).unwrap(), false);
    let seed = name.bytes().map(u64::from).sum();
    let replica = Options::seeded(seed);
    let options = FollowerOptions { node: name.into(), boot: seed as u32, version: String::new(), replica };
    let disk = Arc::new(SimDisk::new());
    let (engine, run) = Follower::open(&redis, disk, &options, &Limits::default(), Arc::clone(&bell) as _).unwrap();
    std::thread::spawn(|| Box::new(run).run());
    let node = Node { engine, bell };
    node.lets_go();
    node
}

impl Node {
    /// Applies everything at once, in place of the node's store.
    fn lets_go(&self) {
        let tail = Arc::clone(&self.engine.tails()[0]);
        std::thread::spawn(move || {
            loop {
                tail.set_applied(tail.head());
                std::thread::sleep(Duration::from_millis(1));
            }
        });
    }

    fn publish(&self, count: u32) {
        let mut appends: Vec<_> = (0..count).map(|n| append(n, Durability::Fsync, message("t", n))).collect();
        while !appends.is_empty() {
            self.engine.submit(&mut appends);
            std::thread::yield_now();
        }
    }
}

/// The time that one message at a time takes from `from` until `to` shows it.
fn latency(what: &str, from: &Node, to: &Node) {
    let mut times = Vec::new();
    for _ in 0..LONE {
        std::thread::sleep(PACE);
        *to.bell.moved.lock().unwrap() = None;
        let begun = Instant::now();
        from.publish(1);
        let seen = loop {
            if let Some(seen) = *to.bell.moved.lock().unwrap() {
                break seen;
            }
            std::hint::spin_loop();
        };
        times.push(seen.duration_since(begun));
    }
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100];
    println!("{what}: p50 {:?}, p99 {:?}", at(50), at(99));
}

/// The number of messages that are acknowledged in a second when all publish as fast as they may.
fn throughput(what: &str, nodes: &[Node]) {
    let each = MANY / nodes.len() as u64;
    let goal: u64 = nodes.iter().map(|node| node.bell.acknowledged.load(Ordering::Relaxed)).sum::<u64>()
        + each * nodes.len() as u64;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for node in nodes {
            scope.spawn(|| (0..each / 1000).for_each(|_| node.publish(1000)));
        }
    });
    while nodes.iter().map(|node| node.bell.acknowledged.load(Ordering::Relaxed)).sum::<u64>()
        < goal / 1000 * 1000 - 3000
    {
        std::thread::sleep(Duration::from_millis(1));
    }
    println!("{what}: {:.0} acknowledged/s", MANY as f64 / begun.elapsed().as_secs_f64());
}

/// Seconds of processor time of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    let ticks = fields.skip(11).take(2);
    ticks.map(|ticks| ticks.parse::<f64>().unwrap_or(0.0)).sum::<f64>() / 100.0
}

/// A node that wants nothing: measures the cost of the others' records.
fn idle_reader(url: &str) {
    let node = follower(url, "idle");
    let tail = Arc::clone(&node.engine.tails()[0]);
    println!("ready");
    let (first, begun) = (tail.head().0, cpu());
    while tail.head().0 < first + MANY {
        std::thread::sleep(Duration::from_millis(50));
    }
    let each = (cpu() - begun) * 1e6 / (tail.head().0 - first) as f64;
    println!("a record that nobody wants: {each:.2} µs of CPU");
}

fn main() {
    if let Some(url) = std::env::args().nth(1) {
        return idle_reader(&url);
    }
    let home = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::new(home.path().join("log")).unwrap());
    let bell = Arc::<Watcher>::default();
    let (engine, run) = Embedded::open(disk, Options::seeded(1), &Limits::default(), Arc::clone(&bell) as _).unwrap();
    std::thread::spawn(|| Run::run(Box::new(run)));
    let alone = Node { engine, bell };
    alone.lets_go();
    latency("embedded, one node", &alone, &alone);
    for (what, arguments) in [("Redis, appendfsync always", SYNCED), ("Redis in memory", &[])] {
        let server = Server::with(arguments);
        let nodes = ["a", "b", "c"].map(|name| follower(&server.url(), name));
        latency(&format!("{what}, A to A"), &nodes[0], &nodes[0]);
        latency(&format!("{what}, A to B"), &nodes[0], &nodes[1]);
        throughput(&format!("{what}, three nodes"), &nodes);
        let mut idle =
            Command::new(std::env::current_exe().unwrap()).arg(server.url()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(idle.stdout.take().unwrap()));
        lines.next();
        for _ in 0..=MANY / 1000 {
            nodes[0].publish(1000);
        }
        println!("{what}, {}", lines.next().unwrap().unwrap());
        idle.wait().unwrap();
    }
    throughput("embedded, one node", std::slice::from_ref(&alone));
}
