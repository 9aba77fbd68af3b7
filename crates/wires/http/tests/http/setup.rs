//! What the tests of this wire share: pairs for each setup that the tables name.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::clock::Now;
use everywire_base::limits::Limits;
use everywire_base::record::Durability;
use everywire_base::rules::{Rules, TopicRule};
use everywire_base::topic::Filter;
use everywire_http::{Http, HttpConfig};
use everywire_wire::Wire;
use everywire_wire::kit::{Bench, Pair};

/// A pair as the server makes it with its defaults.
pub(crate) fn plain() -> Pair {
    named("")
}

/// A pair for a setup that a golden table names.
pub(crate) fn named(name: &str) -> Pair {
    let mut config = HttpConfig { origins: vec!["https://app.example.com".into()], ..HttpConfig::default() };
    match name {
        "anonymous" => config.anonymous_everywhere = true,
        "named" => config.hosts.push("push.example.com".into()),
        _ => {}
    }
    let make = |limits: &Limits, now: Now| -> Box<dyn Wire> { Box::new(Http::new(Arc::new(config), limits, now)) };
    let mut bench = Bench::new(make);
    bench.rules = rules();
    match name {
        "small" => {
            bench.limits.http_head_bytes = 200;
            bench.limits.http_body_bytes = 60;
            bench.limits.batch_messages = 2;
            bench.limits.pipelined_publishes = 2;
            bench.limits.filters_per_subscription = 2;
            bench.limits.page_bytes = 200;
            bench.limits.long_poll_max = Duration::from_secs(5);
        }
        "narrow" => {
            bench.limits.outbox_bytes = 100;
            bench.limits.page_bytes = 0;
            bench.limits.pipelined_publishes = 1;
        }
        "remote" => bench.peer.address = ([192, 0, 2, 7], 50_000).into(),
        "tls" => bench.peer.tls = true,
        "anonymous" | "named" | "" => {}
        other => panic!("no setup is called {other:?}"),
    }
    Pair::new(bench)
}

fn rules() -> Rules {
    let rule = |filter: &str| TopicRule { filter: Filter::parse(filter).unwrap(), ..TopicRule::fallback() };
    Rules::new(vec![
        TopicRule { durability: Durability::Memory, ..rule("fast/#") },
        TopicRule { publish: vec![], ..rule("closed/#") },
        TopicRule { publish: vec![everywire_base::rules::Who::User], ..rule("users/#") },
        TopicRule { max_message: 10, ..rule("short/#") },
    ])
}
