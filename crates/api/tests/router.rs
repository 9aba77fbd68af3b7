//! The router over a fake node: the answers that a client of the API sees.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everywire_api::{
    Answer, Control, Guest, Health, Metrics, MetricsFormat, NoGuest, Readiness, State, TopicInfo, TopicsPage,
    TopicsQuestion, Unanswered, call, router,
};
use everywire_base::ask::{Call, Draft, Page, PublishError, Published, ReadKind, Reply};
use everywire_base::clock::UnixMillis;
use everywire_base::cursor::{Cursor, Epoch, Offset, Partition};
use everywire_base::id::{AskId, MessageId, ReplyTo};
use everywire_base::identity::Identity;
use everywire_base::limits::Limits;
use everywire_base::record::{Durability, Entry, Message, Record, System};
use everywire_base::registry::{ConnectionInfo, ConnectionsQuery, Everywhere, Fate, Recipient, TraceQuestion};
use everywire_base::rules::{Rules, TopicRule};
use everywire_base::topic::{Filter, Topic};
use everywire_rooms::Rooms;
use serde_json::{Value, json};

#[derive(Clone)]
struct Fake {
    topics: Arc<dyn Fn() -> Answer<TopicsPage> + Send + Sync>,
    health: Health,
    readiness: Readiness,
    format: MetricsFormat,
    asked: Arc<Mutex<Vec<TopicsQuestion>>>,
    connections: Vec<ConnectionInfo>,
    missing: Vec<Box<str>>,
    retained: Vec<Arc<Record>>,
    appended: Arc<Mutex<Vec<Draft>>>,
    caller: Option<Arc<Identity>>,
    rooms: Arc<Rooms>,
}

fn connection(name: &str, user: Option<&str>, device: Option<&str>) -> ConnectionInfo {
    ConnectionInfo {
        name: name.into(),
        user: user.map(Into::into),
        device: device.map(Into::into),
        wire: "ws".into(),
        address: ([192, 0, 2, 1], 4242).into(),
        agent: None,
        since: UnixMillis(0),
        session: None,
        cursor: Cursor::single(Epoch(1), Offset(7)),
        lag: 0,
        outstanding: 0,
        acknowledged: None,
        subscriptions: 1,
        bytes_in: 2,
        bytes_out: 3,
    }
}

fn record(offset: u64, topic: &str, body: &str) -> Arc<Record> {
    record_of(offset, Message { retain: true, ..Message::new(Topic::parse(topic).unwrap(), body.to_owned()) })
}

fn record_of(offset: u64, entry: impl Into<Entry>) -> Arc<Record> {
    Arc::new(Record {
        partition: Partition(0),
        offset: Offset(offset),
        time: UnixMillis(1),
        durability: Durability::Fsync,
        content: entry.into().into(),
    })
}

fn ready<T: Send + 'static>(answer: T) -> Answer<T> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl Default for Fake {
    fn default() -> Self {
        let topic = TopicInfo {
            topic: Topic::parse("room/42").unwrap(),
            cursor: Cursor::single(Epoch(942_741), Offset(1289)),
            count: 3,
            bytes: 17,
            subscribers: 2,
        };
        Self {
            topics: Arc::new(move || ready(TopicsPage { topics: vec![topic.clone()], more: true })),
            health: Health::Alive,
            readiness: Readiness { state: State::Ready, reasons: vec![] },
            format: MetricsFormat::Prometheus,
            asked: Arc::default(),
            connections: vec![connection("n-1-0-1-0", Some("ann"), Some("phone")), connection("n-1-0-2-0", None, None)],
            missing: Vec::new(),
            retained: Vec::new(),
            appended: Arc::default(),
            caller: None,
            rooms: Arc::default(),
        }
    }
}

impl Control for Fake {
    fn lab(&self, _: &str) -> Option<Arc<everywire_base::lab::Tally>> {
        None
    }

    fn limits(&self) -> &Limits {
        static LIMITS: std::sync::LazyLock<Limits> = std::sync::LazyLock::new(Limits::default);
        &LIMITS
    }

