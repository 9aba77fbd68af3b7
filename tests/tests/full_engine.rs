//! A Redis whose memory is nearly full stops publishing, and nothing else; with more memory it goes on by itself.

use everywire_tests::mqtt::{Mqtt, Opening, packet, text};
use everywire_tests::{Cluster, EventStream, Request, Setup, read_all, until};

const MIB: u64 = 1 << 20;

/// A number that Redis says of its memory.
fn memory(cluster: &Cluster, name: &str) -> u64 {
    let info = cluster.redis.ask("INFO memory");
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok();
    info.lines().find_map(value).unwrap_or_else(|| panic!("no {name} in {info}"))
}

#[test]
fn at_four_fifths_of_the_memory_publishing_stops_and_nodes_live_and_readers_read() {
    let cluster = Cluster::start();
    let limit = memory(&cluster, "used_memory") + 12 * MIB;
    cluster.redis.ask(&format!("CONFIG SET maxmemory {limit}"));
    let bulk = "x".repeat(100 << 10);
    let refused = |node: usize| {
        let answer = cluster.nodes[node].send(&Request::post("/v1/messages?topic=bulk", bulk.as_str()));
        assert!(matches!(answer.status, 200 | 503), "{answer:?}");
        (answer.status == 503).then_some(answer)
    };
    let (mut full, mut published) = (None, 0);
    until("it is full", || {
        full = refused(0);
        published += u32::from(full.is_none());
        full.is_some()
    });
    let full = full.expect("refused");
    assert_eq!(full.header("Retry-After"), Some("10"), "{full:?}");
    assert!(full.text().contains("the engine that keeps the log is full"), "{full:?}");
    let used = memory(&cluster, "used_memory");
    assert!(used < limit / 100 * 90, "it stops long before Redis does: {used} of {limit}");
    // The other nodes find that out too, and refuse on every wire.
    until("all refuse", || (0..3).all(|node| refused(node).is_some()));
    let mut mqtt = Mqtt::open(cluster.nodes[1].address_of("mqtt"), &Opening::new("m"));
    mqtt.send(&packet(0x32, &[&text("bulk")[..], &[0, 1], b"x"].concat()));
    assert!(mqtt.packet_of(4).is_none(), "at this version it is closed, so that the client comes again with it");
    for node in &cluster.nodes {
        assert_eq!(node.get("/readyz").status, 200);
        assert!(!read_all(node.address(), "topic=bulk").is_empty(), "readers are served");
        assert!(node.metric("everywire_log_refused_engine_full_total") >= 1.0);
        assert!(node.metric("everywire_engine_memory_bytes") >= 0.75 * limit as f64);
        assert!(node.metric("everywire_engine_memory_limit_bytes") >= limit as f64 - 1.0);
        let told = node.setup().errors();
        assert_eq!(told.matches("full but for what the nodes need").count(), 1, "it is said once: {told}");
    }
    // A node begins all the same, and knows what was published.
    let fresh = Setup::node(&cluster.redis.url(), "d").start();
    let told = fresh.setup().errors();
    assert!(told.contains("the window that the engine is to keep doesn't fit into its memory"), "{told}");
    until("the fresh one has all", || read_all(fresh.address(), "topic=bulk").len() >= published as usize);
    let mut stream = EventStream::open(cluster.nodes[2].address(), &Request::get("/v1/events?topic=t"));
    stream.block().expect("the stream has begun");
    cluster.redis.ask(&format!("CONFIG SET maxmemory {}", limit + 200 * MIB));
    cluster.publish_until_taken(1, "t", "again");
    assert_eq!(stream.event().body(), "again");
}
