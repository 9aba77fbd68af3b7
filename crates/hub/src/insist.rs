//! What a worker says in the log of a group it says until the log takes it: a member that nobody knows is gone would be
//! drawn for messages that nobody reads.

use std::collections::{BTreeMap, BTreeSet};

use everywire_base::ask::{Append, Draft, PublishError, Published};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::record::{Durability, Message};

use crate::session::RETRY;
use crate::{Hub, OWN};

/// The place of who says something in the log of a group.
pub(crate) const SAYER: Slot = Slot { index: OWN, generation: u32::MAX - 2 };

/// Records on their way to the log, which must take them.
#[derive(Debug, Default)]
pub(crate) struct Insisted {
    under_way: BTreeMap<u32, Draft>,
    again: BTreeSet<(Monotonic, u32)>,
    last: u32,
}

impl Insisted {
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.again.first().map(|(at, _)| *at)
    }
}

impl Hub {
    pub(crate) fn insist_passing(&mut self, message: Message) {
        self.insist(Draft { message, durability: Durability::None });
    }

    /// Appends a record that the log must take.
    pub(crate) fn insist(&mut self, draft: Draft) {
        let insisted = &mut self.groups.insisted;
        insisted.last = insisted.last.wrapping_add(1);
        let number = insisted.last;
        insisted.under_way.insert(number, draft);
        self.say_again(number);
    }

    fn say_again(&mut self, number: u32) {
        let Some(draft) = self.groups.insisted.under_way.get(&number).cloned() else { return };
        let ticket = Ticket { worker: self.setup.worker, slot: SAYER, ask: AskId(number) };
        self.appends.push(Append::new(ticket, draft));
    }

    /// What came of an append, if it was insisted on.
    pub(crate) fn insisted(&mut self, ticket: Ticket, result: &Result<Published, PublishError>, now: Now) -> bool {
        if ticket.slot != SAYER {
            return false;
        }
        let insisted = &mut self.groups.insisted;
        match result {
            Ok(_) | Err(PublishError::Closing) => drop(insisted.under_way.remove(&ticket.ask.0)),
            Err(_) => drop(insisted.again.insert((now.monotonic + RETRY, ticket.ask.0))),
        }
        true
    }

    /// Says again what the log has refused, and reads again what could not be read.
    pub(crate) fn see_to_groups(&mut self, now: Now) {
        self.read_groups_again(now);
        while let Some((_, number)) = self.groups.insisted.again.first().copied().filter(|(at, _)| *at <= now.monotonic)
        {
            self.groups.insisted.again.pop_first();
            self.forget_overtaken(number);
            self.say_again(number);
        }
    }

    /// What was to be said of who waits isn't true any more if somebody has come.
    fn forget_overtaken(&mut self, number: u32) {
        let Some(Draft { message, .. }) = self.groups.insisted.under_way.get(&number) else { return };
        let waits = message.retain && !message.body.is_empty();
        if waits && self.groups.all.get(&message.topic).is_none_or(|group| !group.members().is_empty()) {
            self.groups.insisted.under_way.remove(&number);
        }
    }
}
