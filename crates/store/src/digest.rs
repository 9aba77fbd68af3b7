//! A sum over all entries of the tables, which the checkpoint carries: an entry that is missing, altered or set back
//! changes the sum at the next start, even if the database itself has noticed nothing.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::tables::{Batch, Table, Tables, TablesError};

/// The tables that are summed up. The checkpoint itself has a checksum of its own.
const SUMMED: [Table; 3] = [Table::Topics, Table::Index, Table::Retained];

/// The sums, one for each table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Digest(pub(crate) [u64; SUMMED.len()]);

/// Looks at an entry.
type Look<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), TablesError> + 'a;

impl Digest {
    /// Sums up the entries, and shows each entry of the retained messages.
    pub(crate) fn of(tables: &dyn Tables, retained: &mut Look<'_>) -> Result<Self, TablesError> {
        let mut digest = Self::default();
        for (table, sum) in SUMMED.into_iter().zip(&mut digest.0) {
            let mut shown = Ok(());
            tables.scan(table, &[], None, &mut |key, value| {
                *sum = sum.wrapping_add(hash(table, key, value));
                if table == Table::Retained {
                    shown = retained(key, value);
                }
                shown.is_ok()
            })?;
            shown?;
        }
        Ok(digest)
    }

    /// The sums after these changes; the only cost is a look at the entries that they replace.
    pub(crate) fn after(mut self, tables: &dyn Tables, batch: &Batch) -> Result<Self, TablesError> {
        for change in &batch.changes {
            let Some(at) = SUMMED.iter().position(|table| *table == change.table) else { continue };
            let of = |value: &Vec<u8>| hash(change.table, &change.key, value);
            let former = tables.get(change.table, &change.key)?.as_ref().map_or(0, of);
            let sum = &mut self.0[at];
            *sum = sum.wrapping_sub(former).wrapping_add(change.value.as_ref().map_or(0, of));
        }
        Ok(self)
    }
}

fn hash(table: Table, key: &[u8], value: &[u8]) -> u64 {
    xxh3_64_with_seed(value, xxh3_64_with_seed(key, table as u64 + 1))
}

/// Adds a checksum to the checkpoint, so that it is known to be whole.
pub(crate) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = xxh3_64_with_seed(&bytes, 0);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// The sealed content, if its checksum is right.
pub(crate) fn unseal(bytes: &[u8]) -> Option<&[u8]> {
    let (content, sum) = bytes.split_last_chunk::<8>()?;
    (xxh3_64_with_seed(content, 0) == u64::from_le_bytes(*sum)).then_some(content)
}
