//! The conformance suite for engines: the behaviour that every engine must show, however it orders and keeps its log.
//!
//! An engine's tests make a [`Subject`] and call [`run`], which panics at the first broken promise. Nothing here waits
//! for time to pass: it waits for answers, and gives up after a while.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use everywire_base::ask::{Append, Draft, Outcome, PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{AskId, Mailbox, ReplyTo, Slot};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Entry, Message, Once, Record, System};
use everywire_base::system;
use everywire_base::topic::Topic;

use crate::engine::{Bell, Engine};
use crate::judge::is_about_nodes;

pub mod following;
mod guarded;
mod ordered;
pub mod remote;
pub mod remote_engine;
mod sources;

const PARTITION: Partition = Partition(0);
const PATIENCE: Duration = Duration::from_secs(20);

/// A log under test.
pub trait Subject {
    /// Opens it, with its appender running; after a close the same log once more.
    fn open(&self, limits: &Limits, bell: Arc<dyn Bell>) -> Arc<dyn Engine>;

    /// Whether its records survive a close.
    fn is_durable(&self) -> bool;

    /// Whether the times of its records are those of the bell; else they are those of an engine elsewhere, which a test
    /// can't set.
    fn follows_bell(&self) -> bool;
}

/// Runs all checks, each with a log of its own.
pub fn run(make: &dyn Fn() -> Box<dyn Subject>) {
    let checks: [fn(&dyn Subject); 21] = [
        everything_is_answered_once_in_order_and_shown,
        the_archive_has_what_is_stored,
        passing_records_are_shown_and_not_kept,
        cleaning_frees_what_nobody_wants,
        the_oldest_go_first_for_want_of_room,
        a_key_gives_the_first_answer_again,
        who_uses_many_keys_is_refused_alone,
        ordered::keys_count_without_holes,
        ordered::producers_are_bounded,
        sources::each_record_is_taken_over_once,
        sources::they_are_bounded,
        a_wrong_clock_does_no_lasting_harm,
        a_former_owner_is_fenced_off,
        guarded::a_pair_is_one_publish_at_two_places,
        guarded::what_was_judged_by_something_older_comes_back,
        guarded::keys_are_looked_at_before_guards,
        a_full_queue_leaves_the_rest_with_the_caller,
        a_store_that_is_behind_stops_the_appender,
        workers_publish_at_the_same_time,
        readers_are_not_disturbed_by_cleaning,
        after_a_close_nothing_is_taken_and_all_is_there,
    ];
    for check in checks {
        check(&*make());
    }
}

/// A [`Bell`] that keeps the answers, with a clock that is set by hand.
#[derive(Default)]
pub struct Recorder {
    outcomes: Mutex<Vec<(Mailbox, Outcome)>>,
    changed: Condvar,
    clock: AtomicU64,
}

impl Recorder {
    /// A recorder whose clock stands there.
    pub fn new(now: UnixMillis) -> Arc<Self> {
        Arc::new(Self { clock: AtomicU64::new(now.0), ..Self::default() })
    }

    /// Sets the clock.
    pub fn set_now(&self, now: UnixMillis) {
        self.clock.store(now.0, Ordering::Release);
    }

    /// The answers so far, in their order, with the thread that they were for.
    pub fn outcomes(&self) -> Vec<(Mailbox, Outcome)> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until there are this many answers in all.
    pub fn wait(&self, count: usize) -> Vec<(Mailbox, Outcome)> {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(outcomes, PATIENCE, |o| o.len() < count);
        let (outcomes, _) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(outcomes.len() >= count, "{} of {count} answers came", outcomes.len());
        outcomes.clone()
    }
}

impl Bell for Recorder {
    fn head_moved(&self) {}

    fn outcomes(&self, mailbox: Mailbox, outcomes: Vec<Outcome>) {
        let mut kept = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(outcomes.into_iter().map(|outcome| (mailbox, outcome)));
        self.changed.notify_all();
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.clock.load(Ordering::Acquire))
    }
}

/// The result of each draft: whether it was there before, or the number or position that is expected.
fn verdicts(outcomes: &[Outcome]) -> Vec<Result<bool, u64>> {
    let verdict = |outcome: &Outcome| match outcome.result {
        Ok(published) => Ok(published.duplicate),
        Err(PublishError::OutOfOrder { expected }) => Err(expected),
        Err(error) => panic!("{error}"),
    };
    outcomes.iter().map(verdict).collect()
}

