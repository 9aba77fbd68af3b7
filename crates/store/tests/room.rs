//! The bound of the disk: the oldest messages of all topics go, their readers get a gap, and retained messages stay.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::Ordering;

use common::{World, message};
use everywire_base::record::{Durability, Message};
use everywire_base::rules::Rules;

/// A log in which a record counts as a byte, with this many allowed.
fn bounded(limit: u64) -> World {
    let mut world = World::in_memory(Rules::default());
    world.applier.as_mut().unwrap().set_disk_limit(limit);
    world
}

fn kept(world: &World) -> usize {
    world.kept.records.lock().unwrap().len()
}

#[test]
fn the_oldest_of_all_topics_go_and_their_readers_are_told() {
    let mut world = bounded(40);
    let retained = Message { retain: true, ..message("kept", "x") };
    world.append(retained, Durability::Fsync);
    for n in 0..60 {
        world.append(message(&format!("t/{}", n % 5), "x"), Durability::Fsync);
    }
    // Each step checks the bound, cleans, and writes the result.
    (0..10).for_each(|_| world.pass(10_000));
    assert!(kept(&world) <= 40, "{} are left", kept(&world));
    assert!(world.store.metrics().disk_limit_reached.load(Ordering::Relaxed) > 0, "it is counted");
    let (offsets, lost) = world.all(&[("t/1", 0)], 0, 10);
    let first = offsets[0];
    assert!(first > 10 && offsets.last() == Some(&58), "{offsets:?}");
    assert_eq!(lost, first - 5, "the last of the topic before the first that is left");
    assert_eq!(world.all(&[("t/1", 0)], first - 5, 10).1, 0, "who had read that misses nothing");
    let wild = world.all(&[("t/+", 0)], 0, 10);
    assert!(wild.0.iter().all(|offset| *offset > lost) && wild.1 >= lost, "{wild:?}");
    assert_eq!(world.retained(&["kept"]), [1], "what is retained stays");
    let before = (wild, world.all(&[("t/1", 0)], 0, 10));
    world.restart(false);
    assert_eq!((world.all(&[("t/+", 0)], 0, 10), world.all(&[("t/1", 0)], 0, 10)), before, "also after a crash");
}

#[test]
fn within_the_bound_nothing_goes() {
    let mut world = bounded(40);
    for _ in 0..40 {
        world.append(message("t", "x"), Durability::Fsync);
    }
    (0..10).for_each(|_| world.pass(10_000));
    assert_eq!((kept(&world), world.all(&[("t", 0)], 0, 10).1), (40, 0));
}
