//! A worker over the scripted network, with a log that the test commits by hand.

use std::cell::{Ref, RefCell, RefMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everywire_base::ask::{Append, Authenticate, Call, Outcome, Page, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{Mailbox, NodeLife, Slot};
use everywire_base::limits::Limits;
use everywire_base::rules::Rules;
use everywire_driver::mail::{Wake, mailbox};
use everywire_driver::{Listener, Mail, Ports, Post, Setup, Worker, WorkerMetrics};
use everywire_hub::Hub;
use everywire_log::Appender;
use everywire_log::engine::{Bell, Engine};
use everywire_log::hint::RetainedHint;
use everywire_log::memory::{Memory, MemoryOptions};
use everywire_wire::Listen;

use crate::net::{Script, ScriptNet};

/// The number of connections for which there are files.
pub(crate) const MOST_CONNECTIONS: u64 = 50;

struct NeverAsleep;

impl Wake for NeverAsleep {
    fn wake(&self) {}
}

/// Takes outcomes to the worker.
struct ToWorker(Post<usize>);

impl Bell for ToWorker {
    fn head_moved(&self) {}

    fn outcomes(&self, _: Mailbox, outcomes: Vec<Outcome>) {
        let _ = self.0.send(Mail::Outcomes(outcomes));
    }

    fn now(&self) -> UnixMillis {
        UnixMillis(1_795_000_000_000)
    }
}

/// The log, and reads that wait for the store; nothing else answers.
struct Desk {
    engine: Arc<dyn Engine>,
    reads: Arc<Mutex<Vec<Read>>>,
    is_shut: Arc<AtomicBool>,
    tries: Arc<AtomicUsize>,
}

impl Ports for Desk {
    fn submit(&self, appends: &mut Vec<Append>) {
        self.engine.submit(appends);
    }

    fn read(&self, read: Read, _: IpAddr) -> Result<(), Read> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.is_shut.load(Ordering::Relaxed) {
            return Err(read);
        }
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).push(read);
        Ok(())
    }

    fn call(&self, call: Call) -> Result<(), Call> {
        Err(call)
    }

    fn authenticate(&self, asked: Authenticate, _: IpAddr, _: bool) -> Result<(), Authenticate> {
        Err(asked)
    }

    fn is_leaving(&self, _: IpAddr, _: u16, _: Slot) {}

    fn is_gone(&self, _: IpAddr, _: u16, _: Slot) {}
}

/// The worker and its surroundings.
pub(crate) struct World {
    pub(crate) worker: Worker<ScriptNet>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) post: Post<usize>,
    engine: Arc<dyn Engine>,
    reads: Arc<Mutex<Vec<Read>>>,
    /// Whether the store's readers take nothing.
    pub(crate) is_shut: Arc<AtomicBool>,
    /// The number of times that they were asked to take a read.
    pub(crate) tries: Arc<AtomicUsize>,
    script: Rc<RefCell<Script>>,
    appender: Appender,
}

impl World {
    /// A world with one listener.
    pub(crate) fn new(limits: Limits, wires: impl FnOnce(&Arc<Limits>) -> Arc<dyn Listen>) -> Self {
        let limits = Arc::new(limits);
        let (net, script) = ScriptNet::new();
        let (post, mailbox) = mailbox(Box::new(NeverAsleep));
        let (engine, appender) = Memory::open(MemoryOptions::seeded(7), &limits, Arc::new(ToWorker(post.clone())));
        let engine: Arc<dyn Engine> = engine;
        engine.tails()[0].set_readers(1);
        let (reads, is_shut, tries) = (Arc::default(), Arc::default(), Arc::default());
        let desk = Desk {
            engine: Arc::clone(&engine),
            reads: Arc::clone(&reads),
            is_shut: Arc::clone(&is_shut),
            tries: Arc::clone(&tries),
        };
        let (rules, metrics) = (Arc::new(Rules::default()), Arc::new(WorkerMetrics::default()));
        let life = NodeLife { node: "turn".into(), boot: 1 };
        let hub = Hub::new(everywire_hub::Setup {
            tails: engine.tails().to_vec(),
            lineages: vec![engine.lineage(Partition(0))],
            rooms: Arc::default(),
            retained: Arc::new(RetainedHint::default()),
            limits: Arc::clone(&limits),
            rules: Arc::clone(&rules),
            worker: 0,
            life: life.clone(),
            random: Arc::new(|| 4),
        });
        let listener = Listener {
            socket: Some(0),
            local: SocketAddr::from((Ipv4Addr::LOCALHOST, 1024)),
            wires: wires(&limits),
            tls: None,
        };
        let setup = Setup {
            number: 0,
            net,
            tails: engine.tails().to_vec(),
            ports: Box::new(desk),
            mailbox,
            posts: vec![post.clone()],
            metrics: vec![Arc::clone(&metrics)],
            listeners: vec![listener],
            limits,
            rules,
            life,
            most_connections: MOST_CONNECTIONS,
            lab: Arc::default(),
            notices: Arc::default(),
            crowd: Arc::default(),
            trim: || {},
            proxies: ["10.0.0.0/8".parse().expect("a range")].into(),
        };
        let worker = Worker::new(setup, hub).expect("a scripted network can be watched");
        Self { worker, metrics, post, engine, reads, is_shut, tries, script, appender }
    }

    pub(crate) fn script(&self) -> RefMut<'_, Script> {
        self.script.borrow_mut()
    }

    pub(crate) fn see(&self) -> Ref<'_, Script> {
        self.script.borrow()
    }

    /// Connects a client, which is accepted.
    pub(crate) fn client(&mut self) -> usize {
        let client = self.script().connect();
        self.worker.turn();
        client
    }

    /// Does some turns, each with a commit of the appends, and with answers to the reads.
    pub(crate) fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            self.worker.turn();
            self.appender.turn();
            let reads = std::mem::take(&mut *self.reads.lock().unwrap_or_else(PoisonError::into_inner));
            for read in reads {
                self.answer(read);
            }
        }
    }

    /// Answers a read of records by their offsets; all other reads fail.
    fn answer(&self, read: Read) {
        let Read { reply_to, partition, kind, .. } = read;
        let (records, failed) = match kind {
            ReadKind::Records(offsets) => {
                (self.engine.archive(partition).get(&offsets).expect("it is in memory"), false)
            }
            _ => (Vec::new(), true),
        };
        let upto = self.engine.tails()[0].head();
        let _ = self.post.send(Mail::Page(Page { reply_to, partition, records, upto, next: None, lost: None, failed }));
    }

    /// The topics and bodies of all messages in the log.
    pub(crate) fn messages(&self) -> Vec<(String, String)> {
        let (tail, mut messages) = (&self.engine.tails()[0], Vec::new());
        tail.read(Offset::BEGINNING, tail.head(), |record| {
            let message = record.message().filter(|message| !message.topic.is_reserved());
            messages.extend(message.map(|message| {
                (message.topic.as_str().to_owned(), String::from_utf8_lossy(&message.body).into_owned())
            }));
            true
        });
        messages
    }

    /// Lets time pass, in which the worker does nothing.
    pub(crate) fn pass(&self, time: Duration) {
        self.script().pass(time);
    }
}
