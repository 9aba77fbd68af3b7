//! The number of connections that each address has at all workers together. In IPv6 a network of 64 bits is one
//! address.
//!
//! Unless `limits.address_connections` says otherwise, one address has at most three quarters of the connections for
//! which there are files, so that an address that fills its share leaves some for others; this machine's own addresses
//! have no bound.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;

use everywire_base::kept::{Counts, Payer};
use everywire_base::limits::Limits;
use everywire_base::network::neighbourhood;

/// The connections of each address, counted by all workers.
#[derive(Debug, Default)]
pub struct Crowd {
    hasher: RandomState,
    counts: Counts,
}

impl Crowd {
    fn place(&self, address: IpAddr) -> Payer {
        Payer(self.hasher.hash_one(neighbourhood(address)).max(1))
    }

    /// Counts a connection of an address, unless it has as many as it may.
    pub(crate) fn enter(&self, address: IpAddr, most: u64) -> bool {
        let place = self.place(address);
        self.counts.add(place, 1);
        let fits = self.counts.of(place) <= most;
        if !fits {
            self.counts.remove(place, 1);
        }
        fits
    }

    /// Takes a connection that is gone off the count.
    pub(crate) fn leave(&self, address: IpAddr) {
        self.counts.remove(self.place(address), 1);
    }
}

/// The number of connections that an address may have, if there are files for `most_connections` in all.
pub(crate) fn most_of(address: IpAddr, limits: &Limits, most_connections: u64) -> u64 {
    match limits.per_address.connections {
        0 if address.to_canonical().is_loopback() => u64::MAX,
        0 => most_connections - most_connections / 4,
        bound => bound.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_leaves_some_connections_for_others() {
        let (crowd, limits) = (Crowd::default(), Limits::default());
        let stranger = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]);
        let most = most_of(stranger(1), &limits, 40);
        let let_in = (0..100).filter(|n| crowd.enter(stranger(*n), most)).count();
        assert_eq!(let_in, 30, "whatever address of its network it comes from");
        assert!(crowd.enter([10, 0, 0, 1].into(), most));
        crowd.leave(stranger(7));
        assert!(crowd.enter(stranger(8), most) && !crowd.enter(stranger(9), most));
    }

    #[test]
    fn this_machine_has_no_bound_unless_one_is_set() {
        let mut limits = Limits::default();
        for address in ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"] {
            let address = address.parse().expect("an address");
            limits.per_address.connections = 0;
            assert_eq!(most_of(address, &limits, 40), u64::MAX);
            limits.per_address.connections = 3;
            assert_eq!(most_of(address, &limits, 40), 3);
        }
    }
}
