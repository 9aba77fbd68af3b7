//! The machine: the client's identity, and the asks that wait for answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{
    Ack, Asker, AuthError, Authenticate, Credentials, Login, LookBack, NoPast, NotPublished, Published, SessionWish,
    Subscribe, Subscribed, Unsubscribe, Welcome as Entered,
};
use everywire_base::clock::Monotonic;
use everywire_base::cursor::{Cursor, Partition, Start};
use everywire_base::id::AskId;
use everywire_base::identity::{Identity, check_name};
use everywire_base::notice::{Notice, Refused};
use everywire_base::parcel::{Delivery, Taken};
use everywire_base::reason::Reason;
use everywire_base::rules::Refusal;
use everywire_base::terms::RetainHandling;
use everywire_base::topic::{Filter, Topic};
use everywire_native_frames::HEARTBEAT_SECONDS;
use everywire_wire::{Answer, Ask, Carried, Carrier, Flow, Kind};
use smallvec::SmallVec;

use crate::frames::{Hello, Problem, Publish, Request, Response, Welcome, close};
use crate::{calls, json, protobuf, publish};

/// The time that a session lives after its connection, if `hello` doesn't say.
const DEFAULT_EXPIRY: Duration = Duration::from_hours(1);

/// The encoding of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Codec {
    Json,
    Protobuf,
}

/// One client of the native protocol.
pub struct Native {
    codec: Codec,
    name: &'static str,
    state: State,
    next_ask: u32,
    /// The client's identity, once it has said so.
    pub(crate) person: Option<Box<Person>>,
    /// Asks that are not answered, in their order.
    pub(crate) waiting: VecDeque<(AskId, Waiting)>,
}

/// The event that the connection waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Frames.
    Open,
    /// A hello with a token, until this time: anonymous clients aren't let in.
    Closed(Monotonic),
    /// The answer to a check of credentials, or to a login.
    Entering,
}

/// The person at the other end.
#[derive(Default)]
pub(crate) struct Person {
    pub(crate) identity: Option<Arc<Identity>>,
    agent: Option<Box<str>>,
    /// The time at which the token expires.
    expires: Option<Monotonic>,
    /// Conversations that have changed, and of which the client isn't told yet.
    #[expect(clippy::box_collection, reason = "most have none")]
    pub(crate) changed: Option<Box<VecDeque<Box<str>>>>,
}

/// The use of an answer.
pub(crate) enum Waiting {
    Hello(Box<Hello>),
    /// A login: for a hello, or without a frame of the client's.
    Login {
        is_asked: bool,
    },
    Subscribe {
        id: u64,
        /// The number of filters that were asked for.
        filters: usize,
    },
    Publish {
        id: u64,
    },
    History {
        id: u64,
    },
    /// A call of the API for the client.
    Call {
        id: u64,
        kind: calls::Kind,
    },
    /// A call of the API for a conversation that has changed.
    Refresh,
    Enter {
        id: u64,
        room: String,
    },
    Leave {
        id: u64,
    },
}

impl Native {
    /// Speaks JSON on WebSocket, with the identity that the upgrade has proved.
    pub fn json(identity: Option<Arc<Identity>>, agent: Option<Box<str>>) -> Self {
        Self::new(Codec::Json, "ws", identity, agent)
    }

    /// Speaks protobuf on WebSocket, with the identity that the upgrade has proved.
    pub fn protobuf(identity: Option<Arc<Identity>>, agent: Option<Box<str>>) -> Self {
        Self::new(Codec::Protobuf, "ws", identity, agent)
    }

    /// Speaks protobuf on TCP.
    pub(crate) fn tcp() -> Self {
        Self::new(Codec::Protobuf, "tcp", None, None)
    }

    fn new(codec: Codec, name: &'static str, identity: Option<Arc<Identity>>, agent: Option<Box<str>>) -> Self {
        let person = identity.is_some().then(|| Box::new(Person { identity, agent, ..Person::default() }));
        Self { codec, name, state: State::Open, next_ask: 0, person, waiting: VecDeque::new() }
    }

