//! The settings that the layers give, and the complaints about wrong ones: line, column, and what to do.

use std::collections::HashMap;
use std::time::Duration;

use everywire_base::record::Durability;
use everywire_base::rules::{Anonymous, Logins, SlowConsumer, Who};
use everywire_base::topic::Topic;

use super::{EngineKind, File, Layers, Listen, LogFormat, Settings};
use crate::cli::Serve;

fn complaints(text: &str) -> Vec<String> {
    let complaints = File::parse("f.toml", text).expect_err("something is wrong with it");
    complaints.iter().map(ToString::to_string).collect()
}

/// Loads settings from a command line, an environment and a file's text.
fn load(arguments: Serve, environment: &[(&str, &str)], text: &str) -> Result<Settings, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.toml");
    std::fs::write(&path, text).unwrap();
    let environment: HashMap<&str, &str> = environment.iter().copied().collect();
    let variable = |name: &str| environment.get(name).map(|value| (*value).to_owned());
    let arguments = Serve { config: Some(path), ..arguments };
    let loaded = Settings::load(&Layers { arguments: &arguments, variable: &variable });
    loaded.map_err(|complaints| complaints.iter().map(ToString::to_string).collect())
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn wrong_values_are_named_with_line_column_and_what_to_do() {
    for (text, expected) in [
        (
            "http = \"8080\"",
            "f.toml:1:8: http: \"8080\" is not an address with a port: write it like \"127.0.0.1:8080\" or \"[::1]:8080\", or \"off\"",
        ),
        ("\nhttp = 8080", "f.toml:2:8: http: this is an integer, not a string in quotes"),
        (
            "engine = \"redis://x?wiat=1\"",
            "f.toml:1:10: engine: it has no option \"wiat\": there are prefix, wait, wait_timeout, too_few, window, synced, tls, ca \
             and sentinel_password",
        ),
        ("workers = 0", "f.toml:1:11: workers: \"0\" is not a number of workers: use 1 to 256"),
        (
            "node = \"a b\"",
            "f.toml:1:8: node: \"a b\" is not a node's name: use 1 to 64 letters, digits, `-`, `_` and `.`",
        ),
        ("data = \"\"", "f.toml:1:8: data: the path is empty: name a place"),
        ("auth = true", "f.toml:1:8: auth is a boolean, not a table: write it as [auth]"),
        ("[auth]\nanonymous = \"yes\"", "f.toml:2:13: auth.anonymous: this is a string, not `true` or `false`"),
        (
            "[auth]\norigins = [\"https://a\", \"b\"]",
            "f.toml:2:25: auth.origins: \"b\" is not an origin: write scheme, host and port in small letters, like \"https://app.example.com\" or \"capacitor://localhost\"",
        ),
        ("[auth]\naudience = \"push\"", "f.toml:2:12: auth.audience: this is a string, not a list in brackets"),
        ("[auth]\nissuer = \"\"", "f.toml:2:10: auth.issuer: it is empty: write what the tokens say, or leave it out"),
        (
            "[auth]\n  secret = \"x\"",
            "f.toml:2:12: auth.secret: the secret has fewer than 32 bytes: make one with `openssl rand -base64 33`",
        ),
        (
            "[http]\nhosts = [\"x:1\"]",
            "f.toml:2:10: http.hosts: \"x:1\" is not a host: write its name without scheme and port, like \"push.example.com\"",
        ),
        ("[tls]\ncert = \"c.pem\"", "f.toml:1:1: tls.key is missing: it names a PEM file"),
        (
            "[limits]\noutbox_bytes = \"64 apples\"",
            "f.toml:2:16: limits.outbox_bytes: \"64 apples\" is not a size: write it like \"64MiB\", \"256KiB\" or \"512B\"",
        ),
        ("[limits]\ndrain = 20", "f.toml:2:9: limits.drain: this is an integer, not a duration like \"7d\" or \"90s\""),
        (
            "[limits]\nread_queue = 0",
            "f.toml:2:14: limits.read_queue: a bound is at least 1: leave it out to have the default",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "f.toml:2:9: log.level: \"loud\" is not a log level: use one of off, error, warn, info, debug, trace, or like \"info,everywire_hub=debug\"",
        ),
        ("[log]\nformat = \"xml\"", "f.toml:2:10: log.format: \"xml\" is not a log format: use \"text\" or \"json\""),
        ("[topics]\nmatch = \"a\"", "f.toml:1:1: topics is not a list of tables: write each rule as [[topics]]"),
        (
            "[[topics]]\npresence = true",
            "f.toml:1:1: topics[0]: `match` is missing: it says for which topics the rule is",
        ),
        (
            "[[topics]]\nmatch = \"a/#/b\"",
            "f.toml:2:9: topics[0].match: `#` stands alone in the last level, at byte 2 it does not",
        ),
        (
            "[[topics]]\nmatch = \"é/ü\" \nhistory = { max_age = \"7 days\" }",
            "f.toml:3:23: topics[0].history.max_age: \"7 days\" is not a duration: write it like \"7d\", \"12h\", \"1h30m\" or \"90s\"",
        ),
        (
            "[[topics]]\nmatch = \"é\"\nhistory = { max_messages = -1 }",
            "f.toml:3:28: topics[0].history.max_messages: -1 is out of range: it is a whole number from 0",
        ),
        (
            "[[topics]]\nmatch = \"é\"\n[[topics]]\nmatch = \"ü\"\ndurability = \"disk\"",
            "f.toml:5:14: topics[1].durability: \"disk\" is not one of \"fsync\", \"memory\", \"none\"",
        ),
        (
            "[[topics]]\nmatch = \"é\"\npublish = [\"member\", \"é\", 1]",
            "f.toml:3:22: topics[0].publish: \"é\" is not one of \"anyone\", \"user\", \"member\", \"owner\"",
        ),
        (
            "[[topics]]\nmatch = \"é\"\nmax_message = \"1GiB\"",
            "f.toml:3:15: topics[0].max_message: 1073741824 bytes is more than a message can have: at most \"64MiB\"",
        ),
        (
            "[[topics]]\nmatch = \"é\"\nretention = 1",
            "f.toml:3:1: topics[0].retention is unknown: known here are match, history, durability, presence, publish, subscribe, max_message, slow_consumer",
        ),
        (
            "[[bridge]]\nbrokers = \"k:9092\"",
            "f.toml:1:1: bridge[0]: a bridge has `from` and `topic`, for what comes in, or `filter` and `to`, for what goes out",
        ),
        (
            "[[bridge]]\nbrokers = \"k\"\nfrom = \"a\"\ntopic = \"a\"",
            "f.toml:2:11: bridge[0].brokers: \"k\" is not a list of brokers: write each as host:port, with commas between them",
        ),
        (
            "[[bridge]]\nbrokers = \"k:1\"\nfrom = \"a/b\"\ntopic = \"a\"",
            "f.toml:3:8: bridge[0].from: \"a/b\" is not a topic of Kafka's: 1 to 249 letters, digits, `.`, `_` and `-`",
        ),
        (
            "[[bridge]]\nbrokers = \"k:1\"\nfrom = \"a\"\ntopic = \"a/{id}\"",
            "f.toml:4:9: bridge[0].topic: \"a/{id}\" has braces that mean nothing: only {key} stands for something, the record's key",
        ),
        (
            "[[bridge]]\nbrokers = \"k:1\"\nfilter = \"$SYS/#\"\nto = \"a\"",
            "f.toml:3:10: bridge[0].filter: topics that begin with $ are the server's, \"$SYS/#\" takes none but those",
        ),
        (
            "[[bridge]]\nbrokers = \"k:1\"\nfilter = \"a\"\nto = \"a\"\nuser = \"me\"",
            "f.toml:1:1: bridge[0]: `user` and `password` belong together",
        ),
        (
            "[[bridge]]\nbrokers = \"k:1\"\nfilter = \"a\"\nto = \"a\"\nca = \"/nowhere.pem\"",
            "f.toml:5:6: bridge[0].ca: /nowhere.pem can't be read: No such file or directory (os error 2)",
        ),
        (
            "[[bridge]]\nbrokers = \"k:1\"\nfilter = \"a\"\nto = \"a\"\n[[bridge]]\nbrokers = \"k:1\"\nfilter = \"b\"\nto = \"a\"",
            "f.toml:5:1: bridge[1]: there is another bridge \"a\": give one of them another `name`",
        ),
        (
            "[[bridge]]\nbrokers = \"k:1\"\nfrom = \"a\"\ntopic = \"a/{key}\"\n[[bridge]]\nname = \"b\"\nbrokers = \"k:1,k:2\"\nfilter = \"#\"\nto = \"a\"",
            "f.toml:5:1: bridge[1]: messages would go round for ever, from bridge to bridge: \"a\" → \"b\" → \"a\"; choose topics and filters that don't meet",
        ),
        (
            "[limits]\nbridges = 1\n[[bridge]]\nbrokers = \"k:1\"\nfilter = \"a\"\nto = \"a\"\n[[bridge]]\nbrokers = \"k:1\"\nfilter = \"b\"\nto = \"b\"",
            "f.toml:7:1: bridge[1]: there are more than 1 bridges (limits.bridges)",
        ),
        ("[log]\nfile = \"x\"", "f.toml:2:1: log.file is unknown: known here are format, level"),
    ] {
        assert_eq!(complaints(text), [expected], "{text}");
    }
}

