//! A server of the simulated world: the real parts, stepped one after the other instead of run by threads.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everywire_auth::Authority;
use everywire_base::ask::{Authenticate, Authenticated, Interest, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{NodeLife, ReplyTo};
use everywire_base::limits::Limits;
use everywire_base::record::Record;
use everywire_base::roster::Roster;
use everywire_base::rules::Rules;
use everywire_base::system::{self, HistoryLost};
use everywire_base::topic::{Filter, Topic};
use everywire_driver::mail::{Mailbox, mailbox};
use everywire_driver::{Listener, Mail, Post, Setup, Worker, WorkerMetrics};
use everywire_http::{HttpConfig, HttpListener, Service};
use everywire_hub::Hub;
use everywire_log::Appender;
use everywire_log::disk::SimDisk;
use everywire_log::embedded::{Embedded, Options};
use everywire_log::engine::{Bell, Engine, Link};
use everywire_log::follower::{FollowError, Follower, FollowerOptions, FollowerRun, Keeper, has_notes};
use everywire_log::remote::Connect;
use everywire_mqtt::MqttListen;
use everywire_native::{Native, TcpListen};
use everywire_native_frames::PROTOBUF;
use everywire_rooms::Rooms;
use everywire_store::tables::Tables as _;
use everywire_store::{Applier, Parts, Store};
use everywire_wire::{Listen, Upgrade};
use everywire_ws::{Subprotocol, WsUpgrade};

use crate::api::{Api, SimControl};
use crate::checker::{Part, number_of};
use crate::net::{HTTP, MQTT, Network, SimNet, TCP};
use crate::ports::{Desk, NeverAsleep, SimBell, SimPorts};
use crate::tables::{SimTables, interrupted};
use crate::tokens;

/// One server over the simulated network and disk.
pub(crate) struct SimNode {
    workers: Vec<Worker<SimNet>>,
    bell: Arc<SimBell>,
    log: Log,
    store: Store,
    applier: Applier,
    authority: Authority,
    api: Api,
    desk: Arc<Desk>,
    stage: Stage,
}

/// The stages of a node's life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serves,
    /// It is drained: its clients are told to come back.
    Drains,
    /// Its workers have ended, and its engine says goodbye.
    Leaves,
}

/// The part that moves the log on.
enum Log {
    /// The log is this node's own.
    Own(Box<Appender>),
    /// The log is elsewhere, and other nodes share it.
    Shared { run: Box<FollowerRun>, keeper: Keeper },
}

/// The reason why a node doesn't start.
pub(crate) enum NotStarted {
    /// Another node must take a snapshot first.
    NoSnapshot,
    /// There is a fault.
    Faulty(String),
}

impl Log {
    fn keeper(&mut self) -> Option<&mut Keeper> {
        if let Log::Shared { keeper, .. } = self { Some(keeper) } else { None }
    }
}

impl From<String> for NotStarted {
    fn from(fault: String) -> Self {
        NotStarted::Faulty(fault)
    }
}

impl From<NotStarted> for String {
    fn from(reason: NotStarted) -> Self {
        match reason {
            NotStarted::NoSnapshot => "there is no snapshot".into(),
            NotStarted::Faulty(fault) => fault,
        }
    }
}

/// The network, disk and settings with which a node is started. They outlive the node.
pub(crate) struct Machine {
    /// The node's name.
    pub(crate) name: Arc<str>,
    /// The log that it shares with others, if it has none of its own.
    pub(crate) shared: Option<Arc<dyn Connect>>,
    pub(crate) network: Rc<RefCell<Network>>,
    pub(crate) disk: SimDisk,
    pub(crate) tables: SimTables,
    pub(crate) workers: u16,
    pub(crate) limits: Arc<Limits>,
    pub(crate) rules: Arc<Rules>,
}

/// Every wire, each on a port of its own.
fn listeners(limits: &Arc<Limits>) -> Vec<Listener<SimNet>> {
    let listen = |socket, wires| Listener {
        socket: Some(socket),
        local: SocketAddr::from((Ipv4Addr::LOCALHOST, 1024 + socket)),
        wires,
        tls: None,
    };
    let native = Subprotocol { name: PROTOBUF, also: None, make: Box::new(|_| Box::new(Native::protobuf(None, None))) };
    let upgrades: Vec<Arc<dyn Upgrade>> = vec![Arc::new(WsUpgrade::new(vec![native]))];
    let service = Service::new(HttpConfig { knows_anybody: true, ..HttpConfig::default() }, upgrades);
    let http = HttpListener::new(Arc::new(service), Arc::clone(limits));
    let mqtt = MqttListen::new(Arc::default(), Arc::clone(limits));
    vec![
        listen(HTTP, Arc::new(http) as Arc<dyn Listen>),
        listen(TCP, Arc::new(TcpListen::new(Arc::clone(limits)))),
        listen(MQTT, Arc::new(mqtt)),
    ]
}

