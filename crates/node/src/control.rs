//! The node's answers to the API's questions.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use everywire_api::{
    Answer, Control, Guest, Health, Metrics, MetricsFormat, NoGuest, Readiness, State, TopicInfo, TopicsPage,
    TopicsQuestion, Unanswered,
};
use everywire_base::ask::{Draft, Interest, Page, PublishError, Published, Read, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Offset, Partition};
use everywire_base::id::{MessageId, ReplyTo};
use everywire_base::lab::{Lab, Tally};
use everywire_base::limits::Limits;
use everywire_base::record::Record;
use everywire_base::registry::{ConnectionInfo, ConnectionsQuery, Everywhere, Recipient, TraceQuestion};
use everywire_base::rules::{Caller, Rules};
use everywire_base::topic::{Filter, Topic};
use everywire_bridge::Progress;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post, WorkerMetrics};
use everywire_log::engine::{Engine, Link};
use everywire_log::metrics::LogMetrics;
use everywire_rooms::Rooms;
use everywire_store::{Store, StoreError};
use tokio::sync::oneshot;

use crate::authority::Checks;
use crate::doorbell::wall_clock;
use crate::guests::Guests;
use crate::metrics::{self, Numbers};
use crate::peers::Peers;
use crate::readers::Readers;

/// A worker whose turn lasts longer than this is stuck.
const STUCK_MS: u64 = 10_000;

/// The longest that the store may be behind the log before it is read all the same.
const BEHIND: Duration = Duration::from_millis(500);

/// The number of retained messages, or topics, that one read returns.
const PAGE: usize = 1000;

/// Answers the API's questions from the node's parts.
pub(crate) struct NodeControl {
    /// The beginning of the workers' steady time.
    pub(crate) began: Instant,
    pub(crate) store: Store,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) log: Arc<LogMetrics>,
    pub(crate) workers: Arc<[Arc<WorkerMetrics>]>,
    pub(crate) bridges: Arc<[Arc<Progress>]>,
    pub(crate) posts: Arc<[Post<Socket>]>,
    pub(crate) readers: Readers,
    pub(crate) checks: Checks,
    pub(crate) guests: Guests,
    pub(crate) peers: Peers,
    pub(crate) lab: Arc<Lab>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) draining: Arc<AtomicBool>,
}

impl NodeControl {
    fn numbers(&self) -> Numbers {
        let head = self.engine.tails()[0].head();
        Numbers {
            workers: self.workers.to_vec(),
            bridges: Arc::clone(&self.bridges),
            log: Arc::clone(&self.log),
            store: self.store.clone(),
            rooms: self.rooms.counts(),
            nodes: self.engine.roster().map_or(1, |roster| roster.count() as u64),
            store_lag: head.0.saturating_sub(self.store.applied().0),
            log_bytes: self.engine.archive(Partition(0)).bytes(),
            tail_bytes: self.engine.tails().iter().map(|t| t.bytes()).sum(),
            kept: self.engine.tails().iter().map(|tail| Arc::clone(tail.kept())).collect(),
            reads_waiting: self.readers.waiting() as u64,
            checks_waiting: self.checks.waiting() as u64,
            checks: self.checks.results(),
        }
    }
}

impl Control for NodeControl {
    fn topics(&self, question: TopicsQuestion) -> Answer<TopicsPage> {
        let (store, posts) = (self.store.clone(), Arc::clone(&self.posts));
        let epoch = self.engine.lineage(Partition(0)).epoch;
        Box::pin(async move {
            let limit = question.limit;
            let all = || Filter::parse("#").expect("a filter");
            let filter = question.filter.unwrap_or_else(all);
            let who = question.identity;
            let read =
                move |asked: &Asker| visible_topics(&store, asked, who.as_deref(), &filter, question.after, limit + 1);
            let mut found = blocking(read).await?.map_err(|_| Unanswered::Failed)?;
            let more = found.len() > limit;
            found.truncate(limit);
            let counts = subscribers(&posts, found.iter().map(|t| t.topic.clone()).collect()).await;
            let info = |(topic, subscribers): (everywire_store::TopicInfo, u64)| TopicInfo {
                cursor: Cursor::single(epoch, topic.head),
                topic: topic.topic,
                count: topic.count,
                bytes: topic.bytes,
                subscribers,
            };
            Ok(TopicsPage { topics: found.into_iter().zip(counts).map(info).collect(), more })
        })
    }

    fn connections(&self, query: ConnectionsQuery) -> Answer<Everywhere<Vec<ConnectionInfo>>> {
        Box::pin(self.peers.clone().connections(query))
    }

