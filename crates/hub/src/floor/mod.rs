//! The floor under the owners: the hub's setup, the identities at the other ends of its connections, and the way out.
//!
//! It knows no owner, and decides nothing: names, cursors and numbers are made here so that all owners make them alike.

#[cfg(test)]
pub(crate) mod bench;
mod budget;
pub(crate) mod chunked;
pub(crate) mod due;
mod out;
pub(crate) mod retries;
mod setup;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Answer, Append, Draft, Read};
use everywire_base::clock::Now;
use everywire_base::cursor::{Cursor, Epoch, Offset, Partition};
use everywire_base::id::{AskId, Part, ReplyTo, Slot};
use everywire_base::identity::Identity;
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Record, System};
use everywire_base::roster::{self, Change, Life, Roster};
use everywire_base::rules::{Caller, Refusal};
use everywire_base::system;
use everywire_base::topic::{Filter, Topic, hash_name};

use crate::floor::chunked::Chunked;

pub(crate) use self::out::{Event, Out};
pub use self::setup::{Counters, Deliver, Origin, Random, Setup};

/// The delay until a store that could not be read is asked again, and a record that was refused is appended again.
pub(crate) const RETRY: Duration = Duration::from_millis(200);

/// The floor that the owners stand on.
pub(crate) struct Floor {
    pub(crate) setup: Setup,
    /// The values that leave the hub.
    pub(crate) out: Out,
    pub(crate) counters: Counters,
    /// The identities at the other ends, by the connection's place.
    callers: Chunked<Option<Arc<Identity>>>,
    /// The identities that read over a connection without a login there: polls.
    readers: BTreeMap<u32, Arc<Identity>>,
    /// This worker of this life of the node, as all nodes call it.
    pub(crate) seat: u64,
    /// The living nodes that share the log; none where there is only one.
    roster: Option<Roster>,
    /// The moment of the call.
    pub(crate) now: Now,
    /// Whether the node goes down: a client that is ended from now on may come back elsewhere, or after it.
    pub(crate) is_draining: bool,
    last_ask: u32,
}

impl Floor {
    pub(crate) fn new(setup: Setup) -> Self {
        Self {
            seat: Self::seat_of(&setup.life.prefix(), setup.worker),
            setup,
            out: Out::default(),
            counters: Counters::default(),
            roster: None,
            callers: Chunked::default(),
            readers: BTreeMap::new(),
            now: Now::default(),
            is_draining: false,
            last_ask: 0,
        }
    }

    /// The identity at the other end, if somebody has logged in.
    pub(crate) fn caller(&self, index: u32) -> Option<&Arc<Identity>> {
        self.callers.get(index)?.as_ref()
    }

    /// The name of that user.
    pub(crate) fn user(&self, index: u32) -> Option<&str> {
        self.caller(index)?.user.as_deref()
    }

    /// Sets the identity at the other end; gives the former one.
    pub(crate) fn set_caller(&mut self, index: u32, caller: Option<Arc<Identity>>) -> Option<Arc<Identity>> {
        match (self.callers.get_mut(index), caller) {
            (None, None) => None,
            (Some(place), caller) => std::mem::replace(place, caller),
            (None, caller) => std::mem::replace(self.callers.reach(index), caller),
        }
    }

    /// Sets the identity that reads there without a login, or removes it.
    pub(crate) fn set_reader(&mut self, index: u32, who: Option<Arc<Identity>>) {
        match who {
            Some(who) => drop(self.readers.insert(index, who)),
            None => drop(self.readers.remove(&index)),
        }
    }

    /// The identity that reads there.
    pub(crate) fn reader(&self, index: u32) -> Option<&Arc<Identity>> {
        self.readers.get(&index).or_else(|| self.caller(index))
    }

    /// Whether the reader there may have a message of a topic: a room may have banned them since they subscribed, and
    /// filters with wildcards take rooms of others.
    pub(crate) fn may_see(&self, index: u32, topic: &Topic) -> bool {
        self.setup.rules.may_see(self.reader(index).map(|who| &**who), topic)
    }

    /// Whether somebody may have the messages that a filter takes.
    pub(crate) fn grants(&self, who: Caller<'_>, filter: &Filter) -> Result<(), Refusal> {
        self.setup.rules.may_subscribe(who, filter)
    }

    /// The name of a connection in the registry.
    pub(crate) fn name(&self, slot: Slot) -> Box<str> {
        self.setup.life.name(self.setup.worker, slot)
    }

    /// The seat of a worker of a life of a node: a number that is the same everywhere and sorts by life.
    fn seat_of(prefix: &str, worker: u16) -> u64 {
        hash_name(prefix) << 16 | u64::from(worker)
    }

    /// The place of a connection of any life that is up.
    pub(crate) fn member(&self, name: &str) -> Option<(u64, Slot)> {
        if let Some((worker, slot)) = self.setup.life.find(name) {
            return Some((Self::seat_of(&self.setup.life.prefix(), worker), slot));
        }
        let life = self.roster.as_ref()?.lives().find(|life| life.names(name))?;
        let (_, _, worker, index, generation) = roster::split(name)?;
        Some((Self::seat_of(&life.prefix(), worker), Slot { index, generation }))
    }

    /// The name of a connection at such a place; none if its life is over.
    pub(crate) fn member_name(&self, (seat, slot): (u64, Slot)) -> Option<Box<str>> {
        let worker = seat as u16;
        let name = |prefix: &str| format!("{prefix}-{worker}-{}-{}", slot.index, slot.generation).into();
        if self.is_own(seat) {
            return Some(name(&self.setup.life.prefix()));
        }
        self.life_of(seat).map(|life| name(&life.prefix()))
    }

