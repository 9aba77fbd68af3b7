//! A fault of the configuration.

use std::fmt;

/// One fault: its place, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The place of the fault.
    pub place: Place,
    /// The key, what is wrong with it, and what to do.
    pub what: String,
}

/// A place in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file: its name, the line and the column, both from 1; columns count characters.
    File(String, usize, usize),
    /// In a variable of the environment.
    Environment(&'static str),
    /// In no single place: the fault follows from several settings.
    Whole,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(name, line, column) => write!(f, "{name}:{line}:{column}: {}", self.what),
            Place::Environment(name) => write!(f, "{name}: {}", self.what),
            Place::Whole => f.write_str(&self.what),
        }
    }
}
