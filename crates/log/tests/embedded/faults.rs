//! One fault after the other: a full disk, failing writes, torn ends, and damage of every kind, with the error texts.

use std::sync::Arc;

use crate::common::World;
use everywire_base::ask::PublishError;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::Durability;
use everywire_log::disk::{Disk, Fault, SimDisk};
use everywire_log::embedded::{Embedded, Options};
use everywire_log::engine::{ArchiveError, Engine};
use everywire_log::suite::{Recorder, append, message};

fn offsets(world: &World) -> Vec<u64> {
    world.kept().unwrap().iter().map(|r| r.offset.0).collect()
}

fn segment(disk: &SimDisk, at: usize) -> String {
    let mut names: Vec<_> = disk.list().unwrap().into_iter().filter(|name| name.contains(".seg")).collect();
    names.sort();
    names.swap_remove(at)
}

fn refusal(disk: &SimDisk) -> String {
    World::open(disk, 9, 9000).err().expect("the log is refused").to_string()
}

type Damage = Box<dyn Fn(&SimDisk)>;

/// A log with this many records of 1,000 bytes, whose process died.
fn log_of(count: u32) -> SimDisk {
    let disk = SimDisk::new();
    let mut world = World::open(&disk, 1, 1000).unwrap();
    for n in 1..=count {
        world.publish_one(n, 1000).unwrap();
    }
    disk.kill();
    disk
}

#[test]
fn a_full_disk_stops_publishing_and_room_brings_it_back() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(200_000));
    let mut world = World::open(&disk, 1, 1000).unwrap();
    let mut acknowledged = Vec::new();
    for n in 0..1000 {
        match world.publish_one(n, 1000) {
            Ok(published) => acknowledged.push(published.offset.0),
            Err(error) => {
                assert_eq!(error, PublishError::DiskFull);
                break;
            }
        }
    }
    assert!(acknowledged.len() > 100 && disk.used() < 200_000, "{} before it was full", acknowledged.len());
    assert_eq!(world.publish_one(0, 10), Err(PublishError::DiskFull));
    assert_eq!(offsets(&world), acknowledged);
    assert!(world.engine.metrics().refused_disk_full.get() >= 2);

    // Retention makes room; no other action is needed.
    let (archive, end) = (world.archive(), world.archive().last());
    for _ in 0..200 {
        archive.clean(end, &mut |record| record.offset.0 > end.0 - 20).unwrap();
    }
    world.pass(1000);
    let back = world.publish_one(1, 1000).unwrap();
    disk.kill();
    let world = World::open(&disk, 2, 5000).unwrap();
    let kept = offsets(&world);
    assert!(kept.ends_with(&[end.0, back.offset.0]) && kept.len() >= 21, "{kept:?}");
}

/// Publishes a message that is never stored, one that is kept, and one that is never stored; returns the results.
fn mixed(world: &mut World) -> Vec<Result<(), PublishError>> {
    let durabilities = [Durability::None, Durability::Fsync, Durability::None];
    let appends = durabilities.map(|durability| append(0, durability, message("t", 1)));
    world.publish(appends.into()).into_iter().map(|outcome| outcome.result.map(drop)).collect()
}

fn shown(world: &World, after: Offset) -> usize {
    let (tail, mut count) = (&world.engine.tails()[0], 0);
    let reached = tail.read(after, tail.head(), |_| {
        count += 1;
        true
    });
    assert!(reached, "the window reaches back");
    count
}

