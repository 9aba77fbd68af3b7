//! A simulated remote engine: the log of a few masters in memory, with faults.
//!
//! One master is present; each has its own copy of the log. A failover promotes a copy that lacks the end. Replies can
//! be lost, frames can come late, connections can be cut. Nothing here waits for anything but a record.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Epoch, Offset};
use everywire_base::record::Durability;

use crate::proposal::Proposal;
use crate::remote::{
    Batch, Blobs, Connect, EpochEntry, Genesis, Item, Life, LogState, Memory, Raw, Refusal, Remote, RemoteError, Window,
};

/// The least jump of offsets where an epoch begins.
const JUMP: u64 = 1 << 20;

/// A log elsewhere, as all who use it share it.
#[derive(Clone)]
pub struct SimEngine(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Signals that a record was appended.
    appended: Condvar,
}

/// A fault of a node's next append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The append is done, and the reply is lost.
    LostReply,
    /// The append isn't done, and no reply comes.
    LostFrame,
    /// The append is done later, at [`SimEngine::deliver_late`], and no reply comes.
    LateFrame,
    /// The append is refused because there is no room.
    Full,
}

struct State {
    masters: Vec<Master>,
    present: usize,
    runs: u64,
    promise: Durability,
    window: Window,
    memory: Option<Memory>,
    clock: Box<dyn Fn() -> UnixMillis + Send>,
    /// The nodes that can't reach it.
    cut: BTreeSet<u32>,
    faults: BTreeMap<u32, VecDeque<Fault>>,
    late: VecDeque<(Life, Vec<Bytes>)>,
    /// The number of the present connections; earlier ones are dead.
    connections: u64,
}

/// A copy of the log.
#[derive(Clone)]
struct Master {
    run: Arc<str>,
    genesis: Option<Genesis>,
    epochs: Vec<EpochEntry>,
    items: VecDeque<(Offset, Item)>,
    trimmed: Offset,
    head: Offset,
    blobs: BTreeMap<Box<str>, Blob>,
    /// The trimmed items, each with the head at that time: a copy that lacks the end still has them.
    gone: VecDeque<(Offset, Offset, Item)>,
}

/// A value beside the log, with the heads at which it was put and removed: a copy that lacks the end lacks these too.
#[derive(Clone)]
struct Blob {
    value: Bytes,
    put: Offset,
    removed: Option<Offset>,
}

impl Master {
    fn life(&self) -> Option<&Life> {
        self.epochs.last().map(|entry| &entry.life)
    }

    /// Opens an epoch, unless this run goes on in the one that it has opened. `named` is an epoch that a writer has
    /// read.
    fn settle(&mut self, named: Option<Epoch>) {
        let parent = self.epochs.last().cloned();
        let goes_on = parent.as_ref().is_some_and(|entry| entry.life.run == self.run);
        let is_known = named.is_none_or(|named| self.epochs.iter().any(|entry| entry.life.epoch == named));
        if goes_on && is_known {
            return;
        }
        let fork = self.head;
        let parent = parent.map(|entry| (entry.life.epoch, fork));
        let parent_epoch = parent.map_or(0, |parent| u64::from(parent.0.0));
        let text = self.run.bytes().fold(parent_epoch, |hash, byte| crate::mix(hash ^ u64::from(byte)));
        let hash = crate::mix(text ^ fork.0);
        let begin = match parent {
            Some(_) => Offset(fork.0 + JUMP * (1 + hash % 4096)),
            None => fork.next(),
        };
        let life = Life { epoch: crate::epoch_of(hash), run: Arc::clone(&self.run) };
        let entry = EpochEntry { life, parent, begin };
        self.head = begin;
        self.items.push_back((begin, Item::Epoch(entry.clone())));
        self.epochs.push(entry);
    }

    /// Undoes all changes that came above its head, also those beside the log.
    fn is_cut(&mut self) {
        let head = self.head;
        self.blobs.retain(|_, blob| blob.put <= head);
        self.blobs.values_mut().for_each(|blob| blob.removed = blob.removed.filter(|removed| *removed <= head));
        while let Some((_, offset, item)) = self.gone.pop_back_if(|(when, ..)| *when > head) {
            self.items.push_front((offset, item));
            self.trimmed = self.gone.back().map_or(Offset::BEGINNING, |(_, offset, _)| *offset);
        }
    }

    fn blob_names(&self) -> Vec<Box<str>> {
        self.blobs.iter().filter(|(_, blob)| blob.removed.is_none()).map(|(name, _)| name.clone()).collect()
    }

