//! The places of a window: as many are taken as the client has deliveries outstanding, whatever becomes of those still
//! to be sent.
#![expect(clippy::unwrap_used, reason = "a test fails as it likes")]

mod pair;

use std::collections::BTreeMap;
use std::time::Duration;

use everywire_base::ask::{Ack, AckError, Subscribe, Unsubscribe};
use everywire_base::id::AskId;
use everywire_base::record::{Durability, Message};
use everywire_base::terms::{RetainHandling, Terms};
use everywire_base::topic::{Filter, Topic};

use pair::{EXPIRY, Got, World, named, slot, world};

const WINDOW: u16 = 8;

fn to(filter: &str, qos: u8) -> Subscribe {
    let terms = Terms { qos, ..Terms::default() };
    Subscribe { terms, retained: RetainHandling::IfNew, ..Subscribe::to([Filter::parse(filter).unwrap()]) }
}

fn outstanding(world: &World) -> u64 {
    world.hubs[0].describe(slot(1)).outstanding
}

fn unsubscribe(world: &mut World, filter: &str) {
    let one = Unsubscribe::One(Filter::parse(filter).unwrap(), None);
    world.hubs[0].unsubscribe_from(slot(1), AskId(6), &one, world.now);
    world.settle();
}

/// A client whose window is full of tags that were reserved for messages of `a`, none of which was sent.
fn reserved_ahead() -> World {
    let mut world = world();
    world.enter(0, 1, named("me", EXPIRY, false, WINDOW));
    world.subscribe_on(0, 1, &to("a", 2));
    world.subscribe_on(0, 1, &to("b", 2));
    world.takes = false;
    for n in 0..20 {
        let expires = Some(world.now.wall.after(Duration::from_mins(1)));
        let message = Message { qos: 2, expires, ..Message::new(Topic::parse("a").unwrap(), n.to_string()) };
        world.append(message, Durability::Fsync);
    }
    world.settle();
    assert_eq!(world.came(0, 1), [], "no tag is durable");
    world
}

/// Checks that all places are free: as many messages come at once.
fn is_free(world: &mut World, topic: &str) {
    assert_eq!(outstanding(world), 0);
    world.takes = true;
    for n in 0..20 {
        world.publish_at(topic, &n.to_string(), 2);
    }
    world.pass(Duration::from_secs(1));
    let got = world.tagged(0, 1);
    assert_eq!(got.iter().map(|(body, _)| body.clone()).collect::<Vec<_>>(), ["0", "1", "2", "3", "4", "5", "6", "7"]);
    assert_eq!(outstanding(world), 8);
}

#[test]
fn a_subscription_that_ends_gives_its_places_back() {
    let mut world = reserved_ahead();
    unsubscribe(&mut world, "a");
    is_free(&mut world, "b");
    let mut world = reserved_ahead();
    unsubscribe(&mut world, "b");
    unsubscribe(&mut world, "a");
    world.takes = true;
    world.pass(Duration::from_secs(1));
    world.subscribe_on(0, 1, &to("c", 2));
    is_free(&mut world, "c");
}

#[test]
fn what_expires_gives_its_places_back() {
    let mut world = reserved_ahead();
    world.pass(Duration::from_mins(2));
    is_free(&mut world, "b");
}

#[test]
fn a_new_identity_gives_back_the_places_of_what_it_may_not_have() {
    let mut world = reserved_ahead();
    let only_b = everywire_base::identity::Identity {
        subscribe: Some(vec![Filter::parse("b").unwrap()]),
        ..everywire_base::identity::Identity::default()
    };
    world.login(0, 1, Some(std::sync::Arc::new(only_b)), everywire_base::ask::SessionWish::None);
    is_free(&mut world, "b");
}

