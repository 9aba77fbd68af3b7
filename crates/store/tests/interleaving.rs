//! A reader beside the applier, at every place where the one may overtake the other: each call of the tables.
//!
//! All short histories of a session are tried, with its marks and a public retained message. A page must have the
//! messages that were retained at the offset that it names: before the applier's turn or after it, never in between.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{World, message, retained, topic};
use everywire_base::ask::{Interest, Page, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::ReplyTo;
use everywire_base::record::{Durability, Message, Once};
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::topic::Filter;
use everywire_store::tables::{Batch, Table, Tables, TablesError, Take};
use everywire_store::{MemoryTables, Store};

type Hook = Box<dyn FnMut()>;

thread_local! {
    /// The action at each call of the tables.
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// Runs the action, unless it is running already.
fn here() {
    let hook = HOOK.with(|hook| hook.borrow_mut().take());
    if let Some(mut happen) = hook {
        happen();
        HOOK.with(|hook| *hook.borrow_mut() = Some(happen));
    }
}

fn at_each_call<T>(hook: impl FnMut() + 'static, act: impl FnOnce() -> T) -> T {
    HOOK.with(|place| *place.borrow_mut() = Some(Box::new(hook)));
    let done = act();
    HOOK.with(|place| *place.borrow_mut() = None);
    done
}

#[derive(Clone, Default)]
struct Hooked(Arc<MemoryTables>);

impl Tables for Hooked {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        here();
        let found = self.0.get(table, key);
        here();
        found
    }
    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, take: &mut Take<'_>) -> Result<(), TablesError> {
        here();
        let done = self.0.scan(table, from, to, take);
        here();
        done
    }
    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], take: &mut Take<'_>) -> Result<(), TablesError> {
        here();
        self.0.scan_back(table, from, to, take)
    }
    fn write(&self, batch: Batch) -> Result<(), TablesError> {
        here();
        let done = self.0.write(batch);
        here();
        done
    }
    fn sync(&self) -> Result<(), TablesError> {
        here();
        self.0.sync()
    }
    fn reopen(&self) -> Result<(), TablesError> {
        self.0.reopen()
    }
    fn clear(&self) -> Result<(), TablesError> {
        self.0.clear()
    }
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

const SESSION: &str = "$sessions/u/1";
const MARK: &str = "$sessions/u/1/5";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    /// The session is written with this generation.
    Write(u64),
    /// It is removed with this generation.
    Remove(u64),
    /// It publishes a message exactly once, which is retained too.
    Publish,
    /// It releases the number of that message.
    Release,
}

const OPS: [Op; 6] = [Op::Write(1), Op::Write(2), Op::Remove(1), Op::Remove(2), Op::Publish, Op::Release];

fn append(world: &mut World, op: Op) {
    let until = UnixMillis(world.now.0 + 3_600_000);
    let once = Some(Box::new(Once { session: topic(SESSION), tag: 5, generation: 0, until }));
    let entry = match op {
        Op::Write(generation) => retained(SESSION, generation, "state"),
        Op::Remove(generation) => retained(SESSION, generation, ""),
        Op::Publish => Message { once, retain: true, ..message("t", "x") }.into(),
        Op::Release => retained(MARK, 0, ""),
    };
    world.append(entry, Durability::Fsync);
}

/// The retained messages after these operations, by topic.
fn model(ops: &[Op]) -> BTreeMap<&'static str, u64> {
    let (mut all, mut highest) = (BTreeMap::new(), 0);
    for (nth, op) in ops.iter().enumerate() {
        let offset = nth as u64 + 1;
        match *op {
            Op::Write(generation) | Op::Remove(generation) if generation < highest => {}
            Op::Write(generation) => {
                highest = generation;
                all.insert(SESSION, offset);
            }
            Op::Remove(generation) => {
                highest = generation;
                all.remove(SESSION);
            }
            Op::Publish => {
                all.insert("t", offset);
                all.insert(MARK, offset);
            }
            Op::Release => drop(all.remove(MARK)),
        }
    }
    all
}

/// The reads: as a hub reads a session and its marks; a pattern; and a greeting.
const READS: [&[&str]; 3] = [&[SESSION, "$sessions/u/1/+"], &["$sessions/#"], &["t", "#"]];

fn read(store: &Store, filters: &[&str], now: UnixMillis) -> Page {
    let interest = |f: &&str| Interest { filter: Filter::parse(f).unwrap(), since: Offset::BEGINNING };
    let interests = filters.iter().map(interest).collect();
    let kind = ReadKind::Retained { after: None, max_records: 100 };
    let (reply_to, partition, applied) = (ReplyTo::Nobody, Partition(0), Offset::BEGINNING);
    store.read(&Read { reply_to, partition, interests, applied, kind }, now)
}

