//! A node in a few lines: one log in memory, one connection. It answers what a wire asks, delivers what was published,
//! and can be told to fail, to hold its answers back, or to forget.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{
    Ack, AckError, Asker, AuthError, Authenticate, Credentials, Draft, Goodbye, Login, LookBack, NoPast, Past,
    PublishError, Published, Reply, SessionWish, Subscribe, Subscribed, Unsubscribe, Welcome,
};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Epoch, Offset, Partition, Position, Start};
use everywire_base::id::{AskId, Ticket};
use everywire_base::identity::Identity;
use everywire_base::notice::Notice;
use everywire_base::parcel::{Delivery, Gap, Parcel, Taken};
use everywire_base::record::{Entry, Message, Record};
use everywire_base::rules::Refusal;
use everywire_base::terms::{Greet, Manner, Terms};
use everywire_base::topic::{Filter, Topic};

use super::Bench;
use crate::{Answer, Ask};

/// The epoch of every scripted log: `a`.
const EPOCH: Epoch = Epoch(10);

/// A scripted node.
#[derive(Default)]
pub struct Node {
    log: Vec<Arc<Record>>,
    /// Messages up to here are forgotten.
    trimmed: Offset,
    retained: BTreeMap<Topic, Arc<Record>>,
    reader: Option<Reader>,
    /// How the next publishes fail; those after them succeed.
    pub failures: VecDeque<PublishError>,
    /// Filters that are not granted.
    pub refuses: Vec<Filter>,
    /// Whether publishes are left unanswered for the time being.
    pub holds: bool,
    /// Whether calls are answered that the API is overloaded.
    pub overloaded: bool,
    held: VecDeque<(AskId, Draft)>,
    calls: Vec<everywire_base::ask::Call>,
    logins: Vec<Login>,
    acknowledged: Vec<Cursor>,
    goodbyes: Vec<Goodbye>,
    notices: Vec<Notice>,
    /// Through which addresses the last request came.
    pub came_from: Box<[IpAddr]>,
    /// Sessions that are there before their clients come.
    pub sessions: BTreeSet<Box<str>>,
    /// Numbers of what was published once and isn't released.
    numbers: BTreeSet<u16>,
    /// Whether deliveries are acknowledged by their tags.
    is_tagged: bool,
    /// Deliveries under way, and how sure each must be.
    tags: Vec<(u16, u8)>,
    last_tag: u16,
    /// Who shows this token, or `user:password`; others are refused.
    pub identities: HashMap<String, Result<Arc<Identity>, AuthError>>,
}

struct Reader {
    filters: Vec<(Filter, Terms)>,
    position: Offset,
    gap: Option<Gap>,
    /// Retained messages, each with where its subscription begins.
    greetings: VecDeque<(Arc<Record>, Offset)>,
    full: bool,
    settled: bool,
}

impl Reader {
    fn is_live(&self, head: Offset) -> bool {
        self.position >= head && !self.full && self.gap.is_none() && self.greetings.is_empty()
    }

    /// How a message is handed over.
    fn terms(&self, message: &Message) -> (u8, Vec<u32>) {
        let matching =
            || self.filters.iter().filter(|(filter, _)| filter.matches(&message.topic)).map(|(_, terms)| terms);
        let identifiers = matching().map(|terms| terms.identifier).filter(|number| *number > 0).collect();
        (matching().map(|terms| terms.qos).max().unwrap_or(0).min(message.qos), identifiers)
    }

    /// With further filters; it goes back to where they begin.
    fn joined_by(mut self, other: Reader) -> Self {
        self.filters.extend(other.filters);
        self.position = self.position.min(other.position);
        self.gap = self.gap.or(other.gap);
        self.greetings.extend(other.greetings);
        Self { settled: false, ..self }
    }
}

impl Node {
    /// All that was published, in order.
    pub fn published(&self) -> &[Arc<Record>] {
        &self.log
    }

    /// How the connection wants the messages of each filter that it holds.
    pub fn terms(&self) -> impl Iterator<Item = Terms> {
        self.reader.iter().flat_map(|reader| &reader.filters).map(|(_, terms)| *terms)
    }

    /// Who logged in.
    pub fn logins(&self) -> &[Login] {
        &self.logins
    }

    /// What was acknowledged.
    pub fn acknowledged(&self) -> &[Cursor] {
        &self.acknowledged
    }

    /// Who said goodbye, and how.
    pub fn goodbyes(&self) -> &[Goodbye] {
        &self.goodbyes
    }

    /// What operators were told.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// All calls of the API.
    pub fn calls(&self) -> &[everywire_base::ask::Call] {
        &self.calls
    }

