//! The messages that come before the log's: earlier deliveries that aren't acknowledged, and retained messages.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use everywire_base::ask::{Page, ReadKind};
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::id::Slot;
use everywire_base::parcel::{Delivery, Parcel, Taken};
use everywire_base::record::Record;
use everywire_base::terms::{DeliveryOptions, Terms};
use everywire_base::topic::{Filter, Topic};
use smallvec::SmallVec;

use super::Turn;
use super::lag::{Greeting, Lag, State};
use super::outgoing::{Matched, Outgoing};
use super::window::{Sent, Stage};

/// The most retained messages that are read at once.
const PAGE: usize = 256;
/// The most records that are read again at once.
const AGAIN: usize = 256;

impl super::Deliveries {
    /// Hands over retained messages, or asks for them; `false` if it must wait.
    pub(super) fn greet(&mut self, slot: Slot, lag: &mut Lag, share: &mut usize, turn: &mut Turn<'_>) -> bool {
        let partitions = self.marks.len();
        let Some(greeting) = lag.greetings.front_mut() else { return true };
        while let Some(record) = greeting.waiting.front() {
            let partition = usize::from(record.partition.0);
            // A newer one comes as a live message.
            let is_expired = record.message().is_some_and(|message| message.is_expired(turn.now.wall));
            let is_theirs = record.message().is_some_and(|message| turn.floor.may_see(slot.index, &message.topic));
            let is_due = record.offset <= greeting.start[partition]
                && !is_expired
                && is_theirs
                && !self.recalls.contains(record);
            let begun = turn.floor.cursor(&greeting.start);
            if let Some(parcel) = Parcel::retained(Arc::clone(record), begun).filter(|_| is_due) {
                if let Err(state) = self.send_retained(slot, &parcel, greeting.terms, turn) {
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
            self.ask(slot, lag, partition, kind, turn.floor);
            return false;
        }
        lag.greetings.pop_front();
        true
    }

    fn send_retained(&mut self, slot: Slot, parcel: &Parcel, terms: Terms, turn: &mut Turn<'_>) -> Result<(), State> {
        let options = DeliveryOptions { retain: true, ..DeliveryOptions::PLAIN };
        let (_, window) = self.connections.reach(slot.index).parts();
        if let Some(window) = window.filter(|window| window.is_tagged()) {
            let matched = Matched::retained(terms, parcel.message());
            let partition = usize::from(parcel.record().partition.0);
            let outgoing = Outgoing { parcel, matched: &matched, partition, retained: true };
            outgoing.send(window, |delivery| turn.to.deliver(slot, delivery))?;
        } else if turn.to.deliver(slot, &Delivery::Retained(parcel, options)) == Taken::Full {
            return Err(State::Full);
        }
        turn.floor.counters.deliveries += 1;
        turn.floor.counters.retained += 1;
        Ok(())
    }

    /// Hands over again the deliveries that were sent before, or asks for their records; `false` if it must wait.
    pub(super) fn repeat(&mut self, slot: Slot, lag: &mut Lag, share: &mut usize, turn: &mut Turn<'_>) -> bool {
        while let Some((sent, record)) = lag.found.front() {
            // Its client may take fewer at once than it took before.
            let waiting = lag.found.len() + lag.again.len();
            let is_full = self.window(slot.index).is_some_and(|window| window.is_full_but_for(waiting));
            if is_full && sent.stage != Stage::Released {
                lag.state = State::Window;
                return false;
            }
            let stands = turn.floor.cursor(&lag.positions);
            if self.send_one_again(slot, (*sent, record.as_ref()), stands, turn) == Taken::Full {
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
        self.ask(slot, lag, partition, ReadKind::Records(offsets), turn.floor);
        false
    }

    fn send_one_again(
        &mut self,
        slot: Slot,
        (sent, record): (Sent, Option<&Arc<Record>>),
        stands: Cursor,
        turn: &mut Turn<'_>,
    ) -> Taken {
        let Some(tag) = NonZeroU16::new(sent.tag) else { return Taken::Yes };
        let who = turn.floor.caller(slot.index).map(|who| &**who);
        let may_have = |topic: &Topic| turn.floor.grants(who, &Filter::Exact(topic.clone())).is_ok();
        let is_wanted =
            |r: &&Arc<Record>| sent.stage != Stage::Released && r.message().is_some_and(|m| may_have(&m.topic));
        let record = record.filter(|record| !self.recalls.contains(record));
        let parcel = record.filter(is_wanted).cloned().and_then(|record| {
            if sent.retained { Parcel::retained(record, stands) } else { Parcel::new(record, stands.epoch) }
        });
        let Some(parcel) = parcel else { return self.give_up(slot, sent, tag, turn) };
        let identifiers = self.identifiers(slot.index, &parcel);
        let options = DeliveryOptions {
            qos: sent.qos(),
            tag: Some(tag),
            dup: true,
            retain: sent.retained,
            identifiers: &identifiers,
        };
        turn.floor.counters.deliveries += 1;
        let delivery =
            if sent.retained { Delivery::Retained(&parcel, options) } else { Delivery::Message(&parcel, options) };
        turn.to.deliver(slot, &delivery)
    }

    /// Gives up a delivery whose message is received, gone or not granted any more: `QoS` 1 frees the tag, `QoS` 2 is
    /// released (RULES 13).
    fn give_up(&mut self, slot: Slot, sent: Sent, tag: NonZeroU16, turn: &mut Turn<'_>) -> Taken {
        turn.floor.counters.gaps += u64::from(sent.stage != Stage::Released);
        let (_, window) = self.connections.reach(slot.index).parts();
        let Some(window) = window else { return Taken::Yes };
        if sent.stage == Stage::Sent {
            window.done(sent.tag, |_, _| true);
            return Taken::Yes;
        }
        window.set(sent.tag, Stage::Released);
        turn.to.deliver(slot, &Delivery::Release(tag))
    }

    /// The numbers of a connection's subscriptions that take a message.
    fn identifiers(&self, index: u32, parcel: &Parcel) -> SmallVec<[u32; 4]> {
        let topic = &parcel.message().topic;
        let taking = self.held(index).iter().filter(|held| self.table.filter(held.list).matches(topic));
        taking.map(|held| Terms::unpack(held.terms).identifier).filter(|number| *number > 0).collect()
    }
}

/// The number of deliveries that are read again together: the first ones of one partition.
fn run_of(again: &VecDeque<Sent>) -> usize {
    let partition = again.front().map(|sent| sent.partition);
    again.iter().take(AGAIN).take_while(|sent| Some(sent.partition) == partition).count()
}

impl Lag {
    /// Takes the records that the store found for deliveries that are sent again.
    pub(super) fn take_again(&mut self, records: &[Arc<Record>]) {
        let run = run_of(&self.again);
        let found = |sent: Sent| (sent, records.iter().find(|record| record.offset == sent.offset).cloned());
        self.found.extend(self.again.drain(..run).map(found));
    }
}

impl Greeting {
    /// Drops a filter, and the messages that only it takes. Says whether a filter is left.
    pub(crate) fn leave(&mut self, filter: &Filter) -> bool {
        self.filters.retain(|other| other != filter);
        let is_wanted = |record: &Arc<Record>| {
            record.message().is_some_and(|message| self.filters.iter().any(|filter| filter.matches(&message.topic)))
        };
        self.waiting.retain(is_wanted);
        !self.filters.is_empty()
    }

    /// Takes a page of retained messages from the partition that was asked.
    pub(crate) fn take(&mut self, page: &Page) {
        self.waiting.extend(page.records.iter().cloned());
        self.after.clone_from(&page.next);
        self.partition += u16::from(page.next.is_none());
    }
}
