//! A log that a later version has continued, made by hand: fields and records that this version doesn't know are kept,
//! skipped, and still there after cleaning.

use std::sync::Arc;

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::{Content, Durability, Record};

use crate::Appender;
use crate::disk::{Disk, DiskFile, SimDisk};
use crate::embedded::{Embedded, Options};
use crate::engine::{Archive, Engine};
use crate::format::{BatchFacts, BatchHead, HEAD, Head, add_record, begin_batch, finish_batch};
use crate::segment::ENDING;
use crate::suite::{Recorder, append, message};

/// The text that a later version puts where this one doesn't look.
const MARK: &str = "only a later version reads this";

fn segments(disk: &SimDisk) -> Vec<Arc<dyn DiskFile>> {
    let names = disk.list().unwrap().into_iter().filter(|name| name.ends_with(ENDING));
    names.map(|name| disk.open(&name).unwrap()).collect()
}

fn bytes_of(file: &Arc<dyn DiskFile>) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(0, &mut bytes).unwrap();
    bytes
}

fn open(disk: &SimDisk, seed: u64) -> (Arc<Embedded>, Appender) {
    let options = Options { segment_bytes: 8 << 10, reserve_offsets: 50, ..Options::seeded(seed) };
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Embedded::open(disk, options, &Limits::default(), Recorder::new(UnixMillis(1000)) as _).unwrap()
}

fn publish(engine: &Embedded, appender: &mut Appender, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let mut appends = vec![append(number, Durability::Fsync, message("t", number))];
        engine.submit(&mut appends);
        appender.turn();
        engine.tails()[0].set_applied(engine.tails()[0].head());
    }
}

fn all(archive: &dyn Archive) -> Vec<Arc<Record>> {
    archive.scan(Offset::BEGINNING, archive.last(), 1 << 30).unwrap().0
}

fn field(tag: u32, stored: &mut Vec<u8>) {
    prost::encoding::string::encode(tag, &MARK.to_owned(), stored);
}

/// A record of a kind that isn't known, and a message with a field that isn't.
fn of_a_later_version(first: Offset, message: &Record) -> [Vec<u8>; 2] {
    let mut kind = Vec::new();
    prost::encoding::uint64::encode(1, &first.0, &mut kind);
    prost::encoding::uint64::encode(2, &1001, &mut kind);
    field(90, &mut kind);
    let mut known = Vec::new();
    Record { offset: first.next(), ..message.clone() }.encode(&mut known);
    field(91, &mut known);
    [kind, known]
}

/// Appends records behind the last batch of the only segment.
fn write_on(disk: &SimDisk, first: Offset, records: &[Vec<u8>]) {
    let file = segments(disk).remove(0);
    let bytes = bytes_of(&file);
    let head = Head::decode(&bytes).unwrap();
    let mut end = HEAD;
    while let Some(batch) = BatchHead::decode(&bytes[end..]) {
        end += batch.size();
    }
    let mut written = Vec::new();
    let at = begin_batch(&mut written);
    for record in records {
        add_record(&mut written, |out| out.extend_from_slice(record));
    }
    let count = records.len() as u32;
    let last = Offset(first.0 + u64::from(count) - 1);
    let facts = BatchFacts { count, first, last, synced: Offset(first.0 - 1), time: UnixMillis(1001) };
    finish_batch(&mut written, at, head.salt, facts);
    file.write_at(end as u64, &written).unwrap();
    file.sync().unwrap();
}

/// The number of times that the mark stands in the files of the log.
fn marks(disk: &SimDisk) -> usize {
    let count = |file| bytes_of(file).windows(MARK.len()).filter(|window| *window == MARK.as_bytes()).count();
    segments(disk).iter().map(count).sum()
}

#[test]
fn what_a_later_version_wrote_is_kept_and_skipped() {
    let disk = SimDisk::new();
    let (engine, mut appender) = open(&disk, 1);
    publish(&engine, &mut appender, 1..3);
    let written = all(&*engine.archive(Partition(0)));
    disk.kill();
    let first = written[1].offset.next();
    write_on(&disk, first, &of_a_later_version(first, &written[0]));

    let (engine, mut appender) = open(&disk, 2);
    let archive = engine.archive(Partition(0));
    let there = all(&*archive);
    assert_eq!(there.len(), 4);
    assert!(matches!(&there[2].content, Content::Unknown(_)), "{:?}", there[2]);
    assert_eq!((there[2].offset, there[2].entry()), (first, None));
    assert_eq!(there[3].message(), written[0].message(), "what is known of it is read");

    // The segment is sealed at the end, and most of its records aren't wanted any more.
    publish(&engine, &mut appender, 10..400);
    let is_wanted = |record: &Record| record.entry().is_none() || record.offset == first.next();
    let (mut freed, mut is_over) = (0, false);
    while !is_over {
        let now = archive.clean(archive.last(), &mut { is_wanted }).unwrap();
        (freed, is_over) = (freed + now, now == 0);
    }
    assert!(freed > 0, "something was cleaned");
    let there = all(&*archive);
    assert!(there.iter().any(|record| record.offset == first && record.entry().is_none()), "it is still there");
    assert_eq!(marks(&disk), 2, "for a later version, to the last byte");
}
