//! Two nodes over one log: each knows what the other does, and a client of the other process isn't dead.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pair;

use std::time::Duration;

use everywire_base::ask::{AckError, Login, Subscribe, Will};
use everywire_base::cursor::{Cursor, Epoch, Offset, Start};
use everywire_base::id::AskId;
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message};
use everywire_base::rules::Refusal;
use everywire_base::system::{self, EpochChange, NodeChange, Whom};
use everywire_base::topic::{Filter, Topic};
use pair::*;

fn two_nodes() -> World {
    let mut world = world();
    world.part();
    world
}

#[test]
fn a_session_goes_on_at_another_node() {
    let mut world = two_nodes();
    let id = world.welcome(0, 1, user("ann"), NEW).session.unwrap();
    world.subscribe(0, 1, "a");
    let first = world.publish("a", "1");
    world.publish("a", "2");
    world.ack(0, 1, first).unwrap();
    // The former connection is still there.
    let welcome = world.welcome(1, 1, user("ann"), World::resume(&id));
    assert!(welcome.resumed);
    assert!(matches!(world.clients[0].ended.get(&1), Some(Reason::TakenOver)));
    assert_eq!(world.got(1, 1), ["2"]);
    world.publish("a", "3");
    assert_eq!(world.got(1, 1), ["3"]);
}

#[test]
fn wills_wait_for_their_own_node_and_are_published_when_that_is_gone() {
    let mut world = two_nodes();
    let message = Message::new(Topic::parse("will").unwrap(), "last words");
    let durability = Durability::Fsync;
    let will = Some(Box::new(Will { message, durability, ttl: None, delay: Duration::ZERO }));
    let login = Login { session: named("one", EXPIRY, false, 10), will, ..Login::default() };
    world.hubs[1].login(slot(1), AskId(1), login, world.now);
    world.settle();
    let wills = |world: &World| world.records.iter().filter(|r| r.entry().unwrap().topic().as_str() == "will").count();
    world.hubs[0].adopt_wills();
    world.pass(Duration::from_mins(1));
    assert_eq!(wills(&world), 0, "its client is connected, at the other node");
    world.say(&NodeChange::Down { writer: 2, sequence: 1 });
    world.clients[1].messages.clear();
    world.pass(Duration::from_mins(1));
    assert_eq!(wills(&world), 1);
}

#[test]
fn a_node_that_comes_is_told_who_is_in_groups_also_if_it_was_killed_a_moment_ago() {
    let mut world = two_nodes();
    group::join(&mut world, group::MEMBERS[0], EXPIRY, 10);
    let joins = |world: &World| {
        world.records.iter().filter(|r| r.entry().unwrap().topic().as_str().starts_with("$share/")).count()
    };
    let before = joins(&world);
    let up = |writer, boot| NodeChange::Up { writer, node: "m".into(), format: 1, boot, version: "".into() };
    // Nobody has declared the former life dead.
    world.say(&up(3, 10));
    assert_eq!(joins(&world), before + 1);
    world.say(&NodeChange::Bye { writer: 3 });
    world.say(&up(4, 11));
    assert_eq!(joins(&world), before + 2);
}

#[test]
fn a_kick_ends_connections_of_all_nodes() {
    let mut world = two_nodes();
    for worker in [0, 1] {
        world.welcome(worker, 1, user("ann"), NEW);
    }
    world.kick(Whom::User("ann".into()));
    for worker in [0, 1] {
        assert!(world.clients[worker].ended.contains_key(&1), "at node {worker}");
    }
}

#[test]
fn a_cursor_that_is_ahead_of_this_node_waits_for_it() {
    let mut world = two_nodes();
    world.welcome(0, 1, user("ann"), NEW);
    world.publish("a", "1");
    let ahead = Cursor::single(EPOCH, Offset(world.writer.tail().head().0 + 1));
    let start = Start::After(ahead.clone());
    let subscribe = Subscribe { start, ..Subscribe::to([Filter::parse("a").unwrap()]) };
    world.hubs[0].subscribe_for(slot(1), AskId(2), &subscribe, world.now);
    world.settle();
    assert!(!world.clients[0].subscribed.contains_key(&(1, 2)), "it waits");
    world.publish("a", "2");
    world.publish("a", "3");
    let subscribed = world.clients[0].subscribed.remove(&(1, 2)).expect("it goes on");
    assert!(!subscribed.gap);
    assert_eq!(world.got(0, 1), ["3"], "what it has it doesn't get again");
}

