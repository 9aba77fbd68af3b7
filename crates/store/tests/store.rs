//! The behaviour of the store that a reader would notice, over tables in memory.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Forgetful, World, message, retained, topic};
use everywire_base::ask::{Lost, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::id::MessageId;
use everywire_base::record::{Durability, Message, Once};
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::topic::Filter;
use everywire_store::tables::{Batch, Table, Tables, TablesError, Take};

fn rule(filter: &str, history: History) -> TopicRule {
    TopicRule { filter: Filter::parse(filter).unwrap(), history, ..TopicRule::fallback() }
}

fn keeps(max_messages: u64) -> Rules {
    Rules::new(vec![rule("#", History { max_messages, ..History::default() })])
}

fn passing(filter: &str) -> TopicRule {
    TopicRule { durability: Durability::None, ..rule(filter, History::default()) }
}

#[test]
fn a_page_has_the_topics_messages_in_order() {
    let mut world = World::in_memory(Rules::default());
    for n in 0..20 {
        world.publish(["a", "b", "c"][n % 3], "x");
    }
    assert_eq!(world.all(&[("a", 0)], 0, 100), ((1..=20).step_by(3).collect(), 0));
    assert_eq!(world.all(&[("a", 0), ("c", 9)], 4, 2).0, [7, 10, 12, 13, 15, 16, 18, 19]);
    assert_eq!(world.all(&[("+", 0)], 17, 2).0, [18, 19, 20]);
    assert_eq!(world.all(&[("+", 15), ("a", 0)], 11, 100).0, [13, 16, 17, 18, 19, 20]);
}

#[test]
fn a_page_keeps_its_bounds_and_says_how_far_it_came() {
    let mut world = World::in_memory(Rules::default());
    for n in 0..10 {
        world.publish(if n == 9 { "b" } else { "a" }, "0123456789");
    }
    for filter in ["a", "#"] {
        let page = world.page(&[(filter, 0)], 0, 3, 1000);
        assert_eq!((page.records.len(), page.upto), (3, Offset(3)), "{filter}");
        let page = world.page(&[(filter, 0)], 3, 100, 25);
        assert_eq!((page.records.len(), page.upto), (2, Offset(5)), "{filter}");
        let page = world.page(&[(filter, 0)], 3, 100, 1);
        assert_eq!((page.records.len(), page.upto), (1, Offset(4)), "one comes however long it is: {filter}");
    }
    assert_eq!(world.page(&[("a", 0)], 8, 100, 1000).upto, Offset(10), "all up to the end");
}

#[test]
fn nothing_beyond_the_applied_offset_is_the_stores() {
    let mut world = World::in_memory(Rules::default());
    world.publish("a", "x");
    world.append(message("a", "y"), Durability::Fsync);
    let page = world.page(&[("a", 0)], 0, 10, 100);
    assert_eq!((page.records.len(), page.upto), (1, Offset(1)));
    assert_eq!(world.page(&[("a", 0)], 5, 10, 100).upto, Offset(5), "a cursor ahead waits");
}

#[test]
fn what_a_rule_does_not_keep_is_lost_exactly() {
    let mut world = World::in_memory(keeps(3));
    for _ in 0..5 {
        world.publish("a", "x");
    }
    world.publish("b", "x");
    for filter in ["a", "+"] {
        let page = world.page(&[(filter, 0)], 0, 100, 1000);
        assert_eq!(page.lost, Some(Lost { topic: "a".into(), up_to: Offset(2) }), "{filter}");
        assert_eq!(page.records[0].offset, Offset(3));
        assert_eq!(world.page(&[(filter, 0)], 2, 100, 1000).lost, None, "read before it was lost");
        assert_eq!(world.page(&[(filter, 2)], 0, 100, 1000).lost, None, "subscribed after it");
    }
    assert_eq!(world.page(&[("b", 0)], 0, 100, 1000).lost, None);
    let info = world.store.topic(&topic("a")).unwrap().unwrap();
    assert_eq!((info.count, info.bytes, info.head, info.earliest), (3, 3, Offset(5), Offset(3)));
}

#[test]
fn bytes_bound_a_topic_too() {
    let history = History { max_bytes: 25, ..History::default() };
    let mut world = World::in_memory(Rules::new(vec![rule("#", history)]));
    for _ in 0..4 {
        world.publish("a", "0123456789");
    }
    assert_eq!(world.all(&[("a", 0)], 0, 10), (vec![3, 4], 2));
}

#[test]
fn age_is_loss_and_expiry_is_not() {
    let history = History { max_age: Duration::from_mins(1), ..History::default() };
    let mut world = World::in_memory(Rules::new(vec![rule("#", history)]));
    let mut short = message("a", "short");
    short.expires = Some(UnixMillis(world.now.0 + 1000));
    world.append(short, Durability::Fsync);
    world.pass(1000);
    assert_eq!(world.all(&[("a", 0)], 0, 10), (vec![], 0));
    world.publish("b", "long");
    world.pass(59_999);
    assert_eq!(world.all(&[("+", 0)], 0, 10), (vec![2], 0), "the expired one has aged, but it was not lost by that");
    world.pass(1);
    for filter in ["b", "#"] {
        assert_eq!(world.all(&[(filter, 0)], 0, 10), (vec![], 2), "{filter}");
    }
    assert_eq!(world.all(&[("a", 0)], 0, 10), (vec![], 0));
}

#[test]
fn the_log_is_cleaned_of_what_nobody_wants() {
    let mut world = World::in_memory(keeps(2));
    for n in 0..100 {
        world.publish(&format!("t/{}", n % 5), "x");
    }
    let mut kept = message("t/0", "kept");
    kept.retain = true;
    world.append(kept, Durability::Fsync);
    for _ in 0..3 {
        world.publish("t/0", "x");
    }
    world.pass(20_000);
    assert_eq!(world.kept.records.lock().unwrap().len(), 11, "two of each of five, and the retained one");
    assert_eq!(world.retained(&["t/+"]), [101]);
    world.restart(false);
    assert_eq!(world.all(&[("t/0", 0)], 0, 10), (vec![103, 104], 102));
    assert_eq!(world.all(&[("t/1", 0)], 97, 10), (vec![], 0));
}

#[test]
fn messages_without_history_are_a_gap_for_who_comes_late() {
    let mut world = World::in_memory(Rules::new(vec![passing("typing/#")]));
    world.append(message("typing/a", "x"), Durability::None);
    world.publish("room/1", "x");
    for filter in ["typing/a", "typing/+", "#"] {
        assert_eq!(world.all(&[(filter, 0)], 0, 10).1, 1, "{filter}");
        assert_eq!(world.all(&[(filter, 0)], 1, 10).1, 0, "{filter}");
    }
    assert_eq!(world.all(&[("room/#", 0)], 0, 10), (vec![2], 0), "not of this filter");
    world.restart(true);
    assert_eq!(world.all(&[("typing/+", 0)], 0, 10).1, 1, "an orderly end remembers");
    assert_eq!(world.all(&[("room/#", 0)], 0, 10), (vec![2], 0), "not of this filter");
}

#[test]
fn other_rules_hold_at_once() {
    let mut world = World::in_memory(Rules::default());
    for n in 0..300 {
        world.publish(if n % 2 == 0 { "a" } else { "b" }, "x");
    }
    world.set_rules(keeps(5));
    let last_five: Vec<u64> = (291..300).step_by(2).collect();
    assert_eq!(world.all(&[("a", 0)], 0, 100), (last_five.clone(), 289));
    world.settle();
    assert_eq!(world.all(&[("a", 0)], 0, 100), (last_five.clone(), 289));
    assert_eq!(world.store.topic(&topic("a")).unwrap().unwrap().count, 5);
    world.set_rules(keeps(7));
    world.publish("a", "x");
    assert_eq!(world.all(&[("a", 0)], 0, 100), ([last_five, vec![301]].concat(), 289));
}

#[test]
fn retained_messages_are_found_replaced_removed_and_expire() {
    let mut world = World::in_memory(Rules::new(vec![passing("p/#")]));
    let put = |world: &mut World, name: &str, body: &str, ttl: Option<u64>| {
        let mut m = message(name, body);
        m.retain = true;
        m.expires = ttl.map(|ttl| UnixMillis(world.now.0 + ttl));
        let durability = if name.starts_with("p/") { Durability::None } else { Durability::Fsync };
        let offset = world.append(m, durability);
        world.settle();
        offset
    };
    put(&mut world, "a/1", "x", None);
    put(&mut world, "a/2", "x", None);
    put(&mut world, "a/1", "y", None);
    put(&mut world, "a/3", "x", Some(10));
    put(&mut world, "user/alice", "x", None);
    put(&mut world, "p/1", "x", None);
    let hint = world.store.retained();
    for _restart in 0..2 {
        assert_eq!(world.retained(&["a/1"]), [3]);
        assert_eq!(world.retained(&["a/+"]), [2, 3, 4]);
        assert_eq!(world.retained(&["#"]), [2, 3, 4, 6], "an inbox is out of its reach, what only passes is not");
        assert_eq!(world.retained(&["user/+"]), [5]);
        assert_eq!(world.retained(&["a/+", "a/1"]), [2, 3, 4], "each once");
        assert_eq!(world.store.retained().total(), 5);
        world.restart(true);
    }
    put(&mut world, "a/2", "", None);
    world.pass(10);
    assert_eq!(world.retained(&["#"]), [3, 6]);
    world.pass(20_000);
    assert_eq!(world.store.retained().total(), 3, "cleaning takes the expired one off the hint");
    assert_eq!(hint.total(), 5, "that was another life");
    world.restart(false);
    assert_eq!(world.retained(&["#"]), [3, 6]);
}

#[test]
fn topics_are_listed_in_pages_from_stored_counts() {
    let mut world = World::in_memory(Rules::default());
    for name in ["b/2", "a", "b/1", "b", "user/x", "b/1"] {
        world.publish(name, "xy");
    }
    let list = |world: &World, filter: &str, after: Option<&str>, limit| {
        let after = after.map(topic);
        let topics = world.store.topics(&Filter::parse(filter).unwrap(), after.as_ref(), limit).unwrap();
        topics.iter().map(|t| (t.topic.as_str().to_owned(), t.head.0, t.count, t.bytes)).collect::<Vec<_>>()
    };
    for _written in 0..2 {
        assert_eq!(list(&world, "b/#", None, 10).iter().map(|t| &*t.0).collect::<Vec<_>>(), ["b", "b/1", "b/2"]);
        assert_eq!(list(&world, "b/1", None, 10), [("b/1".into(), 6, 2, 4)]);
        assert_eq!(list(&world, "#", Some("a"), 2).iter().map(|t| &*t.0).collect::<Vec<_>>(), ["b", "b/1"]);
        assert_eq!(list(&world, "#", Some("b/1"), 2).iter().map(|t| &*t.0).collect::<Vec<_>>(), ["b/2"]);
        world.pass(10_000);
    }
    world.publish("b/0", "x");
    assert_eq!(list(&world, "b/+", None, 2).iter().map(|t| &*t.0).collect::<Vec<_>>(), ["b/0", "b/1"]);
}

#[test]
fn a_message_is_found_by_its_id() {
    let mut world = World::in_memory(keeps(1));
    let first = MessageId::new(world.now, Partition(0), world.publish("a", "1"));
    assert!(world.store.message(first, world.now).unwrap().is_some());
    let other_time = MessageId::new(UnixMillis(1), Partition(0), Offset(1));
    assert!(world.store.message(other_time, world.now).unwrap().is_none());
    world.publish("a", "2");
    assert!(world.store.message(first, world.now).unwrap().is_none(), "it is not kept any more");
}

#[test]
fn the_earliest_position_gives_all_there_is() {
    let mut world = World::in_memory(keeps(2));
    for name in ["a", "b", "a", "a", "c"] {
        world.publish(name, "x");
    }
    let earliest = |filter: &str| world.store.earliest(&Filter::parse(filter).unwrap(), world.now).unwrap().0;
    assert_eq!((earliest("a"), earliest("b"), earliest("none"), earliest("+")), (2, 1, 5, 1));
}

#[test]
fn what_has_aged_beyond_all_rules_is_forgotten_with_one_floor() {
    let history = History { max_age: Duration::from_mins(1), ..History::default() };
    let mut world = World::in_memory(Rules::new(vec![rule("#", history)]));
    let all = TopicRule { history, ..TopicRule::fallback() };
    assert_eq!(all.history, history);
    for n in 0..50 {
        world.publish(&format!("old/{n}"), "x");
    }
    // The fallback keeps seven days.
    for _ in 0..8 * 24 {
        world.pass(3_600_000);
        world.publish("new", "x");
    }
    world.pass(20_000);
    assert!(world.store.topic(&topic("old/7")).unwrap().is_none());
    assert_eq!(world.store.topics(&Filter::parse("#").unwrap(), None, 100).unwrap().len(), 1);
    assert_eq!(world.all(&[("old/7", 0)], 7, 10).1, 50, "what was forgotten is a gap for who comes from before");
    assert_eq!(world.all(&[("old/7", 0)], 50, 10).1, 0);
    let again = world.publish("old/7", "x").0;
    assert_eq!(world.all(&[("old/7", 0)], 50, 10), (vec![again], 0));
}

#[test]
fn a_store_of_another_log_is_made_anew() {
    let mut world = World::in_memory(Rules::default());
    world.publish("a", "x");
    world.restart(true);
    world.kept.records.lock().unwrap().clear();
    world.lineage.lock().unwrap().epoch = Epoch(8);
    world.last = 0;
    world.applier = None;
    world.reopen();
    assert_eq!(world.all(&[("a", 0)], 0, 10), (vec![], 0));
    world.publish("b", "x");
    assert_eq!(world.all(&[("#", 0)], 0, 10), (vec![1], 0));
}

#[test]
fn a_store_made_anew_tells_a_gap_for_what_the_log_has_let_go() {
    let mut world = World::in_memory(keeps(2));
    for _ in 0..5 {
        world.publish("a", "x");
    }
    world.pass(20_000);
    world.open = Box::new(|| Box::new(everywire_store::MemoryTables::default()));
    world.restart(false);
    for filter in ["a", "b", "+"] {
        assert_eq!(world.all(&[(filter, 0)], 0, 10).1, 3, "{filter}");
        assert_eq!(world.all(&[(filter, 0)], 3, 10).1, 0, "{filter}");
    }
}

#[test]
fn readers_go_on_while_the_applier_works() {
    let mut world = World::in_memory(keeps(50));
    for n in 0..2000 {
        world.append(message(["a", "b"][n % 2], "x"), Durability::Fsync);
    }
    let store = world.store.clone();
    let now = world.now;
    let reader = std::thread::spawn(move || {
        let interests = [everywire_base::ask::Interest { filter: Filter::parse("a").unwrap(), since: Offset(0) }];
        let mut read = everywire_base::ask::Read {
            reply_to: everywire_base::id::ReplyTo::Nobody,
            partition: Partition(0),
            interests: Arc::new(interests),
            applied: Offset::BEGINNING,
            kind: common::history(0, 1000, 1 << 20),
        };
        let mut upto = Offset(0);
        while upto < Offset(2000) {
            let page = store.read(&read, now);
            assert!(page.records.len() <= 50 && page.upto >= upto && !page.failed);
            // A page ends before a loss; the reader goes on behind that.
            upto = page.upto.max(page.lost.map_or(Offset(0), |lost| lost.up_to));
            read.kind = common::history(upto.0, 1000, 1 << 20);
        }
    });
    world.settle();
    reader.join().unwrap();
}

/// Tables on a disk that is full from time to time.
#[derive(Clone, Default)]
struct Full(Forgetful, Arc<AtomicBool>);

impl Full {
    fn check(&self) -> Result<(), TablesError> {
        if self.1.load(Ordering::Acquire) { Err(TablesError::Failed("no space left".into())) } else { Ok(()) }
    }
}

impl Tables for Full {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        self.0.get(table, key)
    }
    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, take: &mut Take<'_>) -> Result<(), TablesError> {
        self.0.scan(table, from, to, take)
    }
    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], take: &mut Take<'_>) -> Result<(), TablesError> {
        self.0.scan_back(table, from, to, take)
    }
    fn write(&self, batch: Batch) -> Result<(), TablesError> {
        self.check()?;
        self.0.write(batch)
    }
    fn sync(&self) -> Result<(), TablesError> {
        self.check()?;
        self.0.sync()
    }
    fn reopen(&self) -> Result<(), TablesError> {
        self.check()?;
        self.0.reopen()
    }
    fn clear(&self) -> Result<(), TablesError> {
        self.0.clear()
    }
    fn bytes(&self) -> u64 {
        0
    }
}

