//! The threads that check credentials.
//!
//! Checks that take microseconds have a lane of their own and never wait behind checks that block: passwords, the
//! application, keys that are read again. Each of these has its own lane too, bounded in all and for each address.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use everywire_auth::{Authority, Source, UserSecret, Users, Verdict};
use everywire_base::ask::{AuthError, Authenticate, Authenticated, Interest, Read, ReadKind};
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{ReplyTo, Slot};
use everywire_base::limits::Limits;
use everywire_base::system;
use everywire_base::topic::Filter;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post};
use everywire_log::tail::Tail;
use everywire_store::Store;

use crate::doorbell::{answer, wall_clock};
use crate::lane::{Bounds, Full, Lane};
use crate::threads;

/// The longest that the store may be behind the log before a user is looked up all the same.
const BEHIND: Duration = Duration::from_millis(500);

/// A lane: the source of its checks, its name, its threads, and how many of them one address may hold at the same time.
/// A password holds a thread for milliseconds; an application that hangs holds it for its bound of seconds.
const LANES: [(Option<Source>, &str, usize, usize); 4] = [
    (None, "quick", 2, 2),
    (Some(Source::Keys), "keys", 1, 1),
    (Some(Source::Users), "users", 2, 2),
    (Some(Source::Callback), "callback", 16, 8),
];

fn lane_of(source: Option<Source>) -> usize {
    LANES.iter().position(|lane| lane.0 == source).unwrap_or_default()
}

/// Checks credentials, step by step.
trait Judge: Send + Sync {
    /// Whether it ever asks this source.
    fn asks(&self, source: Source) -> bool;
    /// Checks without a source what takes microseconds, or with a source what may block.
    fn judge(&self, source: Option<Source>, asked: &Authenticate) -> Verdict;
    /// The time until the keys are to be read again.
    fn keys_due(&self) -> Option<Duration>;
    /// Reads the keys again.
    fn read_keys(&self);
}

impl Judge for Authority {
    fn asks(&self, source: Source) -> bool {
        Authority::asks(self, source)
    }

    fn judge(&self, source: Option<Source>, asked: &Authenticate) -> Verdict {
        let (credentials, device) = (&asked.credentials, asked.device.as_deref());
        match source {
            None => self.at_once(credentials, device, wall_clock()),
            Some(source) => self.ask(source, credentials, device, wall_clock()),
        }
    }

    fn keys_due(&self) -> Option<Duration> {
        Authority::keys_due(self)
    }

    fn read_keys(&self) {
        self.refresh_keys(Duration::ZERO);
    }
}

/// Credentials that wait to be checked.
struct Waiting {
    asked: Authenticate,
    since: Instant,
}

/// Credentials on their way to the threads. Clones share them.
#[derive(Clone)]
pub(crate) struct Checks(Arc<Desk>);

struct Desk {
    lanes: [Lane<Waiting>; LANES.len()],
    counts: Counts,
    /// The longest wait of a login: a client that waited for longer has given up.
    patience: Duration,
    answer: Box<dyn Fn(Authenticated) + Send + Sync>,
}

/// The number of checks by their result.
#[derive(Default)]
struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    unavailable: AtomicU64,
    /// Exchanges that wait for the client's proof.
    begun: AtomicU64,
    /// Checks that found a lane full.
    busy: AtomicU64,
    /// Checks of an address of which too many waited.
    flood: AtomicU64,
    /// Checks that waited for too long.
    late: AtomicU64,
    /// Checks whose connection ended meanwhile.
    gone: AtomicU64,
}

impl Checks {
    /// Starts the threads. They end with [`Checks::close`].
    pub(crate) fn start(
        authority: &Arc<Authority>,
        posts: &Arc<[Post<Socket>]>,
        limits: &Limits,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let posts = Arc::clone(posts);
        let answer = move |who: Authenticated| answer(&posts, who.reply_to, Mail::Authenticated(who));
        Self::with(&(Arc::clone(authority) as Arc<dyn Judge>), limits, Box::new(answer))
    }

