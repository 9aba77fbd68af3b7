//! [`Remote`] over Kafka: the log is one partition, and an offset is Kafka's plus one.
//!
//! All records that are read lie below the high watermark, so that all replicas in sync have them: a change of the
//! leader is no fork, and the log has one epoch, which is made of its genesis. If Kafka loses the end all the same
//! (unclean election, disks of several brokers), offsets are given again, and their numbers don't show it. So a reader
//! remembers its last record, and compares it when it has connected anew.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Offset};
use everywire_base::record::Durability;
use everywire_log::remote::{
    Batch, Blobs, Connect, EpochEntry, Genesis, Item, Life, LogState, Memory, Raw, Refusal, Remote, RemoteError,
};
use krafka::admin::{AdminClient, DeleteRecordsOptions};
use krafka::consumer::{AutoOffsetReset, Consumer, ConsumerRecord, TopicPartition};
use krafka::error::ErrorCode;
use krafka::producer::{Acks, Producer};
use krafka::{Compression, KrafkaError, Record};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use xxhash_rust::xxh3::xxh3_64;

use crate::address::Address;
use crate::connect;
use crate::fault::{Fault, unusable};
use crate::shelf::Shelf;
use crate::topics::{self, Promise};

/// The longest time of an append: after it nobody knows the outcome.
const APPENDING: Duration = Duration::from_secs(10);
/// The time for which the client collects records: longer than any append, since each append flushes it.
const LINGER: Duration = Duration::from_secs(30);
/// The size of a batch: one append is one batch of Kafka's, so that it is whole.
const BATCH_BYTES: usize = 64 << 20;
/// The bytes of one read, about: some appends.
const FETCH_BYTES: i32 = 8 << 20;
/// The most records of one read.
const READ_RECORDS: i32 = 2048;
/// The time between two looks at something that must come.
const MOMENT: Duration = Duration::from_millis(50);
/// The longest time of a read that must bring a record.
const READING: Duration = Duration::from_secs(10);

/// Makes connections to a service's log in Kafka.
#[derive(Clone, Debug)]
pub struct Kafka {
    address: Arc<Address>,
    longest: usize,
}

impl Kafka {
    /// A maker of connections to this address.
    pub fn new(address: Address) -> Self {
        Self { address: Arc::new(address), longest: 0 }
    }

    /// Sets the length of the longest message, which the topic must take.
    #[must_use]
    pub fn with_longest(self, longest: usize) -> Self {
        Self { longest, ..self }
    }
}

impl Connect for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn connect(&self) -> Box<dyn Remote> {
        let (address, longest) = (Arc::clone(&self.address), self.longest);
        Box::new(KafkaRemote { address, longest, runtime: None, link: None, last: None })
    }
}

/// A connection. The runtime runs during a request, on the thread that makes it.
pub(crate) struct KafkaRemote {
    address: Arc<Address>,
    longest: usize,
    link: Option<Link>,
    runtime: Option<Runtime>,
    /// The last record that was read, with its hash.
    last: Option<(Offset, u64)>,
}

/// The parts of a connection once it is made.
pub(crate) struct Link {
    pub(crate) address: Arc<Address>,
    pub(crate) kafka: krafka::Kafka,
    admin: AdminClient,
    producer: Producer,
    consumer: Consumer,
    life: Life,
    promise: Promise,
    /// The offset of the consumer, and the records that were read and not given yet.
    at: Offset,
    read: VecDeque<Raw>,
    head: Offset,
}

impl KafkaRemote {
    /// Runs a request on the link; a link that fails is dropped.
    pub(crate) fn with<T>(
        &mut self,
        does: impl AsyncFnOnce(&mut Link, &mut Option<(Offset, u64)>) -> Result<T, Fault>,
        means: fn(Fault) -> RemoteError,
    ) -> Result<T, RemoteError> {
        let (Some(link), Some(runtime)) = (self.link.as_mut(), self.runtime.as_ref()) else {
            return Err(RemoteError::Cut("there is no connection".into()));
        };
        let result = runtime.block_on(does(link, &mut self.last)).map_err(means);
        if matches!(result, Err(RemoteError::Unknown(_) | RemoteError::Cut(_))) {
            self.hang_up();
        }
        result
    }

