//! Snapshots: the part of a log's past that a node needs to go on from an offset. They are kept beside the log.
//!
//! A snapshot has the judge's state at an offset, and the records from which all that is retained there can be made:
//! sessions, wills, users, rooms among them. A node reads the log above it; below it only the listed records count. Its
//! name has the log and the offset, so that the newest is known by its name. A checksum says whether it is whole.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::record::{Durability, Entry, Message, Record, System};
use everywire_base::system::{self, HistoryLost};
use everywire_base::topic::Topic;

use super::reader::check;
use crate::judge::Judge;
use crate::remote::{Blobs, LogState, RemoteError};

/// The first bytes of a snapshot, with its format.
const MAGIC: [u8; 8] = *b"EWSNAP\0\x01";
/// The prefix of the names of snapshots.
const PREFIX: &str = "snapshot-";
/// The bytes of a piece of a list.
const PIECE: usize = 1 << 20;

/// The records from which all that is retained can be made, ascending. They are kept as their bytes: there may be a
/// million of them, and a record in memory takes several times as much.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listed {
    /// Each record behind its length, in pieces that needn't grow.
    pieces: Vec<BytesMut>,
    /// The number of their bytes.
    bytes: usize,
    count: usize,
}

impl Listed {
    /// Adds a record, of a higher offset than those before it.
    pub fn push(&mut self, record: &Record) {
        let mut stored = Vec::with_capacity(record.encoded_len());
        record.encode(&mut stored);
        let needed = 4 + stored.len();
        if self.pieces.last().is_none_or(|piece| piece.capacity() - piece.len() < needed) {
            self.pieces.push(BytesMut::with_capacity(PIECE.max(needed)));
        }
        let Some(piece) = self.pieces.last_mut() else { return };
        piece.put_u32_le(stored.len() as u32);
        piece.put_slice(&stored);
        self.bytes += needed;
        self.count += 1;
    }

    /// The number of records.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The records, made one after the other.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        // The added records are whole.
        self.pieces.iter().flat_map(|piece| Walk(Bytes::copy_from_slice(piece)).map_while(Result::ok))
    }
}

impl FromIterator<Arc<Record>> for Listed {
    fn from_iter<T: IntoIterator<Item = Arc<Record>>>(records: T) -> Self {
        let mut listed = Self::default();
        records.into_iter().for_each(|record| listed.push(&record));
        listed
    }
}

/// A walk over records, each behind its length.
struct Walk(Bytes);

/// No whole record stands at a place.
struct Broken;

impl Iterator for Walk {
    type Item = Result<Record, Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let length = self.0.try_get_u32_le().ok().map(|length| length as usize);
        let stored = length.and_then(|length| take(&mut self.0, length));
        let record = stored.and_then(|stored| Record::decode(Partition(0), stored).ok());
        Some(record.ok_or(Broken))
    }
}

/// A snapshot that was read.
pub(super) struct Snapshot {
    pub judge: Judge,
    /// The records from which all that is retained can be made, …
    records: Bytes,
    /// … their offsets, ascending, …
    offsets: Vec<Offset>,
    /// … and the time of the last one.
    time: UnixMillis,
}

/// The name of a snapshot of this log at this offset, by this life of a node.
pub(super) fn name(log: u64, at: Offset, writer: u64) -> String {
    format!("{PREFIX}{log:016x}-{:020}-{writer:016x}", at.0)
}

