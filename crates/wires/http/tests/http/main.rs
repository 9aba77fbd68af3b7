//! The HTTP wire as its peer sees it: golden tables, malformed requests, and cases that a table can't say.

#[cfg(test)]
mod golden;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod states;
