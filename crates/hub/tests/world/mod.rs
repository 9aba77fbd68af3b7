//! A world around a hub: a log, a store and peers, all in memory and in the test's hands.
//!
//! The peers check the delivery rule at each delivery against the plainest reference there is: the list of all
//! records, the filters with their `since`, and one position for each partition.

#![allow(dead_code, reason = "each test file uses its own part of the world")]
#![allow(clippy::unwrap_used, reason = "a test that finds nothing shall fail")]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use everywire_base::ask::{Lost, Page, Read, ReadKind, Subscribe, Subscribed};
use everywire_base::clock::{Monotonic, Now, UnixMillis};
use everywire_base::cursor::{Cursor, Epoch, Lineage, Offset, Partition, Start};
use everywire_base::id::{AskId, Slot};
use everywire_base::limits::Limits;
use everywire_base::parcel::{Delivery, Format, Parcel, Taken};
use everywire_base::reason::Reason;
use everywire_base::record::{Durability, Entry, Message, Record};
use everywire_base::rules::{Rules, TopicRule};
use everywire_base::topic::{Filter, Topic};
use everywire_hub::{Deliver, Hub, Setup};
use everywire_log::hint::RetainedHint;
use everywire_log::tail::TailWriter;

pub(crate) const ORIGIN: everywire_hub::Origin = everywire_hub::Origin {
    wire: "test",
    address: std::net::SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 1)),
};

pub(crate) const EPOCH: Epoch = Epoch(7);

pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

pub(crate) fn filter(name: &str) -> Filter {
    Filter::parse(name).unwrap()
}

pub(crate) fn slot(index: u32) -> Slot {
    Slot { index, generation: 0 }
}

pub(crate) fn at(offset: u64) -> Start {
    Start::After(Cursor::single(EPOCH, Offset(offset)))
}

/// The properties of a world that a test can choose.
pub(crate) struct Shape {
    pub(crate) partitions: usize,
    pub(crate) limits: Limits,
    pub(crate) lineage: Lineage,
    pub(crate) rules: Vec<TopicRule>,
    pub(crate) last: u64,
}

impl Default for Shape {
    fn default() -> Self {
        let lineage = Lineage { epoch: EPOCH, ..Lineage::default() };
        Self { partitions: 1, limits: Limits::default(), lineage, rules: Vec::new(), last: 0 }
    }
}

pub(crate) fn rule(name: &str, durability: Durability) -> TopicRule {
    TopicRule { filter: filter(name), durability, ..TopicRule::fallback() }
}

/// A hub and all that is around it.
pub(crate) struct World {
    pub(crate) hub: Hub,
    pub(crate) outside: Outside,
    pub(crate) writers: Vec<TailWriter>,
    pub(crate) hint: Arc<RetainedHint>,
    pub(crate) limits: Arc<Limits>,
}

/// The parts that the hub doesn't own: the log, the store, the peers.
pub(crate) struct Outside {
    pub(crate) now: Now,
    /// All records, for each partition.
    pub(crate) records: Vec<Vec<Arc<Record>>>,
    /// The offset that the store has come to, for each partition.
    pub(crate) applied: Vec<Offset>,
    /// The highest trimmed offset of each topic, for each partition.
    pub(crate) floors: Vec<BTreeMap<Topic, Offset>>,
    pub(crate) retained: HashMap<Topic, Arc<Record>>,
    /// The offsets of recalled messages.
    pub(crate) recalled: Vec<Offset>,
    pub(crate) peers: HashMap<Slot, Peer>,
    /// The last read of each connection that still counts.
    pub(crate) asked: HashMap<Slot, AskId>,
    /// The number of messages that were taken.
    pub(crate) messages: u64,
    /// The cursors of retained messages.
    pub(crate) cursors: Vec<Cursor>,
    /// The events, for tests that look at them.
    pub(crate) seen: Vec<String>,
    pub(crate) settled: Vec<Slot>,
    pub(crate) ended: Vec<(Slot, Reason)>,
}

/// A connection as the reference sees it.
pub(crate) struct Peer {
    pub(crate) filters: Vec<(Filter, Vec<Offset>)>,
    pub(crate) position: Vec<Offset>,
    /// Trimmed records up to here may be missing: a gap was said, or reading began at the earliest kept.
    pub(crate) excused: Vec<Offset>,
    /// The partitions of which no page has come yet after "earliest".
    pub(crate) opening: Vec<bool>,
    /// A gap must come before any message.
    pub(crate) owed: bool,
    /// The number of deliveries that still fit.
    pub(crate) room: usize,
    pub(crate) full: bool,
}

