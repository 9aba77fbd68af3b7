//! Delivery as a subscriber notices it: starts, gaps, retained greetings, slow consumers, rules, churn.

mod world;

use std::sync::Arc;

use everywire_base::ask::Subscribe;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Epoch, Lineage, Offset, Start};
use everywire_base::id::Slot;
use everywire_base::limits::Limits;
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message};
use everywire_base::rules::{Refusal, Rules, SlowConsumer, TopicRule};
use everywire_base::terms::RetainHandling;
use world::{EPOCH, Shape, World, at, filter, rule, slot, topic};

fn seen(world: &mut World) -> Vec<String> {
    std::mem::take(&mut world.outside.seen)
}

#[test]
fn one_copy_however_many_filters_match() {
    let mut world = World::new(Shape::default());
    world.subscribe(slot(1), &["a/x", "a/+", "#"], Start::Latest);
    world.publish("a/x");
    world.publish("b");
    world.turn();
    assert_eq!(seen(&mut world), ["1:1", "1:2"]);
    assert_eq!(world.hub.subscribers(&topic("a/x")), 1);
    assert_eq!(world.hub.counters().subscriptions, 3);
}

#[test]
fn a_cursor_with_nothing_after_it_costs_no_read() {
    let mut world = World::new(Shape::default());
    let last = world.publish("a");
    world.publish("b");
    world.turn();
    let subscribed = world.subscribe(slot(1), &["a"], at(last.0));
    assert!(world.hub.position(slot(1)).live);
    assert_eq!(subscribed.cursor, Cursor::single(EPOCH, Offset(2)), "quiet readers advance");
    assert!(!world.turn());
    assert_eq!((world.hub.reads().len(), world.hub.counters().reads), (0, 0));
}

#[test]
fn what_the_tail_has_is_read_there() {
    let mut world = World::new(Shape::default());
    for name in ["a", "b", "a", "a"] {
        world.publish(name);
    }
    world.turn();
    world.subscribe(slot(1), &["a"], at(1));
    assert!(!world.hub.position(slot(1)).live);
    world.turn();
    assert_eq!(seen(&mut world), ["1:3", "1:4"]);
    assert!(world.hub.position(slot(1)).live);
    assert_eq!(world.hub.counters().reads, 0);
    assert!(world.outside.settled.contains(&slot(1)));
}

#[test]
fn a_later_filter_goes_back_and_the_older_ones_skip_what_they_were_sent() {
    let mut world = World::new(Shape::default());
    world.subscribe(slot(1), &["a"], Start::Latest);
    for name in ["a", "b", "a"] {
        world.publish(name);
    }
    world.turn();
    assert_eq!(seen(&mut world), ["1:1", "1:3"]);
    world.subscribe(slot(1), &["b"], at(0));
    world.publish("a");
    world.settle();
    assert_eq!(seen(&mut world), ["1:2", "1:4"]);
}

#[test]
fn who_has_no_room_lags_from_just_before_and_gets_it_all() {
    let mut world = World::new(Shape::default());
    for index in 1..=2 {
        world.subscribe(slot(index), &["a"], Start::Latest);
    }
    world.room(slot(1), 1);
    for _ in 0..3 {
        world.publish("a");
    }
    world.turn();
    assert_eq!(world.hub.position(slot(1)).cursor, Cursor::single(EPOCH, Offset(1)));
    assert_eq!((world.hub.counters().lagging, world.hub.counters().fulls), (1, 1));
    world.room(slot(1), 10);
    world.settle();
    let own: Vec<_> = seen(&mut world).into_iter().filter(|s| s.starts_with("1:")).collect();
    assert_eq!(own, ["1:1", "1:2", "1:3"]);
    assert_eq!(world.hub.counters().lagging, 0);
}

