//! A node in a few lines: one log in memory, one connection. It answers a wire's asks, delivers published messages, and
//! can be told to fail, to hold its answers back, or to forget.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use everywire_base::ask::{
    Ack, AckError, Asker, AuthError, Authenticate, Being, Credentials, Draft, Entered, Goodbye, Login, LookBack,
    NoPast, NotPublished, Past, Published, Reply, SessionWish, Subscribe, Subscribed, Unsubscribe, Voice, Welcome,
};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Epoch, Offset, Partition, Position, Start};
use everywire_base::id::{AskId, ReplyTo};
use everywire_base::identity::Identity;
use everywire_base::notice::Notice;
use everywire_base::parcel::{Delivery, Gap, Parcel, Taken};
use everywire_base::record::{Entry, Message, Record};
use everywire_base::rules::Refusal;
use everywire_base::terms::{DeliveryOptions, RetainHandling, Terms};
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
    /// The errors of the next publishes; those after them succeed.
    pub failures: VecDeque<NotPublished>,
    /// Filters that are not granted.
    pub refuses: Vec<Filter>,
    /// Whether publishes are left unanswered for the time being.
    pub holds: bool,
    /// Whether calls are answered as by an overloaded API.
    pub overloaded: bool,
    held: VecDeque<(AskId, Draft)>,
    calls: Vec<everywire_base::ask::Call>,
    beings: Vec<Being>,
    logins: Vec<Login>,
    acknowledged: Vec<Cursor>,
    goodbyes: Vec<Goodbye>,
    notices: Vec<Notice>,
    /// The address that the last request came from, as a proxy said.
    pub came_from: Option<IpAddr>,
    /// Sessions that are there before their clients come.
    pub sessions: BTreeSet<Box<str>>,
    /// Numbers of messages that were published once and aren't released.
    numbers: BTreeSet<u16>,
    /// Whether deliveries are acknowledged by their tags.
    is_tagged: bool,
    /// The tags of deliveries under way, each with its `QoS`.
    tags: Vec<(u16, u8)>,
    last_tag: u16,
    /// Identities by the token, or `user:password`, that proves them; others are refused.
    pub identities: HashMap<String, Result<Arc<Identity>, AuthError>>,
}

struct Reader {
    filters: Vec<(Filter, Terms)>,
    position: Offset,
    gap: Option<Gap>,
    /// Retained messages, each with the offset at which its subscription begins.
    greetings: VecDeque<(Arc<Record>, Offset)>,
    full: bool,
    settled: bool,
}

impl Reader {
    fn is_live(&self, head: Offset) -> bool {
        self.position >= head && !self.full && self.gap.is_none() && self.greetings.is_empty()
    }

    /// The `QoS` and the identifiers with which a message is handed over.
    fn terms(&self, message: &Message) -> (u8, Vec<u32>) {
        let matching =
            || self.filters.iter().filter(|(filter, _)| filter.matches(&message.topic)).map(|(_, terms)| terms);
        let identifiers = matching().map(|terms| terms.identifier).filter(|number| *number > 0).collect();
        (matching().map(|terms| terms.qos).max().unwrap_or(0).min(message.qos), identifiers)
    }

    /// Adds another reader's filters; it goes back to the position at which they begin.
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

    /// The terms of each filter that the connection holds.
    pub fn terms(&self) -> impl Iterator<Item = Terms> {
        self.reader.iter().flat_map(|reader| &reader.filters).map(|(_, terms)| *terms)
    }

    /// All logins, in order.
    pub fn logins(&self) -> &[Login] {
        &self.logins
    }

    /// All cursors that were acknowledged, in order.
    pub fn acknowledged(&self) -> &[Cursor] {
        &self.acknowledged
    }

    /// All goodbyes, in order.
    pub fn goodbyes(&self) -> &[Goodbye] {
        &self.goodbyes
    }

    /// All notices to operators, in order.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// All statements of the connection about its presence, in order.
    pub fn beings(&self) -> &[Being] {
        &self.beings
    }

    /// All calls of the API.
    pub fn calls(&self) -> &[everywire_base::ask::Call] {
        &self.calls
    }

    /// Publishes for another client.
    pub fn publish(&mut self, entry: impl Into<Entry>, time: UnixMillis) -> Arc<Record> {
        let entry = entry.into();
        let record = Arc::new(Record {
            partition: Partition(0),
            offset: self.head().next(),
            time,
            durability: everywire_base::record::Durability::Fsync,
            content: entry.clone().into(),
        });
        if entry.is_retained() && entry.body().is_empty() {
            self.retained.remove(entry.topic());
        } else if entry.is_retained() {
            self.retained.insert(entry.topic().clone(), Arc::clone(&record));
        }
        self.log.push(Arc::clone(&record));
        record
    }

    /// Forgets everything up to here.
    pub fn trim(&mut self, up_to: Offset) {
        self.trimmed = up_to;
    }

