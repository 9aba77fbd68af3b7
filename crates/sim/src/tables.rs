//! The store's tables, which survive a crash up to some write: of the writes since the last sync only a prefix is kept.
//!
//! A function may run at one of their calls: then the applier stands still in the midst of its turn.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use everywire_store::MemoryTables;
use everywire_store::tables::{Batch, Table, Tables, TablesError, Take};

/// A function that runs in the midst of a turn, after this number of lookups.
type Interruption = (usize, Box<dyn FnOnce()>);

thread_local! {
    static INTERRUPTION: RefCell<Option<Interruption>> = const { RefCell::new(None) };
}

/// Runs `act`, and runs `by` in the midst of it after this number of lookups; not if there are fewer.
pub(crate) fn interrupted<T>(lookups: usize, by: impl FnOnce() + 'static, act: impl FnOnce() -> T) -> T {
    INTERRUPTION.with(|place| *place.borrow_mut() = Some((lookups, Box::new(by))));
    let done = act();
    INTERRUPTION.with(|place| *place.borrow_mut() = None);
    done
}

fn look_up() {
    let due = INTERRUPTION.with(|place| {
        let mut place = place.borrow_mut();
        match place.as_mut()? {
            (0, _) => place.take(),
            (left, _) => {
                *left -= 1;
                None
            }
        }
    });
    if let Some((_, happen)) = due {
        happen();
    }
}

#[derive(Clone, Default)]
pub(crate) struct SimTables(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    now: Arc<MemoryTables>,
    synced: MemoryTables,
    /// The writes since the last sync.
    since: Vec<Batch>,
}

impl Kept {
    /// Makes the first writes since the last sync durable, and drops the others.
    fn keep(&mut self, count: usize) -> Result<(), TablesError> {
        self.since.drain(..).take(count).try_for_each(|batch| self.synced.write(batch))
    }
}

impl SimTables {
    /// Cuts the power of the machine; `kept` chooses how many of the writes since the last sync survive.
    pub(crate) fn crash(&self, kept: usize) -> Result<(), TablesError> {
        let mut tables = self.lock();
        let count = kept % (tables.since.len() + 1);
        tables.keep(count)?;
        tables.now = Arc::new(tables.synced.clone());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Arc<MemoryTables> {
        Arc::clone(&self.lock().now)
    }
}

impl Tables for SimTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, TablesError> {
        look_up();
        self.now().get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], to: Option<&[u8]>, take: &mut Take<'_>) -> Result<(), TablesError> {
        self.now().scan(table, from, to, take)
    }

    fn scan_back(&self, table: Table, from: &[u8], to: &[u8], take: &mut Take<'_>) -> Result<(), TablesError> {
        self.now().scan_back(table, from, to, take)
    }
    fn write(&self, batch: Batch) -> Result<(), TablesError> {
        let mut tables = self.lock();
        tables.since.push(batch.clone());
        tables.now.write(batch)
    }

    fn sync(&self) -> Result<(), TablesError> {
        self.lock().keep(usize::MAX)
    }

    fn reopen(&self) -> Result<(), TablesError> {
        Ok(())
    }

    fn clear(&self) -> Result<(), TablesError> {
        let mut tables = self.lock();
        tables.since.clear();
        tables.synced.clear()?;
        tables.now.clear()
    }

    fn bytes(&self) -> u64 {
        self.now().bytes()
    }
}
