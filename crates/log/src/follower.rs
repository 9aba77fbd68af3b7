//! The follower: an engine over a log elsewhere, which several nodes write and read (DESIGN 10, RULES 19).
//!
//! It orders nothing itself. The *packer* gives the workers' appends the numbers of this life and sends them, one frame
//! at a time; the *reader* reads all records, whichever node has written them, has them judged, keeps those that count
//! in segments of this node, and shows them. An append is answered when its record was read back, counts, and has the
//! engine's promise.
//!
//! The segments are a replica that nobody waits for: the engine elsewhere has the truth, and records that a crash
//! leaves out are read again. Beside the segments lies the judge's state as of one of their records.
//!
//! After some time without a word of the engine, appends are refused before they are numbered. Readers stay: the
//! records that they have are right.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use everywire_base::ask::{Append, Outcome, PublishError};
use everywire_base::clock::{Monotonic, Steady};
use everywire_base::cursor::{Lineage, Offset, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::Durability;
use everywire_base::roster::Roster;
use everywire_base::system::{self, NodeChange};

use crate::OpenError;
use crate::disk::Disk;
use crate::embedded::Options;
use crate::engine::{Archive, Bell, Engine, Link, Run};
use crate::files::Files;
use crate::judge::{Judge, promised};
use crate::metrics::LogMetrics;
use crate::queue::{Answers, Queue};
use crate::recovery;
use crate::remote::{Connect, FORMAT, Genesis, Refusal, RemoteError};
use crate::siphash::SipHash;
use crate::tail::{Tail, TailWriter};
use crate::writer::Writer;

mod flight;
mod keeper;
mod packer;
mod reader;
mod replica;
mod room;
mod saved;
mod snapshot;
#[cfg(test)]
mod worlds;

use flight::Flight;
pub use keeper::{Foundations, Keeper};
use packer::Packer;
use reader::Reader;
use replica::Replica;
pub use snapshot::Listed;

/// The time without a word of the engine after which no appends are taken.
pub const CUT_AFTER: Duration = Duration::from_secs(2);
/// The longest time that a start waits for the engine.
const START_PATIENCE: Duration = Duration::from_mins(1);
/// The time between two attempts to reach it.
const RETRY: Duration = Duration::from_millis(250);
/// The longest time that a read waits for records.
const READ_WAIT: Duration = Duration::from_millis(500);

/// The options of a follower.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FollowerOptions {
    /// The node's name: of two lives with one name the older one ends.
    pub node: String,
    /// The life's part of its connections' names.
    pub boot: u32,
    /// A version for people.
    pub version: String,
    /// The options of the replica. Its `new_epoch` begins another log if the engine has none any more.
    pub replica: Options,
}

/// The reason why a follower doesn't start.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The replica can't be opened.
    #[error(transparent)]
    Replica(#[from] OpenError),
    /// The judge's state can't be read or written.
    #[error("the replica of the log in {place} can't be used: {error}")]
    Disk {
        /// The directory.
        place: String,
        /// The error of the disk.
        error: io::Error,
    },
    /// The engine can't be used.
    #[error("the engine can't be used: {0}")]
    Remote(#[from] RemoteError),
    /// The replica is that of another log.
    #[error(
        "the data directory has a replica of another log than the engine has; choose another directory or another prefix, \
         or move the directory away"
    )]
    OtherLog,
    /// The log has records in a newer format.
    #[error(
        "the log has records of format {0}, this version knows up to {FORMAT}: a newer version wrote it; use that one"
    )]
    Newer(u32),
    /// The engine has trimmed the next records, and has no whole snapshot above them.
    #[error(
        "the engine has let go of what comes next for this node, and has no whole snapshot from which it could go on; start \
         it again when a node that is up has taken one"
    )]
    NoSnapshot,
}

/// The engine.
pub struct Follower {
    name: &'static str,
    shared: Arc<Shared>,
    tails: [Arc<Tail>; 1],
    files: Arc<Files>,
}