#[test]
fn what_is_reserved_takes_no_place_of_what_comes_before_it() {
    let mut world = world();
    world.enter(0, 1, named("me", EXPIRY, false, 2));
    world.subscribe_on(0, 1, &to("a", 2));
    world.clients[0].is_full = true;
    for (body, qos) in [("0", 2), ("1", 1), ("2", 2), ("3", 2)] {
        world.publish_at("a", body, qos);
    }
    world.clients[0].is_full = false;
    world.hubs[0].room(slot(1));
    world.settle();
    assert_eq!(world.tagged(0, 1).len(), 2, "two may be outstanding, two are");
    assert_eq!(outstanding(&world), 2);
}

#[test]
fn a_lower_subscription_takes_back_the_places_of_a_higher_one() {
    let mut world = reserved_ahead();
    world.hubs[0].subscribe_for(slot(1), AskId(2), &to("a", 0), world.now);
    world.takes = true;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.tagged(0, 1).len(), 20);
    is_free(&mut world, "b");
}

#[test]
fn an_ended_subscription_greets_nobody_any_more() {
    let mut world = world();
    for name in ["a/1", "a/2", "b"] {
        let kept = Message { retain: true, qos: 2, ..Message::new(Topic::parse(name).unwrap(), name) };
        world.append(kept, Durability::Fsync);
    }
    world.enter(0, 1, named("me", EXPIRY, false, WINDOW));
    world.takes = false;
    for filter in ["a/+", "b"] {
        world.hubs[0].subscribe_for(slot(1), AskId(2), &to(filter, 2), world.now);
    }
    world.settle();
    unsubscribe(&mut world, "a/+");
    world.takes = true;
    world.pass(Duration::from_secs(1));
    assert_eq!(world.tagged(0, 1).into_iter().map(|(body, _)| body).collect::<Vec<_>>(), ["b"]);
    assert_eq!(outstanding(&world), 1);
}

#[test]
fn a_retained_message_that_is_outstanding_greets_again() {
    let mut world = world();
    let kept = Message { retain: true, qos: 2, ..Message::new(Topic::parse("a").unwrap(), "kept") };
    world.append(kept, Durability::Fsync);
    world.enter(0, 1, named("me", EXPIRY, false, WINDOW));
    for times in 1..=2 {
        world.subscribe_on(0, 1, &Subscribe { retained: RetainHandling::Always, ..to("a", 2) });
        assert_eq!(world.tagged(0, 1).len(), 1, "time {times}");
        assert_eq!(outstanding(&world), times);
    }
}