#[test]
fn a_bridge_has_the_brokers_of_the_engine_unless_it_names_others() {
    let text = "[[bridge]]\nfrom = \"a\"\ntopic = \"a\"\n[[bridge]]\nbrokers = \"x:1\"\nfilter = \"b\"\nto = \"b\"";
    let said = load(Serve::default(), &[], text).unwrap_err();
    assert!(said[0].ends_with("f.toml:1:1: bridge[0]: `brokers` is missing: where Kafka is, like \"127.0.0.1:9092\""));
    let text = format!("engine = \"kafka://me:secret@k:1,l:2/p\"\n{text}");
    let bridges = load(Serve::default(), &[], &text).unwrap().bridges;
    let access: Vec<_> = bridges.iter().map(|b| (b.access.brokers.as_str(), b.access.login.is_some())).collect();
    assert_eq!(access, [("k:1,l:2", true), ("x:1", false)]);
    let text = "engine = \"kafka://k:1/p\"\n[[bridge]]\nfilter = \"a\"\nto = \"p.log\"";
    let said = load(Serve::default(), &[], text).unwrap_err();
    assert!(said[0].ends_with("f.toml:2:1: the bridge \"p.log\" names p.log, which is the engine's own"), "{said:?}");
    // One names the engine's brokers, the other takes them from the engine.
    let text = "engine = \"kafka://k:1/p\"\n[[bridge]]\nfrom = \"a\"\ntopic = \"a/{key}\"\n\
                [[bridge]]\nname = \"b\"\nbrokers = \"k:1\"\nfilter = \"+/x\"\nto = \"a\"";
    let said = load(Serve::default(), &[], text).unwrap_err();
    assert!(said[0].contains("f.toml:5:1: bridge[1]: messages would go round for ever"), "{said:?}");
}