#[test]
fn what_only_passes_goes_on_when_the_disk_is_full() {
    let disk = SimDisk::new();
    let mut world = World::open(&disk, 1, 1000).unwrap();
    for n in 0..5 {
        world.publish_one(n, 1000).unwrap();
    }
    disk.set_capacity(Some(disk.used()));
    while world.publish_one(1, 1000).is_ok() {}
    let head = world.engine.tails()[0].head();
    for _ in 0..2 {
        assert_eq!(mixed(&mut world), [Ok(()), Err(PublishError::DiskFull), Ok(())]);
        let passing = world.publish(vec![append(0, Durability::None, message("t", 1))]);
        assert!(passing[0].result.is_ok());
    }
    assert_eq!(shown(&world, head), 6);
    world.pass(10_000);
    assert!(mixed(&mut world)[1].is_err(), "it is still full");
    disk.set_capacity(None);
    world.pass(10_000);
    assert_eq!(mixed(&mut world), [Ok(()); 3], "it is over");
    let given = world.engine.tails()[0].head();
    disk.crash(3);
    let mut world = World::open(&disk, 2, 50_000).unwrap();
    assert!(world.publish_one(1, 1).unwrap().offset > given, "no number is given twice");
}

/// A later life may find the bytes of a failed write. They must not lie below records that readers have had since.
#[test]
fn nothing_goes_on_behind_a_write_that_failed() {
    for (what, fault) in [("writes fail", Fault::Write(0)), ("syncs fail", Fault::Sync(0))] {
        let disk = SimDisk::new();
        let mut world = World::open(&disk, 1, 1000).unwrap();
        world.publish_one(1, 1000).unwrap();
        let head = world.engine.tails()[0].head();
        disk.fail(fault);
        assert_eq!(mixed(&mut world), [Err(PublishError::OutcomeUnknown); 3], "{what}");
        let passing = world.publish(vec![append(0, Durability::None, message("t", 1))]);
        assert_eq!(passing[0].result, Err(PublishError::Busy), "{what}");
        assert_eq!(world.engine.tails()[0].head(), head, "{what}");
        disk.heal();
        world.pass(10_000);
        let passing = world.publish(vec![append(0, Durability::None, message("t", 1))]);
        assert!(passing[0].result.is_ok(), "{what}: what failed is cut off");
        disk.crash(3);
        let world = World::open(&disk, 2, 50_000).unwrap();
        assert_eq!(offsets(&world), [1], "{what}: for good");
    }
}

#[test]
fn what_only_passes_is_refused_when_no_number_is_left_for_it() {
    let disk = SimDisk::new();
    let mut world = World::open(&disk, 1, 1000).unwrap();
    disk.fail(Fault::Write(0));
    let mut results = (0..60).map(|_| world.publish(vec![append(0, Durability::None, message("t", 1))])[0].result);
    assert_eq!(results.by_ref().take(50).flatten().count(), 50, "so many are reserved");
    assert!(results.all(|result| result == Err(PublishError::Busy)));
}

#[test]
fn a_failed_commit_is_unknown_and_the_log_repairs_itself() {
    for fault in [Fault::Write(0), Fault::Sync(0)] {
        let disk = SimDisk::new();
        let mut world = World::open(&disk, 1, 1000).unwrap();
        let first = world.publish_one(1, 10).unwrap();
        disk.fail(fault);
        assert_eq!(world.publish_one(2, 10), Err(PublishError::OutcomeUnknown));
        assert_eq!(world.publish_one(3, 10), Err(PublishError::Busy));
        world.pass(10_000);
        assert_eq!(world.publish_one(4, 10), Err(PublishError::Busy), "it still fails");
        disk.heal();
        world.pass(10_000);
        let next = world.publish_one(5, 10).unwrap();
        assert!(next.offset.0 > first.offset.0 + 1, "the failed commit's offset is not used again");
        assert_eq!(offsets(&world), [first.offset.0, next.offset.0]);
        disk.crash(7);
        let world = World::open(&disk, 2, 30_000).unwrap();
        assert_eq!(offsets(&world), [first.offset.0, next.offset.0]);
    }
}

#[test]
fn an_unclean_stop_leaves_a_hole_and_a_clean_one_none() {
    let disk = log_of(3);
    let world = World::open(&disk, 2, 5000).unwrap();
    let lineage = world.engine.lineage(Partition(0));
    let head = world.engine.tails()[0].head();
    assert_eq!(lineage.holes, [(Offset(4), head)]);
    world.appender.close();
    let mut world = World::open(&disk, 3, 6000).unwrap();
    assert_eq!(world.engine.lineage(Partition(0)), lineage, "same epoch, no further hole");
    assert_eq!(world.publish_one(4, 10).unwrap().offset, head.next());
    assert_eq!(offsets(&world), [1, 2, 3, head.0 + 1]);
}

