//! One session: a type for each stage of its life, which a transition consumes.
//!
//! ```text
//! Claiming ──claim read──▶ Reading ◀──────▶ Waiting          any but Claiming ──claim of another's──▶ Lost, Ended
//!     │  new, or thrown away   │ found, handed over
//!     └──────────┬─────────────┘
//!             Opening ──its own record read──▶ Open
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Answer, Will};
use everywire_base::clock::{Monotonic, UnixMillis};
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::id::AskId;
use everywire_base::kept::Payer;
use everywire_base::record::Record;
use everywire_base::system::{self, SessionState};
use everywire_base::topic::{Filter, Topic};

use super::once::Received;
use super::wills::LastWill;

/// The generation of a session that nobody else has claimed yet.
pub(super) const FIRST: u64 = 1;

/// A connection's session, by how far it is.
#[derive(Debug)]
pub(super) enum Session {
    /// Its claim is on its way through the log.
    Claiming(Box<Claiming>),
    /// The store reads the session as it was at the claim.
    Reading(Box<Reading>),
    /// The state that was found may not be the last: its owner has a moment to hand it over. Then it is read again.
    Waiting(Box<Claimed>),
    /// Its record of ownership, or of its will, is on its way through the log.
    Opening(Box<Opening>),
    /// It is open.
    Open(Open),
    /// Another connection has claimed it. It is handed over when this one ends, with all that had come until then.
    Lost(Open),
    /// Another connection has it, or nobody.
    Ended(Box<Ended>),
}

/// The session that a login wants.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) topic: Topic,
    pub(super) expiry: Duration,
    /// The ask that is answered when the session is open.
    pub(super) ask: AskId,
    /// Whether it wants the inboxes.
    pub(super) inbox: bool,
    /// The will, until it is on its way to the log.
    pub(super) will: Option<Box<Will>>,
    /// The payer of the bytes that are kept of it, if its topic doesn't say.
    pub(super) payer: Payer,
}

#[derive(Debug)]
pub(super) struct Claiming {
    pub(super) wanted: Wanted,
    /// Whether the former session is thrown away.
    pub(super) fresh: bool,
}

/// A session that belongs to this connection, once its former state is known.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) wanted: Wanted,
    pub(super) generation: u64,
    /// The store is read when it has come as far as this.
    pub(super) applied: Offset,
    /// Whether the store is read for the second time, when its answer counts.
    pub(super) again: bool,
    /// The time at which it is looked at again; zero is never.
    pub(super) due: Monotonic,
}

#[derive(Debug)]
pub(super) struct Reading {
    pub(super) claimed: Claimed,
    pub(super) ask: AskId,
    /// The records that the store has found, page by page.
    pub(super) found: Vec<Arc<Record>>,
    /// The topic behind which the next page goes on.
    pub(super) next: Option<Topic>,
}

#[derive(Debug)]
pub(super) struct Opening {
    pub(super) state: SessionState,
    pub(super) open: Open,
    /// The ask that is answered then.
    pub(super) ask: AskId,
}

/// An open session. At rest it owns little.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) topic: Topic,
    /// The time of the last acknowledgement; zero is never.
    pub(super) acknowledged: UnixMillis,
    /// A session that ends with its connection has none of it, unless it leaves a will or has open ends.
    further: Option<Box<Further>>,
}

/// The further state of an open session.
#[derive(Debug, Default)]
struct Further {
    /// The will that is published if the connection ends without a goodbye.
    will: Option<Box<LastWill>>,
    /// The open ends; none while nothing is open.
    ends: Option<Box<OpenEnds>>,
    /// Its record, if it outlives its connection, or something of it stands in the log.
    kept: Option<Kept>,
}

/// A session's record.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) generation: u64,
    pub(super) expiry: Duration,
    /// The payer of the bytes that are kept of it, if its topic doesn't say.
    pub(super) payer: Payer,
    pub(super) before: Before,
    /// Whether a record is under way.
    pub(super) is_writing: bool,
    pub(super) wants: Wants,
    /// The time at which it is looked at again; zero is never.
    due: Monotonic,
}

