//! Shared subscriptions (MQTT-5.0 §4.8.2), on two workers.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod pair;

use std::collections::BTreeMap;
use std::time::Duration;

use everywire_base::ask::{Ack, Subscribe, Unsubscribe};
use everywire_base::id::AskId;
use everywire_base::terms::Terms;
use everywire_base::topic::Filter;

use pair::{EXPIRY, World, named, slot, world};

/// A member: its worker, its place, and the name of its session.
type Who = (usize, u32, &'static str);

const MEMBERS: [Who; 3] = [(0, 1, "one"), (0, 2, "two"), (1, 3, "three")];

fn shared(qos: u8) -> Subscribe {
    let terms = Terms { qos, ..Terms::default() };
    Subscribe { terms, group: Some("g".into()), ..Subscribe::to([Filter::parse("a/#").unwrap()]) }
}

fn join(world: &mut World, (worker, index, name): Who, expiry: Duration, window: u16) {
    world.enter(worker, index, named(name, expiry, false, window));
    assert!(world.subscribe_on(worker, index, &shared(1)).refused.is_empty());
}

fn publish(world: &mut World, numbers: std::ops::Range<u32>) {
    for n in numbers {
        world.publish("a/b", &n.to_string());
    }
}

/// What each has got, and how often each message came.
fn count(world: &mut World, members: &[Who]) -> (BTreeMap<u32, usize>, Vec<usize>) {
    let mut got = BTreeMap::new();
    for (worker, index, _) in members {
        for (body, tag) in world.tagged(*worker, *index) {
            *got.entry(body.parse().unwrap()).or_insert(0) += 1;
            world.tell(*worker, *index, &Ack::Done(tag)).unwrap();
        }
    }
    let times = got.values().copied().collect();
    (got, times)
}

#[test]
fn each_message_goes_to_one_member_and_all_get_their_share() {
    let mut world = world();
    for who in MEMBERS {
        join(&mut world, who, Duration::ZERO, 1000);
    }
    publish(&mut world, 0..300);
    let shares: Vec<usize> = MEMBERS.iter().map(|who| world.tagged(who.0, who.1).len()).collect();
    assert_eq!(shares.iter().sum::<usize>(), 300);
    assert!(shares.iter().all(|share| *share > 60), "{shares:?}");
}

#[test]
fn who_joins_amid_a_stream_gets_what_comes_after() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    publish(&mut world, 0..50);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1000);
    publish(&mut world, 50..100);
    let late: Vec<u32> = world.tagged(1, 3).iter().map(|(body, _)| body.parse().unwrap()).collect();
    assert!(!late.is_empty() && late.iter().all(|n| *n >= 50), "{late:?}");
    assert_eq!(world.tagged(0, 1).len() + late.len(), 100);
}

#[test]
fn what_a_dying_member_has_not_acknowledged_goes_to_the_others() {
    for expiry in [Duration::ZERO, EXPIRY] {
        let mut world = world();
        for who in MEMBERS {
            join(&mut world, who, expiry, 1000);
        }
        publish(&mut world, 0..90);
        let lost = world.tagged(1, 3).len();
        let (mut all, _) = count(&mut world, &MEMBERS[..2]);
        assert_eq!(all.len() + lost, 90);
        world.close(1, 3);
        let (rest, times) = count(&mut world, &MEMBERS[..2]);
        all.extend(rest);
        assert_eq!(all.len(), 90, "nothing is lost");
        assert!(times.iter().all(|times| *times == 1));
        // It comes back, and gets nothing of what others got.
        join(&mut world, (0, 9, "three"), expiry, 1000);
        assert_eq!(world.tagged(0, 9), []);
        publish(&mut world, 90..120);
        let members = [MEMBERS[0], MEMBERS[1], (0, 9, "three")];
        let (fresh, times) = count(&mut world, &members);
        assert_eq!((fresh.len(), times.iter().sum()), (30, 30));
    }
}

#[test]
fn what_a_slow_member_has_not_read_goes_to_the_others() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1);
    publish(&mut world, 0..100);
    assert_eq!(world.tagged(1, 3).len(), 1, "its window is full");
    let (mut all, _) = count(&mut world, &MEMBERS[..1]);
    world.close(1, 3);
    let (rest, times) = count(&mut world, &MEMBERS[..1]);
    assert!(times.iter().all(|times| *times == 1));
    all.extend(rest);
    assert_eq!(all.len(), 100);
}