#[test]
fn a_torn_end_opens_by_itself() {
    for seed in 0..30 {
        let disk = log_of(5);
        let mut world = World::open(&disk, 2, 5000).unwrap();
        let synced = offsets(&world);
        // Messages with this durability are written, but nobody waits for their sync.
        let lazy = |n| append(n, Durability::Memory, message("t", n));
        world.publish(vec![append(0, Durability::Fsync, message("t", 0))]);
        for n in 1..20 {
            world.publish((0..20).map(|m| lazy(n * 20 + m)).collect());
        }
        disk.crash(seed);
        let world = World::open(&disk, 3, 9000).unwrap();
        let kept = offsets(&world);
        assert!(kept.starts_with(&synced) && kept.len() > synced.len(), "seed {seed}: {kept:?}");
    }
}

#[test]
fn damage_is_refused_with_what_where_and_what_to_do() {
    // The damaged places are the middle of the last segment, the very last batch, a head, a sealed segment's foot, the
    // small files.
    let last_batch = |disk: &SimDisk, name: &str| {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64
    };
    let in_segment = |at: usize, byte: u64| move |disk: &SimDisk| assert!(disk.corrupt(&segment(disk, at), byte, 3));
    let cases: Vec<(Damage, &str)> = vec![
        (Box::new(in_segment(1, 100)), "the batch at byte 64 of"),
        (Box::new(move |disk| assert!(disk.corrupt(&segment(disk, 1), last_batch(disk, &segment(disk, 1)), 0))), "end"),
        (Box::new(in_segment(1, 20)), "the head of"),
        (
            Box::new(|disk| {
                let name = segment(disk, 0);
                assert!(disk.corrupt(&name, disk.length(&name).unwrap() - 60, 0));
            }),
            "which is not the last segment, has no good end",
        ),
        (Box::new(|disk| disk.remove(&segment(disk, 0)).unwrap()), "is missing"),
        (Box::new(|disk| disk.remove(&segment(disk, 1)).unwrap()), "is missing"),
        (Box::new(|disk| disk.remove("meta").unwrap()), "`meta` is missing"),
        (Box::new(|disk| disk.remove("segments").unwrap()), "`segments` is missing"),
        (Box::new(|disk| assert!(disk.corrupt("segments", 30, 1))), "`segments` fails its checksum"),
        (
            Box::new(|disk| {
                let meta = disk.open("meta").unwrap();
                meta.write_at(0, &[1; 16_384]).unwrap();
            }),
            "`meta` fails its checksum",
        ),
    ];
    for (damage, said) in cases {
        let disk = log_of(30);
        damage(&disk);
        let (before, text) = (disk.list().unwrap(), refusal(&disk));
        assert!(text.contains(said), "{said}: {text}");
        assert!(text.contains("Restore the directory from a backup"), "{text}");
        assert_eq!(disk.list().unwrap(), before, "nothing was changed");
    }
}

#[test]
fn damage_in_a_sealed_segment_is_said_when_it_is_read() {
    let disk = log_of(30);
    disk.corrupt(&segment(&disk, 0), 2000, 1);
    let world = World::open(&disk, 2, 5000).unwrap();
    let error = world.kept().unwrap_err();
    let ArchiveError::Damaged { offset, up_to, .. } = error else { panic!("{error}") };
    assert!(offset < up_to && up_to < Offset(30), "where it is: above {offset} and up to {up_to}");
    let (before, reached) = world.archive().scan(Offset::BEGINNING, Offset(30), 1 << 20).unwrap();
    assert_eq!(before.last().unwrap().offset, reached, "what comes before it is whole");
    assert!(reached >= offset && reached < up_to, "{reached}");
    let (behind, _) = world.archive().scan(up_to, Offset(30), 1 << 20).unwrap();
    assert_eq!(behind.len() as u64, 30 - up_to.0, "and what comes behind");
    assert!(error.to_string().contains("restore the data directory from a backup"), "{error}");
    assert!(world.archive().get(&[Offset(30)]).is_ok_and(|r| r.len() == 1), "the rest can be read");
}