#[test]
fn a_full_disk_stops_the_store_and_room_on_it_brings_it_back() {
    let tables = Full::default();
    let opened = tables.clone();
    let mut world = World::new(Box::new(move || Box::new(opened.clone())), keeps(5));
    for _ in 0..20 {
        world.publish("a", "x");
    }
    tables.1.store(true, Ordering::Release);
    for _ in 0..20 {
        world.append(message("a", "x"), Durability::Fsync);
    }
    world.now = UnixMillis(world.now.0 + 20_000);
    assert!(world.applier.as_mut().unwrap().turn(world.now).error.is_some());
    assert!(world.page(&[("a", 0)], 0, 10, 1000).failed, "nobody is told half of it");
    assert!(world.applier.as_mut().unwrap().turn(world.now).error.is_none(), "it is not tried all the time");
    world.now = UnixMillis(world.now.0 + 20_000);
    assert!(world.applier.as_mut().unwrap().turn(world.now).error.is_some());
    tables.1.store(false, Ordering::Release);
    world.now = UnixMillis(world.now.0 + 20_000);
    world.settle();
    assert_eq!(world.all(&[("a", 0)], 0, 10), ((36..=40).collect(), 35));
    let info = world.store.topic(&topic("a")).unwrap().unwrap();
    assert_eq!((info.count, info.head), (5, Offset(40)));
}

