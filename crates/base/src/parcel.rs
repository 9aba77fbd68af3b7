//! A parcel: one message on its way out of a worker, with the renditions that its subscribers share.
//!
//! The record is shared among workers (`Arc`); renditions stay on theirs (`Rc`) and are made once for each format,
//! however many subscribers take it.

use std::cell::RefCell;
use std::num::NonZeroU16;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::UnixMillis;
use crate::cursor::{Cursor, Epoch, Offset};
use crate::record::{Message, Record};
use crate::signal::Signal;
use crate::terms::DeliveryOptions;

/// Bytes that many outboxes share.
pub type Rendition = Rc<[u8]>;

/// Names a format. Two wires that use the same name share the bytes, so prefix it with the wire's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Format {
    /// The name of the encoding.
    pub name: &'static str,
    /// The name of the framing around it; empty if there is none.
    pub framing: &'static str,
}

impl Format {
    /// A format whose bytes stand by themselves.
    pub const fn bare(name: &'static str) -> Self {
        Self { name, framing: "" }
    }
}

/// A message with its shared renditions.
#[derive(Debug)]
pub struct Parcel {
    record: Arc<Record>,
    epoch: Epoch,
    /// The cursor of its subscription, if it is a retained message: those are outside the order.
    stands: Option<Box<Cursor>>,
    renditions: RefCell<SmallVec<[(Format, Rendition); 2]>>,
}

impl Parcel {
    /// Wraps a record that is a message; other kinds are never delivered and give `None`.
    pub fn new(record: Arc<Record>, epoch: Epoch) -> Option<Self> {
        record.message()?;
        Some(Self { record, epoch, stands: None, renditions: RefCell::default() })
    }

    /// Wraps a retained message for a subscription that stands at `cursor`: a reader that goes on from it misses
    /// nothing, and reads nothing old again.
    pub fn retained(record: Arc<Record>, cursor: Cursor) -> Option<Self> {
        let epoch = cursor.epoch;
        Some(Self { stands: Some(Box::new(cursor)), ..Self::new(record, epoch)? })
    }

    /// The record.
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// The message.
    pub fn message(&self) -> &Message {
        self.record.message().expect("checked when the parcel was made")
    }

    /// The cursor of this one message; of a retained one that of its subscription.
    pub fn cursor(&self) -> Cursor {
        if let Some(stands) = &self.stands {
            return Cursor::clone(stands);
        }
        Cursor::new(self.epoch, [(self.record.partition, self.record.offset)]).expect("one position")
    }

    /// The bytes of a format, made by `make` if no subscriber on this worker asked for them before.
    pub fn rendition(&self, format: Format, make: impl FnOnce(&Parcel, &mut Vec<u8>)) -> Rendition {
        if let Some((_, bytes)) = self.renditions.borrow().iter().find(|r| r.0 == format) {
            return Rc::clone(bytes);
        }
        let mut buffer = Vec::with_capacity(self.message().body.len() + 256);
        make(self, &mut buffer);
        let bytes: Rendition = buffer.into();
        self.renditions.borrow_mut().push((format, Rc::clone(&bytes)));
        bytes
    }
}

/// A delivery of the hub to a connection's wire.
#[derive(Debug)]
pub enum Delivery<'a> {
    /// A message in the order of the log.
    Message(&'a Parcel, DeliveryOptions<'a>),
    /// The retained message of a topic, outside the order, before live ones.
    Retained(&'a Parcel, DeliveryOptions<'a>),
    /// The delivery of this tag was received before, and goes on from there (MQTT-5.0 §4.3.3).
    Release(NonZeroU16),
    /// A loss of messages: no message from before the gap comes after it.
    Gap(&'a Gap),
    /// Something passes between people; a full wire drops it.
    Signal(&'a Signal),
    /// Something of this conversation of the reader's own has changed; a full wire drops that too.
    Conversation(&'a str),
}

/// A loss of messages, with the position from which reading goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The topic or filter that has lost messages.
    pub topic: Box<str>,
    /// The offset up to which the reader had everything; `None` if the cursor was of an unknown epoch.
    pub after: Option<Offset>,
    /// The position from which reading goes on: everything matching above it is still there.
    pub earliest: Cursor,
    /// The time at which it was noticed.
    pub time: UnixMillis,
}

/// Whether a delivery was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// It is in the outbox.
    Yes,
    /// There is no room: the connection lags from just before it, and will be offered it again.
    Full,
}
