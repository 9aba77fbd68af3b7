//! The vocabulary of Everywire: topics and filters, cursors, records, parcels, reasons, clock values, limits, rules,
//! and what the parts of a node ask of each other. No socket, no thread, no clock.

pub mod ask;
pub mod clock;
pub mod cursor;
pub mod envelope;
pub mod id;
pub mod identity;
pub mod json;
pub mod lab;
pub mod limits;
pub mod network;
pub mod notice;
pub mod ordered;
pub mod parcel;
pub mod publish;
pub mod query;
pub mod quota;
pub mod reason;
pub mod record;
pub mod registry;
pub mod rules;
pub mod system;
pub mod terms;
pub mod topic;