    fn topics(&self, question: TopicsQuestion) -> Answer<TopicsPage> {
        self.asked.lock().unwrap().push(question);
        (self.topics)()
    }
    fn connections(&self, query: ConnectionsQuery) -> Answer<Everywhere<Vec<ConnectionInfo>>> {
        let is_meant = |info: &&ConnectionInfo| {
            (query.users.is_empty() || info.user.as_ref().is_some_and(|user| query.users.contains(user)))
                && query.name.as_ref().is_none_or(|name| info.name == *name)
                && query.after.as_ref().is_none_or(|after| info.name > *after)
        };
        let found = self.connections.iter().filter(is_meant).take(query.limit).cloned().collect();
        ready(Everywhere { found, missing: self.missing.clone() })
    }
    fn retained(&self, filter: Filter) -> Answer<Vec<Arc<Record>>> {
        let takes = |record: &&Arc<Record>| filter.matches(record.entry().unwrap().topic());
        ready(self.retained.iter().filter(takes).cloned().collect())
    }
    fn message(&self, id: MessageId) -> Answer<Option<Arc<Record>>> {
        ready(self.retained.iter().find(|record| record.id() == id).cloned())
    }
    fn trace(&self, _: TraceQuestion) -> Answer<Everywhere<Vec<Recipient>>> {
        let found = vec![Recipient {
            connection: "n-1-0-1-0".into(),
            user: Some("ann".into()),
            device: None,
            wire: "ws".into(),
            fate: Fate::Lagging,
            written: None,
            acknowledged: None,
        }];
        ready(Everywhere { found, missing: self.missing.clone() })
    }
    fn append(&self, draft: Draft) -> Answer<Result<Published, PublishError>> {
        let durability = draft.durability;
        let mut appended = self.appended.lock().unwrap();
        let (epoch, partition, time, duplicate) = (Epoch(1), Partition(0), UnixMillis(0), false);
        let offset = self.rooms.as_of().next();
        for (n, entry) in draft.entries().enumerate() {
            let (offset, content) = (Offset(offset.0 + n as u64), entry.clone().into());
            self.rooms.take(&Record { partition, offset, time, durability, content });
        }
        appended.push(draft);
        ready(Ok(Published { epoch, partition, offset, time, durability, duplicate }))
    }
    fn guest(&self, name: &str, from: IpAddr) -> Result<Guest, NoGuest> {
        let expires = UnixMillis(1_795_378_321_345);
        match name {
            "off" => Err(NoGuest::Off),
            "" => Err(NoGuest::Name("no name".into())),
            "flood" => Err(NoGuest::TooMany(Duration::from_millis(2500))),
            name => Ok(Guest { token: from.to_string(), user: "guest-1".into(), name: name.into(), expires }),
        }
    }
    fn hash_password(&self, password: &str) -> Answer<Box<str>> {
        ready(format!("hash of {password}").into())
    }
    fn secret(&self) -> Option<Box<str>> {
        None
    }

    fn password_fits(&self, hash: &str, password: &str) -> Answer<bool> {
        ready(hash == format!("hash of {password}"))
    }
    fn rooms(&self) -> &Rooms {
        &self.rooms
    }
    fn now(&self) -> UnixMillis {
        UnixMillis(1_795_378_321_345)
    }

    fn rules(&self) -> Arc<Rules> {
        let filter = Filter::parse("open/#").unwrap();
        Arc::new(Rules::new(vec![TopicRule { filter, presence: true, ..TopicRule::fallback() }]))
    }
    fn pages(&self, asked: Vec<(Topic, ReadKind)>) -> Answer<Vec<Page>> {
        let page = |_| Page {
            reply_to: ReplyTo::Nobody,
            partition: Partition(0),
            records: Vec::new(),
            upto: self.rooms.as_of(),
            next: None,
            lost: None,
            failed: false,
        };
        ready(asked.into_iter().map(page).collect())
    }
    fn heads(&self, topics: Vec<Topic>) -> Answer<Vec<Offset>> {
        ready(topics.iter().map(|_| Offset::BEGINNING).collect())
    }
    fn offset(&self, cursor: &Cursor) -> Option<Offset> {
        cursor.position(Partition(0)).filter(|at| *at <= self.rooms.as_of())
    }
    fn cursor(&self, offset: Offset) -> Cursor {
        Cursor::single(Epoch(1), offset)
    }
    fn health(&self) -> Answer<Health> {
        ready(self.health.clone())
    }
    fn readiness(&self) -> Answer<Readiness> {
        ready(self.readiness.clone())
    }
    fn metrics(&self) -> Answer<Metrics> {
        ready(Metrics { format: self.format, text: "up 1\n".into() })
    }
    fn version(&self) -> &'static str {
        "1.2.3"
    }
}

