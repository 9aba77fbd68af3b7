//! Reading retained messages: a page is one state of the store, and never half of the next one.
//!
//! The changes since the checkpoint move together with `applied`, under one lock, at the end of the applier's turn. A
//! page notes both first and looks into the tables afterwards. If a checkpoint has written later changes meanwhile, or
//! the log has removed a record that was replaced, the page begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use everywire_base::ask::Interest;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::Record;
use everywire_base::topic::{Filter, Topic};
use everywire_log::engine::ArchiveError;

use crate::applier::StoreError;
use crate::read::{Found, prefixes};
use crate::retained::{Content, Retained};
use crate::shared::{Shared, first, key_of, parse_name};
use crate::tables::{Table, TablesError, end_of};

/// Entries of the table that one page looks at.
const LOOKS: usize = 16_384;
/// The number of unreadable messages of which one is logged.
const LINE_EVERY: u64 = 1000;
/// The number of times that a page begins anew. Checkpoints are seconds apart.
const ATTEMPTS: usize = 16;

/// The request of a page of retained messages.
pub(crate) struct Wanted<'a> {
    exact: BTreeSet<&'a Topic>,
    wild: Vec<&'a Filter>,
    /// The last topic that was read before.
    after: Option<&'a Topic>,
    limit: usize,
}

impl<'a> Wanted<'a> {
    pub(crate) fn of(interests: &'a [Interest], after: Option<&'a Topic>, limit: usize) -> Self {
        let (mut exact, mut wild) = (BTreeSet::new(), Vec::new());
        for interest in interests {
            match &interest.filter {
                // The messages of exact filters all stand on the first page.
                Filter::Exact(topic) => drop(exact.insert(topic)),
                filter @ Filter::Wild(_) => wild.push(filter),
            }
        }
        Self { exact, wild, after, limit: limit.max(1) }
    }

    /// Whether a message that can't be read is left out. The server's own records that are asked for by their names are
    /// not: a session that can't be read must not be replaced by a new one.
    fn may_miss(&self) -> bool {
        self.exact.iter().all(|topic| !topic.is_internal())
    }

    fn takes(&self, topic: &Topic) -> bool {
        !self.exact.contains(topic) && self.wild.iter().any(|filter| filter.matches(topic))
    }
}

/// The changes since the checkpoint that a page asks for, and the offset up to which the log was applied then.
struct View {
    upto: Offset,
    changed: BTreeMap<Topic, Option<Retained>>,
    /// The prefixes whose topics have more changes than a page has room for, each with the last topic that is here.
    cut: BTreeMap<String, Topic>,
}

impl Shared {
    pub(crate) fn retained_page(&self, wanted: &Wanted<'_>, now: UnixMillis) -> Result<Found, StoreError> {
        for _ in 0..ATTEMPTS {
            let view = self.view(wanted);
            let (mut all, next) = self.retained_by_name(wanted, &view)?;
            if wanted.after.is_none() {
                for topic in &wanted.exact {
                    all.extend(self.retained_at(topic, view.changed.get(*topic))?);
                }
            }
            all.retain(|retained| retained.is_there(now));
            let is_one = self.written() <= view.upto;
            let (mut records, damaged) =
                if is_one { self.records_of(&all, wanted.may_miss())? } else { Default::default() };
            // A record that the log hasn't, although nothing has changed, won't be found by another look.
            if is_one && (records.len() + damaged == all.len() || self.applied() == view.upto) {
                self.leave_out_recalled(&mut records)?;
                return Ok(Found { records, upto: view.upto, next, ..Found::default() });
            }
        }
        Err(TablesError::Failed("the retained messages changed while they were read".into()).into())
    }

    fn view(&self, wanted: &Wanted<'_>) -> View {
        let all = self.retained();
        let (mut changed, mut cut) = (BTreeMap::new(), BTreeMap::new());
        for prefix in prefixes(wanted.wild.iter().copied()) {
            let with_prefix = |entry: &(&Topic, _)| entry.0.as_str().starts_with(prefix);
            let run = all.0.range((first(prefix, wanted.after), Bound::Unbounded)).take_while(with_prefix);
            let (mut messages, mut last) = (0, None);
            for (topic, change) in run {
                if messages >= wanted.limit {
                    cut.extend(last.map(|last: &Topic| (prefix.to_owned(), last.clone())));
                    break;
                }
                if wanted.takes(topic) {
                    messages += usize::from(change.as_ref().is_some_and(Retained::is_message));
                    changed.insert(topic.clone(), change.clone());
                }
                last = Some(topic);
            }
        }
        for topic in &wanted.exact {
            changed.extend(all.0.get_key_value(*topic).map(|(t, c)| (t.clone(), c.clone())));
        }
        View { upto: self.applied(), changed, cut }
    }