    fn append(&mut self, records: &[Bytes], time: UnixMillis) {
        for stored in records {
            self.head = self.head.next();
            let raw = Raw { offset: self.head, time, stored: stored.clone() };
            self.items.push_back((self.head, Item::Record(raw)));
        }
    }
}

impl SimEngine {
    /// An engine without a log yet.
    pub fn new() -> Self {
        let run: Arc<str> = "run-1".into();
        let (epochs, items) = (Vec::new(), VecDeque::new());
        let (trimmed, head) = (Offset::BEGINNING, Offset::BEGINNING);
        let state = State {
            masters: vec![Master {
                run,
                genesis: None,
                epochs,
                items,
                trimmed,
                head,
                blobs: BTreeMap::new(),
                gone: VecDeque::new(),
            }],
            present: 0,
            runs: 1,
            promise: Durability::Fsync,
            window: Window { is_trimmed: false, ..Window::default() },
            memory: None,
            clock: Box::new(|| UnixMillis(1_000_000)),
            cut: BTreeSet::new(),
            faults: BTreeMap::new(),
            late: VecDeque::new(),
            connections: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), appended: Condvar::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.0.appended.notify_all();
        result
    }

    /// A maker of connections of this node.
    pub fn of(&self, node: u32) -> SimConnect {
        SimConnect { engine: self.clone(), node }
    }

    /// Sets the promise that it gives from now on.
    pub fn set_promise(&self, promise: Durability) {
        self.change(|state| state.promise = promise);
    }

    /// Sets the window that it keeps from now on.
    pub fn set_window(&self, window: Window) {
        self.change(|state| state.window = window);
    }

    /// Sets the memory that it says to have from now on.
    pub fn set_memory(&self, memory: Option<Memory>) {
        self.change(|state| state.memory = memory);
    }

    /// Damages a value beside the log.
    pub fn damage_blob(&self, name: &str) {
        self.change(|state| {
            if let Some(blob) = state.master().blobs.get_mut(name) {
                blob.value = Bytes::from_static(b"damaged");
            }
        });
    }

    /// The names of the values beside the log.
    pub fn blob_names(&self) -> Vec<Box<str>> {
        self.lock().master().blob_names()
    }

    /// The offset up to which all is trimmed.
    pub fn trimmed(&self) -> Offset {
        self.lock().master().trimmed
    }

    /// Sets its clock.
    pub fn set_now(&self, now: UnixMillis) {
        self.follow(move || now);
    }

    /// Has its clock follow another one.
    pub fn follow(&self, clock: impl Fn() -> UnixMillis + Send + 'static) {
        self.change(|state| state.clock = Box::new(clock));
    }

    /// Sets whether a node is cut off from it.
    pub fn set_cut(&self, node: u32, is_cut: bool) {
        self.change(|state| if is_cut { state.cut.insert(node) } else { state.cut.remove(&node) });
    }

    /// Adds a fault for the next append of a node; several come one after the other.
    pub fn fault(&self, node: u32, fault: Fault) {
        self.change(|state| state.faults.entry(node).or_default().push_back(fault));
    }

    /// Delivers a late frame now, the oldest or the newest. Returns whether there was one.
    pub fn deliver_late(&self, newest: bool) -> bool {
        self.change(|state| {
            let frame = if newest { state.late.pop_back() } else { state.late.pop_front() };
            let Some((life, records)) = frame else { return false };
            drop(state.append(&life, &records));
            true
        })
    }

    /// Restarts the master, which has all that it had.
    pub fn restart(&self) {
        self.fail_over(0);
    }

    /// A copy that lacks this many last entries becomes the master. The former one stays for
    /// [`SimEngine::return_to`], by the number that is returned.
    pub fn fail_over(&self, lacking: usize) -> usize {
        self.change(|state| {
            state.runs += 1;
            let (mut copy, former) = (state.masters[state.present].clone(), state.present);
            copy.run = format!("run-{}", state.runs).into();
            for _ in 0..lacking {
                // The log's first entry is never lost: that would be another log.
                if copy.items.len() < 2 {
                    break;
                }
                if let Some((_, Item::Epoch(_))) = copy.items.pop_back() {
                    copy.epochs.pop();
                }
                copy.head = copy.items.back().map_or(copy.trimmed, |(offset, _)| *offset);
            }
            copy.is_cut();
            state.masters.push(copy);
            state.become_master(state.masters.len() - 1);
            former
        })
    }

