//! Questions to the other nodes that share the log: a record asks all that live, and each answers by a record.
//!
//! A node that doesn't answer in time is named to the asker. Questions and answers are passing records: if one is lost,
//! the asker may ask again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use everywire_api::Unanswered;
use everywire_base::ask::{Append, Draft, PublishError, Published};
use everywire_base::id::{NodeLife, ReplyTo};
use everywire_base::record::{Durability, Record};
use everywire_base::registry::{
    ConnectionInfo, ConnectionsQuery, Everywhere, NodeAnswered, NodeFound, NodesAsked, NodesQuestion, Recipient,
    TraceQuestion,
};
use everywire_base::roster::split;
use everywire_base::system;
use everywire_base::topic::Topic;
use everywire_driver::mio_net::Socket;
use everywire_driver::{Mail, Post, Question};
use everywire_log::engine::Engine;
use everywire_log::tail::Watch;
use tokio::sync::{mpsc, oneshot};

use crate::doorbell::Appends;

/// The time that the others have for an answer.
const WITHIN: Duration = Duration::from_secs(2);

/// The questions and answers of other nodes, as the thread that shows records sees them.
pub(crate) struct Inbox {
    /// The questions of this node that wait for answers, by number.
    waiting: Mutex<HashMap<u64, mpsc::Sender<NodeAnswered>>>,
    /// The questions of others to this node, bounded: a question that finds no room is not answered.
    asked: mpsc::Sender<NodesAsked>,
    life: String,
    /// The most questions of this node at once.
    most: usize,
}

impl Inbox {
    /// An inbox for the questions and answers to this life of the node, with room for `most`; and the questions to it.
    pub(crate) fn new(life: &NodeLife, most: usize) -> (Arc<Self>, mpsc::Receiver<NodesAsked>) {
        let (asked, questions) = mpsc::channel(most);
        (Arc::new(Self { waiting: Mutex::default(), asked, life: life.prefix(), most }), questions)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<NodeAnswered>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Inbox {
    fn see(&self, record: &Record) {
        let Some(system) = record.system() else { return };
        match system.topic.as_str() {
            system::ASK => {
                let asked = system::read::<NodesAsked>(system);
                if let Some(asked) = asked.filter(|asked| asked.lives.iter().any(|life| **life == *self.life)) {
                    // A question that finds no room isn't answered.
                    let _ = self.asked.try_send(asked);
                }
            }
            system::ANSWER if !self.waiting().is_empty() => {
                let Some(answer) = system::read::<NodeAnswered>(system) else { return };
                if let Some(asker) = self.waiting().get(&answer.id) {
                    // The asker may have given up. Each node that was asked answers once, and has room.
                    let _ = asker.try_send(answer);
                }
            }
            _ => {}
        }
    }
}

/// A question of this node, which waits for answers as long as this lives.
struct Waiting<'a>(&'a Inbox, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting().remove(&self.1);
    }
}

/// The connections of this node's workers.
#[derive(Clone)]
pub(crate) struct Workers(pub(crate) Arc<[Post<Socket>]>);

impl Workers {
    async fn connections(&self, query: ConnectionsQuery) -> Result<Vec<ConnectionInfo>, Unanswered> {
        let mut found = Vec::new();
        for post in &*self.0 {
            let query = ConnectionsQuery { limit: query.limit.saturating_sub(found.len()), ..query.clone() };
            found.extend(asked(post, |answer| Question::Connections(query, answer)).await?);
        }
        Ok(found)
    }

    async fn trace(&self, question: TraceQuestion) -> Result<Vec<Recipient>, Unanswered> {
        let mut found = Vec::new();
        for post in &*self.0 {
            let question = TraceQuestion { limit: question.limit.saturating_sub(found.len()), ..question.clone() };
            found.extend(asked(post, |answer| Question::Trace(question, answer)).await?);
        }
        Ok(found)
    }

    async fn find(&self, question: NodesQuestion) -> Result<NodeFound, Unanswered> {
        Ok(match question {
            NodesQuestion::Connections(query) => NodeFound::Connections(self.connections(query).await?),
            NodesQuestion::Trace(question) => NodeFound::Recipients(self.trace(question).await?),
        })
    }
}

/// The answer of a worker.
async fn asked<T: Send + 'static>(
    post: &Post<Socket>,
    question: impl FnOnce(Box<dyn FnOnce(T) + Send>) -> Question,
) -> Result<T, Unanswered> {
    let (answer, answered) = oneshot::channel();
    let question = question(Box::new(|found| drop(answer.send(found))));
    post.send(Mail::Asked(question)).map_err(|_| Unanswered::Closing)?;
    answered.await.map_err(|_| Unanswered::Closing)
}

/// All nodes that share the log, or the one that has it alone.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) workers: Workers,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) appends: Arc<Appends>,
    pub(crate) random: fn() -> u128,
}

/// A life of another node: the prefix of its connections' names, and the node's name.
type Other = (Box<str>, Box<str>);

impl Peers {
    /// Appends a message of the server itself.
    pub(crate) fn append(&self, draft: Draft) -> oneshot::Receiver<Result<Published, PublishError>> {
        let (ask, outcome) = self.appends.ask();
        let mut appends = vec![Append::new(ReplyTo::Api(ask), draft)];
        self.engine.submit(&mut appends);
        if !appends.is_empty() {
            self.appends.done(ask, Err(PublishError::Busy));
        }
        outcome
    }

