//! The cost of a delivery and a login in the hub: nanoseconds and allocations. Deliveries of one topic with many
//! subscribers and of many topics with one each; logins with a session that ends with its connection, and with one that
//! outlives it.
//!
//! `cargo run --release -p everywire-hub --example hub_bench`
//!
//! A count of instructions needs a shorter run, of one part alone:
//! `valgrind --tool=callgrind target/release/examples/hub_bench 20 deliveries`

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait; it only forwards to the system's")]
#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "a bench reads the clock")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use everywire_base::ask::{Login, SessionWish, Subscribe};
use everywire_base::clock::{Now, UnixMillis};
use everywire_base::cursor::{Lineage, Offset, Partition};
use everywire_base::id::{AskId, Slot};
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message, Record};
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
    answers: u64,
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
    let mut words = std::env::args().skip(1);
    let divisor: u64 = words.next().map_or(1, |word| word.parse().expect("by how much it is to be shorter"));
    let part = words.next();
    let is_wanted = |name: &str| part.as_deref().is_none_or(|part| part == name);
    for (name, subscribers, topics, wildcards, messages) in cases {
        if is_wanted("deliveries") {
            run(&Case { name, subscribers, topics, wildcards, messages: messages / divisor });
        }
    }
    let logins = u32::try_from(20_000 / divisor).expect("few");
    for (name, what, expiry) in [
        ("logins, sessions end with connections", "logins", Duration::ZERO),
        ("logins, sessions outlive connections", "durable", Duration::from_hours(1)),
    ] {
        if is_wanted(what) {
            log_in(name, logins, expiry);
        }
    }
}

/// Logins of clients with a named session each, and their ends. The hub's appends are in the log at once.
fn log_in(name: &str, logins: u32, expiry: Duration) {
    let limits = Arc::new(Limits::default());
    let mut writer = TailWriter::new(Offset(0), &limits);
    let mut hub = hub_on(&writer, limits);
    let (mut sink, mut offset, now) = (Sink::default(), 0, Now::default());
    let (begun, before) = (Instant::now(), ALLOCATIONS.load(Ordering::Relaxed));
    for index in 0..logins {
        let id = format!("client-{index}").into();
        let session = SessionWish::Named { id, expiry, fresh: true, window: 20 };
        hub.login(Slot { index, generation: 0 }, AskId(1), Login { session, ..Login::default() }, now);
        settle(&mut hub, &mut writer, &mut offset, &mut sink);
        let filters = [Filter::parse(&format!("bench/topic/{index}")).expect("a filter")];
        hub.subscribe_for(Slot { index, generation: 0 }, AskId(2), &Subscribe::to(filters), now);
        settle(&mut hub, &mut writer, &mut offset, &mut sink);
    }
    let address = "127.0.0.1:1".parse().expect("an address");
    for index in 0..logins {
        hub.close(Slot { index, generation: 0 }, everywire_hub::Origin { wire: "bench", address }, now);
        settle(&mut hub, &mut writer, &mut offset, &mut sink);
    }
    println!(
        "{name:<42} {logins:>10} logins      {:>7.1} ns/login     {:>6.3} allocations/login",
        begun.elapsed().as_nanos() as f64 / f64::from(logins),
        (ALLOCATIONS.load(Ordering::Relaxed) - before) as f64 / f64::from(logins),
    );
    assert_eq!(sink.answers, 2 * u64::from(logins), "every ask is answered");
}

/// Lets the log take what the hub appends, until there is no more of it.
fn settle(hub: &mut Hub, writer: &mut TailWriter, offset: &mut u64, sink: &mut Sink) {
    loop {
        while hub.turn(Now::default(), sink) && hub.answers().is_empty() {}
        sink.answers += hub.answers().drain(..).count() as u64;
        let appends = std::mem::take(hub.appends());
        if appends.is_empty() {
            return;
        }
        let records = appends.into_iter().map(|append| {
            *offset += 1;
            Arc::new(Record {
                partition: Partition(0),
                offset: Offset(*offset),
                time: UnixMillis(0),
                durability: append.draft.durability,
                content: append.draft.entry.into(),
            })
        });
        writer.push(records.collect());
        writer.tail().set_applied(Offset(*offset));
    }
}

fn hub_on(writer: &TailWriter, limits: Arc<Limits>) -> Hub {
    Hub::new(Setup {
        tails: vec![Arc::clone(writer.tail())],
        lineages: vec![Arc::new(Lineage::default())],
        rooms: Arc::default(),
        retained: Arc::new(RetainedHint::default()),
        limits,
        rules: Arc::new(Rules::default()),
        worker: 0,
        life: everywire_base::id::NodeLife::default(),
        random: Arc::new(|| 4),
    })
}

fn run(case: &Case) {
    let limits = Arc::new(Limits::default());
    let mut writer = TailWriter::new(Offset(0), &limits);
    let mut hub = hub_on(&writer, limits);
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
                content: Message::new(topic, vec![b'x'; 128]).into(),
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