    fn with(
        judge: &Arc<dyn Judge>,
        limits: &Limits,
        answer: Box<dyn Fn(Authenticated) + Send + Sync>,
    ) -> io::Result<(Self, Vec<JoinHandle<()>>)> {
        let lanes = LANES.map(|(source, _, _, at_work)| {
            // The quick lane has no bound of one address: a check there ends at once.
            let of_one = if source.is_none() { limits.auth_queue } else { limits.auth_per_address };
            Lane::new(Bounds { waiting: limits.auth_queue, of_one, at_work })
        });
        let desk = Desk { lanes, counts: Counts::default(), patience: limits.login, answer };
        let checks = Self(Arc::new(desk));
        let mut running = Vec::new();
        let needed = LANES.into_iter().filter(|lane| lane.0.is_none_or(|source| judge.asks(source)));
        for (source, name, threads, _) in needed {
            for i in 0..threads {
                let (desk, judge) = (Arc::clone(&checks.0), Arc::clone(judge));
                let serve = move || {
                    if source == Some(Source::Keys) { desk.keep_keys(&*judge) } else { desk.serve(&*judge, source) }
                };
                running.push(threads::spawn(format!("auth-{name}-{i}"), serve)?);
            }
        }
        Ok((checks, running))
    }

    /// Takes credentials, or gives them back when too many wait.
    pub(crate) fn check(&self, asked: Authenticate, from: IpAddr, is_leaving: bool) -> Result<(), Authenticate> {
        let waiting = Waiting { asked, since: Instant::now() };
        self.0.lanes[lane_of(None)].put(from, waiting, is_leaving).map_err(|(_, waiting)| {
            self.0.counts.busy.fetch_add(1, Ordering::Relaxed);
            waiting.asked
        })
    }

    /// Drops the checks of a connection that is gone.
    pub(crate) fn forget(&self, from: IpAddr, worker: u16, slot: Slot) {
        let is_it = |waiting: &Waiting| waiting.is_of(worker, slot);
        let gone: usize = self.0.lanes.iter().map(|lane| lane.forget(from, is_it)).sum();
        self.0.counts.gone.fetch_add(gone as u64, Ordering::Relaxed);
    }

    /// Puts the checks of a connection last that has closed its sending side.
    pub(crate) fn is_leaving(&self, from: IpAddr, worker: u16, slot: Slot) {
        self.0.lanes.iter().for_each(|lane| lane.is_leaving(from, |waiting| waiting.is_of(worker, slot)));
    }

    /// The number of checks that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.lanes.iter().map(Lane::waiting).sum()
    }

    /// Ends the threads. Checks that still wait are not answered.
    pub(crate) fn close(&self) {
        self.0.lanes.iter().for_each(Lane::close);
    }

    /// The number of checks by their result, with its name.
    pub(crate) fn results(&self) -> [(&'static str, u64); 8] {
        let Counts { accepted, refused, unavailable, begun, busy, flood, late, gone } = &self.0.counts;
        [
            ("accepted", accepted),
            ("refused", refused),
            ("unavailable", unavailable),
            ("begun", begun),
            ("busy", busy),
            ("flood", flood),
            ("late", late),
            ("gone", gone),
        ]
        .map(|(name, count)| (name, count.load(Ordering::Relaxed)))
    }
}

impl Waiting {
    fn is_of(&self, worker: u16, slot: Slot) -> bool {
        self.asked.reply_to.is_of(worker, slot)
    }
}

impl Desk {
    /// Works on a lane until it is closed.
    fn serve(&self, judge: &dyn Judge, source: Option<Source>) {
        while let Some(mut taken) = self.lanes[lane_of(source)].take(None) {
            if let Some((from, waiting)) = taken.item() {
                self.step(judge, source, from, waiting);
            }
        }
    }

    /// Works on the lane of keys until it is closed, and reads the keys again when that is due.
    fn keep_keys(&self, judge: &dyn Judge) {
        let lane = &self.lanes[lane_of(Some(Source::Keys))];
        while !lane.is_closed() {
            let due = judge.keys_due();
            if due == Some(Duration::ZERO) {
                judge.read_keys();
                continue;
            }
            if let Some((from, waiting)) = lane.take(due).and_then(|mut taken| taken.item()) {
                self.step(judge, Some(Source::Keys), from, waiting);
            }
        }
    }