    pub(crate) fn send(&self, cx: &mut Carrier<'_, '_>, response: &Response) {
        let mut bytes = Vec::with_capacity(128);
        match self.codec {
            Codec::Json => json::write(response, &mut bytes),
            Codec::Protobuf => protobuf::write(response, &mut bytes),
        }
        cx.send(self.kind(), &bytes);
    }

    /// Asks whether the other side is there.
    pub(crate) fn ping(&self, cx: &mut Carrier<'_, '_>) {
        self.send(cx, &Response::Ping);
    }

    /// Says that a frame is too long to be read.
    pub(crate) fn too_large(&self, cx: &mut Carrier<'_, '_>) {
        let bound = cx.cx.limits.message_bytes;
        let problem = Problem::new(0, 413, format!("a frame has at most {bound} bytes (limits.message_bytes)"));
        self.refuse(cx, problem);
    }

    fn refuse(&self, cx: &mut Carrier<'_, '_>, problem: Problem) {
        self.send(cx, &Response::Error(problem));
    }

    fn kind(&self) -> Kind {
        match self.codec {
            Codec::Json => Kind::Text,
            Codec::Protobuf => Kind::Binary,
        }
    }

    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.person.as_ref()?.identity.as_ref()
    }

    pub(crate) fn ask(&mut self, cx: &mut Carrier<'_, '_>, ask: Ask, waiting: Waiting) {
        let id = AskId(self.next_ask);
        self.next_ask = self.next_ask.wrapping_add(1);
        cx.cx.asks.push((id, ask));
        self.waiting.push_back((id, waiting));
    }

    /// Sends an ask that isn't answered, or only if it is refused.
    pub(crate) fn say(&mut self, cx: &mut Carrier<'_, '_>, ask: Ask) {
        cx.cx.asks.push((AskId(self.next_ask), ask));
        self.next_ask = self.next_ask.wrapping_add(1);
    }

    /// The next state after a frame or an answer.
    fn flow(&self, cx: &Carrier<'_, '_>) -> Flow {
        let bound = cx.cx.limits.pipelined_asks.min(cx.cx.limits.pipelined_publishes);
        // A page of history is large: no more is asked for while one is under way. Calls are made one at a time.
        let is_looking = matches!(self.waiting.back(), Some((_, Waiting::History { .. } | Waiting::Call { .. })));
        let waits = is_looking || self.state == State::Entering || self.waiting.len() >= bound;
        if waits || !cx.cx.has_room() { Flow::Paused } else { Flow::Open }
    }

    fn request(&mut self, cx: &mut Carrier<'_, '_>, request: Request) -> Flow {
        if let (State::Closed(_), false) = (self.state, matches!(request, Request::Hello(_) | Request::Pong)) {
            let why = "this server needs an identity: send `hello` with a token first";
            cx.cx.notice(Notice::new(Refused::Login, why));
            self.refuse(cx, Problem::new(0, 401, why));
            return self.end(cx, Reason::Unauthorized);
        }
        match request {
            Request::Hello(hello) => return self.hello(cx, hello),
            Request::Subscribe { id, topics, after } => self.subscribe(cx, id, &topics, &after),
            Request::Unsubscribe { id, topics } => self.unsubscribe(cx, id, &topics),
            Request::Publish(publish) => self.publish(cx, *publish),
            Request::History { id, topic, before, limit } => self.history(cx, id, &topic, &before, limit),
            Request::People(asked) => self.people(cx, *asked),
            Request::Ack { cursor } => self.acknowledge(cx, &cursor),
            Request::Ping => self.send(cx, &Response::Pong),
            Request::Pong => {}
            Request::Unknown => self.refuse(cx, Problem::bad(0, "no frame of this name is known here")),
        }
        self.flow(cx)
    }

    fn hello(&mut self, cx: &mut Carrier<'_, '_>, hello: Hello) -> Flow {
        if let Some(device) = &hello.device
            && let Err(error) = check_name(device)
        {
            self.refuse(cx, Problem::bad(0, format!("`device`: {error}")));
            return self.flow(cx);
        }
        // A device that was named once holds, and is not contradicted (RULES 25).
        let known = self.identity().and_then(|who| who.device.clone());
        if known.is_some() && hello.device.is_some() && hello.device != known {
            self.refuse(cx, Problem::new(0, 403, "this connection is another device's: open a new one"));
            return self.flow(cx);
        }
        let device = known.or_else(|| hello.device.clone());
        if let Some(token) = hello.token.clone() {
            let asked = Authenticate::new(Credentials::Token(token), device);
            self.ask(cx, Ask::Authenticate(asked), Waiting::Hello(Box::new(hello)));
            self.state = State::Entering;
            return self.flow(cx);
        }
        if let Err(refusal) = cx.cx.rules.may_enter(self.identity().map(|who| &**who)) {
            cx.cx.notice(Notice::new(Refused::Login, refusal.to_string()));
            self.refuse(cx, Problem::refused(0, &refusal));
            return self.end(cx, Reason::Unauthorized);
        }
        let identity = self.identity().map(|who| who.on_device(device));
        self.login(cx, identity, Some(&hello));
        self.flow(cx)
    }

    fn login(&mut self, cx: &mut Carrier<'_, '_>, identity: Option<Arc<Identity>>, hello: Option<&Hello>) {
        let session = hello.map_or(SessionWish::None, wish);
        let person = self.person.get_or_insert_default();
        person.expires = cx.cx.expiry(identity.as_deref());
        person.identity.clone_from(&identity);
        let inbox = identity.is_some();
        let login = Login { identity, agent: person.agent.clone(), inbox, session, ..Login::default() };
        self.state = State::Entering;
        self.ask(cx, Ask::Login(login), Waiting::Login { is_asked: hello.is_some() });
    }

    fn authenticated(
        &mut self,
        cx: &mut Carrier<'_, '_>,
        hello: &Hello,
        result: Result<Arc<Identity>, AuthError>,
    ) -> Flow {
        self.state = State::Open;
        let (problem, ends) = match result {
            Ok(identity) if self.identity().is_none_or(|former| former.user == identity.user) => {
                self.login(cx, Some(identity), Some(hello));
                return self.flow(cx);
            }
            Ok(_) => (Problem::new(0, 403, "this connection is another user's: open a new one"), false),
            Err(error @ AuthError::Continue { .. }) => (Problem::new(0, 401, error.to_string()), true),
            Err(AuthError::Refused(why)) => (Problem::new(0, 401, why), true),
            Err(AuthError::Mismatch(why)) => (Problem::new(0, 403, why), true),
            Err(AuthError::Unavailable(why)) => (Problem::new(0, 503, why).retry(1000), true),
        };
        let unavailable = problem.code == 503;
        self.refuse(cx, problem);
        // The identity that was let in before stays.
        match ends && self.identity().is_none() {
            true if unavailable => self.end(cx, Reason::Overloaded(Duration::from_secs(1))),
            true => self.end(cx, Reason::Unauthorized),
            false => self.flow(cx),
        }
    }

    fn welcomed(&mut self, cx: &mut Carrier<'_, '_>, is_asked: bool, result: Result<Entered, Refusal>) -> Flow {
        self.state = State::Open;
        let entered = match result {
            Ok(entered) => entered,
            Err(refusal) => {
                self.refuse(cx, Problem::refused(0, &refusal));
                return self.end(cx, Reason::Overloaded(Duration::from_secs(5)));
            }
        };
        if !is_asked {
            return self.flow(cx);
        }
        for (filter, refusal) in &entered.refused {
            self.refuse(cx, Problem::refused(0, refusal).on(filter.as_str()));
        }
        let identity = self.identity();
        let welcome = Welcome {
            connection: entered.connection,
            session: entered.session,
            resumed: entered.resumed,
            heartbeat: HEARTBEAT_SECONDS,
            user: identity.and_then(|who| who.user.clone()),
            device: identity.and_then(|who| who.device.clone()),
            expiry: entered.expiry.as_secs(),
        };
        self.send(cx, &Response::Welcome(Box::new(welcome)));
        self.flow(cx)
    }

    fn subscribe(&mut self, cx: &mut Carrier<'_, '_>, id: u64, topics: &[String], after: &str) {
        let start = if after.is_empty() { Ok(Start::Latest) } else { after.parse::<Start>() };
        let start = match start {
            Ok(start) => start,
            Err(error) => return self.refuse(cx, Problem::bad(id, format!("`after`: {error}"))),
        };
        let filters = self.filters(cx, id, topics);
        if filters.is_empty() {
            return;
        }
        let retained = if start == Start::Latest { RetainHandling::Always } else { RetainHandling::Never };
        let waiting = Waiting::Subscribe { id, filters: filters.len() };
        self.ask(cx, Ask::Subscribe(Subscribe { start, retained, ..Subscribe::to(filters) }), waiting);
    }

    /// The topics that are well formed; each of the others is refused by itself.
    fn filters(&self, cx: &mut Carrier<'_, '_>, id: u64, topics: &[String]) -> SmallVec<[Filter; 1]> {
        if topics.is_empty() {
            self.refuse(cx, Problem::bad(id, "say which: `topics` is empty"));
        }
        let mut filters = SmallVec::new();
        for text in topics {
            match Filter::parse(text) {
                Ok(filter) => filters.push(filter),
                Err(error) => self.refuse(cx, Problem::bad(id, format!("`topics`: {error}")).on(text)),
            }
        }
        filters
    }

    fn refusals(&self, cx: &mut Carrier<'_, '_>, id: u64, subscribed: &Subscribed) {
        for (filter, refusal) in &subscribed.refused {
            self.refuse(cx, Problem::refused(id, refusal).on(filter.as_str()));
        }
    }

    fn subscribed(&self, cx: &mut Carrier<'_, '_>, id: u64, subscribed: &Subscribed) {
        let Subscribed { cursor, gap, .. } = subscribed;
        self.send(cx, &Response::Subscribed { id, cursor: cursor.to_string(), gap: *gap });
    }

    fn unsubscribe(&mut self, cx: &mut Carrier<'_, '_>, id: u64, topics: &[String]) {
        let filters = self.filters(cx, id, topics);
        if !filters.is_empty() {
            self.say(cx, Ask::Unsubscribe(Unsubscribe::These(filters)));
            self.send(cx, &Response::Unsubscribed { id });
        }
    }

    fn history(&mut self, cx: &mut Carrier<'_, '_>, id: u64, topic: &str, before: &str, limit: u32) {
        let topic = match Topic::parse(topic) {
            Ok(topic) => topic,
            Err(error) => return self.refuse(cx, Problem::bad(id, format!("`topic`: {error}"))),
        };
        let before = match before.parse() {
            Ok(Start::Latest) => None,
            Ok(Start::After(cursor)) => Some(cursor),
            _ if before.is_empty() => None,
            _ => return self.refuse(cx, Problem::bad(id, "`before` is a cursor, as the server gave it, or `latest`")),
        };
        let limits = cx.cx.limits;
        let limit = if limit == 0 { limits.page_messages_default } else { limit as usize };
        let limit = limit.min(limits.page_messages_max);
        let what = LookBack { topic, before, limit, asker: Asker::LoggedIn };
        self.ask(cx, Ask::LookBack(what), Waiting::History { id });
    }

    fn publish(&mut self, cx: &mut Carrier<'_, '_>, publish: Publish) {
        let id = publish.id;
        let who = self.identity();
        let message = publish::message(publish, who.map(|who| &**who), cx.cx.now.wall);
        match message.and_then(|message| cx.cx.draft(message, who).map_err(|unfit| Problem::unfit(id, &unfit))) {
            Ok(draft) => self.ask(cx, Ask::Publish(draft), Waiting::Publish { id }),
            Err(problem) => self.refuse(cx, problem),
        }
    }

    fn published(&self, cx: &mut Carrier<'_, '_>, id: u64, result: Result<Published, NotPublished>) {
        match result {
            Ok(done) => {
                let place = done.is_placed().then(|| (done.id().to_string(), done.cursor().to_string()));
                let (durability, duplicate) = (done.durability.as_str().into(), done.duplicate);
                self.send(cx, &Response::Published { id, place, durability, duplicate });
            }
            Err(NotPublished::Log(error)) => self.refuse(cx, Problem::publishing(id, error)),
            Err(NotPublished::Refused(refusal)) => self.refuse(cx, Problem::refused(id, &refusal)),
        }
    }

    fn acknowledge(&mut self, cx: &mut Carrier<'_, '_>, cursor: &str) {
        match cursor.parse::<Cursor>() {
            Ok(cursor) => {
                // It is answered only if it is refused, so nothing waits for that.
                self.say(cx, Ask::Acknowledge(Ack::UpTo(cursor)));
            }
            Err(error) => self.refuse(cx, Problem::bad(0, format!("`cursor`: {error}"))),
        }
    }

    /// Says goodbye; the carrier closes.
    fn end(&self, cx: &mut Carrier<'_, '_>, reason: Reason) -> Flow {
        self.send(cx, &close(&reason));
        Flow::Closed(reason)
    }

    fn take(&mut self, ask: AskId) -> Option<Waiting> {
        let at = self.waiting.iter().position(|(id, _)| *id == ask)?;
        let (_, waiting) = self.waiting.remove(at)?;
        if self.waiting.is_empty() {
            // An idle connection owns no memory.
            self.waiting = VecDeque::new();
        }
        Some(waiting)
    }
}

