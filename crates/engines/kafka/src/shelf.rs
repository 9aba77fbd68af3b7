//! Large values by their names, in the topic of snapshots.
//!
//! The topic has two partitions. In one lie small records: the log's genesis, and a note for each value; it is read as
//! a whole, and compacted. In the other one lie the pieces of the values; of these only what a note points to is read,
//! and all below the first piece of the oldest value is deleted. A value counts when its note is there, which comes
//! last. Each node that makes the log proposes a genesis under a name of its own, and the first proposal counts.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use everywire_log::remote::{Blobs, Genesis, RemoteError};
use krafka::admin::{AdminClient, DeleteRecordsOptions};
use krafka::consumer::{ConsumerRecord, TopicPartition};
use krafka::producer::Producer;
use krafka::{KrafkaError, Record};
use xxhash_rust::xxh3::xxh3_64;

use crate::fault::Fault;
use crate::remote::{KafkaRemote, reader};

/// The bytes of a piece.
const PIECE: usize = 512 << 10;
/// The longest time that a read waits.
const POLL: Duration = Duration::from_secs(5);
/// The partition of the genesis and the notes.
const NOTES: i32 = 0;
/// The partition of the pieces.
const PIECES: i32 = 1;
/// The number of partitions.
pub(crate) const PARTITIONS: usize = 2;
const GENESIS: &str = "genesis/";
const NOTE: &str = "note/";

/// The topic of snapshots, over one connection.
pub(crate) struct Shelf<'a> {
    pub(crate) kafka: &'a krafka::Kafka,
    pub(crate) admin: &'a AdminClient,
    pub(crate) producer: &'a Producer,
    pub(crate) topic: String,
}

/// The note of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Note {
    /// The offset of its first piece, and the one above its last piece.
    first: u64,
    end: u64,
    /// The checksum of the whole.
    sum: u64,
}

impl Note {
    fn encode(self) -> Bytes {
        [self.first, self.end, self.sum].into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.as_chunks::<8>() else { return None };
        let [first, end, sum] = *numbers else { return None };
        let [first, end, sum] = [first, end, sum].map(u64::from_le_bytes);
        Some(Self { first, end, sum })
    }
}

