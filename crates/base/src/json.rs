//! JSON as every wire takes it: checked once, at publish, and kept as it came.
//!
//! [`check`] refuses a text that the grammar of RFC 8259 doesn't allow, and one that it allows but common parsers can't
//! read: half of a surrogate pair, a number beyond what 64-bit floating point holds, values nested too deep. A message
//! that a publisher may send must never stop a reader. A name that stands twice in an object is left to the reader.
//!
//! The check walks the text once, without recursion, and stops at the first fault: depth costs nothing.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::envelope;

/// The longest explanation of a fault, in characters: it may quote the input.
const MAX_EXPLANATION: usize = 160;

/// The fault for which a text isn't taken as JSON, and its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{fault}see line {line} column {column}")]
pub struct NotJson {
    fault: Fault,
    /// From 1.
    line: usize,
    /// In bytes, from 1; 0 in an empty line.
    column: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Grammar,
    NotUtf8,
    Surrogate,
    Number,
    Depth(usize),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Grammar => Ok(()),
            Fault::NotUtf8 => f.write_str("it is not UTF-8, "),
            Fault::Surrogate => f.write_str("a string has half of a surrogate pair, "),
            Fault::Number => f.write_str("a number is too large for 64-bit floating point, "),
            Fault::Depth(most) => write!(f, "it is nested deeper than {most} levels (limits.json_depth), "),
        }
    }
}

/// Checks that a text is one JSON value, nested at most this many levels, that every common parser reads.
pub fn check(text: &[u8], max_depth: usize) -> Result<(), NotJson> {
    let fault = match std::str::from_utf8(text) {
        Ok(_) => match (Scanner { text, at: 0, max_depth, open: SmallVec::new() }).document() {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        },
        Err(error) => (Fault::NotUtf8, error.valid_up_to()),
    };
    let (fault, at) = fault;
    let before = &text[..at.min(text.len())];
    let line = 1 + memchr::memchr_iter(b'\n', before).count();
    let line_start = memchr::memrchr(b'\n', before).map_or(0, |end| end + 1);
    // A text that ends too early has its fault at its last byte.
    let column = before.len() - line_start + usize::from(at < text.len());
    Err(NotJson { fault, line, column })
}

/// A walk over a text that is UTF-8.
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    max_depth: usize,
    /// The closing characters of the arrays and objects around the present place, the innermost last.
    open: SmallVec<[u8; 32]>,
}

type Scanned = Result<(), (Fault, usize)>;

