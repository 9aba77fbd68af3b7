//! Fences: records of a former owner of a session that are on their way when another connection claims the session are
//! void.
//!
//! A claim is a record on the session's topic that isn't stored; its offset is the generation of all records that its
//! owner writes from then on (`base::system`). The log judges each record by the claims and records that lie below it:
//!
//! * A message that its session publishes once is void above a later claim: the claimant has read the messages that
//!   were published with their numbers, and this one would be published a second time when the client sends it again.
//! * A will is void above a later claim: its client has come back.
//! * A session's record is void above a record of a later generation. Between the claim and the claimant's first record
//!   lies the handover of the former owner, unless the claim is a fresh one.
//! * A removal is void above a record of a later generation only: before that it removes a state that the claimant
//!   never wanted.
//!
//! The order of the log alone decides, so that all readers of the same log judge alike. A bounded number of the last
//! claims is remembered. That is enough when it is more than a worker may be behind: records of a former owner come
//! until its worker has seen the claim. Records without a generation are not judged.
//!
//! The claim of a session that ends with its connection is remembered too: a former owner whose own claim is forgotten
//! may still write what the session was before.

use std::collections::VecDeque;
use std::sync::Arc;

use everywire_base::ask::PublishError;
use everywire_base::cursor::Offset;
use everywire_base::limits::Limits;
use everywire_base::record::{Entry, Once, System};
use everywire_base::system::{self, Claim, SESSIONS, WILLS};
use everywire_base::topic::Topic;
use hashbrown::HashTable;

use crate::siphash::SipHash;

/// The claims that are remembered. Each connected client with a session has one, so that they are small.
pub(crate) struct Fences {
    /// In the order of the log.
    claims: VecDeque<(Arc<str>, Fence)>,
    /// The number of the first of them.
    first: u32,
    /// The numbers of the last claims of their sessions: the others are no fences any more.
    last: HashTable<u32>,
    hash: SipHash,
    max: usize,
}

/// The fence of a session since its last claim.
struct Fence {
    claimed: Offset,
    /// The claim of a client that wants nothing of the earlier state has none of it while no record stands in the log.
    further: Option<Box<Further>>,
}

/// The state of a session besides its last claim.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Further {
    /// Whether the claimant wants nothing of the earlier state.
    fresh: bool,
    /// The latest generation of which the session's topic has a record, and the will's.
    session: u64,
    will: u64,
}

/// A claim without records.
const FRESH: Further = Further { fresh: true, session: 0, will: 0 };

/// The part of a session that a record of the server's own is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// The session itself, or its claim.
    Session,
    Will,
}

fn about(system: &System) -> Option<(About, Topic)> {
    let name = system.topic.as_str();
    if name.starts_with(SESSIONS) {
        return Some((About::Session, system.topic.clone()));
    }
    name.starts_with(WILLS).then(|| system::session_of_will(&system.topic))?.map(|session| (About::Will, session))
}

impl Further {
    fn latest(&mut self, about: About) -> &mut u64 {
        if about == About::Will { &mut self.will } else { &mut self.session }
    }
}

impl Fence {
    fn new(claimed: Offset, further: Further) -> Self {
        Self { claimed, further: (further != FRESH).then(|| Box::new(further)) }
    }

    fn further(&self) -> Further {
        self.further.as_deref().copied().unwrap_or(FRESH)
    }

    fn is_void(&self, about: About, system: &System) -> bool {
        let generation = system.generation;
        let is_removal = system.body.is_empty();
        let is_late = generation < self.claimed.0;
        match about {
            _ if generation < *self.further().latest(about) => true,
            About::Will => is_late && !is_removal,
            About::Session => is_late && !is_removal && self.further().fresh,
        }
    }

    /// Notes a record of this generation.
    fn note(&mut self, about: About, generation: u64) {
        let mut further = self.further();
        let latest = further.latest(about);
        if generation > *latest {
            *latest = generation;
            *self = Self::new(self.claimed, further);
        }
    }
}