#[test]
fn a_segment_that_cannot_be_read_is_left_and_all_others_are_cleaned() {
    // The damaged places are a batch's body, its length, its magic.
    for (byte, bit) in [(2000, 1), (68, 5), (64, 0)] {
        let disk = log_of(200);
        let damaged = segment(&disk, 1);
        assert!(disk.corrupt(&damaged, byte, bit));
        let world = World::open(&disk, 2, 5000).unwrap();
        let (archive, before) = (world.archive(), disk.used());
        let end = archive.last();
        for _ in 0..200 {
            archive.clean(end, &mut |_| false).unwrap();
        }
        assert!(disk.used() < before - 150_000, "{} of {before} are left", disk.used());
        assert!(disk.list().unwrap().contains(&damaged), "what can't be read stays as it is");
        assert_eq!(world.engine.metrics().clean_failures.get(), 1, "and is said once");
        disk.kill();
        World::open(&disk, 3, 6000).expect("the next start is not disturbed");
    }
}

#[test]
fn who_reads_beside_damage_is_not_touched() {
    let disk = log_of(30);
    // The batch of offset 5 or so; its neighbours are found by the same entry of the index.
    assert!(disk.corrupt(&segment(&disk, 0), 5000, 1));
    let world = World::open(&disk, 2, 5000).unwrap();
    let is_read = |offset: u64| world.archive().get(&[Offset(offset)]).is_ok_and(|records| records.len() == 1);
    let unread: Vec<u64> = (1..=30).filter(|offset| !is_read(*offset)).collect();
    assert_eq!(unread.len(), 1, "{unread:?}");
    let others: Vec<Offset> = (1..=30).filter(|offset| *offset != unread[0]).map(Offset).collect();
    assert_eq!(world.archive().get(&others).unwrap().len(), 29);
    assert!(world.archive().get(&[Offset(unread[0])]).is_err(), "who wants it is told");
    // A scan stops before the damage, reports it, and goes on behind.
    let (damaged, mut at, mut seen) = (unread[0], Offset::BEGINNING, Vec::new());
    while at < Offset(30) {
        match world.archive().scan(at, Offset(30), 1 << 20) {
            Ok((records, reached)) => {
                seen.extend(records.iter().map(|record| record.offset.0));
                at = reached;
            }
            Err(ArchiveError::Damaged { offset, up_to, .. }) => {
                assert_eq!((offset.0, up_to.0), (damaged - 1, damaged));
                at = up_to;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(seen, (1..=30).filter(|offset| *offset != damaged).collect::<Vec<u64>>());
}

#[test]
fn the_log_goes_on_when_others_have_used_up_the_descriptors() {
    let disk = SimDisk::new();
    let mut world = World::open(&disk, 1, 1000).unwrap();
    world.publish_one(0, 1000).unwrap();
    disk.set_spare_handles(Some(0));
    // Many segments, some of which are cleaned and read meanwhile.
    for n in 1..1000 {
        world.publish_one(n, 1000).unwrap_or_else(|error| panic!("message {n}: {error}"));
        if n % 100 == 0 {
            let (archive, end) = (world.archive(), world.archive().last());
            archive.clean(end, &mut |record| record.offset.0 % 2 == 0).unwrap();
            assert_eq!(archive.get(&[Offset(2), end]).unwrap().len(), 2);
        }
    }
    assert_eq!(world.engine.metrics().clean_failures.get(), 0);
}

#[test]
fn a_power_cut_does_not_hide_damage_before_the_end() {
    // The mark may be lost with the power; the batches behind the damage prove that it is damage all the same.
    for seed in 0..20 {
        let disk = SimDisk::new();
        let mut world = World::open(&disk, 1, 1000).unwrap();
        for n in 0..10 {
            world.publish_one(n, 100).unwrap();
        }
        disk.crash(seed);
        disk.corrupt(&segment(&disk, 0), 300, 1);
        assert!(refusal(&disk).contains("is broken"));
    }
}

#[test]
fn a_directory_has_one_process_and_newer_formats_are_refused() {
    let disk = SimDisk::new();
    let world = World::open(&disk, 1, 1000).unwrap();
    assert!(refusal(&disk).contains("is in use: process of the simulation has it"));
    world.appender.close();
    let meta = disk.open("meta").unwrap();
    let mut bytes = vec![0; 8192];
    meta.read_at(0, &mut bytes).unwrap();
    bytes[8] = 2;
    let length = 24 + usize::from(bytes[16]);
    bytes[12..16].fill(0);
    let crc = crc32c::crc32c(&bytes[..length]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    meta.write_at(0, &bytes).unwrap();
    meta.write_at(8192, &bytes).unwrap();
    let text = refusal(&disk);
    assert!(text.contains("has format 2, this version knows up to 1"), "{text}");
}

#[test]
fn keys_survive_a_crash_for_their_window() {
    let disk = SimDisk::new();
    let mut world = World::open(&disk, 1, 1_000_000).unwrap();
    let keyed = |n: u32| {
        let mut message = message("t", n);
        message.key = Some(format!("key {n}").into());
        append(n, Durability::Fsync, message)
    };
    let first = world.publish(vec![keyed(1)])[0].result;
    world.pass(100_000);
    let second = world.publish(vec![keyed(2)])[0].result;
    disk.crash(1);
    let mut world = World::open(&disk, 2, 1_130_000).unwrap();
    let again = world.publish(vec![keyed(1), keyed(2)]);
    assert_ne!(again[0].result, first, "two minutes are over");
    assert!(again[0].result.is_ok());
    assert_eq!(again[1].result, second);
}

fn ordered(number: u32) -> everywire_base::ask::Append {
    let mut message = message("t", number);
    message.key = Some(format!("seq:p:{number}").into());
    append(number, Durability::Fsync, message)
}

#[test]
fn a_refused_message_does_not_use_its_number() {
    for fault in [Fault::Write(0), Fault::Sync(0)] {
        let disk = SimDisk::new();
        let mut world = World::open(&disk, 1, 1000).unwrap();
        assert!(world.publish(vec![ordered(1)])[0].result.is_ok());
        disk.fail(fault);
        let failed = world.publish(vec![ordered(2), ordered(3)]);
        assert_eq!(failed[0].result, Err(PublishError::OutcomeUnknown));
        assert_eq!(failed[1].result, Err(PublishError::OutcomeUnknown));
        disk.heal();
        world.pass(1000);
        assert_eq!(world.publish(vec![ordered(3)])[0].result, Err(PublishError::OutOfOrder { expected: 2 }));
        let back = world.publish(vec![ordered(2), ordered(3)]);
        assert!(back.iter().all(|outcome| outcome.result.is_ok_and(|published| !published.duplicate)));
        disk.crash(1);
        let mut world = World::open(&disk, 2, 3000).unwrap();
        assert!(world.publish(vec![ordered(3)])[0].result.is_ok_and(|published| published.duplicate));
    }
}

#[test]
fn producers_are_remembered_for_days_by_their_records() {
    const DAY: u64 = 24 * 3_600_000;
    for (days, remembered) in [(6, true), (8, false)] {
        let disk = SimDisk::new();
        let mut world = World::open(&disk, 1, 1000).unwrap();
        let first = world.publish(vec![ordered(1)])[0].result.unwrap();
        disk.kill();
        let mut world = World::open(&disk, 2, 1000 + days * DAY).unwrap();
        let records = world.kept().unwrap();
        world.appender.remember(&records);
        let answers: Vec<_> = world.publish(vec![ordered(1), ordered(3)]).into_iter().map(|o| o.result).collect();
        if remembered {
            let again = everywire_base::ask::Published { duplicate: true, ..first };
            assert_eq!(answers, [Ok(again), Err(PublishError::OutOfOrder { expected: 2 })]);
        } else {
            assert!(answers[0].is_ok_and(|published| !published.duplicate));
            assert_eq!(answers[1], Err(PublishError::OutOfOrder { expected: 2 }));
        }
    }
}

#[test]
fn cleaning_joins_small_neighbours_and_keeps_what_is_read_meanwhile() {
    let disk = log_of(300);
    let world = World::open(&disk, 2, 5000).unwrap();
    let (archive, files) = (world.archive(), disk.list().unwrap().len());
    let end = archive.last();
    for _ in 0..3000 {
        archive.clean(end, &mut |record| record.offset.0.is_multiple_of(50)).unwrap();
    }
    assert!(disk.list().unwrap().len() < files - 8, "{:?}", disk.list());
    let kept = offsets(&world);
    assert!((50..=300).step_by(50).all(|n| kept.contains(&n)), "{kept:?}");
    disk.kill();
    let world = World::open(&disk, 3, 6000).unwrap();
    assert_eq!(offsets(&world), kept);
}

#[test]
fn an_engine_whose_appender_is_gone_does_not_hang() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let bell = Recorder::new(UnixMillis(1));
    let (engine, appender) = Embedded::open(disk, crate::common::options(1), &Limits::default(), bell.clone()).unwrap();
    let mut appends = vec![append(1, Durability::Fsync, message("t", 1))];
    engine.submit(&mut appends);
    drop(appender);
    engine.close();
    assert_eq!(bell.wait(1)[0].1.result, Err(PublishError::Closing));
}

#[test]
fn a_disk_that_others_filled_to_the_last_byte_can_still_be_cleaned() {
    let disk = log_of(200);
    let mut world = World::open(&disk, 2, 5000).unwrap();
    disk.set_capacity(Some(disk.used()));
    assert_eq!(world.publish_one(1, 1000), Err(PublishError::DiskFull));
    let (archive, end, before) = (world.archive(), world.archive().last(), disk.used());
    for _ in 0..200 {
        archive.clean(end, &mut |_| false).unwrap();
    }
    assert!(disk.used() < before - 100_000);
    world.pass(1000);
    assert!(world.publish_one(2, 1000).is_ok());
}

#[test]
fn a_log_that_lost_its_end_can_be_salvaged_into_a_new_epoch() {
    let disk = log_of(30);
    disk.corrupt(&segment(&disk, 1), 3000, 1);
    refusal(&disk);
    let options = Options { new_epoch: true, ..crate::common::options(77) };
    let open =
        |options| Embedded::open(Arc::new(disk.clone()), options, &Limits::default(), Recorder::new(UnixMillis(1)));
    let (engine, appender) = open(options).unwrap();
    let lineage = engine.lineage(Partition(0));
    let kept = engine.archive(Partition(0)).last();
    let [(parent, fork)] = lineage.parents[..] else { panic!("{lineage:?}") };
    assert!(parent != lineage.epoch && fork == kept && kept < Offset(30) && kept > Offset(20));
    assert!(engine.tails()[0].head() > Offset(30), "offsets of what was lost are not given again");
    appender.close();
    let (engine, _) = open(crate::common::options(78)).expect("now it is good");
    assert_eq!(engine.lineage(Partition(0)), lineage);
}

#[test]
fn a_whole_log_goes_on_in_a_new_epoch_when_told_to() {
    let disk = log_of(30);
    let open =
        |options| Embedded::open(Arc::new(disk.clone()), options, &Limits::default(), Recorder::new(UnixMillis(1)));
    let (engine, appender) = open(crate::common::options(76)).unwrap();
    let (before, last) = (engine.lineage(Partition(0)).epoch, engine.archive(Partition(0)).last());
    appender.close();
    let (engine, _) = open(Options { new_epoch: true, ..crate::common::options(77) }).unwrap();
    let lineage = engine.lineage(Partition(0));
    assert_ne!(lineage.epoch, before);
    assert_eq!(lineage.parents, [(before, last)], "cursors of the old epoch are good up to here");
}
