//! Identities: tokens (RFC 7519), static users, a callback that may decide.
//!
//! A check has steps. [`Authority::at_once`] takes microseconds. [`Authority::ask`] blocks: it computes a password,
//! reads keys again, or asks the application, each within a bound. Both are called on a pool's threads, never on a
//! worker's. Steps that block have threads of their own, so that no other login waits behind them. The identity of a
//! verified token is kept until the token expires.
//!
//! | module | what it does |
//! | --- | --- |
//! | `authority` | the order of the sources, and the identities that are remembered |
//! | `claims` | the claims of a token, as an identity |
//! | `jws` | a token's parts and its signature (RFC 7515) |
//! | `jwk` | one key of others, and the algorithm that it verifies (RFC 7517) |
//! | `guests` | tokens for people who have nothing but a name |
//! | `keys` | the keys of others, by file or URL, and their rotation |
//! | `users` | passwords: argon2id, and SCRAM's keys |
//! | `scram` | logins that don't send the password |
//! | `callback` | asking the application |

mod authority;
mod callback;
mod claims;
mod derived;
mod guests;
mod jwk;
mod jws;
mod keys;
mod scram;
mod users;

pub use authority::{Authority, Config, ConfigError, MIN_SECRET_BYTES, Source, Verdict, mint};
pub use claims::Claims;
pub use guests::{Guest, GuestNameError, MAX_GUEST_NAME_BYTES};
pub use keys::KeysAt;
pub use users::{Scram, UserSecret, Users, hash_password, password_fits};
