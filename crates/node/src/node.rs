//! Starts a node, and ends it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use everywire_auth::Authority;
use everywire_base::access::RoomKeeper;
use everywire_base::ask::{Append, Authenticate, Call, Read};
use everywire_base::cursor::Partition;
use everywire_base::id::{NodeLife, Slot};
use everywire_base::lab::Lab;
use everywire_base::limits::Limits;
use everywire_base::registry::NodesAsked;
use everywire_base::roster::Roster;
use everywire_base::rules::Rules;
use everywire_bridge::{Bridges, Line, Seat};
use everywire_driver::mail::mailbox;
use everywire_driver::mio_net::{Bound, MioNet, Socket};
use everywire_driver::{Crowd, Mail, Mailbox, Notices, Ports, Post, Setup, Worker, WorkerMetrics, tls};
use everywire_http::{HttpListener, Service};
use everywire_hub::Hub;
use everywire_log::engine::Engine;
use everywire_log::tail::Tail;
use everywire_mqtt::{MqttConfig, MqttListen, MqttSocket};
use everywire_native::{Native, TcpListen};
use everywire_rooms::Rooms;
use everywire_store::Store;
use everywire_wire::{Carried, Listen, UpgradeRequest};
use everywire_ws::{Subprotocol, WsUpgrade};
use tokio::sync::mpsc;

use crate::api::{Beside, Calls};
use crate::applying::Applying;
use crate::authority::{Checks, StoredUsers};
use crate::config::{Bind, Config, EngineKind, Listener, Speaks, StartError, Tls};
use crate::control::NodeControl;
use crate::doorbell::{Appends, Doorbell, wall_clock};
use crate::guests::Guests;
use crate::keeping::Keeping;
use crate::open::{Opened, open};
use crate::peers::{Inbox, Peers, Workers};
use crate::process;
use crate::readers::Readers;
use crate::sys::Sys;
use crate::threads;

/// HTTP/1.1 is all that the HTTP wire speaks (RFC 7301).
const HTTP_ALPN: [&str; 1] = ["http/1.1"];

/// The names of MQTT in ALPN; the second is that of the clients of a large cloud.
const MQTT_ALPN: [&str; 2] = ["mqtt", "x-amzn-mqtt-ca"];
/// The name of the native protocol in ALPN.
const NATIVE_ALPN: [&str; 1] = ["everywire"];

/// MQTT as a subprotocol of WebSocket (MQTT-5.0 §6).
const MQTT: &str = "mqtt";
/// The subprotocol that clients older than MQTT 3.1.1 ask for.
const MQTT_3_1: &str = "mqttv3.1";

/// The most characters of a client's `User-Agent` that the registry keeps.
const MAX_AGENT: usize = 120;

/// A running node. Dropping it without [`Node::drain`] leaves it running.
pub struct Node {
    addresses: Vec<(&'static str, SocketAddr)>,
    posts: Arc<[Post<Socket>]>,
    engine: Arc<dyn Engine>,
    store: Store,
    rooms: Arc<Rooms>,
    limits: Arc<Limits>,
    tls: Option<Tls>,
    draining: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    pools: Vec<JoinHandle<()>>,
    checks: Checks,
    authority: Arc<Authority>,
    applying: Applying,
    bridges: Bridges,
    keeping: Option<Keeping>,
    api: JoinHandle<()>,
    appender: JoinHandle<()>,
}

impl Node {
    /// Binds the listeners, opens and restores log and store, starts the threads, and accepts.
    pub fn start(mut config: Config) -> Result<Self, StartError> {
        let rooms = Arc::new(Rooms::with(&config.limits.rooms));
        config.rules.rooms = RoomKeeper::new(Arc::clone(&rooms) as _);
        let bound = bind(&config)?;
        let began = Instant::now();
        let nets = (0..config.workers.max(1)).map(|_| MioNet::new(began)).collect::<io::Result<Vec<_>>>();
        let nets = nets.map_err(system("event loop"))?;
        let (mut seats, mut posts) = (Vec::new(), Vec::new());
        for (net, waker) in nets {
            let (post, mailbox) = mailbox(Box::new(waker));
            seats.push((net, mailbox));
            posts.push(post);
        }
        let store_thread = Arc::new(OnceLock::new());
        let appends = Arc::new(Appends::default());
        let bridge = |i| everywire_bridge::line(i as u16);
        let (lines, bridge_seats): (Vec<Line>, Vec<Seat>) = (0..config.bridges.len()).map(bridge).unzip();
        let bell = Doorbell::new(posts.clone(), Arc::clone(&store_thread), Arc::clone(&appends), lines);
        // The boot number is the low bits of the clock: no two lives of a node within years have the same.
        let boot = wall_clock().0 as u32;
        let life = NodeLife { node: config.node.as_str().into(), boot };
        let (inbox, questions) = Inbox::new(&life, config.limits.api_calls);
        let opened = open(&config, boot, (&rooms, &inbox), Arc::new(bell))?;
        let posts: Arc<[Post<Socket>]> = posts.into();
        let (workers, engine) = (Workers(Arc::clone(&posts)), Arc::clone(&opened.engine));
        let peers = Peers { workers, inbox, engine, appends, random };
        let assembly = Assembly { config, began, life, posts, peers, questions, rooms, bridge_seats };
        assembly.start(opened, seats, bound, &store_thread)
    }

