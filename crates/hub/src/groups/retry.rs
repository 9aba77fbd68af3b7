//! The records of groups, which the log must take. If nobody knew that a member is gone, it would be chosen for messages
//! that nobody reads.

use std::collections::BTreeMap;
use std::time::Duration;

use everywire_base::ask::{Draft, PublishError, Published};
use everywire_base::clock::Now;
use everywire_base::id::{Part, ReplyTo};
use everywire_base::record::{Durability, Entry, System};
use everywire_base::topic::Topic;

use super::Groups;
use super::group::Group;
use crate::floor::RETRY;
use crate::floor::retries::RetriedPart;
use crate::ground::Ground;

/// The records of groups.
pub(super) struct OfGroups;

impl RetriedPart for OfGroups {
    const PART: Part = Part::Groups;
    const DELAY: Duration = RETRY;
}

impl Groups {
    /// Appends a record that only passes, which the log must take.
    pub(super) fn append_passing_with_retry(&mut self, ground: &mut Ground<'_>, system: System) {
        self.append_with_retry(ground, Draft::new(system, Durability::None));
    }

    /// Appends a record that the log must take.
    pub(super) fn append_with_retry(&mut self, ground: &mut Ground<'_>, draft: Draft) {
        self.retries.append(ground.floor, draft, ());
    }

    /// Takes the result of an append; says whether it is one of a group's.
    pub(crate) fn appended(&mut self, reply_to: ReplyTo, result: &Result<Published, PublishError>, now: Now) -> bool {
        self.retries.appended(reply_to, result, now)
    }

    /// Appends again the records that the log has refused, asks the store again where it could not be read, and says what
    /// members owe.
    pub(crate) fn turn(&mut self, ground: &mut Ground<'_>) {
        self.say_debts(ground);
        self.read_again(ground);
        let Self { retries, all, .. } = self;
        retries.turn(ground.floor, ground.now, |draft, ()| is_overtaken(all, &draft.entry));
    }
}

/// Whether a record of waiting messages isn't true any more, as a member has come.
fn is_overtaken(all: &BTreeMap<Topic, Group>, entry: &Entry) -> bool {
    let waits = entry.is_retained() && !entry.body().is_empty();
    waits && all.get(entry.topic()).is_none_or(|group| !group.members().is_empty())
}
