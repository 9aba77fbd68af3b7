//! The log over a disk that loses, tears, fails and rots, by seeds: every acknowledged message is there, once, in
//! order, and no offset is ever given twice; or the log is refused.

use std::collections::{BTreeMap, HashSet};

use crate::common::{Dice, World};
use everywire_base::ask::{Append, PublishError, Published};
use everywire_base::cursor::{Offset, Partition};
use everywire_base::record::{Durability, Message, Record};
use everywire_log::disk::{Disk, Fault, SimDisk};
use everywire_log::engine::Engine;
use everywire_log::suite::{append, message};

const SEEDS: u64 = 25;
const LIVES: u64 = 5;

/// The state of the log as the test knows it.
#[derive(Default)]
struct Known {
    /// Acknowledged records by offset: the body's number and the durability.
    acknowledged: BTreeMap<Offset, (u32, Durability)>,
    /// All offsets that were ever seen, also in answers to messages that are never stored.
    given: HashSet<Offset>,
    /// Numbers whose outcome is unknown: they may be there or not.
    unknown: HashSet<u32>,
    next: u32,
    /// The numbers of records that are not wanted any more.
    unwanted: HashSet<u32>,
}

fn number(record: &Record) -> u32 {
    let body = std::str::from_utf8(&record.message().unwrap().body).unwrap();
    body.split(' ').next().unwrap().parse().unwrap()
}

impl Known {
    fn draft(&mut self, dice: &mut Dice) -> Append {
        self.next += 1;
        let durability =
            [Durability::Fsync, Durability::Fsync, Durability::Memory, Durability::None][dice.roll(4) as usize];
        let filling = " ".repeat(dice.roll(10).pow(3) as usize * 2);
        let body = format!("{}{filling} ", self.next);
        append(self.next, durability, Message { body: body.into(), ..message("t", 0) })
    }

    fn answered(&mut self, ask: u32, result: Result<Published, PublishError>) {
        match result {
            Ok(p) => {
                assert!(self.given.insert(p.offset), "offset {} was given twice", p.offset);
                self.acknowledged.insert(p.offset, (ask, p.durability));
            }
            Err(PublishError::OutcomeUnknown) => {
                self.unknown.insert(ask);
            }
            Err(error) => assert!(matches!(error, PublishError::Busy | PublishError::DiskFull), "{error}"),
        }
    }

    fn is_wanted(&self, record: &Record) -> bool {
        !self.unwanted.contains(&number(record))
    }

    /// Checks after an open that everything that was promised is there.
    fn check(&mut self, world: &World) {
        let kept = world.kept().unwrap();
        assert!(kept.windows(2).all(|w| w[0].offset < w[1].offset && w[0].time <= w[1].time), "in order, once");
        let by_offset: BTreeMap<Offset, u32> = kept.iter().map(|r| (r.offset, number(r))).collect();
        let numbers: HashSet<u32> = by_offset.values().copied().collect();
        assert_eq!(numbers.len(), kept.len(), "no message is there twice");
        let holes = world.engine.lineage(Partition(0)).holes.clone();
        for (offset, (ask, durability)) in &self.acknowledged {
            let found = by_offset.get(offset);
            match durability {
                Durability::Fsync if self.unwanted.contains(ask) => {}
                Durability::Fsync => assert_eq!(found, Some(ask), "what was acknowledged at {offset} is there"),
                Durability::Memory if found.is_none() && !self.unwanted.contains(ask) => {
                    let in_hole = holes.iter().any(|(first, last)| first <= offset && offset <= last);
                    assert!(in_hole, "{offset} is gone but in no hole: {holes:?}");
                }
                Durability::Memory => assert!(found.is_none() || found == Some(ask)),
                Durability::None => assert_eq!(found, None),
                Durability::Replicated => panic!("a disk promises no copies"),
            }
        }
        for (offset, ask) in &by_offset {
            let is_known = self.acknowledged.get(offset).is_some_and(|(a, _)| a == ask);
            assert!(is_known || self.unknown.contains(ask) || *ask > 0, "{offset} was never submitted");
            self.given.insert(*offset);
        }
        let head = world.engine.tails()[0].head();
        assert!(self.given.iter().all(|offset| *offset <= head), "numbers go on behind all that were given");
    }
}