    /// Somebody else publishes.
    pub fn publish(&mut self, message: Message, time: UnixMillis) -> Arc<Record> {
        let record = Arc::new(Record {
            partition: Partition(0),
            offset: self.head().next(),
            time,
            durability: everywire_base::record::Durability::Fsync,
            entry: Entry::Message(message.clone()),
        });
        if message.retain && message.body.is_empty() {
            self.retained.remove(&message.topic);
        } else if message.retain {
            self.retained.insert(message.topic, Arc::clone(&record));
        }
        self.log.push(Arc::clone(&record));
        record
    }

    /// Forgets everything up to here.
    pub fn trim(&mut self, up_to: Offset) {
        self.trimmed = up_to;
    }

    /// Answers what was asked and delivers what there is; false when there was nothing to do.
    pub fn serve(&mut self, bench: &mut Bench) -> bool {
        let asks = bench.take_asks();
        let mut busy = !asks.is_empty();
        for (ask, what) in asks {
            self.take(bench, ask, what);
        }
        if !self.holds {
            busy |= !self.held.is_empty();
            while let Some((ask, draft)) = self.held.pop_front() {
                self.append(bench, ask, draft);
            }
        }
        let delivered = self.deliver(bench);
        if busy && !delivered {
            // As after each turn in which there were answers.
            bench.settle();
        }
        delivered || busy
    }

    fn head(&self) -> Offset {
        self.log.last().map_or(Offset::BEGINNING, |r| r.offset)
    }

    fn take(&mut self, bench: &mut Bench, ask: AskId, what: Ask) {
        match what {
            Ask::PublishOnce(_, number) if !self.numbers.insert(number) => bench.answer(ask, Answer::KnownAlready),
            Ask::Publish(draft) | Ask::PublishOnce(draft, _) => self.held.push_back((ask, draft)),
            Ask::Release(number) => bench.answer(ask, Answer::Released(self.numbers.remove(&number))),
            Ask::Subscribe(subscribe) => self.subscribe(bench, ask, &subscribe),
            Ask::Unsubscribe(which) => self.unsubscribe(bench, ask, &which),
            Ask::LookBack(what) => {
                let past = self.past(bench, &what);
                bench.answer(ask, Answer::Past(past));
            }
            Ask::Goodbye(goodbye) => self.goodbyes.push(goodbye),
            Ask::Label(_) | Ask::FoundNothing => {}
            Ask::Notice(notice) => self.notices.push(notice),
            Ask::CameFrom(through) => self.came_from = through,
            Ask::Authenticate(asked) => self.authenticate(bench, ask, &asked),
            Ask::Login(login) => self.login(bench, ask, login),
            Ask::Acknowledge(ack) => self.acknowledge(bench, ask, ack),
            Ask::Call(call) => {
                let reply = (!self.overloaded).then(|| Reply {
                    ticket: Ticket::default(),
                    status: 200,
                    headers: vec![("content-type".into(), b"text/plain".as_slice().into())],
                    body: format!("{} {} with {} bytes", call.method, call.target, call.body.len()).into(),
                });
                self.calls.push(call);
                bench.answer(ask, Answer::Called(reply));
            }
        }
    }

    fn unsubscribe(&mut self, bench: &mut Bench, ask: AskId, which: &Unsubscribe) {
        match which {
            Unsubscribe::All => self.reader = None,
            Unsubscribe::These(gone) => {
                if let Some(reader) = &mut self.reader {
                    reader.filters.retain(|(filter, _)| !gone.contains(filter));
                }
            }
            Unsubscribe::One(gone, _) => {
                let held = self.reader.as_mut().map(|reader| &mut reader.filters);
                let place = held.as_ref().and_then(|held| held.iter().position(|(filter, _)| filter == gone));
                if let (Some(held), Some(place)) = (held, place) {
                    held.remove(place);
                }
                bench.answer(ask, Answer::Unsubscribed(place.is_some()));
            }
        }
    }

    fn authenticate(&self, bench: &mut Bench, ask: AskId, asked: &Authenticate) {
        let known = match &asked.credentials {
            Credentials::Token(token) => self.identities.get(&**token),
            Credentials::Password { user, password } => self.identities.get(&format!("{user}:{password}")),
            Credentials::Scram(step) => {
                let last = step.proof.as_ref().map(|(_, last)| &**last);
                self.identities.get(last.unwrap_or(&step.first))
            }
        };
        let unknown = || Err(AuthError::Refused("the token is not valid".into()));
        let who = known.cloned().unwrap_or_else(unknown);
        bench.answer(ask, Answer::Authenticated(who.map(|who| who.on_device(asked.device.clone()))));
    }