impl World {
    pub(crate) fn new(shape: Shape) -> Self {
        let limits = Arc::new(shape.limits);
        let writers: Vec<_> = (0..shape.partitions).map(|_| TailWriter::new(Offset(shape.last), &limits)).collect();
        let hint = Arc::new(RetainedHint::default());
        let lineage = Arc::new(shape.lineage);
        let hub = Hub::new(Setup {
            tails: writers.iter().map(|w| Arc::clone(w.tail())).collect(),
            lineages: writers.iter().map(|_| Arc::clone(&lineage)).collect(),
            rooms: Arc::default(),
            retained: Arc::clone(&hint),
            limits: Arc::clone(&limits),
            rules: Arc::new(Rules::new(shape.rules)),
            worker: 3,
            life: everywire_base::id::NodeLife::default(),
            random: Arc::new(|| 4),
        });
        let outside = Outside {
            now: Now { monotonic: Monotonic(1000), wall: UnixMillis(1000) },
            records: vec![Vec::new(); shape.partitions],
            applied: vec![Offset(shape.last); shape.partitions],
            floors: vec![BTreeMap::new(); shape.partitions],
            retained: HashMap::new(),
            recalled: Vec::new(),
            peers: HashMap::new(),
            asked: HashMap::new(),
            messages: 0,
            cursors: Vec::new(),
            seen: Vec::new(),
            settled: Vec::new(),
            ended: Vec::new(),
        };
        Self { hub, outside, writers, hint, limits }
    }

    pub(crate) fn head(&self, partition: usize) -> Offset {
        self.writers[partition].tail().head()
    }

    pub(crate) fn publish(&mut self, name: &str) -> Offset {
        self.publish_message(0, 1, Message::new(topic(name), "x"))
    }

    /// Appends a message, `step` above the head.
    pub(crate) fn publish_message(&mut self, partition: usize, step: u64, entry: impl Into<Entry>) -> Offset {
        let offset = Offset(self.head(partition).0 + step);
        let record = Arc::new(Record {
            partition: Partition(partition as u16),
            offset,
            time: self.outside.now.wall,
            durability: Durability::Fsync,
            content: entry.into().into(),
        });
        self.outside.records[partition].push(Arc::clone(&record));
        self.writers[partition].push(vec![record]);
        offset
    }

    /// Lets the store apply all that there is.
    pub(crate) fn apply(&mut self) {
        for (partition, writer) in self.writers.iter().enumerate() {
            self.outside.applied[partition] = writer.tail().head();
            writer.tail().set_applied(writer.tail().head());
        }
    }

    /// Trims a topic up to an offset.
    pub(crate) fn trim(&mut self, partition: usize, topic: &Topic, up_to: Offset) {
        let of_topic = |r: &&Arc<Record>| r.offset <= up_to && r.entry().unwrap().topic() == topic;
        if let Some(last) = self.outside.records[partition].iter().filter(of_topic).map(|r| r.offset).max() {
            let floor = self.outside.floors[partition].entry(topic.clone()).or_default();
            *floor = last.max(*floor);
        }
    }

    pub(crate) fn subscribe(&mut self, slot: Slot, filters: &[&str], start: Start) -> Subscribed {
        let filters = filters.iter().map(|f| filter(f));
        self.ask(slot, Subscribe { start, ..Subscribe::to(filters) })
    }