    /// The retained messages of patterns, in the order of their topics; and the last topic that was looked at, if there
    /// may be more.
    fn retained_by_name(
        &self,
        wanted: &Wanted<'_>,
        view: &View,
    ) -> Result<(Vec<Retained>, Option<Topic>), TablesError> {
        let mut found = Vec::new();
        for prefix in prefixes(wanted.wild.iter().copied()) {
            let (begin, end) = (first(prefix, wanted.after), end_of(prefix.as_bytes()));
            if end.as_ref().is_some_and(|end| key_of(&begin) >= *end) {
                continue;
            }
            let (retained, next) = self.retained_run(wanted, view, prefix, wanted.limit - found.len())?;
            found.extend(retained);
            if next.is_some() {
                return Ok((found, next));
            }
        }
        Ok((found, None))
    }

    /// The same for the topics of one prefix.
    fn retained_run(
        &self,
        wanted: &Wanted<'_>,
        view: &View,
        prefix: &str,
        limit: usize,
    ) -> Result<(Vec<Retained>, Option<Topic>), TablesError> {
        let begin = first(prefix, wanted.after);
        let mut found = BTreeMap::new();
        let (mut looks, mut error, mut last) = (0, None, None);
        self.tables.scan(
            Table::Retained,
            &key_of(&begin),
            end_of(prefix.as_bytes()).as_deref(),
            &mut |name, value| {
                looks += 1;
                match self.retained_entry(name, value) {
                    Ok((topic, retained)) => {
                        if wanted.takes(&topic) && retained.is_message() {
                            found.insert(topic.clone(), retained);
                        }
                        last = Some(topic);
                    }
                    Err(e) => error = Some(e),
                }
                error.is_none() && found.len() < limit && looks < LOOKS
            },
        )?;
        if let Some(error) = error {
            return Err(error);
        }
        let was_cut = found.len() >= limit || looks >= LOOKS;
        let cut = view.cut.get(prefix);
        if let Some(cut) = cut {
            // The last topic of the cut comes with the changes.
            drop(found.split_off(cut));
        }
        let reached = last.filter(|_| was_cut).into_iter().chain(cut.cloned()).min();
        let with_prefix = |entry: &(&Topic, _)| entry.0.as_str().starts_with(prefix);
        for (topic, change) in view.changed.range((begin, Bound::Unbounded)).take_while(with_prefix) {
            if !wanted.takes(topic) || reached.as_ref().is_some_and(|reached| topic > reached) {
                continue;
            }
            match change.as_ref().filter(|change| change.is_message()) {
                Some(retained) => found.insert(topic.clone(), retained.clone()),
                None => found.remove(topic),
            };
        }
        let next = found.keys().nth(limit.saturating_sub(1)).cloned().or(reached);
        Ok((found.into_values().take(limit).collect(), next))
    }

    /// The retained message of a topic, with the changes since the checkpoint.
    pub(crate) fn retained_at(
        &self,
        topic: &Topic,
        changed: Option<&Option<Retained>>,
    ) -> Result<Option<Retained>, TablesError> {
        if let Some(changed) = changed {
            return Ok(changed.clone());
        }
        let name = topic.as_str().as_bytes();
        let stored = self.tables.get(Table::Retained, name)?;
        stored.map(|value| Retained::decode(self.partition, name, &value)).transpose()
    }

    /// The records, and the number of those that are left out since they are damaged.
    pub(crate) fn records_of(&self, all: &[Retained], may_miss: bool) -> Result<(Vec<Arc<Record>>, usize), StoreError> {
        let (mut records, mut offsets) = (Vec::new(), Vec::new());
        for retained in all {
            match &retained.content {
                Content::Inline(record) => records.push(Arc::clone(record)),
                Content::Logged => offsets.push(retained.offset),
                Content::Nothing => {}
            }
        }
        offsets.sort_unstable();
        let mut damaged = 0;
        if may_miss {
            self.readable(&offsets, &mut records, &mut damaged)?;
        } else {
            records.extend(self.archive.get(&offsets)?);
        }
        records.sort_unstable_by_key(|record| record.offset);
        Ok((records, damaged))
    }

    /// Reads the records by halves, so that a damaged one hides no other.
    fn readable(
        &self,
        offsets: &[Offset],
        records: &mut Vec<Arc<Record>>,
        damaged: &mut usize,
    ) -> Result<(), StoreError> {
        match self.archive.get(offsets) {
            Err(ArchiveError::Damaged { .. }) if offsets.len() > 1 => {
                let (first, second) = offsets.split_at(offsets.len() / 2);
                self.readable(first, records, damaged)?;
                self.readable(second, records, damaged)
            }
            Err(error @ ArchiveError::Damaged { .. }) => {
                *damaged += 1;
                if self.metrics.damaged_records.fetch_add(1, Ordering::Relaxed).is_multiple_of(LINE_EVERY) {
                    tracing::error!(%error, "a retained message can't be read: the others are given without it");
                }
                Ok(())
            }
            found => {
                records.extend(found?);
                Ok(())
            }
        }
    }

    pub(crate) fn retained_entry(&self, name: &[u8], value: &[u8]) -> Result<(Topic, Retained), TablesError> {
        Ok((parse_name(name)?, Retained::decode(self.partition, name, value)?))
    }
}