/// Tables that report damage, until they are cleared.
#[derive(Clone, Default)]
struct Spoilt(Forgetful, Arc<AtomicBool>);

impl Spoilt {
    fn check(&self) -> Result<(), TablesError> {
        if self.1.load(Ordering::Acquire) { Err(TablesError::Damaged("a block".into())) } else { Ok(()) }
    }
}

impl Tables for Spoilt {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        self.check()?;
        self.0.get(table, key)
    }
    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, take: &mut Take<'_>) -> Result<(), TablesError> {
        self.check()?;
        self.0.scan(table, from, to, take)
    }
    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], take: &mut Take<'_>) -> Result<(), TablesError> {
        self.check()?;
        self.0.scan_back(table, from, to, take)
    }
    fn write(&self, batch: Batch) -> Result<(), TablesError> {
        self.0.write(batch)
    }
    fn sync(&self) -> Result<(), TablesError> {
        self.0.sync()
    }
    fn reopen(&self) -> Result<(), TablesError> {
        self.0.reopen()
    }
    fn clear(&self) -> Result<(), TablesError> {
        self.1.store(false, Ordering::Release);
        self.0.clear()
    }
    fn bytes(&self) -> u64 {
        0
    }
}

#[test]
fn a_damaged_retained_message_hides_no_other() {
    let mut world = World::in_memory(Rules::default());
    for n in 0..40 {
        let retained = Message { retain: true, ..message(&format!("a/{n:02}"), "x") };
        world.append(retained, Durability::Fsync);
    }
    world.append(retained("$sessions/u/1", 0, "x"), Durability::Fsync);
    world.settle();
    *world.kept.damaged.lock().unwrap() = Some((8, 9));
    let expected: Vec<u64> = (1..=40).filter(|offset| ![8, 9].contains(offset)).collect();
    assert_eq!(world.retained(&["a/#"]), expected);
    assert_eq!(world.retained(&["a/06", "a/07", "a/09"]), [7, 10]);
    *world.kept.damaged.lock().unwrap() = Some((41, 41));
    let session = [("$sessions/u/1", 0)];
    let page = world.read(&session, ReadKind::Retained { after: None, max_records: 9 });
    assert!(page.failed, "no new session is made in place of one that can't be seen");
}

