//! Starts a node, and ends it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use everywire_auth::Authority;
use everywire_base::ask::{Append, Authenticate, Call, Read};
use everywire_base::cursor::Partition;
use everywire_base::id::{Nameplate, Slot};
use everywire_base::lab::Lab;
use everywire_base::limits::Limits;
use everywire_base::rules::Rules;
use everywire_driver::mail::mailbox;
use everywire_driver::mio_net::{Bound, MioNet, Socket};
use everywire_driver::{Listener, Mail, Mailbox, Notices, Ports, Post, Setup, Worker, WorkerMetrics, tls};
use everywire_http::{HttpListener, Service};
use everywire_hub::Hub;
use everywire_log::engine::Engine;
use everywire_log::tail::Tail;
use everywire_mqtt::{MqttConfig, MqttListen, MqttSocket};
use everywire_native::{Native, TcpListen};
use everywire_store::Store;
use everywire_wire::{Carried, Listen, UpgradeRequest};
use everywire_ws::{Subprotocol, WsUpgrade};

use crate::api::Calls;
use crate::applying::Applying;
use crate::authority::{Checks, StoredUsers};
use crate::config::{Bind, Config, StartError, Tls};
use crate::control::NodeControl;
use crate::doorbell::{Appends, Doorbell, wall_clock};
use crate::guests::Guests;
use crate::open::{Opened, open};
use crate::process;
use crate::readers::Readers;
use crate::sys::Sys;
use crate::threads;

/// HTTP/1.1 is all that the HTTP wire speaks (RFC 7301).
const HTTP_ALPN: [&str; 1] = ["http/1.1"];

/// How clients call MQTT, the second of them those of a large cloud.
const MQTT_ALPN: [&str; 2] = ["mqtt", "x-amzn-mqtt-ca"];
/// How clients call the native protocol.
const NATIVE_ALPN: [&str; 1] = ["everywire"];

/// MQTT as a subprotocol of WebSocket (MQTT-5.0 §6).
const MQTT: &str = "mqtt";
/// What clients ask for that were written before 3.1.1.
const MQTT_3_1: &str = "mqttv3.1";

/// The most characters of a client's software that the registry keeps.
const MAX_AGENT: usize = 120;

/// A running node. Dropping it without [`Node::drain`] leaves it running.
pub struct Node {
    addresses: Vec<(&'static str, SocketAddr)>,
    posts: Arc<[Post<Socket>]>,
    engine: Arc<dyn Engine>,
    store: Store,
    limits: Arc<Limits>,
    tls: Option<Tls>,
    draining: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    pools: Vec<JoinHandle<()>>,
    checks: Checks,
    authority: Arc<Authority>,
    applying: Applying,
    api: JoinHandle<()>,
    appender: JoinHandle<()>,
}

impl Node {
    /// Binds the listeners, opens and restores log and store, starts the threads, and accepts.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let bound = bind(&config)?;
        let nets = (0..config.workers.max(1)).map(|_| MioNet::new()).collect::<io::Result<Vec<_>>>();
        let nets = nets.map_err(system("event loop"))?;
        let (mut seats, mut posts) = (Vec::new(), Vec::new());
        for (net, waker) in nets {
            let (post, mailbox) = mailbox(Box::new(waker));
            seats.push((net, mailbox));
            posts.push(post);
        }
        let store_thread = Arc::new(OnceLock::new());
        let appends = Arc::new(Appends::default());
        let bell = Arc::new(Doorbell::new(posts.clone(), Arc::clone(&store_thread), Arc::clone(&appends)));
        let opened = open(&config, bell)?;
        let posts: Arc<[Post<Socket>]> = posts.into();
        let assembly = Assembly { config, posts, appends };
        assembly.start(opened, seats, bound, &store_thread)
    }