/// The state of the session before its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Before {
    Nothing,
    /// Its former owner has handed it over.
    Session,
    /// Its former owner died without a word.
    Crashed,
}

/// The need to write a session's record again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Wants {
    Nothing,
    /// It must be, at the latest when it is due.
    Record,
    /// It must be, as soon as it can be.
    RecordAtOnce,
}

/// The open ends of a session, besides its deliveries.
#[derive(Debug, Default)]
pub(super) struct OpenEnds {
    /// Filters that begin above the acknowledged cursor.
    pub(super) later: Vec<(Filter, Cursor)>,
    /// Answers that wait until the session is durable; the first `covered` stand in the record under way.
    pub(super) held: VecDeque<(AskId, Answer)>,
    pub(super) covered: usize,
    /// Messages that were published exactly once and aren't released.
    pub(super) received: Vec<Received>,
}

/// The rest of a session that was lost before it was open.
#[derive(Debug)]
pub(super) struct Ended {
    topic: Topic,
    expiry: Duration,
    will: Option<Box<LastWill>>,
}

impl Claiming {
    /// Goes on with a claim that stands in the log: from now on the session writes with this generation.
    pub(super) fn claimed(self, at: Offset) -> Claimed {
        Claimed { generation: at.0, ..Claimed::new(self.wanted, at) }
    }
}

impl Claimed {
    /// A session that nobody had.
    pub(super) fn new(wanted: Wanted, applied: Offset) -> Self {
        Self { wanted, generation: FIRST, applied, again: false, due: Monotonic::default() }
    }

    /// Reads the former state, under this ask.
    pub(super) fn read(self, ask: AskId) -> Reading {
        Reading { claimed: self, ask, found: Vec::new(), next: None }
    }

    /// Opens a session whose former state is known.
    pub(super) fn open(self, before: Before) -> (Open, AskId) {
        let Wanted { topic, expiry, ask, payer, .. } = self.wanted;
        let is_kept = !expiry.is_zero() || before != Before::Nothing;
        let further = is_kept.then(|| {
            let (generation, wants, due) = (self.generation, Wants::Nothing, Monotonic::default());
            Box::new(Further {
                kept: Some(Kept { generation, expiry, payer, before, is_writing: false, wants, due }),
                ..Further::default()
            })
        });
        (Open { topic, acknowledged: UnixMillis::default(), further }, ask)
    }

    /// Ends a session that is nobody's, or another's.
    pub(super) fn end(self) -> Session {
        Session::Ended(Box::new(Ended { topic: self.wanted.topic, expiry: self.wanted.expiry, will: None }))
    }
}

impl Opening {
    /// The generation of the record that opens it.
    pub(super) fn generation(&self) -> Option<u64> {
        let will = self.open.further.as_ref().and_then(|further| further.will.as_ref());
        self.open.kept().map(|kept| kept.generation).or(will.map(|will| will.generation))
    }

    fn end(mut self) -> Session {
        let (expiry, will, topic) = (self.open.expiry(), self.open.take_will(), self.open.topic);
        Session::Ended(Box::new(Ended { topic, expiry, will }))
    }
}

impl Session {
    pub(super) fn topic(&self) -> &Topic {
        match self {
            Session::Claiming(claiming) => &claiming.wanted.topic,
            Session::Reading(reading) => &reading.claimed.wanted.topic,
            Session::Waiting(claimed) => &claimed.wanted.topic,
            Session::Opening(opening) => &opening.open.topic,
            Session::Open(open) | Session::Lost(open) => &open.topic,
            Session::Ended(ended) => &ended.topic,
        }
    }

    /// The name that the client knows it by.
    pub(super) fn id(&self) -> Box<str> {
        system::session_id(self.topic()).into()
    }