    pub(crate) fn ask(&mut self, slot: Slot, subscribe: Subscribe) -> Subscribed {
        let before = self.check_position(slot);
        let mut subscribe = subscribe;
        let subscribed = self.hub.subscribe(slot, &subscribe, self.outside.now);
        subscribe.filters.retain(|f| !subscribed.refused.iter().any(|(refused, _)| refused == f));
        if subscribe.filters.is_empty() {
            return subscribed;
        }
        self.outside.asked.remove(&slot);
        let partitions = self.writers.len();
        let peer = self.outside.peers.entry(slot).or_insert_with(|| Peer::new(partitions));
        let (starts, unknown) = match &subscribe.start {
            Start::Earliest => (vec![Offset(0); partitions], true),
            Start::After(cursor) => {
                let known =
                    |p: usize| cursor.position(Partition(p as u16)).is_none_or(|o| o <= self.writers[p].tail().head());
                let unknown = cursor.epoch != EPOCH || !(0..partitions).all(known);
                peer.owed |= unknown;
                let answered = |p| subscribed.cursor.position(Partition(p as u16)).unwrap();
                let start = |p: usize| cursor.position(Partition(p as u16)).unwrap_or_else(|| answered(p));
                ((0..partitions).map(|p| if unknown { answered(p) } else { start(p) }).collect(), unknown)
            }
            Start::Latest => {
                ((0..partitions).map(|p| subscribed.cursor.position(Partition(p as u16)).unwrap()).collect(), false)
            }
        };
        let fresh = peer.filters.is_empty();
        for (filter, sinces) in &mut peer.filters {
            let again = subscribe.filters.contains(filter) && subscribe.start != Start::Latest;
            for (p, since) in sinces.iter_mut().enumerate() {
                *since = if again { starts[p] } else { (*since).max(before[p]) };
            }
        }
        for filter in &subscribe.filters {
            if !peer.filters.iter().any(|(f, _)| f == filter) {
                peer.filters.push((filter.clone(), starts.clone()));
            }
        }
        for (p, start) in starts.iter().enumerate() {
            peer.position[p] = if fresh { *start } else { before[p].min(*start) };
            peer.opening[p] |= unknown;
            peer.excused[p] = peer.excused[p].min(*start);
        }
        self.check_position(slot);
        subscribed
    }

    pub(crate) fn unsubscribe(&mut self, slot: Slot) {
        self.check_position(slot);
        self.hub.unsubscribe(slot);
        self.outside.peers.remove(&slot);
    }

    pub(crate) fn close(&mut self, slot: Slot) {
        self.hub.close(slot, ORIGIN, self.outside.now);
        self.outside.peers.remove(&slot);
    }

    pub(crate) fn turn(&mut self) -> bool {
        self.hub.turn(self.outside.now, &mut self.outside)
    }

    /// Hands a page of the store's to the hub.
    pub(crate) fn page(&mut self, page: &Page) {
        let partition = usize::from(page.partition.0);
        let Some((slot, _)) = page.reply_to.connection() else {
            return self.hub.page(page, self.outside.now, &mut self.outside);
        };
        let was_opening = self.outside.peers.get(&slot).is_some_and(|p| p.opening[partition]);
        self.outside.opened(page);
        let before = self.outside.messages;
        self.hub.page(page, self.outside.now, &mut self.outside);
        let Some(peer) = self.outside.peers.get_mut(&slot) else { return };
        // The hub looks again, if there was a gap before it.
        peer.opening[partition] |= was_opening && self.outside.messages == before;
    }

    /// Gives a peer room for this many deliveries.
    pub(crate) fn room(&mut self, slot: Slot, deliveries: usize) {
        if let Some(peer) = self.outside.peers.get_mut(&slot) {
            peer.room = deliveries;
            if std::mem::take(&mut peer.full) {
                self.hub.room(slot);
            }
        }
    }

    /// Turns and answers reads until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            let busy = self.turn();
            let reads: Vec<Read> = self.hub.reads().drain(..).collect();
            let had_reads = !reads.is_empty();
            for read in reads {
                let page = self.outside.read(&read);
                self.page(&page);
            }
            if !busy && !had_reads {
                return;
            }
        }
        panic!("the hub does not come to rest");
    }

    /// The position that the hub tells, after checking that nothing due lies behind it.
    pub(crate) fn check_position(&mut self, slot: Slot) -> Vec<Offset> {
        let position = self.hub.position(slot);
        let offsets: Vec<Offset> = position.cursor.positions().iter().map(|p| p.1).collect();
        if let Some(peer) = self.outside.peers.get(&slot).filter(|p| !p.filters.is_empty() && !p.owed) {
            for (p, offset) in offsets.iter().enumerate() {
                let due = self.outside.due(peer, p, *offset);
                assert!(due.is_none(), "{slot:?} stands at {offset} in {p} but was not sent {due:?}");
                assert!(peer.position[p] <= *offset, "{slot:?} went back in {p} from {} to {offset}", peer.position[p]);
            }
            if let Some(peer) = self.outside.peers.get_mut(&slot) {
                peer.position.clone_from(&offsets);
            }
        }
        offsets
    }
}

