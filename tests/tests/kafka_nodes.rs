//! Several nodes on a real Kafka are one service: three brokers of `dev/kafka` must run. `dev/kafka test` starts them.
//!
//! `EVERYWIRE_KILLS` (3 unless set) is the number of nodes that are killed, and `EVERYWIRE_LEADERS` (as many) that of
//! brokers.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use everywire_tests::kafka::{BROKERS, KEEP_ALL, consume, kafka, new_name, produce, topic};
use everywire_tests::{Connection, EventStream, Request, Server, Setup, read_all, tuned, until};

/// The setups of the nodes of a service.
fn setups(config: &str) -> Vec<Setup> {
    let engine = format!("kafka://{BROKERS}/{}", new_name("nodes"));
    let setup = |node| {
        let setup = Setup::new().config(&format!("{KEEP_ALL}{config}"));
        setup.argument("--engine").argument(&engine).argument("--node").argument(node)
    };
    ["a", "b", "c"].into_iter().map(setup).collect()
}

fn start(setups: Vec<Setup>) -> Vec<Server> {
    setups.into_iter().map(Setup::start).collect()
}

/// Sets the flag when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn what_one_node_takes_all_deliver_and_each_key_counts_once() {
    let nodes = start(setups(""));
    let mut streams: Vec<_> =
        nodes.iter().map(|node| EventStream::open(node.address(), &Request::get("/v1/events?topic=t"))).collect();
    for stream in &mut streams {
        stream.block().expect("the stream has begun");
    }
    let cursor = nodes[0].publish("t", "one");
    for stream in &mut streams {
        let event = stream.event().json();
        assert_eq!((event["body"].as_str(), event["cursor"].as_str()), (Some("one"), Some(&*cursor)));
    }
    let answer = nodes[1].send(&Request::post("/v1/messages?topic=t", "two").header("Idempotency-Key", "k"));
    assert_eq!((answer.status, answer.json()["durability"].as_str()), (200, Some("replicated")));
    let again = nodes[2].send(&Request::post("/v1/messages?topic=t", "two").header("Idempotency-Key", "k"));
    assert_eq!(again.json()["id"], answer.json()["id"]);
    until("all have it once", || nodes.iter().all(|node| read_all(node.address(), "topic=t") == ["one", "two"]));
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn nodes_and_leaders_that_die_lose_and_double_nothing() {
    let kills = tuned("EVERYWIRE_KILLS", 3);
    let leaders = tuned("EVERYWIRE_LEADERS", kills);
    let mut nodes: Vec<Option<Server>> = start(setups("")).into_iter().map(Some).collect();
    let addresses = Mutex::new(nodes.iter().flatten().map(Server::address).collect::<Vec<_>>());
    let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    // Each message goes with a key from node to node until one has taken it.
    let publisher = |name: usize| {
        let mut acknowledged = Vec::new();
        for number in 0_usize.. {
            let body = format!("{name}:{number}");
            let request =
                Request::post(&format!("/v1/messages?topic=t/{name}"), &body).header("Idempotency-Key", &body);
            for turn in 0.. {
                if is_over.load(Ordering::Relaxed) {
                    return acknowledged;
                }
                let address = addresses.lock().expect("no panic")[(name + number + turn) % 3];
                let answer = Connection::try_open(address).and_then(|mut connection| connection.try_exchange(&request));
                if answer.is_ok_and(|answer| answer.status == 200) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            acknowledged.push(body);
            count.fetch_add(1, Ordering::Relaxed);
        }
        acknowledged
    };
    let acknowledged = std::thread::scope(|scope| {
        // The flag is also set when the test fails: else the publishers would go on for ever.
        let _over = Over(&is_over);
        let publisher = &publisher;
        let publishers: Vec<_> = (0..6).map(|name| scope.spawn(move || publisher(name))).collect();
        let more = || {
            let before = count.load(Ordering::Relaxed);
            until("more is acknowledged", || count.load(Ordering::Relaxed) >= before + 100);
        };
        for round in 0..kills {
            more();
            let broker = ["1", "2", "3"][round % 3];
            if round < leaders {
                kafka(&["kill", broker]);
            }
            let node = nodes[round % 3].take().expect("it runs");
            let setup = node.kill();
            more();
            let node = setup.start();
            addresses.lock().expect("no panic")[round % 3] = node.address();
            nodes[round % 3] = Some(node);
            if round < leaders {
                kafka(&["start", broker]);
            }
        }
        more();
        is_over.store(true, Ordering::Relaxed);
        publishers.into_iter().map(|publisher| publisher.join().expect("a publisher")).collect::<Vec<_>>()
    });
    println!("{} acknowledged", count.load(Ordering::Relaxed));
    let nodes: Vec<Server> = nodes.into_iter().flatten().collect();
    assert_everywhere(&nodes, &acknowledged);
}

/// All nodes have the acknowledged messages, once, in the order of each publisher, and nothing else.
fn assert_everywhere(nodes: &[Server], acknowledged: &[Vec<String>]) {
    for (name, bodies) in acknowledged.iter().enumerate() {
        let read = |node: &Server| read_all(node.address(), &format!("topic=t/{name}"));
        let last = bodies.last().expect("some are acknowledged").clone();
        let newest = format!("/v1/messages?topic=t/{name}&before=latest&limit=2");
        until("all nodes have the last", || {
            let has = |node: &Server| node.get(&newest).text().contains(&format!("\"{last}\""));
            nodes.iter().all(has)
        });
        let mut found = Vec::new();
        // A message without an answer may still be on its way.
        until("all nodes have the same", || {
            found = read(&nodes[0]);
            nodes[1..].iter().all(|node| read(node) == found)
        });
        // The last message may have been taken without an answer.
        assert_eq!(found[..bodies.len()], bodies[..], "publisher {name}");
        assert!(found.len() <= bodies.len() + 1);
    }
}

/// The number of partitions that a node reads.
fn partitions(node: &Server, bridge: &str) -> usize {
    let text = node.get("/metrics").text();
    let begin = format!("everywire_bridge_partitions{{bridge=\"{bridge}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&begin)?.split('.').next()?.parse().ok()).unwrap_or_default()
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn nodes_share_what_comes_in_and_go_on_when_one_dies() {
    const PARTITIONS: usize = 40;
    const KEYS: usize = 50;
    let (from, to) = (topic("orders", PARTITIONS as u32, &[]), topic("chat", 2, &[]));
    // The brokers are the engine's.
    let config = format!(
        "[[bridge]]\nfrom = \"{from}\"\ntopic = \"order/{{key}}\"\n[[bridge]]\nfilter = \"order/#\"\nto = \"{to}\"\n"
    );
    let mut nodes = start(setups(&config));
    let mut produced = 0;
    loop {
        until("each partition has one reader, and each node a share", || {
            let shares: Vec<usize> = nodes.iter().map(|node| partitions(node, &from)).collect();
            shares.iter().sum::<usize>() == PARTITIONS && !shares.contains(&0)
        });
        let lines: Vec<String> = (produced..produced + 500).map(|n| format!("k{}:{n}\n", n % KEYS)).collect();
        produce(&from, &lines.concat());
        produced += 500;
        if nodes.len() == 1 {
            break;
        }
        // Records that it has read and not taken over are read by the others.
        drop(nodes.remove(0).kill());
    }
    let last = &nodes[0];
    let bodies = |key: usize| read_all(last.address(), &format!("topic=order/k{key}"));
    until("all came", || (0..KEYS).map(|key| bodies(key).len()).sum::<usize>() >= produced);
    for key in 0..KEYS {
        let numbers: Vec<usize> = bodies(key).iter().map(|body| body.parse().expect("a number")).collect();
        assert_eq!(numbers, (key..produced).step_by(KEYS).collect::<Vec<_>>(), "each once, in order");
    }
    until("all went out", || {
        let bodies: HashSet<String> = consume(&to).into_iter().map(|told| told.body).collect();
        bodies.len() == produced
    });
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn a_node_that_does_not_reach_kafka_leaves_its_bridges_to_the_others() {
    let (from, to) = (topic("reach", 4, &[]), topic("reached", 1, &[]));
    let engine = format!("kafka://{BROKERS}/{}", new_name("reach"));
    let node = |name: &str, brokers: &str| {
        let config = format!(
            "[[bridge]]\nname = \"in\"\nbrokers = \"{brokers}\"\nfrom = \"{from}\"\ntopic = \"in\"\n\
             [[bridge]]\nname = \"out\"\nbrokers = \"{brokers}\"\nfilter = \"out\"\nto = \"{to}\"\n"
        );
        Setup::new().config(&config).argument("--engine").argument(&engine).argument("--node").argument(name).start()
    };
    let away = node("away", "127.0.0.1:1");
    until("both of its bridges fail", || away.setup().errors().matches("does not go on for now").count() >= 2);
    away.publish("out", "went out");
    let there = node("there", BROKERS);
    produce(&from, "a:1\n");
    until("the other one brings in", || read_all(there.address(), "topic=in") == ["1"]);
    until("the other one carries out", || consume(&to).iter().map(|told| told.body.as_str()).eq(["went out"]));
}
