//! Recalled messages: their folds say so, and no page has them but one that is asked for with them.

use std::sync::Arc;

use everywire_base::recall::{fold_of, recalled_by};
use everywire_base::record::Record;
use everywire_base::topic::Filter;

use crate::applier::StoreError;
use crate::shared::Shared;

impl Shared {
    /// Whether a message was recalled, as far as the log is applied.
    pub(crate) fn is_recalled(&self, record: &Record) -> Result<bool, StoreError> {
        let Some(topic) = fold_of(record) else { return Ok(false) };
        if !self.hint.may_match(&Filter::Exact(topic.clone())) {
            return Ok(false);
        }
        let changed = self.retained().0.get(&topic).cloned();
        let Some(retained) = self.retained_at(&topic, changed.as_ref())? else { return Ok(false) };
        let (folds, _) = self.records_of(&[retained], true)?;
        Ok(folds.iter().any(|fold| fold.system().and_then(recalled_by) == Some(record.id())))
    }

    /// Leaves the recalled messages out of a page.
    pub(crate) fn leave_out_recalled(&self, records: &mut Vec<Arc<Record>>) -> Result<(), StoreError> {
        let mut kept = Vec::with_capacity(records.len());
        for record in records.drain(..) {
            if !self.is_recalled(&record)? {
                kept.push(record);
            }
        }
        *records = kept;
        Ok(())
    }
}
