//! What a delivery costs in the hub: nanoseconds and allocations, for one topic with many subscribers and for many
//! topics with one each.
//!
//! `cargo run --release -p everywire-hub --example hub_bench`

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait; it only forwards to the system's")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use everywire_base::ask::Subscribe;
use everywire_base::clock::{Now, UnixMillis};
use everywire_base::cursor::{Lineage, Offset, Partition};
use everywire_base::id::Slot;
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Entry, Message, Record};
use everywire_base::rules::Rules;
use everywire_base::topic::{Filter, Topic};
use everywire_hub::{Deliver, Hub, Setup};
use everywire_log::hint::RetainedHint;
use everywire_log::tail::TailWriter;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is forwarded unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Default)]
struct Sink {
    deliveries: u64,
    sum: u64,
}

impl Deliver for Sink {
    fn deliver(&mut self, slot: Slot, delivery: &Delivery<'_>) -> Taken {
        if let Delivery::Message(parcel, _) = delivery {
            self.sum = self.sum.wrapping_add(parcel.record().offset.0 ^ u64::from(slot.index));
        }
        self.deliveries += 1;
        Taken::Yes
    }

    fn settled(&mut self, _: Slot) {}

    fn end(&mut self, _: Slot, _: Reason) {}
}

/// Subscribers, and messages that are published to their topics in turn.
struct Case {
    name: &'static str,
    subscribers: u32,
    topics: u32,
    wildcards: u32,
    messages: u64,
}

fn main() {
    let cases = [
        ("1,000 subscribers of one topic", 1000, 1, 0, 4000),
        ("the same among 1,000 wildcards", 1000, 1, 1000, 4000),
        ("10,000 topics with one subscriber each", 10_000, 10_000, 0, 1_000_000),
        ("one subscriber, 10,000 topics without", 1, 10_000, 0, 1_000_000),
    ];
    for (name, subscribers, topics, wildcards, messages) in cases {
        run(&Case { name, subscribers, topics, wildcards, messages });
    }
}

fn run(case: &Case) {
    let limits = Arc::new(Limits::default());
    let mut writer = TailWriter::new(Offset(0), &limits);
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
    let subscribe = |hub: &mut Hub, index: u32, filter: String| {
        let filters = [Filter::parse(&filter).expect("a filter")];
        let subscribe = Subscribe::to(filters);
        hub.subscribe(Slot { index, generation: 0 }, &subscribe, Now::default());
    };
    for index in 0..case.subscribers {
        subscribe(&mut hub, index, format!("bench/topic/{}", index % case.topics));
    }
    for index in 0..case.wildcards {
        subscribe(&mut hub, case.subscribers + index, format!("other/+/{index}"));
    }
    let topics: Vec<Topic> =
        (0..case.topics).map(|t| Topic::parse(&format!("bench/topic/{t}")).expect("a topic")).collect();
    let mut sink = Sink::default();
    let (mut nanos, mut allocations, mut offset) = (0, 0, 0);
    while offset < case.messages {
        let records = (0..32).map(|_| {
            offset += 1;
            let topic = topics[(offset * 7919) as usize % topics.len()].clone();
            Arc::new(Record {
                partition: Partition(0),
                offset: Offset(offset),
                time: UnixMillis(0),
                durability: Durability::Fsync,
                entry: Entry::Message(Message::new(topic, vec![b'x'; 128])),
            })
        });
        writer.push(records.collect());
        writer.tail().set_applied(Offset(offset));
        let (begun, before) = (Instant::now(), ALLOCATIONS.load(Ordering::Relaxed));
        while hub.turn(Now::default(), &mut sink) {}
        nanos += begun.elapsed().as_nanos();
        allocations += ALLOCATIONS.load(Ordering::Relaxed) - before;
    }
    let deliveries = sink.deliveries.max(1);
    println!(
        "{:<42} {:>10} deliveries  {:>7.1} ns/delivery  {:>7.1} ns/message  {:>6.3} allocations/message",
        case.name,
        sink.deliveries,
        nanos as f64 / deliveries as f64,
        nanos as f64 / offset as f64,
        allocations as f64 / offset as f64,
    );
    std::hint::black_box(sink.sum);
}
