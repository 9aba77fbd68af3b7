//! A lagging connection: the position at which it reads, and the event that it waits for.

use std::collections::VecDeque;
use std::sync::Arc;

use everywire_base::clock::Monotonic;
use everywire_base::cursor::Offset;
use everywire_base::id::AskId;
use everywire_base::record::Record;
use everywire_base::terms::Terms;
use everywire_base::topic::{Filter, Topic};
use smallvec::SmallVec;

use super::window::{Sent, Window};

/// A position for each partition.
pub(crate) type Positions = SmallVec<[Offset; 1]>;

/// The state of such a connection; a live one has none.
#[derive(Debug)]
pub(super) struct Lag {
    /// The positions up to which it has everything.
    pub(crate) positions: Positions,
    /// The position at which each of its filters begins. Filters beyond the end begin before the read position.
    pub(super) sinces: Vec<Since>,
    /// The positions up to which losses are no news to it.
    pub(crate) known_losses: Positions,
    /// The positions up to which it reads only records that the store keeps, even if the tail still has more: it began
    /// at the earliest kept.
    pub(super) kept_until: Positions,
    /// The partitions of which no page has come yet: a loss there is the start of "the earliest kept", and no gap.
    pub(crate) opening: SmallVec<[bool; 1]>,
    /// The records of the last page that found no room.
    pub(super) rest: Option<Rest>,
    /// The topic of a gap that was said, and that operators haven't been told of.
    pub(crate) lost: Option<Box<str>>,
    /// A gap that must be said before anything else.
    pub(super) first_gap: Option<FirstGap>,
    /// Earlier deliveries that are sent again, before anything else.
    pub(crate) again: VecDeque<Sent>,
    /// Those of them that the store was asked for, each with the record that it found.
    pub(crate) found: VecDeque<(Sent, Option<Arc<Record>>)>,
    /// Messages at most once up to here are left out.
    pub(super) quiet_until: Positions,
    /// Retained messages that are wanted before anything else.
    pub(super) greetings: VecDeque<Greeting>,
    pub(crate) state: State,
    /// The partitions in which the store can't help: the tail is read, however far behind the connection is.
    pub(super) is_close: SmallVec<[bool; 1]>,
    /// The number of messages and gaps that were handed over while it lags.
    pub(super) delivered: u64,
    /// The number of pages that failed in a row.
    pub(super) failures: u32,
    /// Whether it lags because it took too little.
    pub(crate) slow: bool,
}

/// The start of a filter of a lagging connection.
#[derive(Clone, Debug)]
pub(super) struct Since {
    pub(crate) offsets: Positions,
    /// Whether that is the earliest kept message.
    pub(crate) earliest: bool,
}

/// The rest of a page: everything that the connection wants from its position on, up to an offset.
#[derive(Debug)]
pub(super) struct Rest {
    pub(crate) partition: usize,
    pub(crate) records: VecDeque<Arc<Record>>,
    pub(crate) up_to: Offset,
}

/// The most records of a page that are kept when there is no room for them, and the most bytes.
pub(super) const KEPT: (usize, usize) = (64, 16 << 10);

impl Rest {
    /// Keeps the first of the records that are left of a page that reaches up to an offset.
    pub(crate) fn of(partition: usize, left: &[Arc<Record>], up_to: Offset) -> Option<Self> {
        let mut bytes = 0;
        let fits = |record: &&Arc<Record>| {
            bytes += record.weight();
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
pub(super) struct FirstGap {
    /// The offset up to which it had everything, if that is known.
    pub(crate) after: Option<Offset>,
}

/// Retained messages on their way.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(crate) filters: Vec<Filter>,
    pub(crate) terms: Terms,
    /// The positions at which the subscription began; newer messages come as live ones.
    pub(crate) start: Positions,
    /// The partition that is asked next.
    pub(crate) partition: u16,
    /// The topic up to which topics were asked for.
    pub(crate) after: Option<Topic>,
    /// The messages that the store found there.
    pub(crate) waiting: VecDeque<Arc<Record>>,
}

/// The event that a lagging connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Its turn.
    Ready,
    /// A page of history, up to this offset.
    Reading(AskId, Offset),
    /// A page of retained messages.
    Greeting(AskId),
    /// The records of earlier deliveries.
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
    /// The state in which a delivery waits that is acknowledged up to a cursor, if its window doesn't take it.
    pub(crate) fn of(window: &Window) -> Option<Self> {
        if window.is_held() { Some(State::Unconfirmed) } else { window.is_full().then_some(State::Window) }
    }

    /// Whether the peer is to do something: it takes less than there is.
    pub(super) fn is_up_to_peer(self) -> bool {
        matches!(self, State::Full | State::Window)
    }
}

impl Lag {
    /// A connection that has everything up to `positions`, and knows of losses up to `known_losses`.
    pub(crate) fn new(positions: Positions, known_losses: Positions) -> Self {
        let partitions = positions.len();
        Self {
            positions,
            sinces: Vec::new(),
            known_losses,
            kept_until: SmallVec::from_elem(Offset::BEGINNING, partitions),
            opening: SmallVec::from_elem(false, partitions),
            rest: None,
            lost: None,
            first_gap: None,
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

    /// Makes the connection wait for this.
    pub(super) fn wait_for(&mut self, state: State) {
        (self.state, self.slow) = (state, state.is_up_to_peer());
    }

    /// The offset behind which its `nth` filter begins.
    pub(crate) fn since(&self, nth: usize, partition: usize) -> Offset {
        self.sinces.get(nth).map_or(Offset::BEGINNING, |since| since.offsets[partition])
    }

    /// Makes its `nth` filter begin behind an offset.
    pub(super) fn begin_behind(&mut self, nth: usize, partition: usize, offset: Offset) {
        let partitions = self.positions.len();
        let anywhere = || Since { offsets: SmallVec::from_elem(Offset::BEGINNING, partitions), earliest: false };
        if self.sinces.len() <= nth {
            self.sinces.resize_with(nth + 1, anywhere);
        }
        let since = &mut self.sinces[nth].offsets[partition];
        *since = offset.max(*since);
    }

    /// Whether a loss of the `nth` filter in this partition is its start, and no gap.
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
