//! A log in memory with a store on it, and time in the test's hands.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its part, and fails as it likes"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use everywire_base::ask::{Interest, Page, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Lineage, Offset, Partition};
use everywire_base::id::ReplyTo;
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Entry, Message, Record, System};
use everywire_base::rules::Rules;
use everywire_base::topic::{Filter, Topic};
use everywire_log::engine::{Archive, ArchiveError};
use everywire_log::tail::TailWriter;
use everywire_store::tables::{Batch, Table, Tables, TablesError, Take};
use everywire_store::{Applier, MemoryTables, Parts, Store};

/// The kept records.
#[derive(Default)]
pub struct Kept {
    pub records: Mutex<Vec<Arc<Record>>>,
    pub scans: AtomicU64,
    /// The first and the last offset that can't be read.
    pub damaged: Mutex<Option<(u64, u64)>>,
    /// See [`Archive::lacks`].
    pub lacks: Mutex<Option<(Offset, Offset)>>,
}

impl Kept {
    fn check(&self, offsets: impl IntoIterator<Item = u64>) -> Result<(), ArchiveError> {
        let Some((first, last)) = *self.damaged.lock().unwrap() else { return Ok(()) };
        let is_hit = offsets.into_iter().any(|offset| (first..=last).contains(&offset));
        let damaged = || {
            let (offset, up_to) = (Offset(first - 1), Offset(last));
            Err(ArchiveError::Damaged { offset, up_to, what: "a batch".into() })
        };
        if is_hit { damaged() } else { Ok(()) }
    }
}

impl Archive for Kept {
    fn get(&self, offsets: &[Offset]) -> Result<Vec<Arc<Record>>, ArchiveError> {
        self.check(offsets.iter().map(|offset| offset.0))?;
        let records = self.records.lock().unwrap();
        let find =
            |offset: &Offset| records.binary_search_by_key(offset, |r| r.offset).ok().map(|at| records[at].clone());
        Ok(offsets.iter().filter_map(find).collect())
    }

    fn scan(&self, after: Offset, up_to: Offset, _: usize) -> Result<(Vec<Arc<Record>>, Offset), ArchiveError> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        // The scan gives few records at a time, so that pages and replays are cut often.
        let records = self.records.lock().unwrap();
        let mut found: Vec<_> =
            records.iter().filter(|r| r.offset > after && r.offset <= up_to).take(7).cloned().collect();
        let damage = self.damaged.lock().unwrap().map(|damage| damage.0).filter(|first| *first > after.next().0);
        if let Some(first) = damage.filter(|first| found.iter().any(|r| r.offset.0 >= *first)) {
            found.retain(|r| r.offset.0 < first);
            return Ok((found, Offset(first - 1)));
        }
        self.check(found.iter().map(|r| r.offset.0))?;
        let reached = if found.len() < 7 { up_to } else { found[6].offset };
        Ok((found, reached))
    }

    fn last(&self) -> Offset {
        self.records.lock().unwrap().last().map_or(Offset(0), |r| r.offset)
    }

    fn clean(&self, applied: Offset, is_wanted: &mut dyn FnMut(&Record) -> bool) -> Result<u64, ArchiveError> {
        let mut records = self.records.lock().unwrap().clone();
        let before = records.len();
        self.check(records.iter().map(|r| r.offset.0))?;
        records.retain(|r| r.offset > applied || is_wanted(r));
        let freed = (before - records.len()) as u64;
        *self.records.lock().unwrap() = records;
        Ok(freed)
    }

    /// Counts a record as one byte.
    fn relieve(&self, bytes: u64, applied: Offset) -> Offset {
        let records = self.records.lock().unwrap();
        let below = records.iter().take_while(|record| record.offset <= applied);
        below.take(bytes as usize).last().map_or(Offset(0), |record| record.offset)
    }

    fn is_whole(&self) -> bool {
        false
    }

    fn lacks(&self) -> Option<(Offset, Offset)> {
        *self.lacks.lock().unwrap()
    }

    fn bytes(&self) -> u64 {
        self.records.lock().unwrap().len() as u64
    }
}

