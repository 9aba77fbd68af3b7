//! Whose share of a bound something uses up: each identity has one, and the anonymous clients of one address have one
//! together.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use everywire_base::network::neighbourhood;

/// A keyed hash of an identity or an address. Two that meet have one share.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Sharer(u32);

impl Sharer {
    /// Nobody, if it is the server's own, or an anonymous client's of before the start.
    pub(crate) fn of(hasher: &RandomState, user: Option<&str>, address: Option<IpAddr>) -> Option<Self> {
        let hash = match (user, address) {
            (Some(user), _) => hasher.hash_one(user),
            (None, Some(address)) => hasher.hash_one(neighbourhood(address)),
            (None, None) => return None,
        };
        Some(Self(hash as u32))
    }
}
