//! Removed messages stay removed, whatever comes late or is read again from the log.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod common;

use std::sync::Arc;

use common::{World, message, retained, topic};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::{Durability, Message, Once, Record};
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::system;
use everywire_base::topic::Filter;
use everywire_store::MemoryTables;

const SESSION: &str = "$sessions/u/1";
const WILL: &str = "$wills/u/1";
const MARK: &str = "$sessions/u/1/5";
const HOUR: u64 = 3_600_000;

fn write(world: &mut World, name: &str, generation: u64, body: &str) {
    world.append(retained(name, generation, body), Durability::Fsync);
    world.settle();
}

/// Loses the store, and makes it anew from the log.
fn rebuild(world: &mut World) {
    world.open = Box::new(|| Box::new(MemoryTables::default()));
    world.restart(false);
}

/// Cleans the log but for some records: it is cleaned by segments, so that unwanted records may stay beside wanted
/// ones.
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
            // This topic never had a session.
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
    let once = |tag| Some(Box::new(Once { session: topic(SESSION), tag, generation: 0, until }));
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

/// The pages of some topics from the beginning: what each tells of as lost, and what it has.
fn told(world: &World, filters: &[&str]) -> Vec<(Option<u64>, Vec<u64>)> {
    let interests: Vec<_> = filters.iter().map(|filter| (*filter, 0)).collect();
    let (mut pages, mut after) = (Vec::new(), 0);
    while after < world.store.applied().0 {
        let page = world.page(&interests, after, 100, 1 << 20);
        assert!(page.upto.0 > after, "the pages go on");
        after = page.upto.0;
        pages.push((page.lost.map(|lost| lost.up_to.0), page.records.iter().map(|r| r.offset.0).collect()));
    }
    pages
}

#[test]
fn what_is_missing_amid_what_is_kept_is_told_in_its_place() {
    let mut world = World::in_memory(Rules::default());
    for n in 0..12 {
        world.publish(if n % 2 == 0 { "even" } else { "odd" }, "x");
    }
    // 1, 3 … are even.
    let is_gone = |offset: u64| matches!(offset, 1 | 5 | 6 | 7);
    world.kept.records.lock().unwrap().retain(|record| !is_gone(record.offset.0));
    assert_eq!(told(&world, &["even"]), [(Some(1), vec![3]), (Some(7), vec![9, 11])]);
    assert_eq!(told(&world, &["odd"]), [(None, vec![2, 4]), (Some(6), vec![8, 10, 12])]);
    let all = told(&world, &["odd", "even"]);
    assert_eq!(all, [(Some(1), vec![2, 3, 4]), (Some(7), vec![8, 9, 10, 11, 12])]);
    // A store that is made anew can't know the topics of removed messages.
    rebuild(&mut world);
    world.settle();
    assert_eq!(told(&world, &["odd"]), [(None, vec![2, 4]), (Some(7), vec![8, 10, 12])]);
    assert_eq!(told(&world, &["#"]), [(None, vec![2, 3, 4]), (Some(7), vec![8, 9, 10, 11, 12])]);
}

#[test]
fn what_a_node_that_joins_is_given_makes_all_that_is_retained() {
    let mut world = World::in_memory(Rules::default());
    write(&mut world, "t", 0, "replaced");
    write(&mut world, "u", 0, "removed");
    write(&mut world, SESSION, 3, "state");
    let until = UnixMillis(world.now.0 + HOUR);
    let once = Some(Box::new(Once { session: topic(SESSION), tag: 5, generation: 0, until }));
    world.append(Message { once, ..message("v", "x") }, Durability::Fsync);
    world.append(Message { retain: true, ..message("w", "not in the log") }, Durability::None);
    world.settle();
    world.pass(20_000);
    write(&mut world, "t", 0, "last");
    write(&mut world, "u", 0, "");
    let at = world.store.applied();
    write(&mut world, "t", 0, "later");
    write(&mut world, "x", 0, "later");
    let given: Vec<Record> = world.store.foundations(at).unwrap().records().collect();
    let offsets: Vec<u64> = given.iter().map(|record| record.offset.0).collect();
    // Later changes come by the log.
    assert_eq!(offsets, [3, 4, 5, 7]);
    let mut joined = World::in_memory(Rules::default());
    for record in &given {
        joined.last = record.offset.0 - 1;
        joined.append(record.entry().unwrap().clone(), record.durability);
    }
    for body in ["later", "x"] {
        let name = if body == "x" { "x" } else { "t" };
        write(&mut joined, name, 0, "later");
    }
    joined.settle();
    let all = ["t", "u", SESSION, MARK, "w", "x"];
    let bodies = |world: &World| -> Vec<usize> { all.iter().map(|name| world.retained(&[name]).len()).collect() };
    assert_eq!((bodies(&joined), bodies(&world)), (vec![1, 0, 1, 1, 1, 1], vec![1, 0, 1, 1, 1, 1]));
}

/// Says that the node lacks a part of the log.
fn say_lack(world: &mut World, (above, up_to): (u64, u64)) {
    let lost = system::HistoryLost { above, up_to };
    world.append(system::record(topic(system::LOG), &lost, false), Durability::Memory);
    world.settle();
}

#[test]
fn what_a_node_says_that_it_lacks_is_lost_for_everybody() {
    let mut world = World::in_memory(Rules::default());
    world.publish("a", "x");
    world.last = 9;
    say_lack(&mut world, (1, 10));
    world.publish("a", "y");
    assert_eq!(told(&world, &["a"]), [(None, vec![1]), (Some(10), vec![11])]);
    assert_eq!(told(&world, &["#"]), [(None, vec![1]), (Some(10), vec![11])]);
    world.restart(true);
    world.settle();
    assert_eq!(told(&world, &["a"]), [(None, vec![1]), (Some(10), vec![11])]);
}

#[test]
fn records_of_a_part_that_a_node_lacks_come_behind_the_gap() {
    let mut world = World::in_memory(Rules::default());
    world.publish("a", "x");
    world.last = 4;
    world.publish("a", "listed in the snapshot");
    world.last = 9;
    say_lack(&mut world, (1, 10));
    world.publish("a", "y");
    for _ in 0..2 {
        assert_eq!(told(&world, &["a"]), [(None, vec![1]), (Some(10), vec![5, 11])]);
        assert_eq!(told(&world, &["#"]), [(None, vec![1]), (Some(10), vec![5, 11])]);
        world.restart(true);
        world.settle();
    }
}

#[test]
fn a_store_that_was_ahead_of_its_log_knows_what_the_log_lacks() {
    // The log goes on from a snapshot at 3, of which the store has applied a part, or all: it reads no record that says so.
    for applied in 2..=4 {
        let mut world = World::in_memory(Rules::default());
        for _ in 1..=applied {
            world.publish("a", "applied");
        }
        world.restart(true);
        for _ in applied + 1..=4 {
            world.append(message("a", "not applied"), Durability::Fsync);
        }
        world.kept.records.lock().unwrap().retain(|record| matches!(record.offset.0, 1 | 4));
        *world.kept.lacks.lock().unwrap() = Some((Offset(1), Offset(3)));
        world.reopen();
        for _ in 0..2 {
            assert_eq!(told(&world, &["#"]), [(None, vec![1]), (Some(3), vec![4])], "applied up to {applied}");
            world.restart(true);
        }
    }
}