fn check(page: &Page, filters: &[&str], ops: &[Op], cut: usize) {
    assert!(!page.failed, "{ops:?}");
    let upto = page.upto.0 as usize;
    assert!((cut..=ops.len()).contains(&upto), "{ops:?} from {cut}: up to {upto}");
    let filters: Vec<Filter> = filters.iter().map(|f| Filter::parse(f).unwrap()).collect();
    let matches = |name: &str| filters.iter().any(|filter| filter.matches(&topic(name)));
    let mut expected = model(&ops[..upto]);
    expected.retain(|name, _| matches(name));
    let name = |name: &str| [SESSION, MARK, "t"].into_iter().find(|other| *other == name).unwrap();
    let found: BTreeMap<_, _> =
        page.records.iter().map(|r| (name(r.entry().unwrap().topic().as_str()), r.offset.0)).collect();
    assert_eq!(found, expected, "{filters:?} in {ops:?} from {cut} as of {upto}");
}

/// The histories: a session is written, and three operations follow; some of these are applied before.
fn histories() -> impl Iterator<Item = (Vec<Op>, usize)> {
    let op = |n: usize, at: u32| OPS[n / OPS.len().pow(at) % OPS.len()];
    let all = (0..OPS.len().pow(3)).map(move |n| vec![Op::Write(1), op(n, 0), op(n, 1), op(n, 2)]);
    all.flat_map(|ops| (1..4).map(move |cut| (ops.clone(), cut)))
}

/// A world that has applied the operations before the cut; and written them, in every other one.
fn begin(ops: &[Op], cut: usize) -> World {
    let tables = Hooked::default();
    let mut world = World::new(Box::new(move || Box::new(tables.clone())), Rules::default());
    ops[..cut].iter().for_each(|op| append(&mut world, *op));
    world.settle();
    if matches!(ops[3], Op::Release | Op::Write(_)) {
        world.pass(10_000);
    }
    world
}

#[test]
fn a_reader_in_the_midst_of_the_appliers_turn_sees_the_state_before_it_or_after_it() {
    for (ops, cut) in histories() {
        let mut world = begin(&ops, cut);
        ops[cut..].iter().for_each(|op| append(&mut world, *op));
        world.now = UnixMillis(world.now.0 + 10_000);
        let (store, now, all) = (world.store.clone(), world.now, ops.clone());
        let reader = move || {
            for filters in READS {
                check(&read(&store, filters, now), filters, &all, cut);
            }
        };
        at_each_call(reader.clone(), || world.settle());
        reader();
    }
}

/// The newest message of a topic that keeps one is always there: a message that the next one replaces isn't merely
/// lost.
#[test]
fn a_page_of_the_newest_message_is_never_empty() {
    let history = History { max_messages: 1, ..History::default() };
    let rule = TopicRule { filter: Filter::parse("#").unwrap(), history, ..TopicRule::fallback() };
    let mut world = World::new(Box::new(|| Box::new(MemoryTables::default())), Rules::new(vec![rule]));
    for name in ["a", "b"] {
        world.publish(name, "x");
    }
    let (store, now, is_over) = (world.store.clone(), world.now, Arc::new(AtomicBool::new(false)));
    let over = Arc::clone(&is_over);
    let reader = std::thread::spawn(move || {
        let kind = common::history(0, 10, 1 << 20);
        let interest = |f: &str| Interest { filter: Filter::parse(f).unwrap(), since: Offset::BEGINNING };
        let (reply_to, partition, applied) = (ReplyTo::Nobody, Partition(0), Offset::BEGINNING);
        let reads = [&["a"][..], &["a", "b"]].map(|filters| {
            let interests = filters.iter().copied().map(interest).collect();
            Read { reply_to, partition, interests, applied, kind: kind.clone() }
        });
        let mut empty = 0;
        while !over.load(Ordering::Acquire) {
            empty += reads.iter().filter(|read| store.read(read, now).records.is_empty()).count();
        }
        empty
    });
    for _ in 0..40 {
        for n in 0..500 {
            world.append(message(["a", "b"][n % 2], "x"), Durability::Fsync);
        }
        world.settle();
    }
    is_over.store(true, Ordering::Release);
    assert_eq!(reader.join().unwrap(), 0);
}

#[test]
fn an_applier_in_the_midst_of_a_readers_page_changes_it_as_a_whole_or_not_at_all() {
    // One record is applied before: the others follow one by one, at each place of the page.
    for (ops, cut) in histories().filter(|(_, cut)| *cut == 1) {
        for (filters, writes) in READS.into_iter().flat_map(|filters| [(filters, false), (filters, true)]) {
            let world = Rc::new(RefCell::new(begin(&ops, cut)));
            let (store, now) = (world.borrow().store.clone(), world.borrow().now);
            let (mut next, all, shared) = (cut, ops.clone(), Rc::clone(&world));
            let applier = move || {
                let mut world = shared.borrow_mut();
                if let Some(op) = all.get(next) {
                    append(&mut world, *op);
                    next += 1;
                    world.pass(if writes { 10_000 } else { 0 });
                }
            };
            let page = at_each_call(applier, || read(&store, filters, now));
            check(&page, filters, &ops, cut);
        }
    }
}
