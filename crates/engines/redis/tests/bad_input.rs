//! Tests of a Redis that can't be used, or not any more: each is refused or survived with a line that says what to do.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use bytes::Bytes;
use everywire_base::cursor::Offset;
use everywire_base::record::Durability;
use everywire_log::remote::{Connect as _, Item, LogState, Refusal, Remote, RemoteError};
use everywire_log::suite::remote::genesis;
use everywire_redis::{Address, Redis};
use everywire_tests::{Redis as Server, SYNCED, until};

fn connect(url: &str) -> Box<dyn Remote> {
    Redis::new(Address::parse(url).expect("an address"), false).connect()
}

fn open(url: &str) -> Result<LogState, RemoteError> {
    connect(url).open(Some(&genesis(1)))
}

/// The line of a refusal that stays until somebody acts.
fn line(result: Result<LogState, RemoteError>) -> String {
    match result {
        Err(RemoteError::Refused(Refusal::Unusable(line))) => line.into(),
        other => panic!("not refused: {other:?}"),
    }
}

/// A certificate for 127.0.0.1 and its key, of an authority of its own.
fn certificate(home: &std::path::Path) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("a certificate");
    [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())].map(|(name, pem)| {
        let path = home.join(name);
        std::fs::write(&path, pem).expect("a file");
        path.display().to_string()
    })
}

#[test]
fn certificates() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let [cert, key] = certificate(home.path());
    let tls_port = everywire_tests::free_port().to_string();
    let files = ["--tls-port", &tls_port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-auth-clients", "no"];
    let server = Server::with(&files);
    let url = |scheme: &str, rest: &str| format!("{scheme}://127.0.0.1:{tls_port}{rest}");
    assert!(open(&url("rediss", &format!("?ca={cert}"))).is_ok());
    let Err(RemoteError::Cut(line)) = open(&url("rediss", "")) else { panic!("an unknown authority was believed") };
    assert!(line.contains("certificate") && line.contains("?ca=FILE"), "{line}");
    assert!(open(&url("redis", "")).is_err(), "TLS isn't plain");
    let plain = open(&format!("rediss://127.0.0.1:{}?ca={cert}", server.port()));
    assert!(plain.is_err(), "nor is plain TLS");
    let missing = open(&url("rediss", "?ca=/nowhere.pem"));
    let Err(RemoteError::Refused(Refusal::Unusable(line))) = missing else { panic!("{missing:?}") };
    assert!(line.contains("/nowhere.pem can't be read"), "{line}");
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[test]
fn nobody_is_there() {
    let server = Server::start();
    let url = server.url();
    drop(server);
    let Err(RemoteError::Cut(line)) = open(&url) else { panic!("something was there") };
    assert!(line.contains("127.0.0.1:") && line.contains("refused"), "{line}");
}

#[test]
fn something_else_listens_there() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut bytes = [0; 1000];
            let _ = stream.read(&mut bytes);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    assert!(line(open(&format!("redis://127.0.0.1:{port}"))).contains("another protocol than Redis"));
}

#[test]
fn passwords() {
    let server = Server::with(&["--requirepass", "right"]);
    let with = |login: &str| format!("redis://{login}127.0.0.1:{}", server.port());
    assert!(line(open(&with(""))).contains("wants a password"));
    let refused = line(open(&with(":wrong@")));
    assert!(refused.contains("refuses") && !refused.contains("wrong@"), "{refused}");
    assert!(open(&with(":right@")).is_ok());
    assert!(open(&with("default:right@")).is_ok());
}

#[test]
fn a_user_with_too_few_rights_is_told_which() {
    let server = Server::start();
    server.ask("ACL SETUSER ann on >pw ~* +@all -info");
    server.ask("ACL SETUSER bob on >pw ~{everywire}* +@read +@write +evalsha +script|load +info +time");
    let refused = line(open(&format!("redis://ann:pw@127.0.0.1:{}", server.port())));
    assert!(refused.contains("info") && refused.contains("docs/scale.md"), "{refused}");
    // The address gives the setting that can't be asked without CONFIG.
    let url = format!("redis://bob:pw@127.0.0.1:{}?synced=true", server.port());
    let mut bob = connect(&url);
    let state = bob.open(Some(&genesis(1))).expect("opened");
    assert_eq!(bob.append(state.life().expect("a life"), &[text("a")]), Ok(Durability::Fsync));
}

#[test]
fn a_replica_is_no_master() {
    let (master, replica) = (Server::start(), Server::start());
    open(&master.url()).expect("opened");
    replica.follow(&master);
    let Err(RemoteError::Cut(line)) = connect(&replica.url()).open(None) else { panic!("a replica took it") };
    assert!(line.contains("name the master"), "{line}");
}

