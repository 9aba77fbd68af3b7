//! Reading a topic backwards for a wire: one page of the store. Whether the reader may is judged when it asks, and again
//! when the page is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use everywire_base::ask::{Asker, Interest, LookBack, NoPast, Page, Past, Read, ReadKind};
use everywire_base::cursor::{Cursor, Offset, Partition};
use everywire_base::id::{AskId, Slot, Ticket};
use everywire_base::rules::Refusal;
use everywire_base::topic::Filter;

use crate::{Hub, OWN, Said};

/// The place under which the store is asked.
const LOOKER: Slot = Slot { index: OWN, generation: u32::MAX - 3 };

/// Pages that are under way, each with who waits for it.
#[derive(Default)]
pub(crate) struct Looks {
    last: u32,
    waiting: BTreeMap<u32, Look>,
}

struct Look {
    slot: Slot,
    ask: AskId,
    what: LookBack,
    /// Whether what the reader had is not of this log.
    is_elsewhere: bool,
    /// Where the log ended when it asked.
    head: Offset,
}

impl Hub {
    /// Reads a topic backwards for a connection. The answer is among [`Hub::answers`].
    pub fn look_back(&mut self, slot: Slot, ask: AskId, what: LookBack) {
        if let Err(refusal) = self.may_look(slot, &what) {
            return self.say(slot, ask, Said::Past(Err(NoPast::Refused(refusal))));
        }
        if self.reads.len() + self.looks.waiting.len() >= self.setup.limits.read_queue {
            return self.say(slot, ask, Said::Past(Err(NoPast::Busy)));
        }
        let head = self.setup.tails[0].head();
        let (before, is_elsewhere) = self.place_before(what.before.as_ref());
        let kind = ReadKind::Backwards { before, max_records: what.limit, max_bytes: self.setup.limits.page_bytes };
        let interest = Interest { filter: Filter::Exact(what.topic.clone()), since: Offset::BEGINNING };
        self.looks.last = self.looks.last.wrapping_add(1);
        let ticket = Ticket { worker: self.setup.worker, slot: LOOKER, ask: AskId(self.looks.last) };
        self.looks.waiting.insert(self.looks.last, Look { slot, ask, what, is_elsewhere, head });
        let interests = Arc::from([interest]);
        self.reads.push_back(Read { ticket, partition: Partition(0), interests, applied: head, kind });
        self.counters.reads += 1;
    }

    /// Takes a page, if it was read backwards.
    pub(crate) fn take_past(&mut self, page: &Page) -> bool {
        if page.ticket.slot != LOOKER {
            return false;
        }
        if let Some(look) = self.looks.waiting.remove(&page.ticket.ask.0) {
            let (slot, ask) = (look.slot, look.ask);
            let past = self.past(&look, page);
            self.say(slot, ask, Said::Past(past));
        }
        true
    }

    fn past(&mut self, look: &Look, page: &Page) -> Result<Past, NoPast> {
        self.may_look(look.slot, &look.what).map_err(NoPast::Refused)?;
        if page.failed {
            self.counters.failed_reads += 1;
            return Err(NoPast::Busy);
        }
        let epoch = self.setup.lineages[0].epoch;
        let more = page.upto > Offset::BEGINNING;
        Ok(Past {
            records: page.records.clone(),
            before: Cursor::single(epoch, page.upto),
            more,
            gap: look.is_elsewhere || page.lost.is_some(),
            cursor: Cursor::single(epoch, look.head),
        })
    }

    fn may_look(&self, slot: Slot, what: &LookBack) -> Result<(), Refusal> {
        let who = match &what.asker {
            Asker::LoggedIn => self.caller(slot.index),
            Asker::Is(who) => who.clone(),
        };
        self.grants(who.as_deref(), &Filter::Exact(what.topic.clone()))
    }

    /// Below which offset a page ends, and whether its reader stood in another log.
    fn place_before(&self, before: Option<&Cursor>) -> (Option<Offset>, bool) {
        let Some((cursor, offset)) = before.and_then(|cursor| Some((cursor, cursor.position(Partition(0))?))) else {
            return (None, false);
        };
        match self.setup.lineages[0].valid_up_to(cursor.epoch) {
            None => (None, true),
            Some(fork) if offset > fork => (Some(fork.next()), true),
            Some(_) => (Some(offset), false),
        }
    }
}
