//! The budget of sessions: one may be made, resumed or added to if its user or its address has room for it.

use everywire_base::ask::{Login, SessionWish};
use everywire_base::kept::Payer;
use everywire_base::rules::Refusal;
use everywire_base::system;
use everywire_base::topic::{Filter, Topic};

use super::Sessions;
use super::session::Session;
use crate::floor::Floor;

impl Sessions {
    /// Whether the session and the will that a login wants may be kept.
    pub(crate) fn may_begin(floor: &Floor, login: &Login) -> Result<(), Refusal> {
        if !login.is_lasting() {
            return Ok(());
        }
        let id = match &login.session {
            SessionWish::None | SessionWish::New { .. } => None,
            SessionWish::Resume { id, .. } | SessionWish::Named { id, .. } => Some(id),
        };
        let user = login.identity.as_ref().and_then(|who| who.user.as_deref());
        let session = id.and_then(|id| system::session_topic(user, id));
        let will = session.as_ref().and_then(system::will_topic);
        let is_there = |topic: Topic| floor.may_be_retained(&Filter::Exact(topic));
        let is_known = [session, will].into_iter().flatten().any(is_there);
        let more = login.will.as_ref().map_or(0, |will| will.message.weight());
        floor.may_keep(user.map_or(login.payer, Payer::user), is_known, more)
    }

    /// Whether a connection may add to the session that it has.
    pub(crate) fn may_add(&self, floor: &Floor, index: u32) -> Result<(), Refusal> {
        let Some(payer) = self.session(index).and_then(Session::payer) else { return Ok(()) };
        floor.may_keep(floor.user(index).map_or(payer, Payer::user), true, 0)
    }
}
