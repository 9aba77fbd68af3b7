//! Signals: news of users that pass beside the messages. A client that is away doesn't get them later, and under load
//! they are dropped first (`docs/rooms.md`).

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::parcel::{Format, Rendition};

/// The kind of a signal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignalKind {
    /// Everything up to the cursor is read.
    Read,
    /// The same has come to one of the user's devices.
    Received,
    /// The user is typing.
    Typing,
    /// The user has entered the room.
    Entered,
    /// The user has left the room; in an exchange of two, the user has no connection any more.
    Left,
    /// The user is there.
    Here,
    /// The user is there, but looks at no device.
    Away,
    /// The user's own membership in the room has changed.
    Role,
}

impl SignalKind {
    /// The word for it on wires.
    pub fn as_str(self) -> &'static str {
        match self {
            SignalKind::Read => "read",
            SignalKind::Received => "received",
            SignalKind::Typing => "typing",
            SignalKind::Entered => "entered",
            SignalKind::Left => "left",
            SignalKind::Here => "here",
            SignalKind::Away => "away",
            SignalKind::Role => "role",
        }
    }
}

/// The content of a signal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Said {
    /// `room/R` or `user/P`, as its receiver knows it.
    pub conversation: Box<str>,
    /// The kind of the signal.
    pub kind: SignalKind,
    /// The user that it is about; in a room that doesn't show its users, a stable id of the occupant.
    pub user: Box<str>,
    /// The user's nick in the room, of [`SignalKind::Entered`] and [`SignalKind::Left`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nick: Option<Box<str>>,
    /// The cursor up to which it holds, of [`SignalKind::Read`] and [`SignalKind::Received`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Box<str>>,
    /// The user's role in the room, of [`SignalKind::Role`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

/// A signal with its shared encodings.
pub struct Signal {
    said: Said,
    renditions: RefCell<Vec<(Format, Rendition)>>,
}

impl Signal {
    /// A signal that nobody has encoded yet.
    pub fn new(said: Said) -> Self {
        Self { said, renditions: RefCell::default() }
    }

    /// Its content.
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// The bytes of a format, made by `make` if nobody on this worker asked for them before.
    pub fn rendition(&self, format: Format, make: impl FnOnce(&Said, &mut Vec<u8>)) -> Rendition {
        if let Some((_, bytes)) = self.renditions.borrow().iter().find(|known| known.0 == format) {
            return Rc::clone(bytes);
        }
        let mut buffer = Vec::with_capacity(128);
        make(&self.said, &mut buffer);
        let bytes: Rendition = buffer.into();
        self.renditions.borrow_mut().push((format, Rc::clone(&bytes)));
        bytes
    }
}

/// Writes the content of a signal as JSON, the same on every JSON wire.
pub fn json(said: &Said, out: &mut Vec<u8>) {
    // Strings are always valid JSON, and writing to a vector can't fail.
    let _ = serde_json::to_writer(out, said);
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.said.fmt(f)
    }
}