    fn login(&mut self, bench: &mut Bench, ask: AskId, login: Login) {
        let session = match &login.session {
            SessionWish::None => None,
            SessionWish::New { .. } => Some("s1".into()),
            SessionWish::Resume { id, .. } | SessionWish::Named { id, .. } => Some(id.clone()),
        };
        let resumed = match &login.session {
            SessionWish::Named { id, fresh, .. } => !fresh && self.sessions.contains(id),
            wish => matches!(wish, SessionWish::Resume { .. }),
        };
        self.is_tagged = matches!(login.session, SessionWish::Named { .. });
        let expiry = match login.session {
            SessionWish::None => Duration::ZERO,
            SessionWish::New { expiry } | SessionWish::Resume { expiry, .. } | SessionWish::Named { expiry, .. } => {
                expiry.min(bench.limits.session_expiry_max)
            }
        };
        self.logins.push(login);
        let (connection, refused) = ("node-1-0-0-0".into(), Vec::new());
        bench.answer(ask, Answer::Welcomed(Ok(Welcome { connection, session, expiry, resumed, refused })));
    }

    fn acknowledge(&mut self, bench: &mut Bench, ask: AskId, ack: Ack) {
        match ack {
            Ack::Done(tag) => self.tags.retain(|(known, _)| *known != tag),
            Ack::Received(tag) => {
                let is_known = self.tags.iter().any(|(known, qos)| *known == tag && *qos == 2);
                let unknown = || Answer::NotAcknowledged(AckError::UnknownTag(tag));
                bench.answer(ask, if is_known { Answer::Received(tag) } else { unknown() });
            }
            Ack::UpTo(cursor) if cursor.positions()[0].1 > self.head() => {
                bench.answer(ask, Answer::NotAcknowledged(AckError::NeverSent));
            }
            Ack::UpTo(cursor) => self.acknowledged.push(cursor),
        }
    }

    fn past(&self, bench: &Bench, what: &LookBack) -> Result<Past, NoPast> {
        let who = match &what.asker {
            Asker::LoggedIn => self.logins.last().and_then(|login| login.identity.clone()),
            Asker::Is(who) => who.clone(),
        };
        bench.rules.may_subscribe(who.as_deref(), &Filter::Exact(what.topic.clone())).map_err(NoPast::Refused)?;
        let is_elsewhere = what.before.as_ref().is_some_and(|cursor| cursor.epoch != EPOCH);
        let before = what.before.as_ref().filter(|_| !is_elsewhere).map_or(Offset(u64::MAX), |c| c.positions()[0].1);
        let is_meant = |r: &&Arc<Record>| {
            r.offset > self.trimmed && r.offset < before && r.message().is_some_and(|m| m.topic == what.topic)
        };
        let all: Vec<_> = self.log.iter().filter(is_meant).cloned().collect();
        let from = all.len().saturating_sub(what.limit);
        let records = all[from..].to_vec();
        let first = records.first().filter(|_| from > 0).map_or(Offset::BEGINNING, |r| r.offset);
        let gap = is_elsewhere || from == 0 && self.trimmed > Offset::BEGINNING;
        let (before, cursor) = (Cursor::single(EPOCH, first), Cursor::single(EPOCH, self.head()));
        Ok(Past { records, before, more: from > 0, gap, cursor })
    }

    fn append(&mut self, bench: &mut Bench, ask: AskId, draft: Draft) {
        if let Some(error) = self.failures.pop_front() {
            return bench.answer(ask, Answer::Published(Err(error)));
        }
        let durability = draft.durability;
        let record = self.publish(draft.message, bench.now.wall);
        let (partition, offset, time) = (record.partition, record.offset, record.time);
        let duplicate = false;
        let published = Published { epoch: EPOCH, partition, offset, time, durability, duplicate };
        bench.answer(ask, Answer::Published(Ok(published)));
    }

