//! The router over a node that is not one: what a client of the API notices.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::sync::{Arc, Mutex};

use everywire_api::{
    Answer, Control, Health, Metrics, MetricsFormat, Readiness, State, TopicInfo, TopicsPage, TopicsQuestion,
    Unanswered, call, router,
};
use everywire_base::ask::{Call, Reply};
use everywire_base::cursor::{Cursor, Epoch, Offset};
use everywire_base::id::{AskId, Ticket};
use everywire_base::limits::Limits;
use everywire_base::topic::{Filter, Topic};
use serde_json::{Value, json};

#[derive(Clone)]
struct Fake {
    topics: Arc<dyn Fn() -> Answer<TopicsPage> + Send + Sync>,
    health: Health,
    readiness: Readiness,
    format: MetricsFormat,
    asked: Arc<Mutex<Vec<TopicsQuestion>>>,
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
        }
    }
}

impl Control for Fake {
    fn limits(&self) -> &Limits {
        static LIMITS: std::sync::LazyLock<Limits> = std::sync::LazyLock::new(Limits::default);
        &LIMITS
    }

    fn topics(&self, question: TopicsQuestion) -> Answer<TopicsPage> {
        self.asked.lock().unwrap().push(question);
        (self.topics)()
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
        let request = Call {
            ticket: Ticket { ask: AskId(7), ..Ticket::default() },
            method: method.into(),
            target: target.into(),
            headers: vec![("host".into(), b"localhost"[..].into())],
            identity: None,
            body: bytes::Bytes::new(),
        };
        let reply = call(router(Arc::new(self.clone())), request).await;
        assert_eq!(reply.ticket.ask, AskId(7));
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
    for target in
        ["/nothing", "/v1/presence", "/v1/users/alice", "/v1/connections", "/web/none.js", "/web/../x", "/v1/"]
    {
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
        ("/healthz", "get", "503"),
        ("/readyz", "get", "503"),
        ("/metrics", "get", "200"),
        ("/openapi.json", "get", "200"),
    ] {
        assert!(described["paths"][path][method]["responses"][status].is_object(), "{method} {path} {status}");
    }
    let paths = described["paths"].as_object().unwrap();
    assert!(!paths.contains_key("/v1/presence"), "what doesn't exist is not described");
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
    let page = Fake::default().get("/").await;
    assert_eq!((page.status, header(&page, "content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(header(&page, "content-security-policy").unwrap().starts_with("default-src 'self';"));
    assert_eq!(header(&page, "cache-control"), Some("no-cache"));
    let text = std::str::from_utf8(&page.body).unwrap();
    assert!(!text.contains("<style") && !text.contains(" style="), "the policy forbids inline styles");
    let files: Vec<_> = text.split(['"', '\'']).filter(|part| part.starts_with("/web/")).collect();
    for file in files {
        assert_eq!(Fake::default().get(file).await.status, 200, "{file}");
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
