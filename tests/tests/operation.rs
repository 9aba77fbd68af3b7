//! Starting, configuring, watching and ending a server (`docs/operating.md`; RULES 35 to 37).

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use everywire_tests::{Connection, EventStream, Request, Server, Setup, binary, until};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn the_ready_file_names_process_and_addresses() {
    let server = Server::start();
    assert_eq!(server.ready()["pid"], json!(server.pid()));
    assert_eq!(server.ready()["http"], json!(server.address().to_string()));
    assert!(server.address().ip().is_loopback() && server.address().port() != 0);
    assert_eq!(server.get("/healthz").status, 200, "ready means ready");
}

#[test]
fn a_configured_port_in_use_is_an_error_that_names_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let failed = Setup::new().http(Some(&address)).fail();
    assert_eq!(failed.code, Some(1), "{}", failed.errors);
    assert!(failed.errors.contains(&address), "{}", failed.errors);

    let by_file = Setup::new().http(None).config(&format!("http = \"{address}\"\n")).fail();
    assert_eq!(by_file.code, Some(1), "{}", by_file.errors);
    assert!(by_file.errors.contains(&address), "{}", by_file.errors);
}

#[test]
fn the_default_port_in_use_is_a_warning() {
    // Another program may have the port already, which serves as well.
    let _taken = TcpListener::bind("127.0.0.1:8080");
    // A server without any listener refuses to start, and says so.
    let off = ["--tcp", "off", "--mqtt", "off"];
    let failed = off.into_iter().fold(Setup::new().http(None), Setup::argument).fail();
    assert_eq!(failed.code, Some(1), "{}", failed.errors);
    let warning = failed.errors.lines().find(|line| line.contains("WARN")).unwrap_or_default();
    assert!(warning.contains("http") && warning.contains("127.0.0.1:8080"), "{}", failed.errors);
    assert!(failed.errors.contains("no listener is open"), "{}", failed.errors);
}

#[test]
fn sigterm_answers_all_who_wait_and_ends_with_0() {
    let server = Server::start();
    let mut poll = server.connect();
    poll.ask(&Request::get("/v1/messages?topic=t&wait=60"));
    let mut stream = EventStream::open(server.address(), &Request::get("/v1/events?topic=t"));
    stream.block().expect("the first block");
    until("both wait", || server.metric("everywire_connections") >= 3.0);
    server.publish("u", "acknowledged");
    server.signal(Signal::TERM);

    let answer = poll.response();
    let is_told_to_come_back = answer.status == 503 && answer.header("Retry-After").is_some();
    assert!(answer.status == 204 || is_told_to_come_back, "{answer:?}");
    stream.retry = None;
    while stream.block().is_ok() {}
    assert!(stream.retry.is_some(), "a stream is told when to come back");

    let mut server = server;
    assert_eq!(server.wait().code(), Some(0), "{}", server.setup().errors());
    let setup = server.setup().clone();
    drop(server);
    assert_eq!(setup.start().get("/v1/messages?topic=u").bodies(), ["acknowledged"]);
}

#[test]
fn a_server_that_drains_accepts_nobody() {
    let mut server = Server::start();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(Connection::try_open(server.address()).is_err());
}

fn rule(max_message: &str) -> String {
    format!("[[topics]]\nmatch = \"#\"\nmax_message = \"{max_message}\"\n")
}

#[test]
fn sighup_reloads_the_rules() {
    let mut server = Server::with(&rule("1KiB"));
    let status = |server: &Server| server.send(&Request::post("/v1/messages?topic=t", "x".repeat(1500))).status;
    assert_eq!(status(&server), 413);
    server.reconfigure(&rule("2KiB"));
    until("the new rule holds", || status(&server) == 200);

    server.reconfigure("[[topics]]\nmatch = \"a/#/b\"\n");
    until("the fault is said", || server.setup().errors().contains("topics[0].match"));
    assert_eq!(status(&server), 200, "a broken file changes nothing");
}

