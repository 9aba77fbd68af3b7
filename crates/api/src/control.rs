//! What the API asks of the running node.
//!
//! Each question is plain data and each answer a future, so that the node may answer from its own threads by message.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{Draft, PublishError, Published};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Offset};
use everywire_base::id::MessageId;
use everywire_base::identity::Identity;
use everywire_base::lab::Tally;
use everywire_base::limits::Limits;
use everywire_base::record::Record;
use everywire_base::registry::{ConnectionInfo, ConnectionsQuery, Recipient, TraceQuestion};
use everywire_base::rules::Rules;
use everywire_base::topic::{Filter, Topic};

/// How long a question may wait for its answer; then the caller of the API gets 503.
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

    /// Connections in the order of their names' places.
    fn connections(&self, query: ConnectionsQuery) -> Answer<Vec<ConnectionInfo>>;

    /// The retained messages that a filter takes, the server's own too.
    fn retained(&self, filter: Filter) -> Answer<Vec<Arc<Record>>>;

    /// A kept message.
    fn message(&self, id: MessageId) -> Answer<Option<Arc<Record>>>;

    /// What became of a message for those who are subscribed.
    fn trace(&self, question: TraceQuestion) -> Answer<Vec<Recipient>>;

    /// Appends a message of the server's own.
    fn append(&self, draft: Draft) -> Answer<Result<Published, PublishError>>;

    /// Makes a guest of this name for somebody at this address.
    fn guest(&self, name: &str, from: IpAddr) -> Result<Guest, NoGuest>;

    /// The rules that hold now.
    fn rules(&self) -> Arc<Rules>;

    /// The cursor of a place in the log.
    fn cursor(&self, offset: Offset) -> Cursor;

    /// Whether the node lives.
    fn health(&self) -> Answer<Health>;

    /// Whether the node serves.
    fn readiness(&self) -> Answer<Readiness>;

    /// All metrics.
    fn metrics(&self) -> Answer<Metrics>;

    /// What a label has cost, if it was used.
    fn lab(&self, label: &str) -> Option<Arc<Tally>>;

    /// The server's bounds.
    fn limits(&self) -> &Limits;

    /// The server's version, for people.
    fn version(&self) -> &'static str;
}

/// A guest who was just made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Proves who it is.
    pub token: String,
    /// The user that it is.
    pub user: String,
    /// The name that it gave itself.
    pub name: String,
    /// When the token ends.
    pub expires: UnixMillis,
}

/// Why somebody is no guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoGuest {
    /// No guests are taken.
    Off,
    /// Nobody can have this name, and why.
    Name(String),
    /// Too many came from the same address: in so long there is room.
    TooMany(Duration),
    /// Not just now.
    Unavailable,
}

/// Why a question has no answer.
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

/// Which topics are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicsQuestion {
    /// Who asks; `None` is anonymous.
    pub identity: Option<Arc<Identity>>,
    /// Those that the filter takes; all if there is none.
    pub filter: Option<Filter>,
    /// Those whose name is greater, by bytes.
    pub after: Option<Topic>,
    /// At most so many: from 1 to 1,000.
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

/// What is known of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub topic: Topic,
    /// The position of its last message.
    pub cursor: Cursor,
    /// How many messages are kept.
    pub count: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many connections of this node are subscribed to it.
    pub subscribers: u64,
}

/// Whether the node lives. It fails only for a stuck worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// All parts turn.
    Alive,
    /// Some part doesn't: which, for people.
    Stuck(Vec<String>),
}

/// Whether the node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The state.
    pub state: State,
    /// Why, for people; empty when ready.
    pub reasons: Vec<String>,
}

/// The states of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// What was stored is being read back.
    Restoring,
    /// It serves.
    Ready,
    /// It is going down.
    Draining,
    /// The engine doesn't answer.
    EngineDown,
}

impl State {
    /// The word for it in answers.
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
    /// Which of the two text formats it is.
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