impl Shelf<'_> {
    /// The genesis that counts; if there is none yet, the proposal is sent first.
    pub(crate) async fn genesis(&self, proposal: Option<&Genesis>) -> Result<Option<Genesis>, Fault> {
        let found = self.first_genesis().await?;
        let (None, Some(proposal)) = (&found, proposal) else { return Ok(found) };
        let key = format!("{GENESIS}{:016x}", RandomState::new().hash_one(proposal.log));
        self.send(Record::new(self.topic.as_str(), proposal.encode()).key(key).partition(NOTES)).await?;
        self.first_genesis().await
    }

    async fn first_genesis(&self) -> Result<Option<Genesis>, Fault> {
        let mut first = None;
        self.scan(NOTES, None, |record| {
            if record.key_str().is_some_and(|key| key.starts_with(GENESIS)) {
                first = record.value.and_then(|value| Genesis::decode(&value));
            }
            first.is_none()
        })
        .await?;
        Ok(first)
    }

    async fn notes(&self) -> Result<BTreeMap<Box<str>, Note>, Fault> {
        let mut notes = BTreeMap::new();
        self.scan(NOTES, None, |record| {
            if let Some(name) = record.key_str().and_then(|key| key.strip_prefix(NOTE)) {
                match record.value.as_deref().and_then(Note::decode) {
                    Some(note) => notes.insert(name.into(), note),
                    None => notes.remove(name),
                };
            }
            true
        })
        .await?;
        Ok(notes)
    }

    async fn put(&self, name: &str, value: Bytes) -> Result<(), Fault> {
        let mut note = Note { first: 0, end: 0, sum: xxh3_64(&value) };
        for start in (0..value.len()).step_by(PIECE) {
            let piece = value.slice(start..(start + PIECE).min(value.len()));
            let record = Record::new(self.topic.as_str(), piece).key(name.to_owned()).partition(PIECES);
            let offset = self.send(record).await?;
            note = Note { first: if start == 0 { offset } else { note.first }, end: offset + 1, ..note };
        }
        let record = Record::new(self.topic.as_str(), note.encode()).key(format!("{NOTE}{name}"));
        self.send(record.partition(NOTES)).await.map(drop)
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, Fault> {
        let Some(note) = self.notes().await?.remove(name) else { return Ok(None) };
        let mut whole = BytesMut::new();
        self.scan(PIECES, Some((note.first, note.end)), |record| {
            // Pieces of another value may lie between them.
            if record.key_str() == Some(name) {
                whole.extend_from_slice(&record.value.unwrap_or_default());
            }
            true
        })
        .await?;
        // Missing pieces give another checksum.
        Ok((xxh3_64(&whole) == note.sum).then(|| whole.freeze()))
    }

    async fn remove(&self, name: &str) -> Result<(), Fault> {
        let mut notes = self.notes().await?;
        if notes.remove(name).is_none() {
            return Ok(());
        }
        self.send(Record::tombstone(self.topic.as_str(), format!("{NOTE}{name}")).partition(NOTES)).await?;
        let Some(first) = notes.values().filter(|note| note.end > 0).map(|note| note.first).min() else {
            return Ok(());
        };
        let before = [(TopicPartition::new(&self.topic, PIECES), i64::try_from(first).unwrap_or_default())];
        for (_, done) in self.admin.delete_records(before, DeleteRecordsOptions::default()).await? {
            done.map_err(|error| Fault::of_topic(error, &self.topic))?;
        }
        Ok(())
    }

    /// Sends a record; returns its offset.
    async fn send(&self, record: Record) -> Result<u64, Fault> {
        let handle = self.producer.enqueue(record).await?;
        self.producer.flush().await?;
        let sent = handle.await?;
        u64::try_from(sent.offset).map_err(|_| KrafkaError::timeout("offset of a snapshot's piece").into())
    }

    /// Hands the records of a partition, or those in a range of its offsets, to `take`, in their order, until it
    /// returns `false`.
    async fn scan(
        &self,
        partition: i32,
        range: Option<(u64, u64)>,
        mut take: impl FnMut(ConsumerRecord) -> bool,
    ) -> Result<(), Fault> {
        let consumer = reader(self.kafka, &self.topic, partition).await?;
        let (mut at, mut end) = consumer.fetch_watermarks(&self.topic, partition).await?;
        if let Some((first, above)) = range {
            at = at.max(i64::try_from(first).unwrap_or(i64::MAX));
            end = end.min(i64::try_from(above).unwrap_or(i64::MAX));
        }
        consumer.seek(&self.topic, partition, at).await?;
        while at < end {
            let records = consumer.poll(POLL).await?;
            if records.is_empty() {
                // The last record may have been compacted away.
                at = consumer.fetch_position(&self.topic, partition).await.unwrap_or(end);
                if at < end {
                    return Err(KrafkaError::timeout("read of the snapshots").into());
                }
            }
            for record in records.into_iter().take_while(|record| record.offset < end) {
                at = record.offset + 1;
                if !take(record) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

impl Blobs for KafkaRemote {
    fn put(&mut self, name: &str, value: Bytes) -> Result<(), RemoteError> {
        self.with(async |link, _| link.shelf().put(name, value).await, Fault::appending)
    }

    fn get(&mut self, name: &str) -> Result<Option<Bytes>, RemoteError> {
        self.with(async |link, _| link.shelf().get(name).await, Fault::asking)
    }

    fn names(&mut self) -> Result<Vec<Box<str>>, RemoteError> {
        self.with(async |link, _| Ok(link.shelf().notes().await?.into_keys().collect()), Fault::asking)
    }

    fn remove(&mut self, name: &str) -> Result<(), RemoteError> {
        self.with(async |link, _| link.shelf().remove(name).await, Fault::appending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_as_they_were_written() {
        let note = Note { first: 7, end: 9, sum: u64::MAX };
        assert_eq!(Note::decode(&note.encode()), Some(note));
        assert_eq!((Note::decode(b""), Note::decode(&[0; 16]), Note::decode(&[0; 25])), (None, None, None));
    }
}
