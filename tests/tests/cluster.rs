//! Several nodes on one Redis are one service, whichever of them ends or stands still.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use everywire_tests::mqtt::{Mqtt, Opening, packet, publish, text};
use everywire_tests::{
    Cluster, Connection, EventStream, JsonSocket, Reader, Redis, Request, SYNCED, Server, Setup, Via, read_all, until,
};
use rustix::process::Signal;
use serde_json::json;

/// Subscribes at this quality of service.
fn subscribe(client: &mut Mqtt, topic: &str, qos: u8) {
    client.send(&packet(0x82, &[&[0, 1][..], &text(topic), &[qos]].concat()));
    client.packet_of(9).expect("SUBACK");
}

/// An MQTT client at a node, subscribed.
fn listener(server: &Server, client: &str, topic: &str) -> Mqtt {
    let mut mqtt = Mqtt::open(server.address_of("mqtt"), &Opening::new(client));
    subscribe(&mut mqtt, topic, 0);
    mqtt
}

/// The body of the next message; at QoS 1 a packet id stands before it.
fn body(client: &mut Mqtt, topic: &str) -> String {
    let publish = client.packet_of(3).expect("a message");
    String::from_utf8_lossy(&publish[2 + topic.len()..]).trim_start_matches(|c: char| c.is_control()).to_owned()
}

/// An operator's request to a node.
fn as_operator(server: &Server, method: &str, target: &str) -> everywire_tests::Response {
    let token =
        std::fs::read_to_string(server.setup().data_directory().join("admin.token")).expect("the operator's token");
    server.send(&Request::new(method, target).header("Authorization", &format!("Bearer {}", token.trim())))
}

#[test]
fn what_one_node_takes_all_deliver_on_every_wire() {
    let Cluster { nodes, redis: _redis } = &Cluster::start();
    let [a, b, c] = &nodes[..] else { panic!("three nodes") };
    let mut sse = EventStream::open(b.address(), &Request::get("/v1/events?topic=t"));
    sse.block().expect("the stream has begun");
    let mut socket = JsonSocket::open(c.address());
    socket.send(&json!({"subscribe": {"id": 1, "topics": ["t"]}}));
    socket.frame("subscribed");
    let (mut near, mut far) = (listener(b, "near", "t"), listener(c, "far", "t"));
    let mut at_home = listener(a, "home", "t");
    let cursor = a.publish("t", "one");
    assert_eq!(sse.event().body(), "one");
    let message = socket.frame("message");
    assert_eq!((&message["body"], &message["cursor"]), (&json!("one"), &json!(cursor)));
    for client in [&mut near, &mut far, &mut at_home] {
        assert_eq!(body(client, "t"), "one");
    }
    far.send(&publish("t", "two"));
    assert_eq!(sse.event().body(), "two");
    assert_eq!(body(&mut at_home, "t"), "two");
    // All nodes have one history, in one order, with the same cursors.
    until("all have it", || nodes.iter().all(|node| read_all(node.address(), "topic=t").len() == 2));
    let pages = [a, b, c].map(|node| node.get("/v1/messages?topic=t").text());
    assert!(pages.iter().all(|page| *page == pages[0]), "{pages:?}");
}

#[test]
fn a_key_is_published_once_wherever_it_comes() {
    let cluster = Cluster::start();
    let answers = std::sync::Mutex::new(BTreeMap::<String, Vec<String>>::new());
    std::thread::scope(|scope| {
        for node in &cluster.nodes {
            let answers = &answers;
            scope.spawn(move || {
                let mut connection = node.connect();
                for number in 0..100 {
                    let key = format!("k{number}");
                    let request = Request::post("/v1/messages?topic=t", &key).header("Idempotency-Key", &key);
                    let response = connection.exchange(&request);
                    assert_eq!(response.status, 200, "{response:?}");
                    let id = response.json()["id"].as_str().expect("an id").to_owned();
                    answers.lock().expect("no panic").entry(key).or_default().push(id);
                }
            });
        }
    });
    for (key, ids) in answers.into_inner().expect("no panic") {
        assert!(ids.len() == 3 && ids.iter().all(|id| *id == ids[0]), "{key}: {ids:?}");
    }
    assert_eq!(read_all(cluster.nodes[0].address(), "topic=t").len(), 100);
    let other = Request::post("/v1/messages?topic=t", "another body").header("Idempotency-Key", "k7");
    assert_eq!(cluster.nodes[1].send(&other).status, 409);
}

