//! Two workers of one node over one log, and clients that take everything.
#![allow(dead_code, unused_imports, reason = "each test uses what it needs")]
#![allow(clippy::unnecessary_wraps, reason = "identities stand where anonymous ones could")]

pub(crate) mod group;

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use everywire_base::ask::{
    Ack, AckError, Answer, Append, Login, Lost, Outcome, Page, PublishError, Published, Read, ReadKind, SessionWish,
    Subscribe, Subscribed, Unsubscribe, Welcome,
};
use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_base::cursor::{Cursor, Epoch, Lineage, Offset, Partition};
use everywire_base::id::{AskId, NodeLife, ReplyTo, Slot};
use everywire_base::identity::Identity;
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::quota::{Account, Quota};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Entry, Message, Once, Record, System};
use everywire_base::registry::{Fate, TraceQuestion};
use everywire_base::roster::{Life, Roster};
use everywire_base::rules::{Logins, Refusal, Rules};
use everywire_base::signal::Said;
use everywire_base::system::{self, Kick, NodeChange, Seen, Whom};
use everywire_base::terms::RetainHandling;
use everywire_base::topic::{Filter, Topic};
use everywire_hub::{Deliver, Hub, Origin, Setup};
use everywire_log::hint::RetainedHint;
use everywire_log::tail::TailWriter;

pub(crate) const EPOCH: Epoch = Epoch(7);
pub(crate) const ORIGIN: Origin =
    Origin { wire: "test", address: SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1) };

/// Two workers of one node, and all around them.
pub(crate) struct World {
    pub(crate) hubs: Vec<Hub>,
    pub(crate) clients: Vec<Clients>,
    pub(crate) writer: TailWriter,
    pub(crate) records: Vec<Arc<Record>>,
    pub(crate) retained: BTreeMap<Topic, Arc<Record>>,
    /// The generations of the removed retained messages.
    removed: BTreeMap<Topic, u64>,
    /// The offset up to which the store has applied the log.
    pub(crate) applied: Offset,
    /// Whether the test says when the store applies and answers.
    pub(crate) is_slow: bool,
    /// The last claim of each session.
    claims: BTreeMap<Topic, Offset>,
    pub(crate) now: Now,
    pub(crate) hint: Arc<RetainedHint>,
    /// Whether the log takes records.
    pub(crate) takes: bool,
    /// The loss that pages of history tell.
    pub(crate) lost: Option<Lost>,
    setup: Setup,
}

/// The values that reached the clients of one worker.
#[derive(Default)]
pub(crate) struct Clients {
    pub(crate) messages: HashMap<u32, Vec<String>>,
    pub(crate) ended: HashMap<u32, Reason>,
    pub(crate) welcomes: HashMap<(u32, u32), Result<Welcome, Refusal>>,
    pub(crate) subscribed: HashMap<(u32, u32), Subscribed>,
    /// The messages as they came, and the tags that were released.
    pub(crate) deliveries: HashMap<u32, Vec<Got>>,
    /// Connections that the hub has ended in this turn, and that are closed at its end.
    closing: Vec<Slot>,
    /// Whether they are closed later: the bytes on their sockets are read first.
    pub(crate) reads_on: bool,
    /// Whether their outboxes are full.
    pub(crate) is_full: bool,
    /// Signals.
    pub(crate) signals: HashMap<u32, Vec<Said>>,
    /// Other answers.
    pub(crate) said: Vec<(u32, u32, Answer)>,
}

/// A delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Got {
    /// A message: body, `QoS`, tag, whether again, whether retained, identifiers.
    Message(String, u8, u16, bool, bool, Vec<u32>),
    /// A tag is released.
    Release(u16),
}