/// Tables that a reader finds damaged are made anew at once, and no reader gets half of them meanwhile.
#[test]
fn tables_that_turn_out_to_be_damaged_are_made_anew() {
    let tables = Spoilt::default();
    let opened = tables.clone();
    let mut world = World::new(Box::new(move || Box::new(opened.clone())), keeps(5));
    let count = 20_000;
    for n in 0..count {
        let message = Message { retain: n < 10, ..message(&format!("t/{}", n % 10), "x") };
        world.append(message, Durability::Fsync);
    }
    world.settle();
    world.restart(true);
    tables.1.store(true, Ordering::Release);
    assert!(world.page(&[("t/3", 0)], 0, 10, 1000).failed);
    assert!(world.applier.as_mut().unwrap().turn(world.now).error.is_some());
    world.now = UnixMillis(world.now.0 + 2000);
    let mut turns = 0;
    while world.applier.as_mut().unwrap().turn(world.now).more {
        turns += 1;
        let page = world.page(&[("t/3", 0)], 0, 10, 1000);
        assert!(page.failed || page.upto == Offset(count), "nobody is told half of it");
    }
    assert!(turns > 1);
    assert_eq!(world.all(&[("t/3", 0)], 0, 10).0.len(), 5);
    assert_eq!(world.retained(&["#"]).len(), 10);
    assert_eq!(world.store.retained().total(), 10);
}

