//! Out: messages become records of a topic of Kafka's, each at least once, in order by topic.
//!
//! The bridge reads the log from its position, from the shared window or from the store, like any reader. The position
//! stands in the log, and moves when all brokers that must have a record have it. Kafka's key is the topic, so that all
//! messages of one topic lie in one partition, in order. After a failure all messages above the position go again: a
//! consumer that must see a message once looks at its header `everywire-id`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Draft, Interest, Outcome, ReadKind};
use everywire_base::bridge::{Access, Begin, Outward};
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::id::AskId;
use everywire_base::record::{Durability, Message, Record};
use everywire_base::system::{self, BridgeState};
use everywire_base::topic::Filter;
use krafka::producer::{Acks, DeliveryHandle, Producer};
use krafka::{CloseOptions, Compression, KrafkaError};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use crate::failure::{Failure, is_too_large};
use crate::headers::headers;
use crate::lease::Lease;
use crate::place::{PARTITION, find, now, read, remembered};
use crate::port::Port;
use crate::progress::Refused;
use crate::{Common, GOODBYE};

/// The most records that are read at once.
const CHUNK: usize = 1024;
/// The bytes after which no further record is read.
const CHUNK_BYTES: usize = 1 << 20;
/// The time between two looks whether the position is to be written down.
const LOOK: Duration = Duration::from_millis(200);
/// The number of records of the log after which the position is written down, also when none of them was for Kafka.
const FAR: u64 = 16_384;
/// The number of acknowledged messages after which the position is written down before the next look.
const FRESH: u64 = 1024;
/// The time without an acknowledgement of Kafka after which that is logged.
const SILENCE: Duration = Duration::from_secs(10);
/// The time for which Kafka may be away while the client tries again by itself.
const DELIVERY: Duration = Duration::from_hours(24);
/// The time for which the client collects records for one request.
const LINGER: Duration = Duration::from_millis(2);
/// The bytes of one request to a partition.
const BATCH_BYTES: usize = 256 << 10;
/// The longest time that a record waits for room among those under way.
const BLOCK: Duration = Duration::from_secs(10);
/// The bytes that a record takes besides its message.
const RECORD_BYTES: usize = 256;

/// A bridge to a topic of Kafka's.
pub(crate) struct Outlet {
    access: Access,
    rule: Outward,
    common: Common,
    port: Port,
    interests: Arc<[Interest]>,
    /// The position: everything up to here is in Kafka, or isn't for it; `None` before it is known.
    carried: Option<Offset>,
    /// The position as it stands in the log.
    kept: Offset,
    /// The position on its way to the log.
    keeping: Option<(AskId, Offset)>,
    /// The number of messages that were acknowledged since.
    fresh: u64,
    lease: Lease,
}

/// The records on their way to Kafka, in order.
#[derive(Default)]
struct Flight {
    sent: VecDeque<Sent>,
    bytes: usize,
    /// Whether a message was not acknowledged: the position stays below it.
    has_failed: bool,
}

struct Sent {
    offset: Offset,
    bytes: usize,
    handle: DeliveryHandle,
}

/// The records of the log that are for Kafka, and the offset up to which the log was read.
struct Page {
    records: Vec<Arc<Record>>,
    up_to: Offset,
}

impl Outlet {
    pub(crate) fn new(access: Access, rule: Outward, common: Common, port: Port) -> Self {
        let interests = Arc::new([Interest { filter: rule.filter.clone(), since: Offset::BEGINNING }]);
        let (carried, kept, keeping, fresh) = (None, Offset::BEGINNING, None, 0);
        let lease = Lease::new(&common.name, Arc::clone(&common.setup));
        Self { access, rule, common, port, interests, carried, kept, keeping, fresh, lease }
    }