    /// Makes a former master the present one again, with its own copy and its own run.
    pub fn return_to(&self, master: usize) {
        self.change(|state| state.become_master(master));
    }

    /// The bodies of all messages that the present master has, whether they count or not.
    pub fn bodies(&self) -> Vec<String> {
        let body = |item| match item {
            Item::Record(raw) => Proposal::decode(raw.stored).ok()?.entry.map(|entry| entry.body().clone()),
            Item::Epoch(_) => None,
        };
        self.items().into_iter().filter_map(body).map(|body| String::from_utf8_lossy(&body).into_owned()).collect()
    }

    /// The items of the present master: records and epochs.
    pub fn items(&self) -> Vec<Item> {
        let state = self.lock();
        state.masters[state.present].items.iter().map(|(_, item)| item.clone()).collect()
    }
}

impl Default for SimEngine {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    fn become_master(&mut self, master: usize) {
        self.present = master.min(self.masters.len() - 1);
        self.connections += 1;
    }

    fn master(&mut self) -> &mut Master {
        &mut self.masters[self.present]
    }

    fn append(&mut self, life: &Life, records: &[Bytes]) -> Result<Durability, RemoteError> {
        let (now, promise) = ((self.clock)(), self.promise);
        let master = self.master();
        if master.genesis.is_none() {
            return Err(RemoteError::Refused(Refusal::NoLog));
        }
        master.settle(Some(life.epoch));
        if master.life() != Some(life) {
            return Err(RemoteError::Refused(Refusal::Moved));
        }
        master.append(records, now);
        Ok(promise)
    }
}

/// Connects a node with a [`SimEngine`].
pub struct SimConnect {
    engine: SimEngine,
    node: u32,
}

impl Connect for SimConnect {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn connect(&self) -> Box<dyn Remote> {
        Box::new(SimRemote { engine: self.engine.clone(), node: self.node, connection: None })
    }

    fn window(&self) -> Window {
        self.engine.lock().window
    }
}

/// A connection of a node to a [`SimEngine`].
pub struct SimRemote {
    engine: SimEngine,
    node: u32,
    connection: Option<u64>,
}

impl SimRemote {
    /// The state, if the connection stands.
    fn reach(&mut self) -> Result<MutexGuard<'_, State>, RemoteError> {
        let state = self.engine.lock();
        if self.connection == Some(state.connections) && !state.cut.contains(&self.node) {
            return Ok(state);
        }
        self.connection = None;
        Err(RemoteError::Cut("the connection is cut".into()))
    }
}

impl Remote for SimRemote {
    fn open(&mut self, genesis: Option<&Genesis>) -> Result<LogState, RemoteError> {
        let mut state = self.engine.lock();
        if state.cut.contains(&self.node) {
            self.connection = None;
            return Err(RemoteError::Cut("nobody answers".into()));
        }
        self.connection = Some(state.connections);
        let master = state.master();
        master.genesis = master.genesis.or(genesis.copied());
        let Some(genesis) = master.genesis else { return Err(RemoteError::Refused(Refusal::NoLog)) };
        master.settle(None);
        let (epochs, trimmed, head) = (master.epochs.clone(), master.trimmed, master.head);
        drop(state);
        self.engine.0.appended.notify_all();
        Ok(LogState { genesis, epochs, trimmed, head })
    }

    fn append(&mut self, life: &Life, records: &[Bytes]) -> Result<Durability, RemoteError> {
        let node = self.node;
        let mut state = self.reach()?;
        let fault = state.faults.get_mut(&node).and_then(VecDeque::pop_front);
        let result = match fault {
            None => state.append(life, records),
            Some(Fault::Full) => Err(RemoteError::Refused(Refusal::Full("there is no room".into()))),
            Some(fault) => {
                match fault {
                    Fault::LostReply => drop(state.append(life, records)),
                    Fault::LateFrame => state.late.push_back((life.clone(), records.to_vec())),
                    Fault::LostFrame | Fault::Full => {}
                }
                Err(RemoteError::Unknown("the reply is lost".into()))
            }
        };
        drop(state);
        if matches!(result, Err(RemoteError::Unknown(_))) {
            self.connection = None;
        }
        self.engine.0.appended.notify_all();
        result
    }