    pub(super) fn expiry(&self) -> Duration {
        match self {
            Session::Claiming(claiming) => claiming.wanted.expiry,
            Session::Reading(reading) => reading.claimed.wanted.expiry,
            Session::Waiting(claimed) => claimed.wanted.expiry,
            Session::Opening(opening) => opening.open.expiry(),
            Session::Open(open) | Session::Lost(open) => open.expiry(),
            Session::Ended(ended) => ended.expiry,
        }
    }

    /// The payer of the bytes that are kept of it, if some are.
    pub(super) fn payer(&self) -> Option<Payer> {
        let of_wanted = |wanted: &Wanted| (!wanted.expiry.is_zero()).then_some(wanted.payer);
        match self {
            Session::Claiming(claiming) => of_wanted(&claiming.wanted),
            Session::Reading(reading) => of_wanted(&reading.claimed.wanted),
            Session::Waiting(claimed) => of_wanted(&claimed.wanted),
            Session::Opening(opening) => opening.open.kept().map(|kept| kept.payer),
            Session::Open(open) | Session::Lost(open) => open.kept().map(|kept| kept.payer),
            Session::Ended(_) => None,
        }
    }

    /// The time that it lives after its connection, if something of it is kept.
    pub(super) fn expiry_mut(&mut self) -> Option<&mut Duration> {
        match self {
            Session::Claiming(claiming) => Some(&mut claiming.wanted.expiry),
            Session::Reading(reading) => Some(&mut reading.claimed.wanted.expiry),
            Session::Waiting(claimed) => Some(&mut claimed.wanted.expiry),
            Session::Opening(opening) => opening.open.kept_mut().map(|kept| &mut kept.expiry),
            Session::Open(open) | Session::Lost(open) => open.kept_mut().map(|kept| &mut kept.expiry),
            Session::Ended(ended) => Some(&mut ended.expiry),
        }
    }

    /// The time at which it is looked at again; zero is never.
    pub(super) fn due_mut(&mut self) -> Option<&mut Monotonic> {
        match self {
            Session::Reading(reading) => Some(&mut reading.claimed.due),
            Session::Waiting(claimed) => Some(&mut claimed.due),
            Session::Open(open) | Session::Lost(open) => open.kept_mut().map(|kept| &mut kept.due),
            Session::Claiming(_) | Session::Opening(_) | Session::Ended(_) => None,
        }
    }

    pub(super) fn will_mut(&mut self) -> Option<&mut LastWill> {
        match self {
            Session::Opening(opening) => opening.open.will_mut(),
            Session::Open(open) | Session::Lost(open) => open.will_mut(),
            Session::Ended(ended) => ended.will.as_deref_mut(),
            Session::Claiming(_) | Session::Reading(_) | Session::Waiting(_) => None,
        }
    }

    pub(super) fn take_will(&mut self) -> Option<Box<LastWill>> {
        match self {
            Session::Opening(opening) => opening.open.take_will(),
            Session::Open(open) | Session::Lost(open) => open.take_will(),
            Session::Ended(ended) => ended.will.take(),
            Session::Claiming(_) | Session::Reading(_) | Session::Waiting(_) => None,
        }
    }

    /// The session, if its client's acts count: it is open, or still to be handed over.
    pub(super) fn held(&self) -> Option<&Open> {
        if let Session::Open(open) | Session::Lost(open) = self { Some(open) } else { None }
    }

    pub(super) fn held_mut(&mut self) -> Option<&mut Open> {
        if let Session::Open(open) | Session::Lost(open) = self { Some(open) } else { None }
    }

    /// Gives the session up to another connection's claim. Says also the generation of its own record, if that may come
    /// to lie above the claim. An error if the claim makes no difference: its own claim comes later and wins, or it has
    /// ended.
    pub(super) fn lose(self) -> Result<(Self, Option<u64>), Self> {
        match self {
            Session::Claiming(_) | Session::Ended(_) => Err(self),
            Session::Open(open) | Session::Lost(open) => Ok((Session::Lost(open), None)),
            Session::Reading(reading) => Ok((reading.claimed.end(), None)),
            Session::Waiting(claimed) => Ok((claimed.end(), None)),
            Session::Opening(opening) => {
                let generation = opening.open.kept().map(|kept| kept.generation);
                Ok((opening.end(), generation))
            }
        }
    }

