//! The state of one topic: the offsets of its kept messages, their number, and its losses.
//!
//! The oldest entries stand in sealed chunks in the index, the newest in one open chunk in the state itself. A sealed
//! chunk is never changed: its entries up to `floor` are gone. So a topic with few messages is one small value, and one
//! with many costs a write every [`SEAL`] messages.

use std::sync::Arc;

use everywire_base::clock::UnixMillis;
use everywire_base::rules::History;

use crate::chunk::{Chunk, Entry, read_varint, write_varint};
use crate::tables::{Batch, Table, Tables, TablesError};

/// The number of entries at which an open chunk is sealed.
pub(crate) const SEAL: u32 = 128;

/// The state of a topic.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TopicState {
    /// Its number, under which its sealed chunks stand. Never given twice.
    pub(crate) id: u64,
    /// Its last message, kept or not.
    pub(crate) head: u64,
    /// The number of messages that are kept.
    pub(crate) count: u64,
    /// The number of bytes of their bodies.
    pub(crate) bytes: u64,
    /// The offset up to which nothing is kept.
    pub(crate) floor: u64,
    /// The highest offset that was lost to a reader; a message that had expired before its removal was not lost.
    pub(crate) trimmed: u64,
    /// The first message that is kept, or 0.
    pub(crate) oldest: u64,
    /// Its retained message, or 0.
    pub(crate) retained: u64,
    /// Sealed chunks in the index.
    tabled: u64,
    /// Sealed chunks that the next checkpoint puts into the index.
    pending: Vec<Arc<Chunk>>,
    /// The rest of the oldest sealed chunk, once an entry was removed from it.
    front: Option<Box<Chunk>>,
    open: Chunk,
    /// Chunks of the index that the next checkpoint removes.
    dead: Vec<u64>,
}

impl TopicState {
    /// A topic that has no state yet, or whose state was forgotten: its messages up to `forgotten` may be lost.
    pub(crate) fn new(id: u64, forgotten: u64) -> Self {
        Self { id, floor: forgotten, trimmed: forgotten, ..Self::default() }
    }

    /// Adds a message that is kept.
    pub(crate) fn push(&mut self, entry: Entry) {
        if self.open.count() >= SEAL {
            self.pending.push(Arc::new(std::mem::take(&mut self.open)));
        }
        self.open.push(entry);
        self.head = entry.offset;
        self.count += 1;
        self.bytes += entry.bytes;
        if self.oldest == 0 {
            self.oldest = entry.offset;
        }
    }

    /// Notes a message that is not kept.
    pub(crate) fn pass(&mut self, offset: u64) {
        self.head = offset;
        self.trimmed = self.trimmed.max(offset);
    }

    /// Whether more is kept than the history allows.
    pub(crate) fn exceeds(&self, history: &History) -> bool {
        self.count > history.max_messages || self.bytes > history.max_bytes
    }

    /// Removes messages beyond the bounds or at or below the age's floor. Returns whether a message was lost by that.
    pub(crate) fn trim(
        &mut self,
        history: &History,
        age_floor: u64,
        now: UnixMillis,
        tables: &dyn Tables,
    ) -> Result<bool, TablesError> {
        let before = self.trimmed;
        while self.count > 0 && (self.exceeds(history) || self.oldest <= age_floor) {
            let entry = self.pop(tables)?;
            if !entry.is_expired(now) {
                self.trimmed = self.trimmed.max(entry.offset);
            }
        }
        Ok(self.trimmed > before)
    }

    fn pop(&mut self, tables: &dyn Tables) -> Result<Entry, TablesError> {
        let entry = if self.is_sealed() { self.pop_sealed(tables)? } else { self.open.pop() };
        let entry = entry.ok_or_else(|| self.damaged())?;
        self.floor = entry.offset;
        self.count -= 1;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        let next = if self.is_sealed() { self.front(tables)?.first() } else { self.open.first() };
        self.oldest = next.map_or(0, |entry| entry.offset);
        Ok(entry)
    }

    fn is_sealed(&self) -> bool {
        self.tabled > 0 || !self.pending.is_empty()
    }

    fn pop_sealed(&mut self, tables: &dyn Tables) -> Result<Option<Entry>, TablesError> {
        let front = self.front(tables)?;
        let entry = front.pop();
        let (empty, last) = (front.is_empty(), front.last());
        if empty {
            self.front = None;
            if self.tabled > 0 {
                self.tabled -= 1;
                self.dead.push(last);
            } else {
                self.pending.remove(0);
            }
        }
        Ok(entry)
    }

    fn front(&mut self, tables: &dyn Tables) -> Result<&mut Chunk, TablesError> {
        if self.front.is_none() {
            let mut chunk = match self.pending.first() {
                Some(chunk) if self.tabled == 0 => Chunk::clone(chunk),
                _ => self.first_tabled(tables)?,
            };
            chunk.skip(self.floor);
            self.front = Some(Box::new(chunk));
        }
        Ok(self.front.as_mut().expect("just put there"))
    }

    fn first_tabled(&self, tables: &dyn Tables) -> Result<Chunk, TablesError> {
        let mut chunk = None;
        let from = index_key(self.id, self.floor + 1);
        tables.scan(Table::Index, &from, Some(&index_key(self.id, u64::MAX)), &mut |_, value| {
            chunk = Chunk::decode(value);
            false
        })?;
        chunk.ok_or_else(|| self.damaged())
    }