    fn read(&mut self, after: Offset, max_bytes: usize, wait: Duration) -> Result<Batch, RemoteError> {
        if !wait.is_zero() {
            let shared = Arc::clone(&self.engine.0);
            let has_nothing = |state: &mut State| state.master().head <= after && !state.cut.contains(&self.node);
            let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
            drop(shared.appended.wait_timeout_while(state, wait, has_nothing));
        }
        let mut state = self.reach()?;
        let master = state.master();
        let Some(life) = master.life().cloned() else { return Err(RemoteError::Refused(Refusal::NoLog)) };
        if after < master.trimmed {
            return Err(RemoteError::Refused(Refusal::Trimmed(master.trimmed)));
        }
        let from = master.items.partition_point(|(offset, _)| *offset <= after);
        let (mut items, mut bytes, mut seen) = (Vec::new(), 0, after);
        for (offset, item) in master.items.range(from..) {
            items.push(item.clone());
            seen = *offset;
            bytes += if let Item::Record(raw) = item { raw.stored.len() } else { 0 };
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(Batch { items, seen, head: master.head, life })
    }

    fn trim(&mut self, below: Offset) -> Result<(), RemoteError> {
        let mut state = self.reach()?;
        let master = state.master();
        while let Some((offset, item)) = master.items.pop_front_if(|(offset, _)| *offset <= below) {
            master.trimmed = offset;
            master.gone.push_back((master.head, offset, item));
        }
        Ok(())
    }

    fn memory(&mut self) -> Result<Option<Memory>, RemoteError> {
        Ok(self.reach()?.memory)
    }

    fn blobs(&mut self) -> &mut dyn Blobs {
        self
    }
}

impl Blobs for SimRemote {
    fn put(&mut self, name: &str, value: Bytes) -> Result<(), RemoteError> {
        let mut state = self.reach()?;
        let master = state.master();
        let blob = Blob { value, put: master.head, removed: None };
        master.blobs.insert(name.into(), blob);
        Ok(())
    }

    fn get(&mut self, name: &str) -> Result<Option<Bytes>, RemoteError> {
        let mut state = self.reach()?;
        let blob = state.master().blobs.get(name).filter(|blob| blob.removed.is_none());
        Ok(blob.map(|blob| blob.value.clone()))
    }

    fn names(&mut self) -> Result<Vec<Box<str>>, RemoteError> {
        Ok(self.reach()?.master().blob_names())
    }

    fn remove(&mut self, name: &str) -> Result<(), RemoteError> {
        let mut state = self.reach()?;
        let master = state.master();
        let head = master.head;
        master.blobs.entry(name.into()).and_modify(|blob| blob.removed = Some(head));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::remote::{RemoteSubject, run};

    impl RemoteSubject for SimEngine {
        fn connect(&self) -> Box<dyn Remote> {
            self.of(0).connect()
        }

        fn restart(&self) {
            SimEngine::restart(self);
        }

        fn fences_lives(&self) -> bool {
            true
        }
    }

    #[test]
    fn the_simulated_engine_keeps_the_promises_of_a_remote_one() {
        run(&|| Box::new(SimEngine::new()));
    }

    #[test]
    fn two_masters_that_go_on_from_one_place_give_no_offset_twice() {
        let engine = SimEngine::new();
        let mut remote = engine.of(0).connect();
        let genesis = Genesis::new([1, 2, 3], &everywire_base::limits::Limits::default());
        let life = remote.open(Some(&genesis)).unwrap().life().unwrap().clone();
        remote.append(&life, &["a".into(), "b".into()]).unwrap();
        let former = engine.fail_over(1);
        let (mut epochs, mut begins) = (Vec::new(), Vec::new());
        for master in [None, Some(former), None] {
            match master {
                Some(master) => {
                    engine.return_to(master);
                    engine.fail_over(1);
                }
                None => engine.restart(),
            }
            let state = remote.open(None).unwrap();
            let entry = state.epochs.last().unwrap();
            assert!(!epochs.contains(&entry.life.epoch) && !begins.contains(&entry.begin), "{entry:?}");
            epochs.push(entry.life.epoch);
            begins.push(entry.begin);
        }
        // A master that gets an append for an epoch that it doesn't know doesn't have the log of its writers.
        let state = remote.open(None).unwrap();
        engine.return_to(former);
        remote.open(None).unwrap();
        let refused = remote.append(state.life().unwrap(), &["c".into()]);
        assert_eq!(refused, Err(RemoteError::Refused(Refusal::Moved)));
        let after = remote.open(None).unwrap();
        assert_ne!(after.life(), state.life());
        assert_eq!(after.epochs.last().unwrap().parent.map(|parent| parent.1), Some(Offset(3)));
    }
}
