//! The engine `embedded`: the log in segment files of its own directory.

use std::sync::Arc;

use everywire_base::ask::Append;
use everywire_base::clock::{Monotonic, STEP, UnixMillis};
use everywire_base::cursor::{Epoch, Lineage, Partition};
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Message, Record};

use crate::appender::{Appender, Known, Parts, ordered_key, published};
use crate::archive::decode;
use crate::disk::Disk;
use crate::engine::{Archive, ArchiveError, Bell, Engine};
use crate::files::Files;
use crate::format::HEAD;
use crate::metrics::LogMetrics;
use crate::queue::Queue;
use crate::recovery::{self, OpenError, Recovered};
use crate::segment::{Contents, Segment, Walk};
use crate::tail::{Tail, TailWriter};
use crate::writer::Writer;

/// The options of a log on the disk. The defaults are for production; a simulation takes smaller ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// A random number, another one at each start: for a new log's epoch and the names of segments.
    pub seed: u64,
    /// The size of a segment.
    pub segment_bytes: u64,
    /// The number of offsets that are reserved at a time; after a crash as many may be left out.
    pub reserve_offsets: u64,
    /// Bytes of the disk that are kept free, or a sixteenth of a small disk: publishing stops before they are used.
    pub reserve_bytes: u64,
    /// Whether the log goes on in a new epoch, with its whole records, even if its end is damaged or missing: readers
    /// behind the end get a gap. It is for a log that was restored from a backup, or that has none.
    pub new_epoch: bool,
    /// Whether nobody waits for a sync, even if the topic's rule asks for it: the records can be had again elsewhere.
    pub unsynced: bool,
}

impl Options {
    /// The usual options with a random number.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seed,
            segment_bytes: 64 << 20,
            reserve_offsets: 1 << 20,
            reserve_bytes: 64 << 20,
            new_epoch: false,
            unsynced: false,
        }
    }
}

/// The engine on the disk.
pub struct Embedded {
    queue: Arc<Queue>,
    tails: [Arc<Tail>; 1],
    lineage: Arc<Lineage>,
    files: Arc<Files>,
    metrics: Arc<LogMetrics>,
}

impl Embedded {
    /// Opens the log in a directory, or makes one. Cuts off an end that a crash tore; refuses a log that is damaged.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: Options,
        limits: &Limits,
        bell: Arc<dyn Bell>,
    ) -> Result<(Arc<Self>, Appender), OpenError> {
        let metrics = Arc::new(LogMetrics::default());
        let Recovered { begin, last, time, lineage } = recovery::open(disk, options, Arc::clone(&metrics))?;
        let now = bell.now();
        if time > now.after(STEP) {
            tracing::warn!(last = %time, %now, "the log ends in the future: the clock was wrong then, or is now");
        }
        let known = remember(&begin.files, lineage.epoch, limits, now);
        let queue = Arc::new(Queue::new(limits, Arc::clone(&bell)));
        let tail = TailWriter::new(last, limits);
        let engine = Arc::new(Self {
            queue: Arc::clone(&queue),
            tails: [Arc::clone(tail.tail())],
            lineage: Arc::new(lineage.clone()),
            files: Arc::clone(&begin.files),
            metrics: Arc::clone(&metrics),
        });
        let (epoch, partition) = (lineage.epoch, Partition(0));
        let parts = Parts { queue, bell, tail, journal: Box::new(Writer::new(begin)), metrics, epoch, partition };
        Ok((engine, Appender::new(parts, limits, known, last, now)))
    }

    /// The metrics of the log.
    pub fn metrics(&self) -> &Arc<LogMetrics> {
        &self.metrics
    }
}

/// The idempotency keys of the last part of the log, as far as the window reaches and the log can be read; and the
/// progress of the producers and sources in it.
fn remember(files: &Files, epoch: Epoch, limits: &Limits, now: UnixMillis) -> Known {
    let mut known = Known::new(limits);
    let since = UnixMillis(now.0.saturating_sub(limits.idempotency_window.as_millis() as u64));
    let segments = files.segments();
    // An empty segment, as a crash right after a start leaves it, doesn't show the time before it.
    let is_recent = |contents: Contents| contents.records == 0 || contents.time > since;
    let recent = segments.iter().rev().take_while(|s| is_recent(s.contents())).count();
    for segment in segments[segments.len() - recent..].iter().filter(|segment| segment.contents().keyed > 0) {
        let remembered = read_recent(files.partition, segment, since, &mut |record| {
            known.producers.restore(record, epoch, now);
            known.sources.restore(record);
            let is_ordinary = |message: &&Message| ordered_key(message).is_none() && !known.keys.is_full();
            if let Some(message) = record.message().filter(is_ordinary) {
                // The time of a record that a wrong clock put into the future counts as now.
                let at = Monotonic(record.time.min(now).0);
                known.keys.published(message, published(epoch, record), at);
            }
        });
        if let Err(error) = remembered {
            tracing::error!(%error, "idempotency keys of a part of the log can't be read, and are not known any more");
        }
    }
    known
}

/// Hands over the records of a segment that are later than this.
fn read_recent(
    partition: Partition,
    segment: &Segment,
    since: UnixMillis,
    take: &mut dyn FnMut(&Record),
) -> Result<(), ArchiveError> {
    let mut walk = Walk::over(segment, HEAD as u64, 1 << 20)?;
    while let Some((batch, records)) = walk.next().map_err(|e| segment.broken(e))? {
        if batch.time <= since {
            continue;
        }
        for record in decode(partition, batch, records, |_| true) {
            let record = record?;
            if record.time > since {
                take(&record);
            }
        }
    }
    Ok(())
}

impl Engine for Embedded {
    fn name(&self) -> &'static str {
        "embedded"
    }

    fn submit(&self, appends: &mut Vec<Append>) {
        self.queue.submit(appends);
    }

    fn tails(&self) -> &[Arc<Tail>] {
        &self.tails
    }

    fn lineage(&self, _: Partition) -> Arc<Lineage> {
        Arc::clone(&self.lineage)
    }

    fn archive(&self, _: Partition) -> Arc<dyn Archive> {
        Arc::clone(&self.files) as _
    }

    fn promise(&self, wanted: Durability) -> Durability {
        wanted
    }

    fn close(&self) {
        self.queue.begin_close();
        self.queue.wait_closed();
    }
}