impl SimNode {
    /// Opens the data on the disk and restores it, like a server that starts.
    pub(crate) fn start(machine: &Machine, seed: u64) -> Result<Self, NotStarted> {
        let Machine { network, tables, workers, limits, rules, .. } = machine;
        let now = network.borrow().now();
        let (posts, mailboxes): (Vec<_>, Vec<_>) = (0..*workers).map(|_| mailbox(Box::new(NeverAsleep))).unzip();
        let bell = Arc::new(SimBell::new(posts.clone(), now));
        let (engine, log) = machine.open(seed, &bell)?;
        let ordering = Arc::clone(&engine);
        let derived = Parts {
            tables: Box::new(tables.clone()),
            archive: engine.archive(Partition(0)),
            tail: Arc::clone(&engine.tails()[0]),
            partition: Partition(0),
            lineage: Arc::new(move || ordering.lineage(Partition(0))),
            rules: Arc::clone(rules),
        };
        let (store, mut applier) = Store::open(derived).map_err(|e| format!("the store does not open: {e}"))?;
        while applier.turn(bell.now()).more {}
        engine.tails()[0].set_readers(usize::from(*workers));
        let desk = Arc::new(Desk::new(engine, limits));
        let seats = Seats { machine, seed, desk: &desk, store: &store, posts: &posts, now };
        let control = SimControl {
            engine: Arc::clone(&desk.engine),
            bell: Arc::clone(&bell),
            workers: *workers,
            limits: Arc::clone(limits),
            rules: Arc::clone(rules),
            rooms: Rooms::default(),
        };
        let (workers, api) = (seats.workers(mailboxes)?, Api::new(control)?);
        let (authority, stage) = (tokens::authority()?, Stage::Serves);
        Ok(Self { workers, bell, log, store, applier, authority, api, desk, stage })
    }

    /// Begins to drain it.
    pub(crate) fn drain(&mut self, within: Duration) {
        self.stage = Stage::Drains;
        (0..).zip(&self.workers).for_each(|(worker, _)| self.bell.send(worker, Mail::Drain(within)));
    }

    /// Whether it has begun to drain.
    pub(crate) fn is_draining(&self) -> bool {
        self.stage != Stage::Serves
    }

    /// Goes on with its drain; says whether that is over.
    pub(crate) fn leave(&mut self) -> bool {
        let Log::Shared { run, .. } = &self.log else { return false };
        match self.stage {
            Stage::Drains if self.workers.iter().all(Worker::is_over) => {
                // A worker that is over does the last things alone.
                self.workers.drain(..).for_each(|mut worker| worker.run());
                run.begin_close();
                self.stage = Stage::Leaves;
                false
            }
            Stage::Leaves => run.is_finished(),
            Stage::Serves | Stage::Drains => false,
        }
    }

    /// Ends it behind its drain.
    pub(crate) fn close(self) -> Result<(), String> {
        self.applier.close().map_err(|error| error.to_string())
    }

    /// Sets the time of the parts that have no clock of their own.
    pub(crate) fn set_time(&self, wall_ms: u64) {
        self.bell.set_time(wall_ms);
    }

    /// Runs one turn of a worker; places are counted round and round.
    pub(crate) fn work(&mut self, place: usize) {
        if let Some(place) = place.checked_rem(self.workers.len()) {
            self.workers[place].turn();
        }
    }

    /// Runs one turn of each worker.
    pub(crate) fn work_all(&mut self) {
        self.workers.iter_mut().for_each(Worker::turn);
    }

    /// Runs one group commit, or a turn of both threads of a shared log; says whether there was anything to do.
    pub(crate) fn commit(&mut self) -> bool {
        match &mut self.log {
            Log::Own(appender) => appender.turn(),
            Log::Shared { run, .. } => run.pack() | run.read(),
        }
    }

    /// Runs a turn of the thread that writes to a shared log.
    pub(crate) fn pack(&mut self) {
        if let Log::Shared { run, .. } = &mut self.log {
            run.pack();
        }
    }

    /// Runs a turn of the thread that reads a shared log.
    pub(crate) fn follow(&mut self) {
        if let Log::Shared { run, .. } = &mut self.log {
            run.read();
        }
    }

    /// Lets the keeper of a shared log take a snapshot and trim the log, if it is time.
    pub(crate) fn keep(&mut self) {
        let (store, is_over) = (&self.store, self.stage == Stage::Leaves);
        if let Some(keeper) = self.log.keeper().filter(|_| !is_over) {
            keeper.turn(&mut |at, shown| (store.applied() >= shown).then(|| store.foundations(at).ok()).flatten());
        }
    }

