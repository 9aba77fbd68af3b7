//! In: records of a topic of Kafka's become messages, each once.
//!
//! Each partition is a source of the log's (`base::source::Source`): the record at offset N has the position N + 1, so
//! that the position is the offset at which reading goes on. Records that the log has refused, or has not answered, are
//! read from Kafka again. There is no consumer group: offsets are committed only for tools that watch the lag from
//! outside. If several nodes share the log, each reads its share of the partitions ([`Readers`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::Draft;
use everywire_base::bridge::{Access, Begin, Inward};
use everywire_base::publish::{self, Unfit};
use everywire_base::record::{Durability, Extras, Message};
use everywire_base::rules::Rules;
use everywire_base::source::Source;
use everywire_base::system::{self, BridgeBegin, SourceState};
use everywire_base::topic::Filter;
use krafka::admin::{AdminClient, AlterConsumerGroupOffsetsOptions};
use krafka::consumer::{AutoOffsetReset, Consumer, ConsumerRecord, IsolationLevel, TopicPartition};
use krafka::{Kafka, KrafkaError, Record, TopicInfo};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::failure::{Failure, is_too_large};
use crate::flight::{Flight, Taken};
use crate::headers;
use crate::place::{find, remembered, source_id};
use crate::port::Port;
use crate::progress::Refused;
use crate::readers::Readers;
use crate::{Common, GOODBYE};

/// The longest time that a read waits for the first record.
const POLL: Duration = Duration::from_millis(500);
/// The most records of one read.
const POLL_RECORDS: i32 = 2000;
/// The time between two looks at the lag.
const LOOK: Duration = Duration::from_secs(1);
/// The number of looks after which the progress is committed.
const COMMIT: u32 = 5;
/// The number of looks after which the topic's partitions are compared with those that are read.
const COMPARE: u32 = 10;
/// The longest time of a request whose answer isn't needed.
const ASKING: Duration = Duration::from_secs(2);

/// A bridge from a topic of Kafka's.
pub(crate) struct Inlet {
    access: Access,
    rule: Inward,
    common: Common,
    port: Port,
    flight: Flight,
    readers: Readers,
}

/// The position of a partition.
struct Stand {
    source: u64,
    /// The position of the last record that went to the log.
    after: u64,
    /// The offset at which reading goes on: also above records that are not carried.
    next: u64,
}

/// The state of one reading of a share of the topic.
struct Reading {
    topic: TopicInfo,
    consumer: Consumer,
    dead: Option<krafka::producer::Producer>,
    stands: HashMap<i32, Stand>,
}

impl Inlet {
    pub(crate) fn new(access: Access, rule: Inward, common: Common, port: Port) -> Self {
        let readers = Readers::new(&common.name, Arc::clone(&common.setup));
        Self { access, rule, common, port, flight: Flight::default(), readers }
    }

    /// Carries until it is told to stop.
    pub(crate) async fn run(mut self) {
        let mut stop = self.common.stop.clone();
        while !self.common.is_stopped() {
            let ended = tokio::select! {
                ended = self.session() => ended,
                _ = stop.wait_for(|stop| *stop) => Ok(()),
            };
            // The appends under way are answered before any of their records is read again.
            self.settle().await;
            if let Err(failure) = ended
                && !self.common.pause(&failure).await
            {
                break;
            }
        }
        self.readers.leave(&mut self.port);
    }

    async fn settle(&mut self) {
        self.flight.take_back(self.port.take_back());
        let mut stop = self.common.stop.clone();
        let all = async {
            while !self.flight.is_empty() {
                let outcomes = self.port.outcomes().await;
                // The reason is known already.
                let _ = self.flight.answered(outcomes, &self.common.progress);
            }
        };
        let goodbye = async {
            let _ = stop.wait_for(|stop| *stop).await;
            tokio::time::sleep(GOODBYE).await;
        };
        tokio::select! {
            () = all => {}
            () = goodbye => {}
        }
    }