impl Deliver for Clients {
    fn deliver(&mut self, slot: Slot, delivery: &Delivery<'_>) -> Taken {
        if self.is_full {
            return Taken::Full;
        }
        let got = match delivery {
            Delivery::Message(parcel, options) | Delivery::Retained(parcel, options) => {
                let body = String::from_utf8(parcel.message().body.to_vec()).unwrap();
                self.messages.entry(slot.index).or_default().push(body.clone());
                let tag = options.tag.map_or(0, std::num::NonZeroU16::get);
                Got::Message(body, options.qos, tag, options.dup, options.retain, options.identifiers.to_vec())
            }
            Delivery::Release(tag) => Got::Release(tag.get()),
            Delivery::Signal(signal) => {
                self.signals.entry(slot.index).or_default().push(signal.said().clone());
                return Taken::Yes;
            }
            Delivery::Gap(_) | Delivery::Conversation(_) => return Taken::Yes,
        };
        self.deliveries.entry(slot.index).or_default().push(got);
        Taken::Yes
    }
    fn settled(&mut self, _: Slot) {}
    fn end(&mut self, slot: Slot, reason: Reason) {
        self.ended.insert(slot.index, reason);
        self.closing.push(slot);
    }
}

pub(crate) fn slot(index: u32) -> Slot {
    Slot { index, generation: 0 }
}

pub(crate) fn user(name: &str) -> Option<Arc<Identity>> {
    Some(Arc::new(Identity::user(name)))
}

pub(crate) fn on(name: &str, device: &str) -> Option<Arc<Identity>> {
    Some(Arc::new(Identity { device: Some(device.into()), ..Identity::user(name) }))
}

pub(crate) const EXPIRY: Duration = Duration::from_hours(1);

impl World {
    pub(crate) fn new(rules: &Rules, limits: Limits) -> Self {
        let limits = Arc::new(limits);
        let writer = TailWriter::new(Offset(0), &limits);
        writer.tail().set_readers(2);
        let drawn = Arc::new(AtomicU64::new(0));
        let hint = Arc::new(RetainedHint::default());
        let setup = Setup {
            tails: vec![Arc::clone(writer.tail())],
            lineages: vec![Arc::new(Lineage { epoch: EPOCH, ..Lineage::default() })],
            rooms: Arc::default(),
            retained: Arc::clone(&hint),
            limits: Arc::clone(&limits),
            rules: Arc::new(rules.clone()),
            worker: 0,
            life: NodeLife { node: "n".into(), boot: 0 },
            random: Arc::new(move || u128::from(drawn.fetch_add(1, Ordering::Relaxed))),
        };
        let mut world = Self {
            hubs: Vec::new(),
            clients: Vec::new(),
            writer,
            records: Vec::new(),
            retained: BTreeMap::new(),
            removed: BTreeMap::new(),
            applied: Offset(0),
            is_slow: false,
            claims: BTreeMap::new(),
            now: Now { monotonic: Monotonic(1000), wall: UnixMillis(1_000_000) },
            hint,
            takes: true,
            lost: None,
            setup,
        };
        world.start();
        world
    }

    /// Lets the node die: nothing but the log is left.
    pub(crate) fn kill(&mut self) {
        self.hubs.clear();
        self.clients.clear();
    }

    /// Begins another life of the node.
    pub(crate) fn start(&mut self) {
        self.setup.life.boot += 1;
        let hub = |worker| Hub::new(Setup { worker, ..self.setup.clone() });
        self.hubs = vec![hub(0), hub(1)];
        self.clients = vec![Clients::default(), Clients::default()];
    }

    /// Makes the second worker one of another node, which shares the log.
    pub(crate) fn part(&mut self) {
        let life = NodeLife { node: "m".into(), boot: 9 };
        let mut roster = Roster::default();
        for (writer, life) in [(1, &self.setup.life), (2, &life)] {
            let (node, boot) = ((*life.node).into(), life.boot);
            roster.insert(writer, Life { node, boot, floor: Offset(0), beat: Offset(0), ..Life::default() });
        }
        self.hubs[1] = Hub::new(Setup { worker: 1, life, ..self.setup.clone() });
        self.setup.rooms.set_roster(roster.clone());
        self.hubs.iter_mut().for_each(|hub| hub.set_roster(roster.clone()));
    }

    /// Appends a change of the second node to the log.
    pub(crate) fn say(&mut self, change: &NodeChange) {
        self.append(system::record(system::node_topic("m").unwrap(), change, false), Durability::None);
        self.settle();
    }