#[test]
fn columns_count_characters() {
    assert_eq!(complaints("log = { format = \"é\", level = \"é\" }")[1].split(": ").next(), Some("f.toml:1:31"));
}

#[test]
fn all_complaints_come_at_once_in_the_order_of_the_text() {
    let text = "workers = 0\nwrokers = 1\n[topics]\n[auth]\nanonymous = 1\n[log]\nlevel = 1\n";
    let places: Vec<_> = complaints(text).iter().map(|c| c.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(places, ["f.toml:1:11", "f.toml:2:1", "f.toml:3:1", "f.toml:5:13", "f.toml:7:9"]);
}

#[test]
fn what_is_not_toml_is_said_and_the_rest_is_read_all_the_same() {
    let complaints = complaints("http = 127.0.0.1:80\n[log]\nlevel = \"loud\"\n");
    assert!(complaints[0].starts_with("f.toml:1:"), "{complaints:?}");
    assert!(complaints.iter().any(|c| c.contains("this is not TOML")), "{complaints:?}");
    assert!(complaints.iter().any(|c| c.starts_with("f.toml:3:9: log.level")), "{complaints:?}");
}

#[test]
fn a_rule_says_what_it_says_and_has_the_defaults_for_the_rest() {
    let text = r#"
        [[topics]]
        match = "room/#"
        history = { max_age = "1m30s", max_messages = 10000, max_bytes = "64MiB" }
        durability = "memory"
        presence = true
        publish = ["member", "owner"]
        subscribe = []
        max_message = "1MiB"
        slow_consumer = "close"
        [[topics]]
        match = "room/42"
        history = { max_messages = 1 }
    "#;
    let rules = File::parse("f", text).unwrap().rules();
    let rule = rules.of(&Topic::parse("room/42").unwrap());
    assert_eq!(rule.history.max_age, Duration::from_secs(90));
    assert_eq!((rule.history.max_messages, rule.history.max_bytes), (10_000, 64 << 20));
    assert_eq!((rule.durability, rule.presence, rule.max_message), (Durability::Memory, true, 1 << 20));
    assert_eq!((&rule.publish[..], &rule.subscribe[..]), (&[Who::Member, Who::Owner][..], &[][..]));
    assert_eq!(rule.slow_consumer, SlowConsumer::Close);
    let second = rules.all().nth(1).unwrap();
    assert_eq!((second.history.max_messages, second.history.max_bytes), (1, 64 << 20), "the first match wins");
}

#[test]
fn the_order_is_flag_environment_file_default() {
    let defaults = load(Serve::default(), &[], "").unwrap();
    let http = defaults.http.unwrap();
    assert_eq!((http.address.to_string().as_str(), http.configured), ("127.0.0.1:8080", false));
    assert_eq!((defaults.data.to_str().unwrap(), defaults.engine), ("./everywire-data", EngineKind::Embedded));
    assert_eq!((defaults.log_format, defaults.log_level.as_str()), (LogFormat::Text, "info"));
    assert!(defaults.workers >= 1 && !defaults.node.is_empty());

    let text = "http = \"127.0.0.1:1\"\nworkers = 3\nengine = \"memory\"\n[log]\nlevel = \"warn\"\nformat = \"json\"";
    let file = load(Serve::default(), &[], text).unwrap();
    let http = file.http.unwrap();
    assert_eq!((http.address.port(), http.configured, file.workers), (1, true, 3));
    assert_eq!((file.engine, file.log_format), (EngineKind::Memory, LogFormat::Json));

    let environment = [("EVERYWIRE_LOG_LEVEL", "debug")];
    let above = Serve { http: Some(Listen::At("127.0.0.1:2".parse().unwrap())), ..Serve::default() };
    let settings = load(above, &environment, text).unwrap();
    assert_eq!((settings.http.unwrap().address.port(), settings.workers), (2, 3));
    assert_eq!((settings.log_level.as_str(), settings.log_format), ("debug", LogFormat::Json));
    let above = Serve { log_level: Some("trace".into()), log_format: Some(LogFormat::Text), ..Serve::default() };
    let settings = load(above, &environment, text).unwrap();
    assert_eq!((settings.log_level.as_str(), settings.log_format), ("trace", LogFormat::Text));
}

#[test]
fn http_is_an_address_or_a_table() {
    let open = ("EVERYWIRE_AUTH_ANONYMOUS", "true");
    let text = "[http]\nlisten = \"127.0.0.1:1\"\nhosts = [\"Push.example.com\"]";
    let table = load(Serve::default(), &[open], text).unwrap();
    assert_eq!(table.http.unwrap().address.port(), 1);
    assert_eq!(table.hosts, ["push.example.com"]);
    let environment = [("EVERYWIRE_HTTP_HOSTS", "a.example, b.example"), ("EVERYWIRE_AUTH_ORIGINS", "https://a"), open];
    let settings = load(Serve::default(), &environment, "[http]\nhosts = [\"c\"]").unwrap();
    assert_eq!(
        (settings.hosts, settings.origins),
        (vec!["a.example".into(), "b.example".into()], vec!["https://a".into()])
    );
}

#[test]
fn wrong_variables_of_the_environment_are_named() {
    let environment = [("EVERYWIRE_AUTH_ANONYMOUS", "maybe"), ("EVERYWIRE_TLS_CERT", "c.pem")];
    assert_eq!(
        load(Serve::default(), &environment, "").unwrap_err(),
        [
            "EVERYWIRE_AUTH_ANONYMOUS: \"maybe\" is neither \"true\" nor \"false\"",
            "a certificate needs a key, and a key a certificate: give tls.cert and tls.key",
        ]
    );
}

#[test]
fn everybody_is_let_in_only_on_loopback_or_when_it_is_said() {
    let open = |text: &str| load(Serve::default(), &[], text);
    for local in ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        assert!(open(&format!("http = \"{local}\"")).is_ok(), "{local}");
    }
    for public in ["0.0.0.0:8080", "[::]:8080", "192.0.2.1:8080"] {
        let refusals = open(&format!("http = \"{public}\"")).unwrap_err();
        assert!(refusals[0].contains(public) && refusals[0].contains("auth.anonymous = true"), "{refusals:?}");
        let said = format!("http = \"{public}\"\n[auth]\nanonymous = true");
        assert!(open(&said).is_ok());
        assert!(
            load(Serve::default(), &[("EVERYWIRE_AUTH_ANONYMOUS", "true")], &format!("http = \"{public}\"")).is_ok()
        );
    }
    for public in ["[http]\nhosts = [\"push.example.com\"]", "[auth]\norigins = [\"capacitor://localhost\"]"] {
        let refusals = open(public).unwrap_err();
        assert!(refusals[0].contains("others can") && refusals[0].contains("auth.anonymous = true"), "{refusals:?}");
        assert!(load(Serve::default(), &[("EVERYWIRE_AUTH_ANONYMOUS", "true")], public).is_ok());
        assert!(load(Serve::default(), &[("EVERYWIRE_AUTH_USERS", "true")], public).is_ok());
    }
    assert!(open("[auth]\nanonymous = false").unwrap_err()[0].contains("lets nobody in"));
    assert!(open("http = \"off\"\ntcp = \"off\"\nmqtt = \"off\"").unwrap_err()[0].contains("every listener is off"));
}

