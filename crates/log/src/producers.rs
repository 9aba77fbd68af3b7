//! Producers: the progress of each with its ordered keys (`base::ordered`).
//!
//! A producer's numbers have no holes: a number is the next one, was accepted before, or is ahead of its turn. The
//! progress of a producer stands in a record of its own, in the same commit as its messages, so that it holds over
//! restarts for as long as the window says. Producers are bounded in number, in all and for each publisher: beyond a
//! bound the least recently used one is forgotten, whose publisher then begins anew under another name.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use everywire_base::ask::{PublishError, Published};
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::{Epoch, Offset};
use everywire_base::limits::Limits;
use everywire_base::ordered::OrderedKey;
use everywire_base::record::{Durability, Record, System};
use everywire_base::system::{self, PRODUCERS, ProducerState};
use everywire_base::topic::Topic;

use crate::idempotency::Answer;
use crate::share::Sharer;
use crate::siphash::SipHash;

/// The number of its last messages whose places are known.
const RECENT: usize = 16;

/// The producers, by their topics.
pub(crate) struct Producers {
    hash: SipHash,
    known: HashMap<Topic, Producer>,
    /// The producers in the order of their last use, all of them and those of each publisher.
    by_use: BTreeMap<u64, Topic>,
    shares: HashMap<Sharer, BTreeSet<u64>>,
    uses: u64,
    /// The records of the present batch, by their producers.
    batch: HashMap<Topic, InBatch>,
    window_ms: u64,
    max: usize,
    max_each: usize,
}

/// A producer as it is handed from one life to another.
pub(crate) struct KnownProducer {
    pub name: Topic,
    pub last: u64,
    /// The places of its last messages, the newest last.
    pub accepted: Vec<Published>,
    pub used: Monotonic,
    pub sharer: Option<Sharer>,
}

struct Producer {
    /// The highest number that was accepted, the place of its message, and the places of those before it.
    last: u64,
    newest: Published,
    before: VecDeque<Published>,
    used: Monotonic,
    /// The number of the use, which orders producers.
    last_use: u64,
    sharer: Option<Sharer>,
}

/// The records of a producer in a batch.
struct InBatch {
    /// The highest number before it.
    before: u64,
    /// The records of the batch with its numbers above that.
    indexes: Vec<usize>,
    sharer: Option<Sharer>,
}

impl Producers {
    pub(crate) fn new(limits: &Limits) -> Self {
        let window_ms = limits.ordered_window.as_millis() as u64;
        Self::with(SipHash::random(), window_ms, [limits.ordered_producers, limits.ordered_producers_each])
    }

    /// A table with a given hash, a window, and the bounds of all producers and of each publisher's.
    pub(crate) fn with(hash: SipHash, window_ms: u64, [max, max_each]: [usize; 2]) -> Self {
        Self {
            hash,
            known: HashMap::new(),
            by_use: BTreeMap::new(),
            shares: HashMap::new(),
            uses: 0,
            batch: HashMap::new(),
            window_ms,
            max,
            max_each,
        }
    }

    /// Returns the answer if the number was accepted before; else accepts it as the batch's `index`-th record.
    pub(crate) fn check(
        &mut self,
        key: OrderedKey,
        address: Option<IpAddr>,
        index: usize,
    ) -> Result<Option<Answer>, PublishError> {
        let sharer = self.sharer(&key.producer, address);
        self.check_for(key, sharer, index)
    }

