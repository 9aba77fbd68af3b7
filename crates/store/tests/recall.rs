//! A recalled message is on no page but one that is asked for with it.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod common;

use common::{World, message, topic};
use everywire_base::ask::ReadKind;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::MessageId;
use everywire_base::record::{Durability, Message};
use everywire_base::rules::Rules;

/// Appends a fold of the message at an offset.
fn fold(world: &mut World, offset: Offset, body: &str) {
    let time = world.kept.records.lock().unwrap().iter().find(|record| record.offset == offset).unwrap().time;
    let id = MessageId::new(time, Partition(0), offset);
    world.append(common::retained(&format!("$fold/{id}"), 0, body), Durability::Fsync);
    world.settle();
}

fn offsets(world: &World, filter: &str, kind: ReadKind) -> Vec<u64> {
    world.read(&[(filter, 0)], kind).records.iter().map(|record| record.offset.0).collect()
}

fn history(with_recalled: bool) -> ReadKind {
    ReadKind::History { after: Offset(0), up_to: Offset(u64::MAX), max_records: 10, max_bytes: 1 << 20, with_recalled }
}

fn backwards(max_records: usize, with_recalled: bool) -> ReadKind {
    ReadKind::Backwards { before: None, max_records, max_bytes: 1 << 20, with_recalled }
}

#[test]
fn every_kind_of_page_leaves_it_out_and_says_no_gap() {
    let mut world = World::in_memory(Rules::default());
    let all: Vec<Offset> = (0..3).map(|n| world.publish("room/a", &n.to_string())).collect();
    let retained = world.append(Message { retain: true, ..message("room/a/notice", "x") }, Durability::Fsync);
    let other = world.publish("news", "x");
    world.settle();
    fold(&mut world, all[0], r#"{"reactions":{"x":["ann"]}}"#);
    for offset in [all[1], all[2], retained, other] {
        fold(&mut world, offset, r#"{"recalled":true}"#);
    }
    for when in ["at once", "after a checkpoint", "after a restart"] {
        match when {
            "after a checkpoint" => world.pass(20_000),
            "after a restart" => world.restart(true),
            _ => {}
        }
        let [first, second, third] = [all[0].0, all[1].0, all[2].0];
        assert_eq!(offsets(&world, "room/a", history(false)), [first], "{when}");
        assert_eq!(offsets(&world, "room/#", history(false)), [first], "{when}");
        assert_eq!(offsets(&world, "room/a", history(true)), [first, second, third], "{when}");
        assert_eq!(offsets(&world, "room/#", history(true)), [first, second, third, retained.0], "{when}");
        assert_eq!(offsets(&world, "room/a", backwards(1, false)), [first], "{when}: earlier ones take its place");
        assert_eq!(offsets(&world, "room/a", backwards(2, true)), [second, third], "{when}");
        assert_eq!(offsets(&world, "room/a", ReadKind::Records(all.clone().into())), [first], "{when}");
        assert_eq!(world.retained(&["room/#"]), [0; 0], "{when}");
        assert_eq!(offsets(&world, "news", history(false)), [other.0], "{when}: it belongs to no room");
        let page = world.read(&[("room/a", 0), ("room/a/notice", 0)], history(false));
        assert_eq!((page.lost, page.upto), (None, world.store.applied()), "{when}");
    }
    assert!(world.store.topic(&topic("room/a")).unwrap().is_some());
}
