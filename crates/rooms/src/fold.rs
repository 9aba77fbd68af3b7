//! Folds: the present state of a message after its changes: its last text, whether it was recalled, reactions.
//!
//! Each change is a message of its own on the topic, for clients that follow it. The result of all changes stands in
//! one record for each message, `$fold/ID`, with which a page of history is folded: so no client reads a topic from the
//! beginning to know the present state.

use std::collections::BTreeMap;

use everywire_base::access::Role;
use everywire_base::clock::UnixMillis;
use serde::{Deserialize, Serialize};

/// The most different reactions to one message.
pub const MAX_KEYS: usize = 50;
/// The most users of one reaction.
pub const MAX_USERS: usize = 500;
/// The longest reaction, in bytes.
pub const MAX_KEY_BYTES: usize = 64;

/// The present state of a message after its changes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Fold {
    /// Its last text, if it was edited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Box<str>>,
    /// The time of the last edit, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_ms: Option<u64>,
    /// Whether it was recalled.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub recalled: bool,
    /// The users of each reaction, in the order in which they reacted.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub reactions: BTreeMap<Box<str>, Vec<Box<str>>>,
}

/// A change of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// An edit, with the new text.
    Edit(&'a str),
    /// A recall: the message has no text any more.
    Recall,
    /// A reaction of a user, or its end.
    React {
        /// The reaction.
        key: &'a str,
        /// Whether the reaction ends.
        off: bool,
    },
}

/// The user who wants to change a message, and the facts about the message.
#[derive(Clone, Copy, Debug)]
pub struct Changer<'a> {
    /// The user.
    pub user: &'a str,
    /// The author of the message.
    pub author: Option<&'a str>,
    /// The user's role in the room of the message.
    pub role: Role,
    /// The age of the message, in milliseconds.
    pub age_ms: u64,
    /// The time within which its author may change it.
    pub window_ms: u64,
}

/// The reason why a message isn't changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unchanged {
    /// The message isn't there any more.
    #[error("there is no such message, or not any more")]
    Gone,
    /// The message is another user's.
    #[error("this message is another's: its author changes it, and admins and owners of its room recall it")]
    NotYours,
    /// The time for changes is over.
    #[error("it is too late to change this message (limits.edit_window)")]
    TooLate,
    /// The message has too many reactions.
    #[error("there are too many reactions to this message")]
    TooMany,
    /// The text is no reaction.
    #[error("a reaction has 1 to {MAX_KEY_BYTES} bytes and no control characters")]
    Key,
}

impl Fold {
    /// The fold after a change; `None` if the change changes nothing.
    pub fn changed(&self, change: Change<'_>, by: Changer<'_>, now: UnixMillis) -> Result<Option<Self>, Unchanged> {
        if self.recalled {
            return if change == Change::Recall { Ok(None) } else { Err(Unchanged::Gone) };
        }
        let mut after = self.clone();
        match change {
            Change::Edit(text) => {
                by.may_write()?;
                (after.text, after.edited_ms) = (Some(text.into()), Some(now.0));
            }
            Change::Recall => {
                if by.role < Role::Admin {
                    by.may_write()?;
                }
                after = Self { recalled: true, ..Self::default() };
            }
            Change::React { key, off } => after.react(key, off, by.user)?,
        }
        Ok((after != *self).then_some(after))
    }

    fn react(&mut self, key: &str, off: bool, user: &str) -> Result<(), Unchanged> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES || key.chars().any(char::is_control) {
            return Err(Unchanged::Key);
        }
        if off {
            if let Some(users) = self.reactions.get_mut(key) {
                users.retain(|other| &**other != user);
            }
            self.reactions.retain(|_, users| !users.is_empty());
            return Ok(());
        }
        if !self.reactions.contains_key(key) && self.reactions.len() >= MAX_KEYS {
            return Err(Unchanged::TooMany);
        }
        let users = self.reactions.entry(key.into()).or_default();
        if users.iter().any(|other| &**other == user) {
            return Ok(());
        }
        if users.len() >= MAX_USERS {
            return Err(Unchanged::TooMany);
        }
        users.push(user.into());
        Ok(())
    }
}