    /// The offset up to which it has shown the log.
    pub(crate) fn head(&self) -> Offset {
        self.desk.engine.tails()[0].head()
    }

    /// The state of its link to a shared log.
    pub(crate) fn link(&self) -> Link {
        self.desk.engine.link()
    }

    /// The offsets and numbers of all messages in the log, as this node has it.
    pub(crate) fn messages(&self) -> Result<Vec<(u64, u64)>, String> {
        let archive = self.desk.engine.archive(Partition(0));
        let (records, _) =
            archive.scan(Offset::BEGINNING, archive.last(), usize::MAX).map_err(|error| error.to_string())?;
        let messages = records.iter().filter_map(|record| Some((record.offset.0, record.message()?)));
        messages
            .filter(|(_, message)| !message.topic.is_servers())
            .map(|(offset, message)| Ok((offset, number_of(&message.body)?)))
            .collect()
    }

    /// The parts of the log that it says to lack.
    pub(crate) fn lacks(&self) -> Result<Vec<Part>, String> {
        let archive = self.desk.engine.archive(Partition(0));
        let (records, _) =
            archive.scan(Offset::BEGINNING, archive.last(), usize::MAX).map_err(|error| error.to_string())?;
        let lost = records.iter().filter_map(|record| system::read::<HistoryLost>(record.system()?));
        Ok(lost.map(|lost| (lost.above, lost.up_to)).collect())
    }

    /// Checks that its store finds the messages of a topic that are in its log.
    pub(crate) fn store_is_right(&self, topic: &Topic) -> Result<(), String> {
        let archive = self.desk.engine.archive(Partition(0));
        let (records, _) =
            archive.scan(Offset::BEGINNING, archive.last(), usize::MAX).map_err(|error| error.to_string())?;
        let is_its = |record: &&Arc<Record>| record.message().is_some_and(|message| message.topic == *topic);
        let there: Vec<u64> = records.iter().filter(is_its).map(|record| record.offset.0).collect();
        let (mut found, mut after) = (Vec::new(), Offset::BEGINNING);
        loop {
            let interests = Arc::new([Interest { filter: Filter::Exact(topic.clone()), since: after }]);
            let up_to = Offset(u64::MAX);
            let kind = ReadKind::History { after, up_to, max_records: 1000, max_bytes: 1 << 20, with_recalled: false };
            let (reply_to, partition, applied) = (ReplyTo::Nobody, Partition(0), Offset::BEGINNING);
            let page = self.store.read(&Read { reply_to, partition, interests, applied, kind }, self.bell.now());
            found.extend(page.records.iter().map(|record| record.offset.0));
            if page.failed || page.records.is_empty() && page.upto <= after {
                break;
            }
            after = page.upto;
        }
        if found == there { Ok(()) } else { Err(format!("{topic} has {there:?}, and the store finds {found:?}")) }
    }

    /// The offset up to which it has judged a shared log, and a digest of the results.
    pub(crate) fn digest(&self) -> Option<(Offset, u64)> {
        if let Log::Shared { run, .. } = &self.log { Some(run.digest()) } else { None }
    }

    /// Lets the store apply some records; says whether there are more.
    pub(crate) fn apply(&mut self) -> bool {
        self.applier.turn(self.bell.now()).more
    }

    /// Lets the store apply some records. After this number of lookups a reader of the pool serves a read in the midst
    /// of it.
    pub(crate) fn apply_beside_reader(&mut self, lookups: usize) -> bool {
        let (desk, store, bell) = (Arc::clone(&self.desk), self.store.clone(), Arc::clone(&self.bell));
        let reader = move || {
            serve(&desk, lookups, &store, &bell);
        };
        let (applier, now) = (&mut self.applier, self.bell.now());
        interrupted(lookups, reader, || applier.turn(now).more)
    }

    /// Serves the read at this place of the queue, as a reader of the pool does; says whether there was one.
    pub(crate) fn read(&mut self, place: usize) -> bool {
        serve(&self.desk, place, &self.store, &self.bell)
    }

    /// Checks the credentials at this place of the queue; says whether there were any.
    pub(crate) fn check(&mut self, place: usize) -> bool {
        let Some(Authenticate { reply_to, credentials, device }) = self.desk.checks.take(place) else { return false };
        let result = self.authority.check(&credentials, device.as_deref(), self.bell.now());
        self.bell.answer(reply_to, Mail::Authenticated(Authenticated { reply_to, result }));
        true
    }

    /// Lets the API go on; says whether there was anything to do.
    pub(crate) fn serve_api(&mut self, place: usize) -> bool {
        self.api.step(place, &self.desk, &self.bell)
    }
}