    fn retained(&self, filter: Filter) -> Answer<Vec<Arc<Record>>> {
        let (store, tail) = (self.store.clone(), Arc::clone(&self.engine.tails()[0]));
        let read = move |asked: &Asker| {
            // A record just appended is found.
            store.wait(tail.head(), BEHIND);
            let interests: Arc<[Interest]> = Arc::new([Interest { filter, since: Offset::BEGINNING }]);
            let (mut records, mut after) = (Vec::new(), None);
            loop {
                let (reply_to, partition, applied) = (ReplyTo::Nobody, Partition(0), Offset::BEGINNING);
                let kind = ReadKind::Retained { after, max_records: PAGE };
                let read = Read { reply_to, partition, interests: Arc::clone(&interests), applied, kind };
                let page = store.read(&read, wall_clock());
                records.extend(page.records);
                after = page.next;
                if page.failed || asked.is_gone() {
                    return Err(Unanswered::Failed);
                }
                if after.is_none() {
                    return Ok(records);
                }
            }
        };
        Box::pin(async move { blocking(read).await? })
    }

    fn message(&self, id: MessageId) -> Answer<Option<Arc<Record>>> {
        let store = self.store.clone();
        let read = move |_: &Asker| {
            store.wait(id.offset(), BEHIND);
            store.message(id, wall_clock())
        };
        Box::pin(async move {
            let found = blocking(read).await?;
            // Messages of topics that begin with `$` are the server's own.
            let is_public = |r: &Arc<Record>| r.message().is_some_and(|m| !m.topic.as_str().starts_with('$'));
            found.map(|found| found.filter(is_public)).map_err(|_| Unanswered::Failed)
        })
    }

    fn pages(&self, asked: Vec<(Topic, ReadKind)>) -> Answer<Vec<Page>> {
        let (store, tail) = (self.store.clone(), Arc::clone(&self.engine.tails()[0]));
        let read = move |asker: &Asker| {
            store.wait(tail.head(), BEHIND);
            let mut pages = Vec::with_capacity(asked.len());
            for (topic, kind) in asked {
                let (reply_to, partition, applied) = (ReplyTo::Nobody, Partition(0), Offset::BEGINNING);
                let interests = Arc::new([Interest { filter: Filter::Exact(topic), since: Offset::BEGINNING }]);
                let page = store.read(&Read { reply_to, partition, interests, applied, kind }, wall_clock());
                if page.failed || asker.is_gone() {
                    return Err(Unanswered::Failed);
                }
                pages.push(page);
            }
            Ok(pages)
        };
        Box::pin(async move { blocking(read).await? })
    }

    fn heads(&self, topics: Vec<Topic>) -> Answer<Vec<Offset>> {
        let (store, tail) = (self.store.clone(), Arc::clone(&self.engine.tails()[0]));
        let read = move |_: &Asker| {
            store.wait(tail.head(), BEHIND);
            let head = |topic| store.topic(topic).map(|info| info.map_or(Offset::BEGINNING, |info| info.head));
            topics.iter().map(head).collect::<Result<Vec<_>, StoreError>>()
        };
        Box::pin(async move { blocking(read).await?.map_err(|_| Unanswered::Failed) })
    }

    fn trace(&self, question: TraceQuestion) -> Answer<Everywhere<Vec<Recipient>>> {
        Box::pin(self.peers.clone().trace(question))
    }

    fn append(&self, draft: Draft) -> Answer<Result<Published, PublishError>> {
        let outcome = self.peers.append(draft);
        Box::pin(async move { outcome.await.map_err(|_| Unanswered::Closing) })
    }

    fn guest(&self, name: &str, from: IpAddr) -> Result<Guest, NoGuest> {
        let everywire_auth::Guest { token, user, name, expires } = self.guests.make(name, from)?;
        Ok(Guest { token, user, name, expires })
    }

    fn hash_password(&self, password: &str) -> Answer<Box<str>> {
        let password = password.to_owned();
        Box::pin(async move {
            let mut salt = [0; 16];
            let drawn = getrandom::fill(&mut salt);
            drawn.map_err(|_| Unanswered::Failed)?;
            blocking(move |_| everywire_auth::hash_password(&password, &salt)).await?.ok_or(Unanswered::Failed)
        })
    }

