//! The built binary from outside: help, wrong usage, `check`, and refusals to start. Its output is compared with
//! `tests/golden`; `EVERYWIRE_BLESS=1` writes it anew.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn everywire(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everywire"));
    command.args(arguments).current_dir(folder).env_clear().env("EVERYWIRE_TCP", "127.0.0.1:0").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    everywire(tempfile::tempdir().unwrap().path(), arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn assert_golden(name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("EVERYWIRE_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(actual, expected, "{name} differs: if that is meant, run again with EVERYWIRE_BLESS=1");
}

#[test]
fn help() {
    for (name, arguments) in [
        ("help.txt", &["--help"][..]),
        ("help-serve.txt", &["serve", "--help"]),
        ("help-pub.txt", &["pub", "--help"]),
        ("help-sub.txt", &["sub", "--help"]),
        ("help-check.txt", &["check", "--help"]),
    ] {
        let output = run(arguments);
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
        assert_golden(name, &text(&output.stdout));
    }
    assert_eq!(text(&run(&["--version"]).stdout), format!("everywire {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_one_line_and_2() {
    let mut lines = String::new();
    for arguments in [
        &["bench"][..],
        &["serve", "--htpp", "off"],
        &["serve", "--http", "8080"],
        &["serve", "--engine", "redis://:secret@localhost?wiat=1"],
        &["serve", "--workers", "0"],
        &["pub"],
        &["pub", "room/#", "x"],
        &["pub", "t", "x", "--via", "pigeon"],
        &["sub"],
        &["sub", "a/#/b"],
        &["sub", "t", "--after", "yesterday"],
        &["sub", "t", "--count", "0"],
        &["check", "extra"],
    ] {
        let output = run(arguments);
        let stderr = text(&output.stderr);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{arguments:?}");
        assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
        lines += &stderr;
    }
    assert_golden("usage.txt", &lines);
    let nothing = run(&[]);
    assert_eq!((nothing.status.code(), text(&nothing.stdout).as_str()), (Some(2), ""));
    assert!(text(&nothing.stderr).contains("Commands:"));
}

#[test]
fn check_says_all_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = r#"http = "8080"
wrokers = 2

[auth]
anonymous = "yes"
secret = "x"

[[topics]]
match = "room/#"
history = { max_age = "7 days", max_message = 1 }
durability = "disk"
"#;
    std::fs::write(folder.path().join("wrong.toml"), file).unwrap();
    let output = everywire(folder.path(), &["check", "--config", "wrong.toml"]).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert_golden("check.txt", &text(&output.stderr));
    let serve = everywire(folder.path(), &["serve", "--config", "wrong.toml"]).output().unwrap();
    assert_eq!((serve.status.code(), serve.stderr), (Some(1), output.stderr), "serve says the same");
}

#[test]
fn check_reads_the_file_that_serve_would_read() {
    let folder = tempfile::tempdir().unwrap();
    let check = || everywire(folder.path(), &["check"]).output().unwrap();
    let open = "anonymous clients are let in: every listener is on loopback, and nothing is configured that says who \
                people are, and anybody can become a guest\n";
    let first = text(&check().stdout);
    assert!(first.starts_with(&format!("no configuration file: the defaults hold\n{open}")), "{first}");
    assert!(first.contains("MQTT announces packets of 1048576 bytes"), "{first}");
    std::fs::write(folder.path().join("everywire.toml"), "xmpp = \"127.0.0.1:5222\"\n").unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).starts_with(&format!("everywire.toml: well\n{open}")), "{output:?}");
    assert!(text(&output.stderr).starts_with("everywire: warning: xmpp is not available"));
    let named = everywire(folder.path(), &["check"]).env("EVERYWIRE_CONFIG", "none.toml").output().unwrap();
    assert_eq!(named.status.code(), Some(1));
    assert!(text(&named.stderr).contains("none.toml"));
    let wrong = everywire(folder.path(), &["check"]).env("EVERYWIRE_WORKERS", "many").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("--workers"), "the environment is checked too");
}