#[test]
fn a_session_goes_on_at_another_node() {
    let Cluster { nodes, redis: _redis } = &Cluster::start();
    let opening = Opening { clean: false, ..Opening::new("me") };
    let enter = |node: usize| {
        let mut client = Mqtt::dial(nodes[node].address_of("mqtt"));
        client.send(&opening.bytes());
        let (first, body) = client.packet().expect("CONNACK");
        assert_eq!((first, body[1]), (0x20, 0), "{body:?}");
        (client, body[0] == 1)
    };
    let (mut first, was_there) = enter(0);
    assert!(!was_there);
    subscribe(&mut first, "t", 1);
    let mut client = first;
    for round in 0..6 {
        nodes[(round + 2) % 3].publish("t", &format!("{round};"));
        // The former connection may still be open at its node.
        let (mut next, was_there) = enter((round + 1) % 3);
        assert!(was_there, "round {round}: the session is gone");
        // At this QoS an earlier message may come again.
        loop {
            let message = next.packet_of(3).expect("the message");
            next.send(&packet(0x40, &message[3..5]));
            if message.ends_with(format!("{round};").as_bytes()) {
                break;
            }
        }
        client = next;
    }
    let (_last, _) = enter(2);
    assert!(client.packet().is_none(), "who is taken over at another node is ended");
}

#[test]
fn operators_end_connections_of_every_node() {
    let Cluster { nodes, redis: _redis } = &Cluster::start();
    let mut client = Mqtt::open(nodes[1].address_of("mqtt"), &Opening::new("target"));
    let listed = as_operator(&nodes[1], "GET", "/v1/connections?wire=mqtt").json();
    let id = listed["connections"][0]["id"].as_str().unwrap_or_else(|| panic!("no id: {listed}")).to_owned();
    let ended = as_operator(&nodes[0], "DELETE", &format!("/v1/connections/{id}"));
    assert!(matches!(ended.status, 200 | 202 | 204), "{ended:?}");
    assert!(client.packet().is_none(), "it is ended");
}

#[test]
fn retained_messages_and_wills_are_everywhere() {
    let Cluster { nodes, redis: _redis } = &Cluster::start();
    let mut writer = Mqtt::open(nodes[0].address_of("mqtt"), &Opening::new("writer").will("will", "gone"));
    writer.send(&packet(0x31, &[&text("state")[..], b"on"].concat()));
    assert!(writer.is_served());
    let mut reader = listener(&nodes[2], "reader", "will");
    until("the retained message has come", || nodes[2].get("/v1/messages?topic=state").status == 200);
    subscribe(&mut reader, "state", 0);
    assert_eq!(body(&mut reader, "state"), "on");
    drop(writer);
    assert_eq!(body(&mut reader, "will"), "gone");
    until("the will has come to the third node too", || read_all(nodes[1].address(), "topic=will") == ["gone"]);
}

#[test]
fn a_killed_node_loses_nothing_that_was_acknowledged() {
    let mut cluster = Cluster::start();
    let (is_over, taken) = (AtomicBool::new(false), AtomicUsize::new(0));
    let addresses: Vec<_> = cluster.nodes.iter().map(Server::address).collect();
    let acknowledged = std::thread::scope(|scope| {
        let publisher = |node: usize| {
            let (is_over, taken, address) = (&is_over, &taken, addresses[node]);
            move || {
                let mut acknowledged = Vec::new();
                let Ok(mut connection) = Connection::try_open(address) else { return acknowledged };
                // The number is bounded, for a test that fails meanwhile.
                for number in 0..100_000 {
                    let body = format!("{node}-{number}");
                    match connection.try_exchange(&Request::post("/v1/messages?topic=t", &body)) {
                        Ok(response) if response.status == 200 => acknowledged.push(body),
                        Ok(response) => assert_eq!(response.status, 503, "{response:?}"),
                        Err(_) => break,
                    }
                    taken.fetch_add(1, Ordering::Relaxed);
                    if is_over.load(Ordering::Relaxed) {
                        break;
                    }
                }
                acknowledged
            }
        };
        let publishers: Vec<_> = (0..3).map(|node| scope.spawn(publisher(node))).collect();
        until("messages flow", || taken.load(Ordering::Relaxed) > 200);
        cluster.kill(0);
        let so_far = taken.load(Ordering::Relaxed);
        until("the others go on", || taken.load(Ordering::Relaxed) > so_far + 200);
        is_over.store(true, Ordering::Relaxed);
        publishers.into_iter().flat_map(|publisher| publisher.join().expect("no panic")).collect::<Vec<_>>()
    });
    for node in &cluster.nodes {
        let mut there = Vec::new();
        until("all that was acknowledged is there", || {
            there = read_all(node.address(), "topic=t");
            acknowledged.iter().all(|body| there.contains(body))
        });
        let sent_twice = there.len() - there.iter().collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!(sent_twice, 0, "nothing is there twice");
    }
}