impl Carried for Native {
    fn begin(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        if let Some(identity) = self.identity().cloned() {
            self.login(cx, Some(identity), None);
        } else if cx.cx.rules.may_enter(None).is_err() {
            self.state = State::Closed(cx.cx.now.monotonic + cx.cx.limits.login);
        }
        self.flow(cx)
    }

    fn message(&mut self, cx: &mut Carrier<'_, '_>, _: Kind, message: &[u8]) -> Flow {
        let request = match self.codec {
            Codec::Json => json::read(message),
            Codec::Protobuf => protobuf::read(message),
        };
        match request {
            Ok(request) => self.request(cx, request),
            Err(problem) => {
                self.refuse(cx, problem);
                self.flow(cx)
            }
        }
    }

    fn answer(&mut self, cx: &mut Carrier<'_, '_>, ask: AskId, answer: Answer) -> Flow {
        if let Answer::NotAcknowledged(error) = &answer {
            self.refuse(cx, Problem::new(0, 409, error.to_string()));
            return self.flow(cx);
        }
        match (self.take(ask), answer) {
            (Some(Waiting::Hello(hello)), Answer::Authenticated(result)) => self.authenticated(cx, &hello, result),
            (Some(Waiting::Login { is_asked }), Answer::Welcomed(result)) => self.welcomed(cx, is_asked, result),
            (Some(Waiting::Subscribe { id, filters }), Answer::Subscribed(subscribed)) => {
                self.refusals(cx, id, &subscribed);
                // Errors alone are the answer if nothing was granted.
                if subscribed.refused.len() < filters {
                    self.subscribed(cx, id, &subscribed);
                }
                self.flow(cx)
            }
            (Some(Waiting::History { id }), Answer::Past(past)) => {
                match past {
                    Ok(past) => self.send(cx, &Response::History { id, past }),
                    Err(NoPast::Refused(refusal)) => self.refuse(cx, Problem::refused(id, &refusal)),
                    Err(busy @ NoPast::Busy) => self.refuse(cx, Problem::new(id, 503, busy.to_string()).retry(1000)),
                }
                self.flow(cx)
            }
            (Some(Waiting::Publish { id }), Answer::Published(result)) => {
                self.published(cx, id, result);
                self.flow(cx)
            }
            (Some(waiting), answer) => {
                self.answered(cx, waiting, answer);
                self.flow(cx)
            }
            _ => self.flow(cx),
        }
    }

