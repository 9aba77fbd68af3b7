//! Pairs for each setup that the tests name.

use std::collections::HashMap;
use std::sync::Arc;

use everywire_base::ask::AuthError;
use everywire_base::clock::UnixMillis;
use everywire_base::identity::Identity;
use everywire_base::quota::{Account, Quota};
use everywire_base::rules::{Anonymous, Rules, TopicRule, Who};
use everywire_base::topic::Filter;
use everywire_native::{Native, NativeTcp};
use everywire_wire::kit::{Bench, Pair};

use crate::lines::Lines;

/// A pair that speaks JSON in lines.
pub(crate) fn json(name: &str) -> Pair {
    let upgraded = (name == "upgraded").then(|| Arc::new(Identity::user("ann")));
    furnish(name, Bench::new(|_, _| Box::new(Lines::new(Native::json(upgraded, None)))))
}

/// A pair that speaks protobuf on TCP.
pub(crate) fn tcp() -> Pair {
    furnish("", Bench::new(|limits, now| Box::new(NativeTcp::new(limits, now))))
}

fn furnish(name: &str, mut bench: Bench) -> Pair {
    let rule = |filter: &str| TopicRule { filter: Filter::parse(filter).unwrap(), ..TopicRule::fallback() };
    bench.rules = Rules::new(vec![
        TopicRule { publish: vec![], subscribe: vec![], ..rule("closed/#") },
        TopicRule { publish: vec![Who::User], ..rule("users/#") },
        TopicRule { max_message: 10, ..rule("short/#") },
    ]);
    match name {
        "closed" => bench.rules.anonymous = Anonymous::Refused,
        "narrow" => bench.limits.pipelined_asks = 1,
        "thrifty" => {
            let quota = Quota { publishes_per_second: 1, ..Quota::default() };
            bench.account = Some(Arc::new(Account::new(quota)));
        }
        "" | "upgraded" => {}
        other => panic!("no setup is called {other:?}"),
    }
    let mut pair = Pair::new(bench);
    let user = |name: &str| Ok(Arc::new(Identity::user(name)));
    let soon = UnixMillis(Bench::START.wall.0 + 5000);
    pair.node.identities = HashMap::from([
        ("ann".into(), user("ann")),
        ("bob".into(), user("bob")),
        ("short".into(), Ok(Arc::new(Identity { expires: Some(soon), ..Identity::user("ann") }))),
        ("elsewhere".into(), Err(AuthError::Mismatch("the token is for another device".into()))),
        ("busy".into(), Err(AuthError::Unavailable("nobody can tell just now".into()))),
    ]);
    pair
}