    /// The same for the publisher in whose share the producer counts if it is new.
    pub(crate) fn check_for(
        &mut self,
        key: OrderedKey,
        sharer: Option<Sharer>,
        index: usize,
    ) -> Result<Option<Answer>, PublishError> {
        let OrderedKey { producer, number } = key;
        let known = self.known.get(&producer);
        let before = known.map_or(0, |known| known.last);
        if number <= before {
            return Ok(known.map(|known| Answer::Published(known.answer(number))));
        }
        let sharer = known.map_or(sharer, |known| known.sharer);
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

    /// Takes back the number that was accepted last: its message is refused after all.
    pub(crate) fn take_back(&mut self, producer: &Topic) {
        let Some(own) = self.batch.get_mut(producer) else { return };
        own.indexes.pop();
        if own.indexes.is_empty() {
            self.batch.remove(producer);
        }
    }

    fn sharer(&self, producer: &Topic, address: Option<IpAddr>) -> Option<Sharer> {
        let user = producer.as_str().split('/').nth(1).filter(|user| !user.is_empty());
        Sharer::of(&self.hash, user, address)
    }

    /// The records with the progress of the batch's producers.
    pub(crate) fn progress(&self, batch: &[Arc<Record>], now: UnixMillis) -> Vec<(System, Durability)> {
        let expires = Some(UnixMillis(now.0.saturating_add(self.window_ms)));
        let record = |(producer, own): (&Topic, &InBatch)| {
            let last = batch.get(*own.indexes.last()?)?;
            let is_synced = |index: &usize| batch.get(*index).is_some_and(|r| r.durability == Durability::Fsync);
            let durability = if own.indexes.iter().any(is_synced) { Durability::Fsync } else { Durability::Memory };
            let state = ProducerState {
                last: own.before + own.indexes.len() as u64,
                offset: last.offset.0,
                time_ms: last.time.0,
                durability: last.durability,
            };
            Some((System { expires, ..system::record(producer.clone(), &state, true) }, durability))
        };
        let mut records: Vec<_> = self.batch.iter().filter_map(record).collect();
        // The order follows from the batch alone.
        records.sort_by(|a, b| a.0.topic.as_str().cmp(b.0.topic.as_str()));
        records
    }

    /// Ends the batch: takes in the published records of each producer, up to its first that was not published.
    pub(crate) fn settle(&mut self, published: impl Fn(usize) -> Option<Published>, now: Monotonic) {
        for (producer, own) in std::mem::take(&mut self.batch) {
            let accepted: Vec<Published> = own.indexes.iter().map_while(|index| published(*index)).collect();
            self.advance(producer, own.before + accepted.len() as u64, &accepted, own.sharer, now);
        }
    }

    /// Takes in a record of the progress from before the start.
    pub(crate) fn restore(&mut self, record: &Record, epoch: Epoch, now: UnixMillis) {
        let Some(system) = record.system().filter(|s| s.topic.as_str().starts_with(PRODUCERS) && s.retain) else {
            return;
        };
        let Some(state) = system::read::<ProducerState>(system).filter(|_| !system.is_expired(now)) else { return };
        if self.known.get(&system.topic).is_some_and(|known| known.last >= state.last) {
            return;
        }
        let sharer = self.sharer(&system.topic, None);
        let last = Published {
            epoch,
            partition: record.partition,
            offset: Offset(state.offset),
            time: UnixMillis(state.time_ms),
            durability: state.durability,
            duplicate: true,
        };
        let used = Monotonic(record.time.min(now).0);
        self.advance(system.topic.clone(), state.last, &[last], sharer, used);
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
        let last_use = self.uses;
        self.by_use.insert(last_use, producer.clone());
        if let Some(sharer) = sharer {
            self.shares.entry(sharer).or_default().insert(last_use);
        }
        self.known.insert(producer, Producer { last, newest: again(newest), before, used, last_use, sharer });
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

    fn forget(&mut self, last_use: u64) {
        if let Some(producer) = self.by_use.get(&last_use).cloned() {
            self.remove(&producer);
        }
    }

    fn remove(&mut self, producer: &Topic) -> Option<Producer> {
        let known = self.known.remove(producer)?;
        self.by_use.remove(&known.last_use);
        if let Some(sharer) = known.sharer
            && let Some(own) = self.shares.get_mut(&sharer)
        {
            own.remove(&known.last_use);
            if own.is_empty() {
                self.shares.remove(&sharer);
            }
        }
        Some(known)
    }

    /// Forgets producers that were silent for the window.
    pub(crate) fn expire(&mut self, now: Monotonic) {
        while let Some((last_use, producer)) = self.by_use.first_key_value() {
            let is_over = |known: &Producer| known.used.0.saturating_add(self.window_ms) <= now.0;
            if !self.known.get(producer).is_some_and(is_over) {
                break;
            }
            self.forget(*last_use);
        }
    }

    /// All known producers, the least recently used one first, for the state of the next life.
    pub(crate) fn export(&self) -> impl Iterator<Item = KnownProducer> {
        self.by_use.values().filter_map(|name| {
            let known = self.known.get(name)?;
            let accepted = known.before.iter().chain([&known.newest]).copied().collect();
            Some(KnownProducer {
                name: name.clone(),
                last: known.last,
                accepted,
                used: known.used,
                sharer: known.sharer,
            })
        })
    }

    /// Takes over an exported producer; called in their order.
    pub(crate) fn import(&mut self, known: KnownProducer) {
        let KnownProducer { name, last, accepted, used, sharer } = known;
        self.advance(name, last, &accepted, sharer, used);
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

impl Producer {
    /// The answer to a number that was accepted, as far as it is known.
    fn answer(&self, number: u64) -> Published {
        let back = usize::try_from(self.last - number).unwrap_or(usize::MAX);
        match self.before.len().checked_sub(back) {
            _ if back == 0 => self.newest,
            Some(at) => self.before[at],
            None => Published { offset: Offset::BEGINNING, time: UnixMillis(0), ..self.newest },
        }
    }
}
