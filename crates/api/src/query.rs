//! The parameters of a request. `+` is a space, except in topics and filters, where it may be a wildcard: see
//! [`everywire_base::query`].

use std::borrow::Cow;
use std::str::FromStr;

use everywire_base::query::{self, NotText};

use crate::problem::Problem;

/// The parameters of one request.
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The parameters of a request's target.
    pub(crate) fn of(uri: &'a http::Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// A parameter's text; `None` if it is absent. A parameter that comes twice is an error, since either could be
    /// meant.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        self.decoded(name, query::form)
    }

    /// A parameter's text, decoded by the given function.
    fn decoded(
        &self,
        name: &str,
        decode: fn(&str) -> Result<Cow<'_, str>, NotText>,
    ) -> Result<Option<String>, Problem> {
        let pairs = self.0.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Problem::malformed(format!("`{name}` is given twice: give it once")));
        }
        let decoded = decode(value).map_err(|error| Problem::malformed(format!("`{name}`: {error}")))?;
        Ok(Some(decoded.into_owned()))
    }

    /// A parameter, parsed.
    pub(crate) fn parsed<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        parse(&text).map(Some).map_err(|why| Problem::malformed(format!("`{name}`: {why}")))
    }

    /// A topic or filter, parsed.
    pub(crate) fn topic<T>(
        &self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.decoded(name, query::topic)? else { return Ok(None) };
        parse(&text).map(Some).map_err(|why| Problem::malformed(format!("`{name}`: {why}")))
    }

    /// A whole number, moved into its range.
    pub(crate) fn clamped(&self, name: &str, range: (usize, usize), default: usize) -> Result<usize, Problem> {
        let parse = |text: &str| u64::from_str(text).map_err(|_| format!("{text:?} is not a whole number"));
        let number = self.parsed(name, parse)?;
        Ok(number.map_or(default, |n| usize::try_from(n).unwrap_or(usize::MAX).clamp(range.0, range.1)))
    }
}