    /// Finds its position, and has the log remember it if the bridge is new. It is called before any message is
    /// published.
    pub(crate) async fn place(&mut self) {
        match self.find_place() {
            Ok(true) => {}
            Ok(false) => {
                self.keep();
                let kept = async {
                    while self.keeping.is_some() {
                        let outcomes = self.port.outcomes().await;
                        self.answered(&outcomes);
                    }
                };
                if timeout(GOODBYE, kept).await.is_err() {
                    tracing::warn!(bridge = &*self.common.name, "the log doesn't take down for now where it begins");
                }
            }
            // The bridge tries again when Kafka is there.
            Err(failure) => drop(self.common.progress.failed(&failure)),
        }
    }

    /// Finds its position; `false` if the bridge begins now.
    fn find_place(&mut self) -> Result<bool, Failure> {
        let setup = &self.common.setup;
        let head = setup.engine.tails()[0].head();
        let Some(topic) = system::bridge_topic(&self.common.name) else { return Err(Failure::Store) };
        let found = remembered(&*setup.engine, &setup.store, vec![Filter::Exact(topic)])?;
        let state = found.iter().find_map(|record| system::read::<BridgeState>(record.system()?));
        let Some(state) = state else {
            self.carried = Some(if self.rule.start == Begin::Earliest { Offset::BEGINNING } else { head });
            return Ok(false);
        };
        let lineage = setup.engine.lineage(PARTITION);
        let cursor: Option<Cursor> = state.carried.parse().ok();
        let place = cursor.and_then(|cursor| Some((cursor.position(PARTITION)?, lineage.valid_up_to(cursor.epoch)?)));
        let carried = match place {
            Some((place, shared)) if place <= shared => place,
            place => {
                let from = place.map_or(Offset::BEGINNING, |place| place.1);
                self.common.progress.refuse(Refused::Lost, &"the log has lost its end: going on from where it forked");
                from
            }
        };
        (self.carried, self.kept) = (Some(carried), carried);
        Ok(true)
    }

    /// Carries until it is told to stop.
    pub(crate) async fn run(mut self) {
        while !self.common.is_stopped() {
            if let Err(failure) = self.session().await
                && !self.common.pause(&failure).await
            {
                break;
            }
        }
        self.lease.leave(&mut self.port);
        let last = async {
            while self.keeping.is_some() || self.carried.is_some_and(|carried| carried > self.kept) {
                self.keep();
                let outcomes = self.port.outcomes().await;
                self.answered(&outcomes);
            }
        };
        // Messages above the position that is written down go again.
        let _ = timeout(GOODBYE, last).await;
    }

    async fn session(&mut self) -> Result<(), Failure> {
        let mut stop = self.common.stop.clone();
        let acquired = tokio::select! {
            acquired = self.lease.acquire(&mut self.port) => acquired,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        acquired?;
        if self.carried.is_none() || self.common.setup.is_shared {
            self.find_place()?;
        }
        let opened = tokio::select! {
            opened = self.open() => opened,
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        };
        // Another node may reach Kafka.
        let producer = opened.inspect_err(|_| self.lease.leave(&mut self.port))?;
        self.common.progress.connects();
        let mut flight = Flight::default();
        let goodbye = async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(GOODBYE).await;
        };
        let ended = tokio::select! {
            ended = self.carry(&producer, &mut flight) => ended,
            () = goodbye => Ok(()),
        };
        // Records that come again must not be overtaken by those that are still under way.
        let deadline = Instant::now() + if self.common.is_stopped() { Duration::ZERO } else { GOODBYE };
        while let Some(sent) = flight.sent.front_mut()
            && let Ok(acknowledged) = timeout_at(deadline, &mut sent.handle).await
        {
            // The first failure is the one that is reported.
            let _ = self.acknowledged(&mut flight, acknowledged);
        }
        let _ = producer.close_with(CloseOptions::new().timeout(GOODBYE)).await;
        ended
    }