/// A message to a topic, as an append with that number.
pub fn append(ask: u32, durability: Durability, entry: impl Into<Entry>) -> Append {
    let reply_to = ReplyTo::Connection { worker: (ask % 3) as u16, slot: Slot::default(), ask: AskId(ask) };
    Append::new(reply_to, Draft::new(entry, durability))
}

/// A message whose body is that number.
pub fn message(topic: &str, number: u32) -> Message {
    Message::new(Topic::parse(topic).expect("a topic"), number.to_string())
}

fn simple(ask: u32) -> Append {
    append(ask, Durability::Fsync, message("t", ask))
}

/// The number of the ask that an outcome answers.
fn ask_of(outcome: &Outcome) -> u32 {
    outcome.reply_to.ask().expect("an ask").0
}

struct Bench {
    engine: Arc<dyn Engine>,
    bell: Arc<Recorder>,
    /// The head when it was opened.
    start: Offset,
}

impl Bench {
    fn new(subject: &dyn Subject, limits: &Limits) -> Self {
        let bell = Recorder::new(UnixMillis(1_000_000));
        let engine = subject.open(limits, Arc::clone(&bell) as _);
        let start = engine.tails()[0].head();
        Self { engine, bell, start }
    }

    /// Submits all appends, waits for all answers, and returns those.
    fn publish(&self, appends: Vec<Append>) -> Vec<Outcome> {
        let before = self.bell.outcomes().len();
        let (count, mut waiting) = (appends.len(), appends);
        while !waiting.is_empty() {
            self.engine.submit(&mut waiting);
        }
        self.bell.wait(before + count).drain(before..).map(|(_, outcome)| outcome).collect()
    }

    fn published(&self, appends: Vec<Append>) -> Vec<Published> {
        self.publish(appends).into_iter().map(|o| o.result.expect("published")).collect()
    }

    fn shown(&self, after: Offset) -> Vec<Arc<Record>> {
        let mut records = Vec::new();
        let tail = &self.engine.tails()[0];
        let reached = tail.read(after, tail.head(), |record| {
            records.push(Arc::clone(record));
            true
        });
        assert!(reached, "the window reaches back to {after}");
        records.retain(|record| !is_about_nodes(record));
        records
    }

    fn kept(&self) -> Vec<Arc<Record>> {
        let archive = self.engine.archive(PARTITION);
        let (mut records, mut after, end) = (Vec::new(), Offset::BEGINNING, archive.last());
        while after < end {
            let (page, to) = archive.scan(after, end, 1000).expect("a page");
            assert!(to > after, "the scan goes on");
            records.extend(page);
            after = to;
        }
        records
    }

    /// Lets time pass by small steps, at each of which the log looks at the clock.
    fn pass(&self, mut time: Duration) {
        while !time.is_zero() {
            let step = time.min(Duration::from_secs(10));
            time -= step;
            self.bell.set_now(self.bell.now().after(step));
            // The loop first reaches an engine that was silent for this time.
            while self.publish(vec![simple(0)])[0].result == Err(PublishError::NoEngine) {}
        }
    }

    fn applied(&self) {
        let tail = &self.engine.tails()[0];
        tail.set_applied(tail.head());
    }
}

fn everything_is_answered_once_in_order_and_shown(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits::default());
    let start = bench.engine.tails()[0].head();
    let outcomes = bench.publish((0..300).map(simple).collect());
    let mut last = HashMap::new();
    for (mailbox, outcome) in bench.bell.outcomes() {
        assert_eq!(Some(mailbox), outcome.reply_to.mailbox(), "answers go to their worker");
        let before = last.insert(mailbox, outcome.reply_to.ask());
        assert!(before < Some(outcome.reply_to.ask()), "the answers of a worker are in its order");
    }
    let mut by_offset: Vec<_> = outcomes.iter().map(|o| (o.result.expect("published").offset, ask_of(o))).collect();
    by_offset.sort_unstable();
    let shown = bench.shown(start);
    assert_eq!(shown.len(), 300);
    for (record, (offset, ask)) in shown.iter().zip(&by_offset) {
        assert_eq!(
            (record.offset, &record.message().expect("a message").body[..]),
            (*offset, ask.to_string().as_bytes())
        );
    }
    assert!(shown.windows(2).all(|w| w[0].offset < w[1].offset && w[0].time <= w[1].time));
    bench.engine.close();
}

