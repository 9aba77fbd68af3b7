//! Retained messages by pages, records by their offsets, and the marks of messages that sessions publish exactly once.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::{World, message, topic};
use everywire_base::ask::ReadKind;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::{Durability, Message, Once};
use everywire_base::rules::Rules;
use everywire_base::system;

fn retain(world: &mut World, name: &str, body: &str) -> Offset {
    world.append(Message { retain: true, ..message(name, body) }, Durability::Fsync)
}

/// All pages of at most `max_records`.
fn pages(world: &World, filters: &[&str], max_records: usize) -> Vec<Vec<String>> {
    let interests: Vec<_> = filters.iter().map(|filter| (*filter, 0)).collect();
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = world.read(&interests, ReadKind::Retained { after, max_records });
        assert!(!page.failed);
        pages.push(page.records.iter().map(|r| r.entry().unwrap().topic().to_string()).collect());
        after = page.next;
        if after.is_none() {
            return pages;
        }
    }
}

#[test]
fn retained_messages_come_by_pages_and_each_once() {
    let mut world = World::in_memory(Rules::default());
    for n in 0..50 {
        retain(&mut world, &format!("room/{n}"), "x");
    }
    world.settle();
    world.restart(true);
    // Half of the messages are in the tables, the others changed since.
    for n in 25..75 {
        retain(&mut world, &format!("room/{n}"), if n % 5 == 0 { "" } else { "y" });
    }
    retain(&mut world, "rooms", "other");
    world.settle();
    let expected: BTreeSet<String> = (0..75).filter(|n| *n < 25 || n % 5 != 0).map(|n| format!("room/{n}")).collect();
    for (filters, size) in [(&["room/+"][..], 7), (&["room/#", "room/+"], 1), (&["room/#", "room/3"], 1000)] {
        let pages = pages(&world, filters, size);
        assert!(pages[1..].iter().all(|page| page.len() <= size));
        let all: Vec<String> = pages.concat();
        assert_eq!(all.len(), expected.len(), "{filters:?} by {size}");
        assert_eq!(all.into_iter().collect::<BTreeSet<_>>(), expected);
    }
    assert_eq!(pages(&world, &["room/1", "room/2", "none"], 1), [["room/1", "room/2"]]);
}

#[test]
fn records_are_found_by_their_offsets_as_long_as_they_are_kept() {
    let mut rules = Rules::default();
    rules = Rules::new(
        rules
            .all()
            .cloned()
            .map(|mut rule| {
                rule.history.max_messages = 2;
                rule
            })
            .collect(),
    );
    let mut world = World::in_memory(rules);
    let first = retain(&mut world, "a", "retained");
    let passed = world.append(message("a", "passes"), Durability::None);
    let offsets: Vec<Offset> = (0..3).map(|_| world.append(message("a", "x"), Durability::Fsync)).collect();
    let expiring = Message { expires: Some(UnixMillis(world.now.0 + 10)), ..message("b", "soon gone") };
    let expiring = world.append(expiring, Durability::Fsync);
    world.settle();
    let ask = |world: &World| {
        let wanted = [offsets[2], expiring, first, offsets[0], passed, Offset(999), offsets[1]];
        let page = world.read(&[], ReadKind::Records(wanted.into()));
        page.records.iter().map(|record| record.offset).collect::<Vec<_>>()
    };
    assert_eq!(ask(&world), [offsets[2], expiring, first, offsets[1]], "in the order of the asking");
    world.pass(20);
    assert_eq!(ask(&world), [offsets[2], first, offsets[1]]);
}

#[test]
fn what_a_session_publishes_once_leaves_a_mark_until_its_time() {
    let mut world = World::in_memory(Rules::default());
    let session = topic("$sessions/ann/phone");
    let until = UnixMillis(world.now.0 + 1000);
    for (tag, durability) in [(7, Durability::Fsync), (9, Durability::None)] {
        let once = Some(Box::new(Once { session: session.clone(), tag, generation: 0, until }));
        world.append(Message { once, ..message("a", "x") }, durability);
    }
    world.settle();
    let marks = ["$sessions/ann/phone/7", "$sessions/ann/phone/9"];
    assert_eq!(pages(&world, &["$sessions/ann/phone", "$sessions/ann/phone/+"], 10), [marks]);
    world.restart(true);
    assert_eq!(pages(&world, &["$sessions/ann/phone/+"], 10), [marks], "the checkpoint has them");
    let mark = system::once_topic(&session, 7).unwrap();
    retain(&mut world, mark.as_str(), "");
    world.settle();
    assert_eq!(pages(&world, &["$sessions/ann/phone/+"], 10), [[marks[1]]]);
    world.pass(1001);
    assert_eq!(pages(&world, &["$sessions/ann/phone/+"], 10), [Vec::<String>::new()]);
}

/// The reads that have a lane of their own among the readers: those that need only an index.
#[test]
fn reads_of_exact_topics_are_short_and_those_of_patterns_are_not() {
    use everywire_base::ask::{Interest, Read};
    use everywire_base::cursor::Partition;
    use everywire_base::id::ReplyTo;
    use everywire_base::topic::Filter;
    use everywire_store::Store;

    let history =
        ReadKind::History { after: Offset(0), up_to: Offset(9), max_records: 1, max_bytes: 1, with_recalled: false };
    let retained = ReadKind::Retained { after: None, max_records: 1 };
    let backwards = ReadKind::Backwards { before: None, max_records: 1, max_bytes: 1, with_recalled: false };
    let many: Vec<String> = (0..100).map(|n| format!("t/{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cases: [(&[&str], &ReadKind, bool); 9] = [
        (&["a"], &history, true),
        (&["a", "b"], &history, true),
        (&["a", "b/+"], &history, false),
        (&many, &history, false),
        (&many, &retained, true),
        (&["$sessions/u/1", "$sessions/u/1/+"], &retained, true),
        (&["a", "a/+"], &retained, false),
        (&["a"], &backwards, true),
        (&[], &ReadKind::Records(Arc::new([Offset(1)])), true),
    ];
    for (filters, kind, is_short) in cases {
        let interest = |f: &&str| Interest { filter: Filter::parse(f).unwrap(), since: Offset(0) };
        let interests = filters.iter().map(interest).collect();
        let (reply_to, partition, applied) = (ReplyTo::Nobody, Partition(0), Offset(0));
        let read = Read { reply_to, partition, interests, applied, kind: kind.clone() };
        assert_eq!(Store::is_short(&read), is_short, "{filters:?} {kind:?}");
    }
}
