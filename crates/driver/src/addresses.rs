//! The publishes of each remote address, counted by the worker that accepts its connections. All workers together count
//! its connections: see [`crate::crowd`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use everywire_base::network::neighbourhood;
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
    /// No accounts yet; each will have these bounds.
    pub(crate) fn new(quota: Quota) -> Self {
        let quota = Quota { connections: 0, ..quota };
        Self { quota, accounts: HashMap::new(), sweep_at: SWEEP_AT }
    }

    /// The account of an address that is connected once more; none without bounds.
    pub(crate) fn enter(&mut self, address: IpAddr) -> Option<Arc<Account>> {
        if !self.quota.is_bounded() {
            return None;
        }
        if self.accounts.len() >= self.sweep_at {
            self.accounts.retain(|_, account| account.connections() > 0);
            self.sweep_at = (2 * self.accounts.len()).max(SWEEP_AT);
        }
        let account = self.accounts.entry(neighbourhood(address)).or_insert_with(|| Arc::new(Account::new(self.quota)));
        account.connect().then(|| Arc::clone(account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_bound_and_is_forgotten() {
        let mut addresses = Addresses::new(Quota { publishes_per_second: 2, ..Quota::default() });
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let first = addresses.enter(address(1)).unwrap();
        assert!(Arc::ptr_eq(&first, &addresses.enter(address(1)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &addresses.enter(address(2)).unwrap()));
        for n in 10..5000 {
            addresses.enter(address(n)).unwrap().disconnect();
        }
        assert!(addresses.accounts.len() <= SWEEP_AT);
        assert!(Addresses::new(Quota::default()).enter(address(1)).is_none());
    }
}
