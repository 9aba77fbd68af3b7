//! Retries: a part of the hub appends a record until the log takes it.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use everywire_base::ask::{Append, Draft, PublishError, Published};
use everywire_base::clock::{Monotonic, Now};
use everywire_base::id::{AskId, Part, ReplyTo};

use super::Floor;
use super::due::Due;

/// A part whose records the log must take.
pub(crate) trait RetriedPart {
    /// The part.
    const PART: Part;
    /// The delay before a refused record is appended again.
    const DELAY: Duration;
}

/// Records of a part on their way to the log, each with what the part knows about it.
pub(crate) struct Retries<P, A> {
    last: u32,
    under_way: BTreeMap<u32, (Draft, A)>,
    again: Due<u32>,
    part: PhantomData<P>,
}

impl<P, A> Default for Retries<P, A> {
    fn default() -> Self {
        Self { last: 0, under_way: BTreeMap::new(), again: Due::default(), part: PhantomData }
    }
}

impl<P: RetriedPart, A> Retries<P, A> {
    /// Appends a record.
    pub(crate) fn append(&mut self, floor: &mut Floor, draft: Draft, about: A) {
        self.last = self.last.wrapping_add(1);
        self.under_way.insert(self.last, (draft, about));
        self.say(floor, self.last);
    }

    fn say(&self, floor: &mut Floor, number: u32) {
        let Some((draft, _)) = self.under_way.get(&number) else { return };
        let reply_to = floor.to_part(P::PART, AskId(number));
        floor.out.appends.push(Append::new(reply_to, draft.clone()));
    }

    /// Takes the result of an append. Says whether the append was one of the part's.
    pub(crate) fn appended(&mut self, reply_to: ReplyTo, result: &Result<Published, PublishError>, now: Now) -> bool {
        let Some(ask) = reply_to.part(P::PART) else { return false };
        match result {
            Ok(_) | Err(PublishError::Closing) => drop(self.under_way.remove(&ask.0)),
            Err(_) => self.again.add(now.monotonic + P::DELAY, ask.0),
        }
        true
    }

    /// Appends refused records again, but for those that are over.
    pub(crate) fn turn(&mut self, floor: &mut Floor, now: Now, is_over: impl Fn(&Draft, &A) -> bool) {
        while let Some((_, number)) = self.again.next(now.monotonic) {
            if self.under_way.get(&number).is_some_and(|(draft, about)| is_over(draft, about)) {
                self.under_way.remove(&number);
            }
            self.say(floor, number);
        }
    }

    /// The records that the log hasn't taken yet.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &Draft> {
        self.under_way.values().map(|(draft, _)| draft)
    }

    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.again.deadline()
    }
}
