//! What a node derives from the log: pages by topic, retained messages, floors.
//!
//! The log's records stay where they are; the store knows which of them belong to which topic, which are still wanted,
//! and what was lost. All of it can be rebuilt from the log, so that nothing here is ever waited for: states change in
//! memory, and a checkpoint writes them behind. See [`Applier`] for how it follows the log, [`Store`] for reading.

mod ages;
mod applier;
mod backwards;
mod cache;
mod checkpoint;
mod chunk;
mod digest;
mod former;
mod greeting;
mod losses;
mod metrics;
mod read;
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