    /// The addresses of the listeners: `http`, `https`, `tcp`, `tcps`, `mqtt`, `mqtts`, and those of other wires by
    /// their names.
    pub fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }

    /// Takes new topic rules, and reads the certificates and the keys of tokens again.
    pub fn reload(&self, mut rules: Rules) -> Result<(), StartError> {
        rules.rooms = RoomKeeper::new(Arc::clone(&self.rooms) as _);
        let rules = Arc::new(rules);
        if let Some(tls) = &self.tls {
            let fresh = tls::load(&tls.cert, &tls.key)?;
            self.posts.iter().for_each(|post| drop(post.send(Mail::Tls(Arc::clone(&fresh)))));
        }
        self.store.set_rules(Arc::clone(&rules));
        self.posts.iter().for_each(|post| drop(post.send(Mail::Rules(Arc::clone(&rules)))));
        if self.authority.keys_due().is_some() {
            let authority = Arc::clone(&self.authority);
            // Keys may be at another server, which may take its time.
            let read = move || authority.refresh_keys(Duration::ZERO);
            threads::spawn("keys", read).map_err(system("thread"))?;
        }
        Ok(())
    }

    /// Stops accepting, tells every client to come back later, waits until all are gone or the time is over, and leaves
    /// the log clean.
    pub fn drain(self) {
        self.draining.store(true, Ordering::Release);
        self.posts.iter().for_each(|post| drop(post.send(Mail::Drain(self.limits.drain))));
        join(self.workers);
        self.bridges.stop();
        self.keeping.iter().for_each(Keeping::stop);
        self.engine.close();
        join([self.appender]);
        self.applying.stop();
        self.checks.close();
        // The workers held the queues of these threads; without them the threads end by themselves.
        join(self.pools);
        join([self.api]);
    }
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        let _ = thread.join(); // one that panics ends the process
    }
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// A bound listener.
struct Listening {
    name: &'static str,
    bind: Bind,
    socket: Bound,
    tls: Option<tls::Tls>,
    wires: Arc<dyn Listen>,
}

/// Binds every listener. Nobody is accepted yet.
fn bind(config: &Config) -> Result<Vec<Listening>, StartError> {
    let mqtt_config = Arc::new(config.mqtt_config);
    let websocket = WsUpgrade::new(subprotocols(&mqtt_config)).on("/mqtt", MQTT).with_echo(config.echo);
    let service = Service::new(config.http_config.clone(), vec![Arc::new(websocket)]);
    let service = Arc::new(service.with_longest_body(everywire_api::longest_body));
    let http: Arc<dyn Listen> = Arc::new(HttpListener::new(service, Arc::clone(&config.limits)));
    let native: Arc<dyn Listen> = Arc::new(TcpListen::new(Arc::clone(&config.limits)));
    let mqtt: Arc<dyn Listen> = Arc::new(MqttListen::new(mqtt_config, Arc::clone(&config.limits)));
    let certificates = config.tls.as_ref().map(|tls| tls::load(&tls.cert, &tls.key)).transpose()?;
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let Listener { bind, speaks, tls } = listener;
        let certificates = certificates.as_ref().filter(|_| *tls);
        if *tls && certificates.is_none() {
            return Err(StartError::NoCertificates(bind.address));
        }
        let (wires, tls) = match speaks {
            Speaks::Http => (&http, certificates.map(|own| tls::Tls::strict(own, &HTTP_ALPN))),
            Speaks::Native => (&native, certificates.map(|own| tls::Tls::lenient(own, &NATIVE_ALPN))),
            Speaks::Mqtt => (&mqtt, certificates.map(|own| tls::Tls::lenient(own, &MQTT_ALPN))),
            Speaks::Other(name, wires) => (wires, certificates.map(|own| tls::Tls::lenient(own, &[name]))),
        };
        let name = listener.name();
        let socket = settle(name, *bind, Bound::bind(bind.address))?;
        bound.extend(socket.map(|socket| Listening { name, bind: *bind, socket, tls, wires: Arc::clone(wires) }));
    }
    Ok(bound)
}

