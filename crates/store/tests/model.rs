//! The store against a plain list of all messages that were ever published: random publishes, readers, rules, crashes.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Forgetful, Open, World, message};
use everywire_base::clock::UnixMillis;
use everywire_base::record::Durability;
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::topic::{Filter, Topic};
use everywire_store::FjallTables;
use proptest::prelude::*;

const TOPICS: [&str; 6] = ["a/1", "a/2", "b/1", "b", "n/1", "user/x"];
const FILTERS: [&[&str]; 9] = [
    &["a/1"],
    &["a/1", "a/2"],
    &["b", "n/1"],
    &["n/1"],
    &["#"],
    &["a/+"],
    &["b/#", "user/x"],
    &["n/+"],
    &["user/+", "a/2"],
];
const MAX_AGE: Duration = Duration::from_mins(1);

#[derive(Clone, Debug)]
enum Step {
    Publish { topic: usize, size: usize, ttl: Option<u64>, retain: bool, count: usize },
    Pass(u64),
    Read { filters: usize, after: u64, since: u64, max_records: usize },
    Rules { max_messages: u64, max_bytes: u64 },
    Restart { close: bool, forget: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let publish = (
        0..TOPICS.len(),
        0usize..20,
        proptest::option::weighted(0.2, 1u64..20_000),
        prop::bool::weighted(0.1),
        1usize..150,
    );
    prop_oneof![
        8 => publish.prop_map(|(topic, size, ttl, retain, count)| Step::Publish { topic, size, ttl, retain, count }),
        3 => (0u64..20_000).prop_map(Step::Pass),
        6 => (0..FILTERS.len(), 0u64..800, 0u64..300, 1usize..50)
            .prop_map(|(filters, after, since, max_records)| Step::Read { filters, after, since, max_records }),
        1 => (1u64..300, 1u64..3000).prop_map(|(max_messages, max_bytes)| Step::Rules { max_messages, max_bytes }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(close, forget)| Step::Restart { close, forget }),
    ]
}

fn rules(max_messages: u64, max_bytes: u64) -> Rules {
    let rule =
        |filter: &str, history| TopicRule { filter: Filter::parse(filter).unwrap(), history, ..TopicRule::fallback() };
    let none = TopicRule { durability: Durability::None, ..rule("n/#", History::default()) };
    Rules::new(vec![none, rule("#", History { max_age: MAX_AGE, max_messages, max_bytes })])
}

struct Told {
    offset: u64,
    time: u64,
    size: u64,
    expires: Option<UnixMillis>,
    /// Whether a crash may have made the store forget that the message was lost.
    vague: bool,
}

struct Model {
    topics: BTreeMap<&'static str, Vec<Told>>,
    /// The offset up to which nothing is kept, by topic.
    floors: BTreeMap<&'static str, u64>,
    retained: BTreeMap<&'static str, (u64, Option<UnixMillis>)>,
    bounds: (u64, u64),
}

impl Model {
    fn trim(&mut self) {
        for (topic, told) in &self.topics {
            let floor = self.floors.entry(topic).or_default();
            let (mut count, mut bytes) = (0, 0);
            for message in told.iter().rev() {
                count += 1;
                bytes += message.size;
                if topic.starts_with("n/") || count > self.bounds.0 || bytes > self.bounds.1 {
                    *floor = message.offset.max(*floor);
                    break;
                }
            }
        }
    }