#[test]
fn serve_refuses_to_be_open_to_everybody_by_accident() {
    let folder = tempfile::tempdir().unwrap();
    let output = everywire(folder.path(), &["serve", "--http", "0.0.0.0:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_golden("anonymous.txt", &text(&output.stderr));
    assert!(!folder.path().join("everywire-data").exists(), "nothing was begun");
}

#[test]
fn clients_say_that_nobody_is_there() {
    for arguments in [&["pub", "t", "x"][..], &["sub", "t"], &["sub", "t", "--via", "poll"]] {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let output =
            everywire(Path::new("/"), arguments).env("EVERYWIRE_SERVER", format!("http://{free}")).output().unwrap();
        let expected = format!("everywire: connecting to http://{free}: ");
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).starts_with(&expected), "{}", text(&output.stderr));
    }
    let wrong = run(&["pub", "t", "x", "--server", "127.0.0.1:8080"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("does not begin with http://"));
}

/// A server of the test's own, with free ports. A signal ends it.
struct Server {
    child: std::process::Child,
    folder: tempfile::TempDir,
    url: String,
}

impl Server {
    fn start(file: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("everywire.toml"), file).unwrap();
        let ports = [
            "serve",
            "--http",
            "127.0.0.1:0",
            "--tcp",
            "127.0.0.1:0",
            "--mqtt",
            "127.0.0.1:0",
            "--ready-file",
            "ready.json",
        ];
        let mut command = everywire(folder.path(), &ports);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let url = page_address(&mut child);
        Self { child, folder, url }
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = everywire(self.folder.path(), arguments);
        command.env("EVERYWIRE_SERVER", &self.url).stdout(Stdio::piped());
        command
    }

    fn signal(&self, signal: rustix::process::Signal) {
        signal_child(&self.child, signal);
    }

    /// Waits for its end; returns the exit code and the text of stderr.
    fn end(self) -> (Option<i32>, String) {
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), text(&output.stderr))
    }
}

fn signal_child(child: &std::process::Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).unwrap();
}

/// Reads the table of listeners, which comes when all of them accept.
fn page_address(child: &mut std::process::Child) -> String {
    use std::io::BufRead as _;
    let lines = std::io::BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let mut lines = lines.map(|line| line.unwrap().trim().to_owned());
    let http = lines.find(|line| line.starts_with("http ")).unwrap();
    http.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn a_server_serves_reloads_and_drains() {
    use rustix::process::Signal;
    let server = Server::start("[log]\nformat = \"json\"\n");
    let output = server.client(&["pub", "room/42", "hi", "--event", "chat", "--key", "k"]).output().unwrap();
    let published = text(&output.stdout);
    assert!(published.ends_with(" fsync\n"), "{published}");
    let mut again =
        server.client(&["pub", "room/42", "-", "--event", "chat", "--key", "k"]).stdin(Stdio::piped()).spawn().unwrap();
    again.stdin.take().unwrap().write_all(b"hi").unwrap();
    assert_eq!(text(&again.wait_with_output().unwrap().stdout), published, "the same key and body is published once");

    let ready = server.folder.path().join("ready.json");
    let pid = server.child.id();
    let address = server.url.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let expected = format!("{{\"pid\":{pid},\"http\":\"{address}\",\"tcp\":\"127.0.0.1:");
    let ready = std::fs::read_to_string(ready).unwrap();
    assert!(ready.starts_with(&expected) && ready.ends_with("\"}\n"), "{ready}");

    std::fs::write(server.folder.path().join("everywire.toml"), "workers = \"many\"\n").unwrap();
    server.signal(Signal::HUP);
    server.signal(Signal::TERM);
    let (code, log) = server.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.lines().all(|line| line.starts_with('{')), "every line is JSON: {log}");
    assert!(log.contains("everywire.toml:1:11: workers"), "{log}");
}

#[test]
fn sub_prints_bodies_or_envelopes_and_ends_by_count_or_signal() {
    let server = Server::start("");
    for via in ["poll", "longpoll", "sse"] {
        let mut sub =
            server.client(&["sub", "room/+", "--via", via, "--count", "2", "--after", "earliest"]).spawn().unwrap();
        for body in ["one", "two"] {
            server.client(&["pub", &format!("room/{via}"), body]).output().unwrap();
        }
        let out = std::io::read_to_string(sub.stdout.take().unwrap()).unwrap();
        assert_eq!(out, "one\ntwo\n", "{via}");
        assert_eq!(sub.wait().unwrap().code(), Some(0));
    }
    let json = server.client(&["sub", "room/sse", "--json", "--count", "1", "--after", "earliest"]).output().unwrap();
    let envelope: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&envelope["topic"], &envelope["body"]), (&"room/sse".into(), &"one".into()));

    let mut endless = server.client(&["sub", "room/sse", "--after", "earliest"]).spawn().unwrap();
    let mut first = [0; 4];
    std::io::Read::read_exact(endless.stdout.as_mut().unwrap(), &mut first).unwrap();
    signal_child(&endless, rustix::process::Signal::INT);
    assert_eq!(endless.wait().unwrap().code(), Some(0));

    let mut unread = server.client(&["sub", "room/sse", "--after", "earliest"]).spawn().unwrap();
    drop(unread.stdout.take());
    assert_eq!(unread.wait().unwrap().code(), Some(0), "a reader who went away is a good end");
    server.signal(rustix::process::Signal::INT);
    assert_eq!(server.end().0, Some(0));
}

#[test]
fn what_cannot_be_had_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let output = everywire(folder.path(), &["serve", "--http", &address]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let last = text(&output.stderr).lines().last().unwrap().to_owned();
    assert!(last.starts_with("everywire: ") && last.contains(&address), "{last}");
    let arguments = ["serve", "--http", "127.0.0.1:0", "--engine", "memory", "--ready-file", "none/ready.json"];
    let output = everywire(folder.path(), &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("the ready file none/ready.json can't be written"));
}
