//! Bridges to a real Kafka: three brokers of `dev/kafka`, which must run. `dev/kafka test` starts them, and runs these.
//!
//! `EVERYWIRE_KILLS` (5 unless set) is the number of kills, `EVERYWIRE_RECORDS` (20,000) that of records: 20 and
//! 1,000,000 for the measured run. Foreign tools speak for Kafka's side: kcat, and Kafka's own.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::time::Duration;

use everywire_tests::kafka::{
    BROKERS, KEEP_ALL, Told, consume, count, kafka, make, produce, produce_with, section, topic,
};
use everywire_tests::{Chance, Connection, EventStream, Request, Server, Setup, read_all, root, tuned, until};
use serde_json::json;

fn bridge(rule: &str) -> Setup {
    Setup::new().config(&format!("{KEEP_ALL}\n{}", section(rule)))
}

/// The bodies of each topic are `KEY:NUMBER`, with all numbers of that key in order.
fn assert_once_in_order(server: &Server, keys: u64, records: u64) {
    let mut found = 0;
    for key in 0..keys {
        let bodies = read_all(server.address(), &format!("topic=order/k{key}"));
        let expected: Vec<String> = (key..records).step_by(keys as usize).map(|number| number.to_string()).collect();
        let first = bodies.iter().zip(&expected).position(|(found, expected)| found != expected);
        assert_eq!((bodies.len(), first), (expected.len(), None), "key k{key}, and the first that differs");
        found += bodies.len() as u64;
    }
    assert_eq!(found, records);
}