    /// Drops the connection; requests that are under way end.
    fn hang_up(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            let inside = runtime.enter();
            self.link = None;
            drop(inside);
            runtime.shutdown_background();
        }
    }
}

impl Drop for KafkaRemote {
    fn drop(&mut self) {
        self.hang_up();
    }
}

impl Remote for KafkaRemote {
    fn open(&mut self, genesis: Option<&Genesis>) -> Result<LogState, RemoteError> {
        if self.link.is_none() {
            self.hang_up();
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| RemoteError::Cut(error.to_string().into()))?;
            let link =
                runtime.block_on(Link::open(&self.address, self.longest, genesis, self.last)).map_err(Fault::asking);
            if link.is_err() {
                runtime.shutdown_background();
            } else {
                self.runtime = Some(runtime);
            }
            self.link = Some(link?);
        }
        self.with(async |link, _| link.state().await, Fault::asking)
    }

    fn append(&mut self, life: &Life, records: &[Bytes]) -> Result<Durability, RemoteError> {
        self.with(async |link, _| link.append(life, records).await, Fault::appending)
    }

    fn read(&mut self, after: Offset, max_bytes: usize, wait: Duration) -> Result<Batch, RemoteError> {
        self.with(async |link, last| link.read(after, max_bytes, wait, last).await, Fault::asking)
    }

    fn trim(&mut self, below: Offset) -> Result<(), RemoteError> {
        self.with(async |link, _| link.trim(below).await, Fault::asking)
    }

    fn memory(&mut self) -> Result<Option<Memory>, RemoteError> {
        Ok(None)
    }

    fn blobs(&mut self) -> &mut dyn Blobs {
        self
    }
}

impl Link {
    /// Connects. New topics are not known to all brokers at once.
    async fn open(
        address: &Arc<Address>,
        longest: usize,
        genesis: Option<&Genesis>,
        last: Option<(Offset, u64)>,
    ) -> Result<Self, Fault> {
        let until = Instant::now() + READING;
        loop {
            match Self::open_once(address, longest, genesis, last).await {
                Err(Fault::Kafka(KrafkaError::Broker { code, .. }))
                    if code == ErrorCode::UnknownTopicOrPartition && Instant::now() < until =>
                {
                    tokio::time::sleep(MOMENT).await;
                }
                opened => return opened,
            }
        }
    }

    async fn open_once(
        address: &Arc<Address>,
        longest: usize,
        genesis: Option<&Genesis>,
        last: Option<(Offset, u64)>,
    ) -> Result<Self, Fault> {
        let kafka = connect(&address.access, &format!("everywire-{}", address.prefix)).await?;
        let admin = kafka.admin();
        let no_log = || Fault::Log(RemoteError::Refused(Refusal::NoLog));
        let promise = match (topics::compare(&admin, address, longest).await?, genesis) {
            (Some(promise), _) => promise,
            (None, None) => return Err(no_log()),
            (None, Some(_)) => {
                topics::make(&admin, address).await?;
                made(&admin, address, longest).await?
            }
        };
        let producer = kafka
            .producer()
            .acks(Acks::All)
            .idempotent(true)
            .compression(Compression::Lz4)
            .linger(LINGER)
            .batch_size(BATCH_BYTES)
            .delivery_timeout(LINGER * 2)
            .max_block(APPENDING)
            .buffer_memory(BATCH_BYTES * 2)
            .metrics_push(false)
            .build()
            .await?;
        let shelf = Shelf { kafka: &kafka, admin: &admin, producer: &producer, topic: address.snapshots() };
        let genesis = shelf.genesis(genesis).await?.ok_or_else(no_log)?;
        let mixed = xxh3_64(&genesis.log.to_le_bytes());
        let epoch = Epoch(((mixed >> 32) as u32 ^ mixed as u32).max(1));
        let life = Life { epoch, run: format!("{:016x}", genesis.log).into() };
        let consumer = reader(&kafka, &address.log(), 0).await?;
        let (at, read, head) = (Offset(u64::MAX), VecDeque::new(), Offset::BEGINNING);
        let address = Arc::clone(address);
        let mut link = Self { address, kafka, admin, producer, consumer, life, promise, at, read, head };
        link.verify(last).await?;
        Ok(link)
    }