/// The socket of a listener, or its error. A listener that nobody configured may stay off (RULES 36).
fn settle<T>(name: &str, bind: Bind, socket: io::Result<T>) -> Result<Option<T>, StartError> {
    match socket {
        Ok(socket) => Ok(Some(socket)),
        Err(source) if bind.configured => Err(StartError::Bind { address: bind.address, source }),
        Err(error) => {
            let address = bind.address;
            tracing::warn!(
                "the {name} listener stays off: {address} can't be bound: {error}; end what uses it, or set another address"
            );
            Ok(None)
        }
    }
}

/// A node that is being put together.
struct Assembly {
    config: Config,
    /// The beginning of the workers' steady time.
    began: Instant,
    life: NodeLife,
    posts: Arc<[Post<Socket>]>,
    peers: Peers,
    questions: mpsc::Receiver<NodesAsked>,
    rooms: Arc<Rooms>,
    bridge_seats: Vec<Seat>,
}

impl Assembly {
    fn start(
        self,
        opened: Opened,
        seats: Vec<(MioNet, Mailbox<Socket>)>,
        bound: Vec<Listening>,
        store_thread: &OnceLock<thread::Thread>,
    ) -> Result<Node, StartError> {
        let Opened { engine, log_metrics, run, store, applier, keeper } = opened;
        let thread = system("thread");
        let Self { config, began, life, posts, peers, questions, rooms, bridge_seats } = self;
        let metrics: Arc<[Arc<WorkerMetrics>]> = seats.iter().map(|_| Arc::default()).collect();
        let draining = Arc::new(AtomicBool::new(false));
        let (readers, reader_threads) = Readers::start(&store, &posts, config.limits.read_queue).map_err(thread)?;
        let users = StoredUsers { store: store.clone(), tail: Arc::clone(&engine.tails()[0]) };
        let authority = Arc::new(Authority::new(config.auth.clone(), Arc::new(users))?);
        let checks = Checks::start(&authority, &posts, &config.limits);
        let (checks, mut pools) = checks.map_err(system("thread"))?;
        pools.extend(reader_threads);
        let lab = Arc::<Lab>::default();
        let applying = Applying::start(applier, store_thread).map_err(system("thread"))?;
        let appender = threads::spawn("log", || run.run()).map_err(system("thread"))?;
        let keeping = keeper.map(|keeper| Keeping::start(keeper, &store)).transpose().map_err(system("thread"))?;
        let bridges = bridge(&config, life.boot, bridge_seats, &engine, &store)?;
        let control = NodeControl {
            began,
            checks: checks.clone(),
            guests: Guests::new(Arc::clone(&authority), config.limits.guests_per_address),
            peers: peers.clone(),
            store: store.clone(),
            rooms: Arc::clone(&rooms),
            engine: Arc::clone(&engine),
            log: log_metrics,
            workers: Arc::clone(&metrics),
            bridges: Arc::clone(bridges.progress()),
            posts: Arc::clone(&posts),
            readers: readers.clone(),
            lab: Arc::clone(&lab),
            limits: Arc::clone(&config.limits),
            draining: Arc::clone(&draining),
        };
        let sys = Sys::new(&config, &engine, &metrics, &store);
        let beside = Beside { sys, over: config.over.clone(), peers, questions };
        let calls = Calls::start(Arc::new(control), Arc::clone(&posts), &config.limits, beside);
        let (calls, api) = calls.map_err(system("thread"))?;
        let queues = Queues { engine: Arc::clone(&engine), readers, calls, checks: checks.clone() };
        let hubs = Hubs { store: &store, engine: &*engine, config: &config, life: &life, rooms: &rooms, lab };
        let (addresses, listeners) = listen(bound)?;
        let workers = spawn_workers(seats, listeners, &hubs, &queues, &posts, &metrics)?;
        Ok(Node {
            addresses,
            posts,
            engine,
            store,
            rooms,
            limits: config.limits,
            tls: config.tls,
            draining,
            workers,
            pools,
            checks,
            authority,
            applying,
            bridges,
            keeping,
            api,
            appender,
        })
    }
}