    /// Answers the asks and delivers the messages; false when there was nothing to do.
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
            // The driver settles after each turn in which there were answers.
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
            Ask::Be(being) => self.be(bench, ask, being),
            Ask::Label(_) | Ask::FoundNothing => {}
            Ask::Notice(notice) => self.notices.push(notice),
            Ask::CameFrom(address) => self.came_from = Some(address),
            Ask::Authenticate(asked) => self.authenticate(bench, ask, &asked),
            Ask::Login(login) => self.login(bench, ask, login),
            Ask::Acknowledge(ack) => self.acknowledge(bench, ask, ack),
            Ask::Call(call) => {
                let reply = (!self.overloaded).then(|| Reply {
                    reply_to: ReplyTo::Nobody,
                    status: 200,
                    headers: vec![("content-type".into(), b"text/plain".as_slice().into())],
                    body: format!("{} {} with {} bytes", call.method, call.target, call.body.len()).into(),
                });
                self.calls.push(call);
                bench.answer(ask, Answer::Called(reply));
            }
        }
    }

    fn be(&mut self, bench: &mut Bench, ask: AskId, being: Being) {
        match &being {
            Being::Enter { nick, .. } => {
                let nick = nick.clone().unwrap_or_else(|| "ann".into());
                let cursor = Cursor::single(EPOCH, self.head());
                let entered = Entered { nick, voice: Voice::Participant, cursor, greet: 0 };
                bench.answer(ask, Answer::Entered(Ok(entered)));
            }
            Being::Leave { .. } => bench.answer(ask, Answer::Left),
            Being::Typing(_) | Being::Active(_) => {}
        }
        self.beings.push(being);
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

    fn qos(&self, tag: u16) -> Option<u8> {
        self.tags.iter().find(|(known, _)| *known == tag).map(|(_, qos)| *qos)
    }

    fn acknowledge(&mut self, bench: &mut Bench, ask: AskId, ack: Ack) {
        let wrong = |bench: &mut Bench| bench.answer(ask, Answer::NotAcknowledged(AckError::WrongKind));
        match ack {
            Ack::DoneAtLeastOnce(tag) if self.qos(tag) == Some(2) => wrong(bench),
            Ack::DoneExactlyOnce(tag) | Ack::Received(tag) if self.qos(tag) == Some(1) => wrong(bench),
            Ack::Done(tag) | Ack::DoneAtLeastOnce(tag) | Ack::DoneExactlyOnce(tag) => {
                self.tags.retain(|(known, _)| *known != tag);
            }
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
        let record = self.publish(draft.entry, bench.now.wall);
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
        let wanted = self.retained.values().filter(|_| subscribe.retained != RetainHandling::Never).filter(matches);
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

    /// Tells the bench the position of its connection.
    fn place(&self, bench: &mut Bench) {
        let head = self.head();
        let (at, live) = match &self.reader {
            Some(reader) => (reader.position, reader.is_live(head)),
            None => (head, true),
        };
        bench.position = Position { cursor: Cursor::single(EPOCH, at), live };
    }

    /// Makes one turn's deliveries, then settles; false if there was nothing.
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
            // Greetings stand outside the order: the position of a connection is by then its start, said when it
            // subscribed.
            bench.position = Position { cursor: Cursor::single(EPOCH, Offset::BEGINNING), live: false };
        }
        while let Some(parcel) =
            reader.greetings.pop_front().and_then(|(r, at)| Parcel::retained(r, Cursor::single(EPOCH, at)))
        {
            let (qos, identifiers) = reader.terms(parcel.message());
            let options = self.options(qos, &identifiers);
            bench.push(&Delivery::Retained(&parcel, DeliveryOptions { retain: true, ..options }));
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

    fn options<'a>(&mut self, qos: u8, identifiers: &'a [u32]) -> DeliveryOptions<'a> {
        if !self.is_tagged {
            return DeliveryOptions::PLAIN;
        }
        if qos > 0 {
            self.last_tag += 1;
            self.tags.push((self.last_tag, qos));
        }
        let tag = NonZeroU16::new(self.last_tag).filter(|_| qos > 0);
        DeliveryOptions { qos, tag, identifiers, ..DeliveryOptions::PLAIN }
    }

    fn replay(&mut self, reader: &mut Reader, bench: &mut Bench) {
        let from = reader.position.max(self.trimmed).0 as usize;
        for record in self.log.get(from..).unwrap_or_default().to_vec() {
            let wanted = record.message().is_some_and(|m| reader.filters.iter().any(|(f, _)| f.matches(&m.topic)));
            if let Some(parcel) = Parcel::new(Arc::clone(&record), EPOCH).filter(|_| wanted) {
                let (qos, identifiers) = reader.terms(parcel.message());
                let options = self.options(qos, &identifiers);
                bench.position = Position { cursor: Cursor::single(EPOCH, reader.position), live: false };
                if bench.push(&Delivery::Message(&parcel, options)) == Taken::Full {
                    reader.full = true;
                    return;
                }
            }
            reader.position = record.offset;
        }
        reader.position = reader.position.max(self.head());
    }
}
