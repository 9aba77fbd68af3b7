//! Handing messages and gaps to one lagging connection.
//!
//! A gap is said before anything that lies after it, and is said once: losses that were told are remembered until the
//! connection is live.

use std::sync::Arc;

use everywire_base::ask::Lost;
use everywire_base::clock::Now;
use everywire_base::cursor::{Cursor, Epoch, Offset, Partition};
use everywire_base::id::Slot;
use everywire_base::identity::Identity;
use everywire_base::parcel::{Delivery, Gap, Taken};
use everywire_base::reason::Reason;
use everywire_base::record::Record;
use everywire_base::rules::{Rules, SlowConsumer};
use everywire_base::terms::{DeliveryOptions, Terms};
use everywire_base::topic::{Filter, Topic};
use smallvec::SmallVec;

use super::Shares;
use super::fanout::FINDS_PER_DELIVERY;
use super::lag::{Lag, State};
use super::outgoing::{Matched, Outgoing};
use super::parcels::Parcels;
use super::recalls::Recalls;
use super::table::{Held, Table};
use super::window::{Sent, Window};
use crate::floor::{Counters, Deliver};

/// The number of filters up to which they are tried one by one; more are found through the table.
const FEW: usize = 4;

/// The result of telling of a loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LossReport {
    /// There was none, or none that is news.
    Nothing,
    /// It is noted, and said if it is a gap. Smaller losses of other filters may have hidden behind it.
    News,
    /// There was no room for it, or it was the end.
    Stopped,
}

/// One lagging connection and one partition, for the time of a step.
pub(super) struct Replay<'a> {
    pub(crate) slot: Slot,
    /// The identity that reads.
    pub(crate) who: Option<Arc<Identity>>,
    pub(crate) partition: usize,
    pub(crate) epoch: Epoch,
    pub(crate) held: &'a [Held],
    /// The window of its session, if it has one.
    pub(crate) window: Option<&'a mut Window>,
    pub(crate) table: &'a Table,
    pub(crate) shares: &'a dyn Shares,
    pub(crate) seat: u64,
    pub(crate) rules: &'a Rules,
    pub(super) parcels: &'a mut Parcels,
    pub(super) recalls: &'a Recalls,
    pub(crate) counters: &'a mut Counters,
    pub(crate) now: Now,
    pub(crate) to: &'a mut dyn Deliver,
}