#[test]
fn a_killed_node_leaves_one_will() {
    let mut cluster = Cluster::with("[limits]\nwill_grace = \"1s\"\n");
    let _orphan = Mqtt::open(cluster.nodes[0].address_of("mqtt"), &Opening::new("orphan").will("will", "gone"));
    cluster.kill(0);
    // These waits are longer than three beats of the other nodes, and the grace.
    for node in cluster.nodes.iter().chain(&cluster.nodes) {
        let mut stream = EventStream::open(node.address(), &Request::get("/v1/events?topic=will&after=earliest"));
        let _ = stream.try_next();
    }
    for node in &cluster.nodes {
        assert_eq!(read_all(node.address(), "topic=will"), ["gone"]);
    }
}

/// While Redis is away the nodes refuse to publish, and can still read what they have.
fn is_away(cluster: &Cluster) {
    for node in &cluster.nodes {
        until("it is not ready", || node.get("/readyz").status == 503);
        let response = node.send(&Request::post("/v1/messages?topic=t", "refused"));
        assert_eq!((response.status, response.header("Retry-After").is_some()), (503, true), "{response:?}");
        assert_eq!(node.get("/healthz").status, 200);
        assert_eq!(node.get("/v1/messages?topic=t").bodies()[0], "before");
    }
    assert_eq!(cluster.nodes[0].get("/readyz").json()["state"], "engine_down");
}

/// Redis is back, and all nodes have one history.
fn is_back(cluster: &Cluster, bodies: &[&str]) {
    for node in &cluster.nodes {
        until("it is ready", || node.get("/readyz").status == 200);
    }
    cluster.publish_until_taken(1, "t", bodies[bodies.len() - 1]);
    for node in &cluster.nodes {
        until("all is there", || read_all(node.address(), "topic=t") == bodies);
    }
}

#[test]
fn without_redis_publishing_is_refused_and_comes_back_by_itself() {
    let cluster = Cluster::start();
    let mut stream = EventStream::open(cluster.nodes[2].address(), &Request::get("/v1/events?topic=t"));
    stream.block().expect("the stream has begun");
    cluster.publish_until_taken(0, "t", "before");
    cluster.redis.freeze();
    is_away(&cluster);
    cluster.redis.thaw();
    is_back(&cluster, &["before", "thawed"]);
    cluster.redis.kill();
    is_away(&cluster);
    cluster.redis.start_again();
    is_back(&cluster, &["before", "thawed", "restarted"]);
    assert_eq!(stream.bodies(3), ["before", "thawed", "restarted"], "a reader stays, and gets each once");
}

#[test]
fn a_failover_keeps_what_a_replica_had_and_service_goes_on_by_itself() {
    let (master, replica) = (Redis::start(), Redis::start());
    replica.follow(&master);
    let sentinel = Redis::sentinel(&master, 500);
    until("the sentinel knows the replica", || sentinel.ask("SENTINEL replicas main").contains("slave"));
    let url = format!("redis-sentinel://127.0.0.1:{}/main?wait=1", sentinel.port());
    let nodes = ["a", "b"].map(|name| Setup::node(&url, name).start());
    let mut stream = EventStream::open(nodes[1].address(), &Request::get("/v1/events?topic=t"));
    stream.block().expect("the stream has begun");
    let say = |body: &str| {
        let request = Request::post("/v1/messages?topic=t", body).header("Idempotency-Key", body);
        let mut said = String::new();
        until("it is taken", || {
            let response = nodes[0].send(&request);
            if response.status == 200 {
                response.json()["durability"].as_str().expect("a word").clone_into(&mut said);
            }
            response.status == 200
        });
        said
    };
    assert_eq!(say("before"), "replicated");
    master.kill();
    assert_eq!(say("after"), "memory", "there is no replica any more");
    assert_eq!(stream.bodies(2), ["before", "after"], "a reader stays, without a gap");
    until("both have both", || nodes.iter().all(|node| read_all(node.address(), "topic=t") == ["before", "after"]));
}

