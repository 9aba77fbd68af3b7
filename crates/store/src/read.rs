//! Reading pages of history: from the index for few exact topics, in log order for patterns and many topics.
//!
//! A page never reaches beyond the applied offset. Losses are looked up after the records were read, so that a message
//! that retention removed in between counts as lost (RULES 3, 7). A loss is told in its place: a page of which
//! something kept lies below one ends before it, and the next page begins with it.

use std::collections::HashMap;
use std::sync::Arc;

use everywire_base::ask::{Interest, Lost};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::{Message, Record};
use everywire_base::rules::History;
use everywire_base::topic::{Filter, Topic};

use crate::ages::is_over_age;
use crate::applier::StoreError;
use crate::chunk::Entry;
use crate::losses::Recent;
use crate::shared::{Shared, history_of};
use crate::state::TopicState;
use crate::tables::TablesError;

/// The number of exact topics beyond which the log is scanned.
pub(crate) const INDEXED_TOPICS: usize = 64;
/// Bytes of the log that one page scans at most, so that other pages have their turn soon.
const SCAN_BYTES: usize = 2 << 20;
/// Bytes that one step of a scan reads.
const SCAN_STEP: usize = 1 << 20;
/// Rounds in which a page may find nothing but expired messages before it is given as it is.
const ROUNDS: usize = 8;

/// The request of a page.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) interests: &'a [Interest],
    pub(crate) after: Offset,
    pub(crate) up_to: Offset,
    pub(crate) max_records: usize,
    pub(crate) max_bytes: usize,
    pub(crate) with_recalled: bool,
    pub(crate) now: UnixMillis,
}

/// The content of a page.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) upto: Offset,
    pub(crate) lost: Option<Lost>,
    /// The topic after which the next page of retained messages goes on.
    pub(crate) next: Option<Topic>,
}

/// The topics of a page, each with the position from which it is wanted.
struct Wanted<'a> {
    exact: HashMap<&'a Topic, u64>,
    patterns: Vec<(&'a Filter, u64)>,
}

impl<'a> Wanted<'a> {
    fn of(window: &Window<'a>) -> Self {
        let mut wanted = Self { exact: HashMap::new(), patterns: Vec::new() };
        for interest in window.interests {
            let since = interest.since.max(window.after).0;
            match &interest.filter {
                Filter::Exact(topic) => {
                    wanted.exact.entry(topic).and_modify(|s| *s = since.min(*s)).or_insert(since);
                }
                pattern @ Filter::Wild(_) => wanted.patterns.push((pattern, since)),
            }
        }
        wanted
    }

    fn is_indexed(&self) -> bool {
        self.patterns.is_empty() && self.exact.len() <= INDEXED_TOPICS
    }

    /// Whether a filter takes this topic at this offset.
    fn takes(&self, topic: &Topic, offset: u64) -> bool {
        self.exact.get(topic).is_some_and(|since| *since < offset)
            || self.patterns.iter().any(|(pattern, since)| *since < offset && pattern.matches(topic))
    }

    fn filters(&self) -> impl Iterator<Item = (&str, u64)> {
        let exact = self.exact.iter().map(|(topic, since)| (topic.as_str(), *since));
        exact.chain(self.patterns.iter().map(|(pattern, since)| (pattern.as_str(), *since)))
    }
}

/// The entries of the index for a page: see [`Shared::offsets`].
struct Index {
    offsets: Vec<Offset>,
    upto: Offset,
    /// Whether the window has no more entries.
    is_end: bool,
}

/// A topic of a page.
struct Asked<'a> {
    topic: &'a Topic,
    since: u64,
    state: TopicState,
}

impl Shared {
    pub(crate) fn page(&self, window: Window<'_>) -> Result<Found, StoreError> {
        let wanted = Wanted::of(&window);
        if wanted.is_indexed() { self.indexed(window, &wanted.exact) } else { self.scanned(window, &wanted) }
    }

    fn indexed(&self, window: Window<'_>, topics: &HashMap<&Topic, u64>) -> Result<Found, StoreError> {
        let (mut records, mut upto, mut missed) = (Vec::new(), window.after, None);
        for _round in 0..ROUNDS {
            let index = self.offsets(window, topics, upto)?;
            if index.upto <= window.after {
                break;
            }
            upto = index.upto;
            records = self.archive.get(&index.offsets)?;
            let Missing { before, within } = Missing::of(&index.offsets, &records);
            missed = missed.max(before);
            upto = end_before(within, &mut records, upto);
            let rules = self.rules.load();
            records.retain(|record| {
                record.message().is_some_and(|message| {
                    let history = &rules.of(&message.topic).history;
                    is_served(record, message, history, self.times(window.now, history.max_age))
                })
            });
            if !window.with_recalled {
                self.leave_out_recalled(&mut records)?;
            }
            if !records.is_empty() || index.is_end {
                break;
            }
        }
        if upto <= window.after {
            return Ok(Found { upto: window.after, ..Found::default() });
        }
        let missed = missed
            .map(|up_to| Lost { topic: topics.keys().map(|t| t.as_str()).min().unwrap_or_default().into(), up_to });
        let (lost, within) = self.lost_of(topics, &records, window.now)?;
        let upto = end_before(within, &mut records, upto);
        Ok(Found { records, upto, lost: lost.max_by_offset(missed), next: None })
    }

