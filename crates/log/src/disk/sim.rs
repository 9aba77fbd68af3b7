//! A disk in memory that fails on purpose: it loses and tears bytes that were not synced, is full, fails, and rots.
//!
//! Everything follows from the calls and the seeds, so that a run repeats. Sectors of 512 bytes are never torn: that is
//! the promise of disks. Changes of names that were not synced may be lost too, from some point on.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, LockError, Space};
use crate::mix;

const SECTOR: usize = 512;

/// A disk in memory; clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

/// An error that is injected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The n-th write from now (0 is the next) fails after some of its sectors were written; and all that follow it
    /// until [`SimDisk::heal`].
    Write(u64),
    /// The n-th sync from now fails, and all that follow.
    Sync(u64),
    /// All reads fail.
    Read,
}

#[derive(Default)]
struct State {
    files: HashMap<u64, File>,
    /// Names as the running system sees them, and as they are after a crash.
    names: BTreeMap<String, u64>,
    synced_names: BTreeMap<String, u64>,
    /// The changes of names since the last sync of the directory.
    steps: Vec<Step>,
    next_file: u64,
    capacity: Option<u64>,
    /// The number of open handles, and the most that may be open.
    handles: usize,
    most_handles: Option<usize>,
    fault: Option<Fault>,
    is_locked: bool,
    /// The number of crashes; handles and locks from before a crash are dead.
    life: u64,
    operations: u64,
}

/// A change of names. After a crash the first few of those that were not synced have happened, each wholly.
#[derive(Clone)]
enum Step {
    Make(String, u64),
    Move(String, String),
    Remove(String),
}

impl Step {
    fn take(self, names: &mut BTreeMap<String, u64>) -> bool {
        match self {
            Step::Make(name, file) => {
                names.insert(name, file);
                true
            }
            Step::Move(from, to) => names.remove(&from).map(|file| names.insert(to, file)).is_some(),
            Step::Remove(name) => names.remove(&name).is_some(),
        }
    }
}

#[derive(Default, Clone)]
struct File {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Sectors written since the last sync.
    dirty: Vec<usize>,
}

impl SimDisk {
    /// An empty disk without a bound.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the most bytes that all files take together from now on.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Sets how many more files may be open at the same time from now on.
    pub fn set_spare_handles(&self, more: Option<usize>) {
        let mut state = self.state();
        state.most_handles = more.map(|more| state.handles + more);
    }

    /// Injects an error.
    pub fn fail(&self, fault: Fault) {
        self.state().fault = Some(fault);
    }