#[test]
fn a_flushed_redis_is_no_new_log_and_the_nodes_say_what_to_do() {
    let Cluster { nodes, redis } = &Cluster::start();
    nodes[0].publish("t", "x");
    redis.ask("FLUSHALL");
    until("nothing is taken", || nodes[0].send(&Request::post("/v1/messages?topic=t", "y")).status == 503);
    until("it says what to do", || nodes[0].setup().errors().contains("--new-epoch"));
    assert_eq!(redis.ask("EXISTS {everywire}log"), "0");
    assert_eq!(nodes[0].get("/v1/messages?topic=t").bodies(), ["x"], "what it has can be read");
}

#[test]
fn a_rolling_restart_under_load_loses_and_doubles_nothing() {
    const MESSAGES: usize = 600;
    let Cluster { nodes, redis: _redis } = Cluster::start();
    let addresses = std::sync::Mutex::new(nodes.iter().map(Server::address).collect::<Vec<_>>());
    let address = |n: usize| addresses.lock().expect("no panic")[n % 3];
    let sent = AtomicUsize::new(0);
    let mut reader = Reader::new(Via::Sse, "topic=t");
    let _fresh = std::thread::scope(|scope| {
        scope.spawn(|| {
            // The publisher repeats its key at another node until one takes it.
            for number in 0..MESSAGES {
                let body = number.to_string();
                let request = Request::post("/v1/messages?topic=t", &body).header("Idempotency-Key", &body);
                let mut tries = number;
                until("a node takes it", || {
                    tries += 1;
                    let answer = Connection::try_open(address(tries)).and_then(|mut node| node.try_exchange(&request));
                    answer.is_ok_and(|answer| answer.status == 200)
                });
                sent.store(number, Ordering::Relaxed);
            }
        });
        let restarting = scope.spawn(|| {
            let mut fresh = Vec::new();
            for (number, node) in nodes.into_iter().enumerate() {
                until("messages flow", || sent.load(Ordering::Relaxed) > (number + 1) * MESSAGES / 5);
                let (status, setup) = node.terminate();
                assert!(status.success(), "{status:?}");
                let node = setup.start();
                addresses.lock().expect("no panic")[number] = node.address();
                fresh.push(node);
            }
            fresh
        });
        for visit in 0.. {
            reader.visit(address(visit), MESSAGES - reader.got.len(), Duration::from_secs(5));
            if reader.got.len() == MESSAGES || visit == 1000 {
                break;
            }
        }
        restarting.join().expect("all have started again")
    });
    assert_eq!(reader.gaps, 0);
    assert_eq!(reader.got, (0..MESSAGES).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn of_two_nodes_of_one_name_the_older_ends() {
    let redis = Redis::with(SYNCED);
    let mut older = Setup::node(&redis.url(), "same").start();
    let newer = Setup::node(&redis.url(), "same").start();
    assert!(!older.wait().success());
    let said = older.setup().errors();
    assert!(said.contains("same") && said.contains("name"), "{said}");
    newer.publish("t", "x");
}

#[test]
fn a_start_without_redis_waits_for_it_and_one_with_a_wrong_password_ends() {
    let redis = Redis::with(&["--requirepass", "right"]);
    let url = format!("redis://:right@127.0.0.1:{}", redis.port());
    let failed = Setup::node(&format!("redis://:wrong@127.0.0.1:{}", redis.port()), "a").fail();
    assert_eq!(failed.code, Some(1));
    assert!(failed.errors.contains("refuses the password") && !failed.errors.contains("wrong@"), "{}", failed.errors);
    redis.kill();
    let node = std::thread::scope(|scope| {
        let setup = Setup::node(&url, "a");
        let errors = setup.clone();
        let starting = scope.spawn(|| setup.start());
        until("it says that it waits", || errors.errors().contains("the start waits for the engine"));
        redis.start_again();
        starting.join().expect("it starts")
    });
    until("it takes messages", || node.send(&Request::post("/v1/messages?topic=t", "x")).status == 200);
}

#[test]
fn what_redis_promises_stands_in_each_answer() {
    let redis = Redis::start();
    let node = Setup::node(&redis.url(), "a").start();
    let promised = |node: &Server| {
        node.send(&Request::post("/v1/messages?topic=t", "x")).json()["durability"].as_str().expect("a word").to_owned()
    };
    assert_eq!(promised(&node), "memory");
    until("it says what to do", || node.setup().errors().contains("appendfsync always"));
    for setting in ["appendonly yes", "appendfsync always"] {
        redis.ask(&format!("CONFIG SET {setting}"));
    }
    until("it is noticed", || promised(&node) == "fsync");
}

#[test]
fn operators_see_the_connections_of_all_nodes_and_which_nodes_are_missing() {
    let Cluster { nodes, redis: _redis } = &Cluster::start();
    let mut clients: Vec<Mqtt> =
        nodes.iter().enumerate().map(|(n, node)| listener(node, &format!("client-{n}"), "t")).collect();
    let seen_at = |answer: &serde_json::Value| -> Vec<String> {
        let connections = answer["connections"].as_array().unwrap_or_else(|| panic!("no connections: {answer}"));
        connections.iter().map(|connection| connection["node"].as_str().expect("a node").to_owned()).collect()
    };
    for node in nodes {
        let listed = as_operator(node, "GET", "/v1/connections?topic=t").json();
        assert_eq!(seen_at(&listed), ["a", "b", "c"], "{listed}");
        assert_eq!(listed["missing"], json!(null));
        let present = as_operator(node, "GET", "/v1/presence?topic=t").json();
        assert_eq!(present["anonymous"], 3, "{present}");
    }
    // Page by page, from node to node.
    let (mut after, mut places) = (String::new(), Vec::new());
    loop {
        let page = as_operator(&nodes[1], "GET", &format!("/v1/connections?topic=t&limit=1{after}")).json();
        places.extend(seen_at(&page));
        after = format!("&after={}", page["connections"][0]["id"].as_str().expect("an id"));
        if page["more"] == json!(false) {
            break;
        }
    }
    assert_eq!(places, ["a", "b", "c"]);
    let published = nodes[2].send(&Request::post("/v1/messages?topic=t", "x")).json();
    for client in &mut clients {
        assert_eq!(body(client, "t"), "x");
    }
    let trace = format!("/v1/messages/{}/trace", published["id"].as_str().expect("an id"));
    let traced = as_operator(&nodes[0], "GET", &trace).json();
    let fates: Vec<_> = traced["recipients"].as_array().expect("recipients").iter().map(|r| &r["fate"]).collect();
    assert_eq!((fates.len(), &traced["complete"]), (3, &json!(true)), "{traced}");
    // A node that stands still is missed, and nothing else.
    nodes[2].signal(Signal::STOP);
    let listed = as_operator(&nodes[0], "GET", "/v1/connections?topic=t").json();
    nodes[2].signal(Signal::CONT);
    assert_eq!((seen_at(&listed), &listed["missing"]), (vec!["a".into(), "b".into()], &json!(["c"])), "{listed}");
}

/// A user's token, made by the command line.
fn token_of(secret: &str, arguments: &[&str]) -> String {
    let mut command = std::process::Command::new(everywire_tests::binary());
    command.env_clear().env("EVERYWIRE_AUTH_SECRET", secret).arg("token").args(arguments).current_dir("/");
    let output = command.output().expect("the command line runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("a token").trim().to_owned()
}

#[test]
fn a_user_is_online_wherever_the_connection_is() {
    let secret = "0123456789abcdef0123456789abcdef";
    let Cluster { nodes, redis: _redis } = &Cluster::with(&format!("[auth]\nsecret = \"{secret}\"\n"));
    let token = token_of(secret, &["--user", "ann", "--device", "phone"]);
    let mut stream = EventStream::open(
        nodes[2].address(),
        &Request::get("/v1/events?topic=t").header("Authorization", &format!("Bearer {}", token.trim())),
    );
    stream.block().expect("the stream has begun");
    let user = as_operator(&nodes[0], "GET", "/v1/users/ann").json();
    assert_eq!((&user["online"], &user["devices"][0]["device"]), (&json!(true), &json!("phone")), "{user}");
    let query = Request::post("/v1/users/query", r#"{"users":["bob","ann","ann"]}"#);
    let token = std::fs::read_to_string(nodes[1].setup().data_directory().join("admin.token")).expect("a token");
    let users = nodes[1].send(&query.header("Authorization", &format!("Bearer {}", token.trim()))).json();
    let online: Vec<_> = users["users"].as_array().expect("users").iter().map(|user| &user["online"]).collect();
    assert_eq!(online, [&json!(false), &json!(true), &json!(true)], "{users}");
}

/// Waits for what nodes do every half a minute.
fn patiently(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !holds() {
        assert!(begun.elapsed() < 3 * everywire_tests::PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_that_lacks_the_beginning_of_the_log_goes_on_from_a_snapshot_and_says_what_it_lacks() {
    let redis = Redis::with(SYNCED);
    let url = format!("{}?window=64KiB", redis.url());
    let start = |name: &str| Setup::node(&url, name).start();
    let (a, b, c) = (start("a"), start("b"), start("c"));
    let mut writer = Mqtt::open(a.address_of("mqtt"), &Opening::new("writer"));
    writer.send(&packet(0x31, &[&text("state")[..], b"on"].concat()));
    assert!(writer.is_served());
    let opening = Opening { clean: false, ..Opening::new("me") };
    let mut session = Mqtt::open(a.address_of("mqtt"), &opening);
    subscribe(&mut session, "t", 1);
    session.send(&packet(0xe0, &[]));
    let keyed = Request::post("/v1/messages?topic=t", "first").header("Idempotency-Key", "k");
    let first = a.send(&keyed).json();
    until("the third has it", || read_all(c.address(), "topic=t") == ["first"]);
    let cursor = first["cursor"].as_str().expect("a cursor").to_owned();
    // The third node has a copy of the beginning, and is away.
    let (status, c) = c.terminate();
    assert!(status.success(), "{status:?}");
    let bulk = "x".repeat(8 << 10);
    let beginning = || redis.ask("XRANGE {everywire}s - + COUNT 1");
    let first_entry = beginning();
    patiently("the beginning of the log is gone", || {
        a.publish("bulk", &bulk);
        beginning() != first_entry
    });
    let nodes = [&a, &b];
    let sum = |name: &str| nodes.iter().map(|node| node.metric(name)).sum::<f64>();
    assert!(sum("everywire_snapshots_taken_total") >= 2.0 && sum("everywire_engine_trims_total") >= 1.0);
    assert!(sum("everywire_snapshot_bytes") > 100.0 && a.metric("everywire_engine_log_bytes") > 64_000.0);
    let fresh = start("d");
    // It knows retained messages, sessions and used keys. It says that it lacks the messages from before the snapshot.
    let mut reader = Mqtt::open(fresh.address_of("mqtt"), &Opening::new("reader"));
    subscribe(&mut reader, "state", 0);
    assert_eq!(body(&mut reader, "state"), "on");
    assert_eq!(fresh.send(&keyed).json()["id"], first["id"]);
    let mut session = Mqtt::dial(fresh.address_of("mqtt"));
    session.send(&opening.bytes());
    let (kind, connack) = session.packet().expect("CONNACK");
    assert_eq!((kind, &connack[..2]), (0x20, &[1, 0][..]), "its session is there");
    a.publish("t", "last");
    until("it has what comes", || read_all(fresh.address(), "topic=t") == ["last"]);
    let page = fresh.get(&format!("/v1/messages?topic=t&after={cursor}")).json();
    assert_ne!(page["gap"], json!(false), "{page}");
    // A node that was away keeps its records, and says what it lacks behind them.
    let c = c.start();
    until("it has what comes", || c.get("/v1/messages?topic=t").text().contains("last"));
    let mut reader = Reader::new(Via::ShortPoll, "topic=t");
    until("it has told all", || {
        reader.visit(c.address(), 1, Duration::from_secs(5));
        reader.got.len() >= 2
    });
    assert_eq!((&reader.got[..], reader.gaps), (&["first".to_owned(), "last".to_owned()][..], 1));
}