    fn damaged(&self) -> TablesError {
        TablesError::Damaged(format!("a chunk of topic {} above {} is missing", self.id, self.floor))
    }

    /// Hands over the kept entries above `after`, in order, until `take` says no.
    pub(crate) fn entries(
        &self,
        tables: &dyn Tables,
        after: u64,
        take: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), TablesError> {
        let mut at = after.max(self.floor);
        let mut more = true;
        let mut from_chunk = |chunk: &Chunk| {
            for entry in chunk.entries() {
                if more && entry.offset > at {
                    at = entry.offset;
                    more = take(entry);
                }
            }
            more
        };
        let first_here = self.pending.first().unwrap_or(&Arc::default()).first().or(self.open.first());
        if self.tabled > 0 && first_here.is_none_or(|entry| entry.offset > after) {
            let (from, to) = (index_key(self.id, after.max(self.floor) + 1), index_key(self.id, u64::MAX));
            let mut is_whole = true;
            tables.scan(Table::Index, &from, Some(&to), &mut |_, value| {
                let chunk = Chunk::decode(value);
                is_whole = chunk.is_some();
                chunk.is_some_and(|chunk| from_chunk(&chunk))
            })?;
            if !is_whole {
                return Err(self.damaged());
            }
        }
        for chunk in self.pending.iter().map(|chunk| &**chunk).chain([&self.open]) {
            if !from_chunk(chunk) {
                break;
            }
        }
        Ok(())
    }

    /// Hands over the kept entries below `before`, from the last to the first, until `take` says no.
    pub(crate) fn entries_back(
        &self,
        tables: &dyn Tables,
        before: u64,
        take: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), TablesError> {
        let mut more = true;
        let mut from_chunk = |chunk: &Chunk| {
            let within: Vec<Entry> = chunk.entries().filter(|e| e.offset > self.floor && e.offset < before).collect();
            more = more && within.into_iter().rev().all(&mut *take);
            more
        };
        let here = [&self.open].into_iter().chain(self.pending.iter().rev().map(|chunk| &**chunk));
        if !here.into_iter().all(&mut from_chunk) || self.tabled == 0 {
            return Ok(());
        }
        let mut is_whole = true;
        let mut from_value = |value: &[u8]| {
            let chunk = Chunk::decode(value);
            is_whole &= chunk.is_some();
            chunk.is_some_and(|chunk| from_chunk(&chunk))
        };
        // The chunk in which `before` lies has its key above it.
        let (from, middle) = (index_key(self.id, self.floor + 1), index_key(self.id, before.max(self.floor + 1)));
        let mut goes_on = true;
        tables.scan(Table::Index, &middle, Some(&index_key(self.id, u64::MAX)), &mut |_, value| {
            goes_on = from_value(value);
            false
        })?;
        if goes_on {
            tables.scan_back(Table::Index, &from, &middle, &mut |_, value| from_value(value))?;
        }
        if is_whole { Ok(()) } else { Err(self.damaged()) }
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        let pending: usize = self.pending.iter().map(|chunk| chunk.memory() + size_of::<Chunk>()).sum();
        self.open.memory() + pending + self.front.as_ref().map_or(0, |chunk| chunk.memory() + size_of::<Chunk>())
    }

    /// Adds the changes of this topic to the checkpoint.
    pub(crate) fn store(&self, name: &[u8], batch: &mut Batch) {
        for chunk in &self.pending {
            let mut value = Vec::new();
            chunk.encode(&mut value);
            batch.set(Table::Index, &index_key(self.id, chunk.last()), value);
        }
        for last in &self.dead {
            batch.remove(Table::Index, &index_key(self.id, *last));
        }
        batch.set(Table::Topics, name, self.encode());
    }

    /// Notes that the checkpoint has been written.
    pub(crate) fn stored(&mut self) {
        self.tabled += self.pending.len() as u64;
        self.pending = Vec::new();
        self.dead = Vec::new();
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(48 + self.open.memory());
        let tabled = self.tabled + self.pending.len() as u64;
        for number in
            [self.id, self.head, self.count, self.bytes, self.floor, self.trimmed, self.oldest, self.retained, tabled]
        {
            write_varint(&mut out, number);
        }
        self.open.encode(&mut out);
        out
    }

    /// Decodes the state that a checkpoint wrote.
    pub(crate) fn decode(name: &[u8], mut bytes: &[u8]) -> Result<Self, TablesError> {
        let damaged = || TablesError::Damaged(format!("the state of topic {}", String::from_utf8_lossy(name)));
        let mut number = || read_varint(&mut bytes).ok_or_else(damaged);
        let (id, head, count, kept, floor) = (number()?, number()?, number()?, number()?, number()?);
        let (trimmed, oldest, retained, tabled) = (number()?, number()?, number()?, number()?);
        let open = Chunk::decode(bytes).ok_or_else(damaged)?;
        Ok(Self { id, head, count, bytes: kept, floor, trimmed, oldest, retained, tabled, open, ..Self::default() })
    }
}

fn index_key(id: u64, offset: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&id.to_be_bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}