    fn push(&mut self, cx: &mut Carrier<'_, '_>, delivery: &Delivery<'_>) -> Taken {
        let kind = self.kind();
        match (delivery, self.codec) {
            (Delivery::Message(parcel, _), Codec::Json) => cx.share(parcel, "native.json", kind, json::message),
            (Delivery::Message(parcel, _), Codec::Protobuf) => {
                cx.share(parcel, "native.proto", kind, protobuf::message);
            }
            (Delivery::Retained(parcel, _), Codec::Json) => cx.share(parcel, "native.json.r", kind, json::retained),
            (Delivery::Retained(parcel, _), Codec::Protobuf) => {
                cx.share(parcel, "native.proto.r", kind, protobuf::retained);
            }
            (Delivery::Gap(gap), _) => {
                let after = gap.after.map(|after| {
                    let partition = gap.earliest.positions().first().map_or(Partition(0), |p| p.0);
                    Cursor::new(gap.earliest.epoch, [(partition, after)]).map(|c| c.to_string()).unwrap_or_default()
                });
                let (topic, earliest) = (gap.topic.clone(), gap.earliest.to_string());
                self.send(cx, &Response::Gap { topic, after, earliest });
            }
            (Delivery::Signal(signal), Codec::Json) => cx.pass(signal, "native.json", kind, json::signal),
            (Delivery::Signal(signal), Codec::Protobuf) => cx.pass(signal, "native.proto", kind, protobuf::signal),
            (Delivery::Conversation(conversation), _) => self.note_change(cx, conversation),
            // Only deliveries that are acknowledged one by one are released.
            (Delivery::Release(_), _) => {}
        }
        Taken::Yes
    }

