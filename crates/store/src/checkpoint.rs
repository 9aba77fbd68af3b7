//! The checkpoint: what the tables say about themselves, written in one batch with everything that changed.

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Offset};
use everywire_base::topic::Topic;

use crate::ages::Ages;
use crate::applier::StoreError;
use crate::chunk::{read_varint, write_varint};
use crate::losses::Losses;
use crate::metrics::StoreMetrics;
use crate::shared::Shared;
use crate::tables::{Batch, Table, TablesError};

const KEY: &[u8] = b"checkpoint";

/// What the last checkpoint says, and the counters that the next one will.
#[derive(Default)]
pub(crate) struct Checkpoint {
    /// The tables are the log up to here.
    pub(crate) applied: u64,
    /// The last number given to a topic.
    pub(crate) next_id: u64,
    /// How many topics have a state.
    pub(crate) topics: u64,
    /// While the tables are made anew, the last offset that the log had when that began.
    pub(crate) rebuilding_to: u64,
}

impl Checkpoint {
    /// Reads the tables' checkpoint, and brings everything shared to what it says. Tables of another log are emptied.
    pub(crate) fn restore(shared: &Shared) -> Result<Self, StoreError> {
        let mut stored = Stored::read(shared)?;
        if let Some(other) = stored.as_ref().filter(|stored| !stored.is_of(shared)) {
            tracing::warn!(epoch = %other.epoch, "the store is of another log: rebuilding it");
            shared.tables.clear()?;
            stored = None;
        }
        let is_new = stored.is_none();
        let last = shared.archive.last().0;
        let stored = stored.unwrap_or_else(|| Stored { rebuilding_to: last, ..Stored::default() });
        shared.cache.clear();
        shared.fresh_mut().clear();
        shared.retained_mut().0.clear();
        *shared.losses_mut() =
            Losses::restore(stored.highest_loss, stored.forgotten, stored.rebuilt, &shared.rules.load());
        *shared.ages_mut() = stored.ages;
        count_retained(shared)?;
        StoreMetrics::set(&shared.metrics.topics, stored.topics);
        let Stored { applied, next_id, topics, rebuilding_to, .. } = stored;
        let checkpoint = Self { applied, next_id, topics, rebuilding_to };
        if is_new {
            // Should this be cut short, it is known how far it had to go.
            shared.tables.write(checkpoint.only(shared))?;
            shared.tables.sync()?;
        }
        Ok(checkpoint)
    }

    /// Writes what changed, and marks it as written.
    pub(crate) fn write(
        &mut self,
        shared: &Shared,
        dirty: &mut Vec<Topic>,
        newest: UnixMillis,
        now: UnixMillis,
    ) -> Result<(), TablesError> {
        let applied = shared.applied().0;
        note_age(shared, newest, applied, now);
        let mut batch = Batch::default();
        for topic in dirty.iter() {
            let name = topic.as_str().as_bytes();
            shared.cache.change_here(topic, |slot| {
                if slot.gone {
                    batch.remove(Table::Topics, name);
                } else {
                    slot.state.store(name, &mut batch);
                }
            });
        }
        shared.retained().store(&mut batch);
        batch.set(Table::Meta, KEY, self.encode(shared, applied));
        shared.set_written(Offset(applied));
        shared.tables.write(batch)?;
        self.applied = applied;
        self.written(shared, dirty);
        Ok(())
    }

    /// A checkpoint of nothing.
    fn only(&self, shared: &Shared) -> Batch {
        let mut batch = Batch::default();
        batch.set(Table::Meta, KEY, self.encode(shared, self.applied));
        batch
    }

    fn written(&mut self, shared: &Shared, dirty: &mut Vec<Topic>) {
        for topic in dirty.drain(..) {
            let gone = shared.cache.change_here(&topic, |slot| {
                slot.dirty = false;
                slot.state.stored();
                slot.gone
            });
            if gone == Some(true) {
                shared.cache.remove(&topic);
                self.topics = self.topics.saturating_sub(1);
            }
        }
        shared.fresh_mut().clear();
        shared.retained_mut().0.clear();
        StoreMetrics::set(&shared.metrics.topics, self.topics);
        StoreMetrics::add(&shared.metrics.checkpoints, 1);
    }

    fn encode(&self, shared: &Shared, applied: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let losses = shared.losses();
        let epoch = u64::from(shared.lineage.epoch.0);
        for number in [
            epoch,
            applied,
            self.next_id,
            self.topics,
            losses.highest(),
            losses.forgotten,
            losses.rebuilt,
            self.rebuilding_to,
        ] {
            write_varint(&mut out, number);
        }
        shared.ages().encode(&mut out);
        out
    }
}

fn note_age(shared: &Shared, newest: UnixMillis, applied: u64, now: UnixMillis) {
    let oldest = shared.rules.load().all().map(|rule| rule.history.max_age).max().unwrap_or_default();
    let mut ages = shared.ages_mut();
    ages.note(newest, applied);
    let floor = ages.floor(now, oldest);
    ages.forget(floor);
}

/// Fills the hint with what the table has.
fn count_retained(shared: &Shared) -> Result<(), StoreError> {
    let mut error = None;
    // After a failure some are counted already: too many cost a read, too few would hide one.
    shared.tables.scan(Table::Retained, &[], None, &mut |name, value| {
        match shared.retained_entry(name, value) {
            Ok((topic, retained)) if retained.is_message() => shared.hint.add(&topic),
            Ok(_) => {}
            Err(e) => error = Some(e),
        }
        error.is_none()
    })?;
    error.map_or(Ok(()), |error| Err(error.into()))
}

#[derive(Default)]
struct Stored {
    epoch: Epoch,
    applied: u64,
    next_id: u64,
    topics: u64,
    highest_loss: u64,
    forgotten: u64,
    rebuilt: u64,
    rebuilding_to: u64,
    ages: Ages,
}

impl Stored {
    fn read(shared: &Shared) -> Result<Option<Self>, TablesError> {
        let Some(value) = shared.tables.get(Table::Meta, KEY)? else { return Ok(None) };
        Self::decode(&value).map(Some).ok_or_else(|| TablesError::Damaged("the checkpoint".into()))
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut number = || read_varint(&mut bytes);
        let epoch = Epoch(u32::try_from(number()?).ok()?);
        let (applied, next_id, topics) = (number()?, number()?, number()?);
        let (highest_loss, forgotten, rebuilt, rebuilding_to) = (number()?, number()?, number()?, number()?);
        let ages = Ages::decode(&mut bytes)?;
        Some(Self { epoch, applied, next_id, topics, highest_loss, forgotten, rebuilt, rebuilding_to, ages })
    }

    /// Whether all of it is in the present log, too.
    fn is_of(&self, shared: &Shared) -> bool {
        shared.lineage.valid_up_to(self.epoch).is_some_and(|fork| self.applied <= fork.0)
    }
}
