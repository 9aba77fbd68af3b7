//! The checkpoint: the state of the tables, written in one batch with everything that changed.

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Offset};
use everywire_base::kept::{Kept, What};
use everywire_base::topic::Topic;
use everywire_log::hint::RetainedHint;

use crate::ages::Ages;
use crate::applier::StoreError;
use crate::chunk::{read_varint, write_varint};
use crate::digest::{Digest, seal, unseal};
use crate::losses::Losses;
use crate::metrics::StoreMetrics;
use crate::retained::Retained;
use crate::shared::Shared;
use crate::tables::{Batch, Table, TablesError};

const KEY: &[u8] = b"checkpoint";

/// The last checkpoint, and the counters of the next one.
#[derive(Default)]
pub(crate) struct Checkpoint {
    /// The offset up to which the tables have the log.
    pub(crate) applied: u64,
    /// The last number given to a topic.
    pub(crate) next_id: u64,
    /// The number of topics with a state.
    pub(crate) topics: u64,
    /// The last offset that the log had when the tables were last made anew; 0 for a whole log.
    pub(crate) rebuilding_to: u64,
    /// The sums over the tables.
    digest: Digest,
}

impl Checkpoint {
    /// Reads the tables' checkpoint, and sets the shared state by it. Tables that are damaged, or of another log, are
    /// emptied: they can be made anew from the log.
    pub(crate) fn restore(shared: &Shared, behind: bool) -> Result<Self, StoreError> {
        match Self::read(shared, behind) {
            Err(StoreError::Tables(TablesError::Damaged(what))) => {
                tracing::error!(
                    what,
                    "the store is damaged: rebuilding it from the log; retained messages of topics with \
                     durability = \"none\" are not in the log and are lost"
                );
                shared.tables.clear()?;
                Self::read(shared, behind)
            }
            done => done,
        }
    }

    fn read(shared: &Shared, behind: bool) -> Result<Self, StoreError> {
        let mut stored = Stored::read(shared)?;
        if let Some(other) = stored.as_ref().filter(|stored| !stored.is_of(shared)) {
            tracing::warn!(epoch = %other.epoch, "the store is of another log: rebuilding it");
            shared.tables.clear()?;
            stored = None;
        }
        let is_new = stored.is_none();
        let last = shared.archive.last().0;
        // A whole log misses no record, even if some offsets were never given.
        let rebuilding_to = if shared.archive.is_whole() { 0 } else { last };
        let stored = stored.unwrap_or_else(|| Stored { rebuilding_to, ..Stored::default() });
        check(shared, stored.digest, behind)?;
        shared.cache.clear();
        shared.fresh_mut().clear();
        shared.retained_mut().0.clear();
        *shared.losses_mut() =
            Losses::restore(stored.highest_loss, stored.forgotten, stored.rebuilt, &shared.rules.load());
        *shared.ages_mut() = stored.ages;
        StoreMetrics::set(&shared.metrics.topics, stored.topics);
        let Stored { applied, next_id, topics, rebuilding_to, digest, .. } = stored;
        let checkpoint = Self { applied, next_id, topics, rebuilding_to, digest };
        if is_new {
            // The checkpoint keeps how far the rebuilding has to go, in case it is interrupted.
            shared.tables.write(checkpoint.only(shared))?;
            shared.tables.sync()?;
        }
        Ok(checkpoint)
    }

    /// Writes the changes, and marks them as written.
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
        self.digest = self.digest.after(&*shared.tables, &batch)?;
        batch.set(Table::Meta, KEY, self.encode(shared, applied));
        shared.set_written(Offset(applied));
        shared.tables.write(batch)?;
        self.applied = applied;
        self.written(shared, dirty);
        Ok(())
    }

    /// A checkpoint without changes.
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
        let epoch = u64::from((shared.lineage)().epoch_at(Offset(applied)).0);
        for number in [
            epoch,
            applied,
            self.next_id,
            self.topics,
            losses.highest(),
            losses.forgotten,
            losses.rebuilt,
            self.rebuilding_to,
        ]
        .into_iter()
        .chain(self.digest.0)
        {
            write_varint(&mut out, number);
        }
        shared.ages().encode(&mut out);
        write_varint(&mut out, losses.rebuilt_above);
        seal(out)
    }
}