/// The state that packer, reader and workers share.
struct Shared {
    queue: Arc<Queue>,
    bell: Arc<dyn Bell>,
    flight: Mutex<Flight>,
    clock: Mutex<Steady>,
    lineage: ArcSwap<Lineage>,
    metrics: Arc<LogMetrics>,
    /// The hash under which the shares of publishers are counted.
    hash: SipHash,
    node: String,
    /// The last offset that the engine is known to have given.
    engine_head: AtomicU64,
    /// Its last promise.
    promise: AtomicU8,
    /// The time at which the reader last heard of the engine.
    heard: AtomicU64,
    /// The time since which the packer has got nothing through; [`FINE`] when all is well.
    stuck: AtomicU64,
    fate: AtomicU8,
    /// Whether the packer has nothing left to do, and the reader shall close.
    is_done: AtomicBool,
    /// The records that the reader wants the node to write, and the log's digest at the node's last beat.
    own: Mutex<Own>,
    /// The state that reader and keeper share.
    kept: keeper::Kept,
    /// The lives of the nodes, up to the last record that is shown.
    roster: ArcSwap<Roster>,
}

#[derive(Default)]
struct Own {
    /// Lives that have fallen silent: the node's name, the life, and the number of its last record.
    downs: Vec<(Box<str>, u64, u64)>,
    beat: (Offset, u64),
    /// Whether a beat is under way.
    beats: bool,
    is_up: bool,
}

const LIVES: u8 = 0;
const FENCED: u8 = 1;
const FORKED: u8 = 2;

/// The value of `stuck` without trouble.
const FINE: u64 = u64::MAX;

const PROMISES: [Durability; 4] = [Durability::Fsync, Durability::Memory, Durability::None, Durability::Replicated];

/// The threads of a follower: it runs until the engine is closed, or is stepped.
pub struct FollowerRun {
    packer: Packer,
    reader: Reader,
}

impl FollowerRun {
    /// A turn of the thread that writes alone, without waiting; returns whether there was anything to do.
    pub fn pack(&mut self) -> bool {
        self.packer.turn()
    }

    /// A turn of the thread that reads alone, without waiting; returns whether there was anything to do.
    pub fn read(&mut self) -> bool {
        self.reader.turn(Duration::ZERO)
    }

    /// Begins the end of this life, which says goodbye when all appends before were sent.
    pub fn begin_close(&self) {
        self.packer.begin_close();
    }

    /// Whether this life has ended.
    pub fn is_finished(&self) -> bool {
        self.reader.is_finished()
    }

    /// The offset up to which this node has judged the log, and a digest of the results: the same on every node.
    pub fn digest(&self) -> (Offset, u64) {
        self.reader.digest()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        lock(&self.flight)
    }

    fn now(&self) -> Monotonic {
        let mut clock = lock(&self.clock);
        let _ = clock.look(self.bell.now()); // a step of the clock is no time
        clock.now()
    }

    fn hears(&self) {
        self.heard.store(self.now().0, Ordering::Release);
    }

    /// Notes that an attempt begins: until one works nobody knows whether the engine takes anything.
    fn tries(&self) {
        let now = self.now().0;
        let _ = self.stuck.compare_exchange(FINE, now, Ordering::AcqRel, Ordering::Acquire);
    }

    fn works(&self) {
        self.stuck.store(FINE, Ordering::Release);
    }

    fn ends(&self, fate: u8) {
        let _ = self.fate.compare_exchange(LIVES, fate, Ordering::AcqRel, Ordering::Acquire);
        self.settle(|flight| flight.end(fate == FENCED));
    }

    fn link(&self) -> Link {
        match self.fate.load(Ordering::Acquire) {
            FENCED => return Link::Fenced,
            FORKED => return Link::Forked,
            _ => {}
        }
        let now = self.now();
        let is_long_ago = |since: u64| since != FINE && Monotonic(since) + CUT_AFTER <= now;
        let is_cut = [&self.heard, &self.stuck].into_iter().any(|since| is_long_ago(since.load(Ordering::Acquire)));
        if is_cut { Link::Cut } else { Link::Up }
    }

    /// Gives the answers that are due after a change of what is under way. Nobody else takes answers meanwhile, so that
    /// the bell has them in their order.
    fn settle(&self, change: impl FnOnce(&mut Flight) -> Vec<Outcome>) {
        let mut flight = self.flight();
        self.answer(change(&mut flight));
    }

    fn answer(&self, outcomes: Vec<Outcome>) {
        if outcomes.is_empty() {
            return;
        }
        let mut answers = Answers::default();
        for outcome in outcomes {
            if let Err(error) = outcome.result {
                self.metrics.refused(error);
            }
            answers.add(outcome);
        }
        answers.ring(&*self.bell);
    }

