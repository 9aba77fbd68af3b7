//! The delivery rule under random schedules (DESIGN 4, RULES 1, 2, 3, 4, 6).
//!
//! Every delivery is checked against the reference in `world`: exact order, nothing twice, no gap unsaid, and all
//! delivered when the world comes to rest. Each seed is one schedule; a failing one is printed.
//!
//! These mutations were tried by hand and are found within the first three seeds:
//! * without the guard "only live ones are pushed to" in `Deliveries::walk_on` (the first seed);
//! * without the mark for those that become live during a walk, in `Deliveries::put_back`;
//! * with positions of a live connection that ignore the record under way, in `Deliveries::current`;
//! * without raising the older filters' `since` when the read position moves back, in `Deliveries::lag_from`.

mod world;

use std::time::Duration;

use everywire_base::ask::{Page, Subscribe};
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::{Cursor, Epoch, Offset, Partition, Start};
use everywire_base::id::Slot;
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message};
use world::{EPOCH, Shape, World, filter, rule, topic};

const TOPICS: [&str; 6] = ["a", "b", "a/x", "a/y", "b/x", "passing"];
const FILTERS: [&str; 11] = ["a", "b", "a/x", "a/y", "b/x", "passing", "a/#", "#", "+/x", "a/+", "none"];
const SLOTS: u32 = 6;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

/// One schedule.
struct Schedule {
    random: Random,
    world: World,
    generations: Vec<u32>,
    /// Pages that are still on their way.
    pages: Vec<Page>,
}

/// Says which seed failed.
struct Seed(u64, usize);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} with {} partitions failed", self.0, self.1);
        }
    }
}

impl Schedule {
    fn new(seed: u64, partitions: usize) -> Self {
        let mut random = Random(seed);
        let limits = Limits {
            deliveries_per_turn: [1, 1, 3, 40][random.below(4) as usize],
            page_messages_max: 1 + random.below(5) as usize,
            tail_records: 1 + random.below(20) as usize,
            read_queue: 1 + random.below(4) as usize,
            filter_bytes: 8 * 150,
            ..Limits::default()
        };
        let rules = vec![rule("passing", Durability::None)];
        let world = World::new(Shape { partitions, limits, rules, ..Shape::default() });
        Self { random, world, generations: vec![0; SLOTS as usize], pages: Vec::new() }
    }