fn the_archive_has_what_is_stored(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits::default());
    for round in 0..10 {
        bench.publish((0..50).map(|n| simple(round * 50 + n)).collect());
    }
    let (shown, archive) = (bench.shown(bench.start), bench.engine.archive(PARTITION));
    assert_eq!(bench.kept(), shown);
    assert_eq!(archive.last(), shown[499].offset);
    let picked: Vec<_> = shown.iter().step_by(7).cloned().collect();
    let mut offsets: Vec<Offset> = picked.iter().map(|r| r.offset).collect();
    offsets.push(Offset(shown[499].offset.0 + 1000));
    assert_eq!(archive.get(&offsets).expect("records"), picked, "what isn't there is left out");
    let (page, to) = archive.scan(shown[9].offset, shown[19].offset, usize::MAX).expect("a page");
    assert_eq!((&page[..], to), (&shown[10..20], shown[19].offset));
    bench.engine.close();
}

fn passing_records_are_shown_and_not_kept(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits::default());
    let kinds = [Durability::Fsync, Durability::None, Durability::Memory, Durability::None];
    let appends = (0..40).map(|n| append(n, kinds[n as usize % 4], message("t", n))).collect();
    let answers = bench.published(appends);
    let shown = bench.shown(bench.start);
    assert_eq!((answers.len(), shown.len()), (40, 40));
    let stored: Vec<_> = shown.iter().filter(|r| r.durability != Durability::None).cloned().collect();
    assert_eq!(bench.kept(), stored);
    bench.engine.close();
}

fn cleaning_frees_what_nobody_wants(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits::default());
    let body = |n: u32| Message { body: vec![n as u8; 1000].into(), ..message("t", n) };
    for round in 0..20 {
        bench.publish((0..100).map(|n| append(round * 100 + n, Durability::Fsync, body(n))).collect());
        bench.applied();
    }
    let (archive, before) = (bench.engine.archive(PARTITION), bench.kept());
    let (full, end) = (archive.bytes(), archive.last());
    let is_wanted = |record: &Record| record.offset.0.is_multiple_of(50) || record.offset == end;
    let mut freed = 0;
    for _ in 0..100 {
        freed += archive.clean(end, &mut |r| is_wanted(r)).expect("cleaned");
    }
    assert!(freed > 0 && archive.bytes() < full, "{freed} freed of {full}");
    let after = bench.kept();
    let wanted: Vec<_> = before.iter().filter(|r| is_wanted(r)).collect();
    let still: Vec<_> = after.iter().filter(|r| is_wanted(r)).collect();
    assert_eq!(still, wanted, "what is wanted stays, as it was");
    assert_eq!(archive.last(), end);
    let offsets: Vec<Offset> = wanted.iter().map(|r| r.offset).collect();
    assert_eq!(archive.get(&offsets).expect("records").iter().collect::<Vec<_>>(), wanted);
    bench.engine.close();
}

fn the_oldest_go_first_for_want_of_room(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits::default());
    let body = |n: u32| Message { body: vec![n as u8; 10_000].into(), ..message("t", n) };
    for round in 0..30 {
        bench.publish((0..10).map(|n| append(round * 10 + n, Durability::Fsync, body(n))).collect());
        bench.applied();
    }
    let archive = bench.engine.archive(PARTITION);
    let (full, end) = (archive.bytes(), archive.last());
    let bound = full * 2 / 3;
    let (mut floor, mut calls) = (Offset::BEGINNING, 0);
    while archive.bytes() > bound {
        floor = archive.relieve(archive.bytes() - bound, end).max(floor);
        // Every tenth record must stay all the same.
        archive.clean(end, &mut |record| record.offset > floor || record.offset.0.is_multiple_of(10)).expect("cleaned");
        calls += 1;
        assert!(calls < 100, "{} bytes are left, {bound} are allowed", archive.bytes());
    }
    let kept: Vec<Offset> = bench.kept().iter().map(|record| record.offset).collect();
    assert!(floor > Offset::BEGINNING && floor < end, "{floor}");
    assert!((floor.0 + 1..=end.0).all(|offset| kept.contains(&Offset(offset))), "what is newer stays");
    assert!(kept.iter().any(|offset| *offset <= floor), "and of the older what must stay");
    bench.engine.close();
}

