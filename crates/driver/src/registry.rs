//! Answers to operators: the connections of a worker, and the fate of a message on them.

use everywire_base::id::{NodeLife, Slot};
use everywire_base::registry::{ConnectionInfo, ConnectionsQuery, Recipient, TraceQuestion};
use everywire_hub::{Description, Hub};

use crate::connections::Connections;
use crate::mail::Question;
use crate::net::Net;

/// A worker's part of the registry.
pub(crate) struct Registry<'a, N: Net> {
    pub(crate) hub: &'a Hub,
    pub(crate) connections: &'a mut Connections<N>,
    pub(crate) life: &'a NodeLife,
    pub(crate) worker: u16,
}

impl<N: Net> Registry<'_, N> {
    pub(crate) fn answer(&mut self, question: Question) {
        match question {
            Question::Connections(query, answer) => answer(self.find(&query)),
            Question::Trace(question, answer) => answer(self.trace(&question)),
        }
    }

    /// The connections that a query means, by place.
    fn find(&mut self, query: &ConnectionsQuery) -> Vec<ConnectionInfo> {
        let mut slots = match query {
            ConnectionsQuery { name: Some(name), .. } => {
                let here = self.life.find(name).filter(|(worker, _)| *worker == self.worker);
                here.map(|(_, slot)| slot).into_iter().collect()
            }
            ConnectionsQuery { users, .. } if !users.is_empty() => {
                users.iter().flat_map(|user| self.hub.connections_of(user)).collect()
            }
            ConnectionsQuery { topic: Some(topic), .. } => self.hub.connections_on(topic),
            _ => self.connections.table.slots(),
        };
        if let Some(after) = query.after.as_deref() {
            // Pages go through the workers in their order, and through each by place.
            let after = self.life.find(after);
            slots.retain(|slot| after.is_some_and(|(worker, at)| (self.worker, slot.index) > (worker, at.index)));
        }
        slots.sort_unstable();
        slots.dedup();
        if let Some(topic) = &query.topic {
            let on: Vec<Slot> = self.hub.connections_on(topic);
            slots.retain(|slot| on.binary_search(slot).is_ok());
        }
        let mut found = Vec::new();
        for slot in slots {
            if found.len() >= query.limit {
                break;
            }
            let Some(info) = self.describe(slot) else { continue };
            let is_theirs = || info.user.as_ref().is_some_and(|user| query.users.contains(user));
            let is_meant =
                (query.users.is_empty() || is_theirs()) && query.wire.as_ref().is_none_or(|wire| info.wire == **wire);
            found.extend(is_meant.then_some(info));
        }
        found
    }

    fn describe(&mut self, slot: Slot) -> Option<ConnectionInfo> {
        let connection = self.connections.table.get_mut(slot).filter(|c| c.is_alive())?;
        let Description { user, device, agent, session, cursor, lag, outstanding, acknowledged, subscriptions, .. } =
            self.hub.describe(slot);
        Some(ConnectionInfo {
            name: self.life.name(self.worker, slot),
            user,
            device,
            wire: connection.wire.name().into(),
            address: connection.address(),
            agent,
            since: connection.since,
            session,
            cursor,
            lag,
            outstanding,
            acknowledged,
            subscriptions,
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
        })
    }

    fn trace(&mut self, question: &TraceQuestion) -> Vec<Recipient> {
        let traced = self.hub.trace(question);
        let recipient = |traced: everywire_hub::Traced| {
            let connection = self.connections.table.get_mut(traced.slot)?;
            let Description { user, device, .. } = self.hub.describe(traced.slot);
            Some(Recipient {
                connection: self.life.name(self.worker, traced.slot),
                user,
                device,
                wire: connection.wire.name().into(),
                fate: traced.fate,
                written: traced.written,
                acknowledged: traced.acknowledged,
            })
        };
        traced.into_iter().filter_map(recipient).collect()
    }
}
