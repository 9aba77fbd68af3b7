//! The way of a message to a connection that acknowledges one by one: by the terms of all its filters that take the
//! message (RULES 10), and by the room in its window.

use std::num::NonZeroU16;

use everywire_base::cursor::Offset;
use everywire_base::parcel::{Delivery, Parcel, Taken};
use everywire_base::record::Message;
use everywire_base::terms::{DeliveryOptions, Terms};
use smallvec::SmallVec;

use super::lag::State;
use super::window::{Sent, Stage, Window};

/// The joint terms of the filters that take a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Matched {
    /// The lower of the published `QoS` and the highest granted one.
    pub(super) qos: u8,
    retain: bool,
    identifiers: SmallVec<[u32; 4]>,
}

impl Matched {
    /// The joint terms; `None` if no filter takes the message from this publisher.
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

    /// The terms of a retained message that greets a subscription.
    pub(crate) fn retained(terms: Terms, message: &Message) -> Self {
        let identifiers = Some(terms.identifier).filter(|number| *number > 0).into_iter().collect();
        Self { qos: terms.qos.min(message.qos), retain: true, identifiers }
    }

    pub(super) fn options(&self, tag: Option<NonZeroU16>) -> DeliveryOptions<'_> {
        DeliveryOptions { qos: self.qos, tag, dup: false, retain: self.retain, identifiers: &self.identifiers }
    }
}

/// The decision whether a message may go out, and under which tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Decision {
    Untagged,
    Tagged(NonZeroU16),
    Waits(State),
}

/// A message that wants to go out to a connection that acknowledges one by one.
pub(super) struct Outgoing<'a> {
    pub(crate) parcel: &'a Parcel,
    pub(super) matched: &'a Matched,
    pub(crate) partition: usize,
    pub(crate) retained: bool,
}

impl Outgoing<'_> {
    fn offset(&self) -> Offset {
        self.parcel.record().offset
    }

    /// Hands the message over and notes the delivery. Says whether it went out, or the state in which it waits. A
    /// delivery of the session's former owner comes again by itself, and once.
    pub(super) fn send(
        &self,
        window: &mut Window,
        deliver: impl FnOnce(&Delivery<'_>) -> Taken,
    ) -> Result<bool, State> {
        let known = window.known(self.partition, self.offset(), self.retained);
        if let Some(known) = known.filter(Sent::is_out) {
            window.passed(known);
            return Ok(false);
        }
        let tag = match self.decide(window, known) {
            Decision::Waits(state) => return Err(state),
            Decision::Tagged(tag) => Some(tag),
            Decision::Untagged => None,
        };
        let options = self.matched.options(tag);
        let delivery = if self.retained {
            Delivery::Retained(self.parcel, options)
        } else {
            Delivery::Message(self.parcel, options)
        };
        if deliver(&delivery) == Taken::Full {
            return Err(State::Full);
        }
        if let Some(tag) = tag {
            self.note(window, tag.get());
        }
        Ok(true)
    }

    /// Decides whether the message may go out. A tag that was reserved takes a place only now.
    fn decide(&self, window: &mut Window, reserved: Option<Sent>) -> Decision {
        if self.matched.qos == 0 {
            if let Some(reserved) = reserved {
                window.give_back(reserved.tag);
            }
            return Decision::Untagged;
        }
        match reserved.map(|reserved| (reserved.stage, NonZeroU16::new(reserved.tag))) {
            _ if window.is_full() => Decision::Waits(State::Window),
            Some((Stage::Saved, Some(tag))) => Decision::Tagged(tag),
            Some(_) => Decision::Waits(State::Saving),
            None if self.matched.qos == 2 && window.is_durable() => {
                if !self.retained {
                    window.come_to(self.partition, self.offset());
                }
                window.reserve(self.partition, self.offset(), self.retained);
                Decision::Waits(State::Saving)
            }
            None => Decision::Tagged(window.next_tag()),
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