fn note_age(shared: &Shared, newest: UnixMillis, applied: u64, now: UnixMillis) {
    let oldest = shared.rules.load().all().map(|rule| rule.history.max_age).max().unwrap_or_default();
    let mut ages = shared.ages_mut();
    // The marks stay as they are if nothing was applied since the start.
    if newest > UnixMillis(0) {
        ages.note(newest, applied);
    }
    let floor = ages.floor(now, oldest);
    ages.forget(floor);
}

/// Checks the tables against the checkpoint's sums. Fills the hint with the retained messages; if the tables are
/// `behind` the records that were applied already, the hint keeps all that it knew: too many cost a read, too few would
/// hide a message.
fn check(shared: &Shared, expected: Digest, behind: bool) -> Result<(), TablesError> {
    let (hint, kept) = (RetainedHint::default(), Kept::default());
    let found = Digest::of(&*shared.tables, &mut |name, value| {
        let (topic, retained) = shared.retained_entry(name, value)?;
        count(&topic, &retained, &hint, &kept);
        Ok(())
    })?;
    if found != expected {
        return Err(TablesError::Damaged("what stands there doesn't add up to what was written".into()));
    }
    shared.hint.follow(&hint, behind);
    shared.tail.kept().follow(&kept, behind);
    Ok(())
}

fn count(topic: &Topic, retained: &Retained, hint: &RetainedHint, kept: &Kept) {
    if retained.is_message() {
        hint.add(topic);
        kept.add(What::on(topic), retained.payer, retained.bytes);
    }
}

/// Counts the retained messages again, once the tables have all of them.
pub(crate) fn count_retained(shared: &Shared) -> Result<(), TablesError> {
    let (hint, kept, mut counted) = (RetainedHint::default(), Kept::default(), Ok(()));
    shared.tables.scan(Table::Retained, &[], None, &mut |name, value| {
        let entry = shared.retained_entry(name, value);
        counted = entry.map(|(topic, retained)| count(&topic, &retained, &hint, &kept));
        counted.is_ok()
    })?;
    shared.hint.follow(&hint, false);
    shared.tail.kept().follow(&kept, false);
    counted
}

#[derive(Default)]
struct Stored {
    epoch: Epoch,
    applied: u64,
    next_id: u64,
    topics: u64,
    highest_loss: u64,
    forgotten: u64,
    /// The part that was lost when the store was made anew: see [`Losses`].
    rebuilt: (u64, u64),
    rebuilding_to: u64,
    digest: Digest,
    ages: Ages,
}

impl Stored {
    fn read(shared: &Shared) -> Result<Option<Self>, TablesError> {
        let Some(value) = shared.tables.get(Table::Meta, KEY)? else { return Ok(None) };
        unseal(&value).and_then(Self::decode).map(Some).ok_or_else(|| TablesError::Damaged("the checkpoint".into()))
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        let mut number = || read_varint(&mut bytes);
        let epoch = Epoch(u32::try_from(number()?).ok()?);
        let (applied, next_id, topics) = (number()?, number()?, number()?);
        let (highest_loss, forgotten, rebuilt, rebuilding_to) = (number()?, number()?, number()?, number()?);
        let digest = Digest([number()?, number()?, number()?]);
        let ages = Ages::decode(&mut bytes)?;
        // Earlier versions wrote no more.
        let rebuilt = (read_varint(&mut bytes).unwrap_or(rebuilt.saturating_sub(1)), rebuilt);
        Some(Self { epoch, applied, next_id, topics, highest_loss, forgotten, rebuilt, rebuilding_to, digest, ages })
    }

    /// Whether all applied records are in the present log, too.
    fn is_of(&self, shared: &Shared) -> bool {
        (shared.lineage)().valid_up_to(self.epoch).is_some_and(|fork| self.applied <= fork.0)
    }
}
