//! Who is connected: a member is a connection that has logged in. The registry of users is made of them.

use std::sync::Arc;

use everywire_base::ask::{Login, Subscribe, Welcome};
use everywire_base::clock::Now;
use everywire_base::cursor::Offset;
use everywire_base::id::{AskId, Slot};
use everywire_base::identity::Identity;
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Message};
use everywire_base::rules::{Caller, Logins, Refusal};
use everywire_base::system::{self, Joined, Seen};
use everywire_base::terms::Greet;
use everywire_base::topic::{Filter, hash_name};

use crate::session::Session;
use crate::table::Held;
use crate::{Hub, Origin, Said};

/// What the hub knows of a connection that has logged in.
#[derive(Debug, Default)]
pub(crate) struct Member {
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) agent: Option<Box<str>>,
    /// Where its arrival stands in the log: who arrives later takes over, if one login ends the others.
    pub(crate) joined: Option<Offset>,
    pub(crate) session: Option<Box<Session>>,
}

impl Member {
    pub(crate) fn user(&self) -> Option<&str> {
        self.identity.as_ref()?.user.as_deref()
    }

    pub(crate) fn device(&self) -> Option<&str> {
        self.identity.as_ref()?.device.as_deref()
    }
}

impl Hub {
    /// Enters a connection into the registry. Answered at once, unless a session must be opened first.
    pub(crate) fn enter(&mut self, slot: Slot, ask: AskId, mut login: Login, now: Now) {
        self.adopt(slot);
        if let Err(refusal) = self.admit(slot.index, login.identity.as_ref()) {
            return self.say(slot, ask, Said::Welcomed(Err(refusal)));
        }
        let was_in = self.connections.reach(slot.index).member.is_some();
        self.become_member(slot.index, login.identity.take(), login.agent.take());
        let refused = if was_in { self.recheck(slot.index) } else { Vec::new() };
        if !was_in {
            self.announce(slot);
        }
        if self.begin_session(slot, ask, &mut login, now) {
            return;
        }
        if login.inbox {
            self.subscribe_inboxes(slot);
        }
        self.say_welcome(slot, ask, false, refused);
    }

    /// Says that a login is over, and which session there is.
    pub(crate) fn say_welcome(&mut self, slot: Slot, ask: AskId, resumed: bool, refused: Vec<(Filter, Refusal)>) {
        let (session, expiry) = self.session(slot.index).map(|s| (s.id.clone(), s.expiry)).unzip();
        let (connection, expiry) = (self.name(slot), expiry.unwrap_or_default());
        let welcome = Welcome { connection, session, expiry, resumed, refused };
        self.say(slot, ask, Said::Welcomed(Ok(welcome)));
    }