    /// Takes a check one step further: to its end, or to another lane.
    fn step(&self, judge: &dyn Judge, source: Option<Source>, from: IpAddr, waiting: Waiting) {
        if waiting.since.elapsed() > self.patience {
            self.counts.late.fetch_add(1, Ordering::Relaxed);
            return self.say(&waiting, Err(busy("too many logins wait to be checked: try again")));
        }
        match judge.judge(source, &waiting.asked) {
            Verdict::Is(result) => {
                self.count(&result);
                self.say(&waiting, result);
            }
            Verdict::Ask(source) => match self.lanes[lane_of(Some(source))].put(from, waiting, false) {
                Ok(()) => {}
                Err((Full::All, waiting)) => {
                    self.counts.busy.fetch_add(1, Ordering::Relaxed);
                    self.say(&waiting, Err(busy("too many logins wait to be checked: try again")));
                }
                Err((Full::One, waiting)) => {
                    self.counts.flood.fetch_add(1, Ordering::Relaxed);
                    self.say(&waiting, Err(busy("too many logins from your address wait to be checked: try again")));
                }
            },
        }
    }

    fn say(&self, waiting: &Waiting, result: Result<Arc<everywire_base::identity::Identity>, AuthError>) {
        (self.answer)(Authenticated { reply_to: waiting.asked.reply_to, result });
    }

