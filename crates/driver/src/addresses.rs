//! What each remote address uses of its bounds, as the worker counts it that accepts its connections.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use everywire_base::quota::{Account, Quota};

/// Accounts that may be kept before those without a connection are looked for.
const SWEEP_AT: usize = 1024;

/// The accounts of the addresses that are connected.
pub(crate) struct Addresses {
    quota: Quota,
    accounts: HashMap<IpAddr, Arc<Account>>,
    sweep_at: usize,
}

impl Addresses {
    /// All with these bounds.
    pub(crate) fn new(quota: Quota) -> Self {
        Self { quota, accounts: HashMap::new(), sweep_at: SWEEP_AT }
    }

    /// Counts a connection of an address; none without bounds. An error if it has too many.
    pub(crate) fn enter(&mut self, address: IpAddr) -> Result<Option<Arc<Account>>, ()> {
        if !self.quota.is_bounded() {
            return Ok(None);
        }
        if self.accounts.len() >= self.sweep_at {
            self.accounts.retain(|_, account| account.connections() > 0);
            self.sweep_at = (2 * self.accounts.len()).max(SWEEP_AT);
        }
        let account = self.accounts.entry(address).or_insert_with(|| Arc::new(Account::new(self.quota)));
        if account.connect() { Ok(Some(Arc::clone(account))) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_bound_and_is_forgotten() {
        let mut addresses = Addresses::new(Quota { connections: 2, ..Quota::default() });
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let first = addresses.enter(address(1)).unwrap().unwrap();
        addresses.enter(address(1)).unwrap();
        assert!(addresses.enter(address(1)).is_err());
        assert!(addresses.enter(address(2)).is_ok());
        first.disconnect();
        assert!(addresses.enter(address(1)).is_ok());
        for n in 10..5000 {
            addresses.enter(address(n)).unwrap().unwrap().disconnect();
        }
        assert!(addresses.accounts.len() <= SWEEP_AT);
        assert!(Addresses::new(Quota::default()).enter(address(1)).unwrap().is_none());
    }
}
