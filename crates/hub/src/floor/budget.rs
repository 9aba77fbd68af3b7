//! The budget of sessions: the bytes of one user, or of one address's anonymous clients, are bounded.
//!
//! A new session is refused beyond `limits.session_bytes_each`. An existing one goes on until twice as many: clients
//! come back to their sessions, and take up filters and wills again.

use everywire_base::kept::{Payer, What};
use everywire_base::rules::Refusal;

use super::Floor;

impl Floor {
    /// Whether this many more bytes may be kept, of a session or will that is known already or of a new one.
    pub(crate) fn may_keep(&self, payer: Payer, is_known: bool, more: usize) -> Result<(), Refusal> {
        let each = self.setup.limits.session_bytes_each as u64;
        let most = if is_known { each.saturating_mul(2) } else { each };
        let kept: u64 = self.setup.tails.iter().map(|tail| tail.kept().of(What::Session, payer)).sum();
        if kept.saturating_add(more as u64) < most {
            return Ok(());
        }
        let bound = "the bytes of sessions and wills that a user, or an address, may have are used up: end some, or let them \
                     expire (limits.session_bytes_each)";
        Err(Refusal::TooMany(bound.into()))
    }
}
