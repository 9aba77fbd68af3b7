//! The handle on a store for its readers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use everywire_base::ask::{Page, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::id::MessageId;
use everywire_base::record::Record;
use everywire_base::rules::Rules;
use everywire_base::topic::{Filter, Topic};
use everywire_log::hint::RetainedHint;

use crate::applier::{Applier, StoreError};
use crate::metrics::StoreMetrics;
use crate::read::{Found, Window, is_served, prefixes};
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
            ReadKind::Retained { ref after, max_records } => retained(shared, read, (after.as_ref(), max_records), now),
            ReadKind::Records(ref offsets) => records(shared, offsets, now),
        });
        let failed = found.is_err();
        self.0.metrics.page_read(begun.elapsed(), failed);
        let found = found.unwrap_or_else(|error| {
            tracing::warn!(%error, "a page can't be read");
            Found { records: Vec::new(), upto: position(read), lost: None, next: None }
        });
        let (ticket, partition) = (read.ticket, read.partition);
        let Found { records, upto, lost, next } = found;
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
        let done = read(&self.0)?;
        if resets % 2 == 1 || self.0.resets.load(Ordering::Acquire) != resets {
            return Err(TablesError::Failed("the store is starting over".into()).into());
        }
        Ok(done)
    }
}

fn position(read: &Read) -> Offset {
    match read.kind {
        ReadKind::History { after, .. } => after,
        ReadKind::Retained { .. } | ReadKind::Records(_) => Offset::BEGINNING,
    }
}

/// A page of retained messages: those of exact filters on the first page, those of patterns in the order of their topics.
fn retained(
    shared: &Shared,
    read: &Read,
    (after, limit): (Option<&Topic>, usize),
    now: UnixMillis,
) -> Result<Found, StoreError> {
    let upto = shared.applied();
    let (exact, wild): (Vec<&Filter>, Vec<&Filter>) =
        read.interests.iter().map(|interest| &interest.filter).partition(|filter| matches!(filter, Filter::Exact(_)));
    let exact: BTreeSet<&Topic> = exact.into_iter().filter_map(exact_topic).collect();
    let matches = |topic: &Topic| !exact.contains(topic) && wild.iter().any(|filter| filter.matches(topic));
    let (mut all, next) = shared.retained_above(&prefixes(wild.iter().copied()), after, limit.max(1), &matches)?;
    if after.is_none() {
        for topic in &exact {
            all.extend(shared.retained_in(topic)?);
        }
    }
    let (mut records, mut offsets) = (Vec::new(), Vec::new());
    for retained in all.into_iter().filter(|retained| !retained.is_expired(now) && retained.offset <= upto) {
        match retained.record {
            Some(record) => records.push(record),
            None => offsets.push(retained.offset),
        }
    }
    offsets.sort_unstable();
    records.extend(shared.archive.get(&offsets)?);
    records.sort_unstable_by_key(|record| record.offset);
    Ok(Found { records, upto, lost: None, next })
}

fn exact_topic(filter: &Filter) -> Option<&Topic> {
    match filter {
        Filter::Exact(topic) => Some(topic),
        Filter::Wild(_) => None,
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
            && is_given(shared, record, now)?
        {
            records.push(Arc::clone(record));
        }
    }
    Ok(Found { records, upto, lost: None, next: None })
}

/// Whether a record that the log has is given to readers: it is kept, or its topic's retained message.
fn is_given(shared: &Shared, record: &Record, now: UnixMillis) -> Result<bool, StoreError> {
    let Some(message) = record.message() else { return Ok(false) };
    // Those of internal topics have no state, and nobody asks for them by their place.
    let Some(state) = shared.state(&message.topic)? else { return Ok(false) };
    let is_retained = state.retained == record.offset.0 && !message.is_expired(now);
    let floor = shared.floor_of(&message.topic, &state, now)?.kept;
    let is_kept =
        record.offset.0 > floor && is_served(record, message, &shared.rules.load().of(&message.topic).history, now);
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
