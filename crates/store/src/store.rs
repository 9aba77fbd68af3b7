//! The handle on a store for its readers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use everywire_base::ask::{Page, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::id::MessageId;
use everywire_base::record::Record;
use everywire_base::rules::Rules;
use everywire_base::system;
use everywire_base::topic::{Filter, Topic};
use everywire_log::hint::RetainedHint;

use crate::applier::{Applier, StoreError};
use crate::backwards;
use crate::greeting::Wanted;
use crate::metrics::StoreMetrics;
use crate::read::{Found, INDEXED_TOPICS, Window, is_served};
use crate::shared::{Parts, Shared};
use crate::tables::TablesError;
use crate::topics::TopicInfo;

/// What a node derived from the log, for reading. Clones share it; any thread may read while the applier goes on.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

impl Store {
    /// Opens a store at its last checkpoint. Nothing of the log is replayed here: that is the applier's first turns.
    pub fn open(parts: Parts) -> Result<(Self, Applier), StoreError> {
        let shared = Arc::new(Shared::new(parts));
        let applier = Applier::open(Arc::clone(&shared))?;
        Ok((Self(shared), applier))
    }

    /// Waits until the log is applied up to here; false if that takes longer.
    pub fn wait(&self, offset: Offset, within: Duration) -> bool {
        self.0.wait(offset, within)
    }

    /// Whether a read is answered from an index; others scan, which takes longer. What the server keeps for itself, a
    /// session with its marks, is little.
    pub fn is_short(read: &Read) -> bool {
        let all = |is_it: fn(&Filter) -> bool| read.interests.iter().all(|interest| is_it(&interest.filter));
        let is_exact = |filter: &Filter| matches!(filter, Filter::Exact(_));
        match read.kind {
            ReadKind::History { .. } => all(is_exact) && read.interests.len() <= INDEXED_TOPICS,
            ReadKind::Retained { .. } => all(|f| matches!(f, Filter::Exact(_)) || f.as_str().starts_with('$')),
            ReadKind::Backwards { .. } | ReadKind::Records(_) => true,
        }
    }

    /// Answers a read. May block on the disk.
    pub fn read(&self, read: &Read, now: UnixMillis) -> Page {
        let begun = Instant::now();
        if self.applied() < read.applied {
            let (ticket, partition, upto) = (read.ticket, read.partition, position(read));
            return Page { ticket, partition, records: Vec::new(), upto, next: None, lost: None, failed: true };
        }
        let found = self.steady(|shared| match read.kind {
            ReadKind::History { after, up_to, max_records, max_bytes } => {
                shared.page(Window { interests: &read.interests, after, up_to, max_records, max_bytes, now })
            }
            ReadKind::Retained { ref after, max_records } => {
                shared.retained_page(&Wanted::of(&read.interests, after.as_ref(), max_records), now)
            }
            ReadKind::Backwards { before, max_records, max_bytes } => {
                shared.page_back(&read.interests, backwards::Window { before, max_records, max_bytes, now })
            }
            ReadKind::Records(ref offsets) => records(shared, offsets, now),
        });
        let failed = found.is_err();
        self.0.metrics.page_read(begun.elapsed(), failed);
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a page can't be read");
            Found { upto: position(read), ..Found::default() }
        });
        let (ticket, partition) = (read.ticket, read.partition);
        let Found { records, upto, lost, next, .. } = found;
        Page { ticket, partition, records, upto, next, lost, failed }
    }

    /// The topics that a filter takes, in the order of their names, above `after`.
    pub fn topics(&self, filter: &Filter, after: Option<&Topic>, limit: usize) -> Result<Vec<TopicInfo>, StoreError> {
        self.steady(|shared| shared.topics(filter, after, limit))
    }

    /// What is known of a topic; `None` if it has no messages, or had none for long.
    pub fn topic(&self, topic: &Topic) -> Result<Option<TopicInfo>, StoreError> {
        self.steady(|shared| shared.topic(topic))
    }

    /// A kept message.
    pub fn message(&self, id: MessageId, now: UnixMillis) -> Result<Option<Arc<Record>>, StoreError> {
        self.steady(|shared| message(shared, id, now))
    }

    /// The position from which reading gives all that a filter has; where the store stands if there is nothing.
    pub fn earliest(&self, filter: &Filter, now: UnixMillis) -> Result<Offset, StoreError> {
        self.steady(|shared| shared.earliest(filter, now))
    }

    /// Up to where the log is applied.
    pub fn applied(&self) -> Offset {
        self.0.applied()
    }

    /// Which topics may have a retained message.
    pub fn retained(&self) -> Arc<RetainedHint> {
        Arc::clone(&self.0.hint)
    }

    /// From now on other rules hold. Reads obey them at once; what they don't keep any more is let go by and by.
    pub fn set_rules(&self, rules: Arc<Rules>) {
        self.0.rules.store(rules);
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The rules that hold now.
    pub fn rules(&self) -> Arc<Rules> {
        self.0.rules.load_full()
    }

    /// What the store counts.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.0.metrics
    }

    /// Bytes of the tables.
    pub fn bytes(&self) -> u64 {
        self.0.tables.bytes()
    }

    /// What was read while the states were thrown away after a failure means nothing.
    fn steady<T>(&self, read: impl FnOnce(&Shared) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let resets = self.0.resets.load(Ordering::Acquire);
        let done = read(&self.0).inspect_err(|error| self.0.note_damage(error))?;
        if resets % 2 == 1 || self.0.resets.load(Ordering::Acquire) != resets {
            return Err(TablesError::Failed("the store is starting over".into()).into());
        }
        Ok(done)
    }
}

