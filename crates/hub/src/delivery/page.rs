//! The store's answers.

use std::time::Duration;

use everywire_base::ask::Page;
use everywire_base::clock::Now;
use everywire_base::cursor::Offset;
use everywire_base::id::Slot;

use super::catchup::Next;
use super::lag::{Lag, Rest, State};
use super::replay::LossReport;
use super::{Deliveries, Turn};

/// The delay until a page that could not be read is asked for again: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

impl Deliveries {
    pub(crate) fn take_page(&mut self, page: &Page, turn: &mut Turn<'_>) {
        let Some((slot, ask)) = page.reply_to.connection() else { return };
        let Some(connection) = self.connections.get_mut(slot.index).filter(|c| c.generation == slot.generation) else {
            return;
        };
        // An answer to a read that isn't wanted any more is ignored.
        let Some(mut lag) = connection.lag.take_if(|lag| lag.asked() == Some(ask)) else { return };
        let (delivered, state) = (lag.delivered, lag.state);
        lag.state = State::Ready;
        let next = if page.failed {
            turn.floor.counters.failed_reads += 1;
            self.retry(slot, &mut lag, turn.now)
        } else {
            self.take_content(slot, &mut lag, page, state, turn)
        };
        self.put_back(slot, lag, Next::Waits, delivered, turn);
        self.save_tags(slot, turn.floor);
        if next == Next::Later {
            // The page was often the last one: then the connection is live at once.
            let mut budget = 1;
            self.advance(slot, &mut budget, turn);
        }
    }

    fn take_content(&mut self, slot: Slot, lag: &mut Lag, page: &Page, state: State, turn: &mut Turn<'_>) -> Next {
        if let State::Reading(_, up_to) = state {
            return self.take_history(slot, lag, page, up_to, turn);
        }
        match (state, lag.greetings.front_mut()) {
            (State::Again(_), _) => lag.take_again(&page.records),
            (_, Some(greeting)) => greeting.take(page),
            (_, None) => {}
        }
        Next::Later
    }

    fn take_history(&mut self, slot: Slot, lag: &mut Lag, page: &Page, up_to: Offset, turn: &mut Turn<'_>) -> Next {
        let partition = usize::from(page.partition.0);
        let from = lag.positions[partition];
        let mut replay = self.replay(slot, partition, turn);
        let mut share = usize::MAX;
        let told = replay.say_lost(lag, page.lost.as_ref());
        if told == LossReport::News && replay.held.len() > 1 {
            // Asked again, the store tells of the losses of the other filters.
            return Next::Later;
        }
        let is_open = told != LossReport::Stopped;
        // A loss from here on is a gap: the record was there when the connection looked.
        lag.opening[partition] &= !is_open;
        let refused =
            if is_open { page.records.iter().position(|r| !replay.offer(lag, r, &mut share)) } else { Some(0) };
        let left = &page.records[refused.unwrap_or(page.records.len())..];
        if lag.state == State::Saving {
            let _ = left.iter().skip(1).all(|record| replay.reserve(lag, record));
        }
        let is_taken = refused.is_none();
        if is_open && !is_taken {
            lag.rest = Rest::of(partition, left, page.upto.min(up_to));
        }
        self.debt += usize::MAX - share;
        if !is_taken {
            return Next::Waits;
        }
        lag.positions[partition] = lag.positions[partition].max(page.upto.min(up_to));
        if lag.positions[partition] > from {
            lag.failures = 0;
            return Next::Later;
        }
        // The store hasn't come that far yet; the tail has the records that are missing.
        lag.kept_until[partition] = Offset::BEGINNING;
        lag.is_close[partition] = true;
        if from >= turn.floor.setup.tails[partition].start() { Next::Later } else { self.retry(slot, lag, turn.now) }
    }

    fn retry(&mut self, slot: Slot, lag: &mut Lag, now: Now) -> Next {
        let delay = RETRY.0.saturating_mul(1 << lag.failures.min(10)).min(RETRY.1);
        lag.failures += 1;
        let at = now.monotonic + delay;
        lag.state = State::Retrying(at);
        self.retries.add(at, slot);
        Next::Waits
    }
}