#[test]
fn an_heir_that_dies_too_leaves_what_it_inherited() {
    let mut world = world();
    for who in MEMBERS {
        join(&mut world, who, Duration::ZERO, if who.1 == 1 { 1000 } else { 1 });
    }
    publish(&mut world, 0..100);
    let (mut all, _) = count(&mut world, &MEMBERS[..1]);
    for (worker, index, _) in [MEMBERS[2], MEMBERS[1]] {
        world.tagged(worker, index);
        world.close(worker, index);
    }
    let (rest, _) = count(&mut world, &MEMBERS[..1]);
    all.extend(rest);
    assert_eq!(all.len(), 100);
}

#[test]
fn messages_wait_while_all_members_are_away() {
    let mut world = world();
    join(&mut world, MEMBERS[0], EXPIRY, 1000);
    join(&mut world, MEMBERS[2], EXPIRY, 1000);
    publish(&mut world, 0..20);
    let (mut all, _) = count(&mut world, &[MEMBERS[0]]);
    // The other has acknowledged nothing.
    world.close(1, 3);
    let (rest, _) = count(&mut world, &[MEMBERS[0]]);
    all.extend(rest);
    world.close(0, 1);
    publish(&mut world, 20..40);
    world.enter(1, 8, named("three", EXPIRY, false, 1000));
    let (rest, times) = count(&mut world, &[(1, 8, "three")]);
    assert_eq!(rest.keys().copied().collect::<Vec<_>>(), (20..40).collect::<Vec<_>>());
    assert!(times.iter().all(|times| *times == 1));
    world.enter(0, 9, named("one", EXPIRY, false, 1000));
    assert_eq!(world.tagged(0, 9), []);
}

#[test]
fn a_group_without_anybody_ends() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    world.close(0, 1);
    publish(&mut world, 0..10);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1000);
    assert_eq!(world.tagged(1, 3), []);
}

#[test]
fn a_member_that_unsubscribes_leaves_the_rest_to_the_others() {
    let mut world = world();
    join(&mut world, MEMBERS[0], Duration::ZERO, 1000);
    join(&mut world, MEMBERS[2], Duration::ZERO, 1);
    publish(&mut world, 0..50);
    let one = Unsubscribe::One(Filter::parse("a/#").unwrap(), Some("g".into()));
    world.hubs[1].unsubscribe_from(slot(3), AskId(6), &one, world.now);
    world.settle();
    publish(&mut world, 50..60);
    let (all, times) = count(&mut world, &[MEMBERS[0], MEMBERS[2]]);
    assert_eq!((all.len(), times.iter().sum()), (60, 60));
}

#[test]
fn a_filter_of_ones_own_beside_the_group_takes_everything() {
    let mut world = world();
    for who in MEMBERS {
        join(&mut world, who, Duration::ZERO, 1000);
    }
    world.subscribe_on(0, 1, &Subscribe::to([Filter::parse("a/b").unwrap()]));
    publish(&mut world, 0..60);
    assert_eq!(world.tagged(0, 1).len(), 60);
    let others = world.tagged(0, 2).len() + world.tagged(1, 3).len();
    assert!((20..60).contains(&others), "{others}");
}

#[test]
fn qos_2_stays_with_its_session() {
    let mut world = world();
    for who in [MEMBERS[0], MEMBERS[2]] {
        world.enter(who.0, who.1, named(who.2, EXPIRY, false, 1000));
        world.subscribe_on(who.0, who.1, &shared(2));
    }
    for n in 0..20 {
        world.publish_at("a/b", &n.to_string(), 2);
    }
    let own = world.tagged(1, 3);
    assert!(!own.is_empty());
    let others = world.tagged(0, 1).len();
    world.close(1, 3);
    assert_eq!(world.tagged(0, 1), [], "MQTT-4.8.2-5");
    world.enter(1, 7, named("three", EXPIRY, false, 1000));
    assert_eq!(world.tagged(1, 7), own, "it comes to its session again");
    assert_eq!(own.len() + others, 20);
}