/// Starts the bridges: nobody publishes yet.
fn bridge(
    config: &Config,
    boot: u32,
    seats: Vec<Seat>,
    engine: &Arc<dyn Engine>,
    store: &Store,
) -> Result<Bridges, StartError> {
    let (engine, store, limits) = (Arc::clone(engine), store.clone(), Arc::clone(&config.limits));
    let is_shared = !matches!(config.engine, EngineKind::Embedded | EngineKind::Memory);
    let node = config.node.as_str().into();
    let spawn = |name: &str, run| threads::spawn(name, run);
    let setup = everywire_bridge::Setup { engine, store, limits, node, boot, is_shared, spawn };
    let bridges = config.bridges.iter().cloned().zip(seats).collect();
    Bridges::start(bridges, setup).map_err(system("thread"))
}

/// The parts that each worker's hub is made of.
struct Hubs<'a> {
    store: &'a Store,
    engine: &'a dyn Engine,
    config: &'a Config,
    life: &'a NodeLife,
    rooms: &'a Arc<Rooms>,
    lab: Arc<Lab>,
}

impl Hubs<'_> {
    fn tails(&self) -> Vec<Arc<Tail>> {
        self.engine.tails().to_vec()
    }

    /// The setup of a worker's hub. The hub itself is made on the worker's thread, which it never leaves.
    fn seed(&self, worker: u16, rules: &Arc<Rules>) -> everywire_hub::Setup {
        let partitions = 0..self.engine.tails().len() as u16;
        everywire_hub::Setup {
            tails: self.tails(),
            lineages: partitions.map(|p| self.engine.lineage(Partition(p))).collect(),
            retained: self.store.retained(),
            limits: Arc::clone(&self.config.limits),
            rules: Arc::clone(rules),
            rooms: Arc::clone(self.rooms),
            worker,
            life: self.life.clone(),
            random: Arc::new(random),
        }
    }
}

