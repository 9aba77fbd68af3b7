//! Tables in memory, for the memory engine and the simulation.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Batch, TABLES, Table, Tables, TablesError, Take};

/// The number of entries of a scan that are taken at once, so that a long one keeps the writer waiting only for
/// moments.
const STEP: usize = 256;

type Sorted = BTreeMap<Box<[u8]>, Vec<u8>>;

/// Tables in memory.
#[derive(Default)]
pub struct MemoryTables(RwLock<[Sorted; TABLES.len()]>);

impl Clone for MemoryTables {
    /// A copy of the present entries.
    fn clone(&self) -> Self {
        Self(RwLock::new(self.read().clone()))
    }
}

impl MemoryTables {
    fn read(&self) -> RwLockReadGuard<'_, [Sorted; TABLES.len()]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> RwLockWriteGuard<'_, [Sorted; TABLES.len()]> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn step(&self, table: Table, from: Bound<&[u8]>, to: Option<&[u8]>) -> Vec<(Box<[u8]>, Vec<u8>)> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let tables = self.read();
        let range = tables[table as usize].range::<[u8], _>((from, to));
        range.take(STEP).map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl Tables for MemoryTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        Ok(self.read()[table as usize].get(key).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, take: &mut Take<'_>) -> Result<(), TablesError> {
        if to.is_some_and(|to| to <= from) {
            return Ok(());
        }
        let mut step = self.step(table, Bound::Included(from), to);
        while step.iter().all(|(key, value)| take(key, value)) && step.len() == STEP {
            let last = step.pop().expect("a full step").0;
            if to.is_some_and(|to| to <= &*last) {
                break;
            }
            step = self.step(table, Bound::Excluded(&last), to);
        }
        Ok(())
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], take: &mut Take<'_>) -> Result<(), TablesError> {
        let mut to: Box<[u8]> = to.into();
        while *to > *from {
            let step: Vec<_> = {
                let tables = self.read();
                let range = tables[table as usize].range::<[u8], _>((Bound::Included(from), Bound::Excluded(&*to)));
                range.rev().take(STEP).map(|(key, value)| (key.clone(), value.clone())).collect()
            };
            if !step.iter().all(|(key, value)| take(key, value)) {
                break;
            }
            let Some((last, _)) = step.into_iter().nth(STEP - 1) else { break };
            to = last;
        }
        Ok(())
    }

    fn write(&self, batch: Batch) -> Result<(), TablesError> {
        let mut tables = self.lock();
        for change in batch.changes {
            let table = &mut tables[change.table as usize];
            match change.value {
                Some(value) => table.insert(change.key, value),
                None => table.remove(&change.key),
            };
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), TablesError> {
        Ok(())
    }

    fn reopen(&self) -> Result<(), TablesError> {
        Ok(())
    }

    fn clear(&self) -> Result<(), TablesError> {
        self.lock().iter_mut().for_each(BTreeMap::clear);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        let size = |sorted: &Sorted| sorted.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
        self.read().iter().map(size).sum()
    }
}
