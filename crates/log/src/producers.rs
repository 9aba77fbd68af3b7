//! Producers: how far each has come with its ordered keys (`base::ordered`).
//!
//! A producer's numbers have no holes: what comes is the next one, one that was accepted before, or ahead of its turn. How
//! far it has come stands in a record of its own, in the same commit as its messages, so that it holds over restarts for
//! as long as the window says. Producers are bounded in number, and by whose they are: who has too many, or all together,
//! loses the one that was used least lately, which then begins anew under another name.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;

use everywire_base::ask::{PublishError, Published};
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::{Epoch, Offset};
use everywire_base::limits::Limits;
use everywire_base::ordered::OrderedKey;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::system::{self, PRODUCERS, ProducerState};
use everywire_base::topic::Topic;

use crate::idempotency::Answer;
use crate::share::Sharer;

/// Of so many of its last messages a producer's places are known.
const RECENT: usize = 16;

/// The producers, by their topics.
pub(crate) struct Producers {
    hasher: RandomState,
    known: HashMap<Topic, Producer>,
    /// In the order of their last use, all and by whose they are.
    by_use: BTreeMap<u64, Topic>,
    shares: HashMap<Sharer, BTreeSet<u64>>,
    uses: u64,
    /// What of the batch that is being made is whose.
    batch: HashMap<Topic, InBatch>,
    window_ms: u64,
    max: usize,
    max_each: usize,
}

struct Producer {
    /// The highest number that was accepted, and where it lies; and where those before it lie.
    last: u64,
    newest: Published,
    before: VecDeque<Published>,
    used: Monotonic,
    /// Counts uses.
    stamp: u64,
    sharer: Option<Sharer>,
}

/// What of a batch is a producer's.
struct InBatch {
    /// The highest number before it.
    before: u64,
    /// Its numbers above that are these records of the batch.
    indexes: Vec<usize>,
    sharer: Option<Sharer>,
}

