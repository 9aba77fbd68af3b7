//! Sessions: subscriptions and unacknowledged messages that outlive their connection.
//!
//! A session is a retained message on a topic of its own (`base::system`), so it is wherever the log is. Its owner is
//! settled in `ownership`. RULES 11:
//!
//! * Deliveries that aren't acknowledged stand in a bounded window, in sending order. A connection with a full window
//!   lags. The window is delivery's; sessions know when it moves on.
//! * Subscriptions are durable before they are confirmed; acknowledgements are written lazily, and at the end.
//!
//! Sessions never deliver, and know no group and no user's other connections: a shared filter of theirs goes to its
//! group as an event.
//!
//! | module | what it does |
//! | --- | --- |
//! | `session` | the state of one session: a type for each stage |
//! | `ownership` | a connection claims a session, and loses it |
//! | `opening` | its subscriptions go on |
//! | `record` | its record in the log, and the times of writing |
//! | `acknowledge`, `once` | the messages that its client has received, and those that it publishes exactly once |
//! | `budget` | the room for it, of its user or its address |
//! | `wills` | last words |

mod acknowledge;
mod budget;
mod once;
mod opening;
mod ownership;
mod record;
mod session;
#[cfg(test)]
mod tests;
mod wills;

use std::net::IpAddr;
use std::time::Duration;

use everywire_base::ask::{Answer, Goodbye, Page, PublishError, Published, Welcome};
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::id::{AskId, ReplyTo, Slot};
use everywire_base::notice::{Notice, Refused};
use everywire_base::reason::Reason;
use everywire_base::record::{Record, System};
use everywire_base::roster::Change;
use everywire_base::rules::Refusal;
use everywire_base::system;
use everywire_base::topic::{Filter, Topic};
use hashbrown::HashTable;

use self::session::{Session, Wants};
use self::wills::Wills;
use crate::floor::chunked::Chunked;
use crate::floor::due::Due;
use crate::floor::{Floor, RETRY};
use crate::ground::{Follower, Ground};

/// The time that an acknowledgement may wait until it is written.
const LAZY: Duration = Duration::from_secs(5);

/// The sessions of this worker's connections, and the wills of those that are gone.
#[derive(Default)]
pub(crate) struct Sessions {
    /// The sessions by the connection's place.
    all: Chunked<Option<Box<Session>>>,
    /// Their places by the hash of the session's topic.
    by_topic: HashTable<u32>,
    /// The times at which sessions are due.
    watched: Due<Slot>,
    wills: Wills,
}