impl Replay<'_> {
    /// Offers the next record; `false` if there was no room for it.
    pub(super) fn offer(&mut self, lag: &mut Lag, record: &Arc<Record>, share: &mut usize) -> bool {
        if record.offset <= lag.positions[self.partition] {
            return true;
        }
        if self.held.len() > FEW {
            *share = share.saturating_sub(self.held.len() / FINDS_PER_DELIVERY);
        }
        let takers = self.takers_of(lag, record);
        if !takers.is_empty() {
            match self.send(lag, record, &takers) {
                Err(state) => {
                    lag.wait_for(state);
                    return false;
                }
                Ok(true) => {
                    *share = share.saturating_sub(1);
                    lag.delivered += 1;
                    self.counters.deliveries += 1;
                }
                Ok(false) => {}
            }
        }
        lag.positions[self.partition] = record.offset;
        true
    }

    /// Hands over a record that some filters take. Says whether it went out, or the state in which it waits.
    fn send(&mut self, lag: &Lag, record: &Arc<Record>, takers: &[Held]) -> Result<bool, State> {
        let (slot, partition) = (self.slot, self.partition);
        let Some(parcel) = self.parcels.of(record, self.epoch, self.now.wall) else { return Ok(false) };
        let mut deliver = |delivery: &Delivery<'_>| self.to.deliver(slot, delivery);
        let plain = Delivery::Message(&parcel, DeliveryOptions::PLAIN);
        let Some(window) = self.window.as_deref_mut().filter(|window| window.is_tagged()) else {
            if let Some(state) = self.window.as_ref().and_then(|window| State::of(window)) {
                return Err(state);
            }
            if deliver(&plain) == Taken::Full {
                return Err(State::Full);
            }
            if let Some(window) = &mut self.window {
                window.push(Sent::up_to(partition, record.offset));
            }
            return Ok(true);
        };
        let terms = takers.iter().map(|held| Terms::unpack(held.terms));
        let Some(matched) = Matched::of(terms, parcel.message(), window.origin()) else { return Ok(false) };
        if matched.qos == 0 && record.offset <= lag.quiet_until[partition] {
            return Ok(false);
        }
        let outgoing = Outgoing { parcel: &parcel, matched: &matched, partition, retained: false };
        outgoing.send(window, deliver)
    }

    /// Reserves a tag for a record that comes next, so that tags become durable together; `false` if no more may be
    /// reserved.
    pub(super) fn reserve(&mut self, lag: &Lag, record: &Arc<Record>) -> bool {
        let takers = self.takers_of(lag, record);
        let (Some(window), Some(message)) = (self.window.as_deref_mut(), record.message()) else { return false };
        if !window.may_reserve() {
            return false;
        }
        let terms = takers.iter().map(|held| Terms::unpack(held.terms));
        let matched = Matched::of(terms, message, window.origin());
        let is_once = matched.is_some_and(|matched| matched.qos == 2);
        if is_once && window.known(self.partition, record.offset, false).is_none() {
            window.reserve(self.partition, record.offset, false);
        }
        true
    }

    /// The filters that take a record; none if it has expired or was recalled.
    fn takers_of(&mut self, lag: &Lag, record: &Record) -> SmallVec<[Held; 4]> {
        let Some(message) = record.message() else { return SmallVec::new() };
        let has_begun = |nth: usize| lag.since(nth, self.partition) < record.offset;
        let mut lists = SmallVec::new();
        let is_few = self.held.len() <= FEW;
        if !is_few {
            self.table.matching(&message.topic, &mut lists);
            lists.sort_unstable();
        }
        let is_taken = |held: &Held| {
            if is_few {
                self.table.filter(held.list).matches(&message.topic)
            } else {
                lists.binary_search(&held.list).is_ok()
            }
        };
        let is_for = |held: &Held| {
            let share = self.table.share(held.list);
            share.is_none_or(|topic| self.shares.takes(topic, (self.seat, self.slot), record.offset))
        };
        let all = self.held.iter().enumerate();
        let all = all.filter(|(nth, held)| has_begun(*nth) && is_taken(held) && is_for(held));
        let all: SmallVec<[Held; 4]> = all.map(|(_, held)| *held).collect();
        if !all.is_empty() && message.is_expired(self.now.wall) {
            self.counters.expired += 1;
            return SmallVec::new();
        }
        if !all.is_empty()
            && (self.recalls.contains(record) || !self.rules.may_see(self.who.as_deref(), &message.topic))
        {
            return SmallVec::new();
        }
        all
    }

    /// Says a loss of the store's, if it is news and a gap.
    pub(super) fn say_lost(&mut self, lag: &mut Lag, lost: Option<&Lost>) -> LossReport {
        let told = |is_said| if is_said { LossReport::News } else { LossReport::Stopped };
        if lag.first_gap.is_some() {
            return told(self.say_first_gap(lag, lost));
        }
        let Some(lost) = lost.filter(|lost| lost.up_to > lag.known_losses[self.partition]) else {
            return LossReport::Nothing;
        };
        let topic = Topic::parse(&lost.topic).ok();
        if !self.is_loss(lag, lost, topic.as_ref()) {
            let is_news = self.takers(lag, lost, topic.as_ref()).next().is_some();
            self.note(lag, lost);
            return if is_news { LossReport::News } else { LossReport::Nothing };
        }
        if lag.slow && topic.is_some_and(|topic| closes(self.rules, &topic)) {
            lag.state = State::Ended;
            self.counters.slow_consumers += 1;
            self.to.end(self.slot, Reason::SlowConsumer);
            return LossReport::Stopped;
        }
        let (after, goes_on) = (Some(lag.positions[self.partition]), self.goes_on(lag, Some(lost)));
        let is_said = self.deliver_gap(lag, lost.topic.clone(), after, goes_on);
        if is_said {
            lag.positions[self.partition] = goes_on;
            self.note(lag, lost);
        }
        told(is_said)
    }

    /// Notes a loss, so that it isn't news again. A filter of exactly this topic begins behind it from now on: nothing
    /// from before a gap may follow it.
    fn note(&self, lag: &mut Lag, lost: &Lost) {
        let topic = Topic::parse(&lost.topic).ok();
        let takers: SmallVec<[usize; 4]> = self.takers(lag, lost, topic.as_ref()).collect();
        for nth in takers {
            if matches!(self.table.filter(self.held[nth].list), Filter::Exact(_)) {
                lag.begin_behind(nth, self.partition, lost.up_to);
            } else {
                // It may take other topics that have lost nothing.
                lag.known_losses[self.partition] = lag.known_losses[self.partition].max(lost.up_to);
            }
        }
    }

    /// Whether a loss hits a filter that had begun before it; records missing before "the earliest kept" are no loss.
    fn is_loss(&self, lag: &Lag, lost: &Lost, topic: Option<&Topic>) -> bool {
        self.takers(lag, lost, topic).any(|nth| !lag.is_opening(nth, self.partition))
    }

    /// The filters that had begun before a loss and take its topic.
    fn takers<'b>(
        &'b self,
        lag: &'b Lag,
        lost: &'b Lost,
        topic: Option<&'b Topic>,
    ) -> impl Iterator<Item = usize> + 'b {
        let takes = move |(nth, held): &(usize, &Held)| {
            let filter = self.table.filter(held.list);
            let takes = filter.as_str() == &*lost.topic || topic.is_some_and(|topic| filter.matches(topic));
            takes && lag.since(*nth, self.partition) < lost.up_to
        };
        self.held.iter().enumerate().filter(takes).map(|(nth, _)| nth)
    }

    /// Says the gap that the connection's cursor came with.
    pub(super) fn say_first_gap(&mut self, lag: &mut Lag, lost: Option<&Lost>) -> bool {
        let Some(first_gap) = lag.first_gap else { return true };
        let filter = self.held.first().map_or("", |held| self.table.filter(held.list).as_str());
        let topic = lost.map_or_else(|| filter.into(), |lost| lost.topic.clone());
        let goes_on = self.goes_on(lag, lost);
        if !self.deliver_gap(lag, topic, first_gap.after, goes_on) {
            return false;
        }
        lag.positions[self.partition] = goes_on;
        if let Some(lost) = lost {
            self.note(lag, lost);
        }
        lag.first_gap = None;
        true
    }

    /// The offset from which everything is there again: the end of the loss, if it is of the only topic that the
    /// connection reads; else its position, since the other topics have lost nothing.
    fn goes_on(&self, lag: &Lag, lost: Option<&Lost>) -> Offset {
        let position = lag.positions[self.partition];
        match (self.held, lost) {
            ([held], Some(lost)) if matches!(self.table.filter(held.list), Filter::Exact(_)) => {
                position.max(lost.up_to)
            }
            _ => position,
        }
    }

    /// Says the gap of a hole. Reading goes on at `goes_on`, and the hole is no news up to `up_to`.
    pub(super) fn say_hole(&mut self, lag: &mut Lag, topic: Box<str>, (goes_on, up_to): (Offset, Offset)) -> bool {
        let after = Some(lag.positions[self.partition]);
        let is_said = self.deliver_gap(lag, topic, after, goes_on);
        if is_said {
            lag.positions[self.partition] = goes_on;
            lag.known_losses[self.partition] = lag.known_losses[self.partition].max(up_to);
        }
        is_said
    }

    fn deliver_gap(&mut self, lag: &mut Lag, topic: Box<str>, after: Option<Offset>, goes_on: Offset) -> bool {
        let own = Partition(self.partition as u16);
        let others = lag.positions.iter().enumerate().map(|(p, at)| (Partition(p as u16), *at));
        let positions = others.map(|(p, at)| if p == own { (p, goes_on) } else { (p, at) });
        let earliest = Cursor::new(self.epoch, positions).expect("a log has at least one partition");
        let gap = Gap { topic, after, earliest, time: self.now.wall };
        if self.to.deliver(self.slot, &Delivery::Gap(&gap)) == Taken::Full {
            lag.wait_for(State::Full);
            return false;
        }
        lag.delivered += 1;
        lag.lost = Some(gap.topic);
        self.counters.gaps += 1;
        true
    }
}

/// Whether falling behind a topic without history ends the connection.
fn closes(rules: &Rules, topic: &Topic) -> bool {
    let rule = rules.of(topic);
    rule.slow_consumer == SlowConsumer::Close && !rule.keeps_history()
}