    /// Checks that the last record that was read is still there.
    async fn verify(&mut self, last: Option<(Offset, u64)>) -> Result<(), Fault> {
        let Some((offset, hash)) = last else { return Ok(()) };
        let (low, high) = self.bounds().await?;
        let is_there = if offset > high {
            false
        } else if offset <= low {
            true
        } else {
            self.fill(Offset(offset.0 - 1), READING).await?;
            self.read.front().is_some_and(|raw| raw.offset == offset && xxh3_64(&raw.stored) == hash)
        };
        if is_there {
            return Ok(());
        }
        Err(unusable(format!(
            "Kafka's topic {} has lost its end: {offset} was there, and is not or is another one; restore the topic, or stop all \
             nodes and start one of them with --new-epoch under another prefix",
            self.address.log()
        )))
    }

    async fn state(&mut self) -> Result<LogState, Fault> {
        let genesis = self.shelf().genesis(None).await?.ok_or(Fault::Log(RemoteError::Refused(Refusal::NoLog)))?;
        let (trimmed, head) = self.bounds().await?;
        let entry = EpochEntry { life: self.life.clone(), parent: None, begin: Offset::BEGINNING };
        Ok(LogState { genesis, epochs: vec![entry], trimmed, head })
    }

    /// The topic of snapshots.
    pub(crate) fn shelf(&self) -> Shelf<'_> {
        Shelf { kafka: &self.kafka, admin: &self.admin, producer: &self.producer, topic: self.address.snapshots() }
    }

    /// The offset up to which everything is gone, and the last offset.
    async fn bounds(&mut self) -> Result<(Offset, Offset), Fault> {
        let (low, high) = self.consumer.fetch_watermarks(&self.address.log(), 0).await?;
        self.head = offset(high);
        Ok((offset(low), self.head))
    }

    async fn append(&mut self, life: &Life, records: &[Bytes]) -> Result<Durability, Fault> {
        if life.epoch != self.life.epoch {
            return Err(Fault::Log(RemoteError::Refused(Refusal::Moved)));
        }
        let (topic, bytes) = (self.address.log(), records.iter().map(Bytes::len).sum::<usize>());
        // Kafka would refuse it however often it came, and with it all that comes behind.
        if bytes > self.promise.append_bytes {
            return Err(unusable(format!(
                "Kafka's topic {topic} has a max.message.bytes that is too low for {bytes} bytes: raise it, or lower max_message"
            )));
        }
        let mut handles = Vec::with_capacity(records.len());
        for record in records {
            let record = Record::new(topic.as_str(), record.clone()).partition(0);
            handles.push(self.producer.enqueue(record).await?);
        }
        let all = async {
            self.producer.flush().await?;
            for handle in handles {
                let _ = handle.await?;
            }
            Ok::<_, KrafkaError>(())
        };
        timeout(APPENDING, all).await.map_err(|_| KrafkaError::timeout("append"))??;
        Ok(self.promise.durability)
    }

    async fn read(
        &mut self,
        after: Offset,
        max_bytes: usize,
        wait: Duration,
        last: &mut Option<(Offset, u64)>,
    ) -> Result<Batch, Fault> {
        if self.read.front().is_none_or(|raw| raw.offset != after.next()) {
            self.fill(after, wait).await?;
        }
        let (mut items, mut bytes, mut seen) = (Vec::new(), 0, after);
        while bytes < max_bytes
            && let Some(raw) = self.read.pop_front()
        {
            bytes += raw.stored.len().max(1);
            seen = raw.offset;
            if self.read.is_empty() || bytes >= max_bytes {
                *last = Some((raw.offset, xxh3_64(&raw.stored)));
            }
            items.push(Item::Record(raw));
        }
        // Offsets that are left out never had a record (they are Kafka's own marks of transactions).
        let seen = if items.is_empty() { self.at.max(after) } else { seen };
        Ok(Batch { items, seen, head: self.head.max(seen), life: self.life.clone() })
    }

    /// Reads on above `after`, and waits up to `wait` for the first record.
    async fn fill(&mut self, after: Offset, wait: Duration) -> Result<(), Fault> {
        let (topic, deadline) = (self.address.log(), Instant::now() + wait);
        self.read.clear();
        if self.at != after {
            self.consumer.seek(&topic, 0, i64::try_from(after.0).unwrap_or(i64::MAX)).await?;
            self.at = after;
        }
        let begun = Instant::now();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let records = match self.consumer.poll(left).await {
                Ok(records) => records,
                Err(KrafkaError::NoOffset { .. }) => return Err(self.out_of_range(after).await),
                Err(error) => return Err(error.into()),
            };
            // A client that has gone back by itself gives again records that were read.
            self.read.extend(records.into_iter().map(raw).filter(|raw| raw.offset > after));
            if let Some(last) = self.read.back() {
                (self.at, self.head) = (last.offset, self.head.max(last.offset));
                return Ok(());
            }
            let (trimmed, head) = self.bounds().await?;
            if after < trimmed {
                return Err(Fault::Log(RemoteError::Refused(Refusal::Trimmed(trimmed))));
            }
            if after > head {
                return Err(self.out_of_range(after).await);
            }
            if let Some(next) = self.consumer.fetch_position(&topic, 0).await {
                self.at = offset(next).max(after);
            }
            let is_over = Instant::now() >= deadline;
            if is_over && (head <= self.at || begun.elapsed() >= READING + wait) {
                return Ok(());
            }
        }
    }

    async fn out_of_range(&mut self, after: Offset) -> Fault {
        match self.bounds().await {
            Err(fault) => fault,
            Ok((trimmed, _)) if after < trimmed => Fault::Log(RemoteError::Refused(Refusal::Trimmed(trimmed))),
            Ok((_, head)) => Fault::Log(RemoteError::Cut(
                format!("Kafka's log ends at {head}, below {after}, up to where it was read").into(),
            )),
        }
    }

    async fn trim(&mut self, below: Offset) -> Result<(), Fault> {
        let (trimmed, head) = self.bounds().await?;
        let below = below.min(head);
        if below <= trimmed {
            return Ok(());
        }
        let place = TopicPartition::new(self.address.log(), 0);
        let before = [(place, i64::try_from(below.0).unwrap_or(i64::MAX))];
        for (_, done) in self.admin.delete_records(before, DeleteRecordsOptions::default()).await? {
            done.map_err(|error| Fault::of_topic(error, &self.address.log()))?;
        }
        Ok(())
    }
}