/// The addresses by listener name, and the listeners.
type Listeners = (Vec<(&'static str, SocketAddr)>, Vec<everywire_driver::Listener<MioNet>>);

/// Begins to listen. Another program may have begun to listen on the same address since it was bound.
fn listen(bound: Vec<Listening>) -> Result<Listeners, StartError> {
    let (mut addresses, mut listeners) = (Vec::new(), Vec::new());
    for Listening { name, bind, socket, tls, wires } in bound {
        let local = socket.local();
        let Some(socket) = settle(name, bind, socket.listen())? else { continue };
        addresses.push((name, local));
        listeners.push(everywire_driver::Listener { socket: Some(socket), local, wires, tls });
    }
    Ok((addresses, listeners))
}

fn spawn_workers(
    seats: Vec<(MioNet, Mailbox<Socket>)>,
    mut listeners: Vec<everywire_driver::Listener<MioNet>>,
    hubs: &Hubs<'_>,
    queues: &Queues,
    posts: &Arc<[Post<Socket>]>,
    metrics: &Arc<[Arc<WorkerMetrics>]>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let workers = seats.len();
    hubs.tails().iter().for_each(|tail| tail.set_readers(workers));
    let rules = Arc::new(hubs.config.rules.clone());
    let (notices, crowd) = (Arc::<Notices>::default(), Arc::<Crowd>::default());
    let most_connections = process::files_for_connections(hubs.config.limits.reserved_files);
    let spawn = |(number, (net, mailbox)): (usize, (MioNet, Mailbox<Socket>))| {
        // Each listener belongs to one worker, which accepts from it and spreads its connections over all.
        let share = |(i, listener): (usize, &mut everywire_driver::Listener<MioNet>)| everywire_driver::Listener {
            socket: if i % workers == number { listener.socket.take() } else { None },
            local: listener.local,
            wires: Arc::clone(&listener.wires),
            tls: listener.tls.clone(),
        };
        let listeners = listeners.iter_mut().enumerate().map(share).collect();
        let number = number as u16;
        let setup = Setup {
            number,
            net,
            tails: hubs.tails(),
            ports: Box::new(queues.clone()),
            mailbox,
            posts: posts.to_vec(),
            metrics: metrics.to_vec(),
            listeners,
            limits: Arc::clone(&hubs.config.limits),
            rules: Arc::clone(&rules),
            life: hubs.life.clone(),
            most_connections,
            lab: Arc::clone(&hubs.lab),
            notices: Arc::clone(&notices),
            crowd: Arc::clone(&crowd),
            trim: hubs.config.trim,
            proxies: hubs.config.trusted_proxies.as_slice().into(),
        };
        let (hub, engine) = (hubs.seed(number, &rules), Arc::clone(&queues.engine));
        let run = move || {
            let mut hub = Hub::new(hub);
            // The roster is as of what the hub has read, or later: a record applied twice changes nothing.
            if let Some(roster) = engine.roster() {
                hub.set_roster(Roster::clone(&roster));
            }
            if number == 0 {
                hub.adopt_wills();
            }
            Worker::new(setup, hub).expect("what is bound can be watched").run();
        };
        threads::spawn(format!("worker-{number}"), run).map_err(system("thread"))
    };
    seats.into_iter().enumerate().map(spawn).collect()
}

/// The subprotocols of WebSocket; a client that names none speaks the first.
fn subprotocols(mqtt: &Arc<MqttConfig>) -> Vec<Subprotocol> {
    fn agent(request: &UpgradeRequest<'_>) -> Option<Box<str>> {
        // The registry doesn't describe connections without an identity.
        request.identity.as_ref()?;
        Some(request.one("user-agent")?.chars().take(MAX_AGENT).collect())
    }
    let mqtt = Arc::clone(mqtt);
    let speak = move |request: &UpgradeRequest<'_>| -> Box<dyn Carried> {
        Box::new(MqttSocket::new(Arc::clone(&mqtt), request.identity.clone()))
    };
    vec![
        Subprotocol {
            name: everywire_native_frames::JSON,
            also: None,
            make: Box::new(|request| Box::new(Native::json(request.identity.clone(), agent(request)))),
        },
        Subprotocol {
            name: everywire_native_frames::PROTOBUF,
            also: None,
            make: Box::new(|request| Box::new(Native::protobuf(request.identity.clone(), agent(request)))),
        },
        Subprotocol { name: MQTT, also: Some(MQTT_3_1), make: Box::new(speak) },
    ]
}

/// A number from the system's source of randomness.
fn random() -> u128 {
    let mut bytes = [0; 16];
    // The call fails only where the system has no such source, and there nothing is safe.
    getrandom::fill(&mut bytes).expect("the system's source of randomness");
    u128::from_ne_bytes(bytes)
}

/// The queues of the work that other threads do for the workers.
#[derive(Clone)]
struct Queues {
    engine: Arc<dyn Engine>,
    readers: Readers,
    calls: Calls,
    checks: Checks,
}

impl Ports for Queues {
    fn submit(&self, appends: &mut Vec<Append>) {
        self.engine.submit(appends);
    }

    fn read(&self, read: Read, from: IpAddr) -> Result<(), Read> {
        self.readers.read(read, from)
    }

    fn call(&self, call: Call) -> Result<(), Call> {
        self.calls.call(call)
    }

    fn authenticate(&self, asked: Authenticate, from: IpAddr, is_leaving: bool) -> Result<(), Authenticate> {
        self.checks.check(asked, from, is_leaving)
    }

    fn is_leaving(&self, from: IpAddr, worker: u16, slot: Slot) {
        self.checks.is_leaving(from, worker, slot);
    }

    fn is_gone(&self, from: IpAddr, worker: u16, slot: Slot) {
        self.checks.forget(from, worker, slot);
        self.calls.forget(worker, slot);
        self.readers.forget(from, worker, slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_without_its_certificates_is_an_error() {
        let bind = Bind { address: ([127, 0, 0, 1], 0).into(), configured: true };
        let listeners = vec![Listener { bind, speaks: Speaks::Mqtt, tls: true }];
        let error = Node::start(Config { listeners, ..Config::default() }).err().map(|error| error.to_string());
        let expected =
            "the listener at 127.0.0.1:0 speaks TLS: give the node a certificate and its key (`Config::tls`)";
        assert_eq!(error.as_deref(), Some(expected));
    }
}