/// Tables in memory that can forget the writes since the last sync.
#[derive(Clone, Default)]
pub struct Forgetful(Arc<(Mutex<MemoryTables>, Mutex<MemoryTables>)>);

impl Forgetful {
    pub fn forget(&self) {
        *self.0.0.lock().unwrap() = self.0.1.lock().unwrap().clone();
    }

    fn tables(&self) -> MemoryTables {
        self.0.0.lock().unwrap().clone()
    }
}

impl Tables for Forgetful {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        self.0.0.lock().unwrap().get(table, key)
    }
    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, take: &mut Take<'_>) -> Result<(), TablesError> {
        self.tables().scan(table, from, to, take)
    }
    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], take: &mut Take<'_>) -> Result<(), TablesError> {
        self.tables().scan_back(table, from, to, take)
    }
    fn write(&self, batch: Batch) -> Result<(), TablesError> {
        self.0.0.lock().unwrap().write(batch)
    }
    fn sync(&self) -> Result<(), TablesError> {
        *self.0.1.lock().unwrap() = self.tables();
        Ok(())
    }
    fn reopen(&self) -> Result<(), TablesError> {
        self.forget();
        Ok(())
    }
    fn clear(&self) -> Result<(), TablesError> {
        self.0.0.lock().unwrap().clear()
    }
    fn bytes(&self) -> u64 {
        0
    }
}

/// Makes the tables anew at each start.
pub type Open = Box<dyn Fn() -> Box<dyn Tables>>;

pub struct World {
    pub open: Open,
    pub kept: Arc<Kept>,
    pub writer: TailWriter,
    pub store: Store,
    pub applier: Option<Applier>,
    pub rules: Arc<Rules>,
    pub now: UnixMillis,
    pub last: u64,
    pub lineage: Arc<Mutex<Lineage>>,
}

/// All that a filter has above a position, without recalled messages.
pub fn history(after: u64, max_records: usize, max_bytes: usize) -> ReadKind {
    let (after, up_to) = (Offset(after), Offset(u64::MAX));
    ReadKind::History { after, up_to, max_records, max_bytes, with_recalled: false }
}

pub fn limits() -> Limits {
    Limits { tail_records: 512, ..Limits::default() }
}

pub fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

pub fn message(name: &str, body: &str) -> Message {
    Message::new(topic(name), body.as_bytes().to_vec())
}

fn start(
    tables: Box<dyn Tables>,
    kept: &Arc<Kept>,
    writer: &TailWriter,
    rules: &Arc<Rules>,
    lineage: &Arc<Mutex<Lineage>>,
) -> (Store, Applier) {
    let lineage = Arc::clone(lineage);
    Store::open(Parts {
        tables,
        archive: kept.clone(),
        tail: writer.tail().clone(),
        partition: Partition(0),
        lineage: Arc::new(move || Arc::new(lineage.lock().unwrap().clone())),
        rules: rules.clone(),
    })
    .unwrap()
}

impl World {
    pub fn new(open: Open, rules: Rules) -> Self {
        let (kept, writer) = (Arc::new(Kept::default()), TailWriter::new(Offset(0), &limits()));
        let lineage = Arc::new(Mutex::new(Lineage { epoch: Epoch(7), ..Lineage::default() }));
        let rules = Arc::new(rules);
        let (store, applier) = start(open(), &kept, &writer, &rules, &lineage);
        let now = UnixMillis(1_000_000_000);
        Self { open, kept, writer, store, applier: Some(applier), rules, now, last: 0, lineage }
    }

    pub fn in_memory(rules: Rules) -> Self {
        let tables = Forgetful::default();
        Self::new(Box::new(move || Box::new(tables.clone())), rules)
    }

