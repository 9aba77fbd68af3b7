//! Bounds of one client: the bytes that it can make the server hold, the time, and its share of a turn.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use everywire_base::limits::Limits;

use crate::packets::{connect, http, mqtt, native, packet, publish, text};
use crate::recorder::Recorder;
use crate::setup::{MOST_CONNECTIONS, World};

const SLOW: Duration = Duration::from_secs(10);

fn recorded(limits: Limits) -> (World, Recorder) {
    let recorder = Recorder::default();
    let listen = Arc::new(recorder.clone());
    (World::new(limits, |_| listen), recorder)
}

#[test]
fn no_more_connections_are_accepted_than_there_are_files_for() {
    let (mut world, _) = recorded(Limits::default());
    let clients: Vec<_> = (0..MOST_CONNECTIONS + 10).map(|_| world.client()).collect();
    world.turns(2);
    assert_eq!(world.metrics.connections.get(), MOST_CONNECTIONS);
    assert_eq!(world.metrics.refusals().find(|(reason, _)| *reason == "connection"), Some(("connection", 1)));
    for client in &clients[..10] {
        world.script().end(*client);
    }
    world.turns(4);
    assert_eq!(world.metrics.connections.get(), MOST_CONNECTIONS, "those that waited come in as others go");
}

#[test]
fn a_packet_that_is_not_whole_in_time_ends_its_connection() {
    let long = |first: u8| [&[first, 0x80, 0x80, 0x20][..], &vec![0; 20_000]].concat();
    for (what, rest) in [("a short part", vec![0x30]), ("a part that the wire keeps", long(0x30))] {
        let mut world = World::new(Limits::default(), mqtt);
        let client = world.client();
        world.script().send(client, &connect("c", 2, 0));
        world.turns(4);
        world.script().send(client, &rest);
        world.turns(2);
        // Small parts now and then don't make the time longer.
        for _ in 0..3 {
            world.pass(SLOW / 4);
            world.script().send(client, &[0x80]);
            world.turns(2);
            assert!(!world.see().link(client).closed, "{what}: it has time");
        }
        world.pass(SLOW / 4 + Duration::from_millis(100));
        world.turns(2);
        assert!(world.see().link(client).closed, "{what}: the time is over");
        assert_eq!(world.metrics.unfinished_bytes.get(), 0, "{what}: nothing is held any more");
    }
}

#[test]
fn whoever_finishes_and_begins_again_has_its_time_anew() {
    let mut world = World::new(Limits::default(), mqtt);
    let client = world.client();
    world.script().send(client, &connect("c", 2, 0));
    world.turns(4);
    let whole = publish("t", "some text");
    let (first, second) = whole.split_at(5);
    for _ in 0..10 {
        world.script().send(client, first);
        world.turns(2);
        world.pass(SLOW / 2);
        world.script().send(client, second);
        world.turns(2);
    }
    // And a stream of packets that is cut anywhere.
    let stream = whole.repeat(100);
    for part in stream.chunks(7) {
        world.script().send(client, part);
        world.pass(Duration::from_millis(900));
        world.turns(1);
    }
    assert!(!world.see().link(client).closed);
    world.turns(2);
    assert_eq!(world.messages().len(), 110);
}

#[test]
fn strangers_of_one_address_hold_bounded_bytes_together() {
    let limits = Limits { unfinished_bytes_per_address: 300_000, ..Limits::default() };
    let mut world = World::new(limits, native);
    let part = [&b"EVERYW/1\x80\x80\x20"[..], &vec![0; 100_000]].concat();
    let clients: Vec<_> = (0..5).map(|_| world.client()).collect();
    for client in &clients {
        world.script().send(*client, &part);
        world.turns(4);
    }
    let closed = clients.iter().filter(|client| world.see().link(**client).closed).count();
    world.pass(Duration::from_secs(3));
    world.turns(2);
    let gone = clients.iter().filter(|client| world.see().link(**client).closed).count();
    assert_eq!((closed.max(gone), world.metrics.unfinished_bytes.get() <= 300_000), (2, true), "three of five fit");
}

#[test]
fn a_paused_wire_is_not_late() {
    let (mut world, recorder) = recorded(Limits::default());
    let client = world.client();
    (recorder.state().paused, recorder.state().holds) = (true, 5);
    world.script().send(client, b"a");
    world.turns(2);
    world.pass(SLOW * 3);
    world.turns(2);
    assert_eq!(recorder.take(), ["read a"], "it is the wire that doesn't go on");
}