#[test]
fn a_cursor_of_another_epoch_or_from_the_future_is_a_gap() {
    for start in [Start::After(Cursor::single(Epoch(8), Offset(1))), at(99)] {
        let mut world = World::new(Shape::default());
        world.publish("a");
        world.turn();
        world.apply();
        world.subscribe(slot(1), &["a"], start);
        world.settle();
        let seen = seen(&mut world);
        assert!(seen[0].starts_with("1:gap a") && seen[0].ends_with("->7:0"), "{seen:?}");
        assert_eq!(seen[1..], ["1:1"]);
        assert!(world.hub.position(slot(1)).live);
        assert_eq!(world.hub.counters().gaps, 1);
    }
}

#[test]
fn a_parents_cursor_is_valid_up_to_the_fork() {
    let lineage = Lineage { epoch: EPOCH, parents: vec![(Epoch(6), Offset(2))], holes: Vec::new() };
    let mut world = World::new(Shape { lineage, ..Shape::default() });
    for _ in 0..3 {
        world.publish("a");
    }
    world.turn();
    world.subscribe(slot(1), &["a"], Start::After(Cursor::single(Epoch(6), Offset(2))));
    // The reference knows one epoch only.
    world.outside.peers.get_mut(&slot(1)).unwrap().owed = false;
    world.settle();
    assert_eq!(seen(&mut world), ["1:3"]);
}

#[test]
fn trimmed_messages_are_a_gap_and_reading_goes_on_behind_it() {
    let mut world = World::new(Shape { last: 10, ..Shape::default() });
    for _ in 0..3 {
        world.publish("a");
    }
    world.turn();
    world.apply();
    world.trim(0, &topic("a"), Offset(12));
    // The tail begins at 10, so that this needs the store.
    world.subscribe(slot(1), &["a"], at(5));
    world.settle();
    assert_eq!(seen(&mut world), ["1:gap a 5->7:12", "1:13"]);
    world.subscribe(slot(2), &["a"], Start::Earliest);
    world.settle();
    assert_eq!(seen(&mut world), ["2:13"], "the earliest kept is no gap");
}

#[test]
fn each_topic_that_lost_something_is_named() {
    let mut world = World::new(Shape { last: 10, ..Shape::default() });
    for name in ["a", "b", "a", "b", "c"] {
        world.publish(name);
    }
    world.turn();
    world.apply();
    world.trim(0, &topic("a"), Offset(13));
    world.trim(0, &topic("b"), Offset(12));
    world.subscribe(slot(1), &["a", "b", "c"], at(5));
    world.settle();
    assert_eq!(seen(&mut world), ["1:gap a 5->7:5", "1:gap b 5->7:5", "1:14", "1:15"]);
}

#[test]
fn only_a_loss_is_a_gap() {
    let mut world = World::new(Shape::default());
    let first = world.publish("a");
    world.publish("b");
    world.turn();
    for filters in [&["a"][..], &["b"], &["a", "b"], &["#"], &["+"], &["none"]] {
        world.apply();
        let subscribed = world.subscribe(slot(1), filters, Start::After(Cursor::single(EPOCH, first)));
        assert!(!subscribed.gap, "nothing of {filters:?} is lost");
        world.settle();
        world.unsubscribe(slot(1));
    }
    assert!(world.outside.seen.iter().all(|seen| !seen.contains("gap")), "{:?}", world.outside.seen);
    for (epoch, offset) in [(Epoch(99), 1), (EPOCH, 1_000)] {
        let subscribed = world.subscribe(slot(1), &["a"], Start::After(Cursor::single(epoch, Offset(offset))));
        assert!(subscribed.gap, "what came after {epoch}:{offset} isn't known");
        world.settle();
        world.unsubscribe(slot(1));
    }
}

