//! What an idle connection costs in the hub: counted by the allocator, names and tables included.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait; it only forwards to the system's")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use everywire_base::ask::Subscribe;
use everywire_base::clock::Now;
use everywire_base::cursor::{Lineage, Offset};
use everywire_base::id::Slot;
use everywire_base::limits::Limits;
use everywire_base::rules::Rules;
use everywire_base::topic::Filter;
use everywire_hub::{Hub, Setup};
use everywire_log::hint::RetainedHint;
use everywire_log::tail::TailWriter;

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Allocators round up to 16 bytes.
        BYTES.fetch_add(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(rounded(layout.size()), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn rounded(size: usize) -> usize {
    size.next_multiple_of(16)
}

const ORIGIN: everywire_hub::Origin = everywire_hub::Origin {
    wire: "test",
    address: std::net::SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1)),
};

const CONNECTIONS: u32 = 10_000;

#[test]
fn an_idle_connection_with_its_own_topic_costs_at_most_200_bytes() {
    let limits = Arc::new(Limits::default());
    let writer = TailWriter::new(Offset(0), &limits);
    let mut hub = Hub::new(Setup {
        tails: vec![Arc::clone(writer.tail())],
        lineages: vec![Arc::new(Lineage::default())],
        retained: Arc::new(RetainedHint::default()),
        limits,
        rules: Arc::new(Rules::default()),
        worker: 0,
        plate: everywire_base::id::Nameplate::default(),
        draw: Arc::new(|| 4),
    });
    let before = BYTES.load(Ordering::Relaxed);
    for index in 0..CONNECTIONS {
        let filters = [Filter::parse(&format!("bench/topic/{index}")).unwrap()];
        let subscribe = Subscribe::to(filters);
        hub.subscribe(Slot { index, generation: 0 }, &subscribe, Now::default());
    }
    let each = (BYTES.load(Ordering::Relaxed) - before) / CONNECTIONS as usize;
    eprintln!("{each} bytes for each connection");
    assert!(each <= 200, "{each} bytes for each connection");
    for index in 0..CONNECTIONS {
        hub.close(Slot { index, generation: 0 }, ORIGIN, Now::default());
    }
    // The tables keep their room for the next connections; names are gone.
    let left = (BYTES.load(Ordering::Relaxed) - before) / CONNECTIONS as usize;
    assert!(left <= 150, "{left} bytes for each connection are left");
    assert_eq!(hub.counters().filters, 0);
}
