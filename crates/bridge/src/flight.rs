//! The records of a topic of Kafka's that are on their way to the log, in order.

use std::collections::{HashMap, VecDeque};

use everywire_base::ask::{Outcome, PublishError};
use everywire_base::id::AskId;
use everywire_base::limits::Limits;

use crate::failure::Failure;
use crate::progress::Progress;

/// The records on their way, and the progress of each source.
#[derive(Default)]
pub(crate) struct Flight {
    under_way: VecDeque<Taken>,
    bytes: usize,
    /// The last position that the log has accepted of each source, as far as it was asked.
    accepted: HashMap<u64, u64>,
}

/// A record on its way.
pub(crate) struct Taken {
    pub(crate) ask: AskId,
    pub(crate) source: u64,
    pub(crate) partition: i32,
    pub(crate) position: u64,
    pub(crate) bytes: usize,
}

impl Flight {
    pub(crate) fn has_room(&self, limits: &Limits) -> bool {
        self.under_way.len() < limits.bridge_records && self.bytes < limits.bridge_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    pub(crate) fn begin(&mut self, taken: Taken) {
        self.bytes += taken.bytes;
        self.under_way.push_back(taken);
    }

    /// Takes back the last records: they have not gone to the log, and will not.
    pub(crate) fn take_back(&mut self, count: usize) {
        for taken in self.under_way.drain(self.under_way.len().saturating_sub(count)..) {
            self.bytes -= taken.bytes;
        }
    }

    /// The last position of a source that was accepted.
    pub(crate) fn accepted(&self, source: u64) -> Option<u64> {
        self.accepted.get(&source).copied()
    }

    /// Forgets the progress: another node may have gone on meanwhile.
    pub(crate) fn forget(&mut self) {
        self.accepted.clear();
    }

    /// Notes the progress of a source, as the log remembers it.
    pub(crate) fn remember(&mut self, source: u64, position: u64) {
        let accepted = self.accepted.entry(source).or_default();
        *accepted = position.max(*accepted);
    }

    /// Takes in the log's answers. A refused record is read again, with all records of its source behind it.
    pub(crate) fn answered(&mut self, outcomes: Vec<Outcome>, progress: &Progress) -> Result<(), Failure> {
        let (mut first, mut carried) = (Ok(()), 0);
        for outcome in outcomes {
            // Answers come in the order of the appends.
            let Some(taken) = self.under_way.pop_front_if(|taken| Some(taken.ask) == outcome.reply_to.ask()) else {
                continue;
            };
            self.bytes -= taken.bytes;
            match outcome.result {
                Ok(published) => {
                    self.remember(taken.source, taken.position);
                    if published.duplicate {
                        progress.add_again();
                    } else {
                        carried += 1;
                    }
                }
                Err(error) => {
                    let failure = match error {
                        PublishError::OutOfOrder { expected } => {
                            self.accepted.insert(taken.source, expected);
                            Failure::Elsewhere(taken.partition)
                        }
                        error => Failure::Log(error),
                    };
                    first = first.and(Err(failure));
                }
            }
        }
        if carried > 0 {
            progress.add_carried(carried);
            progress.goes_on();
        }
        first
    }
}