    /// Takes the node down in order: it ends all these connections, and hears no more of the log.
    pub(crate) fn stop(&mut self, all: &[(usize, u32)]) {
        self.hubs.iter_mut().for_each(Hub::drain);
        for (worker, index) in all {
            self.hubs[*worker].close(slot(*index), ORIGIN, self.now);
        }
        for worker in 0..self.hubs.len() {
            self.pass_appends(worker);
        }
        self.kill();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.monotonic = self.now.monotonic + time;
        self.now.wall.0 += time.as_millis() as u64;
        self.settle();
    }

    pub(crate) fn append(&mut self, entry: impl Into<Entry>, durability: Durability) -> Offset {
        let offset = self.writer.tail().head().next();
        let content = entry.into().into();
        let record = Arc::new(Record { partition: Partition(0), offset, time: self.now.wall, durability, content });
        if let Some(own) = record.system().filter(|own| own.topic.as_str().starts_with(system::SESSIONS) && !own.retain)
        {
            self.claims.insert(own.topic.clone(), offset);
        }
        self.setup.rooms.take(&record);
        self.records.push(Arc::clone(&record));
        self.writer.push(vec![record]);
        if !self.is_slow {
            self.apply();
        }
        offset
    }

    /// Whether the log refuses what a session publishes once, since another connection has claimed it.
    pub(crate) fn is_fenced(&self, entry: &Entry) -> bool {
        let claimed = |once: &Once| self.claims.get(&once.session).is_some_and(|at| once.generation < at.0);
        let once = entry.message().and_then(|message| message.once.as_deref());
        once.is_some_and(|once| once.generation > 0 && claimed(once))
    }

    /// Lets the store apply all records.
    pub(crate) fn apply(&mut self) {
        let from = self.records.partition_point(|record| record.offset <= self.applied);
        for record in self.records.split_off(from) {
            let entry = record.entry().unwrap();
            if let Some(once) = entry.message().and_then(|message| message.once.as_ref()) {
                let mark = system::once_topic(&once.session, once.tag).unwrap();
                let content = System::new(mark.clone(), "mark", true).into();
                self.retain(&mark, 0, &Arc::new(Record { content, ..Record::clone(&record) }));
            }
            if entry.is_retained() {
                self.retain(entry.topic(), generation_of(&record), &record);
            }
            self.applied = record.offset;
            self.records.push(record);
        }
        self.writer.tail().set_applied(self.applied);
    }

    fn retain(&mut self, topic: &Topic, generation: u64, record: &Arc<Record>) {
        let found = self.retained.get(topic).map_or(0, |record| generation_of(record));
        if generation < found.max(self.removed.get(topic).copied().unwrap_or_default()) && topic.is_internal() {
            return;
        }
        if record.entry().unwrap().body().is_empty() {
            self.removed.insert(topic.clone(), generation);
            if self.retained.remove(topic).is_some() {
                self.hint.remove(topic);
            }
        } else if self.retained.insert(topic.clone(), Arc::clone(record)).is_none() {
            self.hint.add(topic);
        }
    }

    pub(crate) fn publish(&mut self, topic: &str, body: &str) -> Offset {
        let offset =
            self.append(Message::new(Topic::parse(topic).unwrap(), body.as_bytes().to_vec()), Durability::Fsync);
        self.settle();
        offset
    }