    fn count<T>(&self, result: &Result<T, AuthError>) {
        let count = match result {
            Ok(_) => &self.counts.accepted,
            Err(AuthError::Refused(_) | AuthError::Mismatch(_)) => &self.counts.refused,
            Err(AuthError::Unavailable(_)) => &self.counts.unavailable,
            // The exchange will end in one of the others.
            Err(AuthError::Continue { .. }) => &self.counts.begun,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn busy(why: &str) -> AuthError {
    AuthError::Unavailable(why.into())
}

/// The static users: retained messages of `$users/NAME`.
pub(crate) struct StoredUsers {
    pub(crate) store: Store,
    pub(crate) tail: Arc<Tail>,
}

impl Users for StoredUsers {
    fn find(&self, user: &str) -> Option<UserSecret> {
        let topic = system::user_topic(user)?;
        // A user who was just added is found.
        self.store.wait(self.tail.head(), BEHIND);
        let interests = Arc::new([Interest { filter: Filter::Exact(topic), since: Offset::BEGINNING }]);
        let (reply_to, partition, applied) = (ReplyTo::Nobody, Partition(0), Offset::BEGINNING);
        let read =
            Read { reply_to, partition, interests, applied, kind: ReadKind::Retained { after: None, max_records: 1 } };
        let page = self.store.read(&read, wall_clock());
        page.records.first().and_then(|record| record.system()).and_then(system::read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use everywire_base::ask::Credentials;
    use everywire_base::id::AskId;
    use everywire_base::identity::Identity;

    use super::*;

    /// A judge that knows the token `good`. Passwords, and tokens that only the application knows, block until the gate
    /// opens.
    struct Slow {
        began: Mutex<Sender<(Source, u32)>>,
        /// Each letter lets one check go on.
        gate: Mutex<Receiver<()>>,
    }

    impl Judge for Slow {
        fn asks(&self, _: Source) -> bool {
            true
        }

        fn judge(&self, source: Option<Source>, asked: &Authenticate) -> Verdict {
            match (source, &asked.credentials) {
                (None, Credentials::Token(token)) if **token == *"good" => Verdict::Is(Ok(Arc::default())),
                (None, Credentials::Token(_)) => Verdict::Ask(Source::Callback),
                (None, _) => Verdict::Ask(Source::Users),
                (Some(source), _) => {
                    let begins = (source, number_of(asked.reply_to));
                    let _ = self.began.lock().unwrap_or_else(PoisonError::into_inner).send(begins);
                    let _ = self.gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    Verdict::Is(Ok(Arc::default()))
                }
            }
        }

        fn keys_due(&self) -> Option<Duration> {
            None
        }

        fn read_keys(&self) {}
    }

    type Answers = Receiver<Authenticated>;

    /// Checks with threads that block, the sender that lets one of them go on, the checks begun in each lane, and the
    /// answers.
    fn blocked(limits: &Limits) -> (Checks, Sender<()>, Receiver<(Source, u32)>, Answers) {
        let (notes, begun) = channel();
        let (open, gate) = channel();
        let (answer, answers) = channel();
        let judge: Arc<dyn Judge> = Arc::new(Slow { began: Mutex::new(notes), gate: Mutex::new(gate) });
        let answer = Mutex::new(answer);
        let say = move |who| drop(answer.lock().unwrap_or_else(PoisonError::into_inner).send(who));
        let (checks, _) = Checks::with(&judge, limits, Box::new(say)).unwrap();
        (checks, open, begun, answers)
    }

    fn address(n: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, n])
    }

    fn slot(n: u32) -> Slot {
        Slot { index: n, generation: 0 }
    }

    fn reply_to(n: u32) -> ReplyTo {
        ReplyTo::Connection { worker: 0, slot: slot(n), ask: AskId(n) }
    }

    fn number_of(reply_to: ReplyTo) -> u32 {
        reply_to.ask().expect("an ask").0
    }

    fn token(n: u32, token: &str) -> Authenticate {
        Authenticate { reply_to: reply_to(n), credentials: Credentials::Token(token.into()), device: None }
    }

    fn password(n: u32) -> Authenticate {
        let credentials = Credentials::Password { user: "ann".into(), password: "x".into() };
        Authenticate { reply_to: reply_to(n), credentials, device: None }
    }

    fn told(answers: &Answers) -> (u32, Result<Arc<Identity>, AuthError>) {
        let answer = answers.recv().unwrap();
        (number_of(answer.reply_to), answer.result)
    }

    #[test]
    fn a_token_never_waits_behind_passwords_and_the_application() {
        let limits = Limits { auth_queue: 400, auth_per_address: 100, ..Limits::default() };
        let (checks, gate, begun, answers) = blocked(&limits);
        for n in 0..90 {
            checks.check(password(n), address(1), false).unwrap();
            checks.check(token(100 + n, "opaque"), address(1), false).unwrap();
        }
        // An address holds all threads that it may have.
        let held: Vec<_> = (0..2 + 8).map(|_| begun.recv().unwrap()).collect();
        assert_eq!(held.iter().filter(|(source, _)| *source == Source::Users).count(), 2);
        checks.check(token(1000, "good"), address(1), false).unwrap();
        assert!(matches!(told(&answers), (1000, Ok(_))));
        // The application is still asked for other addresses.
        checks.check(token(2000, "opaque"), address(2), false).unwrap();
        assert_eq!(begun.recv().unwrap(), (Source::Callback, 2000));
        // A password of another address is at most the second to be taken, although 88 wait.
        checks.check(password(3000), address(3), false).unwrap();
        while checks.0.lanes[lane_of(Some(Source::Users))].waiting() != 88 + 1 {
            std::thread::yield_now();
        }
        // The thread that goes on is chosen by chance, but not the password that it takes: addresses take turns.
        let mut taken_up = Vec::new();
        for _ in 0..500 {
            gate.send(()).unwrap();
            let _ = told(&answers);
            taken_up.extend(begun.try_iter().filter(|(source, _)| *source == Source::Users).map(|(_, n)| n));
            if taken_up.len() > 1 {
                return assert!(taken_up[..2].contains(&3000), "{taken_up:?}");
            }
        }
        panic!("the password of another address was never looked at");
    }

    #[test]
    fn whoever_floods_is_told_to_come_again() {
        let limits = Limits { auth_queue: 400, auth_per_address: 10, ..Limits::default() };
        let (checks, _gate, begun, answers) = blocked(&limits);
        (0..2).for_each(|n| checks.check(password(n), address(1), false).unwrap());
        assert_eq!([begun.recv().unwrap().0, begun.recv().unwrap().0], [Source::Users; 2]);
        (2..15).for_each(|n| checks.check(password(n), address(1), false).unwrap());
        // Two passwords are worked on, ten wait.
        for _ in 0..3 {
            let (_, result) = told(&answers);
            assert!(matches!(&result, Err(AuthError::Unavailable(why)) if why.contains("your address")), "{result:?}");
        }
        assert!(checks.results().contains(&("flood", 3)));
    }

    #[test]
    fn what_nobody_waits_for_costs_nothing() {
        let (checks, gate, begun, answers) = blocked(&Limits::default());
        (0..2).for_each(|n| checks.check(password(n), address(1), false).unwrap());
        assert_eq!([begun.recv().unwrap().0, begun.recv().unwrap().0], [Source::Users; 2]);
        (2..10).for_each(|n| checks.check(password(n), address(1), false).unwrap());
        while checks.0.lanes[lane_of(Some(Source::Users))].waiting() != 8 {
            std::thread::yield_now();
        }
        (2..9).for_each(|n| checks.forget(address(1), 0, slot(n)));
        assert!(checks.results().contains(&("gone", 7)));
        (0..3).for_each(|_| gate.send(()).unwrap());
        let mut answered: Vec<u32> = (0..3).map(|_| told(&answers).0).collect();
        answered.sort_unstable();
        assert_eq!(answered, [0, 1, 9]);
        assert_eq!(checks.waiting(), 0);
    }
}