    /// The states of some topics, and the offset up to which all of them are complete: the newest message of each is at
    /// or below it, even if the applier replaces one after the other meanwhile.
    fn states<'a>(&self, topics: &HashMap<&'a Topic, u64>) -> Result<(Vec<Asked<'a>>, Offset), StoreError> {
        let (mut states, mut complete) = (Vec::with_capacity(topics.len()), self.reached());
        let mut lowest = None::<Offset>;
        for (topic, since) in topics {
            let state = self.state(topic)?;
            let up_to = complete.max(Offset(state.as_ref().map_or(0, |state| state.head)));
            lowest = Some(lowest.map_or(up_to, |lowest| lowest.min(up_to)));
            states.extend(state.map(|state| Asked { topic, since: *since, state }));
            complete = self.reached();
        }
        Ok((states, lowest.unwrap_or(complete)))
    }

    /// The next offsets above `after`, in order, and the offset up to which there are no others.
    fn offsets(&self, window: Window<'_>, topics: &HashMap<&Topic, u64>, after: Offset) -> Result<Index, StoreError> {
        let (states, complete) = self.states(topics)?;
        let end = window.up_to.min(complete);
        if end <= after {
            return Ok(Index { offsets: Vec::new(), upto: after, is_end: true });
        }
        let mut entries: Vec<Entry> = Vec::new();
        for Asked { topic, since, state } in &states {
            let floor = self.floor_of(topic, state, window.now)?.kept.max(*since).max(after.0);
            let mut left = window.max_records.max(1);
            state.entries(&*self.tables, floor, &mut |entry| {
                if entry.offset <= end.0 && !entry.is_expired(window.now) {
                    entries.push(entry);
                    left -= 1;
                }
                left > 0 && entry.offset <= end.0
            })?;
        }
        entries.sort_unstable_by_key(|entry| entry.offset);
        let mut bytes = 0;
        let mut count = entries.len().min(window.max_records.max(1));
        for (index, entry) in entries[..count].iter().enumerate() {
            bytes += entry.bytes as usize;
            if bytes > window.max_bytes && index > 0 {
                count = index;
                break;
            }
        }
        let is_all = count == entries.len() && count < window.max_records.max(1);
        let upto = if is_all { end } else { Offset(entries[count - 1].offset) };
        let offsets = entries[..count].iter().map(|entry| Offset(entry.offset)).collect();
        Ok(Index { offsets, upto, is_end: upto >= end })
    }

    /// The floor of a topic by its rule, even if the applier hasn't yet removed the messages below it.
    pub(crate) fn floor_of(&self, topic: &Topic, state: &TopicState, now: UnixMillis) -> Result<Floor, StoreError> {
        let history = history_of(self.rules.load().of(topic));
        let age_floor = self.floor(now, history.max_age);
        let rebuilt = self.losses().rebuilt;
        let mut floor = Floor { kept: state.floor, lost: state.trimmed.max(rebuilt) };
        if !state.exceeds(&history) && (state.count == 0 || state.oldest > age_floor) {
            return Ok(floor);
        }
        let (mut count, mut bytes) = (state.count, state.bytes);
        state.entries(&*self.tables, 0, &mut |entry| {
            let goes = count > history.max_messages || bytes > history.max_bytes || entry.offset <= age_floor;
            if goes {
                count = count.saturating_sub(1);
                bytes = bytes.saturating_sub(entry.bytes);
                floor.kept = entry.offset;
                if !entry.is_expired(now) {
                    floor.lost = floor.lost.max(entry.offset);
                }
            }
            goes
        })?;
        Ok(floor)
    }

    /// The highest loss of these topics above the positions from which they are wanted; and the lowest one above one of
    /// these records of the same topic.
    fn lost_of(
        &self,
        topics: &HashMap<&Topic, u64>,
        records: &[Arc<Record>],
        now: UnixMillis,
    ) -> Result<(Option<Lost>, Option<Offset>), StoreError> {
        let (mut lost, mut within) = (None, None::<Offset>);
        for (topic, since) in topics {
            let up_to = match self.state(topic)? {
                Some(state) => self.floor_of(topic, &state, now)?.lost,
                None => self.nobody_lost(),
            };
            let (up_to, behind) = (Offset(up_to), Offset(self.losses().behind(up_to)));
            let mut below = records.iter().take_while(|record| record.offset < behind);
            if up_to.0 <= *since {
                continue;
            }
            if below.any(|record| record.message().is_some_and(|message| message.topic == **topic)) {
                within = Some(within.map_or(behind, |lowest| lowest.min(behind)));
            } else {
                lost = lost.max_by_offset(Some(Lost { topic: topic.as_str().into(), up_to }));
            }
        }
        Ok((lost, within))
    }

    /// The offset up to which a topic without a state may have lost messages.
    pub(crate) fn nobody_lost(&self) -> u64 {
        let losses = self.losses();
        losses.forgotten.max(losses.rebuilt)
    }

    fn scanned(&self, window: Window<'_>, wanted: &Wanted<'_>) -> Result<Found, StoreError> {
        let window = Window { up_to: window.up_to.min(self.reached()), ..window };
        if window.up_to <= window.after {
            return Ok(Found { upto: window.after, ..Found::default() });
        }
        let mut scan =
            Scan { shared: self, window, wanted, floors: HashMap::new(), records: Vec::new(), bytes: 0, lost: None };
        let (mut upto, mut budget) = (window.after, SCAN_BYTES);
        while upto < window.up_to && budget > 0 && !scan.is_full() {
            let (records, reached) = self.archive.scan(upto, window.up_to, SCAN_STEP)?;
            budget = budget.saturating_sub(SCAN_STEP);
            upto = reached;
            for record in records {
                let before = record.offset;
                if !scan.take(record)? {
                    upto = Offset(before.0 - 1);
                    break;
                }
            }
        }
        let (mut records, seen) = (scan.records, scan.lost);
        let everybody = Offset(self.losses().behind(self.nobody_lost()));
        if records.first().is_some_and(|record| record.offset < everybody) {
            let upto = end_before(Some(everybody), &mut records, upto);
            return Ok(Found { records, upto, ..Found::default() });
        }
        let lost = self.lost_of_many(window.after.0, wanted)?.max_by_offset(seen);
        Ok(Found { records, upto, lost, next: None })
    }

    fn lost_of_many(&self, after: u64, wanted: &Wanted<'_>) -> Result<Option<Lost>, StoreError> {
        let filters: Vec<&str> = wanted.filters().map(|(filter, _)| filter).collect();
        let (recent, everybody) = {
            let losses = self.losses();
            let may_be = losses.may_be_above(after, &filters, &self.rules.load());
            let recent = may_be.then(|| losses.recent(after, |topic, offset| wanted.takes(topic, offset)));
            (recent.unwrap_or(Recent::Nothing), losses.forgotten.max(losses.rebuilt))
        };
        let first = wanted.filters().find(|(_, since)| everybody > *since);
        let lost = first.map(|(filter, _)| Lost { topic: filter.into(), up_to: Offset(everybody) });
        Ok(lost.max_by_offset(match recent {
            Recent::Nothing => None,
            Recent::Lost(topic, offset) => Some(Lost { topic: topic.as_str().into(), up_to: Offset(offset) }),
            Recent::Unknown => self.lost_by_walk(wanted)?,
        }))
    }

    /// The dear way, for readers far behind: a walk over all topics that the filters may take.
    fn lost_by_walk(&self, wanted: &Wanted<'_>) -> Result<Option<Lost>, StoreError> {
        let topics: Vec<_> = wanted
            .exact
            .keys()
            .map(|topic| Ok(((*topic).clone(), self.state(topic)?)))
            .collect::<Result<_, TablesError>>()?;
        let mut highest: Option<(Topic, u64)> = None;
        let mut look = |topic: &Topic, state: &TopicState| {
            let is_higher = highest.as_ref().is_none_or(|(_, up_to)| *up_to < state.trimmed);
            if is_higher && wanted.takes(topic, state.trimmed) {
                highest = Some((topic.clone(), state.trimmed));
            }
            true
        };
        for (topic, state) in &topics {
            if let Some(state) = state {
                look(topic, state);
            }
        }
        for prefix in prefixes(wanted.patterns.iter().map(|(pattern, _)| *pattern)) {
            self.walk(prefix, None, &mut look)?;
        }
        Ok(highest.map(|(topic, up_to)| Lost { topic: topic.as_str().into(), up_to: Offset(up_to) }))
    }
}

