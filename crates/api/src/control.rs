//! The questions of the API to the running node.
//!
//! Each question is plain data and each answer a future, so that the node may answer from its own threads by message.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Draft, Page, PublishError, Published, ReadKind};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::id::MessageId;
use everywire_base::identity::Identity;
use everywire_base::lab::Tally;
use everywire_base::limits::Limits;
use everywire_base::record::Record;
use everywire_base::registry::{ConnectionInfo, ConnectionsQuery, Everywhere, Recipient, TraceQuestion};
use everywire_base::rules::Rules;
use everywire_base::topic::{Filter, Topic};
use everywire_rooms::Rooms;

/// The longest that a question may wait for its answer; then the caller of the API gets 503.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// An answer on its way.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Unanswered>> + Send>>;

/// Waits for an answer, but not for ever.
pub(crate) async fn answered<T>(answer: Answer<T>) -> Result<T, Unanswered> {
    tokio::time::timeout(ANSWER_WITHIN, answer).await.unwrap_or(Err(Unanswered::Late))
}

/// Answers questions about the running node. The node implements it; nothing here may block.
pub trait Control: Send + Sync + 'static {
    /// A page of the topics that the caller may subscribe to, ascending by name.
    fn topics(&self, question: TopicsQuestion) -> Answer<TopicsPage>;

    /// The connections of all nodes that a query matches, in the order of the nodes' names and of their places there.
    fn connections(&self, query: ConnectionsQuery) -> Answer<Everywhere<Vec<ConnectionInfo>>>;

    /// The retained messages on topics that a filter matches, the server's own too.
    fn retained(&self, filter: Filter) -> Answer<Vec<Arc<Record>>>;

    /// A kept message.
    fn message(&self, id: MessageId) -> Answer<Option<Arc<Record>>>;

    /// Pages of topics, one after the other; each is at least as new as what was appended before it was asked for.
    fn pages(&self, asked: Vec<(Topic, ReadKind)>) -> Answer<Vec<Page>>;

    /// The offsets of the last messages of some topics; the beginning for a topic without messages.
    fn heads(&self, topics: Vec<Topic>) -> Answer<Vec<Offset>>;

    /// The fate of a message for each of its subscribers at all nodes.
    fn trace(&self, question: TraceQuestion) -> Answer<Everywhere<Vec<Recipient>>>;

    /// Appends a message of the server itself.
    fn append(&self, draft: Draft) -> Answer<Result<Published, PublishError>>;

    /// Makes a guest of this name for somebody at this address.
    fn guest(&self, name: &str, from: IpAddr) -> Result<Guest, NoGuest>;

    /// The hash of a password, which takes its time.
    fn hash_password(&self, password: &str) -> Answer<Box<str>>;

    /// A secret from the system's randomness; `None` if it gives none.
    fn secret(&self) -> Option<Box<str>>;

    /// Whether a hash is that of a password, which takes its time too.
    fn password_fits(&self, hash: &str, password: &str) -> Answer<bool>;

    /// All rooms.
    fn rooms(&self) -> &Rooms;

    /// The time.
    fn now(&self) -> UnixMillis;

    /// The rules that hold now.
    fn rules(&self) -> Arc<Rules>;

    /// The place of a cursor, if it is of this log and not beyond its end.
    fn offset(&self, cursor: &Cursor) -> Option<Offset>;

    /// The cursor of a place in the log.
    fn cursor(&self, offset: Offset) -> Cursor;

    /// Whether the node lives.
    fn health(&self) -> Answer<Health>;

    /// Whether the node serves.
    fn readiness(&self) -> Answer<Readiness>;

    /// All metrics.
    fn metrics(&self) -> Answer<Metrics>;

    /// The cost of a label, if it was used.
    fn lab(&self, label: &str) -> Option<Arc<Tally>>;

    /// The server's bounds.
    fn limits(&self) -> &Limits;

    /// The server's version, for people.
    fn version(&self) -> &'static str;
}

/// A guest who was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// The token that proves who the guest is.
    pub token: String,
    /// The guest's user.
    pub user: String,
    /// The name that the guest chose.
    pub name: String,
    /// The time at which the token ends.
    pub expires: UnixMillis,
}

/// The reason why no guest is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoGuest {
    /// No guests are taken.
    Off,
    /// Nobody can have this name, for this reason.
    Name(String),
    /// Too many guests came from the same address. It may ask again after this time.
    TooMany(Duration),
    /// The server can't make one at the moment.
    Unavailable,
}

/// The reason why a question has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unanswered {
    /// Too many questions wait already.
    Busy,
    /// The node is going down.
    Closing,
    /// The part of the node that knows the answer failed.
    Failed,
    /// No answer came within [`ANSWER_WITHIN`].
    Late,
}

/// The topics that are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicsQuestion {
    /// The caller; `None` is anonymous.
    pub identity: Option<Arc<Identity>>,
    /// The filter that the topics match; without one, all.
    pub filter: Option<Filter>,
    /// The topic after which the page begins, by bytes.
    pub after: Option<Topic>,
    /// The most topics: from 1 to 1,000.
    pub limit: usize,
}

/// Some topics.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicsPage {
    /// Ascending by name.
    pub topics: Vec<TopicInfo>,
    /// Whether there are further ones.
    pub more: bool,
}

/// The numbers of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub topic: Topic,
    /// The position of its last message.
    pub cursor: Cursor,
    /// The number of kept messages.
    pub count: u64,
    /// The number of their bytes.
    pub bytes: u64,
    /// The number of connections of this node that are subscribed to it.
    pub subscribers: u64,
}

/// Whether the node lives. It fails only for a stuck worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// All parts make progress.
    Alive,
    /// Some parts don't: their names, for people.
    Stuck(Vec<String>),
}

/// Whether the node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The state.
    pub state: State,
    /// The reasons, for people; empty when ready.
    pub reasons: Vec<String>,
}

/// The states of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The stored data is being read back.
    Restoring,
    /// The node serves.
    Ready,
    /// The node is going down.
    Draining,
    /// The engine doesn't answer.
    EngineDown,
}

impl State {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Restoring => "restoring",
            State::Ready => "ready",
            State::Draining => "draining",
            State::EngineDown => "engine_down",
        }
    }
}

/// All metrics as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// The text format.
    pub format: MetricsFormat,
    /// The text.
    pub text: String,
}

/// The text formats that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Prometheus' own, 0.0.4.
    Prometheus,
    /// `OpenMetrics` 1.0.0, with `# EOF` at its end.
    OpenMetrics,
}

impl MetricsFormat {
    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            MetricsFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            MetricsFormat::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}
