//! Sources: the progress of logs of others that are taken over (`base::source::Source`).
//!
//! A source's positions go up, and have holes; so each draft of it names the position before it. A draft whose
//! predecessor is the last accepted one is accepted, a draft at or below that was accepted before, and all others are
//! refused: behind a refused draft nothing of its source goes on. The progress of a source stands in a record of its
//! own, in the same commit as the records that were taken over, and is kept for good. There are as many sources as
//! partitions of the bridged topics; their number is bounded.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use everywire_base::ask::{Append, PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Offset, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Record, System};
use everywire_base::source::Source;
use everywire_base::system::{self, SOURCES, SourceState};

use crate::idempotency::Answer;

/// The sources, by their ids.
pub(crate) struct Sources {
    /// The highest position that was accepted.
    known: HashMap<u64, u64>,
    /// The records of the present batch, by their sources, in an order that follows from the batch alone.
    batch: BTreeMap<u64, InBatch>,
    max: usize,
}

/// The records of a source in a batch.
struct InBatch {
    /// The highest position.
    position: u64,
    /// Its record of the batch.
    index: usize,
}

impl Sources {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self::with(limits.bridge_sources)
    }

    /// A table that knows this many.
    pub(crate) fn with(max: usize) -> Self {
        Self { known: HashMap::new(), batch: BTreeMap::new(), max }
    }

    /// All known sources with their positions, in the order of their ids, for the state of the next life.
    pub(crate) fn export(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<(u64, u64)> = self.known.iter().map(|(id, position)| (*id, *position)).collect();
        all.sort_unstable();
        all
    }

    /// Takes over exported sources.
    pub(crate) fn import(&mut self, known: impl IntoIterator<Item = (u64, u64)>) {
        self.known.extend(known);
    }

    /// The number of sources in these appends.
    pub(crate) fn count(appends: &[Append]) -> usize {
        let mut ids: Vec<u64> = appends.iter().filter_map(|append| Some(append.source?.id)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.len()
    }

    /// Returns the answer if the draft was accepted before; else accepts it as the batch's `index`-th record.
    pub(crate) fn check(
        &mut self,
        source: &Source,
        index: usize,
        epoch: Epoch,
    ) -> Result<Option<Answer>, PublishError> {
        let known = self.known.get(&source.id).copied();
        let before = known.unwrap_or_default();
        if source.position <= before {
            return Ok(Some(Answer::Published(somewhere(epoch))));
        }
        let own = self.batch.get(&source.id);
        match own {
            Some(own) if source.position <= own.position => return Ok(Some(Answer::AgainInBatch(own.index))),
            None if known.is_none() && self.known.len() + self.batch.len() >= self.max => {
                return Err(PublishError::KeysFull);
            }
            _ => {}
        }
        let last = own.map_or(before, |own| own.position);
        if source.after != last {
            return Err(PublishError::OutOfOrder { expected: last });
        }
        self.batch.insert(source.id, InBatch { position: source.position, index });
        Ok(None)
    }

    /// The records with the progress of the batch's sources. They are as durable as the records that were taken over.
    pub(crate) fn progress(&self, batch: &[Arc<Record>]) -> Vec<(System, Durability)> {
        let is_synced = |index: usize| batch.get(index).is_some_and(|record| record.durability == Durability::Fsync);
        let record = |(id, own): (&u64, &InBatch)| {
            let durability = if is_synced(own.index) { Durability::Fsync } else { Durability::Memory };
            (system::record(system::source_topic(*id), &SourceState { position: own.position }, true), durability)
        };
        self.batch.iter().map(record).collect()
    }

    /// Ends the batch, as a whole.
    pub(crate) fn settle(&mut self, is_kept: bool) {
        let batch = std::mem::take(&mut self.batch);
        if is_kept {
            self.known.extend(batch.into_iter().map(|(id, own)| (id, own.position)));
        }
    }

    /// Takes in a record of the progress from before the start.
    pub(crate) fn restore(&mut self, record: &Record) {
        let Some(system) = record.system().filter(|system| system.retain) else { return };
        let id = system.topic.as_str().strip_prefix(SOURCES).and_then(|id| u64::from_str_radix(id, 16).ok());
        if let (Some(id), Some(state)) = (id, system::read::<SourceState>(system)) {
            let known = self.known.entry(id).or_default();
            *known = state.position.max(*known);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

/// The answer for a draft that was accepted before: its place is not known.
fn somewhere(epoch: Epoch) -> Published {
    let (partition, offset, time) = (Partition(0), Offset::BEGINNING, UnixMillis(0));
    Published { epoch, partition, offset, time, durability: Durability::Memory, duplicate: true }
}