    /// The life of a seat, if it is known to be up.
    fn life_of(&self, seat: u64) -> Option<&Life> {
        self.roster.iter().flat_map(Roster::lives).find(|life| Self::is_of(seat, life))
    }

    /// Whether a seat is one of this life.
    pub(crate) fn is_of(seat: u64, life: &Life) -> bool {
        Self::is_under(seat, &life.prefix())
    }

    /// Whether a seat is one of this node's own life.
    pub(crate) fn is_own(&self, seat: u64) -> bool {
        Self::is_under(seat, &self.setup.life.prefix())
    }

    /// Whether a seat is one of the life with this prefix.
    fn is_under(seat: u64, prefix: &str) -> bool {
        Self::seat_of(prefix, seat as u16) == seat
    }

    /// Whether the life of a named connection is up: even if the connection is gone, something of it may be on its way.
    pub(crate) fn lives(&self, name: &str) -> bool {
        self.setup.life.find(name).is_some() || self.roster.as_ref().is_some_and(|roster| roster.is_up(name))
    }

    /// The record up to which the node of a seat has heard all, if it is another one that is up.
    pub(crate) fn heard(&self, seat: u64) -> Option<Offset> {
        self.life_of(seat).map(|life| life.floor).filter(|_| !self.is_own(seat))
    }

    /// The last beat of this node that this worker has heard, if others share the log.
    pub(crate) fn own_beat(&self) -> Option<Offset> {
        self.life_of(self.seat).map(|life| life.beat)
    }

    /// Whether other nodes write the log too.
    pub(crate) fn is_shared(&self) -> bool {
        self.roster.is_some()
    }

    /// Sets the living nodes that share the log from here on.
    pub(crate) fn set_roster(&mut self, roster: Roster) {
        self.roster = Some(roster);
    }

    /// Takes in a record about nodes, or about the log itself.
    pub(crate) fn follow(&mut self, record: &Record, system: &System) -> Change {
        if system.topic.as_str() == system::LOG
            && let Some(change) = system::read(system)
        {
            self.setup.lineages[0] = Arc::new(self.setup.lineages[0].gone_on(&change));
        }
        let own = self.setup.life.prefix();
        match self.roster.as_mut().map(|roster| roster.follow(record)) {
            Some(Change::Came(life, gone)) if life.prefix() == own => Change::Gone(gone),
            change => change.unwrap_or(Change::None),
        }
    }

    /// The connection of this worker that has a name.
    pub(crate) fn find(&self, name: &str) -> Option<Slot> {
        self.setup.life.find(name).filter(|(worker, _)| *worker == self.setup.worker).map(|(_, slot)| slot)
    }

    /// A name that nobody can guess.
    pub(crate) fn random_id(&self) -> Box<str> {
        format!("{:032x}", (self.setup.random)()).into()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.setup.lineages[0].epoch
    }

    pub(crate) fn cursor(&self, positions: &[Offset]) -> Cursor {
        let numbered = positions.iter().enumerate().map(|(p, at)| (Partition(p as u16), *at));
        Cursor::new(self.epoch(), numbered).expect("a log has at least one partition")
    }

    /// Whether a topic that the filter takes may have a retained message: the store may have it, or be about to.
    pub(crate) fn may_be_retained(&self, filter: &Filter) -> bool {
        // The order matters: the store knows by then a message that it applies in between.
        self.setup.tails.iter().any(|tail| tail.may_retain(filter)) || self.setup.retained.may_match(filter)
    }

    /// Answers a wire.
    pub(crate) fn say(&mut self, slot: Slot, ask: AskId, said: Answer) {
        self.out.answers.push_back((slot, ask, said));
    }

    /// Ends a connection, within this turn or the next.
    pub(crate) fn end(&mut self, slot: Slot, reason: Reason) {
        self.out.endings.push((slot, reason));
    }

    /// A number that no read has.
    pub(crate) fn next_ask(&mut self) -> AskId {
        self.last_ask = self.last_ask.wrapping_add(1);
        AskId(self.last_ask)
    }

    /// The address of an answer to a connection.
    pub(crate) fn to_connection(&self, slot: Slot, ask: AskId) -> ReplyTo {
        ReplyTo::Connection { worker: self.setup.worker, slot, ask }
    }

    /// The address of an answer to a part of the hub.
    pub(crate) fn to_part(&self, part: Part, ask: AskId) -> ReplyTo {
        ReplyTo::Part { worker: self.setup.worker, part, ask }
    }

    /// Asks the store.
    pub(crate) fn read(&mut self, read: Read) {
        self.out.reads.push_back(read);
        self.counters.reads += 1;
    }

    /// Appends a record whose failure its connection must know of.
    pub(crate) fn append_for(&mut self, slot: Slot, system: System, durability: Durability) {
        let reply_to = ReplyTo::Session { worker: self.setup.worker, slot };
        self.out.appends.push(Append::new(reply_to, Draft::new(system, durability)));
    }

    /// Appends a draft of the hub's own; that it is stale is as good.
    pub(crate) fn append_draft(&mut self, draft: Draft) {
        self.out.appends.push(Append::new(ReplyTo::Nobody, draft));
    }

    /// Appends a record of the hub's own, that nobody waits for.
    pub(crate) fn append_own(&mut self, system: System, durability: Durability) {
        self.append_draft(Draft::new(system, durability));
    }

    /// Appends a record that only passes.
    pub(crate) fn append_passing(&mut self, system: System) {
        self.append_own(system, Durability::None);
    }
}
