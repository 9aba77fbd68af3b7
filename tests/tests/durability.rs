//! Acknowledged messages are there after a kill, once and in order (DESIGN 9; RULES 2, 31, 35).
//!
//! `EVERYWIRE_KILLS` (5 unless set) is the number of kills: 50 for the measured run.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use everywire_tests::{Chance, Connection, Reader, Request, Server, Setup, Via, read_all, tuned, until};

const KEEP_ALL: &str = "[[topics]]\nmatch = \"#\"\nhistory = { max_messages = 10000000, max_bytes = \"4GiB\" }\n";
const PUBLISHERS: usize = 8;
const TOPICS: &str = "topic=t/0&topic=t/1&topic=t/2";

/// The common knowledge of publishers and readers, while servers come and go.
struct World {
    /// The address of the present server; `None` while there is none.
    address: Mutex<Option<SocketAddr>>,
    /// The number of acknowledged messages.
    acknowledged: AtomicUsize,
    is_over: AtomicBool,
}

impl World {
    fn address(&self) -> Option<SocketAddr> {
        *self.address.lock().expect("no panic elsewhere")
    }

    fn set_address(&self, address: Option<SocketAddr>) {
        *self.address.lock().expect("no panic elsewhere") = address;
    }

    /// Runs a visit to the present server again and again until all is over.
    fn visit(&self, mut visit: impl FnMut(SocketAddr)) {
        while !self.is_over.load(Ordering::Relaxed) {
            match self.address() {
                Some(address) => visit(address),
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }
}

/// Publishes `NAME:1`, `NAME:2` … one at a time; returns the acknowledged ones.
fn publisher(world: &World, name: usize) -> Vec<String> {
    let (mut acknowledged, mut number) = (Vec::new(), 0);
    world.visit(|address| {
        let Ok(mut connection) = Connection::try_open(address) else { return };
        loop {
            number += 1;
            let body = format!("{name}:{number}");
            let request = Request::post(&format!("/v1/messages?topic=t/{}", number % 3), &body);
            match connection.try_exchange(&request) {
                Ok(answer) if answer.status == 200 => acknowledged.push(body),
                _ => return,
            }
            world.acknowledged.fetch_add(1, Ordering::Relaxed);
            if world.is_over.load(Ordering::Relaxed) {
                return;
            }
        }
    });
    acknowledged
}

/// Follows all topics over a transport through every restart.
fn follower(world: &World, via: Via) -> Reader {
    let mut reader = Reader::new(via, TOPICS);
    world.visit(|address| reader.visit(address, 100, Duration::from_millis(100)));
    reader
}

#[test]
fn every_acknowledged_message_survives_kills_once_and_in_order() {
    let kills = tuned("EVERYWIRE_KILLS", 5);
    let mut chance = Chance::new(tuned("EVERYWIRE_SEED", 1) as u64);
    let world = World { address: Mutex::new(None), acknowledged: AtomicUsize::new(0), is_over: AtomicBool::new(false) };
    let mut setup = Setup::new().config(KEEP_ALL);
    std::thread::scope(|scope| {
        let world = &world;
        let publishers: Vec<_> = (0..PUBLISHERS).map(|name| scope.spawn(move || publisher(world, name))).collect();
        let followers: Vec<_> = Via::ALL.map(|via| scope.spawn(move || follower(world, via))).into();
        for _ in 0..kills {
            let server = setup.start();
            world.set_address(Some(server.address()));
            let goal = world.acknowledged.load(Ordering::Relaxed) + 50 + chance.below(1000) as usize;
            until("enough is acknowledged", || world.acknowledged.load(Ordering::Relaxed) >= goal);
            std::thread::sleep(Duration::from_micros(chance.below(5000)));
            world.set_address(None);
            setup = server.kill();
        }
        world.is_over.store(true, Ordering::Relaxed);
        let acknowledged: Vec<_> = publishers.into_iter().map(|p| p.join().expect("a publisher ends well")).collect();
        let server = setup.start();
        let kept = read_all(server.address(), TOPICS);
        check_kept(&kept, &acknowledged);
        for follower in followers {
            check_follower(follower.join().expect("a reader ends well"), &server, &kept);
        }
        println!(
            "{kills} kills, {} acknowledged, {} kept",
            acknowledged.iter().map(Vec::len).sum::<usize>(),
            kept.len()
        );
    });
}

/// Every publisher's acknowledged messages are kept once and in its order. Others of it may be kept, too, since the
/// publisher doesn't know their outcome.
fn check_kept(kept: &[String], acknowledged: &[Vec<String>]) {
    let there: HashSet<&String> = kept.iter().collect();
    for (name, acknowledged) in acknowledged.iter().enumerate() {
        let mut numbers = Vec::new();
        for body in kept {
            let (publisher, number) = body.split_once(':').expect("NAME:NUMBER");
            if publisher == name.to_string() {
                numbers.push(number.parse::<usize>().expect("a number"));
            }
        }
        assert!(numbers.is_sorted_by(|a, b| a < b), "publisher {name}: once and in order: {numbers:?}");
        let missing: Vec<_> = acknowledged.iter().filter(|body| !there.contains(body)).take(5).collect();
        assert!(missing.is_empty(), "publisher {name}: acknowledged and lost: {missing:?} …");
    }
}

/// A reader that came back by its cursor after each kill ends up with exactly the kept messages.
fn check_follower(mut reader: Reader, server: &Server, kept: &[String]) {
    until("the reader has caught up", || {
        reader.visit(server.address(), kept.len() - reader.got.len().min(kept.len()), Duration::from_millis(100));
        reader.got.len() >= kept.len()
    });
    let difference = reader.got.iter().zip(kept).position(|(got, kept)| got != kept);
    assert_eq!((reader.gaps, reader.got.len(), difference), (0, kept.len(), None));
}

/// The file of the data directory that holds these bytes.
fn file_with(directory: &Path, needle: &[u8]) -> PathBuf {
    fn search(directory: &Path, needle: &[u8]) -> Option<PathBuf> {
        fs::read_dir(directory).expect("a directory").find_map(|entry| {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                return search(&path, needle);
            }
            let bytes = fs::read(&path).expect("a readable file");
            bytes.windows(needle.len()).any(|window| window == needle).then_some(path)
        })
    }
    search(directory, needle).expect("a file with the message")
}

#[test]
fn a_torn_write_behind_the_last_batch_opens_by_itself() {
    let server = Server::with(KEEP_ALL);
    let bodies: Vec<String> = (1..=20).map(|n| format!("message {n} of twenty")).collect();
    for body in &bodies {
        server.publish("t", body);
    }
    let setup = server.kill();
    let file = file_with(setup.data_directory(), b"message 20 of twenty");
    let mut bytes = fs::read(&file).expect("a segment");
    let at = bytes.windows(20).rposition(|window| window == b"message 20 of twenty").expect("the last message");
    // The end of the last batch: the next write got no further than a few bytes.
    let end = bytes[at..].iter().rposition(|byte| *byte != 0).map_or(at, |last| at + last + 1);
    bytes.splice(end..bytes.len().min(end + 7), *b"\x2a\xff\x01torn");
    fs::write(&file, bytes).expect("a segment can be written");

    let server = setup.start();
    assert_eq!(read_all(server.address(), "topic=t"), bodies);
    server.publish("t", "goes on");
    assert_eq!(server.kill().start().get("/v1/messages?topic=t").bodies().len(), 21);
}

#[test]
fn a_damaged_middle_is_refused_with_advice_and_nothing_is_emptied() {
    let server = Server::with(KEEP_ALL);
    for n in 1..=20 {
        server.publish("t", &format!("message {n} of twenty"));
    }
    let setup = server.kill();
    let file = file_with(setup.data_directory(), b"message 10 of twenty");
    let good = fs::read(&file).expect("a segment");
    let at = good.windows(20).position(|window| window == b"message 10 of twenty").expect("the message");
    let mut bad = good.clone();
    bad[at] ^= 1;
    fs::write(&file, &bad).expect("a segment can be written");

    let failed = setup.clone().fail();
    assert_eq!(failed.code, Some(1), "{}", failed.errors);
    assert!(failed.errors.contains("damaged") && failed.errors.contains("backup"), "{}", failed.errors);
    assert_eq!(fs::read(&file).expect("a segment"), bad, "the damaged file is left as it is");

    fs::write(&file, &good).expect("a segment can be written");
    assert_eq!(read_all(setup.start().address(), "topic=t").len(), 20);
}

#[test]
fn cursors_stay_valid_over_clean_and_unclean_restarts() {
    let server = Server::start();
    let cursor = server.publish("t", "1");
    let server = server.kill().start();
    server.publish("t", "2");
    let (status, setup) = server.terminate();
    assert!(status.success(), "{status}");
    let server = setup.start();
    server.publish("t", "3");
    let page = server.get(&format!("/v1/messages?topic=t&after={cursor}"));
    assert_eq!((page.json()["gap"].as_bool(), page.bodies()), (Some(false), vec!["2".into(), "3".into()]));
}

#[test]
fn the_derived_store_can_be_deleted_and_is_rebuilt() {
    let server = Server::start();
    server.send(&Request::post("/v1/messages?topic=t&retain=1", "kept"));
    server.publish("t", "also kept");
    let (status, setup) = server.terminate();
    assert!(status.success(), "{status}");
    fs::remove_dir_all(setup.data_directory().join("store")).expect("DATA/store is what is derived");
    let server = setup.start();
    assert_eq!(server.get("/v1/messages?topic=t").bodies(), ["kept", "also kept"]);
}
