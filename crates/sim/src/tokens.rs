//! Tokens of the simulated users, which the server checks as it checks those of an application.

use std::sync::Arc;

use everywire_auth::{Authority, Claims, Config, UserSecret, Users, mint};
use everywire_base::clock::UnixMillis;

const SECRET: &str = "what only the simulated application and its server know";

/// The operator's token.
pub(crate) const OPERATOR: &str = "what only the operator of the simulated server knows";

/// No user has a password.
struct NoUsers;

impl Users for NoUsers {
    fn find(&self, _: &str) -> Option<UserSecret> {
        None
    }
}

/// Checks the tokens.
pub(crate) fn authority() -> Result<Authority, String> {
    let (secret, admin_token) = (Some(SECRET.into()), Some(OPERATOR.into()));
    let config = Config { secret, admin_token, ..Config::default() };
    Authority::new(config, Arc::new(NoUsers)).map_err(|error| error.to_string())
}

/// A user's token, with the seconds for which it is valid; beyond, the server allows for clocks that differ.
pub(crate) fn token(user: &str, now: UnixMillis, seconds: u32) -> String {
    let exp = Some((now.0 / 1000) as f64 + f64::from(seconds));
    mint(SECRET, &Claims { sub: Some(user.into()), exp, ..Claims::default() }).expect("the secret is long enough")
}