fn lines(numbers: std::ops::Range<u64>, keys: u64) -> String {
    numbers.fold(String::new(), |mut lines, number| {
        let _ = writeln!(lines, "k{}:{number}", number % keys);
        lines
    })
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn each_record_comes_in_once_through_kills_of_the_node() {
    const KEYS: u64 = 50;
    let (kills, records) = (tuned("EVERYWIRE_KILLS", 5), tuned("EVERYWIRE_RECORDS", 20_000) as u64);
    let from = topic("orders", 4, &[]);
    let name = format!("bridge=\"{from}\"");
    let mut setup = bridge(&format!("from = \"{from}\"\ntopic = \"order/{{key}}\""));
    let mut chance = Chance::new(4711);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let step = (records / 40).max(1);
            (0..records).step_by(step as usize).for_each(|n| produce(&from, &lines(n..(n + step).min(records), KEYS)));
        });
        for _ in 0..kills {
            let server = setup.clone().start();
            let some = chance.below(records / 10);
            until("some came, or no more do", || {
                count(&server, "everywire_bridge_records_total", &name) >= some
                    || count(&server, "everywire_bridge_lag", &name) == 0
            });
            setup = server.kill();
        }
    });
    let server = setup.start();
    let last = Connection::open(server.address());
    drop(last);
    until("all have come", || {
        let kept = |key: u64| format!("topic=order/k{key}&before=latest&limit=1");
        let is_last = |key: u64| {
            let last = (key..records).step_by(KEYS as usize).last().expect("a number").to_string();
            let answer = server.get(&format!("/v1/messages?{}", kept(key)));
            answer.status == 200 && answer.bodies() == [last]
        };
        (0..KEYS.min(records)).all(is_last)
    });
    assert_once_in_order(&server, KEYS, records);
    until("nothing is to come", || count(&server, "everywire_bridge_lag", &name) == 0);
    let group = format!("everywire-{from}");
    let tool = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    until("Kafka's own tools see that nothing is to come", || {
        let told = kafka(&["tool", tool, "--bootstrap-server", BROKERS, "--describe", "--group", &group, "--offsets"]);
        let of_topic: Vec<Vec<&str>> =
            told.lines().filter(|line| line.contains(&from)).map(|line| line.split_whitespace().collect()).collect();
        of_topic.len() == 4 && of_topic.iter().all(|columns| columns.get(5) == Some(&"0"))
    });
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn each_message_goes_out_at_least_once_in_order_through_kills_of_the_node() {
    const ROOMS: usize = 8;
    let (kills, some) = (tuned("EVERYWIRE_KILLS", 5), tuned("EVERYWIRE_RECORDS", 20_000) as u64 / 100);
    let to = topic("chat", 4, &[]);
    let name = format!("bridge=\"{to}\"");
    let mut setup = bridge(&format!("filter = \"room/#\"\nto = \"{to}\""));
    let mut acknowledged: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for life in 0..kills {
        let server = setup.start();
        let address = server.address();
        let publish = |room: usize| {
            let mut bodies = Vec::new();
            let Ok(mut connection) = Connection::try_open(address) else { return (room, bodies) };
            for number in 0.. {
                let body = format!("{life}.{number}");
                match connection.try_exchange(&Request::post(&format!("/v1/messages?topic=room/{room}"), &body)) {
                    Ok(answer) if answer.status == 200 => bodies.push(body),
                    _ => break,
                }
            }
            (room, bodies)
        };
        setup = std::thread::scope(|scope| {
            let publish = &publish;
            let threads: Vec<_> = (0..ROOMS).map(|room| scope.spawn(move || publish(room))).collect();
            until("some went out", || count(&server, "everywire_bridge_records_total", &name) >= some);
            let setup = server.kill();
            for thread in threads {
                let (room, bodies) = thread.join().expect("a publisher");
                acknowledged.entry(format!("room/{room}")).or_default().extend(bodies);
            }
            setup
        });
    }
    // The messages that the last life has left go out in the next one.
    let server = setup.start();
    until("all went out", || {
        let there: HashSet<(String, String)> = consume(&to).into_iter().map(|told| (told.key, told.body)).collect();
        let is_there = |room: &String, body: &String| there.contains(&(room.clone(), body.clone()));
        acknowledged.iter().all(|(room, bodies)| bodies.iter().all(|body| is_there(room, body)))
    });
    drop(server);
    assert_there(&to, &acknowledged);
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn who_is_told_to_end_carries_out_first_what_the_log_has() {
    let to = topic("last", 1, &[]);
    let rule = section(&format!("filter = \"room/#\"\nto = \"{to}\""));
    // Few messages may be under way, so that most are still to go when the server is told to end.
    let server = Server::with(&format!("[limits]\nbridge_records = 16\n{rule}"));
    let name = format!("bridge=\"{to}\"");
    until("Kafka is reached", || count(&server, "everywire_bridge_connected", &name) == 1);
    for batch in 0..10 {
        let body = |n: u32| format!("{}:{}", batch * 500 + n, "x".repeat(200));
        let messages: Vec<_> = (0..500).map(|n| json!({ "topic": "room/1", "body": body(n) })).collect();
        assert_eq!(server.send(&Request::json("/v1/batch", &json!({ "messages": messages }))).status, 200);
    }
    let (status, _) = server.terminate();
    assert!(status.success());
    let number = |told: Told| told.body.split(':').next().and_then(|number| number.parse().ok());
    let numbers: Vec<Option<u32>> = consume(&to).into_iter().map(number).collect();
    assert_eq!(numbers, (0..5000).map(Some).collect::<Vec<_>>());
}

/// All acknowledged messages are in Kafka's topic, and their first copies are in the order of their own topic. Further
/// copies have the same id.
fn assert_there(to: &str, acknowledged: &BTreeMap<String, Vec<String>>) {
    let there = consume(to);
    let mut ids: HashMap<&str, &str> = HashMap::new();
    let mut first_seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut partitions: HashMap<&str, HashSet<&str>> = HashMap::new();
    for told in &there {
        partitions.entry(&told.key).or_default().insert(&told.partition);
        let id = told.headers.get("everywire-id").expect("an id");
        if let Some(body) = ids.insert(id, &told.body) {
            assert_eq!(body, told.body, "one id is one message");
        } else {
            first_seen.entry(told.key.clone()).or_default().push(told.body.clone());
        }
    }
    println!("{} records, {} of them again", there.len(), there.len() - ids.len());
    assert!(partitions.values().all(|partitions| partitions.len() == 1), "a topic lies in one partition");
    for (room, bodies) in acknowledged {
        let wanted: HashSet<&String> = bodies.iter().collect();
        let found: Vec<&String> = first_seen[room].iter().filter(|body| wanted.contains(body)).collect();
        assert_eq!(found, bodies.iter().collect::<Vec<_>>(), "{room}: all that was acknowledged, in its order");
    }
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn what_can_not_be_published_is_put_aside_and_counted() {
    let (from, dead) = (topic("odd", 1, &[]), topic("dead", 1, &[]));
    let rule = format!("from = \"{from}\"\ntopic = \"odd/{{key}}\"\ndead_letter = \"{dead}\"\nname = \"odd\"");
    let config = format!("[[topics]]\nmatch = \"#\"\nmax_message = \"1KiB\"\npublish = []\n{}", section(&rule));
    let server = Server::with(&config);
    let mut stream = EventStream::open(server.address(), &Request::get("/v1/events?topic=odd/%23&after=earliest"));
    produce(&from, &format!("a:1\na/b:2\nlarge:{}\n$x:3\n", "x".repeat(2000)));
    // The first record has no key; the next a key and nothing else; the last a key that is no text.
    let kcat = |options: &[&str], input: &[u8]| produce_with(&from, options, input);
    kcat(&[], b"no key\n");
    kcat(&["-Z", "-K", ":"], b"a:\n");
    kcat(&["-K", ":"], b"\xff\xfe:bytes\n");
    kcat(&["-K", ":", "-H", "content-type=application/json"], b"json:{nonsense\n");
    kcat(&["-K", ":", "-H", "content-type=application/json", "-H", "everywire-event=made"], b"json:{\"n\":1}\n");
    let events: Vec<_> = (0..4).map(|_| stream.event().json()).collect();
    let told: Vec<_> = events.iter().map(|event| (event["topic"].as_str().unwrap_or(""), &event["body"])).collect();
    assert_eq!(told.iter().map(|told| told.0).collect::<Vec<_>>(), ["odd/a", "odd/a%2Fb", "odd/$x", "odd/json"]);
    assert_eq!((told[0].1.as_str(), &told[3].1["n"], &events[3]["event"]), (Some("1"), &1.into(), &"made".into()));
    let refused = |reason: &str| count(&server, "everywire_bridge_refused_total", &format!("reason=\"{reason}\""));
    until("all are counted", || {
        [refused("key"), refused("tombstone"), refused("too_large"), refused("unfit")] == [2, 1, 1, 1]
    });
    until("all are put aside", || consume(&dead).len() == 4);
    let aside = consume(&dead);
    let why = |n: usize| aside[n].headers["everywire-why"].as_str();
    assert!(why(0).contains("too large") && why(1).contains("no key"), "{aside:?}");
    assert!(why(2).contains("not UTF-8") && why(3).contains("JSON"), "{aside:?}");
    assert!(aside.iter().all(|told| told.headers["everywire-from"].starts_with(&format!("{from}/0/"))));
    assert!(server.setup().errors().contains("does not carry everything"), "it is said");
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn a_retained_bridge_keeps_the_last_of_each_key_and_tombstones_remove() {
    let from = topic("prices", 1, &["cleanup.policy=compact"]);
    let server =
        bridge(&format!("from = \"{from}\"\ntopic = \"price/{{key}}\"\nretain = true\ntype = \"text/plain\"")).start();
    produce(&from, "a:1\nb:1\na:2\n");
    produce_with(&from, &["-Z", "-K", ":"], b"b:\n");
    until("all came", || count(&server, "everywire_bridge_records_total", &format!("bridge=\"{from}\"")) == 4);
    let mut stream = EventStream::open(server.address(), &Request::get("/v1/events?topic=price/%23"));
    let first = stream.event().json();
    assert_eq!((first["topic"].as_str(), first["body"].as_str()), (Some("price/a"), Some("2")));
    server.publish("price/end", "over");
    let second = stream.event().json();
    assert_eq!(second["topic"].as_str(), Some("price/end"), "what was removed greets nobody");
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn what_is_missing_at_the_start_or_wrong_is_said_and_tried_again() {
    let there = topic("late", 1, &[]);
    let name = format!("{there}-made-later");
    let wrong = format!(
        "[[bridge]]\nname = \"away\"\nbrokers = \"127.0.0.1:1\"\nfilter = \"a\"\nto = \"x\"\n\
         [[bridge]]\nname = \"wrong\"\nbrokers = \"127.0.0.1:19094\"\nfilter = \"a\"\nto = \"x\"\nuser = \"everywire\"\n\
         password = \"not this\"\n\
         [[bridge]]\nname = \"forbidden\"\nbrokers = \"127.0.0.1:19094\"\nfrom = \"{there}\"\ntopic = \"f\"\nuser = \"nobody\"\n\
         password = \"secret\"\nmechanism = \"PLAIN\"\n"
    );
    let inward = section(&format!("name = \"in\"\nfrom = \"{name}\"\ntopic = \"late/{{key}}\""));
    let server = Server::with(&format!("{wrong}{inward}"));
    for name in ["away", "wrong", "forbidden", "in"] {
        until("each fails again and again", || {
            count(&server, "everywire_bridge_failures_total", &format!("bridge=\"{name}\"")) >= 2
        });
    }
    let said = server.setup().errors();
    for text in ["no topic", "invalid credentials", "could not connect", "let us see it"] {
        assert!(said.contains(text), "{text}: {said}");
    }
    assert!(!said.contains("not this"), "passwords are never told");
    make(&name, 1, &[]);
    produce(&name, "k:here\n");
    until("it goes on by itself", || read_all(server.address(), "topic=late/k") == ["here"]);
    assert_eq!(count(&server, "everywire_bridge_connected", "bridge=\"in\""), 1);
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn a_bridge_that_begins_with_what_comes_takes_also_what_comes_while_it_is_away() {
    let from = topic("news", 2, &[]);
    let put = |partition: &str, body: &str| produce_with(&from, &["-p", partition], format!("{body}\n").as_bytes());
    put("0", "old");
    put("1", "old");
    let server = bridge(&format!("from = \"{from}\"\ntopic = \"news\"\nstart = \"latest\"")).start();
    until("it reads", || count(&server, "everywire_bridge_partitions", &format!("bridge=\"{from}\"")) == 2);
    let setup = server.kill();
    let tool = "org.apache.kafka.tools.TopicCommand";
    kafka(&["tool", tool, "--bootstrap-server", BROKERS, "--alter", "--topic", &from, "--partitions", "3"]);
    for partition in ["0", "1", "2"] {
        put(partition, partition);
    }
    let server = setup.start();
    let bodies = || {
        let mut bodies = read_all(server.address(), "topic=news");
        bodies.sort_unstable();
        bodies
    };
    until("all came", || bodies().len() >= 3);
    assert_eq!(bodies(), ["0", "1", "2"], "of each partition what came, and nothing old");
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn who_has_credentials_is_let_in_over_tls() {
    let (from, to) = (topic("secret-in", 1, &[]), topic("secret-out", 1, &[]));
    let authority = root().join("target/kafka/tls/ca.pem");
    let access = |mechanism: &str, port: u16, tls: &str| {
        format!(
            "[[bridge]]\nbrokers = \"127.0.0.2:{port},127.0.0.1:{port}\"\nuser = \"everywire\"\npassword = \"secret\"\n\
             mechanism = \"{mechanism}\"\n{tls}\n"
        )
    };
    let tls = format!("ca = \"{}\"", authority.display());
    let server = Server::with(&format!(
        "{}from = \"{from}\"\ntopic = \"in/{{key}}\"\n{}filter = \"out/+\"\nto = \"{to}\"\n",
        access("SCRAM-SHA-512", 19095, &tls),
        access("SCRAM-SHA-256", 19094, "")
    ));
    produce(&from, "k:1\n");
    server.publish("out/1", "2");
    until("it came in", || read_all(server.address(), "topic=in/k") == ["1"]);
    until("it went out", || consume(&to).iter().map(|told| told.body.as_str()).eq(["2"]));
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn leaders_that_die_lose_and_double_nothing() {
    const KEYS: u64 = 10;
    let records = 6_000;
    let (from, to) = (topic("moved", 3, &[]), topic("moved-out", 3, &[]));
    let rules = format!(
        "{}{}",
        section(&format!("from = \"{from}\"\ntopic = \"order/{{key}}\"")),
        section(&format!("filter = \"order/#\"\nto = \"{to}\""))
    );
    let server = Server::with(&format!("{KEEP_ALL}\n{rules}"));
    let step = records / 6;
    for (round, broker) in (0..6).zip(["1", "2", "3"].into_iter().cycle()) {
        std::thread::scope(|scope| {
            scope.spawn(|| produce(&from, &lines(round * step..(round + 1) * step, KEYS)));
            kafka(&["kill", broker]);
        });
        kafka(&["start", broker]);
    }
    until("all came in", || count(&server, "everywire_bridge_records_total", &format!("bridge=\"{from}\"")) >= records);
    assert_once_in_order(&server, KEYS, records);
    until("all went out", || {
        let ids: HashSet<String> =
            consume(&to).into_iter().filter_map(|mut t| t.headers.remove("everywire-id")).collect();
        std::thread::sleep(Duration::from_millis(200));
        ids.len() as u64 == records
    });
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for told in consume(&to) {
        let numbers = seen.entry(told.key).or_default();
        let number: u64 = told.body.parse().expect("a number");
        if !numbers.contains(&number) {
            assert!(numbers.last().is_none_or(|last| *last < number), "in order");
            numbers.push(number);
        }
    }
}
