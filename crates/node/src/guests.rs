//! Makes guests, a bounded number for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use everywire_api::NoGuest;
use everywire_auth::{Authority, Guest};
use everywire_base::network::neighbourhood;

use crate::doorbell::wall_clock;

/// The time for which the bound of an address holds.
const WINDOW: Duration = Duration::from_mins(1);
/// The most addresses that are remembered: further ones wait until some are forgotten.
const REMEMBERED: usize = 65_536;

/// Makes guests.
pub(crate) struct Guests {
    authority: Arc<Authority>,
    /// The most guests of one address within the window.
    of_one: usize,
    /// The start of each address's window, and the number of guests in it.
    made: Mutex<HashMap<IpAddr, (Instant, usize)>>,
}

impl Guests {
    pub(crate) fn new(authority: Arc<Authority>, of_one: usize) -> Self {
        Self { authority, of_one, made: Mutex::default() }
    }

    /// Makes a guest of this name, from this address.
    pub(crate) fn make(&self, name: &str, from: IpAddr) -> Result<Guest, NoGuest> {
        if !self.authority.takes_guests() {
            return Err(NoGuest::Off);
        }
        let guest = self.authority.guest(name, wall_clock()).map_err(|error| NoGuest::Name(error.to_string()))?;
        self.count(neighbourhood(from), Instant::now())?;
        guest.ok_or(NoGuest::Unavailable)
    }

    fn count(&self, from: IpAddr, now: Instant) -> Result<(), NoGuest> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= REMEMBERED && !made.contains_key(&from) {
            made.retain(|_, (began, _)| now.duration_since(*began) < WINDOW);
        }
        if made.len() >= REMEMBERED && !made.contains_key(&from) {
            return Err(NoGuest::TooMany(WINDOW));
        }
        let (began, count) = made.entry(from).or_insert((now, 0));
        let age = now.duration_since(*began);
        if age >= WINDOW {
            (*began, *count) = (now, 0);
        } else if *count >= self.of_one {
            return Err(NoGuest::TooMany(WINDOW.saturating_sub(age)));
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use everywire_auth::{Config, UserSecret, Users};

    use super::*;

    struct Nobody;

    impl Users for Nobody {
        fn find(&self, _: &str) -> Option<UserSecret> {
            None
        }
    }

    #[test]
    fn an_address_has_some_guests_a_minute() {
        let authority = Authority::new(Config { guests: true, ..Config::default() }, Arc::new(Nobody)).unwrap();
        let guests = Guests::new(Arc::new(authority), 2);
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let now = Instant::now();
        assert_eq!([guests.count(address(1), now), guests.count(address(1), now)], [Ok(()), Ok(())]);
        let later = now + Duration::from_secs(20);
        assert_eq!(guests.count(address(1), later), Err(NoGuest::TooMany(Duration::from_secs(40))));
        assert_eq!(guests.count(address(2), later), Ok(()));
        assert_eq!(guests.count(address(1), now + WINDOW), Ok(()));
        // A name that is refused doesn't count.
        assert!(matches!(guests.make("", address(3)), Err(NoGuest::Name(_))));
        assert!(guests.make("Ann", address(3)).is_ok() && guests.make("Ann", address(3)).is_ok());
        assert!(matches!(guests.make("Ann", address(3)), Err(NoGuest::TooMany(_))));
    }
}
