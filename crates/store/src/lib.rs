//! The state that a node derives from the log: pages by topic, retained messages, floors.
//!
//! The log's records stay where they are; the store knows the topic of each, whether it is still wanted, and the
//! losses. All of it can be rebuilt from the log, so that nobody ever waits for the store: states change in memory, and
//! a checkpoint writes them later. See [`Applier`] for following the log, [`Store`] for reading.

mod ages;
mod applier;
mod backwards;
mod cache;
mod checkpoint;
mod chunk;
mod digest;
mod former;
mod foundations;
mod greeting;
mod losses;
mod metrics;
mod read;
mod recall;
mod retained;
mod room;
mod shared;
mod state;
mod store;
pub mod tables;
mod topics;
mod upkeep;

pub use applier::{Applier, Progress, StoreError};
pub use metrics::StoreMetrics;
pub use shared::Parts;
pub use store::Store;
pub use tables::{FjallTables, MemoryTables};
pub use topics::TopicInfo;
