//! The cost of an idle connection in the hub: counted by the allocator, names and tables included.

mod counting;

use everywire_base::ask::Subscribe;
use everywire_base::clock::Now;
use everywire_base::id::Slot;
use everywire_base::topic::Filter;

use crate::counting::{bytes, hub_on_a_log};

const ORIGIN: everywire_hub::Origin = everywire_hub::Origin {
    wire: "test",
    address: std::net::SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1)),
};

const CONNECTIONS: u32 = 10_000;

#[test]
fn an_idle_connection_with_its_own_topic_costs_at_most_140_bytes() {
    let (mut hub, _writer) = hub_on_a_log();
    let before = bytes();
    for index in 0..CONNECTIONS {
        let filters = [Filter::parse(&format!("bench/topic/{index}")).unwrap()];
        let subscribe = Subscribe::to(filters);
        hub.subscribe(Slot { index, generation: 0 }, &subscribe, Now::default());
    }
    let each = (bytes() - before) / CONNECTIONS as usize;
    eprintln!("{each} bytes for each connection");
    assert!(each <= 140, "{each} bytes for each connection");
    for index in 0..CONNECTIONS {
        hub.close(Slot { index, generation: 0 }, ORIGIN, Now::default());
    }
    // The tables keep their room for the next connections; names are gone.
    let left = (bytes() - before) / CONNECTIONS as usize;
    assert!(left <= 120, "{left} bytes for each connection are left");
    assert_eq!(hub.counters().filters, 0);
}