impl Fake {
    async fn ask(&self, method: &str, target: &str) -> Reply {
        self.send(method, target, "").await
    }

    /// The same node, asked by an operator.
    fn operated(mut self) -> Self {
        self.caller = Some(Arc::new(Identity { admin: true, ..Identity::default() }));
        self
    }

    /// The same node, asked by a user.
    fn used(mut self, user: &str) -> Self {
        self.caller = Some(Arc::new(Identity::user(user)));
        self
    }

    async fn send(&self, method: &str, target: &str, body: &str) -> Reply {
        let request = Call {
            reply_to: ReplyTo::Api(AskId(7)),
            from: Some([192, 0, 2, 7].into()),
            method: method.into(),
            target: target.into(),
            headers: vec![("host".into(), b"localhost"[..].into())],
            identity: self.caller.clone(),
            body: body.to_owned().into(),
        };
        let reply = call(router(Arc::new(self.clone())), request).await;
        assert_eq!(reply.reply_to, ReplyTo::Api(AskId(7)));
        reply
    }

    async fn get(&self, target: &str) -> Reply {
        self.ask("GET", target).await
    }
}

fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
    let value = reply.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    value.map(|(_, value)| std::str::from_utf8(value).unwrap())
}

fn json_of(reply: &Reply) -> Value {
    serde_json::from_slice(&reply.body).unwrap()
}

fn problem(reply: &Reply, status: u16) -> Value {
    assert_eq!((reply.status, header(reply, "content-type")), (status, Some("application/problem+json")));
    let problem = json_of(reply);
    assert_eq!(problem["status"], status);
    assert!(!problem["detail"].as_str().unwrap().is_empty());
    problem
}