    /// Ends the injected error.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// The number of writes and syncs so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Cuts the power: each sector that was not synced survives or is lost, as the seed says. Open handles and the lock
    /// are dead from now on.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        let mut dice = seed;
        let mut survives = || {
            dice = mix(dice);
            dice & 1 == 0
        };
        let state = &mut *state;
        let mut names = std::mem::take(&mut state.synced_names);
        let steps = mix(seed ^ 1) as usize % (state.steps.len() + 1);
        for step in state.steps.drain(..).take(steps) {
            step.take(&mut names);
        }
        // Numbers give the order, not the map, so that a seed repeats.
        for number in 0..state.next_file {
            if let Some(file) = state.files.get_mut(&number) {
                file.crash(&mut survives);
            }
        }
        state.files.retain(|number, _| names.values().any(|n| n == number));
        state.names.clone_from(&names);
        state.synced_names = names;
        state.is_locked = false;
        state.life += 1;
        state.fault = None;
    }

    /// Kills the process; the system lives: nothing is lost, but open handles and the lock are dead from now on.
    pub fn kill(&self) {
        let mut state = self.state();
        state.is_locked = false;
        state.life += 1;
        state.fault = None;
    }

    /// Flips one bit of a file, synced or not. Returns whether the file reaches that far.
    pub fn corrupt(&self, name: &str, at: u64, bit: u8) -> bool {
        let mut state = self.state();
        let Some(number) = state.names.get(name).copied() else { return false };
        let Some(file) = state.files.get_mut(&number) else { return false };
        for bytes in [&mut file.now, &mut file.synced] {
            match bytes.get_mut(at as usize) {
                Some(byte) => *byte ^= 1 << (bit & 7),
                None => return false,
            }
        }
        true
    }

    /// The length of a file, if there is one of that name.
    pub fn length(&self, name: &str) -> Option<u64> {
        let state = self.state();
        state.files.get(state.names.get(name)?).map(|f| f.now.len() as u64)
    }
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().filter_map(|n| self.files.get(n)).map(|f| f.now.len() as u64).sum()
    }

    /// Whether this write fails by injection.
    fn write_fails(&mut self) -> bool {
        match &mut self.fault {
            Some(Fault::Write(0)) => true,
            Some(Fault::Write(n)) => {
                *n -= 1;
                false
            }
            _ => false,
        }
    }

    fn sync_fails(&mut self) -> bool {
        match &mut self.fault {
            Some(Fault::Sync(0)) => true,
            Some(Fault::Sync(n)) => {
                *n -= 1;
                false
            }
            _ => false,
        }
    }

    fn take_handle(&mut self) -> io::Result<()> {
        if self.most_handles.is_some_and(|most| self.handles >= most) {
            return Err(rustix::io::Errno::MFILE.into());
        }
        self.handles += 1;
        Ok(())
    }

    fn make(&mut self, name: &str) -> u64 {
        let number = self.next_file;
        self.next_file += 1;
        self.files.insert(number, File::default());
        self.step(Step::Make(name.to_owned(), number));
        number
    }

    /// Takes a step; returns whether its file exists.
    fn step(&mut self, step: Step) -> bool {
        self.steps.push(step.clone());
        step.take(&mut self.names)
    }
}

impl File {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[at..end].copy_from_slice(bytes);
        let sectors = at / SECTOR..end.div_ceil(SECTOR);
        // Duplicates do no harm: long runs of clean sectors are common, long lists of dirty ones are not.
        self.dirty.extend(sectors);
    }

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.keep(sector);
        }
        self.synced.resize(self.now.len(), 0);
    }

    /// Makes a sector durable.
    fn keep(&mut self, sector: usize) {
        let (from, to) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.now.len()));
        if from < to {
            if self.synced.len() < to {
                self.synced.resize(to, 0);
            }
            self.synced[from..to].copy_from_slice(&self.now[from..to]);
        }
    }

    fn crash(&mut self, survives: &mut impl FnMut() -> bool) {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.sort_unstable();
        dirty.dedup();
        for sector in dirty {
            if survives() {
                self.keep(sector);
            }
        }
        if self.synced.len() != self.now.len() && survives() {
            self.synced.resize(self.now.len(), 0);
        }
        self.now.clone_from(&self.synced);
    }
}

fn error(kind: ErrorKind, what: &str) -> io::Error {
    io::Error::new(kind, what.to_owned())
}

fn no_such(name: &str) -> io::Error {
    error(ErrorKind::NotFound, &format!("no file {name}"))
}