#[test]
fn sighup_says_what_needs_a_restart() {
    let mut server = Server::with(&rule("1KiB"));
    server.reconfigure(&format!("workers = 1\n{}", rule("2KiB")));
    until("it is said", || server.setup().errors().contains("restart"));
}

const BROKEN: &[(&str, &str, &str)] = &[
    ("not TOML", "http = \n", "1:8"),
    ("an unknown key", "\nhttpp = \"127.0.0.1:0\"\n", "httpp"),
    ("an unknown key of a rule", "[[topics]]\nmatch = \"#\"\nmax_mesage = \"1KiB\"\n", "max_mesage"),
    ("a filter that is none", "[[topics]]\nmatch = \"a#\"\n", "2:9"),
    ("a size that is none", "[[topics]]\nmatch = \"#\"\nmax_message = \"1KB?\"\n", "1KB?"),
    ("a time that is none", "[[topics]]\nmatch = \"#\"\nhistory = { max_age = \"7 moons\" }\n", "7 moons"),
    ("a durability that is none", "[[topics]]\nmatch = \"#\"\ndurability = \"hope\"\n", "hope"),
    ("a rule without a filter", "[[topics]]\nmax_message = \"1KiB\"\n", "match"),
    ("an address that is none", "http = \"localhost:http\"\n", "localhost:http"),
];

#[test]
fn a_broken_configuration_is_refused_with_its_place() {
    for (what, toml, needle) in BROKEN {
        let failed = Setup::new().http(None).config(toml).fail();
        assert!(matches!(failed.code, Some(1 | 2)), "{what}: {failed:?}");
        assert!(failed.errors.contains(needle), "{what}: {:?} names {needle:?}", failed.errors);
        assert!(failed.errors.contains("everywire.toml"), "{what}: {}", failed.errors);
    }
}