    /// The connections of all nodes that a query matches, node by node. A page goes on at the node of the connection
    /// that it comes after, and at those behind it.
    pub(crate) async fn connections(
        self,
        query: ConnectionsQuery,
    ) -> Result<Everywhere<Vec<ConnectionInfo>>, Unanswered> {
        let limit = query.limit;
        let life_of = |name: &Option<Box<str>>| {
            name.as_deref().map(|name| split(name).map(|(node, boot, ..)| format!("{node}-{boot}")).unwrap_or_default())
        };
        let (named, after) = (life_of(&query.name), life_of(&query.after));
        let is_meant = |life: &str| {
            named.as_deref().is_none_or(|named| named == life) && after.as_deref().is_none_or(|after| after <= life)
        };
        let of = |life: &str| {
            let goes_on = after.as_deref() == Some(life);
            ConnectionsQuery { after: query.after.clone().filter(|_| goes_on), ..query.clone() }
        };
        let own =
            if is_meant(&self.inbox.life) { self.workers.connections(of(&self.inbox.life)).await? } else { Vec::new() };
        let mut all = vec![(self.inbox.life.as_str().into(), NodeFound::Connections(own))];
        let (going_on, anew): (Vec<Other>, Vec<Other>) =
            self.others(is_meant).into_iter().partition(|(life, _)| after.as_deref() == Some(&**life));
        let mut missing = Vec::new();
        for others in [going_on, anew] {
            let Some((life, _)) = others.first() else { continue };
            let answers = self.ask(NodesQuestion::Connections(of(life)), &others).await;
            all.extend(answers.found);
            missing.extend(answers.missing);
        }
        all.sort_unstable_by(|one: &(Box<str>, _), other| one.0.cmp(&other.0));
        let connections = |(_, found)| if let NodeFound::Connections(found) = found { found } else { Vec::new() };
        let found = all.into_iter().flat_map(connections).take(limit).collect();
        Ok(Everywhere { found, missing })
    }

    /// The fate of a message for each of its subscribers at all nodes.
    pub(crate) async fn trace(self, question: TraceQuestion) -> Result<Everywhere<Vec<Recipient>>, Unanswered> {
        let limit = question.limit;
        let own = self.workers.trace(question.clone()).await?;
        let Everywhere { mut found, missing } = self.ask(NodesQuestion::Trace(question), &self.others(|_| true)).await;
        found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let recipients = |(_, found)| if let NodeFound::Recipients(found) = found { found } else { Vec::new() };
        let found = own.into_iter().chain(found.into_iter().flat_map(recipients)).take(limit).collect();
        Ok(Everywhere { found, missing })
    }

    fn others(&self, is_meant: impl Fn(&str) -> bool) -> Vec<Other> {
        let Some(roster) = self.engine.roster() else { return Vec::new() };
        let lives = roster.lives().map(|life| (Box::from(life.prefix()), life.node.clone()));
        lives.filter(|(life, _): &Other| **life != *self.inbox.life && is_meant(life)).collect()
    }

    /// Asks these, and waits until all have answered, or not for longer.
    async fn ask(&self, question: NodesQuestion, others: &[Other]) -> Everywhere<Vec<(Box<str>, NodeFound)>> {
        let (mut found, mut missing) = (Vec::new(), others.to_vec());
        if !missing.is_empty() {
            let collect = self.collect(question, &mut found, &mut missing);
            // Those that have not answered by then are still among the missing.
            let _ = tokio::time::timeout(WITHIN, collect).await;
        }
        let mut missing: Vec<Box<str>> = missing.into_iter().map(|(_, node)| node).collect();
        missing.sort_unstable();
        Everywhere { found, missing }
    }

    async fn collect(
        &self,
        question: NodesQuestion,
        found: &mut Vec<(Box<str>, NodeFound)>,
        missing: &mut Vec<Other>,
    ) -> Option<()> {
        let id = (self.random)() as u64;
        let (sender, mut answers) = mpsc::channel(missing.len());
        {
            let mut waiting = self.inbox.waiting();
            if waiting.len() >= self.inbox.most {
                return None;
            }
            waiting.insert(id, sender);
        }
        let _waiting = Waiting(&self.inbox, id);
        let lives = missing.iter().map(|(life, _)| life.clone()).collect();
        let asked = system::record(Topic::parse(system::ASK).ok()?, &NodesAsked { id, lives, question }, false);
        self.append(Draft::new(asked, Durability::None)).await.ok()?.ok()?;
        while !missing.is_empty() {
            let answer = answers.recv().await?;
            let Some(place) = missing.iter().position(|(life, _)| *life == answer.life) else { continue };
            missing.swap_remove(place);
            found.push((answer.life, answer.found));
        }
        Some(())
    }

    /// Answers the others until the node ends.
    pub(crate) async fn answer(self, mut questions: mpsc::Receiver<NodesAsked>) {
        while let Some(NodesAsked { id, question, .. }) = questions.recv().await {
            // A worker that is stuck holds up nobody else's question for longer than its asker waits.
            let found = tokio::time::timeout(WITHIN, self.workers.find(question)).await;
            let Ok(Ok(found)) = found else { continue };
            let life = self.inbox.life.as_str().into();
            let topic = Topic::parse(system::ANSWER).expect("a short name without wildcards");
            let answer = system::record(topic, &NodeAnswered { id, life, found }, false);
            // An answer that is lost is missed by the asker.
            drop(self.append(Draft::new(answer, Durability::None)));
        }
    }
}
