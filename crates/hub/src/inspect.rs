//! What operators ask of a hub: who is connected, and what became of a message.

use everywire_base::clock::{Now, UnixMillis};
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::id::Slot;
use everywire_base::record::Record;
use everywire_base::registry::{Fate, TraceQuestion};
use everywire_base::topic::Topic;
use smallvec::SmallVec;

use crate::Hub;
use crate::session::Session;

/// What the hub knows of a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// Who is at the other end; `None` is anonymous.
    pub user: Option<Box<str>>,
    /// On which device.
    pub device: Option<Box<str>>,
    /// What software is at the other end.
    pub agent: Option<Box<str>>,
    /// Its session.
    pub session: Option<Box<str>>,
    /// The name that the client has chosen for its session, which is no secret.
    pub client: Option<Box<str>>,
    /// Up to where it has everything.
    pub cursor: Cursor,
    /// How many records it is behind the log.
    pub lag: u64,
    /// Sent and not acknowledged.
    pub outstanding: u64,
    /// When it last acknowledged something.
    pub acknowledged: Option<UnixMillis>,
    /// How many filters it holds.
    pub subscriptions: u64,
}

/// What became of a message for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traced {
    /// The connection.
    pub slot: Slot,
    /// What became of it.
    pub fate: Fate,
    /// When it was handed over, if that is recent and the connection was live.
    pub written: Option<UnixMillis>,
    /// When its session last acknowledged something, if the message is among it.
    pub acknowledged: Option<UnixMillis>,
}

/// When a record was fanned out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recent {
    partition: u16,
    offset: Offset,
    at: UnixMillis,
}

impl Hub {
    /// Remembers for a while when a record was fanned out.
    pub(crate) fn remember(&mut self, record: &Record, now: Now) {
        let bound = self.setup.limits.trace_records;
        while self.recent.len() >= bound.max(1) {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { partition: record.partition.0, offset: record.offset, at: now.wall });
    }

    /// What is known of a connection; of an anonymous one that subscribed to nothing that is nothing but where it stands.
    pub fn describe(&self, slot: Slot) -> Description {
        let here = self.is_here(slot);
        let member = self.member(slot.index).filter(|_| here);
        let session = member.and_then(|m| m.session.as_deref());
        let positions = if here { self.current(slot.index) } else { self.marks.clone() };
        let lag = positions.iter().zip(&self.setup.tails).map(|(at, tail)| tail.head().0.saturating_sub(at.0)).sum();
        Description {
            user: member.and_then(|m| m.user()).map(Into::into),
            device: member.and_then(|m| m.device()).map(Into::into),
            agent: member.and_then(|m| m.agent.clone()),
            session: session.map(|s| s.id.clone()),
            client: session.filter(|s| s.window.is_tagged()).map(|s| s.id.clone()),
            cursor: self.cursor(&positions),
            lag,
            outstanding: session.map_or(0, |s| s.window.outstanding() as u64),
            acknowledged: session.and_then(Session::acknowledged),
            subscriptions: if here { self.held(slot.index).len() as u64 } else { 0 },
        }
    }

    /// The connections of a user.
    pub fn connections_of(&self, user: &str) -> Vec<Slot> {
        self.of_user(user).into_iter().map(|index| self.slot_at(index)).collect()
    }

    /// The connections that are subscribed to a topic, by place.
    pub fn connections_on(&self, topic: &Topic) -> Vec<Slot> {
        let mut lists = SmallVec::new();
        self.table.matching(topic, &mut lists);
        let all = lists.iter().flat_map(|list| self.table.subscribers(*list)).map(|s| s.connection);
        let mut all: Vec<u32> = all.collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter().map(|index| self.slot_at(index)).collect()
    }

    /// What became of a message for those who are subscribed to its topic now, at most so many as asked for. It is
    /// computed from where they stand; only when it was written is remembered, and not for long.
    pub fn trace(&self, question: &TraceQuestion) -> Vec<Traced> {
        let (partition, offset) = (usize::from(question.partition.0), question.offset);
        if partition >= self.marks.len() {
            return Vec::new();
        }
        let is_it = |r: &&Recent| r.partition == question.partition.0 && r.offset == offset;
        let written = self.recent.iter().find(is_it).map(|recent| recent.at);
        let recipients = self.connections_on(&question.topic).into_iter().take(question.limit);
        recipients.map(|slot| self.trace_one(slot, partition, offset, written)).collect()
    }

    fn trace_one(&self, slot: Slot, partition: usize, offset: Offset, written: Option<UnixMillis>) -> Traced {
        let session = self.session(slot.index);
        let lag = self.connections.get(slot.index).and_then(|c| c.lag.as_ref());
        let began_later = lag.is_some_and(|lag| {
            let sinces = 0..self.held(slot.index).len();
            !sinces.is_empty() && sinces.into_iter().all(|nth| lag.since(nth, partition) >= offset)
        });
        let fate = if self.current(slot.index)[partition] < offset {
            Fate::Lagging
        } else if began_later {
            Fate::Later
        } else if session.is_some_and(|s| s.is_open() && !s.window.holds(partition, offset)) {
            Fate::Acknowledged
        } else {
            Fate::Written
        };
        let acknowledged = session.filter(|_| fate == Fate::Acknowledged).and_then(Session::acknowledged);
        let written = written.filter(|_| lag.is_none() && matches!(fate, Fate::Written | Fate::Acknowledged));
        Traced { slot, fate, written, acknowledged }
    }
}