    async fn session(&mut self) -> Result<(), Failure> {
        let name = format!("everywire-{}", self.common.setup.node);
        let reached = async {
            let kafka = everywire_kafka::connect(&self.access, &name).await?;
            // Whether the topic is there, and may be seen.
            let _ = find(&self.consumer(&kafka).await?, self.rule.from.as_str()).await?;
            Ok(kafka)
        };
        let kafka = match reached.await {
            Ok(kafka) => kafka,
            Err(failure) => {
                self.readers.leave(&mut self.port);
                return Err(failure);
            }
        };
        self.readers.join(&mut self.port).await?;
        let admin = kafka.admin();
        loop {
            if self.common.setup.is_shared {
                self.flight.forget();
            }
            let reading = self.open(&kafka).await?;
            self.common.progress.connects();
            self.common.progress.set_partitions(reading.stands.len() as u64);
            self.carry(reading, &admin).await?;
            // The next reading goes on at the log's position, so that all answers must be there.
            self.settle().await;
        }
    }

    /// Carries records until this node has another share.
    async fn carry(&mut self, reading: Reading, admin: &AdminClient) -> Result<(), Failure> {
        let Reading { topic, consumer, dead, mut stands } = reading;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = 0;
        let mut polling = Box::pin(consumer.poll(POLL));
        loop {
            let may_read = !stands.is_empty() && self.flight.has_room(&self.common.setup.limits);
            tokio::select! {
                outcomes = self.port.outcomes() => self.flight.answered(outcomes, &self.common.progress)?,
                records = &mut polling, if may_read => {
                    // Kafka is asked for more records while these are handled.
                    polling.set(consumer.poll(POLL));
                    let rules = self.common.setup.store.rules();
                    for record in records? {
                        self.take(record, &mut stands, dead.as_ref(), &rules).await?;
                    }
                    self.port.submit();
                }
                _ = looks.tick() => {
                    looked += 1;
                    if self.readers.look()? || (looked % COMPARE == 0 && self.is_other(&consumer, &topic).await) {
                        return Ok(());
                    }
                    self.look(&consumer, &stands).await;
                    if looked % COMMIT == 0 {
                        self.commit(admin, &stands).await;
                    }
                }
            }
        }
    }

    /// Whether the topic has other partitions than it had. That Kafka doesn't answer is found elsewhere.
    async fn is_other(&self, consumer: &Consumer, topic: &TopicInfo) -> bool {
        let found = timeout(ASKING, find(consumer, &topic.name)).await;
        found.is_ok_and(|found| {
            found.is_ok_and(|now| now.topic_id != topic.topic_id || now.partitions.len() != topic.partitions.len())
        })
    }

    async fn consumer(&self, kafka: &Kafka) -> Result<Consumer, Failure> {
        let consumer = kafka
            .consumer_without_group()
            .isolation_level(IsolationLevel::ReadCommitted)
            .auto_offset_reset(AutoOffsetReset::None)
            .max_poll_records(POLL_RECORDS)
            .metrics_push(false)
            .build()
            .await?;
        Ok(consumer)
    }

    /// Finds this node's share of the topic, and the position of each partition.
    async fn open(&mut self, kafka: &Kafka) -> Result<Reading, Failure> {
        let consumer = self.consumer(kafka).await?;
        let dead = match &self.rule.dead_letter {
            Some(topic) => {
                let _ = find(&consumer, topic.as_str()).await?;
                Some(kafka.producer().metrics_push(false).build().await?)
            }
            None => None,
        };
        let topic = find(&consumer, self.rule.from.as_str()).await?;
        if topic.partitions.len() > self.common.setup.limits.bridge_sources {
            return Err(Failure::Partitions { topic: topic.name.as_str().into(), partitions: topic.partitions.len() });
        }
        let is_own = |number: &i32| self.readers.has(self.source(&topic, *number));
        let mut numbers: Vec<i32> = topic.partitions.keys().copied().filter(is_own).collect();
        numbers.sort_unstable();
        if !numbers.is_empty() {
            consumer.assign(&topic.name, numbers.clone()).await?;
        }
        self.remember(&topic)?;
        let begin = self.begin(&consumer, &topic).await?;
        let mut stands = HashMap::new();
        for number in numbers {
            stands.insert(number, self.stand(&consumer, &topic, number, &begin).await?);
        }
        Ok(Reading { topic, consumer, dead, stands })
    }