    /// Where the listeners are bound: `http`, `https`, `tcp`, `tcps`, `mqtt`, `mqtts`, and those of others by their names.
    pub fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }

    /// Takes new topic rules, and reads the certificates and the keys of tokens again.
    pub fn reload(&self, rules: Rules) -> Result<(), StartError> {
        let rules = Arc::new(rules);
        if let Some(tls) = &self.tls {
            let fresh = tls::load(&tls.cert, &tls.key)?;
            self.posts.iter().for_each(|post| drop(post.send(Mail::Tls(Arc::clone(&fresh)))));
        }
        self.store.set_rules(Arc::clone(&rules));
        self.posts.iter().for_each(|post| drop(post.send(Mail::Rules(Arc::clone(&rules)))));
        if self.authority.keys_due().is_some() {
            let authority = Arc::clone(&self.authority);
            // Another server may take its time.
            let read = move || authority.refresh_keys(Duration::ZERO);
            threads::spawn("keys", read).map_err(system("thread"))?;
        }
        Ok(())
    }

    /// Stops accepting, tells everybody to come back later, waits until all are gone or the time is over, and leaves
    /// the log clean.
    pub fn drain(self) {
        self.draining.store(true, Ordering::Release);
        self.posts.iter().for_each(|post| drop(post.send(Mail::Drain(self.limits.drain))));
        join(self.workers);
        self.engine.close();
        join([self.appender]);
        self.applying.stop();
        self.checks.close();
        // The workers held the queues of these; without them they end by themselves.
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

/// Binds every listener that is on. Nobody is accepted yet.
fn bind(config: &Config) -> Result<Vec<Listening>, StartError> {
    let mqtt_config = Arc::new(config.mqtt_config);
    let websocket = WsUpgrade::new(subprotocols(&mqtt_config)).on("/mqtt", MQTT).with_echo(config.echo);
    let service = Service::new(config.http_config.clone(), vec![Arc::new(websocket)]);
    let service = Arc::new(service.with_longest_body(everywire_api::longest_body));
    let http: Arc<dyn Listen> = Arc::new(HttpListener::new(service, Arc::clone(&config.limits)));
    let native: Arc<dyn Listen> = Arc::new(TcpListen::new(Arc::clone(&config.limits)));
    let mqtt: Arc<dyn Listen> = Arc::new(MqttListen::new(mqtt_config, Arc::clone(&config.limits)));
    let certificates = config.tls.as_ref().map(|tls| tls::load(&tls.cert, &tls.key)).transpose()?;
    let at = |place: fn(&Tls) -> Option<SocketAddr>| {
        config.tls.as_ref().and_then(place).map(|address| Bind { address, configured: true })
    };
    let (https, tcps, mqtts) = (at(|tls| tls.listen), at(|tls| tls.tcp), at(|tls| tls.mqtt));
    // Without a place of its own, HTTPS stands in place of HTTP.
    let (plain, https) =
        if config.tls.is_some() && https.is_none() { (None, config.http) } else { (config.http, https) };
    let clear = || None;
    let strict = |names: &[&str]| certificates.as_ref().map(|certificates| tls::Tls::strict(certificates, names));
    let lenient = |names: &[&str]| certificates.as_ref().map(|certificates| tls::Tls::lenient(certificates, names));
    let mut wanted = vec![
        ("http", plain, clear(), &http),
        ("https", https, strict(&HTTP_ALPN), &http),
        ("tcp", config.tcp, clear(), &native),
        ("tcps", tcps, lenient(&NATIVE_ALPN), &native),
        ("mqtt", config.mqtt, clear(), &mqtt),
        ("mqtts", mqtts, lenient(&MQTT_ALPN), &mqtt),
    ];
    wanted.extend(config.listeners.iter().map(|others| (others.name, Some(others.bind), None, &others.wires)));
    let mut bound = Vec::new();
    for (name, at, tls, wires) in wanted {
        let Some(bind) = at else { continue };
        let socket = settle(name, bind, Bound::bind(bind.address))?;
        bound.extend(socket.map(|socket| Listening { name, bind, socket, tls, wires: Arc::clone(wires) }));
    }
    Ok(bound)
}

/// What became of a listener. One that nobody asked for may stay off (RULES 36).
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
    posts: Arc<[Post<Socket>]>,
    appends: Arc<Appends>,
}

impl Assembly {
    fn start(
        self,
        opened: Opened,
        seats: Vec<(MioNet, Mailbox<Socket>)>,
        bound: Vec<Listening>,
        store_thread: &OnceLock<thread::Thread>,
    ) -> Result<Node, StartError> {
        let Opened { engine, log_metrics, appender, store, applier } = opened;
        let thread = system("thread");
        let Self { config, posts, appends } = self;
        let metrics: Arc<[Arc<WorkerMetrics>]> = seats.iter().map(|_| Arc::default()).collect();
        let draining = Arc::new(AtomicBool::new(false));
        let (readers, reader_threads) = Readers::start(&store, &posts, config.limits.read_queue).map_err(thread)?;
        let users = StoredUsers { store: store.clone(), tail: Arc::clone(&engine.tails()[0]) };
        let authority = Arc::new(Authority::new(config.auth.clone(), Arc::new(users))?);
        let checks = Checks::start(&authority, &posts, &config.limits);
        let (checks, mut pools) = checks.map_err(system("thread"))?;
        pools.extend(reader_threads);
        let lab = Arc::<Lab>::default();
        let control = NodeControl {
            checks: checks.clone(),
            guests: Guests::new(Arc::clone(&authority), config.limits.guests_per_address),
            appends,
            store: store.clone(),
            engine: Arc::clone(&engine),
            log: log_metrics,
            workers: Arc::clone(&metrics),
            posts: Arc::clone(&posts),
            readers: readers.clone(),
            lab: Arc::clone(&lab),
            limits: Arc::clone(&config.limits),
            draining: Arc::clone(&draining),
        };
        let sys = Sys { engine: Arc::clone(&engine), workers: Arc::clone(&metrics), store: store.clone() };
        let calls = Calls::start(Arc::new(control), Arc::clone(&posts), &config.limits, sys);
        let (calls, api) = calls.map_err(system("thread"))?;
        let applying = Applying::start(applier, store_thread).map_err(system("thread"))?;
        let appender = threads::spawn("log", || appender.run()).map_err(system("thread"))?;
        let desk = Desk { engine: Arc::clone(&engine), readers, calls, checks: checks.clone() };
        // Low bits of the clock: no two lives of a node within years have the same.
        let boot = wall_clock().0 as u32;
        let plate = Nameplate { node: config.node.as_str().into(), boot };
        let hubs = Hubs { store: &store, engine: &*engine, config: &config, plate: &plate, lab };
        let (addresses, listeners) = listen(bound)?;
        let workers = spawn_workers(seats, listeners, &hubs, &desk, &posts, &metrics)?;
        Ok(Node {
            addresses,
            posts,
            engine,
            store,
            limits: config.limits,
            tls: config.tls,
            draining,
            workers,
            pools,
            checks,
            authority,
            applying,
            api,
            appender,
        })
    }
}

