//! A worker over the scripted network, with a log that the test commits by hand.

use std::cell::{Ref, RefCell, RefMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everywire_base::ask::{Append, Authenticate, Call, Outcome, Page, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Offset, Partition};
use everywire_base::id::{Nameplate, Slot};
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

/// How many connections there are files for.
pub(crate) const MOST_CONNECTIONS: u64 = 50;

struct NeverAsleep;

impl Wake for NeverAsleep {
    fn wake(&self) {}
}

/// Takes outcomes to the worker.
struct ToWorker(Post<usize>);

impl Bell for ToWorker {
    fn head_moved(&self) {}

    fn outcomes(&self, _: u16, outcomes: Vec<Outcome>) {
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
}

impl Ports for Desk {
    fn submit(&self, appends: &mut Vec<Append>) {
        self.engine.submit(appends);
    }

    fn read(&self, read: Read, _: IpAddr) -> Result<(), Read> {
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

/// The worker and what stands around it.
pub(crate) struct World {
    pub(crate) worker: Worker<ScriptNet>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) post: Post<usize>,
    engine: Arc<dyn Engine>,
    reads: Arc<Mutex<Vec<Read>>>,
    script: Rc<RefCell<Script>>,
    appender: Appender,
}

impl World {
    /// With one listener.
    pub(crate) fn new(limits: Limits, wires: impl FnOnce(&Arc<Limits>) -> Arc<dyn Listen>) -> Self {
        let limits = Arc::new(limits);
        let (net, script) = ScriptNet::new();
        let (post, mailbox) = mailbox(Box::new(NeverAsleep));
        let (engine, appender) = Memory::open(MemoryOptions::seeded(7), &limits, Arc::new(ToWorker(post.clone())));
        let engine: Arc<dyn Engine> = engine;
        engine.tails()[0].set_readers(1);
        let reads = Arc::default();
        let (rules, metrics) = (Arc::new(Rules::default()), Arc::new(WorkerMetrics::default()));
        let plate = Nameplate { node: "turn".into(), boot: 1 };
        let hub = Hub::new(everywire_hub::Setup {
            tails: engine.tails().to_vec(),
            lineages: vec![engine.lineage(Partition(0))],
            retained: Arc::new(RetainedHint::default()),
            limits: Arc::clone(&limits),
            rules: Arc::clone(&rules),
            worker: 0,
            plate: plate.clone(),
            draw: Arc::new(|| 4),
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
            ports: Box::new(Desk { engine: Arc::clone(&engine), reads: Arc::clone(&reads) }),
            mailbox,
            posts: vec![post.clone()],
            metrics: vec![Arc::clone(&metrics)],
            listeners: vec![listener],
            limits,
            rules,
            plate,
            most_connections: MOST_CONNECTIONS,
            lab: Arc::default(),
            notices: Arc::default(),
            proxies: ["10.0.0.0/8".parse().expect("a range")].into(),
        };
        let worker = Worker::new(setup, hub).expect("a scripted network can be watched");
        Self { worker, metrics, post, engine, reads, script, appender }
    }

    pub(crate) fn script(&self) -> RefMut<'_, Script> {
        self.script.borrow_mut()
    }

    pub(crate) fn see(&self) -> Ref<'_, Script> {
        self.script.borrow()
    }

    /// A client that is accepted.
    pub(crate) fn client(&mut self) -> usize {
        let client = self.script().connect();
        self.worker.turn();
        client
    }

    /// Some turns, each with a commit of what was submitted, and with what was read of it.
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

    /// Records of the log by their offsets; what else is read can't be.
    fn answer(&self, read: Read) {
        let Read { ticket, partition, kind, .. } = read;
        let (records, failed) = match kind {
            ReadKind::Records(offsets) => {
                (self.engine.archive(partition).get(&offsets).expect("it is in memory"), false)
            }
            _ => (Vec::new(), true),
        };
        let upto = self.engine.tails()[0].head();
        let _ = self.post.send(Mail::Page(Page { ticket, partition, records, upto, next: None, lost: None, failed }));
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

    /// Time passes, in which the worker does nothing.
    pub(crate) fn pass(&self, time: Duration) {
        self.script().pass(time);
    }
}
