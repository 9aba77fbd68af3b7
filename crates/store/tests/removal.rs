//! What was removed stays removed, whatever comes late or is read again from the log.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod common;

use std::sync::Arc;

use common::{World, message, topic};
use everywire_base::clock::UnixMillis;
use everywire_base::record::{Durability, Message, Once, Record};
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::topic::Filter;
use everywire_store::MemoryTables;

const SESSION: &str = "$sessions/u/1";
const WILL: &str = "$wills/u/1";
const MARK: &str = "$sessions/u/1/5";
const HOUR: u64 = 3_600_000;

fn write(world: &mut World, name: &str, generation: u64, body: &str) {
    let message = Message { retain: true, generation, ..message(name, body) };
    world.append(message, Durability::Fsync);
    world.settle();
}

/// The store is lost, and made anew of what the log has.
fn rebuild(world: &mut World) {
    world.open = Box::new(|| Box::new(MemoryTables::default()));
    world.restart(false);
}

/// A log is cleaned by segments: what nobody wants may stay in it beside what somebody does.
fn clean_but_for(world: &mut World, offsets: &[u64]) {
    let stays = |record: &&Arc<Record>| offsets.contains(&record.offset.0);
    let kept: Vec<_> = world.kept.records.lock().unwrap().iter().filter(stays).cloned().collect();
    world.pass(20_000);
    let mut records = world.kept.records.lock().unwrap();
    records.retain(|record| !kept.contains(record));
    records.extend(kept);
    records.sort_unstable_by_key(|record| record.offset);
}

#[test]
fn a_late_record_of_a_former_owner_revives_nothing() {
    for when in ["at once", "after a checkpoint", "after a restart", "in a store made anew"] {
        let mut world = World::in_memory(Rules::default());
        for name in [SESSION, WILL] {
            write(&mut world, name, 3, "state");
            write(&mut world, name, 7, "");
            // Of this nothing ever stood there.
            write(&mut world, "$sessions/u/2", 7, "");
        }
        match when {
            "after a checkpoint" => world.pass(20_000),
            "after a restart" => world.restart(true),
            "in a store made anew" => rebuild(&mut world),
            _ => {}
        }
        for name in [SESSION, WILL, "$sessions/u/2"] {
            write(&mut world, name, 5, "late");
        }
        assert_eq!(world.retained(&["$sessions/#", "$wills/#"]), Vec::<u64>::new(), "{when}");
        write(&mut world, SESSION, 9, "new");
        assert_eq!(world.retained(&[SESSION]).len(), 1, "a later owner begins anew, {when}");
    }
}

#[test]
fn what_was_removed_does_not_come_back_with_a_store_made_anew() {
    let mut world = World::in_memory(Rules::new(vec![brief("#")]));
    write(&mut world, "t", 0, "x");
    write(&mut world, "t", 0, "");
    write(&mut world, SESSION, 3, "state");
    write(&mut world, SESSION, 4, "");
    world.pass(2 * HOUR);
    clean_but_for(&mut world, &[1, 3]);
    rebuild(&mut world);
    assert_eq!(world.retained(&["t", SESSION]), Vec::<u64>::new());
    assert_eq!(world.store.retained().total(), 0);
}

#[test]
fn what_has_expired_uncovers_nothing() {
    let mut world = World::in_memory(Rules::new(vec![brief("#")]));
    write(&mut world, "t", 0, "forever");
    let expires = Some(UnixMillis(world.now.0 + 1000));
    world.append(Message { retain: true, expires, ..message("t", "for a second") }, Durability::Fsync);
    world.settle();
    world.pass(HOUR);
    assert_eq!(world.store.retained().total(), 0, "it isn't counted any more");
    assert!(!world.store.topic(&topic("t")).unwrap().is_some_and(|info| info.retained));
    clean_but_for(&mut world, &[1]);
    rebuild(&mut world);
    assert_eq!(world.retained(&["t"]), Vec::<u64>::new());
}

#[test]
fn a_number_is_known_until_it_is_released_and_not_any_more() {
    let mut world = World::in_memory(Rules::new(vec![brief("#")]));
    let until = UnixMillis(world.now.0 + 10 * HOUR);
    let once = |tag| Some(Box::new(Once { session: topic(SESSION), tag, until }));
    for tag in [5, 6] {
        world.append(Message { once: once(tag), ..message("t", "x") }, Durability::Fsync);
    }
    world.settle();
    write(&mut world, MARK, 0, "");
    world.pass(2 * HOUR);
    clean_but_for(&mut world, &[1]);
    rebuild(&mut world);
    let marks = world.retained(&["$sessions/u/1/+"]);
    assert_eq!(marks, [2], "the message is gone, and its number is still known; the released one isn't");
}

/// Marks of removals don't stay for ever.
#[test]
fn after_a_week_a_removal_is_forgotten() {
    let mut world = World::in_memory(Rules::new(vec![brief("#")]));
    write(&mut world, "t", 0, "x");
    write(&mut world, "t", 0, "");
    write(&mut world, SESSION, 3, "state");
    write(&mut world, SESSION, 3, "");
    world.pass(2 * HOUR);
    assert_eq!(world.kept.records.lock().unwrap().len(), 2, "the removals are still in the log");
    world.pass(8 * 24 * HOUR);
    world.pass(20_000);
    assert_eq!(world.kept.records.lock().unwrap().len(), 0);
}

fn brief(filter: &str) -> TopicRule {
    let history = History { max_age: std::time::Duration::from_mins(1), ..History::default() };
    TopicRule { filter: Filter::parse(filter).unwrap(), history, ..TopicRule::fallback() }
}