    fn slot(&mut self) -> Slot {
        let index = self.random.below(u64::from(SLOTS)) as u32;
        Slot { index, generation: self.generations[index as usize] }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..30 => self.publish(),
            30..50 => {
                self.world.turn();
            }
            50..58 => self.subscribe(),
            58..60 => self.unsubscribe(),
            60..63 => self.close(),
            63..67 => self.resume(),
            67..75 => self.stall_or_room(),
            75..80 => self.world.apply(),
            80..84 => self.trim(),
            84..92 => self.read(),
            92..98 => self.page(),
            _ => self.wait(),
        }
        let slot = self.slot();
        self.world.check_position(slot);
    }

    fn publish(&mut self) {
        for _ in 0..=self.random.below(4) {
            let partition = self.random.below(self.world.writers.len() as u64) as usize;
            let step = if self.random.one_in(6) { 2 + self.random.below(3) } else { 1 };
            let mut message = Message::new(topic(self.random.of(&TOPICS)), "x");
            if self.random.one_in(8) {
                message.expires = Some(UnixMillis(self.world.outside.now.wall.0 + self.random.below(3000)));
            }
            let passes = message.topic.as_str() == "passing";
            let offset = self.world.publish_message(partition, step, message);
            if passes {
                // Never stored: for the store it is lost at once.
                self.world.trim(partition, &topic("passing"), offset);
            }
        }
    }

    fn subscribe(&mut self) {
        let slot = self.slot();
        let filters = (0..=self.random.below(3)).map(|_| filter(self.random.of(&FILTERS))).collect::<Vec<_>>();
        let start = match self.random.below(10) {
            0..4 => Start::Latest,
            4 => Start::Earliest,
            5 => Start::After(Cursor::single(Epoch(99), Offset(3))),
            _ => Start::After(self.cursor()),
        };
        self.world.ask(slot, Subscribe { start, ..Subscribe::to(filters) });
    }

    /// A cursor that somebody may hold.
    fn cursor(&mut self) -> Cursor {
        let partitions = self.world.writers.len();
        let positions: Vec<_> = (0..partitions)
            .filter_map(|p| {
                let back = if self.random.one_in(2) { self.random.below(4) } else { self.random.below(40) };
                let offset = Offset(self.world.head(p).0.saturating_sub(back));
                (p == 0 || !self.random.one_in(4)).then_some((Partition(p as u16), offset))
            })
            .collect();
        Cursor::new(EPOCH, positions).expect("partition 0 is always named")
    }

    fn unsubscribe(&mut self) {
        let slot = self.slot();
        self.world.unsubscribe(slot);
    }

    fn close(&mut self) {
        let slot = self.slot();
        self.world.close(slot);
        self.generations[slot.index as usize] += 1;
    }

    /// The connection drops, and comes back with its cursor.
    fn resume(&mut self) {
        let slot = self.slot();
        self.world.check_position(slot);
        let Some(peer) = self.world.outside.peers.get(&slot).filter(|p| !p.owed) else { return };
        let filters = peer.filters.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
        // The tightest cursor that the peer may know: that of its last message, or the hub's.
        let positions = peer.position.iter().enumerate().map(|(p, o)| (Partition(p as u16), *o));
        let start = Start::After(Cursor::new(EPOCH, positions.collect::<Vec<_>>()).expect("at least one partition"));
        self.close_slot(slot);
        let slot = Slot { index: slot.index, generation: self.generations[slot.index as usize] };
        self.world.ask(slot, Subscribe { start, ..Subscribe::to(filters) });
    }

    fn close_slot(&mut self, slot: Slot) {
        // Sometimes the hub isn't told before the place is used again.
        if self.random.one_in(4) {
            self.world.outside.peers.remove(&slot);
        } else {
            self.world.close(slot);
        }
        self.generations[slot.index as usize] += 1;
    }

    fn stall_or_room(&mut self) {
        let slot = self.slot();
        let room = [0, 1, 3, 1000][self.random.below(4) as usize];
        self.world.room(slot, room);
    }

    fn trim(&mut self) {
        let partition = self.random.below(self.world.writers.len() as u64) as usize;
        let applied = self.world.outside.applied[partition].0;
        let up_to = Offset(applied.saturating_sub(self.random.below(30)));
        let name = self.random.of(&TOPICS);
        self.world.trim(partition, &topic(name), up_to);
    }

    /// The store sees to a read; its page is on the way then.
    fn read(&mut self) {
        let Some(read) = self.world.hub.reads().pop_front() else { return };
        let mut page = self.world.outside.read(&read);
        if self.random.one_in(5) {
            page = Page { failed: true, records: Vec::new(), lost: None, upto: Offset(0), ..page };
        }
        self.pages.push(page);
    }

    fn page(&mut self) {
        if !self.pages.is_empty() {
            let at = self.random.below(self.pages.len() as u64) as usize;
            let page = self.pages.swap_remove(at);
            self.world.page(&page);
        }
    }

    fn wait(&mut self) {
        let by = Duration::from_millis(self.random.below(500));
        let now = &mut self.world.outside.now;
        (now.monotonic, now.wall) = (now.monotonic + by, now.wall.after(by));
    }

    /// All stalls end, all pages come, and everybody must have everything.
    fn finish(&mut self) {
        while !self.pages.is_empty() {
            self.page();
        }
        self.world.apply();
        let slots: Vec<Slot> = self.world.outside.peers.keys().copied().collect();
        for slot in &slots {
            self.world.room(*slot, usize::MAX);
        }
        self.world.settle();
        while let Some(at) = self.world.hub.deadline() {
            self.world.outside.now.monotonic = Monotonic(at.0.max(self.world.outside.now.monotonic.0));
            self.world.settle();
        }
        for slot in slots {
            let position = self.world.hub.position(slot);
            assert!(position.live, "{slot:?} still lags at {}", position.cursor);
            let heads: Vec<Offset> = (0..self.world.writers.len()).map(|p| self.world.head(p)).collect();
            assert_eq!(self.world.check_position(slot), heads);
            assert!(!self.world.outside.peers[&slot].owed, "{slot:?} was never told of its gap");
        }
        assert_eq!(self.world.hub.counters().lagging, 0);
    }
}

fn run(seeds: std::ops::Range<u64>, partitions: usize) {
    for seed in seeds {
        let _seed = Seed(seed, partitions);
        let mut schedule = Schedule::new(seed, partitions);
        for _ in 0..=seed % 2 {
            for _ in 0..120 {
                schedule.step();
            }
            schedule.finish();
        }
    }
}

#[test]
fn random_schedules_of_one_partition() {
    run(0..800, 1);
}

#[test]
fn random_schedules_of_three_partitions() {
    run(0..300, 3);
}
