//! Shares of a bound: each identity has one, and the anonymous clients of one address have one together.

use std::net::IpAddr;

use everywire_base::network::neighbourhood;

use crate::siphash::SipHash;

/// A keyed hash of an identity or an address. Two with the same hash have one share.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Sharer(pub u32);

impl Sharer {
    /// The sharer; `None` for the server's own, or an anonymous client's from before the start.
    pub(crate) fn of(hash: &SipHash, user: Option<&str>, address: Option<IpAddr>) -> Option<Self> {
        let hash = match (user, address) {
            (Some(user), _) => hash.of(&[Some(user.as_bytes()), None]),
            (None, Some(address)) => match neighbourhood(address) {
                IpAddr::V4(address) => hash.of(&[None, Some(&address.octets())]),
                IpAddr::V6(address) => hash.of(&[None, Some(&address.octets())]),
            },
            (None, None) => return None,
        };
        Some(Self(hash as u32))
    }
}