#[test]
fn the_anonymous_are_let_in_only_where_nothing_says_who_people_are() {
    let secret = "secret = \"a secret of at least thirty-two bytes\"";
    for (text, anonymous, guests) in [
        ("", Anonymous::Everything, true),
        ("[http]\nhosts = [\"localhost\", \"a.localhost\", \"127.0.0.9\", \"[::1]\"]", Anonymous::Everything, true),
        ("[auth]\norigins = [\"http://localhost:5173\", \"http://[::1]:1\"]", Anonymous::Everything, true),
        ("[auth]\nusers = false", Anonymous::Everything, true),
        ("[auth]\nguests = false", Anonymous::Everything, false),
        (&format!("[auth]\n{secret}"), Anonymous::Refused, false),
        ("[auth]\njwks = \"/k.json\"", Anonymous::Refused, false),
        ("[auth]\nusers = true", Anonymous::Refused, false),
        ("[auth]\ncallback = \"http://127.0.0.1:9\"", Anonymous::Refused, false),
        ("[auth]\nusers = true\nguests = true", Anonymous::Refused, true),
        ("[auth]\nanonymous = false\nguests = true", Anonymous::Refused, true),
        ("[auth]\nusers = true\nanonymous = true", Anonymous::Allowed, true),
        ("http = \"0.0.0.0:1\"\n[auth]\nanonymous = true", Anonymous::Everything, true),
        ("http = \"0.0.0.0:1\"\n[auth]\nguests = true", Anonymous::Refused, true),
    ] {
        let settings = load(Serve::default(), &[], text).unwrap();
        assert_eq!((settings.rules.anonymous, settings.takes_guests()), (anonymous, guests), "{text}");
        let line = super::admission::line(&settings);
        assert_eq!(line.contains("are not let in"), anonymous == Anonymous::Refused, "{text}: {line}");
    }
}