/// A reader of the damaged part is refused; all others go on, and so does the next start.
#[test]
fn a_damaged_part_of_the_log_harms_only_who_reads_there() {
    let mut world = World::in_memory(keeps(100));
    for n in 0..60 {
        world.publish(["a", "b"][usize::from((20..30).contains(&n))], "x");
    }
    *world.kept.damaged.lock().unwrap() = Some((21, 30));
    for round in 0..3 {
        world.pass(20_000);
        assert!(world.page(&[("b", 0)], 0, 10, 1000).failed);
        assert!(world.page(&[("#", 0)], 20, 10, 1000).failed);
        assert_eq!(world.all(&[("a", 0)], 0, 100).0.len(), 50);
        assert_eq!(world.all(&[("#", 0)], 30, 100).0.len(), 30 + round);
        let offset = world.publish("c", "x").0;
        assert_eq!(world.all(&[("c", 0)], offset - 1, 10).0, [offset]);
    }
    world.open = Box::new(|| Box::new(everywire_store::MemoryTables::default()));
    world.restart(false);
    assert_eq!(world.all(&[("a", 0)], 0, 100).0.len(), 50);
    for filter in ["a", "b", "#"] {
        assert_eq!(world.all(&[(filter, 0)], 30, 100).1, 0, "{filter}");
    }
    for filter in ["a", "b"] {
        assert_eq!(world.all(&[(filter, 0)], 0, 100).1, 30, "what was lost is said: {filter}");
    }
}