    /// Answers appends that have waited too long, and those that needn't begin to wait.
    fn give_up(&self) {
        let now = self.now();
        self.settle(|flight| flight.expired(now));
        if self.link() == Link::Up {
            return;
        }
        self.settle(|flight| flight.give_up(PublishError::NoEngine));
        while let Some(appends) = self.queue.take() {
            self.queue.release(appends.len(), appends.iter().map(crate::queue::weight).sum());
            self.answer(refused(appends, PublishError::NoEngine));
        }
    }
}

fn refused(appends: Vec<Append>, error: PublishError) -> Vec<Outcome> {
    let refused = |append: Append| Outcome { reply_to: append.reply_to, result: Err(error) };
    appends.into_iter().map(refused).collect()
}

impl Follower {
    /// Opens the replica in a directory, or makes one, and reads the engine's log up to its head. It blocks, and waits
    /// a while for an engine that isn't there yet.
    pub fn open(
        connect: &dyn Connect,
        disk: Arc<dyn Disk>,
        options: &FollowerOptions,
        limits: &Limits,
        bell: Arc<dyn Bell>,
    ) -> Result<(Arc<Self>, FollowerRun), FollowError> {
        let metrics = Arc::new(LogMetrics::default());
        let place = disk.place();
        let broken = |error| FollowError::Disk { place: place.clone(), error };
        let seed = options.replica.seed;
        let mix = |n: u64| crate::mix(seed.wrapping_add(n));
        let known = replica::read_states(&*disk).map_err(broken)?;
        let replica_options = Options { unsynced: true, new_epoch: false, ..options.replica };
        let recovered = recovery::open(Arc::clone(&disk), replica_options, Arc::clone(&metrics))?;
        let files = Arc::clone(&recovered.begin.files);
        let mut remote = connect.connect();
        let genesis = Genesis::new([mix(1), mix(2), mix(3)], limits);
        let may_make = known.is_empty() || options.replica.new_epoch;
        let state = wait_for_engine(&mut *remote, may_make.then_some(&genesis))?;
        if state.genesis.format > FORMAT {
            return Err(FollowError::Newer(state.genesis.format));
        }
        room::warn_of(connect.window(), &mut *remote);
        let saved_on = Arc::clone(&disk);
        let replica = Replica::new(disk, Writer::new(recovered.begin), &files);
        let mut reader = Reader::open(connect.connect(), replica, known, &state, bell.now())?;
        metrics.replayed.set(reader.replayed());
        let tail = TailWriter::new(reader.at(), limits);
        let (clock, writer) = (Steady::new(bell.now()), mix(4).max(1));
        let begin = clock.now().0;
        let queue = Arc::new(Queue::new(limits, Arc::clone(&bell)));
        let shared = Arc::new(Shared {
            queue,
            bell,
            flight: Mutex::new(Flight::new(writer)),
            clock: Mutex::new(clock),
            lineage: ArcSwap::from_pointee(reader.lineage()),
            metrics,
            hash: SipHash(state.genesis.key_seed),
            node: options.node.clone(),
            engine_head: AtomicU64::new(reader.at().0),
            promise: AtomicU8::new(0),
            heard: AtomicU64::new(begin),
            stuck: AtomicU64::new(begin),
            fate: AtomicU8::new(LIVES),
            is_done: AtomicBool::new(false),
            own: Mutex::default(),
            kept: keeper::Kept::new(state.genesis.log, reader.at(), reader.synced()),
            roster: ArcSwap::from_pointee(reader.roster().clone()),
        });
        let (node, version) = (options.node.as_str().into(), options.version.as_str().into());
        let up = NodeChange::Up { writer, node, format: FORMAT, boot: options.boot, version };
        say(&shared, &up);
        let again = saved::saved(&*saved_on).map_err(broken)?;
        if !again.is_empty() {
            tracing::warn!(records = again.len(), "what the engine had lost of this node's is appended again");
        }
        let now = shared.now();
        for proposal in again {
            shared.flight().add_again(proposal, now);
        }
        let tails = [Arc::clone(tail.tail())];
        reader.serve(Arc::clone(&shared), tail);
        let packer = Packer::new(remote, Arc::clone(&shared), Arc::clone(&tails[0]));
        let follower = Arc::new(Self { name: connect.name(), shared, tails, files });
        Ok((follower, FollowerRun { packer, reader }))
    }

