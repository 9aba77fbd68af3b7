//! The vocabulary of Everywire: topics and filters, cursors, records, parcels, reasons, clock values, limits, rules,
//! and the asks of a node's parts to each other. No socket, no thread, no clock.

pub mod access;
pub mod ask;
pub mod bridge;
pub mod clock;
pub mod cursor;
pub mod envelope;
pub mod id;
pub mod identity;
pub mod json;
pub mod kept;
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
pub mod recall;
pub mod record;
pub mod registry;
pub mod roster;
pub mod rules;
pub mod signal;
pub mod source;
pub mod system;
pub mod terms;
pub mod topic;
