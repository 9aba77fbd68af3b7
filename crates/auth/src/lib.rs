//! Who somebody is: tokens (RFC 7519), static users, a callback that may decide.
//!
//! A check has steps. [`Authority::at_once`] costs microseconds; [`Authority::ask`] blocks: it computes a password, reads
//! keys again, or asks the application, each within a bound. Both are called on a pool's threads, never on a worker's, and
//! those that block on threads of their own, so that nobody waits behind them who needs none of it. What was found out
//! about a token is kept until that expires.
//!
//! | module | what it does |
//! | --- | --- |
//! | `authority` | in which order who is asked, and what is remembered |
//! | `claims` | what a token says, as an identity |
//! | `jws` | a token's parts and its signature (RFC 7515) |
//! | `jwk` | one key of others, and what it may verify (RFC 7517) |
//! | `guests` | tokens for people who have nothing but a name |
//! | `keys` | the keys of others, by file or URL, and their rotation |
//! | `users` | passwords: argon2id, and SCRAM's keys |
//! | `scram` | passwords that aren't sent |
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
pub use users::{Scram, UserSecret, Users};