impl Fences {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self::with(limits.session_claims)
    }

    /// A table that remembers this many claims.
    pub(crate) fn with(max: usize) -> Self {
        Self { claims: VecDeque::new(), first: 0, last: HashTable::new(), hash: SipHash::random(), max }
    }

    /// All claims that are remembered, in the order of the log, for the state of the next life: offset, session, and
    /// the numbers of its fence.
    pub(crate) fn export(&self) -> impl Iterator<Item = (Offset, &str, Option<[u64; 4]>)> {
        self.claims.iter().zip(0..).map(|((session, fence), place)| {
            let is_last = self.find(session) == Some(place);
            let Further { fresh, session: latest, will } = fence.further();
            let numbers = [fence.claimed.0, u64::from(fresh), latest, will];
            (fence.claimed, &**session, is_last.then_some(numbers))
        })
    }

    /// Takes over an exported claim; called in their order.
    pub(crate) fn import(&mut self, at: Offset, session: &Topic, numbers: Option<[u64; 4]>) {
        // A claim that isn't its session's last is no fence any more.
        let [claimed, fresh, latest, will] = numbers.unwrap_or([at.0, 1, 0, 0]);
        self.add(session, Fence::new(Offset(claimed), Further { fresh: fresh != 0, session: latest, will }));
    }

    /// Judges the next record of the log, and takes it in. A record whose commit then fails counts all the same: its
    /// writer writes it again, or is gone together with its state.
    pub(crate) fn judge(&mut self, entry: &Entry, at: Offset) -> Result<(), PublishError> {
        match entry {
            Entry::Message(message) => message.once.as_ref().map_or(Ok(()), |once| self.judge_once(once)),
            Entry::System(system) => self.judge_system(system, at),
        }
    }

    fn judge_once(&mut self, once: &Once) -> Result<(), PublishError> {
        let fence = self.fence(&once.session, once.generation);
        if fence.is_some_and(|fence| once.generation < fence.claimed.0) { Err(PublishError::Fenced) } else { Ok(()) }
    }

    fn judge_system(&mut self, system: &System, at: Offset) -> Result<(), PublishError> {
        let Some((about, session)) = about(system) else { return Ok(()) };
        if about == About::Session && !system.retain {
            if let Some(claim) = system::read::<Claim>(system) {
                self.claim(&session, at, claim.fresh);
            }
            return Ok(());
        }
        let Some(fence) = self.fence(&session, system.generation) else { return Ok(()) };
        if fence.is_void(about, system) {
            return Err(PublishError::Fenced);
        }
        fence.note(about, system.generation);
        Ok(())
    }

    /// The fence of a session, for a record of this generation; 0 has none.
    fn fence(&mut self, session: &Topic, generation: u64) -> Option<&mut Fence> {
        let place = self.find(session.as_str()).filter(|_| generation > 0)?;
        self.claims.get_mut(place).map(|(_, fence)| fence)
    }

    fn claim(&mut self, session: &Topic, at: Offset, fresh: bool) {
        let former = self.find(session.as_str()).map_or(FRESH, |place| self.claims[place].1.further());
        self.add(session, Fence::new(at, Further { fresh, ..former }));
        while self.claims.len() > self.max {
            self.forget_first();
        }
    }

    fn add(&mut self, session: &Topic, fence: Fence) {
        let number = self.first.wrapping_add(self.claims.len() as u32);
        let Self { claims, first, last, hash, .. } = self;
        let topic = |number: &u32| &claims[number.wrapping_sub(*first) as usize].0;
        let is_its = |known: &u32| **topic(known) == *session.as_str();
        last.entry(hash_of(hash, session.as_str()), is_its, |known| hash_of(hash, topic(known))).insert(number);
        self.claims.push_back((Arc::clone(session.name()), fence));
    }

    fn forget_first(&mut self) {
        let Some((session, _)) = self.claims.pop_front() else { return };
        let first = self.first;
        self.first = first.wrapping_add(1);
        // A session that was claimed again since keeps its fence.
        if let Ok(entry) = self.last.find_entry(hash_of(&self.hash, &session), |number| *number == first) {
            entry.remove();
        }
    }

    /// The place of the last claim of a session.
    fn find(&self, session: &str) -> Option<usize> {
        let place = |number: &u32| number.wrapping_sub(self.first) as usize;
        let is_its = |number: &u32| *self.claims[place(number)].0 == *session;
        self.last.find(hash_of(&self.hash, session), is_its).map(place)
    }

    pub(crate) fn len(&self) -> usize {
        self.claims.len()
    }
}

fn hash_of(hash: &SipHash, session: &str) -> u64 {
    hash.of(&[Some(session.as_bytes())])
}

#[cfg(test)]
mod tests {
    use everywire_base::clock::UnixMillis;
    use everywire_base::record::Message;

    use super::*;

    const A: u64 = 10;
    const B: Offset = Offset(20);

    fn session() -> Topic {
        system::session_topic(Some("ann"), "phone").unwrap()
    }