#[test]
fn other_people_s_data_stays_as_it_is() {
    let server = Server::start();
    server.ask("SET {everywire}log theirs");
    assert!(line(open(&server.url())).contains("another program's data"));
    server.ask("SET {other}s theirs");
    let refused = open(&(server.url() + "?prefix=other"));
    assert_eq!(refused, Err(RemoteError::Refused(Refusal::NoLog)));
    assert_eq!((server.ask("GET {everywire}log"), server.ask("GET {other}s")), ("theirs".into(), "theirs".into()));
    assert!(open(&(server.url() + "?prefix=own")).is_ok());
    assert!(open(&(server.url() + "/3")).is_ok(), "another database is another place");
}

#[test]
fn a_later_version_s_log_is_left_alone() {
    let server = Server::start();
    open(&server.url()).expect("opened");
    server.ask("HSET {everywire}log format 2");
    let refused = line(open(&server.url()));
    assert!(refused.contains("format 2") && refused.contains("newer version"), "{refused}");
}

#[test]
fn who_else_writes_into_the_stream_is_noticed() {
    let server = Server::start();
    let mut remote = connect(&server.url());
    let state = remote.open(Some(&genesis(1))).expect("opened");
    server.ask("XADD {everywire}s * name value");
    let Err(RemoteError::Refused(Refusal::Unusable(line))) = remote.append(state.life().expect("a life"), &[text("a")])
    else {
        panic!("it was taken")
    };
    assert!(line.contains("somebody else writes"), "{line}");
    let read = remote.read(state.head, 1000, Duration::ZERO);
    assert!(matches!(read, Err(RemoteError::Refused(Refusal::Unusable(_)))), "{read:?}");
}

#[test]
fn a_redis_that_throws_away_what_it_likes_is_refused() {
    let server = Server::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let refused = line(open(&server.url()));
    assert!(refused.contains("allkeys-lru") && refused.contains("noeviction"), "{refused}");
    server.ask("CONFIG SET maxmemory-policy noeviction");
    assert!(open(&server.url()).is_ok());
}

#[test]
fn a_full_redis_takes_nothing_until_it_has_room() {
    let server = Server::start();
    let mut remote = connect(&server.url());
    let state = remote.open(Some(&genesis(1))).expect("opened");
    let life = state.life().expect("a life");
    remote.append(life, &[text("before")]).expect("appended");
    server.ask("CONFIG SET maxmemory 1mb");
    let refused = remote.append(life, &[text("while")]);
    let Err(RemoteError::Refused(Refusal::Full(why))) = &refused else { panic!("{refused:?}") };
    assert!(why.contains("maxmemory"), "{why}");
    let state = remote.open(None).expect("it can still be opened");
    assert_eq!(state.life(), Some(life));
    server.ask("CONFIG SET maxmemory 0");
    remote.append(life, &[text("after")]).expect("appended");
    assert_eq!(bodies(&mut *remote, Offset::BEGINNING), ["before", "after"]);
}

#[test]
fn its_memory_and_its_bound_are_told() {
    let server = Server::start();
    let mut remote = connect(&server.url());
    let state = remote.open(Some(&genesis(1))).expect("opened");
    let memory = remote.memory().expect("asked").expect("it tells");
    assert!(memory.used > 100_000 && memory.limit == 0, "{memory:?}");
    server.ask("CONFIG SET maxmemory 50mb");
    remote.append(state.life().expect("a life"), &[Bytes::from(vec![b'x'; 500_000])]).expect("appended");
    let grown = remote.memory().expect("asked").expect("it tells");
    assert!(grown.used >= memory.used + 500_000 && grown.limit == 50 << 20, "{memory:?} {grown:?}");
    assert!(memory.log < 100_000 && grown.log >= 500_000, "{memory:?} {grown:?}");
}

#[test]
fn a_flushed_redis_is_no_empty_log() {
    let server = Server::start();
    let mut remote = connect(&server.url());
    let state = remote.open(Some(&genesis(1))).expect("opened");
    server.ask("FLUSHALL");
    let gone = Err(RemoteError::Refused(Refusal::NoLog));
    assert_eq!(remote.append(state.life().expect("a life"), &[text("a")]), gone);
    assert_eq!(remote.open(None).map(drop), gone.map(drop));
    let read = remote.read(state.head, 1000, Duration::ZERO).map(drop);
    assert_eq!(read, Err(RemoteError::Refused(Refusal::NoLog)));
    assert_eq!(server.ask("EXISTS {everywire}log"), "0", "nothing was made in silence");
}

