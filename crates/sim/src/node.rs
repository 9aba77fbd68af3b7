//! A server of the simulated world: the real parts, stepped one after the other instead of run by threads.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use everywire_base::ask::{Append, Authenticate, Call, Outcome, Read};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Partition;
use everywire_base::id::{Nameplate, Slot};
use everywire_base::limits::Limits;
use everywire_base::rules::Rules;
use everywire_driver::mail::{Wake, mailbox};
use everywire_driver::net::Net as _;
use everywire_driver::{Listener, Mail, Ports, Post, Setup, Worker};
use everywire_http::{HttpConfig, HttpListener, Service};
use everywire_hub::Hub;
use everywire_log::Appender;
use everywire_log::disk::SimDisk;
use everywire_log::embedded::{Embedded, Options};
use everywire_log::engine::{Bell, Engine};
use everywire_mqtt::MqttListen;
use everywire_native::{Native, TcpListen};
use everywire_native_frames::PROTOBUF;
use everywire_store::{Applier, Parts, Store};
use everywire_wire::{Listen, Upgrade};
use everywire_ws::{Subprotocol, WsUpgrade};

use crate::net::{HTTP, MQTT, Network, SimNet, TCP};
use crate::tables::{SimTables, interrupted};

/// One server over the simulated network and disk.
pub(crate) struct SimNode {
    worker: Worker<SimNet>,
    post: Post<u32>,
    bell: Arc<SimBell>,
    appender: Appender,
    store: Store,
    applier: Applier,
    reads: Arc<Mutex<VecDeque<Read>>>,
}

struct NeverAsleep;

impl Wake for NeverAsleep {
    fn wake(&self) {}
}

struct SimBell {
    post: Post<u32>,
    wall_ms: AtomicU64,
}

impl Bell for SimBell {
    fn head_moved(&self) {}

    fn outcomes(&self, _: u16, outcomes: Vec<Outcome>) {
        let _ = self.post.send(Mail::Outcomes(outcomes)); // the worker may have crashed meanwhile
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(self.wall_ms.load(Ordering::Relaxed))
    }
}

struct SimPorts {
    engine: Arc<dyn Engine>,
    reads: Arc<Mutex<VecDeque<Read>>>,
    bound: usize,
}

impl Ports for SimPorts {
    fn submit(&self, appends: &mut Vec<Append>) {
        self.engine.submit(appends);
    }

    fn read(&self, read: Read, _: IpAddr) -> Result<(), Read> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if reads.len() >= self.bound {
            return Err(read);
        }
        reads.push_back(read);
        Ok(())
    }

    fn authenticate(&self, asked: Authenticate, _: IpAddr, _: bool) -> Result<(), Authenticate> {
        Err(asked)
    }

    fn is_leaving(&self, _: IpAddr, _: u16, _: Slot) {}

    fn is_gone(&self, _: IpAddr, _: u16, _: Slot) {}

    fn call(&self, call: Call) -> Result<(), Call> {
        Err(call)
    }
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
    let service = Service::new(HttpConfig::default(), upgrades);
    let http = HttpListener::new(Arc::new(service), Arc::clone(limits));
    let mqtt = MqttListen::new(Arc::default(), Arc::clone(limits));
    vec![
        listen(HTTP, Arc::new(http) as Arc<dyn Listen>),
        listen(TCP, Arc::new(TcpListen::new(Arc::clone(limits)))),
        listen(MQTT, Arc::new(mqtt)),
    ]
}