#[test]
fn where_topics_take_less_or_more_than_mqtt_announces_is_said() {
    let text = "[mqtt]\nmaximum_packet_size = \"512KiB\"\n[[topics]]\nmatch = \"big/#\"\nmax_message = \"1MiB\"\n\
                [[topics]]\nmatch = \"same/#\"\nmax_message = \"512KiB\"";
    let lines = load(Serve::default(), &[], text).unwrap().mqtt_bounds();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("\"big/#\"") && lines[0].contains("neither come nor go"), "{lines:?}");
    assert!(lines[1].contains("\"#\"") && lines[1].contains("524288") && lines[1].contains("262144"), "{lines:?}");
}

#[test]
fn tls_files_must_be_readable_and_a_public_tls_listener_counts() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let text = |listen: &str| format!("[tls]\ncert = {cert:?}\nkey = {key:?}\nlisten = \"{listen}\"");
    let refusals = load(Serve::default(), &[], &text("127.0.0.1:8443")).unwrap_err();
    assert_eq!(refusals.len(), 2);
    assert!(refusals[0].starts_with("tls.cert: ") && refusals[1].starts_with("tls.key: "), "{refusals:?}");
    for path in [&cert, &key] {
        std::fs::write(path, "x").unwrap();
    }
    assert!(load(Serve::default(), &[], &text("127.0.0.1:8443")).is_ok());
    assert!(load(Serve::default(), &[], &text("0.0.0.0:8443")).unwrap_err()[0].starts_with("https would listen"));
}

