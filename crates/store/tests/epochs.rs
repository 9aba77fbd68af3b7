//! A log elsewhere goes on in other epochs, and the store follows.

mod common;

use common::World;
use everywire_base::cursor::{Epoch, Lineage, Offset};
use everywire_base::rules::Rules;

#[test]
fn a_store_that_hears_late_of_another_epoch_is_still_one_of_this_log() {
    let mut world = World::in_memory(Rules::default());
    let first = world.publish("a", "x").0;
    let parents = vec![(Epoch(7), Offset(first + 2))];
    *world.lineage.lock().unwrap() = Lineage { epoch: Epoch(8), parents, holes: Vec::new() };
    // No record that the log keeps tells of the epoch.
    world.last = 1000;
    let second = world.publish("a", "x").0;
    for close in [true, false] {
        world.restart(close);
        assert_eq!(world.all(&[("a", 0)], 0, 10), (vec![first, second], 0), "closed: {close}");
    }
}

#[test]
fn a_store_that_has_more_than_the_log_is_made_anew() {
    let mut world = World::in_memory(Rules::default());
    for body in ["1", "2", "3"] {
        world.publish("a", body);
    }
    world.restart(true);
    world.kept.records.lock().unwrap().truncate(2);
    let parents = vec![(Epoch(7), Offset(2))];
    *world.lineage.lock().unwrap() = Lineage { epoch: Epoch(8), parents, holes: Vec::new() };
    (world.last, world.applier) = (1000, None);
    world.reopen();
    assert_eq!(world.all(&[("a", 0)], 0, 10).0, [1, 2]);
}
