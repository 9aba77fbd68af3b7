//! The values that leave the hub, and the events between owners. Deliveries go straight to [`crate::Deliver`].

use std::collections::VecDeque;

use everywire_base::ask::{Answer, Append, Read, Subscribe, Subscribed};
use everywire_base::cursor::Offset;
use everywire_base::id::{AskId, Slot};
use everywire_base::notice::Notice;
use everywire_base::reason::Reason;
use everywire_base::system::GroupState;
use everywire_base::topic::{Filter, Topic};
use smallvec::SmallVec;

/// The values that leave the hub.
#[derive(Default)]
pub(crate) struct Out {
    /// Records for the log.
    pub(crate) appends: Vec<Append>,
    /// Answers for wires.
    pub(crate) answers: VecDeque<(Slot, AskId, Answer)>,
    /// Reads for the store.
    pub(crate) reads: VecDeque<Read>,
    /// Connections that are to be ended: kicked, taken over, without a right that they had.
    pub(crate) endings: Vec<(Slot, Reason)>,
    /// Notices for operators.
    pub(crate) notices: Vec<(Option<Slot>, Notice)>,
    /// Events for other owners. The hub hands each on once the owner that tells it has returned.
    pub(crate) events: VecDeque<Event>,
}

/// An event that one owner tells another.
#[derive(Debug)]
pub(crate) enum Event {
    /// Delivery to sessions: deliveries of this connection wait until their tags are durable.
    Save(Slot),
    /// Delivery to sessions: this connection was told that messages of the topic are lost.
    Lost(Slot, Box<str>),
    /// Groups to sessions: a shared subscription has begun; it is confirmed when the session's record says so.
    Subscribed(Slot, AskId, SmallVec<[Filter; 1]>, Subscribed),
    /// Groups to sessions: this connection reads from an earlier position; its session's record must say so.
    WentBack(Slot),
    /// Sessions to groups: an open session shares this subscription, and knows the state that a former life of the node
    /// has left.
    Rejoin(Slot, Box<Subscribe>, Option<GroupState>),
    /// Groups to groups, after the session's record: the messages that waited at this topic are a member's from this
    /// offset on.
    Taken(Topic, Offset),
}
