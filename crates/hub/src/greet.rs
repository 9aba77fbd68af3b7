//! What comes before the log's messages: what was sent before and not acknowledged, and retained messages.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use everywire_base::ask::{Page, ReadKind};
use everywire_base::clock::Now;
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::id::Slot;
use everywire_base::parcel::{Delivery, Parcel, Taken};
use everywire_base::record::Record;
use everywire_base::terms::{Manner, Terms};
use everywire_base::topic::{Filter, Topic};
use smallvec::SmallVec;

use crate::lag::{Greeting, Lag, State};
use crate::manner::{Matched, Outgoing};
use crate::window::{Sent, Stage};
use crate::{Deliver, Hub};

/// The most retained messages that are read at once.
const PAGE: usize = 256;
/// The most records that are read again at once.
const AGAIN: usize = 256;

impl Hub {
    /// Hands over retained messages, or asks for them; `false` if it must wait.
    pub(crate) fn greet(
        &mut self,
        slot: Slot,
        lag: &mut Lag,
        share: &mut usize,
        now: Now,
        to: &mut dyn Deliver,
    ) -> bool {
        let partitions = self.marks.len();
        let Some(greeting) = lag.greetings.front_mut() else { return true };
        while let Some(record) = greeting.waiting.front() {
            let partition = usize::from(record.partition.0);
            // A newer one comes as a live message.
            let is_expired = record.message().is_some_and(|message| message.is_expired(now.wall));
            let is_due = record.offset <= greeting.start[partition] && !is_expired;
            let begun = self.cursor(&greeting.start);
            if let Some(parcel) = Parcel::retained(Arc::clone(record), begun).filter(|_| is_due) {
                if let Err(state) = self.send_retained(slot, &parcel, greeting.terms, to) {
                    lag.state = state;
                    return false;
                }
                *share = share.saturating_sub(1);
                lag.delivered += 1;
            }
            greeting.waiting.pop_front();
        }
        let partition = usize::from(greeting.partition);
        if partition < partitions {
            let kind = ReadKind::Retained { after: greeting.after.clone(), max_records: PAGE };
            self.ask(slot, lag, partition, kind);
            return false;
        }
        lag.greetings.pop_front();
        true
    }

    fn send_retained(&mut self, slot: Slot, parcel: &Parcel, terms: Terms, to: &mut dyn Deliver) -> Result<(), State> {
        let manner = Manner { retain: true, ..Manner::PLAIN };
        let (_, window) = self.connections.reach(slot.index).parts();
        if let Some(window) = window.filter(|window| window.is_tagged()) {
            let matched = Matched::retained(terms, parcel.message());
            let partition = usize::from(parcel.record().partition.0);
            let outgoing = Outgoing { parcel, matched: &matched, partition, retained: true };
            outgoing.send(window, |delivery| to.deliver(slot, delivery))?;
        } else if to.deliver(slot, &Delivery::Retained(parcel, manner)) == Taken::Full {
            return Err(State::Full);
        }
        self.counters.deliveries += 1;
        self.counters.retained += 1;
        Ok(())
    }

    /// Hands over again what was sent before, or asks for it; `false` if it must wait.
    pub(crate) fn repeat(&mut self, slot: Slot, lag: &mut Lag, share: &mut usize, to: &mut dyn Deliver) -> bool {
        while let Some((sent, record)) = lag.found.front() {
            // Its client may take fewer at once than it took before.
            let waiting = lag.found.len() + lag.again.len();
            let is_full = self.session(slot.index).is_some_and(|session| session.window.is_full_but_for(waiting));
            if is_full && sent.stage != Stage::Released {
                lag.state = State::Window;
                return false;
            }
            if self.send_one_again(slot, (*sent, record.as_ref()), self.cursor(&lag.positions), to) == Taken::Full {
                lag.state = State::Full;
                return false;
            }
            *share = share.saturating_sub(1);
            lag.delivered += 1;
            lag.found.pop_front();
        }
        let run = run_of(&lag.again);
        let Some(partition) = lag.again.front().map(|sent| usize::from(sent.partition)) else { return true };
        let offsets: Arc<[Offset]> = lag.again.iter().take(run).map(|sent| sent.offset).collect();
        self.ask(slot, lag, partition, ReadKind::Records(offsets));
        false
    }

