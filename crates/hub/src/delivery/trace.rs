//! The fate of a message: computed from the positions of its recipients; only the time of its fan-out is remembered.

use everywire_base::clock::UnixMillis;
use everywire_base::cursor::Offset;
use everywire_base::id::Slot;
use everywire_base::record::Record;
use everywire_base::registry::{Fate, TraceQuestion};

use super::{Deliveries, Turn};

/// The fate of a message for one connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Traced {
    /// The connection.
    pub slot: Slot,
    /// The fate.
    pub fate: Fate,
    /// The time at which it was handed over, if that is recent and the connection was live.
    pub written: Option<UnixMillis>,
    /// The time of its session's last acknowledgement, if the message is acknowledged.
    pub acknowledged: Option<UnixMillis>,
}

/// The time at which a record was fanned out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recent {
    partition: u16,
    offset: Offset,
    at: UnixMillis,
}

impl Deliveries {
    /// Remembers for a while the time at which a record was fanned out.
    pub(super) fn remember(&mut self, record: &Record, turn: &Turn<'_>) {
        let bound = turn.floor.setup.limits.trace_records;
        while self.recent.len() >= bound.max(1) {
            self.recent.pop_front();
        }
        self.recent.push_back(Recent { partition: record.partition.0, offset: record.offset, at: turn.now.wall });
    }

    /// The fate of a message for the connections that are subscribed to its topic now, at most as many as asked for.
    /// Their sessions know the times of acknowledgement.
    pub(crate) fn trace(&self, question: &TraceQuestion) -> Vec<Traced> {
        let (partition, offset) = (usize::from(question.partition.0), question.offset);
        if partition >= self.marks.len() {
            return Vec::new();
        }
        let is_it = |r: &&Recent| r.partition == question.partition.0 && r.offset == offset;
        let written = self.recent.iter().find(is_it).map(|recent| recent.at);
        let recipients = self.subscribed_to(&question.topic).into_iter().take(question.limit);
        recipients.map(|index| self.trace_one(index, partition, offset, written)).collect()
    }

    fn trace_one(&self, index: u32, partition: usize, offset: Offset, written: Option<UnixMillis>) -> Traced {
        let lag = self.lag(index);
        let began_later = lag.is_some_and(|lag| {
            let sinces = 0..self.held(index).len();
            !sinces.is_empty() && sinces.into_iter().all(|nth| lag.since(nth, partition) >= offset)
        });
        let window = self.connections.get(index).filter(|c| c.windowed).and_then(|c| c.window.as_ref());
        let fate = if self.current(index)[partition] < offset {
            Fate::Lagging
        } else if began_later {
            Fate::Later
        } else if window.is_some_and(|window| !window.holds(partition, offset)) {
            Fate::Acknowledged
        } else {
            Fate::Written
        };
        let written = written.filter(|_| lag.is_none() && matches!(fate, Fate::Written | Fate::Acknowledged));
        Traced { slot: self.slot_at(index), fate, written, acknowledged: None }
    }
}
