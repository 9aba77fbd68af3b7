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
use everywire_log::follower::Listed;
use everywire_log::hint::RetainedHint;

use crate::applier::{Applier, StoreError};
use crate::backwards;
use crate::greeting::Wanted;
use crate::metrics::StoreMetrics;
use crate::read::{Found, INDEXED_TOPICS, Window, is_served};
use crate::shared::{Parts, Shared};
use crate::tables::TablesError;
use crate::topics::TopicInfo;

/// The state that a node derived from the log, for reading. Clones share it; any thread may read while the applier goes
/// on.
#[derive(Clone)]
pub struct Store(Arc<Shared>);

impl Store {
    /// Opens a store at its last checkpoint. No record of the log is replayed here: the applier's first turns do that.
    pub fn open(parts: Parts) -> Result<(Self, Applier), StoreError> {
        let shared = Arc::new(Shared::new(parts));
        let applier = Applier::open(Arc::clone(&shared))?;
        Ok((Self(shared), applier))
    }

    /// Waits until the log is applied up to an offset; `false` if that takes longer than `within`.
    pub fn wait(&self, offset: Offset, within: Duration) -> bool {
        self.0.wait(offset, within)
    }

    /// Whether a read is answered from an index; others scan, which takes longer. The server's own records, as a
    /// session with its marks, are few.
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
            let (reply_to, partition, upto) = (read.reply_to, read.partition, position(read));
            return Page { reply_to, partition, records: Vec::new(), upto, next: None, lost: None, failed: true };
        }
        let found = self.steady(|shared| match read.kind {
            ReadKind::History { after, up_to, max_records, max_bytes, with_recalled } => {
                let interests = &read.interests;
                shared.page(Window { interests, after, up_to, max_records, max_bytes, with_recalled, now })
            }
            ReadKind::Retained { ref after, max_records } => {
                shared.retained_page(&Wanted::of(&read.interests, after.as_ref(), max_records), now)
            }
            ReadKind::Backwards { before, max_records, max_bytes, with_recalled } => {
                let window = backwards::Window { before, max_records, max_bytes, with_recalled, now };
                shared.page_back(&read.interests, window)
            }
            ReadKind::Records(ref offsets) => records(shared, offsets, now),
        });
        let failed = found.is_err();
        self.0.metrics.page_read(begun.elapsed(), failed);
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a page can't be read");
            Found { upto: position(read), ..Found::default() }
        });
        let (reply_to, partition) = (read.reply_to, read.partition);
        let Found { records, upto, lost, next, .. } = found;
        Page { reply_to, partition, records, upto, next, lost, failed }
    }

    /// The topics that a filter takes, in the order of their names, above `after`.
    pub fn topics(&self, filter: &Filter, after: Option<&Topic>, limit: usize) -> Result<Vec<TopicInfo>, StoreError> {
        self.steady(|shared| shared.topics(filter, after, limit))
    }

    /// The counts of a topic; `None` if it has no messages, or had none for long.
    pub fn topic(&self, topic: &Topic) -> Result<Option<TopicInfo>, StoreError> {
        self.steady(|shared| shared.topic(topic))
    }

    /// The records at or below an offset, ascending, from which all that is retained there can be made anew. All up to
    /// there must be applied. Records that were replaced or removed above it may be left out.
    pub fn foundations(&self, up_to: Offset) -> Result<Listed, StoreError> {
        self.steady(|shared| shared.foundations(up_to))
    }

    /// A kept message.
    pub fn message(&self, id: MessageId, now: UnixMillis) -> Result<Option<Arc<Record>>, StoreError> {
        self.steady(|shared| message(shared, id, now))
    }

    /// The position from which reading gives all that a filter has; the applied offset if there is nothing.
    pub fn earliest(&self, filter: &Filter, now: UnixMillis) -> Result<Offset, StoreError> {
        self.steady(|shared| shared.earliest(filter, now))
    }

    /// The offset up to which the log is applied.
    pub fn applied(&self) -> Offset {
        self.0.applied()
    }

    /// The hint of topics that may have a retained message.
    pub fn retained(&self) -> Arc<RetainedHint> {
        Arc::clone(&self.0.hint)
    }

    /// Sets the rules from now on. Reads obey them at once; messages that they don't keep are removed little by little.
    pub fn set_rules(&self, rules: Arc<Rules>) {
        self.0.rules.store(rules);
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// The rules that hold now.
    pub fn rules(&self) -> Arc<Rules> {
        self.0.rules.load_full()
    }

    /// The metrics of the store.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.0.metrics
    }

    /// Bytes of the tables.
    pub fn bytes(&self) -> u64 {
        self.0.tables.bytes()
    }

    /// Reads; fails if the states were thrown away meanwhile after a failure.
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
            && (is_will(record) || is_given(shared, record, now)? && !shared.is_recalled(record)?)
        {
            records.push(Arc::clone(record));
        }
    }
    Ok(Found { records, upto, ..Found::default() })
}

/// Whether a record is a will. Hubs read wills by their offsets: another one may have replaced a will that is still to
/// be published.
fn is_will(record: &Record) -> bool {
    record.system().is_some_and(|system| system.topic.as_str().starts_with(system::WILLS))
}

/// Whether a record that the log has is given to readers: it is kept, or its topic's retained message.
fn is_given(shared: &Shared, record: &Record, now: UnixMillis) -> Result<bool, StoreError> {
    let Some(message) = record.message() else { return Ok(false) };
    // Records of internal topics have no state, and nobody asks for them by their offset.
    let Some(state) = shared.state(&message.topic)? else { return Ok(false) };
    let is_retained = state.retained == record.offset.0 && !message.is_expired(now);
    let floor = shared.floor_of(&message.topic, &state, now)?.kept;
    let history = shared.rules.load().of(&message.topic).history;
    let is_kept = record.offset.0 > floor && is_served(record, message, &history, shared.times(now, history.max_age));
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
