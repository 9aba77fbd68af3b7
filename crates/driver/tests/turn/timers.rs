//! Deadlines are judged by the bytes that have come, whether they were told and read already or not.

use std::sync::Arc;
use std::time::Duration;

use everywire_base::clock::Monotonic;
use everywire_base::limits::Limits;

use crate::packets::{connect, mqtt, packet};
use crate::recorder::Recorder;
use crate::setup::World;

const PINGREQ: [u8; 2] = [0xc0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];
/// Six seconds of patience.
const KEEP_ALIVE: u16 = 4;

fn clients(world: &mut World, count: usize) -> Vec<usize> {
    let connect = |world: &mut World, n| {
        let client = world.client();
        world.script().send(client, &connect(&format!("c{n}"), 2, KEEP_ALIVE));
        world.turns(3);
        assert_eq!(world.script().receive(client), [0x20, 2, 0, 0]);
        client
    };
    (0..count).map(|n| connect(world, n)).collect()
}

#[test]
fn after_a_pause_nobody_is_ended_who_spoke_in_time() {
    let mut world = World::new(Limits::default(), mqtt);
    let all = clients(&mut world, 20);
    for client in &all {
        world.script().send(*client, &PINGREQ);
    }
    // The process stood still, and is then told of one client after the other.
    world.pass(Duration::from_secs(9));
    world.script().events_at_once = 1;
    world.turns(1);
    assert!(all.iter().all(|client| !world.see().link(*client).closed), "all spoke");
    world.turns(30);
    for client in &all {
        assert_eq!(world.script().receive(*client), PINGRESP);
    }
}

#[test]
fn after_a_pause_the_silent_are_ended() {
    let mut world = World::new(Limits::default(), mqtt);
    let all = clients(&mut world, 2);
    world.script().send(all[0], &PINGREQ);
    world.pass(Duration::from_secs(9));
    world.turns(3);
    assert!(!world.see().link(all[0]).closed, "it spoke");
    world.pass(Duration::from_secs(2));
    world.turns(3);
    assert!(world.see().link(all[1]).closed, "it was silent");
}

#[test]
fn who_reads_slowly_but_pings_in_time_stays() {
    let mut world = World::new(Limits { unread_bytes: 256, ..Limits::default() }, mqtt);
    let client = clients(&mut world, 1)[0];
    world.script().set_window(client, 0);
    world.script().send(client, &PINGREQ.repeat(1000));
    world.turns(3);
    for _ in 0..10 {
        world.pass(Duration::from_secs(4));
        world.script().send(client, &PINGREQ);
        world.turns(2);
    }
    assert!(!world.see().link(client).closed, "its pings came in time");
    world.script().set_window(client, usize::MAX);
    world.turns(100);
    assert_eq!(world.script().receive(client), PINGRESP.repeat(1010), "and are answered when it reads");
    world.pass(Duration::from_secs(7));
    world.turns(3);
    world.pass(Duration::from_secs(2));
    world.turns(3);
    assert!(world.see().link(client).closed, "then it was silent");
}

#[test]
fn what_has_come_is_read_before_a_deadline_is_judged() {
    let recorder = Recorder::default();
    let listen = Arc::new(recorder.clone());
    let mut world = World::new(Limits::default(), |_| listen);
    recorder.state().deadline = Some(Monotonic(1_000_500));
    let client = world.client();
    world.turns(2);
    world.script().send(client, b"in time");
    world.script().events_at_once = 0;
    world.pass(Duration::from_secs(1));
    world.turns(1);
    assert_eq!(recorder.take(), ["read in time", "tick"]);
}

#[test]
fn a_packet_that_is_not_finished_is_no_silence() {
    let mut world = World::new(Limits::default(), mqtt);
    let client = clients(&mut world, 1)[0];
    let publish = packet(0x30, &[&[0, 1, b't'][..], &[b'x'; 100]].concat());
    for byte in &publish[..2] {
        world.script().send(client, &[*byte]);
        world.pass(Duration::from_secs(4));
        world.turns(2);
    }
    assert!(!world.see().link(client).closed);
}