    /// The metrics of the log.
    pub fn metrics(&self) -> &Arc<LogMetrics> {
        &self.shared.metrics
    }

    /// The keeper of this log, over a connection of its own.
    pub fn keeper(&self, connect: &dyn Connect) -> Keeper {
        Keeper::new(connect.connect(), Arc::clone(&self.shared), connect.window())
    }

    /// This life of the node, as other nodes know it.
    pub fn writer(&self) -> u64 {
        self.shared.flight().writer
    }
}

/// Whether a replica has been used before.
pub fn has_notes(disk: &dyn Disk) -> bool {
    replica::has_notes(disk)
}

/// Has the node write a record about itself.
fn say(shared: &Shared, change: &NodeChange) {
    let Some(topic) = system::node_topic(&shared.node) else { return };
    let now = shared.now();
    shared.flight().add_own(system::record(topic, change, false), now);
}

/// Opens the log, and waits a while for an engine that isn't there yet.
fn wait_for_engine(
    remote: &mut dyn crate::remote::Remote,
    genesis: Option<&Genesis>,
) -> Result<crate::remote::LogState, FollowError> {
    let until = Instant::now() + START_PATIENCE;
    let mut was_told = false;
    loop {
        match remote.open(genesis) {
            Ok(state) => return Ok(state),
            Err(RemoteError::Refused(refusal @ (Refusal::NoLog | Refusal::Unusable(_)))) => {
                return Err(RemoteError::Refused(refusal).into());
            }
            Err(error) if Instant::now() > until => return Err(error.into()),
            Err(error) => {
                if !std::mem::replace(&mut was_told, true) {
                    tracing::warn!(%error, "the start waits for the engine");
                }
                std::thread::sleep(RETRY);
            }
        }
    }
}

impl Engine for Follower {
    fn name(&self) -> &'static str {
        self.name
    }

    fn submit(&self, appends: &mut Vec<Append>) {
        // A queue that is closing answers by itself.
        if self.shared.link() == Link::Up || self.shared.queue.is_closing() {
            self.shared.queue.submit(appends);
        } else {
            self.shared.answer(refused(std::mem::take(appends), PublishError::NoEngine));
        }
    }

    fn tails(&self) -> &[Arc<Tail>] {
        &self.tails
    }

    fn lineage(&self, _: Partition) -> Arc<Lineage> {
        self.shared.lineage.load_full()
    }

    fn archive(&self, _: Partition) -> Arc<dyn Archive> {
        Arc::clone(&self.files) as _
    }

    fn promise(&self, wanted: Durability) -> Durability {
        let engine = PROMISES[usize::from(self.shared.promise.load(Ordering::Acquire)) % PROMISES.len()];
        promised(wanted, engine)
    }

    fn link(&self) -> Link {
        self.shared.link()
    }

    fn roster(&self) -> Option<Arc<Roster>> {
        Some(self.shared.roster.load_full())
    }

    fn head(&self) -> Offset {
        Offset(self.shared.engine_head.load(Ordering::Acquire))
    }

    fn close(&self) {
        self.shared.queue.begin_close();
        self.shared.queue.wait_closed();
    }
}

impl Run for FollowerRun {
    fn run(self: Box<Self>) {
        let Self { mut packer, mut reader } = *self;
        let reading = std::thread::Builder::new().name("log-reader".into()).spawn(move || {
            while !reader.is_finished() {
                if !reader.turn(READ_WAIT) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let reading = reading.expect("the system gives a thread");
        while !packer.is_finished() && !reading.is_finished() {
            packer.run_turn();
        }
        // A panic of that thread becomes one of this thread: no thread dies alone.
        if let Err(panic) = reading.join() {
            std::panic::resume_unwind(panic);
        }
    }

    fn turn(&mut self) -> bool {
        let has_packed = self.pack();
        self.read() || has_packed
    }

    fn close(mut self: Box<Self>) {
        self.begin_close();
        while !self.is_finished() {
            self.turn();
        }
    }
}

/// The judge at the beginning of a log.
fn first_judge(state: &crate::remote::LogState) -> Judge {
    let epoch = state.epochs.first().map(|entry| entry.life.epoch).unwrap_or_default();
    Judge::new(state.genesis, epoch)
}
