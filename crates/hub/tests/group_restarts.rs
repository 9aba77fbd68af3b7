//! Groups and what is left of them in another life of the node.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod pair;

use std::collections::BTreeMap;
use std::time::Duration;

use everywire_base::ask::Login;
use everywire_base::id::AskId;

use pair::group::{MEMBERS, Member, count, join, publish, shared};
use pair::{EXPIRY, World, named, slot, world};

/// The members that come after a restart, each time in another order; the last is new.
fn comebacks() -> impl Iterator<Item = [Member; 3]> {
    let [one, three, new] = [(0, 21, "one"), (1, 23, "three"), (1, 24, "four")];
    [[one, three, new], [three, one, new], [new, one, three], [new, three, one]].into_iter()
}

fn come_back(world: &mut World, members: &[Member]) -> (BTreeMap<u32, usize>, Vec<usize>) {
    for (worker, index, name) in members {
        if !world.enter(*worker, *index, named(name, EXPIRY, false, 1000)).resumed {
            world.subscribe_on(*worker, *index, &shared(1));
        }
    }
    count(world, members)
}

const CHECKPOINT: Duration = Duration::from_secs(6);

#[test]
fn nothing_is_lost_when_the_node_is_killed() {
    for back in comebacks() {
        let mut world = world();
        join(&mut world, MEMBERS[0], EXPIRY, 1000);
        join(&mut world, MEMBERS[2], EXPIRY, 3);
        publish(&mut world, 0..30);
        let (mut all, _) = count(&mut world, &MEMBERS[..1]);
        world.pass(CHECKPOINT);
        publish(&mut world, 30..60);
        world.kill();
        publish(&mut world, 60..70);
        world.start();
        publish(&mut world, 70..80);
        all.extend(come_back(&mut world, &back).0);
        assert_eq!(all.len(), 80, "{back:?}");
    }
}

#[test]
fn what_waits_waits_also_for_another_life_of_the_node() {
    for back in comebacks() {
        let mut world = world();
        join(&mut world, MEMBERS[0], EXPIRY, 1000);
        join(&mut world, MEMBERS[2], EXPIRY, 3);
        publish(&mut world, 0..30);
        let (mut all, _) = count(&mut world, &MEMBERS[..1]);
        world.close(0, 1);
        world.close(1, 3);
        publish(&mut world, 30..60);
        world.kill();
        publish(&mut world, 60..70);
        world.start();
        publish(&mut world, 70..80);
        let (rest, times) = come_back(&mut world, &back);
        assert!(times.iter().all(|times| *times == 1), "{back:?}");
        all.extend(rest);
        assert_eq!(all.len(), 80, "{back:?}");
        // The waiting messages are over: they come to nobody in a further life.
        let all: Vec<_> = back.iter().map(|who| (who.0, who.1)).collect();
        world.stop(&all);
        world.start();
        let (rest, _) = come_back(&mut world, &back);
        assert_eq!(rest.len(), 0, "{back:?}");
    }
}

#[test]
fn who_was_away_long_gets_nothing_of_what_others_did() {
    for is_alive in [true, false] {
        for back in comebacks() {
            let mut world = world();
            join(&mut world, MEMBERS[0], EXPIRY, 1000);
            join(&mut world, MEMBERS[2], EXPIRY, 1000);
            world.close(0, 1);
            publish(&mut world, 0..50);
            assert_eq!(count(&mut world, &MEMBERS[2..]).0.len(), 50);
            world.pass(CHECKPOINT);
            if !is_alive {
                world.close(1, 3);
            }
            world.kill();
            world.start();
            publish(&mut world, 50..60);
            let (rest, times) = come_back(&mut world, &back);
            let rest: Vec<u32> = rest.into_keys().collect();
            assert_eq!(rest, (50..60).collect::<Vec<_>>(), "{back:?}, alive: {is_alive}");
            assert!(times.iter().all(|times| *times == 1));
        }
    }
}

#[test]
fn nothing_is_lost_when_the_node_goes_down_in_order() {
    for back in comebacks() {
        let mut world = world();
        join(&mut world, MEMBERS[0], EXPIRY, 1000);
        join(&mut world, MEMBERS[2], EXPIRY, 3);
        publish(&mut world, 0..30);
        let (mut all, _) = count(&mut world, &MEMBERS[..1]);
        publish(&mut world, 30..60);
        world.stop(&[(0, 1), (1, 3)]);
        world.start();
        publish(&mut world, 60..80);
        all.extend(come_back(&mut world, &back).0);
        assert_eq!(all.len(), 80, "{back:?}");
    }
}

#[test]
fn who_goes_before_he_is_in_passes_on_what_waited_since_before() {
    let mut world = world();
    join(&mut world, MEMBERS[2], EXPIRY, 1000);
    publish(&mut world, 0..20);
    world.close(1, 3);
    world.kill();
    world.start();
    let before = world.records.len();
    let login = Login { session: named("three", EXPIRY, false, 1000), ..Login::default() };
    world.hubs[1].login(slot(5), AskId(1), login, world.now);
    let has_joined = |world: &World| {
        world.records[before..].iter().any(|r| r.entry().unwrap().topic().as_str().starts_with("$share/"))
    };
    while !has_joined(&world) {
        assert!(world.turn(0) | world.turn(1), "it joins");
    }
    world.close(1, 5);
    world.enter(0, 7, named("three", EXPIRY, false, 1000));
    let (all, times) = count(&mut world, &[(0, 7, "three")]);
    assert_eq!((all.len(), times.iter().sum::<usize>()), (20, 20));
}