impl Scanner<'_> {
    fn document(&mut self) -> Scanned {
        loop {
            if self.value()? {
                continue;
            }
            while let Some(closer) = self.open.last().copied() {
                match self.next_token() {
                    Some(b',') => {
                        self.at += 1;
                        if closer == b'}' {
                            self.name()?;
                        }
                        break;
                    }
                    Some(byte) if byte == closer => {
                        self.at += 1;
                        self.open.pop();
                    }
                    _ => return self.wrong(Fault::Grammar),
                }
            }
            if self.open.is_empty() {
                return if self.next_token().is_none() { Ok(()) } else { self.wrong(Fault::Grammar) };
            }
        }
    }

    /// Takes a value, or the opening of one that isn't empty; returns whether another value must follow at once.
    fn value(&mut self) -> Result<bool, (Fault, usize)> {
        match self.next_token() {
            Some(opener @ (b'[' | b'{')) => return self.opening(opener),
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word(b"true")?,
            Some(b'f') => self.word(b"false")?,
            Some(b'n') => self.word(b"null")?,
            _ => self.wrong(Fault::Grammar)?,
        }
        Ok(false)
    }

    fn opening(&mut self, opener: u8) -> Result<bool, (Fault, usize)> {
        if self.open.len() >= self.max_depth {
            self.wrong(Fault::Depth(self.max_depth))?;
        }
        self.at += 1;
        let closer = if opener == b'[' { b']' } else { b'}' };
        if self.next_token() == Some(closer) {
            self.at += 1;
            return Ok(false);
        }
        self.open.push(closer);
        if closer == b'}' {
            self.name()?;
        }
        Ok(true)
    }

    /// Reads a member's name, with the colon after it.
    fn name(&mut self) -> Scanned {
        if self.next_token() != Some(b'"') {
            return self.wrong(Fault::Grammar);
        }
        self.string()?;
        match self.next_token() {
            Some(b':') => self.at += 1,
            _ => return self.wrong(Fault::Grammar),
        }
        Ok(())
    }

    /// Skips white space and returns the next byte.
    fn next_token(&mut self) -> Option<u8> {
        let space = self.text[self.at..].iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'));
        self.at += space.count();
        self.peek()
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn string(&mut self) -> Scanned {
        self.at += 1;
        loop {
            let plain = self.text[self.at..].iter().take_while(|b| !matches!(b, b'"' | b'\\' | ..=0x1f));
            self.at += plain.count();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                _ => return self.wrong(Fault::Grammar),
            }
        }
    }

    fn escape(&mut self) -> Scanned {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => match self.unit(self.at) {
                Some(0xd800..=0xdbff) if matches!(self.unit(self.at + 6), Some(0xdc00..=0xdfff)) => self.at += 12,
                Some(0xd800..=0xdfff) => return self.wrong(Fault::Surrogate),
                Some(_) => self.at += 6,
                None => return self.wrong(Fault::Grammar),
            },
            _ => return self.wrong(Fault::Grammar),
        }
        Ok(())
    }

    /// The code unit of the escape `\uXXXX` that stands here.
    fn unit(&self, at: usize) -> Option<u16> {
        let digits = self.text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        let digit = |n: u16, d: &u8| Some(n << 4 | char::from(*d).to_digit(16)? as u16);
        digits.iter().try_fold(0, digit)
    }

    fn number(&mut self) -> Scanned {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        let integer = self.at - start;
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let is_scaled = matches!(self.peek(), Some(b'e' | b'E'));
        if is_scaled {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        // Up to 300 digits before the point are within bounds.
        if is_scaled || integer > 300 {
            let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
            if text.parse::<f64>().is_ok_and(f64::is_infinite) {
                return Err((Fault::Number, start));
            }
        }
        Ok(())
    }

    /// Reads at least one digit.
    fn digits(&mut self) -> Scanned {
        let digits = self.text[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { self.wrong(Fault::Grammar) } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Scanned {
        if !self.text[self.at..].starts_with(word) {
            return self.wrong(Fault::Grammar);
        }
        self.at += word.len();
        Ok(())
    }

    fn wrong(&self, fault: Fault) -> Scanned {
        Err((fault, self.at))
    }
}

/// Reads a field that must tell `null` from absence: `#[serde(default, deserialize_with = "json::present")]`.
pub fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Returns the body of a message that is described in JSON, and the type that the body itself gives: `body` is a string
/// (text, unless `says` that the message's type is JSON) or any other JSON; `body_base64` is for bytes. Without either
/// the body is empty; `null` as `body` is JSON like any other, and `null` as `body_base64` counts as absent.
pub fn content(
    body: Option<&RawValue>,
    body_base64: Option<&RawValue>,
    says: Option<&str>,
) -> Result<(Bytes, Option<&'static str>), &'static str> {
    let base64 = body_base64.filter(|raw| raw.get() != "null");
    let raw = match (body, base64) {
        (Some(_), Some(_)) => return Err("a message has `body` or `body_base64`, not both"),
        (None, None) if body_base64.is_some() => {
            return Err("`body_base64` is null: leave it out to publish an empty body");
        }
        (None, None) => return Ok((Bytes::new(), None)),
        (None, Some(raw)) => {
            let bytes = text(raw.get()).and_then(|text| STANDARD.decode(text).ok());
            return Ok((bytes.ok_or("`body_base64` is not Base64")?.into(), None));
        }
        (Some(raw), _) => raw.get(),
    };
    let verbatim = || Bytes::copy_from_slice(raw.as_bytes());
    match (says.map(envelope::is_json), raw.starts_with('"')) {
        (Some(true), _) => Ok((verbatim(), None)),
        (_, true) => Ok((text(raw).ok_or("`body` is a string that is not Unicode")?, None)),
        (None, false) => Ok((verbatim(), Some("application/json"))),
        (Some(false), false) => Err("`body` is a string, unless `type` says JSON"),
    }
}

/// The text of a JSON string.
fn text(json: &str) -> Option<Bytes> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Bytes::copy_from_slice(inner.as_bytes()));
    }
    serde_json::from_str::<String>(json).ok().map(Into::into)
}