impl Machine {
    /// Gives it an empty disk.
    pub(crate) fn lose_disk(&mut self) {
        (self.disk, self.tables) = (SimDisk::new(), SimTables::default());
    }

    fn open(&self, seed: u64, bell: &Arc<SimBell>) -> Result<(Arc<dyn Engine>, Log), NotStarted> {
        let (disk, bell) = (Arc::new(self.disk.clone()), Arc::clone(bell) as Arc<dyn Bell>);
        let options =
            Options { segment_bytes: 16 << 10, reserve_offsets: 64, reserve_bytes: 0, ..Options::seeded(seed) };
        let Some(connect) = &self.shared else {
            let opened = Embedded::open(disk, options, &self.limits, bell);
            let (engine, appender) = opened.map_err(|e| format!("the log does not open: {e}"))?;
            return Ok((engine, Log::Own(Box::new(appender))));
        };
        if !has_notes(&*disk) {
            // Tables that were derived from an earlier copy say nothing of the new one.
            self.tables.clear().map_err(|e| e.to_string())?;
        }
        let NodeLife { node, boot } = self.life();
        let options = FollowerOptions { node: node.to_string(), boot, version: String::new(), replica: options };
        let (engine, run) = match Follower::open(&**connect, disk, &options, &self.limits, bell) {
            Err(FollowError::NoSnapshot) => return Err(NotStarted::NoSnapshot),
            opened => opened.map_err(|e| format!("the log does not open: {e}"))?,
        };
        let keeper = engine.keeper(&**connect);
        Ok((engine, Log::Shared { run: Box::new(run), keeper }))
    }

    /// The life that begins now.
    fn life(&self) -> NodeLife {
        NodeLife { node: self.name.clone(), boot: self.network.borrow().now().0 as u32 }
    }
}

fn serve(desk: &Desk, place: usize, store: &Store, bell: &SimBell) -> bool {
    let Some(read) = desk.reads.take(place) else { return false };
    let page = store.read(&read, bell.now());
    bell.answer(page.reply_to, Mail::Page(page));
    true
}

/// Makes the workers of a node.
struct Seats<'a> {
    machine: &'a Machine,
    seed: u64,
    desk: &'a Arc<Desk>,
    store: &'a Store,
    posts: &'a [Post<u32>],
    now: UnixMillis,
}

impl Seats<'_> {
    fn workers(&self, mailboxes: Vec<Mailbox<u32>>) -> Result<Vec<Worker<SimNet>>, String> {
        let metrics: Vec<Arc<WorkerMetrics>> = mailboxes.iter().map(|_| Arc::default()).collect();
        let (notices, crowd) = (Arc::default(), Arc::default());
        let drawn = Arc::new(AtomicU64::new(self.now.0 << 20));
        let Machine { network, limits, rules, .. } = self.machine;
        let seat = |(number, mailbox): (u16, Mailbox<u32>)| {
            let setup = Setup {
                number,
                net: SimNet { network: Rc::clone(network), worker: number },
                tails: self.desk.engine.tails().to_vec(),
                ports: Box::new(SimPorts(Arc::clone(self.desk))),
                mailbox,
                posts: self.posts.to_vec(),
                metrics: metrics.clone(),
                listeners: listeners(limits),
                limits: Arc::clone(limits),
                rules: Arc::clone(rules),
                life: self.machine.life(),
                most_connections: u64::MAX,
                proxies: Arc::default(),
                lab: Arc::default(),
                notices: Arc::clone(&notices),
                crowd: Arc::clone(&crowd),
                trim: || {},
            };
            Worker::new(setup, self.hub(number, &drawn)).map_err(|e| e.to_string())
        };
        (0..).zip(mailboxes).map(seat).collect()
    }

    fn hub(&self, worker: u16, drawn: &Arc<AtomicU64>) -> Hub {
        let (drawn, seed) = (Arc::clone(drawn), self.seed);
        let mut hub = Hub::new(everywire_hub::Setup {
            tails: self.desk.engine.tails().to_vec(),
            lineages: vec![self.desk.engine.lineage(Partition(0))],
            rooms: Arc::default(),
            retained: self.store.retained(),
            limits: Arc::clone(&self.machine.limits),
            rules: Arc::clone(&self.machine.rules),
            worker,
            life: self.machine.life(),
            random: Arc::new(move || u128::from(drawn.fetch_add(1, Ordering::Relaxed)) << 64 | u128::from(seed)),
        });
        if let Some(roster) = self.desk.engine.roster() {
            hub.set_roster(Roster::clone(&roster));
        }
        if worker == 0 {
            hub.adopt_wills();
        }
        hub
    }
}
