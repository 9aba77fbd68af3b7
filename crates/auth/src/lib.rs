//! Who somebody is: tokens (RFC 7519), static users, a callback that may decide.
//!
//! [`Authority::check`] blocks: it computes passwords and may ask other servers, each within a bound. It is called on a
//! pool's threads, never on a worker's (RULES 33). What it has found out about a token is kept until that expires.
//!
//! | module | what it does |
//! | --- | --- |
//! | `authority` | in which order who is asked, and what is remembered |
//! | `claims` | what a token says, as an identity |
//! | `keys` | the keys of others, by file or URL, and their rotation (RFC 7517) |
//! | `users` | passwords: argon2id, and SCRAM's keys |
//! | `scram` | passwords that aren't sent |
//! | `callback` | asking the application |

mod authority;
mod callback;
mod claims;
mod keys;
mod scram;
mod users;

pub use authority::{Authority, Config, ConfigError, MIN_SECRET_BYTES, mint};
pub use claims::Claims;
pub use keys::KeysAt;
pub use users::{Scram, UserSecret, Users};