impl Peer {
    fn new(partitions: usize) -> Self {
        Self {
            filters: Vec::new(),
            position: vec![Offset(0); partitions],
            excused: vec![Offset(0); partitions],
            opening: vec![false; partitions],
            owed: false,
            room: usize::MAX,
            full: false,
        }
    }

    fn wants(&self, partition: usize, record: &Record) -> bool {
        let topic = record.entry().unwrap().topic();
        self.filters.iter().any(|(f, sinces)| sinces[partition] < record.offset && f.matches(topic))
    }
}

impl Outside {
    fn is_trimmed(&self, partition: usize, record: &Record) -> bool {
        let floor = self.floors[partition].get(record.entry().unwrap().topic());
        floor.is_some_and(|floor| record.offset <= *floor)
    }

    /// The first record up to an offset that a peer should have been sent before now.
    fn due(&self, peer: &Peer, partition: usize, up_to: Offset) -> Option<Offset> {
        let records = &self.records[partition];
        let from = records.partition_point(|r| r.offset <= peer.position[partition]);
        let due = |r: &&Arc<Record>| {
            let excused = r.offset <= peer.excused[partition] && self.is_trimmed(partition, r);
            let expired = r.entry().unwrap().is_expired(self.now.wall);
            peer.wants(partition, r) && !excused && !expired && !self.recalled.contains(&r.offset)
        };
        records[from..].iter().take_while(|r| r.offset <= up_to).find(due).map(|r| r.offset)
    }

    /// The highest floor of the topics that a peer reads: all that a page can know to be lost.
    fn floor_of(&self, peer: &Peer, partition: usize) -> Offset {
        let matching = |t: &Topic| peer.filters.iter().any(|(f, _)| f.matches(t));
        self.floors[partition].iter().filter(|(t, _)| matching(t)).map(|(_, o)| *o).max().unwrap_or_default()
    }

    /// Reads a page as a store does.
    pub(crate) fn read(&mut self, read: &Read) -> Page {
        self.asked.extend(read.reply_to.connection());
        let partition = usize::from(read.partition.0);
        let mut page = Page {
            reply_to: read.reply_to,
            partition: read.partition,
            records: Vec::new(),
            upto: Offset(0),
            next: None,
            lost: None,
            failed: false,
        };
        let ReadKind::History { after, up_to, max_records, .. } = read.kind else {
            let matching = |r: &&Arc<Record>| {
                r.partition == read.partition
                    && read.interests.iter().any(|i| i.filter.matches(r.entry().unwrap().topic()))
            };
            page.records = self.retained.values().filter(matching).cloned().collect();
            page.records.sort_by_key(|r| r.offset);
            return page;
        };
        let up_to = up_to.min(self.applied[partition]).max(after);
        let wanted = |r: &&Arc<Record>| {
            let topic = r.entry().unwrap().topic();
            read.interests.iter().any(|i| i.since < r.offset && i.filter.matches(topic))
                && !self.is_trimmed(partition, r)
                && !r.entry().unwrap().is_expired(self.now.wall)
        };
        let window = self.records[partition].iter().filter(|r| r.offset > after && r.offset <= up_to);
        page.records = window.filter(wanted).take(max_records).cloned().collect();
        let full = page.records.len() == max_records;
        page.upto = page.records.last().filter(|_| full).map_or(up_to, |r| r.offset);
        let lost = self.floors[partition].iter().filter(|(topic, floor)| {
            read.interests.iter().any(|i| i.filter.matches(topic) && **floor > i.since.max(after))
        });
        page.lost = lost.max_by_key(|l| l.1).map(|(t, o)| Lost { topic: t.as_str().into(), up_to: *o });
        page
    }

    /// Notes that a page is about to reach the hub: records that it found missing lie before "the earliest kept".
    fn opened(&mut self, page: &Page) {
        // Else the hub has changed its mind, and will ignore it.
        let is_wanted = |(slot, ask): &(Slot, AskId)| self.asked.get(slot) == Some(ask);
        let Some((slot, _)) = page.reply_to.connection().filter(is_wanted) else { return };
        let partition = usize::from(page.partition.0);
        let Some(peer) = self.peers.get(&slot).filter(|p| p.opening[partition] && !page.failed) else { return };
        let floor = self.floor_of(peer, partition);
        if let Some(peer) = self.peers.get_mut(&slot) {
            peer.opening[partition] = false;
            peer.excused[partition] = peer.excused[partition].max(floor);
        }
    }