    fn send_one_again(
        &mut self,
        slot: Slot,
        (sent, record): (Sent, Option<&Arc<Record>>),
        stands: Cursor,
        to: &mut dyn Deliver,
    ) -> Taken {
        let Some(tag) = NonZeroU16::new(sent.tag) else { return Taken::Yes };
        let who = self.caller(slot.index);
        let may_have = |topic: &Topic| self.grants(who.as_deref(), &Filter::Exact(topic.clone())).is_ok();
        let is_wanted =
            |r: &&Arc<Record>| sent.stage != Stage::Released && r.message().is_some_and(|m| may_have(&m.topic));
        let parcel = record.filter(is_wanted).cloned().and_then(|record| {
            if sent.retained { Parcel::retained(record, stands) } else { Parcel::new(record, stands.epoch) }
        });
        let Some(parcel) = parcel else { return self.give_up(slot, sent, tag, to) };
        let identifiers = self.identifiers(slot.index, &parcel);
        let manner =
            Manner { qos: sent.qos(), tag: Some(tag), again: true, retain: sent.retained, identifiers: &identifiers };
        self.counters.deliveries += 1;
        let delivery =
            if sent.retained { Delivery::Retained(&parcel, manner) } else { Delivery::Message(&parcel, manner) };
        to.deliver(slot, &delivery)
    }

    /// The message is received, or there no more: at least once that is a gap, exactly once it is released (RULES 13).
    fn give_up(&mut self, slot: Slot, sent: Sent, tag: NonZeroU16, to: &mut dyn Deliver) -> Taken {
        self.counters.gaps += u64::from(sent.stage != Stage::Released);
        let (_, window) = self.connections.reach(slot.index).parts();
        let Some(window) = window else { return Taken::Yes };
        if sent.stage == Stage::Sent {
            window.done(sent.tag, |_, _| true);
            return Taken::Yes;
        }
        window.set(sent.tag, Stage::Released);
        to.deliver(slot, &Delivery::Release(tag))
    }

    /// The numbers of a connection's subscriptions that take a message.
    fn identifiers(&self, index: u32, parcel: &Parcel) -> SmallVec<[u32; 4]> {
        let topic = &parcel.message().topic;
        let taking = self.held(index).iter().filter(|held| self.table.filter(held.list).matches(topic));
        taking.map(|held| Terms::unpack(held.terms).identifier).filter(|number| *number > 0).collect()
    }
}

/// How many of what is sent again are read together.
fn run_of(again: &VecDeque<Sent>) -> usize {
    let partition = again.front().map(|sent| sent.partition);
    again.iter().take(AGAIN).take_while(|sent| Some(sent.partition) == partition).count()
}

impl Lag {
    /// Takes what the store found of what is sent again.
    pub(crate) fn take_again(&mut self, records: &[Arc<Record>]) {
        let run = run_of(&self.again);
        let found = |sent: Sent| (sent, records.iter().find(|record| record.offset == sent.offset).cloned());
        self.found.extend(self.again.drain(..run).map(found));
    }
}

impl Greeting {
    /// A filter is left: what only it takes is not wanted any more. Says whether something is still wanted.
    pub(crate) fn leave(&mut self, filter: &Filter) -> bool {
        self.filters.retain(|other| other != filter);
        let is_wanted = |record: &Arc<Record>| {
            record.message().is_some_and(|message| self.filters.iter().any(|filter| filter.matches(&message.topic)))
        };
        self.waiting.retain(is_wanted);
        !self.filters.is_empty()
    }

    /// Takes a page of what the store found in the partition that was asked.
    pub(crate) fn take(&mut self, page: &Page) {
        self.waiting.extend(page.records.iter().cloned());
        self.after.clone_from(&page.next);
        self.partition += u16::from(page.next.is_none());
    }
}
