//! The statements of a connection about its own presence.

use crate::cursor::Cursor;
use crate::rules::Refusal;

/// A statement of a connection about its own presence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Being {
    /// It enters the room of this level. Answered by [`crate::ask::Answer::Entered`].
    Enter {
        /// The room's level.
        room: Box<str>,
        /// The nick that its user wants. The default is the membership's nick, or else the user's name.
        nick: Option<Box<str>>,
    },
    /// It leaves the room of this level. Answered by [`crate::ask::Answer::Left`].
    Leave {
        /// The room's level.
        room: Box<str>,
    },
    /// Its user is typing in this conversation: `room/R` or `user/P`. Not answered.
    Typing(Box<str>),
    /// Whether its user looks at the device. Not answered.
    Active(bool),
}

/// The answer to [`Being::Enter`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entered {
    /// The user's nick in the room.
    pub nick: Box<str>,
    /// The user's rights in the room.
    pub voice: Voice,
    /// The position from which on it is an occupant.
    pub cursor: Cursor,
    /// The number of last messages that an entrant is shown.
    pub greet: u32,
}

/// The rights of an occupant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Voice {
    /// May administer the room.
    Moderator,
    /// May talk.
    Participant,
    /// May listen.
    Visitor,
}

impl Voice {
    /// The word for it in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Voice::Moderator => "moderator",
            Voice::Participant => "participant",
            Voice::Visitor => "visitor",
        }
    }
}

/// The reason why a room isn't entered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEntered {
    /// There is no such room, or the user may not see it.
    #[error("there is no such room, or not for you")]
    NoRoom,
    /// Another user has this nick there.
    #[error("another one is called so there: choose another nick")]
    NickTaken,
    /// The nick is malformed, or the room's name.
    #[error("{0}")]
    Malformed(Box<str>),
    /// The user may not enter.
    #[error(transparent)]
    Refused(Refusal),
}