#[test]
fn a_retained_message_carries_the_cursor_at_which_its_subscription_began() {
    let mut world = World::new(Shape::default());
    for name in ["a", "b"] {
        let offset = world.publish_message(0, 1, Message { retain: true, ..Message::new(topic(name), "kept") });
        let record = world.outside.records[0].iter().find(|r| r.offset == offset).unwrap();
        world.outside.retained.insert(topic(name), Arc::clone(record));
        world.hint.add(&topic(name));
    }
    for _ in 0..5 {
        world.publish("a/x");
    }
    world.turn();
    world.apply();
    let wanted = Subscribe { retained: RetainHandling::Always, ..Subscribe::to([filter("a"), filter("b")]) };
    let subscribed = world.ask(slot(1), wanted);
    world.settle();
    assert_eq!(world.outside.cursors, [subscribed.cursor.clone(), subscribed.cursor]);
}

#[test]
fn what_expires_says_how_long_it_lives_when_it_is_handed_over() {
    let mut world = World::new(Shape::default());
    let message = Message { expires: Some(UnixMillis(100_000)), ..Message::new(topic("a"), "x") };
    world.publish_message(0, 1, message);
    world.turn();
    world.apply();
    for index in 1..=3 {
        // A stuck connection keeps the parcels that lagging ones share.
        let start = Start::After(Cursor::single(EPOCH, Offset(0)));
        world.subscribe(slot(index), &["a"], start);
        world.room(slot(index), usize::from(index > 1));
        world.settle();
        world.outside.now.wall.0 += 10_000;
    }
    assert_eq!(world.outside.messages, 2);
}

#[test]
fn filters_that_are_looked_at_count_into_the_turn() {
    let limits = Limits { deliveries_per_turn: 64, filters_per_subscription: 2000, ..Limits::default() };
    let mut world = World::new(Shape { limits, ..Shape::default() });
    let mut filters: Vec<String> = (0..1000).map(|n| format!("many/{n}")).collect();
    filters.extend(["a/#".into(), "a/+".into()]);
    let filters: Vec<&str> = filters.iter().map(|filter| &**filter).collect();
    world.subscribe(slot(1), &filters, Start::Latest);
    let before = world.hub.marks()[0];
    for _ in 0..100 {
        world.publish("a/b");
    }
    world.turn();
    let records = world.hub.marks()[0].0 - before.0;
    assert!(records <= 2, "{records} records in one turn of 64 deliveries, each with a thousand filters");
    world.settle();
    assert_eq!(seen(&mut world).len(), 100);
}

/// A hole from 11 to 20, after a crash.
fn crashed(durability: Durability) -> World {
    let lineage = Lineage { epoch: EPOCH, parents: Vec::new(), holes: vec![(Offset(11), Offset(20))] };
    let rules = vec![rule("m", durability)];
    let mut world = World::new(Shape { lineage, rules, last: 20, ..Shape::default() });
    world.apply();
    world
}

#[test]
fn a_cursor_inside_or_across_a_hole_is_valid_for_synced_topics() {
    for cursor in [9, 10, 15, 20] {
        let mut world = crashed(Durability::Fsync);
        world.subscribe(slot(1), &["m"], at(cursor));
        world.publish("m");
        world.settle();
        assert_eq!(seen(&mut world), ["1:21"], "{cursor}");
    }
}

#[test]
fn a_cursor_inside_or_across_a_hole_is_a_gap_for_memory_topics() {
    for (cursor, after) in [(9, 10), (10, 10), (15, 15)] {
        let mut world = crashed(Durability::Memory);
        world.subscribe(slot(1), &["m"], at(cursor));
        // The reference can't know that something may have been lost.
        world.outside.peers.get_mut(&slot(1)).unwrap().owed = true;
        world.publish("m");
        world.settle();
        assert_eq!(seen(&mut world), [format!("1:gap m {after}->7:20"), "1:21".into()], "{cursor}");
    }
    let mut world = crashed(Durability::Memory);
    world.subscribe(slot(1), &["m"], at(20));
    assert!(world.hub.position(slot(1)).live);
}