    /// Goes on until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..1000 {
            let mut busy = false;
            for worker in 0..self.hubs.len() {
                busy |= self.turn(worker);
            }
            if !busy {
                return;
            }
        }
        panic!("the hubs do not come to rest");
    }

    pub(crate) fn turn(&mut self, worker: usize) -> bool {
        let had_reads = self.step(worker);
        let (now, appends) = (self.now, std::mem::take(self.hubs[worker].appends()));
        let busy = had_reads || !appends.is_empty();
        for append in appends {
            if self.takes {
                let durability = append.draft.durability;
                let offset = self.append(append.draft.entry, durability);
                let (epoch, partition, time) = (EPOCH, Partition(0), now.wall);
                let published = Published { epoch, partition, offset, time, durability, duplicate: false };
                self.hubs[worker].appended(append.reply_to, &Ok(published), now);
            } else {
                self.hubs[worker].appended(append.reply_to, &Err(PublishError::DiskFull), now);
            }
        }
        busy
    }

    /// Lets the log answer a connection's message.
    pub(crate) fn answer_publish(&mut self, worker: usize, reply_to: ReplyTo, refused: Option<PublishError>) {
        let (epoch, partition, offset, time) = (EPOCH, Partition(0), self.writer.tail().head(), self.now.wall);
        let published = Published { epoch, partition, offset, time, durability: Durability::Fsync, duplicate: false };
        let result = refused.map_or(Ok(published), Err);
        self.hubs[worker].published(&Outcome { reply_to, result }, self.now);
    }

    /// Takes the hub's appends into the log; nobody hears of them yet.
    pub(crate) fn pass_appends(&mut self, worker: usize) {
        for append in std::mem::take(self.hubs[worker].appends()) {
            self.append(append.draft.entry, append.draft.durability);
        }
    }

    /// Does a turn whose appends are not in the log yet.
    pub(crate) fn step(&mut self, worker: usize) -> bool {
        let (now, hub, clients) = (self.now, &mut self.hubs[worker], &mut self.clients[worker]);
        let busy = hub.turn(now, clients);
        self.setup.tails[0].has_read(worker, hub.marks()[0]);
        while let Some((slot, ask, said)) = hub.answers().pop_front() {
            match said {
                Answer::Welcomed(welcome) => drop(clients.welcomes.insert((slot.index, ask.0), welcome)),
                Answer::Subscribed(subscribed) => drop(clients.subscribed.insert((slot.index, ask.0), subscribed)),
                other => clients.said.push((slot.index, ask.0, other)),
            }
        }
        for slot in std::mem::take(&mut clients.closing) {
            if !clients.reads_on {
                hub.close(slot, ORIGIN, now);
            }
        }
        if self.is_slow {
            return busy;
        }
        let mut had_reads = false;
        while let Some(read) = self.hubs[worker].reads().pop_front() {
            self.answer(worker, &read);
            had_reads = true;
        }
        busy || had_reads
    }

    /// Answers a read of the store.
    pub(crate) fn answer(&mut self, worker: usize, read: &Read) {
        let now = self.now;
        let takes = |r: &Record| read.interests.iter().any(|i| i.filter.matches(r.entry().unwrap().topic()));
        let alive = |r: &&Arc<Record>| takes(r) && !r.entry().unwrap().is_expired(now.wall);
        let (records, upto) = match &read.kind {
            ReadKind::Retained { .. } => (self.retained.values().filter(alive).cloned().collect(), self.applied),
            ReadKind::History { after, up_to, max_records, .. } => {
                let within = |r: &&Arc<Record>| r.offset > *after && r.offset <= *up_to && alive(r);
                let page: Vec<_> = self.records.iter().filter(within).take(*max_records).cloned().collect();
                let last = page.last().filter(|_| page.len() == *max_records).map_or(*up_to, |record| record.offset);
                (page, last)
            }
            ReadKind::Backwards { .. } => unreachable!("no hub reads backwards"),
            ReadKind::Records(offsets) => {
                let meant = |r: &&Arc<Record>| offsets.contains(&r.offset);
                (self.records.iter().filter(meant).cloned().collect(), Offset(0))
            }
        };
        let (reply_to, partition) = (read.reply_to, read.partition);
        let failed = self.applied < read.applied;
        let page = Page { reply_to, partition, records, upto, next: None, lost: self.lost.clone(), failed };
        self.hubs[worker].page(&page, now, &mut self.clients[worker]);
    }

    pub(crate) fn login(&mut self, worker: usize, index: u32, identity: Option<Arc<Identity>>, session: SessionWish) {
        let login = Login { identity, agent: Some("test/1".into()), inbox: true, session, ..Login::default() };
        self.hubs[worker].login(slot(index), AskId(1), login, self.now);
        self.settle();
    }

    pub(crate) fn welcome(
        &mut self,
        worker: usize,
        index: u32,
        identity: Option<Arc<Identity>>,
        session: SessionWish,
    ) -> Welcome {
        self.login(worker, index, identity, session);
        self.clients[worker].welcomes.remove(&(index, 1)).expect("a welcome").unwrap()
    }

    pub(crate) fn subscribe(&mut self, worker: usize, index: u32, filter: &str) -> Subscribed {
        let filters = [Filter::parse(filter).unwrap()];
        let subscribe = Subscribe { retained: RetainHandling::Always, ..Subscribe::to(filters) };
        self.hubs[worker].subscribe_for(slot(index), AskId(2), &subscribe, self.now);
        self.settle();
        self.clients[worker].subscribed.remove(&(index, 2)).expect("an answer")
    }

    pub(crate) fn got(&mut self, worker: usize, index: u32) -> Vec<String> {
        self.clients[worker].messages.remove(&index).unwrap_or_default()
    }

    pub(crate) fn ack(&mut self, worker: usize, index: u32, offset: Offset) -> Result<(), AckError> {
        let done =
            self.hubs[worker].acknowledge(slot(index), AskId(0), &Ack::UpTo(Cursor::single(EPOCH, offset)), self.now);
        self.settle();
        done
    }

    pub(crate) fn close(&mut self, worker: usize, index: u32) {
        self.hubs[worker].close(slot(index), ORIGIN, self.now);
        self.settle();
    }

    pub(crate) fn kick(&mut self, whom: Whom) {
        let kick = Kick { whom, reason: "enough".into() };
        self.append(system::record(Topic::parse(system::KICK).unwrap(), &kick, false), Durability::None);
        self.settle();
    }

    pub(crate) fn resume(id: &str) -> SessionWish {
        SessionWish::Resume { id: id.into(), expiry: EXPIRY }
    }
}

