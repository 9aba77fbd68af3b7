//! A recalled message comes to no later reader, whichever wire it speaks, and nobody is told of a gap.

use everywire_tests::mqtt::{self, Mqtt, Opening};
use everywire_tests::people::{Person, person, server};
use everywire_tests::{EventStream, Request, Server};
use serde_json::{Value, json};

const SECRET_WORDS: &str = "never mind";

fn stream(who: &Person, server: &Server, target: &str) -> EventStream {
    let request = Request::get(target).header("Authorization", &format!("Bearer {}", who.token));
    EventStream::open(server.address(), &request)
}

/// An MQTT client with a session that outlives it, and QoS 1 for the room.
fn opening(who: &Person) -> Opening {
    Opening { clean: false, ..Opening::new("phone").credentials(&who.user, &who.token) }
}

fn subscribe(client: &mut Mqtt) {
    client.send(&mqtt::packet(0x82, &[&[0, 1][..], &mqtt::text("room/lobby"), &[1]].concat()));
    client.packet_of(9).expect("SUBACK");
}

/// The bodies of the PUBLISH packets of a client that comes back, up to the one that ends with this.
fn missed(server: &Server, who: &Person, last: &str) -> Vec<String> {
    let mut client = Mqtt::dial(server.address_of("mqtt"));
    client.send(&opening(who).bytes());
    let mut bodies = Vec::new();
    while let Some(packet) = client.packet_of(3) {
        bodies.push(String::from_utf8_lossy(&packet).into_owned());
        if packet.ends_with(last.as_bytes()) {
            break;
        }
    }
    bodies
}

#[test]
fn it_comes_on_no_wire_any_more() {
    let server = server("");
    let (ann, eve) = (person("ann"), person("eve"));
    ann.found(&server, "lobby", &json!({}));
    let mut client = Mqtt::open(server.address_of("mqtt"), &opening(&eve));
    subscribe(&mut client);
    client.send(&mqtt::DISCONNECT);
    assert!(client.packet().is_none());
    assert_eq!(ann.says(&server, "lobby", "first"), 200);
    let target = "/v1/messages?topic=room/lobby&event=chat&retain=1";
    let published = ann.send(&server, Request::post(target, SECRET_WORDS)).json();
    let id = published["id"].as_str().expect("an id").to_owned();
    let mut live = stream(&eve, &server, "/v1/events?topic=room/lobby&after=earliest");
    assert_eq!([live.event().body(), live.event().body()], ["first", SECRET_WORDS], "until it is recalled");
    assert_eq!(ann.does(&server, "DELETE", &format!("/v1/messages/{id}"), &json!({})), 200);
    assert_eq!(live.event().json()["event"], "recall");
    assert_eq!(ann.says(&server, "lobby", "last"), 200);

    check(&server, &eve);
    assert_missed(&server, &eve);
    let server = server.kill().start();
    check(&server, &eve);
}

/// The session of a client that was away has it neither.
fn assert_missed(server: &Server, who: &Person) {
    let missed = missed(server, who, "last");
    assert!(missed.iter().any(|body| body.ends_with("first")) && !missed.is_empty(), "{missed:?}");
    assert!(!missed.iter().any(|body| body.contains(SECRET_WORDS)), "{missed:?}");
}

fn check(server: &Server, who: &Person) {
    for query in ["topic=room/lobby", "topic=room/lobby&before=latest", "topic=room/%23"] {
        let page = who.get(server, &format!("/v1/messages?{query}")).json();
        assert_eq!(told(page["messages"].as_array().expect("a list")), ["first", "recall", "last"], "{query}");
        assert_eq!(page["gap"], false, "{query}: {page}");
    }
    let mut again = stream(who, server, "/v1/events?topic=room/lobby&after=earliest");
    let events: Vec<Value> = (0..3).map(|_| again.event().json()).collect();
    assert_eq!(told(&events), ["first", "recall", "last"]);
    let mut socket = who.socket(server);
    socket.send(&json!({"subscribe": {"id": 1, "topics": ["room/lobby"], "after": "earliest"}}));
    let frames: Vec<Value> = (0..3).map(|_| socket.frame("message")).collect();
    assert_eq!(told(&frames), ["first", "recall", "last"]);
    // The retained copy greets nobody: the next message comes first.
    let mut greeted = stream(who, server, "/v1/events?topic=room/lobby&topic=marker");
    assert_eq!(who.send(server, Request::post("/v1/messages?topic=marker", "marker")).status, 200);
    assert_eq!(greeted.event().body(), "marker");
}

/// The text of a message, or its event if it has none.
fn text(message: &Value) -> Option<&str> {
    message["body"].as_str().filter(|text| !text.is_empty()).or(message["event"].as_str())
}

fn told(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(text).collect()
}