#[test]
fn a_cursor_behind_which_another_node_has_read_what_does_not_count_is_none_of_a_gap() {
    let mut world = two_nodes();
    let head = world.publish("a", "1");
    world.welcome(0, 1, user("ann"), NEW);
    let start = Start::After(Cursor::single(EPOCH, Offset(head.0 + 2)));
    let subscribe = Subscribe { start, ..Subscribe::to([Filter::parse("a").unwrap()]) };
    world.hubs[0].subscribe_for(slot(1), AskId(2), &subscribe, world.now);
    world.settle();
    assert!(!world.clients[0].subscribed.contains_key(&(1, 2)), "it waits");
    // Nothing is shown of it.
    world.writer.tail().progress().reads_to(Offset(head.0 + 2), true);
    world.pass(Duration::from_millis(200));
    let subscribed = world.clients[0].subscribed.remove(&(1, 2)).expect("it goes on");
    assert!(!subscribed.gap);
    world.publish("a", "2");
    assert_eq!(world.got(0, 1), ["2"]);
}

#[test]
fn a_cursor_that_this_node_does_not_know_is_judged_when_the_engine_was_asked_and_else_refused() {
    let mut world = two_nodes();
    let head = world.publish("a", "1");
    // One lies beyond the head, and one in an epoch of which nobody has heard.
    let never = [Cursor::single(EPOCH, Offset(head.0 + 1000)), Cursor::single(Epoch(9), head)];
    for (index, cursor) in (1..).zip(never) {
        world.welcome(0, index, user("ann"), NEW);
        let start = Start::After(cursor);
        let subscribe = Subscribe { start, ..Subscribe::to([Filter::parse("a").unwrap()]) };
        world.hubs[0].subscribe_for(slot(index), AskId(3), &subscribe, world.now);
        world.pass(Duration::from_secs(1));
        assert!(!world.clients[0].subscribed.contains_key(&(index, 3)), "it waits");
        world.pass(Duration::from_secs(2));
        let refused = world.clients[0].subscribed.remove(&(index, 3)).unwrap();
        assert_eq!(refused.refused, [(Filter::parse("a").unwrap(), Refusal::Behind)]);
        assert_eq!((refused.gap, world.got(0, index)), (false, Vec::new()), "nobody knows of a gap");
        world.hubs[0].subscribe_for(slot(index), AskId(3), &subscribe, world.now);
        // The first of the rounds may have begun before the cursor came.
        world.writer.tail().progress().reads_to(head, true);
        world.pass(Duration::from_secs(1));
        assert!(!world.clients[0].subscribed.contains_key(&(index, 3)), "it waits");
        world.writer.tail().progress().reads_to(head, true);
        world.pass(Duration::from_millis(200));
        assert!(world.clients[0].subscribed[&(index, 3)].gap, "the log has no such place");
    }
}

#[test]
fn a_cursor_of_the_epoch_before_acknowledges_as_well() {
    let mut world = two_nodes();
    world.welcome(0, 1, user("ann"), NEW);
    world.subscribe(0, 1, "a");
    let last = world.publish("a", "1");
    let change = EpochChange { epoch: 8, parent: EPOCH.0, fork: last.0, begin: last.0 };
    world.append(system::record(Topic::parse(system::LOG).unwrap(), &change, false), Durability::None);
    world.settle();
    assert_eq!(world.ack(0, 1, last), Ok(()));
    assert_eq!(world.hubs[0].describe(slot(1)).outstanding, 0);
    assert_eq!(world.ack(0, 1, Offset(last.0 + 1)), Err(AckError::NeverSent), "that epoch has no such place");
}

#[test]
fn cursors_are_of_the_epoch_in_which_the_log_goes_on() {
    let mut world = two_nodes();
    world.welcome(0, 1, user("ann"), NEW);
    let fork = world.publish("a", "1");
    let change = EpochChange { epoch: 8, parent: EPOCH.0, fork: fork.0, begin: fork.0 };
    world.append(system::record(Topic::parse(system::LOG).unwrap(), &change, false), Durability::None);
    world.settle();
    let subscribed = world.subscribe(0, 1, "a");
    assert_eq!(subscribed.cursor.epoch, Epoch(8));
    let start = Start::After(Cursor::single(EPOCH, fork));
    let old = Subscribe { start, ..Subscribe::to([Filter::parse("a").unwrap()]) };
    world.hubs[0].subscribe_for(slot(1), AskId(4), &old, world.now);
    world.settle();
    assert!(!world.clients[0].subscribed[&(1, 4)].gap, "up to the fork those of the former one hold");
}

#[test]
fn a_cursor_behind_the_fork_is_judged_when_its_worker_has_come_to_the_epoch_that_is_shown_already() {
    let mut world = two_nodes();
    world.welcome(0, 1, user("ann"), NEW);
    let fork = world.publish("a", "1");
    let change = EpochChange { epoch: 8, parent: EPOCH.0, fork: fork.0, begin: fork.0 };
    let lost = world.append(system::record(Topic::parse(system::LOG).unwrap(), &change, false), Durability::None);
    let start = Start::After(Cursor::single(EPOCH, lost));
    let subscribe = Subscribe { start, ..Subscribe::to([Filter::parse("a").unwrap()]) };
    world.hubs[0].subscribe_for(slot(1), AskId(2), &subscribe, world.now);
    world.settle();
    assert!(world.clients[0].subscribed[&(1, 2)].gap, "what stood there in the epoch before is lost");
}