#[test]
fn a_default_beyond_its_maximum_is_refused() {
    let limits = "[limits]\nlong_poll_max = \"10s\"\npage_messages_default = 2000";
    assert_eq!(
        load(Serve::default(), &[], limits).unwrap_err(),
        [
            "limits.page_messages_default is more than limits.page_messages_max: make it less",
            "limits.long_poll_default is more than limits.long_poll_max: make it less",
        ]
    );
}

#[test]
fn listeners_to_come_are_accepted_with_a_warning() {
    let settings = load(Serve::default(), &[], "xmpp = \"127.0.0.1:5222\"").unwrap();
    assert_eq!(settings.warnings, ["xmpp is not available in this version: its listener stays off"]);
}

#[test]
fn history_that_a_new_node_can_t_have_is_warned_of() {
    let topics = "[[topics]]\nmatch = \"room/#\"\n[[topics]]\nmatch = \"few\"\nhistory = { max_age = \"30m\" }\n\
                  [[topics]]\nmatch = \"log/#\"\nhistory = { max_age = \"10d\" }\n\
                  [[topics]]\nmatch = \"live/#\"\ndurability = \"none\"\n";
    let warnings =
        |engine: &str| load(Serve::default(), &[], &format!("engine = {engine:?}\n{topics}")).unwrap().warnings;
    let said = warnings("redis://localhost");
    assert!(
        said.len() == 1 && said[0].starts_with("the history of room/#, log/# is up to 10d long, and Redis keeps 1h of")
    );
    let said = warnings("redis://localhost?window=8d");
    assert!(said.len() == 1 && said[0].starts_with("the history of log/# is up to 10d long, and Redis keeps 8d of"));
    for engine in ["redis://localhost?window=10d", "redis://localhost?window=all", "embedded"] {
        assert!(warnings(engine).is_empty(), "{engine}");
    }
    let defaults = load(Serve::default(), &[], "engine = \"redis://localhost\"").unwrap();
    assert!(defaults.warnings.is_empty(), "nothing was asked for");
}

#[test]
fn a_reload_says_what_needs_a_restart_and_takes_the_rest() {
    let mut running = load(Serve::default(), &[], "http = \"127.0.0.1:1\"").unwrap();
    let text = "http = \"127.0.0.1:2\"\nworkers = 200\n[log]\nlevel = \"debug\"\n[[topics]]\nmatch = \"a\"";
    let fresh = load(Serve::default(), &[], text).unwrap();
    assert_eq!(running.need_restart(&fresh), ["http", "workers"]);
    running.take_reloadable(fresh.clone());
    assert_eq!((&running.rules, &running.log_level), (&fresh.rules, &fresh.log_level));
    assert_eq!(running.http.unwrap().address.port(), 1);
}

#[test]
fn a_reload_shuts_nobody_out_by_what_needs_a_restart() {
    let running = load(Serve::default(), &[], "").unwrap();
    let text = "[auth]\nusers = true\nlogins = \"one-per-user\"";
    let fresh = load(Serve::default(), &[], text).unwrap();
    assert_eq!(fresh.rules.anonymous, Anonymous::Refused);
    assert_eq!(running.need_restart(&fresh), ["auth"]);
    let fresh = fresh.with_door_of(&running);
    assert_eq!((fresh.rules.anonymous, fresh.rules.logins), (Anonymous::Everything, Logins::OnePerUser));
    let only_logins = load(Serve::default(), &[], "[auth]\nlogins = \"one-per-user\"").unwrap();
    assert!(running.need_restart(&only_logins).is_empty());
}

#[test]
fn a_named_file_that_is_not_there_is_an_error() {
    let arguments = Serve { config: Some("/nowhere/f.toml".into()), ..Serve::default() };
    let complaints = Settings::load(&Layers { arguments: &arguments, variable: &|_| None }).unwrap_err();
    assert!(complaints[0].to_string().starts_with("the configuration file /nowhere/f.toml can't be read"));
}