    fn settle(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        self.flow(cx)
    }

    fn deadline(&self) -> Option<Monotonic> {
        let state = match self.state {
            State::Closed(at) => Some(at),
            State::Open | State::Entering => None,
        };
        let expires = self.person.as_ref().and_then(|person| person.expires);
        state.into_iter().chain(expires).min()
    }

    fn tick(&mut self, cx: &mut Carrier<'_, '_>) -> Flow {
        let now = cx.cx.now.monotonic;
        if self.person.as_ref().and_then(|person| person.expires).is_some_and(|at| at <= now) {
            return self.end(cx, Reason::Expired);
        }
        match self.state {
            State::Closed(at) if at <= now => {
                self.refuse(cx, Problem::new(0, 401, "no `hello` with a token came in time"));
                self.end(cx, Reason::Timeout)
            }
            _ => self.flow(cx),
        }
    }

    fn farewell(&mut self, cx: &mut Carrier<'_, '_>, reason: &Reason) {
        self.send(cx, &close(reason));
    }

    fn holds(&self) -> usize {
        0 // it takes whole frames
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

fn wish(hello: &Hello) -> SessionWish {
    let expiry = if hello.expiry == 0 { DEFAULT_EXPIRY } else { Duration::from_secs(hello.expiry) };
    match hello.session.as_deref() {
        None => SessionWish::None,
        Some("new") => SessionWish::New { expiry },
        Some(id) => SessionWish::Resume { id: id.into(), expiry },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_is_small() {
        assert!(size_of::<Native>() <= 88, "{}", size_of::<Native>());
    }
}
