//! Values of a URL's query (RFC 3986 §3.4), as clients write them: by hand, percent-encoded, or as forms do, with `+`
//! for a space (WHATWG URL §5).
//!
//! `+` is also a wildcard of filters, and curl users write it as it is. Both hold: in a topic or filter a `+` that is a
//! whole level is the wildcard, one between two other characters of a level is a space, and any other is itself, which
//! no topic and no filter may hold.

use std::borrow::Cow;

/// A value that can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the percent-encoding is not two hexadecimal digits, or not UTF-8")]
pub struct NotText;

/// Decodes percent-encoding alone: `+` is itself.
pub fn percent(text: &str) -> Result<Cow<'_, str>, NotText> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = tail else { return Err(NotText) };
        let digit = |d: u8| char::from(d).to_digit(16);
        let (high, low) = digit(*high).zip(digit(*low)).ok_or(NotText)?;
        bytes.push((high << 4 | low) as u8);
        rest = tail;
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| NotText)
}

/// Decodes a value as forms write it: `+` is a space.
pub fn form(text: &str) -> Result<Cow<'_, str>, NotText> {
    if !text.contains('+') {
        return percent(text);
    }
    percent(&text.replace('+', " ")).map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// Decodes a topic or a filter: `+` is a space where it stands within a level, and itself elsewhere.
pub fn topic(text: &str) -> Result<Cow<'_, str>, NotText> {
    if !text.contains('+') {
        return percent(text);
    }
    let mut spaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('+') {
        let (before, run) = rest.split_at(at);
        let after = run.trim_start_matches('+');
        spaced.push_str(before);
        let pluses = run.len() - after.len();
        let is_within = !ends_level(&spaced) && !begins_level(after);
        spaced.extend(std::iter::repeat_n(if is_within { ' ' } else { '+' }, pluses));
        rest = after;
    }
    spaced.push_str(rest);
    percent(&spaced).map(|decoded| Cow::Owned(decoded.into_owned()))
}

/// Whether a level of a topic, encoded, begins behind this text.
fn ends_level(before: &str) -> bool {
    let last = before.len().checked_sub(3).and_then(|at| before.get(at..));
    before.is_empty() || before.ends_with('/') || last.is_some_and(|last| last.eq_ignore_ascii_case("%2f"))
}

/// Whether a level of a topic, encoded, ends before this text.
fn begins_level(after: &str) -> bool {
    after.is_empty() || after.starts_with('/') || after.get(..3).is_some_and(|it| it.eq_ignore_ascii_case("%2f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding() {
        assert_eq!(percent("a+b%20c%C3%A9"), Ok("a+b cé".into()));
        for text in ["%", "%4", "%zz", "%ff", "%+1"] {
            assert_eq!(percent(text), Err(NotText), "{text}");
        }
    }

    #[test]
    fn forms() {
        assert_eq!(form("a+b%2Bc%20d"), Ok("a b+c d".into()));
        assert_eq!(form("+"), Ok(" ".into()));
        assert_eq!(form("%+1"), Err(NotText));
    }

    #[test]
    fn a_plus_in_a_topic_is_a_wildcard_or_a_space() {
        for (text, decoded) in [
            ("Living+Room", "Living Room"),
            ("Living++Room%2FLamp+1", "Living  Room/Lamp 1"),
            ("a+b/%23", "a b/#"),
            ("%C3%A9+%C3%A9", "é é"),
            ("+", "+"),
            ("+/a/+/b+c/+", "+/a/+/b c/+"),
            ("a%2F+%2fb", "a/+/b"),
            ("a/b+", "a/b+"),
            ("a/+b", "a/+b"),
            ("++/a", "++/a"),
            ("a%252F+b", "a%2F b"),
            ("a%2Bb", "a+b"),
        ] {
            assert_eq!(topic(text), Ok(decoded.into()), "{text}");
        }
        assert_eq!(topic("a+%zz"), Err(NotText));
    }
}