#[test]
fn a_promoted_replica_without_the_log_is_no_empty_redis() {
    let (master, replica) = (Server::start(), Server::start());
    replica.follow(&master);
    replica.ask("REPLICAOF NO ONE");
    assert_eq!(open(&replica.url()), Err(RemoteError::Refused(Refusal::NoLog)));
    let address = Address::parse(&replica.url()).expect("an address");
    let mut anew = Redis::new(address, true).connect();
    assert!(anew.open(Some(&genesis(1))).is_ok(), "unless somebody says so");
}

#[test]
fn a_forgotten_script_is_brought_again() {
    let server = Server::start();
    let mut remote = connect(&server.url());
    let state = remote.open(Some(&genesis(1))).expect("opened");
    server.ask("SCRIPT FLUSH");
    let life = state.life().expect("a life");
    assert!(matches!(remote.append(life, &[text("a")]), Err(RemoteError::Cut(_))), "nothing was done");
    remote.open(None).expect("opened");
    remote.append(life, &[text("a")]).expect("appended");
    assert_eq!(bodies(&mut *remote, Offset::BEGINNING), ["a"]);
}

#[test]
fn answers_say_what_the_settings_promise_while_they_change() {
    let (master, replica) = (Server::with(SYNCED), Server::start());
    let mut remote = connect(&(master.url() + "?wait=1&wait_timeout=2s"));
    let state = remote.open(Some(&genesis(1))).expect("opened");
    let life = state.life().expect("a life");
    assert_eq!(remote.append(life, &[text("a")]), Ok(Durability::Fsync), "there is no replica yet");
    replica.follow(&master);
    let mut promised = |wanted, what: &str| until(what, || remote.append(life, &[text("b")]) == Ok(wanted));
    promised(Durability::Replicated, "a replica has it");
    replica.ask("REPLICAOF NO ONE");
    promised(Durability::Fsync, "it is seen that no replica has it");
    master.ask("CONFIG SET appendfsync everysec");
    promised(Durability::Memory, "it is seen that nothing is synced any more");
}

#[test]
fn what_too_few_replicas_have_is_held_if_that_is_wanted() {
    let master = Server::start();
    let mut remote = connect(&(master.url() + "?wait=1&wait_timeout=10ms&too_few=hold"));
    let state = remote.open(Some(&genesis(1))).expect("opened");
    let held = remote.append(state.life().expect("a life"), &[text("a")]);
    let Err(RemoteError::Unknown(line)) = &held else { panic!("{held:?}") };
    assert!(line.contains("0 of 1 replicas"), "{line}");
}

#[test]
fn a_lost_tail_is_a_fork_that_offsets_leave_behind() {
    let (old, new) = (Server::start(), Server::start());
    let mut remote = connect(&old.url());
    let state = remote.open(Some(&genesis(1))).expect("opened");
    let life = state.life().expect("a life");
    remote.append(life, &[text("kept")]).expect("appended");
    new.follow(&old);
    new.ask("REPLICAOF NO ONE");
    remote.append(life, &[text("lost")]).expect("appended");
    let lost = remote.open(None).expect("opened").head;
    let mut other = connect(&new.url());
    let after = other.open(None).expect("opened");
    let fork = after.epochs[1].parent.expect("a parent").1;
    assert!(fork < lost && after.epochs[1].begin.0 > lost.0 + 1000, "{after:?}");
    assert_eq!(other.append(life, &[text("late")]), Err(RemoteError::Refused(Refusal::Moved)));
    other.append(after.life().expect("a life"), &[text("new")]).expect("appended");
    assert_eq!(bodies(&mut *other, Offset::BEGINNING), ["kept", "new"]);
    // A reader of the records that were lost gets the fork.
    let batch = other.read(lost, usize::MAX, Duration::ZERO).expect("read");
    assert_eq!(batch.items[0], Item::Epoch(after.epochs[1].clone()));
    // The old master comes back as one that doesn't know the new epoch.
    let back = remote.append(after.life().expect("a life"), &[text("late")]);
    assert_eq!(back, Err(RemoteError::Refused(Refusal::Moved)));
    assert_eq!(remote.open(None).expect("opened").epochs.len(), 2, "it has begun an epoch of its own");
}

fn bodies(remote: &mut dyn Remote, after: Offset) -> Vec<String> {
    let batch = remote.read(after, usize::MAX, Duration::ZERO).expect("read");
    let body = |item| match item {
        Item::Record(raw) => Some(String::from_utf8(raw.stored.to_vec()).expect("a text")),
        Item::Epoch(_) => None,
    };
    batch.items.into_iter().filter_map(body).collect()
}