fn live(world: &mut World, disk: &SimDisk, known: &mut Known, dice: &mut Dice) {
    for _ in 0..dice.roll(40) {
        match dice.roll(20) {
            0 => disk.fail(Fault::Write(dice.roll(3))),
            1 => disk.fail(Fault::Sync(dice.roll(3))),
            2..4 => disk.heal(),
            4 => {
                let newest = known.next;
                known.unwanted.extend((0..newest).filter(|n| n % 7 != 0));
            }
            5..8 => {
                let _ = world.archive().clean(world.archive().last(), &mut |record| known.is_wanted(record));
            }
            8 => disk.set_capacity(Some(disk.used() + dice.roll(60_000))),
            9 => disk.set_capacity(None),
            _ => {
                let drafts: Vec<Append> = (0..=dice.roll(30)).map(|_| known.draft(dice)).collect();
                for outcome in world.publish(drafts) {
                    known.answered(outcome.reply_to.ask().expect("an ask").0, outcome.result);
                }
            }
        }
        world.pass(dice.roll(400));
        if dice.roll(4) == 0 {
            world.publish(Vec::new());
        }
    }
}

fn run(seed: u64) {
    let (disk, mut known, mut dice) = (SimDisk::new(), Known::default(), Dice(seed));
    let mut now = 1_000_000;
    for life in 0..LIVES {
        let mut world = World::open(&disk, seed * 100 + life, now).unwrap_or_else(|e| panic!("life {life}: {e}"));
        known.check(&world);
        live(&mut world, &disk, &mut known, &mut dice);
        disk.set_capacity(None);
        now = world.now();
        match dice.roll(4) {
            0 => disk.kill(),
            1 => {
                disk.heal();
                let before = world.engine.lineage(Partition(0)).holes.len();
                world.appender.close();
                let world = World::open(&disk, seed, now).unwrap();
                assert!(world.engine.lineage(Partition(0)).holes.len() <= before + 1);
                known.check(&world);
                disk.kill();
            }
            _ => disk.crash(dice.roll(u64::MAX)),
        }
    }
    let world = World::open(&disk, 1, now).unwrap();
    known.check(&world);
}

#[test]
fn what_was_acknowledged_survives_crashes_failures_and_full_disks() {
    for seed in 0..SEEDS {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed} fails");
    }
}

/// A log with several segments, some cleaned, whose process died or which was closed; and its records.
fn good_log(seed: u64) -> (SimDisk, Vec<(Offset, u32)>) {
    let (disk, mut known, mut dice) = (SimDisk::new(), Known::default(), Dice(seed));
    let mut world = World::open(&disk, seed, 1000).unwrap();
    for _ in 0..10 {
        let drafts: Vec<Append> = (0..=dice.roll(30)).map(|_| known.draft(&mut dice)).collect();
        world.publish(drafts);
    }
    let end = world.archive().last();
    world.archive().clean(end, &mut |record| number(record) > 40 || number(record).is_multiple_of(9)).unwrap();
    // The last message makes sure that all records were synced.
    world.publish_one(0, 0).ok();
    world.publish(vec![append(7, Durability::Fsync, Message { body: "7777 ".into(), ..message("t", 0) })]);
    let kept = world
        .kept()
        .unwrap()
        .iter()
        .filter(|r| !r.message().unwrap().body.is_empty())
        .map(|r| (r.offset, number(r)))
        .collect();
    if dice.roll(2) == 0 {
        disk.kill();
    } else {
        world.appender.close();
    }
    (disk, kept)
}

#[test]
fn a_flipped_bit_is_refused_or_does_no_harm() {
    let (mut refused, mut harmless) = (0, 0);
    for seed in 0..200 {
        let (disk, expected) = good_log(seed % 20);
        let mut dice = Dice(seed ^ 0xf11b);
        let names = disk.list().unwrap();
        let name = &names[dice.roll(names.len() as u64) as usize];
        let length = disk.length(name).unwrap();
        if length == 0 {
            continue;
        }
        let (at, bit) = (dice.roll(length), dice.roll(8) as u8);
        assert!(disk.corrupt(name, at, bit));
        let Ok(world) = World::open(&disk, seed, 2000) else {
            refused += 1;
            continue;
        };
        match world.kept() {
            Err(_) => refused += 1,
            Ok(kept) => {
                let kept: Vec<_> = kept
                    .iter()
                    .filter(|r| !r.message().unwrap().body.is_empty())
                    .map(|r| (r.offset, number(r)))
                    .collect();
                assert_eq!(kept, expected, "seed {seed}: bit {bit} of byte {at} of {name} is flipped");
                harmless += 1;
            }
        }
    }
    assert!(refused > 25 && harmless > 10, "{refused} refused, {harmless} harmless");
}