    fn claim(session: Topic, fresh: bool) -> Entry {
        system::record(session, &Claim { owner: "b".into(), fresh }, false).into()
    }

    fn of(topic: Topic, generation: u64, body: &'static str) -> Entry {
        System { generation, ..System::new(topic, body, true) }.into()
    }

    fn state(generation: u64) -> Entry {
        of(session(), generation, "{}")
    }

    fn will(generation: u64, body: &'static str) -> Entry {
        of(system::will_topic(&session()).unwrap(), generation, body)
    }

    fn once(generation: u64) -> Entry {
        let once = Once { session: session(), tag: 5, generation, until: UnixMillis(1) };
        Message { once: Some(Box::new(once)), ..Message::new(Topic::parse("t").unwrap(), "x") }.into()
    }

    /// The verdicts on these records, which come after a claim of B's in a log where A was the owner.
    fn verdicts(fresh: bool, records: &[Entry]) -> Vec<bool> {
        let mut fences = Fences::new(&Limits::default());
        fences.judge(&claim(session(), false), Offset(A)).unwrap();
        for record in [state(A), will(A, "{}"), once(A)] {
            assert_eq!(fences.judge(&record, Offset(15)), Ok(()), "the owner writes");
        }
        fences.judge(&claim(session(), fresh), B).unwrap();
        records.iter().map(|record| fences.judge(record, Offset(30)).is_ok()).collect()
    }

    #[test]
    fn what_comes_of_a_former_owner_is_void_but_for_its_handover_and_removals() {
        let cases = [
            (vec![once(A), once(B.0), once(0)], vec![false, true, true]),
            (vec![will(A, "{}"), will(A, ""), will(B.0, "{}"), will(A, "")], vec![false, true, true, false]),
            (vec![state(A), state(B.0), state(A), of(session(), A, "")], vec![true, true, false, false]),
            // A removal keeps its generation: no older record revives the session.
            (vec![of(session(), B.0, ""), state(A)], vec![true, false]),
            (vec![state(1)], vec![false]),
        ];
        for (records, expected) in cases {
            assert_eq!(verdicts(false, &records), expected, "{records:?}");
        }
        let fresh = vec![state(A), of(session(), A, ""), state(B.0)];
        assert_eq!(verdicts(true, &fresh), [false, true, true], "who starts anew wants no handover");
    }

    #[test]
    fn a_claim_takes_little() {
        assert!(size_of::<(Arc<str>, Fence)>() <= 32, "{}", size_of::<(Arc<str>, Fence)>());
    }

    #[test]
    fn what_is_exported_judges_as_before() {
        let mut fences = Fences::new(&Limits::default());
        let other = system::session_topic(None, "x").unwrap();
        for (at, session) in [(A, session()), (15, other), (B.0, session())] {
            fences.judge(&claim(session, false), Offset(at)).unwrap();
        }
        let mut next = Fences::new(&Limits::default());
        let exported: Vec<_> =
            fences.export().map(|(at, session, numbers)| (at, Topic::parse(session).unwrap(), numbers)).collect();
        assert_eq!(exported.iter().map(|claim| claim.2.is_some()).collect::<Vec<_>>(), [false, true, true]);
        for (at, session, numbers) in exported {
            next.import(at, &session, numbers);
        }
        for fences in [&mut fences, &mut next] {
            assert_eq!(fences.judge(&once(A), Offset(30)), Err(PublishError::Fenced));
            assert_eq!(fences.judge(&once(B.0), Offset(31)), Ok(()));
        }
    }

    #[test]
    fn other_sessions_and_those_never_claimed_are_free_and_the_oldest_claims_are_forgotten() {
        let mut fences = Fences::new(&Limits { session_claims: 2, ..Limits::default() });
        let other = |n: u32| system::session_topic(None, &n.to_string()).unwrap();
        assert_eq!(fences.judge(&state(1), Offset(1)), Ok(()));
        fences.judge(&claim(session(), false), B).unwrap();
        assert_eq!(fences.judge(&of(other(1), 1, "{}"), Offset(21)), Ok(()));
        assert_eq!(fences.judge(&once(A), Offset(22)), Err(PublishError::Fenced));
        (1..=3).for_each(|n| fences.judge(&claim(other(n), false), Offset(30 + u64::from(n))).unwrap());
        assert_eq!((fences.len(), fences.last.len()), (2, 2));
        assert_eq!(fences.judge(&once(A), Offset(40)), Ok(()));
    }
}
