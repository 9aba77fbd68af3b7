//! The suite of remote engines on a real Redis: alone, found by a Sentinel, and as a cluster of one.

use bytes::Bytes;
use everywire_base::record::Durability;
use everywire_log::remote::{Connect as _, Remote};
use everywire_log::suite::remote::{RemoteSubject, genesis, run};
use everywire_redis::{Address, Redis};
use everywire_tests::{Redis as Server, SYNCED, until};

struct Subject {
    server: Server,
    /// The sentinel that is asked for the master.
    _sentinel: Option<Server>,
    url: String,
}

impl RemoteSubject for Subject {
    fn connect(&self) -> Box<dyn Remote> {
        Redis::new(Address::parse(&self.url).expect("an address"), false).connect()
    }

    fn restart(&self) {
        self.server.kill();
        self.server.start_again();
    }

    fn fences_lives(&self) -> bool {
        true
    }
}

#[test]
fn alone() {
    run(&|| {
        let server = Server::with(SYNCED);
        Box::new(Subject { url: server.url(), server, _sentinel: None })
    });
}

#[test]
fn with_a_sentinel() {
    run(&|| {
        let server = Server::with(SYNCED);
        // The sentinel stays with the master, which is back before that time.
        let sentinel = Server::sentinel(&server, 60_000);
        let url = format!("redis-sentinel://127.0.0.1:{}/main?prefix=of:a/service", sentinel.port());
        Box::new(Subject { server, _sentinel: Some(sentinel), url })
    });
}

#[test]
fn as_a_cluster_of_one() {
    run(&|| {
        let server = Server::cluster(SYNCED);
        let url = format!("redis-cluster://127.0.0.1:{}", server.port());
        Box::new(Subject { server, _sentinel: None, url })
    });
}

#[test]
fn sentinels_lead_to_the_new_master_and_what_replicas_had_is_there() {
    let (master, replica) = (Server::start(), Server::start());
    replica.follow(&master);
    let sentinel = Server::sentinel(&master, 500);
    until("the sentinel knows the replica", || sentinel.ask("SENTINEL replicas main").contains("slave"));
    // A sentinel that is away is skipped.
    let url = format!("redis-sentinel://127.0.0.1:1,127.0.0.1:{}/main?wait=1", sentinel.port());
    let mut remote = Redis::new(Address::parse(&url).expect("an address"), false).connect();
    let before = remote.open(Some(&genesis(1))).expect("opened");
    let life = before.life().expect("a life");
    assert_eq!(remote.append(life, &[Bytes::from_static(b"a")]), Ok(Durability::Replicated));
    let head = remote.open(None).expect("opened").head;
    master.kill();
    let mut after = None;
    until("the replica serves the log", || {
        after = remote.open(None).ok();
        after.is_some()
    });
    let after = after.expect("opened");
    assert_eq!(after.epochs[1].parent, Some((life.epoch, head)), "nothing was lost");
    assert_eq!(remote.append(after.life().expect("a life"), &[]), Ok(Durability::Memory));
}