/// Explains in a few words why a value has another shape than was expected.
pub fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.char_indices().nth(MAX_EXPLANATION) {
        None => text,
        Some((end, _)) => format!("{}…, at line {} column {}", &text[..end], error.line(), error.column()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn what_is_json() {
        for text in [
            "null",
            " \t\r\n-0 ",
            "0.5e-400",
            "1e308",
            "-1.25E+2",
            "[]",
            "{}",
            "[1,[2,{\"a\":[]}],{\"a\":1,\"a\":2}]",
            r#""\ud83d\ude00 \u0000 \" \\ \/ \b\f\n\r\t é \uFFFF""#,
            r#"{"":{"\u0061":true},"b":[false,null]}"#,
        ] {
            assert_eq!(check(text.as_bytes(), 100), Ok(()), "{text}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
        }
        assert_eq!(check("9".repeat(308).as_bytes(), 100), Ok(()));
        assert_eq!(check(nested(100).as_bytes(), 100), Ok(()));
    }

    #[test]
    fn what_is_not_json_and_where() {
        for (text, says) in [
            ("", "see line 1 column 0"),
            ("{\n?", "see line 2 column 1"),
            ("[1,]", "see line 1 column 4"),
            ("[1 2]", "see line 1 column 4"),
            ("{\"a\" 1}", "see line 1 column 6"),
            ("{\"a\":1,}", "see line 1 column 8"),
            ("{a:1}", "see line 1 column 2"),
            ("[1}", "see line 1 column 3"),
            ("1 2", "see line 1 column 3"),
            ("[", "see line 1 column 1"),
            ("01", "see line 1 column 2"),
            ("+1", "see line 1 column 1"),
            (".5", "see line 1 column 1"),
            ("1.", "see line 1 column 2"),
            ("1e", "see line 1 column 2"),
            ("-", "see line 1 column 1"),
            ("NaN", "see line 1 column 1"),
            ("nul", "see line 1 column 1"),
            ("\u{feff}1", "see line 1 column 1"),
            ("\"a\nb\"", "see line 1 column 3"),
            ("\"a", "see line 1 column 2"),
            (r#""\x""#, "see line 1 column 2"),
            (r#""\u00g0""#, "see line 1 column 2"),
            (r#""\u+123""#, "see line 1 column 2"),
            (r#"["\ud83d"]"#, "a string has half of a surrogate pair, see line 1 column 3"),
            (r#""\ude00\ud83d""#, "a string has half of a surrogate pair, see line 1 column 2"),
            (r#"{"\ud83d\u0061":1}"#, "a string has half of a surrogate pair, see line 1 column 3"),
            ("[1e400]", "a number is too large for 64-bit floating point, see line 1 column 2"),
            ("-1.5e999999999999", "a number is too large for 64-bit floating point, see line 1 column 1"),
        ] {
            assert_eq!(check(text.as_bytes(), 100).map_err(|error| error.to_string()), Err(says.into()), "{text:?}");
        }
        let number = check("9".repeat(310).as_bytes(), 100).unwrap_err();
        assert_eq!(number.fault, Fault::Number);
        assert_eq!(check(b"[\"\xff\"]", 100).unwrap_err().to_string(), "it is not UTF-8, see line 1 column 3");
    }

    #[test]
    fn depth_is_bounded_and_what_is_below_it_is_not_looked_at() {
        for text in [nested(101), "[".repeat(100_000), "{\"a\":".repeat(100_000), nested(101).replace('[', "\n[")] {
            assert_eq!(check(text.as_bytes(), 100).unwrap_err().fault, Fault::Depth(100));
        }
        let says = check(nested(3).as_bytes(), 2).unwrap_err().to_string();
        assert_eq!(says, "it is nested deeper than 2 levels (limits.json_depth), see line 1 column 3");
    }

    #[test]
    fn the_body_of_a_message_in_json() {
        let raw = |json: &'static str| serde_json::from_str::<&RawValue>(json).unwrap();
        let json = Some("application/json");
        for (body, base64, says, expected) in [
            (None, None, None, Ok(("", None))),
            (Some("\"h\\u00e9\""), None, None, Ok(("hé", None))),
            (Some("\"hi\""), Some("null"), None, Ok(("hi", None))),
            (Some("\"hi\""), None, json, Ok(("\"hi\"", None))),
            (Some("{\"n\": 1}"), None, None, Ok(("{\"n\": 1}", json))),
            (Some("null"), None, None, Ok(("null", json))),
            (Some("null"), None, json, Ok(("null", None))),
            (Some("null"), None, Some("text/plain"), Err("`body` is a string, unless `type` says JSON")),
            (Some("\"\\ud83d\""), None, None, Err("`body` is a string that is not Unicode")),
            (None, Some("\"aGk=\""), None, Ok(("hi", None))),
            (None, Some("\"?\""), None, Err("`body_base64` is not Base64")),
            (None, Some("5"), None, Err("`body_base64` is not Base64")),
            (None, Some("null"), None, Err("`body_base64` is null: leave it out to publish an empty body")),
            (Some("null"), Some("\"aGk=\""), None, Err("a message has `body` or `body_base64`, not both")),
        ] {
            let got = content(body.map(raw), base64.map(raw), says);
            assert_eq!(got, expected.map(|(text, implied)| (Bytes::from(text), implied)), "{body:?} {base64:?}");
        }
    }
}
