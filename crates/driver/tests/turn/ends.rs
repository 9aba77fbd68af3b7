//! Ends of connections: the bytes before the end are read first, whichever side ends, and however.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::clock::Monotonic;
use everywire_base::limits::Limits;
use everywire_driver::Mail;

use crate::net::Script;
use crate::packets::{connect_with_will, mqtt, packet, publish};
use crate::recorder::Recorder;
use crate::setup::World;

/// More than a wire takes while the log has not answered.
const BURST: usize = 3000;

/// A client that publishes, says goodbye, and goes.
fn goodbye(go: impl Fn(&mut Script, usize)) -> World {
    let mut world = World::new(Limits::default(), mqtt);
    let client = world.client();
    world.script().send(client, &connect_with_will("c", "will", "died"));
    world.turns(4);
    let all: Vec<u8> = (0..BURST).flat_map(|n| publish("t", &n.to_string())).collect();
    world.script().send(client, &[all, packet(0xe0, &[])].concat());
    go(&mut world.script(), client);
    world.turns(BURST / 100);
    assert!(world.see().link(client).closed, "the connection is over");
    assert_eq!((world.metrics.connections.get(), world.metrics.outbox_bytes.get()), (0, 0), "and counted so");
    world
}

fn all_arrived(world: &World, how: &str) {
    let expected: Vec<_> = (0..BURST).map(|n| ("t".to_owned(), n.to_string())).collect();
    let messages = world.messages();
    assert_eq!(messages.len(), expected.len(), "{how}: and no will");
    assert_eq!(messages, expected, "{how}");
}

#[test]
fn what_came_before_the_end_is_taken_first() {
    all_arrived(&goodbye(Script::end), "the client ends its side");
    all_arrived(&goodbye(Script::reset), "the connection is reset");
}

#[test]
fn a_client_that_goes_without_a_goodbye_has_its_will() {
    let mut world = World::new(Limits::default(), mqtt);
    let client = world.client();
    world.script().send(client, &connect_with_will("c", "will", "died"));
    world.turns(4);
    world.script().send(client, &publish("t", "0").repeat(BURST));
    world.script().end(client);
    world.turns(BURST / 100);
    let messages = world.messages();
    assert_eq!(messages.len(), BURST + 1);
    assert_eq!(messages[BURST], ("will".to_owned(), "died".to_owned()), "after all that it published");
}

fn recorded() -> (World, Recorder) {
    let recorder = Recorder::default();
    let listen = Arc::new(recorder.clone());
    (World::new(Limits::default(), |_| listen), recorder)
}

#[test]
fn the_end_is_told_last() {
    let (mut world, recorder) = recorded();
    let client = world.client();
    recorder.state().bite = Some(3);
    world.script().send(client, b"abcdefg");
    world.script().end(client);
    world.turns(2);
    assert_eq!(recorder.take(), ["read abc", "read def", "read g", "end 0"]);
}

#[test]
fn a_wire_that_uses_nothing_more_is_told_of_the_end_with_what_is_left() {
    let (mut world, recorder) = recorded();
    let client = world.client();
    recorder.state().bite = Some(0);
    world.script().send(client, b"abc");
    world.turns(2);
    recorder.take();
    world.script().end(client);
    world.turns(2);
    assert_eq!(recorder.take().last().map(String::as_str), Some("end 3"));
    assert!(world.see().link(client).closed);
}

#[test]
fn a_paused_wire_hears_of_the_end_when_it_is_open_again() {
    let (mut world, recorder) = recorded();
    let client = world.client();
    (recorder.state().paused, recorder.state().bite) = (true, Some(3));
    recorder.state().deadline = Some(Monotonic(1_000_100));
    world.script().send(client, b"abcdef");
    world.script().end(client);
    world.turns(3);
    assert_eq!(recorder.take(), ["read abc"], "it waits for something else");
    recorder.state().paused = false;
    world.pass(Duration::from_millis(200));
    world.turns(3);
    assert_eq!(recorder.take(), ["tick", "read def", "end 0"]);
}

#[test]
fn a_wire_that_goes_on_after_the_end_is_dropped_when_its_peer_is_gone() {
    let (mut world, recorder) = recorded();
    (recorder.state().stays, recorder.state().deadline) = (true, Some(Monotonic(1_000_500)));
    let client = world.client();
    world.script().end(client);
    world.turns(2);
    assert_eq!(recorder.take(), ["end 0"]);
    assert!(!world.see().link(client).closed, "it may still be read");
    world.script().events_at_once = 0;
    world.script().reset(client);
    world.pass(Duration::from_secs(1));
    world.turns(3);
    assert!(world.see().link(client).closed, "writing to it failed");
}

#[test]
fn what_has_come_is_read_before_the_server_ends_a_connection() {
    let (mut world, recorder) = recorded();
    let client = world.client();
    world.script().send(client, b"goodbye");
    let _ = world.post.send(Mail::Drain(Duration::from_secs(20)));
    world.turns(1);
    assert_eq!(recorder.take(), ["read goodbye", "farewell drain"]);
}

#[test]
fn a_paused_wire_with_bytes_before_it_is_ended_after_a_second() {
    let (mut world, recorder) = recorded();
    let client = world.client();
    recorder.state().paused = true;
    world.script().send(client, b"a");
    world.turns(1);
    world.script().send(client, b"b");
    let _ = world.post.send(Mail::Drain(Duration::from_secs(20)));
    world.turns(2);
    assert_eq!(recorder.take(), ["read a"]);
    world.pass(Duration::from_secs(1));
    world.turns(1);
    assert_eq!(recorder.take(), ["farewell drain"]);
}