impl Disk for SimDisk {
    fn place(&self) -> String {
        "the simulated disk".into()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let file = *state.names.get(name).ok_or_else(|| no_such(name))?;
        state.take_handle()?;
        Ok(Arc::new(Handle { disk: self.clone(), file, life: state.life }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.take_handle()?;
        let file = state.make(name);
        Ok(Arc::new(Handle { disk: self.clone(), file, life: state.life }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let existed = self.state().step(Step::Move(from.to_owned(), to.to_owned()));
        if existed { Ok(()) } else { Err(no_such(from)) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let existed = self.state().step(Step::Remove(name.to_owned()));
        if existed { Ok(()) } else { Err(no_such(name)) }
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operations += 1;
        if state.sync_fails() {
            return Err(error(ErrorKind::Other, "the sync failed by injection"));
        }
        state.steps.clear();
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn space(&self) -> io::Result<Space> {
        let state = self.state();
        let total = state.capacity.unwrap_or(1 << 40);
        Ok(Space { free: total.saturating_sub(state.used()), total })
    }

    fn lock(&self) -> Result<Box<dyn Send + Sync>, LockError> {
        let mut state = self.state();
        if state.is_locked {
            return Err(LockError::Held("of the simulation".into()));
        }
        state.is_locked = true;
        Ok(Box::new(Lock { disk: self.clone(), life: state.life }))
    }
}

struct Lock {
    disk: SimDisk,
    life: u64,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.is_locked = false;
        }
    }
}

struct Handle {
    disk: SimDisk,
    file: u64,
    life: u64,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.disk.state().handles -= 1;
    }
}

impl Handle {
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.disk.state();
        if state.life != self.life {
            return Err(error(ErrorKind::Other, "this handle is from before the crash"));
        }
        act(&mut state, self.file)
    }
}

fn file(state: &mut State, number: u64) -> io::Result<&mut File> {
    state.files.get_mut(&number).ok_or_else(|| no_such("of this handle"))
}

impl DiskFile for Handle {
    fn len(&self) -> io::Result<u64> {
        self.with(|state, number| Ok(file(state, number)?.now.len() as u64))
    }

    fn read_at(&self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        self.with(|state, number| {
            if state.fault == Some(Fault::Read) {
                return Err(error(ErrorKind::Other, "the read failed by injection"));
            }
            let bytes = &file(state, number)?.now;
            let from = (at as usize).min(bytes.len());
            let length = into.len().min(bytes.len() - from);
            into[..length].copy_from_slice(&bytes[from..from + length]);
            Ok(length)
        })
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state, number| {
            state.operations += 1;
            let at = at as usize;
            if state.write_fails() {
                let written = bytes.len() / 2;
                file(state, number)?.write(at, &bytes[..written]);
                return Err(error(ErrorKind::Other, "the write failed by injection"));
            }
            let growth = (at + bytes.len()).saturating_sub(file(state, number)?.now.len()) as u64;
            if growth > 0 && state.capacity.is_some_and(|most| state.used() + growth > most) {
                return Err(error(ErrorKind::StorageFull, "no space left on the simulated disk"));
            }
            file(state, number)?.write(at, bytes);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, number| {
            state.operations += 1;
            if state.sync_fails() {
                return Err(error(ErrorKind::Other, "the sync failed by injection"));
            }
            file(state, number)?.sync();
            Ok(())
        })
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.with(|state, number| {
            file(state, number)?.now.truncate(length as usize);
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(disk: &SimDisk, name: &str) -> Vec<u8> {
        crate::disk::read_up_to(&*disk.open(name).unwrap(), 0, 1 << 20).unwrap()
    }

    #[test]
    fn a_crash_loses_nothing_synced_and_some_of_the_rest_by_sectors() {
        let (mut lost, mut kept) = (0, 0);
        for seed in 0..40 {
            let disk = SimDisk::new();
            let file = disk.create("a").unwrap();
            file.write_at(0, &[1; 1024]).unwrap();
            file.sync().unwrap();
            disk.sync_dir().unwrap();
            file.write_at(1024, &[2; 1024]).unwrap();
            disk.crash(seed);
            assert!(file.len().is_err(), "the handle is dead");
            let bytes = content(&disk, "a");
            assert_eq!(bytes[..1024], [1; 1024]);
            for sector in [1024, 1536] {
                match bytes.get(sector..sector + 512) {
                    Some(sector) if sector == [2; 512] => kept += 1,
                    Some(sector) => assert_eq!(sector, [0; 512]),
                    None => lost += 1,
                }
            }
        }
        assert!(lost > 0 && kept > 0, "{lost} lost, {kept} kept");
    }

    #[test]
    fn a_full_disk_refuses_growth_and_takes_overwrites() {
        let disk = SimDisk::new();
        disk.set_capacity(Some(100));
        let file = disk.create("a").unwrap();
        file.write_at(0, &[1; 100]).unwrap();
        assert_eq!(file.write_at(100, &[1]).unwrap_err().kind(), ErrorKind::StorageFull);
        file.write_at(50, &[2; 50]).unwrap();
        assert_eq!(disk.space().unwrap().free, 0);
    }
}
