//! The debts of this worker's members to their groups: messages that they haven't read, or that their clients haven't
//! acknowledged. A beat of the node says what is older than the one before, so that others read it if the node dies; for
//! what is younger its members are known to have been drawn for it.

use std::collections::BTreeMap;
use std::time::Duration;

use everywire_base::clock::Monotonic;
use everywire_base::cursor::Offset;
use everywire_base::id::Slot;
use everywire_base::record::Entry;
use everywire_base::system::{self, GroupChange, GroupDebt};
use everywire_base::topic::Topic;
use everywire_log::tail::Debts;

use super::Groups;
use crate::delivery::{Stage, Window};
use crate::ground::Ground;

/// The time after a beat at which the messages from before it are looked for: most are acknowledged by then, and the
/// next beat is still to come.
const LATER: Duration = Duration::from_secs(2);
/// The time between two such looks, as long as some are owed.
const AGAIN: Duration = Duration::from_secs(1);

/// The worker's account of its debts.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The last beat of the node that the worker has heard.
    beat: Offset,
    /// The time at which it looks again.
    pub(super) due: Option<Monotonic>,
    /// The groups that drained sessions have left something of: each goes on elsewhere, if nobody has before.
    left: BTreeMap<Topic, Offset>,
}

impl Groups {
    /// Takes up a record about a node, perhaps a beat of this one.
    pub(super) fn beats(&mut self, ground: &mut Ground<'_>) {
        let Some(beat) = ground.floor.own_beat().filter(|beat| *beat > self.account.beat) else { return };
        self.account.beat = beat;
        if self.owes_nothing() {
            self.write_debts(ground, Vec::new());
        } else {
            self.account.due.get_or_insert(ground.now.monotonic + LATER);
        }
    }

    /// Says what is owed, if it is time.
    pub(super) fn say_debts(&mut self, ground: &mut Ground<'_>) {
        if self.account.due.is_none_or(|due| due > ground.now.monotonic) {
            return;
        }
        self.account.due = None;
        match self.debts(ground) {
            Some(owes) => {
                self.account.due = (!owes.is_empty()).then(|| ground.now.monotonic + AGAIN);
                self.write_debts(ground, owes);
            }
            None => self.account.due = Some(ground.now.monotonic + AGAIN),
        }
    }

    fn write_debts(&self, ground: &Ground<'_>, owes: Vec<GroupDebt>) {
        let debts = Debts { beat: self.account.beat, owes };
        ground.floor.setup.tails[0].debts().write(ground.floor.setup.worker.into(), debts);
    }

    fn owes_nothing(&self) -> bool {
        self.of.is_empty() && self.account.left.is_empty() && self.retries.under_way().next().is_none()
    }

    /// The groups whose messages from before the last beat are owed here; none while a node that came hasn't been told
    /// of all members here.
    fn debts(&self, ground: &Ground<'_>) -> Option<Vec<GroupDebt>> {
        let mut lowest = self.account.left.clone();
        let mut owes = |topic: &Topic, after: Offset| {
            let known = lowest.entry(topic.clone()).or_insert(after);
            *known = after.min(*known);
        };
        for draft in self.retries.under_way() {
            match change(&draft.entry) {
                Some((_, GroupChange::Join { again: true, .. })) => return None,
                Some((topic, GroupChange::Leave { ranges, .. })) => {
                    for range in &ranges {
                        owes(topic, Offset(range.after));
                    }
                }
                _ => {}
            }
        }
        let members = self.of.iter().flat_map(|(slot, topics)| topics.iter().map(|topic| (*slot, topic)));
        for (slot, topic) in members.filter(|(slot, _)| ground.deliveries.is_here(*slot)) {
            if let Some(after) = self.owed_above(ground, topic, slot) {
                owes(topic, after);
            }
        }
        let older = lowest.into_iter().filter(|(_, after)| *after < self.account.beat);
        Some(older.map(|(topic, after)| GroupDebt { group: topic.as_str().into(), after: after.0 }).collect())
    }

    /// The offset above which a member owes something.
    fn owed_above(&self, ground: &Ground<'_>, topic: &Topic, slot: Slot) -> Option<Offset> {
        let here = self.all.get(topic)?.here.iter().find(|here| here.slot == slot)?;
        let position = ground.deliveries.current(slot.index)[0];
        let unread = here.ranges.iter().filter(|range| range.up_to > position).map(|range| range.after.max(position));
        let unread = unread.chain([position.max(here.had)]).min();
        let sent = ground.deliveries.window(slot.index).into_iter().flat_map(Window::iter);
        let member = (ground.floor.seat, slot);
        let is_owed = |offset: &Offset| *offset <= self.account.beat && self.gave(topic, member, *offset);
        let sent = sent.filter(|sent| sent.stage == Stage::Sent && !sent.retained).map(|sent| sent.offset);
        unread.into_iter().chain(sent.filter(is_owed).min().map(|first| Offset(first.0 - 1))).min()
    }

    /// Notes what a session leaves that goes on elsewhere.
    pub(super) fn note_left(&mut self, ground: &Ground<'_>, slot: Slot) {
        for topic in self.of.get(&slot).cloned().unwrap_or_default() {
            let Some(after) = self.owed_above(ground, &topic, slot) else { continue };
            let known = self.account.left.entry(topic).or_insert(after);
            *known = after.min(*known);
        }
    }
}

fn change(entry: &Entry) -> Option<(&Topic, GroupChange)> {
    let system = entry.system().filter(|system| !system.retain)?;
    Some((&system.topic, system::read(system)?))
}
