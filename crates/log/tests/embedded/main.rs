//! The engine embedded over a simulated disk.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod crashes;
mod faults;
