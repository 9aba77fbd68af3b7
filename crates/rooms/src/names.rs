//! The names that rooms, nicks and titles may have: those that people can read, and tell apart.
//!
//! Clients send names normalized (NFC); others are refused, so that two equal names have equal bytes. Invisible
//! characters, characters that turn the direction of text, and piles of combining marks are refused. Letters of other
//! scripts that look like others' are not: people are told apart by their user, not by their nick.

use unicode_normalization::char::is_combining_mark;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// The longest name of a room, in bytes: percent-encoded it fits into a topic.
pub const MAX_ROOM_BYTES: usize = 128;
/// The longest nick, in bytes.
pub const MAX_NICK_BYTES: usize = 64;
/// The longest title, in bytes.
pub const MAX_TITLE_BYTES: usize = 256;
/// The longest text about a room, or subject, in bytes.
pub const MAX_ABOUT_BYTES: usize = 1024;
/// The most marks on one letter.
const MAX_MARKS: usize = 4;

/// A text that can't be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty, or too long.
    #[error("{what} has {} to {most} bytes", usize::from(*.needed))]
    Length {
        /// The kind of the name, for the message.
        what: &'static str,
        /// The longest, in bytes.
        most: usize,
        /// Whether it must not be empty.
        needed: bool,
    },
    /// The name has characters that nobody can see, or that turn others around.
    #[error("{0} has no control characters, none that is invisible and none that changes the direction of text")]
    Invisible(&'static str),
    /// The name has too many marks on one letter.
    #[error("{0} has at most {MAX_MARKS} marks on one letter")]
    Marks(&'static str),
    /// The name is not normalized.
    #[error("{0} is not normalized: send it as NFC (in JavaScript: `.normalize()`)")]
    NotNormalized(&'static str),
    /// The name has spaces at its ends, or two in a row.
    #[error("{0} has no spaces at its ends and none in a row")]
    Spaces(&'static str),
}

/// Checks the name of a room.
pub fn check_room(name: &str) -> Result<(), NameError> {
    check_name(name, "the name of a room", MAX_ROOM_BYTES)
}

/// Checks a nick.
pub fn check_nick(nick: &str) -> Result<(), NameError> {
    check_name(nick, "a nick", MAX_NICK_BYTES)
}

/// Checks a line of text that is shown to people, which may be empty.
pub fn check_text(text: &str, what: &'static str, most: usize) -> Result<(), NameError> {
    check(text, what, (most, false), is_joiner)
}

fn check_name(name: &str, what: &'static str, most: usize) -> Result<(), NameError> {
    check(name, what, (most, true), |_| false)?;
    let is_odd = |c: char| c.is_whitespace() && c != ' ';
    if name.starts_with(' ') || name.ends_with(' ') || name.contains("  ") || name.contains(is_odd) {
        return Err(NameError::Spaces(what));
    }
    if !is_nfc(name) {
        return Err(NameError::NotNormalized(what));
    }
    Ok(())
}

fn check(
    text: &str,
    what: &'static str,
    (most, needed): (usize, bool),
    may: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if text.len() > most || (needed && text.is_empty()) {
        return Err(NameError::Length { what, most, needed });
    }
    if text.chars().any(|c| is_invisible(c) && !may(c)) {
        return Err(NameError::Invisible(what));
    }
    let mut marks = 0;
    for character in text.chars() {
        marks = if is_combining_mark(character) { marks + 1 } else { 0 };
        if marks > MAX_MARKS {
            return Err(NameError::Marks(what));
        }
    }
    Ok(())
}

/// Whether a character joins the parts of an emoji, or chooses its colours.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// Whether a character is invisible, or moves others: Unicode's default-ignorable characters, blanks that look like
/// nothing, and controls of direction.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// The form of a name in comparisons: without case, and with the same form for characters of another width.
pub fn folded(name: &str) -> String {
    let lower: String = name.nfkc().flat_map(char::to_lowercase).collect();
    lower.nfkc().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_can_read_names_and_tell_them_apart() {
        for name in ["a", "Jürgen", "山田 太郎", "משה", "O'Neil", "a/b", "<b>x</b>", "x\u{301}\u{302}"] {
            assert_eq!(check_nick(name), Ok(()), "{name:?}");
        }
        let piled = format!("a{}", "\u{301}".repeat(25));
        let many = format!("a{}", "\u{301}".repeat(100_000));
        for (name, why) in [
            ("", "bytes"),
            (&*"x".repeat(65), "bytes"),
            (&*many, "bytes"),
            (&*piled, "marks"),
            ("a\u{202e}b", "invisible"),
            ("\u{200b}", "invisible"),
            ("ann\u{200d}", "invisible"),
            ("a\u{3164}", "invisible"),
            ("a\nb", "invisible"),
            ("a\u{feff}", "invisible"),
            ("\u{e0041}a", "invisible"),
            (" a", "spaces"),
            ("a  b", "spaces"),
            ("a\u{a0}b", "spaces"),
            ("e\u{301}", "normalized"),
        ] {
            let error = check_nick(name).map_err(|error| error.to_string());
            assert!(error.as_ref().is_err_and(|error| error.contains(why)), "{name:?}: {error:?}");
        }
        assert_eq!(check_text("👩\u{200d}💻 and ❤\u{fe0f}", "a title", 256), Ok(()));
        assert!(check_text("a\u{202e}b", "a title", 256).is_err());
        assert_eq!(check_text("", "a title", 256), Ok(()));
    }

    #[test]
    fn case_and_width_make_no_other_name() {
        for (a, b) in [("Ann", "ANN"), ("ａｎｎ", "ann"), ("Jürgen", "JÜRGEN"), ("ﬁ", "FI")] {
            assert_eq!(folded(a), folded(b));
        }
        assert_ne!(folded("ann"), folded("anne"));
    }
}
