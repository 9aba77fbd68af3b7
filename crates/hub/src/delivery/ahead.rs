//! Subscriptions whose cursors are ahead of this node (RULES 8): each waits until the node has come so far.
//!
//! A cursor may also be none of this log any more. That is known only when the node has asked the engine for the log's
//! head after the cursor came, and has read up to there. A node that can't do that in a while, since it is cut off or
//! far behind, doesn't know, and says so.

use std::time::Duration;

use everywire_base::ask::Subscribe;
use everywire_base::clock::{Monotonic, Now};
use everywire_base::cursor::{Offset, Partition, Start};
use everywire_base::id::{AskId, Slot};

use super::Deliveries;
use crate::floor::Floor;

/// The time that a cursor ahead of this node waits for it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The time between two looks at the node's progress.
const LOOK: Duration = Duration::from_millis(100);
/// The rounds after which the engine was asked since: the first may have begun before.
const ROUNDS: u64 = 2;

/// A subscription that waits.
pub(crate) struct Ahead {
    /// The number of the node's rounds at which all is known.
    round: u64,
    /// The node's head when these were over.
    head: Option<Offset>,
    until: Monotonic,
    next_look: Monotonic,
    /// Whether the cursor can be judged now: the node has come so far, or the log doesn't.
    pub(crate) is_known: bool,
    pub(crate) slot: Slot,
    pub(crate) ask: AskId,
    pub(crate) subscribe: Subscribe,
}

impl Ahead {
    /// The time of the next look at it.
    pub(super) fn next_look(&self) -> Monotonic {
        self.next_look
    }
}

impl Deliveries {
    /// Whether a subscription's cursor is ahead of this worker, in a log that others write too: it lies behind all that
    /// was read, or in an epoch that isn't known. The worker learns of an epoch in its place in the log, so that it
    /// judges no cursor before it has come there.
    fn is_ahead(&self, start: &Start, floor: &Floor) -> bool {
        let Start::After(cursor) = start else { return false };
        let Some(offset) = cursor.position(Partition(0)).filter(|_| floor.is_shared()) else { return false };
        let (tail, mark) = (&floor.setup.tails[0], self.marks[0]);
        match floor.setup.lineages[0].valid_up_to(cursor.epoch) {
            // The order matters: what is read is shown before.
            Some(_) => cursor.epoch == floor.epoch() && offset > mark && !(tail.knows(offset) && mark >= tail.head()),
            None => true,
        }
    }

    /// Lets a subscription wait if its cursor is ahead of this node; `false` if it isn't.
    pub(crate) fn wait_ahead(
        &mut self,
        slot: Slot,
        ask: AskId,
        subscribe: &Subscribe,
        floor: &Floor,
        now: Now,
    ) -> bool {
        if !self.is_ahead(&subscribe.start, floor) {
            return false;
        }
        let round = floor.setup.tails[0].progress().rounds() + ROUNDS;
        let (until, next_look, subscribe) = (now.monotonic + PATIENCE, now.monotonic + LOOK, subscribe.clone());
        self.ahead.push(Ahead { round, head: None, until, next_look, is_known: false, slot, ask, subscribe });
        true
    }

    /// Takes the subscriptions that wait no more.
    pub(crate) fn waited_ahead(&mut self, floor: &Floor, now: Now) -> Vec<Ahead> {
        let (tail, mark) = (&floor.setup.tails[0], self.marks[0]);
        let mut over = Vec::new();
        for mut ahead in std::mem::take(&mut self.ahead) {
            if ahead.head.is_none() && tail.progress().rounds() >= ahead.round {
                ahead.head = Some(tail.head());
            }
            let is_past_head = ahead.head.is_some_and(|head| mark >= head);
            ahead.is_known = is_past_head || !self.is_ahead(&ahead.subscribe.start, floor);
            if ahead.is_known || ahead.until <= now.monotonic {
                over.push(ahead);
            } else {
                ahead.next_look = now.monotonic + LOOK;
                self.ahead.push(ahead);
            }
        }
        over
    }
}