#[test]
fn a_wire_that_wants_more_later_is_served_once_a_turn_and_is_not_late() {
    let (mut world, recorder) = recorded(Limits::default());
    let client = world.client();
    (recorder.state().later, recorder.state().bite) = (true, Some(2));
    world.script().send(client, b"abcdef");
    world.script().end(client);
    for part in ["read ab", "read cd"] {
        world.turns(1);
        assert_eq!(recorder.take(), [part]);
        world.pass(SLOW * 2 / 3);
    }
    world.turns(1);
    assert_eq!(recorder.take(), ["read ef", "end 0"]);
}

#[test]
fn thousands_of_asks_of_one_connection_do_not_hold_up_others() {
    let limits = Limits { asks_per_turn: 100, filters_per_subscription: 10_000, ..Limits::default() };
    let mut world = World::new(limits, mqtt);
    let clients: Vec<_> = (0..2).map(|_| world.client()).collect();
    for client in &clients {
        world.script().send(*client, &connect(&format!("c{client}"), 2, 0));
        world.turns(4);
        world.script().receive(*client);
    }
    let filters = (0..5000).flat_map(|n| [&text(&format!("a/{n}"))[..], &[0]].concat());
    let many: Vec<u8> = [0, 9].into_iter().chain(filters).collect();
    world.script().send(clients[0], &packet(0x82, &many));
    world.script().send(clients[1], &packet(0x82, &[&[0, 9][..], &text("b"), &[0]].concat()));
    world.turns(2);
    assert_eq!(world.script().receive(clients[0]), b"", "it waits for its other turns");
    assert_eq!(world.script().receive(clients[1]), [0x90, 3, 0, 9, 0], "others don't");
    world.turns(60);
    assert_eq!(world.script().receive(clients[0]).len(), 5000 + 2 + 3, "and then it has all");
}

#[test]
fn many_connections_that_ask_much_do_not_make_a_turn_long() {
    let limits = Limits { asks_per_turn: 100, ..Limits::default() };
    let mut world = World::new(limits, mqtt);
    let clients: Vec<_> = (0..MOST_CONNECTIONS).map(|_| world.client()).collect();
    for (n, client) in clients.iter().enumerate() {
        world.script().send(*client, &connect(&format!("c{n}"), 2, 0));
    }
    world.turns(60);
    let (last, many) = clients.split_last().unwrap();
    let filters = (0..200).flat_map(|n| [&text(&format!("a/{n}"))[..], &[0]].concat());
    let subscribe = packet(0x82, &[0, 9].into_iter().chain(filters).collect::<Vec<_>>());
    for client in &clients {
        world.script().receive(*client);
    }
    for client in many {
        world.script().send(*client, &subscribe);
    }
    world.script().send(*last, &packet(0x82, &[&[0, 9][..], &text("b"), &[0]].concat()));
    world.turns(2);
    let answered =
        |world: &mut World| many.iter().filter(|client| !world.script().receive(**client).is_empty()).count();
    assert_eq!(world.script().receive(*last), [0x90, 3, 0, 9, 0], "who asks little is answered");
    let at_first = answered(&mut world);
    assert!((1..many.len() / 2).contains(&at_first), "{at_first} of {}", many.len());
    world.turns(60);
    assert_eq!(at_first + answered(&mut world), many.len(), "and then all are");
}

#[test]
fn what_an_ended_connection_has_asked_is_seen_to_before_it_is_forgotten() {
    let mut world = World::new(Limits { asks_per_turn: 10, ..Limits::default() }, mqtt);
    let client = world.client();
    world.script().send(client, &crate::packets::connect_with_will("c", "will", "died"));
    world.turns(4);
    let burst = publish("t", "x").repeat(200);
    world.script().send(client, &[burst, packet(0xe0, &[])].concat());
    world.script().end(client);
    world.turns(10);
    assert_eq!(world.messages().len(), 200, "all, and no will");
}

#[test]
fn reads_that_wait_for_room_cost_a_turn_little_and_all_go_in_the_end() {
    const CLIENTS: usize = 40;
    let mut world = World::new(Limits::default(), http);
    world.client();
    world.turns(2);
    let publish = "POST /v1/messages?topic=t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx";
    world.script().send(0, publish.as_bytes());
    world.turns(4);
    world.is_shut.store(true, Ordering::Relaxed);
    for _ in 0..CLIENTS {
        let client = world.client();
        let poll = "GET /v1/messages?topic=t&after=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n";
        world.script().send(client, poll.as_bytes());
    }
    let tries = |world: &World| world.tries.swap(0, Ordering::Relaxed);
    world.turns(2);
    assert!(tries(&world) >= CLIENTS, "each is tried at once");
    world.turns(100);
    assert!(tries(&world) <= 100 * CLIENTS / 2, "what was refused is not tried as a whole in every turn");
    world.is_shut.store(false, Ordering::Relaxed);
    world.turns(10);
    assert_eq!(tries(&world), CLIENTS, "each goes once");
}