    /// Asks the log for the progress of the partitions, as far as it isn't known yet.
    fn remember(&mut self, info: &TopicInfo) -> Result<(), Failure> {
        let sources = info.partitions.keys().map(|number| self.source(info, *number));
        let unknown: Vec<_> = sources.filter(|id| self.flight.accepted(*id).is_none()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let by_topic: HashMap<_, u64> = unknown.iter().map(|id| (system::source_topic(*id), *id)).collect();
        let (setup, topics) = (&self.common.setup, by_topic.keys().cloned().map(Filter::Exact).collect());
        for record in remembered(&*setup.engine, &setup.store, topics)? {
            let Some(system) = record.system() else { continue };
            if let (Some(id), Some(state)) = (by_topic.get(&system.topic), system::read::<SourceState>(system)) {
                self.flight.remember(*id, state.position);
            }
        }
        Ok(())
    }

    /// The offsets at which a bridge began that takes only what comes. They are written into the log at its first
    /// start: else a partition of which nothing was taken over yet would begin anew at each start, above what came
    /// meanwhile.
    async fn begin(&mut self, consumer: &Consumer, info: &TopicInfo) -> Result<HashMap<i32, i64>, Failure> {
        let place = system::bridge_begin_topic(&self.common.name).filter(|_| self.rule.start == Begin::Latest);
        let Some(place) = place else { return Ok(HashMap::new()) };
        let setup = &self.common.setup;
        let found = remembered(&*setup.engine, &setup.store, vec![Filter::Exact(place.clone())])?;
        let found = found.iter().find_map(|record| system::read::<BridgeBegin>(record.system()?));
        if let Some(begin) = found.filter(|begin| begin.topic == info.topic_id) {
            return Ok(begin.partitions.into_iter().collect());
        }
        let mut partitions = Vec::new();
        for number in info.partitions.keys() {
            partitions.push((*number, consumer.fetch_watermarks(&info.name, *number).await?.1));
        }
        let begin = BridgeBegin { topic: info.topic_id, partitions };
        let ask = self.port.append(Draft::new(system::record(place, &begin, true), Durability::Fsync), None);
        loop {
            if let Some(outcome) =
                self.port.outcomes().await.into_iter().find(|outcome| outcome.reply_to.ask() == Some(ask))
            {
                outcome.result?;
                return Ok(begin.partitions.into_iter().collect());
            }
        }
    }

    fn source(&self, info: &TopicInfo, partition: i32) -> u64 {
        source_id(&self.common.name, info.topic_id, partition)
    }

    /// Finds the position of a partition, and has the consumer go there.
    async fn stand(
        &self,
        consumer: &Consumer,
        info: &TopicInfo,
        partition: i32,
        begin: &HashMap<i32, i64>,
    ) -> Result<Stand, Failure> {
        let (topic, source) = (self.rule.from.as_str(), self.source(info, partition));
        let (first, end) = consumer.fetch_watermarks(topic, partition).await?;
        let accepted = self.flight.accepted(source);
        let wanted = match accepted {
            Some(position) => i64::try_from(position).unwrap_or(i64::MAX),
            // A partition that was added later is new from its beginning.
            None => begin.get(&partition).copied().unwrap_or(first),
        };
        let lost = |text: String| self.common.progress.refuse(Refused::Lost, &text);
        if wanted < first {
            lost(format!("Kafka has let go of partition {partition} up to {first}, and {wanted} was to come next"));
        } else if wanted > end {
            lost(format!("Kafka's partition {partition} ends at {end}, below {wanted}, up to which it was taken over"));
        }
        let next = wanted.clamp(first, end.max(first));
        consumer.seek(topic, partition, next).await?;
        Ok(Stand { source, after: accepted.unwrap_or_default(), next: u64::try_from(next).unwrap_or_default() })
    }

    /// Sends a record to the log, or to the dead-letter topic if it can't be published.
    async fn take(
        &mut self,
        record: ConsumerRecord,
        stands: &mut HashMap<i32, Stand>,
        dead: Option<&krafka::producer::Producer>,
        rules: &Rules,
    ) -> Result<(), Failure> {
        let Some(stand) = stands.get_mut(&record.partition) else { return Ok(()) };
        let position = u64::try_from(record.offset).unwrap_or_default() + 1;
        stand.next = position;
        if position <= stand.after {
            self.common.progress.add_again();
            return Ok(());
        }
        match self.draft(&record, rules) {
            Ok(draft) => {
                let (source, partition, bytes) = (stand.source, record.partition, draft.entry.weight() + 256);
                let ask = self.port.append(draft, Some(Source { id: source, after: stand.after, position }));
                self.flight.begin(Taken { ask, source, partition, position, bytes });
                stand.after = position;
                Ok(())
            }
            Err((why, mut text)) => {
                let place = format!("{} {}:{}", record.topic, record.partition, record.offset);
                if let Some(dead) = dead.filter(|_| why != Refused::Tombstone) {
                    match self.bury(record, &text, dead).await {
                        Err(error) if is_too_large(&error) => {
                            text.push_str("; the dead-letter topic doesn't take it either");
                        }
                        buried => buried?,
                    }
                }
                self.common.progress.refuse(why, &format!("the record at {place}: {text}"));
                Ok(())
            }
        }
    }

    fn draft(&self, record: &ConsumerRecord, rules: &Rules) -> Result<Draft, (Refused, String)> {
        let topic = self.rule.topic.topic(record.key.as_deref());
        let topic = topic.map_err(|error| (Refused::Key, error.to_string()))?;
        let body = match &record.value {
            // The body is a copy, so that it doesn't hold the other records of its read.
            Some(value) => value.to_vec(),
            None if self.rule.retain => Vec::new(),
            None => return Err((Refused::Tombstone, "it has no value, and nothing is retained".into())),
        };
        let text = |name| record.header_str(name).map(Into::into);
        let content_type = text(headers::TYPE).or_else(|| self.rule.content_type.clone());
        let (event, about) = (text(headers::EVENT), record.header_str(headers::REF).and_then(|id| id.parse().ok()));
        let extras = about.map(|id| Box::new(Extras { about: Some(id), ..Extras::default() }));
        let message = Message { content_type, event, extras, retain: self.rule.retain, ..Message::new(topic, body) };
        publish::fit(message, rules, &self.common.setup.limits).map_err(|error| match error {
            Unfit::TooLarge(_) => (Refused::TooLarge, error.to_string()),
            error => (Refused::Unfit, error.to_string()),
        })
    }

    /// Puts a record that can't be published on the dead-letter topic, as it came.
    async fn bury(
        &self,
        record: ConsumerRecord,
        why: &str,
        dead: &krafka::producer::Producer,
    ) -> Result<(), KrafkaError> {
        let Some(topic) = &self.rule.dead_letter else { return Ok(()) };
        let place = format!("{}/{}/{}", record.topic, record.partition, record.offset);
        let mut buried = Record::new(topic.as_str(), record.value.clone().unwrap_or_default());
        if record.value.is_none() {
            buried = buried.without_value();
        }
        (buried.key, buried.headers) = (record.key, record.headers);
        let _ = dead.send(buried.header("everywire-why", why.to_owned()).header("everywire-from", place)).await?;
        Ok(())
    }

    /// Counts the records that are still to come.
    async fn look(&self, consumer: &Consumer, stands: &HashMap<i32, Stand>) {
        let behind = |(place, lag): (TopicPartition, krafka::consumer::PartitionLag)| {
            let end = u64::try_from(lag.last_stable_offset.or(lag.high_watermark)?).ok()?;
            let stand = stands.get(&place.partition())?;
            let accepted = self.flight.accepted(stand.source).unwrap_or_default();
            // Records that aren't carried are done if nothing is under way below them.
            let done = if accepted >= stand.after { stand.next } else { accepted };
            Some(end.saturating_sub(done))
        };
        let lag = consumer.lag().await.into_iter().filter_map(behind).sum();
        self.common.progress.set_lag(lag);
    }

    /// Commits the progress, for tools that watch the lag from outside.
    async fn commit(&self, admin: &AdminClient, stands: &HashMap<i32, Stand>) {
        let topic = self.rule.from.as_str();
        let offset = |(number, stand): (&i32, &Stand)| {
            let accepted = self.flight.accepted(stand.source)?;
            Some((TopicPartition::new(topic, *number), i64::try_from(accepted).ok()?))
        };
        let offsets: Vec<_> = stands.iter().filter_map(offset).collect();
        if offsets.is_empty() {
            return;
        }
        let group = format!("everywire-{}", self.common.name);
        let options = AlterConsumerGroupOffsetsOptions::default();
        let committing = admin.alter_consumer_group_offsets(group, offsets, options);
        let wrong = match timeout(ASKING, committing).await {
            Ok(Ok(results)) => results.into_values().find_map(Result::err).map(|error| error.to_string()),
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no answer".to_owned()),
        };
        if let Some(wrong) = wrong {
            tracing::debug!(bridge = &*self.common.name, "offsets are not committed for others to see: {wrong}");
        }
    }
}