    /// The messages that a reader gets; the highest certain loss; the highest loss that may be reported.
    fn read(&self, filters: &[&str], after: u64, since: u64, now: UnixMillis) -> (Vec<u64>, u64, u64) {
        let filters: Vec<_> = filters.iter().map(|f| Filter::parse(f).unwrap()).collect();
        let (mut offsets, mut certain, mut possible) = (Vec::new(), 0, 0);
        for (name, told) in &self.topics {
            let topic = Topic::parse(name).unwrap();
            if !filters.iter().any(|f| f.matches(&topic)) {
                continue;
            }
            for message in told.iter().filter(|m| m.offset > after.max(since)) {
                let is_expired = message.expires.is_some_and(|at| at <= now);
                let is_old = message.time + MAX_AGE.as_millis() as u64 <= now.0 && !name.starts_with("n/");
                if message.offset > self.floors[name] && !is_old {
                    offsets.extend((!is_expired).then_some(message.offset));
                } else {
                    possible = possible.max(message.offset);
                    certain = if is_expired || message.vague { certain } else { certain.max(message.offset) };
                }
            }
        }
        offsets.sort_unstable();
        (offsets, certain, possible)
    }
}

fn run(open: Open, forget: &dyn Fn(), steps: Vec<Step>) {
    let mut world = World::new(open, rules(20, 1 << 20));
    let mut model = Model {
        topics: TOPICS.iter().map(|t| (*t, Vec::new())).collect(),
        floors: TOPICS.iter().map(|t| (*t, 0)).collect(),
        retained: BTreeMap::new(),
        bounds: (20, 1 << 20),
    };
    for step in steps {
        apply(&mut world, &mut model, forget, &step);
    }
    check_all(&world, &model);
}

fn apply(world: &mut World, model: &mut Model, forget: &dyn Fn(), step: &Step) {
    match *step {
        Step::Publish { topic, size, ttl, retain, count } => {
            for n in 0..count {
                publish(
                    world,
                    model,
                    TOPICS[(topic + n * n / 7) % TOPICS.len()],
                    size + n % 3,
                    ttl,
                    retain && n % 9 == 0,
                );
            }
            world.settle();
        }
        Step::Pass(millis) => world.pass(millis),
        Step::Read { filters, after, since, max_records } => {
            check(world, model, FILTERS[filters], after, since, max_records);
        }
        Step::Rules { max_messages, max_bytes } => {
            model.bounds = (max_messages, max_bytes);
            model.trim();
            world.set_rules(rules(max_messages, max_bytes));
            check_all(world, model);
            world.settle();
        }
        Step::Restart { close, forget: lose } => {
            if !close {
                let passed = model.topics.get_mut("n/1").unwrap();
                for message in passed {
                    message.vague = true;
                }
                if lose {
                    forget();
                }
            }
            world.restart(close);
            check_all(world, model);
        }
    }
}

fn publish(world: &mut World, model: &mut Model, name: &'static str, size: usize, ttl: Option<u64>, retain: bool) {
    let passes = name.starts_with("n/");
    let retain = retain && !passes;
    let mut m = message(name, &"x".repeat(size));
    m.retain = retain;
    m.expires = ttl.map(|ttl| UnixMillis(world.now.0 + ttl));
    let expires = m.expires;
    let offset = world.append(m, if passes { Durability::None } else { Durability::Fsync }).0;
    if retain && size > 0 {
        model.retained.insert(name, (offset, expires));
    } else if retain {
        model.retained.remove(name);
    }
    let told = Told { offset, time: world.now.0, size: size as u64, expires, vague: false };
    model.topics.get_mut(name).unwrap().push(told);
    model.trim();
}

fn check_all(world: &World, model: &Model) {
    for filters in FILTERS {
        check(world, model, filters, 0, 0, 100);
        let filter_set: Vec<_> = filters.iter().map(|f| Filter::parse(f).unwrap()).collect();
        let matching = |name: &str| filter_set.iter().any(|f| f.matches(&Topic::parse(name).unwrap()));
        let mut retained: Vec<u64> = model
            .retained
            .iter()
            .filter(|(name, (_, expires))| matching(name) && expires.is_none_or(|at| at > world.now))
            .map(|(_, (offset, _))| *offset)
            .collect();
        retained.sort_unstable();
        assert_eq!(world.retained(filters), retained, "{filters:?}");
    }
}

fn check(world: &World, model: &Model, filters: &[&str], after: u64, since: u64, max_records: usize) {
    let interests: Vec<_> = filters.iter().map(|f| (*f, since)).collect();
    let (offsets, lost) = world.all(&interests, after, max_records);
    let (expected, certain, possible) = model.read(filters, after, since, world.now);
    assert_eq!(offsets, expected, "{filters:?} after {after} since {since}");
    assert!(lost >= certain, "{filters:?} after {after}: lost {certain}, told {lost}");
    assert!(lost <= possible, "{filters:?} after {after}: at most {possible} was lost, told {lost}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn the_store_in_memory_is_as_the_model(steps in proptest::collection::vec(step(), 1..30)) {
        let tables = Forgetful::default();
        let kept = tables.clone();
        run(Box::new(move || Box::new(tables.clone())), &|| kept.forget(), steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn the_store_on_the_disk_is_as_the_model(steps in proptest::collection::vec(step(), 1..30)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        run(Box::new(move || Box::new(FjallTables::open(&path).unwrap())), &|| {}, steps);
    }
}