    fn secret(&self) -> Option<Box<str>> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).ok()?;
        Some(format!("{:032x}", u128::from_le_bytes(random)).into())
    }

    fn password_fits(&self, hash: &str, password: &str) -> Answer<bool> {
        let (hash, password) = (hash.to_owned(), password.to_owned());
        Box::pin(blocking(move |_| everywire_auth::password_fits(&hash, &password)))
    }

    fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    fn now(&self) -> UnixMillis {
        wall_clock()
    }

    fn rules(&self) -> Arc<Rules> {
        self.store.rules()
    }

    fn offset(&self, cursor: &Cursor) -> Option<Offset> {
        let (lineage, at) = (self.engine.lineage(Partition(0)), cursor.position(Partition(0))?);
        let fork = lineage.valid_up_to(cursor.epoch)?;
        (at <= fork && at <= self.engine.tails()[0].head()).then_some(at)
    }

    fn cursor(&self, offset: Offset) -> Cursor {
        Cursor::single(self.engine.lineage(Partition(0)).epoch, offset)
    }

    fn health(&self) -> Answer<Health> {
        let now = self.began.elapsed().as_millis() as u64;
        let stuck = |m: &WorkerMetrics| {
            let began = m.turn_began_ms.get();
            // Before its first turn a worker is starting.
            m.sleeping.get() == 0 && began > 0 && now.saturating_sub(began) > STUCK_MS
        };
        let workers = self.workers.iter().enumerate();
        let stuck: Vec<String> = workers.filter(|w| stuck(w.1)).map(|w| format!("worker {} is stuck", w.0)).collect();
        Box::pin(async { Ok(if stuck.is_empty() { Health::Alive } else { Health::Stuck(stuck) }) })
    }

    fn readiness(&self) -> Answer<Readiness> {
        let draining = self.draining.load(Ordering::Acquire);
        let (state, reasons) = if draining {
            (State::Draining, vec!["the server is going down".to_owned()])
        } else if self.engine.link() != Link::Up {
            (State::EngineDown, vec![format!("the engine {} doesn't answer", self.engine.name())])
        } else {
            (State::Ready, Vec::new())
        };
        Box::pin(async move { Ok(Readiness { state, reasons }) })
    }

    fn metrics(&self) -> Answer<Metrics> {
        let text = metrics::text(self.numbers());
        Box::pin(async {
            Ok(Metrics { format: MetricsFormat::OpenMetrics, text: text.map_err(|_| Unanswered::Failed)? })
        })
    }

    fn lab(&self, label: &str) -> Option<Arc<Tally>> {
        self.lab.look(label)
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}

/// A sign of whether somebody still waits for what is being read.
struct Asker(Weak<()>);

impl Asker {
    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Reads on a thread of its own. The read ends when its asker is gone or has waited for long enough.
async fn blocking<T: Send + 'static>(read: impl FnOnce(&Asker) -> T + Send + 'static) -> Result<T, Unanswered> {
    let waits = Arc::new(());
    let asker = Asker(Arc::downgrade(&waits));
    let read = tokio::task::spawn_blocking(move || if asker.is_gone() { None } else { Some(read(&asker)) });
    let found = read.await.ok().flatten().ok_or(Unanswered::Failed);
    drop(waits);
    found
}

/// The first topics above `after` that the caller may subscribe to (RULES 26).
fn visible_topics(
    store: &Store,
    asked: &Asker,
    who: Caller<'_>,
    filter: &Filter,
    mut after: Option<Topic>,
    wanted: usize,
) -> Result<Vec<everywire_store::TopicInfo>, StoreError> {
    let (rules, mut visible) = (store.rules(), Vec::new());
    loop {
        let page = store.topics(filter, after.as_ref(), PAGE)?;
        let is_last = page.len() < PAGE;
        after = page.last().map(|info| info.topic.clone());
        visible.extend(page.into_iter().filter(|i| rules.may_subscribe(who, &Filter::Exact(i.topic.clone())).is_ok()));
        if is_last || visible.len() >= wanted || asked.is_gone() {
            visible.truncate(wanted);
            return Ok(visible);
        }
    }
}

/// The number of connections, on all workers, that are subscribed to each topic.
async fn subscribers(posts: &[Post<Socket>], topics: Vec<Topic>) -> Vec<u64> {
    let mut sums = vec![0; topics.len()];
    for post in posts {
        let (answer, counts) = oneshot::channel();
        let question = Mail::Subscribers(topics.clone(), Box::new(|counts| drop(answer.send(counts))));
        if post.send(question).is_ok() {
            let counts = counts.await.unwrap_or_default();
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_read_ends_with_its_asker() {
        let (told, heard) = std::sync::mpsc::channel();
        let read = move |asked: &Asker| {
            told.send("begun").unwrap();
            while !asked.is_gone() {
                std::thread::yield_now();
            }
            told.send("over").unwrap();
        };
        let asking = tokio::spawn(blocking(read));
        tokio::task::yield_now().await;
        assert_eq!(heard.recv(), Ok("begun"));
        asking.abort();
        assert!(asking.await.is_err());
        assert_eq!(heard.recv(), Ok("over"));
    }
}