/// The names of all snapshots of a log with their offsets, the newest first. Snapshots of another log may lie beside
/// them and are left out.
pub(super) fn names(blobs: &mut dyn Blobs, log: u64) -> Result<Vec<(Offset, Box<str>)>, RemoteError> {
    let prefix = format!("{PREFIX}{log:016x}-");
    let at = |name: &str| name.strip_prefix(&*prefix)?.split('-').next()?.parse().ok().map(Offset);
    let mut names: Vec<_> = blobs.names()?.into_iter().filter_map(|name| Some((at(&name)?, name))).collect();
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

/// The bytes of a snapshot.
pub(super) fn encode(judge: &[u8], listed: Listed) -> Bytes {
    let mut bytes = BytesMut::with_capacity(MAGIC.len() + 8 + judge.len() + listed.bytes + 4);
    bytes.put_slice(&MAGIC);
    bytes.put_u64_le(judge.len() as u64);
    bytes.put_slice(judge);
    for piece in listed.pieces {
        bytes.put_slice(&piece); // it is given back at once
    }
    let sum = crc32c::crc32c(&bytes);
    bytes.put_u32_le(sum);
    bytes.freeze()
}

/// Reads the bytes of [`encode`]; `None` if they aren't whole.
fn decode(mut bytes: Bytes) -> Option<Snapshot> {
    let mut sum = bytes.split_off(bytes.len().checked_sub(4)?);
    if crc32c::crc32c(&bytes) != sum.get_u32_le() || !bytes.starts_with(&MAGIC) {
        return None;
    }
    bytes.advance(MAGIC.len());
    let length = usize::try_from(bytes.try_get_u64_le().ok()?).ok()?;
    let judge = Judge::decode(&take(&mut bytes, length)?)?;
    let (mut offsets, mut time) = (Vec::new(), UnixMillis(0));
    for record in Walk(bytes.clone()) {
        let record = record.ok()?;
        offsets.push(record.offset);
        time = record.time;
    }
    Some(Snapshot { judge, records: bytes, offsets, time })
}

fn take(bytes: &mut Bytes, length: usize) -> Option<Bytes> {
    (bytes.len() >= length).then(|| bytes.split_to(length))
}

/// The newest snapshot that is whole, and from which the log can be read on.
pub(super) fn newest(blobs: &mut dyn Blobs, state: &LogState) -> Result<Option<Snapshot>, RemoteError> {
    for (at, name) in names(blobs, state.genesis.log)? {
        if at < state.trimmed {
            break;
        }
        let Some(bytes) = blobs.get(&name)? else { continue };
        let Some(snapshot) = decode(bytes) else {
            tracing::error!(name = &*name, "a snapshot fails its checksum; an older one is tried");
            continue;
        };
        // A snapshot of another log, or of an end that the log has lost, is of no use.
        if snapshot.judge.genesis().log == state.genesis.log && check(&snapshot.judge, state).is_ok() {
            return Ok(Some(snapshot));
        }
    }
    Ok(None)
}

impl Snapshot {
    /// The records that bring a replica from `own` to the snapshot, ascending and made one after the other: the listed
    /// ones above `own`, removals of messages that are `retained` there and not any more, and a record that says what
    /// is lost in between.
    pub(super) fn missing(&self, own: Offset, retained: HashMap<Topic, Offset>) -> impl Iterator<Item = Arc<Record>> {
        let at = self.judge.at();
        let is_news = move |record: &Record| record.offset > own && record.offset <= at;
        let mut made = self.made(own, retained).into_iter().peekable();
        let mut news = self.records().filter(is_news).map(stored).peekable();
        std::iter::from_fn(move || {
            let is_next = |made: &Arc<Record>| news.peek().is_none_or(|next| made.offset < next.offset);
            made.next_if(is_next).or_else(|| news.next())
        })
    }

    /// The records of [`Self::missing`] that aren't listed, ascending.
    fn made(&self, own: Offset, mut retained: HashMap<Topic, Offset>) -> Vec<Arc<Record>> {
        if !retained.is_empty() {
            self.records().filter_map(|record| retained.remove(record.entry()?.topic())).for_each(drop);
        }
        let at = self.judge.at();
        let is_used = |offset: &Offset| self.offsets.binary_search(offset).is_ok();
        // Each removal was a record in between, so there is an offset for it.
        let free = (own.0 + 1..at.0).map(Offset).filter(|offset| !is_used(offset));
        let mut free = free.take(retained.len() + 1);
        let mut records = Vec::new();
        for topic in retained.into_keys() {
            let Some(offset) = free.next() else { break };
            records.push(made(offset, self.time, removal(topic)));
        }
        let lost = HistoryLost { above: own.0, up_to: at.0 };
        let place = Some(at).filter(|at| !is_used(at)).or_else(|| free.next());
        if let Some((place, topic)) = place.zip(Topic::parse(system::LOG).ok()) {
            records.push(made(place, self.time, system::record(topic, &lost, false)));
        }
        records.sort_unstable_by_key(|record| record.offset);
        records
    }

    fn records(&self) -> impl Iterator<Item = Record> {
        // All of them were whole when the snapshot was read.
        Walk(self.records.clone()).map_while(Result::ok)
    }
}

/// The entry that removes what is retained of a topic.
fn removal(topic: Topic) -> Entry {
    if topic.is_internal() {
        return System::removal(topic).into();
    }
    Message { retain: true, ..Message::new(topic, "") }.into()
}

/// A record in a durability that a replica keeps, also if the log only passes it on.
fn stored(record: Record) -> Arc<Record> {
    let durability = match record.durability {
        Durability::None => Durability::Memory,
        promise => promise,
    };
    Arc::new(Record { durability, ..record })
}

fn made(offset: Offset, time: UnixMillis, entry: impl Into<Entry>) -> Arc<Record> {
    let (partition, durability) = (Partition(0), Durability::Memory);
    Arc::new(Record { partition, offset, time, durability, content: entry.into().into() })
}

#[cfg(test)]
mod tests {
    use everywire_base::cursor::Epoch;
    use everywire_base::limits::Limits;

    use super::*;
    use crate::remote::Genesis;

    fn topic(name: &str) -> Topic {
        Topic::parse(name).unwrap()
    }

    fn record(offset: u64, name: &str, body: &str, durability: Durability) -> Arc<Record> {
        let content = Message { retain: true, ..Message::new(topic(name), body.to_owned()) }.into();
        Arc::new(Record {
            partition: Partition(0),
            offset: Offset(offset),
            time: UnixMillis(offset),
            durability,
            content,
        })
    }

    fn snapshot(at: u64, records: &[Arc<Record>]) -> Snapshot {
        let mut judge = Judge::new(Genesis::new([1, 2, 3], &Limits::default()), Epoch(1));
        judge.passed(Offset(at));
        let listed: Listed = records.iter().cloned().collect();
        assert_eq!(listed.count(), records.len());
        decode(encode(&judge.encode(), listed)).unwrap()
    }

    fn missing(snapshot: &Snapshot, own: u64, retained: &[(&str, u64)]) -> Vec<(u64, String, String, Durability)> {
        let retained = retained.iter().map(|(name, offset)| (topic(name), Offset(*offset))).collect();
        let told = |record: Arc<Record>| {
            let entry = record.entry().unwrap();
            let body = String::from_utf8_lossy(entry.body()).into_owned();
            (record.offset.0, entry.topic().as_str().to_owned(), body, record.durability)
        };
        snapshot.missing(Offset(own), retained).map(told).collect()
    }

    fn names(missing: &[(u64, String, String, Durability)]) -> Vec<(u64, &str)> {
        missing.iter().map(|(offset, name, ..)| (*offset, &**name)).collect()
    }

    #[test]
    fn a_replica_is_brought_to_a_snapshot_in_the_order_of_the_log() {
        let (kept, passing) = (Durability::Fsync, Durability::None);
        let records = [record(2, "old", "x", kept), record(5, "a", "x", kept), record(8, "b", "x", passing)];
        let snapshot = snapshot(9, &records);
        let all = missing(&snapshot, 0, &[]);
        assert_eq!(names(&all), [(2, "old"), (5, "a"), (8, "b"), (9, system::LOG)]);
        assert_eq!(all[2].3, Durability::Memory, "a replica keeps what the log only passes");
        // One that is as far as 3 has the first, and has to hear that two others are gone.
        let rest = missing(&snapshot, 3, &[("old", 2), ("gone", 1), ("lost", 3)]);
        let mut removed: Vec<&str> = rest.iter().filter(|(_, _, body, _)| body.is_empty()).map(|r| &*r.1).collect();
        removed.sort_unstable();
        assert_eq!(removed, ["gone", "lost"]);
        let offsets: Vec<u64> = rest.iter().map(|record| record.0).collect();
        assert_eq!(offsets, [4, 5, 6, 8, 9]);
    }

    #[test]
    fn a_list_takes_the_bytes_of_its_records_alone() {
        let state = "state".repeat(1000);
        let records: Vec<Arc<Record>> =
            (1..1000).map(|n| record(n, &format!("t/{n}"), &state, Durability::Fsync)).collect();
        let listed: Listed = records.iter().cloned().collect();
        assert_eq!(listed.bytes, records.iter().map(|record| record.encoded_len() + 4).sum::<usize>());
        assert!(listed.pieces.len() > 1 && listed.pieces.iter().all(|piece| piece.capacity() == PIECE));
        assert!(listed.records().eq(records.iter().map(|record| Record::clone(record))));
        let snapshot = snapshot(1000, &records);
        assert_eq!(snapshot.records.len(), listed.bytes, "the records are made when they are asked for");
    }

    #[test]
    fn a_snapshot_with_half_a_record_is_none() {
        let judge = Judge::new(Genesis::new([1, 2, 3], &Limits::default()), Epoch(1)).encode();
        let mut listed: Listed = [record(1, "a", "x", Durability::Fsync)].into_iter().collect();
        let half = listed.bytes / 2;
        listed.pieces[0].truncate(half);
        assert!(decode(encode(&judge, listed)).is_none());
    }
}
