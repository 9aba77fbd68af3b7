//! A server that stood still for a while ends nobody who spoke in time (MQTT-3.1.2-22).

use std::thread::sleep;
use std::time::Duration;

use everywire_tests::Server;
use everywire_tests::mqtt::{Mqtt, Opening, PINGREQ};
use rustix::process::Signal;

/// Clients that ping every second and are ended after one and a half.
const CLIENTS: usize = 300;

#[test]
fn clients_that_spoke_while_the_server_stood_still_stay() {
    let server = Server::start();
    let opening = |n| Opening { keep_alive: 1, ..Opening::new(&format!("c{n}")) };
    let mut clients: Vec<Mqtt> = (0..CLIENTS).map(|n| Mqtt::open(server.address_of("mqtt"), &opening(n))).collect();
    let mut silent = Mqtt::open(server.address_of("mqtt"), &opening(CLIENTS));
    server.signal(Signal::STOP);
    // The pause is what is tested: it is longer than the patience with a client.
    for _ in 0..3 {
        for client in &mut clients {
            client.send(&PINGREQ);
        }
        sleep(Duration::from_millis(800));
    }
    for client in &mut clients {
        client.send(&PINGREQ);
    }
    server.signal(Signal::CONT);
    for (n, client) in clients.iter_mut().enumerate() {
        for ping in 0..4 {
            assert!(client.packet_of(13).is_some(), "client {n} is answered to its ping {ping}");
        }
    }
    assert!(silent.packet().is_none(), "the silent one is ended");
}