    async fn open(&self) -> Result<Producer, Failure> {
        let name = format!("everywire-{}", self.common.setup.node);
        let kafka = everywire_kafka::connect(&self.access, &name).await?;
        let topic = self.rule.to.as_str();
        let _ = find(&kafka.consumer_without_group().metrics_push(false).build().await?, topic).await?;
        let producer = kafka
            .producer()
            .acks(Acks::All)
            .idempotent(true)
            .linger(LINGER)
            .batch_size(BATCH_BYTES)
            .compression(Compression::Lz4)
            .delivery_timeout(DELIVERY)
            .max_block(BLOCK)
            .buffer_memory(self.common.setup.limits.bridge_bytes * 2)
            .metrics_push(false)
            .build()
            .await?;
        Ok(producer)
    }

    /// Carries until it is told to stop, and then the records that the log had at that moment.
    async fn carry(&mut self, producer: &Producer, flight: &mut Flight) -> Result<(), Failure> {
        let mut reading = self.carried.unwrap_or_default();
        let (mut stop, mut end) = (self.common.stop.clone(), None);
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (wake, mut last_sign) = (self.port.wake(), Instant::now());
        loop {
            let head = self.common.setup.engine.tails()[0].head();
            if reading < head && flight.has_room(&self.common.setup.limits) {
                let page = self.read(reading, head)?;
                for record in page.records {
                    self.send(producer, flight, &record).await?;
                }
                reading = page.up_to;
            }
            if flight.sent.is_empty() {
                (self.carried, last_sign) = (Some(reading.max(self.carried.unwrap_or_default())), Instant::now());
            }
            if end.is_some_and(|end| self.carried >= Some(end)) {
                return Ok(());
            }
            let may_read = flight.has_room(&self.common.setup.limits);
            let is_behind = may_read && reading < self.common.setup.engine.tails()[0].head();
            tokio::select! {
                biased;
                acknowledged = flight.first(), if !flight.sent.is_empty() => {
                    last_sign = Instant::now();
                    self.acknowledged(flight, acknowledged)?;
                    if self.fresh >= FRESH {
                        self.keep();
                    }
                }
                outcomes = self.port.outcomes() => self.answered(&outcomes),
                _ = looks.tick() => {
                    self.lease.hold(&mut self.port)?;
                    self.look(&mut last_sign);
                }
                _ = stop.wait_for(|stop| *stop), if end.is_none() => end = Some(self.common.setup.engine.tails()[0].head()),
                () = tokio::task::yield_now(), if is_behind => {}
                () = wake.notified(), if may_read && !is_behind => {}
            }
        }
    }

    /// The next messages above `after`.
    fn read(&self, after: Offset, head: Offset) -> Result<Page, Failure> {
        let setup = &self.common.setup;
        let (mut records, mut bytes, mut last, now) = (Vec::new(), 0, None, now());
        let is_there = setup.engine.tails()[0].read(after, head, |record| {
            if let Some(message) = record.message().filter(|message| self.is_for(message) && !message.is_expired(now)) {
                bytes += message.weight() + RECORD_BYTES;
                records.push(Arc::clone(record));
            }
            let goes_on = records.len() < CHUNK && bytes < CHUNK_BYTES;
            last = Some(record.offset).filter(|_| !goes_on);
            goes_on
        });
        if is_there {
            return Ok(Page { records, up_to: last.unwrap_or(head) });
        }
        let up_to = setup.store.applied();
        let kind = ReadKind::History { after, up_to, max_records: CHUNK, max_bytes: CHUNK_BYTES, with_recalled: false };
        let page = read(&setup.store, &self.interests, kind);
        if page.failed {
            return Err(Failure::Store);
        }
        if let Some(lost) = page.lost {
            let text = format!("messages of {} were let go of before they went out, up to {}", lost.topic, lost.up_to);
            self.common.progress.refuse(Refused::Lost, &text);
        }
        Ok(Page { records: page.records, up_to: page.upto })
    }

    fn is_for(&self, message: &Message) -> bool {
        !message.topic.is_servers() && self.rule.filter.matches(&message.topic)
    }