fn a_key_gives_the_first_answer_again(subject: &dyn Subject) {
    let limits = Limits { idempotency_keys: 3, ..Limits::default() };
    let bench = Bench::new(subject, &limits);
    let keyed = |ask: u32, key: &str, body: u32| {
        append(ask * 3, Durability::Fsync, Message { key: Some(key.into()), ..message("t", body) })
    };
    let first = bench.publish(vec![keyed(0, "k", 1), keyed(1, "k", 1), keyed(2, "k", 2)]);
    assert_eq!(first[0].result, first[1].result);
    assert_eq!(first[2].result, Err(PublishError::KeyConflict));
    let again = bench.publish(vec![keyed(3, "k", 1), keyed(4, "l", 1), keyed(5, "m", 1), keyed(6, "n", 1)]);
    assert_eq!(again[0].result, first[0].result);
    assert_eq!(again[3].result, Err(PublishError::KeysFull));
    assert_eq!(bench.shown(bench.start).len(), 3);
    if subject.follows_bell() {
        bench.pass(limits.idempotency_window);
        let later = bench.publish(vec![keyed(7, "k", 9)]);
        assert!(later[0].result.is_ok(), "the window is over");
    }
    bench.engine.close();
}

fn who_uses_many_keys_is_refused_alone(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits { idempotency_keys_each: 2, ..Limits::default() });
    let keyed = |key: u32, address: &str, from: Option<&str>| {
        let from = from.map(Into::into);
        let message = Message { key: Some(key.to_string().into()), from, ..message("t", key) };
        Append { address: address.parse().ok(), ..append(0, Durability::Fsync, message) }
    };
    let (near, far) = ("10.0.0.1", "10.0.0.2");
    let appends = vec![
        keyed(1, near, None),
        keyed(2, near, None),
        keyed(3, near, None),
        keyed(1, near, None),
        keyed(4, near, Some("ann")),
        keyed(5, far, None),
        simple(6),
    ];
    let results: Vec<_> = bench.publish(appends).into_iter().map(|outcome| outcome.result.map(drop)).collect();
    let used_up = Err(PublishError::KeysUsedUp);
    assert_eq!(results, [Ok(()), Ok(()), used_up, Ok(()), Ok(()), Ok(()), Ok(())]);
    bench.engine.close();
}

const YEARS: Duration = Duration::from_hours(10 * 365 * 24);

fn a_wrong_clock_does_no_lasting_harm(subject: &dyn Subject) {
    if !subject.follows_bell() {
        return;
    }
    let limits = Limits::default();
    let bench = Bench::new(subject, &limits);
    let keyed =
        |key: &str, body: u32| append(0, Durability::Fsync, Message { key: Some(key.into()), ..message("t", body) });
    let before = bench.publish(vec![keyed("before", 1)])[0].result;
    let right = bench.bell.now();
    bench.bell.set_now(right.after(YEARS));
    let wrong = bench.published(vec![keyed("wrong", 1)])[0];
    assert_eq!(wrong.time, right.after(YEARS), "times follow the clock");
    assert_eq!(bench.publish(vec![keyed("before", 1)])[0].result, before, "no key is forgotten at once");
    bench.bell.set_now(right);
    let again = bench.published(vec![keyed("wrong", 1), simple(2)]);
    assert_eq!((again[0], again[1].time), (wrong, right), "once it is set right, too");
    assert!(again[1].offset > wrong.offset);
    bench.engine.close();
    if !subject.is_durable() {
        return;
    }
    drop(bench);
    let bench = Bench::new(subject, &limits);
    assert_eq!(bench.published(vec![simple(3)])[0].time, bench.bell.now(), "nor does a restart bring it back");
    assert_eq!(bench.published(vec![keyed("wrong", 1)])[0], wrong);
    bench.pass(limits.idempotency_window);
    let later = bench.published(vec![keyed("wrong", 2), keyed("before", 2)]);
    assert!(later[0].offset > wrong.offset, "its keys are forgotten after their window like all others");
    bench.engine.close();
}

