//! The last messages of a topic before a position.

mod common;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::{World, message};
use everywire_base::ask::{Page, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::Durability;
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::topic::Filter;

fn back(world: &World, topic: &str, before: Option<u64>, max_records: usize) -> Page {
    let before = before.map(Offset);
    world.read(&[(topic, 0)], ReadKind::Backwards { before, max_records, max_bytes: 1 << 20, with_recalled: false })
}

fn offsets(page: &Page) -> Vec<u64> {
    page.records.iter().map(|record| record.offset.0).collect()
}

/// All pages, from the newest back, joined in order.
fn all_back(world: &World, topic: &str, max_records: usize) -> Vec<u64> {
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = back(world, topic, before, max_records);
        assert!(!page.failed && page.records.len() <= max_records);
        all = [offsets(&page), all].concat();
        if page.upto == Offset::BEGINNING {
            return all;
        }
        assert_eq!(page.upto, page.records[0].offset, "the next one goes on below the first");
        before = Some(page.upto.0);
    }
}

#[test]
fn the_last_messages_come_in_order_and_say_where_to_go_on() {
    let mut world = World::in_memory(Rules::default());
    for n in 0..30 {
        world.publish(["a", "b", "c"][n % 3], "x");
    }
    let page = back(&world, "a", None, 3);
    assert_eq!((offsets(&page), page.upto), (vec![22, 25, 28], Offset(22)));
    let page = back(&world, "a", Some(22), 3);
    assert_eq!((offsets(&page), page.upto), (vec![13, 16, 19], Offset(13)));
    let page = back(&world, "a", Some(7), 2);
    assert_eq!((offsets(&page), page.upto, page.lost), (vec![1, 4], Offset::BEGINNING, None), "that is all");
    assert_eq!(offsets(&back(&world, "a", Some(8), 2)), [4, 7], "between two messages");
    assert_eq!(offsets(&back(&world, "a", Some(1), 2)), Vec::<u64>::new());
    assert_eq!(offsets(&back(&world, "a", Some(999), 1)), [28], "a cursor ahead begins with the newest");
    assert_eq!(offsets(&back(&world, "none", None, 2)), Vec::<u64>::new());
}

/// The pages come from sealed chunks of the index, written or not, and from the open one.
#[test]
fn pages_backwards_are_all_there_is() {
    let mut world = World::in_memory(Rules::default());
    let mut expected = Vec::new();
    for round in 0..4 {
        for n in 0..300u64 {
            let offset = world.publish(if n % 4 == 0 { "b" } else { "a" }, "x").0;
            expected.extend((n % 4 != 0).then_some(offset));
        }
        for size in [1, 7, 128, 1000] {
            assert_eq!(all_back(&world, "a", size), expected, "by {size} in round {round}");
        }
        match round {
            0 => world.pass(10_000),
            1 => world.restart(true),
            _ => world.restart(false),
        }
    }
}

#[test]
fn what_is_not_kept_is_not_there_and_the_last_page_says_so() {
    let rule = |max_messages, max_age| {
        let history = History { max_messages, max_age: Duration::from_secs(max_age), ..History::default() };
        Rules::new(vec![TopicRule { filter: Filter::parse("#").unwrap(), history, ..TopicRule::fallback() }])
    };
    let mut world = World::in_memory(rule(200, 3600));
    (0..500).for_each(|_| {
        world.publish("a", "x");
    });
    let page = back(&world, "a", Some(400), 1000);
    assert_eq!(offsets(&page), (301..400).collect::<Vec<u64>>());
    assert_eq!(page.lost.unwrap().up_to, Offset(300));
    world.set_rules(rule(10, 3600));
    assert_eq!(all_back(&world, "a", 3), (491..=500).collect::<Vec<u64>>(), "other rules hold at once");
    world.pass(1_000_000);
    let mut short = message("a", "x");
    short.expires = Some(UnixMillis(world.now.0 + 1));
    world.append(short, Durability::Fsync);
    world.publish("a", "x");
    world.pass(2_700_000);
    assert_eq!(all_back(&world, "a", 3), [502], "what has aged or expired is gone");
}

#[test]
fn bytes_bound_a_page_backwards_too() {
    let mut world = World::in_memory(Rules::default());
    (0..5).for_each(|n| {
        world.publish("a", &"x".repeat(10 * (n + 1)));
    });
    let page = |before: Option<u64>, max_bytes| {
        let before = before.map(Offset);
        let page =
            world.read(&[("a", 0)], ReadKind::Backwards { before, max_records: 100, max_bytes, with_recalled: false });
        (offsets(&page), page.upto.0)
    };
    assert_eq!(page(None, 95), (vec![4, 5], 4));
    assert_eq!(page(None, 1), (vec![5], 5), "one comes however long it is");
    assert_eq!(page(Some(4), 1000), (vec![1, 2, 3], 0));
}

#[test]
fn a_page_backwards_never_scans_the_log() {
    let mut world = World::in_memory(Rules::default());
    (0..1000).for_each(|n| {
        world.publish(if n % 100 == 0 { "rare" } else { "a" }, "x");
    });
    let scans = world.kept.scans.load(Ordering::Relaxed);
    assert_eq!(all_back(&world, "rare", 3).len(), 10);
    assert_eq!(world.kept.scans.load(Ordering::Relaxed), scans);
    let wild = world
        .read(&[("#", 0)], ReadKind::Backwards { before: None, max_records: 3, max_bytes: 1000, with_recalled: false });
    assert!(wild.records.is_empty(), "one topic at a time");
}
