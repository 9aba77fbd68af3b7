//! The position of a bridge: the records of it in the log, and the id of a source.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everywire_base::ask::{Interest, Page, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::ReplyTo;
use everywire_base::record::Record;
use everywire_base::topic::Filter;
use everywire_log::engine::Engine;
use everywire_store::Store;
use krafka::TopicInfo;
use krafka::consumer::Consumer;
use xxhash_rust::xxh3::xxh3_64;

use crate::failure::Failure;

/// The one partition of the log.
pub(crate) const PARTITION: Partition = Partition(0);
/// The longest time that the store may be behind the log before a bridge tries again later.
const BEHIND: Duration = Duration::from_secs(5);

/// The id of a source: a hash of a bridge's name, the id of a topic, and a partition that is the same everywhere. A
/// topic that was removed and made anew has another id.
pub(crate) fn source_id(bridge: &str, topic_id: [u8; 16], partition: i32) -> u64 {
    let mut bytes = Vec::with_capacity(bridge.len() + 20);
    bytes.extend_from_slice(&topic_id);
    bytes.extend_from_slice(&partition.to_le_bytes());
    bytes.extend_from_slice(bridge.as_bytes());
    xxh3_64(&bytes)
}

/// The retained records on these topics, up to the log's present head.
pub(crate) fn remembered(engine: &dyn Engine, store: &Store, topics: Vec<Filter>) -> Result<Vec<Arc<Record>>, Failure> {
    let head = engine.tails()[0].head();
    if !store.wait(head, BEHIND) {
        return Err(Failure::Store);
    }
    let interest = |filter| Interest { filter, since: Offset::BEGINNING };
    let interests: Arc<[Interest]> = topics.into_iter().map(interest).collect();
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = read(store, &interests, ReadKind::Retained { after, max_records: 1024 });
        if page.failed {
            return Err(Failure::Store);
        }
        records.extend(page.records);
        after = page.next;
        if after.is_none() {
            return Ok(records);
        }
    }
}

/// A reader of the server's own records on some topics.
pub(crate) struct Watch {
    filter: Filter,
    /// The offset up to which the log was read.
    seen: Offset,
}

/// The records that a watch has found.
pub(crate) enum News {
    /// The records since the last look.
    Since(Vec<Arc<Record>>),
    /// All retained records, because the new ones can't be told from the others.
    All(Vec<Arc<Record>>),
}

impl Watch {
    pub(crate) fn new(filter: Filter) -> Self {
        Self { filter, seen: Offset::BEGINNING }
    }

    /// Reads on.
    pub(crate) fn look(&mut self, engine: &dyn Engine, store: &Store) -> Result<News, Failure> {
        let tail = &engine.tails()[0];
        let (head, mut found) = (tail.head(), Vec::new());
        let is_there = self.seen > Offset::BEGINNING
            && tail.read(self.seen, head, |record| {
                if record.system().is_some_and(|system| self.filter.matches(&system.topic)) {
                    found.push(Arc::clone(record));
                }
                true
            });
        let news = if is_there {
            News::Since(found)
        } else {
            News::All(remembered(engine, store, vec![self.filter.clone()])?)
        };
        self.seen = head;
        Ok(news)
    }
}

/// A page of the store.
pub(crate) fn read(store: &Store, interests: &Arc<[Interest]>, kind: ReadKind) -> Page {
    let (reply_to, interests, applied) = (ReplyTo::Nobody, Arc::clone(interests), Offset::BEGINNING);
    store.read(&Read { reply_to, partition: PARTITION, interests, applied, kind }, now())
}

/// Kafka's metadata of a topic.
pub(crate) async fn find(consumer: &Consumer, topic: &str) -> Result<TopicInfo, Failure> {
    let found = consumer.fetch_metadata(Some(topic)).await.map_err(|error| Failure::of_topic(error, topic))?;
    let found = found.topics.into_iter().find(|info| info.name == topic && !info.partitions.is_empty());
    found.ok_or_else(|| Failure::NoTopic(topic.into()))
}

/// The wall clock.
pub(crate) fn now() -> UnixMillis {
    UnixMillis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64)
}
