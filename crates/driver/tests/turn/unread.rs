//! Clients that don't read their answers: they aren't read either, cost no time, and go on when they read.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::limits::Limits;
use everywire_wire::Listen;

use crate::packets::{connect, http, mqtt, native, packet};
use crate::recorder::Recorder;
use crate::setup::World;

const BOUND: usize = 1000;

fn narrow() -> Limits {
    Limits { unread_bytes: BOUND, ..Limits::default() }
}

/// A wire, the first bytes of a client, the ask that it repeats, and the longest answer to that.
type Case = (&'static str, fn(&Arc<Limits>) -> Arc<dyn Listen>, Vec<u8>, Vec<u8>, usize);

fn cases() -> [Case; 3] {
    let options = "OPTIONS /v1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n";
    [
        ("http", http, Vec::new(), options.into(), 500),
        ("mqtt", mqtt, connect("c", 2, 0), packet(0xc0, &[]), 4),
        // A frame that nobody knows.
        ("native", native, b"EVERYW/1".to_vec(), vec![3, 0xfa, 0x07, 0], 200),
    ]
}

/// The bytes of this many asks, each alone, so that none waits for a turn.
fn answers(case: &Case, asks: usize) -> Vec<u8> {
    let (_, listen, hello, ask, _) = case;
    let mut world = World::new(narrow(), listen);
    let client = world.client();
    world.script().send(client, hello);
    world.turns(4);
    let mut all = Vec::new();
    for _ in 0..asks {
        world.script().send(client, ask);
        world.turns(2);
        all.extend(world.script().receive(client));
    }
    all
}

#[test]
fn who_does_not_read_is_answered_a_bounded_number_of_bytes_and_costs_nothing() {
    for (what, listen, hello, ask, longest) in cases() {
        let mut world = World::new(narrow(), listen);
        let client = world.client();
        world.script().set_window(client, 0);
        world.script().send(client, &hello);
        world.turns(4);
        world.script().send(client, &ask.repeat(1000));
        world.turns(4);
        let waits = world.metrics.outbox_bytes.get() as usize;
        assert!((BOUND..BOUND + longest).contains(&waits), "{what}: {waits} bytes wait");
        assert_eq!(world.metrics.unread.get(), 1, "{what}: it is counted");
        let reads = world.see().link(client).reads;
        for _ in 0..10 {
            world.script().send(client, &ask);
            world.turns(1);
            let sleep = world.see().sleep;
            assert!(sleep.is_none_or(|sleep| sleep > Duration::from_secs(1)), "{what}: it sleeps, {sleep:?}");
        }
        assert_eq!(world.metrics.outbox_bytes.get() as usize, waits, "{what}: nothing more is answered");
        assert_eq!(world.see().link(client).reads, reads, "{what}: and nothing read");
        assert!(!world.see().link(client).closed, "{what}: it may read late");
    }
}

#[test]
fn who_reads_late_has_every_answer_without_waiting() {
    for case in cases() {
        let (what, listen, hello, ask, _) = &case;
        let mut world = World::new(narrow(), listen);
        let client = world.client();
        world.script().set_window(client, 0);
        world.script().send(client, &[&hello[..], &ask.repeat(100)].concat());
        world.turns(10);
        world.script().set_window(client, usize::MAX);
        // No time passes: the clock of the script stands still.
        world.turns(200);
        let got = world.script().receive(client);
        assert_eq!(got.len(), answers(&case, 100).len(), "{what}");
        assert_eq!(world.metrics.unread.get(), 0, "{what}");
    }
}

#[test]
fn a_wire_that_answers_all_it_is_given_is_given_no_more() {
    let recorder = Recorder::default();
    let listen = Arc::new(recorder.clone());
    let mut world = World::new(narrow(), |_| listen);
    let client = world.client();
    recorder.state().answers = BOUND + 1;
    world.script().set_window(client, 0);
    for ask in [b"a", b"b", b"c"] {
        world.script().send(client, ask);
        world.turns(2);
    }
    assert_eq!(recorder.take(), ["read a"]);
    world.script().set_window(client, BOUND);
    world.turns(4);
    assert_eq!(recorder.take(), ["read bc"], "as soon as there is room");
    world.script().end(client);
    world.turns(4);
    assert!(recorder.take().is_empty(), "the end is told last");
    world.script().set_window(client, usize::MAX);
    world.turns(4);
    assert_eq!(recorder.take(), ["end 0"]);
}

#[test]
fn what_an_unread_client_has_begun_is_not_late() {
    let mut world = World::new(narrow(), mqtt);
    let client = world.client();
    world.script().set_window(client, 0);
    let asks = [connect("c", 2, 0), packet(0xc0, &[]).repeat(1000), vec![0xc0]].concat();
    world.script().send(client, &asks);
    world.turns(4);
    world.pass(Duration::from_mins(1));
    world.turns(4);
    assert!(!world.see().link(client).closed, "it is we who don't read");
    world.script().set_window(client, usize::MAX);
    world.turns(10);
    world.script().send(client, &[0]);
    world.turns(4);
    assert_eq!(world.script().receive(client).len(), 4 + 1001 * 2);
}

#[test]
fn an_unread_client_that_goes_is_forgotten() {
    for (what, listen, hello, ask, _) in cases() {
        let mut world = World::new(narrow(), listen);
        let client = world.client();
        world.script().set_window(client, 0);
        world.script().send(client, &[&hello[..], &ask.repeat(100)].concat());
        world.turns(4);
        world.script().reset(client);
        // Its requests are read: a goodbye may be among them.
        world.turns(200);
        assert!(world.see().link(client).closed, "{what}");
        let metrics = &world.metrics;
        assert_eq!((metrics.connections.get(), metrics.unread.get(), metrics.outbox_bytes.get()), (0, 0, 0), "{what}");
    }
}
