//! The HTTP API of the simulated node: the router as it is, over answers of the workers. Its clock stands still, so
//! that nothing in it ends by itself.

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use everywire_api::{
    Answer, Control, Guest, Health, Metrics, NoGuest, Readiness, State, TopicsPage, TopicsQuestion, Unanswered,
};
use everywire_base::ask::{Append, Call, Draft, Page, PublishError, Published, ReadKind, Reply};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Offset, Partition};
use everywire_base::id::{AskId, MessageId, ReplyTo};
use everywire_base::lab::Tally;
use everywire_base::limits::Limits;
use everywire_base::record::Record;
use everywire_base::registry::{ConnectionInfo, ConnectionsQuery, Everywhere, Recipient, TraceQuestion};
use everywire_base::rules::Rules;
use everywire_base::topic::{Filter, Topic};
use everywire_driver::{Mail, Question};
use everywire_log::engine::{Bell as _, Engine};
use everywire_rooms::Rooms;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::{JoinSet, yield_now};

use crate::ports::{Desk, SimBell};

/// The number of times that each call may go on in one step.
const POLLS: usize = 8;

type Calling = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// The API, and the calls under way.
pub(crate) struct Api {
    under_way: JoinSet<Reply>,
    runtime: Runtime,
    call: Box<dyn Fn(Call) -> Calling>,
}

impl Api {
    pub(crate) fn new(control: SimControl) -> Result<Self, String> {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let router = everywire_api::router(Arc::new(control));
        let call = move |call| -> Calling { Box::pin(everywire_api::call(router.clone(), call)) };
        let runtime = runtime.map_err(|error| error.to_string())?;
        Ok(Self { under_way: JoinSet::new(), runtime, call: Box::new(call) })
    }

    /// Takes the call at this place of the queue, lets all go on, and hands over what is answered; says whether
    /// anything was.
    pub(crate) fn step(&mut self, place: usize, desk: &Desk, bell: &SimBell) -> bool {
        let Self { under_way, runtime, call } = self;
        let taken = desk.calls.take(place);
        let mut moved = taken.is_some();
        runtime.block_on(async {
            if let Some(taken) = taken {
                under_way.spawn(call(taken));
            }
            for _ in 0..POLLS {
                yield_now().await;
            }
            while let Some(reply) = under_way.try_join_next() {
                moved = true;
                let reply = reply.expect("no call panics");
                bell.answer(reply.reply_to, Mail::Called(reply));
            }
        });
        moved
    }
}

/// The appends of the API.
#[derive(Default)]
pub(crate) struct Appends(Mutex<HashMap<u32, oneshot::Sender<Result<Published, PublishError>>>>);

impl Appends {
    fn ask(&self) -> (AskId, oneshot::Receiver<Result<Published, PublishError>>) {
        let (sender, outcome) = oneshot::channel();
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (0..u32::MAX).find(|number| !under_way.contains_key(number)).expect("few are under way");
        under_way.insert(free, sender);
        (AskId(free), outcome)
    }

    /// Hands on the outcome of an append.
    pub(crate) fn done(&self, ask: AskId, result: Result<Published, PublishError>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&ask.0);
        if let Some(sender) = sender {
            // The asker may be gone.
            let _ = sender.send(result);
        }
    }
}

/// Answers the API's questions that the world asks: the registry, and appends. It answers no others.
pub(crate) struct SimControl {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) bell: Arc<SimBell>,
    pub(crate) workers: u16,
    pub(crate) limits: Arc<Limits>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) rooms: Rooms,
}

fn unanswered<T: Send + 'static>() -> Answer<T> {
    Box::pin(async { Err(Unanswered::Failed) })
}

impl Control for SimControl {
    fn connections(&self, query: ConnectionsQuery) -> Answer<Everywhere<Vec<ConnectionInfo>>> {
        let (bell, workers) = (Arc::clone(&self.bell), self.workers);
        Box::pin(async move {
            let mut found = Vec::new();
            for worker in 0..workers {
                let (answer, answered) = oneshot::channel();
                let answer = Box::new(|found| drop(answer.send(found)));
                bell.send(worker, Mail::Asked(Question::Connections(query.clone(), answer)));
                found.extend(answered.await.map_err(|_| Unanswered::Closing)?);
            }
            Ok(Everywhere { found, missing: Vec::new() })
        })
    }

    fn append(&self, draft: Draft) -> Answer<Result<Published, PublishError>> {
        let (ask, outcome) = self.bell.appends.ask();
        let mut appends = vec![Append::new(ReplyTo::Api(ask), draft)];
        self.engine.submit(&mut appends);
        if !appends.is_empty() {
            self.bell.appends.done(ask, Err(PublishError::Busy));
        }
        Box::pin(async move { outcome.await.map_err(|_| Unanswered::Closing) })
    }

    fn topics(&self, _: TopicsQuestion) -> Answer<TopicsPage> {
        unanswered()
    }

    fn retained(&self, _: Filter) -> Answer<Vec<Arc<Record>>> {
        unanswered()
    }

    fn message(&self, _: MessageId) -> Answer<Option<Arc<Record>>> {
        unanswered()
    }

    fn pages(&self, _: Vec<(Topic, ReadKind)>) -> Answer<Vec<Page>> {
        unanswered()
    }

    fn heads(&self, _: Vec<Topic>) -> Answer<Vec<Offset>> {
        unanswered()
    }

    fn trace(&self, _: TraceQuestion) -> Answer<Everywhere<Vec<Recipient>>> {
        unanswered()
    }

    fn hash_password(&self, _: &str) -> Answer<Box<str>> {
        unanswered()
    }

    fn secret(&self) -> Option<Box<str>> {
        Some("simulated".into())
    }

    fn password_fits(&self, _: &str, _: &str) -> Answer<bool> {
        unanswered()
    }

    fn guest(&self, _: &str, _: IpAddr) -> Result<Guest, NoGuest> {
        Err(NoGuest::Off)
    }

    fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    fn now(&self) -> UnixMillis {
        self.bell.now()
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules)
    }

    fn offset(&self, cursor: &Cursor) -> Option<Offset> {
        cursor.position(Partition(0)).filter(|at| *at <= self.engine.tails()[0].head())
    }

    fn cursor(&self, offset: Offset) -> Cursor {
        Cursor::single(self.engine.lineage(Partition(0)).epoch, offset)
    }

    fn health(&self) -> Answer<Health> {
        Box::pin(async { Ok(Health::Alive) })
    }

    fn readiness(&self) -> Answer<Readiness> {
        Box::pin(async { Ok(Readiness { state: State::Ready, reasons: Vec::new() }) })
    }

    fn metrics(&self) -> Answer<Metrics> {
        unanswered()
    }

    fn lab(&self, _: &str) -> Option<Arc<Tally>> {
        None
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn version(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }
}