#[tokio::test]
async fn topics_come_with_what_is_known_of_them() {
    let reply = Fake::default().get("/v1/topics").await;
    assert_eq!((reply.status, header(&reply, "content-type")), (200, Some("application/json")));
    let topic = json!({"topic": "room/42", "cursor": "k7f9:1289", "count": 3, "bytes": 17, "subscribers": 2});
    assert_eq!(json_of(&reply), json!({"topics": [topic], "more": true}));
    assert_eq!(header(&reply, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header(&reply, "cache-control"), Some("no-store"));
    assert_eq!(header(&reply, "content-length"), None, "the wire counts it");
}

#[tokio::test]
async fn a_guest_is_told_who_it_is_or_why_it_is_none() {
    let ask = async |body: &str| Fake::default().send("POST", "/v1/guests", body).await;
    let reply = ask(r#"{"name": "Ann"}"#).await;
    let guest = json!({"token": "192.0.2.7", "user": "guest-1", "name": "Ann", "expires": "2026-11-22T20:12:01.345Z"});
    assert_eq!((reply.status, json_of(&reply)), (200, guest));
    problem(&ask(r#"{"name": "off"}"#).await, 403);
    for body in ["", "Ann", "{}", r#"{"name": 7}"#, r#"{"name": ""}"#, r#"["Ann"]"#] {
        problem(&ask(body).await, 400);
    }
    let flood = ask(r#"{"name": "flood"}"#).await;
    problem(&flood, 429);
    assert_eq!(header(&flood, "retry-after"), Some("3"));
}

#[tokio::test]
async fn parameters_are_decoded_and_a_plus_is_itself() {
    for (target, filter, after, limit) in [
        ("/v1/topics", None, None, 100),
        ("/v1/topics?filter=room/+/a%20b&limit=7", Some("room/+/a b"), None, 7),
        ("/v1/topics?filter=room%2F%23&after=room/4&other=1", Some("room/#"), Some("room/4"), 100),
        ("/v1/topics?limit=0", None, None, 1),
        ("/v1/topics?limit=99999999999999999", None, None, 1000),
    ] {
        let fake = Fake::default();
        assert_eq!(fake.get(target).await.status, 200, "{target}");
        let question = TopicsQuestion {
            identity: None,
            filter: filter.map(|text| Filter::parse(text).unwrap()),
            after: after.map(|text| Topic::parse(text).unwrap()),
            limit,
        };
        assert_eq!(*fake.asked.lock().unwrap(), [question], "{target}");
    }
}

#[tokio::test]
async fn malformed_parameters_say_what_is_wrong() {
    for (target, expected) in [
        ("/v1/topics?filter=a%23", "at byte 1"),
        ("/v1/topics?filter=%ff", "not UTF-8"),
        ("/v1/topics?filter=a&filter=b", "twice"),
        ("/v1/topics?after=a%23", "'#'"),
        ("/v1/topics?limit=many", "many"),
        ("/v1/topics?limit=-1", "-1"),
    ] {
        let fake = Fake::default();
        let detail = problem(&fake.get(target).await, 400)["detail"].to_string();
        assert!(detail.contains(expected), "{target}: {detail}");
        assert!(fake.asked.lock().unwrap().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_without_an_answer_ends_in_503() {
    for why in [Unanswered::Busy, Unanswered::Closing, Unanswered::Failed] {
        let fake = Fake { topics: Arc::new(move || Box::pin(std::future::ready(Err(why)))), ..Fake::default() };
        let reply = fake.get("/v1/topics").await;
        problem(&reply, 503);
        assert_eq!(header(&reply, "retry-after"), Some("1"));
    }
    let silent = Fake { topics: Arc::new(|| Box::pin(std::future::pending())), ..Fake::default() };
    let late = problem(&silent.get("/v1/topics").await, 503);
    assert!(late["detail"].as_str().unwrap().contains("in time"));
}

#[tokio::test]
async fn health_and_readiness_say_why_not() {
    let mut fake = Fake::default();
    assert_eq!(json_of(&fake.get("/healthz").await), json!({"state": "alive", "version": "1.2.3"}));
    assert_eq!(json_of(&fake.get("/readyz").await), json!({"state": "ready", "version": "1.2.3"}));
    fake.health = Health::Stuck(vec!["worker 1".into()]);
    assert_eq!(problem(&fake.get("/healthz").await, 503)["reasons"], json!(["worker 1"]));
    for (state, word) in
        [(State::Restoring, "restoring"), (State::Draining, "draining"), (State::EngineDown, "engine_down")]
    {
        fake.readiness = Readiness { state, reasons: vec!["why".into()] };
        let problem = problem(&fake.get("/readyz").await, 503);
        assert_eq!((&problem["state"], &problem["reasons"]), (&json!(word), &json!(["why"])));
    }
}

#[tokio::test]
async fn metrics_say_which_format_they_are() {
    for (format, kind) in [
        (MetricsFormat::Prometheus, "text/plain; version=0.0.4; charset=utf-8"),
        (MetricsFormat::OpenMetrics, "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ] {
        let reply = Fake { format, ..Fake::default() }.get("/metrics").await;
        assert_eq!((reply.status, header(&reply, "content-type"), &reply.body[..]), (200, Some(kind), &b"up 1\n"[..]));
    }
}

#[tokio::test]
async fn what_is_not_there_is_404_and_names_the_documentation() {
    for target in ["/nothing", "/v1/nothing", "/v1/users/alice/nothing", "/web/none.js", "/web/../x", "/v1/"] {
        let detail = problem(&Fake::default().get(target).await, 404)["detail"].to_string();
        assert!(detail.contains("/openapi.json"), "{target}: {detail}");
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_with_allow() {
    for (method, target) in [("POST", "/v1/topics"), ("DELETE", "/"), ("PUT", "/metrics"), ("BREW", "/healthz")] {
        let reply = Fake::default().ask(method, target).await;
        problem(&reply, 405);
        assert_eq!(header(&reply, "allow"), Some("GET,HEAD"), "{method} {target}");
    }
    let head = Fake::default().ask("HEAD", "/metrics").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[tokio::test]
async fn a_target_that_is_none_is_400() {
    problem(&Fake::default().get("/a b").await, 400);
}

#[tokio::test]
async fn the_description_names_every_route_and_its_errors() {
    let described = json_of(&Fake::default().get("/openapi.json").await);
    assert_eq!((&described["info"]["version"], &described["info"]["title"]), (&json!("1.2.3"), &json!("Everywire")));
    for (path, method, status) in [
        ("/v1/messages", "post", "409"),
        ("/v1/messages", "get", "204"),
        ("/v1/batch", "post", "200"),
        ("/v1/events", "get", "200"),
        ("/v1/stream", "get", "200"),
        ("/polling/watch/{topic}", "get", "304"),
        ("/polling/publish/{topic}", "get", "403"),
        ("/polling/publish/{topic}", "post", "200"),
        ("/v1/topics", "get", "503"),
        ("/v1/connections", "get", "401"),
        ("/v1/connections/{id}", "delete", "404"),
        ("/v1/users/{user}/devices/{device}", "delete", "200"),
        ("/v1/users/{user}/secret", "put", "204"),
        ("/v1/messages/{id}/trace", "get", "404"),
        ("/v1/presence", "get", "403"),
        ("/v1/guests", "post", "429"),
        ("/healthz", "get", "503"),
        ("/readyz", "get", "503"),
        ("/metrics", "get", "200"),
        ("/openapi.json", "get", "200"),
    ] {
        assert!(described["paths"][path][method]["responses"][status].is_object(), "{method} {path} {status}");
    }
    assert_every_reference_leads_somewhere(&described, &described);
}

fn assert_every_reference_leads_somewhere(part: &Value, whole: &Value) {
    match part {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                assert!(whole.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
            }
            fields.values().for_each(|value| assert_every_reference_leads_somewhere(value, whole));
        }
        Value::Array(values) => values.iter().for_each(|value| assert_every_reference_leads_somewhere(value, whole)),
        _ => {}
    }
}

#[tokio::test]
async fn the_page_and_its_files_are_served_under_a_strict_policy() {
    for address in ["/", "/chat", "/console", "/lab"] {
        let page = Fake::default().get(address).await;
        assert_eq!((page.status, header(&page, "content-type")), (200, Some("text/html; charset=utf-8")), "{address}");
        assert!(
            header(&page, "content-security-policy").unwrap().starts_with("default-src 'none'; script-src 'self';")
        );
        assert_eq!(header(&page, "cache-control"), Some("no-cache"));
        let text = std::str::from_utf8(&page.body).unwrap();
        assert!(!text.contains("<style") && !text.contains(" style="), "the policy forbids inline styles");
        assert!(!text.contains("\"/"), "the addresses of {address} are relative: it may stand under a path");
        let files: Vec<_> = text.split('"').filter(|part| part.starts_with("web/")).collect();
        assert!(files.len() >= 3, "{files:?}");
        for file in files {
            assert_eq!(Fake::default().get(&format!("/{file}")).await.status, 200, "{file}");
        }
    }
}

#[tokio::test]
async fn a_described_body_may_be_any_json() {
    let described = json_of(&Fake::default().get("/openapi.json").await);
    for schema in ["Envelope", "BatchMessage"] {
        let body = &described["components"]["schemas"][schema]["properties"]["body"];
        assert!(body.is_object() && body.get("type").is_none(), "{schema}: {body}");
    }
}

/// The rights to ask the registry: of nobody, another user, the user in question, an operator.
#[tokio::test]
async fn who_may_ask_what_of_the_registry() {
    let id = record(5, "a", "x").id().to_string();
    let own = |status| [401, 403, status, status];
    let operators = |status| [401, 403, 403, status];
    for (method, target, body, expected) in [
        ("GET", "/v1/connections", "", operators(200)),
        ("GET", "/v1/connections?user=ann", "", own(200)),
        ("DELETE", "/v1/connections/n-1-0-1-0", "", operators(200)),
        ("DELETE", "/v1/connections/n-1-0-9-9", "", operators(404)),
        ("GET", "/v1/users/ann", "", own(200)),
        ("GET", "/v1/users", "", operators(200)),
        ("POST", "/v1/users/query", r#"{"users":["ann"]}"#, operators(200)),
        ("DELETE", "/v1/users/ann/connections", "", own(200)),
        ("DELETE", "/v1/users/ann/devices/phone?reason=enough", "", own(200)),
        ("DELETE", "/v1/users/ann/connections?reason=a%0Ab", "", own(400)),
        ("PUT", "/v1/users/ann/secret", r#"{"user":"ann"}"#, operators(204)),
        ("PUT", "/v1/users/ann/secret", r#"{"user":"bob"}"#, operators(400)),
        ("PUT", "/v1/users/ann/secret", "[]", operators(400)),
        ("DELETE", "/v1/users/nobody/secret", "", operators(404)),
        ("GET", &format!("/v1/messages/{id}/trace"), "", operators(200)),
        ("GET", "/v1/messages/nonsense/trace", "", operators(400)),
        ("GET", "/v1/messages/01KAQN5T9M0000000000000509/trace", "", operators(404)),
        ("GET", "/v1/presence?topic=closed", "", [403, 403, 403, 200]),
        ("GET", "/v1/presence?topic=open/x", "", [200, 200, 200, 200]),
        ("GET", "/v1/presence", "", [400, 400, 400, 400]),
    ] {
        let fake = || Fake { retained: vec![record(5, "a", "x")], ..Fake::default() };
        let callers = [fake(), fake().used("bob"), fake().used("ann"), fake().operated()];
        for (caller, expected) in callers.iter().zip(expected) {
            let reply = caller.send(method, target, body).await;
            assert_eq!(reply.status, expected, "{method} {target} by {:?}", caller.caller);
            let asks = header(&reply, "www-authenticate");
            assert_eq!(asks, (expected == 401).then_some("Bearer"));
        }
    }
}

#[tokio::test]
async fn a_kick_is_a_record_of_the_log() {
    let fake = Fake::default().operated();
    let reply = fake.ask("DELETE", "/v1/users/ann/devices/phone?reason=go%20home").await;
    assert_eq!(json_of(&reply), json!({"kicked": 1}));
    let appended = fake.appended.lock().unwrap();
    assert_eq!(appended[0].entry.topic().as_str(), "$kick");
    let kick: Value = serde_json::from_slice(appended[0].entry.body()).unwrap();
    assert_eq!(kick, json!({"whom": {"device": {"user": "ann", "device": "phone"}}, "reason": "go home"}));
}

#[tokio::test]
async fn connections_come_in_pages() {
    let fake = Fake::default().operated();
    let page = json_of(&fake.get("/v1/connections?limit=1").await);
    assert_eq!((&page["more"], &page["connections"][0]["id"]), (&json!(true), &json!("n-1-0-1-0")));
    assert_eq!(page["connections"][0]["node"], "n");
    let page = json_of(&fake.get("/v1/connections?limit=1&after=n-1-0-1-0").await);
    assert_eq!((&page["more"], &page["connections"][0]["id"]), (&json!(false), &json!("n-1-0-2-0")));
}

#[tokio::test]
async fn a_kick_counts_all_that_it_means() {
    let device = |n: u32| if n.is_multiple_of(2) { "phone" } else { "desk" };
    let named = |n: u32| connection(&format!("n-1-0-{n:05}-0"), Some("ann"), Some(device(n)));
    let fake = Fake { connections: (0..2500).map(named).collect(), ..Fake::default() }.operated();
    for (target, count) in [("/v1/users/ann/connections", 2500), ("/v1/users/ann/devices/phone", 1250)] {
        assert_eq!(json_of(&fake.ask("DELETE", target).await), json!({"kicked": count}), "{target}");
    }
}

#[tokio::test]
async fn nodes_that_have_not_answered_are_named() {
    let fake = Fake { missing: vec!["b".into()], retained: vec![record(5, "t", "x")], ..Fake::default() }.operated();
    let id = record(5, "t", "x").id();
    for target in ["/v1/connections", "/v1/users/ann", "/v1/presence?topic=x", &format!("/v1/messages/{id}/trace")] {
        assert_eq!(json_of(&fake.get(target).await)["missing"], json!(["b"]), "{target}");
    }
    // One of them may have it.
    assert_eq!(json_of(&fake.ask("DELETE", "/v1/connections/n-1-0-9-9").await), json!({"kicked": 0}));
}

#[tokio::test]
async fn a_user_is_known_by_his_devices_also_when_he_has_left() {
    let seen =
        json!({"user": "ann", "device": "desk", "at_ms": 0, "wire": "sse", "address": "192.0.2.1:5", "node": "n"});
    let seen = System::new(Topic::parse("$seen/ann/desk").unwrap(), seen.to_string(), true);
    let fake = Fake { retained: vec![record_of(5, seen)], ..Fake::default() }.operated();
    let user = json_of(&fake.get("/v1/users/ann").await);
    assert_eq!(user["online"], true);
    assert_eq!(user["devices"][0]["last_seen"]["wire"], "sse");
    assert_eq!((&user["devices"][0]["online"], &user["devices"][1]["device"]), (&json!(false), &json!("phone")));
    let present = json_of(&fake.get("/v1/presence?topic=x").await);
    assert_eq!(present["users"], json!([{"user": "ann", "devices": ["phone"], "connections": 1}]));
    assert_eq!(present["anonymous"], 1);
}
