//! The HTTP wire as its peer sees it: golden tables, requests that are none, and what a table can't say.

#[cfg(test)]
mod golden;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod states;