/// The records that the index has and the log lacks. An earlier life of the node, with other rules, may have removed
/// them; or a crash may have taken them from the log.
struct Missing {
    /// The highest missing offset before the first record.
    before: Option<Offset>,
    /// The lowest missing offset behind the first record.
    within: Option<Offset>,
}

impl Missing {
    fn of(offsets: &[Offset], records: &[Arc<Record>]) -> Self {
        let first = records.first().map_or(Offset(u64::MAX), |record| record.offset);
        let (before, behind) = offsets.split_at(offsets.partition_point(|offset| *offset < first));
        let is_gone = |offset: &&Offset| records.binary_search_by_key(*offset, |record| record.offset).is_err();
        Self { before: before.last().copied(), within: behind.iter().find(is_gone).copied() }
    }
}

/// Has a page end before this, if that lies in it. Says up to where it comes.
fn end_before(end: Option<Offset>, records: &mut Vec<Arc<Record>>, upto: Offset) -> Offset {
    let Some(end) = end.filter(|end| *end <= upto) else { return upto };
    records.retain(|record| record.offset < end);
    Offset(end.0 - 1)
}

/// The floor of a topic's kept messages.
#[derive(Clone, Copy)]
pub(crate) struct Floor {
    /// The offset up to which nothing is kept.
    pub(crate) kept: u64,
    /// The highest offset that was lost.
    pub(crate) lost: u64,
}

