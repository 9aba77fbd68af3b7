//! How a message is handed over to a connection that acknowledges one by one: by the terms of all its filters that take
//! the message (RULES 10), and by what its window allows.

use std::num::NonZeroU16;

use everywire_base::cursor::Offset;
use everywire_base::parcel::{Delivery, Parcel, Taken};
use everywire_base::record::Message;
use everywire_base::terms::{Manner, Terms};
use smallvec::SmallVec;

use crate::lag::State;
use crate::window::{Sent, Stage, Window};

/// What the filters that take a message say of it together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Matched {
    /// The lower of what was published and the highest that was granted.
    pub(crate) qos: u8,
    retain: bool,
    identifiers: SmallVec<[u32; 4]>,
}

impl Matched {
    /// `None` if none of them takes it from this publisher.
    pub(crate) fn of(terms: impl Iterator<Item = Terms>, message: &Message, own: u64) -> Option<Self> {
        let is_own = message.origin != 0 && message.origin == own;
        let mut matched: Option<Self> = None;
        for terms in terms.filter(|terms| !(terms.no_local && is_own)) {
            let all = matched.get_or_insert_with(|| Self { qos: 0, retain: false, identifiers: SmallVec::new() });
            all.qos = all.qos.max(terms.qos.min(message.qos));
            all.retain |= terms.retain_as_published && message.retain;
            all.identifiers.extend(Some(terms.identifier).filter(|number| *number > 0));
        }
        matched
    }

    /// As the greeting of a subscription.
    pub(crate) fn retained(terms: Terms, message: &Message) -> Self {
        let identifiers = Some(terms.identifier).filter(|number| *number > 0).into_iter().collect();
        Self { qos: terms.qos.min(message.qos), retain: true, identifiers }
    }

    pub(crate) fn manner(&self, tag: Option<NonZeroU16>) -> Manner<'_> {
        Manner { qos: self.qos, tag, again: false, retain: self.retain, identifiers: &self.identifiers }
    }
}

/// Whether a message may go out, and under which tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leave {
    Untagged,
    Tagged(NonZeroU16),
    Waits(State),
}

/// A message that wants to go out to a connection that acknowledges one by one.
pub(crate) struct Outgoing<'a> {
    pub(crate) parcel: &'a Parcel,
    pub(crate) matched: &'a Matched,
    pub(crate) partition: usize,
    pub(crate) retained: bool,
}

impl Outgoing<'_> {
    fn offset(&self) -> Offset {
        self.parcel.record().offset
    }

    /// Hands it over and notes that: whether it went out, or what it waits for. What a former owner of the session has
    /// sent comes again by itself, and once.
    pub(crate) fn send(
        &self,
        window: &mut Window,
        deliver: impl FnOnce(&Delivery<'_>) -> Taken,
    ) -> Result<bool, State> {
        let known = window.known(self.partition, self.offset(), self.retained);
        if let Some(known) = known.filter(Sent::is_out) {
            window.passed(known);
            return Ok(false);
        }
        let tag = match self.leave(window, known) {
            Leave::Waits(state) => return Err(state),
            Leave::Tagged(tag) => Some(tag),
            Leave::Untagged => None,
        };
        let manner = self.matched.manner(tag);
        let delivery = if self.retained {
            Delivery::Retained(self.parcel, manner)
        } else {
            Delivery::Message(self.parcel, manner)
        };
        if deliver(&delivery) == Taken::Full {
            return Err(State::Full);
        }
        if let Some(tag) = tag {
            self.note(window, tag.get());
        }
        Ok(true)
    }

    /// A tag that was reserved takes a place only now.
    fn leave(&self, window: &mut Window, reserved: Option<Sent>) -> Leave {
        if self.matched.qos == 0 {
            if let Some(reserved) = reserved {
                window.give_back(reserved.tag);
            }
            return Leave::Untagged;
        }
        match reserved.map(|reserved| (reserved.stage, NonZeroU16::new(reserved.tag))) {
            _ if window.is_full() => Leave::Waits(State::Window),
            Some((Stage::Saved, Some(tag))) => Leave::Tagged(tag),
            Some(_) => Leave::Waits(State::Saving),
            None if self.matched.qos == 2 && window.is_durable() => {
                if !self.retained {
                    window.come_to(self.partition, self.offset());
                }
                window.reserve(self.partition, self.offset(), self.retained);
                Leave::Waits(State::Saving)
            }
            None => Leave::Tagged(window.next_tag()),
        }
    }

    fn note(&self, window: &mut Window, tag: u16) {
        let stage = if self.matched.qos == 2 { Stage::SentOnce } else { Stage::Sent };
        if !window.set(tag, stage) {
            let (partition, retained) = (self.partition as u16, self.retained);
            window.push(Sent { offset: self.offset(), partition, tag, stage, retained });
        }
    }
}
