//! The unsettled part of a connection: a packet that hasn't come whole, questions that aren't answered, an exchange that
//! isn't over. An idle connection has none of it, and takes no memory for it.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::ops::{Deref, DerefMut};

use everywire_base::id::AskId;
use everywire_mqtt_packets::Packet;

use crate::auth::Exchange;
use crate::subscribe::Filters;

/// The unsettled part; nothing stands in memory until it is changed, nor after [`Unsettled::tidy`] if it is empty.
#[derive(Default)]
pub(crate) struct Unsettled(Option<Box<Parts>>);

#[derive(Default)]
pub(crate) struct Parts {
    /// A packet that hasn't come whole; empty if none has begun.
    pub(crate) partial: Vec<u8>,
    /// Questions that are not answered, in their order.
    pub(crate) waiting: VecDeque<Waiting>,
    /// The exchange in which the client proves its identity, in steps.
    pub(crate) exchange: Option<Box<Exchange>>,
}

/// A question that the client waits to be answered.
pub(crate) struct Waiting {
    pub(crate) what: What,
    /// The answer, which is sent when those before it are.
    pub(crate) answer: Option<Packet<'static>>,
}

pub(crate) enum What {
    /// A message; QoS 0 has no answer.
    Publish(AskId, Option<(NonZeroU16, u8)>),
    /// A number is released.
    Release(AskId, NonZeroU16),
    /// Filters come or go.
    Filters(Box<Filters>),
    /// No question any more: its answer is known.
    Nothing,
}

static NONE: Parts = Parts { partial: Vec::new(), waiting: VecDeque::new(), exchange: None };

impl Unsettled {
    /// Frees the memory, if all is settled.
    pub(crate) fn tidy(&mut self) {
        self.0.take_if(|parts| parts.partial.is_empty() && parts.waiting.is_empty() && parts.exchange.is_none());
    }

    /// Ends the exchange, if there is one.
    pub(crate) fn take_exchange(&mut self) -> Option<Box<Exchange>> {
        let exchange = self.0.as_mut()?.exchange.take();
        self.tidy();
        exchange
    }
}

impl Deref for Unsettled {
    type Target = Parts;

    fn deref(&self) -> &Self::Target {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for Unsettled {
    fn deref_mut(&mut self) -> &mut Self::Target {
        self.0.get_or_insert_default()
    }
}
