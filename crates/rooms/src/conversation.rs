//! Conversations: a user's own side of a room, or of the exchange with another user.
//!
//! Unread counts come from the messages themselves, and are never stored: they count others' chats above the read mark.
//! A message without an event counts as a chat.

use everywire_base::cursor::Offset;
use everywire_base::identity::{decode, encode};
use everywire_base::record::{Message, Record};
use serde::{Deserialize, Serialize};

use crate::names::folded;

/// The kinds of conversations.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Conversation {
    /// A room, by its level.
    Room(Box<str>),
    /// The exchange with this user.
    With(Box<str>),
}

impl Conversation {
    /// Parses `room/R` or `user/P`.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, level) = text.split_once('/')?;
        // A level that isn't in the form that [`encode`] gives belongs to no room and no user.
        let is_one = !level.is_empty() && !level.contains(['/', '+', '#']) && encode(&decode(level)) == level;
        match kind {
            "room" if is_one => Some(Self::Room(level.into())),
            "user" if is_one => Some(Self::With(decode(level).into())),
            _ => None,
        }
    }

    /// The text `room/R` or `user/P`.
    pub fn text(&self) -> String {
        match self {
            Self::Room(level) => format!("room/{level}"),
            Self::With(user) => format!("user/{}", encode(user)),
        }
    }
}

/// The messages of a conversation of which a user wants to be notified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notify {
    /// All messages.
    #[default]
    All,
    /// Messages that mention the user.
    Mentions,
    /// No messages.
    None,
}

/// The settings of a user for a conversation, as they are stored on `$of/U/conversation/CONV`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The messages of which the user wants to be notified.
    pub notify: Notify,
    /// Whether notifications make no sound.
    pub muted: bool,
    /// Whether the conversation stands before all others.
    pub pinned: bool,
    /// Whether the conversation is archived.
    pub archived: bool,
}

/// A user's own state of a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Own {
    /// The read mark.
    pub read: Offset,
    /// The settings.
    pub settings: Settings,
}

/// Whether a message counts as a chat.
pub fn is_chat(message: &Message) -> bool {
    message.event.as_deref().is_none_or(|event| event == "chat")
}

/// The number of unread messages among some.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unread {
    /// The chats of others.
    pub messages: usize,
    /// The chats of others that mention the user.
    pub mentions: usize,
}

impl Unread {
    /// Counts another record.
    pub fn count(&mut self, record: &Record, user: &str, names: &[String]) {
        let Some(message) = record.message().filter(|message| is_chat(message)) else { return };
        if message.author() == Some(user) {
            return;
        }
        self.messages += 1;
        self.mentions += usize::from(mentions(&message.body, names));
    }
}

/// The names by which a user is mentioned, as they are compared.
pub fn names_of(user: &str, nick: Option<&str>) -> Vec<String> {
    let mut names: Vec<String> =
        [Some(user), nick].into_iter().flatten().map(|name| folded(&format!("@{name}"))).collect();
    names.dedup();
    names
}

/// Whether a text has `@NAME` as a word of its own.
fn mentions(body: &[u8], names: &[String]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    if !text.contains('@') {
        return false;
    }
    let text = folded(text);
    names.iter().any(|name| {
        text.match_indices(name.as_str()).any(|(at, _)| {
            let after = text[at + name.len()..].chars().next();
            after.is_none_or(|next| !next.is_alphanumeric() && next != '_' && next != '-')
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_has_one_name() {
        for text in ["room/lobby", "room/a%2Fb", "user/ann", "user/a%2Fb"] {
            assert_eq!(Conversation::parse(text).unwrap().text(), text);
        }
        for text in ["", "room", "room/", "room/a/b", "room/+", "user/%61nn", "topic/a", "room/a%2fb", "$room/a"] {
            assert_eq!(Conversation::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_mention_is_a_word() {
        let names = names_of("bob", Some("Big Bob"));
        let cases = [
            ("hi @bob", true),
            ("@BOB!", true),
            ("(@bob)", true),
            ("@big bob: look", true),
            ("@bobby", false),
            ("bob", false),
            ("a@bob-cat", false),
            ("@bob_x and @bob", true),
        ];
        for (text, expected) in cases {
            assert_eq!(mentions(text.as_bytes(), &names), expected, "{text}");
        }
        assert!(!mentions(&[0xff, b'@'], &names));
    }
}
