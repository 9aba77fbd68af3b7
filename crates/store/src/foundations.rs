//! The records from which all that is retained can be made anew, for a node that joins.

use std::sync::Arc;

use everywire_base::cursor::Offset;
use everywire_base::record::{Entry, Record};
use everywire_log::follower::Listed;

use crate::applier::StoreError;
use crate::retained::{Content, Retained};
use crate::shared::Shared;
use crate::tables::{Table, TablesError};

/// The most records that are read from the log at once.
const PIECE: usize = 1024;
/// The number of times that the walk begins anew when the log has let go of a record that was replaced meanwhile.
const ATTEMPTS: usize = 3;

/// The places of retained records.
#[derive(Default)]
struct Places {
    /// The offsets of records in the log. One that isn't needed is that of a removal or a mark, of which the log may
    /// have let go.
    logged: Vec<(Offset, Need)>,
    /// Messages that the log doesn't have.
    inline: Vec<Arc<Record>>,
}

/// Whether the log must have a record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Must,
    May,
}

impl Places {
    fn add(&mut self, retained: &Retained, up_to: Offset) {
        if retained.offset > up_to {
            // A node that joins reads this record above the snapshot.
            return;
        }
        match &retained.content {
            Content::Logged => self.logged.push((retained.offset, Need::Must)),
            Content::Inline(record) if record.entry().is_some_and(Entry::is_retained) => {
                self.inline.push(Arc::clone(record));
            }
            Content::Inline(_) | Content::Nothing => self.logged.push((retained.offset, Need::May)),
        }
    }

    fn sort(&mut self) {
        self.logged.sort_unstable();
        self.logged.dedup_by_key(|place| place.0);
        self.inline.sort_unstable_by_key(|record| record.offset);
        self.inline.dedup_by_key(|record| record.offset);
    }
}

impl Shared {
    /// The records at or below `up_to`, ascending, from which all that is retained there can be made. Records that were
    /// replaced above `up_to` are left out. All up to there must be applied.
    pub(crate) fn foundations(&self, up_to: Offset) -> Result<Listed, StoreError> {
        for _ in 0..ATTEMPTS {
            let mut places = self.places(up_to)?;
            places.sort();
            if let Some(listed) = self.list(places)? {
                return Ok(listed);
            }
        }
        Err(TablesError::Failed("the log lacks what is retained".into()).into())
    }

    /// Lists the records at these places; a piece of them is in memory at a time. `None` if the log has let go of one
    /// that it must have: it was replaced meanwhile.
    fn list(&self, places: Places) -> Result<Option<Listed>, StoreError> {
        let mut listed = Listed::default();
        let mut inline = places.inline.into_iter().peekable();
        for piece in places.logged.chunks(PIECE) {
            let offsets: Vec<Offset> = piece.iter().map(|place| place.0).collect();
            let mut found = self.archive.get(&offsets)?.into_iter().peekable();
            for (offset, need) in piece {
                while let Some(before) = inline.next_if(|record| record.offset < *offset) {
                    listed.push(&before);
                }
                let here = inline.next_if(|record| record.offset == *offset);
                match found.next_if(|record| record.offset == *offset).or(here) {
                    Some(record) => listed.push(&record),
                    None if *need == Need::Must => return Ok(None),
                    None => {}
                }
            }
        }
        inline.for_each(|record| listed.push(&record));
        Ok(Some(listed))
    }

    fn places(&self, up_to: Offset) -> Result<Places, StoreError> {
        let changed = self.retained().0.clone();
        let (mut places, mut error) = (Places::default(), None);
        changed.values().flatten().for_each(|retained| places.add(retained, up_to));
        self.tables.scan(Table::Retained, &[], None, &mut |name, value| {
            match self.retained_entry(name, value) {
                Ok((topic, retained)) if !changed.contains_key(&topic) => places.add(&retained, up_to),
                Ok(_) => {}
                Err(damaged) => error = Some(damaged),
            }
            error.is_none()
        })?;
        error.map_or(Ok(places), |error| Err(error.into()))
    }
}
