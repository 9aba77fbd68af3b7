//! Reads tables of a TOML document and complains about each key that is unknown or wrong, with its line and column. It
//! goes on after an error, so that one run says all of them.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::complaint::{Complaint, Place};

/// A value with its place.
pub(crate) type Value<'t> = Spanned<DeValue<'t>>;

/// The fault of a value, and its place there unless the whole value is wrong.
pub(crate) struct Fault {
    what: String,
    at: Option<Range<usize>>,
}

impl From<String> for Fault {
    fn from(what: String) -> Self {
        Self { what, at: None }
    }
}

/// Collects the complaints about one file.
pub(crate) struct Reader<'t> {
    name: &'t str,
    text: &'t str,
    complaints: Vec<Complaint>,
}

impl<'t> Reader<'t> {
    /// Parses a document. Text that is not TOML is complained about, and the rest is read.
    pub(crate) fn parse(name: &'t str, text: &'t str) -> (Self, Spanned<DeTable<'t>>) {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reader = Self { name, text, complaints: Vec::new() };
        for error in errors {
            let what = error.message().trim().replace('\n', ", ");
            reader.complain(error.span().unwrap_or_default(), format!("this is not TOML: {what}"));
        }
        (reader, table)
    }

    /// Notes a complaint about a place in the text.
    pub(crate) fn complain(&mut self, at: Range<usize>, what: String) {
        let complaint = self.complaint(at, what);
        self.complaints.push(complaint);
    }

    /// A complaint about a place in the text.
    pub(crate) fn complaint(&self, at: Range<usize>, what: String) -> Complaint {
        let before = &self.text[..self.text.floor_char_boundary(at.start)];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
        Complaint { place: Place::File(self.name.to_owned(), line, column), what }
    }

    /// All complaints in the order of the text.
    pub(crate) fn finish(mut self) -> Vec<Complaint> {
        self.complaints.sort();
        self.complaints.dedup();
        self.complaints
    }

    /// The fields of a value that should be a table.
    pub(crate) fn table<'a>(&mut self, path: &str, value: &'a Value<'t>) -> Option<Fields<'a, 't>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(Fields::new(path, table)),
            other => {
                let what = format!("{path} is {}, not a table: write it as [{path}]", article(other));
                self.complain(value.span(), what);
                None
            }
        }
    }
}

/// The fields of one table: each is taken once, and those left over are unknown.
pub(crate) struct Fields<'a, 't> {
    path: String,
    table: &'a DeTable<'t>,
    known: Vec<&'static str>,
}

impl<'a, 't> Fields<'a, 't> {
    /// The fields of a table at a path; the document's own path is empty.
    pub(crate) fn new(path: &str, table: &'a DeTable<'t>) -> Self {
        Self { path: path.to_owned(), table, known: Vec::new() }
    }

    /// The path of a field, for people.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// The raw value of a field.
    pub(crate) fn raw(&mut self, name: &'static str) -> Option<&'a Value<'t>> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.table.get(name)
    }

    /// A field's value; `None` if it is absent or wrong.
    pub(crate) fn take<T>(
        &mut self,
        reader: &mut Reader<'t>,
        name: &'static str,
        parse: impl FnOnce(&Value<'t>) -> Result<T, Fault>,
    ) -> Option<T> {
        let value = self.raw(name)?;
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(Fault { what, at }) => {
                reader.complain(at.unwrap_or(value.span()), format!("{}: {what}", self.path_of(name)));
                None
            }
        }
    }

    /// Complains about all fields that nobody asked for.
    pub(crate) fn end(self, reader: &mut Reader<'t>) {
        for key in self.table.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref())) {
            let path = self.path_of(key.get_ref());
            reader.complain(key.span(), format!("{path} is unknown: known here are {}", self.known.join(", ")));
        }
    }
}

fn article(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

fn wrong(value: &Value<'_>, expected: &str) -> Fault {
    format!("this is {}, not {expected}", article(value.get_ref())).into()
}

/// A string, parsed.
pub(crate) fn text<'t, T>(parse: impl Fn(&str) -> Result<T, String>) -> impl Fn(&Value<'t>) -> Result<T, Fault> {
    move |value| match value.get_ref() {
        DeValue::String(text) => parse(text).map_err(Fault::from),
        _ => Err(wrong(value, "a string in quotes")),
    }
}

/// `true` or `false`.
pub(crate) fn flag(value: &Value<'_>) -> Result<bool, Fault> {
    value.get_ref().as_bool().ok_or_else(|| wrong(value, "`true` or `false`"))
}

/// A whole number from 0.
pub(crate) fn count(value: &Value<'_>) -> Result<u64, Fault> {
    let integer = value.get_ref().as_integer().ok_or_else(|| wrong(value, "a whole number"))?;
    let number = u64::from_str_radix(integer.as_str(), integer.radix());
    number.map_err(|_| format!("{integer} is out of range: it is a whole number from 0").into())
}

/// Bytes: a size in quotes, or their number.
pub(crate) fn bytes(value: &Value<'_>) -> Result<u64, Fault> {
    match value.get_ref() {
        DeValue::Integer(_) => count(value),
        DeValue::String(text) => super::units::size(text).map_err(Fault::from),
        _ => Err(wrong(value, "a size like \"64MiB\"")),
    }
}

/// A duration in quotes.
pub(crate) fn duration(value: &Value<'_>) -> Result<std::time::Duration, Fault> {
    match value.get_ref() {
        DeValue::String(text) => super::units::duration(text).map_err(Fault::from),
        _ => Err(wrong(value, "a duration like \"7d\" or \"90s\"")),
    }
}

/// A list, each entry parsed.
pub(crate) fn list<'t, T>(
    parse: impl Fn(&Value<'t>) -> Result<T, Fault>,
) -> impl Fn(&Value<'t>) -> Result<Vec<T>, Fault> {
    move |value| {
        let entries = value.get_ref().as_array().ok_or_else(|| wrong(value, "a list in brackets"))?;
        let entry =
            |entry: &Value<'t>| parse(entry).map_err(|fault| Fault { at: fault.at.or(Some(entry.span())), ..fault });
        entries.iter().map(entry).collect()
    }
}
