//! Redis as the engine that orders the log.
//!
//! All nodes of a service name the same Redis and the same prefix. One script ([`script`]) takes the appends of nodes:
//! it gives offsets and times, and begins an epoch with each run of a master. One stream has the records in their
//! order, which every node follows. Redis holds only a window to catch up from, and the snapshots; the nodes have the
//! history.
//!
//! It implements [`everywire_log::remote`] and judges nothing. An address ([`Address`]) names a service's Redis, and
//! the promise that is wanted. Sentinels and the nodes of a cluster are asked for the master, and the connection to
//! that is a plain one: all keys lie in one slot.

mod address;
mod blobs;
mod fault;
mod frame;
mod link;
mod memory;
mod promise;
mod remote;
mod script;
mod stored;

pub use address::{Address, AddressError, Servers, TooFew};
pub use remote::Redis;