    fn subscribe(&mut self, bench: &mut Bench, ask: AskId, subscribe: &Subscribe) {
        let who = subscribe.identity.as_ref().or_else(|| self.logins.last()?.identity.as_ref());
        let judge = |f: &Filter| {
            let told = self.refuses.contains(f).then(|| Refusal::Forbidden(format!("subscribing to {f}").into()));
            let refusal = told.or_else(|| bench.rules.may_subscribe(who.map(|who| &**who), f).err());
            refusal.map(|refusal| (f.clone(), refusal))
        };
        let refused: Vec<_> = subscribe.filters.iter().filter_map(judge).collect();
        let (position, after) = match &subscribe.start {
            Start::Latest => (self.head(), None),
            Start::Earliest => (Offset::BEGINNING, None),
            Start::After(cursor) if cursor.epoch != EPOCH => (self.trimmed, Some(None)),
            Start::After(cursor) => {
                let at = cursor.positions()[0].1;
                if at < self.trimmed { (self.trimmed, Some(Some(at))) } else { (at, None) }
            }
        };
        let filters: Vec<_> = subscribe.filters.iter().map(|filter| (filter.clone(), subscribe.terms)).collect();
        let is_lost = after.is_some();
        let gap = after.map(|after| Gap {
            topic: filters[0].0.as_str().into(),
            after,
            earliest: Cursor::single(EPOCH, self.trimmed),
            time: bench.now.wall,
        });
        let matches = |r: &&Arc<Record>| r.message().is_some_and(|m| filters.iter().any(|(f, _)| f.matches(&m.topic)));
        let wanted = self.retained.values().filter(|_| subscribe.greet != Greet::Never).filter(matches);
        let greetings = wanted.map(|record| (Arc::clone(record), position)).collect();
        let fresh = Reader { filters, position, gap, greetings, full: false, settled: false };
        self.reader = Some(match self.reader.take() {
            Some(held) => held.joined_by(fresh),
            None => fresh,
        });
        self.place(bench);
        let cursor = Cursor::single(EPOCH, position);
        bench.answer(ask, Answer::Subscribed(Subscribed { cursor, refused, gap: is_lost }));
    }

    /// Tells the bench where its connection stands.
    fn place(&self, bench: &mut Bench) {
        let head = self.head();
        let (at, live) = match &self.reader {
            Some(reader) => (reader.position, reader.is_live(head)),
            None => (head, true),
        };
        bench.position = Position { cursor: Cursor::single(EPOCH, at), live };
    }

    /// One turn's deliveries, then the settling; false if there was nothing.
    fn deliver(&mut self, bench: &mut Bench) -> bool {
        let Some(mut reader) = self.reader.take() else { return false };
        if reader.full && !bench.out.is_empty() {
            self.reader = Some(reader);
            return false;
        }
        let (was_settled, before) = (reader.settled && !reader.full, reader.position);
        reader.full = false;
        if let Some(gap) = reader.gap.take() {
            bench.push(&Delivery::Gap(&gap));
        }
        if !reader.greetings.is_empty() {
            // Greetings stand outside the order: what a connection has by then is its start, said when it subscribed.
            bench.position = Position { cursor: Cursor::single(EPOCH, Offset::BEGINNING), live: false };
        }
        while let Some(parcel) =
            reader.greetings.pop_front().and_then(|(r, at)| Parcel::retained(r, Cursor::single(EPOCH, at)))
        {
            let (qos, identifiers) = reader.terms(parcel.message());
            let manner = self.manner(qos, &identifiers);
            bench.push(&Delivery::Retained(&parcel, Manner { retain: true, ..manner }));
        }
        self.replay(&mut reader, bench);
        let busy = !was_settled || reader.position > before;
        reader.settled = true;
        self.reader = Some(reader);
        self.place(bench);
        if busy {
            bench.settle();
        }
        busy
    }

    fn manner<'a>(&mut self, qos: u8, identifiers: &'a [u32]) -> Manner<'a> {
        if !self.is_tagged {
            return Manner::PLAIN;
        }
        if qos > 0 {
            self.last_tag += 1;
            self.tags.push((self.last_tag, qos));
        }
        let tag = NonZeroU16::new(self.last_tag).filter(|_| qos > 0);
        Manner { qos, tag, identifiers, ..Manner::PLAIN }
    }

    fn replay(&mut self, reader: &mut Reader, bench: &mut Bench) {
        let from = reader.position.max(self.trimmed).0 as usize;
        for record in self.log.get(from..).unwrap_or_default().to_vec() {
            let wanted = record.message().is_some_and(|m| reader.filters.iter().any(|(f, _)| f.matches(&m.topic)));
            if let Some(parcel) = Parcel::new(Arc::clone(&record), EPOCH).filter(|_| wanted) {
                let (qos, identifiers) = reader.terms(parcel.message());
                let manner = self.manner(qos, &identifiers);
                bench.position = Position { cursor: Cursor::single(EPOCH, reader.position), live: false };
                if bench.push(&Delivery::Message(&parcel, manner)) == Taken::Full {
                    reader.full = true;
                    return;
                }
            }
            reader.position = record.offset;
        }
        reader.position = reader.position.max(self.head());
    }
}
