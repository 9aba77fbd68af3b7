//! A server that stood still for a while ends no client that sent in time (MQTT-3.1.2-22).

use std::thread::sleep;
use std::time::Duration;

use everywire_tests::Server;
use everywire_tests::mqtt::{Mqtt, Opening, PINGREQ};
use rustix::process::Signal;

/// The number of clients, which ping more often than every second and are ended after three.
const CLIENTS: usize = 300;

#[test]
fn clients_that_spoke_while_the_server_stood_still_stay() {
    let server = Server::start();
    let mut clients: Vec<Mqtt> = (0..=CLIENTS).map(|_| Mqtt::dial(server.address_of("mqtt"))).collect();
    // They log in together, so that none is silent for long before the pause, however slow the machine is.
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(&Opening { keep_alive: 2, ..Opening::new(&format!("c{n}")) }.bytes());
    }
    for client in &mut clients {
        client.packet_of(2).expect("CONNACK");
    }
    server.signal(Signal::STOP);
    let mut silent = clients.pop().expect("a client");
    // The pause is what is tested: it is longer than the time after which a silent client is ended.
    for _ in 0..5 {
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
        for ping in 0..6 {
            assert!(client.packet_of(13).is_some(), "client {n} is answered to its ping {ping}");
        }
    }
    assert!(silent.packet().is_none(), "the silent one is ended");
}
