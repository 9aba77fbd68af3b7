//! Subscriptions, and the acknowledgement of deliveries.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::cursor::{Cursor, Start};
use crate::identity::Identity;
use crate::rules::Refusal;
use crate::terms::{RetainHandling, Terms};
use crate::topic::Filter;

/// Subscribes a connection to some filters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribe {
    /// The filters.
    pub filters: SmallVec<[Filter; 1]>,
    /// The position at which the subscription begins.
    pub start: Start,
    /// Whether retained messages are wanted first; only with [`Start::Latest`].
    pub retained: RetainHandling,
    /// The terms of delivery.
    pub terms: Terms,
    /// The group with which the filters are shared: each message goes to one of its members (MQTT-5.0 §4.8.2).
    pub group: Option<Box<str>>,
    /// The identity that asks, where it isn't known from a [`Login`].
    pub identity: Option<Arc<Identity>>,
}

impl Subscribe {
    /// A subscription to some filters, from now on, on the usual terms.
    pub fn to(filters: impl IntoIterator<Item = Filter>) -> Self {
        Self {
            filters: filters.into_iter().collect(),
            start: Start::Latest,
            retained: RetainHandling::Never,
            terms: Terms::default(),
            group: None,
            identity: None,
        }
    }
}

/// The hub's answer to a [`Subscribe`]: a cursor, and the filters that were refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscribed {
    /// The position at which the subscription began.
    pub cursor: Cursor,
    /// The filters that were not granted, each with its reason; all others were.
    pub refused: Vec<(Filter, Refusal)>,
    /// Whether its cursor can't be honoured: the loss isn't known, and a gap comes before any message.
    pub gap: bool,
}

/// The subscriptions of a connection that are to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unsubscribe {
    /// All subscriptions of the connection.
    All,
    /// These filters; those that the connection doesn't hold count as ended.
    These(SmallVec<[Filter; 1]>),
    /// This filter, of this group if it is shared.
    One(Filter, Option<Box<str>>),
}

/// The deliveries that a client acknowledges.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ack {
    /// Everything up to this cursor; answered only if that is refused.
    UpTo(Cursor),
    /// The delivery of this tag, finally; not answered.
    Done(u16),
    /// The same for a delivery at least once; answered if it was another kind.
    DoneAtLeastOnce(u16),
    /// The same for a delivery exactly once; answered if it was another kind.
    DoneExactlyOnce(u16),
    /// The exactly-once delivery of this tag, which goes on with [`crate::parcel::Delivery::Release`] once that is
    /// durable. Answered if no such delivery is under way.
    Received(u16),
}

/// The reason why an acknowledgement is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// There is no session, so that nothing is outstanding.
    #[error("nothing is to be acknowledged without a session: ask for one in `hello`")]
    NoSession,
    /// The cursor lies beyond all that was sent.
    #[error("this cursor was never sent")]
    NeverSent,
    /// No delivery of this tag is under way.
    #[error("no delivery has this tag")]
    UnknownTag(u16),
    /// The delivery of this tag has another quality of service (MQTT-5.0 §3.4, §3.5).
    #[error("a delivery is acknowledged in the way of another quality of service")]
    WrongKind,
}
