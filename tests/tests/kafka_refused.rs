//! Input of a real Kafka that can't be used, and a Kafka that doesn't do what it is asked for: all is said, and what
//! can go on goes on. Needs the three brokers of `dev/kafka`; `dev/kafka test` starts them.

use everywire_tests::kafka::{BROKERS, consume, count, kafka, new_name, produce, produce_with, section, topic};
use everywire_tests::{Chance, Connection, Request, Server, Setup, read_all, until};

fn bodies(topic: &str) -> Vec<String> {
    consume(topic).into_iter().map(|told| told.body).collect()
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn partitions_that_are_added_are_read() {
    let from = topic("grows", 1, &[]);
    let server = Server::with(&section(&format!("from = \"{from}\"\ntopic = \"grown\"")));
    produce(&from, "k:first\n");
    until("the first came", || read_all(server.address(), "topic=grown") == ["first"]);
    let tool = "org.apache.kafka.tools.TopicCommand";
    kafka(&["tool", tool, "--bootstrap-server", BROKERS, "--alter", "--topic", &from, "--partitions", "3"]);
    produce_with(&from, &["-p", "2"], b"second\n");
    until("the second came", || read_all(server.address(), "topic=grown") == ["first", "second"]);
}

/// About 40,000 bytes that compression doesn't make less.
fn large() -> String {
    let mut chance = Chance::new(4711);
    (0..2000).map(|_| chance.below(u64::MAX).to_string()).collect::<Vec<_>>().concat()
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn what_is_too_large_for_kafka_is_counted_and_the_rest_goes_out() {
    let to = topic("small", 1, &["max.message.bytes=2000"]);
    let server = Server::with(&section(&format!("filter = \"#\"\nto = \"{to}\"")));
    server.publish("t", "before");
    server.publish("t", &large());
    server.publish("t", "after");
    until("the others are there", || bodies(&to) == ["before", "after"]);
    assert_eq!(count(&server, "everywire_bridge_refused_total", "reason=\"too_large\""), 1);
    assert!(server.setup().errors().contains("too large for Kafka"), "it is said");
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn what_the_dead_letter_topic_does_not_take_either_holds_up_nothing() {
    let (from, dead) = (topic("large", 1, &[]), topic("small-dead", 1, &["max.message.bytes=2000"]));
    let rule = section(&format!("from = \"{from}\"\ntopic = \"large\"\ndead_letter = \"{dead}\""));
    let server = Server::with(&format!("[[topics]]\nmatch = \"#\"\nmax_message = \"1KiB\"\n{rule}"));
    produce(&from, &format!("k:first\nk:{}\nk:{}\nk:last\n", large(), "x".repeat(1500)));
    until("the rest came", || read_all(server.address(), "topic=large") == ["first", "last"]);
    assert_eq!(count(&server, "everywire_bridge_refused_total", "reason=\"too_large\""), 2);
    assert!(server.setup().errors().contains("doesn't take it either"), "it is said");
    until("what fits is put aside", || bodies(&dead) == ["x".repeat(1500)]);
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn what_access_control_forbids_is_said_and_goes_out_when_it_is_allowed() {
    let to = topic("closed", 1, &[]);
    let allow = |operation: &str| {
        let tool = ["tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", BROKERS, "--add", "--force"];
        let who = ["--allow-principal", "User:nobody", "--operation", operation, "--topic", &to];
        kafka(&[&tool[..], &who[..]].concat());
    };
    allow("Describe");
    let server = Server::with(&format!(
        "[[bridge]]\nbrokers = \"127.0.0.1:19094\"\nuser = \"nobody\"\npassword = \"secret\"\nmechanism = \"PLAIN\"\n\
         filter = \"#\"\nto = \"{to}\"\nname = \"out\"\n"
    ));
    server.publish("t", "one");
    until("it fails", || count(&server, "everywire_bridge_failures_total", "bridge=\"out\"") >= 2);
    let said = server.setup().errors().to_lowercase();
    assert!(said.contains("authoriz") && !said.contains("secret"), "{said}");
    assert_eq!(bodies(&to), [""; 0]);
    server.publish("t", "two");
    allow("Write");
    until("both went out", || bodies(&to) == ["one", "two"]);
}

fn node(prefix: &str) -> Setup {
    Setup::new().argument("--engine").argument(&format!("kafka://{BROKERS}/{prefix}")).argument("--node").argument("a")
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn foreign_records_in_the_log_are_passed_over() {
    let prefix = new_name("foreign");
    let server = node(&prefix).start();
    server.publish("t", "one");
    let log = format!("{prefix}.log");
    produce(&log, "key:not ours\nother:{\"json\":true}\n");
    produce_with(&log, &[], b"without a key\n");
    produce_with(&log, &["-Z", "-K", ":"], b"tombstone:\n");
    let cursor = server.publish("t", "two");
    assert_eq!(read_all(server.address(), "topic=t"), ["one", "two"]);
    // A node that has nothing yet reads them too.
    drop(server.kill());
    let other = node(&prefix).start();
    assert_eq!(other.publish("t", "three").split(':').next(), cursor.split(':').next(), "it is the same epoch");
    assert_eq!(read_all(other.address(), "topic=t"), ["one", "two", "three"]);
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn a_node_that_kafka_does_not_let_in_ends_and_says_why() {
    let prefix = new_name("closed");
    for (address, said) in [
        (format!("kafka://everywire:wrong-secret@127.0.0.1:19094/{prefix}"), "refuses us"),
        (format!("kafka://nobody:secret@127.0.0.1:19094/{prefix}?mechanism=PLAIN"), "Kafka"),
    ] {
        let failed = Setup::new().argument("--engine").argument(&address).argument("--node").argument("a").fail();
        assert!(failed.code.is_some_and(|code| code != 0), "{:?}", failed.code);
        assert!(failed.errors.contains(said) && !failed.errors.contains("secret"), "{}", failed.errors);
    }
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn while_kafka_is_away_nothing_is_taken_and_all_goes_on_when_it_is_back() {
    let to = topic("away", 1, &[]);
    let bridge = Server::with(&section(&format!("filter = \"#\"\nto = \"{to}\"\nname = \"out\"")));
    let node = node(&new_name("away")).start();
    node.publish("t", "before");
    bridge.publish("t", "before");
    until("it went out", || bodies(&to) == ["before"]);
    for broker in ["1", "2", "3"] {
        kafka(&["kill", broker]);
    }
    // The bridge's server has its own log; the node has none without Kafka.
    bridge.publish("t", "meanwhile");
    until("the node is not ready", || node.get("/readyz").status == 503);
    let answer = Connection::open(node.address()).exchange(&Request::post("/v1/messages?topic=t", "refused"));
    assert_eq!(answer.status, 503, "{}", answer.text());
    kafka(&["start"]);
    until("the node is ready again", || node.get("/readyz").status == 200);
    node.publish("t", "after");
    let found = read_all(node.address(), "topic=t");
    assert_eq!((found.first().map(String::as_str), found.last().map(String::as_str)), (Some("before"), Some("after")));
    bridge.publish("t", "after");
    until("all went out", || bodies(&to) == ["before", "meanwhile", "after"]);
}
