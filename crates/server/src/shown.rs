//! Text of others, made safe for people: a terminal takes control characters for commands.

use std::borrow::Cow;
use std::io::{self, Write};

/// The text with its control characters escaped as JSON escapes them, so that JSON stays JSON.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, char::is_control)
}

/// The text with its control characters escaped, except line ends and tabs.
pub(crate) fn shown_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character.is_control() && !matches!(character, '\n' | '\t'))
}

fn escaped(text: &str, is_meant: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_meant) {
        return Cow::Borrowed(text);
    }
    let escape = |character: char| match character {
        '\n' if is_meant(character) => "\\n".to_owned(),
        character if is_meant(character) => format!("\\u{:04x}", u32::from(character)),
        character => character.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Writes lines with their control characters escaped. Each write has whole characters.
pub(crate) struct Shown<W>(pub(crate) W);

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(shown_lines(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped() {
        assert!(matches!(shown("Jürgen 👩‍🚀"), Cow::Borrowed(_)));
        assert_eq!(shown("a\u{1b}]0;x\u{7}\nb\u{7f}\u{9b}2J\t"), "a\\u001b]0;x\\u0007\\nb\\u007f\\u009b2J\\u0009");
        assert_eq!(shown_lines("a\n\tb\r\u{1b}c\n"), "a\n\tb\\u000d\\u001bc\n");
        let mut out = Vec::new();
        Shown(&mut out).write_all("{\"a\":\"\u{9b}\"}\n".as_bytes()).unwrap();
        assert_eq!(out, b"{\"a\":\"\\u009b\"}\n");
    }
}
