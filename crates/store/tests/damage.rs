//! Harm to any file of the store: the next start has all that there was, by rebuilding it from the log.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{Kept, World, message};
use everywire_base::record::{Durability, Message};
use everywire_base::rules::{History, Rules, TopicRule};
use everywire_base::topic::Filter;
use everywire_store::tables::Tables;
use everywire_store::{FjallTables, MemoryTables};

/// All that users notice: history, topics, retained messages, sessions, users.
#[derive(PartialEq, Eq, Debug)]
struct Seen {
    history: Vec<(String, Vec<u64>)>,
    topics: Vec<(String, u64, u64, u64, bool)>,
    retained: Vec<u64>,
    hint: u64,
}

fn seen(world: &World) -> Seen {
    let filters = ["a/0", "a/1", "b", "c/0", "#"];
    let history = filters.map(|filter| (filter.to_owned(), world.all(&[(filter, 0)], 0, 1000).0));
    let topics = world.store.topics(&Filter::parse("#").unwrap(), None, 10_000).unwrap();
    let topics = topics.into_iter().map(|t| (t.topic.to_string(), t.head.0, t.count, t.bytes, t.retained));
    let retained = world.retained(&["#", "$sessions/#", "$users/+", "$wills/#"]);
    Seen { history: history.into(), topics: topics.collect(), retained, hint: world.store.retained().total() }
}

fn rules() -> Rules {
    let history = History { max_messages: 300, ..History::default() };
    Rules::new(vec![TopicRule { filter: Filter::parse("#").unwrap(), history, ..TopicRule::fallback() }])
}

/// A store with sealed chunks, removals, and content in each of its files; and its log.
fn fill(directory: &Path) -> (World, Arc<Kept>) {
    let path = directory.to_owned();
    let mut world = World::new(Box::new(move || Box::new(FjallTables::open(&path).unwrap())), rules());
    let retain = |name: String, body: &str| Message { retain: true, ..message(&name, body) };
    for round in 0..3 {
        for n in 0..400 {
            world.append(message(["a/0", "a/1", "b"][n % 3], "0123456789"), Durability::Fsync);
            world.append(message(&format!("c/{n}"), "x"), Durability::Fsync);
            if n % 4 == 0 {
                world.append(retain(format!("$sessions/u{n}/s"), "state"), Durability::Fsync);
                world.append(retain(format!("$users/u{n}"), "secret"), Durability::Fsync);
                world.append(retain(format!("d/{n}"), if n % 8 == round { "" } else { "x" }), Durability::Fsync);
            }
        }
        world.settle();
        world.pass(20_000);
        world.restart(true);
        if round < 2 {
            world.applier = None;
            world.store = World::in_memory(Rules::default()).store;
            let tables = FjallTables::open(directory).unwrap();
            tables.flush().unwrap();
            tables.sync().unwrap();
            drop(tables);
            world.reopen();
        }
    }
    let kept = Arc::clone(&world.kept);
    (world, kept)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<_> = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    all.sort();
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = {
            let entry = entry.unwrap();
            (entry.path(), entry.file_name())
        };
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// The harm that is done to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Missing,
    Empty,
    /// Cut after this many of 16 parts.
    Cut(usize),
    /// One bit is flipped, after this many of 200 parts.
    Flipped(usize),
}

fn harm(path: &Path, harm: Harm) {
    let mut bytes = fs::read(path).unwrap();
    match harm {
        Harm::Missing => return fs::remove_file(path).unwrap(),
        Harm::Empty => bytes.clear(),
        Harm::Cut(part) => bytes.truncate(bytes.len() * part / 16),
        Harm::Flipped(part) => {
            let at = bytes.len() * part / 200;
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (part % 8);
            }
        }
    }
    fs::write(path, bytes).unwrap();
}

/// Starts on a harmed copy; returns what users notice, also after it went on.
fn start(model: &Path, path: &Path, world: &World, how: Harm) -> (Seen, bool) {
    let directory = tempfile::tempdir().unwrap();
    copy(model, directory.path());
    harm(&directory.path().join(path), how);
    let place = directory.path().to_owned();
    let open = Box::new(move || Box::new(FjallTables::open(&place).unwrap()) as Box<dyn Tables>);
    let mut other = World::new(Box::new(|| Box::new(MemoryTables::default())), rules());
    (other.open, other.now, other.last) = (open, world.now, world.last);
    other.kept.records.lock().unwrap().clone_from(&world.kept.records.lock().unwrap());
    other.reopen();
    let found = seen(&other);
    other.publish("after", "x");
    let goes_on = other.all(&[("after", 0)], 0, 10).0.len() == 1;
    (found, goes_on)
}

fn walk(parts: usize) {
    let model = tempfile::tempdir().unwrap();
    let (mut world, _kept) = fill(model.path());
    let expected = seen(&world);
    world.applier.take().unwrap().close().unwrap();
    world.store = World::in_memory(Rules::default()).store;
    let all = files(model.path());
    assert!(all.iter().filter(|path| path.to_string_lossy().contains("/tables/")).count() > 10, "{all:?}");
    let cuts = (1..16).step_by(if parts < 100 { 9 } else { 1 }).map(Harm::Cut);
    let flips = (50..250).step_by(200 / parts).map(|part| Harm::Flipped(part % 200));
    let harms: Vec<_> = [Harm::Missing, Harm::Empty].into_iter().chain(cuts).chain(flips).collect();
    for path in &all {
        let path = path.strip_prefix(model.path()).unwrap();
        for how in &harms {
            let (found, goes_on) = start(model.path(), path, &world, *how);
            assert!(found == expected, "{} {how:?}: {found:?}", path.display());
            assert!(goes_on, "{} {how:?}", path.display());
        }
        println!("{}: the same after {} harms", path.display(), harms.len());
    }
}

#[test]
fn whatever_happens_to_a_file_the_store_is_the_same() {
    walk(2);
}

/// The test takes minutes: `cargo test --release -p everywire-store --test damage -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn whatever_happens_to_a_file_at_200_places_the_store_is_the_same() {
    walk(200);
}