    pub fn append(&mut self, entry: impl Into<Entry>, durability: Durability) -> Offset {
        self.last += 1;
        let record = Arc::new(Record {
            partition: Partition(0),
            offset: Offset(self.last),
            time: self.now,
            durability,
            content: entry.into().into(),
        });
        if durability != Durability::None {
            self.kept.records.lock().unwrap().push(record.clone());
        }
        self.writer.push(vec![record]);
        Offset(self.last)
    }

    /// Publishes a message, and applies it.
    pub fn publish(&mut self, name: &str, body: &str) -> Offset {
        let offset = self.append(message(name, body), Durability::Fsync);
        self.settle();
        offset
    }

    /// Turns until no record waits.
    pub fn settle(&mut self) {
        loop {
            let progress = self.applier.as_mut().unwrap().turn(self.now);
            assert!(progress.error.is_none(), "{progress:?}");
            if !progress.more {
                break;
            }
        }
    }

    pub fn pass(&mut self, millis: u64) {
        self.now = UnixMillis(self.now.0 + millis);
        self.settle();
    }

    /// Starts again; without closing, as after `kill -9`, offsets go on further up.
    pub fn restart(&mut self, close: bool) {
        let applier = self.applier.take().unwrap();
        if close {
            applier.close().unwrap();
        } else {
            drop(applier);
            self.last += 10;
        }
        self.reopen();
    }

    pub fn reopen(&mut self) {
        self.applier = None;
        self.store = start(Box::new(MemoryTables::default()), &self.kept, &self.writer, &self.rules, &self.lineage).0;
        self.writer = TailWriter::new(self.kept.last(), &limits());
        let (store, applier) = start((self.open)(), &self.kept, &self.writer, &self.rules, &self.lineage);
        (self.store, self.applier) = (store, Some(applier));
        self.settle();
    }

    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = Arc::new(rules);
        self.store.set_rules(self.rules.clone());
    }

    pub fn page(&self, interests: &[(&str, u64)], after: u64, max_records: usize, max_bytes: usize) -> Page {
        self.read(interests, history(after, max_records, max_bytes))
    }

    pub fn read(&self, interests: &[(&str, u64)], kind: ReadKind) -> Page {
        let interests =
            interests.iter().map(|(f, s)| Interest { filter: Filter::parse(f).unwrap(), since: Offset(*s) }).collect();
        let (reply_to, partition, applied) = (ReplyTo::Nobody, Partition(0), Offset::BEGINNING);
        self.store.read(&Read { reply_to, partition, interests, applied, kind }, self.now)
    }

    /// All pages above `after`: the offsets, and the highest loss.
    pub fn all(&self, interests: &[(&str, u64)], after: u64, max_records: usize) -> (Vec<u64>, u64) {
        let (mut offsets, mut lost, mut at) = (Vec::new(), 0, after);
        loop {
            let page = self.page(interests, at, max_records, 1 << 20);
            assert!(!page.failed && page.upto <= self.store.applied().max(Offset(after)));
            assert!(page.records.len() <= max_records);
            offsets.extend(page.records.iter().map(|r| r.offset.0));
            lost = lost.max(page.lost.map_or(0, |l| l.up_to.0));
            if page.upto.0 <= at {
                return (offsets, lost);
            }
            at = page.upto.0;
        }
    }

    pub fn retained(&self, filters: &[&str]) -> Vec<u64> {
        let interests: Vec<_> = filters.iter().map(|f| (*f, 0)).collect();
        self.read(&interests, ReadKind::Retained { after: None, max_records: usize::MAX })
            .records
            .iter()
            .map(|r| r.offset.0)
            .collect()
    }
}

/// A retained entry: a message, or a record of the server's own with a generation.
pub fn retained(name: &str, generation: u64, body: &str) -> Entry {
    let (topic, body) = (topic(name), body.to_owned());
    if topic.is_internal() {
        return System { generation, ..System::new(topic, body, true) }.into();
    }
    Message { retain: true, ..Message::new(topic, body) }.into()
}
