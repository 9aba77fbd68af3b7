//! The configuration: flag, environment, file, default, in that order.
//!
//! [`file`] reads the file and finds its faults; [`settings`] puts the layers over each other.

pub(crate) mod admission;
mod bridges;
mod complaint;
mod environment;
mod file;
mod limits;
mod reader;
mod settings;
#[cfg(test)]
mod tests;
mod topics;
pub(crate) mod units;

pub use complaint::{Complaint, Place};
pub use file::File;
pub(crate) use settings::Layers;
pub use settings::{Auth, EngineKind, Listen, Listener, LogFormat, Mqtt, Settings, Tls};
