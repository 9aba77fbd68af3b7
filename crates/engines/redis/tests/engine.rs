//! The engines' suite on a follower of a real Redis: alone, found by a Sentinel, and as a cluster of one.

use std::sync::Arc;

use everywire_base::limits::Limits;
use everywire_log::engine::{Bell, Engine};
use everywire_log::suite::following::Following;
use everywire_log::suite::{Subject, run};
use everywire_redis::{Address, Redis};
use everywire_tests::{Redis as Server, SYNCED};

struct OnRedis {
    following: Following,
    _servers: Vec<Server>,
}

impl OnRedis {
    fn new(servers: Vec<Server>, url: &str) -> Self {
        let redis = Redis::new(Address::parse(url).expect("an address"), false);
        Self { following: Following::of(Arc::new(redis)), _servers: servers }
    }
}

impl Subject for OnRedis {
    fn open(&self, limits: &Limits, bell: Arc<dyn Bell>) -> Arc<dyn Engine> {
        self.following.open(limits, bell)
    }

    fn is_durable(&self) -> bool {
        self.following.is_durable()
    }

    fn follows_bell(&self) -> bool {
        self.following.follows_bell()
    }
}

#[test]
fn alone() {
    run(&|| {
        let server = Server::with(SYNCED);
        let url = server.url();
        Box::new(OnRedis::new(vec![server], &url))
    });
}

#[test]
fn with_a_sentinel() {
    run(&|| {
        let server = Server::with(SYNCED);
        let sentinel = Server::sentinel(&server, 60_000);
        let url = format!("redis-sentinel://127.0.0.1:{}/main", sentinel.port());
        Box::new(OnRedis::new(vec![server, sentinel], &url))
    });
}

#[test]
fn as_a_cluster_of_one() {
    run(&|| {
        let server = Server::cluster(SYNCED);
        let url = format!("redis-cluster://127.0.0.1:{}", server.port());
        Box::new(OnRedis::new(vec![server], &url))
    });
}
