//! `everywire backup` while a server serves: messages acknowledged before it began are in the copy, in order, and a
//! server starts with it.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use everywire_tests::{Request, Server, Setup, binary};
use serde_json::Value;

fn backup(data: &Path, to: &Path) -> Output {
    Command::new(binary()).env_clear().arg("backup").arg(to).arg("--data").arg(data).output().expect("the binary runs")
}

/// All kept messages of a topic.
fn history(server: &Server, topic: &str) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), "earliest".to_owned());
    loop {
        let page = server.send(&Request::get(&format!("/v1/messages?topic={topic}&limit=1000&after={after}")));
        if page.status == 204 {
            return all;
        }
        let json = page.json();
        all.extend(json["messages"].as_array().expect("messages").iter().cloned());
        json["cursor"].as_str().expect("a cursor").clone_into(&mut after);
    }
}

/// The fields of a message that don't depend on the epoch.
fn essence(message: &Value) -> (&Value, &Value, &Value) {
    (&message["id"], &message["topic"], &message["body"])
}

#[test]
fn a_copy_made_while_messages_come_has_all_that_was_acknowledged_before() {
    let server = Server::with("[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 1000000 }\n");
    let folder = tempfile::tempdir().expect("a folder");
    server.send(&Request::post("/v1/messages?topic=kept&retain=1", "retained"));
    let (acknowledged, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = server.connect();
            while !over.load(Ordering::Acquire) {
                let number = acknowledged.load(Ordering::Acquire);
                let body = format!("{number}:{}", "x".repeat(number % 3000));
                assert_eq!(connection.exchange(&Request::post("/v1/messages?topic=t", body)).status, 200);
                acknowledged.store(number + 1, Ordering::Release);
            }
        });
        for n in 0..5 {
            let before = acknowledged.load(Ordering::Acquire);
            let to = folder.path().join(n.to_string());
            let output = backup(server.setup().data_directory(), &to);
            assert!(output.status.success(), "{output:?}");
            copies.push((before, to));
            let enough = acknowledged.load(Ordering::Acquire) + 50;
            everywire_tests::until("more was published", || acknowledged.load(Ordering::Acquire) >= enough);
        }
        over.store(true, Ordering::Release);
    });
    let original = history(&server, "t");
    for (n, (before, data)) in copies.into_iter().enumerate() {
        let setup = Setup::new().data(&data);
        let copy = if n % 2 == 0 { setup.argument("--new-epoch").start() } else { setup.start() };
        let restored = history(&copy, "t");
        assert!(restored.len() >= before, "{} of {before}", restored.len());
        for (one, other) in restored.iter().zip(&original) {
            assert_eq!(essence(one), essence(other));
        }
        assert_eq!(history(&copy, "kept")[0]["body"], "retained");
        copy.publish("t", "it goes on");
    }
}

#[test]
fn a_copy_overwrites_nothing_and_needs_a_log() {
    let server = Server::start();
    server.publish("t", "x");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("mine"), "x").expect("a file");
    let said = |output: Output| {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(said(backup(server.setup().data_directory(), folder.path())).contains("is not empty"));
    assert!(said(backup(&folder.path().join("nothing"), &folder.path().join("to"))).contains("there is no log"));
    let to = folder.path().join("to");
    let setup = server.terminate().1;
    // A server that isn't running is copied in the same way, with its operator's token.
    assert!(backup(setup.data_directory(), &to).status.success());
    let token = |data: &Path| std::fs::read_to_string(data.join("admin.token")).expect("a token");
    assert_eq!(token(&to), token(setup.data_directory()));
    assert_eq!(history(&Setup::new().data(&to).start(), "t")[0]["body"], "x");
}