    async fn send(&self, producer: &Producer, flight: &mut Flight, record: &Record) -> Result<(), Failure> {
        let Some(message) = record.message() else { return Ok(()) };
        let bytes = message.weight() + RECORD_BYTES;
        match producer.enqueue(self.out(record, message)).await {
            Ok(handle) => {
                flight.bytes += bytes;
                flight.sent.push_back(Sent { offset: record.offset, bytes, handle });
                Ok(())
            }
            Err(error) => self.refused(error, record.offset),
        }
    }

    /// The record of Kafka's for a message.
    fn out(&self, record: &Record, message: &Message) -> krafka::Record {
        let mut out = krafka::Record::new(self.rule.to.as_str(), message.body.clone())
            .key(message.topic.as_str().to_owned())
            .timestamp(i64::try_from(record.time.0).unwrap_or_default());
        if message.retain && message.body.is_empty() {
            out = out.without_value();
        }
        headers(record, message).into_iter().fold(out, |out, (name, value)| out.header(name, value))
    }

    /// Handles Kafka's answer to the first record under way.
    fn acknowledged<T>(&mut self, flight: &mut Flight, result: Result<T, KrafkaError>) -> Result<(), Failure> {
        // A handle answers once.
        let Some(Sent { offset, bytes, .. }) = flight.sent.pop_front() else { return Ok(()) };
        flight.bytes -= bytes;
        let result = match result {
            Ok(_) => {
                self.common.progress.add_carried(1);
                self.common.progress.goes_on();
                Ok(())
            }
            Err(error) => self.refused(error, offset),
        };
        flight.has_failed |= result.is_err();
        // All messages behind one that failed go again.
        if !flight.has_failed {
            self.fresh += 1;
            self.carried = Some(offset);
        }
        result
    }

    /// Skips a message that Kafka will never take; returns all other errors, which are tried again.
    fn refused(&self, error: KrafkaError, offset: Offset) -> Result<(), Failure> {
        if !is_too_large(&error) {
            return Err(error.into());
        }
        self.common.progress.refuse(Refused::TooLarge, &format!("the message at {offset} is too large for Kafka"));
        Ok(())
    }

    /// Counts the messages that are still to come, writes down the position, and logs when Kafka is silent.
    fn look(&mut self, last_sign: &mut Instant) {
        let (head, carried) = (self.common.setup.engine.tails()[0].head(), self.carried.unwrap_or_default());
        self.common.progress.set_lag(head.0.saturating_sub(carried.0));
        if last_sign.elapsed() >= SILENCE {
            let _ = self.common.progress.failed(&Failure::Silent);
            *last_sign = Instant::now();
        }
        if self.fresh > 0 || carried.0 >= self.kept.0 + FAR {
            self.keep();
        }
    }

    /// Has the log remember the position.
    fn keep(&mut self) {
        let (Some(carried), None) = (self.carried, self.keeping) else { return };
        let Some(topic) = system::bridge_topic(&self.common.name) else { return };
        let epoch = self.common.setup.engine.lineage(PARTITION).epoch;
        let state = BridgeState { carried: Cursor::single(epoch, carried).to_string().into() };
        let draft = Draft::new(system::record(topic, &state, true), Durability::Fsync);
        self.keeping = Some((self.port.append(draft, None), carried));
        self.fresh = 0;
        self.port.submit();
    }

    fn answered(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            if let Some((_, carried)) = self.keeping.take_if(|keeping| Some(keeping.0) == outcome.reply_to.ask()) {
                match outcome.result {
                    Ok(_) => self.kept = carried,
                    // The position is written again at the next look.
                    Err(_) => self.fresh += 1,
                }
            }
        }
    }
}

impl Flight {
    fn has_room(&self, limits: &everywire_base::limits::Limits) -> bool {
        self.sent.len() < limits.bridge_records && self.bytes < limits.bridge_bytes
    }

    /// The result of the first record under way.
    async fn first(&mut self) -> Result<(), KrafkaError> {
        match self.sent.front_mut() {
            Some(sent) => (&mut sent.handle).await.map(drop),
            None => std::future::pending().await,
        }
    }
}
