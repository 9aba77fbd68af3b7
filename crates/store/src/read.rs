//! Reading pages of history: from the index for few exact topics, in log order for patterns and many topics.
//!
//! A page never reaches beyond what is applied. What was lost is looked up after the records were read, so that a
//! message that retention took away in between is told as lost (RULES 3, 7).

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

/// With more exact topics than this the log is scanned.
pub(crate) const INDEXED_TOPICS: usize = 64;
/// Bytes of the log that one page scans at most, so that others have their turn soon.
const SCAN_BYTES: usize = 2 << 20;
/// Bytes that one step of a scan reads.
const SCAN_STEP: usize = 1 << 20;
/// Rounds in which a page may find nothing but expired messages before it is given as it is.
const ROUNDS: usize = 8;

/// What a page is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) interests: &'a [Interest],
    pub(crate) after: Offset,
    pub(crate) up_to: Offset,
    pub(crate) max_records: usize,
    pub(crate) max_bytes: usize,
    pub(crate) now: UnixMillis,
}

/// What a page holds.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) upto: Offset,
    pub(crate) lost: Option<Lost>,
    /// Where the next page of retained messages goes on.
    pub(crate) next: Option<Topic>,
}

/// Which topics a page is about, and from which position each is wanted.
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

    /// Whether some filter takes this topic at this offset.
    fn takes(&self, topic: &Topic, offset: u64) -> bool {
        self.exact.get(topic).is_some_and(|since| *since < offset)
            || self.patterns.iter().any(|(pattern, since)| *since < offset && pattern.matches(topic))
    }

    fn filters(&self) -> impl Iterator<Item = (&str, u64)> {
        let exact = self.exact.iter().map(|(topic, since)| (topic.as_str(), *since));
        exact.chain(self.patterns.iter().map(|(pattern, since)| (pattern.as_str(), *since)))
    }
}

/// What the index has for a page: see [`Shared::offsets`].
struct Index {
    offsets: Vec<Offset>,
    upto: Offset,
    /// Whether nothing of the window is left.
    is_end: bool,
}

/// A topic that a page is about.
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
            missed = missed.max(missing(&index.offsets, &records));
            let rules = self.rules.load();
            let times = self.times(window.now);
            records.retain(|record| {
                record
                    .message()
                    .is_some_and(|message| is_served(record, message, &rules.of(&message.topic).history, times))
            });
            if !records.is_empty() || index.is_end {
                break;
            }
        }
        if upto <= window.after {
            return Ok(Found { upto: window.after, ..Found::default() });
        }
        let missed = missed
            .map(|up_to| Lost { topic: topics.keys().map(|t| t.as_str()).min().unwrap_or_default().into(), up_to });
        let lost = self.lost_of(topics, window.now)?.max_by_offset(missed);
        Ok(Found { records, upto, lost, next: None })
    }

    /// The states of some topics, and up to where all of them are complete: the newest message of each has a place in
    /// that, even if the applier replaces one after the other meanwhile.
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

    /// The next offsets above `after`, in order, and up to where there are no others.
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

    /// Up to where a topic's messages are gone by its rule, whatever the applier has done of that already.
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

    /// What these topics have lost above the positions from which they are wanted.
    fn lost_of(&self, topics: &HashMap<&Topic, u64>, now: UnixMillis) -> Result<Option<Lost>, StoreError> {
        let mut lost: Option<Lost> = None;
        for (topic, since) in topics {
            let up_to = match self.state(topic)? {
                Some(state) => self.floor_of(topic, &state, now)?.lost,
                None => self.nobody_lost(),
            };
            if up_to > *since && lost.as_ref().is_none_or(|lost| lost.up_to.0 < up_to) {
                lost = Some(Lost { topic: topic.as_str().into(), up_to: Offset(up_to) });
            }
        }
        Ok(lost)
    }

    /// What a topic without a state may have lost.
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
        let (records, seen) = (scan.records, scan.lost);
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

    /// The dear way, for those far behind: over all topics that the filters may take.
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

/// The highest offset that the index has and the log does not: of two lives of a node, one may have let go what the
/// other, with other rules, would have kept; and a crash may have taken it from the log.
fn missing(offsets: &[Offset], records: &[Arc<Record>]) -> Option<Offset> {
    if offsets.len() == records.len() {
        return None;
    }
    let is_there = |offset: &&Offset| records.binary_search_by_key(*offset, |record| record.offset).is_ok();
    offsets.iter().rev().find(|offset| !is_there(offset)).copied()
}

/// Where a topic's kept messages begin.
#[derive(Clone, Copy)]
pub(crate) struct Floor {
    /// Nothing up to here is kept.
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
    /// What matched and is still there, but not kept any more.
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
        if is_over_age(record.time, max_age, self.shared.times(now).1) {
            // All that is as old is lost with it, as far as is known.
            let up_to = self.shared.ages().floor(now, max_age).max(offset);
            self.lose(&message.topic, up_to);
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

/// The literal beginnings of the filters, none within another.
pub(crate) fn prefixes<'a>(filters: impl Iterator<Item = &'a Filter>) -> Vec<&'a str> {
    let mut prefixes: Vec<&str> = filters.map(prefix).collect();
    prefixes.sort_unstable();
    prefixes.dedup_by(|longer, shorter| longer.starts_with(*shorter));
    prefixes
}

/// What all topics that the filter takes begin with.
pub(crate) fn prefix(filter: &Filter) -> &str {
    let text = filter.as_str();
    match filter {
        Filter::Exact(_) => text,
        // `a/#` takes `a`, too.
        Filter::Wild(_) => text[..text.find(['+', '#']).unwrap_or(text.len())].trim_end_matches('/'),
    }
}