fn a_former_owner_is_fenced_off(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits::default());
    let session = system::session_topic(None, "phone").expect("a topic");
    let claim = |owner: &str| {
        let claim = system::Claim { owner: owner.into(), fresh: false };
        append(0, Durability::None, system::record(session.clone(), &claim, false))
    };
    let state = |generation: u64, body: &'static str| {
        append(0, Durability::Fsync, System { generation, ..System::new(session.clone(), body, true) })
    };
    let once = |generation: u64| {
        let once = Once { session: session.clone(), tag: 5, generation, until: UnixMillis(2_000_000) };
        append(0, Durability::Fsync, Message { once: Some(Box::new(once)), ..message("t", 1) })
    };
    let results = |appends| bench.publish(appends).into_iter().map(|o| o.result.map(drop)).collect::<Vec<_>>();
    let fenced = Err(PublishError::Fenced);
    let a = bench.published(vec![claim("a")])[0].offset.0;
    // The offset `b` lies above any place that the claim can have. The order decides, in one batch and over several.
    let b = a + 1000;
    let verdicts = results(vec![state(a, "{}"), once(a), claim("b"), once(a), state(a, "{}"), state(b, "{}"), once(b)]);
    assert_eq!(verdicts, [Ok(()), Ok(()), Ok(()), fenced, Ok(()), Ok(()), Ok(())]);
    assert_eq!(results(vec![state(a, "{}"), state(b, ""), once(a)]), [fenced, Ok(()), fenced]);
    assert_eq!(results(vec![state(a, "{}")]), [fenced], "what was removed isn't revived");
    let generation = |entry: &Entry| match entry {
        Entry::Message(message) => message.once.as_ref().map_or(0, |once| once.generation),
        Entry::System(system) => system.generation,
    };
    let shown: Vec<u64> = bench.shown(Offset(a)).iter().map(|r| r.entry().map_or(0, generation)).collect();
    assert_eq!(shown, [a, a, 0, a, b, b, b], "what is refused is shown to nobody");
    bench.engine.close();
}

fn a_full_queue_leaves_the_rest_with_the_caller(subject: &dyn Subject) {
    let limits = Limits { append_queue_records: 8, ..Limits::default() };
    let bench = Bench::new(subject, &limits);
    let mut appends: Vec<_> = (0..100).map(simple).collect();
    bench.engine.submit(&mut appends);
    assert_eq!(appends.len(), 92);
    assert_eq!(appends[0].reply_to.ask(), Some(AskId(8)));
    bench.bell.wait(8);
    let bench_of_bytes = Limits { append_queue_bytes: 10, ..Limits::default() };
    bench.engine.close();
    let bench = Bench::new(subject, &bench_of_bytes);
    let large = |n| append(n, Durability::Fsync, Message { body: vec![7; 100].into(), ..message("t", n) });
    assert_eq!(bench.publish((0..5).map(large).collect()).len(), 5, "one that is too large goes alone");
    bench.engine.close();
}

fn a_store_that_is_behind_stops_the_appender(subject: &dyn Subject) {
    let limits = Limits { tail_records: 512, append_queue_records: 256, ..Limits::default() };
    let bench = Bench::new(subject, &limits);
    let mut appends: Vec<_> = (0..5000).map(simple).collect();
    let tail = Arc::clone(&bench.engine.tails()[0]);
    // A record of the node about itself has its place, too.
    let in_window = || {
        let mut records = 0;
        tail.read(bench.start, tail.head(), |_| {
            records += 1;
            true
        });
        records
    };
    // The loop submits until the queue stays full: then no further answers come until the store moves.
    while in_window() < 512 {
        bench.engine.submit(&mut appends);
    }
    bench.engine.submit(&mut appends);
    let shown = bench.shown(bench.start).len();
    assert!(shown < 512 + 256 + 256, "{shown} records in the window");
    while !appends.is_empty() {
        bench.applied();
        bench.engine.submit(&mut appends);
    }
    while bench.bell.outcomes().len() < 5000 {
        bench.applied();
        std::thread::yield_now();
    }
    bench.engine.close();
}

