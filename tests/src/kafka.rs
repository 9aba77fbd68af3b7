//! The three brokers of `dev/kafka`, which must run, and calls to them by foreign tools: kcat, and Kafka's own.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Server, root};

/// The addresses of the brokers.
pub const BROKERS: &str = "127.0.0.1:19092,127.0.0.2:19092,127.0.0.3:19092";

/// The lines of a configuration that keep all messages.
pub const KEEP_ALL: &str = "[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 100000000, max_bytes = \"4GiB\" }\n";

/// The section of a bridge with this rule.
pub fn section(rule: &str) -> String {
    format!("[[bridge]]\nbrokers = \"{BROKERS}\"\n{rule}\n")
}

/// A metric of a bridge, 0 while there is none.
pub fn count(server: &Server, metric: &str, label: &str) -> u64 {
    let text = server.get("/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{metric}{{{label}}} ")));
    value.and_then(|value| value.split('.').next()?.parse().ok()).unwrap_or_default()
}

fn done(what: &str, output: &Output) -> String {
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs `dev/kafka`, and returns its output.
///
/// # Panics
/// When it fails.
pub fn kafka(arguments: &[&str]) -> String {
    let output = Command::new(root().join("dev/kafka")).args(arguments).stdin(Stdio::null()).output();
    done(&format!("dev/kafka {arguments:?}"), &output.expect("dev/kafka runs"))
}

/// A name that was never used.
///
/// # Panics
/// When there is no clock.
pub fn new_name(beginning: &str) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock");
    format!("{beginning}-{}-{}", std::process::id(), since.as_micros())
}

/// Makes a topic with a name that was never used, and this number of partitions.
pub fn topic(beginning: &str, partitions: u32, settings: &[&str]) -> String {
    let name = new_name(beginning);
    make(&name, partitions, settings);
    name
}

/// Makes a topic.
pub fn make(name: &str, partitions: u32, settings: &[&str]) {
    let partitions = partitions.to_string();
    let mut arguments = vec!["tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", BROKERS];
    arguments.extend(["--create", "--topic", name, "--partitions", &partitions, "--replication-factor", "3"]);
    for setting in settings {
        arguments.extend(["--config", setting]);
    }
    kafka(&arguments);
}

/// Has kcat publish lines, each a key, a colon and a body.
pub fn produce(topic: &str, lines: &str) {
    produce_with(topic, &["-K", ":", "-X", "acks=all", "-X", "enable.idempotence=true"], lines.as_bytes());
}

/// Has kcat publish with these options.
///
/// # Panics
/// When it doesn't.
pub fn produce_with(topic: &str, options: &[&str], input: &[u8]) {
    let mut command = Command::new("kcat");
    let command = command.args(["-P", "-b", BROKERS, "-t", topic]).args(options).stdin(Stdio::piped());
    let mut child = command.spawn().expect("kcat runs");
    child.stdin.take().expect("a pipe").write_all(input).expect("kcat reads");
    assert!(child.wait().expect("kcat ends").success(), "kcat publishes");
}

/// A record, as kcat prints it.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// Its partition.
    pub partition: String,
    /// Its key.
    pub key: String,
    /// Its headers.
    pub headers: HashMap<String, String>,
    /// Its value.
    pub body: String,
}

/// All that kcat finds in a topic.
///
/// # Panics
/// When it can't read it.
pub fn consume(topic: &str) -> Vec<Told> {
    let format = "%p\t%k\t%h\t%s\n";
    let arguments = ["-C", "-b", BROKERS, "-t", topic, "-e", "-q", "-o", "beginning", "-f", format];
    let text = done("kcat", &Command::new("kcat").args(arguments).output().expect("kcat runs"));
    let told = |line: &str| {
        let mut parts = line.splitn(4, '\t').map(str::to_owned);
        let mut part = || parts.next().unwrap_or_else(|| panic!("four parts: {line:?}"));
        let (partition, key, headers, body) = (part(), part(), part(), part());
        let headers = headers.split(',').filter_map(|h| h.split_once('=')).map(|(n, v)| (n.into(), v.into())).collect();
        Told { partition, key, headers, body }
    };
    text.lines().map(told).collect()
}