impl Changer<'_> {
    fn may_write(&self) -> Result<(), Unchanged> {
        if self.author != Some(self.user) {
            return Err(Unchanged::NotYours);
        }
        if self.age_ms > self.window_ms {
            return Err(Unchanged::TooLate);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(user: &str, role: Role, age_ms: u64) -> Changer<'_> {
        Changer { user, author: Some("ann"), role, age_ms, window_ms: 100 }
    }

    #[test]
    fn who_may_change_a_message() {
        let (fold, now) = (Fold::default(), UnixMillis(7));
        let cases = [
            (Change::Edit("x"), by("ann", Role::None, 100), None),
            (Change::Edit("x"), by("ann", Role::Owner, 101), Some(Unchanged::TooLate)),
            (Change::Edit("x"), by("bob", Role::Owner, 0), Some(Unchanged::NotYours)),
            (Change::Recall, by("bob", Role::Admin, 9999), None),
            (Change::Recall, by("bob", Role::Member, 0), Some(Unchanged::NotYours)),
            (Change::Recall, by("ann", Role::Member, 101), Some(Unchanged::TooLate)),
            (Change::React { key: "+1", off: false }, by("bob", Role::None, 9999), None),
            (Change::React { key: "a\n", off: false }, by("bob", Role::None, 0), Some(Unchanged::Key)),
        ];
        for (change, by, expected) in cases {
            assert_eq!(fold.changed(change, by, now).err(), expected, "{change:?} {by:?}");
        }
        let nobodys = Changer { author: None, ..by("ann", Role::Member, 0) };
        assert_eq!(fold.changed(Change::Recall, nobodys, now).err(), Some(Unchanged::NotYours));
    }

    #[test]
    fn what_was_recalled_stays_so_and_reactions_count_once() {
        let (now, ann, bob) = (UnixMillis(7), by("ann", Role::None, 0), by("bob", Role::None, 0));
        let plus = |off| Change::React { key: "+1", off };
        let fold = Fold::default().changed(plus(false), bob, now).unwrap().unwrap();
        assert_eq!(fold.changed(plus(false), bob, now), Ok(None));
        let both = fold.changed(plus(false), ann, now).unwrap().unwrap();
        assert_eq!(both.reactions["+1"], [Box::from("bob"), "ann".into()]);
        let one = both.changed(plus(true), bob, now).unwrap().unwrap();
        assert_eq!(one.reactions["+1"], [Box::from("ann")]);
        assert_eq!(one.changed(plus(true), ann, now), Ok(Some(Fold::default())));
        let gone = both.changed(Change::Recall, ann, now).unwrap().unwrap();
        assert_eq!(gone, Fold { recalled: true, ..Fold::default() });
        assert_eq!(gone.changed(Change::Recall, ann, now), Ok(None));
        for change in [Change::Edit("x"), plus(false), plus(true)] {
            assert_eq!(gone.changed(change, ann, now), Err(Unchanged::Gone));
        }
    }

    #[test]
    fn reactions_are_bounded() {
        let (mut fold, now) = (Fold::default(), UnixMillis(7));
        let change = |fold: &Fold, key: &str, user: &str| {
            fold.changed(Change::React { key, off: false }, by(user, Role::None, 0), now)
        };
        for n in 0..MAX_KEYS {
            fold = change(&fold, &n.to_string(), "bob").unwrap().unwrap();
        }
        assert_eq!(change(&fold, "one more", "bob"), Err(Unchanged::TooMany));
        for n in 0..MAX_USERS - 1 {
            fold = change(&fold, "0", &n.to_string()).unwrap().unwrap();
        }
        assert_eq!(change(&fold, "0", "one more"), Err(Unchanged::TooMany));
    }
}
