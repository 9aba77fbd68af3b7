//! Fences: what a former owner of a session still has on its way when another connection claims the session is void.
//!
//! A claim is a record that passes on the session's topic; its offset is the generation of all that its owner writes from
//! then on (`base::system`). The log judges each record by the claims and records that lie below it:
//!
//! * A message that its session publishes once is void above a later claim: the claimant has read what was published
//!   under which number, and this one would be published a second time when the client sends it again.
//! * A will is void above a later claim: its client has come back.
//! * A session's record is void above a record of a later generation. Between the claim and the claimant's first record
//!   lies the handover of the former owner, unless the claimant wants nothing of what was there before.
//! * A removal is void above a record of a later generation only: before that it removes what the claimant never wanted.
//!
//! It is judged from the order of the log alone, so that everybody who reads the same log judges alike. The last so many
//! claims are remembered. That is enough when they are more than what a worker may be behind: records of a former owner
//! come until its worker has seen the claim. What was written without a generation is not judged.

use std::collections::{HashMap, VecDeque};

use everywire_base::ask::PublishError;
use everywire_base::cursor::Offset;
use everywire_base::limits::Limits;
use everywire_base::record::Message;
use everywire_base::system::{self, Claim, SESSIONS, WILLS};
use everywire_base::topic::Topic;

/// The claims that are remembered, by the topics of their sessions.
pub(crate) struct Fences {
    claims: HashMap<Topic, Fence>,
    /// In the order of the log.
    by_age: VecDeque<(Offset, Topic)>,
    max: usize,
}

/// What holds for a session since its last claim.
#[derive(Clone, Copy, Default)]
struct Fence {
    claimed: Offset,
    /// Whether the claimant wants nothing of what was there before.
    fresh: bool,
    /// The latest generation of which the session's topic has a record, and the will's.
    session: u64,
    will: u64,
}

/// What of a session a record is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// The session itself, or its claim.
    Session,
    Will,
    /// A message that it publishes once.
    Once,
}

fn about(message: &Message) -> Option<(About, Topic)> {
    if let Some(once) = &message.once {
        return Some((About::Once, once.session.clone()));
    }
    let name = message.topic.as_str();
    if name.starts_with(SESSIONS) {
        return Some((About::Session, message.topic.clone()));
    }
    name.starts_with(WILLS).then(|| system::session_of_will(&message.topic))?.map(|session| (About::Will, session))
}

impl Fence {
    fn latest(&mut self, about: About) -> &mut u64 {
        if about == About::Will { &mut self.will } else { &mut self.session }
    }

    fn is_void(mut self, about: About, message: &Message) -> bool {
        let generation = message.generation;
        let is_removal = message.body.is_empty();
        let is_late = generation < self.claimed.0;
        match about {
            About::Once => is_late,
            _ if generation < *self.latest(about) => true,
            About::Will => is_late && !is_removal,
            About::Session => is_late && !is_removal && self.fresh,
        }
    }
}

impl Fences {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { claims: HashMap::new(), by_age: VecDeque::new(), max: limits.session_claims }
    }

    /// Judges the record that comes next in the log, and takes it in. A record whose commit then fails counts all the
    /// same: its writer writes it again, or is gone together with all that it knew.
    pub(crate) fn judge(&mut self, message: &Message, at: Offset) -> Result<(), PublishError> {
        let Some((about, session)) = about(message) else { return Ok(()) };
        if about == About::Session && !message.retain {
            if let Some(claim) = system::read::<Claim>(message) {
                self.claim(session, at, claim.fresh);
            }
            return Ok(());
        }
        let Some(fence) = self.claims.get_mut(&session).filter(|_| message.generation > 0) else { return Ok(()) };
        if fence.is_void(about, message) {
            return Err(PublishError::Fenced);
        }
        if about != About::Once {
            let latest = fence.latest(about);
            *latest = message.generation.max(*latest);
        }
        Ok(())
    }

    fn claim(&mut self, session: Topic, at: Offset, fresh: bool) {
        let fence = self.claims.entry(session.clone()).or_default();
        (fence.claimed, fence.fresh) = (at, fresh);
        self.by_age.push_back((at, session));
        while self.by_age.len() > self.max {
            let Some((at, session)) = self.by_age.pop_front() else { break };
            // A session that was claimed again since stays.
            if self.claims.get(&session).is_some_and(|fence| fence.claimed == at) {
                self.claims.remove(&session);
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }
}

#[cfg(test)]
mod tests {
    use everywire_base::clock::UnixMillis;
    use everywire_base::record::Once;

    use super::*;

    const A: u64 = 10;
    const B: Offset = Offset(20);

    fn session() -> Topic {
        system::session_topic(Some("ann"), "phone").unwrap()
    }

    fn claim(session: Topic, fresh: bool) -> Message {
        system::message(session, &Claim { owner: "b".into(), fresh }, false)
    }

    fn of(topic: Topic, generation: u64, body: &'static str) -> Message {
        Message { retain: true, generation, ..Message::new(topic, body) }
    }

    fn state(generation: u64) -> Message {
        of(session(), generation, "{}")
    }

    fn will(generation: u64, body: &'static str) -> Message {
        of(system::will_topic(&session()).unwrap(), generation, body)
    }

    fn once(generation: u64) -> Message {
        let once = Once { session: session(), tag: 5, until: UnixMillis(1) };
        Message { once: Some(Box::new(once)), generation, ..Message::new(Topic::parse("t").unwrap(), "x") }
    }

    /// The verdicts on these, which come after a claim of B's in a log where A was the owner.
    fn verdicts(fresh: bool, records: &[Message]) -> Vec<bool> {
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
            // A removal keeps its generation: nothing older revives what was removed.
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
    fn other_sessions_and_those_never_claimed_are_free_and_the_oldest_claims_are_forgotten() {
        let mut fences = Fences::new(&Limits { session_claims: 2, ..Limits::default() });
        let other = |n: u32| system::session_topic(None, &n.to_string()).unwrap();
        assert_eq!(fences.judge(&state(1), Offset(1)), Ok(()));
        fences.judge(&claim(session(), false), B).unwrap();
        assert_eq!(fences.judge(&of(other(1), 1, "{}"), Offset(21)), Ok(()));
        assert_eq!(fences.judge(&once(A), Offset(22)), Err(PublishError::Fenced));
        (1..=3).for_each(|n| fences.judge(&claim(other(n), false), Offset(30 + u64::from(n))).unwrap());
        assert_eq!((fences.len(), fences.claims.len()), (2, 2));
        assert_eq!(fences.judge(&once(A), Offset(40)), Ok(()));
    }
}