impl Producers {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            hasher: RandomState::new(),
            known: HashMap::new(),
            by_use: BTreeMap::new(),
            shares: HashMap::new(),
            uses: 0,
            batch: HashMap::new(),
            window_ms: limits.ordered_window.as_millis() as u64,
            max: limits.ordered_producers,
            max_each: limits.ordered_producers_each,
        }
    }

    /// What to answer if the number was accepted before; else it is accepted as the batch's `index`-th record.
    pub(crate) fn check(
        &mut self,
        key: OrderedKey,
        address: Option<IpAddr>,
        index: usize,
    ) -> Result<Option<Answer>, PublishError> {
        let OrderedKey { producer, number } = key;
        let known = self.known.get(&producer);
        let before = known.map_or(0, |known| known.last);
        if number <= before {
            return Ok(known.map(|known| Answer::Published(known.answer(number))));
        }
        let sharer = known.map_or_else(|| self.sharer(&producer, address), |known| known.sharer);
        let Some(batch) = self.batch.get_mut(&producer) else {
            return match number - before {
                1 => {
                    self.batch.insert(producer, InBatch { before, indexes: vec![index], sharer });
                    Ok(None)
                }
                _ => Err(PublishError::OutOfOrder { expected: before + 1 }),
            };
        };
        let at = usize::try_from(number - before - 1).unwrap_or(usize::MAX);
        match batch.indexes.get(at) {
            Some(index) => Ok(Some(Answer::AgainInBatch(*index))),
            None if at == batch.indexes.len() => {
                batch.indexes.push(index);
                Ok(None)
            }
            None => Err(PublishError::OutOfOrder { expected: before + 1 + batch.indexes.len() as u64 }),
        }
    }

    fn sharer(&self, producer: &Topic, address: Option<IpAddr>) -> Option<Sharer> {
        let user = producer.as_str().split('/').nth(1).filter(|user| !user.is_empty());
        Sharer::of(&self.hasher, user, address)
    }

    /// The messages that say how far the producers of the batch have come.
    pub(crate) fn messages(&self, batch: &[Arc<Record>], now: UnixMillis) -> Vec<(Message, Durability)> {
        let expires = Some(UnixMillis(now.0.saturating_add(self.window_ms)));
        let message = |(producer, own): (&Topic, &InBatch)| {
            let last = batch.get(*own.indexes.last()?)?;
            let is_synced = |index: &usize| batch.get(*index).is_some_and(|r| r.durability == Durability::Fsync);
            let durability = if own.indexes.iter().any(is_synced) { Durability::Fsync } else { Durability::Memory };
            let state = ProducerState {
                last: own.before + own.indexes.len() as u64,
                offset: last.offset.0,
                time_ms: last.time.0,
                durability: last.durability,
            };
            Some((Message { expires, ..system::message(producer.clone(), &state, true) }, durability))
        };
        let mut messages: Vec<_> = self.batch.iter().filter_map(message).collect();
        // In an order that follows from the batch alone.
        messages.sort_by(|a, b| a.0.topic.as_str().cmp(b.0.topic.as_str()));
        messages
    }

    /// The batch is over: takes in what of it was published, up to the first of each producer that was not.
    pub(crate) fn settle(&mut self, published: impl Fn(usize) -> Option<Published>, now: Monotonic) {
        for (producer, own) in std::mem::take(&mut self.batch) {
            let accepted: Vec<Published> = own.indexes.iter().map_while(|index| published(*index)).collect();
            self.advance(producer, own.before + accepted.len() as u64, &accepted, own.sharer, now);
        }
    }

    /// Takes in what a record said before the start.
    pub(crate) fn restore(&mut self, record: &Record, epoch: Epoch, now: UnixMillis) {
        let Some(message) = record.message().filter(|m| m.topic.as_str().starts_with(PRODUCERS) && m.retain) else {
            return;
        };
        let Some(state) = system::read::<ProducerState>(message).filter(|_| !message.is_expired(now)) else { return };
        if self.known.get(&message.topic).is_some_and(|known| known.last >= state.last) {
            return;
        }
        let sharer = self.sharer(&message.topic, None);
        let last = Published {
            epoch,
            partition: record.partition,
            offset: Offset(state.offset),
            time: UnixMillis(state.time_ms),
            durability: state.durability,
            duplicate: true,
        };
        let used = Monotonic(record.time.min(now).0);
        self.advance(message.topic.clone(), state.last, &[last], sharer, used);
    }

    fn advance(&mut self, producer: Topic, last: u64, accepted: &[Published], sharer: Option<Sharer>, used: Monotonic) {
        let Some((newest, others)) = accepted.split_last() else { return };
        let again = |published: &Published| Published { duplicate: true, ..*published };
        let known = self.remove(&producer).map(|known| (known.before, known.newest));
        let mut before = known.map_or_else(VecDeque::new, |(mut before, newest)| {
            before.push_back(newest);
            before
        });
        before.extend(others.iter().map(again));
        before.drain(..before.len().saturating_sub(RECENT - 1));
        self.uses += 1;
        let stamp = self.uses;
        self.by_use.insert(stamp, producer.clone());
        if let Some(sharer) = sharer {
            self.shares.entry(sharer).or_default().insert(stamp);
        }
        self.known.insert(producer, Producer { last, newest: again(newest), before, used, stamp, sharer });
        let own = sharer.and_then(|sharer| self.shares.get(&sharer)).filter(|own| own.len() > self.max_each);
        if let Some(oldest) = own.and_then(|own| own.first().copied()) {
            self.forget(oldest);
        }
        if self.known.len() > self.max
            && let Some((oldest, _)) = self.by_use.first_key_value()
        {
            self.forget(*oldest);
        }
    }

    fn forget(&mut self, stamp: u64) {
        if let Some(producer) = self.by_use.get(&stamp).cloned() {
            self.remove(&producer);
        }
    }

    fn remove(&mut self, producer: &Topic) -> Option<Producer> {
        let known = self.known.remove(producer)?;
        self.by_use.remove(&known.stamp);
        if let Some(sharer) = known.sharer
            && let Some(own) = self.shares.get_mut(&sharer)
        {
            own.remove(&known.stamp);
            if own.is_empty() {
                self.shares.remove(&sharer);
            }
        }
        Some(known)
    }

    /// Forgets who was silent for the window.
    pub(crate) fn expire(&mut self, now: Monotonic) {
        while let Some((stamp, producer)) = self.by_use.first_key_value() {
            let is_over = |known: &Producer| known.used.0.saturating_add(self.window_ms) <= now.0;
            if !self.known.get(producer).is_some_and(is_over) {
                break;
            }
            self.forget(*stamp);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

impl Producer {
    /// What was answered to a number that was accepted, as far as it is known.
    fn answer(&self, number: u64) -> Published {
        let back = usize::try_from(self.last - number).unwrap_or(usize::MAX);
        match self.before.len().checked_sub(back) {
            _ if back == 0 => self.newest,
            Some(at) => self.before[at],
            None => Published { offset: Offset::BEGINNING, time: UnixMillis(0), ..self.newest },
        }
    }
}