/// A clock that is ten years ahead for a while deletes nothing, and stops nothing for good.
#[test]
fn a_clock_that_lies_neither_deletes_history_nor_keeps_it_for_ever() {
    const TEN_YEARS: u64 = 10 * 365 * 24 * 3_600_000;
    let history = History { max_age: Duration::from_mins(10), ..History::default() };
    let mut world = World::in_memory(Rules::new(vec![rule("#", history)]));
    world.publish("a", "before");
    world.pass(20_000);
    world.pass(TEN_YEARS);
    world.publish("a", "meanwhile");
    world.pass(20_000);
    assert_eq!(world.all(&[("a", 0)], 0, 10).0, [1, 2], "nothing has aged");
    assert_eq!(world.all(&[("#", 0)], 0, 10).0, [1, 2]);
    world.now = UnixMillis(world.now.0 - TEN_YEARS);
    world.settle();
    world.publish("a", "set right");
    world.pass(20_000);
    assert_eq!(world.all(&[("a", 0)], 0, 10).0, [1, 2, 3]);
    world.restart(true);
    for _ in 0..12 {
        world.pass(60_000);
    }
    world.publish("a", "new");
    assert_eq!(world.all(&[("a", 0)], 0, 10).0.len(), 1, "what is from the future that was none has aged too");
}