    /// Ends a session whose opening the log has refused.
    pub(super) fn fail(self) -> Self {
        match self {
            Session::Claiming(claiming) => Claimed::new(claiming.wanted, Offset::BEGINNING).end(),
            other => match other.lose() {
                Ok((lost, _)) => lost,
                Err(ended) => ended,
            },
        }
    }
}

impl Open {
    /// Whether it outlives its connection, or something of it stands in the log.
    pub(super) fn is_durable(&self) -> bool {
        self.kept().is_some()
    }

    /// Its record, if it outlives its connection, or something of it stands in the log.
    pub(super) fn kept(&self) -> Option<&Kept> {
        self.further.as_ref()?.kept.as_ref()
    }

    pub(super) fn kept_mut(&mut self) -> Option<&mut Kept> {
        self.further.as_mut()?.kept.as_mut()
    }

    /// Whether it leaves a will.
    pub(super) fn has_will(&self) -> bool {
        self.further.as_ref().is_some_and(|further| further.will.is_some())
    }

    fn will_mut(&mut self) -> Option<&mut LastWill> {
        self.further.as_mut()?.will.as_deref_mut()
    }

    pub(super) fn set_will(&mut self, will: Option<Box<LastWill>>) {
        if will.is_some() {
            self.further.get_or_insert_default().will = will;
        }
    }

    pub(super) fn take_will(&mut self) -> Option<Box<LastWill>> {
        self.further.as_mut()?.will.take()
    }

    pub(super) fn expiry(&self) -> Duration {
        self.kept().map_or(Duration::ZERO, |kept| kept.expiry)
    }

    pub(super) fn before(&self) -> Before {
        self.kept().map_or(Before::Nothing, |kept| kept.before)
    }

    /// Notes that its record must be written again.
    pub(super) fn want(&mut self, wants: Wants) {
        if let Some(kept) = self.kept_mut() {
            kept.wants = kept.wants.max(wants);
        }
    }

    /// The time of the last acknowledgement.
    pub(super) fn acknowledged(&self) -> Option<UnixMillis> {
        (self.acknowledged > UnixMillis::default()).then_some(self.acknowledged)
    }

    pub(super) fn ends(&mut self) -> &mut OpenEnds {
        self.further.get_or_insert_default().ends.get_or_insert_default()
    }

    /// The open ends, if there are any.
    pub(super) fn ends_if_any(&mut self) -> Option<&mut OpenEnds> {
        self.further.as_mut()?.ends.as_deref_mut()
    }

    /// Whether a subscription waits to be confirmed.
    pub(super) fn is_subscribing(&self) -> bool {
        let mut held = self.open_ends().into_iter().flat_map(|ends| &ends.held);
        held.any(|(_, said)| matches!(said, Answer::Subscribed(_)))
    }

    /// Frees the memory of the open ends when none are left: an idle session owns none for them.
    pub(super) fn tie_up(&mut self) {
        let is_over =
            |ends: &mut Box<OpenEnds>| ends.later.is_empty() && ends.held.is_empty() && ends.received.is_empty();
        if let Some(further) = &mut self.further {
            further.ends.take_if(is_over);
        }
        self.further.take_if(|further| further.will.is_none() && further.ends.is_none() && further.kept.is_none());
    }

    fn open_ends(&self) -> Option<&OpenEnds> {
        self.further.as_ref()?.ends.as_deref()
    }

    /// The messages that were published exactly once and aren't released.
    pub(super) fn received(&self) -> &[Received] {
        self.open_ends().map_or(&[], |ends| &ends.received)
    }

    pub(super) fn later(&self) -> &[(Filter, Cursor)] {
        self.open_ends().map_or(&[], |ends| &ends.later)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_small() {
        assert!(size_of::<Session>() <= 48, "{}", size_of::<Session>());
        assert!(size_of::<Kept>() <= 56, "{}", size_of::<Kept>());
    }
}
