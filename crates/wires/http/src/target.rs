//! The request target: its forms (RFC 9112 §3.2), the query's pairs, and their values: see [`query`] for the meaning of
//! `+`.

use std::borrow::Cow;
use std::time::Duration;

use everywire_base::query::{self, NotText};

use crate::problem::Problem;

/// A request's target, still encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Target<'a> {
    /// Host and port, if the target is in absolute form: it overrides `Host`.
    pub(crate) authority: Option<&'a str>,
    /// The path from the first `/` on; `*` for the whole server.
    pub(crate) path: &'a str,
    /// The part after the `?`; empty if there is none.
    pub(crate) query: &'a str,
}

impl<'a> Target<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, Problem> {
        if let Some(at) = text.bytes().position(|b| !b.is_ascii_graphic() || b == b'#') {
            let detail =
                format!("the address has a character at byte {at} that must be percent-encoded (`#` is `%23`)");
            return Err(Problem::fatal(400, detail));
        }
        let (authority, rest) = match text.as_bytes().first() {
            Some(b'/') => (None, text),
            Some(b'*') if text.len() == 1 => (None, text),
            _ => absolute(text)?,
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        Ok(Self { authority, path: if path.is_empty() { "/" } else { path }, query })
    }

    /// The names and values of the query, still encoded.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.query.split('&').filter(|p| !p.is_empty()).map(|p| p.split_once('=').unwrap_or((p, "")))
    }
}

fn absolute(text: &str) -> Result<(Option<&str>, &str), Problem> {
    let malformed = || Problem::fatal(400, "the request's target begins neither with `/` nor with `http://`");
    let (scheme, rest) = text.split_once("://").ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(malformed());
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    if end == 0 {
        return Err(malformed());
    }
    Ok((Some(&rest[..end]), &rest[end..]))
}

/// Decodes percent-encoding alone, as in paths, tokens and cursors.
pub(crate) fn decode<'a>(text: &'a str, name: &str) -> Result<Cow<'a, str>, Problem> {
    query::percent(text).map_err(|error| undecodable(name, error))
}

/// Decodes the text of a parameter, in which `+` is a space.
pub(crate) fn decode_text<'a>(text: &'a str, name: &str) -> Result<Cow<'a, str>, Problem> {
    query::form(text).map_err(|error| undecodable(name, error))
}

/// Decodes a topic or filter of a parameter, in which `+` may be a wildcard.
pub(crate) fn decode_topic<'a>(text: &'a str, name: &str) -> Result<Cow<'a, str>, Problem> {
    query::topic(text).map_err(|error| undecodable(name, error))
}

fn undecodable(name: &str, error: NotText) -> Problem {
    Problem::bad(format!("`{name}`: {error}"))
}

/// Puts a parameter's value into its place; a second one is refused.
pub(crate) fn once<T>(place: &mut Option<T>, value: T, name: &str) -> Result<(), Problem> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Problem::bad(format!("`{name}` is given twice"))),
    }
}

/// Reads a whole number; one that is too large for 64 bits counts as the largest.
pub(crate) fn whole(text: &str, name: &str) -> Result<u64, Problem> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Problem::bad(format!("`{name}` is a whole number, like `{name}=10`")));
    }
    Ok(text.parse().unwrap_or(u64::MAX))
}

/// Reads seconds, perhaps with decimals.
pub(crate) fn seconds(text: &str, name: &str) -> Result<Duration, Problem> {
    let (whole_part, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let wrong = |_| Problem::bad(format!("`{name}` is a number of seconds, like `{name}=10`"));
    let whole_part = whole(whole_part, name).map_err(wrong)?;
    whole(decimals, name).map_err(wrong)?;
    let millis = decimals.bytes().chain(*b"00").take(3).fold(0, |n, d| n * 10 + u64::from(d - b'0'));
    Ok(Duration::from_millis(whole_part.saturating_mul(1000).saturating_add(millis)))
}

/// Reads a switch: `1` or `true`, `0` or `false`; a bare name is on.
pub(crate) fn switch(text: &str, name: &str) -> Result<bool, Problem> {
    match text {
        "1" | "true" | "" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(Problem::bad(format!("`{name}` is 1 or 0"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_target() {
        let parse = |t| Target::parse(t).map(|t| (t.authority, t.path, t.query)).map_err(|p| p.status);
        assert_eq!(parse("/a?b=c&d"), Ok((None, "/a", "b=c&d")));
        assert_eq!(parse("http://h:1/a"), Ok((Some("h:1"), "/a", "")));
        assert_eq!(parse("HTTPS://h?x"), Ok((Some("h"), "/", "x")));
        assert_eq!(parse("*"), Ok((None, "*", "")));
        for text in ["a", "ftp://h/", "http://", "http:///x", "/a#b", "/\u{e9}", "h:80", ""] {
            assert_eq!(parse(text), Err(400), "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(whole("99999999999999999999", "x"), Ok(u64::MAX));
        assert_eq!(seconds("1.25", "x"), Ok(Duration::from_millis(1250)));
        assert_eq!(seconds("2", "x"), Ok(Duration::from_secs(2)));
        assert_eq!(seconds("0.5", "x"), Ok(Duration::from_millis(500)));
        for text in ["", "-1", "+1", "1e3", "1.", ".5", " 1", "x"] {
            assert!(seconds(text, "x").is_err(), "{text}");
        }
    }
}