impl SimNode {
    /// Opens what the disk holds and restores, like a server that starts.
    pub(crate) fn start(
        network: &Rc<RefCell<Network>>,
        (disk, tables): (&SimDisk, &SimTables),
        seed: u64,
        limits: &Arc<Limits>,
        rules: &Arc<Rules>,
    ) -> Result<Self, String> {
        let mut net = SimNet(Rc::clone(network));
        let (post, mailbox) = mailbox(Box::new(NeverAsleep));
        let bell = Arc::new(SimBell { post: post.clone(), wall_ms: AtomicU64::new(net.now().wall.0) });
        let options =
            Options { segment_bytes: 16 << 10, reserve_offsets: 64, reserve_bytes: 0, ..Options::seeded(seed) };
        let opened = Embedded::open(Arc::new(disk.clone()), options, limits, Arc::clone(&bell) as Arc<dyn Bell>);
        let (engine, appender) = opened.map_err(|e| format!("the log does not open: {e}"))?;
        let engine: Arc<dyn Engine> = engine;
        let derived = Parts {
            tables: Box::new(tables.clone()),
            archive: engine.archive(Partition(0)),
            tail: Arc::clone(&engine.tails()[0]),
            partition: Partition(0),
            lineage: engine.lineage(Partition(0)),
            rules: Arc::clone(rules),
        };
        let (store, mut applier) = Store::open(derived).map_err(|e| format!("the store does not open: {e}"))?;
        while applier.turn(bell.now()).more {}
        engine.tails()[0].set_readers(1);
        let reads = Arc::new(Mutex::new(VecDeque::new()));
        let ports = SimPorts { engine: Arc::clone(&engine), reads: Arc::clone(&reads), bound: limits.read_queue };
        let plate = Nameplate { node: "sim".into(), boot: net.now().wall.0 as u32 };
        let drawn = AtomicU64::new(net.now().wall.0 << 20);
        let mut hub = Hub::new(everywire_hub::Setup {
            tails: engine.tails().to_vec(),
            lineages: vec![engine.lineage(Partition(0))],
            retained: store.retained(),
            limits: Arc::clone(limits),
            rules: Arc::clone(rules),
            worker: 0,
            plate: plate.clone(),
            draw: Arc::new(move || u128::from(drawn.fetch_add(1, Ordering::Relaxed)) << 64 | u128::from(seed)),
        });
        hub.adopt_wills();
        let setup = Setup {
            number: 0,
            net,
            tails: engine.tails().to_vec(),
            ports: Box::new(ports),
            mailbox,
            posts: vec![post.clone()],
            metrics: vec![Arc::default()],
            listeners: listeners(limits),
            limits: Arc::clone(limits),
            rules: Arc::clone(rules),
            plate,
            most_connections: u64::MAX,
            proxies: Arc::default(),
            lab: Arc::default(),
            notices: Arc::default(),
        };
        let worker = Worker::new(setup, hub).map_err(|e| e.to_string())?;
        Ok(Self { worker, post, bell, appender, store, applier, reads })
    }

    /// Tells the parts that have no clock of their own what time it is.
    pub(crate) fn set_time(&self, wall_ms: u64) {
        self.bell.wall_ms.store(wall_ms, Ordering::Relaxed);
    }

    /// One turn of the worker.
    pub(crate) fn work(&mut self) {
        self.worker.turn();
    }

    /// One group commit; says whether there was anything to do.
    pub(crate) fn commit(&mut self) -> bool {
        self.appender.turn()
    }

    /// The store applies some records; says whether there are more.
    pub(crate) fn apply(&mut self) -> bool {
        self.applier.turn(self.bell.now()).more
    }

    /// The same; in the midst of it, when the store has looked up so many values, a reader of the pool serves a read.
    pub(crate) fn apply_beside_reader(&mut self, lookups: usize) -> bool {
        let (reads, store) = (Arc::clone(&self.reads), self.store.clone());
        let (post, bell) = (self.post.clone(), Arc::clone(&self.bell));
        let reader = move || {
            serve(&reads, lookups, &store, &post, &bell);
        };
        let (applier, now) = (&mut self.applier, self.bell.now());
        interrupted(lookups, reader, || applier.turn(now).more)
    }

    /// A reader of the pool serves one read, at this place of the queue; says whether there was one.
    pub(crate) fn read(&mut self, place: usize) -> bool {
        serve(&self.reads, place, &self.store, &self.post, &self.bell)
    }
}

fn serve(reads: &Mutex<VecDeque<Read>>, place: usize, store: &Store, post: &Post<u32>, bell: &SimBell) -> bool {
    let mut reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
    if reads.is_empty() {
        return false;
    }
    let place = place % reads.len();
    let Some(read) = reads.remove(place) else { return false };
    drop(reads);
    let page = store.read(&read, bell.now());
    let _ = post.send(Mail::Page(page)); // the worker is this node's own
    true
}