    /// Counts the connection for its user, instead of whom it was counted for.
    fn admit(&mut self, index: u32, identity: Option<&Arc<Identity>>) -> Result<(), Refusal> {
        let former = self.member(index).and_then(|m| m.identity.as_ref()).and_then(|i| i.account.clone());
        let account = identity.and_then(|i| i.account.clone());
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

    fn become_member(&mut self, index: u32, identity: Option<Arc<Identity>>, agent: Option<Box<str>>) {
        self.remove_user(index);
        let member = self.connections.reach(index).member.get_or_insert_default();
        member.agent = agent.or(member.agent.take());
        member.identity = identity;
        let Some(hash) = member.user().map(hash_name) else { return };
        let connections = &self.connections;
        self.users.insert_unique(hash, index, |index| {
            let member = connections.get(*index).and_then(|c| c.member.as_ref());
            member.and_then(|m| m.user()).map(hash_name).unwrap_or_default()
        });
    }

    fn remove_user(&mut self, index: u32) {
        let Some(hash) = self.member(index).and_then(Member::user).map(hash_name) else { return };
        if let Ok(entry) = self.users.find_entry(hash, |other| *other == index) {
            entry.remove();
        }
    }

    /// Ends the filters that a renewed identity may not have, or that new rules don't grant.
    pub(crate) fn recheck(&mut self, index: u32) -> Vec<(Filter, Refusal)> {
        let who = self.caller(index);
        let refused = |held: &Held| {
            let filter = self.table.filter(held.list).clone();
            let refusal = self.setup.rules.may_subscribe(who.as_deref(), &filter).err()?;
            Some((filter, self.table.group(held.list).map(Box::<str>::from), refusal))
        };
        let refused: Vec<_> = self.held(index).iter().filter_map(refused).collect();
        for (filter, group, _) in &refused {
            if let Some(group) = group {
                self.lose_group(self.slot_at(index), filter, group);
            }
            self.leave_filter(index, filter, group.as_deref());
        }
        refused.into_iter().map(|(filter, _, refusal)| (filter, refusal)).collect()
    }

    /// Tells the log of an arrival, where one login ends the others.
    fn announce(&mut self, slot: Slot) {
        let mark = self.marks.first().copied();
        let Some(member) = self.connections.reach(slot.index).member.as_mut() else { return };
        if self.setup.rules.logins == Logins::All {
            member.joined = mark;
            return;
        }
        let (Some(user), device) = (member.user(), member.device()) else { return };
        let Some(topic) = system::joined_topic(user) else { return };
        let (user, device) = (user.into(), device.map(Into::into));
        let joined = Joined { connection: self.name(slot), user, device };
        self.append_passing(system::message(topic, &joined, false));
    }

    /// A login has arrived: if one login ends the others, those before it end.
    pub(crate) fn joined(&mut self, joined: &Joined, at: Offset) {
        let logins = self.setup.rules.logins;
        let own = self.setup.plate.find(&joined.connection).filter(|(worker, _)| *worker == self.setup.worker);
        if let Some(slot) = own.map(|(_, slot)| slot).filter(|slot| self.is_here(*slot))
            && let Some(member) = &mut self.connections.reach(slot.index).member
        {
            member.joined = Some(at);
        }
        for index in self.of_user(&joined.user) {
            let Some(member) = self.member(index) else { continue };
            let is_meant = logins == Logins::OnePerUser || member.device() == joined.device.as_deref();
            let is_older = member.joined.is_some_and(|came| came < at);
            if logins != Logins::All && is_meant && is_older {
                self.end(index, Reason::TakenOver);
            }
        }
    }

    /// Subscribes a member to what is sent to it by name.
    fn subscribe_inboxes(&mut self, slot: Slot) {
        let Some(identity) = self.caller(slot.index) else { return };
        let filters = identity.inboxes().into_iter().map(Filter::Exact);
        let subscribe = Subscribe { greet: Greet::Always, ..Subscribe::to(filters) };
        self.subscribe_connection(slot, &subscribe);
    }

    /// A connection is gone: the registry forgets it, but for when it was last seen.
    pub(crate) fn leave_registry(&mut self, slot: Slot, origin: Origin, now: Now) {
        self.end_session(slot, origin.address.ip(), now);
        self.remove_user(slot.index);
        let Some(member) = self.connections.reach(slot.index).member.take() else { return };
        let Some(identity) = member.identity else { return };
        if let Some(account) = &identity.account {
            account.disconnect();
        }
        let Some(user) = identity.user.as_deref() else { return };
        let Some(topic) = system::seen_topic(user, identity.device.as_deref()) else { return };
        let seen = Seen {
            user: user.into(),
            device: identity.device.clone(),
            at_ms: now.wall.0,
            wire: origin.wire.into(),
            address: origin.address.to_string().into(),
            node: (*self.setup.plate.node).into(),
        };
        let expires = Some(now.wall.after(self.setup.limits.last_seen));
        self.append_own(Message { expires, ..system::message(topic, &seen, true) }, Durability::Memory);
    }

    pub(crate) fn member(&self, index: u32) -> Option<&Member> {
        self.connections.get(index)?.member.as_deref()
    }

    /// Who is at the other end, if somebody has logged in.
    pub(crate) fn caller(&self, index: u32) -> Option<Arc<Identity>> {
        self.member(index)?.identity.clone()
    }

    /// The connections of a user on this worker.
    pub(crate) fn of_user(&self, user: &str) -> Vec<u32> {
        let all = self.users.iter_hash(hash_name(user)).copied();
        all.filter(|index| self.member(*index).and_then(Member::user) == Some(user)).collect()
    }

    /// Whether somebody may have what a filter takes.
    pub(crate) fn grants(&self, who: Caller<'_>, filter: &Filter) -> Result<(), Refusal> {
        self.setup.rules.may_subscribe(who, filter)
    }

    /// The name of a connection in the registry.
    pub(crate) fn name(&self, slot: Slot) -> Box<str> {
        self.setup.plate.name(self.setup.worker, slot)
    }
}