fn workers_publish_at_the_same_time(subject: &dyn Subject) {
    const EACH: u32 = 600;
    let bench = Bench::new(subject, &Limits { append_queue_records: 64, ..Limits::default() });
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let engine = &bench.engine;
            scope.spawn(move || {
                let mut appends: Vec<_> = (0..EACH).map(|n| simple(n * 3 + worker)).collect();
                while !appends.is_empty() {
                    engine.submit(&mut appends);
                    std::thread::yield_now();
                }
            });
        }
    });
    let outcomes = bench.bell.wait(3 * EACH as usize);
    for worker in 0..3 {
        let own: Vec<&Outcome> =
            outcomes.iter().filter(|(mailbox, _)| *mailbox == Mailbox::Worker(worker)).map(|(_, o)| o).collect();
        let asks: Vec<u32> = own.iter().map(|o| ask_of(o)).collect();
        assert_eq!(asks, (0..EACH).map(|n| n * 3 + u32::from(worker)).collect::<Vec<_>>());
        let offsets: Vec<Offset> = own.iter().map(|o| o.result.expect("published").offset).collect();
        assert!(offsets.is_sorted_by(|a, b| a < b), "a worker's messages keep their order");
    }
    assert_eq!(bench.shown(bench.start).len(), 3 * EACH as usize);
    bench.engine.close();
}

fn readers_are_not_disturbed_by_cleaning(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits::default());
    let is_wanted = |offset: Offset| offset.0.is_multiple_of(10);
    let published = Mutex::new(Vec::new());
    let so_far = || published.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        let archive = bench.engine.archive(PARTITION);
        // Its end is noticed also when this thread panics.
        let (going_on, is_over) = mpsc::channel::<()>();
        scope.spawn(move || {
            while is_over.try_recv() == Err(TryRecvError::Empty) {
                let wanted: Vec<Offset> = so_far().iter().copied().filter(|o| is_wanted(*o)).collect();
                let (records, _) = archive.scan(Offset::BEGINNING, archive.last(), usize::MAX).expect("a scan");
                assert!(records.is_sorted_by(|a, b| a.offset < b.offset));
                let is_there = |o: &Offset| records.binary_search_by_key(o, |r| r.offset).is_ok();
                assert!(wanted.iter().all(is_there), "what is wanted is always there");
                assert_eq!(archive.get(&wanted).expect("records").len(), wanted.len());
            }
        });
        let archive = bench.engine.archive(PARTITION);
        for round in 0..30 {
            let body = |n: u32| Message { body: vec![n as u8; 1000].into(), ..message("t", n) };
            let answers =
                bench.published((0..60).map(|n| append(round * 60 + n, Durability::Fsync, body(n))).collect());
            // The answers come worker by worker; the reader sees all of a round or nothing, in order.
            let mut offsets: Vec<Offset> = answers.iter().map(|p| p.offset).collect();
            offsets.sort_unstable();
            so_far().extend(offsets);
            bench.applied();
            archive.clean(archive.last(), &mut |record| is_wanted(record.offset)).expect("cleaned");
        }
        drop(going_on);
    });
    bench.engine.close();
}

fn after_a_close_nothing_is_taken_and_all_is_there(subject: &dyn Subject) {
    let bench = Bench::new(subject, &Limits::default());
    let keyed = Message { key: Some("k".into()), ..message("t", 7) };
    let first = bench.publish(vec![append(0, Durability::Fsync, keyed.clone())])[0].result;
    let mut appends: Vec<_> = (0..1000).map(simple).collect();
    bench.engine.submit(&mut appends);
    bench.engine.close();
    assert_eq!(bench.bell.outcomes().len(), 1001, "a close finishes what waits");
    let refused = bench.publish(vec![simple(0)]);
    assert_eq!(refused[0].result, Err(PublishError::Closing));
    let (before, head) = (bench.kept(), bench.engine.tails()[0].head());
    let lineage = bench.engine.lineage(PARTITION);
    if !subject.is_durable() {
        return;
    }
    drop(bench);
    let bench = Bench::new(subject, &Limits::default());
    assert_eq!(bench.kept(), before);
    let goes_on = bench.engine.tails()[0].head();
    assert!(goes_on >= head && goes_on.0 < head.0 + 100, "a close leaves no hole");
    assert_eq!(bench.engine.lineage(PARTITION), lineage);
    let again = bench.publish(vec![append(0, Durability::Fsync, keyed)]);
    assert_eq!(again[0].result, first, "keys are known after a restart");
    let next = bench.published(vec![simple(1)]);
    assert!(next[0].offset > head && next[0].offset.0 < head.0 + 100, "{}", next[0].offset);
    bench.engine.close();
}
