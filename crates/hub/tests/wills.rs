//! Wills: the right to publish when they fire, their cost while they wait, and their number.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod pair;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Login, Will};
use everywire_base::id::AskId;
use everywire_base::identity::Identity;
use everywire_base::limits::Limits;
use everywire_base::notice::Refused;
use everywire_base::publish;
use everywire_base::record::{Durability, Message};
use everywire_base::rules::{Rules, TopicRule, Who};
use everywire_base::topic::{Filter, Topic};
use everywire_hub::Origin;

use pair::{EXPIRY, ORIGIN, World, named, slot, user, world};

const SECOND: Duration = Duration::from_secs(1);

/// A client of a name that comes with a will.
struct Leaver {
    worker: usize,
    index: u32,
    name: &'static str,
    identity: Option<Arc<Identity>>,
    delay: Duration,
    body: &'static str,
}

const LEAVER: Leaver = Leaver { worker: 0, index: 1, name: "me", identity: None, delay: Duration::ZERO, body: "gone" };

fn enter(world: &mut World, leaver: &Leaver) {
    let message = Message::new(Topic::parse("will").unwrap(), leaver.body);
    let durability = Durability::Fsync;
    let will = Some(Box::new(Will { message, durability, ttl: None, delay: leaver.delay }));
    let session = named(leaver.name, EXPIRY, false, 10);
    let login = Login { identity: leaver.identity.clone(), session, will, ..Login::default() };
    world.hubs[leaver.worker].login(slot(leaver.index), AskId(1), login, world.now);
    world.settle();
    world.clients[leaver.worker].welcomes.remove(&(leaver.index, 1)).unwrap().unwrap();
}

fn published(world: &World) -> Vec<String> {
    let wills = world.records.iter().filter_map(|r| r.message()).filter(|m| m.topic.as_str() == "will");
    wills.map(|m| String::from_utf8(m.body.to_vec()).unwrap()).collect()
}

fn left(world: &World) -> usize {
    world.retained.keys().filter(|topic| topic.as_str().starts_with("$wills/")).count()
}

/// Forbids publishing there without an identity.
fn forbid(world: &mut World) {
    let rule = TopicRule { filter: Filter::parse("will").unwrap(), publish: vec![Who::User], ..TopicRule::fallback() };
    let rules = Arc::new(Rules::new(vec![rule]));
    world.hubs.iter_mut().for_each(|hub| hub.set_rules(Arc::clone(&rules)));
}

#[test]
fn a_will_is_judged_when_it_fires() {
    for (identity, is_restarted, expected) in
        [(None, false, 0), (None, true, 0), (user("ann"), false, 1), (user("ann"), true, 1)]
    {
        let mut world = world();
        enter(&mut world, &Leaver { identity: identity.clone(), delay: 10 * SECOND, ..LEAVER });
        if is_restarted {
            world.kill();
            world.start();
            forbid(&mut world);
            world.hubs[0].adopt_wills();
            world.settle();
        } else {
            world.close(0, 1);
            forbid(&mut world);
        }
        world.pass(20 * SECOND);
        assert_eq!(published(&world).len(), expected, "{identity:?}, restarted: {is_restarted}");
        assert_eq!(left(&world), 0, "nothing is left of it");
        let refused = world.hubs[0].notices().drain(..).filter(|(_, notice)| notice.refused == Refused::Will).count();
        assert_eq!(refused, 1 - expected, "operators are told");
    }
}

#[test]
fn a_will_that_the_log_refuses_is_tried_again() {
    let mut world = world();
    enter(&mut world, &LEAVER);
    world.takes = false;
    world.close(0, 1);
    assert!(published(&world).is_empty(), "the log takes nothing");
    world.takes = true;
    world.pass(20 * SECOND);
    assert_eq!((published(&world), left(&world)), (vec!["gone".to_owned()], 0), "once, and nothing is left of it");
}

#[test]
fn what_a_token_grants_is_known_after_a_restart() {
    for (granted, expected) in [("other", 0), ("will", 1)] {
        let mut world = world();
        let publish = Some(vec![Filter::parse(granted).unwrap()]);
        let identity = Some(Arc::new(Identity { publish, ..Identity::user("ann") }));
        enter(&mut world, &Leaver { identity, delay: SECOND, ..LEAVER });
        world.kill();
        world.start();
        world.hubs[0].adopt_wills();
        world.settle();
        world.pass(20 * SECOND);
        assert_eq!(published(&world).len(), expected, "its token lets it publish to {granted}");
    }
}

#[test]
fn no_client_can_use_the_key_of_a_will() {
    let mut world = world();
    enter(&mut world, &LEAVER);
    world.close(0, 1);
    let record = world.records.iter().find(|r| r.entry().unwrap().topic().as_str() == "will").unwrap();
    let key = record.message().unwrap().key.clone().unwrap();
    assert!(publish::check_name(&key, "key").is_err(), "{key:?} is a client's too");
}

#[test]
fn a_take_over_publishes_the_will_of_the_loser_though_the_winner_has_left_another() {
    for worker in [0, 1] {
        let mut world = world();
        enter(&mut world, &Leaver { body: "first", ..LEAVER });
        world.clients[0].reads_on = true;
        enter_later(&mut world, &Leaver { worker, index: 2, body: "second", ..LEAVER });
        world.hubs[0].close(slot(1), ORIGIN, world.now);
        world.settle();
        assert_eq!(published(&world), ["first"]);
        assert_eq!(left(&world), 1, "the winner's");
        world.close(worker, 2);
        assert_eq!(published(&world), ["first", "second"]);
    }
}

/// Lets a client come with a will while the former owner of its session is still being read.
fn enter_later(world: &mut World, leaver: &Leaver) {
    let (message, durability) = (Message::new(Topic::parse("will").unwrap(), leaver.body), Durability::Fsync);
    let will = Some(Box::new(Will { message, durability, ttl: None, delay: leaver.delay }));
    let login = Login { session: named(leaver.name, EXPIRY, false, 10), will, ..Login::default() };
    world.hubs[leaver.worker].login(slot(leaver.index), AskId(1), login, world.now);
    world.settle();
    world.pass(SECOND);
    world.clients[leaver.worker].welcomes.remove(&(leaver.index, 1)).unwrap().unwrap();
}

#[test]
fn one_more_than_may_wait_is_published_at_once() {
    let names = ["a", "b", "c", "d", "e"];
    let limits = Limits { wills: 3, wills_each: 2, ..Limits::default() };
    let mut world = World::new(&Rules::default(), limits);
    for (index, name) in (1..).zip(names) {
        enter(&mut world, &Leaver { index, name, body: name, delay: 10 * SECOND, ..LEAVER });
    }
    let from = |address: &str| Origin { wire: "test", address: SocketAddr::new(address.parse::<IpAddr>().unwrap(), 1) };
    let left = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:1::1", "192.0.2.1"];
    for (index, address) in (1..).zip(left) {
        world.hubs[0].close(slot(index), from(address), world.now);
        world.settle();
    }
    assert_eq!(published(&world), ["c", "e"], "one network has two, and all have three");
    world.pass(20 * SECOND);
    assert_eq!(published(&world).len(), 5);
    // The wills that waited have left their places.
    enter(&mut world, &Leaver { index: 9, name: "f", body: "f", delay: 10 * SECOND, ..LEAVER });
    world.hubs[0].close(slot(9), from("2001:db8::1"), world.now);
    world.settle();
    assert_eq!(published(&world).len(), 5);
}
