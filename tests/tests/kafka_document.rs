//! The walk-through of `docs/kafka.md`, command by command as it stands there, on the brokers of `dev/kafka`, which
//! must run. The test changes the ports of the broker and the server, the topic's name, and the path of Kafka's tools.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use everywire_tests::Setup;
use everywire_tests::kafka::new_name;
use everywire_tests::root;

/// The document's broker runs in a container. Here it runs already, and its tools are those of `dev/kafka`.
const DOCKER: &str = r#"#!/bin/sh
[ "$1" = run ] && exit
while [ "$1" != kafka ]; do shift; done
case $2 in
/opt/kafka/bin/kafka-topics.sh) class=org.apache.kafka.tools.TopicCommand ;;
/opt/kafka/bin/kafka-console-producer.sh) class=org.apache.kafka.tools.ConsoleProducer ;;
*) echo "no such tool: $2" >&2; exit 1 ;;
esac
shift 2
exec dev/kafka tool "$class" "$@"
"#;

/// A document's blocks of this language, in order.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).filter_map(|block| block.split("```").next()).collect()
}

fn shell(command: &str, tools: &Path) -> Command {
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").expect("a path"));
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", command]).current_dir(root()).env("PATH", path);
    shell
}

#[test]
#[ignore = "needs Kafka: dev/kafka test"]
fn who_follows_the_document_sees_a_message_of_kafkas_over_sse() {
    let (document, topic) =
        (fs::read_to_string(root().join("docs/kafka.md")).expect("the document"), new_name("orders"));
    let begin = document.find("\n## Try it").expect("a walk-through");
    let walk = document[begin + 1..].split("\n## ").next().expect("its text");
    let here = |text: &str| text.replace("orders", &topic).replace("localhost:9092", "127.0.0.1:19092");
    let [broker, serve, reader, message] = blocks(walk, "sh")[..] else { panic!("four commands: {walk}") };
    assert_eq!(serve, "everywire serve --config everywire.toml\n");
    let sections = blocks(&document, "toml")[0].split("[[bridge]]").nth(1).expect("a bridge");
    let section = format!("[[bridge]]{}", here(sections)).replace("127.0.0.1:9092", "127.0.0.1:19092");

    let setup = Setup::new().config(&section);
    let docker = setup.home().join("docker");
    fs::write(&docker, DOCKER).expect("written");
    fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).expect("it can be run");
    let run = |command: &str| {
        let output = shell(&here(command), setup.home()).stdin(Stdio::null()).output().expect("bash runs");
        assert!(output.status.success(), "{command}{}", String::from_utf8_lossy(&output.stderr));
    };
    run(broker);
    let server = setup.clone().start();
    let reader = here(reader).replace("127.0.0.1:8080", &server.address().to_string());
    let mut curl = shell(&format!("exec timeout 60 {reader}"), setup.home());
    let mut curl = curl.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("curl runs");
    let lines = BufReader::new(curl.stdout.take().expect("a pipe")).lines();
    run(message);
    let seen = lines.map_while(Result::ok).find(|line| line.contains("\"order/A-17\""));
    curl.kill().expect("a child can be killed");
    curl.wait().expect("a child can be waited for");
    assert!(seen.expect("it came").contains("paid"));
}