/// A read waits for the records that it must have seen, and never leaves them out.
#[test]
fn a_read_beyond_what_is_applied_waits_or_fails() {
    let mut world = World::in_memory(Rules::default());
    world.publish("a", "1");
    world.settle();
    let interests = Arc::new([]);
    let (reply_to, partition) = (everywire_base::id::ReplyTo::Nobody, Partition(0));
    let mut read = Read {
        reply_to,
        partition,
        interests,
        applied: Offset(1),
        kind: ReadKind::Retained { after: None, max_records: 10 },
    };
    assert!(!world.store.read(&read, world.now).failed);
    read.applied = Offset(2);
    assert!(world.store.read(&read, world.now).failed);
    assert!(!world.store.wait(Offset(2), Duration::from_millis(1)));
    let store = world.store.clone();
    let waiter = std::thread::spawn(move || store.wait(Offset(2), Duration::from_secs(20)));
    world.publish("a", "2");
    world.settle();
    assert!(waiter.join().unwrap());
}

/// A message that a session publishes once carries the generation of its owner; its topic has none.
#[test]
fn a_message_that_a_session_publishes_once_replaces_what_is_retained_like_any_other() {
    let mut world = World::in_memory(Rules::default());
    for (offset, generation) in [(1, 7), (2, 3), (3, 0)] {
        let until = UnixMillis(world.now.0 + 1000);
        let once = Some(Box::new(Once { session: topic("$sessions/u/1"), tag: offset as u16, generation, until }));
        world.append(Message { retain: true, once, ..message("t", "x") }, Durability::Fsync);
        world.settle();
        assert_eq!(world.retained(&["t"]), [offset]);
    }
}

/// A former owner may write late: that is no longer the session's state.
#[test]
fn a_retained_message_of_a_lower_generation_replaces_nothing() {
    let mut world = World::in_memory(Rules::default());
    let mut write = |generation, body: &str| {
        world.append(retained("$sessions/u/1", generation, body), Durability::Fsync);
        world.settle();
        world.retained(&["$sessions/u/1"])
    };
    assert_eq!(write(1, "one"), [1]);
    assert_eq!(write(2, "two"), [2]);
    assert_eq!(write(1, "late"), [2]);
    assert_eq!(write(1, ""), [2]);
    assert_eq!(write(2, "three"), [5]);
    world.restart(true);
    assert_eq!(world.retained(&["$sessions/u/1"]), [5]);
    assert_eq!(world.all(&[("$sessions/u/1", 0)], 0, 10).0, Vec::<u64>::new());
}
