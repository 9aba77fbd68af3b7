//! A connection that lags: where it reads, and what it waits for.

use std::collections::VecDeque;
use std::sync::Arc;

use everywire_base::clock::Monotonic;
use everywire_base::cursor::Offset;
use everywire_base::id::AskId;
use everywire_base::record::{Message, Record};
use everywire_base::terms::Terms;
use everywire_base::topic::{Filter, Topic};
use smallvec::SmallVec;

use crate::window::{Sent, Window};

/// A position for each partition.
pub(crate) type Positions = SmallVec<[Offset; 1]>;

/// The state of such a connection; a live one has none.
#[derive(Debug)]
pub(crate) struct Lag {
    /// It has everything up to here.
    pub(crate) positions: Positions,
    /// For each of its filters the position at which it begins. Those beyond the end begin before the read position.
    pub(crate) sinces: Vec<Since>,
    /// Losses up to here are no news to it.
    pub(crate) told: Positions,
    /// Up to here it reads what the store keeps, also where the tail still has more: it began at the earliest kept.
    pub(crate) kept_until: Positions,
    /// Where no page has come yet: what is lost there is where "the earliest kept" begins, and no gap.
    pub(crate) opening: SmallVec<[bool; 1]>,
    /// What of the last page there was no room for.
    pub(crate) rest: Option<Rest>,
    /// The topic of a gap that was said, and that operators haven't been told of.
    pub(crate) lost: Option<Box<str>>,
    /// A gap that must be said before anything else.
    pub(crate) owed: Option<Owed>,
    /// What was sent before and is sent again, before anything else.
    pub(crate) again: VecDeque<Sent>,
    /// What of it was looked for in the store, with what was found.
    pub(crate) found: VecDeque<(Sent, Option<Arc<Record>>)>,
    /// Up to here nothing comes that is wanted at most once.
    pub(crate) quiet_until: Positions,
    /// Retained messages that are wanted before anything else.
    pub(crate) greetings: VecDeque<Greeting>,
    pub(crate) state: State,
    /// Where the store can't help: the tail is read however far it is.
    pub(crate) is_close: SmallVec<[bool; 1]>,
    /// What was handed over while it lags: messages and gaps.
    pub(crate) delivered: u64,
    /// How many pages failed in a row.
    pub(crate) failures: u32,
    /// Whether it lags because it took too little.
    pub(crate) slow: bool,
}

/// Where a filter of a lagging connection begins.
#[derive(Clone, Debug)]
pub(crate) struct Since {
    pub(crate) offsets: Positions,
    /// Whether that is the earliest kept message.
    pub(crate) earliest: bool,
}

/// The rest of a page: everything that the connection wants from its position on, up to an offset.
#[derive(Debug)]
pub(crate) struct Rest {
    pub(crate) partition: usize,
    pub(crate) records: VecDeque<Arc<Record>>,
    pub(crate) up_to: Offset,
}

/// So many records of a page are kept when there is no room for them, and so many bytes.
pub(crate) const KEPT: (usize, usize) = (64, 16 << 10);

impl Rest {
    /// Keeps the beginning of what is left of a page that reaches up to an offset.
    pub(crate) fn of(partition: usize, left: &[Arc<Record>], up_to: Offset) -> Option<Self> {
        let mut bytes = 0;
        let fits = |record: &&Arc<Record>| {
            bytes += record.message().map_or(0, Message::weight);
            bytes <= KEPT.1
        };
        let records: VecDeque<_> = left.iter().take(KEPT.0).take_while(fits).cloned().collect();
        let last = records.back()?.offset;
        let up_to = if records.len() == left.len() { up_to } else { last };
        Some(Self { partition, records, up_to })
    }
}

/// A gap that a connection's cursor came with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owed {
    /// Up to where it had everything, if that is known.
    pub(crate) after: Option<Offset>,
}

/// Retained messages on their way.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) filters: Vec<Filter>,
    pub(crate) terms: Terms,
    /// Newer ones come as live messages.
    pub(crate) start: Positions,
    /// The partition that is asked next.
    pub(crate) partition: u16,
    /// Topics up to here were asked for.
    pub(crate) after: Option<Topic>,
    /// What the store found there.
    pub(crate) waiting: VecDeque<Arc<Record>>,
}

/// What a lagging connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Its turn.
    Ready,
    /// A page of history, up to this offset.
    Reading(AskId, Offset),
    /// A page of retained messages.
    Greeting(AskId),
    /// What was sent before.
    Again(AskId),
    /// The record of its session that makes a tag durable.
    Saving,
    /// The record of its session that makes a subscription durable, whose confirmation comes before any message.
    Unconfirmed,
    /// Room among the reads that wait for the store.
    Parked,
    /// The moment to ask again for a page that could not be read.
    Retrying(Monotonic),
    /// Room in its outbox.
    Full,
    /// Room in its session's window.
    Window,
    /// Its end.
    Ended,
}

impl State {
    /// What a delivery that is acknowledged up to a cursor waits for, if its window doesn't take it.
    pub(crate) fn of(window: &Window) -> Option<Self> {
        if window.is_held() { Some(State::Unconfirmed) } else { window.is_full().then_some(State::Window) }
    }

    /// Whether the peer is to do something: it takes less than there is.
    pub(crate) fn is_up_to_peer(self) -> bool {
        matches!(self, State::Full | State::Window)
    }
}

impl Lag {
    /// A connection that has everything up to `positions`, and knows of losses up to `told`.
    pub(crate) fn new(positions: Positions, told: Positions) -> Self {
        let partitions = positions.len();
        Self {
            positions,
            sinces: Vec::new(),
            told,
            kept_until: SmallVec::from_elem(Offset::BEGINNING, partitions),
            opening: SmallVec::from_elem(false, partitions),
            rest: None,
            lost: None,
            owed: None,
            again: VecDeque::new(),
            found: VecDeque::new(),
            quiet_until: SmallVec::from_elem(Offset::BEGINNING, partitions),
            greetings: VecDeque::new(),
            state: State::Ready,
            is_close: SmallVec::from_elem(false, partitions),
            delivered: 0,
            failures: 0,
            slow: false,
        }
    }

    /// It goes on when that has come.
    pub(crate) fn wait_for(&mut self, state: State) {
        (self.state, self.slow) = (state, state.is_up_to_peer());
    }

    /// Where its `nth` filter begins.
    pub(crate) fn since(&self, nth: usize, partition: usize) -> Offset {
        self.sinces.get(nth).map_or(Offset::BEGINNING, |since| since.offsets[partition])
    }

    /// Has its `nth` filter begin behind an offset.
    pub(crate) fn begin_behind(&mut self, nth: usize, partition: usize, offset: Offset) {
        let partitions = self.positions.len();
        let anywhere = || Since { offsets: SmallVec::from_elem(Offset::BEGINNING, partitions), earliest: false };
        if self.sinces.len() <= nth {
            self.sinces.resize_with(nth + 1, anywhere);
        }
        let since = &mut self.sinces[nth].offsets[partition];
        *since = offset.max(*since);
    }

    /// Whether a loss of the `nth` filter in this partition is where it begins, and no gap.
    pub(crate) fn is_opening(&self, nth: usize, partition: usize) -> bool {
        self.opening[partition] && self.sinces.get(nth).is_some_and(|since| since.earliest)
    }

    /// The ask whose answer it waits for.
    pub(crate) fn asked(&self) -> Option<AskId> {
        match self.state {
            State::Reading(ask, _) | State::Greeting(ask) | State::Again(ask) => Some(ask),
            _ => None,
        }
    }
}