/// Whether a record that the index has is given to readers.
pub(crate) fn is_served(
    record: &Record,
    message: &Message,
    history: &History,
    (now, moment): (UnixMillis, UnixMillis),
) -> bool {
    !message.is_expired(now) && !is_over_age(record.time, history.max_age, moment)
}

struct Scan<'a> {
    shared: &'a Shared,
    window: Window<'a>,
    wanted: &'a Wanted<'a>,
    floors: HashMap<Topic, Floor>,
    records: Vec<Arc<Record>>,
    bytes: usize,
    /// The highest loss: a record that matched and is still there, but not kept any more.
    lost: Option<Lost>,
}

impl Scan<'_> {
    fn is_full(&self) -> bool {
        self.records.len() >= self.window.max_records.max(1) || self.bytes >= self.window.max_bytes.max(1)
    }

    /// Takes a record if it is wanted; `false` if it does not fit any more.
    fn take(&mut self, record: Arc<Record>) -> Result<bool, StoreError> {
        let Some(message) = record.message() else { return Ok(true) };
        let offset = record.offset.0;
        let now = self.window.now;
        if !self.wanted.takes(&message.topic, offset) || message.is_expired(now) {
            return Ok(true);
        }
        let floor = self.floor(&message.topic)?;
        if offset <= floor.kept {
            self.lose(&message.topic, floor.lost.max(offset));
            return Ok(true);
        }
        let max_age = self.shared.rules.load().of(&message.topic).history.max_age;
        if is_over_age(record.time, max_age, self.shared.times(now, max_age).1) {
            // All records that are as old are lost with it, as far as is known.
            let up_to = self.shared.ages().floor(now, max_age).max(offset);
            self.lose(&message.topic, up_to);
            return Ok(true);
        }
        if !self.window.with_recalled && self.shared.is_recalled(&record)? {
            return Ok(true);
        }
        let bytes = self.bytes + message.body.len();
        if self.is_full() || bytes > self.window.max_bytes && !self.records.is_empty() {
            return Ok(false);
        }
        self.bytes = bytes;
        self.records.push(record);
        Ok(true)
    }

    fn lose(&mut self, topic: &Topic, up_to: u64) {
        let lost = Lost { topic: topic.as_str().into(), up_to: Offset(up_to) };
        self.lost = self.lost.take().max_by_offset(Some(lost));
    }

    fn floor(&mut self, topic: &Topic) -> Result<Floor, StoreError> {
        if let Some(floor) = self.floors.get(topic) {
            return Ok(*floor);
        }
        let floor = match self.shared.state(topic)? {
            Some(state) => self.shared.floor_of(topic, &state, self.window.now)?,
            None => Floor { kept: u64::MAX, lost: 0 },
        };
        self.floors.insert(topic.clone(), floor);
        Ok(floor)
    }
}

trait Highest {
    fn max_by_offset(self, other: Self) -> Self;
}

impl Highest for Option<Lost> {
    fn max_by_offset(self, other: Self) -> Self {
        [self, other].into_iter().flatten().max_by_key(|lost| lost.up_to)
    }
}

/// The literal prefixes of the filters, none within another.
pub(crate) fn prefixes<'a>(filters: impl Iterator<Item = &'a Filter>) -> Vec<&'a str> {
    let mut prefixes: Vec<&str> = filters.map(prefix).collect();
    prefixes.sort_unstable();
    prefixes.dedup_by(|longer, shorter| longer.starts_with(*shorter));
    prefixes
}

/// The common prefix of all topics that the filter takes.
pub(crate) fn prefix(filter: &Filter) -> &str {
    let text = filter.as_str();
    match filter {
        Filter::Exact(_) => text,
        // `a/#` takes `a`, too.
        Filter::Wild(_) => text[..text.find(['+', '#']).unwrap_or(text.len())].trim_end_matches('/'),
    }
}
