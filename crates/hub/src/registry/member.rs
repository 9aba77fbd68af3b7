//! Members: connections come into the registry, and leave it.

use std::rc::Rc;
use std::sync::Arc;

use everywire_base::ask::{Login, Subscribe};
use everywire_base::cursor::Offset;
use everywire_base::id::Slot;
use everywire_base::identity::Identity;
use everywire_base::kept::Payer;
use everywire_base::record::{Durability, System};
use everywire_base::rules::{Logins, Refusal};
use everywire_base::system::{self, Joined, Seen};
use everywire_base::terms::RetainHandling;
use everywire_base::topic::{Filter, hash_name};

use super::Registry;
use crate::floor::{Floor, Origin};
use crate::ground::Ground;

/// A connection that has logged in, without its identity.
#[derive(Clone, Debug, Default)]
pub(super) struct Member {
    pub(super) agent: Option<Box<str>>,
    /// The wire of a user's connection.
    pub(super) wire: &'static str,
    /// The offset of its arrival in the log: a later arrival takes over, if one login ends the others.
    pub(super) joined: Option<Offset>,
}

impl Registry {
    /// Enters a connection, or renews its identity; says whether it was in before.
    pub(crate) fn enter(&mut self, ground: &mut Ground<'_>, slot: Slot, login: &mut Login) -> Result<bool, Refusal> {
        let index = slot.index;
        admit(ground.floor.caller(index), login.identity.as_ref())?;
        let was_in = self.member(index).is_some();
        self.remove_user(index, ground.floor);
        let member = self.members.reach(index).get_or_insert_with(|| Rc::clone(&self.nobody));
        if let Some(agent) = login.agent.take() {
            Rc::make_mut(member).agent = Some(agent);
        }
        if login.identity.as_ref().is_some_and(|who| who.user.is_some()) {
            Rc::make_mut(member).wire = login.wire;
        }
        ground.floor.set_caller(index, login.identity.take());
        if let Some(hash) = ground.floor.user(index).map(hash_name) {
            let hash_of = |index: &u32| ground.floor.user(*index).map(hash_name).unwrap_or_default();
            self.users.insert_unique(hash, index, hash_of);
        }
        if !was_in {
            self.announce(ground, slot);
        }
        Ok(was_in)
    }

    /// Tells the log of an arrival, where one login ends the others.
    fn announce(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        let Some(who) = ground.floor.caller(slot.index) else { return };
        let (Some(user), device) = (who.user.clone(), who.device.clone()) else { return };
        if ground.floor.setup.rules.logins == Logins::All {
            if let Some(member) = self.member_mut(slot.index) {
                member.joined = ground.deliveries.marks().first().copied();
            }
            return;
        }
        let Some(topic) = system::joined_topic(&user) else { return };
        let joined = Joined { connection: ground.floor.name(slot), user, device };
        ground.floor.append_passing(system::record(topic, &joined, false));
    }

    /// Subscribes a member to the messages that are sent to it by name.
    #[expect(clippy::unused_self, reason = "members have inboxes")]
    pub(crate) fn subscribe_inboxes(&self, ground: &mut Ground<'_>, slot: Slot) {
        let Some(identity) = ground.floor.caller(slot.index) else { return };
        let filters = identity.inboxes().into_iter().map(Filter::Exact);
        let subscribe = Subscribe { retained: RetainHandling::Always, ..Subscribe::to(filters) };
        ground.subscribe(slot, &subscribe);
    }

    /// Removes a connection that is gone; only the time when it was last seen is kept.
    pub(crate) fn leave(&mut self, ground: &mut Ground<'_>, slot: Slot, origin: Origin) {
        let Some(identity) = self.forget(slot.index, ground.floor) else { return };
        if let Some(account) = &identity.account {
            account.disconnect();
        }
        let Some(user) = identity.user.as_deref() else { return };
        if ground.floor.may_keep(Payer::user(user), false, 0).is_err() {
            return;
        }
        let Some(topic) = system::seen_topic(user, identity.device.as_deref()) else { return };
        let seen = Seen {
            user: user.into(),
            device: identity.device.clone(),
            at_ms: ground.now.wall.0,
            wire: origin.wire.into(),
            address: origin.address.to_string().into(),
            node: (*ground.floor.setup.life.node).into(),
        };
        let expires = Some(ground.now.wall.after(ground.floor.setup.limits.last_seen));
        ground.floor.append_own(System { expires, ..system::record(topic, &seen, true) }, Durability::Memory);
    }

    /// Empties a place; gives the identity that was there.
    pub(crate) fn forget(&mut self, index: u32, floor: &mut Floor) -> Option<Arc<Identity>> {
        self.remove_user(index, floor);
        if let Some(member) = self.members.get_mut(index) {
            *member = None;
        }
        floor.set_caller(index, None)
    }

    fn remove_user(&mut self, index: u32, floor: &Floor) {
        let Some(hash) = floor.user(index).map(hash_name) else { return };
        if let Ok(entry) = self.users.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
    }
}

/// Counts the connection for its user, and no more for the former one.
fn admit(former: Option<&Arc<Identity>>, identity: Option<&Arc<Identity>>) -> Result<(), Refusal> {
    let account = |who: Option<&Arc<Identity>>| who.and_then(|who| who.account.clone());
    let (former, account) = (account(former), account(identity));
    if former.as_ref().map(Arc::as_ptr) == account.as_ref().map(Arc::as_ptr) {
        return Ok(());
    }
    if let Some(account) = account
        && !account.connect()
    {
        return Err(Refusal::TooMany("connections of this user: end some first".into()));
    }
    if let Some(former) = former {
        former.disconnect();
    }
    Ok(())
}