fn position(read: &Read) -> Offset {
    match read.kind {
        ReadKind::History { after, .. } => after,
        ReadKind::Backwards { before, .. } => before.unwrap_or_default(),
        ReadKind::Retained { .. } | ReadKind::Records(_) => Offset::BEGINNING,
    }
}

/// The records of some offsets that are still given to readers, in the order in which they were asked for.
fn records(shared: &Shared, offsets: &[Offset], now: UnixMillis) -> Result<Found, StoreError> {
    let upto = shared.applied();
    let mut sorted: Vec<Offset> = offsets.iter().copied().filter(|offset| *offset <= upto).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let there = shared.archive.get(&sorted)?;
    let mut records = Vec::new();
    for offset in offsets {
        let record = there.binary_search_by_key(offset, |record| record.offset).ok().map(|at| &there[at]);
        if let Some(record) = record
            && (is_will(record) || is_given(shared, record, now)?)
        {
            records.push(Arc::clone(record));
        }
    }
    Ok(Found { records, upto, ..Found::default() })
}

/// Wills are read by their place when they fire: another may have come in the place of one that is still to be published.
fn is_will(record: &Record) -> bool {
    record.message().is_some_and(|message| message.topic.as_str().starts_with(system::WILLS))
}

/// Whether a record that the log has is given to readers: it is kept, or its topic's retained message.
fn is_given(shared: &Shared, record: &Record, now: UnixMillis) -> Result<bool, StoreError> {
    let Some(message) = record.message() else { return Ok(false) };
    // Those of internal topics have no state, and nobody asks for them by their place.
    let Some(state) = shared.state(&message.topic)? else { return Ok(false) };
    let is_retained = state.retained == record.offset.0 && !message.is_expired(now);
    let floor = shared.floor_of(&message.topic, &state, now)?.kept;
    let is_kept = record.offset.0 > floor
        && is_served(record, message, &shared.rules.load().of(&message.topic).history, shared.times(now));
    Ok(is_retained || is_kept)
}

fn message(shared: &Shared, id: MessageId, now: UnixMillis) -> Result<Option<Arc<Record>>, StoreError> {
    if id.partition() != shared.partition || id.offset() > shared.applied() {
        return Ok(None);
    }
    let Some(record) = shared.archive.get(&[id.offset()])?.pop() else { return Ok(None) };
    let found = record.id() == id && is_given(shared, &record, now)?;
    Ok(found.then_some(record))
}