pub(crate) fn world() -> World {
    World::new(&Rules::default(), Limits::default())
}

pub(crate) const NEW: SessionWish = SessionWish::New { expiry: EXPIRY };

/// A session that the client has named, which acknowledges one by one.
pub(crate) fn named(id: &str, expiry: Duration, fresh: bool, window: u16) -> SessionWish {
    SessionWish::Named { id: id.into(), expiry, fresh, window }
}

impl World {
    /// An anonymous client with a session of its own name.
    pub(crate) fn enter(&mut self, worker: usize, index: u32, session: SessionWish) -> Welcome {
        self.welcome(worker, index, None, session)
    }

    pub(crate) fn subscribe_on(&mut self, worker: usize, index: u32, subscribe: &Subscribe) -> Subscribed {
        self.hubs[worker].subscribe_for(slot(index), AskId(2), subscribe, self.now);
        self.settle();
        self.clients[worker].subscribed.remove(&(index, 2)).expect("an answer")
    }

    pub(crate) fn publish_at(&mut self, topic: &str, body: &str, qos: u8) -> Offset {
        let message = Message { qos, ..Message::new(Topic::parse(topic).unwrap(), body.as_bytes().to_vec()) };
        let offset = self.append(message, Durability::Fsync);
        self.settle();
        offset
    }

    pub(crate) fn tell(&mut self, worker: usize, index: u32, ack: &Ack) -> Result<(), AckError> {
        let done = self.hubs[worker].acknowledge(slot(index), AskId(3), ack, self.now);
        self.settle();
        done
    }

    /// The deliveries that have come to a client since it was last asked.
    pub(crate) fn came(&mut self, worker: usize, index: u32) -> Vec<Got> {
        self.clients[worker].messages.remove(&index);
        self.clients[worker].deliveries.remove(&index).unwrap_or_default()
    }

    /// Bodies and tags of what has come.
    pub(crate) fn tagged(&mut self, worker: usize, index: u32) -> Vec<(String, u16)> {
        let message = |got| match got {
            Got::Message(body, _, tag, ..) => Some((body, tag)),
            Got::Release(_) => None,
        };
        self.came(worker, index).into_iter().filter_map(message).collect()
    }
}

/// The generation of a record of the server's own.
fn generation_of(record: &Record) -> u64 {
    record.system().map_or(0, |system| system.generation)
}
