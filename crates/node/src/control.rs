//! What the API asks of this node.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use everywire_api::{
    Answer, Control, Guest, Health, Metrics, MetricsFormat, NoGuest, Readiness, State, TopicInfo, TopicsPage,
    TopicsQuestion, Unanswered,
};
use everywire_base::ask::{Append, Draft, Interest, PublishError, Published, Read, ReadKind};
use everywire_base::cursor::{Cursor, Offset, Partition};
use everywire_base::id::{MessageId, Ticket};
use everywire_base::lab::{Lab, Tally};
use everywire_base::limits::Limits;
use everywire_base::record::Record;
use everywire_base::registry::{ConnectionInfo, ConnectionsQuery, Recipient, TraceQuestion};
use everywire_base::rules::{Caller, Rules};
use everywire_base::topic::{Filter, Topic};
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post, Question, WorkerMetrics};
use everywire_log::engine::Engine;
use everywire_log::metrics::LogMetrics;
use everywire_store::{Store, StoreError};
use tokio::sync::oneshot;

use crate::authority::Checks;
use crate::doorbell::{Appends, wall_clock};
use crate::guests::Guests;
use crate::metrics::{self, Numbers};
use crate::readers::Readers;

/// A worker that is awake in one turn for longer than this is stuck.
const STUCK_MS: u64 = 10_000;

/// How long the store may be behind the log before it is read all the same.
const BEHIND: Duration = Duration::from_millis(500);

/// Retained messages, or topics, that are read at once.
const PAGE: usize = 1000;

/// Answers the API's questions from the node's parts.
pub(crate) struct NodeControl {
    pub(crate) store: Store,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) log: Arc<LogMetrics>,
    pub(crate) workers: Arc<[Arc<WorkerMetrics>]>,
    pub(crate) posts: Arc<[Post<Socket>]>,
    pub(crate) readers: Readers,
    pub(crate) checks: Checks,
    pub(crate) guests: Guests,
    pub(crate) appends: Arc<Appends>,
    pub(crate) lab: Arc<Lab>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) draining: Arc<AtomicBool>,
}

impl NodeControl {
    fn numbers(&self) -> Numbers {
        let head = self.engine.tails()[0].head();
        Numbers {
            workers: self.workers.to_vec(),
            log: Arc::clone(&self.log),
            store: self.store.clone(),
            store_lag: head.0.saturating_sub(self.store.applied().0),
            log_bytes: self.engine.archive(Partition(0)).bytes(),
            tail_bytes: self.engine.tails().iter().map(|t| t.bytes()).sum(),
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

    fn connections(&self, query: ConnectionsQuery) -> Answer<Vec<ConnectionInfo>> {
        let posts = Arc::clone(&self.posts);
        Box::pin(async move {
            let mut found = Vec::new();
            for post in &*posts {
                let query = ConnectionsQuery { limit: query.limit.saturating_sub(found.len()), ..query.clone() };
                let ask = |answer| Question::Connections(query, answer);
                found.extend(asked(post, ask).await?);
            }
            Ok(found)
        })
    }

    fn retained(&self, filter: Filter) -> Answer<Vec<Arc<Record>>> {
        let (store, tail) = (self.store.clone(), Arc::clone(&self.engine.tails()[0]));
        let read = move |asked: &Asker| {
            // What was just appended is found.
            store.wait(tail.head(), BEHIND);
            let interests: Arc<[Interest]> = Arc::new([Interest { filter, since: Offset::BEGINNING }]);
            let (mut records, mut after) = (Vec::new(), None);
            loop {
                let (ticket, partition, applied) = (Ticket::default(), Partition(0), Offset::BEGINNING);
                let kind = ReadKind::Retained { after, max_records: PAGE };
                let read = Read { ticket, partition, interests: Arc::clone(&interests), applied, kind };
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
            // What is the server's own is nobody's message.
            let is_public = |r: &Arc<Record>| r.message().is_some_and(|m| !m.topic.as_str().starts_with('$'));
            found.map(|found| found.filter(is_public)).map_err(|_| Unanswered::Failed)
        })
    }

    fn trace(&self, question: TraceQuestion) -> Answer<Vec<Recipient>> {
        let posts = Arc::clone(&self.posts);
        Box::pin(async move {
            let mut found = Vec::new();
            for post in &*posts {
                let question = TraceQuestion { limit: question.limit.saturating_sub(found.len()), ..question.clone() };
                let ask = |answer| Question::Trace(question, answer);
                found.extend(asked(post, ask).await?);
            }
            Ok(found)
        })
    }

    fn append(&self, draft: Draft) -> Answer<Result<Published, PublishError>> {
        let (ask, outcome) = self.appends.ask();
        let worker = self.posts.len() as u16;
        let mut appends = vec![Append::new(Ticket { worker, ask, ..Ticket::default() }, draft)];
        self.engine.submit(&mut appends);
        if !appends.is_empty() {
            self.appends.done(ask, Err(PublishError::Busy));
        }
        Box::pin(async move { outcome.await.map_err(|_| Unanswered::Closing) })
    }

    fn guest(&self, name: &str, from: IpAddr) -> Result<Guest, NoGuest> {
        let everywire_auth::Guest { token, user, name, expires } = self.guests.make(name, from)?;
        Ok(Guest { token, user, name, expires })
    }

    fn rules(&self) -> Arc<Rules> {
        self.store.rules()
    }

    fn cursor(&self, offset: Offset) -> Cursor {
        Cursor::single(self.engine.lineage(Partition(0)).epoch, offset)
    }

    fn health(&self) -> Answer<Health> {
        let now = wall_clock().0;
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

/// What a worker answers.
async fn asked<T: Send + 'static>(
    post: &Post<Socket>,
    question: impl FnOnce(Box<dyn FnOnce(T) + Send>) -> Question,
) -> Result<T, Unanswered> {
    let (answer, answered) = oneshot::channel();
    let question = question(Box::new(|found| drop(answer.send(found))));
    post.send(Mail::Asked(question)).map_err(|_| Unanswered::Closing)?;
    answered.await.map_err(|_| Unanswered::Closing)
}

/// Whether somebody still waits for what is being read.
struct Asker(Weak<()>);

impl Asker {
    fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Reads on a thread of its own. What reads ends when whoever has asked is gone, or has waited for long enough.
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

/// How many connections of all workers are subscribed to each topic.
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