impl Sessions {
    /// The time at which a session or a will is due.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        self.watched.deadline().into_iter().chain(self.wills.deadline()).min()
    }

    /// The number of wills that wait, or are on their way.
    pub(crate) fn wills(&self) -> u64 {
        self.wills.len() as u64
    }

    /// The time by which a connection's session outlives it; zero if none does.
    pub(crate) fn expiry(&self, index: u32) -> Duration {
        self.session(index).map_or(Duration::ZERO, Session::expiry)
    }

    /// The name of a connection's session.
    pub(crate) fn id(&self, index: u32) -> Option<Box<str>> {
        self.session(index).map(Session::id)
    }

    /// The time of the last acknowledgement.
    pub(crate) fn acknowledged(&self, index: u32) -> Option<UnixMillis> {
        self.session(index)?.held()?.acknowledged()
    }

    /// Answers a login that is complete, and names its session.
    pub(crate) fn welcome(
        &self,
        floor: &mut Floor,
        (slot, ask): (Slot, AskId),
        resumed: bool,
        refused: Vec<(Filter, Refusal)>,
    ) {
        let (session, expiry) = self.session(slot.index).map(|s| (s.id(), s.expiry())).unzip();
        let (connection, expiry) = (floor.name(slot), expiry.unwrap_or_default());
        let welcome = Welcome { connection, session, expiry, resumed, refused };
        floor.say(slot, ask, Answer::Welcomed(Ok(welcome)));
    }

    /// Takes the goodbye of a client.
    pub(crate) fn goodbye(&mut self, floor: &mut Floor, slot: Slot, goodbye: Goodbye) {
        if !goodbye.will {
            self.void_will(floor, slot);
        }
        let longest = floor.setup.limits.session_expiry_max;
        // A session that ends with its connection stays so.
        let lives = self.session_mut(slot.index).and_then(Session::expiry_mut).filter(|lives| !lives.is_zero());
        if let (Some(lives), Some(expiry)) = (lives, goodbye.expiry) {
            *lives = expiry.min(longest);
        }
    }

    /// Tells operators that a session has lost something: not every wire has a word for it.
    pub(crate) fn tell_of_loss(&self, floor: &mut Floor, slot: Slot, topic: &str) {
        let Some(session) = self.session(slot.index) else { return };
        let why = format!("of {topic}: they were not kept until it came for them; raise `history` of the topic's rule");
        floor.out.notices.push((Some(slot), Notice::new(Refused::Lost, why).of(&session.id())));
    }

    /// Removes a connection that is gone; its session waits for the next.
    pub(crate) fn leave(&mut self, ground: &mut Ground<'_>, slot: Slot, address: IpAddr) {
        self.leave_will(ground, slot, address);
        self.write_last(ground, slot);
        self.forget(slot);
        ground.deliveries.end_window(slot.index);
    }

    /// Empties the place of a session.
    pub(crate) fn forget(&mut self, slot: Slot) {
        let Some(mut session) = self.all.get_mut(slot.index).and_then(Option::take) else { return };
        self.remove(session.topic(), slot.index);
        if let Some(due) = session.due_mut() {
            self.watched.remove(*due, slot);
        }
    }

    /// Sees to the sessions whose time has come, and publishes the wills that are due.
    pub(crate) fn turn(&mut self, ground: &mut Ground<'_>) {
        while let Some((_, slot)) = self.watched.next(ground.now.monotonic) {
            if let Some(due) = self.session_mut(slot.index).and_then(Session::due_mut) {
                *due = Monotonic::default();
            }
            match self.take_if(slot, |s| matches!(s, Session::Reading(_) | Session::Waiting(_))) {
                Some(Session::Waiting(claimed)) => self.look_again(ground, slot, *claimed),
                Some(Session::Reading(reading)) => self.read_again(ground, slot, *reading),
                _ => self.write(ground, slot),
            }
        }
        self.see_to_wills(ground);
    }

    /// Takes the store's answer, if it is for a session or a will.
    pub(crate) fn page(&mut self, ground: &mut Ground<'_>, page: &Page) -> bool {
        self.take_wills(ground, page) || self.take_page(ground, page)
    }

    /// Takes the result of an append of a will's or a session's.
    pub(crate) fn appended(
        &mut self,
        ground: &mut Ground<'_>,
        reply_to: ReplyTo,
        result: &Result<Published, PublishError>,
    ) {
        if self.fired(ground, reply_to, result) {
            return;
        }
        let ReplyTo::Session { slot, .. } = reply_to else { return };
        // A record that another connection's claim has made void is over when that claim comes out of the log.
        if result.is_err() && *result != Err(PublishError::Fenced) && ground.deliveries.is_here(slot) {
            self.append_failed(ground, slot);
        }
    }

    /// Notes that a session's refused record must be written again, or ends the login.
    fn append_failed(&mut self, ground: &mut Ground<'_>, slot: Slot) {
        if let Some(open) = self.session_mut(slot.index).and_then(Session::held_mut) {
            open.want(Wants::Record);
            if let Some(kept) = open.kept_mut() {
                kept.is_writing = false;
            }
            open.ends().covered = 0;
            if let Some(window) = ground.deliveries.window_mut(slot.index) {
                window.written(false);
            }
            self.watch(slot, ground.now.monotonic + RETRY);
        } else if let Some(session) = self.take_if(slot, |s| !matches!(s, Session::Ended(_))) {
            self.put(slot.index, session.fail());
            ground.floor.end(slot, Reason::Overloaded(Duration::from_secs(1)));
        }
    }

    /// Notes the time at which a session is due, in place of the former. A session of which nothing is kept is never
    /// due.
    fn watch(&mut self, slot: Slot, at: Monotonic) {
        let Some(due) = self.session_mut(slot.index).and_then(Session::due_mut) else { return };
        let former = std::mem::replace(due, at);
        self.watched.remove(former, slot);
        self.watched.add(at, slot);
    }

    /// Enters a session into the index by topic, by which its records find it.
    fn index(&mut self, topic: &Topic, index: u32) {
        let all = &self.all;
        self.by_topic.insert_unique(topic.stable_hash(), index, |index| {
            let session = all.get(*index).and_then(Option::as_ref);
            session.map(|s| s.topic().stable_hash()).unwrap_or_default()
        });
    }

    fn remove(&mut self, topic: &Topic, index: u32) {
        if let Ok(entry) = self.by_topic.find_entry(topic.stable_hash(), |other| *other == index) {
            entry.remove();
        }
    }

    /// Takes out a session that goes on to another stage, if it is in the right one. The session that is put in its
    /// place is watched anew.
    fn take_if(&mut self, slot: Slot, is_meant: impl Fn(&Session) -> bool) -> Option<Session> {
        let mut session = self.all.get_mut(slot.index)?.take_if(|session| is_meant(session))?;
        if let Session::Reading(_) | Session::Waiting(_) = *session
            && let Some(due) = session.due_mut()
        {
            self.watched.remove(std::mem::take(due), slot);
        }
        Some(*session)
    }

    fn put(&mut self, index: u32, session: Session) {
        *self.all.reach(index) = Some(Box::new(session));
    }

    fn session(&self, index: u32) -> Option<&Session> {
        self.all.get(index)?.as_deref()
    }

    fn session_mut(&mut self, index: u32) -> Option<&mut Session> {
        self.all.get_mut(index)?.as_deref_mut()
    }

    fn of_topic(&self, topic: &Topic) -> Vec<u32> {
        let all = self.by_topic.iter_hash(topic.stable_hash()).copied();
        all.filter(|index| self.session(*index).is_some_and(|s| s.topic() == topic)).collect()
    }
}

impl Follower for Sessions {
    fn nodes(&mut self, ground: &mut Ground<'_>, change: &Change, _: &Record) {
        if !change.gone().is_empty() {
            self.gone(ground);
        }
    }

    fn record(&mut self, ground: &mut Ground<'_>, record: &Record, system: &System) {
        let topic = system.topic.as_str();
        if topic.starts_with(system::SESSIONS) {
            self.session_record(ground, record, system);
        } else if topic.starts_with(system::WILLS) {
            self.will_record(ground, record, system);
        }
    }
}