#[test]
fn retained_messages_come_first_and_newer_ones_live() {
    let mut world = World::new(Shape::default());
    for name in ["a", "b"] {
        let mut message = Message::new(topic(name), "x");
        message.retain = true;
        world.publish_message(0, 1, message);
        let record = Arc::clone(world.outside.records[0].last().unwrap());
        world.outside.retained.insert(topic(name), record);
        world.hint.add(&topic(name));
        if name == "a" {
            world.turn();
        }
    }
    // The store has both, the mark stands between them.
    let subscribe = Subscribe { retained: RetainHandling::Always, ..Subscribe::to([filter("#")]) };
    world.ask(slot(1), subscribe.clone());
    assert!(!world.hub.position(slot(1)).live);
    world.settle();
    assert_eq!(seen(&mut world), ["1:retained 1", "1:2"]);
    assert!(world.hub.position(slot(1)).live);
    // No read is made if nothing is retained.
    let reads = world.hub.counters().reads;
    world.ask(slot(2), Subscribe { filters: [filter("none")].into(), ..subscribe });
    assert!(world.hub.position(slot(2)).live);
    assert_eq!(world.hub.counters().reads, reads);
}

#[test]
fn a_retained_message_greets_before_the_store_knows_of_it() {
    for name in ["a", "#"] {
        let mut world = World::new(Shape::default());
        world.publish_message(0, 1, Message { retain: true, ..Message::new(topic("a"), "x") });
        world.turn();
        world.ask(slot(1), Subscribe { retained: RetainHandling::Always, ..Subscribe::to([filter(name)]) });
        let record = Arc::clone(world.outside.records[0].last().unwrap());
        world.outside.retained.insert(topic("a"), record);
        world.hint.add(&topic("a"));
        world.apply();
        world.settle();
        assert_eq!(seen(&mut world), ["1:retained 1"], "{name}");
    }
}

#[test]
fn a_slow_consumer_of_a_topic_without_history_is_closed_by_rule() {
    let rules = vec![TopicRule { slow_consumer: SlowConsumer::Close, ..rule("p", Durability::None) }];
    let limits = Limits { tail_records: 1, ..Limits::default() };
    let mut world = World::new(Shape { limits, rules, ..Shape::default() });
    world.subscribe(slot(1), &["p"], Start::Latest);
    world.room(slot(1), 0);
    for step in [1, 2, 2] {
        // Each begins a chunk of the tail, which lets go of those before.
        let offset = world.publish_message(0, step, Message::new(topic("p"), "x"));
        world.turn();
        world.apply();
        world.trim(0, &topic("p"), offset);
    }
    world.room(slot(1), 10);
    world.settle();
    assert_eq!(world.outside.ended, [(slot(1), Reason::SlowConsumer)]);
    world.close(slot(1));
    assert_eq!((world.hub.counters().lagging, world.hub.counters().slow_consumers), (0, 1));
    assert!(seen(&mut world).is_empty());
    // A client that comes back with the old cursor is told of a gap, not closed again.
    world.subscribe(slot(2), &["p"], at(0));
    world.settle();
    assert_eq!(world.outside.ended.len(), 1);
    assert!(seen(&mut world)[0].starts_with("2:gap p"));
}

#[test]
fn refused_filters_are_listed_and_the_others_granted() {
    let rules = vec![TopicRule { subscribe: Vec::new(), ..rule("secret", Durability::Fsync) }];
    let limits = Limits { filter_bytes: 2 * 129, ..Limits::default() };
    let mut world = World::new(Shape { limits, rules, ..Shape::default() });
    let subscribed = world.subscribe(slot(1), &["secret", "#", "a", "b", "c"], Start::Latest);
    let refused: Vec<_> = subscribed.refused.iter().map(|(f, r)| (f.as_str(), r)).collect();
    assert!(matches!(
        refused[..],
        [("secret", Refusal::Forbidden(_)), ("#", Refusal::Forbidden(_)), ("c", Refusal::TooMany(_))]
    ));
    world.publish("a");
    world.publish("secret");
    world.turn();
    assert_eq!(seen(&mut world), ["1:1"]);
}