    /// Checks that a message that expires says the time that it still lives, as of now.
    fn check_rendition(&self, parcel: &Parcel) {
        let now = self.now.wall.0.to_string();
        let made = parcel.rendition(Format::bare("now"), |_, out| out.extend(now.as_bytes()));
        assert!(parcel.message().expires.is_none() || *made == *now.as_bytes(), "a remaining time of long ago");
    }

    fn take_message(&mut self, slot: Slot, record: &Record) {
        let peer = &self.peers[&slot];
        let partition = usize::from(record.partition.0);
        assert!(!peer.owed, "{slot:?} got a message before the gap that it is owed");
        assert!(record.offset > peer.position[partition], "{slot:?} got {} twice or late", record.offset);
        assert!(peer.wants(partition, record), "{slot:?} got {} which it didn't want", record.offset);
        let due = self.due(peer, partition, Offset(record.offset.0 - 1));
        assert!(due.is_none(), "{slot:?} got {} but not {due:?} before", record.offset);
        assert!(!self.recalled.contains(&record.offset), "{slot:?} got {} which was recalled", record.offset);
        self.peers.get_mut(&slot).unwrap().position[partition] = record.offset;
    }

    fn take_gap(&mut self, slot: Slot, earliest: &Cursor) {
        let peer = &self.peers[&slot];
        let partitions = self.records.len();
        let mut is_needed = peer.owed;
        let mut excused = peer.excused.clone();
        for (p, excused) in excused.iter_mut().enumerate() {
            let from = peer.position[p];
            let lost = |r: &&Arc<Record>| r.offset > from && peer.wants(p, r) && self.is_trimmed(p, r);
            is_needed |= self.records[p].iter().any(|r| lost(&r));
            *excused = (*excused).max(self.floor_of(peer, p));
        }
        assert!(is_needed, "{slot:?} was told of a gap that there is not");
        let peer = self.peers.get_mut(&slot).unwrap();
        (peer.owed, peer.excused) = (false, excused);
        for p in 0..partitions {
            let earliest = earliest.position(Partition(p as u16)).unwrap();
            let due = self.due(&self.peers[&slot], p, earliest);
            assert!(due.is_none(), "{slot:?} goes on at {earliest}, but {due:?} is still there");
            let peer = self.peers.get_mut(&slot).unwrap();
            peer.position[p] = peer.position[p].max(earliest);
        }
    }
}

impl Deliver for Outside {
    fn deliver(&mut self, slot: Slot, delivery: &Delivery<'_>) -> Taken {
        let peer = self.peers.get_mut(&slot).unwrap_or_else(|| panic!("{slot:?} is gone, but got {delivery:?}"));
        assert!(!peer.full, "{slot:?} was offered something before it had room");
        if peer.room == 0 {
            peer.full = true;
            return Taken::Full;
        }
        peer.room -= 1;
        let index = slot.index;
        match delivery {
            Delivery::Message(parcel, _) => {
                self.messages += 1;
                self.check_rendition(parcel);
                self.take_message(slot, parcel.record());
                self.seen.push(format!("{index}:{}", parcel.record().offset));
            }
            Delivery::Signal(_) | Delivery::Conversation(_) => {}
            Delivery::Release(_) => panic!("nothing is acknowledged by tags"),
            Delivery::Retained(parcel, _) => {
                self.check_rendition(parcel);
                self.cursors.push(parcel.cursor());
                self.seen.push(format!("{index}:retained {}", parcel.record().offset));
            }
            Delivery::Gap(gap) => {
                self.take_gap(slot, &gap.earliest);
                let after = gap.after.map_or("?".into(), |a| a.to_string());
                self.seen.push(format!("{index}:gap {} {after}->{}", gap.topic, gap.earliest));
            }
        }
        Taken::Yes
    }

    fn settled(&mut self, slot: Slot) {
        self.settled.push(slot);
    }

    fn end(&mut self, slot: Slot, reason: Reason) {
        self.ended.push((slot, reason));
    }
}
