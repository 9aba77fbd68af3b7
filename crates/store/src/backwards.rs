//! Reading a topic backwards: its last messages before a position, from the index alone; the log is never scanned.

use std::sync::Arc;

use everywire_base::ask::{Interest, Lost};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::record::Record;
use everywire_base::topic::{Filter, Topic};

use crate::applier::StoreError;
use crate::read::{Found, is_served};
use crate::shared::Shared;
use crate::state::TopicState;

/// The request of a page backwards.
#[derive(Clone, Copy)]
pub(crate) struct Window {
    pub(crate) before: Option<Offset>,
    pub(crate) max_records: usize,
    pub(crate) max_bytes: usize,
    pub(crate) with_recalled: bool,
    pub(crate) now: UnixMillis,
}

impl Shared {
    pub(crate) fn page_back(&self, interests: &[Interest], window: Window) -> Result<Found, StoreError> {
        let [Interest { filter: Filter::Exact(topic), .. }] = interests else { return Ok(Found::default()) };
        let reached = self.reached().0;
        let Some(state) = self.state(topic)? else {
            return Ok(Found { lost: self.lost_before(topic, None, window.now)?, ..Found::default() });
        };
        let floor = self.floor_of(topic, &state, window.now)?.kept;
        let mut before = window.before.map_or(u64::MAX, |before| before.0).min(reached.max(state.head) + 1);
        let (mut records, mut bytes) = (Vec::new(), 0);
        loop {
            // Records that the log hasn't any more make room for others.
            let room = window.max_records.max(1) - records.len();
            let (offsets, more) = self.offsets_back(&state, (floor, before), room, window, &mut bytes)?;
            records.extend(self.served(topic, &offsets, window)?.into_iter().rev());
            before = offsets.first().map_or(before, |first| first.0);
            if records.is_empty() {
                bytes = 0;
            }
            let is_full = records.len() >= window.max_records.max(1) || bytes > 0 && offsets.len() < room;
            if !more || is_full {
                records.reverse();
                let upto = if more { Offset(before) } else { Offset::BEGINNING };
                let lost = if more { None } else { self.lost_before(topic, Some(&state), window.now)? };
                return Ok(Found { records, upto, lost, next: None });
            }
        }
    }

    /// The last offsets of a topic above its floor and below a place, in order; and whether there are more.
    fn offsets_back(
        &self,
        state: &TopicState,
        (floor, before): (u64, u64),
        room: usize,
        window: Window,
        bytes: &mut usize,
    ) -> Result<(Vec<Offset>, bool), StoreError> {
        let (mut offsets, mut more) = (Vec::new(), false);
        state.entries_back(&*self.tables, before, &mut |entry| {
            if entry.offset <= floor {
                return false;
            }
            if entry.is_expired(window.now) {
                return true;
            }
            let total = bytes.saturating_add(entry.bytes as usize);
            more = offsets.len() >= room || total > window.max_bytes && (*bytes > 0 || !offsets.is_empty());
            if !more {
                offsets.push(Offset(entry.offset));
                *bytes = total;
            }
            !more
        })?;
        offsets.reverse();
        Ok((offsets, more))
    }

    fn served(&self, topic: &Topic, offsets: &[Offset], window: Window) -> Result<Vec<Arc<Record>>, StoreError> {
        let history = self.rules.load().of(topic).history;
        let times = self.times(window.now, history.max_age);
        let mut records = self.archive.get(offsets)?;
        records.retain(|record| record.message().is_some_and(|m| is_served(record, m, &history, times)));
        if !window.with_recalled {
            self.leave_out_recalled(&mut records)?;
        }
        Ok(records)
    }

    /// The loss of a topic before all its kept messages.
    fn lost_before(
        &self,
        topic: &Topic,
        state: Option<&TopicState>,
        now: UnixMillis,
    ) -> Result<Option<Lost>, StoreError> {
        let up_to = match state {
            Some(state) => self.floor_of(topic, state, now)?.lost,
            None => self.nobody_lost(),
        };
        Ok((up_to > 0).then(|| Lost { topic: topic.as_str().into(), up_to: Offset(up_to) }))
    }
}