#[test]
fn new_rules_end_what_they_no_longer_grant_before_later_records() {
    let mut world = World::new(Shape::default());
    world.subscribe(slot(1), &["a"], Start::Latest);
    world.subscribe(slot(2), &["b"], Start::Latest);
    world
        .hub
        .set_rules(Arc::new(Rules::new(vec![TopicRule { subscribe: Vec::new(), ..rule("a", Durability::Fsync) }])));
    world.publish("a");
    world.publish("b");
    world.turn();
    assert_eq!(seen(&mut world), ["2:2"]);
    assert_eq!(world.outside.ended, [(slot(1), Reason::Forbidden)]);
}

#[test]
fn a_record_with_many_subscribers_is_continued_and_the_mark_waits() {
    let limits = Limits { deliveries_per_turn: 4, ..Limits::default() };
    let mut world = World::new(Shape { limits, ..Shape::default() });
    for index in 0..10 {
        world.subscribe(slot(index), &["a"], Start::Latest);
    }
    world.publish("a");
    assert!(world.turn());
    assert_eq!(world.outside.seen.len(), 3);
    // A connection that has the record leaves, one that hasn't leaves, and another comes and begins behind it.
    world.close(slot(9));
    world.close(slot(0));
    world.subscribe(slot(20), &["a"], Start::Latest);
    assert_eq!(world.hub.position(slot(20)).cursor, Cursor::single(EPOCH, Offset(1)));
    assert_eq!(world.hub.position(slot(1)).cursor, Cursor::single(EPOCH, Offset(0)));
    world.settle();
    let mut all = seen(&mut world);
    all.sort();
    assert_eq!(all, ["1:1", "2:1", "3:1", "4:1", "5:1", "6:1", "7:1", "8:1", "9:1"]);
}

#[test]
fn churn_leaves_nothing_behind() {
    let mut world = World::new(Shape::default());
    let connections = 2000;
    for round in 0..4u32 {
        for index in 0..connections {
            let slot = Slot { index, generation: round };
            world.subscribe(slot, &["all", "own/+", &format!("own/{}", index % 50)], Start::Latest);
        }
        assert_eq!(world.hub.subscribers(&topic("own/7")), u64::from(connections));
        let order: Vec<u32> = (0..connections).map(|i| (i * 7919 + round * 13) % connections).collect();
        for (nth, index) in order.into_iter().enumerate() {
            let slot = Slot { index, generation: round };
            if nth % 3 == 0 {
                world.unsubscribe(slot);
            } else {
                world.close(slot);
            }
            // A late close of the former connection changes nothing.
            world.hub.close(Slot { index, generation: round.wrapping_sub(1) }, world::ORIGIN, world.outside.now);
        }
        let counters = world.hub.counters();
        assert_eq!((counters.subscriptions, counters.filters, counters.lagging), (0, 0, 0));
    }
    world.publish("all");
    world.turn();
    assert!(seen(&mut world).is_empty());
}

#[test]
fn a_worker_that_falls_behind_the_window_lets_its_readers_read_the_store() {
    let limits = Limits { tail_records: 1, ..Limits::default() };
    let mut world = World::new(Shape { limits, ..Shape::default() });
    world.subscribe(slot(1), &["a"], Start::Latest);
    for _ in 0..5 {
        world.publish_message(0, 2, Message::new(topic("a"), "x"));
        world.apply();
    }
    world.settle();
    assert_eq!(seen(&mut world), ["1:2", "1:4", "1:6", "1:8", "1:10"]);
    assert!(world.hub.counters().reads > 0);
}

#[test]
fn expired_messages_are_left_out() {
    let mut world = World::new(Shape::default());
    world.subscribe(slot(1), &["a"], Start::Latest);
    let mut message = Message::new(topic("a"), "x");
    message.expires = Some(world.outside.now.wall);
    world.publish_message(0, 1, message);
    world.publish("a");
    world.turn();
    assert_eq!(seen(&mut world), ["1:2"]);
    assert_eq!(world.hub.counters().expired, 1);
}