/// What each worker's hub is made of.
struct Hubs<'a> {
    store: &'a Store,
    engine: &'a dyn Engine,
    config: &'a Config,
    plate: &'a Nameplate,
    lab: Arc<Lab>,
}

impl Hubs<'_> {
    fn tails(&self) -> Vec<Arc<Tail>> {
        self.engine.tails().to_vec()
    }

    /// What the hub of a worker begins with. The hub itself is made on its thread, which it never leaves.
    fn seed(&self, worker: u16, rules: &Arc<Rules>) -> everywire_hub::Setup {
        let partitions = 0..self.engine.tails().len() as u16;
        everywire_hub::Setup {
            tails: self.tails(),
            lineages: partitions.map(|p| self.engine.lineage(Partition(p))).collect(),
            retained: self.store.retained(),
            limits: Arc::clone(&self.config.limits),
            rules: Arc::clone(rules),
            worker,
            plate: self.plate.clone(),
            draw: Arc::new(random),
        }
    }
}

/// What listens where, and its listeners.
type Listeners = (Vec<(&'static str, SocketAddr)>, Vec<Listener<MioNet>>);

/// Lets clients come. Between binding and this somebody else may have begun to listen on the same address.
fn listen(bound: Vec<Listening>) -> Result<Listeners, StartError> {
    let (mut addresses, mut listeners) = (Vec::new(), Vec::new());
    for Listening { name, bind, socket, tls, wires } in bound {
        let local = socket.local();
        let Some(socket) = settle(name, bind, socket.listen())? else { continue };
        addresses.push((name, local));
        listeners.push(Listener { socket: Some(socket), local, wires, tls });
    }
    Ok((addresses, listeners))
}

fn spawn_workers(
    seats: Vec<(MioNet, Mailbox<Socket>)>,
    mut listeners: Vec<Listener<MioNet>>,
    hubs: &Hubs<'_>,
    desk: &Desk,
    posts: &Arc<[Post<Socket>]>,
    metrics: &Arc<[Arc<WorkerMetrics>]>,
) -> Result<Vec<JoinHandle<()>>, StartError> {
    let workers = seats.len();
    hubs.tails().iter().for_each(|tail| tail.set_readers(workers));
    let rules = Arc::new(hubs.config.rules.clone());
    let notices = Arc::<Notices>::default();
    let most_connections = process::files_for_connections(hubs.config.limits.reserved_files);
    let spawn = |(number, (net, mailbox)): (usize, (MioNet, Mailbox<Socket>))| {
        // Each listener is accepted from by one worker, which spreads its connections over all.
        let share = |(i, listener): (usize, &mut Listener<MioNet>)| Listener {
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
            ports: Box::new(desk.clone()),
            mailbox,
            posts: posts.to_vec(),
            metrics: metrics.to_vec(),
            listeners,
            limits: Arc::clone(&hubs.config.limits),
            rules: Arc::clone(&rules),
            plate: hubs.plate.clone(),
            most_connections,
            lab: Arc::clone(&hubs.lab),
            notices: Arc::clone(&notices),
            proxies: hubs.config.trusted_proxies.as_slice().into(),
        };
        let hub = hubs.seed(number, &rules);
        let run = move || {
            let mut hub = Hub::new(hub);
            if number == 0 {
                hub.adopt_wills();
            }
            Worker::new(setup, hub).expect("what is bound can be watched").run();
        };
        threads::spawn(format!("worker-{number}"), run).map_err(system("thread"))
    };
    seats.into_iter().enumerate().map(spawn).collect()
}

/// What WebSocket carries; a client that names nothing speaks the first.
fn subprotocols(mqtt: &Arc<MqttConfig>) -> Vec<Subprotocol> {
    fn agent(request: &UpgradeRequest<'_>) -> Option<Box<str>> {
        // Whom nobody knows the registry doesn't describe.
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
    // It fails only where the system has no such source, and there nothing is safe.
    getrandom::fill(&mut bytes).expect("the system's source of randomness");
    u128::from_ne_bytes(bytes)
}

/// Where workers send what others do for them.
#[derive(Clone)]
struct Desk {
    engine: Arc<dyn Engine>,
    readers: Readers,
    calls: Calls,
    checks: Checks,
}

impl Ports for Desk {
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
