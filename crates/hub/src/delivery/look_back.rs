//! Reading a topic backwards for a wire: one page of the store. The reader's right is judged when it asks, and again
//! when the page is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use everywire_base::ask::{Answer, Asker, Interest, LookBack, NoPast, Page, Past, Read, ReadKind};
use everywire_base::cursor::{Cursor, Lineage, Offset, Partition};
use everywire_base::id::{AskId, Part, Slot};
use everywire_base::rules::Refusal;
use everywire_base::topic::Filter;

use super::Deliveries;
use crate::floor::Floor;

/// Pages that are under way, each with the connection that waits for it.
#[derive(Default)]
pub(super) struct Looks {
    last: u32,
    waiting: BTreeMap<u32, Look>,
}

struct Look {
    slot: Slot,
    ask: AskId,
    what: LookBack,
    /// Whether the reader's cursor is of another log.
    is_elsewhere: bool,
    /// The head of the log when it asked.
    head: Offset,
}

impl Deliveries {
    /// Reads a topic backwards for a connection. The answer is among the floor's.
    pub(crate) fn look_back(&mut self, slot: Slot, ask: AskId, what: LookBack, floor: &mut Floor) {
        if let Err(refusal) = may_look(slot, &what, floor) {
            return floor.say(slot, ask, Answer::Past(Err(NoPast::Refused(refusal))));
        }
        if floor.out.reads.len() + self.looks.waiting.len() >= floor.setup.limits.read_queue {
            return floor.say(slot, ask, Answer::Past(Err(NoPast::Busy)));
        }
        let head = floor.setup.tails[0].head();
        let (before, is_elsewhere) = place_before(what.before.as_ref(), &floor.setup.lineages[0]);
        let (max_records, max_bytes) = (what.limit, floor.setup.limits.page_bytes);
        let kind = ReadKind::Backwards { before, max_records, max_bytes, with_recalled: false };
        let interest = Interest { filter: Filter::Exact(what.topic.clone()), since: Offset::BEGINNING };
        self.looks.last = self.looks.last.wrapping_add(1);
        let reply_to = floor.to_part(Part::LookBack, AskId(self.looks.last));
        self.looks.waiting.insert(self.looks.last, Look { slot, ask, what, is_elsewhere, head });
        let interests = Arc::from([interest]);
        floor.read(Read { reply_to, partition: Partition(0), interests, applied: head, kind });
    }

    /// Takes a page, if it was read backwards.
    pub(crate) fn take_past(&mut self, page: &Page, floor: &mut Floor) -> bool {
        let Some(AskId(number)) = page.reply_to.part(Part::LookBack) else { return false };
        if let Some(look) = self.looks.waiting.remove(&number) {
            let (slot, ask) = (look.slot, look.ask);
            let mut past = past(&look, page, floor);
            if let Ok(past) = &mut past {
                past.records.retain(|record| !self.recalls.contains(record));
            }
            floor.say(slot, ask, Answer::Past(past));
        }
        true
    }
}

fn past(look: &Look, page: &Page, floor: &mut Floor) -> Result<Past, NoPast> {
    may_look(look.slot, &look.what, floor).map_err(NoPast::Refused)?;
    if page.failed {
        floor.counters.failed_reads += 1;
        return Err(NoPast::Busy);
    }
    let epoch = floor.epoch();
    let more = page.upto > Offset::BEGINNING;
    Ok(Past {
        records: page.records.clone(),
        before: Cursor::single(epoch, page.upto),
        more,
        gap: look.is_elsewhere || page.lost.is_some(),
        cursor: Cursor::single(epoch, look.head),
    })
}

fn may_look(slot: Slot, what: &LookBack, floor: &Floor) -> Result<(), Refusal> {
    let who = match &what.asker {
        Asker::LoggedIn => floor.caller(slot.index),
        Asker::Is(who) => who.as_ref(),
    };
    floor.grants(who.map(|who| &**who), &Filter::Exact(what.topic.clone()))
}

/// The offset below which a page ends, and whether its reader stood in another log.
fn place_before(before: Option<&Cursor>, lineage: &Lineage) -> (Option<Offset>, bool) {
    let Some((cursor, offset)) = before.and_then(|cursor| Some((cursor, cursor.position(Partition(0))?))) else {
        return (None, false);
    };
    match lineage.valid_up_to(cursor.epoch) {
        None => (None, true),
        Some(fork) if offset > fork => (Some(fork.next()), true),
        Some(_) => (Some(offset), false),
    }
}