/// Waits until all brokers know topics that have just been made.
async fn made(admin: &AdminClient, address: &Address, longest: usize) -> Result<Promise, Fault> {
    let until = Instant::now() + READING;
    loop {
        match topics::compare(admin, address, longest).await? {
            Some(promise) => return Ok(promise),
            None if Instant::now() >= until => {
                return Err(Fault::Log(RemoteError::Cut("Kafka doesn't have the topics yet that it made".into())));
            }
            None => tokio::time::sleep(MOMENT).await,
        }
    }
}

/// A consumer of a topic's one partition, without a position yet.
pub(crate) async fn reader(kafka: &krafka::Kafka, topic: &str, partition: i32) -> Result<Consumer, Fault> {
    let consumer = kafka
        .consumer_without_group()
        .auto_offset_reset(AutoOffsetReset::None)
        .max_poll_records(READ_RECORDS)
        .fetch_max_bytes(FETCH_BYTES)
        .max_partition_fetch_bytes(FETCH_BYTES)
        .metrics_push(false)
        .build()
        .await?;
    consumer.assign(topic, vec![partition]).await?;
    Ok(consumer)
}

/// Kafka's offsets begin with 0, ours with 1: Kafka's next offset is our last one.
fn offset(kafka: i64) -> Offset {
    Offset(u64::try_from(kafka).unwrap_or_default())
}

fn raw(record: ConsumerRecord) -> Raw {
    let time = UnixMillis(u64::try_from(record.timestamp).unwrap_or_default());
    Raw { offset: offset(record.offset).next(), time, stored: record.value.unwrap_or_default() }
}