#[test]
fn a_small_window_needs_few_reads_of_what_it_missed() {
    const MISSED: usize = 2000;
    for qos in [1, 2] {
        let limits = everywire_base::limits::Limits { tail_records: 1, ..Default::default() };
        let mut world = World::new(&everywire_base::rules::Rules::default(), limits);
        world.enter(0, 1, named("me", EXPIRY, false, WINDOW));
        world.subscribe_on(0, 1, &to("a/+", qos));
        world.close(0, 1);
        for n in 0..MISSED {
            let message = Message { qos, ..Message::new(Topic::parse("a/b").unwrap(), n.to_string()) };
            world.append(message, Durability::Fsync);
        }
        world.enter(0, 1, named("me", EXPIRY, false, WINDOW));
        let before = world.hubs[0].counters().reads;
        let mut seen = Vec::new();
        loop {
            let got = world.tagged(0, 1);
            if got.is_empty() {
                break;
            }
            assert!(got.len() <= usize::from(WINDOW));
            for (body, tag) in got {
                seen.push(body);
                if qos == 2 {
                    world.tell(0, 1, &Ack::Received(tag)).unwrap();
                }
                world.tell(0, 1, &Ack::Done(tag)).unwrap();
            }
        }
        assert_eq!(seen, (0..MISSED).map(|n| n.to_string()).collect::<Vec<_>>());
        let reads = world.hubs[0].counters().reads - before;
        eprintln!("{reads} reads for {MISSED} messages at QoS {qos}");
        assert!(reads <= MISSED as u64 / 50, "{reads} reads");
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// A client that notes what it has outstanding.
struct Client {
    world: World,
    random: Random,
    /// Tags with the quality of service.
    has: BTreeMap<u16, u8>,
}

impl Client {
    fn take(&mut self) {
        for got in self.world.came(0, 1) {
            if let Got::Message(_, qos @ 1..=2, tag, ..) = got {
                assert!(self.has.insert(tag, qos).is_none(), "the tag {tag} is in use");
            }
        }
        assert!(self.has.len() <= usize::from(WINDOW), "{:?}", self.has);
        assert_eq!(outstanding(&self.world), self.has.len() as u64, "places taken, and what the client has");
    }

    fn acknowledge(&mut self) {
        let Some((tag, qos)) = self.has.pop_first() else { return };
        if qos == 2 {
            self.world.tell(0, 1, &Ack::Received(tag)).unwrap();
        }
        self.world.tell(0, 1, &Ack::Done(tag)).unwrap();
    }

    fn step(&mut self) {
        let topic = ["a", "b", "c"][self.random.below(3) as usize];
        match self.random.below(20) {
            0..9 => {
                let expires = (self.random.below(2) == 0).then(|| self.world.now.wall.after(Duration::from_secs(1)));
                let qos = self.random.below(3) as u8;
                let message = Message { qos, expires, ..Message::new(Topic::parse(topic).unwrap(), "x") };
                self.world.append(message, Durability::Fsync);
            }
            9..11 => unsubscribe(&mut self.world, topic),
            11..13 => {
                let wanted = to(topic, self.random.below(3) as u8);
                self.world.hubs[0].subscribe_for(slot(1), AskId(2), &wanted, self.world.now);
            }
            13 => self.world.takes = !self.world.takes,
            14 => {
                self.world.clients[0].is_full = !self.world.clients[0].is_full;
                if !self.world.clients[0].is_full {
                    self.world.hubs[0].room(slot(1));
                }
            }
            15..18 => self.acknowledge(),
            18 => self.world.pass(Duration::from_millis(300)),
            _ => {
                // The oldest are not kept any more.
                let n = self.world.records.len() / 2;
                self.world.records.drain(..n);
            }
        }
        self.world.settle();
        self.take();
    }

    /// Checks that nothing is in the way of a new message when all is acknowledged.
    fn finish(&mut self) {
        self.world.takes = true;
        self.world.clients[0].is_full = false;
        self.world.hubs[0].room(slot(1));
        self.world.pass(Duration::from_secs(1));
        self.take();
        while !self.has.is_empty() {
            self.acknowledge();
            self.take();
        }
        self.world.hubs[0].subscribe_for(slot(1), AskId(2), &to("new", 2), self.world.now);
        self.world.publish_at("new", "new", 2);
        assert_eq!(self.world.came(0, 1).len(), 1);
    }
}

#[test]
fn places_taken_are_what_the_client_has_outstanding() {
    for seed in 0..60 {
        let mut world = world();
        world.enter(0, 1, named("me", EXPIRY, false, WINDOW));
        let mut client = Client { world, random: Random(seed), has: BTreeMap::new() };
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..60).for_each(|_| client.step());
            client.finish();
        }));
        assert!(ran.is_ok(), "seed {seed}");
    }
}

#[test]
fn what_is_acknowledged_in_the_way_of_another_quality_of_service_is_refused_and_goes_on() {
    let mut world = world();
    world.enter(0, 1, named("me", EXPIRY, false, 10));
    world.subscribe_on(0, 1, &to("#", 2));
    world.publish_at("a", "one", 1);
    world.publish_at("a", "two", 2);
    world.settle();
    let got = world.tagged(0, 1);
    assert_eq!(got, [("one".into(), 1), ("two".into(), 2)]);
    for ack in [Ack::DoneExactlyOnce(1), Ack::Received(1), Ack::DoneAtLeastOnce(2)] {
        assert_eq!(world.tell(0, 1, &ack), Err(AckError::WrongKind), "{ack:?}");
    }
    for ack in [Ack::DoneAtLeastOnce(1), Ack::Received(2), Ack::DoneExactlyOnce(2), Ack::DoneAtLeastOnce(9)] {
        assert_eq!(world.tell(0, 1, &ack), Ok(()), "{ack:?}");
    }
}
