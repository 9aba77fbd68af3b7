//! The setups that the tests of this wire share: a pair for each name in the tables.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::AuthError;
use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::quota::{Account, Quota};
use everywire_base::reason::Reason;
use everywire_base::record::Durability;
use everywire_base::rules::{Anonymous, Rules, TopicRule};
use everywire_base::topic::Filter;
use everywire_http::{Http, HttpConfig, Service};
use everywire_wire::kit::{Bench, Pair};
use everywire_wire::{Answer, Context, Denied, Input, Progress, Then, Upgrade, UpgradeRequest, Wire};

/// A pair as the server makes it with its defaults.
pub(crate) fn plain() -> Pair {
    named("")
}

/// A pair for a setup that a golden table names.
pub(crate) fn named(name: &str) -> Pair {
    let mut config = HttpConfig {
        origins: ["https://app.example.com", "capacitor://localhost", "null"].map(Into::into).to_vec(),
        knows_anybody: true,
        ..HttpConfig::default()
    };
    match name {
        "nobody" => config.knows_anybody = false,
        "anonymous" => config.anonymous_everywhere = true,
        "named" => config.hosts.push("push.example.com".into()),
        _ => {}
    }
    let service = Service::new(config, vec![Arc::new(Toy)]);
    let make = |limits: &Limits, now: Now| -> Box<dyn Wire> { Box::new(Http::new(Arc::new(service), limits, now)) };
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
            bench.limits.unread_bytes = 500;
        }
        "remote" => bench.peer.address = ([192, 0, 2, 7], 50_000).into(),
        "tls" => bench.peer.tls = true,
        "closed" => bench.rules.anonymous = Anonymous::Refused,
        "thrifty" => {
            let quota = Quota { publishes_per_second: 2, ..Quota::default() };
            bench.account = Some(Arc::new(Account::new(quota)));
        }
        "anonymous" | "named" | "nobody" | "" => {}
        other => panic!("no setup is called {other:?}"),
    }
    let mut pair = Pair::new(bench);
    pair.node.identities = identities();
    pair
}

/// The identities by the tokens that prove them.
fn identities() -> HashMap<String, Result<Arc<Identity>, AuthError>> {
    let user = |name: &str| Ok(Arc::new(Identity::user(name)));
    let soon = UnixMillis(Bench::START.wall.0 + 5000);
    HashMap::from([
        ("alice".into(), user("alice")),
        ("alice:pw".into(), user("alice")),
        ("secret".into(), user("alice")),
        ("bob".into(), user("bob")),
        ("short".into(), Ok(Arc::new(Identity { expires: Some(soon), ..Identity::user("alice") }))),
        ("elsewhere".into(), Err(AuthError::Mismatch("the token is for another device".into()))),
        ("busy".into(), Err(AuthError::Unavailable("nobody can tell just now".into()))),
    ])
}

/// A protocol that takes over: it sends back what it gets.
struct Toy;

impl Upgrade for Toy {
    fn serves(&self, path: &str) -> bool {
        path == "/toy"
    }

    fn upgrade(&self, cx: &mut Context<'_>, request: &UpgradeRequest<'_>) -> Result<Box<dyn Wire>, Denied> {
        if request.one("upgrade") != Some("toy") {
            let fields = vec![("Upgrade", "toy")];
            return Err(Denied { status: 426, detail: "this speaks toy".into(), fields });
        }
        let name = request.identity.as_ref().and_then(|who| who.user.as_deref()).unwrap_or("nobody");
        cx.out.copy(format!("HTTP/1.1 101 Switching Protocols\r\n\r\n{name}").as_bytes());
        Ok(Box::new(Toy))
    }
}

impl Wire for Toy {
    fn read(&mut self, cx: &mut Context<'_>, input: Input<'_>) -> Progress {
        let (Input::Bytes(bytes) | Input::End(bytes)) = input;
        cx.out.copy(bytes);
        Progress { used: bytes.len(), then: Then::Open }
    }
    fn answer(&mut self, _: &mut Context<'_>, _: AskId, _: Answer) -> Then {
        Then::Open
    }
    fn push(&mut self, _: &mut Context<'_>, _: &Delivery<'_>) -> Taken {
        Taken::Yes
    }
    fn settle(&mut self, _: &mut Context<'_>) -> Then {
        Then::Open
    }
    fn deadline(&self) -> Option<Monotonic> {
        None
    }
    fn tick(&mut self, _: &mut Context<'_>) -> Then {
        Then::Open
    }
    fn farewell(&mut self, _: &mut Context<'_>, reason: &Reason) -> Then {
        Then::Closed(reason.clone())
    }
    fn holds(&self) -> usize {
        0
    }

    fn name(&self) -> &'static str {
        "toy"
    }
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