#[test]
fn check_says_what_serve_would_say() {
    let setup = Setup::new();
    let file = setup.home().join("checked.toml");
    let check = || Command::new(binary()).arg("check").arg("--config").arg(&file).output().expect("check runs");
    std::fs::write(&file, rule("1KiB")).expect("a file");
    assert_eq!(check().status.code(), Some(0), "{:?}", check());
    for (what, toml, needle) in BROKEN {
        std::fs::write(&file, toml).expect("a file");
        let output = check();
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{what}: {text}");
        assert!(text.contains(needle), "{what}: {text:?} names {needle:?}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [&["serve", "--nonsense"][..], &["nonsense"], &["pub"], &["sub", "t", "--via", "pigeon"]] {
        let output = Command::new(binary()).args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn options_come_from_flag_then_environment_then_file() {
    let setup = Setup::new();
    std::fs::write(setup.home().join("c.toml"), "http = \"127.0.0.1:1\"\n").expect("a file");
    let serve = |flag: &[&str], environment: Option<&str>| {
        let mut command = Command::new(binary());
        command.args(["serve", "--config", "c.toml", "--data", "d"]).args(flag).current_dir(setup.home());
        environment.map(|address| command.env("EVERYWIRE_HTTP", address));
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    };
    // The ports are taken: the address in the complaint of `serve` is the one that it took from its settings.
    let taken: Vec<TcpListener> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
    let address = |n: usize| taken[n].local_addr().expect("an address").to_string();
    assert!(serve(&["--http", &address(0)], Some(&address(1))).contains(&address(0)));
    assert!(serve(&[], Some(&address(1))).contains(&address(1)));
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_told_who_has_it() {
    let server = Server::start();
    let second = Setup::new().data(server.setup().data_directory()).fail();
    assert_eq!(second.code, Some(1), "{}", second.errors);
    assert!(second.errors.contains(&server.pid().to_string()), "the holder's pid: {}", second.errors);
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn the_metrics_have_the_names_that_tests_read() {
    let server = Server::start();
    let mut stream = EventStream::open(server.address(), &Request::get("/v1/events?topic=t"));
    stream.block().expect("the first block");
    server.publish("t", "hi");
    stream.event();
    let text = server.get("/metrics").text();
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "everywire_connections",
        "everywire_messages_published_total",
        "everywire_messages_delivered_total",
        "everywire_messages_dropped_total",
        "everywire_gaps_total",
        "everywire_log_append_seconds",
        "everywire_log_batch_records",
        "everywire_delivery_seconds",
        "everywire_outbox_bytes",
        "everywire_worker_inbox_records",
    ] {
        // OpenMetrics declares a counter without the suffix of its samples.
        let declared = format!("# TYPE {} ", name.trim_end_matches("_total"));
        assert!(text.lines().any(|line| line.starts_with(&declared)), "{name} in:\n{text}");
    }
    assert!(server.metric("process_resident_memory_bytes") > 1e6);
    assert!((server.metric("everywire_messages_published_total") - 1.0).abs() < 0.5, "one was published");
    assert!(server.metric("everywire_messages_delivered_total") >= 1.0);
    assert!(text.contains("everywire_connections{wire=\"sse\"} 1"), "{text}");
}

#[test]
fn health_readiness_and_description_answer() {
    let server = Server::start();
    for target in ["/healthz", "/readyz"] {
        assert_eq!(server.get(target).status, 200, "{target}");
    }
    let description = server.get("/openapi.json").json();
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    for path in
        ["/v1/messages", "/v1/batch", "/v1/events", "/v1/stream", "/v1/topics", "/metrics", "/healthz", "/readyz"]
    {
        assert!(description["paths"].get(path).is_some(), "{path} is described");
    }
}

#[test]
fn the_page_and_all_that_it_loads_are_served() {
    let server = Server::start();
    for path in ["/", "/console", "/lab"] {
        let page = server.get(path);
        assert_eq!(page.status, 200, "{path}");
        let policy = page.header("Content-Security-Policy").unwrap_or_default();
        assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self'"), "{path}: {policy}");
        let html = page.text();
        let linked: Vec<&str> = html.split(['"', '\'']).filter(|text| text.starts_with("web/")).collect();
        assert!(linked.len() >= 3, "{path}: {linked:?}");
        for file in linked {
            let answer = server.get(&format!("/{file}"));
            assert_eq!(answer.status, 200, "{file}");
            let kind = if file.rsplit('.').next() == Some("js") { "javascript" } else { "" };
            assert!(answer.header("Content-Type").is_some_and(|t| t.contains(kind)), "{file}: {answer:?}");
        }
    }
}

#[test]
fn the_command_line_publishes_and_subscribes() {
    let server = Server::start();
    let url = format!("http://{}", server.address());
    let output = Command::new(binary()).args(["pub", "t", "hello", "--server", &url]).output().expect("pub runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let id = String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap_or_default().to_owned();
    for via in ["http", "ws"] {
        let arguments = ["pub", "answers", via, "--ref", &id, "--via", via, "--server", &url];
        let output = Command::new(binary()).args(arguments).output().expect("pub runs");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    let answers = server.get("/v1/messages?topic=answers").json()["messages"].clone();
    let answers = answers.as_array().expect("a list").iter().map(|message| message["ref"].as_str());
    assert_eq!(answers.collect::<Vec<_>>(), [Some(&*id); 2]);
    for via in ["poll", "longpoll", "sse"] {
        let mut child = Command::new(binary())
            .args(["sub", "t", "--after", "earliest", "--via", via, "--json", "--server", &url])
            .stdout(Stdio::piped())
            .spawn()
            .expect("sub runs");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let line = lines.next().expect("a line").expect("text");
        child.kill().expect("a child can be killed");
        child.wait().expect("a child can be waited for");
        assert!(line.contains("\"body\":\"hello\""), "{via}: {line}");
    }
    let nobody =
        Command::new(binary()).args(["pub", "t", "x", "--server", "http://127.0.0.1:1"]).output().expect("it runs");
    assert_eq!(nobody.status.code(), Some(1));
    let error = String::from_utf8_lossy(&nobody.stderr);
    assert_eq!(error.trim_end().lines().count(), 1, "one line: {error}");
}
